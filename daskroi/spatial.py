"""`smooth` and `resample`: voxelwise operations on lazy images, for any chunks, space included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.blockresampling import MARGIN, BlockResampling, Box, overlap
from daskroi.errors import DaskroiError, check_choice
from daskroi.grid import Grid
from daskroi.image import TIME, grid_of, make_image
from daskroi.lazyimage import CHUNK_BYTES, checked_chunks
from daskroi.limits import limits_of, read_again
from daskroi.openimage import open_image
from daskroi.reduce import dask_array
from daskroi.resampling import ORDERS, Resampling
from daskroi.smoothing import Smoothing, checked_fwhm

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

__all__ = ["resample", "smooth"]


def smooth(
    image: Any,
    fwhm: Any,
    chunks: Any = "auto",
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Smooth every volume of an image with a Gaussian.

    Parameters
    ----------
    image : path, URL, nibabel image or DataArray
        (time, z, y, x) or (z, y, x); see `daskroi.open_image`.
    fwhm : float, 3 floats, "fast" or None
        Full width at half maximum in mm, one for all axes or along (x, y, z). "fast" is nilearn's
        7-point kernel, whatever the voxel size. None gives the image back.
    chunks : "auto", int, str, tuple or dict
        How to open a path or a nibabel image; see `daskroi.open_image`. A DataArray keeps its own.
    storage_options : mapping, optional
        For fsspec, of a URL.

    Returns
    -------
    DataArray, dims and coordinates of ``image``
        Lazy; float32 for a float32 image, else float64. NaN and infinite voxels count as 0, and so
        are numbers afterwards. Computed in double, one volume of a chunk at a time.

    Raises
    ------
    DaskroiError
        ``fwhm`` is negative, not finite, or not 1 or 3 numbers; the image cannot be opened.

    Warns
    -----
    DaskroiWarning
        ``fwhm`` is 0.

    Notes
    -----
    `nilearn.image.smooth_img`: `scipy.ndimage.gaussian_filter1d` along each axis, sigma =
    fwhm / (sqrt(8 ln 2) x voxel size), cut off at 4 sigma, edges reflected.

    Where chunks cut space, neighbours lend each other the width of the kernel; chunks narrower than
    that are merged. The result does not depend on the chunks.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> smoothed = dr.smooth(run.image, 30)  # its voxels are 15 mm wide
    >>> bool(smoothed[0].std() < run.image[0].std())
    True
    """
    image = open_image(image, chunks, storage_options=storage_options)
    smoothing = Smoothing.of(checked_fwhm(fwhm, "fwhm"), grid_of(image))
    if smoothing is None:
        return image
    return image.copy(data=_smoothed(dask_array(image.data), smoothing))


def _float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize == 4 else np.float64)


def _smoothed(array: da.Array, smoothing: Smoothing) -> da.Array:
    import dask.array as da

    array = _merged(array, smoothing.halo)
    dtype = _float_dtype(array.dtype)
    meta = np.empty((0,) * array.ndim, dtype)
    options: dict[str, Any] = {"smoothing": smoothing, "dtype": dtype, "meta": meta}
    axes = range(array.ndim - 3, array.ndim)
    depth = {
        axis: halo if array.numblocks[axis] > 1 else 0
        for axis, halo in zip(axes, smoothing.halo, strict=True)
    }
    if not any(depth.values()):
        return da.map_blocks(_smooth_block, array, **options)
    # boundary "none": a block at an edge of the volume ends there, so that scipy itself reflects
    # it; Dask trims blocks only where a neighbour lent them something
    return da.map_overlap(
        _smooth_block,
        array,
        depth=depth,
        boundary="none",
        allow_rechunk=False,
        **options,
    )


def _merged(array: da.Array, at_least: Sequence[int]) -> da.Array:
    """Chunks of space that are too narrow, joined with their neighbours."""
    space: dict[int, tuple[int, ...]] = {}
    for axis, least in zip(range(array.ndim - 3, array.ndim), at_least, strict=True):
        widths: list[int] = []
        for chunk in array.chunks[axis]:
            if widths and widths[-1] < least:
                widths[-1] += chunk
            else:
                widths.append(chunk)
        if len(widths) > 1 and widths[-1] < least:
            last = widths.pop()
            widths[-1] += last
        space[axis] = tuple(widths)
    return array.rechunk(space, method="tasks")


def _smooth_block(block: NDArray[Any], smoothing: Smoothing) -> NDArray[np.floating]:
    out = np.empty(block.shape, _float_dtype(block.dtype))
    for frame in np.ndindex(block.shape[:-3]):
        volume = block[frame].astype(np.float64)
        volume[~np.isfinite(volume)] = 0
        out[frame] = smoothing.apply(volume)
    return out


def resample(
    image: Any,
    target: Any,
    interpolation: str = "continuous",
    *,
    clip: bool = True,
    chunks: Any = "auto",
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Bring every volume of an image to another grid.

    Parameters
    ----------
    image : path, URL, nibabel image or DataArray
        (time, z, y, x) or (z, y, x); see `daskroi.open_image`.
    target : Grid, Atlas, path, URL, nibabel image or DataArray
        Whose grid to take.
    interpolation : {"continuous", "linear", "nearest"}
        "continuous" is a cubic spline, which overshoots at edges. "nearest" is for labels and
        masks: no value appears that was not there, except 0 outside the field of view.
    clip : bool
        Keep what a cubic spline overshoots within the lowest and the highest value of the whole
        image, and 0. To know those, the image is read twice: False reads it once.
    chunks : "auto", int, str, tuple or dict
        Of the result; see `daskroi.open_image`. "auto": time as in the image, in shorter chunks
        where the grid grows; an axis of space is cut only where the image's is, in blocks of as
        many voxels, but not narrow ones (see notes).
    storage_options : mapping, optional
        For fsspec, of URLs.

    Returns
    -------
    DataArray, dims of ``image``
        Lazy; on the target's grid, with the image's name, attributes and coordinates of time.
        "nearest" keeps the dtype; the others give float32 for a float32 image, else float64.
        Outside the image's field of view it is 0. The image itself where both grids are the same.

    Raises
    ------
    DaskroiError
        The grids do not overlap; ``interpolation`` is not known; the image or the target cannot be
        opened.

    Notes
    -----
    `nilearn.image.resample_img`: `scipy.ndimage.affine_transform` with mode "constant". NaN and
    infinite voxels are extrapolated away from their neighbours, and the target voxels nearest to
    them are NaN. Unlike there, what comes of integers is not rounded to integers.

    Where chunks cut space, a block reads the part of the image it needs, and for a cubic spline 24
    voxels more on each side: the prefilter's response falls by 0.268 a voxel, so that edges of
    blocks change a value by less than 1e-9 of the image's range. Cubic blocks much narrower than
    that mostly read margin.

    Examples
    --------
    >>> import numpy as np
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> grid = dr.grid_of(run.image)
    >>> coarse = dr.Grid.make((6, 7, 6), grid.matrix @ np.diag([2, 2, 2, 1]))
    >>> dr.resample(run.image, coarse, "linear").shape
    (20, 6, 7, 6)
    """
    check_choice("interpolation", interpolation, tuple(ORDERS))
    check_choice("clip", clip, (True, False))
    image = open_image(image, storage_options=storage_options)
    grid = _target_grid(target, storage_options)
    whole = Resampling(grid_of(image), grid, ORDERS[interpolation])
    if whole.source.same_as(whole.target):
        return image
    if not overlap(whole):
        raise DaskroiError(
            f"The image ({whole.source.describe()}) and the target ({whole.target.describe()}) "
            "do not overlap. Check that both are in one space, and their affines."
        )
    if TIME not in image.dims and isinstance(chunks, tuple | list):
        chunks = (1, *chunks)
    array = dask_array(image.data)
    values = _resampled(array if TIME in image.dims else array[None], whole, clip, chunks)
    result = make_image(
        values if TIME in image.dims else values[0],
        whole.target,
        name=None if image.name is None else str(image.name),
        attrs=image.attrs,
    )
    kept = {
        name: coord.variable  # the DataArray would bring the old affine along
        for name, coord in image.coords.items()
        if name != "affine" and set(coord.dims) <= {TIME}
    }
    return result.assign_coords(kept)


def _target_grid(target: Any, storage_options: Mapping[str, Any] | None) -> Grid:
    if isinstance(target, Grid):
        return target
    # by type, not by name: a DataArray has its coordinates as attributes
    grid = getattr(target, "grid", None)
    if isinstance(grid, Grid):
        return grid
    return grid_of(open_image(target, storage_options=storage_options))


def _resampled(array: da.Array, whole: Resampling, clip: bool, chunks: Any) -> da.Array:
    """Values on the target, (time, z, y, x) → (time, z, y, x), in the chunks asked for."""
    import dask.array as da

    time, space = _result_chunks(array, whole, chunks)
    limits = None
    # nearest and linear values lie between values of the image: there is nothing to clip
    if clip and whole.order > 1:
        found = limits_of(array)
        # shared tasks would all wait in memory for the limits
        array = read_again(array)
        limits = found.to_delayed(optimize_graph=False).item()
    array = array.rechunk({0: time}, method="tasks")
    boxes = _boxes(space)
    if array.numblocks[1:] == (1, 1, 1) and all(len(c) == 1 for c in space):
        # whole volumes, which are not cropped: the numbers are nilearn's to the last digits
        return _blocks(array, BlockResampling(whole, boxes[0][0][0]), limits)
    # slivers would make more tasks than blocks
    array = _merged(array, [MARGIN[whole.order] // 2] * 3)
    blocks = [
        [[_box(array, BlockResampling(whole, box), limits) for box in row] for row in plane]
        for plane in boxes
    ]
    return da.block(blocks)


def _boxes(space: Sequence[tuple[int, ...]]) -> list[list[list[Box]]]:
    """Boxes of the blocks of space, nested along z, y and x."""
    z, y, x = (
        list(zip(ends - widths, ends, strict=True))
        for widths, ends in ((np.array(c), np.cumsum(c)) for c in space)
    )
    return [[[_box_of(a, b, c) for c in x] for b in y] for a in z]


def _box_of(*pairs: tuple[Any, Any]) -> Box:
    z, y, x = ((int(lo), int(hi)) for lo, hi in pairs)
    return z, y, x


def _result_chunks(
    array: da.Array, whole: Resampling, chunks: Any
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Chunks of the result: along time, and along (z, y, x)."""
    order, shape = whole.order, whole.target.shape
    dtype = _result_dtype(array.dtype, order)
    if not isinstance(chunks, str) or chunks != "auto":
        if isinstance(chunks, dict):
            chunks = {TIME: array.chunks[0]} | chunks
        time, *space = checked_chunks((array.shape[0], *shape), dtype, chunks)
        return time, tuple(space)
    widths = [
        # a block reads a margin around it: of the margin's width at least, or it reads little else
        max(*cuts, 2 * MARGIN[order]) if len(cuts) > 1 else n
        for cuts, n in zip(array.chunks[1:], shape, strict=True)
    ]
    _, *space = checked_chunks((1, *shape), dtype, (1, *widths))
    # no block much larger than what it is made of
    frame = int(np.prod([max(c) for c in space])) * dtype.itemsize
    largest = int(np.prod([max(c) for c in array.chunks])) * array.dtype.itemsize
    frames = max(1, max(CHUNK_BYTES, largest) // frame)
    time = tuple(
        min(frames, chunk - start) for chunk in array.chunks[0] for start in range(0, chunk, frames)
    )
    return time, tuple(space)


def _box(array: da.Array, block: BlockResampling, limits: Any) -> da.Array:
    """One box of the target, through time, from the part of the source it needs."""
    import dask.array as da

    source_box = block.source_box
    if source_box is None:
        return da.zeros(
            (array.shape[0], *block.shape),
            dtype=_result_dtype(array.dtype, block.whole.order),
            chunks=(array.chunks[0], *block.shape),
        )
    crop = array[(slice(None), *(slice(lo, hi) for lo, hi in source_box))]
    return _blocks(crop.rechunk({1: -1, 2: -1, 3: -1}, method="tasks"), block, limits)


def _blocks(crop: da.Array, block: BlockResampling, limits: Any) -> da.Array:
    import dask.array as da

    dtype = _result_dtype(crop.dtype, block.whole.order)
    return da.map_blocks(
        _resample_block,
        crop,
        block,
        limits,
        chunks=(crop.chunks[0], *((n,) for n in block.shape)),
        dtype=dtype,
        meta=np.empty((0,) * 4, dtype),
    )


def _result_dtype(dtype: np.dtype[Any], order: int) -> np.dtype[Any]:
    return _float_dtype(dtype) if order else dtype.newbyteorder("=")


def _resample_block(
    crop: NDArray[Any],
    block: BlockResampling,
    limits: NDArray[np.float64] | None,
) -> NDArray[Any]:
    out = np.empty((len(crop), *block.shape), _result_dtype(crop.dtype, block.whole.order))
    for volume, resampled in zip(crop, out, strict=True):
        resampled[...] = block.apply(volume)
    if limits is not None:
        np.clip(out, -limits[0], limits[1], out=out)
    return out
