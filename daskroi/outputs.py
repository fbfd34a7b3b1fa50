"""Where results go: a local folder or a URL prefix, and files that come into place whole or not.

Locally a file is written beside its place under a hidden name and then renamed; on an object store
it is one put. Several files that belong together end with the one that says that all are there.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError
from daskroi.locks import alone_in, uninterrupted
from daskroi.partfiles import placed, placed_together, sweep
from daskroi.remote import exists as exists_at
from daskroi.remote import filesystem, retried
from daskroi.urls import is_url, local_path, shown

if TYPE_CHECKING:
    from upath import UPath

    Target: TypeAlias = Path | UPath

__all__ = [
    "BlockedError",
    "NotWrittenError",
    "as_target",
    "check_folder",
    "exists",
    "listed",
    "read_text",
    "remove",
    "remove_all",
    "write",
    "write_together",
]

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


def as_target(out: Any, storage_options: Mapping[str, Any] | None = None) -> Target:
    """A folder or file for results, by path or URL.

    Parameters
    ----------
    out : path or URL
        URLs are any of fsspec's: ``s3://…``, ``memory://…``.
    storage_options : mapping, optional
        For the URL: credentials, endpoint. They are kept in the result, and shown nowhere.

    Returns
    -------
    pathlib.Path or upath.UPath
        The same methods: ``/``, ``name``, ``parent``, ``read_text`` …

    Raises
    ------
    DaskroiError
        An unknown protocol, a package that is not installed, a password in the URL.

    Examples
    --------
    >>> as_target("memory://out") / "runs.tsv"
    MemoryPath('/out/runs.tsv', protocol='memory')
    """
    if not isinstance(out, str | os.PathLike):
        if not hasattr(out, "storage_options"):  # a UPath of a URL is none of both
            raise DaskroiTypeError(f"A {type(out).__name__} is no path. Give a path or a URL.")
        return out
    url = local_path(out)
    if not is_url(url):
        return Path(os.path.expanduser(url))
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise DaskroiError(
            f"{shown(url)}: the URL holds a user name or password, which would get into results. "
            "Pass them as storage_options."
        )
    found, _ = filesystem(url, storage_options)
    if "file" in (found.protocol if isinstance(found.protocol, tuple) else (found.protocol,)):
        return Path(found._strip_protocol(url))
    from upath import UPath

    try:
        return UPath(url, **dict(storage_options or {}))
    except ValueError as error:
        raise DaskroiError(f"{shown(url)}: is no URL of a folder ({error}). Check it.") from error


def check_folder(out: Any, storage_options: Mapping[str, Any] | None = None) -> None:
    """Raise when results could not be written there: better now than after reading the image.

    Of a URL only the protocol and its options are checked: whether one may write to a bucket shows
    when one does.

    Raises
    ------
    DaskroiError
        A file is in the way, or the folder cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     check_folder(file.name + "/out")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: ...: is a file, so results cannot be written below it. ...
    """
    folder = as_target(out, storage_options)
    if not isinstance(folder, Path):
        return
    folder = folder.absolute()
    try:
        while not folder.exists() and folder != folder.parent:
            if folder.is_symlink():
                raise DaskroiError(
                    f"{folder}: is a link to nothing, so results cannot be written below it. "
                    "Remove it, or give another folder."
                )
            folder = folder.parent
        is_folder = folder.is_dir()
    except OSError as error:  # a name that is too long
        raise DaskroiError(f"{folder}: {error.strerror}. Give another folder.") from error
    if not is_folder:
        raise DaskroiError(
            f"{folder}: is a file, so results cannot be written below it. Give a folder."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DaskroiError(f"{folder}: no permission to write there. Give another folder.")


def exists(path: Target) -> bool:
    """Whether a file is there.

    Examples
    --------
    >>> exists(as_target("memory://nowhere/x.tsv"))
    False
    """
    return exists_at(str(path), getattr(path, "storage_options", None), file=True)


def listed(folder: Target) -> list[str] | None:
    """Names of what lies in a folder: none where there is none; None of a file.

    Examples
    --------
    >>> listed(as_target("memory://nowhere"))
    []
    """
    if isinstance(folder, Path):
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            return None

    def work() -> list[str] | None:
        folder.fs.invalidate_cache()
        try:
            names = [str(name).rstrip("/") for name in folder.fs.ls(folder.path, detail=False)]
        except FileNotFoundError:
            return []
        own = folder.path.strip("/")
        if [name.strip("/") for name in names] == [own] and folder.fs.isfile(folder.path):
            return None
        # some stores list the folder itself
        return sorted(n.rpartition("/")[2] for n in names if n.strip("/") != own)

    return retried(str(folder), folder.storage_options, work)


def read_text(path: Target) -> str:
    """The whole file, as UTF-8.

    Raises
    ------
    FileNotFoundError
        It is not there.
    DaskroiError
        It cannot be read.
    UnicodeDecodeError
        It is no text.

    Examples
    --------
    >>> read_text(as_target("memory://nowhere/x.tsv"))
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiNotFoundError: memory://nowhere/x.tsv: no such file. Check the URL.
    """
    try:
        if isinstance(path, Path):
            return path.read_text(encoding="utf-8")
        data = retried(str(path), path.storage_options, lambda: path.fs.cat_file(path.path))
        return data.decode("utf-8")
    except (FileNotFoundError, DaskroiError):
        raise
    except NotADirectoryError as error:
        raise DaskroiNotFoundError(f"{path}: no such file. Check the path.") from error
    except OSError as error:
        raise DaskroiError(
            f"{path}: cannot be read ({error.strerror}). Check the path and its permissions."
        ) from error


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
    placed: list[UPath] = []
    try:
        if len(files) > 1 and exists(last):
            remove(last)
        for path, content in files.items():
            placed.append(path)
            data = b"".join(_bytes(content))
            # pipe_file, not open: a buffered file is committed even when its block is left by an
            # error, and goes up in parts from 5 MB
            retried(str(path), path.storage_options, partial(_pipe, path, data))
    except BaseException as error:
        if len(files) > 1:
            for path in placed:
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


def remove(path: Target) -> None:
    """Remove a file, if it is there.

    Examples
    --------
    >>> remove(as_target("memory://nowhere/x.tsv"))
    """
    if isinstance(path, Path):
        path.unlink(missing_ok=True)
        return

    def work() -> None:
        with suppress(FileNotFoundError):
            path.fs.rm_file(path.path)

    retried(str(path), path.storage_options, work)


def _not_written(folder: Any, error: Exception) -> NotWrittenError:
    why = getattr(error, "strerror", None) or str(error).rstrip(".")
    if getattr(error, "errno", None) in BLOCKED:
        where = getattr(error, "filename2", None) or folder
        return BlockedError(
            f"{where}: results cannot be written there ({why}). Nothing was left; move away what "
            "has that name, or give another folder or shorter names."
        )
    return NotWrittenError(
        f"{folder}: results cannot be written there ({why}). "
        "Nothing was left; give another folder, or make room."
    )


def _bytes(content: str | bytes | Iterable[str]) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    pieces = iter([content] if isinstance(content, str) else content)
    while some := list(islice(pieces, 1000)):  # lines, which one by one cost a system call each
        yield "".join(some).encode(errors=BROKEN)


def remove_all(folder: Target) -> None:
    """Remove a folder and all in it, if it is there.

    Examples
    --------
    >>> remove_all(as_target("memory://nowhere"))
    """
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return

    def work() -> None:
        with suppress(FileNotFoundError):
            folder.fs.rm(folder.path, recursive=True)

    retried(str(folder), folder.storage_options, work)
