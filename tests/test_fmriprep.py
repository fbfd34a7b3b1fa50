"""Confounds of fMRIPrep runs: equal to nilearn's where it has them, and errors that help."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nilearn.interfaces import fmriprep as nilearn
from nilearn.signal import clean as nilearn_clean
from servers import http_server

import daskroi as dr
from daskroi.censor import AllFramesCensoredError
from daskroi.confoundrecipe import ConfoundRecipe
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError, DaskroiWarning
from daskroi.fmriprep import load_confounds, read_fmriprep, short_segments

STEM = "sub-1_task-rest"
EXPANSIONS = ("basic", "power2", "derivatives", "full")
COMPCORS = (
    "anat_combined",
    "anat_separated",
    "temporal",
    "temporal_anat_combined",
    "temporal_anat_separated",
)


def series(rng: np.random.Generator, n_time: int, names: list[str]) -> dict[str, np.ndarray]:
    """Signals with derivatives, which have n/a in the first row, and squares."""
    found = {}
    for name in names:
        values = rng.normal(rng.normal(0, 100), rng.uniform(0.01, 10), n_time)
        slope = np.concatenate([[np.nan], np.diff(values)])
        found[name] = values
        found[f"{name}_derivative1"] = slope
        found[f"{name}_power2"] = values**2
        found[f"{name}_derivative1_power2"] = slope**2
    return found


def table_of(
    seed: int = 0,
    n_time: int = 30,
    n_dummy: int = 0,
    n_cosine: int = 2,
    n_compcor: int = 7,
    old_names: bool = False,
    spikes: float = 0.1,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A table as fMRIPrep writes it, and its JSON file; ``old_names`` as up to version 20."""
    rng = np.random.default_rng(seed)
    motion = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    columns = series(rng, n_time, ["global_signal", "csf", "white_matter", *motion])
    columns["csf_wm"] = rng.normal(size=n_time)
    for name, typical in (("framewise_displacement", 0.2), ("std_dvars", 1.0)):
        loud = rng.random(n_time) < spikes
        columns[name] = rng.uniform(0, typical, n_time) + loud * 5 * typical
        columns[name][0] = np.nan
    about: dict[str, Any] = {"global_signal": {"Method": "Mean"}}
    number = 0
    for letter, mask in (("c", "CSF"), ("w", "WM"), ("a", "combined"), ("t", None)):
        prefix = "a" if old_names and mask else letter
        if not old_names or letter == "c":
            number = 0
        for i in range(n_compcor + (letter == "w")):
            name = f"{prefix}_comp_cor_{(i if letter == 't' else number):02}"
            number += 1
            columns[name] = rng.normal(size=n_time)
            about[name] = {"Method": "aCompCor" if mask else "tCompCor", "Retained": True}
            about[name] |= {"Mask": mask} if mask else {}
            about[name] |= {"VarianceExplained": 0.5 / (i + 1)}
            about[f"dropped_{letter}{i}"] = {**about[name], "Retained": False}
    for i in range(n_cosine):
        columns[f"cosine{i:02}"] = np.cos(np.pi * (i + 1) * (np.arange(n_time) + 0.5) / n_time)
    for i in range(n_dummy):
        columns[f"non_steady_state_outlier{i:02}"] = (np.arange(n_time) == i).astype(float)
    for i in range(2):
        columns[f"motion_outlier{i:02}"] = (np.arange(n_time) == n_time - 1 - i).astype(float)
    for i in range(3):
        columns[f"aroma_motion_{i + 1:02}"] = rng.normal(size=n_time)
    return pd.DataFrame(columns), about


def write(folder: Path, table: pd.DataFrame, about: Any = None, suffix: str = "timeseries") -> Path:
    """Table, JSON file and images' names, from which nilearn goes to the table."""
    path = folder / f"{STEM}_desc-confounds_{suffix}.tsv"
    table.to_csv(path, sep="\t", na_rep="n/a", index=False)
    if about is not None:
        path.with_suffix(".json").write_text(json.dumps(about))
    return path


def image_beside(path: Path, desc: str = "desc-preproc") -> str:
    stem = path.name.split("_desc-")[0]
    return str(path.with_name(f"{stem}_space-MNI152NLin6Asym_{desc}_bold.nii.gz"))


def theirs(path: Path, strategy: Any, **kw: Any) -> tuple[pd.DataFrame | None, Any]:
    aroma = "ica_aroma" in strategy and kw.get("ica_aroma", "full") == "full"
    image = image_beside(path, "desc-smoothAROMAnonaggr" if aroma else "desc-preproc")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(strategy, str):
            return nilearn.load_confounds_strategy(image, strategy, **kw)
        return nilearn.load_confounds(image, strategy, **kw)


def quiet(path: Path, *args: Any, **kw: Any) -> Any:
    """`load_confounds`, silent about cosines that are not there and images that must be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DaskroiWarning)
        return load_confounds(path, *args, **kw)


def check_like_nilearn(path: Path, strategy: Any, **kw: Any) -> None:
    values, mask = theirs(path, strategy, **kw)
    n_time = len(pd.read_csv(path, sep="\t"))
    if mask is not None and mask.size == 0:
        with pytest.raises(AllFramesCensoredError, match=r"all \d+ frames are censored"):
            quiet(path, strategy, **kw)
        return
    ours = quiet(path, strategy, **kw)
    kept = np.arange(n_time) if ours.sample_mask is None else np.flatnonzero(ours.sample_mask)
    np.testing.assert_array_equal(kept, np.arange(n_time) if mask is None else mask)
    if values is None or values.shape[1] == 0:
        assert ours.columns == []
    else:
        assert ours.columns == list(values.columns)
        scale = np.abs(values.to_numpy()).max(axis=0) + 1e-30
        np.testing.assert_allclose(ours.values / scale, values / scale, rtol=1e-9, atol=1e-9)
    assert ours.values.shape == (n_time, len(ours.columns))
    assert (ours.values.dtypes == np.float64).all()


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


def test_xcp_takes_the_first_five_of_each_mask(tmp_path: Path) -> None:
    table, about = table_of(n_cosine=3)
    path = write(tmp_path, table)  # names tell the masks, no JSON file is needed
    found = load_confounds(path, "acompcor_gsr")
    motion = [
        f"{kind}_{axis}{d}"
        for kind in ("trans", "rot")
        for axis in "xyz"
        for d in ("", "_derivative1")
    ]
    components = [f"{mask}_comp_cor_0{i}" for mask in "cw" for i in range(5)]
    cosines = ["cosine00", "cosine01", "cosine02"]
    assert found.columns == sorted([*motion, *components, *cosines, "global_signal"])
    # up to fMRIPrep 20, the JSON file tells the masks
    table, about = table_of(n_cosine=3, old_names=True)
    path = write(tmp_path, table, about)
    old = load_confounds(path, "acompcor").columns
    assert len(old) == 12 + 10 + 3
    assert {about[c]["Mask"] for c in old if "comp_cor" in c} == {"WM", "CSF"}


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


@given(keep=st.lists(st.booleans(), min_size=1, max_size=40), shortest=st.integers(0, 8))
def test_short_segments_by_counting(keep: list[bool], shortest: int) -> None:
    found = short_segments(np.array(keep), shortest)
    expected: list[bool] = []
    for kept, segment in itertools.groupby(keep):
        n = len(list(segment))
        expected += [kept and n < shortest and not all(keep)] * n
    assert found.tolist() == expected


def test_columns_by_wildcard_keep_the_order_asked_for(tmp_path: Path) -> None:
    table, _ = table_of(n_dummy=1)
    path = write(tmp_path, table)
    found = load_confounds(path, columns=["trans_?", "csf", "trans_x"])
    assert found.columns == ["trans_x", "trans_y", "trans_z", "csf"]
    assert found.description["strategy"] == "none"
    assert found.description["patterns"] == ["trans_?", "csf", "trans_x"]
    both = load_confounds(path, "gsr_only", columns="csf*")
    assert both.columns == sorted(["global_signal", *(c for c in table if c.startswith("csf"))])


def test_none_still_censors(tmp_path: Path) -> None:
    path = write(tmp_path, table_of(n_dummy=2, spikes=0)[0])
    found = load_confounds(path, "none")
    assert found.values.shape == (30, 0)
    assert found.arguments["confounds"] is None
    assert np.flatnonzero(~found.sample_mask).tolist() == [0, 1]


def test_dummy_scans(tmp_path: Path) -> None:
    path = write(tmp_path, table_of(n_dummy=2, spikes=0)[0])
    censored = {
        n: load_confounds(path, "24P", n_dummy=n).description["censored"] for n in ("auto", 0, 3)
    }
    assert censored == {"auto": {"non_steady_state": [0, 1]}, 0: {}, 3: {"dummy": [0, 1, 2]}}
    assert load_confounds(path, "24P", n_dummy=0).sample_mask is None
    with pytest.raises(AllFramesCensoredError, match=r"all 30 frames .*30 by dummy"):
        load_confounds(path, "24P", n_dummy=31)


def test_why_each_frame_is_censored(tmp_path: Path) -> None:
    table, _ = table_of(n_dummy=1, spikes=0)
    table.loc[[8, 11], "framewise_displacement"] = 0.8
    table.loc[[11, 20], "std_dvars"] = 2.0
    found = load_confounds(write(tmp_path, table), "scrubbing", scrub=3)
    assert found.description["censored"] == {
        "framewise_displacement": [8, 11],
        "std_dvars": [11, 20],
        "short_segment": [9, 10],
        "non_steady_state": [0],
    }
    assert np.flatnonzero(~found.sample_mask).tolist() == [0, 8, 9, 10, 11, 20]
    assert found.description["n_censored"] == 6
    assert found.description["n_kept"] == found.n_kept == 24


def test_the_description_is_json_and_says_what_was_done(tmp_path: Path) -> None:
    path = write(tmp_path, *table_of())
    found = load_confounds(path, ["motion", "high_pass", "compcor"], n_compcor=2, motion="basic")
    said = json.loads(json.dumps(found.description))
    assert said["source"] == path.name
    assert said["strategy"] == ["motion", "high_pass", "compcor"]
    assert said["options"] == {"motion": "basic", "compcor": "anat_combined", "n_compcor": 2}
    assert said["columns"] == found.columns
    assert (said["n_frames"], said["n_kept"], said["censored"]) == (30, 30, {})
    assert len(said["sha256"]) == 64


def test_the_same_file_once_more_by_a_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, *table_of())
    found = read_fmriprep(path, ConfoundRecipe.make("36P", fd_threshold=0.5))
    again = pickle.loads(pickle.dumps(load_confounds(str(path), "36P", fd_threshold=0.5)))
    pd.testing.assert_frame_equal(found.values, again.values)
    assert found.description == again.description
    assert repr(found) == f"<Confounds '36P': 36 regressors, {found.n_kept} of 30 frames kept>"


def test_zipped_tables(tmp_path: Path) -> None:
    table, about = table_of()
    path = write(tmp_path, table, about)
    zipped = path.with_suffix(".tsv.gz")
    table.to_csv(zipped, sep="\t", na_rep="n/a", index=False)
    pd.testing.assert_frame_equal(
        load_confounds(zipped, "compcor").values, load_confounds(path, "compcor").values
    )


def test_tables_at_urls(tmp_path: Path) -> None:
    path = write(tmp_path, *table_of())
    with http_server(tmp_path) as server:
        url = f"{server.url}/{path.name}?token=secret"
        far = load_confounds(url, "compcor", fd_threshold=0.5)
        asked = [request.path for request in server.requests]
        assert any(name.endswith(".json?token=secret") for name in asked)
        server.forget()
        load_confounds(url, "36P")  # names are enough
        assert not any(".json" in request.path for request in server.requests)
        with pytest.raises(DaskroiError, match=r"tsv: needed are 'nothing'") as caught:
            load_confounds(url, columns=["nothing"])
        path.with_suffix(".json").unlink()
        with pytest.raises(DaskroiNotFoundError, match=r"tsv: the \.json file beside it") as lost:
            load_confounds(url, "compcor")
    near = load_confounds(write(tmp_path, *table_of()), "compcor", fd_threshold=0.5)
    pd.testing.assert_frame_equal(far.values, near.values)
    assert far.description == near.description
    for said in (str(caught.value), str(lost.value), repr(far), json.dumps(far.description)):
        assert "secret" not in said


def test_a_run_without_cosines_is_warned_about(tmp_path: Path) -> None:
    path = write(tmp_path, table_of(n_cosine=0)[0])
    with pytest.warns(DaskroiWarning, match=r"no column '\*cosine\*'.*shorter than 128 s"):
        load_confounds(path, "simple")


def test_aroma_by_components(tmp_path: Path) -> None:
    path = write(tmp_path, table_of()[0])
    found = load_confounds(path, ("wm_csf", "ica_aroma"), ica_aroma="basic")
    assert found.columns[:3] == ["aroma_motion_01", "aroma_motion_02", "aroma_motion_03"]


def test_demean_leaves_means_alone(tmp_path: Path) -> None:
    table, _ = table_of(spikes=0)
    found = load_confounds(write(tmp_path, table), "wm_csf", demean=False)
    pd.testing.assert_frame_equal(found.values, table[["csf", "white_matter"]])


@pytest.mark.parametrize(
    ("strategy", "dropped", "message"),
    [
        ("36P", ["csf_derivative1", "rot_x"], r"strategy '36P' needs 'rot_x', 'csf_derivative1', "),
        ("simple", ["trans_x"], r"needs 'trans_x', .*close names: 'trans_"),
        ("scrubbing", ["std_dvars"], r"'scrubbing' needs 'std_dvars'"),
        ("scrubbing", ["framewise_displacement"], r"needs 'framewise_displacement'"),
        (("global_signal",), ["global_signal"], r"\('global_signal',\) needs 'global_signal'"),
    ],
)
def test_missing_columns_are_named(
    tmp_path: Path, strategy: Any, dropped: list[str], message: str
) -> None:
    path = write(tmp_path, table_of()[0].drop(columns=dropped))
    with pytest.raises(DaskroiError, match=message) as caught:
        load_confounds(path, strategy)
    assert str(path) in str(caught.value)


def test_a_column_that_nobody_has(tmp_path: Path) -> None:
    path = write(tmp_path, table_of()[0])
    with pytest.raises(DaskroiError, match=r"needed are 'tran_x', not there .* 'trans_x'"):
        load_confounds(path, columns=["tran_x"])
    with pytest.raises(DaskroiError, match=r"needs .*'trans_x'.* and 16 more"):
        load_confounds(write(tmp_path, table_of()[0][["csf"]]), "24P")


def test_compcor_needs_its_json_file(tmp_path: Path) -> None:
    path = write(tmp_path, table_of()[0])
    with pytest.raises(DaskroiNotFoundError, match=r"\.tsv: the \.json file beside it .*Copy it"):
        load_confounds(path, "compcor")
    path.with_suffix(".json").write_text("[1, 2]")
    with pytest.raises(DaskroiError, match=r"\.json: not a JSON file about confounds"):
        load_confounds(path, "compcor")
    path.with_suffix(".json").write_text("{")
    with pytest.raises(DaskroiError, match=r"\.json: not a JSON file about confounds"):
        load_confounds(path, "compcor")


def test_components_that_only_the_json_file_has(tmp_path: Path) -> None:
    table, about = table_of()
    path = write(tmp_path, table.drop(columns="a_comp_cor_06"), about)
    # nilearn: KeyError
    with pytest.raises(DaskroiError, match=r"'compcor' needs 'a_comp_cor_06'"):
        load_confounds(path, "compcor")
    assert "a_comp_cor_05" in load_confounds(path, "compcor", n_compcor=6).columns
    about["a_comp_cor_06"]["Retained"] = False
    write(tmp_path, table.drop(columns="a_comp_cor_06"), about)
    assert "a_comp_cor_05" in load_confounds(path, "compcor").columns


def test_half_of_what_is_asked_for_is_an_error(tmp_path: Path) -> None:
    table, about = table_of()
    temporal = [name for name in table if name.startswith("t_")]
    path = write(tmp_path, table.drop(columns=temporal), about)
    # nilearn takes the names from the JSON file and ends in a KeyError
    with pytest.raises(DaskroiError, match=r"needs 't_comp_cor_\*'"):
        load_confounds(path, "compcor", compcor="temporal_anat_combined")


def test_n_a_below_the_first_row(tmp_path: Path) -> None:
    table, _ = table_of(spikes=0)
    table.loc[[0, 1], "csf"] = np.nan
    table.loc[7, "white_matter"] = np.inf
    path = write(tmp_path, table)
    message = r"n/a or infinite in 3 kept frames, first 0: 'csf', 'white_matter'"
    with pytest.raises(DaskroiError, match=message):
        load_confounds(path, "wm_csf")
    # in a censored frame it is nobody's business
    table.loc[[0, 1, 7], "framewise_displacement"] = 9
    found = load_confounds(write(tmp_path, table), "wm_csf", fd_threshold=0.5)
    assert np.isfinite(found.values[found.sample_mask]).all(axis=None)
    assert abs(found.values[found.sample_mask].mean()).max() < 1e-9


def test_one_frame_has_no_second_row(tmp_path: Path) -> None:
    path = write(tmp_path, table_of()[0].head(1))
    with pytest.raises(DaskroiError, match=r"n/a or infinite in 1 kept frames"):
        load_confounds(path, ("motion",))
    assert load_confounds(path, ("motion",), motion="basic").values.shape == (1, 6)


def test_tables_of_old_versions(tmp_path: Path) -> None:
    old = pd.DataFrame({"CSF": [1.0, 2], "WhiteMatter": [1.0, 3], "FramewiseDisplacement": [0, 0]})
    path = write(tmp_path, old)
    with pytest.raises(DaskroiError, match=r"fMRIPrep 1.0 or 1.1.*WhiteMatter.*columns="):
        load_confounds(path)
    assert load_confounds(path, columns=["CSF"]).columns == ["CSF"]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("1.0\t2.0\n3.0\t4.0\n", DaskroiError, "has no header"),
        ("csf\twhite_matter\n", DaskroiError, "a header and no rows"),
        ("csf\twhite_matter\n1\tx\n", DaskroiTypeError, "column 'white_matter' holds values that"),
        ("csf\n1\t2\t3\n1\n1\t2\t3\t4\n", DaskroiError, "not a table of confounds"),
        (b"\xff\xfe\x00c", DaskroiError, "not a table of confounds"),
        ("", DaskroiError, "is empty"),
    ],
)
def test_files_that_are_no_tables(
    tmp_path: Path, content: Any, error: type[Exception], message: str
) -> None:
    path = tmp_path / "x_desc-confounds_timeseries.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=message):
        load_confounds(path, "wm_csf")


def test_the_image_instead_of_its_table(tmp_path: Path) -> None:
    with pytest.raises(DaskroiError, match=r"bold\.nii\.gz: is an image.*confounds_timeseries"):
        load_confounds(tmp_path / "sub-1_desc-preproc_bold.nii.gz")
    with pytest.raises(DaskroiTypeError, match=r"path is a list\. Pass .* one table"):
        load_confounds(["a.tsv", "b.tsv"])  # type: ignore[arg-type]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DaskroiNotFoundError, match=r"x\.tsv: no such file"):
        load_confounds(tmp_path / "x.tsv")


def test_inputs_stay_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path, *table_of())
    before = path.read_bytes()
    asked = ["motion", "compcor", "high_pass"]
    load_confounds(path, asked)
    assert asked == ["motion", "compcor", "high_pass"]
    assert path.read_bytes() == before
