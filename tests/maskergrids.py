"""Grids that differ, and images as nilearn may have them, for tests of the masker."""

from __future__ import annotations

import warnings
from typing import Any

import images
import nibabel as nib
import numpy as np

COARSE = np.diag([3.0, 3.0, 3.0, 1.0])
FLIPPED = np.array([[-2.2, 0, 0, 13], [0, 1.9, 0, -1], [0, 0, 2.4, -2], [0, 0, 0, 1]])
OBLIQUE = images.OBLIQUE + np.array([[0, 0, 0, 8.0], [0, 0, 0, 9], [0, 0, 0, 7], [0, 0, 0, 0]])


def quiet(function: Any, *args: Any, **kw: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kw)


def copied(image: Any) -> Any:
    """nilearn writes zeros over the NaN of an image in memory."""
    return nib.Nifti1Image(np.array(image.dataobj), image.affine, image.header)


def voxels(image: Any) -> np.ndarray:
    return np.asarray(image.dataobj)


def rng_of(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
