"""NIfTI files: from header bytes to a lazy image, and slabs of whole volumes off the disk."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.bytesource import DEFLATE_LIMIT, ByteSource
from daskroi.errors import DaskroiError, warn
from daskroi.grid import Grid

if TYPE_CHECKING:
    import nibabel as nib

__all__ = ["NiftiFile", "header_description", "header_t_r", "plausible_t_r", "watch_slabs"]

# a slab fits the last-level cache of nothing, but is large against the cost of a read and small
# against memory: 16 MiB is 4 volumes of 2 mm float32
SLAB_BYTES = 16 << 20
# divided by, not multiplied with: 2530 * 1e-3 is 2.5300000000000002
UNITS_PER_SECOND = {"sec": 1, "msec": 1000, "usec": 1_000_000, "unknown": 1}


def plausible_t_r(t_r: float) -> bool:
    """Whether a TR can be meant in seconds: 0.01 s to 30 s."""
    return 0.01 <= t_r <= 30


# A stream is one task to Dask, which cannot say how far it is, nor be stopped
_watchers: list[Callable[[int], None]] = []


@contextmanager
def watch_slabs(watcher: Callable[[int], None]) -> Iterator[None]:
    """Call ``watcher`` with the number of frames of every slab, for streams that begin meanwhile.

    For progress bars, in this process; a watcher that raises ends the stream.
    """
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


@dataclass(frozen=True)
class NiftiFile:
    """A NIfTI-1 or -2 image file, known by its header; picklable, reopened where it is read.

    Parameters
    ----------
    source : ByteSource
        The file and its identity.
    grid : Grid
        Shape (z, y, x) and affine in mm (sform, else qform, as nibabel decides).
    n_time : int or None
        Volumes; None for a 3D image.
    dtype : str
        As stored, with byte order, for example ``"<i2"``.
    offset : int
        Byte where voxels start (after inflating).
    slope, inter : float
        Physical value = slope * stored + inter.
    t_r : float or None
        Seconds between volumes, if a header or sidecar gives a plausible one.
    t_r_source : str
        Where ``t_r`` is from; or why there is none.
    description : str
        The header's free text (``descrip aux_file intent_name``), which may name a template.
    """

    source: ByteSource
    grid: Grid
    n_time: int | None
    dtype: str
    offset: int
    slope: float = 1.0
    inter: float = 0.0
    t_r: float | None = None
    t_r_source: str = ""
    description: str = ""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> NiftiFile:
        """Read the header, and the JSON sidecar if there is one; no voxel is read.

        Raises
        ------
        DaskroiError
            Not a NIfTI file, complex or RGB, 5D, singular affine, truncated.
        """
        source = ByteSource.of(path)
        header = _read_header(source)
        shape, dtype = _checked_shape(source.url, header), _checked_dtype(source.url, header)
        slope, inter = _checked_scaling(source.url, header)
        return cls(
            source,
            Grid.make(shape[2::-1], _checked_affine(source.url, header), source.url),
            shape[3] if len(shape) == 4 else None,
            dtype.str,
            _checked_offset(source.url, header),
            slope,
            inter,
            *(header_t_r(source.url, header) if len(shape) == 4 else (None, "")),
            header_description(header),
        ).checked()

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

    def slab_frames(self, slab_bytes: int = SLAB_BYTES) -> int:
        """Volumes in a slab of about ``slab_bytes``, at least one."""
        return max(1, min(self.frames, slab_bytes // self.frame_bytes))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read volumes ``start:stop`` as stored: (time, z, y, x), no scaling, no copy."""
        shape = (stop - start, *self.grid.shape)
        slab = np.empty(math.prod(shape) * np.dtype(self.dtype).itemsize, np.uint8)
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

        watchers = tuple(_watchers)  # of this stream to its end, so that it can be stopped late
        step = slab_frames or self.slab_frames()
        buffers = [np.empty(step * self.frame_bytes, np.uint8) for _ in range(2)]
        starts = range(0, self.frames, step)
        with (
            self.source.open() as file,
            # ^ left last: a file must not be closed under the thread that reads it
            ThreadPoolExecutor(1, thread_name_prefix="daskroi-read") as pool,
        ):
            if not self.source.skip(file, self.offset):
                raise self.source.truncated(self._end, 0)

            def read(i: int) -> np.ndarray:
                n = min(step, self.frames - starts[i])
                buffer = buffers[i % 2][: n * self.frame_bytes]
                got = self.source.fill(file, buffer.data)
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

    @property
    def _end(self) -> int:
        return self.offset + self.frames * self.frame_bytes

    def checked(self) -> NiftiFile:
        """Return itself, or refuse, from the file's size alone, what it cannot hold."""
        if not self.source.gzipped and self.source.size < self._end:
            raise self.source.truncated(self._end, self.source.size)
        if self.source.gzipped and self._end > self.source.size * DEFLATE_LIMIT:
            raise DaskroiError(
                f"{self.source.url}: the header promises {self._end} bytes, more than "
                f"{self.source.size} gzipped bytes can hold: truncated or corrupt. "
                "Copy or download it again."
            )
        return self


def _read_header(source: ByteSource) -> nib.Nifti1Header:
    """Parse 348 or 540 bytes with nibabel, which knows both versions and both byte orders."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    head = source.head(540)
    for cls, size in ((Nifti1Header, 348), (Nifti2Header, 540)):
        for endian, order in (("<", "little"), (">", "big")):
            if int.from_bytes(head[:4], order) == size:  # type: ignore[arg-type]
                if len(head) < size:
                    raise source.truncated(size, len(head))
                try:
                    header = cls(head[:size], endianness=endian, check=False)
                    magic = header["magic"].item()
                except (HeaderDataError, ValueError) as error:
                    raise DaskroiError(
                        f"{source.url}: damaged NIfTI header ({error}). Copy or download it again."
                    ) from error
                if not magic.startswith((b"n+1", b"n+2")):
                    pair = magic.startswith((b"ni1", b"ni2"))
                    kind = "is the header of a .hdr/.img pair" if pair else "has no NIfTI magic"
                    raise DaskroiError(
                        f"{source.url}: {kind}. "
                        "Convert it to a single .nii file (for example with nibabel.save)."
                    )
                return header
    raise DaskroiError(
        f"{source.url}: not a NIfTI image (no header of 348 or 540 bytes at its start). "
        "Give a .nii or .nii.gz file, or convert it with nibabel."
    )


def _checked_shape(url: str, header: nib.Nifti1Header) -> tuple[int, ...]:
    rank = int(header["dim"][0])
    dims = [int(n) for n in header["dim"][1 : rank + 1]] if 1 <= rank <= 7 else []
    if not dims or min(dims) < 1:
        raise DaskroiError(
            f"{url}: the header's dimensions {header['dim'].tolist()} are not those of an image. "
            "The file is damaged; copy or download it again."
        )
    while len(dims) > 4 and dims[-1] == 1:
        dims.pop()
    if len(dims) > 4:
        raise DaskroiError(
            f"{url}: is {len(dims)}D, shape {tuple(dims)}; an image has 3 or 4 dimensions. "
            "Split it along the last one."
        )
    return tuple(dims + [1] * (3 - len(dims)))


def _checked_dtype(url: str, header: nib.Nifti1Header) -> np.dtype[Any]:
    from nibabel.nifti1 import data_type_codes
    from nibabel.spatialimages import HeaderDataError

    code = int(header["datatype"])
    try:
        dtype, name = header.get_data_dtype(), data_type_codes.label[code]
    except (HeaderDataError, KeyError) as error:
        raise DaskroiError(
            f"{url}: unknown NIfTI data type {code}, the file is damaged. "
            "Copy or download it again."
        ) from error
    if dtype.kind in "iuf":
        return dtype
    if name == "float128":
        raise DaskroiError(
            f"{url}: holds 128-bit floats, which this machine cannot represent. "
            "Save the image as float64."
        )
    raise DaskroiError(
        f"{url}: holds {name} voxels (NIfTI data type {code}); region series are of real "
        "numbers. Save the magnitude, or one channel, as its own image."
    )


def _checked_affine(url: str, header: nib.Nifti1Header) -> np.ndarray:
    from nibabel.spatialimages import HeaderDataError

    try:
        return header.get_best_affine()
    except (HeaderDataError, ValueError) as error:
        raise DaskroiError(
            f"{url}: no affine can be made from the header ({error}). "
            "Repair qform or sform (for example with nibabel's set_sform)."
        ) from error


def _checked_offset(url: str, header: nib.Nifti1Header) -> int:
    first = int(header["sizeof_hdr"]) + 4
    offset = float(header["vox_offset"])
    # single files must not start before the header ends; zero means "right after it"
    if offset != 0 and not first <= offset < math.inf:
        raise DaskroiError(
            f"{url}: the header says that voxels start at byte {offset:g}, before it ends at "
            f"{first}. The file is damaged; copy or download it again."
        )
    return int(header["vox_offset"]) or first


def _checked_scaling(url: str, header: nib.Nifti1Header) -> tuple[float, float]:
    from nibabel.spatialimages import HeaderDataError

    try:
        if np.isinf(header["scl_slope"]):  # nibabel takes it for "not scaled"
            raise HeaderDataError
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise DaskroiError(
            f"{url}: scl_slope={header['scl_slope']}, scl_inter={header['scl_inter']} cannot be "
            "used as scaling. Repair the header."
        ) from error
    # None is NIfTI's "not scaled"
    return (1.0 if slope is None else float(slope)), (0.0 if inter is None else float(inter))


def header_t_r(url: str, header: nib.Nifti1Header) -> tuple[float | None, str]:
    """RepetitionTime of the JSON sidecar, else the header's with its unit, if plausible."""
    found: list[tuple[float, str]] = []
    sidecar = url.removesuffix(".gz").removesuffix(".nii") + ".json"
    if url and os.path.isfile(sidecar):
        try:
            with open(sidecar, encoding="utf-8-sig") as file:
                found.append((float(json.load(file)["RepetitionTime"]), sidecar))
        except (KeyError, TypeError):
            pass  # a sidecar need not say
        except (ValueError, OSError) as error:
            raise DaskroiError(
                f"{sidecar}: no repetition time can be read from it ({error}). Repair or remove it."
            ) from error
    unit, raw = "unknown", 0.0
    # other formats have neither field; KeyError also for unit codes that NIfTI does not define
    with suppress(KeyError, AttributeError, TypeError, ValueError, IndexError):
        raw = float(header["pixdim"][4])
        unit = header.get_xyzt_units()[1]
    if raw > 0 and unit in UNITS_PER_SECOND:  # zero is "not said"; Hz and ppm are not times
        # pixdim is float32: 0.72 would come out as 0.7200000286
        found.append((float(f"{raw:.7g}") / UNITS_PER_SECOND[unit], "header"))
    plausible = [f for f in found if plausible_t_r(f[0])]
    if len(plausible) == 2 and not math.isclose(plausible[0][0], plausible[1][0], rel_tol=1e-3):
        warn(
            f"{url}: the header says TR {plausible[1][0]:g} s and {sidecar} says "
            f"{plausible[0][0]:g} s; the sidecar's is used. Pass t_r to settle it."
        )
    if plausible:
        return plausible[0]
    if found:
        t_r, where = found[0]
        hint = (
            f" It looks like milliseconds: t_r={t_r / 1e3:g}." if plausible_t_r(t_r / 1e3) else ""
        )
        where = "the header" if where == "header" else where
        return None, f"{where} says {t_r:g} s, which is not a plausible TR.{hint}"
    return None, "neither header nor JSON sidecar gives one"


def header_description(header: Any) -> str:
    """Free text of a header, which may name a template; empty in formats that have none."""
    fields = (header[k].item() for k in ("descrip", "aux_file", "intent_name") if k in header)
    return " ".join(f.decode("latin-1").strip("\0 ") for f in fields).strip()
