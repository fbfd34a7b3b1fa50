"""Runs of a dataset or of a list of images, with what belongs to them and what was left over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from daskroi.entities import PLACES, BidsName, long_name, parse_name
from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.listing import TOGETHER, Folder, forget, list_folder, local_or_url, walk
from daskroi.pairing import IMAGES, FolderIndex, Run, candidates, ending_rank
from daskroi.paths import child_of, natural_key, printable, split_path, stem_of, without_query
from daskroi.remote import exists
from daskroi.selection import Selection
from daskroi.urls import is_url, shown

__all__ = ["Found", "as_images", "beside", "search"]

SURFACE = "surface or CIFTI files, not volumes"
OTHER = "BOLD images that are not preprocessed (no desc-preproc in the name)"
ECHOES = "single echoes (pass echo to take them)"
FILTERED = "runs left out by the filters"


@dataclass
class Found:
    """What a search has come upon.

    Parameters
    ----------
    where : str
        For messages.
    runs : list of Run
    unpaired : list of pairs of str
        File and reason.
    ignored : Counter
        Images that are not for us, by reason.
    labels : dict of str to Counter
        Labels of every image of ours, selected or not, for messages about filters.
    raw : int
        BOLD images that nothing was done to.
    unlisted : int
        Folders that could not be listed.
    top : Folder, optional
        The dataset's own folder.
    """

    where: str
    runs: list[Run] = field(default_factory=list)
    unpaired: list[tuple[str, str]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    raw: int = 0
    unlisted: int = 0
    top: Folder | None = None

    def see(self, entities: Mapping[str, str]) -> None:
        for entity, label in entities.items():
            self.labels.setdefault(entity, Counter())[label] += 1

    def name_clashes(self) -> None:
        """Say of images that have the same name in two folders: their results would as well."""
        by_name: dict[str, list[Run]] = {}
        for run in self.runs:
            by_name.setdefault(stem_of(split_path(run.image)[1]), []).append(run)
        for runs in by_name.values():
            for run in runs[1:]:
                run.problems.append(f"name: {printable(shown(runs[0].image))} is named the same")


def as_images(url: Any) -> list[str] | None:
    """The images given, or None for a folder.

    Raises
    ------
    DaskroiTypeError
        Neither paths nor a path.

    Examples
    --------
    >>> as_images(["/data/a.nii", "/data/b.nii.gz", "/data/a.nii"])
    ['/data/a.nii', '/data/b.nii.gz']
    >>> as_images("/data")
    """
    if isinstance(url, str | os.PathLike):
        text = os.fspath(url)
        return [local_or_url(text)] if without_query(text).rstrip("/").endswith(IMAGES) else None
    if not isinstance(url, Iterable) or isinstance(url, bytes | Mapping):
        raise DaskroiTypeError(
            f"find_runs takes a folder, an image or a list of images, not {type(url).__name__}."
        )
    paths = list(url)
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise DaskroiTypeError(
                f"find_runs takes paths of images; one is a {type(path).__name__}."
            )
    if not paths:
        raise DaskroiError("find_runs: the list of images is empty. Give at least one.")
    return list(dict.fromkeys(map(local_or_url, paths)))


def search(
    root: str,
    selection: Selection,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Found:
    """Runs below a folder, in natural order.

    Parameters
    ----------
    root : str
        From `daskroi.listing.local_or_url`.
    selection : Selection
    options : mapping, optional
        For fsspec.
    progress : callable, optional
        Told the number of files seen, after each folder.

    Raises
    ------
    DaskroiError
        ``root`` cannot be listed.
    """
    found = Found(root)
    indices: dict[str, FolderIndex] = {}

    def enter(name: str) -> bool:
        wanted = selection.enters(name)
        if not wanted:  # seen all the same, for messages
            found.see({long_name(name.partition("-")[0]): name.partition("-")[2]})
        return wanted

    for folder in walk(root, enter, options, progress):
        found.top = found.top or folder
        if folder.problem:
            found.unlisted += 1
            found.unpaired.append((folder.path, folder.problem))
        indices[folder.path] = FolderIndex(folder)
    for index in indices.values():
        above: list[FolderIndex] = []
        path = index.folder.above
        while path is not None:
            above.append(indices[path])
            path = indices[path].folder.above
        _take(found, index, above, selection)
    found.runs.sort(key=lambda run: natural_key(run.image))
    found.unpaired.sort(key=lambda pair: natural_key(pair[0]))
    return found


def _take(found: Found, index: FolderIndex, above: list[FolderIndex], selection: Selection) -> None:
    """The runs of one folder."""
    found.ignored[SURFACE] += index.surfaces
    by_run: dict[Any, list[tuple[str, BidsName]]] = {}
    for name, parts in index.images:
        if parts is None:
            reason = "is no BIDS name: key-label pairs of letters and digits, joined by _"
            found.unpaired.append((child_of(index.folder.path, name), reason))
            continue
        if not _is_ours(found, parts, selection):
            continue
        found.see(_words(parts))
        by_run.setdefault(parts.key(), []).append((name, parts))

    def rank(copy: tuple[str, BidsName]) -> tuple[bool, int]:
        return _is_absent(index.folder, copy[0]), ending_rank(copy[0])

    for copies in by_run.values():
        fitting = [c for c in copies if selection.failed(_words(c[1])) is None]
        # also for those left out, so that their confounds are not called left over
        (name, parts), *others = sorted(fitting or copies, key=rank) if copies[1:] else copies
        run = index.pair(name, parts, above)
        if not fitting:
            found.ignored[FILTERED] += 1
            continue
        for other, _ in others:
            reason = f"is a copy of {printable(name)}, which is taken"
            found.unpaired.append((child_of(index.folder.path, other), reason))
        if _is_absent(index.folder, name):
            run.problems.append("image: its content is not here, fetch it with 'datalad get'")
        found.runs.append(run)
    for name, parts in index.left_confounds():
        if selection.failed(parts.entities, _NOT_OF_RUN) is None:
            reason = "confounds without a preprocessed BOLD image in the same folder"
            found.unpaired.append((child_of(index.folder.path, name), reason))


def _is_absent(folder: Folder, name: str) -> bool:
    """Whether a file is a link to what is not there, as datalad leaves it."""
    return name in folder.links and not os.path.exists(child_of(folder.path, name))


_NOT_OF_RUN = PLACES | {"suffix", "extension", "datatype"}


def _words(parts: BidsName) -> dict[str, str]:
    """What a selection may speak of."""
    return {
        "suffix": parts.suffix,
        "extension": parts.extension,
        "datatype": "func",
        **parts.entities,
    }


def _is_ours(found: Found, parts: BidsName, selection: Selection) -> bool:
    description = parts.entities.get("description")
    if not selection.names("description") and description != "preproc":
        found.raw += description is None and "space" not in parts.entities
        found.ignored[OTHER] += 1
        return False
    if "echo" in parts.entities and not selection.names("echo"):
        found.ignored[ECHOES] += 1
        return False
    return True


def beside(
    images: list[str], selection: Selection, options: Mapping[str, Any] | None = None
) -> Found:
    """Images given one by one, each with what lies in its folder.

    Parameters
    ----------
    images : list of str
        From `as_images`.
    selection : Selection
    options : mapping, optional
        For fsspec.
    """
    from concurrent.futures import ThreadPoolExecutor

    found = Found("the images given")
    split = [split_path(without_query(path)) for path in images]
    folders = list(dict.fromkeys(folder for folder, _ in split))
    for folder in folders:
        forget(folder, options)

    def seen(image: str, folder: str, name: str) -> FolderIndex:
        index = indices[folder]
        if is_url(image) and name not in index.folder.files:
            return FolderIndex(_probed(folder, name, options))
        return index

    with ThreadPoolExecutor(TOGETHER) as pool:
        indices = dict(zip(folders, pool.map(lambda f: _indexed(f, options), folders), strict=True))
        beside_each = list(pool.map(lambda i, s: seen(i, *s), images, split))
    for image, (_, name), index in zip(images, split, beside_each, strict=True):
        parts = parse_name(name)
        if parts is not None:
            found.see(_words(parts))
        failed = selection.failed(_words(parts) if parts else {})
        if failed is not None:
            found.ignored[FILTERED] += 1
            if parts is None:
                reason = f"is left out by {failed}: its name is no BIDS name"
                found.unpaired.append((shown(image), reason))
            continue
        run = index.pair(name, parts)
        run.image = image
        if index.folder.problem:
            run.problems = [f"folder: {index.folder.problem}"]
        found.runs.append(run)
    return found


def _indexed(path: str, options: Mapping[str, Any] | None) -> FolderIndex:
    try:
        return FolderIndex(list_folder(path, options))
    except DaskroiError as error:
        return FolderIndex(Folder(path, problem=str(error)))


def _probed(path: str, image: str, options: Mapping[str, Any] | None) -> Folder:
    """What can be found out about a folder that cannot be listed: web servers rarely let you."""
    there = [image]
    try:
        for names in candidates(image).values():
            there += [n for n in names if exists(child_of(path, n), options)][:1]
    except DaskroiError as error:
        return Folder(path, tuple(there), problem=str(error))
    return Folder(path, tuple(there))
