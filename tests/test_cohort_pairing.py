"""Finding a run's own files: its mask, confounds and sidecar, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from bids_tree import MNI, make_tree
from foundruns import END, names, quietly, touch

from daskroi.cohort import describe_runs, find_runs
from daskroi.errors import DaskroiWarning


def test_old_names_of_confounds(tmp_path):
    runs = find_runs(make_tree(tmp_path, ["01"], old=True))
    assert set(names(runs, "confounds")) == {"sub-01_task-rest_desc-confounds_regressors.tsv"}
    # derivatives of two versions in one folder: the newer names
    folder = tmp_path / "sub-01" / "func"
    touch(folder, "sub-01_task-rest_desc-confounds_timeseries.tsv")
    runs = find_runs(tmp_path)
    assert set(names(runs, "confounds")) == {"sub-01_task-rest_desc-confounds_timeseries.tsv"}


def test_development_fmri_lies_flat(tmp_path):
    stem = "sub-pixar00{}_task-pixar"
    for i in (1, 2):
        touch(
            tmp_path,
            f"{stem.format(i)}_space-{MNI}_{END}",
            f"{stem.format(i)}_desc-reducedConfounds_regressors.tsv",
        )
    touch(tmp_path, f"{stem.format(2)}_desc-confounds_regressors.tsv", "participants.tsv")
    with pytest.warns(DaskroiWarning, match="2 of 2 runs have no mask"):
        runs = find_runs(tmp_path)
    assert names(runs, "confounds") == [
        "sub-pixar001_task-pixar_desc-reducedConfounds_regressors.tsv",
        "sub-pixar002_task-pixar_desc-confounds_regressors.tsv",
    ]
    assert runs["sidecar"].tolist() == [None, None]
    assert "2 runs: no JSON sidecar, the header must tell the TR" in describe_runs(runs)


def test_masks_are_those_of_the_same_grid(tmp_path):
    stem = "sub-01_task-rest_space-MNI"
    touch(
        tmp_path / "sub-01" / "func",
        f"{stem}_res-1_{END}", f"{stem}_res-2_{END}", f"sub-01_task-rest_{END}",
        f"{stem}_res-2_desc-brain_mask.nii.gz", f"{stem}_res-1_label-GM_mask.nii.gz",
        "sub-01_task-rest_desc-confounds_timeseries.tsv",
    )  # fmt: skip
    with pytest.warns(DaskroiWarning, match=r"2 of 3 runs have no mask. See describe_runs"):
        runs = find_runs(tmp_path)
    assert names(runs, "mask") == [None, None, f"{stem}_res-2_desc-brain_mask.nii.gz"]
    for problem, place in zip(
        runs["problem"][:2], ["the run's own space", "MNI, resolution 1"], strict=True
    ):
        there = "there is one in space-MNI_res-2"
        assert problem == f"mask: no ..._desc-brain_mask.nii.gz in {place}; {there}"
    assert runs["confounds"].nunique() == 1
    told = describe_runs(runs).split("\n")
    assert told[0] == (
        "3 runs of 1 subject; task rest (3); space MNI (2), none (1); "
        "resolution 1 (1), 2 (1), none (1)"
    )
    assert any(
        line.startswith("1 run: mask: no ..._desc-brain_mask.nii.gz in MNI") for line in told
    )


def test_confounds_of_another_run_are_not_taken(tmp_path):
    touch(
        tmp_path / "sub-01" / "func",
        f"sub-01_task-rest_run-1_{END}", f"sub-01_task-rest_run-2_{END}",
        "sub-01_task-rest_run-1_desc-confounds_timeseries.tsv",
        "sub-01_task-rest_desc-confounds_timeseries.tsv",
        "sub-01_task-gone_desc-confounds_timeseries.tsv",
    )  # fmt: skip
    with pytest.warns(DaskroiWarning, match=r"1 of 2 runs have no confounds; 2 files could not be"):
        runs = find_runs(tmp_path)
    assert names(runs, "confounds") == [
        "sub-01_task-rest_run-1_desc-confounds_timeseries.tsv",
        None,
    ]
    reasons = {Path(file).name: reason for file, reason in runs.attrs["unpaired"]}
    assert set(reasons) == {
        "sub-01_task-gone_desc-confounds_timeseries.tsv",
        "sub-01_task-rest_desc-confounds_timeseries.tsv",
    }
    assert all("without a preprocessed BOLD image" in r for r in reasons.values())
    # nor are those of runs that nobody asked for called left over
    assert len(quietly(tmp_path, task="rest").attrs["unpaired"]) == 1
    assert quietly(tmp_path, run=1).attrs["unpaired"] == []


def test_sidecars_are_inherited(tmp_path):
    folder = tmp_path / "sub-01" / "ses-a" / "func"
    stem = "sub-01_ses-a_task-{}_space-T1w_desc-preproc_bold"
    for task in ("own", "folder", "session", "root", "any"):
        touch(folder, stem.format(task) + ".nii.gz")
    touch(folder, stem.format("own") + ".json", "sub-01_ses-a_task-own_bold.json")
    touch(
        folder, "sub-01_ses-a_task-folder_bold.json", "sub-01_ses-a_task-folder_space-MNI_bold.json"
    )
    touch(tmp_path / "sub-01" / "ses-a", "sub-01_ses-a_task-session_bold.json")
    touch(tmp_path, "task-session_bold.json", "task-root_bold.json", "task-rooted_bold.json")
    touch(tmp_path, "bold.json")
    runs = quietly(tmp_path)
    assert dict(zip(runs["task"], runs["sidecar"], strict=True)) == {
        "own": f"{folder / stem.format('own')}.json",
        "folder": f"{folder}/sub-01_ses-a_task-folder_bold.json",
        "session": f"{tmp_path}/sub-01/ses-a/sub-01_ses-a_task-session_bold.json",
        "root": f"{tmp_path}/task-root_bold.json",
        "any": f"{tmp_path}/bold.json",
    }
