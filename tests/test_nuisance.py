"""Confounds by strategy through the whole flow, and frames left out for two reasons at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds as nilearn_load_confounds
from nilearn.maskers import NiftiLabelsMasker

import daskroi as dr
from daskroi.errors import DaskroiError

RUN = dr.make_phantom((12, 14, 12), n_time=40, n_regions=4)
ATLAS = RUN.atlas


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    names = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    frame = pd.DataFrame(rng.standard_normal((40, 6)), columns=names)
    frame["framewise_displacement"] = [np.nan, *rng.uniform(0, 0.2, 39)]
    frame["std_dvars"] = [np.nan, *rng.uniform(0.8, 1.2, 39)]
    frame.loc[[7, 8, 20], "framewise_displacement"] = 0.9
    return frame


@pytest.fixture
def path(table: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "sub-01_task-rest_desc-confounds_timeseries.tsv"
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    return path


def options(**more: Any) -> dict[str, Any]:
    return {"motion": "basic", "fd_threshold": 0.5, "scrub": 0, **more}


def test_a_strategy_regresses_out_and_censors(path: Path, table: pd.DataFrame) -> None:
    found = dr.load_confounds(path, ("motion", "scrub"), **options())
    ts = dr.extract(RUN.image, ATLAS, confounds=found, standardize="zscore_sample")
    keep = np.ones(40, bool)
    keep[[7, 8, 20]] = False
    expected = dr.extract(
        RUN.image,
        ATLAS,
        confounds=table.iloc[:, :6],
        sample_mask=keep,
        standardize="zscore_sample",
    )
    np.testing.assert_allclose(ts.values, expected.values, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(ts.time.values, np.flatnonzero(keep) * 2.0)
    [said] = json.loads(ts.attrs["confound_strategies"])
    assert said == json.loads(json.dumps(found.description))
    assert sorted(json.loads(ts.attrs["confounds"])) == sorted(table.columns[:6])


def test_frames_are_left_out_for_either_reason(path: Path) -> None:
    found = dr.load_confounds(path, ("motion", "scrub"), **options())
    ts = dr.extract(RUN.image, ATLAS, confounds=found, sample_mask=np.arange(5, 40))
    assert list(ts.time.values / 2) == [t for t in range(5, 40) if t not in (7, 8, 20)]


def test_a_strategy_beside_other_confounds(path: Path) -> None:
    found = dr.load_confounds(path, "none", fd_threshold=0.5)
    extra = np.random.default_rng(1).standard_normal((40, 1))
    ts = dr.extract(RUN.image, ATLAS, confounds=[found, extra])
    alone = dr.extract(RUN.image, ATLAS, confounds=extra, sample_mask=found.sample_mask)
    np.testing.assert_array_equal(ts.values, alone.values)
    only = dr.extract(RUN.image, ATLAS, confounds=found)
    assert only.sizes["time"] == found.n_kept


def test_a_masker_has_the_frames_that_a_strategy_leaves(path: Path) -> None:
    found = dr.load_confounds(path, ("motion", "scrub"), **options())
    masker = dr.NiftiLabelsMasker(ATLAS, standardize="zscore_sample").fit()
    keep, frames = np.arange(35), [t for t in range(35) if t not in (7, 8, 20)]
    expected = masker.transform(RUN.image, confounds=found, sample_mask=keep).values
    volumes = [RUN.image[t] for t in range(40)]
    grids = [v[..., :: 1 - 2 * (t % 2)] for t, v in enumerate(volumes)]  # every other one flipped
    for images in (volumes, grids):
        one = masker.transform(images, confounds=found, sample_mask=keep)
        np.testing.assert_allclose(one.values, expected, rtol=0, atol=1e-9)
        assert one.image.values.tolist() == [f"image {t}" for t in frames]
        assert json.loads(one.attrs["confounds"]) == found.columns
        assert "confound_strategies" in one.attrs
    masker.set_output(transform="pandas")
    one = masker.transform(RUN.image, confounds=[found], sample_mask=keep)
    runs = masker.transform([RUN.image] * 2, confounds=[found, None], sample_mask=[keep, None])
    for table in (one, runs[0], masker.transform(grids, confounds=found, sample_mask=keep)):
        assert table.index.tolist() == frames
        np.testing.assert_allclose(table, expected, rtol=0, atol=1e-9)
    assert len(runs[1]) == 40


def test_what_cannot_be_combined(path: Path) -> None:
    found = dr.load_confounds(path, ("motion", "scrub"), **options())
    with pytest.raises(DaskroiError, match="cannot be combined with runs"):
        dr.extract(RUN.image, ATLAS, confounds=found, runs=[0] * 20 + [1] * 20)
    with pytest.raises(DaskroiError, match="has 40 rows and the run has 30 frames"):
        dr.extract(RUN.image.isel(time=slice(30)), ATLAS, confounds=found)
    with pytest.raises(DaskroiError, match=r"No frame of 40 is left.*Check both"):
        dr.extract(RUN.image, ATLAS, confounds=found, sample_mask=[7, 20])


def test_the_real_run_as_nilearn_has_it(
    real_run: Path, harvard_oxford: Path, real_data: Path
) -> None:
    confounds, keep = nilearn_load_confounds(
        str(real_run), strategy=("motion", "wm_csf", "scrub"), motion="full", scrub=0,
        fd_threshold=0.25, std_dvars_threshold=1.4,
    )  # fmt: skip
    # 0.14.1 gives indices, or None when nothing is censored
    masker = NiftiLabelsMasker(str(harvard_oxford), standardize="zscore_sample", detrend=True)
    expected = masker.fit_transform(str(real_run), confounds=confounds, sample_mask=keep)
    table = next(real_data.rglob("*_desc-confounds_timeseries.tsv"))
    found = dr.load_confounds(
        table, ("motion", "wm_csf", "scrub"), motion="full", scrub=0,
        fd_threshold=0.25, std_dvars_threshold=1.4,
    )  # fmt: skip
    ts = dr.extract(
        real_run, harvard_oxford, confounds=found, standardize="zscore_sample", detrend=True
    )
    assert found.n_kept < found.n_time
    np.testing.assert_allclose(ts.values, expected, rtol=0, atol=1e-6)
