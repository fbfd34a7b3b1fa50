"""`open_image`: a path, a nibabel image or a DataArray, as one lazy image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.bytesource import ByteSource
from daskroi.errors import DaskroiError, DaskroiTypeError, brief, check_choice, one_line
from daskroi.grid import Grid
from daskroi.header import header_description
from daskroi.image import as_dims, grid_of, make_image
from daskroi.imagefile import ImageFile
from daskroi.lazyimage import checked_chunks, is_in_memory, layer_file, lazy_image
from daskroi.nested import scheduler_here
from daskroi.nifti import NiftiFile, sidecar_beside, timed
from daskroi.paths import name_of, stem_of
from daskroi.repetition import RepetitionTime, header_t_r
from daskroi.unsaid import kept_warnings
from daskroi.urls import checked_path, is_url, local_path, shown

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = [
    "as_file",
    "as_stored_file",
    "build_index",
    "by_chunk",
    "open_image",
    "open_run",
    "values_of",
]


def open_image(
    image: Any,
    chunks: Any = "auto",
    *,
    name: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    index: bool | str = "auto",
) -> xr.DataArray:
    """Open an image lazily: only its header is read.

    Parameters
    ----------
    image : str, Path, nibabel image or DataArray
        ``.nii`` or ``.nii.gz`` (NIfTI-1 or -2) or ``.nii.zarr``, as path or URL (``s3://``,
        ``gs://``, ``https://``, whatever fsspec knows); a path of any other format nibabel reads
        as an array on disk; a nibabel image (on disk or in memory), or a DataArray with dims
        (time, z, y, x) or (z, y, x), in any order, that has geometry (see `make_image`).
    chunks : "auto", int, str, tuple or dict
        Frames per chunk or bytes of whole volumes (``"64 MiB"``); as tuple or dict, what
        `dask.array.Array.rechunk` takes over (time, z, y, x). "auto" is whole volumes, about
        32 MiB a chunk: disk order, so that a chunk is one contiguous read; of Zarr, whole stored
        chunks. Chunks that cut space make every chunk of a NIfTI file read more than it keeps. A
        DataArray keeps its own.
    name : str, optional
        Name of the DataArray; the file name without ending if not given.
    storage_options : mapping, optional
        For fsspec, where the image is at a URL: ``{"anon": True}`` for a public bucket,
        credentials, an endpoint. They travel to the workers, and are never shown or written.
    index : {"auto", True, False}
        Whether ``.nii.gz`` is read by an index, so that any volume can be had without those before
        it. "auto": if there is one (see `build_index`), or once reading here and there has cost
        as much as making one. True: the first who reads builds it, which reads the whole file
        once.

    Returns
    -------
    DataArray, dims (time, z, y, x), or (z, y, x) for a 3D image
        Physical values (slope and intercept applied): dtype as stored, float64 if scaled. ``time``
        in seconds when the JSON sidecar or the header gives a plausible repetition time, else
        frame numbers. ``z``, ``y``, ``x`` are voxel indices of the file; the scalar coordinate
        ``affine`` places them. Attribute ``source`` is the path or URL, without credentials.

    Raises
    ------
    DaskroiError
        No such file, not an image, damaged header, complex or RGB voxels, 5D, an affine that is
        singular, fewer bytes than the header promises; a server that refuses, or does not answer
        for half a minute. The message names the file and the remedy.

    Notes
    -----
    A gzip stream reads only from the front, so without an index chunks of a ``.nii.gz`` are cheap
    in order and dear out of order, which is how Dask computes them. `extract` recognises an image
    that is still what was opened and streams it. A process keeps a few of its last streams open
    where they stand (two, and four with an index): a file that is deleted meanwhile takes room
    until they go.

    Examples
    --------
    >>> import numpy as np
    >>> from daskroi import open_image
    >>> import nibabel as nib
    >>> image = open_image(nib.Nifti1Image(np.zeros((6, 5, 4, 10), "f4"), np.eye(4)))
    >>> image.dims, image.shape
    (('time', 'z', 'y', 'x'), (10, 4, 5, 6))
    """
    import xarray as xr

    check_choice("index", index, ("auto", True, False))
    if name is not None and not isinstance(name, str):
        raise DaskroiTypeError(f"name={brief(name)} is not a str. Give a name, or None.")
    if isinstance(image, xr.DataArray):
        image = as_dims(image)
        grid_of(image)
        return by_chunk(image)
    file = as_file(image, storage_options, index=index)
    return _in_memory(image, chunks, name) if file is None else _of_file(file, chunks, name)


def open_run(image: Any, chunks: Any, storage_options: Mapping[str, Any] | None) -> xr.DataArray:
    """As `open_image`, of an image whose volumes are worked on as wholes.

    Refused before a task is made, where one fits into no memory: 30,000 of them take 9 s.
    """
    file = as_file(image, storage_options)
    if file is not None:
        file.check_fits(file.frame_bytes)
    if file is None or hasattr(image, "dims"):
        return open_image(image, chunks, storage_options=storage_options)
    return _of_file(file, chunks)


def _of_file(file: ImageFile, chunks: Any, name: str | None = None) -> xr.DataArray:
    return lazy_image(file, chunks, name=name or stem_of(name_of(file.url)))


def by_chunk(image: xr.DataArray) -> xr.DataArray:
    """What an engine of xarray reads when it is indexed, in chunks: the whole may not fit."""
    best = image.encoding.get("preferred_chunks", {})
    if image.chunks is not None or not best:
        return image
    return image.chunk({d: best[d] for d in image.dims if d in best})


def build_index(
    image: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None
) -> None:
    """Make the index by which any volume of a ``.nii.gz`` is read without those before it.

    Reads the whole file once, on several threads (1.2 s for a run of 1.08 GB on two cores); at
    once when there is an index already, or the image is not gzipped. Indexes are small (60 KB for
    that run) and kept in ``$DASKROI_CACHE``, else the platform's cache folder
    (``~/.cache/daskroi``), by the file's URL, size and time or ETag: who opens the image from then
    on uses it.

    Parameters
    ----------
    image : path or URL
    storage_options : mapping, optional
        For fsspec.

    Raises
    ------
    DaskroiError
        The file is truncated or damaged, or the folder cannot be written to.

    Examples
    --------
    >>> from daskroi import build_index, open_image
    >>> import daskroi as dr, os, tempfile
    >>> os.environ["DASKROI_CACHE"] = tempfile.mkdtemp()
    >>> paths = dr.write_phantom(tempfile.mkdtemp(), dr.make_phantom((12, 14, 12), 40, n_regions=4))
    >>> build_index(paths["image"])
    >>> volume = open_image(paths["image"], chunks=1).isel(time=37).compute()
    >>> del os.environ["DASKROI_CACHE"]
    """
    source = ByteSource.of(checked_path("image", image), storage_options)
    if source.gzipped:
        file = as_file(image, storage_options, index=False)
        # the header says how much there is to inflate
        (file.source if isinstance(file, NiftiFile) else source).make_index()


def as_file(
    image: Any,
    storage_options: Mapping[str, Any] | None = None,
    *,
    index: bool | str = "auto",
) -> ImageFile | None:
    """The file behind a path, URL, nibabel image or untouched DataArray; None if in memory.

    Raises
    ------
    DaskroiTypeError
        When ``image`` is none of these.
    """
    import xarray as xr
    from dask.delayed import Delayed

    if isinstance(image, xr.DataArray):
        return as_stored_file(image)
    if isinstance(image, str | os.PathLike):
        path = local_path(image)
        name = name_of(shown(path))
        if name.endswith(".zarr") or _is_zarr_folder(path):
            from daskroi.niftizarr import ZarrImage

            return ZarrImage.open(path, storage_options)
        if name.endswith((".nii", ".nii.gz")):
            return NiftiFile.open(path, storage_options, index=index)
        return _open_other(path, storage_options)
    delayed = isinstance(image, Delayed)  # which has whatever one asks it for
    if (
        isinstance(image, type)
        or delayed
        or not (hasattr(image, "dataobj") and hasattr(image, "affine"))
    ):
        several = isinstance(image, list | tuple) or hasattr(image, "func")
        remedy = (
            "Call compute() first."
            if delayed
            else "Give one run at a time, such as dataset.func[0]."
            if several
            else "For a NumPy array, use daskroi.make_image(array, grid)."
        )
        raise DaskroiTypeError(
            "An image is a path, a URL, a nibabel image or a DataArray, not "
            f"{type(image).__name__}. {remedy}"
        )
    return _of_proxy(image)


def _is_zarr_folder(path: str) -> bool:
    """Whether a local folder of any name is a Zarr group."""
    names = ("zarr.json", ".zgroup")
    return not is_url(path) and any(os.path.isfile(os.path.join(path, n)) for n in names)


def _open_other(path: str, storage_options: Mapping[str, Any] | None) -> NiftiFile:
    """Formats other than single-file NIfTI: nibabel says where in the file the array lies."""
    import nibabel as nib

    if is_url(path):
        # perhaps NIfTI by another name, as behind many download links; says so if not
        return NiftiFile.open(path, storage_options)
    source = ByteSource.of(path)  # says what is missing or empty
    try:
        image = nib.load(path)
    except nib.filebasedimages.ImageFileError:
        return NiftiFile.open(path)  # perhaps NIfTI by another name; says so if not
    except Exception as error:  # each of a dozen formats fails in its own ways
        raise DaskroiError(
            f"{source.url}: nibabel cannot read it ({one_line(error)}). Copy or download it again."
        ) from error
    file = _of_proxy(image)
    if file is None:
        raise DaskroiError(
            f"{source.url}: this format cannot be read lazily. Convert it to .nii with nibabel."
        )
    return file


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
    source = ByteSource.of(proxy.file_like, index="auto")
    dtype = np.dtype(proxy.dtype)
    shape, grid = _nibabel_grid(image, source.url, dtype)
    run = len(shape) == 4
    file = NiftiFile(
        source=source,
        grid=grid,
        n_time=shape[3] if run else None,
        dtype=dtype.str,
        offset=int(proxy.offset),
        slope=float(proxy.slope),
        inter=float(proxy.inter),
        repetition=header_t_r(image.header) if run else RepetitionTime(),
        description=header_description(image.header),
    )
    return timed(file.checked(), sidecar_beside(source.url))


def _nibabel_grid(image: Any, culprit: str, dtype: np.dtype[Any]) -> tuple[tuple[int, ...], Grid]:
    # Python's integers: the product of NumPy's may overflow
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or min(shape) < 1:
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
    found = header_t_r(image.header)
    wanted = checked_chunks(values.shape, values.dtype, chunks)
    lazy = da.from_array(values, chunks=wanted)
    return make_image(lazy, grid, t_r=found.seconds, t_r_source=found.source, name=name)


def as_stored_file(image: xr.DataArray) -> ImageFile | None:
    """The file behind an image that is exactly what was opened, or None.

    Recognised by the graph of the Dask array: any operation on the values gives another name, and
    what was persisted is not read again. In another process than the one that opened it, it is
    opened again to know.
    """
    from dask.base import tokenize

    if image.chunks is None:  # `data` would read what an engine of xarray has not read yet
        return None
    name, chunks = image.data.name, image.data.chunks
    url = image.attrs.get("source")
    # xarray's name for what it has opened, and only for that
    known = f"original-{name}" if name.startswith("open_dataset-") else name
    if (file := layer_file(image.data, known)) is not None:
        return file
    if not isinstance(url, str) or not name.startswith("nifti-") or is_in_memory(image.data, name):
        return None
    for index in ("auto", True, False):
        try:
            with kept_warnings():  # said when it was opened
                file = as_file(url, index=index)
        except DaskroiError:
            return None
        if file is not None and name == f"nifti-{tokenize(file, False, chunks)}":
            return file
    return None


def values_of(image: xr.DataArray) -> NDArray[Any]:
    """All values of an image, now; of one that is a file, read by this process.

    A bare ``compute`` goes to the cluster that is current, which may not see the file, and which in
    one of its own tasks would take up another task meanwhile.

    Examples
    --------
    >>> import daskroi as dr
    >>> values_of(dr.make_phantom((12, 14, 12), n_time=20, n_regions=4).image).shape
    (20, 12, 14, 12)
    """
    file = as_stored_file(image)
    if file is None:
        return np.asarray(image.data)  # it may be made of what is in the memory of a cluster
    file.check_fits(image.size * image.dtype.itemsize)
    return np.asarray(image.data.compute(scheduler=scheduler_here()))
