"""Live progress of a cohort: runs done, failed and left, rate, time to go and bytes read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from daskroi.display import clock, open_display, size

__all__ = ["Progress"]


class Progress:
    """Counts of runs, and the sentence made of them.

    Parameters
    ----------
    total : int or None
        Runs in all, if that is known.
    progress : bool, callable or None
        As in `daskroi.display.open_display`.

    Examples
    --------
    >>> progress = Progress(100, False)
    >>> progress.update({"failed": 1}, 0, "2 workers")
    >>> progress.text()
    '0 done, 1 failed, 99 left; ...; 2 workers'
    """

    title = "Runs"

    def __init__(self, total: int | None, progress: bool | Callable[[int], Any] | None) -> None:
        self.total = total
        self.started = time.monotonic()
        self.counts: dict[str, int] = {}
        self.read_bytes = 0
        self.where = ""
        self._display = open_display(self, progress, keep=True)

    def update(self, counts: dict[str, int], read_bytes: int, where: str) -> None:
        """Tell how things stand."""
        # theirs goes on counting while another thread draws
        self.counts, self.read_bytes, self.where = dict(counts), read_bytes, where
        self._display.update()

    def line(self, text: str) -> None:
        """Tell something above the display."""
        self._display.line(text)

    def close(self) -> None:
        """Leave the display as it is."""
        self._display.close()

    @property
    def done(self) -> int:
        """Runs that nothing more will become of."""
        return sum(self.counts.values())

    def text(self) -> str:
        """``12 done, 1 failed, 84 left; 2.3 runs/s, 0:36 to go; 1.2 GB read, 240 MB/s``."""
        made = self.counts.get("ok", 0)
        others = {s: self.counts.get(s, 0) for s in ("skipped", "failed")}
        parts = [f"{made} done", *(f"{n} {status}" for status, n in others.items() if n)]
        seconds = max(time.monotonic() - self.started, 1e-9)
        # what was skipped took no time, and says nothing about what is left
        rate = (made + self.counts.get("failed", 0)) / seconds
        left = None if self.total is None else max(self.total - self.done, 0)
        if left:
            parts.append(f"{left} left")
        speed = []
        if rate > 0:
            speed.append(_rate(rate))
            if left:
                speed.append(f"{clock(left / rate)} to go")
        read = []
        if self.read_bytes:
            read = [f"{size(self.read_bytes)} read", f"{size(self.read_bytes / seconds)}/s"]
        groups = [parts, speed, read, [self.where] if self.where else []]
        return "; ".join(", ".join(group) for group in groups if group)


def _rate(per_second: float) -> str:
    for seconds, unit in ((1, "s"), (60, "min")):
        if per_second * seconds >= 1:
            return f"{per_second * seconds:.1f} runs/{unit}"
    return f"{per_second * 3600:.1f} runs/h"
