"""Label images: from whatever they come as to whole numbers on a grid."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.grid import Grid
from daskroi.labeltable import local_file
from daskroi.templates import template_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["LabelImage", "as_labels", "read_label_image", "stem_of"]


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


def read_label_image(image: Any, storage_options: dict[str, Any] | None = None) -> LabelImage:
    """Read voxels and grid of a label image.

    Parameters
    ----------
    image : str, Path, nibabel image, or DataArray with dims (z, y, x)
        A path may be a URL. Trailing axes of length one are dropped.
    storage_options : dict, optional
        For fsspec.

    Returns
    -------
    LabelImage
        Values as stored: integers stay what they are.

    Raises
    ------
    DaskroiError
        Not an image, damaged, more than one volume, complex or RGB, singular affine.

    Examples
    --------
    >>> import nibabel as nib
    >>> image = nib.Nifti1Image(np.ones((4, 5, 6, 1), "u1"), np.eye(4))
    >>> read_label_image(image).values.shape
    (6, 5, 4)
    """
    import xarray as xr

    if isinstance(image, xr.DataArray):
        return _read_array(image)
    if isinstance(image, str | os.PathLike):
        with local_file(image, storage_options) as local:
            read = _read_file(local, None)
        remote = "://" in os.fspath(image)
        return replace(read, source=os.fspath(image), culprit=os.fspath(image)) if remote else read
    if hasattr(image, "dataobj") and hasattr(image, "header"):
        return _read_file(image, image.header)
    raise DaskroiTypeError(
        f"A label image cannot be read from {type(image).__name__}. Give a path, a nibabel image, "
        "a DataArray, an Atlas, or what a nilearn fetcher returns (with 'maps')."
    )


def _read_file(image: Any, header: Any) -> LabelImage:
    from daskroi.openimage import as_file

    file = as_file(image)
    if file is None:  # a nibabel image in memory
        culprit = image.get_filename() or "the label image"
        stored = _single_volume(np.asanyarray(image.dataobj).T, culprit)
        grid = Grid.make(stored.shape, image.affine, culprit)
        source = image.get_filename()
        name = _short_name(source) if source else "atlas"
        return LabelImage(stored, grid, name, culprit, source, template_of(source or "", header))
    url = file.source.url
    if file.frames > 1:
        raise _not_single(url, file.frames)
    # slabs, not read: front to back, the inflater compares the checksum at the end
    (stored,) = [slab.reshape(file.grid.shape).copy() for _, slab in file.slabs(1)]
    template = template_of(url, header if header is not None else file.description)
    return LabelImage(
        stored, file.grid, _short_name(url), url, url, template, file.slope, file.inter
    )


def _read_array(image: xr.DataArray) -> LabelImage:
    from daskroi.image import SPACE, TIME, grid_of

    grid = grid_of(image)
    culprit = str(image.name or "the label image")
    frames = image.sizes.get(TIME, 1)
    if extra := [d for d in image.dims if d not in (*SPACE, TIME)]:
        raise DaskroiError(
            f"{culprit}: has dims {image.dims}, a label image (z, y, x). Select along "
            f"{', '.join(map(repr, extra))} first."
        )
    if frames != 1:
        raise _not_single(culprit, frames)
    volume = image.isel({TIME: 0}) if TIME in image.dims else image
    values = _single_volume(np.asarray(volume.transpose(*SPACE).data), culprit)
    source = image.attrs.get("source")
    named = template_of(str(image.name or "")) or (template_of(source) if source else None)
    return LabelImage(values, grid, str(image.name or "atlas"), culprit, source, named)


def _single_volume(values: NDArray[Any], culprit: str) -> NDArray[Any]:
    """Drop extra axes of length one; refuse what then is not one volume of real numbers."""
    if values.dtype.kind not in "biuf":
        raise DaskroiError(
            f"{culprit}: holds {values.dtype} voxels; labels are whole numbers. Save them as int32."
        )
    while values.ndim > 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim > 3:
        raise _not_single(culprit, int(np.prod(values.shape[:-3])))
    if values.ndim < 3 or values.size == 0:
        raise DaskroiError(
            f"{culprit}: has shape {values.shape[::-1]}, a label image is 3D and not empty. Check "
            "the file."
        )
    return values


def _not_single(culprit: str, volumes: int) -> DaskroiError:
    return DaskroiError(
        f"{culprit}: has {volumes} volumes, a label image has one. Give the label image of the "
        "atlas (dseg, maxprob), not the probabilistic maps or a run."
    )


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
    base = stem_of(url.replace("\\", "/").rsplit("/", 1)[-1])
    entity = re.search(r"(?:^|_)atlas-([A-Za-z0-9+]+)", base)
    return entity[1] if entity else base


def stem_of(url: str) -> str:
    """Path or name without the ending of an image file.

    Examples
    --------
    >>> stem_of("atlas-AAL_dseg.nii.gz")
    'atlas-AAL_dseg'
    """
    return re.sub(r"\.(nii|nii\.gz|mgz|mgh|hdr|img|img\.gz)$", "", url)
