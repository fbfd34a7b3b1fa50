"""An image of numbers, and what opened files are checked with: the values nibabel gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import nibabel as nib
import numpy as np
import xarray as xr

from daskroi.image import grid_of

NUMBERS = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7, 10)).astype("i2")


def nibabels(image: Any) -> np.ndarray:
    """Values as nibabel gives them, in our order."""
    values = np.asanyarray((nib.load(image) if isinstance(image, Path) else image).dataobj)
    while values.ndim > 4:
        values = values[..., 0]
    return values.T


def check(found: xr.DataArray, image: Any) -> None:
    """An opened image is what nibabel makes of the same file or image."""
    expected = nibabels(image)
    image = nib.load(image) if isinstance(image, Path) else image
    assert found.dims == ("time", "z", "y", "x")[-expected.ndim :]
    assert isinstance(found.data, da.Array)
    assert found.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found.values, expected)
    np.testing.assert_array_equal(grid_of(found).matrix, image.affine)
