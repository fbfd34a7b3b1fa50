"""`open_image`: a path, a nibabel image or a DataArray, as one lazy image."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.bytesource import ByteSource
from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.grid import Grid
from daskroi.image import DIMS, as_dims, grid_of, make_image
from daskroi.nifti import NiftiFile, header_description, header_t_r

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["as_file", "as_stored_file", "checked_chunks", "lazy_image", "open_image"]

# a chunk of 32 MiB of stored voxels keeps two threads, with what they gather, under 150 MB
CHUNK_BYTES = 32 << 20


def open_image(image: Any, chunks: Any = "auto", *, name: str | None = None) -> xr.DataArray:
    """Open an image lazily: only its header is read.

    Parameters
    ----------
    image : str, Path, nibabel image or DataArray
        ``.nii`` or ``.nii.gz`` (NIfTI-1 or -2), any other format nibabel reads as an array
        on disk, a nibabel image (on disk or in memory), or a DataArray with dims
        (time, z, y, x) or (z, y, x), in any order, that has geometry (see `make_image`).
    chunks : "auto", int, str, tuple or dict
        Frames per chunk or bytes of whole volumes (``"64 MiB"``); as tuple or dict, what
        `dask.array.Array.rechunk` takes over (time, z, y, x). "auto" is whole volumes, about
        32 MiB a chunk: disk order, so that a chunk is one contiguous read. Chunks that cut space
        make every chunk read more than it keeps. A DataArray keeps its own.
    name : str, optional
        Name of the DataArray; the file name without ending if not given.

    Returns
    -------
    DataArray, dims (time, z, y, x), or (z, y, x) for a 3D image
        Physical values (slope and intercept applied): dtype as stored, float64 if scaled. ``time``
        in seconds when the JSON sidecar or the header gives a plausible repetition time, else
        frame numbers. ``z``, ``y``, ``x`` are voxel indices of the file; the scalar coordinate
        ``affine`` places them. Attribute ``source`` is the path.

    Raises
    ------
    DaskroiError
        No such file, not an image, damaged header, complex or RGB voxels, 5D, an affine that is
        singular, fewer bytes than the header promises. The message names the file and the remedy.

    Notes
    -----
    A gzip stream reads only from the front, so chunks of a ``.nii.gz`` are cheap in order and dear
    out of order. `extract` recognises an image that is still what was opened and streams it.

    Examples
    --------
    >>> import nibabel as nib
    >>> image = open_image(nib.Nifti1Image(np.zeros((6, 5, 4, 10), "f4"), np.eye(4)))
    >>> image.dims, image.shape
    (('time', 'z', 'y', 'x'), (10, 4, 5, 6))
    """
    import xarray as xr

    if isinstance(image, xr.DataArray):
        image = as_dims(image)
        grid_of(image)
        return image
    file = as_file(image)
    if file is not None:
        default = os.path.basename(file.source.url).removesuffix(".gz").removesuffix(".nii")
        return lazy_image(file, chunks, name=name or default)
    return _in_memory(image, chunks, name)


def as_file(image: Any) -> NiftiFile | None:
    """The file behind a path, a nibabel image or an untouched DataArray; None if in memory.

    Raises
    ------
    DaskroiTypeError
        When ``image`` is none of these.
    """
    import xarray as xr

    if isinstance(image, xr.DataArray):
        return as_stored_file(image)
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        if path.endswith((".nii", ".nii.gz")):
            return NiftiFile.open(path)
        return _open_other(path)
    if not hasattr(image, "dataobj") or not hasattr(image, "affine"):
        raise DaskroiTypeError(
            f"An image is a path, a nibabel image or a DataArray, not {type(image).__name__}. "
            "For a NumPy array, use daskroi.make_image(array, grid)."
        )
    return _of_proxy(image)


def _open_other(path: str) -> NiftiFile:
    """Formats other than single-file NIfTI: nibabel says where in the file the array lies."""
    import nibabel as nib

    source = ByteSource.of(path)  # says what is missing or empty
    try:
        image = nib.load(path)
    except nib.filebasedimages.ImageFileError:
        return NiftiFile.open(path)  # perhaps NIfTI by another name; says so if not
    except Exception as error:  # each of a dozen formats fails in its own ways
        raise DaskroiError(
            f"{source.url}: nibabel cannot read it ({_one_line(error)}). Copy or download it again."
        ) from error
    file = _of_proxy(image)
    if file is None:
        raise DaskroiError(
            f"{source.url}: this format cannot be read lazily. Convert it to .nii with nibabel."
        )
    return file


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _of_proxy(image: Any) -> NiftiFile | None:
    """A nibabel image whose array is still on disk, read by our own reader; None if in memory.

    Grid, TR and scaling come from the object, which the user may have changed, not from the file.
    """
    from nibabel.arrayproxy import ArrayProxy

    proxy = getattr(image, "dataobj", None)
    # subclasses read in ways of their own; an open file object is somebody else's
    if type(proxy) is not ArrayProxy or not isinstance(proxy.file_like, str | os.PathLike):
        return None
    if proxy.order != "F":
        return None
    source = ByteSource.of(proxy.file_like)
    dtype = np.dtype(proxy.dtype)
    shape, grid = _nibabel_grid(image, source.url, dtype)
    return NiftiFile(
        source,
        grid,
        shape[3] if len(shape) == 4 else None,
        dtype.str,
        int(proxy.offset),
        float(proxy.slope),
        float(proxy.inter),
        *(header_t_r(source.url, image.header) if len(shape) == 4 else (None, "")),
        header_description(image.header),
    ).checked()


def _nibabel_grid(image: Any, culprit: str, dtype: np.dtype[Any]) -> tuple[tuple[int, ...], Grid]:
    shape = tuple(image.shape)
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or 0 in shape:
        raise DaskroiError(
            f"{culprit}: has shape {shape}; an image has 3 or 4 dimensions, none of them empty. "
            "Reshape it, or split it along the last one."
        )
    if dtype.kind not in "biuf":
        raise DaskroiError(
            f"{culprit}: holds {dtype} voxels; region series are of real numbers. "
            "Save the magnitude, or one channel, as its own image."
        )
    if image.affine is None:
        raise DaskroiError(
            f"{culprit}: has no affine, so its voxels have no place in space. "
            "Make the image with the affine of the run it belongs to."
        )
    return shape, Grid.make(shape[2::-1], image.affine, culprit)


def _in_memory(image: Any, chunks: Any, name: str | None) -> xr.DataArray:
    import dask.array as da

    culprit = image.get_filename() or "the nibabel image"
    values = np.asanyarray(image.dataobj)
    shape, grid = _nibabel_grid(image, culprit, values.dtype)
    values = values.reshape(shape).T
    if values.dtype == bool:
        values = values.view(np.uint8)
    t_r, t_r_source = header_t_r("", image.header) if len(shape) == 4 else (None, "")
    wanted = checked_chunks(values.shape, values.dtype, chunks)
    return make_image(
        da.from_array(values, chunks=wanted), grid, t_r=t_r, t_r_source=t_r_source, name=name
    )


def lazy_image(
    file: NiftiFile, chunks: Any = "auto", *, stored: bool = False, name: str | None = None
) -> xr.DataArray:
    """A file as a lazy image: one task per chunk, each reading its own part.

    Parameters
    ----------
    file : NiftiFile
    chunks : "auto", int, str, tuple or dict
        As in `open_image`.
    stored : bool
        Values as stored instead of physical ones.

    Returns
    -------
    DataArray, dims (time, z, y, x) or (z, y, x)
    """
    import dask.array as da
    from dask.base import tokenize

    dtype = np.dtype(file.dtype).newbyteorder("=") if stored else file.value_dtype
    sizes = checked_chunks(file.shape, np.dtype(file.dtype), chunks)
    array = da.map_blocks(
        _read_block,
        file,
        stored,
        dtype=dtype,
        chunks=sizes,
        meta=np.empty((0,) * len(file.shape), dtype),
        name=f"nifti-{tokenize(file, stored, sizes)}",
    )
    return make_image(
        array,
        file.grid,
        t_r=file.t_r,
        t_r_source=file.t_r_source,
        name=name,
        attrs={"source": file.source.url},
    )


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
        sizes = da.core.normalize_chunks(tuple(wanted), shape, dtype=dtype)
        # Dask takes True for 1 and -7 for something
        if any(isinstance(c, bool) for c in wanted) or min(map(min, sizes)) < 1:
            raise ValueError("a chunk is a positive number of voxels, or -1 for all")
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise DaskroiError(
            f"chunks={chunks!r} does not fit an image of shape {shape} ({_one_line(error)}). "
            "Use 'auto', a number of frames, or a dict such as {'time': 50}."
        ) from error
    return sizes


def _read_block(file: NiftiFile, stored: bool, block_info: Any = None) -> np.ndarray:
    location = block_info[None]["array-location"]
    frames = location[0] if file.n_time is not None else (0, 1)
    space = tuple(slice(lo, hi) for lo, hi in location[-3:])
    slab = file.read(*frames)[(slice(None), *space)]
    if not stored and file.scaled:
        slab = slab * np.float64(file.slope) + np.float64(file.inter)
    # a copy only where the block is a part of a volume: it must not keep the whole slab alive
    slab = np.ascontiguousarray(slab, dtype=slab.dtype.newbyteorder("="))
    return slab if file.n_time is not None else slab[0]


def as_stored_file(image: xr.DataArray) -> NiftiFile | None:
    """The file behind an image that is exactly what was opened, or None.

    Recognised by the name of the Dask array, which is a hash of file and chunks: any operation on
    the values gives another name.
    """
    import dask.array as da
    from dask.base import tokenize

    url = image.attrs.get("source")
    if not isinstance(image.data, da.Array) or not isinstance(url, str):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said when it was opened
            file = as_file(url)
    except DaskroiError:
        return None
    name = f"nifti-{tokenize(file, False, image.data.chunks)}"
    return file if file is not None and image.data.name == name else None
