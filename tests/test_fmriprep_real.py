"""Confounds of the real run: equal to nilearn's, cleaned series as well."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from fmripreptables import EXPANSIONS, check_like_nilearn, theirs
from nilearn.signal import clean as nilearn_clean

import daskroi as dr
from daskroi.errors import DaskroiError
from daskroi.fmriprep import load_confounds


@pytest.fixture
def real_table(real_data: Path, tmp_path: Path) -> Path:
    """The real run's table in a folder of its own."""
    found = next((real_data / "bids-derivatives").rglob("*_desc-confounds_timeseries.tsv"))
    for suffix in (".tsv", ".json"):
        shutil.copy(found.with_suffix(suffix), tmp_path)
    return tmp_path / found.name


@pytest.mark.parametrize("strategy", ["simple", "scrubbing", "compcor"])
@pytest.mark.parametrize("global_signal", [None, "full"])
def test_presets_on_the_real_run(real_table: Path, strategy: str, global_signal: Any) -> None:
    options = {"global_signal": global_signal} if global_signal else {}
    check_like_nilearn(real_table, strategy, **options)


@pytest.mark.parametrize("choice", EXPANSIONS)
def test_components_on_the_real_run(real_table: Path, choice: str) -> None:
    each = dict.fromkeys(("motion", "wm_csf", "global_signal"), choice)
    for strategy in (("motion",), ("wm_csf", "global_signal"), ("high_pass",), ()):
        options = {name: each[name] for name in strategy if name in each}
        check_like_nilearn(real_table, strategy, **options)
    for threshold in (0.1, 0.2, 0.3):
        check_like_nilearn(
            real_table, ("motion", "scrub"), motion=choice, fd_threshold=threshold, scrub=8
        )
    check_like_nilearn(real_table, ("motion", "compcor", "high_pass"), motion=choice, n_compcor=4)


def test_what_the_real_run_has_not_is_named(real_table: Path) -> None:
    with pytest.raises(DaskroiError, match=r"'acompcor' needs 'a_comp_cor_\* of mask WM'.*CSF"):
        load_confounds(real_table, "acompcor")


def test_the_real_run_with_36_regressors(real_table: Path) -> None:
    found = load_confounds(real_table, "36P", fd_threshold=0.3)
    table = pd.read_csv(real_table, sep="\t").fillna(0)
    assert len(found.columns) == 36
    np.testing.assert_allclose(
        found.values, table[found.columns] - table[found.columns][found.sample_mask].mean()
    )
    assert found.n_kept == (table.framewise_displacement <= 0.3).sum()
    assert found.description["first_row"]["filled_with"] == "0"
    assert len(found.description["first_row"]["columns"]) == 18


def test_same_cleaned_series_as_nilearn(real_table: Path) -> None:
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(156, 5)).cumsum(axis=0)
    confounds, mask = theirs(real_table, "scrubbing", fd_threshold=0.2)
    ours = load_confounds(real_table, "scrubbing", fd_threshold=0.2)
    steps: dict[str, Any] = {"detrend": True, "standardize": "zscore_sample"}
    expected = nilearn_clean(signals, confounds=confounds, sample_mask=mask, **steps)
    found = dr.clean(
        xr.DataArray(signals, {"time": np.arange(156) * 2.0}, ("time", "region")),
        **ours.arguments,
        **steps,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
