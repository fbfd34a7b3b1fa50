"""Paths and URLs of a dataset as text: joined, split, filled in from entities, sorted, shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from daskroi.entities import (
    ENTITIES,
    OF_VOXELS,
    entity_stem,
    long_name,
    parse_name,
    plain_name,
    present,
    short_name,
)
from daskroi.errors import DaskroiError, printable

__all__ = [
    "bids_uri",
    "child_of",
    "dataset_root",
    "fill_pattern",
    "links_of",
    "name_of",
    "natural_key",
    "printable",
    "run_prefix",
    "split_path",
    "stem_of",
    "without_query",
]


def child_of(folder: str, name: str) -> str:
    """Path or URL of something in a folder, in chained URLs too.

    Examples
    --------
    >>> child_of("s3://bucket/fmriprep", "sub-01"), child_of("/", "data")
    ('s3://bucket/fmriprep/sub-01', '/data')
    >>> child_of("zip://fmriprep::https://example.org/all.zip", "sub-01")
    'zip://fmriprep/sub-01::https://example.org/all.zip'
    """
    before, own, after = links_of(folder)
    inside = own if own.endswith("://") else f"{own.rstrip('/')}/"
    return f"{before}{inside}{name}{after}"


def split_path(path: str) -> tuple[str, str]:
    """Folder and name of a path or URL.

    Examples
    --------
    >>> split_path("s3://bucket/fmriprep/sub-01"), split_path("/data")
    (('s3://bucket/fmriprep', 'sub-01'), ('/', 'data'))
    """
    before, own, after = links_of(path)
    folder, _, name = own.rstrip("/").rpartition("/")
    return f"{before}{folder or '/'}{after}", name


def name_of(path: str) -> str:
    """Name of a file without its folder, of a path or URL; of an archive's, the member's.

    Examples
    --------
    >>> name_of("/data/bold.nii.zarr/"), name_of("zip://in/bold.nii::https://example.org/all.zip")
    ('bold.nii.zarr', 'bold.nii')
    """
    return os.path.basename(links_of(path)[1].rstrip("/"))


def stem_of(path: str) -> str:
    """Path or name of an image without ending; `parse_name` cuts at the first dot, often too early.

    Examples
    --------
    >>> stem_of("my.run.nii.gz"), stem_of("sub-01_bold.nii.zarr"), stem_of("/data/aal.img")
    ('my.run', 'sub-01_bold', '/data/aal')
    """
    return re.sub(r"(\.(nii|img|hdr|mgz|mgh))?(\.(gz|zarr))?\Z", "", path)


def run_prefix(image: str | os.PathLike[str]) -> str:
    """What output names begin with: the image's BIDS entities, else its name without ending.

    ``res-``, ``den-`` and ``desc-`` are left out: they are of voxels.

    Examples
    --------
    >>> run_prefix("sub-01_task-rest_space-MNI152NLin6Asym_res-2_desc-preproc_bold.nii.gz")
    'sub-01_task-rest_space-MNI152NLin6Asym'
    >>> run_prefix("/data/my run.nii")
    'my-run'
    """
    name = name_of(os.fspath(image))
    found = parse_name(name)
    prefix = entity_stem(found.entities, OF_VOXELS) if found else ""
    return prefix or plain_name(stem_of(name)) or "image"


def links_of(url: str) -> tuple[str, str, str]:
    """A chained URL as what is before, the link whose path it is, and what is after; a path alone.

    Examples
    --------
    >>> links_of("zip://in/bold.nii::https://example.org/all.zip")
    ('', 'zip://in/bold.nii', '::https://example.org/all.zip')
    >>> links_of("/data/bold.nii")
    ('', '/data/bold.nii', '')
    """
    if "://" not in url:
        return "", url, ""
    links = re.split(r"::(?![0-9A-Fa-f:.]*\])", url)  # not of http://[::1]/
    own = next(i for i, link in enumerate(links) if "://" in link)
    before, after = links[:own], links[own + 1 :]
    return "".join(f"{b}::" for b in before), links[own], "".join(f"::{a}" for a in after)


def without_query(path: str) -> str:
    """A web address without what follows the file: signed links have their signature there.

    Of an archive, and the like, the member is the file, and the signature stays.

    Examples
    --------
    >>> without_query("https://example.org/bold.nii.gz?Signature=abc")
    'https://example.org/bold.nii.gz'
    >>> without_query("simplecache::https://example.org/bold.nii.gz?Signature=abc")
    'simplecache::https://example.org/bold.nii.gz'
    """
    before, own, after = links_of(path)
    if own.lower().startswith(("http://", "https://")):
        own = own.partition("?")[0]
    return f"{before}{own}{after}"


def dataset_root(path: str) -> str:
    """The dataset's folder, by the name of a file or folder in it: what holds its ``sub-`` folder.

    Without ``sub-`` folder, the folder of the file. Works for URLs too; nothing is looked up.

    Examples
    --------
    >>> dataset_root("s3://bucket/fmriprep/sub-01/ses-a/func/sub-01_ses-a_bold.nii.gz")
    's3://bucket/fmriprep'
    >>> dataset_root("/data/flat/sub-01_bold.nii.gz")
    '/data/flat'
    """
    before, own, after = links_of(path)
    *folders, _ = own.rstrip("/").split("/")
    subjects = [i for i, f in enumerate(folders) if re.fullmatch(r"sub-[A-Za-z0-9+]+", f)]
    root = "/".join(folders[: subjects[-1]] if subjects else folders)
    return f"{before}{root or '/'}{after}"


def bids_uri(path: str, root: str | None = None, dataset: str = "") -> str:
    """A file as BIDS URI, as ``Sources`` in a sidecar has it.

    Parameters
    ----------
    path : str
        File in the dataset.
    root : str, optional
        Folder of the dataset; by default what `dataset_root` says.
    dataset : str
        Key of the dataset in ``DatasetLinks``; empty for the dataset of the sidecar itself.

    Returns
    -------
    str
        ``path`` as it is when it does not lie in ``root``.

    Examples
    --------
    >>> bids_uri("/data/fmriprep/sub-01/func/sub-01_bold.nii.gz", dataset="fmriprep")
    'bids:fmriprep:sub-01/func/sub-01_bold.nii.gz'
    """
    root = (dataset_root(path) if root is None else root).rstrip("/")
    if not path.startswith(f"{root}/"):
        return path
    return f"bids:{dataset}:{path[len(root) + 1 :]}"


def fill_pattern(pattern: str, entities: Mapping[str, Any], **more: str) -> str:
    """A path pattern with the entities of a run.

    Parameters
    ----------
    pattern : str
        ``{subject}`` (or ``{sub}``) stands for the label. What is in square brackets is left out
        when an entity in it is absent: ``sub-{subject}[_ses-{session}]_dseg.nii.gz``.
    entities : mapping of str to str or None
        By long names; a row of a table of runs.
    more
        Further names, put in as they are.

    Raises
    ------
    DaskroiError
        Brackets that do not match, a name that is not an entity, an entity that the run lacks.

    Examples
    --------
    >>> fill_pattern("anat/sub-{subject}[_ses-{session}]_dseg.nii.gz", {"subject": "01"})
    'anat/sub-01_dseg.nii.gz'
    """
    known = present(entities) | more
    if not re.fullmatch(r"(?:[^\[\]]|\[[^\[\]]*\])*", pattern):
        raise DaskroiError(
            f"pattern={pattern!r}: its square brackets do not match. Close each, and nest none."
        )
    if not re.fullmatch(r"(?:[^{}]|\{[^{}]*\})*", pattern):
        raise DaskroiError(
            f"pattern={pattern!r}: its braces do not match. Close each, and nest none."
        )

    def fill(text: str, absent: list[str]) -> str:
        def label(match: re.Match[str]) -> str:
            entity = long_name(match[1])
            if entity not in ENTITIES and entity not in more:
                raise DaskroiError(
                    f"pattern={pattern!r}: {{{match[1]}}} is not an entity. "
                    f"Use {', '.join(f'{{{e}}}' for e in ('subject', 'session', 'space'))} ..."
                )
            absent.extend([] if entity in known else [entity])
            return known.get(entity, "")

        return re.sub(r"\{([^{}]*)\}", label, text)

    def optional(match: re.Match[str]) -> str:
        absent: list[str] = []
        text = fill(match[1], absent)
        return "" if absent else text

    missing: list[str] = []
    pieces = re.split(r"(\[[^\[\]]*\])", pattern)
    filled = [
        optional(m) if (m := re.fullmatch(r"\[(.*)\]", p, re.DOTALL)) else fill(p, missing)
        for p in pieces
    ]
    if missing:
        raise DaskroiError(
            f"pattern={pattern!r}: the run has no {' and no '.join(missing)}. "
            f"Put what may be absent in square brackets: [_{short_name(missing[0])}-"
            f"{{{missing[0]}}}]."
        )
    return "".join(filled)


def natural_key(text: str) -> tuple[Any, ...]:
    """Sorts ``sub-2`` before ``sub-10``.

    Examples
    --------
    >>> sorted(["sub-10", "sub-2", "sub-02"], key=natural_key)
    ['sub-02', 'sub-2', 'sub-10']
    """
    # digits and others alternate, so that numbers are never compared with text
    pieces = re.split(r"([0-9]+)", text)
    return tuple(_size(p) if i % 2 else p for i, p in enumerate(pieces)), text


def _size(digits: str) -> tuple[int, str]:
    # sorts as the number does; Python makes no number of 5,000 digits
    digits = digits.lstrip("0")
    return len(digits), digits
