"""`to_zarr`: an image into a NIfTI-Zarr store, some chunks in memory at a time."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.errors import DaskroiError
from daskroi.header import checked_offset, header_fields, parse_header
from daskroi.imagefile import ImageFile, StreamEndedError
from daskroi.niftizarr import ZarrImage
from daskroi.paths import name_of
from daskroi.remote import retried
from daskroi.urls import StorageOptions, checked_path, is_url, located, shown
from daskroi.zarrlayout import Layout, multiscales

if TYPE_CHECKING:
    import xarray as xr
    import zarr

    from daskroi.zarrtarget import Target

__all__ = ["Source", "check_apart", "source_of", "to_zarr"]

# written at a time: Zarr packs the chunks of one write in threads
WRITE_BYTES = 32 << 20
# gathered at most where chunks are long in time; an image is then read several times
GATHER_BYTES = 256 << 20


def to_zarr(
    image: Any,
    url: str | os.PathLike[str],
    *,
    chunks: Any = "auto",
    zarr_format: int = 3,
    shards: Any = None,
    compressor: str = "lz4",
    storage_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> bool:
    """Write an image as NIfTI-Zarr, which chunks make fast to read in parallel and from afar.

    Parameters
    ----------
    image : path, URL, nibabel image or DataArray
        See `open_image`. Of a NIfTI file, header, extensions and voxels are kept as they are
        stored; of a DataArray, a header is made as by `to_nifti`.
    url : path or URL
        Of the store, by custom ``….nii.zarr``.
    chunks : "auto", int, tuple or dict
        Voxels per chunk along (time, z, y, x): frames, or a dict such as ``{"time": 1}``; -1 and
        what a dict leaves out are whole. "auto": whole volumes of about 16 MiB. Chunks long in
        time and small in space make time series of single voxels fast, and everything else slow.
    zarr_format : {3, 2}
        3 is Zarr v3 with OME-Zarr 0.5; 2 is Zarr v2 with OME-Zarr 0.4, which older software reads.
    shards : None, "auto", int, tuple or dict
        Chunks that are one file together, for stores of many small chunks; "auto": where chunks are
        smaller than 2 MiB, about 64 MiB of them. Not in Zarr v2.
    compressor : {"lz4", "zstd"}
        In Blosc, bytes shuffled. zstd comes out a seventh smaller and takes two to six times as
        long.
    storage_options : mapping, optional
        For URLs, of the image too.
    overwrite : bool
        Replace a store of another image or with other options, and make the same anew.

    Returns
    -------
    bool
        Whether anything was written. False: the store holds this image already.

    Raises
    ------
    DaskroiError
        Something else is there, another process writes there, or it cannot be written.

    Notes
    -----
    The image is read front to back, some 32 MiB at a time. An interrupted conversion does not open;
    run it again and it goes on: on disk, chunks that are there are compared with the image, in an
    object store those that are there are complete.

    Examples
    --------
    >>> from daskroi import to_zarr
    >>> import daskroi as dr, tempfile
    >>> image = dr.make_phantom((8, 9, 7), n_time=10, n_regions=4).image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_zarr(image, f"{folder}/x.nii.zarr"), to_zarr(image, f"{folder}/x.nii.zarr")
    (True, False)
    """
    from daskroi.zarrstore import NOTE
    from daskroi.zarrtarget import claimed

    source = source_of(image, storage_options)
    location, options = located(checked_path("url", url)), StorageOptions(storage_options)
    check_apart(source, location)
    layout = Layout.make(
        source.shape,
        source.dtype,
        chunks=chunks,
        shards=shards,
        compressor=compressor,
        zarr_format=zarr_format,
    )
    plan = _plan(source, layout)
    with claimed(location, options, plan, overwrite) as target:
        if target is None:
            return False
        try:
            _write_voxels(source, layout, target)
        except DamagedSourceError as error:
            if not is_url(target.place):
                # it would be in the way of the conversion of a whole copy
                shutil.rmtree(target.place, ignore_errors=True)
            raise error.error from error.error.__cause__
        stored = np.frombuffer(_stored_head(source.head), np.uint8)
        layout.create_header(target.store("nifti"), len(stored))[:] = stored
        name = os.path.basename(target.name.rstrip("/")).removesuffix(".zarr").removesuffix(".nii")
        described = multiscales(source.head, name, len(source.shape), zarr_format)
        target.finish(described | {NOTE: plan}, zarr_format)
    return True


@dataclass(frozen=True)
class Source:
    """An image to be written: the bytes before its voxels, and its voxels as they are stored.

    Parameters
    ----------
    head : bytes
        NIfTI header and extensions.
    identity : dict
        What tells it from other images.
    slabs : callable
        From frames per slab (0: as it likes) to (first frame, slab (time, z, y, x)).
    name : str
        For messages.
    files : tuple of str
        Paths or URLs it is read from, as far as they are known.
    """

    head: bytes
    identity: dict[str, Any]
    slabs: Callable[[int], Generator[tuple[int, np.ndarray]]]
    name: str
    files: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, Any]:
        """What the header says; see `header_fields`."""
        return header_fields(parse_header(self.head, self.name), self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, z, y, x), or (z, y, x)."""
        fields = self.fields
        time = () if fields["n_time"] is None else (fields["n_time"],)
        return (*time, *fields["grid"].shape)

    @property
    def dtype(self) -> str:
        """As stored, with the byte order of the header."""
        return self.fields["dtype"]


class DamagedSourceError(Exception):
    """A file on disk cannot be read to its end: going on later will not help."""

    def __init__(self, error: DaskroiError) -> None:
        super().__init__(str(error))
        self.error = error


def _read(slabs: Generator[tuple[int, np.ndarray]], name: str) -> Generator[tuple[int, np.ndarray]]:
    """The same slabs; what is wrong with a file told apart from what is wrong with the target."""
    try:
        yield from slabs
    except StreamEndedError:
        raise
    except DaskroiError as error:
        if is_url(name):  # a connection may be better next time
            raise
        raise DamagedSourceError(error) from error


def check_apart(source: Source, location: str) -> None:
    """Raise when an image would be written over itself, or into its own store.

    Examples
    --------
    >>> import daskroi as dr
    >>> check_apart(source_of(dr.make_phantom((8, 9, 7), 10, n_regions=4).image), "/data/x.nii")
    """
    for file in (source.name, *source.files):
        there, here = shown(location).rstrip("/"), file.rstrip("/")
        if not is_url(location):
            there, here = os.path.realpath(there), os.path.realpath(here)
        if not f"{there}/".startswith(f"{here}/"):
            continue
        raise DaskroiError(
            f"{shown(location)}: is the image itself, or in it, so it is not written there. "
            "Give another path."
        )


def source_of(image: Any, storage_options: Mapping[str, Any] | None = None) -> Source:
    """Header and voxels of anything that `open_image` takes.

    Examples
    --------
    >>> import daskroi as dr
    >>> source_of(dr.make_phantom((8, 9, 7), n_time=10, n_regions=4).image).shape
    (10, 8, 9, 7)
    """
    from daskroi.openimage import as_file, open_image

    file = as_file(image, storage_options)
    if file is not None:
        identity = _identity(file)
        head = _head_of(file)
        if head is not None:
            return Source(head, identity, lambda n: file.slabs(n or None), file.url)
    return _of_array(open_image(image, storage_options=storage_options))


def _of_array(image: xr.DataArray) -> Source:
    from dask.base import tokenize

    from daskroi.niftiheader import file_dtype, header_bytes
    from daskroi.tonifti import files_read, image_slabs

    def slabs(_: int) -> Generator[tuple[int, np.ndarray]]:
        start = 0
        with closing(image_slabs(image, file_dtype(image), WRITE_BYTES)) as found:
            for slab in found:
                yield start, slab
                start += len(slab)

    identity = {"token": tokenize(image.data)}
    name = image.attrs.get("source") or "the image"
    return Source(header_bytes(image), identity, slabs, name, tuple(files_read(image)))


def _identity(file: ImageFile) -> dict[str, Any]:
    """Name, size and version; not the path, which is nobody's business who gets the store."""
    name = name_of(file.url)
    if isinstance(file, ZarrImage):
        return {"name": name, "version": file.version}
    source: Any = file.source  # type: ignore[attr-defined]
    return {"name": name, "size": source.size, "version": source.version}


def _head_of(file: ImageFile) -> bytes | None:
    """The bytes before the voxels of a file; None if it is not NIfTI, or not as the header says."""
    if isinstance(file, ZarrImage):
        return file.read_head()
    source, offset = file.source, file.offset  # type: ignore[attr-defined]
    head = source.head(offset)
    try:
        header = parse_header(head, file.url)
        fields = header_fields(header, file.url)
        if checked_offset(file.url, header) != offset:
            return None
    except ValueError:  # another format, that nibabel found the voxels in
        return None
    # of a nibabel image, the user may have changed what the file says
    told = ("grid", "n_time", "dtype", "slope", "inter")
    return head if all(fields[name] == getattr(file, name) for name in told) else None


def _stored_head(head: bytes) -> bytes:
    """The header alone where nothing but zeros follows it: the array then has its length."""
    size = 348 if 348 in (int.from_bytes(head[:4], order) for order in ("little", "big")) else 540
    return head if any(head[size:]) else head[:size]


def _plan(source: Source, layout: Layout) -> dict[str, Any]:
    """What tells a conversion from others; it stays in the group's attributes."""
    return {
        "nifti_zarr": "1.0.rc1",
        "source": source.identity,
        "header_sha256": hashlib.sha256(source.head).hexdigest(),
        "chunks": list(layout.chunks),
        "shards": None if layout.shards is None else list(layout.shards),
        "compressor": layout.compressor,
        "zarr_format": layout.zarr_format,
        "all_chunks_written": True,
    }


def _write_voxels(source: Source, layout: Layout, target: Target) -> None:
    """Write what is missing, front to back."""
    there = {key.removeprefix("0/") for key in target.files() if key.startswith("0/")}
    array = _array(layout, target, there)
    frame = math.prod(layout.shape[-3:]) * np.dtype(layout.dtype).itemsize
    n_time = layout.shape[0] if len(layout.shape) == 4 else 1
    unit = layout.stored[0] if len(layout.shape) == 4 else 1
    # taken up again, chunk by chunk: those that are there stay
    begun = bool(there - {"zarr.json", ".zarray", ".zattrs"})
    step = unit if begun else unit * max(1, WRITE_BYTES // (unit * frame))
    for rows in _bands(layout, unit * frame):
        whole = rows == slice(0, layout.shape[-3])
        # what is long in time is gathered from small slabs, for there are two of these
        slab = step if whole and step * frame <= WRITE_BYTES else 0
        with closing(_read(source.slabs(slab), source.name)) as slabs:
            for start, part in _gathered(slabs, rows, step, n_time):
                target.check()
                box = (slice(start, start + len(part)), rows, *map(slice, (0, 0), part.shape[2:]))
                box, part = (box, part) if len(layout.shape) == 4 else (box[1:], part[0])
                complete = there.issuperset(layout.keys(box))
                if complete and (target.atomic or _holds(layout, target, box, part)):
                    continue
                _write(array, target, box, part)


def _array(layout: Layout, target: Target, there: set[str]) -> zarr.Array[Any]:
    import zarr

    metadata = "zarr.json" if layout.zarr_format == 3 else ".zarray"
    if metadata in there:
        return zarr.open_array(target.store("0"), mode="r+", zarr_format=layout.zarr_format)  # type: ignore[arg-type]
    return layout.create(target.store("0"))


def _write(
    array: zarr.Array[Any], target: Target, box: tuple[slice, ...], part: np.ndarray
) -> None:
    if is_url(target.place):
        retried(target.place, target.options, lambda: array.__setitem__(box, part), writing=True)
    else:
        array[box] = part


def _holds(layout: Layout, target: Target, box: tuple[slice, ...], part: np.ndarray) -> bool:
    """Whether the chunks that are there have these voxels, bit by bit: NaNs have many."""
    import zarr

    from daskroi.zarrstore import CheckedStore

    store = CheckedStore(target.store("0"), target.name, blosc=layout.shards is None)
    try:
        # "r" is refused by Zarr below 3.1.6, for the store can be written
        array = zarr.open_array(store, mode="r+", zarr_format=layout.zarr_format)  # type: ignore[arg-type]
        stored = np.ascontiguousarray(array[box])
    except Exception:  # whatever a codec says of half a chunk
        return False
    wanted = np.ascontiguousarray(part, dtype=stored.dtype)
    return bool(np.array_equal(stored.view(np.uint8), wanted.view(np.uint8)))


def _bands(layout: Layout, unit_bytes: int) -> Iterator[slice]:
    """Parts of the z axis, of whole chunks, whose chunks over time fit into memory."""
    n, chunk = layout.shape[-3], layout.stored[-3]
    fits = max(1, n * GATHER_BYTES // (unit_bytes * chunk)) * chunk
    for start in range(0, n, fits):
        yield slice(start, min(start + fits, n))


def _gathered(
    slabs: Iterator[tuple[int, np.ndarray]], rows: slice, step: int, n_time: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Slabs of any lengths, as parts that begin at multiples of ``step``; copied if need be."""
    part = np.empty(0)
    for start, slab in slabs:
        at = 0
        while at < len(slab):
            frame = start + at
            first = frame // step * step
            size = min(step, n_time - first)
            taken = min(first + size - frame, len(slab) - at)
            piece = slab[at : at + taken, rows]
            if taken == size:
                yield first, piece
            else:
                if frame == first:
                    part = np.empty((size, *piece.shape[1:]), slab.dtype)
                part[frame - first : frame - first + taken] = piece
                if frame + taken == first + size:
                    yield first, part
            at += taken
