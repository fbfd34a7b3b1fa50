"""Random access into gzip: indexes made once and kept, and readers that use them.

Indexes are kept in a folder of the user's, one small file each (60 KB for a 300-volume run of
1.08 GB): ``$DASKROI_CACHE``, else the platform's (``~/.cache/daskroi`` on Linux), below ``gzip``.
Deleting the folder is safe at any time. Beyond 2 GiB the least recently used go.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from contextlib import ExitStack, suppress
from pathlib import Path

from daskroi.errors import DaskroiError, warn
from daskroi.gzippoints import GzipIndex
from daskroi.gzipreader import IndexedReader
from daskroi.gzipsearch import OpenRaw, make_index
from daskroi.locks import alone_in
from daskroi.partfiles import placed, sweep

__all__ = ["cache_folder", "ensure_index", "find_index", "open_indexed"]

LIMIT = 2 << 30
HEAD = 1 << 12
# Who waits longer for another process to finish an index makes one of its own
PATIENCE = 600.0
KEPT = 32

# In this process: a pool of readers opens the same index many times. The fork leaves no thread
# in the child that could hold these
_loaded: OrderedDict[str, GzipIndex] = OrderedDict()
_loading = threading.Lock()
_making = threading.Lock()


def _renew_locks() -> None:
    global _loading, _making
    _loading, _making = threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def cache_folder() -> Path:
    """Folder for what daskroi keeps between runs: ``$DASKROI_CACHE``, or the platform's.

    It need not exist.

    Examples
    --------
    >>> import os
    >>> before = os.environ.get("DASKROI_CACHE")
    >>> os.environ["DASKROI_CACHE"] = "/scratch/me"
    >>> cache_folder().as_posix()
    '/scratch/me'
    >>> if before is None:
    ...     del os.environ["DASKROI_CACHE"]
    ... else:
    ...     os.environ["DASKROI_CACHE"] = before
    """
    named = os.environ.get("DASKROI_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("daskroi", appauthor=False))


def find_index(identity: str) -> Path | None:
    """Where the index of a file is kept, if there is one.

    Cheap: reads the first 4 KB, which tell whether it is an index of this file. That it is not
    damaged is checked when it is used.

    Parameters
    ----------
    identity : str
        Whatever names the file's content: a hash of URL, size and modification time or etag.

    Examples
    --------
    >>> find_index("no such file") is None
    True
    """
    path = _path(identity)
    try:
        with open(path, "rb") as file:
            GzipIndex.head_of(file.read(HEAD + len(identity) * 6), identity)
    except (OSError, ValueError):
        return None
    return path


def ensure_index(
    identity: str,
    open_raw: OpenRaw,
    path: str | None = None,
    *,
    threads: int | None = None,
    most: int | None = None,
) -> Path:
    """Where the index of a file is kept; made first if there is none, or only a damaged one.

    The whole file is read and inflated for it, once, on several threads: 2.3 s of CPU time for a
    300-volume run of 1.08 GB. Others that want the same index meanwhile, in this process or
    another, wait for it. The index appears whole or not at all.

    Parameters
    ----------
    identity : str
        Whatever names the file's content: a hash of URL, size and modification time or etag.
    open_raw : callable
        Opens the compressed bytes: a seekable binary file.
    path : str, optional
        The same file, if it is on a local disk. Otherwise a temporary copy is made, as large as
        the compressed file, and deleted in the end.
    threads : int, optional
        How many inflate at once. By default one per processor, up to four. 200 MB of
        memory for one, 350 MB for four.
    most : int, optional
        Inflated bytes that the file may have.

    Raises
    ------
    DaskroiError
        The folder cannot be written to, rapidgzip fails, or there is more than ``most``.
    EOFError
        The gzip data ends early.
    OSError
        The gzip data is damaged (`gzip.BadGzipFile`) or cannot be read. What ``open_raw`` and its
        file raise comes through.

    Examples
    --------
    >>> import gzip, io, os, tempfile
    >>> os.environ["DASKROI_CACHE"] = tempfile.mkdtemp()
    >>> packed = gzip.compress(b"0123456789")
    >>> kept = ensure_index("ten digits, version 1", lambda: io.BytesIO(packed))
    >>> kept == find_index("ten digits, version 1")
    True
    >>> del os.environ["DASKROI_CACHE"]
    """
    _, problem = _index(identity, open_raw, path, threads, most, keep=True)
    if problem:
        raise problem
    return _path(identity)


def open_indexed(
    identity: str,
    open_raw: OpenRaw,
    path: str | None = None,
    *,
    threads: int | None = None,
    most: int | None = None,
) -> IndexedReader:
    """Open a gzip file for reading inflated bytes from any place; its index is made if need be.

    An index that is damaged, or of another file, is made anew. When the index cannot be kept
    (the folder is read-only, the disk is full), this process keeps it in memory, and warns.

    Parameters
    ----------
    identity, open_raw, path, threads, most
        As in `ensure_index`.

    Returns
    -------
    IndexedReader
        Opens the file at its first read. See there for threads, forks and errors.

    Raises
    ------
    DaskroiError, EOFError, OSError
        As in `ensure_index`, when an index has to be made.

    Examples
    --------
    >>> import gzip, io, os, tempfile
    >>> os.environ["DASKROI_CACHE"] = tempfile.mkdtemp()
    >>> packed = gzip.compress(b"0123456789")
    >>> with open_indexed("ten digits, version 1", lambda: io.BytesIO(packed)) as file:
    ...     _ = file.seek(7)
    ...     file.read(2)
    b'78'
    >>> del os.environ["DASKROI_CACHE"]
    """
    index, problem = _index(identity, open_raw, path, threads, most)
    if problem:
        warn(f"{problem} Until then every process makes the index for itself.")
    return IndexedReader(open_raw, index)


def _path(identity: str) -> Path:
    name = hashlib.sha256(identity.encode()).hexdigest()[:40]
    return cache_folder() / "gzip" / f"{name}.gzi"


def _index(
    identity: str,
    open_raw: OpenRaw,
    path: str | None,
    threads: int | None,
    most: int | None,
    *,
    keep: bool = False,
) -> tuple[GzipIndex, DaskroiError | None]:
    """The index from memory, the folder or the file itself; and why it could not be kept."""
    place = _path(identity)
    with _loading:
        index = _loaded.get(identity)
        if index is not None:
            _loaded.move_to_end(identity)
    if index is not None and (not keep or find_index(identity)):
        return index, None
    index = _load(place, identity)
    if index is not None:
        return _remember(identity, index), None
    problem = None
    with ExitStack() as stack:
        # where there is no lock, or somebody holds it for ever, two may make the same index:
        # wasteful, not wrong
        with suppress(OSError):
            locks = place.parent / "locks"
            locks.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone_in(locks, PATIENCE, f"{place.name[:2]}.lock"))
        stack.enter_context(_making)
        index = _load(place, identity)  # somebody may have made it while we waited
        if index is None:
            with _loading:
                index = _loaded.get(identity)
            if index is None:
                index = make_index(open_raw, path, threads=threads, most=most)
            problem = _store(place, index.to_bytes(identity), _mode_like(path))
    return _remember(identity, index), problem


def _remember(identity: str, index: GzipIndex) -> GzipIndex:
    with _loading:
        _loaded[identity] = index
        _loaded.move_to_end(identity)
        while len(_loaded) > KEPT:
            _loaded.popitem(last=False)
    return index


def _load(place: Path, identity: str) -> GzipIndex | None:
    """The index kept there, if it is sound and of this file."""
    try:
        index = GzipIndex.from_bytes(place.read_bytes(), identity)
    except (OSError, ValueError, KeyError):
        return None
    with suppress(OSError):
        os.utime(place)  # the last to be evicted
    return index


def _mode_like(path: str | None) -> int:
    """Who may read the index: who may read the file, pieces of which are in it."""
    with suppress(OSError):
        return 0o600 | (os.stat(path).st_mode & 0o044 if path is not None else 0)
    return 0o600


def _store(place: Path, data: bytes, mode: int) -> DaskroiError | None:
    """Put a file into place, whole or not at all; why it could not be, if so."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with placed(place, mode) as file:
            file.write(data)
    except OSError as error:
        return DaskroiError(
            f"{place.parent}: a gzip index cannot be kept there ({error.strerror}). Make room or "
            "set DASKROI_CACHE to a folder that can be written to."
        )
    _tidy(place.parent, place)
    return None


def _tidy(folder: Path, newest: Path) -> None:
    """Delete what a killed process has left, and the least recently used beyond the limit.

    Readers are not disturbed: they hold their index in memory.
    """
    sweep(folder)
    entries = []
    with suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            if entry.name.endswith(".gzi"):
                with suppress(OSError):
                    status = entry.stat()
                    entries.append((status.st_mtime, status.st_size, entry.path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= LIMIT:
            break
        if path != str(newest):
            with suppress(OSError):
                os.unlink(path)
            total -= size
