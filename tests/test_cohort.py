"""Finding runs: the table, of trees as fMRIPrep writes them and of images given one by one."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from foundruns import END, FILES, touch

from daskroi.cohort import describe_runs, find_runs
from daskroi.errors import DaskroiError, DaskroiWarning


def test_every_run_with_its_files(tree):
    runs = find_runs(tree)
    assert list(runs.columns) == [
        *FILES, "subject", "session", "task", "acquisition", "run", "space", "resolution",
        "description", "problem",
    ]  # fmt: skip
    assert len(runs) == 48
    assert runs["subject"].drop_duplicates().tolist() == ["1", "2", "10"]
    assert set(runs["problem"]) == {None}
    for row in runs.itertuples():
        stem = f"sub-{row.subject}_ses-{row.session}_task-{row.task}_run-{row.run}"
        folder = tree / f"sub-{row.subject}" / f"ses-{row.session}" / "func"
        place = f"{stem}_space-{row.space}" + (f"_res-{row.resolution}" if row.resolution else "")
        assert row.image == f"{folder}/{place}_{END}"
        assert row.mask == f"{folder}/{place}_desc-brain_mask.nii.gz"
        assert row.confounds == f"{folder}/{stem}_desc-confounds_timeseries.tsv"
        assert row.sidecar == f"{folder}/{place}_desc-preproc_bold.json"
        assert row.acquisition is None
    assert runs.attrs == {
        "unpaired": [], "ignored": {"surface or CIFTI files, not volumes": 72},
    }  # fmt: skip


def test_the_table_travels(tree, tmp_path):
    runs = find_runs(tree, space="T1w")
    assert runs["resolution"].tolist() == [None] * 24
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(runs)), runs)
    runs.to_csv(tmp_path / "runs.tsv", sep="\t", index=False, na_rep="n/a")
    assert json.loads(json.dumps(runs.attrs)) == runs.attrs
    assert runs[runs["task"] == "rest"].attrs == runs.attrs


def test_another_table_is_not_described():
    for table in (3, pd.DataFrame({"image": ["a.nii"]})):
        with pytest.raises(DaskroiError, match=r"runs has no column '(image|sidecar)'\. Give the"):
            describe_runs(table)


def test_images_given_one_by_one(tree, tmp_path):
    every = find_runs(tree)
    some = [every["image"][i] for i in (9, 0, 30)]
    runs = find_runs(some)
    columns = [*FILES, "subject", "session", "task", "run", "space", "problem"]
    expected = every.iloc[[9, 0, 30]].reset_index(drop=True)[columns]
    pd.testing.assert_frame_equal(runs[columns], expected, check_like=True)
    assert len(find_runs(Path(some[0]))) == len(find_runs(some * 2)) - 2 == 1
    assert len(find_runs(some, task="nback")) == sum("nback" in s for s in some)


def test_images_by_any_name(tmp_path, monkeypatch):
    touch(tmp_path, "my run.1.nii.gz", "my run.1.json", "b.nii", f"sub-01_task-rest_{END}")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(DaskroiWarning, match="1 of 4 runs have another problem"):
        runs = find_runs(["my run.1.nii.gz", "b.nii", "gone/c.nii", f"sub-01_task-rest_{END}"])
    assert runs["image"].tolist() == [
        f"{tmp_path}/my run.1.nii.gz", f"{tmp_path}/b.nii", f"{tmp_path}/gone/c.nii",
        f"{tmp_path}/sub-01_task-rest_{END}",
    ]  # fmt: skip
    assert runs["sidecar"].tolist() == [f"{tmp_path}/my run.1.json", None, None, None]
    assert runs["subject"].tolist() == [None, None, None, "01"]
    assert "no such folder" in runs["problem"][2]
    with pytest.raises(DaskroiError, match=r"no run meets task=rest"):
        find_runs(["b.nii"], task="rest")
    with pytest.warns(DaskroiWarning, match="1 files could not be used"):
        assert len(find_runs(["b.nii", f"sub-01_task-rest_{END}"], task="rest")) == 1


def test_some_with_and_some_without(tmp_path):
    image = f"sub-0{{}}_task-rest_{END}"
    touch(tmp_path, image.format(1), image.format(2), "sub-01_task-rest_desc-brain_mask.nii.gz")
    with pytest.warns(DaskroiWarning, match=r"the images given: 1 of 2 runs have no mask\. See"):
        find_runs([tmp_path / image.format(1), tmp_path / image.format(2)])


def test_real_data(real_data):
    runs = find_runs(real_data / "bids-derivatives")
    assert len(runs) == 1
    assert all(Path(p).is_file() for p in runs.loc[0, FILES])
    assert runs.loc[0, "problem"] is None


def test_the_benchmark_runs():
    script = Path(__file__).parent / "benchmarks" / "find_runs.py"
    done = subprocess.run(
        [sys.executable, script, "--files", "300", "--repeat", "1"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "files, 24 runs: " in done.stdout
    assert "one participant, 8 runs: " in done.stdout
    assert "a list of 24 images: " in done.stdout
