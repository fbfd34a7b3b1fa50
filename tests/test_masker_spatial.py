"""The masker where grids differ, images are smoothed, or there are several: against nilearn."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dask
import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.image import concat_imgs, resample_img, smooth_img
from nilearn.maskers import NiftiLabelsMasker as Oracle

import daskroi as dr
from daskroi import NiftiLabelsMasker
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiWarning
from daskroi.kernels import REDUCERS

COARSE = np.diag([3.0, 3.0, 3.0, 1.0])
FLIPPED = np.array([[-2.2, 0, 0, 13], [0, 1.9, 0, -1], [0, 0, 2.4, -2], [0, 0, 0, 1]])
OBLIQUE = images.OBLIQUE + np.array([[0, 0, 0, 8.0], [0, 0, 0, 9], [0, 0, 0, 7], [0, 0, 0, 0]])
AFFINES = (images.STRAIGHT, FLIPPED, OBLIQUE)
LINEAR = ("mean", "sum")


def quiet(function: Any, *args: Any, **kw: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kw)


def copied(image: Any) -> Any:
    """nilearn writes zeros over the NaN of an image in memory."""
    return nib.Nifti1Image(np.array(image.dataobj), image.affine, image.header)


def theirs(labels: Any, image: Any, **params: Any) -> tuple[Any, pd.DataFrame]:
    """nilearn's fitted masker and its signals, with ids as columns."""
    masker = Oracle(labels, **({"standardize": None} | params))
    values = quiet(masker.fit_transform, image)
    ids = [v for k, v in masker.region_ids_.items() if k != "background"]
    return masker, pd.DataFrame(np.atleast_2d(values), columns=ids)


def prepared(image: Any, labels: Any, params: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Do before nilearn's masker what it does differently: no clipping of mean and sum.

    And what its functions do but its masker refuses: widths of three numbers, and "fast".
    """
    image, params = copied(image), dict(params)
    fwhm, linear = params["smoothing_fwhm"], params["strategy"] in LINEAR
    special = isinstance(fwhm, str | tuple)
    same = image.shape[:3] == labels.shape and np.allclose(image.affine, labels.affine)
    if params["resampling_target"] == "labels" and not same and (linear or special):
        target = {"target_affine": labels.affine, "target_shape": labels.shape}
        image = quiet(resample_img, image, interpolation="continuous", clip=not linear, **target)
    if special:
        image = quiet(smooth_img, image, fwhm)
        params["smoothing_fwhm"] = None
    return image, params


def voxels(image: Any) -> np.ndarray:
    return np.asarray(image.dataobj)


def rng_of(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@st.composite
def grids(draw: Any) -> tuple[tuple[int, int, int], np.ndarray]:
    return draw(st.tuples(*[st.integers(6, 9)] * 3)), draw(st.sampled_from(AFFINES))


@given(
    image_grid=grids(),
    atlas_grid=st.one_of(st.none(), grids()),
    mask_grid=st.one_of(st.none(), st.just("image"), grids()),
    first_grid=st.one_of(st.none(), grids()),
    strategy=st.sampled_from(tuple(REDUCERS)),
    fwhm=st.sampled_from([None, 4, (2.0, 0, 5), "fast"]),
    target=st.sampled_from(["data", "labels"]),
    keep=st.booleans(),
    dtype=st.sampled_from(["f8", "f8", "f4", "i2"]),
    nan=st.sampled_from([0.0, 0.01]),
    n_time=st.sampled_from([None, 1, 9]),
    cleaning=st.sampled_from([{}, {"detrend": True}, {"standardize": "zscore_sample"}]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=250)
def test_equals_nilearn(
    image_grid: Any,
    atlas_grid: Any,
    mask_grid: Any,
    first_grid: Any,
    strategy: str,
    fwhm: Any,
    target: str,
    keep: bool,
    dtype: str,
    nan: float,
    n_time: int | None,
    cleaning: dict[str, Any],
    seed: int,
) -> None:
    """Any grid for image, atlas, mask, and for the image that the masker was fitted on."""
    rng = rng_of(seed)
    (shape, affine) = image_grid
    shape = shape if n_time is None else (*shape, n_time)
    image = images.run(rng, shape, dtype, affine, nan=nan)
    labels_shape, labels_affine = atlas_grid or image_grid
    labels = images.labels(rng, labels_shape, (1, 2, 5, 9), labels_affine)
    params: dict[str, Any] = {
        "strategy": strategy,
        "smoothing_fwhm": fwhm,
        "resampling_target": target,
        "keep_masked_labels": keep,
        **(cleaning if n_time == 9 else {}),
    }
    if mask_grid is not None:
        mask_shape, mask_affine = image_grid if mask_grid == "image" else mask_grid
        mask = (rng.random(mask_shape) < 0.7).astype("u1")
        params["mask_img"] = nib.Nifti1Image(mask, mask_affine)

    masker = NiftiLabelsMasker(labels, **({"standardize": None} | params))
    given, theirs_params = prepared(image, labels, params)
    try:
        oracle, expected = theirs(labels, copied(given), **theirs_params)
    except ValueError:  # no label left
        with pytest.raises(DaskroiError):
            quiet(masker.fit_transform, image)
        return
    try:
        if first_grid is None:
            quiet(masker.fit, image)
        else:
            quiet(masker.fit, images.run(rng, first_grid[0], affine=first_grid[1]))
        found = quiet(masker.transform, image).compute()
    except DaskroiError:  # an image beside the atlas or the mask: nilearn has zeros
        assert first_grid is not None or not np.nan_to_num(expected).any()
        return

    assert found.dims == ("time", "region")[n_time is None :]
    single = dtype == "f4" or (dtype == "i2" and (fwhm is not None or target == "labels"))
    rtol = 1e-4 if single else 1e-6
    lost = found.n_voxels.values == 0
    table = pd.DataFrame(np.atleast_2d(found.values), columns=found.region.values)
    assert (table.loc[:, lost] == 0).all(axis=None)
    assert keep or not lost.any()
    if keep:
        assert set(table) == {1, 2, 5, 9}
    # what the image does not see is lost here; nilearn has a column of 0, or of what smoothing
    # has carried out of the image
    if fwhm is None:
        gone = [i for i in expected if i not in table or lost[list(table).index(i)]]
        rounding = 1e-12 * (np.abs(np.nan_to_num(expected)).max(axis=None) or 1)
        assert (np.abs(expected[gone]) <= rounding).all(axis=None)
    both = [i for i, away in zip(table, lost, strict=True) if i in expected and not away]
    if "standardize" in params:
        # z-scores of what varies by rounding only
        rtol *= 100
        raw = {k: v for k, v in theirs_params.items() if k != "standardize"}
        steady = theirs(labels, copied(given), **raw)[1]
        both = [i for i in both if steady[i].std() > 1e-3 * np.abs(steady).max(axis=None)]
    if not both:
        return
    scale = np.abs(expected[both]).max(axis=None) or 1
    np.testing.assert_allclose(table[both] / scale, expected[both] / scale, rtol=rtol, atol=rtol)

    same = ["region_atlas_"]
    if first_grid is None or target == "labels":
        same += ["labels_img_", "mask_img_"]
    for name in same:
        mine, other = getattr(masker, name), getattr(oracle, name)
        assert (mine is None) == (other is None)
        if mine is not None:
            np.testing.assert_array_equal(voxels(mine), voxels(other), err_msg=name)
            np.testing.assert_allclose(mine.affine, other.affine)
