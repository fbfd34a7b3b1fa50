"""Lowest and highest value of a whole run, for clipping, without keeping the run in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from daskroi.resampling import lowest_and_highest

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["limits_of", "read_again"]


def limits_of(array: da.Array, scale: tuple[float, float] = (1.0, 0.0)) -> da.Array:
    """Minus the lowest and the highest value of the whole image and 0; (2,), lazy.

    Parameters
    ----------
    array : dask array, dims (time, z, y, x)
    scale : (slope, inter)
        From values as stored to physical ones.
    """
    import dask.array as da

    blocks = da.map_blocks(
        _block_limits,
        array,
        scale,
        new_axis=4,
        chunks=(*((1,) * n for n in array.numblocks), (2,)),
        dtype=np.float64,
        meta=np.empty((0,) * 5),
    )
    return blocks.max(axis=(0, 1, 2, 3))


def _block_limits(block: NDArray, scale: tuple[float, float]) -> NDArray[np.float64]:
    return lowest_and_highest(block, *scale)[None, None, None, None]


def read_again(array: da.Array) -> da.Array:
    """The same array by tasks of its own: shared ones would all wait in memory for the limits.

    As `dask.graph_manipulation.clone`, which (Dask 2026.8) leaves slices and rechunked arrays
    connected to the tasks they had. `bind` would have all reads start at once.
    """
    import dask.array as da
    from dask.base import clone_key

    graph = dict(array.__dask_graph__())
    # only tasks have dependencies; what is none is in memory already: results that were persisted
    names = {k: clone_key(k, "read again") for k, v in graph.items() if hasattr(v, "dependencies")}
    if any(key not in names for key in graph if isinstance(key, tuple) and key[0] == array.name):
        return array
    again = {
        names.get(k, k): v.substitute(names, key=names[k]) if k in names else v
        for k, v in graph.items()
    }
    name = str(clone_key(array.name, "read again"))
    return da.Array(again, name, array.chunks, dtype=array.dtype)
