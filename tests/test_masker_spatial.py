"""The masker where grids differ or the image is smoothed: against nilearn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from maskergrids import COARSE, FLIPPED, OBLIQUE, copied, quiet, rng_of, voxels
from nilearn.image import resample_img, smooth_img
from nilearn.maskers import NiftiLabelsMasker as Oracle

import daskroi as dr
from daskroi import NiftiLabelsMasker
from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.kernels import REDUCERS

AFFINES = (images.STRAIGHT, FLIPPED, OBLIQUE)
LINEAR = ("mean", "sum")


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


def test_smoothing_of_0_is_none_and_said_once() -> None:
    labels, image = images.labels(rng_of()), images.run(rng_of())
    masker = NiftiLabelsMasker(labels, smoothing_fwhm=0)
    with pytest.warns(DaskroiWarning, match="smoothing_fwhm=0: nothing is smoothed") as caught:
        found = masker.fit_transform([image, image])
    assert len(caught) == 1
    xr.testing.assert_equal(found[0], NiftiLabelsMasker(labels).fit_transform(image))
    assert masker.smoothing_fwhm == 0


def test_labels_that_the_image_does_not_see_are_named() -> None:
    values = np.zeros((9, 6, 6), "i2")
    values[:3], values[3:5], values[7:] = 1, 2, 7
    labels = nib.Nifti1Image(values, images.STRAIGHT)
    image = images.run(rng_of(), (5, 6, 6, 4))  # ends where region 7 has not begun
    names = {"labels": ["one", "two", "far"], "resampling_target": "labels"}
    masker = NiftiLabelsMasker(labels, **names).fit(image)
    assert masker.n_elements_ == 3
    with pytest.warns(DaskroiWarning, match="1 of 3 regions.*columns of 0: 7 far") as caught:
        found = masker.transform(image)
    assert len(caught) == 1
    assert (found.sel(region=7) == 0).all()
    assert found.sel(region=7).coverage == 0
    assert "1 of 3 regions have no voxel in the image and mask: 7 far" in str(
        masker.generate_report()
    )
    # nilearn keeps it on labels_img_ and region_atlas_, and so can it be painted
    assert (voxels(masker.region_atlas_) == values).all()
    assert masker.inverse_transform([1.0, 2, 3]).get_fdata().max() == 3

    masker = NiftiLabelsMasker(labels, keep_masked_labels=False, **names).fit(image)
    assert list(masker.region_names_.values()) == ["one", "two"]
    with pytest.warns(DaskroiWarning, match="1 of 3 regions.*have no column.*: 7 far"):
        assert masker.transform(image).region.values.tolist() == [1, 2]
    oracle = quiet(Oracle(labels, standardize=None, resampling_target="labels").fit, image)
    back = quiet(oracle.inverse_transform, np.array([4.0, 5, 0]))
    np.testing.assert_array_equal(voxels(masker.inverse_transform([4.0, 5])), voxels(back))


def test_what_transform_changes_and_on_which_grid() -> None:
    labels = images.labels(rng_of(), (8, 8, 8))
    fine, coarse = images.run(rng_of(), (8, 8, 8, 2)), images.run(rng_of(), affine=COARSE)
    masker = NiftiLabelsMasker(labels, resampling_target="labels").fit(coarse)
    assert masker.labels_img_.shape == masker.region_atlas_.shape == (8, 8, 8)
    quiet(masker.transform, coarse)
    assert masker.region_atlas_.shape == (8, 8, 8)
    masker.set_params(resampling_target="data").fit(coarse)
    assert masker.labels_img_.shape == masker.region_atlas_.shape == (6, 7, 5)
    quiet(masker.transform, fine)
    assert (masker.labels_img_.shape, masker.region_atlas_.shape) == ((6, 7, 5), (8, 8, 8))
    quiet(masker.transform, [coarse, fine])
    assert masker.region_atlas_.shape == (6, 7, 5)


def test_ties_of_a_mask_fall_as_on_the_grid_of_the_labels() -> None:
    """Image and atlas are the same place but for rounding, and the mask's voxels end on it."""
    beside = [np.diag([2.0, 2, 2, 1]) for _ in range(2)]
    beside[0][0, 3], beside[1][0, 3] = 10, 10 - 1e-5
    mask = np.zeros((3, 3, 3), "u1")
    mask[1] = 1
    coarse = np.diag([4.0, 4, 4, 1])
    coarse[0, 3] = 8
    params = {"mask_img": nib.Nifti1Image(mask, coarse), "resampling_target": "labels"}
    for image_affine, labels_affine in (beside, beside[::-1]):
        image = images.run(rng_of(), (6, 6, 6, 4), "f8", image_affine)
        labels = nib.Nifti1Image(np.ones((6, 6, 6), "i2"), labels_affine)
        masker = NiftiLabelsMasker(labels, **params)
        found = masker.fit_transform(image)
        np.testing.assert_allclose(found, theirs(labels, image, **params)[1], rtol=1e-12)
        assert found.n_voxels == (voxels(masker.region_atlas_) == 1).sum()
        assert (voxels(masker.inverse_transform(found)) != 0).sum() == 4 * found.n_voxels


def test_maps_are_refused() -> None:
    maps = nib.Nifti1Image(np.ones((4, 4, 4, 3), "f4"), np.eye(4))
    with pytest.raises(DaskroiError, match="label image"):
        NiftiLabelsMasker(maps).fit()


@pytest.mark.parametrize("fwhm", [None, 6])
def test_the_real_run_on_the_grid_of_the_labels(
    real_run: Path, harvard_oxford: Path, fwhm: float | None
) -> None:
    few = nib.load(real_run).slicer[..., :8]
    params: dict[str, Any] = {"resampling_target": "labels", "smoothing_fwhm": fwhm}
    found = NiftiLabelsMasker(str(harvard_oxford), **params).fit_transform(few)
    assert found.attrs["spatial"] == "fused"
    _, expected = theirs(str(harvard_oxford), few, **params)
    assert found.region.values.tolist() == list(expected)
    # nilearn clips what it resamples: at the edge of the brain, splines go below 0
    difference = np.abs(found.compute() / expected.values - 1)
    assert difference.max() < 5e-3
    assert difference.median() < 1e-3
    clipped = dr.extract(few, str(harvard_oxford), resampling_clip=True, **params)
    np.testing.assert_allclose(clipped, expected, rtol=1e-9)
