"""Random images and atlases for tests, as nibabel images: what both libraries can open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

OBLIQUE = np.array([[2.0, 0.3, 0, -9], [-0.3, 2.1, 0.1, -11], [0, -0.1, 2.5, -8], [0, 0, 0, 1]])
STRAIGHT = np.diag([2.0, 2.0, 2.0, 1.0])


def run(
    rng: np.random.Generator,
    shape: tuple[int, ...] = (6, 7, 5, 9),
    dtype: Any = "f4",
    affine: np.ndarray = STRAIGHT,
    t_r: float = 2.0,
    nan: float = 0.0,
) -> nib.Nifti1Image:
    """A run (x, y, z, time) with mean 100; a share ``nan`` of voxels is NaN or infinite."""
    dtype = np.dtype(dtype)
    values = 100 + 10 * rng.standard_normal(shape)
    if dtype.kind == "f" and nan:
        holes = rng.random(shape) < nan
        values[holes] = rng.choice([np.nan, np.inf, -np.inf], holes.sum())
    image = nib.Nifti1Image(values.astype(dtype), affine, dtype=dtype)
    if len(shape) > 3:
        image.header.set_zooms((*image.header.get_zooms()[:3], t_r))
    image.header.set_xyzt_units("mm", "sec")
    return image


def labels(
    rng: np.random.Generator,
    shape: tuple[int, int, int] = (6, 7, 5),
    ids: tuple[int, ...] = (1, 2, 5, 9),
    affine: np.ndarray = STRAIGHT,
    dtype: Any = "i2",
) -> nib.Nifti1Image:
    """A label image; the last id has a single voxel."""
    values = rng.choice([0, *ids[:-1]], shape)
    values.flat[rng.integers(values.size)] = ids[-1]
    return nib.Nifti1Image(values.astype(dtype), affine, dtype=np.dtype(dtype))


def save(image: nib.Nifti1Image, path: Path) -> Path:
    """Write; the path, for chaining."""
    nib.save(image, path)
    return path
