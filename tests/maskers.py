"""nilearn's masker and ours side by side, and an atlas whose regions a mask takes."""

from __future__ import annotations

import warnings
from typing import Any

import images
import nibabel as nib
import numpy as np
from maskergrids import voxels
from nilearn.maskers import NiftiLabelsMasker as Oracle

from daskroi import NiftiLabelsMasker
from daskroi.errors import DaskroiWarning


def oracle(maps: Any, image: Any = None, *, call: Any = None, **params: Any) -> tuple[Any, Any]:
    """nilearn's fitted masker and its signals, without its warnings."""
    params = {"standardize": None, "keep_masked_labels": False} | params
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masker = Oracle(maps, **params)
        if image is None:
            return masker.fit(), None
        if not isinstance(image, str):
            # nilearn writes zeros over the NaN of an image in memory
            image = nib.Nifti1Image(voxels(image).copy(), image.affine, image.header)
        return masker, masker.fit_transform(image, **(call or {}))


def ours(maps: Any, image: Any = None, *, call: Any = None, **params: Any) -> tuple[Any, Any]:
    """Our fitted masker and its computed signals, silent about lost regions."""
    params = {"standardize": None, "keep_masked_labels": False} | params
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", ".*(have no voxel|Set one of them|no percentage can be)", DaskroiWarning
        )
        masker = NiftiLabelsMasker(maps, **params)
        if image is None:
            return masker.fit(), None
        return masker, masker.fit_transform(image, **(call or {})).compute()


def without_warnings(function: Any, *args: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args)


def ids_of(masker: Any) -> list[int]:
    return [int(v) for k, v in masker.region_ids_.items() if k != "background"]


def atlas_with_lost_regions() -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Labels 1, 2, 5 and 9; the mask takes all of 2."""
    values = np.zeros((6, 7, 5), "i2")
    values[0], values[1], values[2], values[4] = 1, 2, 5, 9
    mask = np.ones(values.shape, "u1")
    mask[1] = 0
    mask[4, :3] = 0
    return nib.Nifti1Image(values, images.STRAIGHT), nib.Nifti1Image(mask, images.STRAIGHT)
