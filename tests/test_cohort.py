"""Finding runs: trees as fMRIPrep writes them, and all that is wrong with real ones."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from bids_tree import MNI, make_tree, run_names
from hypothesis import given
from hypothesis import strategies as st

from daskroi.cohort import describe_runs, find_runs
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError, DaskroiWarning
from daskroi.places import atlas_for, output_prefixes

FILES = ["image", "mask", "confounds", "sidecar"]
END = "desc-preproc_bold.nii.gz"


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def quietly(*args, **kwargs) -> pd.DataFrame:
    """find_runs where warnings are beside the point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DaskroiWarning)
        return find_runs(*args, **kwargs)


def names(runs: pd.DataFrame, column: str = "image") -> list[str | None]:
    return [None if p is None else p.rsplit("/", 1)[1] for p in runs[column]]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """3 subjects, 2 sessions, 2 tasks, 2 runs, 2 spaces: 48 images."""
    root = tmp_path_factory.mktemp("cohort") / "fmriprep"
    return make_tree(root, ("1", "2", "10"), ("a", "b"), ("rest", "nback"), ("1", "2"))


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


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"task": "rest"}, 24),
        ({"task_id": ["rest", "task-nback"]}, 48),
        ({"participant_label": ["sub-10", "2"]}, 32),
        ({"subject": "10", "ses": "b", "run": 1}, 4),
        ({"participant_label": 1, "session_id": "a", "run_id": "02", "space": "T1w"}, 2),
        ({"res": 2}, 24),
        ({"space": MNI, "task": "rest"}, 12),
        ({"bids_filter": {"bold": {"res": None}}}, 24),
        ({"bids_filter": {"bold": {"resolution": "*"}}, "task": "rest"}, 12),
        ({"bids_filter": {"bold": {"task": "^n", "regex_search": True}}}, 24),
        ({"bids_filter": {"bold": {"datatype": "func", "suffix": "bold", "desc": "preproc"}}}, 48),
    ],
)
def test_filters(tree, filters, count):
    runs = find_runs(tree, **filters)
    assert len(runs) == count
    ignored = runs.attrs["ignored"].get("runs left out by the filters", 0)
    # folders of others are not looked into, so their runs are not counted
    assert ignored <= 48 - count


@given(
    subjects=st.none() | st.sets(st.sampled_from(["1", "2", "10"]), min_size=1),
    sessions=st.none() | st.sampled_from(["a", "b"]),
    task=st.none() | st.sampled_from(["rest", "nback"]),
    run=st.none() | st.integers(1, 2),
    space=st.none() | st.sampled_from(["T1w", MNI]),
)
def test_filters_are_those_of_the_whole_table(tree, subjects, sessions, task, run, space):
    got = find_runs(tree, participant_label=subjects, session_id=sessions, task=task, run=run,
                    space=space)  # fmt: skip
    every = find_runs(tree)
    for column, wanted in [
        ("subject", subjects), ("session", sessions and {sessions}), ("task", task and {task}),
        ("run", run and {str(run)}), ("space", space and {space}),
    ]:  # fmt: skip
        if wanted:
            every = every[every[column].isin(wanted)]
    assert got["image"].tolist() == every["image"].tolist()


def test_only_folders_of_the_participants_are_looked_into(tree):
    seen = []
    find_runs(tree, participant_label="1", session_id="a", progress=seen.append)
    # the dataset, the subject, the session, func
    assert len(seen) == 4
    assert seen[-1] < 80 < sum(len(files) for _, _, files in os.walk(tree)) / 5


def test_labels_that_nothing_has(tree):
    with pytest.warns(DaskroiWarning, match=r"nothing is named participant_label=99, x\."):
        assert len(find_runs(tree, participant_label=["1", "99", "x"])) == 16
    with pytest.raises(DaskroiError, match=r"no run has participant_label=99\. There is: 1, 2, 10"):
        find_runs(tree, participant_label="99")
    with pytest.raises(DaskroiError, match=r"no run has task=flanker\. There is: nback, rest\."):
        find_runs(tree, task="flanker")
    with pytest.raises(DaskroiError, match=r"no run meets space=T1w, res=2"):
        find_runs(tree, space="T1w", res=2)
    with pytest.raises(DaskroiError, match=r"tsk: is no BIDS entity.*Did you mean task\?"):
        find_runs(tree, tsk="rest")


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


def test_another_table_is_not_described():
    for table in (3, pd.DataFrame({"image": ["a.nii"]})):
        with pytest.raises(DaskroiError, match=r"runs has no column '(image|sidecar)'\. Give the"):
            describe_runs(table)


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


def test_copies_are_named(tmp_path):
    stem = "sub-01_task-rest_space-T1w_desc-preproc_bold"
    folder = touch(tmp_path / "sub-01" / "func", f"{stem}.nii", f"{stem}.nii.gz")
    touch(folder / f"{stem}.nii.zarr" / "0", "zarr.json", "sub-01_task-x_desc-preproc_bold.nii")
    with pytest.warns(DaskroiWarning, match="2 files could not be used"):
        runs = find_runs(tmp_path)
    assert names(runs) == [f"{stem}.nii.zarr"]
    assert runs.attrs["unpaired"] == [
        [f"{folder}/{stem}.{end}", f"is a copy of {stem}.nii.zarr, which is taken"]
        for end in ("nii", "nii.gz")
    ]
    for end in (".nii", ".nii.gz", ".nii.zarr"):
        runs = quietly(tmp_path, bids_filter={"bold": {"extension": end}})
        assert names(runs) == [stem + end]
        assert runs.attrs["unpaired"] == []


def test_the_same_name_in_two_folders(tmp_path):
    make_tree(tmp_path / "one", ["01"], spaces=["T1w"])
    make_tree(tmp_path / "two", ["01"], spaces=["T1w"])
    with pytest.warns(DaskroiWarning, match="1 of 2 runs have another problem"):
        runs = find_runs(tmp_path)
    assert runs["problem"].tolist() == [None, f"name: {runs['image'][0]} is named the same"]
    with pytest.raises(DaskroiError, match="would have the same names as those of"):
        output_prefixes(runs)


def test_echoes_other_descriptions_and_bad_names(tmp_path):
    stem = "sub-01_task-rest"
    folder = touch(
        tmp_path / "sub-01" / "func",
        f"{stem}_{END}", f"{stem}_echo-1_{END}", f"{stem}_echo-2_{END}",
        f"{stem}_desc-brain_mask.nii.gz", f"{stem}_desc-confounds_timeseries.tsv",
        f"{stem}_space-MNI_desc-smoothAROMAnonaggr_bold.nii.gz", f"{stem}_sbref.nii.gz",
        f"{stem}_boldref.nii.gz", f"sub-01_task-re-st_{END}",
    )  # fmt: skip
    with pytest.warns(DaskroiWarning, match=r": 1 files could not be used"):
        runs = find_runs(tmp_path)
    assert names(runs) == [f"{stem}_{END}"]
    assert runs.attrs["ignored"] == {
        "single echoes (pass echo to take them)": 2,
        "BOLD images that are not preprocessed (no desc-preproc in the name)": 1,
    }
    [[file, reason]] = runs.attrs["unpaired"]
    assert file == f"{folder}/sub-01_task-re-st_{END}"
    assert "no BIDS name" in reason
    echoes = quietly(tmp_path, echo="*")
    assert echoes["echo"].tolist() == ["1", "2"]
    assert names(echoes, "mask") == [f"{stem}_desc-brain_mask.nii.gz"] * 2
    assert names(echoes, "confounds") == [f"{stem}_desc-confounds_timeseries.tsv"] * 2
    denoised = quietly(tmp_path, desc="smoothAROMAnonaggr")
    assert denoised["space"].tolist() == ["MNI"]
    assert "2 not used: single echoes (pass echo to take them)" in describe_runs(runs)


def test_folders_without_runs_are_not_entered(tmp_path):
    make_tree(tmp_path, ["01"], spaces=["T1w"])
    image = f"sub-09_task-rest_{END}"
    for folder in (".git/annex", ".datalad", "sourcedata/fp", "work/x", "derivatives/fmriprep",
                   "sub-01/figures", "sub-01/anat", "x.zarr/0", "logs"):  # fmt: skip
        touch(tmp_path / folder, image)
    assert len(find_runs(tmp_path)) == 1
    # but a dataset may lie in a folder of any name
    assert names(quietly(tmp_path / "derivatives" / "fmriprep")) == [image]
    assert names(quietly(tmp_path / "sub-01" / "figures")) == [image]


def test_links(tmp_path):
    """DataLad: images are links into the annex, absent ones to nothing; subjects may be links."""
    make_tree(tmp_path / "real", ["01", "02"], spaces=["T1w"])
    root = tmp_path / "linked"
    root.mkdir()
    (root / "sub-01").symlink_to(tmp_path / "real" / "sub-01")
    (root / "loop").symlink_to(root)
    folder = touch(root / "sub-03" / "func", "sub-03_task-rest_space-T1w_desc-brain_mask.nii.gz")
    (folder / "back").symlink_to(root / "sub-03")
    (folder / f"sub-03_task-rest_space-T1w_{END}").symlink_to(
        "../../.git/annex/objects/gone.nii.gz"
    )
    touch(folder, "sub-03_task-rest_desc-confounds_timeseries.tsv")
    (root / "other").symlink_to(tmp_path / "other")
    touch(tmp_path / "other").joinpath("home").symlink_to(root)
    with pytest.warns(DaskroiWarning, match="1 of 2 runs have another problem"):
        runs = find_runs(root)
    assert runs["subject"].tolist() == ["01", "03"]
    assert runs["problem"].tolist() == [
        None, "image: its content is not here, fetch it with 'datalad get'",
    ]  # fmt: skip


def test_folders_that_cannot_be_listed(tmp_path, monkeypatch):
    make_tree(tmp_path, ["01", "02"], spaces=["T1w"])
    closed, scandir = str(tmp_path / "sub-02" / "func"), os.scandir

    def guarded(path):
        # the tests may run as root, whom no permission stops
        if path == closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.warns(
        DaskroiWarning, match="1 folders could not be listed, so runs may be missing"
    ):
        runs = find_runs(tmp_path)
    assert runs.attrs["unpaired"] == [[closed, "cannot be listed (Permission denied)"]]
    with pytest.raises(DaskroiError, match=r"func: cannot be listed \(Permission denied\)"):
        find_runs(closed)


def test_a_raw_dataset(tmp_path):
    touch(
        tmp_path / "sub-01" / "func", "sub-01_task-rest_bold.nii.gz", "sub-01_task-rest_bold.json"
    )
    with pytest.raises(DaskroiError, match=r"holds 1 raw BOLD images.*as fMRIPrep writes it\.$"):
        find_runs(tmp_path)
    make_tree(tmp_path / "derivatives" / "fmriprep-24", ["01"])
    make_tree(tmp_path / "derivatives" / "xcp_d", ["01"])
    with pytest.raises(DaskroiError, match=r"below .*/derivatives there is: fmriprep-24, xcp_d"):
        find_runs(tmp_path)
    assert len(find_runs(tmp_path / "derivatives" / "fmriprep-24")) == 2


def test_nothing_to_find(tmp_path):
    with pytest.raises(DaskroiNotFoundError, match="nowhere: no such folder"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(DaskroiError, match="has no preprocessed BOLD images"):
        find_runs(tmp_path)
    file = touch(tmp_path, "x.tsv") / "x.tsv"
    with pytest.raises(DaskroiError, match="is not a folder"):
        find_runs(file)
    for wrong, message in [(3, "not int"), ([3], "one is a int"), (b"x", "not bytes")]:
        with pytest.raises(DaskroiTypeError, match=message):
            find_runs(wrong)
    with pytest.raises(DaskroiError, match="the list of images is empty"):
        find_runs([])
    surfaces = "sub-01_hemi-L_space-fsaverage_bold.func.gii"
    touch(tmp_path / "sub-01" / "func", surfaces)
    with pytest.raises(DaskroiError, match="only 1 surface or CIFTI files"):
        find_runs(tmp_path)


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


def test_names_from_a_disk_are_told_in_one_line(tmp_path):
    make_tree(tmp_path, ["01"], spaces=["T1w"])
    bad = os.fsdecode(b"sub-0\xff\n1_desc-preproc_bold.nii.gz")
    touch(tmp_path / "sub-01" / "func", bad)
    runs = quietly(tmp_path)
    told = describe_runs(runs)
    assert told.encode()
    assert "\\udcff\\n1_desc-preproc_bold.nii.gz" in told


# --- places


def test_atlases_of_each_subject(tree, tmp_path):
    run_name = "sub-{subject}_ses-{session}_task-{task}_run-{run}_space-{space}"
    pattern = f"func/{run_name}_desc-aparcaseg_dseg.nii.gz"
    for _, run in find_runs(tree, space="T1w").iterrows():
        found = atlas_for(run, pattern)
        assert Path(found).parent == Path(run["image"]).parent
    run = find_runs(tree, space=MNI).iloc[0]
    anatomical = "anat/sub-{subject}[_ses-{session}][_acq-{acquisition}]_desc-aparcaseg_dseg.nii.gz"
    place = f"{tree}/sub-1/ses-a/anat/sub-1_ses-a_desc-aparcaseg_dseg.nii.gz"
    assert atlas_for(run, anatomical) == place
    assert atlas_for(run, "{root}/sub-{subject}/ses-a/" + anatomical) == place
    assert atlas_for(dict(run), anatomical, root=tree) == place
    with pytest.raises(DaskroiNotFoundError, match=r"has no atlas .*/sub-1/ses-a/func/.*, nor "):
        atlas_for(run, pattern)
    with pytest.raises(DaskroiError, match="the run has no acquisition"):
        atlas_for(run, "sub-{subject}_acq-{acq}_dseg.nii.gz")


def test_atlases_where_the_run_has_a_session_and_the_anatomy_has_none(tmp_path):
    make_tree(tmp_path, ["01"], ["a"], spaces=["T1w"])
    touch(tmp_path / "sub-01" / "anat", "sub-01_desc-aparcaseg_dseg.nii.gz")
    run = find_runs(tmp_path).iloc[0]
    found = atlas_for(run, "anat/sub-{subject}_desc-aparcaseg_dseg.nii.gz")
    assert found == f"{tmp_path}/sub-01/anat/sub-01_desc-aparcaseg_dseg.nii.gz"


def test_where_results_go(tree):
    places = output_prefixes(find_runs(tree))
    assert len(set(places)) == 48
    assert places[0] == f"sub-1/ses-a/func/sub-1_ses-a_task-nback_run-1_space-{MNI}"


def test_results_of_two_resolutions_do_not_meet(tmp_path):
    make_tree(tmp_path, ["AB", "C"], spaces=["MNI_res-1", "MNI_res-2", "T1w"])
    assert output_prefixes(quietly(tmp_path, subject="C")) == [
        "sub-C/func/sub-C_task-rest_space-MNI_res-1_desc-preproc",
        "sub-C/func/sub-C_task-rest_space-MNI_res-2_desc-preproc",
        "sub-C/func/sub-C_task-rest_space-T1w",
    ]
    # nor do they where a disk does not tell ab from AB
    make_tree(tmp_path, ["ab"], spaces=["T1w"])
    with pytest.raises(DaskroiError, match="would have the same names"):
        output_prefixes(quietly(tmp_path, space="T1w"))


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40))
def test_no_name_leads_out_of_the_folder(name):
    runs = pd.DataFrame({"image": [f"/data/{name}.nii.gz"]})
    (place,) = output_prefixes(runs)
    assert place
    assert not {"", ".", ".."} & set(place.split("/"))
    assert place.isascii()
    assert place.isprintable()


# --- remote


@pytest.fixture(scope="module")
def flat_tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("remote") / "fp"
    make_tree(root, ("01", "02", "03"), spaces=["T1w", "MNI_res-2"], image=".nii.zarr")
    touch(root / "sub-02" / "func", f"sub-02_task-rest_space-own_{END}")
    touch(root, "task-rest_bold.json")
    return root


def relative(runs: pd.DataFrame, root: str) -> list[list[str | None]]:
    return [[p and p.removeprefix(root) for p in row] for row in runs[FILES].values.tolist()]


@contextmanager
def web_server(folder: Path):
    """Pages that list folders, as Apache's and nginx's do, and what was asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(f"{self.command} {self.path}")

        def list_directory(self, path):
            if "closed" in self.path:
                return self.send_error(404)
            return super().list_directory(path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_web_servers(flat_tree):
    with web_server(flat_tree.parent) as (url, asked):
        remote = quietly(f"{url}/fp/")
        assert relative(remote, url) == relative(quietly(flat_tree), str(flat_tree.parent))
        assert not any("zarr" in line or "figures" in line or "anat" in line for line in asked)
        asked.clear()
        quietly(f"{url}/fp", participant_label="02")
        assert [line.rstrip("/") for line in asked if "sub-" in line] == [
            "GET /fp/sub-02", "GET /fp/sub-02/func",
        ]  # fmt: skip
        with pytest.raises(DaskroiNotFoundError, match=r"127.0.0.1:\d+/none: no such"):
            find_runs(f"{url}/none")


def test_web_servers_that_list_nothing(tmp_path):
    """Most do not: then names are tried, for the images one gives."""
    folder = touch(tmp_path / "closed", *run_names("sub-01_task-rest", ["T1w"], old=True))
    with web_server(tmp_path) as (url, _):
        image = f"{url}/closed/sub-01_task-rest_space-T1w_{END}"
        run = find_runs([image]).iloc[0]
        local = find_runs([f"{folder}/sub-01_task-rest_space-T1w_{END}"]).iloc[0]
        assert [p.removeprefix(url) for p in run[FILES]] == [
            p.removeprefix(str(tmp_path)) for p in local[FILES]
        ]
        assert run["problem"] is None
        signed = f"{image}?Signature=abc"
        run = find_runs(signed).iloc[0]
        assert run["image"] == signed
        assert run["mask"].endswith("_desc-brain_mask.nii.gz")
        pattern = "func/sub-{subject}_dseg.nii.gz"
        with pytest.raises(DaskroiNotFoundError, match="has no atlas http://127"):
            atlas_for(run, pattern)
        pattern = "{root}/sub-01_task-rest_space-T1w_desc-aparcaseg_dseg.nii.gz"
        assert atlas_for(run, pattern).endswith(
            "/closed/sub-01_task-rest_space-T1w_desc-aparcaseg_dseg.nii.gz"
        )


def test_passwords_do_not_get_into_tables():
    for url in ("https://me:secret@h.org/d", ["https://me:secret@h.org/d/x.nii"]):
        with pytest.raises(DaskroiError, match="has a password in it") as error:
            find_runs(url)
        assert "secret" not in str(error.value)


def test_memory():
    import fsspec

    fs = fsspec.filesystem("memory")
    stem = "/sub-01/func/sub-01_task-rest"
    fs.pipe({f"{stem}_{END}": b"", f"{stem}_desc-brain_mask.nii": b""})
    try:
        (row,) = quietly("memory://", subject="01")[FILES].values.tolist()
        assert row[:2] == [
            f"memory://sub-01/func/sub-01_task-rest_{end}" for end in (END, "desc-brain_mask.nii")
        ]
    finally:
        fs.rm("/sub-01", recursive=True)


def test_archives(flat_tree, tmp_path):
    import shutil

    shutil.make_archive(str(tmp_path / "all"), "zip", flat_tree.parent)
    url = f"zip://fp::file://{tmp_path}/all.zip"
    runs = quietly(url)
    expected = relative(quietly(flat_tree), str(flat_tree))
    stripped = [
        [p and p.removeprefix("zip://fp").removesuffix(url.removeprefix("zip://fp")) for p in row]
        for row in runs[FILES].values.tolist()
    ]
    assert stripped == expected
    again = quietly(runs["image"].tolist())
    assert again[["image", "mask", "confounds", "problem"]].equals(
        runs[["image", "mask", "confounds", "problem"]]
    )


@pytest.fixture(scope="module")
def s3_tree(flat_tree):
    """The tree in a bucket, and what was asked of the server."""
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    from werkzeug import serving

    asked: list[str] = []

    class Handler(serving.WSGIRequestHandler):
        def log(self, *args):
            asked.append(getattr(self, "requestline", ""))

    server = serving.make_server(
        "127.0.0.1", 0, moto.DomainDispatcherApplication(moto.create_backend_app), threaded=True,
        request_handler=Handler,
    )  # fmt: skip
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    options = {
        "key": "k", "secret": "s", "endpoint_url": f"http://127.0.0.1:{server.server_port}",
    }  # fmt: skip
    fs = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    fs.mkdir("bucket")
    fs.put(str(flat_tree), "bucket/deep/fp", recursive=True)
    yield "s3://bucket/deep/fp", options, asked
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_buckets(s3_tree, flat_tree):
    url, options, asked = s3_tree
    asked.clear()
    runs = quietly(url, storage_options=options)
    assert relative(runs, url) == relative(quietly(flat_tree), str(flat_tree))
    listings = [line for line in asked if "list-type" in line]
    assert len(listings) == 7  # the dataset, three subjects, three func
    asked.clear()
    quietly(url, participant_label="02", storage_options=options)
    assert sum("list-type" in line for line in asked) == 3
    with pytest.raises(DaskroiNotFoundError, match="none: no such"):
        find_runs("s3://bucket/none", storage_options=options)
    run = runs[runs["space"] == "T1w"].iloc[0]
    pattern = "anat/sub-{subject}_desc-aparcaseg_dseg.nii.gz"
    assert atlas_for(run, pattern, storage_options=options) == (
        f"{url}/sub-01/anat/sub-01_desc-aparcaseg_dseg.nii.gz"
    )


def test_long_listings_come_in_pages(s3_tree, monkeypatch):
    """A store answers with 1,000 names at a time; this one with 8."""
    import s3fs

    _, options, asked = s3_tree
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "8")
    fs = s3fs.S3FileSystem(**options)
    images = [f"sub-{i}_task-rest_{END}" for i in range(20)]
    fs.pipe({f"bucket/many/{name}": b"" for name in images})
    asked.clear()
    assert names(quietly("s3://bucket/many", storage_options=options)) == images
    assert sum("list-type" in line for line in asked) == 3
    # a run that came since is found: listings are not remembered
    fs.pipe(f"bucket/many/sub-20_task-rest_{END}", b"")
    assert len(quietly("s3://bucket/many", storage_options=options)) == 21


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
