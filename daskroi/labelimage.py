"""Atlas images: from whatever they come as to labels or sparse maps on a grid."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.entities import atlas_of
from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.grid import Grid
from daskroi.paths import name_of, stem_of
from daskroi.regions import RegionIndex
from daskroi.templates import template_of

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.imagefile import ImageFile

# of a run: fewer volumes that are some seconds apart may well be maps
MANY = 20

# given culprit, number of volumes and s between them
Check = Callable[[str, int, float | None], None]

__all__ = [
    "LabelImage",
    "MapsImage",
    "as_labels",
    "read_atlas_image",
    "run_like",
    "sparse_maps",
]


@dataclass(frozen=True)
class LabelImage:
    """A label image as it was read, with what its file says about it.

    Parameters
    ----------
    values : ndarray, dims (z, y, x)
        As stored; label = slope * stored + inter.
    grid : Grid
    name : str
        The ``atlas-`` entity of the file name, else the name without ending.
    culprit : str
        What error messages call it.
    source, template : str or None
        Path or URL; the template it says it is in.
    slope, inter : float
        Scaling of the values.
    """

    values: NDArray[Any]
    grid: Grid
    name: str
    culprit: str
    source: str | None = None
    template: str | None = None
    slope: float = 1.0
    inter: float = 0.0

    def labels(self, background_label: int = 0) -> NDArray[Any]:
        """Labels as whole numbers, see `as_labels`."""
        return as_labels(
            self.values, background_label, self.culprit, slope=self.slope, intercept=self.inter
        )


@dataclass(frozen=True)
class MapsImage:
    """A 4D image of maps as it was read: like `LabelImage`, with sparse maps for values.

    Parameters
    ----------
    index : RegionIndex
        See `sparse_maps`.
    grid, name, culprit, source, template
        As in `LabelImage`.
    """

    index: RegionIndex
    grid: Grid
    name: str
    culprit: str
    source: str | None = None
    template: str | None = None


def read_atlas_image(
    image: Any,
    storage_options: dict[str, Any] | None = None,
    *,
    maps: bool = True,
    named: Callable[[], bool] = lambda: False,
) -> LabelImage | MapsImage:
    """Read voxels and grid of an atlas: labels if it has one volume, maps if it has more.

    Parameters
    ----------
    image : str, Path, nibabel image, or DataArray with dims (z, y, x) or (time, z, y, x)
        A path may be a URL. Trailing axes of length one are dropped.
    storage_options : dict, optional
        For fsspec.
    maps : bool
        Whether more than one volume is allowed.
    named : function
        Whether there are names for the volumes: then they are maps, even if they look like a run.

    Returns
    -------
    LabelImage or MapsImage
        Labels as stored: integers stay what they are. Maps with scaling applied, read volume by
        volume.

    Raises
    ------
    DaskroiError
        Not an image, damaged, complex or RGB, singular affine; more than one volume where that is
        not allowed; a run without ``named``, of which no voxel is read.

    Examples
    --------
    >>> import nibabel as nib
    >>> image = nib.Nifti1Image(np.ones((4, 5, 6, 1), "u1"), np.eye(4))
    >>> read_atlas_image(image).values.shape
    (6, 5, 4)
    >>> image = nib.Nifti1Image(np.ones((4, 5, 6, 2), "u1"), np.eye(4))
    >>> read_atlas_image(image).index.counts
    array([120, 120])
    """
    import xarray as xr

    def check(culprit: str, volumes: int, t_r: float | None) -> None:
        if not maps:
            raise DaskroiError(
                f"{culprit}: has {volumes} volumes, a label image has one. Give the label image of "
                "the atlas (dseg, maxprob), not the probabilistic maps or a run."
            )
        if (why := run_like(culprit, volumes, t_r)) and not named():
            raise DaskroiError(
                f"{culprit}: looks like a run, not an atlas ({why}). Give an atlas, or, if these "
                "are maps, their names as well (lut or labels)."
            )

    if isinstance(image, xr.DataArray):
        return _read_array(image, check)
    if isinstance(image, str | os.PathLike):
        return _read_file(image, None, check, storage_options)
    if hasattr(image, "dataobj") and hasattr(image, "header"):
        return _read_file(image, image.header, check)
    raise DaskroiTypeError(
        f"An atlas cannot be read from {type(image).__name__}. Give a path, a nibabel image, a "
        "DataArray, an Atlas, coordinates (seed, 3) in mm, or what a nilearn fetcher returns (with "
        "'maps' or 'rois')."
    )


def sparse_maps(volumes: Iterable[NDArray[Any]], shape: tuple[int, int, int]) -> RegionIndex:
    """Non-zero voxels of maps with their values; what is not finite counts as 0.

    Parameters
    ----------
    volumes : iterable of ndarray, dims (z, y, x)
        One map after another: only one is held at a time.
    shape : tuple of 3 int
        (z, y, x).

    Examples
    --------
    >>> index = sparse_maps(np.array([[[[0.0, 0.5]]], [[[np.nan, -2.0]]]]), (1, 1, 2))
    >>> index.voxels, index.counts, index.weights
    (array([1, 1]), array([1, 1]), array([ 0.5, -2. ]))
    """
    # int32 and the dtype of the file until all are there: half the memory
    voxels: list[NDArray[np.int32]] = []
    weights: list[NDArray[Any]] = []
    for volume in volumes:
        flat = volume.ravel()
        there = np.flatnonzero(flat)
        values = flat[there]
        finite = np.isfinite(values)
        voxels.append(there[finite].astype(np.int32))
        weights.append(values[finite])
    return RegionIndex.of_rows(voxels, shape, weights)


def _read_file(
    image: Any, header: Any, check: Check, storage_options: dict[str, Any] | None = None
) -> LabelImage | MapsImage:
    from daskroi.nifti import sidecar_beside, sidecar_t_r
    from daskroi.openimage import as_file
    from daskroi.repetition import choose_t_r, header_t_r

    file = as_file(image, storage_options)
    if file is None:  # a nibabel image in memory
        culprit = image.get_filename() or "the atlas image"
        stored = _volumes(np.asanyarray(image.dataobj).T, culprit)
        grid = Grid.make(stored.shape[-3:], image.affine, culprit)
        source = image.get_filename()
        if stored.ndim == 4:
            said = sidecar_t_r(sidecar_beside(source or ""))
            check(culprit, len(stored), choose_t_r(culprit, said, header_t_r(header)).seconds)
        named = _short_name(source) if source else "atlas", culprit, source
        return _labels_or_maps(stored, grid, *named, template_of(source or "", header))
    url = file.url
    template = template_of(url, header if header is not None else file.description)
    if file.frames > 1:
        check(url, file.frames, file.repetition.seconds)
        index = sparse_maps(_physical(file), file.grid.shape)
        return MapsImage(index, file.grid, _short_name(url), url, url, template)
    # slabs, not read: front to back, the inflater compares the checksum at the end
    (stored,) = [slab.reshape(file.grid.shape).copy() for _, slab in file.slabs(1)]
    return LabelImage(
        stored, file.grid, _short_name(url), url, url, template, file.slope, file.inter
    )


def _physical(file: ImageFile) -> Iterator[NDArray[Any]]:
    """Volumes of a file front to back, scaled."""
    for _, slab in file.slabs(1):
        yield slab[0] * np.float64(file.slope) + file.inter if file.scaled else slab[0]


def _read_array(image: xr.DataArray, check: Check) -> LabelImage | MapsImage:
    from daskroi.image import SPACE, TIME, grid_of, repetition_of
    from daskroi.openimage import as_stored_file, values_of

    grid = grid_of(image)
    culprit = str(image.name or "the atlas image")
    frames = image.sizes.get(TIME, 1)
    if extra := [d for d in image.dims if d not in (*SPACE, TIME)]:
        raise DaskroiError(
            f"{culprit}: has dims {image.dims}, an atlas (z, y, x), or (time, z, y, x) with a map "
            f"per frame. Select along {', '.join(map(repr, extra))} first."
        )
    source = image.attrs.get("source")
    name = str(image.name or "atlas")
    template = template_of(str(image.name or "")) or (template_of(source) if source else None)
    if frames == 1:
        read = image.copy(data=values_of(image))
        volume = read.isel({TIME: 0}) if TIME in image.dims else read
        values = np.asarray(volume.transpose(*SPACE).data)
        return _labels_or_maps(_volumes(values, culprit), grid, name, culprit, source, template)
    check(str(source or culprit), frames, repetition_of(image).seconds)
    file = as_stored_file(image)
    # of a file front to back: chunks of a .nii.gz are dear out of order
    volumes = _physical(file) if file else _blocks(image.transpose(TIME, *SPACE), culprit)
    return MapsImage(sparse_maps(volumes, grid.shape), grid, name, culprit, source, template)


def _blocks(image: xr.DataArray, culprit: str) -> Iterator[NDArray[Any]]:
    """Volumes of a DataArray, computed chunk by chunk."""
    starts = np.cumsum([0, *image.chunksizes.get("time", (len(image),))])
    for start, stop in pairwise(starts.tolist()):
        for volume in np.asarray(image[start:stop].data):
            yield _volumes(volume, culprit)


def _labels_or_maps(
    values: NDArray[Any],
    grid: Grid,
    name: str,
    culprit: str,
    source: str | None,
    template: str | None,
) -> LabelImage | MapsImage:
    if values.ndim == 3:
        return LabelImage(values, grid, name, culprit, source, template)
    return MapsImage(sparse_maps(values, grid.shape), grid, name, culprit, source, template)


def _volumes(values: NDArray[Any], culprit: str) -> NDArray[Any]:
    """Drop extra axes of length one; refuse what then is not one or more real volumes."""
    if values.dtype.kind not in "biuf":
        raise DaskroiError(
            f"{culprit}: holds {values.dtype} voxels; labels are whole numbers and maps real ones. "
            "Save them as int32 or float32."
        )
    while values.ndim > 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim not in (3, 4) or values.size == 0:
        raise DaskroiError(
            f"{culprit}: has shape {values.shape[::-1]}, a label image is 3D, an image of maps 4D, "
            "and neither is empty. Check the file."
        )
    return values


def run_like(culprit: str, volumes: int, t_r: float | None) -> str:
    """Why an image is a run rather than maps or a mask; empty if nothing says so."""
    if stem_of(culprit).endswith("_bold"):
        return "its name ends in _bold"
    # 1 s is what tools write that stack maps, such as fslmerge
    if volumes > MANY and t_r not in (None, 1):
        return f"{volumes} volumes, {t_r:g} s apart"
    return ""


def as_labels(
    values: NDArray[Any],
    background_label: int = 0,
    culprit: str = "label image",
    *,
    slope: float = 1.0,
    intercept: float = 0.0,
) -> NDArray[Any]:
    """Turn stored voxels into labels: whole numbers, in int32 where they fit, else int64.

    Parameters
    ----------
    values : ndarray, dims (z, y, x)
        As stored. Floats are looked at plane by plane, so there is no second copy of the image.
    background_label : int
        What non-finite voxels become.
    culprit : str
        For error messages.
    slope, intercept : float
        Label = slope * stored + intercept.

    Returns
    -------
    ndarray of int32 or int64, dims (z, y, x), C order
        A copy.

    Raises
    ------
    DaskroiError
        Some labels are fractional (a few are listed) or do not fit int64.

    Examples
    --------
    >>> as_labels(np.array([[[1.0, np.nan, 3.0]]]))
    array([[[1, 0, 3]]], dtype=int32)
    """
    scaled = (slope, intercept) != (1.0, 0.0)
    # scl_slope is a float32: 30 * 0.1 comes out as 3.00000004
    tolerance = 1e-6 if scaled else 0.0

    def planes() -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
        for plane in values:
            plane = plane.astype(np.float64) * slope + intercept if scaled else plane
            finite = np.isfinite(plane)
            yield np.where(finite, plane, 0), finite

    low = high = background_label
    fractional: set[float] = set()
    for plane, finite in planes():
        if not finite.any():
            continue
        if plane.dtype.kind == "f":
            off = np.abs(plane - np.rint(plane)) > tolerance * np.maximum(np.abs(plane), 1)
            fractional.update(np.unique(plane[off])[:10].tolist())
            if len(fractional) > 10:
                break
        low = min(low, int(plane[finite].min()))
        high = max(high, int(plane[finite].max()))
    if fractional:
        raise DaskroiError(
            f"{culprit}: labels must be whole numbers, but there are "
            f"{', '.join(f'{v:.6g}' for v in sorted(fractional)[:5])}, … Resample label images by "
            "nearest neighbour; a probability map is not a label image."
        )
    if low < -(2**63) or high >= 2**63:
        raise DaskroiError(
            f"{culprit}: labels from {low} to {high} do not fit 64-bit integers. Renumber them."
        )
    fits = low >= np.iinfo(np.int32).min and high <= np.iinfo(np.int32).max
    labels = np.empty(values.shape, np.int32 if fits else np.int64)
    for out, (plane, finite) in zip(labels, planes(), strict=True):
        out[...] = np.rint(plane) if plane.dtype.kind == "f" else plane
        out[~finite] = background_label
    return labels


def _short_name(url: str) -> str:
    return atlas_of(stem_of(name_of(url.replace("\\", "/"))))
