"""Confounds of made tables of fMRIPrep equal nilearn's, for any components and all presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fmripreptables import EXPANSIONS, check_like_nilearn, table_of, write
from hypothesis import example, given, settings
from hypothesis import strategies as st

COMPCORS = (
    "anat_combined",
    "anat_separated",
    "temporal",
    "temporal_anat_combined",
    "temporal_anat_separated",
)


@st.composite
def requests(draw: Any) -> dict[str, Any]:
    """A tuple of components, with options for those that have some."""
    names = ["motion", "wm_csf", "global_signal", "high_pass", "scrub", "ica_aroma", "compcor"]
    chosen = draw(st.lists(st.sampled_from(names), unique=True))
    asked: dict[str, Any] = {}
    for name in ("motion", "wm_csf", "global_signal"):
        if name in chosen and draw(st.booleans()):
            asked[name] = draw(st.sampled_from(EXPANSIONS))
    if "compcor" in chosen:
        chosen += [] if "high_pass" in chosen else ["high_pass"]
        asked["compcor"] = draw(st.sampled_from(COMPCORS))
        asked["n_compcor"] = draw(st.sampled_from(["all", 1, 5, 50]))
    if "ica_aroma" in chosen:
        asked["ica_aroma"] = draw(st.sampled_from(["full", "basic"]))
    if "scrub" in chosen:
        asked["scrub"] = draw(st.integers(0, 6))
        asked["fd_threshold"] = draw(st.sampled_from([0.1, 0.5, 0.9]))
        asked["std_dvars_threshold"] = draw(st.sampled_from([0.8, 1.5, 3]))
    return {"strategy": tuple(chosen), "demean": draw(st.booleans()), **asked}


tables = st.builds(
    table_of,
    seed=st.integers(0, 10**6),
    n_time=st.integers(4, 40),
    n_dummy=st.integers(0, 3),
    n_cosine=st.integers(0, 3),
    n_compcor=st.sampled_from([1, 4, 12]),
    old_names=st.booleans(),
    spikes=st.sampled_from([0.0, 0.05, 0.3]),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fmriprep")


@settings(max_examples=100)
@given(table=tables, asked=requests(), suffix=st.sampled_from(["timeseries", "regressors"]))
@example(  # more than 100 components, whose numbers are longer
    table=table_of(n_compcor=120),
    asked={"strategy": ("high_pass", "compcor"), "compcor": "temporal", "n_compcor": 110},
    suffix="timeseries",
)
def test_components_equal_nilearns(
    folder: Path, table: tuple[pd.DataFrame, Any], asked: dict[str, Any], suffix: str
) -> None:
    path = write(folder, *table, suffix)
    try:
        check_like_nilearn(path, **asked)
    finally:
        path.unlink()


@pytest.mark.parametrize("old_names", [False, True])
@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("simple", {}),
        ("simple", {"motion": "basic", "wm_csf": "power2", "global_signal": "full"}),
        ("scrubbing", {}),
        ("scrubbing", {"scrub": 2, "fd_threshold": 0.3, "std_dvars_threshold": 1.2}),
        ("scrubbing", {"wm_csf": "basic", "global_signal": "basic", "demean": False}),
        ("compcor", {}),
        ("compcor", {"n_compcor": 3, "compcor": "anat_separated", "motion": "derivatives"}),
        ("ica_aroma", {}),
        ("ica_aroma", {"wm_csf": "full", "global_signal": "basic"}),
    ],
)
def test_presets_equal_nilearns(
    tmp_path: Path, strategy: str, options: dict[str, Any], old_names: bool
) -> None:
    path = write(tmp_path, *table_of(3, 60, n_dummy=2, old_names=old_names))
    check_like_nilearn(path, strategy, **options)
