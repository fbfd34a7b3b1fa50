"""Writing undisturbed: by others, among all threads and processes that see a folder; by Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["LOCK", "BusyError", "alone_in", "uninterrupted"]

# in a folder that cannot be locked itself
LOCK = ".daskroi-lock"


class BusyError(OSError):
    """Another process or thread has the lock."""


@contextmanager
def alone_in(folder: Path, patience: float, name: str = "") -> Iterator[None]:
    """Have a folder, or one thing in it, to oneself, among all that ask for it.

    The system takes the lock back when a process ends, however it ends. Where there are no locks
    at all (Windows, some network file systems), nobody waits.

    Parameters
    ----------
    folder : Path
        Must be there.
    patience : float
        Seconds to wait for somebody else.
    name : str
        Of a file in the folder, which stands for the one thing and is there only as long as it is
        locked; without it, the whole folder is locked.

    Raises
    ------
    BusyError
        Somebody else had it all the time, or has moved the folder away.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with alone_in(Path(folder), 1), alone_in(Path(folder), 0):
    ...         pass
    Traceback (most recent call last):
        ...
    daskroi.locks.BusyError: another process is writing there
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    # a folder's own lock leaves nothing behind; NFS locks only what is open for writing
    to_write = os.O_RDWR | os.O_CREAT
    places = [(folder / name, to_write)]
    if not name:
        places = [(folder, os.O_RDONLY), (folder / LOCK, to_write)]
    deadline, nap = time.monotonic() + patience, 0.001
    while (found := _locked(places)) is None:
        if time.monotonic() >= deadline:
            raise BusyError("another process is writing there")
        time.sleep(nap)
        nap = min(2 * nap, 0.05)
    handle, place = found
    try:
        yield
    finally:
        if handle >= 0:
            with suppress(OSError):
                # the folder may have been renamed, and another one of its name been locked
                if place != folder and os.path.samestat(os.fstat(handle), os.stat(place)):
                    place.unlink()
            fcntl.flock(handle, fcntl.LOCK_UN)  # a forked child may have the handle as well
            os.close(handle)


def _locked(places: list[tuple[Path, int]]) -> tuple[int, Path] | None:
    """A locked handle and its path; None if somebody has it, -1 where there are no locks."""
    import fcntl

    for path, flags in places:
        try:
            handle = os.open(path, flags, 0o666)
        except FileNotFoundError:
            if flags & os.O_CREAT and path.parent.is_dir():  # which takes no files, as /proc
                continue
            raise BusyError("another process has moved the folder away") from None
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle, path
            os.close(handle)  # it was removed as we came
            return None
        except (BlockingIOError, FileNotFoundError):
            os.close(handle)
            return None
        except OSError:
            os.close(handle)
        except BaseException:
            os.close(handle)
            raise
    return -1, places[0][0]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Have Ctrl-C (and SIGTERM, where it is handled) wait until the end of ``with``.

    For a few renames, half of which must not stay. Only the main thread is ever interrupted.

    Examples
    --------
    >>> try:
    ...     with uninterrupted():
    ...         signal.raise_signal(signal.SIGINT)
    ...         print("to the end")
    ... except KeyboardInterrupt:
    ...     print("then stopped")
    to the end
    then stopped
    """
    before: dict[int, Any] = {}
    came: list[tuple[int, Any]] = []
    try:
        if threading.current_thread() is threading.main_thread():
            for number in map(int, (signal.SIGINT, signal.SIGTERM)):
                handler = signal.getsignal(number)
                if callable(handler):
                    before[number] = handler
                    signal.signal(number, lambda *found: came.append(found))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number, frame in came[:1]:
            before[number](number, frame)
