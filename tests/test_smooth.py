"""Smoothing against nilearn, and through any chunks."""

from __future__ import annotations

import warnings
from typing import Any

import images
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from spatialcases import AFFINES, DTYPES, SHAPE, close, splits

import daskroi as dr
from daskroi.errors import DaskroiWarning

pytestmark = pytest.mark.usefixtures("synchronous")


def nilearns_smoothed(image: nib.Nifti1Image, fwhm: Any) -> np.ndarray:
    from nilearn.image import smooth_img

    values = np.array(image.dataobj, np.float64)  # given float32 it computes in it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = smooth_img(nib.Nifti1Image(values, image.affine), fwhm)
    return np.asarray(out.dataobj).T


@given(
    affine=st.sampled_from(sorted(AFFINES)),
    fwhm=st.sampled_from([1, 6.0, 30, "fast", (4, 0, 9.5), [2, None, 3], np.float32(5)]),
    dtype=st.sampled_from(DTYPES),
    nan=st.sampled_from([0.0, 0.1]),
    shape=st.sampled_from([SHAPE, (*SHAPE, 1), (*SHAPE, 3), (8, 8, 1, 2), (1, 1, 5, 2)]),
    seed=st.integers(0, 9),
)
@settings(max_examples=100)
def test_smooth_is_nilearns(affine, fwhm, dtype, nan, shape, seed) -> None:
    rng = np.random.default_rng(seed)
    image = images.run(rng, shape, dtype, AFFINES[affine], nan=nan)
    found = dr.smooth(image, fwhm)
    values = found.values
    assert values.dtype == found.dtype == (np.float32 if "f4" in dtype else np.float64)
    close(values, nilearns_smoothed(image, fwhm), 1e-7 if "f4" in dtype else 1e-12)


@given(
    fwhm=st.sampled_from([1, 4.0, 12, 40, "fast", (4, 0, 9.5)]),
    dtype=st.sampled_from(["f4", "f8", "i2"]),
    shape=st.sampled_from([(16, 11, 9, 3), (8, 8, 1, 3), (3, 2, 16, 3), (40, 5, 4, 3)]),
    cuts=st.data(),
)
@settings(max_examples=60)
def test_smooth_any_chunking(fwhm, dtype, shape, cuts) -> None:
    run = dr.open_image(images.run(np.random.default_rng(1), shape, dtype, nan=0.02))
    expected = dr.smooth(run, fwhm)
    chunks = {d: cuts.draw(splits(n)) for d, n in run.sizes.items()}
    found = dr.smooth(run.chunk(chunks), fwhm)
    close(found.values, expected.values, 1e-7 if dtype == "f4" else 1e-12)
    close(dr.smooth(run[0].chunk({d: chunks[d] for d in "zyx"}), fwhm), expected[0].values, 1e-7)


def test_nothing_to_smooth_is_the_image_itself() -> None:
    run = dr.open_image(images.run(np.random.default_rng(0)))
    xr.testing.assert_identical(dr.smooth(run, None), run)
    with pytest.warns(DaskroiWarning, match="fwhm=0"):
        xr.testing.assert_identical(dr.smooth(run, 0), run)
