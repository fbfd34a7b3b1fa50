"""The masker where grids differ, images are smoothed, or there are several: against nilearn."""

from __future__ import annotations

import re
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


# one image


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


# volumes: one series


def volumes(
    n: int, dtype: str = "f8", affine: Any = images.STRAIGHT, seed: int = 0, nan: float = 0.01
) -> list[Any]:
    rng = rng_of(seed)
    return [images.run(rng, (8, 8, 7), dtype, affine, nan=nan) for _ in range(n)]


@pytest.mark.parametrize("dtype", ["f8", "f4", "i2"])
@pytest.mark.parametrize(
    ("strategy", "target", "fwhm"),
    [("mean", "data", None), ("median", "labels", None), ("sum", "data", 4)],
)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"detrend": True, "standardize": "zscore_sample"},
        {"high_variance_confounds": True, "t_r": 2.0, "high_pass": 0.02},
    ],
)
def test_volumes_are_one_series_as_in_nilearn(
    dtype: str, strategy: str, target: str, fwhm: Any, more: dict[str, Any]
) -> None:
    # a cubic spline makes much of one NaN
    given = volumes(40, dtype, nan=0.0 if target == "labels" else 0.01)
    labels = images.labels(rng_of(1), (6, 6, 5), affine=OBLIQUE)
    params = {"strategy": strategy, "smoothing_fwhm": fwhm, "resampling_target": target, **more}
    confounds = rng_of(2).standard_normal((40, 2))
    call = {"confounds": confounds, "sample_mask": np.arange(3, 40)} if more else {}
    masker = Oracle(labels, standardize=None, keep_masked_labels=False).set_params(**params)
    expected = quiet(masker.fit_transform, [copied(v) for v in given], **call)
    ids = [v for k, v in masker.region_ids_.items() if k != "background"]

    mine = NiftiLabelsMasker(labels, **({"standardize": None} | params))
    found = quiet(mine.fit_transform, tuple(given), **call).compute()
    # nilearn's smoothing leaves integers single, and its cleaning then float32
    assert found.dtype == (np.float32 if dtype == "f4" else np.float64)
    assert found.dims == ("time", "region")
    scale = np.abs(expected).max()
    rtol = 1e-6 if dtype == "f8" else 1e-3
    np.testing.assert_allclose(found.sel(region=ids) / scale, expected / scale, atol=rtol)
    frames = np.arange(3, 40) if more else np.arange(40)
    assert found.time.values.tolist() == (frames * (2.0 if "t_r" in more else 1)).tolist()
    assert found.image.values.tolist() == [f"image {i}" for i in frames]
    assert found.attrs["source"] == "40 volumes, the first: image 0"


def test_one_frame_is_a_volume_and_dtypes_may_differ() -> None:
    labels = images.labels(rng_of())
    flat, thin = images.run(rng_of(), (6, 7, 5)), images.run(rng_of(1), (6, 7, 5, 1), "i2")
    found = NiftiLabelsMasker(labels).fit_transform([flat, thin])
    assert (found.shape, found.dtype) == ((2, 4), np.float64)
    alone = [NiftiLabelsMasker(labels).fit_transform(v) for v in (flat, thin)]
    np.testing.assert_allclose(found, np.stack([alone[0], alone[1][0]]), rtol=1e-6)
    assert NiftiLabelsMasker(labels).fit_transform([flat]).shape == (1, 4)
    run = dr.open_image(images.run(rng_of()))
    again = NiftiLabelsMasker(labels).fit_transform([run.isel(time=t) for t in (3, 1)])
    whole = NiftiLabelsMasker(labels).fit_transform(run)
    np.testing.assert_allclose(again, whole[[3, 1]])
    assert again.time.attrs["units"] == "frame"


@pytest.mark.parametrize("target", ["data", "labels"])
@pytest.mark.parametrize("cleaned", [False, True])
def test_volumes_on_several_grids(target: str, cleaned: bool) -> None:
    """Each on its own: the rows are those of every volume alone, cleaned together."""
    labels = images.labels(rng_of(1), (8, 8, 8), (1, 2, 3))
    a, b = volumes(4, "f4"), volumes(5, "f4", FLIPPED, 1)
    given = [a[0], b[0], b[1], a[1], b[2], a[2], a[3], b[3], b[4]]
    spatial = {"smoothing_fwhm": 3, "resampling_target": target}
    clean = {"detrend": True, "standardize": "zscore_sample"} if cleaned else {}
    confounds = rng_of(3).standard_normal((9, 1)) if cleaned else None
    keep = [0, 1, 2, 3, 5, 6, 7, 8] if cleaned else None
    masker = NiftiLabelsMasker(labels, keep_masked_labels=True, **spatial, **clean)
    lazy = quiet(masker.fit_transform, given, confounds=confounds, sample_mask=keep)
    assert lazy.chunks is not None
    assert lazy.attrs["spatial"] == "fused"
    assert ("zscore_sample" in lazy.attrs["recipe"]) == cleaned
    found = lazy.compute()

    alone = [quiet(dr.extract, v, labels, dtype="float64", **spatial).compute() for v in given]
    expected = xr.DataArray(
        np.nan_to_num(np.stack(alone)), dims=("time", "region"), coords={"time": np.arange(9)}
    )
    if cleaned:
        expected = dr.clean(expected, confounds=confounds, sample_mask=keep, **clean)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for name in ("n_voxels", "coverage"):
        worst = np.min([v.coords[name].values for v in alone], axis=0)
        np.testing.assert_array_equal(found.coords[name], worst)
    assert found.time.values.tolist() == (keep or list(range(9)))
    assert found.image.values.tolist() == [f"image {i}" for i in found.time.values]
    # one table, one axis, and the grid of the first
    assert masker.labels_img_.shape == ((8, 8, 7) if target == "data" else (8, 8, 8))


def lossy() -> tuple[Any, list[Any], dict[str, Any]]:
    """Regions 1, 2, 7, 9; the first run has no 7, the second no 2, and 9 is in the mask of none."""
    values = np.zeros((9, 6, 6), "i2")
    values[:2], values[4], values[7:], values[2, 0] = 2, 1, 7, 9
    mask = (values != 9).astype("u1")
    labels = nib.Nifti1Image(values, images.STRAIGHT)
    moved = images.STRAIGHT.copy()
    moved[0, 3] = 6  # begins where region 2 has ended
    rng = rng_of()
    runs = [
        images.run(rng, (6, 6, 6, 4), "f4"),
        images.run(rng, (6, 6, 6, 5), "f4", moved),
    ]
    params = {"labels": ["one", "two", "seven", "nine"]}
    return labels, runs, params | {"mask_img": nib.Nifti1Image(mask, images.STRAIGHT)}


SOME = r"2 of 4 regions have no voxel in some.*\(image 0: 7 seven; image 1: 2 two\)"


@pytest.mark.parametrize("target", ["data", "labels"])
@pytest.mark.parametrize("keep", [True, False])
def test_regions_that_some_images_lack(target: str, keep: bool) -> None:
    labels, runs, params = lossy()
    masker = NiftiLabelsMasker(
        labels, keep_masked_labels=keep, resampling_target=target, detrend=True, **params
    ).fit(runs)
    columns = [1, 2, 7, 9] if keep else [1, 2, 7]
    assert masker.labels_ == [0, *columns]
    with pytest.warns(DaskroiWarning) as caught:
        found = masker.transform(runs)
    text = " ".join(str(w.message) for w in caught)
    assert len(caught) == 2
    assert "1 of 4 regions have no voxel in the image and mask" in text
    assert text.count("9 nine") == 1
    assert re.search(SOME, text)
    assert [s.region.values.tolist() for s in found] == [columns, columns]
    assert [s.sizes["time"] for s in found] == [4, 5]
    for series, lacking in zip(found, (7, 2), strict=True):
        assert (series.sel(region=lacking) == 0).all()
        assert series.sel(region=lacking).n_voxels == 0
        assert not keep or (series.sel(region=9) == 0).all()
        assert series.dtype == np.float32
    for run, series in zip(runs, found, strict=True):
        one = quiet(masker.transform, run)
        shared = [i for i in columns if i in one.region.values]
        np.testing.assert_array_equal(series.sel(region=shared), one.sel(region=shared))

    # volumes: 0 before they are cleaned, which 9 is not
    masker.set_params(detrend=False, standardize="psc").fit(runs)
    flat = [nib.Nifti1Image(voxels(r)[..., 0], r.affine) for r in runs]
    with pytest.warns(DaskroiWarning) as caught:
        one = masker.transform(flat)
    assert [bool(re.search(SOME, str(w.message))) for w in caught] == [False, True]
    assert one.region.values.tolist() == columns
    np.testing.assert_allclose(one.sel(region=[2, 7]), [[100, -100], [-100, 100]])
    assert one.n_voxels.sel(region=[2, 7]).values.tolist() == [0, 0]
    assert not keep or (one.sel(region=9) == 0).all()


def test_volumes_on_several_grids_have_no_high_variance_confounds() -> None:
    given = [*volumes(3), *volumes(3, affine=COARSE)]
    masker = NiftiLabelsMasker(images.labels(rng_of()), high_variance_confounds=True)
    with pytest.raises(DaskroiError, match=r"on 2 grids: .* 2 x 2 x 2 mm.* 3 x 3 x 3 mm"):
        quiet(masker.fit_transform, given)
    labels = images.labels(rng_of(), (8, 8, 7))
    masker = NiftiLabelsMasker(labels, resampling_target=None)
    with pytest.raises(DaskroiError, match=r"2 x 2 x 2 mm.* 3 x 3 x 3 mm.*None forbids"):
        masker.fit(given)
    with pytest.raises(DaskroiError, match=r"2 x 2 x 2 mm.* 3 x 3 x 3 mm.*None forbids"):
        masker.fit(given[0]).transform(given)


# runs: one series each


def test_runs_give_a_list(tmp_path: Path) -> None:
    labels = images.labels(rng_of())
    runs = [images.run(rng_of(i), (6, 7, 5, n), "f8") for i, n in enumerate((12, 15))]
    confounds = [rng_of(i).standard_normal((n, 1)) for i, n in enumerate((12, 15))]
    keep = [None, np.arange(2, 7)]
    params = {"standardize": "zscore_sample", "detrend": True}
    masker = NiftiLabelsMasker(labels, **params).fit(runs)
    found = masker.transform(runs, confounds=confounds, sample_mask=keep)
    assert isinstance(found, list)
    oracle = quiet(Oracle(labels, **params).fit, runs[0])
    for k, run in enumerate(runs):
        expected = quiet(oracle.transform, run, confounds=confounds[k], sample_mask=keep[k])
        np.testing.assert_allclose(found[k], expected, rtol=1e-6, atol=1e-8)
    some = masker.transform(runs, confounds=[None, confounds[1]])
    xr.testing.assert_equal(some[0], masker.transform(runs[0]))
    frames = masker.set_output(transform="pandas").transform(runs, sample_mask=keep)
    assert [f.shape for f in frames] == [(12, 4), (5, 4)]
    assert frames[1].index.tolist() == [2, 3, 4, 5, 6]
    one = masker.transform(
        [nib.Nifti1Image(voxels(runs[0])[..., i], images.STRAIGHT) for i in (1, 0)]
    )
    assert one.shape == (2, 4)
    assert len(masker.fit_transform(runs[:1])) == 1
    assert "2 runs, the first: image 0" in str(masker.fit(runs).generate_report())


def test_lists_that_make_no_sense(tmp_path: Path) -> None:
    labels = images.labels(rng_of())
    masker = NiftiLabelsMasker(labels).fit()
    run, volume = images.run(rng_of()), images.run(rng_of(), (6, 7, 5))
    with pytest.raises(DaskroiError, match="imgs is an empty list"):
        masker.transform([])
    with pytest.raises(DaskroiError, match="imgs is an empty tuple"):
        masker.fit(())
    path = images.save(volume, tmp_path / "volume.nii")
    with pytest.raises(DaskroiError, match=r"volume\.nii has 1 volume, image 0 has 9"):
        masker.transform([run, path])
    with pytest.raises(DaskroiError, match="sample_mask has 3 entries for 2 runs"):
        masker.transform([run, run], sample_mask=[None, None, None])
    with pytest.raises(DaskroiError, match="confounds is one ndarray for a list of 2 runs"):
        masker.transform([run, run], confounds=np.ones((9, 1)))
    with pytest.raises(DaskroiError, match="not list"):
        masker.transform([[volume], [volume]])
    missing = tmp_path / "gone.nii"
    with pytest.raises(DaskroiNotFoundError, match=r"gone\.nii"):
        masker.transform([path, missing])
    with pytest.raises(DaskroiError, match="t_r"):
        NiftiLabelsMasker(labels, high_pass=0.01).fit_transform([volume] * 20)


def test_wildcards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = images.labels(rng_of())
    given = [images.run(rng_of(i), (6, 7, 5)) for i in range(3)]
    paths = [images.save(v, tmp_path / f"sub-{i}.nii.gz") for i, v in enumerate(given)]
    images.save(images.run(rng_of()), tmp_path / "run.nii.gz")
    masker = NiftiLabelsMasker(labels)
    pattern = tmp_path / "sub-*.nii.gz"
    found = masker.fit_transform(pattern)
    np.testing.assert_allclose(found, quiet(Oracle(labels).fit_transform, str(pattern)), rtol=1e-5)
    assert found.image.values.tolist() == [str(p) for p in paths]
    xr.testing.assert_equal(found, masker.transform(paths))
    assert masker.transform(str(tmp_path / "sub-[02].nii.gz")).shape == (2, 4)
    assert [s.shape for s in masker.transform(str(tmp_path / "r?n.nii.gz"))] == [(9, 4)]
    with pytest.raises(DaskroiNotFoundError, match=r"ses-\*\.nii: no file matches this pattern"):
        masker.transform(str(tmp_path / "ses-*.nii"))
    # a file of that very name is that file
    odd = images.save(given[0], tmp_path / "sub-[1].nii.gz")
    assert masker.transform(odd).dims == ("region",)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert masker.transform("~/sub-?.nii.gz").shape == (3, 4)


def test_templates_of_volumes_are_compared_once(tmp_path: Path) -> None:
    run = dr.make_phantom((9, 11, 9), 4, n_regions=4)
    name = "tpl-MNI152NLin6Asym_atlas-x_dseg.nii.gz"
    atlas, grid = tmp_path / name, run.atlas.grid.matrix
    images.save(nib.Nifti1Image(run.atlas.labels.T.astype("i2"), grid), atlas)
    for i in range(3):
        volume = images.run(rng_of(i), (9, 11, 9), affine=grid)
        images.save(volume, tmp_path / f"sub-{i}_space-MNIPediatricAsym_cohort-2_bold.nii.gz")
    masker = NiftiLabelsMasker(atlas).fit()
    with pytest.warns(DaskroiWarning, match="sub-0.*is in MNIPediatricAsym") as caught:
        masker.transform(str(tmp_path / "sub-*"))
    assert len(caught) == 1


def test_lists_are_lazy(tmp_path: Path) -> None:
    paths = []
    for i in range(4):
        shape, affine = ((6, 7, 5), images.STRAIGHT) if i % 2 else ((7, 7, 7), FLIPPED)
        image = images.run(rng_of(i), shape, affine=affine)
        paths.append(images.save(image, tmp_path / f"{i}.nii.gz"))
        paths[-1].write_bytes(paths[-1].read_bytes()[:-40])  # whoever reads all finds it cut

    def fail(*args: Any, **kw: Any) -> None:
        raise AssertionError("computed while building")

    masker = NiftiLabelsMasker(images.labels(rng_of()), standardize="zscore_sample")
    with dask.config.set(scheduler=fail):
        both = quiet(masker.fit_transform, paths)
        alike = quiet(masker.transform, paths[::2])
    for found in (both, alike):
        with pytest.raises(DaskroiError, match=r"truncated|corrupt|bytes"):
            found.compute()


def test_concatenated_images_of_nilearn_are_the_same_series() -> None:
    given, labels = volumes(12, "f4"), images.labels(rng_of())
    whole = quiet(concat_imgs, [copied(v) for v in given])
    masker = NiftiLabelsMasker(labels, detrend=True).fit()
    np.testing.assert_allclose(masker.transform(given), masker.transform(whole), atol=1e-5)
