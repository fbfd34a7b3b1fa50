"""Image × regions → partials: the two plans, as lazy Dask arrays.

Both plans end in the same array of (time, field, region) partials, made by the same kernel:

- *blocks*: one task per chunk of the image, partials of chunks of space combined by a tree;
- *stream*: one task per run, which reads slab by slab; for files that only read front to back.

The region index travels as one graph key of its own, so it reaches each worker once, and several
atlases are one index with more regions, so they cost one read.
"""

from __future__ import annotations

from contextlib import closing
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi import kernels
from daskroi.kernels import REDUCERS, Reducer
from daskroi.regions import RegionIndex
from daskroi.openimage import CHUNK_BYTES

if TYPE_CHECKING:
    import dask.array as da
    from dask.delayed import Delayed

    from daskroi.nifti import NiftiFile

__all__ = ["block_partials", "dask_array", "finalize", "stream_partials"]


def _shipped(index: RegionIndex) -> Delayed:
    from dask.delayed import delayed

    return delayed(index, name=f"regions-{index.token}", traverse=False)


def _as_bounded_space(array: da.Array, whole_region: bool) -> da.Array:
    """A median needs all of a region at once: one chunk over space, of bounded bytes."""
    if not whole_region or max(array.numblocks[1:]) == 1:
        return array
    frame = int(np.prod(array.shape[1:])) * array.dtype.itemsize
    frames = max(1, CHUNK_BYTES // max(frame, 1))
    time = tuple(min(c, frames) for c in array.chunks[0])
    return array.rechunk({0: max(1, min(time)), 1: -1, 2: -1, 3: -1}, method="tasks")


def dask_array(array: Any) -> da.Array:
    """The array itself, or one in memory as Dask array."""
    import dask.array as da

    return array if isinstance(array, da.Array) else da.from_array(array, chunks="auto")


def block_partials(
    array: da.Array,
    index: RegionIndex,
    strategy: str,
    nan_policy: str,
    scale: tuple[float, float] = (1.0, 0.0),
) -> da.Array:
    """Partials of a chunked image: one task per chunk, whatever the number of regions.

    Parameters
    ----------
    array : dask array, dims (time, z, y, x)
        Any chunking.
    index : RegionIndex
        Over the whole (z, y, x).
    scale : (slope, inter)
        For floats as stored; integers are scaled in `finalize`.

    Returns
    -------
    dask array, float64, (time, field, region)
    """
    import dask.array as da

    reducer = REDUCERS[strategy]
    array = _as_bounded_space(array, reducer.combine is None)
    fields = reducer.fields + 2
    blocks = da.map_blocks(
        _block_partial,
        array,
        _shipped(index),
        strategy,
        nan_policy,
        scale,
        # ^ the six output axes: time, one entry per block of z, y and x, field, region
        new_axis=[4, 5],
        chunks=(
            array.chunks[0],
            *((1,) * n for n in array.numblocks[1:]),
            (fields,),
            (index.n_regions,),
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
    index: RegionIndex,
    strategy: str,
    nan_policy: str,
    scale: tuple[float, float],
    block_info: Any = None,
) -> np.ndarray:
    box = tuple(tuple(b) for b in block_info[0]["array-location"][1:])
    part = kernels.partial(block, _within(index, box), REDUCERS[strategy], nan_policy, *scale)
    return part[:, None, None, None]


@lru_cache(maxsize=128)
def _within(index: RegionIndex, box: tuple[tuple[int, int], ...]) -> RegionIndex:
    # chunks of one place in space follow each other through time; cut the index once
    return index.within(box)


def _keep(x: np.ndarray, axis: Any, keepdims: bool) -> np.ndarray:
    return x


def _combine(x: np.ndarray, strategy: str, axis: Any = None, keepdims: bool = True) -> np.ndarray:
    blocks = x.reshape(len(x), -1, *x.shape[-2:]).swapaxes(0, 1)
    return kernels.combine(REDUCERS[strategy], blocks)[:, None, None, None]


def _aggregate(x: np.ndarray, strategy: str, axis: Any, keepdims: bool) -> np.ndarray:
    return _combine(x, strategy)[:, 0, 0, 0]


def stream_partials(
    file: NiftiFile,
    index: RegionIndex,
    strategy: str,
    nan_policy: str,
    slab_frames: int | None = None,
) -> da.Array:
    """Partials of a whole run as one task that reads it front to back.

    Returns
    -------
    dask array, float64, (time, field, region)
    """
    import dask.array as da
    from dask.delayed import delayed

    reducer: Reducer = REDUCERS[strategy]
    whole = delayed(_stream, pure=True)(file, _shipped(index), strategy, nan_policy, slab_frames)
    shape = (file.frames, reducer.fields + 2, index.n_regions)
    return da.from_delayed(whole, shape, dtype=np.float64, meta=np.empty((0,) * 3))


def _stream(
    file: NiftiFile,
    index: RegionIndex,
    strategy: str,
    nan_policy: str,
    slab_frames: int | None,
) -> np.ndarray:
    reducer = REDUCERS[strategy]
    out = np.empty((file.frames, reducer.fields + 2, index.n_regions))
    # closing: a traceback that someone keeps must not keep file and thread
    with closing(file.slabs(slab_frames)) as slabs:
        for start, slab in slabs:
            out[start : start + len(slab)] = kernels.partial(
                slab, index, reducer, nan_policy, file.slope, file.inter
            )
    return out


def finalize(
    partials: da.Array, strategy: str, scale: tuple[float, float] = (1.0, 0.0)
) -> da.Array:
    """Results (time, region) of partials (time, field, region); a lost region is NaN."""
    import dask.array as da

    return da.map_blocks(
        _finalize, partials, strategy, scale, drop_axis=1, dtype=np.float64, meta=np.empty((0, 0))
    )


def _finalize(part: np.ndarray, strategy: str, scale: tuple[float, float]) -> np.ndarray:
    return kernels.finalize(REDUCERS[strategy], part, scale)
