"""NIfTI files written front to back: whole or not at all, gzipped or not, on disk or at a URL."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from daskroi.errors import DaskroiError
from daskroi.header import checked_offset, header_fields, parse_header
from daskroi.partfiles import placed
from daskroi.remote import filesystem
from daskroi.urls import StorageOptions, is_url, local_path, shown

__all__ = ["write_nifti"]

# isal: 0.75 GB/s on one thread at level 1, to 0.213 of a 300-volume run; level 3 takes twice as
# long and comes out as large, level 0 is not faster and comes out half as large again
GZIP_LEVEL = 1
# what is compressed at a time, so that there are no two copies of a slab
PIECE_BYTES = 16 << 20
# S3 takes 10,000 parts: 160 GB
PART_BYTES = 16 << 20


def write_nifti(
    path: str | os.PathLike[str],
    head: bytes,
    slabs: Iterable[np.ndarray],
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write a NIfTI file slab by slab; it appears under its name when it is whole.

    Parameters
    ----------
    path : path or URL
        ``.gz`` at its end means gzipped. A file of this name is replaced.
    head : bytes
        Everything before the voxels: header and extensions.
    slabs : iterable of ndarray, dims (time, z, y, x)
        Consecutive volumes as stored, in the header's dtype; either byte order. One at a time is
        in memory.
    storage_options : mapping, optional
        For a URL.

    Raises
    ------
    DaskroiError
        Slabs do not add up to the image the header describes, or the file cannot be written.
        Whatever goes wrong, also Ctrl-C: nothing is left, and an older file stays.

    Notes
    -----
    On disk, a file beside it that is renamed at the end; at a URL, one upload that is completed at
    the end. The same input gives the same bytes: no time and no name stand in the gzip header.

    Examples
    --------
    >>> import daskroi as dr, tempfile, nibabel
    >>> header = nibabel.Nifti1Header()
    >>> header.set_data_shape((4, 3, 2, 5)), header.set_data_dtype("<i2")
    (None, None)
    >>> header["vox_offset"] = 352
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     slabs = [np.zeros((5, 2, 3, 4), "i2")]
    ...     write_nifti(f"{folder}/x.nii.gz", header.binaryblock + bytes(4), slabs)
    ...     dr.open_image(f"{folder}/x.nii.gz").shape
    (5, 2, 3, 4)
    """
    path = local_path(path)
    name = shown(path)
    header = parse_header(head, name)
    fields = header_fields(header, name)
    if checked_offset(name, header) != len(head):
        raise DaskroiError(
            f"{name}: the header says that voxels start at byte {checked_offset(name, header)}, "
            f"but {len(head)} bytes come before them. Correct vox_offset."
        )
    shape = fields["n_time"] or 1, *fields["grid"].shape
    remote = is_url(path)
    with _uploaded(path, StorageOptions(storage_options)) if remote else _placed(path) as file:
        with _gzipped(file) if name.endswith(".gz") else _plain(file) as out:
            out.write(head)
            written = 0
            for slab in slabs:
                _write(out, slab, shape, np.dtype(fields["dtype"]), written, name)
                written += len(slab)
        if written != shape[0]:
            raise DaskroiError(
                f"{name}: {written} volumes came and the header says {shape[0]}. "
                "Give all volumes, or correct the header."
            )


def _write(
    out: Any,
    slab: np.ndarray,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    written: int,
    name: str,
) -> None:
    if slab.ndim != 4 or slab.shape[1:] != shape[1:] or written + len(slab) > shape[0]:
        raise DaskroiError(
            f"{name}: a slab of shape {slab.shape} at volume {written} does not fit an image "
            f"(time, z, y, x) of shape {shape}. Correct the header, or transpose the slab."
        )
    if slab.dtype.newbyteorder("=") != dtype.newbyteorder("="):
        raise DaskroiError(
            f"{name}: voxels are {slab.dtype} and the header says {dtype}. Cast them first."
        )
    # a change of byte order moves bytes and no values: NaNs keep their payload
    stored = np.ascontiguousarray(slab, dtype=dtype).reshape(-1).view(np.uint8).data
    for start in range(0, len(stored), PIECE_BYTES):
        out.write(stored[start : start + PIECE_BYTES])


@contextmanager
def _plain(file: _Sink) -> Iterator[Any]:
    yield file


@contextmanager
def _gzipped(file: _Sink) -> Iterator[Any]:
    from isal.igzip import IGzipFile

    # without a name and a time, equal input is equal output
    with IGzipFile("", "wb", GZIP_LEVEL, file, 0) as out:
        yield out


class _Sink:
    """A file to write to; what goes wrong in writing names it, what goes wrong elsewhere does not.

    Slabs are computed and read while the file is open, and fail in ways of their own.
    """

    mode = "wb"

    def __init__(self, file: Any, url: str) -> None:
        self._file, self._url = file, url

    def write(self, data: Any) -> int:
        """Write all of ``data``."""
        with _named(self._url):
            self._file.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing: the file is flushed when it is whole."""


@contextmanager
def _named(url: str) -> Iterator[None]:
    try:
        yield
    except DaskroiError:
        raise
    except Exception as error:  # each filesystem raises its own
        if not isinstance(error, OSError) and not is_url(url):
            raise
        reason = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
        if isinstance(error, FileNotFoundError) and is_url(url):
            reason = "there is no such bucket"
        raise DaskroiError(
            f"{shown(url)}: cannot be written ({reason}). Nothing was left; give another path, "
            "make room, or check your permissions."
        ) from (None if is_url(url) else error)  # a filesystem's own words may hold credentials


@contextmanager
def _placed(path: str) -> Iterator[_Sink]:
    path = os.path.abspath(os.path.expanduser(path))
    if os.path.isdir(path):
        raise DaskroiError(f"{path}: is a folder. Give the path of a file.")
    with ExitStack() as stack:
        with _named(path):
            file = stack.enter_context(placed(Path(path)))
        yield _Sink(file, path)
        with _named(path):
            stack.close()


@contextmanager
def _uploaded(url: str, options: StorageOptions) -> Iterator[_Sink]:
    fs, path = filesystem(url, options)
    with _named(url):
        file = fs.open(path, "wb", autocommit=False, block_size=PART_BYTES)
    try:
        yield _Sink(file, url)
        with _named(url):
            file.close()
            file.commit()
    except BaseException:
        # closed without this, also by the garbage collector, it would upload what there is
        with suppress(Exception):
            file.discard()
        with suppress(AttributeError):
            file.closed = True
        raise
    fs.invalidate_cache(fs._parent(path))
