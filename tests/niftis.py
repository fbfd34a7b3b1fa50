"""NIfTI files byte by byte, for what nibabel reads but does not write."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from images import OBLIQUE

VOLUME = np.zeros((3, 4, 5), "i2")


def nifti_bytes(
    values: np.ndarray,
    *,
    version: int = 1,
    endian: str = "<",
    form: str | None = "sform",
    affine: np.ndarray = OBLIQUE,
    extension: int = 0,
    shape: tuple[int, ...] | None = None,
    **fields: Any,
) -> bytes:
    """A single-file image of ``values`` (x, y, z, time); ``fields`` go into the header as they are.

    ``extension`` is the number of bytes between header and voxels beyond the usual four.
    """
    cls = {1: nib.Nifti1Header, 2: nib.Nifti2Header}[version]
    header = cls(endianness=endian)
    header.set_data_dtype(values.dtype)
    header.set_data_shape(values.shape if shape is None else shape)
    if values.ndim > 3 and shape is None:
        header["pixdim"][4] = 2.0
        header.set_xyzt_units("mm", "sec")
    if form == "sform":
        header.set_sform(affine, 2)
    elif form == "qform":
        header.set_qform(affine, 1)
    start = header.sizeof_hdr + 4 + extension
    header["vox_offset"] = start
    header["magic"] = {1: b"n+1", 2: b"n+2\0\r\n\x1a\n"}[version]
    for key, value in fields.items():
        header[key] = value
    block = header.binaryblock + bytes(start - header.sizeof_hdr)
    stored = values.astype(values.dtype.newbyteorder(endian))
    return bytes(block + stored.tobytes(order="F"))


def write(path: Path, content: bytes) -> Path:
    """Write, gzipped if the name says so; the path, for chaining."""
    path.write_bytes(gzip.compress(content, 1) if path.name.endswith(".gz") else content)
    return path


def random_values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Any bits that are a number of this type, extremes and non-finite ones included."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    return np.ascontiguousarray(raw).view(dtype)[..., 0]
