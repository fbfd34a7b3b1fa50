"""A bar for what is counted: steps of a computation, bytes of a download, files of a search."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from daskroi.display import clock, open_display, size

__all__ = ["BYTES", "Bar"]

BYTES = "B"


class Bar:
    """Counts, from any thread, and shows it; taken away by ``close``.

    Methods are called as tqdm's, which is what pooch wants of a bar.

    Parameters
    ----------
    title : str
        Any text.
    unit : str
        What is counted: `BYTES`, or a word for it. "": steps that mean nothing to a reader.
    progress : bool, callable or None
        As in `daskroi.display.open_display`.

    Examples
    --------
    >>> from contextlib import closing
    >>> with closing(Bar("Reading", "files", print)) as bar:
    ...     bar.update(3)
    ...     bar.update(4)
    3
    7
    """

    def __init__(
        self, title: str, unit: str = "", progress: bool | Callable[[int], Any] | None = True
    ) -> None:
        self.title, self.unit = title, unit
        self.done = 0
        #: in all; None or 0 when nobody knows
        self.total: int | None = None
        self._started, self._lock = time.monotonic(), threading.Lock()
        self._display = open_display(self, progress)

    def add(self, steps: int) -> None:
        """Have more to come."""
        with self._lock:
            self.total = (self.total or 0) + steps

    def update(self, steps: int) -> None:
        """Count some more."""
        with self._lock:
            self.done += steps
        self._display.update()

    def reach(self, done: int) -> None:
        """Have so many in all."""
        self.done = done
        self._display.update()

    def reset(self) -> None:
        """Begin again."""
        self.done = 0

    def close(self) -> None:
        """Take the display away."""
        self._display.close()

    def text(self) -> str:
        """``45 %, 1.2 MB, 240 kB/s, 0:34 so far, 0:41 to go``: what of it is known."""
        total = self.total or 0
        # pooch counts the last block as a whole one
        done = min(self.done, total or self.done)
        seconds = max(time.monotonic() - self._started, 1e-9)
        parts = [f"{100 * done // total} %"] if total else []
        if self.unit == BYTES:
            parts += [size(done), f"{size(done / seconds)}/s"]
        elif self.unit:
            parts.append(f"{done:,} {self.unit}")
        parts.append(f"{clock(seconds)} so far")
        if 0 < done < total:
            parts.append(f"{clock((total - done) * seconds / done)} to go")
        return ", ".join(parts)
