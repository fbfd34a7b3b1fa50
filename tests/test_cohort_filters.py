"""Finding runs of some participants, sessions, tasks, spaces: what the filters take."""

from __future__ import annotations

import os

import pytest
from bids_tree import MNI
from hypothesis import given
from hypothesis import strategies as st

from daskroi.cohort import find_runs
from daskroi.errors import DaskroiError, DaskroiWarning


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
