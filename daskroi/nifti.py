"""NIfTI files: slabs of whole volumes, and any part of them, from disk or URL."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from daskroi.bytesource import DEFLATE_LIMIT, ByteSource
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiPermissionError, brief
from daskroi.header import checked_offset, header_fields, parse_header
from daskroi.imagefile import Box, ImageFile, current_watchers
from daskroi.inflate import MOST_BEHIND, fill, skip
from daskroi.jsontext import from_json
from daskroi.paths import links_of
from daskroi.repetition import RepetitionTime, choose_t_r
from daskroi.urls import is_url, shown

__all__ = ["NiftiFile", "sidecar_beside", "sidecar_t_r", "timed"]

File = TypeVar("File", bound=ImageFile)


@dataclass(frozen=True, kw_only=True)
class NiftiFile(ImageFile):
    """A NIfTI-1 or -2 image file; see `ImageFile`.

    Parameters
    ----------
    source : ByteSource
        The file and its identity.
    offset : int
        Byte where voxels start (after inflating).
    """

    source: ByteSource
    offset: int

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        storage_options: Mapping[str, Any] | None = None,
        *,
        index: bool | str = "auto",
    ) -> NiftiFile:
        """Read the header, and the JSON sidecar if there is one; no voxel is read.

        Parameters
        ----------
        path : path or URL
        storage_options : mapping, optional
            For fsspec.
        index : bool or "auto"
            Of ``.nii.gz``; see `daskroi.open_image`.

        Raises
        ------
        DaskroiError
            Not a NIfTI file, complex or RGB, 5D, singular affine, truncated.
        """
        source = ByteSource.of(path, storage_options, index=index)
        unit = "bytes after inflating" if source.gzipped else "bytes"
        header = parse_header(source.head(540), source.shown, unit)
        offset = checked_offset(source.shown, header)
        file = cls(source=source, offset=offset, **header_fields(header, source.shown)).checked()
        return timed(file, sidecar_beside(source.url), source.options)

    @property
    def url(self) -> str:
        """Path or URL, without credentials."""
        return self.source.shown

    @property
    def seekable(self) -> bool:
        """Whether volumes can be read in any order without reading those before."""
        return self.source.seekable

    def read_box(self, box: Box) -> np.ndarray:
        """Read a part as stored; whole volumes without a copy. See `ImageFile`."""
        time, *space = box
        slab = self.read(time.start, time.stop)[(slice(None), *space)]
        # a copy only where it is a part of a volume: it must not keep the whole slab alive
        return np.ascontiguousarray(slab)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read volumes ``start:stop`` as stored: (time, z, y, x), no scaling, no copy."""
        shape = (stop - start, *self.grid.shape)
        slab = self._buffer(math.prod(shape) * np.dtype(self.dtype).itemsize)
        self.source.read_at(
            self.offset + start * self.frame_bytes, slab.data, last=stop == self.frames
        )
        return slab.view(self.dtype).reshape(shape)

    def slabs(self, slab_frames: int | None = None) -> Generator[tuple[int, np.ndarray]]:
        """Stream the run front to back as (first frame, slab as stored).

        The next slab is read in a thread while the caller works on this one: two buffers in all,
        whatever the length of the run. A slab is only valid until the next one is asked for.
        Thread and file are closed with the generator.

        Raises
        ------
        DaskroiError
            The file is truncated, corrupt, or changed since it was opened.
        """
        from concurrent.futures import ThreadPoolExecutor

        watchers = current_watchers()
        step = slab_frames or self.slab_frames()
        buffers = [self._buffer(step * self.frame_bytes) for _ in range(2)]
        starts = range(0, self.frames, step)
        with (
            self.source.open() as file,
            # ^ left last: a file must not be closed under the thread that reads it
            ThreadPoolExecutor(1, thread_name_prefix="daskroi-read") as pool,
        ):
            if not skip(file, self.offset):
                raise self.source.truncated(self._end, 0)

            def read(i: int) -> np.ndarray:
                n = min(step, self.frames - starts[i])
                buffer = buffers[i % 2][: n * self.frame_bytes]
                got = fill(file, buffer.data)
                if got < len(buffer):
                    done = self.offset + starts[i] * self.frame_bytes + got
                    raise self.source.truncated(self._end, done)
                if i == len(starts) - 1:
                    self.source.check_end(file)
                return buffer.view(self.dtype).reshape(n, *self.grid.shape)

            ahead = pool.submit(read, 0)
            for i, start in enumerate(starts):
                slab = ahead.result()
                if i + 1 < len(starts):
                    ahead = pool.submit(read, i + 1)
                yield start, slab
                for watcher in watchers:
                    watcher(len(slab))

    def _buffer(self, size: int) -> np.ndarray:
        """Room for voxels. What is never filled takes no memory, however large."""
        self.check_fits(size)
        try:
            return np.empty(size, np.uint8)
        except MemoryError:
            raise self.too_large(size) from None

    @property
    def _end(self) -> int:
        return self.offset + self.frames * self.frame_bytes

    def checked(self) -> NiftiFile:
        """Return itself, or refuse, from the file's size alone, what it cannot hold."""
        if self.offset < 0:  # other formats may say so; NIfTI's is checked with the header
            raise DaskroiError(
                f"{self.source.shown}: the header says that voxels start at byte {self.offset}. "
                "The file is damaged; copy or download it again."
            )
        if not self.source.gzipped and self.source.size < self._end:
            raise self.source.truncated(self._end, self.source.size)
        if self.source.gzipped and self._end > self.source.size * DEFLATE_LIMIT:
            raise DaskroiError(
                f"{self.source.shown}: the header promises {self._end} bytes, more than "
                f"{self.source.size} gzipped bytes can hold: truncated or corrupt. "
                "Copy or download it again."
            )
        if not self.source.gzipped:
            return self
        # as for reading front to back: what follows the image is read for the checksum's sake
        return replace(self, source=replace(self.source, most=self._end + MOST_BEHIND))


def sidecar_beside(url: str) -> str:
    """Where the JSON sidecar of an image lies, if it has one beside it; "" where none can be."""
    before, own, after = links_of(url.rstrip("/"))
    ending = next((e for e in (".nii.gz", ".nii.zarr", ".nii") if own.endswith(e)), "")
    # a signed URL (it ends in its signature) is of one file, and an image in memory has no name
    alone = not url or (is_url(url) and not ending)
    return "" if alone else f"{before}{own.removesuffix(ending)}.json{after}"


def timed(file: File, sidecar: str, options: Mapping[str, Any] | None = None) -> File:
    """An image file, by what a JSON sidecar says as well, if it is a run."""
    if file.n_time is None:
        return file
    said = sidecar_t_r(sidecar, options)
    return replace(file, repetition=choose_t_r(file.url, said, file.repetition))


def sidecar_t_r(sidecar: str, options: Mapping[str, Any] | None = None) -> RepetitionTime:
    """What a JSON sidecar says; nothing, if it is not there."""
    if not is_url(sidecar) and not os.path.isfile(sidecar):
        return RepetitionTime()
    try:
        content = ByteSource.of(sidecar, options).read()
    except (DaskroiNotFoundError, DaskroiPermissionError):
        return RepetitionTime()  # S3 forbids asking for what is not there, where one may not list
    try:
        said = from_json(content)
        # some other JSON that has this name is no sidecar, and a sidecar need not say
        t_r = said.get("RepetitionTime") if isinstance(said, dict) else None
        if isinstance(t_r, bool | list | dict):
            raise ValueError(f"RepetitionTime is {brief(t_r)}, not a number of s")
        return RepetitionTime() if t_r is None else RepetitionTime.said(float(t_r), shown(sidecar))
    except (ValueError, OverflowError) as error:
        raise DaskroiError(
            f"{shown(sidecar)}: no repetition time can be read from it ({error}). "
            "Repair or remove it."
        ) from error
