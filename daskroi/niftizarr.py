"""NIfTI-Zarr 1.0.rc1: an OME-Zarr image whose array ``nifti`` holds a NIfTI header.

The header is authoritative for shape, affine, scaling and repetition time; voxels are as they were
stored, not scaled. Level 0 of a multi-resolution image is read. Zarr v2 and v3, OME 0.4 and 0.5.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.header import header_fields, parse_header
from daskroi.imagefile import Box, ImageFile, current_watchers
from daskroi.nifti import sidecar_beside, timed
from daskroi.urls import StorageOptions, is_url, located, shown
from daskroi.zarrgroup import AXES, Metadata, absent, check_decoding, nifti_head, tried

if TYPE_CHECKING:
    import zarr

__all__ = ["ZarrImage"]

# of a remote store is asked anew whether it changed; that costs a request, and every chunk is one
SECONDS_BETWEEN_CHECKS = 10.0


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
        found = tried(location, options, lambda: Metadata.read(location, options))
        if found is None:
            raise absent(location, options)
        found.check_version(name)
        head = nifti_head(found.nifti, name)
        fields = header_fields(parse_header(head, name), name)
        axes = found.axes
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
        file = cls(
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
        return timed(file, sidecar_beside(location), options)

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
        itemsize = np.dtype(self.dtype).itemsize
        for sizes in ([s.stop - s.start for s in box], self.stored_chunks):
            self.check_fits(math.prod(sizes) * itemsize)
        where = dict(zip("tzyx", box, strict=True))
        select = tuple(where.get(axis, slice(0, 1)) for axis in self.axes)
        values = tried(self.location, self.options, lambda: self._array()[select])
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
        found = tried(
            self.location, self.options, lambda: Metadata.read(self.location, self.options)
        )
        if found is None or found.version != self.version:
            raise _changed(self.url)
        return nifti_head(found.nifti, self.url)

    def _array(self) -> zarr.Array[Any]:
        _checks.check(self)
        return _array_of(self)


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
    array = zarr.open_array(store, mode="r", zarr_format=3 if image.document == "zarr.json" else 2)
    check_decoding(array, image.url)
    return array


if hasattr(os, "register_at_fork"):
    # connections belong to the event loop of the parent
    os.register_at_fork(after_in_child=_array_of.cache_clear)


def _changed(name: str) -> DaskroiError:
    return DaskroiError(f"{name}: the store changed after it was opened. Open the image again.")
