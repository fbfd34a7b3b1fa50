"""What every kind of image file has: a header's content, and voxels that are read by the box."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from daskroi.errors import DaskroiError
from daskroi.grid import Grid
from daskroi.repetition import RepetitionTime

__all__ = ["Box", "ImageFile", "StreamEndedError", "current_watchers", "watch_slabs"]

Box = tuple[slice, slice, slice, slice]

# a slab fits the last-level cache of nothing, but is large against the cost of a read and small
# against memory: 16 MiB is 4 volumes of 2 mm float32
SLAB_BYTES = 16 << 20

# A stream is one task to Dask, which cannot say how far it is, nor be stopped
_watchers: list[Callable[[int], None]] = []


class StreamEndedError(DaskroiError):
    """A watcher has ended a stream: of the image nothing is wrong."""


@contextmanager
def watch_slabs(watcher: Callable[[int], None]) -> Iterator[None]:
    """Call ``watcher`` with the number of frames of every slab, for streams that begin meanwhile.

    For progress bars, in this process; a watcher ends the stream by a `StreamEndedError`.
    """
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def current_watchers() -> tuple[Callable[[int], None], ...]:
    """Who watches now: a stream takes them along, so that it can be stopped late."""
    return tuple(_watchers)


@dataclass(frozen=True, kw_only=True)
class ImageFile(ABC):
    """A lazily read image, known by its header; picklable, reopened where it is read.

    Subclasses say where the voxels lie: `daskroi.nifti.NiftiFile`, `daskroi.niftizarr.ZarrImage`.

    Parameters
    ----------
    grid : Grid
        Shape (z, y, x) and affine in mm (sform, else qform, as nibabel decides).
    n_time : int or None
        Volumes; None for a 3D image.
    dtype : str
        As stored, with byte order, for example ``"<i2"``.
    slope, inter : float
        Physical value = slope * stored + inter.
    repetition : RepetitionTime
        Between volumes, if a header or sidecar gives a plausible one.
    description : str
        The header's free text (``descrip aux_file intent_name``), which may name a template.
    """

    grid: Grid
    n_time: int | None
    dtype: str
    slope: float = 1.0
    inter: float = 0.0
    repetition: RepetitionTime = field(default_factory=RepetitionTime)
    description: str = ""

    @property
    @abstractmethod
    def url(self) -> str:
        """Path or URL, safe to show: without credentials."""

    @property
    @abstractmethod
    def seekable(self) -> bool:
        """Whether any part can be read without reading what comes before."""

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Stored chunk sizes along (time, z, y, x) that are best read whole; None: any."""
        return None

    @abstractmethod
    def read_box(self, box: Box) -> np.ndarray:
        """Read a part of the image as stored.

        Parameters
        ----------
        box : 4 slices along (time, z, y, x)
            With bounds inside the image and step 1; a 3D image has one frame.

        Returns
        -------
        ndarray, dims (time, z, y, x)
            Not scaled, byte order as stored.
        """

    def check_fits(self, size: int) -> None:
        """Raise when so many bytes fit into no memory of this machine.

        Linux hands out what it does not have, and ends the process when that is filled.
        """
        import psutil

        if size > 1 << 30 and size > psutil.virtual_memory().total:
            raise self.too_large(size)

    def too_large(self, size: int) -> DaskroiError:
        """The error for that."""
        return DaskroiError(
            f"{self.url}: {size} bytes of it, of shape {self.shape}, do not fit into memory. "
            "Check that the image is as large as its header says; smaller chunks help."
        )

    def slab_frames(self, slab_bytes: int = SLAB_BYTES) -> int:
        """Volumes in a slab of about ``slab_bytes``, at least one; whole chunks of the file."""
        stored = self.chunks[0] if self.chunks else 1
        most = max(1, slab_bytes // self.frame_bytes)
        return min(self.frames, max(most // stored * stored, stored))

    def slabs(self, slab_frames: int | None = None) -> Generator[tuple[int, np.ndarray]]:
        """Read the run front to back as (first frame, slab as stored)."""
        whole = tuple(slice(0, n) for n in self.grid.shape)
        step = slab_frames or self.slab_frames()
        watchers = current_watchers()
        for start in range(0, self.frames, step):
            slab = self.read_box((slice(start, min(start + step, self.frames)), *whole))  # type: ignore[arg-type]
            yield start, slab
            for watcher in watchers:
                watcher(len(slab))

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, z, y, x), or (z, y, x)."""
        return self.grid.shape if self.n_time is None else (self.n_time, *self.grid.shape)

    @property
    def frames(self) -> int:
        """Volumes, 1 for a 3D image."""
        return 1 if self.n_time is None else self.n_time

    @property
    def scaled(self) -> bool:
        """Whether stored values are not yet physical ones."""
        return (self.slope, self.inter) != (1.0, 0.0)

    @property
    def value_dtype(self) -> np.dtype[Any]:
        """Dtype of physical values: as stored, float64 when scaled (nibabel's rule)."""
        stored = np.dtype(self.dtype).newbyteorder("=")
        return np.result_type(stored, np.float64) if self.scaled else stored

    @property
    def frame_bytes(self) -> int:
        """Bytes of one volume as stored."""
        return self.grid.size * np.dtype(self.dtype).itemsize
