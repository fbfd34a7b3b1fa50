"""Folders of a dataset, local or remote: names only, without what holds no runs.

Listing costs requests, not bytes. Remote folders are listed level by level, sixteen at a time,
rather than as one recursive listing: that one comes in pages of 1,000 keys, one after the other,
and goes through every chunk of every Zarr and all of ``sourcedata``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.paths import child_of, printable
from daskroi.remote import filesystem, retried
from daskroi.urls import is_url, located, shown, user_in

__all__ = ["TOGETHER", "Folder", "forget", "list_folder", "local_or_url", "walk"]

# folders without runs: other data, other programs' files, what a run was made from
_OTHER = {"anat", "dwi", "fmap", "perf", "eeg", "ieeg", "meg", "nirs", "pet", "beh", "micr", "mrs"}
_OTHER |= {"figures", "work", "scratch", "log", "logs", "code", "sourcedata", "derivatives"}
_OTHER |= {"freesurfer"}
# a name that ends so is a file: a link is not followed to find out (on NFS that costs a request)
_FILES = (".gz", ".nii", ".json", ".tsv", ".txt", ".html", ".svg", ".gii", ".h5", ".csv")
ZARR = ".zarr"
TOGETHER = 16


@dataclass(frozen=True)
class Folder:
    """One folder's own files; Zarr stores count as files.

    Parameters
    ----------
    path : str
        Absolute path or URL, without slash at the end.
    files, folders : tuple of str
        Names, in no order.
    links : frozenset of str
        Those that are symbolic links.
    problem : str
        Why it could not be listed; empty if it could.
    above : str, optional
        Path of the folder it lies in, if that is in the dataset.
    """

    path: str
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    links: frozenset[str] = frozenset()
    problem: str = ""
    above: str | None = None


def local_or_url(path: str | os.PathLike[str]) -> str:
    """An absolute path, or the URL as given; no slash at the end.

    Raises
    ------
    DaskroiError
        A password in the URL: it would get into tables, sidecars and logs.

    Examples
    --------
    >>> local_or_url("s3://bucket/fmriprep/"), local_or_url("file:///data/fmriprep")
    ('s3://bucket/fmriprep', '/data/fmriprep')
    """
    text = located(path)
    if not is_url(text):
        return text
    try:
        urlsplit(text)
    except ValueError as error:
        raise DaskroiError(f"{shown(text)}: is no URL ({error}). Check it.") from error
    if ":" in user_in(text):
        raise DaskroiError(
            f"{shown(text)}: has a password in it, which would get into tables and logs. "
            "Pass it in storage_options."
        )
    return text if text.endswith("://") else text.rstrip("/")


def walk(
    root: str,
    enter: Callable[[str], bool],
    storage_options: Mapping[str, Any] | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Iterator[Folder]:
    """Every folder below ``root``, itself first, that may hold runs.

    Parameters
    ----------
    root : str
        From `local_or_url`.
    enter : callable
        Told a folder's name, says whether to look into it.
    storage_options : mapping, optional
        For fsspec.
    progress : callable, optional
        Told the number of files seen so far, after each folder.

    Raises
    ------
    DaskroiNotFoundError
        ``root`` is not there.
    DaskroiError
        ``root`` cannot be listed. A folder below that cannot be has its ``problem`` set.
    """

    def wanted(name: str) -> bool:
        return not name.startswith(".") and name not in _OTHER and enter(name)

    seen = 0
    found = _walk_remote(root, wanted, storage_options) if is_url(root) else _local(root, wanted)
    for folder in found:
        yield folder
        seen += len(folder.files)
        if progress is not None:
            progress(seen)


def list_folder(path: str, storage_options: Mapping[str, Any] | None = None) -> Folder:
    """One folder, without those in it.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "sub-01_bold.nii").write_bytes(b""), (folder / "anat").mkdir()
    >>> list_folder(str(folder)).files
    ('sub-01_bold.nii',)
    """
    if is_url(path):
        return _remote_or_problem(path, storage_options)
    return next(_local(path, lambda name: False))


def forget(path: str, storage_options: Mapping[str, Any] | None = None) -> None:
    """Let the next listing ask the server: fsspec remembers listings, and datasets grow."""
    if is_url(path):
        filesystem(path, storage_options)[0].invalidate_cache()


def _local(root: str, wanted: Callable[[str], bool]) -> Iterator[Folder]:
    # with each folder the links followed to it, so that a link to a folder above ends
    start = frozenset({os.path.realpath(root)})
    stack: list[tuple[str, str | None, frozenset[str]]] = [(root, None, start)]
    while stack:
        path, above, followed = stack.pop()
        try:
            folder = replace(_local_folder(path), above=above)
        except OSError as error:
            folder = Folder(path, problem=_listing_problem(path, error, root), above=above)
        yield folder
        for name in filter(wanted, folder.folders):
            below, reached = child_of(path, name), followed
            if name in folder.links:
                real = os.path.realpath(below)
                here = (*followed, os.path.realpath(path))
                if any(f"{one}/".startswith(f"{real}/") for one in here):
                    continue
                reached = followed | {real}
            stack.append((below, path, reached))


def _local_folder(path: str) -> Folder:
    files: list[str] = []
    folders: list[str] = []
    links: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            link = entry.is_symlink()
            if link:
                links.append(entry.name)
            file = entry.name.endswith(ZARR) or (link and entry.name.endswith(_FILES))
            (files if file or not _is_folder(entry) else folders).append(entry.name)
    return Folder(path, tuple(files), tuple(folders), frozenset(links))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; of one to nothing it is False
        return False


def _listing_problem(path: str, error: OSError, root: str) -> str:
    reason = f"cannot be listed ({error.strerror})"
    if path != root:
        return reason
    where = printable(path)
    if isinstance(error, FileNotFoundError):
        raise DaskroiNotFoundError(f"{where}: no such folder. Check the path.") from error
    if isinstance(error, NotADirectoryError):
        raise DaskroiError(f"{where}: is not a folder. Give the dataset's folder.") from error
    raise DaskroiError(f"{where}: {reason}. Check the path and its permissions.") from error


def _walk_remote(
    root: str, wanted: Callable[[str], bool], options: Mapping[str, Any] | None
) -> Iterator[Folder]:
    from concurrent.futures import ThreadPoolExecutor

    forget(root, options)
    try:
        top = _remote_folder(root, options)
    except DaskroiNotFoundError:
        top = Folder(root)
    if not top.files and not top.folders:
        raise DaskroiNotFoundError(f"{shown(root)}: no such folder, or it is empty. Check the URL.")
    yield top
    level = [top]
    with ThreadPoolExecutor(TOGETHER) as pool:
        while level:
            below = [(f.path, name) for f in level for name in f.folders if wanted(name)]
            paths = [child_of(*pair) for pair in below]
            listed = pool.map(lambda path: _remote_or_problem(path, options), paths)
            level = [replace(f, above=up) for f, (up, _) in zip(listed, below, strict=True)]
            yield from level


def _remote_or_problem(path: str, options: Mapping[str, Any] | None) -> Folder:
    try:
        return _remote_folder(path, options)
    except DaskroiError as error:
        return Folder(path, problem=str(error))


def _remote_folder(path: str, options: Mapping[str, Any] | None) -> Folder:
    found, inner = filesystem(path, options)
    # web servers send one that asks for a folder without slash elsewhere, at a request each
    web = inner.startswith(("http://", "https://"))
    slash = "/" if web else ""
    entries = retried(path, options or {}, lambda: found.ls(inner + slash, detail=True))
    files: list[str] = []
    folders: list[str] = []
    base = inner.strip("/")
    for entry in entries:
        # only what lies in it: stores list the folder itself, web pages link to anything
        parent, _, name = str(entry["name"]).strip("/").rpartition("/")
        if parent != base or not name or (web and not {"?", "#"}.isdisjoint(name)):
            continue
        folder = entry.get("type") == "directory" and not name.endswith(ZARR)
        (folders if folder else files).append(name)
    return Folder(path, tuple(files), tuple(folders))
