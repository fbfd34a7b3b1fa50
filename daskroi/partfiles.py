"""Files that are being written: hidden names by which what a killed writer left is known; one
writer at a time, whom Ctrl-C does not stop half-way.
"""

from __future__ import annotations

import os
import platform
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from daskroi.urls import is_url

__all__ = ["BusyError", "alone_in", "part_of", "session_file", "sweep", "uninterrupted"]

# of a writer on another machine nobody can ask whether it lives; no file takes that long to write
ORPHAN_SECONDS = 3600
# where folders have no locks
LOCK = ".daskroi-lock"


def part_of(path: Path) -> Path:
    """A name in the same folder, for a rename to be one step; hidden from those who list *.tsv."""
    name = path.name.encode()[:180].decode(errors="ignore")  # a file name has 255 bytes at most
    return path.parent / f".{name}.{_host()}-{os.getpid()}-{uuid4().hex[:8]}.part"


def session_file(folder: Path) -> Path:
    """A hidden name of this process's own, which `sweep` removes when the process is gone.

    Examples
    --------
    >>> session_file(Path("out")).name.startswith(".session.")
    True
    """
    return part_of(folder / "session")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", platform.node())[:32] or "host"


def sweep(folder: Any, begins: str = "") -> int:
    """Remove what writers that were killed have left in a folder; return how many files.

    Files of writers that live are not touched: those of this machine are known by process id,
    others by being younger than an hour.

    Parameters
    ----------
    folder : path or URL
        Object stores have nothing of the kind.
    begins : str
        What names of the files that were being written begin with.

    Examples
    --------
    >>> sweep("nowhere")
    0
    """
    if not isinstance(folder, str | Path) or is_url(folder):
        return 0
    removed = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(f".{begins}") or not _is_orphan(entry):
                continue
            with suppress(OSError):
                os.unlink(entry.path)
                removed += 1
    return removed


def _is_orphan(entry: os.DirEntry[str]) -> bool:
    found = re.search(r"\.([A-Za-z0-9]+)-(\d+)-[0-9a-f]{8}\.part$", entry.name)
    if found is None:
        return False
    if found[1] == _host():
        import psutil

        if int(found[2]) != os.getpid() and not psutil.pid_exists(int(found[2])):
            return True
    return time.time() - entry.stat().st_mtime > ORPHAN_SECONDS


class BusyError(OSError):
    """Another process or thread has the folder."""


@contextmanager
def alone_in(folder: Path, patience: float, name: str = "") -> Iterator[None]:
    """Have a folder, or one thing in it, to oneself, among all threads and processes that ask.

    The system takes the lock back when a process ends, however it ends. Where there are no locks
    at all, nobody waits.

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
        Somebody else had it all the time.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with alone_in(Path(folder), 1), alone_in(Path(folder), 0):
    ...         pass
    Traceback (most recent call last):
        ...
    daskroi.partfiles.BusyError: another process is writing there
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    deadline, nap = time.monotonic() + patience, 0.001
    while (handle := _locked(folder, name)) is None:
        if time.monotonic() >= deadline:
            raise BusyError("another process is writing there")
        time.sleep(nap)
        nap = min(2 * nap, 0.05)
    try:
        yield
    finally:
        if handle >= 0:
            if not os.path.isdir(handle):
                (folder / (name or LOCK)).unlink(missing_ok=True)
            fcntl.flock(handle, fcntl.LOCK_UN)  # a forked child may have the handle as well
            os.close(handle)


def _locked(folder: Path, name: str) -> int | None:
    """A locked handle; None if somebody has it, -1 where there are no locks."""
    import fcntl

    # a folder's own lock leaves nothing behind; NFS locks only what is open for writing
    files = [(folder / (name or LOCK), os.O_RDWR | os.O_CREAT)]
    for path, flags in files if name else [(folder, os.O_RDONLY), *files]:
        try:
            handle = os.open(path, flags, 0o666)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
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
    return -1


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
