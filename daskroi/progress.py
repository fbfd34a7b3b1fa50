"""Live progress of a cohort: runs done, failed and left, rate, time to go and bytes read.

On a terminal and in a notebook a display that changes in place (rich draws both); elsewhere a line
now and then, for a log should not fill up with them.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from daskroi.paths import printable

__all__ = ["Progress", "Silent", "show_progress"]

SECONDS_BETWEEN_LINES = 10.0


class Progress(Protocol):
    """What is told of every run; see `show_progress`."""

    def update(self, counts: dict[str, int], read_bytes: int, where: str) -> None:
        """Tell how things stand."""

    def line(self, text: str) -> None:
        """Tell something above the display."""

    def close(self) -> None:
        """Leave the display as it is."""


class Silent:
    """No display."""

    def update(self, counts: dict[str, int], read_bytes: int, where: str) -> None:
        """Nothing."""

    def line(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _State:
    """Counts, and the sentence made of them."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.started = time.monotonic()
        self.counts: dict[str, int] = {}
        self.read_bytes = 0
        self.where = ""

    def note(self, counts: dict[str, int], read_bytes: int, where: str) -> None:
        self.counts, self.read_bytes, self.where = counts, read_bytes, where

    @property
    def seen(self) -> int:
        return sum(self.counts.values())

    def text(self) -> str:
        """``12 done, 1 failed, 84 left; 2.3 runs/s, 0:36 to go; 1.2 GB read, 240 MB/s``."""
        made = self.counts.get("ok", 0)
        others = {s: self.counts.get(s, 0) for s in ("skipped", "failed")}
        parts = [f"{made} done", *(f"{n} {status}" for status, n in others.items() if n)]
        seconds = max(time.monotonic() - self.started, 1e-9)
        # what was skipped took no time, and says nothing about what is left
        rate = (made + self.counts.get("failed", 0)) / seconds
        left = None if self.total is None else max(self.total - self.seen, 0)
        if left:
            parts.append(f"{left} left")
        speed = []
        if rate > 0:
            speed.append(_rate(rate))
            if left:
                speed.append(f"{_clock(left / rate)} to go")
        read = []
        if self.read_bytes:
            read = [f"{_size(self.read_bytes)} read", f"{_size(self.read_bytes / seconds)}/s"]
        groups = [parts, speed, read, [self.where] if self.where else []]
        return "; ".join(", ".join(group) for group in groups if group)


def _rate(per_second: float) -> str:
    for seconds, unit in ((1, "s"), (60, "min")):
        if per_second * seconds >= 1:
            return f"{per_second * seconds:.1f} runs/{unit}"
    return f"{per_second * 3600:.1f} runs/h"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("B", "kB", "MB") else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class _Lines:
    """A line every 10 s, on stderr."""

    def __init__(self, total: int | None) -> None:
        self._state = _State(total)
        self._last = time.monotonic()

    def update(self, counts: dict[str, int], read_bytes: int, where: str) -> None:
        self._state.note(counts, read_bytes, where)
        if time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self.line(self._state.text())

    def line(self, text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._state.seen:
            self.line(self._state.text())


class _Live:
    """A bar and the sentence below it, redrawn in place."""

    def __init__(self, total: int | None, console: Any) -> None:
        from rich import progress

        self._state = _State(total)
        self._bar = progress.Progress(
            progress.TextColumn("[bold]Runs"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[text]}", markup=False),
            console=console,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("runs", total=total, text="")
        self._bar.start()

    def update(self, counts: dict[str, int], read_bytes: int, where: str) -> None:
        state = self._state
        state.note(counts, read_bytes, where)
        self._bar.update(self._task, completed=state.seen, text=state.text())

    def line(self, text: str) -> None:
        self._bar.console.print(printable(text), markup=False, highlight=False)

    def close(self) -> None:
        self._bar.stop()


def show_progress(total: int | None, shown: bool = True) -> Progress:
    """A display for this terminal, notebook or log.

    Parameters
    ----------
    total : int or None
        Runs in all, if that is known.
    shown : bool
        False: none.
    """
    if not shown:
        return Silent()
    from rich.console import Console

    console = Console(file=sys.stderr)
    if _in_notebook():
        console = Console()  # of a notebook, rich draws into the cell
        return _Live(total, console)
    return _Live(total, console) if console.is_terminal else _Lines(total)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
