"""Grids, chunks and how to compare, for tests of smoothing and resampling."""

from __future__ import annotations

from typing import Any

import images
import nibabel as nib
import numpy as np
from hypothesis import strategies as st

import daskroi as dr

SHAPE = (8, 7, 6)  # x, y, z
AFFINES = {
    "straight": images.STRAIGHT,
    "flipped": np.diag([-2.0, 2, 2, 1]) + np.array([[0, 0, 0, 14], *[[0] * 4] * 3]),
    "oblique": images.OBLIQUE,
    "swapped": np.array([[0, 2.0, 0, 0], [2, 0, 0, 1], [0, 0, 2.5, 0], [0, 0, 0, 1]]),
}
TARGETS = {
    "finer": (images.STRAIGHT @ np.diag([0.6, 0.7, 0.55, 1]), (11, 9, 8)),
    "halves": (np.diag([1.0, 1, 1, 1]), (15, 13, 11)),  # half of it ties
    "shifted": (np.array([[2, 0, 0, 1.3], [0, 2, 0, -3], [0, 0, 2, 0.7], [0, 0, 0, 1]]), SHAPE),
    "flipped": (np.array([[-3, 0, 0, 12.0], [0, 2, 0, 0], [0, 0, 3, 1], [0, 0, 0, 1]]), (6, 7, 4)),
    "turned": (
        np.array([[1.7, 0.4, 0, -1], [-0.4, 1.8, 0.2, 1], [0.1, -0.2, 1.9, 0.5], [0, 0, 0, 1]]),
        (9, 8, 7),
    ),
}
DTYPES = ["f4", "f8", "i2", "u1", ">f4"]


def copy_of(image: nib.Nifti1Image, dtype: Any = None) -> nib.Nifti1Image:
    """A native copy: nilearn writes into what it is given."""
    values = np.array(image.dataobj)
    return nib.Nifti1Image(values.astype(dtype or values.dtype.newbyteorder("=")), image.affine)


def close(found: Any, expected: Any, tolerance: float = 1e-6) -> None:
    """Equal within a share of the largest finite value; NaN at the same places."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    finite = expected[np.isfinite(expected)]
    scale = float(np.abs(finite).max()) if finite.size else 1.0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(scale, 1e-30))


def splits(n: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Any way of cutting n into up to 4 consecutive chunks."""
    return st.sets(st.integers(1, max(n - 1, 1)), max_size=3).map(
        lambda cuts: tuple(int(c) for c in np.diff([0, *sorted(c for c in cuts if c < n), n]))
    )


def grid(affine: np.ndarray, shape: tuple[int, ...]) -> dr.Grid:
    return dr.Grid.make(shape[::-1], affine)
