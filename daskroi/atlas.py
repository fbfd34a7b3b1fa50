"""Atlases: a label image and the table of its regions, joined by label id and nothing else."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, DaskroiTypeError, warn
from daskroi.grid import Grid
from daskroi.labelimage import LabelImage, read_label_image, stem_of
from daskroi.labeltable import read_label_table, some
from daskroi.templates import template_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["Atlas", "load_atlas"]

_COMPUTED = ("n_voxels", "size_mm3", "relative_size_percent")


@dataclass(frozen=True, eq=False, repr=False)
class Atlas:
    """A label image with its region table. Made by `load_atlas`.

    Parameters
    ----------
    name : str
        Short name, for column headers and file names.
    labels : ndarray of int32 or int64, dims (z, y, x)
        Label of each voxel, C order, read-only.
    grid : Grid
        Place of the voxels.
    background_label : int
        Label of voxels in no region.
    table : DataFrame
        The region axis: one row per region in ascending ``index``, without the background.
        Columns ``index``, ``name``, ``n_voxels``, ``size_mm3`` (mm³), ``relative_size_percent``
        (of all labelled voxels, 2 decimals), then what else the label table had. Regions that only
        the label table knows have ``n_voxels`` 0.
    source : str or None
        Path or URL of the image.
    template : str or None
        Template the atlas says it is in (see `template_of`).

    Notes
    -----
    Two atlases are equal when their ``hash`` is: same labels, grid, background, ids and names.
    """

    name: str
    labels: NDArray[Any]
    grid: Grid
    background_label: int
    table: pd.DataFrame
    source: str | None = None
    template: str | None = None

    def __post_init__(self) -> None:
        # the hash is kept, so the voxels must not change after it
        self.labels.setflags(write=False)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Label ids of the regions, ascending: the values of the region axis."""
        return self.table["index"].to_numpy(dtype=np.int64)

    @property
    def names(self) -> list[str]:
        """Region names in the order of ``ids``."""
        return [str(n) for n in self.table["name"]]

    @property
    def image(self) -> xr.DataArray:
        """Label image as a DataArray with dims (z, y, x); shares the voxels."""
        from daskroi.image import make_image

        return make_image(self.labels, self.grid, name=self.name)

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of labels, grid, background label, region ids and names."""
        digest = hashlib.sha256(repr((self.grid, self.background_label, self.names)).encode())
        digest.update(self.ids.astype("<i8").tobytes())
        # little-endian and of one width, so that the hash is the same on every machine
        for plane in self.labels:
            digest.update(plane.astype("<i8").tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return self.hash == other.hash if isinstance(other, Atlas) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.hash)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return "daskroi.Atlas", self.hash

    def _summary(self) -> str:
        empty = int((self.table["n_voxels"] == 0).sum())
        regions = f"{len(self.table)} region{'s' if len(self.table) != 1 else ''}"
        if empty:
            regions += f" ({empty} without voxels)"
        return ", ".join(filter(None, (regions, self.grid.describe(), self.template)))

    def __repr__(self) -> str:
        return f"<Atlas {self.name!r}: {self._summary()}>"

    def _repr_html_(self) -> str:
        rows = self.table.to_html(index=False, max_rows=20)
        return f"<b>Atlas {escape(self.name)}</b>: {escape(self._summary())}{rows}"


def load_atlas(
    image: Any,
    lut: Any = None,
    labels: Sequence[str] | None = None,
    background_label: int = 0,
    *,
    name: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Atlas:
    """Load a label image and the names of its regions.

    Parameters
    ----------
    image : str, Path, nibabel image, DataArray, Atlas, or nilearn Bunch
        Label image: one whole number per voxel. A path or URL to a NIfTI file, a nibabel image, a
        DataArray with dims (z, y, x), or what a nilearn fetcher returns (``maps``, with ``lut`` or
        else ``labels``). An `Atlas` is returned as it is when nothing else is given.
    lut : path or DataFrame, optional
        Label table, see `read_label_table`; joined on ``index`` only, so its order is irrelevant.
        Regions it has and the image has not stay in the table with ``n_voxels`` 0 (except from a
        FreeSurfer colour table, which lists all structures there are). Without ``lut`` and
        ``labels``, the table beside the file is used: ``X_dseg.tsv`` for ``X_dseg.nii.gz`` (with
        or without its ``res-`` entity), ``X_dseg.tsv`` or ``X.tsv`` for ``X.nii.gz``. Without
        that, the ids are the names.
    labels : list of str, optional
        Names in ascending order of the ids in the image. A "Background" entry may be there or not;
        it is taken out.
    background_label : int
        Label of voxels in no region. Non-finite voxels count as background too.
    name : str, optional
        Name of the atlas; the ``atlas-`` entity or the file name without ending if not given.
    storage_options : dict, optional
        For fsspec, when paths are URLs.

    Returns
    -------
    Atlas

    Raises
    ------
    DaskroiError
        ``lut`` and ``labels`` together; fractional labels; no label; more than one volume; complex
        or RGB voxels; singular affine; a damaged file; a table none of whose ids is in the image.
    DaskroiNotFoundError
        No such file.

    Warns
    -----
    DaskroiWarning
        The table lacks ids of the image (named "unknown"); ``labels`` is too long (the rest is
        dropped), too short (the rest is "unknown"), or has "Background" in an odd place.

    Notes
    -----
    ``relative_size_percent`` is as in nilearn's report; ``size_mm3`` too, but for not being rounded
    to whole mm³. nilearn reads a "Background" entry as the name of whatever value stands at its
    place, so that a misplaced one renames regions; here it never does.

    Examples
    --------
    >>> import nibabel as nib
    >>> values = np.zeros((4, 4, 4), "u1")
    >>> values[0], values[1, 0] = 3, 7
    >>> atlas = load_atlas(nib.Nifti1Image(values, np.diag([2.0, 2, 2, 1])), labels=["V1", "V2"])
    >>> atlas
    <Atlas 'atlas': 2 regions, 4 x 4 x 4 voxels of 2 x 2 x 2 mm, origin (0, 0, 0) mm>
    >>> atlas.table
       index name  n_voxels  size_mm3  relative_size_percent
    0      3   V1        16     128.0                   80.0
    1      7   V2         4      32.0                   20.0
    """
    labels = _checked_labels(labels)
    if lut is not None and labels:
        raise DaskroiError("lut and labels are both given. Give one: both say the regions' names.")
    background = _checked_background(background_label)
    if _maps(image) is not None:
        return _from_bunch(image, lut, labels, background, name, storage_options)
    if isinstance(image, Atlas):
        if lut is None and not labels and background in (0, image.background_label):
            return replace(image, name=name) if name and name != image.name else image
        background = background or image.background_label
        if lut is None and not labels:
            lut = image.table
    if isinstance(image, Atlas):
        source, template = image.source, image.template
        read = LabelImage(image.labels, image.grid, image.name, image.name, source, template)
    else:
        read = read_label_image(image, storage_options)
    values = read.labels(background)
    found, counts = np.unique(values, return_counts=True)
    sizes = {int(i): int(n) for i, n in zip(found, counts, strict=True) if i != background}
    if not sizes:
        raise DaskroiError(
            f"{read.culprit}: contains no label, every voxel is background ({background}). Check "
            "the file and background_label."
        )
    if lut is None and not labels and isinstance(image, str | os.PathLike):
        lut = _table_beside(os.fspath(image), storage_options)
    if lut is not None:
        table = read_label_table(lut, storage_options=storage_options)
        origin = os.fspath(lut) if isinstance(lut, str | os.PathLike) else "lut"
        regions = _join(table, sizes, background, read.culprit, origin)
    else:
        regions = _named(sizes, labels, background, read.culprit)
    return Atlas(
        name or read.name,
        values,
        read.grid,
        background,
        _with_sizes(regions, sizes, read.grid.voxel_volume),
        read.source,
        read.template,
    )


def _maps(image: Any) -> Any:
    """`maps` of a nilearn Bunch or anything like it, else None."""
    if isinstance(image, Mapping):
        return image.get("maps")
    return getattr(image, "maps", None)


def _from_bunch(
    bunch: Any,
    lut: Any,
    labels: list[str],
    background: int,
    name: str | None,
    storage_options: dict[str, Any] | None,
) -> Atlas:
    get = bunch.get if isinstance(bunch, Mapping) else lambda key: getattr(bunch, key, None)
    if lut is None and not labels:
        lut = get("lut")
        labels = _checked_labels(get("labels")) if lut is None else []
    atlas = load_atlas(
        get("maps"), lut, labels, background, name=name, storage_options=storage_options
    )
    said = get("template")
    # nilearn says "MNI?" where it does not know
    known = template_of(said) if isinstance(said, str) else None
    return replace(atlas, template=known) if known else atlas


def _checked_labels(labels: Any) -> list[str]:
    if labels is None:
        return []
    if isinstance(labels, str | bytes | Mapping) or not isinstance(labels, Iterable):
        raise DaskroiTypeError(
            f"labels must be a list of str, one name per region, not {type(labels).__name__}."
        )
    # older nilearn fetchers give bytes
    names = [n.decode() if isinstance(n, bytes) else n for n in labels]
    if bad := [n for n in names if not isinstance(n, str)]:
        raise DaskroiTypeError(f"labels must be a list of str; these are not: {some(bad)}.")
    return [str(n) for n in names]


def _checked_background(label: Any) -> int:
    try:
        whole = int(label)
        if whole == label:
            return whole
    except (TypeError, ValueError, OverflowError):
        pass
    raise DaskroiTypeError(f"background_label={label!r} is not a whole number. Use 0, or an id.")


def _table_beside(url: str, storage_options: dict[str, Any] | None) -> str | None:
    """Path of the label table that belongs to an image by its name, if it is there."""
    stem = stem_of(url)
    stems = [stem, re.sub(r"_res-[A-Za-z0-9]+(?=_)", "", stem)]  # BIDS: one table for all res
    endings = [".tsv"] if stem.endswith("_dseg") else ["_dseg.tsv", ".tsv"]
    candidates = list(dict.fromkeys(s + e for s in stems for e in endings))
    if "://" not in url:
        # lexists: a git-annex link without its content must fail by name, not be passed over
        return next((c for c in candidates if os.path.lexists(os.path.expanduser(c))), None)
    import fsspec

    filesystem, _ = fsspec.url_to_fs(url, **(storage_options or {}))
    return next((c for c in candidates if filesystem.exists(c)), None)


def _named(sizes: dict[int, int], labels: list[str], background: int, culprit: str) -> pd.DataFrame:
    """Names by position over the sorted ids, or the ids themselves."""
    import pandas as pd

    ids = sorted(sizes)
    if not labels:
        return pd.DataFrame({"index": ids, "name": [str(i) for i in ids]})
    names = list(labels)
    entry = next((i for i, n in enumerate(names) if n in ("Background", "background")), None)
    if entry is not None:
        del names[entry]
        place = sum(i < background for i in ids)
        if entry != place:
            warn(
                f"labels: 'Background' is at position {entry}, but the background ({background}) "
                f"comes at {place} among the label values of {culprit}. It was taken out and the "
                "other names go to the regions in ascending id; check that they fit, or give lut."
            )
    if len(names) > len(ids):
        warn(
            f"labels: {len(names)} names for the {len(ids)} regions of {culprit}; these were "
            f"dropped: {some(names[len(ids) :])}. Names go by position; give lut to join by id."
        )
    elif len(names) < len(ids):
        warn(
            f"labels: {len(names)} names for the {len(ids)} regions of {culprit}; these are "
            f"'unknown': {some(ids[len(names) :])}. Names go by position; give lut to join by id."
        )
    names = (names + ["unknown"] * len(ids))[: len(ids)]
    return pd.DataFrame({"index": ids, "name": names})


def _join(
    table: pd.DataFrame, sizes: dict[int, int], background: int, culprit: str, origin: str
) -> pd.DataFrame:
    """Regions of image and table together, in ascending id; names by id."""
    dictionary = table.attrs["format"] == "freesurfer"
    table = table[table["index"] != background]
    table = table.drop(columns=[c for c in _COMPUTED if c in table.columns])
    known = {int(i) for i in table["index"]}
    if not known & set(sizes):
        raise DaskroiError(
            f"{origin}: none of its ids ({some(sorted(known))}) is in {culprit} "
            f"({some(sorted(sizes))}). Give the table that belongs to this image."
        )
    if unknown := sorted(set(sizes) - known):
        warn(
            f"{origin}: has no row for these labels of {culprit}: {some(unknown, 20)}. They are "
            "named 'unknown'; complete the table, or check that it belongs to this image."
        )
    ids = sorted(sizes if dictionary else known | set(sizes))
    joined = table.set_index("index").reindex(ids)
    joined["name"] = joined["name"].fillna("unknown")
    return joined.rename_axis("index").reset_index()


def _with_sizes(regions: pd.DataFrame, sizes: dict[int, int], voxel_volume: float) -> pd.DataFrame:
    voxels = [sizes.get(int(i), 0) for i in regions["index"]]
    total = sum(sizes.values())
    extra = regions.drop(columns=["index", "name"])
    table = regions[["index", "name"]].copy()
    table["n_voxels"] = np.array(voxels, dtype=np.int64)
    # 6 decimals: the determinant of an affine carries rounding (7.999999999999998)
    table["size_mm3"] = [round(n * voxel_volume, 6) for n in voxels]
    # Python's round, as in nilearn's report: NumPy's differs in the last digit at times
    table["relative_size_percent"] = [round(n / total * 100, 2) for n in voxels]
    for column in extra.columns:
        table[column] = extra[column].to_numpy()
    table["index"] = table["index"].astype(np.int64)
    table.attrs = {}
    return table
