"""Results that come into place whole or not: a file, or several that belong together.

Locally `daskroi.partfiles` sees to it; on an object store a file is one put. Several files end
with the one that says that all are there.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskroi.errors import DaskroiError
from daskroi.locks import alone_in, uninterrupted
from daskroi.partfiles import placed, placed_together, sweep
from daskroi.remote import retried
from daskroi.targets import exists, remove
from daskroi.urls import shown

if TYPE_CHECKING:
    from upath import UPath

    from daskroi.targets import Target

__all__ = ["BlockedError", "NotWrittenError", "write", "write_together"]

# files of a run take milliseconds
SECONDS_TO_WAIT = 60.0
# names of files that are no UTF-8: in JSON, what this makes of a broken byte reads back as it was
BROKEN = "backslashreplace"
# of the name alone: what comes next may well be written
BLOCKED = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "oss2", "tos")


class NotWrittenError(DaskroiError):
    """Results cannot be written: nothing to do with the run, and likely so for the next ones."""


class BlockedError(NotWrittenError):
    """Results of one run cannot be written, for something else has their name; others may be."""


def write(path: Target, content: str | bytes | Iterable[str]) -> None:
    """Write one file; it is there whole, or as it was before.

    Parameters
    ----------
    path : Path or UPath
    content : str, bytes, or iterable of str
        Pieces are written to a folder as they come.

    Raises
    ------
    DaskroiError
        It cannot be written.

    Examples
    --------
    >>> from daskroi.targets import as_target, read_text
    >>> path = as_target("memory://docs/x.txt")
    >>> write(path, "hello")
    >>> read_text(path)
    'hello'
    """
    if not isinstance(path, Path):
        _put({path: content})
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with uninterrupted(), placed(path) as file:
            for piece in _bytes(content):
                file.write(piece)
    except OSError as error:
        raise _not_written(path.parent, error) from error


def write_together(files: Mapping[Any, str | bytes]) -> None:
    """Write all files or none; the last one stands for their being complete.

    Parameters
    ----------
    files : mapping of Path or UPath to text or bytes
        All in one folder.

    Raises
    ------
    DaskroiError
        They cannot be written. Nothing of them is left then.

    Examples
    --------
    >>> from daskroi.targets import as_target, read_text
    >>> folder = as_target("memory://docs")
    >>> write_together({folder / "table.tsv": "a\\n", folder / "table.json": "{}"})
    >>> read_text(folder / "table.tsv")
    'a\\n'
    """
    *_, last = files
    if isinstance(last, Path):
        _place_together(files)
    else:
        _put(files)


def _place_together(files: Mapping[Path, str | bytes]) -> None:
    *_, last = files
    folder = last.parent
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # or the table of one writer would stand beside the sidecar of another
        with alone_in(folder, SECONDS_TO_WAIT), uninterrupted():
            sweep(folder, last.name.partition("_stat-")[0])
            with placed_together(files) as opened:
                for file, content in zip(opened, files.values(), strict=True):
                    for piece in _bytes(content):
                        file.write(piece)
    except BaseException as error:
        if made:
            with suppress(OSError):  # unless it has something in it
                folder.rmdir()
        if isinstance(error, OSError):
            raise _not_written(folder, error) from error
        raise


def _put(files: Mapping[UPath, str | bytes | Iterable[str]]) -> None:
    """Single puts: an object is there whole or not at all."""
    *_, last = files
    begun: list[UPath] = []
    try:
        if len(files) > 1 and exists(last):
            remove(last)
        for path, content in files.items():
            begun.append(path)
            data = b"".join(_bytes(content))
            # pipe_file, not open: a buffered file is committed even when its block is left by an
            # error, and goes up in parts from 5 MB
            work = partial(_pipe, path, data)
            retried(str(path), path.storage_options, work, writing=True)
    except BaseException as error:
        if len(files) > 1:
            for path in begun:
                with suppress(Exception):  # what cannot be reached cannot be cleaned either
                    remove(path)
        if isinstance(error, DaskroiError):
            raise _not_written(last.parent, error) from error
        raise


def _pipe(path: UPath, data: bytes) -> None:
    # object stores have no folders, and some would make a bucket of it
    if path.protocol not in OBJECT_STORES:
        path.fs.makedirs(path.parent.path, exist_ok=True)
    path.fs.pipe_file(path.path, data)


def _not_written(folder: Any, error: Exception) -> NotWrittenError:
    why = getattr(error, "strerror", None) or str(error).rstrip(".")
    if getattr(error, "errno", None) in BLOCKED:
        where = getattr(error, "filename2", None) or folder
        return BlockedError(
            f"{shown(str(where))}: results cannot be written there ({why}). Nothing was left; move "
            "away what has that name, or give another folder or shorter names."
        )
    return NotWrittenError(
        f"{shown(str(folder))}: results cannot be written there ({why}). "
        "Nothing was left; give another folder, or make room."
    )


def _bytes(content: str | bytes | Iterable[str]) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    pieces = iter([content] if isinstance(content, str) else content)
    while some := list(islice(pieces, 1000)):  # lines, which one by one cost a system call each
        yield "".join(some).encode(errors=BROKEN)
