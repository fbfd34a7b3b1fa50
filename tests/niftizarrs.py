"""NIfTI-Zarr stores as others write them, and how to read all of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from niftis import nifti_bytes

import daskroi as dr
from daskroi.niftizarr import ZarrImage

AXES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def whole(file: ZarrImage) -> np.ndarray:
    """All of an image."""
    z, y, x = (slice(0, n) for n in file.grid.shape)
    return file.read_box((slice(0, file.frames), z, y, x))


def picture() -> xr.DataArray:
    """An image (8, 6, 7, 5)."""
    values = np.random.default_rng(2).standard_normal((8, 6, 7, 5)).astype("f4")
    return dr.make_image(values, dr.Grid.make((6, 7, 5), np.diag([2.0, 2, 3, 1])), t_r=2.0)


def foreign(
    path: Path,
    values: np.ndarray,
    *,
    zarr_format: int = 3,
    chunks: tuple[int, ...] | None = None,
    axes: str | None = None,
    header: bytes | None = None,
    level: str = "0",
    pyramid: bool = False,
    ome: bool = True,
) -> Path:
    """A store as others write it; ``values`` are (x, y, z, time), or with a channel after these."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)  # type: ignore[arg-type]
    stored = values.T
    names = axes or "tzyx"[-stored.ndim :]
    how: dict[str, Any] = {} if zarr_format == 3 else {"chunk_key_encoding": ("v2", "/")}
    if zarr_format == 2:
        how = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    levels = [level, "coarse"] if pyramid else [level]
    for i, name in enumerate(levels):
        array = stored[..., :: i + 1]
        group.create_array(
            name, shape=array.shape, chunks=chunks or array.shape, dtype=array.dtype, **how
        )[...] = array
    scales = [
        {
            "path": name,
            "coordinateTransformations": [{"type": "scale", "scale": [1.0] * len(names)}],
        }
        for name in levels
    ]
    described = [
        {"name": "x", "axes": [{"name": a, "type": AXES[a]} for a in names], "datasets": scales}
    ]
    if ome and zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": described}
    elif ome:
        group.attrs["multiscales"] = described
    if header is not None:
        nifti = np.frombuffer(header, "u1")
        group.create_array("nifti", shape=nifti.shape, dtype="u1", compressors=None)[:] = nifti
    return path


def head_of(values: np.ndarray, **how: Any) -> bytes:
    """The header and extensions of an image, as a file has them."""
    content = nifti_bytes(values, **how)
    return content[: len(content) - values.nbytes]


def run(shape: tuple[int, ...] = (5, 4, 3, 7), dtype: str = "f4") -> np.ndarray:
    """Values (x, y, z, time) of a run."""
    return np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
