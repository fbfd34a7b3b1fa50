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
from daskroi.paths import child_of
from daskroi.remote import filesystem, is_url, retried, shown

__all__ = ["Folder", "exists", "list_folder", "local_or_url", "walk"]

# folders without runs: other data, other programs' files, what a run was made from
_OTHER = frozenset(
    [
        "anat",
        "dwi",
        "fmap",
        "perf",
        "eeg",
        "ieeg",
        "meg",
        "nirs",
        "pet",
        "beh",
        "micr",
        "motion",
        "mrs",
        "xfm",
        "figures",
        "work",
        "scratch",
        "log",
        "logs",
        "code",
        "sourcedata",
        "derivatives",
        "stimuli",
        "phenotype",
    ]
)
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
    files : tuple of str
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
    text = os.fspath(path)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if not is_url(text):
        return os.path.abspath(os.path.expanduser(text))
    parts = urlsplit(text)
    if parts.password is not None:
        raise DaskroiError(
            f"{shown(text)}: has a password in it, which would get into tables and logs. "
            "Pass it in storage_options."
        )
    return text.rstrip("/")


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
        filesystem(path, storage_options)[0].invalidate_cache()
        return _remote_folder(path, storage_options)[0]
    return next(_local(path, lambda name: False))


def exists(path: str, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Whether there is such a file; a link to nothing counts as none."""
    if not is_url(path):
        return os.path.exists(path)
    found, inner = filesystem(path, storage_options)
    return retried(path, storage_options or {}, lambda: bool(found.exists(inner)))


def _local(root: str, wanted: Callable[[str], bool]) -> Iterator[Folder]:
    # with each folder the links followed to it, so that a link to a folder above ends
    start = frozenset({os.path.realpath(root)})
    stack: list[tuple[str, str | None, frozenset[str]]] = [(root, None, start)]
    while stack:
        path, above, followed = stack.pop()
        files: list[str] = []
        links: list[str] = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    if name.endswith(ZARR) or not _is_folder(entry):
                        files.append(name)
                        if entry.is_symlink():
                            links.append(name)
                    elif not wanted(name):
                        continue
                    elif entry.is_symlink():
                        real = os.path.realpath(entry.path)
                        if not any(f"{f}/".startswith(f"{real}/") for f in followed):
                            stack.append((entry.path, path, followed | {real}))
                    else:
                        stack.append((entry.path, path, followed))
        except OSError as error:
            yield Folder(path, problem=_listing_problem(path, error, root), above=above)
            continue
        yield Folder(path, tuple(files), frozenset(links), above=above)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink() and entry.name.endswith(_FILES):
        return False
    return entry.is_dir()


def _listing_problem(path: str, error: OSError, root: str) -> str:
    reason = f"cannot be listed ({error.strerror})"
    if path != root:
        return reason
    if isinstance(error, FileNotFoundError):
        raise DaskroiNotFoundError(f"{path}: no such folder. Check the path.") from error
    if isinstance(error, NotADirectoryError):
        raise DaskroiError(f"{path}: is not a folder. Give the dataset's folder.") from error
    raise DaskroiError(f"{path}: {reason}. Check the path and its permissions.") from error


def _walk_remote(
    root: str, wanted: Callable[[str], bool], options: Mapping[str, Any] | None
) -> Iterator[Folder]:
    from concurrent.futures import ThreadPoolExecutor

    found, _ = filesystem(root, options)
    found.invalidate_cache()  # listings are remembered, and a dataset grows
    folder, names = _remote_folder(root, options)
    if folder.problem:
        raise DaskroiError(folder.problem)
    if not folder.files and not names:
        raise DaskroiNotFoundError(f"{shown(root)}: no such folder, or it is empty. Check the URL.")
    yield folder
    level = [(root, name) for name in names]
    with ThreadPoolExecutor(TOGETHER) as pool:
        while level := [(above, name) for above, name in level if wanted(name)]:
            paths = [child_of(above, name) for above, name in level]
            listed = list(pool.map(lambda path: _remote_folder(path, options), paths))
            for (folder, _), (above, _) in zip(listed, level, strict=True):
                yield replace(folder, above=above)
            level = [(folder.path, name) for folder, names in listed for name in names]


def _remote_folder(path: str, options: Mapping[str, Any] | None) -> tuple[Folder, list[str]]:
    """A folder, and the names of those in it."""
    try:
        found, inner = filesystem(path, options)
        entries = retried(path, options or {}, lambda: found.ls(inner, detail=True))
    except DaskroiError as error:
        return Folder(path, problem=str(error)), []
    files: list[str] = []
    folders: list[str] = []
    base = inner.strip("/")
    for entry in entries:
        # only what lies in it: stores list the folder itself, web pages link to anything
        parent, _, name = str(entry["name"]).strip("/").rpartition("/")
        if parent != base or not name or "?" in name or "#" in name:
            continue
        if entry.get("type") == "directory" and not name.endswith(ZARR):
            folders.append(name)
        else:
            files.append(name)
    return Folder(path, tuple(files)), folders
