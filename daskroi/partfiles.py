"""Files that come into place whole or not at all: the only way in which anything is written.

They are written beside their place, under a hidden name that tells who writes, and then renamed.
By that name, what a killed writer has left is known, and goes when the next one comes.
"""

from __future__ import annotations

import errno
import io
import os
import platform
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from daskroi.urls import is_url

__all__ = [
    "part_folder",
    "part_of",
    "placed",
    "placed_together",
    "session_file",
    "settle",
    "sweep",
    "synced",
]

# of a writer on another machine nobody can ask whether it lives; none is silent for that long
ORPHAN_SECONDS = 3600
# of a part's name, after that of the file: .host-process-random.part
_END = re.compile(r"\.([A-Za-z0-9]+)-(\d+)-[0-9a-f]{8}\.part$")


class PartFile(io.FileIO):
    """Unbuffered: when the disk is full, closing must not try again."""

    def write(self, data: Any) -> int:
        """Write all of ``data``: the kernel takes less at a time when it likes, at most 2 GiB."""
        rest = memoryview(data).cast("B")
        count = len(rest)
        while rest:
            rest = rest[super().write(rest) :]
        return count


@contextmanager
def placed(path: Path, mode: int = 0o666) -> Iterator[PartFile]:
    """Write a file: at the end of ``with`` it has its name and is on the disk, or all is as it was.

    Parameters
    ----------
    path : Path
        What is there is replaced, also a link, and not what it leads to.
    mode : int
        Permissions, of which the umask takes away.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with placed(folder / "x.txt") as file:
    ...     _ = file.write(b"hello")
    >>> os.listdir(folder)
    ['x.txt']
    """
    sweep(path.parent, path.name)
    with placed_together([path], mode) as [file]:
        yield file


@contextmanager
def placed_together(paths: Iterable[Path], mode: int = 0o666) -> Iterator[list[PartFile]]:
    """Write files of one folder that belong together: all, or none; the last stands for all.

    When it fails half-way, what was there before is gone as well: an older last file must not
    stand beside newer others. See `placed`; what else a killed writer of them may have left is
    for the caller to `sweep`.
    """
    parts = {path: part_of(path) for path in paths}
    *others, last = parts
    done: list[Path] = []
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(_opened(part, mode)) for part in parts.values()]
            yield files
            for file in files:
                _sync(file)
        if others:
            last.unlink(missing_ok=True)
        for path, part in parts.items():
            os.replace(part, path)
            done.append(path)
    except BaseException:
        # Ctrl-C may come when all are there
        for path in (*done, *parts.values()) if len(done) < len(parts) else ():
            with suppress(OSError):
                path.unlink()
        raise


def _opened(part: Path, mode: int) -> PartFile:
    return PartFile(part, "xb", opener=lambda name, flags: os.open(name, flags, mode))


def _sync(file: Any) -> None:
    # otherwise a power cut may leave the name without the content
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # the file system knows no such thing
            raise


def synced(*paths: str | Path) -> None:
    """Return when files are on the disk, for a folder of them to be renamed."""
    for path in paths:
        with open(path, "r+b", buffering=0) as file:
            _sync(file)


def settle(whole: Path, path: Path) -> None:
    """Give a file that somebody else has written, in a `part_folder`, its place."""
    synced(whole)
    os.replace(whole, path)


@contextmanager
def part_folder(path: Path) -> Iterator[Path]:
    """A folder for what is not whole yet, beside ``path`` and named after it; it goes in the end.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with part_folder(folder / "download") as part:
    ...     _ = (part / "x.txt").write_text("hello")
    ...     settle(part / "x.txt", folder / "x.txt")
    >>> os.listdir(folder)
    ['x.txt']
    """
    sweep(path.parent, path.name)
    part = part_of(path)
    try:
        part.mkdir()
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def part_of(path: Path) -> Path:
    """A name in the same folder, for a rename to be one step; hidden from those who list *.tsv."""
    return path.parent / f".{_cut(path.name)}.{_host()}-{os.getpid()}-{uuid4().hex[:8]}.part"


def session_file(folder: Path) -> Path:
    """A hidden name of this process's own, which `sweep` removes when the process is gone.

    Examples
    --------
    >>> session_file(Path("out")).name.startswith(".session.")
    True
    """
    return part_of(folder / "session")


def _cut(name: str) -> str:
    return name.encode()[:180].decode(errors="ignore")  # a file name has 255 bytes at most


@cache
def _host() -> str:
    """Of all that can ask for each other's process ids; containers may have their host's name."""
    name = re.sub(r"[^A-Za-z0-9]", "", platform.node())[:32] or "host"
    with suppress(OSError):
        name += re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    return name


def sweep(folder: Any, *begins: str, alone: bool = False) -> int:
    """Remove what writers that were killed have left in a folder; return how many things.

    What writers that live are at is not touched: those of this machine are known by process id,
    others by having written within the hour.

    Parameters
    ----------
    folder : path or URL
        Object stores have nothing of the kind.
    *begins : str
        What names of the files that were being written begin with; without any, all.
    alone : bool
        Whether nobody else can be writing there, since it is locked: then all of it goes.

    Examples
    --------
    >>> sweep("nowhere")
    0
    """
    if not isinstance(folder, str | Path) or is_url(folder):
        return 0
    names = tuple(f".{_cut(name)}" for name in begins) or (".",)
    removed = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            end = _END.search(entry.name) if entry.name.startswith(names) else None
            if end is None:
                continue
            with suppress(OSError):  # somebody else sweeps as well
                if not (alone or _is_orphan(entry.path, end[1], int(end[2]))):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
                removed += 1
    return removed


def _is_orphan(path: str, host: str, number: int) -> bool:
    until = time.time()
    if host == _host():
        import psutil

        if not psutil.pid_exists(number):
            return True
        with suppress(psutil.Error):  # the number may have been given again
            until = psutil.Process(number).create_time()
    written = max(p.lstat().st_mtime for p in (Path(path), *Path(path).rglob("*")))
    return until - written > ORPHAN_SECONDS
