"""Smoothing and resampling through `extract`: against nilearn, and one way against the other."""

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
from oracle import AFFINES, STRATEGIES, cases, check_equal, nilearn, quiet

import daskroi as dr
from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.weights import TAIL

FWHMS = (None, 4, (2.0, 0, 5), "fast")
LINEAR = ("mean", "sum")


def tolerance(case: dict[str, Any], spatial: bool = True) -> float:
    """nilearn smooths float32 and integer images in float32."""
    dtype = case["image"].get_data_dtype()
    return 1e-6 if dtype == np.float64 or (dtype.kind in "iu" and not spatial) else 1e-4


def in_steps(case: dict[str, Any], image: Any, kw: dict[str, Any]) -> tuple[np.ndarray, list[int]]:
    """nilearn's masker; where it refuses a width (per axis, "fast"), nilearn's own functions."""
    fwhm, rest = kw["smoothing_fwhm"], {k: v for k, v in kw.items() if k != "smoothing_fwhm"}
    if not isinstance(fwhm, tuple | str):
        return nilearn(case["atlas"], image, keep_masked_labels=False, **kw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = nib.Nifti1Image(np.array(image.dataobj), image.affine, image.header)
        if kw["resampling_target"] == "labels":
            image = resample_img(image, case["atlas"].affine, case["atlas"].shape)
        image = smooth_img(image, fwhm)
    return nilearn(case["atlas"], image, keep_masked_labels=False, **rest)


@given(
    cases(),
    st.sampled_from(STRATEGIES),
    st.sampled_from(FWHMS),
    st.sampled_from(["data", "labels"]),
    st.sampled_from(["auto", "blocks"]),
    st.sampled_from([None, {"detrend": True, "standardize": "zscore_sample"}, {"low_pass": 0.1}]),
)
@settings(max_examples=150)
def test_equals_nilearn(
    case: dict[str, Any], strategy: str, fwhm: Any, target: str, plan: str, cleaning: Any
) -> None:
    """With nilearn's clipping, all strategies in all combinations."""
    kw: dict[str, Any] = {
        "mask_img": case["mask"], "strategy": strategy,
        "smoothing_fwhm": fwhm, "resampling_target": target, **(cleaning or {}),
    }  # fmt: skip
    if cleaning and case["image"].shape[3] < 9:
        return  # one frame, or two, detrended: rounding, standardized
    unsigned = case["image"].get_data_dtype().kind == "u"
    if "low_pass" in kw:
        kw["t_r"] = 2.0
    image = case["image"]
    if unsigned and target == "labels":
        # nilearn rounds what it resamples of these (we differ, on purpose)
        image = nib.Nifti1Image(image.get_fdata(), image.affine, image.header)
        image.set_data_dtype("f8")
    try:
        theirs, ids = in_steps(case, image, kw)
    except (ValueError, DaskroiError):  # no label left
        with pytest.raises(DaskroiError):
            quiet(case["image"], case["atlas"], **kw)
        return
    try:
        ours = quiet(
            case["image"], case["atlas"], resampling_clip=True, plan=plan, chunks=4, **kw
        ).compute()
    except DaskroiError:  # image and atlas are apart: nilearn gives zeros
        assert not np.any(theirs)
        return
    # a region that the image does not see: nilearn has a column of 0
    seen = ours.n_voxels.sel(region=ids).values > 0
    if fwhm is None:  # smoothing brings in what is beside it
        assert not np.nan_to_num(theirs[:, ~seen]).any()
    kept = [i for i, there in zip(ids, seen, strict=True) if there]
    rtol = tolerance(case)
    if cleaning and "standardize" in cleaning:
        # z-scores of what varies by rounding only
        steady = quiet(case["image"], case["atlas"], resampling_clip=True, **{
            k: v for k, v in kw.items() if k not in cleaning
        }).compute()  # fmt: skip
        spread = steady.std("time").sel(region=kept).values > 1e-3 * np.abs(steady).max().item()
        kept = [i for i, there in zip(kept, spread, strict=True) if there]
        rtol *= 100
    if not kept:
        return
    columns = [ids.index(i) for i in kept]
    check_equal(ours.sel(region=kept), theirs[:, columns], kept, rtol)


@given(
    cases(),
    st.sampled_from(LINEAR),
    st.sampled_from(FWHMS),
    st.sampled_from(["data", "labels"]),
    st.sampled_from(["zero", "omit"]),
    st.sampled_from(["stream", "blocks"]),
    st.booleans(),
)
@settings(max_examples=150)
def test_fused_equals_voxelwise(
    tmp_path_factory: Any,
    case: dict[str, Any],
    strategy: str,
    fwhm: Any,
    target: str,
    nan_policy: str,
    plan: str,
    scaled: bool,
) -> None:
    """Without clipping, to 1e-8 of the image's largest value; NaN zero and omit exactly as well."""
    image = case["image"]
    if scaled:
        image.header.set_slope_inter(-0.5, 30)
    path = images.save(image, tmp_path_factory.mktemp("run") / "run.nii.gz")
    kw: dict[str, Any] = {
        "mask_img": case["mask"], "strategy": strategy, "nan_policy": nan_policy,
        "smoothing_fwhm": fwhm, "resampling_target": target, "resampling_clip": False,
        "dtype": "f8", "plan": plan, "chunks": {"time": 4, "y": 3},
    }  # fmt: skip
    try:
        fused = quiet(path, case["atlas"], **kw)
    except DaskroiError:
        return
    voxelwise = quiet(path, case["atlas"], spatial="voxelwise", **kw)
    ways = {fused.attrs["spatial"], voxelwise.attrs["spatial"]}
    assert ways in ({"direct"}, {"fused", "voxelwise"})
    fused, voxelwise = fused.compute(), voxelwise.compute()
    values = dr.open_image(path).values.astype(np.float64)
    largest = np.abs(values[np.isfinite(values)]).max()
    if strategy == "sum":
        largest = largest * max(fused.n_voxels.max().item(), 1)
    # omit divides by the weights that are left, which may be few
    share = np.maximum(fused.coverage.values, 0.01) if nan_policy == "omit" else 1.0
    np.testing.assert_array_equal(np.isnan(fused), np.isnan(voxelwise))
    error = np.nan_to_num(np.abs(fused - voxelwise).values)
    assert (error <= 1e-8 * largest / share).all()
    np.testing.assert_allclose(fused.coverage, voxelwise.coverage)
    np.testing.assert_array_equal(fused.n_voxels, voxelwise.n_voxels)


@given(cases(), st.sampled_from(STRATEGIES), st.sampled_from(["data", "labels"]), st.data())
@settings(max_examples=60)
def test_any_chunking_and_slab_is_the_same(
    case: dict[str, Any], strategy: str, target: str, data: Any
) -> None:
    sizes = [data.draw(st.integers(1, n)) for n in case["image"].shape[::-1]]
    kw: dict[str, Any] = {
        "strategy": strategy, "smoothing_fwhm": 4, "resampling_target": target,
        "nan_policy": data.draw(st.sampled_from(["zero", "omit", "propagate"])), "dtype": "f8",
    }  # fmt: skip
    try:
        whole = quiet(case["image"], case["atlas"], chunks=-1, **kw).compute()
    except DaskroiError:
        return
    chunked = quiet(case["image"], case["atlas"], chunks=tuple(sizes), **kw).compute()
    scale = np.nanmax(np.abs(np.where(np.isfinite(whole), whole, 0)), initial=1)
    np.testing.assert_allclose(chunked / scale, whole / scale, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(chunked.coverage, whole.coverage)


@pytest.fixture
def pair() -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """A float64 run and an atlas on a finer, shifted grid."""
    rng = np.random.default_rng(3)
    fine = np.diag([1.5, 1.5, 1.5, 1.0])
    return images.run(rng, (8, 9, 7, 6), "f8"), images.labels(rng, (9, 10, 8), affine=fine)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_stream_and_blocks_to_the_bit(
    tmp_path: Path, pair: Any, strategy: str, suffix: str
) -> None:
    path = images.save(pair[0], tmp_path / f"run{suffix}")
    kw = {"strategy": strategy, "smoothing_fwhm": 4, "resampling_target": "labels"}
    stream = dr.extract(path, pair[1], plan="stream", **kw).compute()
    for chunks in (1, 4, -1):
        blocks = dr.extract(path, pair[1], plan="blocks", chunks=chunks, **kw).compute()
        assert stream.values.tobytes() == blocks.values.tobytes()


def test_against_nilearn_without_clipping(pair: Any) -> None:
    """The fused numbers, by nilearn's own functions one after the other."""
    image, atlas = pair
    image.get_fdata()[3:5, ..., 0] = 500  # an edge that rings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = resample_img(
            nib.Nifti1Image(image.get_fdata().copy(), image.affine),
            atlas.affine, atlas.shape, clip=False,
        )  # fmt: skip
        smooth = smooth_img(there, 4)
    theirs, ids = nilearn(atlas, smooth)
    edged = nib.Nifti1Image(image.get_fdata(), image.affine)
    ours = dr.extract(edged, atlas, smoothing_fwhm=4, resampling_target="labels")
    assert ours.attrs["spatial"] == "fused"
    assert ours.attrs["spatial_bound"] == TAIL
    assert ours.attrs["image_resampled"] == "cubic spline, not clipped"
    check_equal(ours.compute(), theirs, ids, 1e-8)
    clipped = dr.extract(
        edged, atlas, smoothing_fwhm=4, resampling_target="labels", resampling_clip=True
    )
    assert clipped.attrs["spatial"] == "voxelwise"
    assert clipped.attrs["image_resampled"] == "cubic spline, clipped"
    assert np.abs(clipped.values - ours.values).max() > 1e-6  # the test would notice


def test_which_way(pair: Any) -> None:
    image, atlas = pair

    def way(**kw: Any) -> str:
        return dr.extract(image, atlas, **kw).attrs["spatial"]

    labels = {"resampling_target": "labels"}
    assert way() == way(strategy="median") == "direct"
    assert way(smoothing_fwhm=4) == way(**labels) == way(strategy="sum", **labels) == "fused"
    assert way(smoothing_fwhm=4, resampling_clip=True) == "fused"  # nothing is resampled
    for kw in (
        {"strategy": "median"}, {"strategy": "variance"}, {"resampling_clip": True},
        {"nan_policy": "propagate"}, {"spatial": "voxelwise"},
    ):  # fmt: skip
        assert way(**kw, smoothing_fwhm=4, **labels) == "voxelwise"
    with pytest.raises(DaskroiError, match=r"spatial='fused': strategy='median' is not linear"):
        way(strategy="median", smoothing_fwhm=4, spatial="fused")
    with pytest.raises(DaskroiError, match=r"spatial='fused': resampling_clip=True"):
        way(resampling_clip=True, spatial="fused", **labels)
    integers = nib.Nifti1Image(np.zeros((8, 9, 7, 6), "i2"), image.affine)
    same = dr.extract(integers, atlas, nan_policy="propagate", smoothing_fwhm=4)
    assert same.attrs["spatial"] == "fused"  # there can be no NaN


@pytest.mark.parametrize("strategy", ["mean", "sum"])
def test_a_policy_for_nan_changes_nothing_where_there_is_none(pair: Any, strategy: str) -> None:
    # noise, which cubic splines overshoot: clipped, a mean would differ by percents
    image, atlas = pair
    values = np.random.default_rng(0).integers(-1000, 1000, (8, 9, 7, 6)).astype("i2")
    found = [
        dr.extract(
            nib.Nifti1Image(values.astype(dtype), image.affine),
            atlas,
            resampling_target="labels",
            strategy=strategy,
            nan_policy=policy,
        ).compute()
        for dtype in ("i2", "f8")
        for policy in ("zero", "propagate")
    ]
    assert [ts.attrs["spatial"] for ts in found] == ["fused"] * 3 + ["voxelwise"]
    assert found[3].attrs["image_resampled"] == "cubic spline, not clipped"
    for ts in found[1:]:
        np.testing.assert_allclose(ts, found[0], rtol=1e-9, atol=1e-3)


def test_zero_is_no_smoothing_and_says_so(pair: Any) -> None:
    with pytest.warns(DaskroiWarning, match="nothing is smoothed"):
        ts = dr.extract(*pair, smoothing_fwhm=0)
    assert ts.attrs["spatial"] == "direct"


@pytest.mark.parametrize("fwhm", [-1, "6", (1, 2), np.nan, (1, 2, np.inf), True, [[1, 2, 3]]])
def test_bad_widths(pair: Any, fwhm: Any) -> None:
    with pytest.raises(DaskroiError, match=r"smoothing_fwhm=.* is not a width\. Give mm"):
        dr.extract(*pair, smoothing_fwhm=fwhm)


def test_several_atlases_on_grids_of_their_own(pair: Any) -> None:
    """One read, each atlas the numbers it has alone; one of them needs nothing."""
    image, fine = pair
    rng = np.random.default_rng(0)
    same = images.labels(rng, (8, 9, 7))
    oblique = images.labels(rng, (9, 9, 9), affine=AFFINES[1])
    for kw in ({}, {"strategy": "median"}, {"smoothing_fwhm": 5}):
        atlases = {"fine": fine, "same": same, "oblique": oblique}
        together = quiet(image, atlases, resampling_target="labels", **kw)
        for name, atlas in atlases.items():
            alone = quiet(image, atlas, resampling_target="labels", **kw)
            np.testing.assert_allclose(together[name], alone, rtol=1e-12)


def test_a_region_that_the_image_does_not_see_is_named(pair: Any) -> None:
    image, _ = pair
    values = np.zeros((20, 9, 7), "i2")
    values[:4], values[6:10], values[12:] = 1, 2, 3  # the image ends at 8 of these
    atlas = nib.Nifti1Image(values, image.affine)
    with pytest.warns(DaskroiWarning, match=r"1 of 3 regions have no voxel .* NaN: 3 3\."):
        ts = dr.extract(image, atlas, resampling_target="labels").compute()
    assert np.isnan(ts.sel(region=3)).all()
    assert not np.isnan(ts.sel(region=[1, 2])).any()
    np.testing.assert_allclose(ts.coverage, [1, 0.5, 0])
    assert ts.n_voxels.values.tolist() == [252, 252, 0]  # as in nilearn, outside counts as 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        omit = dr.extract(image, atlas, resampling_target="labels", nan_policy="omit").compute()
    assert omit.n_voxels.values.tolist() == [252, 126, 0]
    np.testing.assert_allclose(omit.sel(region=2), 2 * ts.sel(region=2))
    far = nib.Nifti1Image(values, images.STRAIGHT + np.eye(4)[:, [3, 3, 3, 0]] * 0 + _shift(500))
    with pytest.raises(DaskroiError, match="do not overlap"):
        dr.extract(image, far, resampling_target="labels")


def _shift(mm: float) -> np.ndarray:
    out = np.zeros((4, 4))
    out[0, 3] = mm
    return out


def test_omit_with_smoothing_is_a_weighted_mean_of_what_is_there() -> None:
    """By hand: a hole takes its weight with it, in numerator and denominator."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    values = 100 + rng.standard_normal((8, 8, 8))
    values[2:5, 3:5, 3] = np.nan
    labels = rng.integers(0, 3, values.shape)
    labels[2:5, 3:5, 3] = 2
    image, atlas = (nib.Nifti1Image(v.astype(t), images.STRAIGHT) for v, t in
                    ((values, "f8"), (labels, "i2")))  # fmt: skip
    sigma = 5 / np.sqrt(8 * np.log(2)) / 2
    valid = np.isfinite(values)
    top, bottom = (gaussian_filter(v, sigma) for v in (np.where(valid, values, 0), valid * 1.0))
    expected = [top[labels == i].sum() / bottom[labels == i].sum() for i in (1, 2)]
    for spatial in ("fused", "voxelwise"):
        ts = dr.extract(image, atlas, smoothing_fwhm=5, nan_policy="omit", spatial=spatial)
        np.testing.assert_allclose(ts, expected, rtol=1e-8)
        lost = 1 - 6 / (labels == 2).sum()
        np.testing.assert_allclose(ts.coverage, [1, lost])
    median = dr.extract(image, atlas, smoothing_fwhm=5, nan_policy="omit", strategy="median")
    by_hand = [np.median((top / bottom)[(labels == i) & valid]) for i in (1, 2)]
    np.testing.assert_allclose(median, by_hand)


def test_a_hole_region_is_lost_to_omit() -> None:
    values = np.ones((8, 8, 8))
    values[:4] = np.nan
    labels = np.zeros((8, 8, 8), "i2")
    labels[2:4], labels[5:] = 1, 2
    image, atlas = (nib.Nifti1Image(v, images.STRAIGHT) for v in (values, labels))
    for spatial in ("fused", "voxelwise"):
        ts = dr.extract(image, atlas, smoothing_fwhm=5, nan_policy="omit", spatial=spatial)
        np.testing.assert_allclose(ts, [np.nan, 1])


def test_real_run_on_the_atlas_grid(real_run: Path, harvard_oxford: Path) -> None:
    """Three volumes of a real run, brought to a 2 mm atlas and smoothed."""
    first = nib.load(real_run).slicer[..., :3]
    image = nib.Nifti1Image(first.get_fdata(), first.affine, first.header)
    image.set_data_dtype("f8")
    for fwhm, median, worst in ((None, 1e-4, 4e-3), (6, 1e-3, 4e-3)):
        kw: dict[str, Any] = {"resampling_target": "labels", "smoothing_fwhm": fwhm}
        theirs, ids = nilearn(str(harvard_oxford), image, **kw)
        clipped = dr.extract(image, harvard_oxford, resampling_clip=True, **kw).compute()
        check_equal(clipped, theirs, ids, 1e-6)
        fused = dr.extract(image, harvard_oxford, **kw).compute()
        assert fused.attrs["spatial"] == "fused"
        unclipped = dr.extract(
            image, harvard_oxford, spatial="voxelwise", resampling_clip=False, **kw
        ).compute()
        np.testing.assert_allclose(fused, unclipped, rtol=1e-8)
        # what the clipping does: rings around the brain, more of them when they are smoothed in
        difference = np.abs(fused.values / clipped.values - 1)
        assert np.median(difference) < median
        assert difference.max() < worst
