"""Confounds of fMRIPrep runs: which columns, which frames, what the description says."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fmripreptables import table_of, write
from hypothesis import given
from hypothesis import strategies as st
from servers import http_server

from daskroi.censor import AllFramesCensoredError
from daskroi.confoundrecipe import ConfoundRecipe
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiWarning
from daskroi.fmriprep import load_confounds, read_fmriprep, short_segments


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


def test_inputs_stay_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path, *table_of())
    before = path.read_bytes()
    asked = ["motion", "compcor", "high_pass"]
    load_confounds(path, asked)
    assert asked == ["motion", "compcor", "high_pass"]
    assert path.read_bytes() == before
