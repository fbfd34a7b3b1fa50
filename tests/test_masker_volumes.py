"""The masker on volumes, which are one series: against nilearn, on one grid and on several."""

from __future__ import annotations

import re
from typing import Any

import images
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from maskergrids import COARSE, FLIPPED, OBLIQUE, copied, quiet, rng_of, voxels
from nilearn.image import concat_imgs
from nilearn.maskers import NiftiLabelsMasker as Oracle

import daskroi as dr
from daskroi import NiftiLabelsMasker
from daskroi.errors import DaskroiError, DaskroiWarning


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


def test_concatenated_images_of_nilearn_are_the_same_series() -> None:
    given, labels = volumes(12, "f4"), images.labels(rng_of())
    whole = quiet(concat_imgs, [copied(v) for v in given])
    masker = NiftiLabelsMasker(labels, detrend=True).fit()
    np.testing.assert_allclose(masker.transform(given), masker.transform(whole), atol=1e-5)
