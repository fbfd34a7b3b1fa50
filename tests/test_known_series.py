"""Answers known before daskroi is asked, from series on: cleaning, matrices, files, commands.

The truth is the phantom's own signals, a closed form, the standard library or plain NumPy.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import daskroi as dr
from daskroi.clean import clean
from daskroi.cli import main
from daskroi.readback import read_timeseries
from daskroi.reportdata import correlations, region_moments
from daskroi.store import write_run

SHAPE, N_TIME, N_REGIONS = (11, 13, 12), 60, 5


@lru_cache(maxsize=4)
def phantom(seed: int, **options: Any) -> Any:
    return dr.make_phantom(SHAPE, N_TIME, n_regions=N_REGIONS, seed=seed, **options)


def series(values: NDArray[Any], t_r: float = 2.0) -> xr.DataArray:
    time = ("time", np.arange(len(values)) * t_r, {"units": "s"})
    return xr.DataArray(values, {"time": time}, ("time", "region"))


# the phantom: what was put in comes out


@given(
    seed=st.integers(0, 50),
    dtype=st.sampled_from(["float64", "float32", ">f4", "int32", ">i2"]),
    gz=st.booleans(),
)
@settings(max_examples=8)
def test_signals_come_back(
    seed: int, dtype: str, gz: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Known drift, motion and breathing, regressed out by their known courses."""
    scale = {"slope": 0.01, "inter": 100.0} if dtype == "int32" else {}
    made = phantom(seed, dtype=dtype, **scale)
    paths = dr.write_phantom(tmp_path_factory.mktemp("run"), made, gz=gz)
    atlas = dr.load_atlas(paths["atlas"], lut=paths["labels"])
    raw = dr.extract(paths["image"], atlas, mask_img=paths["mask"]).compute()
    assert np.abs(raw.values - made.expected().values).max() <= made.tolerance
    cleaned = dr.extract(
        paths["image"],
        atlas,
        confounds=paths["confounds"],
        columns=list(made.regressors),
        detrend=True,
    ).compute()
    error = np.abs(cleaned.values - made.signals.values).max()
    # regression passes rounding on, and the table has 17 digits
    assert error <= 8 * made.tolerance + 1e-9
    assert cleaned.region.values.tolist() == made.signals.columns.tolist()


@pytest.mark.parametrize("seed", [0, 1])
def test_betas(seed: int) -> None:
    """Signals orthogonal to the confounds, plus known multiples of them: the signals are left."""
    rng = np.random.default_rng(seed)
    confounds = rng.standard_normal((80, 4)) * [1, 10, 1e-3, 1e4] + [0, 5, 0, -3e4]
    design = np.column_stack([np.ones(80), confounds])
    q = np.linalg.qr(design)[0]
    own = rng.standard_normal((80, 6))
    own -= q @ (q.T @ own)
    own -= q @ (q.T @ own)
    betas = rng.standard_normal((4, 6)) * 100
    values = 1000 + own + (confounds - confounds.mean(0)) @ betas
    left = clean(series(values), confounds=confounds).values
    np.testing.assert_allclose(left - left.mean(0), own, atol=1e-9 * np.abs(values).max())
    np.testing.assert_allclose(left.mean(0), values.mean(0), atol=1e-14 * np.abs(values).max())
    order = rng.permutation(4)  # which column is first must not matter
    again = clean(series(values), confounds=confounds[:, order]).values
    np.testing.assert_allclose(again, left, atol=1e-10 * np.abs(values).max())


@given(seed=st.integers(0, 2**32), offset=st.sampled_from([0.0, 1e3, 1e6]))
@settings(max_examples=20)
def test_trends_scores_and_percent(seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 40))
    values = offset + 10 + rng.standard_normal((n, 3))
    close = {"rtol": 1e-9, "atol": 1e-9 * max(1.0, offset / 1e3)}
    scores = clean(series(values), standardize="zscore_sample").values
    percent = clean(series(values), standardize="psc").values
    for r in range(3):
        own = values[:, r].tolist()
        mean, spread = statistics.fmean(own), statistics.stdev(own)
        np.testing.assert_allclose(scores[:, r], [(v - mean) / spread for v in own], **close)
        np.testing.assert_allclose(percent[:, r], [100 * (v / mean - 1) for v in own], **close)
    flat = clean(series(values), detrend=True).values
    for r in range(3):
        line = statistics.linear_regression(range(n), values[:, r].tolist())
        truth = values[:, r] - line.intercept - line.slope * np.arange(n)
        np.testing.assert_allclose(flat[:, r], truth, atol=1e-9 * max(1.0, offset / 1e2))


@pytest.mark.parametrize("frequency", [0.005, 0.03, 0.08, 0.15])
@pytest.mark.parametrize("band", [(0.01, None), (None, 0.1)])
def test_gain_of_the_filter(frequency: float, band: tuple[Any, Any]) -> None:
    """A wave comes out with the gain of Butterworth's formula, squared: there and back."""
    t_r, n = 2.0, 4000
    wave = np.cos(2 * np.pi * frequency * np.arange(n) * t_r)[:, None]
    high, low = band
    found = clean(series(wave), high_pass=high, low_pass=low, t_r=t_r).values[:, 0]
    # bilinear: frequencies go by their tangents
    ratio = math.tan(math.pi * frequency * t_r) / math.tan(math.pi * (high or low) * t_r)
    gain = 1 / (1 + (1 / ratio if high else ratio) ** 10)
    middle = slice(n // 4, -n // 4)
    np.testing.assert_allclose(found[middle], gain * wave[middle, 0], atol=1e-6)


def test_cosines_below_the_cutoff_go_and_above_stay() -> None:
    n, t_r = 100, 2.0
    basis = np.cos(np.pi / n * (np.arange(n) + 0.5)[:, None] * np.arange(1, 12))
    kept = clean(series(basis + 7), filter="cosine", high_pass=0.0125, t_r=t_r).values
    # order k is a wave of k / (2 n t_r) Hz: up to 5 below
    np.testing.assert_allclose(kept[:, :5], 7, atol=1e-12)
    np.testing.assert_allclose(kept[:, 5:], basis[:, 5:] + 7, atol=1e-12)


@pytest.mark.parametrize("standardize_confounds", [True, False])
def test_censoring_is_cleaning_of_the_kept(standardize_confounds: bool) -> None:
    rng = np.random.default_rng(0)
    values, confounds = 50 + rng.standard_normal((50, 4)), rng.standard_normal((50, 3))
    keep = rng.random(50) < 0.7
    options: dict[str, Any] = {"detrend": True, "standardize_confounds": standardize_confounds}
    found = clean(series(values), confounds=confounds, sample_mask=keep, **options)
    design = np.column_stack([np.ones(keep.sum()), np.arange(keep.sum()), confounds[keep]])
    truth = values[keep] - design @ np.linalg.lstsq(design, values[keep], rcond=None)[0]
    np.testing.assert_allclose(found, truth, atol=1e-12)
    np.testing.assert_array_equal(found.time, np.flatnonzero(keep) * 2.0)


# matrices


@given(seed=st.integers(0, 2**32), offset=st.sampled_from([0.0, 1e5]))
@settings(max_examples=15)
def test_correlations_by_the_standard_library(seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    values = offset + rng.standard_normal((30, 4)) @ rng.standard_normal((4, 4))
    one = series(values)
    r = dr.connectome(one, shrinkage=None).values
    partial = dr.connectome(one, kind="partial correlation", shrinkage=None).values
    wide = dr.connectome(one, kind="covariance", shrinkage=None).values
    columns = values.T.tolist()
    for i in range(4):
        assert r[i, i] == 1
        for j in range(i):
            truth = statistics.correlation(columns[i], columns[j])
            assert math.isclose(r[i, j], truth, abs_tol=1e-9)
            assert r[i, j] == r[j, i]
            truth = statistics.covariance(columns[i], columns[j]) * 29 / 30
            assert math.isclose(wide[i, j], truth, rel_tol=1e-7, abs_tol=1e-8)
            # what of both is left by the others
            others = [k for k in range(4) if k not in (i, j)]
            design = np.column_stack([np.ones(30), values[:, others] - offset])
            pair = values[:, [i, j]] - offset
            left = pair - design @ np.linalg.lstsq(design, pair, rcond=None)[0]
            truth = statistics.correlation(*left.T.tolist())
            assert math.isclose(partial[i, j], truth, abs_tol=1e-6)
    np.testing.assert_allclose(correlations(values), r, atol=1e-9)


def test_means_of_matrices_and_signal_to_noise() -> None:
    rng = np.random.default_rng(0)
    runs = [series(100 + rng.standard_normal((40, 3))) for _ in range(4)]
    matrices = dr.connectome(runs)
    for fisher_z in (False, True):
        found = dr.mean_connectome(matrices, fisher_z=fisher_z).values
        values = [m[1, 0] for m in matrices.values]
        truth = statistics.fmean(values)
        if fisher_z:
            truth = math.tanh(statistics.fmean(map(math.atanh, values)))
        assert math.isclose(found[1, 0], truth, rel_tol=1e-12)
    mean, ratio = region_moments(runs[0])
    for r in range(3):
        own = runs[0].values[:, r].tolist()
        assert math.isclose(mean[r], statistics.fmean(own), rel_tol=1e-12)
        assert math.isclose(ratio[r], statistics.fmean(own) / statistics.stdev(own), rel_tol=1e-9)


# files


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_stored_and_read_is_the_same_to_the_bit(dtype: str, tmp_path: Path) -> None:
    made = phantom(0)
    ts = dr.extract(made.image, made.atlas, dtype=dtype, standardize="psc").compute()
    with np.printoptions(precision=2):
        written = write_run(ts, tmp_path, "run")
    ts.to_netcdf(tmp_path / "ts.nc")
    ts.to_zarr(tmp_path / "ts.zarr", consolidated=False)
    back = (
        read_timeseries(written.timeseries),
        xr.open_dataarray(tmp_path / "ts.nc"),
        xr.open_zarr(tmp_path / "ts.zarr", consolidated=False)["timeseries"],
    )
    for one in back:
        np.testing.assert_array_equal(one.values.astype(dtype), ts.values)
        assert one.dtype == ts.dtype
        np.testing.assert_array_equal(one.time, ts.time)
        assert one.region_name.values.tolist() == ts.region_name.values.tolist()


def test_inverse_transform_paints_the_values(tmp_path: Path) -> None:
    made = phantom(0)
    paths = dr.write_phantom(tmp_path, made)
    masker = dr.NiftiLabelsMasker(paths["atlas"]).fit()
    values = np.random.default_rng(0).standard_normal((3, N_REGIONS)).astype("f4")
    painted = np.asarray(masker.inverse_transform(values).dataobj)
    labels = np.asarray(nib.load(paths["atlas"]).dataobj)
    for r, region in enumerate(made.atlas.ids):
        np.testing.assert_array_equal(
            painted[labels == region], values[:, r][None].repeat((labels == region).sum(), 0)
        )
    assert not painted[labels == 0].any()


# commands


@pytest.mark.parametrize("command", ["extract", "bids"])
def test_commands_find_the_signals(command: str, tmp_path: Path) -> None:
    """The phantom lies as fMRIPrep would have left it; the tables are read by the csv module."""
    made = phantom(3)
    folder = tmp_path / "derivatives"
    paths = dr.write_phantom(folder, made)
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    atlas = f"Own={paths['atlas']}"
    table = f"Own={paths['labels']}"
    columns = list(made.regressors)
    if command == "extract":
        words = ["extract", paths["image"], "--output", tmp_path / "out", "--atlas", atlas]
        words += ["--confounds", paths["confounds"], "--columns", ",".join(columns)]
    else:
        words = ["bids", folder, tmp_path / "out", "participant", "--atlases", atlas]
        words += ["--n-procs", "1", "-p", *columns]
    words += ["--labels-table", table, "--detrend", "--connectome", "correlation"]
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    [series_path] = (tmp_path / "out").rglob("*_atlas-Own_stat-mean_timeseries.tsv")
    [matrix_path] = (tmp_path / "out").rglob("*_relmat.tsv")
    with series_path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    values = np.array(rows, dtype="f8")
    assert header == list(made.atlas.names)
    assert np.abs(values - made.signals.values).max() <= 8 * made.tolerance + 1e-9
    with matrix_path.open(newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file, delimiter="\t")
    matrix = np.array([row[1:] for row in rows], dtype="f8")
    # a shrunk correlation is Pearson's times one number
    pearson = np.corrcoef(made.signals.values.T)
    off = ~np.eye(N_REGIONS, dtype=bool)
    ratio = matrix[off] / pearson[off]
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-3)
    assert 0.5 < np.median(ratio) <= 1
    sidecar = json.loads(series_path.with_suffix(".json").read_text())
    assert sidecar["Regions"]["n_voxels"] == [
        int((made.atlas.labels == i).sum()) for i in made.atlas.ids
    ]


def test_cohort_store_has_the_series(tmp_path: Path) -> None:
    """Runs of different subjects, in either order: the same rows."""
    made = {f"s{seed}": phantom(seed) for seed in (3, 4)}
    runs = {}
    for name, one in made.items():
        paths = dr.write_phantom(tmp_path / name, one)
        runs[name] = str(paths["image"])
    atlas = {"Own": made["s3"].atlas}
    for order in (list(runs), list(runs)[::-1]):
        out = tmp_path / "-".join(order)
        options: dict[str, Any] = {"client": "threads", "progress": False, "cohort_zarr": True}
        dr.extract_cohort({n: runs[n] for n in order}, atlas, out, **options)
        store = xr.open_zarr(out / "cohort.zarr")
        for row, name in enumerate(order):
            truth = made[name].expected().values
            assert np.abs(store["Own"][row].values - truth).max() <= made[name].tolerance
