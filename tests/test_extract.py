"""`extract` against nilearn's masker, over images, atlases and parameters together."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import images
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import STRATEGIES, cases, check_equal, nilearn, quiet

import daskroi as dr
from daskroi.errors import DaskroiError, DaskroiWarning


@given(cases(), st.sampled_from(STRATEGIES), st.sampled_from(["auto", "blocks"]))
@settings(max_examples=120)
def test_reduction_equals_nilearn(case: dict[str, Any], strategy: str, plan: str) -> None:
    try:
        theirs, ids = nilearn(
            case["atlas"], case["image"], mask_img=case["mask"], strategy=strategy
        )
    except ValueError:  # no label left
        with pytest.raises(DaskroiError):
            quiet(case["image"], case["atlas"], mask_img=case["mask"])
        return
    ours = quiet(
        case["image"], case["atlas"], mask_img=case["mask"], strategy=strategy, plan=plan, chunks=4
    )
    assert ours.dims == ("time", "region")
    float32 = case["image"].get_data_dtype().newbyteorder("=") == np.float32
    assert ours.dtype == (np.float32 if float32 else np.float64)
    # std of almost equal values: float32 images, sums of squares in another order
    check_equal(ours.compute(), theirs, ids, 1e-4 if float32 else 1e-6)


@given(
    case=cases(),
    detrend=st.booleans(),
    standardize=st.sampled_from([None, "zscore_sample", "psc"]),
    cut=st.sampled_from([{}, {"high_pass": 0.02}, {"low_pass": 0.1, "high_pass": 0.01}]),
    confounds=st.booleans(),
    standardize_confounds=st.booleans(),
    hv=st.booleans(),
    cosine=st.booleans(),
    censor=st.sampled_from([None, "start", "gap"]),
)
@settings(max_examples=60)
def test_extraction_and_cleaning_equal_nilearn(
    case: dict[str, Any],
    detrend: bool,
    standardize: str | None,
    cut: dict[str, float],
    confounds: bool,
    standardize_confounds: bool,
    hv: bool,
    cosine: bool,
    censor: str | None,
) -> None:
    rng = case["rng"]
    shape = case["atlas"].shape
    image = images.run(rng, (*shape, 60), "f8", case["atlas"].affine)
    # 2 % of the voxels must be more than 5, or the last components are any vectors
    hv = hv and np.prod(shape) > 350
    given = rng.standard_normal((60, 3)) + 3 if confounds else None
    kept = {None: None, "start": np.arange(4, 60), "gap": np.r_[0:10, 13:60]}[censor]
    clean = {"filter": "cosine"} if cosine and "high_pass" in cut else {}
    if clean:
        cut = {"high_pass": cut["high_pass"]}
    elif cut and censor == "gap":
        kept = None  # nilearn fills the wrong frames then; cleaning has a reference of its own
    common = {
        "detrend": detrend,
        "standardize": standardize,
        "standardize_confounds": standardize_confounds,
        "high_variance_confounds": hv,
        "t_r": 2.0,
        **cut,
    }
    theirs, ids = nilearn(
        case["atlas"],
        image,
        given,
        None if kept is None else kept.copy(),  # nilearn writes into it
        clean_args=clean or None,
        **common,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DaskroiWarning)  # about unstandardised confounds
        ours = dr.extract(
            image, case["atlas"], confounds=given, sample_mask=kept, **common, **clean
        ).compute()
    check_equal(ours, theirs, ids, 1e-6)
    expected = 2.0 * (np.arange(60) if kept is None else kept)
    np.testing.assert_allclose(ours.time, expected)


@pytest.mark.parametrize("policy", ["zero", "omit", "propagate"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nan_policy(policy: str, strategy: str) -> None:
    rng = np.random.default_rng(0)
    image, atlas = images.run(rng, nan=0.2), images.labels(rng)
    values, labels = image.get_fdata(), np.asarray(atlas.dataobj)
    values[labels == 2, 3] = np.nan  # a frame in which a region has nothing
    image = nib.Nifti1Image(values, image.affine)
    ours = dr.extract(image, atlas, strategy=strategy, nan_policy=policy).compute()
    numpy = {
        "mean": np.mean,
        "sum": np.sum,
        "median": np.median,
        "minimum": np.min,
        "maximum": np.max,
        "standard_deviation": np.std,
        "variance": np.var,
    }[strategy]
    for region in (1, 2, 5, 9):
        for frame in range(values.shape[-1]):
            inside = values[labels == region, frame]
            fine = inside[np.isfinite(inside)]
            with np.errstate(invalid="ignore"):
                expected = {
                    "zero": numpy(np.where(np.isfinite(inside), inside, 0)),
                    "omit": numpy(fine) if fine.size else np.nan,
                    "propagate": numpy(inside),
                }[policy]
            found = float(ours.sel(region=region)[frame])
            np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=f"{region} {frame}")
    # coverage is the share of finite voxels in the region's worst frame
    for region in (1, 2, 5, 9):
        finite = np.isfinite(values[labels == region]).mean(axis=0).min()
        np.testing.assert_allclose(float(ours.coverage.sel(region=region)), finite, rtol=1e-12)


def test_several_atlases_from_one_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = images.save(images.run(rng, (8, 8, 8, 12)), tmp_path / "run.nii.gz")
    atlases = {
        "a": images.labels(rng, (8, 8, 8)),
        "b": images.labels(rng, (5, 6, 7), (3, 4), np.diag([3.0, 3, 2, 1])),
    }
    both = dr.extract(path, atlases, standardize="zscore_sample")
    assert set(both) == {"a", "b"}
    for name, one in atlases.items():
        alone = dr.extract(path, one, standardize="zscore_sample")
        xr.testing.assert_identical(both[name].compute(), alone.compute())


def test_the_result_is_labelled(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    path = images.save(images.run(rng), tmp_path / "sub-01_task-rest_bold.nii.gz")
    labels = images.labels(rng)
    atlas = dr.load_atlas(labels, labels=["one", "two", "five", "nine"], name="Mine")
    with pytest.warns(DaskroiWarning, match="TR|t_r"):
        ts = dr.extract(path, atlas, t_r=1.5, detrend=True, standardize="psc").compute()
    np.testing.assert_allclose(ts.time, 1.5 * np.arange(9))
    assert ts.time.attrs["units"] == "s"
    assert ts.region.values.tolist() == [1, 2, 5, 9]
    assert ts.region_name.values.tolist() == ["one", "two", "five", "nine"]
    counts = [int((np.asarray(labels.dataobj) == i).sum()) for i in (1, 2, 5, 9)]
    assert ts.n_voxels.values.tolist() == counts
    np.testing.assert_allclose(ts.size_mm3, np.array(counts) * 8.0)
    np.testing.assert_allclose(ts.coverage, 1.0)
    assert set(ts.coords) == {
        "time",
        "region",
        "region_name",
        "n_voxels",
        "coverage",
        "size_mm3",
    }
    assert set(dr.extract(path, atlas).coords) == set(ts.coords)
    assert ts.attrs["source"] == str(path)
    assert ts.attrs["atlas"] == "Mine"
    recipe = json.loads(ts.attrs["recipe"])
    assert recipe["clean"]["detrend"] is True
    assert recipe["clean"]["standardize"] == "psc"
    ts.to_netcdf(tmp_path / "x.nc")
    ts.to_zarr(tmp_path / "x.zarr", consolidated=False)
    for name, options in (("x.nc", {}), ("x.zarr", {"engine": "zarr", "consolidated": False})):
        with xr.open_dataarray(tmp_path / name, **options) as again:
            xr.testing.assert_identical(again.load(), ts)


def test_a_volume_gives_one_value_per_region() -> None:
    rng = np.random.default_rng(3)
    image, labels = images.run(rng, (6, 7, 5), "i2"), images.labels(rng)
    theirs, ids = nilearn(labels, image)
    ours = dr.extract(image, labels)
    assert ours.dims == ("region",)
    check_equal(ours.compute(), theirs, ids, 1e-9)


def test_lost_regions_stay_and_are_named() -> None:
    rng = np.random.default_rng(4)
    image, labels = images.run(rng), images.labels(rng)
    mask = nib.Nifti1Image((np.asarray(labels.dataobj) != 5).astype("u1"), labels.affine)
    atlas = dr.load_atlas(labels, labels=["one", "two", "five", "nine"])
    with pytest.warns(DaskroiWarning, match="1 of 4 regions .* 5 five"):
        ts = dr.extract(image, atlas, mask_img=mask, detrend=True, standardize="zscore_sample")
    ts = ts.compute()
    assert np.isnan(ts.sel(region=5)).all()
    assert float(ts.coverage.sel(region=5)) == 0
    assert np.isfinite(ts.sel(region=[1, 2, 9])).all()


def test_min_coverage() -> None:
    rng = np.random.default_rng(5)
    image, labels = images.run(rng), images.labels(rng)
    ids = np.asarray(labels.dataobj)
    inside = np.ones(ids.shape, "u1")
    inside[(ids == 2) & (np.cumsum(ids == 2).reshape(ids.shape) > 4)] = 0  # 4 voxels left
    mask = nib.Nifti1Image(inside, labels.affine)
    share = 4 / (ids == 2).sum()
    ts = dr.extract(image, labels, mask_img=mask, min_coverage=share + 1e-9).compute()
    np.testing.assert_allclose(float(ts.coverage.sel(region=2)), share)
    assert np.isnan(ts.sel(region=2)).all()
    kept = dr.extract(image, labels, mask_img=mask, min_coverage=share - 1e-9).compute()
    assert np.isfinite(kept).all()


@pytest.mark.parametrize("source", ["array", "file"])
def test_coverage_is_exactly_1_and_computes_by_any_door(source: str, tmp_path: Path) -> None:
    import dask

    rng = np.random.default_rng(9)
    image: Any = images.run(rng, (20, 20, 20, 3))
    if source == "file":
        image = images.save(image, tmp_path / "run.nii.gz")
    labels = images.labels(rng, (20, 20, 20), tuple(range(1, 60)))
    ts = dr.extract(image, labels, min_coverage=1.0)
    for computed in (ts.compute(), dask.compute(ts)[0], dask.persist(ts)[0].compute()):
        assert (computed.coverage == 1.0).all()
        assert np.isfinite(computed).all()


def test_coverage_counts_what_lies_outside_the_field_of_view() -> None:
    labels = np.zeros((8, 4, 4), "i2")
    labels[:, :2], labels[:3, 2:] = 1, 2
    atlas = nib.Nifti1Image(labels, np.diag([2.0, 2, 2, 1]))
    image = nib.Nifti1Image(np.ones((4, 4, 4, 3), "f4"), np.diag([2.0, 2, 2, 1]))  # x 0..3 of 0..7
    ts = dr.extract(image, atlas, t_r=1.0).compute()
    np.testing.assert_allclose(ts.coverage, [0.5, 1.0])
    np.testing.assert_array_equal(ts.n_voxels, [32, 24 // 4 * 4])


def test_slope_and_intercept(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    labels = images.labels(rng)
    for dtype, slope, inter in (("i2", 0.5, 100.0), ("i2", -2.0, 3.0), ("f4", 3.0, -50.0)):
        image = images.run(rng, dtype=dtype, nan=0.05)
        image.header.set_slope_inter(slope, inter)
        path = tmp_path / f"{dtype}{slope}.nii"
        # as stored: nibabel would choose another slope
        with path.open("wb") as file:
            header = image.header.copy()
            header["vox_offset"] = 352
            file.write(header.binaryblock + b"\0" * 4)
            file.write(np.asarray(image.dataobj).astype(dtype).tobytes(order="F"))
        for strategy in STRATEGIES:
            theirs, ids = nilearn(labels, str(path), strategy=strategy)
            for plan in ("stream", "blocks"):
                ours = dr.extract(path, labels, strategy=strategy, plan=plan)
                assert ours.dtype == np.float64
                check_equal(ours.compute(), theirs, ids, 1e-9)


def test_repetition_time_comes_from_argument_sidecar_header(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    labels = images.labels(rng)
    path = images.save(images.run(rng, (6, 7, 5, 40), t_r=2.0), tmp_path / "run.nii.gz")
    assert dr.extract(path, labels).time.attrs["t_r_source"] == "header"
    (tmp_path / "run.json").write_text('{"RepetitionTime": 0.8}')
    with pytest.warns(DaskroiWarning, match="header says TR 2 s and .*run.json says 0.8 s"):
        ts = dr.extract(path, labels)
    assert float(ts.time[1]) == 0.8
    with pytest.warns(DaskroiWarning) as said:
        ts = dr.extract(path, labels, t_r=1.0)
    assert any("t_r=1 s, but the image says 0.8 s" in str(w.message) for w in said)
    assert float(ts.time[1]) == 1.0


@pytest.mark.parametrize("t_r", [None, 2.0])
def test_a_part_of_a_run_keeps_its_times(t_r: float | None) -> None:
    rng = np.random.default_rng(10)
    run = dr.open_image(images.run(rng, (6, 7, 5, 40), t_r=2.0))
    ts = dr.extract(run.isel(time=slice(10, 20)), images.labels(rng), t_r=t_r)
    np.testing.assert_array_equal(ts.time, np.arange(10, 20) * 2.0)


def test_templates_that_differ_are_said_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    name = "sub-01_task-rest_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
    run = images.save(images.run(rng), tmp_path / name)
    labels = images.labels(rng)
    named = images.save(labels, tmp_path / "tpl-MNI152NLin6Asym_atlas-X_dseg.nii.gz")
    labels.header["descrip"] = b"MNI152NLin6Asym"
    told = images.save(labels, tmp_path / "atlas.nii.gz")
    for atlas in (named, told):
        for image in (run, nib.load(run), dr.open_image(run)):
            with pytest.warns(DaskroiWarning) as said:
                dr.extract(image, atlas)
            [warning] = said
            text = str(warning.message)
            assert "MNI152NLin2009cAsym" in text
            assert "MNI152NLin6Asym" in text
            assert "shifted" in text
            assert warning.filename == __file__


def test_milliseconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    labels = images.labels(rng)
    image = images.run(rng, (6, 7, 5, 40), t_r=2000.0)
    image.header.set_xyzt_units("mm", "msec")
    path = images.save(image, tmp_path / "said.nii")
    assert float(dr.extract(path, labels, high_pass=0.01).time[1]) == 2.0
    image.header.set_xyzt_units("mm", "sec")
    path = images.save(image, tmp_path / "wrong.nii")
    with pytest.raises(DaskroiError, match=r"wrong.nii: .*2000 s.*milliseconds: t_r=2"):
        dr.extract(path, labels, high_pass=0.01)
    with pytest.warns(DaskroiWarning, match=r"wrong.nii.*not a plausible TR"):
        ts = dr.extract(path, labels)
    assert ts.time.attrs["units"] == "frame"


def test_real_run_equals_nilearn(real_run: Path, real_data: Path) -> None:
    atlases = {
        p.name: p for p in sorted((real_data / "atlases").glob("*.nii.gz")) if "HO" not in p.name
    }
    assert len(atlases) == 4
    mask = next(real_run.parent.glob("*_desc-brain_mask.nii.gz"))
    clean = {"detrend": True, "low_pass": 0.1, "high_pass": 0.01, "standardize": "zscore_sample"}
    schaefer = {k: v for k, v in atlases.items() if "Schaefer" in k}
    for chosen, options in ((atlases, {}), (schaefer, {"mask_img": str(mask), **clean})):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DaskroiWarning)
            ours = dr.extract(real_run, chosen, **options)
        for name, path in chosen.items():
            theirs, ids = nilearn(str(path), str(real_run), t_r=2.0, **options)
            check_equal(ours[name].compute(), theirs, ids, 1e-6)


def test_real_run_follows_the_task(real_run: Path, harvard_oxford: Path) -> None:
    """All blocks of the events file together, convolved with a double-gamma response."""
    import pandas as pd
    from scipy import stats

    ts = dr.extract(real_run, harvard_oxford, detrend=True).compute()
    events = pd.read_table(next(real_run.parent.glob("*_events.tsv")))
    fine = np.arange(0, float(ts.time[-1]) + 2, 0.1)
    shown = np.zeros_like(fine)
    for onset, duration in zip(events.onset, events.duration, strict=True):
        shown[(fine >= onset) & (fine < onset + duration)] = 1
    lag = np.arange(0, 32, 0.1)
    response = stats.gamma.pdf(lag, 6) - stats.gamma.pdf(lag, 16) / 6
    expected = np.interp(ts.time, fine, np.convolve(shown, response)[: len(fine)])
    pole = ts.isel(region=list(ts.region_name.values).index("Occipital Pole"))
    assert np.corrcoef(pole, expected)[0, 1] > 0.75
