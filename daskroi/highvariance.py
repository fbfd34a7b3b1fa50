"""High-variance confounds of an image, in two passes over it; the run is never all in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.compcor import SquareSums, high_variance, high_variance_components
from daskroi.errors import DaskroiError, brief, check_flag
from daskroi.image import TIME, grid_of, repetition_of, time_coordinate
from daskroi.openimage import as_file, open_image
from daskroi.placement import load_mask

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    from daskroi.imagefile import ImageFile

__all__ = ["high_variance_confounds"]

# voxels of a block as (time, voxel), inside the mask
Frames = NDArray[Any]


def high_variance_confounds(
    image: Any,
    *,
    n_confounds: int = 5,
    percentile: float = 2.0,
    detrend: bool = True,
    mask_img: Any = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Principal components of the voxels that vary most: confounds from the image itself.

    Parameters
    ----------
    image : path, URL, nibabel image or DataArray
        The run, (time, z, y, x); see `daskroi.open_image`.
    n_confounds : int
        Number of components.
    percentile : float
        Share of voxels to take, in per cent: those with the highest mean square.
    detrend : bool
        Remove mean and linear trend of every voxel first.
    mask_img : path, URL, nibabel image or DataArray, optional
        Voxels to look at. The whole field of view if not given.
    storage_options : mapping, optional
        For fsspec, of URLs.

    Returns
    -------
    DataArray, dims (time, confound), float64
        Lazy. Eigenvectors of X Xᵀ over the selected voxels, largest eigenvalue first; the sign is
        free in theory and fixed here, so that the largest entry is positive. Memory: four float64
        volumes and the selected share of the run.

    Raises
    ------
    DaskroiError
        A single volume, an empty mask, options that are no numbers; on computing, an image in
        which nothing varies.

    Notes
    -----
    `nilearn.image.high_variance_confounds`, without loading the run. Related to CompCor (Behzadi
    et al. 2007, NeuroImage 37:90).

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> dr.high_variance_confounds(run.image, n_confounds=3).shape
    (20, 3)
    """
    import dask.array as da
    import xarray as xr
    from dask.delayed import delayed

    run = open_image(image, storage_options=storage_options)
    n_time = run.sizes.get(TIME, 1)
    if n_time < 2:
        raise DaskroiError(
            "high-variance confounds need a run; this image has one volume. Leave them out."
        )
    if isinstance(n_confounds, bool) or not isinstance(n_confounds, Integral) or n_confounds < 1:
        why = (
            "leaves none"
            if isinstance(n_confounds, Integral) and n_confounds == 0
            else "is no number of components"
        )
        raise DaskroiError(f"n_confounds={brief(n_confounds)} {why}. Pass 1 or more.")
    share = isinstance(percentile, Real) and not isinstance(percentile, bool)
    if not share or not 0 <= percentile <= 100:
        raise DaskroiError(
            f"percentile={brief(percentile)} is not a share of voxels. Pass 0 to 100 per cent."
        )
    detrend = check_flag("detrend", detrend)
    inside = None
    if mask_img is not None:
        inside = load_mask(mask_img, storage_options).on(grid_of(run)).ravel()
    file = as_file(run)
    options = (n_confounds, percentile, detrend)
    if file is not None:
        found = delayed(_of_file, pure=True)(file, inside, *options)
    else:
        found = _of_array(run.data, inside, *options)
    values = da.from_delayed(
        found, (n_time, min(n_confounds, n_time)), dtype=np.float64, meta=np.empty((0, 0))
    )
    return xr.DataArray(
        values,
        {TIME: time_coordinate(n_time, repetition_of(run))},
        (TIME, "confound"),
        name="high_variance_confounds",
        attrs={"percentile": percentile, "source": str(run.attrs.get("source", ""))},
    )


def _of_file(
    file: ImageFile,
    inside: NDArray[np.bool_] | None,
    n_confounds: int,
    percentile: float,
    detrend: bool,
) -> NDArray[np.float64]:
    """Both passes as one task, which streams the file twice."""

    def slabs() -> Iterator[Frames]:
        with closing(file.slabs()) as stream:
            for _, slab in stream:
                flat = _flat(slab, inside)
                # detrended, slope and intercept change neither the choice nor the directions
                as_stored = detrend or not file.scaled
                # NumPy's floats, not Python's: float32 times those would stay float32
                yield flat if as_stored else flat * np.float64(file.slope) + np.float64(file.inter)

    n_voxel = file.grid.size if inside is None else int(inside.sum())
    sums = SquareSums(n_voxel)
    for flat in slabs():
        sums.add(flat)
    chosen = np.flatnonzero(high_variance(sums.mean_squares(detrend), percentile))
    del sums  # four volumes of float64
    series = np.concatenate([flat.take(chosen, axis=1) for flat in slabs()])
    return high_variance_components(series, n_confounds, detrend)


def _of_array(
    array: da.Array,
    inside: NDArray[np.bool_] | None,
    n_confounds: int,
    percentile: float,
    detrend: bool,
) -> Any:
    """Both passes over chunks: sums are handed from one time chunk to the next."""
    from dask.delayed import delayed

    from daskroi.reduce import dask_array

    # whole volumes: percentiles are over all voxels, and four volumes of sums fit anywhere
    array = dask_array(array)
    shipped = None if inside is None else delayed(inside)  # once, not with every task
    blocks = array.rechunk({1: -1, 2: -1, 3: -1}, method="tasks").to_delayed().ravel()
    add: Callable[..., Any] = delayed(_added, pure=True)
    sums = None
    for block in blocks:
        sums = add(sums, block, shipped)
    chosen = delayed(_chosen, pure=True)(sums, detrend, percentile)
    take: Callable[..., Any] = delayed(_taken, pure=True)
    series = [take(block, shipped, chosen) for block in blocks]
    return delayed(_components, pure=True)(series, n_confounds, detrend)


def _flat(block: NDArray[Any], inside: NDArray[np.bool_] | None) -> Frames:
    flat = block.reshape(len(block), -1)
    return flat if inside is None else flat[:, inside]


def _added(
    sums: SquareSums | None, block: NDArray[Any], inside: NDArray[np.bool_] | None
) -> SquareSums:
    from copy import deepcopy

    flat = _flat(block, inside)
    # a task must not change its input: a retry would count a chunk twice
    sums = SquareSums(flat.shape[1]) if sums is None else deepcopy(sums)
    sums.add(flat)
    return sums


def _chosen(sums: SquareSums, detrend: bool, percentile: float) -> NDArray[np.intp]:
    return np.flatnonzero(high_variance(sums.mean_squares(detrend), percentile))


def _taken(
    block: NDArray[Any], inside: NDArray[np.bool_] | None, chosen: NDArray[np.intp]
) -> Frames:
    return _flat(block, inside).take(chosen, axis=1)


def _components(series: list[Frames], n_confounds: int, detrend: bool) -> NDArray[np.float64]:
    return high_variance_components(np.concatenate(series), n_confounds, detrend)
