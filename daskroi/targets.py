"""Where results go, a local folder or a URL prefix, and what lies there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError
from daskroi.remote import filesystem, retried
from daskroi.urls import StorageOptions, is_url, local_path, options_for, shown, user_in

if TYPE_CHECKING:
    from upath import UPath

    Target: TypeAlias = Path | UPath

__all__ = [
    "as_target",
    "check_folder",
    "exists",
    "listed",
    "read_text",
    "remove",
    "remove_all",
    "size_of",
]


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
    url, options = local_path(out), StorageOptions(storage_options)
    if not is_url(url):
        return Path(os.path.expanduser(url))
    if user_in(url):
        raise DaskroiError(
            f"{shown(url)}: the URL holds a user name or password, which would get into results. "
            "Pass them as storage_options."
        )
    found, _ = filesystem(url, options)
    if "file" in (found.protocol if isinstance(found.protocol, tuple) else (found.protocol,)):
        return Path(found._strip_protocol(url))
    from upath import UPath

    try:
        target = UPath(url, **options_for(url, options))
        target.joinpath("file")  # UPath makes chains that it cannot join
    except (ValueError, TypeError) as error:
        raise DaskroiError(f"{shown(url)}: is no URL of a folder ({error}). Check it.") from error
    return target


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
    if isinstance(path, Path):
        return path.is_file()

    def work() -> bool:
        path.fs.invalidate_cache()
        return bool(path.fs.isfile(path.path))

    return retried(str(path), path.storage_options, work)


def size_of(path: Target) -> int | None:
    """Bytes of a file, None where there is none; it is not opened.

    Examples
    --------
    >>> size_of(as_target("memory://nowhere/x.tsv")) is None
    True
    """

    def work() -> int:
        if isinstance(path, Path):
            return path.stat().st_size
        path.fs.invalidate_cache()
        return int(path.fs.size(path.path))

    try:
        return work() if isinstance(path, Path) else retried(str(path), path.storage_options, work)
    except (FileNotFoundError, NotADirectoryError):
        return None


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
