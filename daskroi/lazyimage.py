"""An image file as a lazy DataArray: one task per chunk, and which file it was."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from daskroi.errors import DaskroiError, brief
from daskroi.image import DIMS, make_image
from daskroi.imagefile import ImageFile

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

__all__ = [
    "CHUNK_BYTES",
    "checked_chunks",
    "default_chunks",
    "is_in_memory",
    "layer_file",
    "lazy_image",
]

# a chunk of 32 MiB of stored voxels keeps two threads, with what they gather, under 150 MB
CHUNK_BYTES = 32 << 20
# a million take Dask a minute and a GB of memory, whatever their size
MOST_CHUNKS = 1_000_000


def lazy_image(
    file: ImageFile, chunks: Any = "auto", *, stored: bool = False, name: str | None = None
) -> xr.DataArray:
    """A file as a lazy image: one task per chunk, each reading its own part.

    Parameters
    ----------
    file : ImageFile
    chunks : "auto", int, str, tuple or dict
        As in `open_image`.
    stored : bool
        Values as stored instead of physical ones.
    name : str, optional
        Of the DataArray.

    Returns
    -------
    DataArray, dims (time, z, y, x) or (z, y, x)
    """
    import dask.array as da
    from dask.base import tokenize

    dtype = np.dtype(file.dtype).newbyteorder("=") if stored else file.value_dtype
    if isinstance(chunks, str) and chunks == "auto":
        chunks = default_chunks(file)
    sizes = checked_chunks(file.shape, np.dtype(file.dtype), chunks)
    dask_name = f"nifti-{tokenize(file, stored, sizes)}"
    if not stored:
        file = _opened.setdefault(dask_name, file)
    array = da.map_blocks(
        _read_block,
        file,
        stored,
        dtype=dtype,
        chunks=sizes,
        meta=np.empty((0,) * len(file.shape), dtype),
        name=dask_name,
    )
    return make_image(
        array,
        file.grid,
        t_r=file.repetition.seconds,
        t_r_source=file.repetition.source,
        name=name,
        attrs={"source": file.url},
    )


def default_chunks(file: ImageFile) -> Any:
    """Whole volumes, about 32 MiB of them, and whole chunks as they are stored.

    Examples
    --------
    >>> import daskroi as dr, tempfile
    >>> from daskroi.openimage import as_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = dr.write_phantom(folder, dr.make_phantom((12, 14, 12), 20, n_regions=4))
    ...     default_chunks(as_file(paths["image"]))
    {'time': 20}
    """
    if file.n_time is None:
        return -1
    most = max(1, CHUNK_BYTES // file.frame_bytes)
    if file.chunks is None:
        return {"time": min(most, file.frames)}
    stored = dict(zip(DIMS, file.chunks, strict=True))
    if stored["time"] * file.frame_bytes > 2 * CHUNK_BYTES:
        return stored  # long in time and small in space: whole volumes would not fit
    return {"time": min(max(most // stored["time"], 1) * stored["time"], file.frames)}


def checked_chunks(
    shape: tuple[int, ...], dtype: np.dtype[Any], chunks: Any
) -> tuple[tuple[int, ...], ...]:
    """Chunks as Dask wants them; whole volumes unless something else was asked for."""
    import dask.array as da

    dims = DIMS[-len(shape) :]
    wanted: Any = chunks
    if not isinstance(chunks, dict | tuple | list):
        if isinstance(chunks, str) and chunks == "auto":
            chunks = max(1, CHUNK_BYTES // (int(np.prod(shape[-3:])) * dtype.itemsize))
        wanted = {"time": chunks} if len(shape) == 4 else {}
    if isinstance(wanted, dict):
        unknown = set(wanted) - set(dims)
        if unknown:
            raise DaskroiError(
                f"chunks names {sorted(map(str, unknown))}, which are not dims of the image. "
                f"Use {', '.join(dims)}."
            )
        wanted = [wanted.get(d, -1) for d in dims]
    try:
        if any(map(_odd, wanted)):
            raise ValueError("a chunk is a positive number of voxels, or -1 for all")
        _check_count(wanted, shape)
        sizes = da.core.normalize_chunks(tuple(wanted), shape, dtype=dtype)
        if min(map(min, sizes)) < 1:
            raise ValueError("there are no empty chunks")
    except (ValueError, TypeError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())
        raise DaskroiError(
            f"chunks={brief(chunks)} does not fit an image of shape {shape} ({reason}). "
            "Use 'auto', a number of frames, or a dict such as {'time': 50}."
        ) from error
    return sizes


def _check_count(wanted: Any, shape: tuple[int, ...]) -> None:
    """Refuse what Dask would be at for ever: a damaged header may promise 10^15 chunks."""
    if len(wanted) != len(shape) or not all(isinstance(c, Integral) for c in wanted):
        return
    count = math.prod(
        -(-n // (n if c == -1 else int(c))) for c, n in zip(wanted, shape, strict=True)
    )
    if count > MOST_CHUNKS:
        raise ValueError(f"{count} chunks are more than the {MOST_CHUNKS} that Dask can go through")


def _odd(chunk: Any) -> bool:
    """Dask takes True for 1, -7 and "" for something, and has words of its own for the rest."""
    if isinstance(chunk, Integral) and not isinstance(chunk, bool):
        return not (int(chunk) == -1 or 0 < int(chunk) < 2**62)
    return isinstance(chunk, Real) or (isinstance(chunk, str) and not chunk.strip())


def _read_block(file: ImageFile, stored: bool, block_info: Any = None) -> np.ndarray:
    location = block_info[None]["array-location"]
    if file.n_time is None:
        location = [(0, 1), *location]
    time, z, y, x = (slice(lo, hi) for lo, hi in location)
    block = file.read_box((time, z, y, x))
    if not stored and file.scaled:
        block = block * np.float64(file.slope) + np.float64(file.inter)
    block = np.asarray(block, dtype=block.dtype.newbyteorder("="))
    return block if file.n_time is not None else block[0]


# by the name of the Dask array, which is a hash of file and chunks; for as long as an array has the
# file in its graph. Looked up, not opened again by the attribute "source": that has no credentials,
# and costs requests
_opened: WeakValueDictionary[str, ImageFile] = WeakValueDictionary()


def layer_file(array: da.Array, name: str) -> ImageFile | None:
    """The file that a layer of an array's graph reads, as far as this process knows.

    None where it reads none, or its values have been computed and kept (``persist``).
    """
    if not name.startswith("original-"):
        return None if is_in_memory(array, name) else _opened.get(name)
    # what xarray has of its engine, behind its own layers of indexing
    values = array.dask.layers[name].get(name) if name in array.dask.layers else None
    while values is not None and not isinstance(getattr(values, "file", None), ImageFile):
        values = getattr(values, "array", None)
    return None if values is None else values.file


def is_in_memory(array: da.Array, name: str) -> bool:
    """Whether a layer of an array's graph holds values, or futures of them, instead of tasks.

    Futures that are gone with their cluster do not count.
    """
    layer = array.dask.layers.get(name)
    # not materialised for this: 30,000 chunks take seconds
    if layer is None or not layer.is_materialized():
        return False
    return not all(
        hasattr(v, "dependencies") or getattr(v, "status", None) == "cancelled"
        for v in layer.values()
    )
