"""An image as a labelled DataArray: its dimension names, and how geometry and TR travel on it.

Voxel indices of the file are the ``z``, ``y``, ``x`` coordinates and the file's affine is a scalar
coordinate, so both go through ``isel``, strides, flips and arithmetic without our doing anything:
the grid of what is left is read off again by `grid_of`. The affine is a *value* (text), not an
attribute: xarray drops a scalar coordinate on which two operands disagree, so an image made of two
different grids has no geometry and is refused, instead of silently having the first one's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.errors import DaskroiError, DaskroiTypeError, brief
from daskroi.grid import Grid
from daskroi.repetition import RepetitionTime

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "DIMS",
    "SPACE",
    "TIME",
    "as_dims",
    "declared_t_r",
    "grid_of",
    "make_image",
    "repetition_of",
    "time_coordinate",
]

TIME = "time"
SPACE = ("z", "y", "x")
DIMS = (TIME, *SPACE)


def time_coordinate(frames: Any, known: RepetitionTime) -> tuple[str, np.ndarray, dict[str, Any]]:
    """Times of frames for xarray: seconds where the TR is known, their numbers where it is not.

    ``frames`` are numbers of frames, or how many there are.
    """
    frames = np.arange(frames) if np.ndim(frames) == 0 else frames
    if known.seconds is None:
        return TIME, frames, {"units": "frame"}
    attrs = {"units": "s", "t_r": known.seconds, "t_r_source": known.source}
    return TIME, frames * known.seconds, attrs


def make_image(
    values: Any,
    grid: Grid,
    *,
    t_r: float | None = None,
    t_r_source: str = "argument",
    name: str | None = None,
    attrs: dict[str, Any] | None = None,
) -> xr.DataArray:
    """Label an array as an image.

    Parameters
    ----------
    values : array, dims (time, z, y, x) or (z, y, x)
        NumPy or Dask array; not read.
    grid : Grid
        Place of the voxels; its shape must be that of the last three axes.
    t_r : float, optional
        Seconds between volumes. Without it ``time`` counts frames, and filters ask for ``t_r``.
    t_r_source : str
        Where ``t_r`` is from; the coordinate ``time`` keeps it.
    name, attrs
        As in `xarray.DataArray`.

    Returns
    -------
    DataArray, dims (time, z, y, x) or (z, y, x)
        With voxel indices, ``time`` in seconds and the scalar coordinate ``affine``.

    Raises
    ------
    DaskroiError
        When the array is not 3D or 4D, or its shape is not the grid's.

    Examples
    --------
    >>> import numpy as np
    >>> from daskroi import Grid, grid_of, make_image
    >>> grid = Grid.make((4, 5, 6), np.diag([3.0, 3, 3, 1]))
    >>> image = make_image(np.zeros((10, 4, 5, 6), "f4"), grid, t_r=2.0)
    >>> image.sizes["time"], float(image.time[-1])
    (10, 18.0)
    >>> grid_of(image.isel(x=slice(None, None, -2))).voxel_sizes
    (6.0, 3.0, 3.0)
    """
    import xarray as xr

    if not hasattr(values, "ndim") or not hasattr(values, "dtype"):
        raise DaskroiTypeError(
            f"The voxels are a {type(values).__name__}, not an array. Give a NumPy or Dask array."
        )
    if not isinstance(grid, Grid):
        raise DaskroiTypeError(
            f"grid is a {type(grid).__name__}, not a Grid. Give that of an image, "
            "daskroi.grid_of(image), or make one: daskroi.Grid.make(shape, affine)."
        )
    if name is not None and not isinstance(name, str):
        raise DaskroiTypeError(f"name={brief(name)} is not a str. Give a name, or None.")
    if attrs is not None and not isinstance(attrs, Mapping):
        raise DaskroiTypeError(f"attrs={brief(attrs)} is not a dict. Give one, or None.")
    _check_seconds(t_r)
    t_r = None if t_r is None else float(t_r)
    dims = {3: SPACE, 4: DIMS}.get(values.ndim)
    if dims is None:
        raise DaskroiError(
            f"An image has 3 or 4 dimensions, (time, z, y, x); this array has {values.ndim}. "
            "Reshape it."
        )
    if tuple(values.shape[-3:]) != grid.shape:
        raise DaskroiError(
            f"The array has shape (z, y, x) = {tuple(values.shape[-3:])} but its grid "
            f"{grid.shape}. Transpose the array or correct the grid."
        )
    coords: dict[str, Any] = {d: np.arange(n) for d, n in zip(SPACE, grid.shape, strict=True)}
    coords["affine"] = json.dumps(grid.affine)
    if TIME in dims:
        coords[TIME] = time_coordinate(values.shape[0], RepetitionTime(t_r, t_r_source))
    image = xr.DataArray(values, coords, dims, attrs=attrs)
    image.name = name  # without a name, xarray would take Dask's, a hash
    return image


def grid_of(image: xr.DataArray) -> Grid:
    """Grid of an image, as it is after any slicing, striding or flipping.

    Parameters
    ----------
    image : DataArray with dims z, y, x (and time), in any order

    Returns
    -------
    Grid
        Where one voxel is left along a dimension, it has the size it had.

    Raises
    ------
    DaskroiError
        When dims or geometry are missing, or the voxels left are not evenly spaced.

    Examples
    --------
    >>> import daskroi as dr
    >>> image = dr.make_phantom((12, 14, 12), n_time=2, n_regions=4).image
    >>> dr.grid_of(image).shape, dr.grid_of(image[:, ::2]).shape
    ((12, 14, 12), (6, 14, 12))
    """
    if not hasattr(image, "dims") or not hasattr(image, "coords"):
        raise DaskroiTypeError(
            f"A grid is of a DataArray, not of {type(image).__name__}. Open the image first, with "
            "daskroi.open_image."
        )
    missing = [d for d in SPACE if d not in image.dims]
    if missing:
        raise DaskroiError(
            f"The DataArray has dims {image.dims}; an image needs z, y and x "
            f"({', '.join(missing)} missing). Select with a slice, isel(z=[5]), to keep a "
            "dimension, or rename the dims."
        )
    if "affine" not in image.coords:
        raise DaskroiError(
            "The DataArray has no 'affine' coordinate, so its voxels have no place in space. "
            "Build it with daskroi.make_image(array, grid); arithmetic between images on "
            "different grids drops it, resample one of them first."
        )
    if image.coords["affine"].chunks is not None:  # computing it would compute a block of voxels
        raise DaskroiError(
            "The DataArray's 'affine' coordinate is lazy, as xarray.map_blocks leaves it. Put that "
            "of the image in its place: assign_coords(affine=image.affine)."
        )
    try:
        affine = np.array(json.loads(image.coords["affine"].item()), np.float64)
    except (TypeError, ValueError) as error:
        raise DaskroiError(
            "The DataArray's 'affine' coordinate does not hold one affine: images on different "
            "grids were joined, or it was assigned by hand. Bring them to one grid, or rebuild "
            "with daskroi.make_image(array, grid)."
        ) from error
    start, step, shape = [], [], []
    for dim in SPACE:
        if dim not in image.coords:
            raise DaskroiError(
                f"The DataArray has lost its '{dim}' voxel coordinate, which says what part of "
                "the image it is. Keep it (no drop_vars), or rebuild with daskroi.make_image."
            )
        index = np.asarray(image.coords[dim].values)
        if index.dtype.kind not in "iuf":
            raise DaskroiError(
                f"The DataArray's '{dim}' coordinate holds {index.dtype}, not voxel numbers. Keep "
                "that of the image, or rebuild with daskroi.make_image."
            )
        if index.size == 0:
            raise DaskroiError(f"The image has no voxel left along '{dim}'. Check the selection.")
        steps = np.unique(np.diff(index))
        if len(steps) > 1 or (len(steps) == 1 and steps[0] == 0):
            raise DaskroiError(
                f"The voxels selected along '{dim}' are not evenly spaced, so there is no affine "
                "for them. Select with a slice."
            )
        start.append(index[0])
        step.append(steps[0] if len(steps) else 1)
        shape.append(index.size)
    return Grid.make(shape, affine).sub(start, step, shape)


def _check_seconds(t_r: Any) -> None:
    number = isinstance(t_r, Real) and not isinstance(t_r, bool)
    if t_r is not None and not (number and 0 < t_r < float("inf")):
        raise DaskroiError(f"t_r={brief(t_r)} is not a positive number of s. Give that, or None.")


def declared_t_r(time: xr.DataArray) -> RepetitionTime:
    """What the attributes of a ``time`` coordinate say, whichever frames are left of it."""
    said = time.attrs.get("t_r") if time.attrs.get("units") == "s" else None
    # attributes may be anything
    seconds = float(said) if isinstance(said, Real) else None
    return RepetitionTime(seconds, str(time.attrs.get("t_r_source", "")))


def repetition_of(image: xr.DataArray) -> RepetitionTime:
    """Seconds between the image's volumes, and where that is from.

    Read off the ``time`` coordinate, so that every second volume means twice the TR.
    """
    if TIME not in image.coords or image.coords[TIME].attrs.get("units") != "s":
        return RepetitionTime()
    time = image.coords[TIME]
    said = declared_t_r(time)
    t_r, steps = said.seconds, np.diff(np.atleast_1d(np.asarray(time.values, dtype=np.float64)))
    if steps.size:
        # the declared value while it holds: differences of k * TR are 0.8000000000000007
        t_r = float(steps[0]) if t_r is None else t_r
        t_r = t_r if np.allclose(steps, t_r, rtol=1e-6, atol=0) else float(np.median(steps))
    if t_r is None or t_r <= 0 or not np.allclose(steps, t_r, rtol=1e-3, atol=0):
        return RepetitionTime()
    return RepetitionTime(t_r, said.source or "time coordinate")


def as_dims(image: xr.DataArray) -> xr.DataArray:
    """Put an image's dimensions in our order; other dims are refused by name."""
    if not hasattr(image, "dims") or not hasattr(image, "coords"):
        raise DaskroiTypeError(
            f"image is a {type(image).__name__}, not a DataArray. Open it first, with "
            "daskroi.open_image."
        )
    extra = [d for d in image.dims if d not in DIMS]
    if image.sizes.get(TIME) == 0:
        raise DaskroiError("The DataArray has no frame left along 'time'. Check the selection.")
    if extra or len(set(image.dims)) < len(image.dims):
        raise DaskroiError(
            f"The DataArray has dims {image.dims}; an image has (time, z, y, x). "
            + (f"Select along {', '.join(map(repr, extra))} first." if extra else "Rename them.")
        )
    if image.dtype.kind not in "biuf":
        raise DaskroiTypeError(
            f"The DataArray has dtype {image.dtype}; region series are of real numbers. "
            "Take the magnitude or the real part first."
        )
    return image.transpose(*(d for d in DIMS if d in image.dims))
