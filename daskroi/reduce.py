"""Image × regions → partials: the two plans, as lazy Dask arrays.

Both plans end in the same array of (time, field, region) partials, made by the same kernel:

- *blocks*: one task per chunk of the image, partials of chunks of space combined by a tree;
- *stream*: one task per run, which reads slab by slab; for files that only read front to back.

The operator (regions, and how the image gets to them) travels as one graph key of its own, so it
reaches each worker once; where it is fused, that is one task, and its weights travel once. Several
atlases are one operator with more regions, so they cost one read.
"""

from __future__ import annotations

from contextlib import closing
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi import kernels
from daskroi.kernels import REDUCERS, Reducer
from daskroi.lazyimage import CHUNK_BYTES
from daskroi.limits import limits_of, read_again
from daskroi.onethread import one_thread
from daskroi.operators import Operator, Voxelwise
from daskroi.resampling import lowest_and_highest

if TYPE_CHECKING:
    import dask.array as da
    from dask.delayed import Delayed

    from daskroi.imagefile import ImageFile

__all__ = ["block_partials", "dask_array", "finalize", "solve", "stream_partials"]


def _shipped(operator: Operator, fused: bool, limits: Any = None) -> Delayed:
    """The operator as a graph key; fused or clipped by a task, for neither is known before."""
    from dask.delayed import delayed

    shipped = delayed(operator, name=f"operator-{operator.token}", traverse=False)
    if fused:
        return delayed(_fused, pure=True)(shipped)
    return shipped if limits is None else delayed(_clipped, pure=True)(shipped, limits)


def _fused(operator: Voxelwise) -> Operator:
    return operator.fused()


def _clipped(operator: Voxelwise, limits: np.ndarray) -> Operator:
    return operator.clipped(-float(limits[0]), float(limits[1]))


def _as_bounded_space(array: da.Array, whole_region: bool) -> da.Array:
    """A median needs all of a region at once: one chunk over space, of bounded bytes."""
    if not whole_region or max(array.numblocks[1:]) == 1:
        return array
    frame = int(np.prod(array.shape[1:])) * array.dtype.itemsize
    frames = max(1, CHUNK_BYTES // max(frame, 1))
    # each chunk by itself: the last one is short, and no measure for the others
    time = tuple(min(frames, c - start) for c in array.chunks[0] for start in range(0, c, frames))
    return array.rechunk({0: time, 1: -1, 2: -1, 3: -1}, method="tasks")


def dask_array(array: Any) -> da.Array:
    """The array itself, or one in memory as Dask array."""
    import dask.array as da

    if isinstance(array, da.Array):
        return array
    # whole volumes, whatever chunk size Dask is set to: cuts in space round otherwise
    return da.from_array(array, chunks=("auto", *(-1,) * (array.ndim - 1)))


def block_partials(
    array: da.Array,
    operator: Operator,
    strategy: str,
    nan_policy: str,
    scale: tuple[float, float] = (1.0, 0.0),
    fused: bool = False,
) -> da.Array:
    """Partials of a chunked image: one task per chunk, whatever the number of regions.

    Parameters
    ----------
    array : dask array, dims (time, z, y, x)
        Any chunking.
    operator : Operator
        For the whole (z, y, x).
    strategy : str
        Name of a reducer in `REDUCERS`.
    nan_policy : {"zero", "omit", "propagate"}
        What voxels that are not finite count as.
    scale : (slope, inter)
        From values as stored to physical ones, as far as the operator does that; `Direct` reduces
        integers as stored, and `finalize` scales them.
    fused : bool
        Whether to fuse it first.

    Returns
    -------
    dask array, float64, (time, field, region)
    """
    import dask.array as da

    reducer = REDUCERS[strategy]
    clip = isinstance(operator, Voxelwise) and operator.clip and not fused
    limits = None
    if clip:
        limits = limits_of(array, scale).to_delayed(optimize_graph=False).item()
        array = read_again(array)
    whole = operator.resampled if fused else operator.whole
    array = _as_bounded_space(array, reducer.combine is None or whole)
    fields = reducer.fields + 2
    blocks = da.map_blocks(
        _block_partial,
        array,
        _shipped(operator, fused, limits),
        strategy,
        nan_policy,
        scale,
        # ^ the six output axes: time, one entry per block of z, y and x, field, region
        new_axis=[4, 5],
        chunks=(
            array.chunks[0],
            *((1,) * n for n in array.numblocks[1:]),
            (fields,),
            (operator.n_regions,),
        ),
        dtype=np.float64,
        meta=np.empty((0,) * 6),
    )
    if blocks.numblocks[1:4] == (1, 1, 1):
        return blocks[:, 0, 0, 0]
    return da.reduction(
        blocks,
        chunk=_keep,
        combine=partial(_combine, strategy=strategy),
        aggregate=partial(_aggregate, strategy=strategy),
        axis=(1, 2, 3),
        dtype=np.float64,
        meta=np.empty((0,) * 3),
        name=f"combine-{strategy}",
    )


def _block_partial(
    block: np.ndarray,
    operator: Operator,
    strategy: str,
    nan_policy: str,
    scale: tuple[float, float],
    block_info: Any = None,
) -> np.ndarray:
    box = tuple(tuple(b) for b in block_info[0]["array-location"][1:])
    if block.shape[1:] != tuple(block_info[0]["shape"][1:]):
        operator = _within(operator, box)
    part = operator.partial(block, REDUCERS[strategy], nan_policy, *scale)
    return part[:, None, None, None]


@lru_cache(maxsize=128)
def _within(operator: Operator, box: tuple[tuple[int, int], ...]) -> Operator:
    # chunks of one place in space follow each other through time; cut the operator once
    return operator.within(box)


def _keep(x: np.ndarray, axis: Any, keepdims: bool) -> np.ndarray:
    return x


def _combine(x: np.ndarray, strategy: str, axis: Any = None, keepdims: bool = True) -> np.ndarray:
    blocks = x.reshape(len(x), -1, *x.shape[-2:]).swapaxes(0, 1)
    return kernels.combine(REDUCERS[strategy], blocks)[:, None, None, None]


def _aggregate(x: np.ndarray, strategy: str, axis: Any, keepdims: bool) -> np.ndarray:
    return _combine(x, strategy)[:, 0, 0, 0]


def stream_partials(
    file: ImageFile,
    operator: Operator,
    strategy: str,
    nan_policy: str,
    slab_frames: int | None = None,
    fused: bool = False,
) -> da.Array:
    """Partials of a whole run as one task that reads it front to back.

    Twice where results are clipped to the run's extremes, which must be known first.

    Returns
    -------
    dask array, float64, (time, field, region)
    """
    import dask.array as da
    from dask.delayed import delayed

    reducer: Reducer = REDUCERS[strategy]
    shipped = _shipped(operator, fused)
    whole = delayed(_stream, pure=True)(file, shipped, strategy, nan_policy, slab_frames)
    shape = (file.frames, reducer.fields + 2, operator.n_regions)
    return da.from_delayed(whole, shape, dtype=np.float64, meta=np.empty((0,) * 3))


def _stream(
    file: ImageFile,
    operator: Operator,
    strategy: str,
    nan_policy: str,
    slab_frames: int | None,
) -> np.ndarray:
    reducer = REDUCERS[strategy]
    scale = file.slope, file.inter
    if isinstance(operator, Voxelwise) and operator.clip:
        with closing(file.slabs(slab_frames)) as slabs:
            limits = np.max([lowest_and_highest(slab, *scale) for _, slab in slabs], axis=0)
        operator = _clipped(operator, limits)
    out = np.empty((file.frames, reducer.fields + 2, operator.n_regions))
    # closing: a traceback that someone keeps must not keep file and thread
    with closing(file.slabs(slab_frames)) as slabs:
        for start, slab in slabs:
            out[start : start + len(slab)] = operator.partial(slab, reducer, nan_policy, *scale)
    return out


def finalize(
    partials: da.Array,
    strategy: str,
    scale: tuple[float, float] = (1.0, 0.0),
    nan_policy: str = "zero",
) -> da.Array:
    """Results (time, region) of partials (time, field, region); a lost region is NaN."""
    import dask.array as da

    return da.map_blocks(
        _finalize,
        partials,
        strategy,
        scale,
        nan_policy,
        drop_axis=1,
        dtype=np.float64,
        meta=np.empty((0, 0)),
    )


def _finalize(
    part: np.ndarray, strategy: str, scale: tuple[float, float], nan_policy: str
) -> np.ndarray:
    if nan_policy == "omit":
        # smoothed from far away, a region without a finite voxel has some weight left
        part = part.copy()
        part[:, -2] *= part[:, -1] > 0
    return kernels.finalize(REDUCERS[strategy], part, scale)


def solve(
    partials: da.Array, inverse: np.ndarray, scale: tuple[float, float] = (1.0, 0.0)
) -> da.Array:
    """Least-squares values (time, region) of overlapping maps; see `leastsquares`."""
    import dask.array as da

    return da.map_blocks(
        _solve, partials, inverse, scale, drop_axis=1, dtype=np.float64, meta=np.empty((0, 0))
    )


@one_thread()
def _solve(part: np.ndarray, inverse: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    sums = kernels.finalize(REDUCERS["sum"], part, scale)
    lost = kernels.lost(part)
    # frame by frame: a product of matrices rounds differently for other numbers of frames
    return np.where(lost, np.nan, np.stack([inverse @ s for s in np.where(lost, 0.0, sums)]))
