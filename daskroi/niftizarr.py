"""NIfTI-Zarr 1.0.rc1: an OME-Zarr image whose array ``nifti`` holds a NIfTI header.

The header is authoritative for shape, affine, scaling and repetition time; voxels are as they were
stored, not scaled. Level 0 of a multi-resolution image is read. Zarr v2 and v3, OME 0.4 and 0.5.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.header import checked_offset, header_fields, parse_header
from daskroi.imagefile import Box, ImageFile, current_watchers
from daskroi.nifti import read_sidecar_t_r
from daskroi.remote import retried
from daskroi.urls import StorageOptions, is_url, shown

if TYPE_CHECKING:
    import zarr

__all__ = ["ZarrImage", "located", "nifti_head"]

_T = TypeVar("_T")

# along which a NIfTI-Zarr array may have axes; a channel axis can only be of length 1
AXES = "tczyx"
# of a remote store is asked anew whether it changed; that costs a request, and every chunk is one
SECONDS_BETWEEN_CHECKS = 10.0
PAIR_MAGIC = {b"ni1\0": b"n+1\0", b"ni2\0": b"n+2\0"}
MAGIC_AT = {348: 344, 540: 4}


@dataclass(frozen=True, kw_only=True)
class ZarrImage(ImageFile):
    """A NIfTI-Zarr image, known by its metadata; picklable, reopened where it is read.

    Parameters
    ----------
    location : str
        Absolute path or URL of the group; may hold credentials, so show ``url``.
    version : str
        What identifies the content: times and hash of the metadata. It is checked again on
        reading: a store that was written anew in between is an error, not a mixture.
    document : str
        File of the group's metadata: ``zarr.json`` in Zarr v3.
    level : str
        Path of the array of level 0 in the group.
    axes : str
        Its axes, for example ``"tzyx"``.
    stored_chunks : tuple of 4 int
        Chunk sizes along (time, z, y, x).
    whole : bool
        Whether every chunk was written, so that a missing one is damage; otherwise it is zeros.
    blosc : bool
        Whether every file is one chunk packed by Blosc, which says how long it is.
    options : StorageOptions
        For fsspec.

    Examples
    --------
    >>> import daskroi as dr, tempfile
    >>> from daskroi.zarrwrite import to_zarr
    >>> image = dr.make_phantom((8, 9, 7), n_time=10, n_regions=4).image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = to_zarr(image, f"{folder}/x.nii.zarr")
    ...     file = ZarrImage.open(f"{folder}/x.nii.zarr")
    ...     file.shape, file.read_box((slice(4, 6), *map(slice, (0, 0, 0), (8, 9, 7)))).shape
    ((10, 8, 9, 7), (2, 8, 9, 7))
    """

    location: str
    version: str
    document: str
    level: str
    axes: str
    stored_chunks: tuple[int, int, int, int]
    whole: bool = False
    blosc: bool = False
    options: StorageOptions = field(default_factory=StorageOptions)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
    ) -> ZarrImage:
        """Read the metadata and the header; no voxel is read.

        Parameters
        ----------
        path : path or URL
        storage_options : mapping, optional
            For fsspec.

        Raises
        ------
        DaskroiNotFoundError
            No such store.
        DaskroiError
            Not NIfTI-Zarr, a conversion that was not finished, several channels, or an array that
            is not the one the header describes.
        """
        location, options = located(path), StorageOptions(storage_options)
        name = shown(location)
        found = _tried(location, options, lambda: _Metadata.read(location, options))
        if found is None:
            raise _absent(location, options)
        head = nifti_head(found.nifti, name)
        fields = header_fields(
            parse_header(head, name), name, lambda: read_sidecar_t_r(location, options)
        )
        axes = found.axes(name)
        sizes = dict(zip(axes, found.shape, strict=True))
        wanted = (fields["n_time"] or 1, *fields["grid"].shape)
        stored = tuple(sizes.get(axis, 1) for axis in "tzyx")
        if sizes.get("c", 1) > 1:
            raise DaskroiError(
                f"{name}: has {sizes['c']} channels; an image has one. Split it into one per file."
            )
        if stored != wanted:
            raise DaskroiError(
                f"{name}: the array has shape (time, z, y, x) = {stored} and the NIfTI header says "
                f"{wanted}: they do not belong together. Convert the image again."
            )
        if found.dtype.newbyteorder("=") != np.dtype(fields["dtype"]).newbyteorder("="):
            raise DaskroiError(
                f"{name}: the array holds {found.dtype} voxels and the NIfTI header says "
                f"{np.dtype(fields['dtype'])}: they do not belong together. "
                "Convert the image again."
            )
        chunks = dict(zip(axes, found.chunks, strict=True))
        return cls(
            location=location,
            version=found.version,
            document=found.document,
            level=found.level,
            axes=axes,
            stored_chunks=tuple(min(chunks.get(a, 1), sizes.get(a, 1)) for a in "tzyx"),  # type: ignore[arg-type]
            whole=found.whole,
            blosc=found.blosc,
            options=options,
            **(fields | {"dtype": found.dtype.str}),
        )

    def __repr__(self) -> str:
        return f"ZarrImage({self.url!r}, shape={self.shape}, dtype={self.dtype!r})"

    @property
    def url(self) -> str:
        """Path or URL, without credentials."""
        return shown(self.location)

    @property
    def seekable(self) -> bool:
        """Always: chunks are read in any order."""
        return True

    @property
    def chunks(self) -> tuple[int, ...]:
        """Stored chunk sizes along (time, z, y, x)."""
        return self.stored_chunks

    def read_box(self, box: Box) -> np.ndarray:
        """Read a part as stored; see `ImageFile`."""
        where = dict(zip("tzyx", box, strict=True))
        select = tuple(where.get(axis, slice(0, 1)) for axis in self.axes)
        values = _tried(self.location, self.options, lambda: self._array()[select])
        order = [self.axes.index(axis) for axis in AXES if axis in self.axes]
        # only axes of length 1 come and go
        return np.transpose(values, order).reshape([s.stop - s.start for s in box])

    def slabs(self, slab_frames: int | None = None) -> Generator[tuple[int, np.ndarray]]:
        """Stream the run front to back; the next slab is read while the caller works on this one.

        See `ImageFile`.
        """
        from concurrent.futures import ThreadPoolExecutor

        watchers = current_watchers()
        step = slab_frames or self.slab_frames()
        z, y, x = (slice(0, n) for n in self.grid.shape)

        def read(start: int) -> np.ndarray:
            return self.read_box((slice(start, min(start + step, self.frames)), z, y, x))

        with ThreadPoolExecutor(1, thread_name_prefix="daskroi-read") as pool:
            ahead = pool.submit(read, 0)
            for start in range(0, self.frames, step):
                slab = ahead.result()
                if start + step < self.frames:
                    ahead = pool.submit(read, start + step)
                yield start, slab
                for watcher in watchers:
                    watcher(len(slab))

    def read_head(self) -> bytes:
        """Everything that comes before the voxels in a NIfTI file: header and extensions."""
        found = _tried(
            self.location, self.options, lambda: _Metadata.read(self.location, self.options)
        )
        if found is None or found.version != self.version:
            raise _changed(self.url)
        return nifti_head(found.nifti, self.url)

    def _array(self) -> zarr.Array[Any]:
        _checks.check(self)
        return _array_of(self)


@dataclass(frozen=True)
class _Metadata:
    """What a NIfTI-Zarr group says of itself."""

    document: str
    version: str
    attrs: dict[str, Any]
    level: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    blosc: bool
    nifti: bytes

    @classmethod
    def read(cls, location: str, options: StorageOptions) -> _Metadata | None:
        """None where there is no Zarr group."""
        import zarr

        from daskroi.zarrstore import below, open_store, stamp

        store = open_store(location, options)
        group = _group(store)
        if group is None:
            return None
        attrs: dict[str, Any] = dict(group.attrs)
        scales = attrs.get("ome", attrs).get("multiscales")
        level = str(scales[0]["datasets"][0]["path"]) if scales else "0"
        arrays: dict[str, zarr.Array[Any]] = {}
        for name, remedy in (
            ("nifti", "Convert the NIfTI file with 'daskroi convert', which keeps its header."),
            (level, "Convert the image again."),
        ):
            found = group.get(name)
            if not isinstance(found, zarr.Array):
                what = "is an OME-Zarr" if scales else "is a Zarr group"
                raise DaskroiError(f"{shown(location)}: {what} without array {name!r}. {remedy}")
            arrays[name] = found
        array = arrays[level]
        nifti = np.asarray(arrays["nifti"][:]).tobytes()
        described = json.dumps([attrs, array.metadata.to_dict()], default=str, sort_keys=True)
        digest = hashlib.sha256(described.encode() + nifti).hexdigest()
        if group.metadata.zarr_format == 3:
            document = "zarr.json"
        else:
            document = ".zattrs" if attrs else ".zgroup"
        version = f"{stamp(below(location, document), options)} {digest}"
        packers = [type(codec).__name__ for codec in array.compressors]
        return cls(
            document=document,
            version=version,
            attrs=attrs,
            level=level,
            shape=array.shape,
            chunks=array.chunks,
            dtype=array.dtype,
            # zarr's class, and numcodecs' in Zarr v2
            blosc=array.shards is None and packers in (["BloscCodec"], ["Blosc"]),
            nifti=nifti,
        )

    @property
    def whole(self) -> bool:
        """Whether it is ours, and so has all chunks."""
        from daskroi.zarrstore import NOTE

        return NOTE in self.attrs

    def axes(self, name: str) -> str:
        """One letter per axis of the array."""
        scales = self.attrs.get("ome", self.attrs).get("multiscales")
        if scales:
            found = "".join(str(axis["name"]).lower() for axis in scales[0]["axes"])
        else:
            found = {3: "zyx", 4: "tzyx", 5: "tczyx"}.get(len(self.shape), "")
        fits = len(found) == len(self.shape) == len(set(found)) and set("zyx") <= set(found)
        if not fits or not set(found) <= set(AXES):
            raise DaskroiError(
                f"{name}: the array of shape {self.shape} has axes {found or 'unknown'!r}; an "
                "image has t, z, y and x. Convert the image again."
            )
        return found


def nifti_head(stored: bytes, name: str) -> bytes:
    """Everything before the voxels of a single NIfTI file, made of the array ``nifti``.

    The array has the header, and after it the extensions if there are any; zeros that only fill up
    are left out. Headers of a .hdr/.img pair become those of a single file.
    """
    for size, at in MAGIC_AT.items():
        if size in (int.from_bytes(stored[:4], "little"), int.from_bytes(stored[:4], "big")):
            single = PAIR_MAGIC.get(stored[at : at + 4])
            if single:
                stored = stored[:at] + single + stored[at + 4 :]
                stored = _with_offset(stored, name, 0)
    offset = checked_offset(name, parse_header(stored, name))
    if len(stored) > offset:  # extensions of an image that never was a file
        offset = -(-len(stored) // 16) * 16
        stored = _with_offset(stored, name, offset)
    return stored.ljust(offset, b"\0")


def _with_offset(stored: bytes, name: str, offset: int) -> bytes:
    header = parse_header(stored, name)
    header["vox_offset"] = offset
    return header.binaryblock + stored[len(header.binaryblock) :]


def located(path: str | os.PathLike[str]) -> str:
    """Absolute path, or URL."""
    location = os.fspath(path)
    if location.startswith("file://"):
        from urllib.request import url2pathname

        location = url2pathname(location.removeprefix("file://"))
    if is_url(location):
        return location
    return os.path.abspath(os.path.expanduser(location))


def _group(store: Any) -> zarr.Group | None:
    """The group in any Zarr format, v3 first: that is one request."""
    import zarr

    forbidden = None
    for zarr_format in (3, 2):
        try:
            return zarr.open_group(
                store,
                mode="r",
                zarr_format=zarr_format,
                use_consolidated=False,
            )
        except FileNotFoundError:
            continue
        except PermissionError as error:  # so S3 answers about what is not there, to strangers
            forbidden = error
    if forbidden is not None:
        raise forbidden
    return None


class _Checks:
    """When stores were last looked at."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str], float] = {}

    def check(self, image: ZarrImage) -> None:
        """Raise when a store is no longer the one that was opened."""
        from daskroi.zarrstore import below, stamp

        key, now = (image.location, image.version), time.monotonic()
        with self._lock:
            recent = now - self._last.get(key, -1e9) < SECONDS_BETWEEN_CHECKS
        if recent and is_url(image.location):
            return
        try:
            found = stamp(below(image.location, image.document), image.options)
        except FileNotFoundError as error:
            raise DaskroiNotFoundError(
                f"{image.url}: was there when opened, now is not. Restore it, or open another "
                "image."
            ) from error
        if not image.version.startswith(found + " "):
            raise _changed(image.url)
        with self._lock:
            if len(self._last) > 10_000:
                self._last.clear()
            self._last[key] = now


_checks = _Checks()


@lru_cache(maxsize=64)
def _array_of(image: ZarrImage) -> zarr.Array[Any]:
    """The array, opened once per process; a store written anew is another image."""
    import zarr

    from daskroi.zarrstore import CheckedStore, below, open_store

    location = below(image.location, image.level)
    store = CheckedStore(
        open_store(location, image.options), image.url, image.whole, image.blosc, is_url(location)
    )
    return zarr.open_array(store, mode="r", zarr_format=3 if image.document == "zarr.json" else 2)


if hasattr(os, "register_at_fork"):
    # connections belong to the event loop of the parent
    os.register_at_fork(after_in_child=_array_of.cache_clear)


def _tried(location: str, options: StorageOptions, work: Callable[[], _T]) -> _T:
    """Result of ``work``, retried; what Zarr and its codecs raise of broken data is said so."""

    def checked() -> _T:
        try:
            return work()
        except (DaskroiError, OSError):
            raise
        except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
            # Blosc raises RuntimeError, and so does a session that was closed
            if isinstance(error, RuntimeError) and "compress" not in str(error):
                raise
            reason = " ".join(str(error).split()).rstrip(".")
            raise DaskroiError(
                f"{shown(location)}: damaged Zarr data ({type(error).__name__}: {reason}). "
                "Copy the store or convert the image again."
            ) from error

    return retried(location, options, checked)


def _changed(name: str) -> DaskroiError:
    return DaskroiError(f"{name}: the store changed after it was opened. Open the image again.")


def _absent(location: str, options: StorageOptions) -> DaskroiError:
    """Why there is no Zarr group: nothing, something else, or a conversion that did not end."""
    from daskroi.zarrstore import CONVERSION, PART, below, exists

    name = shown(location)
    begun = [below(location, CONVERSION)]
    if not is_url(location):
        begun += [location + PART]
    if any(exists(place, options) for place in begun):
        return DaskroiError(
            f"{name}: the conversion into it has not ended. If it was interrupted, run it again: "
            "it goes on where it was."
        )
    if not exists(location, options):
        return DaskroiNotFoundError(f"{name}: no such Zarr store. Check the path.")
    return DaskroiError(
        f"{name}: is not a Zarr group (no zarr.json or .zgroup in it). "
        "Give the folder of a NIfTI-Zarr image; an incomplete copy has to be copied again."
    )
