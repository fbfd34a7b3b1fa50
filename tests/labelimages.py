"""Small label images and their tables, for tests of atlases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from daskroi.atlas import Atlas

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


def nifti(values: Any, affine: Any = AFFINE, kind: Any = nib.Nifti1Image) -> nib.Nifti1Image:
    """An image in memory."""
    values = np.asarray(values)
    # nibabel wants a NIfTI's int64 said aloud
    said = {"dtype": values.dtype} if values.dtype == np.int64 else {}
    return kind(values, affine, **said)


def labels_of(ids: Sequence[int], dtype: str = "i4") -> np.ndarray:
    """A 4 x 5 x 6 volume (x, y, z) in which label k of ``ids`` has k + 1 voxels; the rest is 0."""
    flat = np.zeros(120, dtype)
    start = 0
    for k, label in enumerate(ids):
        flat[start : start + k + 1] = label
        start += k + 1
    return flat.reshape(4, 5, 6)


def lut(*rows: tuple[int, str]) -> pd.DataFrame:
    """A table of labels."""
    return pd.DataFrame(rows, columns=["index", "name"])


def named(atlas: Atlas) -> dict[int, str]:
    """Names of an atlas by id."""
    return dict(zip(atlas.ids.tolist(), atlas.names, strict=True))
