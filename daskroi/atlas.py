"""Atlases: label images, joined with their table by label id, and the door to soft atlases."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, DaskroiTypeError, brief, check_flag, warn
from daskroi.grid import Grid
from daskroi.labelimage import LabelImage, MapsImage, read_atlas_image
from daskroi.maps import MapsAtlas
from daskroi.regiontable import (
    RegionAxis,
    check_name,
    checked_labels,
    join_by_id,
    name_by_position,
    table_beside,
    with_sizes,
)
from daskroi.seeds import Seeds
from daskroi.spheres import SphereAtlas
from daskroi.templates import template_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["Atlas", "load_atlas", "load_label_atlas"]

_Any = TypeVar("_Any", bound="Atlas | MapsAtlas | SphereAtlas")


@dataclass(frozen=True, eq=False, repr=False)
class Atlas(RegionAxis):
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

    Examples
    --------
    >>> from daskroi import make_phantom
    >>> make_phantom((12, 14, 12), n_time=2, n_regions=4).atlas.ids
    array([  1, 101, 102, 201])
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

    @property
    def summary(self) -> str:
        """One line for people: regions, grid, template."""
        said = (self._counted("region"), self.grid.describe(), self.template)
        return ", ".join(filter(None, said))


def load_atlas(
    image: Any,
    lut: Any = None,
    labels: Any = None,
    background_label: int = 0,
    *,
    radius: float | None = None,
    allow_overlap: bool = True,
    name: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Atlas | MapsAtlas | SphereAtlas:
    """Load an atlas, a label image, probabilistic maps or seeds, and the names of its regions.

    Parameters
    ----------
    image : str, Path, nibabel image, DataArray, atlas, nilearn Bunch, or coordinates
        A label image (one volume, one whole number per voxel) or probabilistic maps (more than one
        volume, one per region): a path or URL to a NIfTI file, a nibabel image, a DataArray with
        dims (z, y, x) or (time, z, y, x), or what a nilearn fetcher returns (``maps``, with
        ``lut`` or else ``labels``). Seeds: an array-like (seed, 3) of mm, a DataFrame with columns
        ``x``, ``y``, ``z``, or what a nilearn fetcher of coordinates returns (``rois``). An atlas
        is returned as it is when nothing else is given.
    lut : path or DataFrame, optional
        Label table, see `read_label_table`. For a label image it is joined on ``index`` only, so
        its order is irrelevant. Regions it has and the image has not stay in the table with
        ``n_voxels`` 0 (except from a FreeSurfer colour table, which lists all structures there
        are). For maps and seeds its rows are theirs, in order. Without ``lut`` and ``labels``, the
        table beside the file is used: ``X_dseg.tsv`` for ``X_dseg.nii.gz`` (with or without its
        ``res-`` entity), ``X_dseg.tsv`` or ``X.tsv`` for ``X.nii.gz``; for maps ``probseg`` stands
        for ``dseg``. Without that, the ids are the names.
    labels : list of str or DataFrame, optional
        Names in ascending order of the ids in the image, or in the order of maps or seeds. A
        "Background" entry may be there or not; it is taken out. A table is taken as ``lut``.
    background_label : int
        Label of voxels in no region. Non-finite voxels count as background too. Maps and seeds
        have none.
    radius : float, optional
        For seeds, in mm; without it, every seed is a single voxel.
    allow_overlap : bool
        Whether maps and spheres may share voxels; if not, it is an error when they do. Spheres
        are asked when they meet an image.
    name : str, optional
        Name of the atlas; the ``atlas-`` entity or the file name without ending if not given.
    storage_options : dict, optional
        For fsspec, when paths are URLs.

    Returns
    -------
    Atlas, MapsAtlas or SphereAtlas
        Of a label image, of maps, of seeds.

    Raises
    ------
    DaskroiError
        ``lut`` and ``labels`` together; fractional labels; no label; complex or RGB voxels;
        singular affine; a damaged file; a table none of whose ids is in the image; a run, by its
        name (``_bold``) or by more than 20 volumes some seconds apart, without ``lut``, ``labels``
        or a table beside it that would say they are maps. Of maps and seeds: not as many names as
        regions; ``radius`` of what is not seeds, or not positive; seeds that are not three finite
        numbers; maps that overlap and may not.
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
    >>> import numpy as np
    >>> from daskroi import load_atlas
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
    >>> load_atlas([(0, -52, 18), (46, -68, 32)], labels=["PCC", "IPL"], radius=8)
    <SphereAtlas 'spheres': 2 spheres of radius 8 mm>
    """
    check_flag("allow_overlap", allow_overlap)
    options = {"name": name, "storage_options": storage_options, "allow_overlap": allow_overlap}
    return _load(image, lut, labels, background_label, radius, options)


def load_label_atlas(
    image: Any,
    lut: Any = None,
    labels: Any = None,
    background_label: int = 0,
    *,
    name: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Atlas:
    """`load_atlas` where only a label image will do: maps, runs and seeds are refused.

    Raises
    ------
    DaskroiError
        As `load_atlas`; more than one volume, of which no voxel is read; seeds.

    Examples
    --------
    >>> import nibabel as nib
    >>> load_label_atlas(nib.Nifti1Image(np.ones((2, 2, 2), "u1"), np.eye(4))).names
    ['1']
    """
    options = {"name": name, "storage_options": storage_options, "allow_overlap": True}
    atlas = _load(image, lut, labels, background_label, None, options, maps=False)
    if not isinstance(atlas, Atlas):
        raise DaskroiTypeError(
            f"A {type(atlas).__name__} was given where only a label image will do. Give the label "
            "image of the atlas (dseg, maxprob)."
        )
    return atlas


def _load(
    image: Any,
    lut: Any,
    labels: Any,
    background_label: int,
    radius: float | None,
    options: dict[str, Any],
    *,
    maps: bool = True,
) -> Atlas | MapsAtlas | SphereAtlas:
    from dask.delayed import Delayed

    if hasattr(labels, "columns") or getattr(getattr(labels, "dtype", None), "names", None):
        import pandas as pd

        lut, labels = _one_of(lut, pd.DataFrame(labels)), None
    labels = checked_labels(labels)
    check_name(options["name"])
    _one_of(lut, labels or None)
    background = _checked_background(background_label)
    if isinstance(image, Delayed):  # it has whatever one asks it for, maps without end
        raise DaskroiTypeError("The atlas is Delayed, and is needed now. Call compute() first.")
    if (inner := _field(image, "maps")) is not None:
        if lut is None and not labels:
            lut = _field(image, "lut")
            labels = _field(image, "labels") if lut is None else []
        atlas = _load(inner, lut, labels, background, radius, options, maps=maps)
        return _in_template(atlas, image)
    seeds = None if isinstance(image, RegionAxis) else Seeds.read(image)
    if background and (seeds or isinstance(image, MapsAtlas | SphereAtlas)):
        raise _no_background(background)
    if seeds is not None:
        if radius is None and seeds.radii:
            warn(
                f"seeds: the column 'radius' ({', '.join(map(str, seeds.radii[:3]))}) is not used, "
                f"every seed is a single voxel. Give one for all: radius={seeds.radii[0]}."
            )
        if lut is None and not labels and _field(image, "rois") is not None:
            labels = checked_labels(_field(image, "labels"))
        return _in_template(SphereAtlas.make(seeds, radius, lut, labels, **options), image)
    if isinstance(image, SphereAtlas):
        return image.changed(radius, lut, labels, **options)
    if radius is not None:
        raise DaskroiError(
            f"radius={radius!r} is for seeds, not for an image. Leave it out, or give coordinates."
        )
    if isinstance(image, MapsAtlas):
        return image.changed(lut, labels, **options)
    name, storage_options = options["name"], options["storage_options"]
    if isinstance(image, Atlas):
        return _changed(image, lut, labels, background, name, storage_options)

    def table(kind: str) -> Any:
        if lut is not None or labels or not isinstance(image, str | os.PathLike):
            return lut
        return table_beside(os.fspath(image), kind, storage_options)

    def named() -> bool:
        return bool(labels) or table("probseg") is not None

    read = read_atlas_image(image, storage_options, maps=maps, named=named)
    lut = table("probseg" if isinstance(read, MapsImage) else "dseg")
    if isinstance(read, LabelImage):
        return _of_labels(read, lut, labels, background, name, storage_options)
    if background:
        raise _no_background(background)
    return MapsAtlas.make(read, lut, labels, **options)


def _one_of(lut: Any, labels: Any) -> Any:
    if lut is not None and labels is not None:
        raise DaskroiError("lut and labels are both given. Give one: both say the regions' names.")
    return labels if lut is None else lut


def _no_background(label: int) -> DaskroiError:
    return DaskroiError(
        f"background_label={label} is for label images: maps and seeds have none. Leave it out."
    )


def _changed(
    atlas: Atlas,
    lut: Any,
    labels: list[str],
    background: int,
    name: str | None,
    storage_options: dict[str, Any] | None,
) -> Atlas:
    """An atlas with other names or another background; itself when nothing changes."""
    if lut is None and not labels:
        if background in (0, atlas.background_label):
            return replace(atlas, name=name) if name and name != atlas.name else atlas
        lut = atlas.table
    said = atlas.name, atlas.name, atlas.source, atlas.template
    read = LabelImage(atlas.labels, atlas.grid, *said)
    background = background or atlas.background_label
    return _of_labels(read, lut, labels, background, name, storage_options)


def _of_labels(
    read: LabelImage,
    lut: Any,
    labels: list[str],
    background: int,
    name: str | None,
    storage_options: dict[str, Any] | None,
) -> Atlas:
    values = read.labels(background)
    found, counts = np.unique(values, return_counts=True)
    sizes = {int(i): int(n) for i, n in zip(found, counts, strict=True) if i != background}
    if not sizes:
        raise DaskroiError(
            f"{read.culprit}: contains no label, every voxel is background ({background}). Check "
            "the file and background_label."
        )
    if lut is not None:
        rows = join_by_id(lut, sizes, background, read.culprit, storage_options)
    else:
        rows = name_by_position(sizes, labels, background, read.culprit)
    voxels = [sizes.get(int(i), 0) for i in rows["index"]]
    total = sum(voxels)
    computed = {
        "n_voxels": np.array(voxels, dtype=np.int64),
        # 6 decimals: the determinant of an affine carries rounding (7.999999999999998)
        "size_mm3": [round(n * read.grid.voxel_volume, 6) for n in voxels],
        # Python's round, as in nilearn's report: NumPy's differs in the last digit at times
        "relative_size_percent": [round(n / total * 100, 2) for n in voxels],
    }
    table = with_sizes(rows, computed)
    return Atlas(
        name or read.name, values, read.grid, background, table, read.source, read.template
    )


def _field(image: Any, key: str) -> Any:
    """Field of a nilearn Bunch or anything like it, else None."""
    if isinstance(image, Mapping):
        return image.get(key)
    return getattr(image, key, None)


def _in_template(atlas: _Any, bunch: Any) -> _Any:
    said = _field(bunch, "template")
    # nilearn says "MNI?" where it does not know
    known = template_of(said) if isinstance(said, str) else None
    return replace(atlas, template=known) if known else atlas


def _checked_background(label: Any) -> int:
    with suppress(TypeError, ValueError, OverflowError):
        whole = int(label)
        if whole == label and not isinstance(label, bool) and abs(whole) < 2**63:
            return whole
    raise DaskroiTypeError(
        f"background_label={brief(label)} is not a whole number. Use 0, or an id."
    )
