"""Finding runs in folders as they are: copies, links, bad names, closed, raw or empty ones."""

from __future__ import annotations

import os

import pytest
from bids_tree import make_tree
from foundruns import END, names, quietly, touch

from daskroi.cohort import describe_runs, find_runs
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError, DaskroiWarning
from daskroi.places import output_prefixes


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


def test_names_from_a_disk_are_told_in_one_line(tmp_path):
    make_tree(tmp_path, ["01"], spaces=["T1w"])
    bad = os.fsdecode(b"sub-0\xff\n1_desc-preproc_bold.nii.gz")
    touch(tmp_path / "sub-01" / "func", bad)
    runs = quietly(tmp_path)
    told = describe_runs(runs)
    assert told.encode()
    assert "\\udcff\\n1_desc-preproc_bold.nii.gz" in told
