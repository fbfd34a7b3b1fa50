"""Maps and spheres through `extract`, against nilearn's maskers for them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import images
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.image import resample_img, smooth_img
from nilearn.maskers import NiftiMapsMasker, NiftiSpheresMasker
from oracle import quiet

import daskroi as dr
from daskroi.errors import DaskroiError
from daskroi.kernels import REDUCERS

AFFINES = (images.STRAIGHT, images.OBLIQUE, np.diag([-3.0, 3.0, 2.0, 1.0]))
CLEANINGS = ({}, {"detrend": True}, {"detrend": True, "standardize": "zscore_sample"})


def copy(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """nilearn writes zeros over NaN in the caller's array."""
    return nib.Nifti1Image(np.array(image.dataobj), image.affine, image.header)


def theirs(masker: type, atlas: Any, image: Any, **kw: Any) -> np.ndarray:
    kw.setdefault("standardize", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return masker(atlas, **kw).fit_transform(copy(image))


@st.composite
def runs(draw: Any) -> dict[str, Any]:
    """A float64 run on one grid, soft maps on the same or another, and a mask."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = draw(st.tuples(*[st.integers(5, 8)] * 3))
    affine = draw(st.sampled_from(AFFINES))
    image = images.run(rng, (*shape, 7), "f8", affine, nan=draw(st.sampled_from([0.0, 0.03])))
    same = draw(st.booleans())
    other = shape if same else draw(st.tuples(*[st.integers(5, 8)] * 3))
    lowest = draw(st.sampled_from([0.0, -0.5, -0.9]))  # of components, signs are by chance
    maps = (rng.random((*other, 3)) + lowest) * (rng.random((*other, 3)) < 0.6)
    atlas = nib.Nifti1Image(maps, affine if same else draw(st.sampled_from(AFFINES)))
    mask = None
    if draw(st.booleans()):
        mask = nib.Nifti1Image((rng.random(shape) < 0.8).astype("u1"), affine)
    return {"rng": rng, "image": image, "atlas": atlas, "mask": mask}


@given(runs(), st.sampled_from([None, 4.0]), st.sampled_from(CLEANINGS))
@settings(max_examples=80)
def test_lstsq_equals_nilearns_maps_masker(case: dict[str, Any], fwhm: Any, clean: Any) -> None:
    kw = {"mask_img": case["mask"], "smoothing_fwhm": fwhm, **clean}
    try:
        expected = theirs(
            NiftiMapsMasker, case["atlas"], case["image"], resampling_target="data", **kw
        )
    except ValueError:
        return
    try:
        ours = quiet(case["image"], case["atlas"], maps_method="lstsq", **kw)
    except DaskroiError:  # nothing left
        return
    assert ours.dims == ("time", "region")
    assert (ours.coverage >= 0).all()
    lost = ours.n_voxels.values == 0
    if lost.any() or expected.shape != ours.shape or (ours.coverage < 0.02).any():
        return  # a map of a voxel or two: as good as dependent
    scale = np.abs(expected).max()
    np.testing.assert_allclose(ours / scale, expected / scale, rtol=1e-6, atol=1e-6)


@given(runs(), st.sampled_from([None, 4.0]))
@settings(max_examples=40)
def test_lstsq_on_the_maps_grid(case: dict[str, Any], fwhm: Any) -> None:
    """nilearn's resampling_target="maps", in its own steps, without clipping."""
    values = np.nan_to_num(case["image"].get_fdata(), posinf=0, neginf=0)
    image = nib.Nifti1Image(values, case["image"].affine)
    atlas = case["atlas"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            there = resample_img(image, atlas.affine, atlas.shape[:3], clip=False)
        except ValueError:
            return
        there = there if fwhm is None else smooth_img(there, fwhm)
    expected = theirs(NiftiMapsMasker, atlas, there)
    kw: dict[str, Any] = {"smoothing_fwhm": fwhm, "resampling_target": "labels"}
    try:
        ours = quiet(image, atlas, maps_method="lstsq", **kw)
    except DaskroiError:
        return
    if (ours.n_voxels == 0).any():
        return  # a map that the image does not see: nilearn regresses on it all the same
    scale = np.abs(expected).max() or 1
    np.testing.assert_allclose(ours / scale, expected / scale, rtol=1e-6, atol=1e-6)


@given(runs(), st.sampled_from([None, 4.0]), st.sampled_from(["zero", "omit", "propagate"]))
@settings(max_examples=60)
def test_weighted_mean_by_hand(case: dict[str, Any], fwhm: Any, nan_policy: str) -> None:
    """On one grid, with plain NumPy."""
    image = case["image"]
    if fwhm and nan_policy == "propagate":
        return
    values = image.get_fdata()
    maps = np.random.default_rng(0).random((*image.shape[:3], 2))
    maps[..., 1] *= maps[..., 1] > 0.7
    atlas = nib.Nifti1Image(maps, image.affine)
    ours = quiet(image, atlas, smoothing_fwhm=fwhm, nan_policy=nan_policy).compute()
    total = quiet(image, atlas, smoothing_fwhm=fwhm, nan_policy=nan_policy, strategy="sum")
    valid = np.isfinite(values)
    filled, there = np.where(valid, values, 0), valid * 1.0
    if fwhm:
        filled, there = (
            smooth_img(nib.Nifti1Image(v, image.affine), fwhm).get_fdata() for v in (filled, there)
        )
    if nan_policy == "propagate":
        filled = values
    filled = np.where(np.isfinite(filled), filled, np.nan)
    sums = np.stack([m[m > 0] @ filled[m > 0] for m in np.moveaxis(maps, -1, 0)], axis=1)
    weights = maps.sum(axis=(0, 1, 2))[None]
    if nan_policy == "omit":
        weights = np.einsum("xyzt,xyzr->tr", there, maps)
    finite = np.isfinite(ours.values)
    np.testing.assert_array_equal(finite, np.isfinite(sums))
    np.testing.assert_allclose(ours.values[finite], (sums / weights)[finite], rtol=1e-8)
    np.testing.assert_allclose(total.values[finite], sums[finite], rtol=1e-8)
    share = np.einsum("xyzt,xyzr->tr", valid * 1.0, maps).min(axis=0)
    np.testing.assert_allclose(ours.coverage, share / maps.sum(axis=(0, 1, 2)))


@pytest.mark.parametrize("nan_policy", ["zero", "omit", "propagate"])
@pytest.mark.parametrize("dtype", ["f4", "i2"])
def test_maps_whose_weights_add_up_to_nothing_or_less(
    dtype: str, nan_policy: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    image = images.run(rng, (6, 7, 8, 5), dtype, nan=0.02 if dtype == "f4" else 0)
    if dtype == "i2":
        image.header.set_slope_inter(0.5, 3)
    maps = rng.normal(-0.1, 1, (6, 7, 8, 4))
    maps[..., 1] = rng.choice([-1, 1], 168).repeat(2).reshape(6, 7, 8)
    maps[..., 1].flat[1::2] *= -1
    maps[..., 3] = 0
    assert maps[..., 0].sum() < 0 == maps[..., 1].sum()
    path = images.save(image, tmp_path / "run.nii")
    values = nib.load(path).get_fdata()
    valid = np.isfinite(values)
    filled = values if nan_policy == "propagate" else np.where(valid, values, 0)
    truth = np.einsum("xyzt,xyzr->tr", filled, maps)
    truth[:, 3] = np.nan
    weight = np.abs(maps).sum(axis=(0, 1, 2))
    there = np.einsum("xyzt,xyzr->tr", valid * 1.0, np.abs(maps)).min(axis=0)
    for chunks in ("auto", (2, 3, 4, 5)):
        ours = quiet(
            path, nib.Nifti1Image(maps, image.affine), strategy="sum", nan_policy=nan_policy,
            chunks=chunks, min_coverage=0.5, dtype="float64",
        )  # fmt: skip
        np.testing.assert_allclose(ours, truth, rtol=1e-9)
        np.testing.assert_allclose(ours.coverage, there / np.where(weight > 0, weight, 1))


@given(
    runs(), st.sampled_from([None, 2.5, 5.0]), st.sampled_from([None, 4.0]),
    st.sampled_from(CLEANINGS), st.sampled_from(["f8", "f4"]),
)  # fmt: skip
@settings(max_examples=80)
def test_spheres_equal_nilearn(
    case: dict[str, Any], radius: Any, fwhm: Any, clean: Any, dtype: str
) -> None:
    image = case["image"]
    if dtype != "f8":
        values = np.nan_to_num(image.get_fdata(), posinf=0, neginf=0)
        image = nib.Nifti1Image(values.astype(dtype), image.affine)
    voxels = case["rng"].uniform(0, np.array(image.shape[:3]) - 1, (3, 3))
    seeds = voxels @ image.affine[:3, :3].T + image.affine[:3, 3]
    kw = {"mask_img": case["mask"], "smoothing_fwhm": fwhm, **clean}
    try:
        expected = theirs(
            NiftiSpheresMasker, [tuple(s) for s in seeds], image,
            radius=radius, allow_overlap=True, **kw,
        )  # fmt: skip
    except ValueError:  # an empty sphere
        try:
            assert (quiet(image, dr.load_atlas(seeds, radius=radius), **kw).n_voxels == 0).any()
        except DaskroiError as error:  # or all of them
            assert "left inside the mask" in str(error)  # noqa: PT017
        return
    ours = quiet(image, dr.load_atlas(seeds, radius=radius), **kw)
    scale = np.abs(expected).max() or 1
    rtol = 1e-6 if dtype == "f8" else 1e-4
    if "standardize" in clean:
        rtol *= 10
    np.testing.assert_allclose(ours / scale, expected / scale, rtol=rtol, atol=rtol)


def test_spheres_take_every_strategy() -> None:
    rng = np.random.default_rng(0)
    image = images.run(rng, (8, 8, 8, 5), "f8")
    atlas = dr.load_atlas([[6.0, 6, 6], [8.0, 8, 8]], radius=4.0)  # they share voxels
    grid = np.stack(np.meshgrid(*[2.0 * np.arange(8)] * 3, indexing="ij"), axis=-1)
    for strategy in REDUCERS:
        ours = dr.extract(image, atlas, strategy=strategy).compute()
        for region, seed in enumerate(((6, 6, 6), (8, 8, 8))):
            inside = ((grid - seed) ** 2).sum(-1) <= 16
            values = image.get_fdata()[inside]
            by_hand = {
                "mean": np.mean, "sum": np.sum, "median": np.median, "minimum": np.min,
                "maximum": np.max, "standard_deviation": np.std, "variance": np.var,
            }[strategy](values, axis=0)  # fmt: skip
            np.testing.assert_allclose(ours[:, region], by_hand)
            assert ours.n_voxels[region] == inside.sum()


def test_soft_and_hard_atlases_from_one_read() -> None:
    rng = np.random.default_rng(0)
    image = images.run(rng, (8, 8, 8, 5), "i2")
    image.header.set_slope_inter(0.5, 3)
    atlases = {
        "hard": dr.load_atlas(images.labels(rng, (8, 8, 8))),
        "maps": nib.Nifti1Image(rng.random((8, 8, 8, 3)), image.affine),
        "spheres": dr.load_atlas([[6.0, 6, 6]], radius=4.0),
    }
    for kw in ({}, {"smoothing_fwhm": 4}, {"maps_method": "lstsq"}, {"strategy": "sum"}):
        together = dr.extract(image, atlases, **kw)
        assert set(together) == set(atlases)  # "maps" is a name here, not nilearn's Bunch
        solved = "lstsq" if "maps_method" in kw else kw.get("strategy", "mean")
        assert together["maps"].attrs["strategy"] == solved
        assert together["hard"].attrs["strategy"] == kw.get("strategy", "mean")
        for name, atlas in atlases.items():
            alone = {k: v for k, v in kw.items() if k != "maps_method" or name == "maps"}
            np.testing.assert_allclose(together[name], dr.extract(image, atlas, **alone))


def test_empty_spheres_are_lost_by_name() -> None:
    image = images.run(np.random.default_rng(0), (6, 6, 6, 4))
    seeds = [[4.0, 4, 4], [500.0, 0, 0]]
    with pytest.warns(UserWarning, match=r"1 of 2 regions have no voxel .*: 2 far"):
        ts = dr.extract(image, dr.load_atlas(seeds, radius=4.0, labels=["near", "far"]))
    assert np.isnan(ts.sel(region=2)).all()
    np.testing.assert_allclose(ts.coverage, [1, 0], atol=0.1)
    assert ts.region_name.values.tolist() == ["near", "far"]
