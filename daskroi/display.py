"""Where it is shown how far something is: a terminal, a notebook, a log, or a caller's function.

In a terminal and a notebook the display changes in place. Elsewhere there is a line now and then,
for a log should not fill up with them. A display that cannot be written never ends the work.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from html import escape
from typing import Any, Protocol

from daskroi.errors import DaskroiTypeError, printable

__all__ = ["Display", "Shown", "check_progress", "clock", "open_display", "size"]

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_PICTURES = 0.25


class Shown(Protocol):
    """What is shown. Displays ask it whenever they draw, from threads of their own too."""

    @property
    def title(self) -> str:
        """Any text."""

    @property
    def done(self) -> int:
        """Of `total`, what is done."""

    @property
    def total(self) -> int | None:
        """None or 0 when nobody knows."""

    def text(self) -> str:
        """How far it is, in words; stands after the title, and the bar if there is one."""


class Display(Protocol):
    """See `open_display`. Any thread may call."""

    def update(self) -> None:
        """Say that it has changed."""

    def line(self, text: str) -> None:
        """Tell something beside it."""

    def close(self) -> None:
        """Leave it, or take it away; a second time does nothing."""


def check_progress(progress: Any) -> None:
    """Raise `DaskroiTypeError` for what cannot be ``progress`` of `open_display`.

    Examples
    --------
    >>> check_progress(True)
    >>> check_progress("no")
    Traceback (most recent call last):
    daskroi.errors.DaskroiTypeError: progress is a str. Give True, False or a function of a number.
    """
    # 0, 1 and NumPy's are as good
    if not (callable(progress) or progress in (None, False, True)):
        raise DaskroiTypeError(
            f"progress is a {type(progress).__name__}. Give True, False or a function of a number."
        )


def open_display(
    shown: Shown, progress: bool | Callable[[int], Any] | None = True, *, keep: bool = False
) -> Display:
    """A display for this terminal, notebook or log, on stderr.

    Parameters
    ----------
    shown : Shown
    progress : bool, callable or None
        False, None: none. A function is told ``shown.done`` at every update instead.
    keep : bool
        Leave it where it is at the end, in a log as a last line; otherwise it goes.
    """
    check_progress(progress)
    if callable(progress):
        return _Told(shown, progress)
    if not progress:
        return _Silent()
    from rich.console import Console

    console = Console(file=sys.stderr)
    if console.is_jupyter:
        return _InCell(shown, keep)
    # one that is dumb (TERM=dumb) cannot go back in a line
    return _InPlace(shown, keep, console) if console.is_interactive else _Lines(shown, keep)


class _Silent:
    def update(self) -> None:
        pass

    def line(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class _Told(_Silent):
    """A function of the caller's."""

    def __init__(self, shown: Shown, tell: Callable[[int], Any]) -> None:
        self._shown, self._tell = shown, tell

    def update(self) -> None:
        self._tell(self._shown.done)


class _Lines:
    """A line every 10 s."""

    def __init__(self, shown: Shown, keep: bool) -> None:
        self._shown, self._keep = shown, keep
        self._last, self._lock = time.monotonic(), threading.Lock()

    def update(self) -> None:
        with self._lock:
            now = time.monotonic()
            # at the end there is more to say, and somebody else does
            if now - self._last >= SECONDS_BETWEEN_LINES and self._shown.done != self._shown.total:
                self._last = now
                self.line(_sentence(self._shown))

    def line(self, text: str) -> None:
        _print(text)

    def close(self) -> None:
        if self._keep and self._shown.done:
            self._keep = False
            self.line(_sentence(self._shown))


class _InPlace:
    """A bar in a terminal, drawn by rich four times a second."""

    def __init__(self, shown: Shown, keep: bool, console: Any) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._shown = shown
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            console=console,
            transient=not keep,
            refresh_per_second=1 / SECONDS_BETWEEN_PICTURES,
        )
        self._task = self._progress.add_task(
            printable(shown.title), total=shown.total, words=_Words(shown)
        )
        self._progress.start()

    def update(self) -> None:
        self._progress.update(self._task, completed=self._shown.done, total=self._shown.total)

    def line(self, text: str) -> None:
        self._progress.console.print(printable(text), markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


class _Words:
    """Text that is made when it is drawn: time goes on between two updates as well."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    def __str__(self) -> str:
        return printable(self._shown.text())


class _InCell:
    """A bar below a notebook's cell, drawn by the browser.

    rich needs ipywidgets for one, and without them has nothing but a warning. This one also lives
    on in the saved notebook.
    """

    def __init__(self, shown: Shown, keep: bool) -> None:
        from IPython.display import display

        self._shown, self._keep = shown, keep
        self._last, self._lock = time.monotonic(), threading.Lock()
        self._closed = False
        self._handle: Any = display(self._picture(), raw=True, display_id=True)

    def _picture(self) -> dict[str, str]:
        shown = self._shown
        bar = ""
        if shown.total:
            bar = f'<progress value="{shown.done}" max="{shown.total}"></progress> '
        html = f"{escape(printable(shown.title))} {bar}{escape(printable(shown.text()))}"
        return {"text/plain": printable(_sentence(shown)), "text/html": html}

    def update(self) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._last >= SECONDS_BETWEEN_PICTURES and not self._closed:
                self._last = now
                self._handle.update(self._picture(), raw=True)

    def line(self, text: str) -> None:
        _print(text)

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                last = self._picture() if self._keep else {"text/plain": "", "text/html": ""}
                self._handle.update(last, raw=True)


def _print(text: str) -> None:
    # of a log on a full disk, or of a pipe nobody reads, hours of work should not die
    with suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)


def _sentence(shown: Shown) -> str:
    return f"{shown.title}: {shown.text()}"


def clock(seconds: float) -> str:
    """A time as minutes and seconds, with hours if there are any.

    Examples
    --------
    >>> clock(41), clock(7322)
    ('0:41', '2:02:02')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: float) -> str:
    """Bytes in words.

    Examples
    --------
    >>> size(367_000), size(3.5e9)
    ('367 kB', '3.5 GB')
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB" if count < 1000 else f"{count / 1000:.1f} TB"
