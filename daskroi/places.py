"""Where the atlas of a run lies, and where its results go: paths made of its entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from daskroi.entities import (
    OF_VOXELS,
    BidsName,
    entity_folder,
    entity_stem,
    parse_name,
    plain_name,
)
from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.listing import local_or_url
from daskroi.paths import (
    child_of,
    dataset_root,
    fill_pattern,
    printable,
    split_path,
    stem_of,
    without_query,
)
from daskroi.remote import exists
from daskroi.urls import is_url, shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["atlas_for", "output_prefixes"]


def atlas_for(
    run: Mapping[str, Any] | pd.Series,
    pattern: str,
    root: str | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> str:
    """The atlas image of one run, by a pattern over its entities.

    Parameters
    ----------
    run : mapping or Series
        A row of the table from `find_runs`.
    pattern : str
        See `daskroi.paths.fill_pattern`:
        ``anat/sub-{subject}[_ses-{session}]_space-{space}_desc-aparcaseg_dseg.nii.gz``. A
        relative one is looked up in the folder of the run's session, of its subject, and of the
        dataset; one that begins with ``{root}``, ``/`` or a protocol is taken as it is.
    root : str, optional
        Folder of the dataset; by default what holds the image's ``sub-`` folder.
    storage_options : mapping, optional
        For fsspec.

    Returns
    -------
    str
        Path or URL of a file that exists.

    Raises
    ------
    DaskroiNotFoundError
        None of the places has it; all of them are named.
    DaskroiError
        The pattern is wrong, or the run lacks an entity in it.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / "sub-01" / "anat").mkdir(parents=True)
    >>> _ = (folder / "sub-01" / "anat" / "sub-01_dseg.nii.gz").write_bytes(b"")
    >>> run = {"image": f"{folder}/sub-01/func/sub-01_bold.nii.gz", "subject": "01"}
    >>> atlas_for(run, "anat/sub-{subject}_dseg.nii.gz").removeprefix(f"{folder}/")
    'sub-01/anat/sub-01_dseg.nii.gz'
    """
    image = without_query(str(run["image"]))
    top = dataset_root(image) if root is None else local_or_url(root)
    filled = fill_pattern(pattern, dict(run), root=top)
    if filled.startswith("/") or is_url(filled):
        places = [filled]
    else:
        folders = [top]
        for entity, key in (("subject", "sub"), ("session", "ses")):
            label = run.get(entity)
            if isinstance(label, str):
                folders.append(child_of(folders[-1], f"{key}-{label}"))
        places = [child_of(folder, filled) for folder in reversed(folders)]
    for place in places:
        if exists(place, storage_options):
            return place
    raise DaskroiNotFoundError(
        f"{printable(shown(image))}: has no atlas {shown(places[0])}"
        f"{''.join(f', nor {shown(p)}' for p in places[1:])}. Check the pattern {pattern!r}."
    )


def output_prefixes(runs: pd.DataFrame) -> list[str]:
    """Where results of each run go, below the folder for results, and what their names begin with.

    Parameters
    ----------
    runs : DataFrame
        From `find_runs`. Give the whole table, not a part: what must be in a name depends on all.

    Returns
    -------
    list of str
        One per row, all different, also where case does not count. ``res-``, ``den-`` and
        ``desc-`` are left out, for results have no voxels, except where runs differ in nothing
        else.

    Raises
    ------
    DaskroiError
        Two runs would still write to the same names.

    Examples
    --------
    >>> from daskroi.cohort import find_runs
    >>> image = "sub-01_task-rest_space-T1w_res-2_desc-preproc_bold.nii.gz"
    >>> output_prefixes(find_runs([image]))
    ['sub-01/func/sub-01_task-rest_space-T1w']
    """
    images = [without_query(str(image)) for image in runs["image"]]
    names = [parse_name(split_path(image)[1]) for image in images]
    found = [_prefix(i, n, OF_VOXELS) for i, n in zip(images, names, strict=True)]
    taken = Counter(prefix.lower() for prefix in found)
    found = [
        _prefix(image, name, ()) if taken[prefix.lower()] > 1 else prefix
        for prefix, image, name in zip(found, images, names, strict=True)
    ]
    first: dict[str, str] = {}
    for prefix, image in zip(found, images, strict=True):
        other = first.setdefault(prefix.lower(), image)
        if other != image:
            raise DaskroiError(
                f"{printable(shown(image))}: its results would have the same names as those of "
                f"{printable(shown(other))}. Take one of them, or write to two folders."
            )
    return found


def _prefix(image: str, name: BidsName | None, without: Iterable[str]) -> str:
    if name is None:
        # letters of other scripts too: look-alikes, and some file systems fold them
        return plain_name(stem_of(split_path(image)[1]), ascii_only=True) or "image"
    kept = {e: label for e, label in name.entities.items() if e not in without}
    return "/".join(filter(None, (entity_folder(kept), entity_stem(kept) or name.suffix)))
