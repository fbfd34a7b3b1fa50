"""Where a run's atlas is, and where its results go."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from bids_tree import MNI, make_tree
from foundruns import quietly, touch
from hypothesis import given
from hypothesis import strategies as st

from daskroi.cohort import find_runs
from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.places import atlas_for, output_prefixes


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
