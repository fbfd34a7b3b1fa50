"""How the command ends when it is told to: one line and an exit code, whatever it was doing."""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Terminated", "at_once", "exit_code", "handlers_kept", "interruptible", "until_then"]

SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
LINE = b"Interrupted: nothing partial was left.\n"


class Terminated(KeyboardInterrupt):
    """SIGTERM, as batch systems send it before they kill: cleaned up after as after Ctrl-C."""


def exit_code(error: BaseException) -> int:
    """What shells expect: 128 and the number of the signal.

    Examples
    --------
    >>> exit_code(KeyboardInterrupt()), exit_code(Terminated())
    (130, 143)
    """
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def at_once(number: int, _: Any) -> None:
    """End the process here and now: there is nothing to clean up yet, or any more."""
    os.write(2, LINE)
    os._exit(128 + number)


def until_then() -> None:
    """Have both signals end the process at once, for while modules are imported, and at exit."""
    for number in SIGNALS:
        # ignored, as below nohup, it stays
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, at_once)
    # first come, last called: when Python takes itself apart, its exit code stands
    atexit.register(_no_more)


def _no_more() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _again(number: int) -> None:
    time.sleep(0.01)  # until the callback has returned
    os.kill(os.getpid(), number)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Undo, at the end of ``with``, what an import does to the handlers of both signals.

    dask-jobqueue (0.9) has Ctrl-C call ``sys.exit()`` from its import on: a script that was
    interrupted would have exit code 0, and a notebook would lose its kernel.

    Examples
    --------
    >>> before = signal.getsignal(signal.SIGINT)
    >>> with handlers_kept():
    ...     _ = signal.signal(signal.SIGINT, signal.SIG_IGN)
    >>> signal.getsignal(signal.SIGINT) == before
    True
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside ``with``, have the first signal raise, and the second not disturb the cleaning up.

    The third ends the process at once.

    Examples
    --------
    >>> try:
    ...     with interruptible():
    ...         signal.raise_signal(signal.SIGTERM)
    ... except KeyboardInterrupt as error:
    ...     print(exit_code(error))
    143
    """
    came = 0

    def handle(number: int, frame: Any) -> None:
        nonlocal came
        came += 1
        if came == 1:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if came > 2:
            at_once(number, frame)

    before: dict[int, Any] = {}
    unraised = sys.unraisablehook

    def lost(found: Any) -> None:
        """Python drops what is raised in ``__del__`` and callbacks: it comes once more."""
        nonlocal came
        if isinstance(found.exc_value, KeyboardInterrupt):
            came = 0
            # `threading` would take locks, which may be held where this came from
            _thread.start_new_thread(_again, (exit_code(found.exc_value) - 128,))
        else:
            unraised(found)

    try:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                there = signal.getsignal(number)
                if there not in (signal.SIG_IGN, None):
                    before[number] = there
                    signal.signal(number, handle)
            if before:
                sys.unraisablehook = lost
        yield
    finally:
        if before:
            sys.unraisablehook = unraised
        if came:
            # Where Ctrl-C was in code that came as text, as dataclasses make it when they are
            # imported, Python notes it as unhandled, though it is caught, and ends itself by the
            # signal at its end (-2, not 130). Other code that comes as text has it forget that
            exec("")
        for number, handler in before.items():
            # it was said, and the process is about to end with the right code
            over = came and handler is at_once
            signal.signal(number, signal.SIG_IGN if over else handler)
