"""BIDS names, paths and filters: text in, text out."""

from __future__ import annotations

import json
import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskroi.entities import ENTITIES, checked_label, entity_folder, in_order, long_name, parse_name
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError, DaskroiWarning
from daskroi.paths import (
    bids_uri,
    child_of,
    dataset_root,
    fill_pattern,
    natural_key,
    printable,
    split_path,
)
from daskroi.selection import Selection

LABELS = st.text("abXY019+", min_size=1, max_size=4)
NAMES = st.dictionaries(st.sampled_from(sorted(ENTITIES)), LABELS, min_size=1, max_size=6)


@given(NAMES, st.sampled_from(["bold", "mask", "T1w"]), st.sampled_from([".nii.gz", ".json", ""]))
def test_names_come_apart_as_they_were_put_together(entities, suffix, extension):
    pairs = [f"{ENTITIES[e]}-{entities[e]}" for e in in_order(entities)]
    found = parse_name("_".join([*pairs, suffix]) + extension)
    assert (dict(found.entities), found.suffix, found.extension) == (entities, suffix, extension)
    assert list(found.entities) == in_order(entities)


@given(st.text(max_size=30))
def test_any_text_is_a_name_or_none(text):
    found = parse_name(text)
    for entity, label in found.entities.items() if found else ():
        assert checked_label(entity, label) == label


@pytest.mark.parametrize(
    "name",
    [
        "bold.nii.gz",
        "sub-01_sub-02_bold.nii.gz",
        "sub-_bold.nii.gz",
        "sub-0-1_bold.nii.gz",
        "sub-01_.nii.gz",
        "sub-01_task-rést_bold.nii.gz",
        "sub-０１_bold.nii.gz",
        "sub-01\n_bold.nii.gz",
        "sub-01_bold\n",
        "sub-01_ta/sk-rest_bold.nii",
        "sub-01_task-rest bold.nii",
        "",
    ],
)
def test_what_is_no_bids_name(name):
    assert parse_name(name) is None


def test_unknown_entities_are_kept_by_their_key():
    found = parse_name("sub-01_vcu-3_desc-preproc_bold.nii")
    assert found.entities == {"subject": "01", "vcu": "3", "description": "preproc"}
    assert in_order(found.entities) == ["subject", "vcu", "description"]


@pytest.mark.parametrize(
    "label",
    ["..", "../x", "a/b", "a\0b", "a\n", "", "a-b", "a_b", "а", "١", "a.b", " a", "~", None],
)
def test_labels_that_never_form_a_path(label):
    with pytest.raises(DaskroiError, match="cannot stand in a file name"):
        checked_label("task", label)
    if label:
        with pytest.raises(DaskroiError, match="cannot stand in a file name"):
            entity_folder({"subject": "01", "session": label})
        with pytest.raises(DaskroiError, match="cannot stand in a file name"):
            fill_pattern("x/{task}.nii", {"task": label})


def test_folders_of_runs():
    assert entity_folder({"subject": "01", "session": None}) == "sub-01/func"
    assert entity_folder({"subject": "01", "session": float("nan")}) == "sub-01/func"
    assert entity_folder({"task": "rest"}) == ""
    assert [long_name(k) for k in ("sub", "res", "den", "desc", "subject", "vcu")] == [
        "subject", "resolution", "density", "description", "subject", "vcu",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("folder", "name", "whole"),
    [
        ("/data", "x", "/data/x"),
        ("/", "x", "/x"),
        ("s3://b/p", "x", "s3://b/p/x"),
        ("simplecache::s3://b/p", "x", "simplecache::s3://b/p/x"),
        ("zip://p::s3://b/all.zip", "x", "zip://p/x::s3://b/all.zip"),
        ("simplecache::zip://p::/all.zip", "x", "simplecache::zip://p/x::/all.zip"),
    ],
)
def test_paths_are_joined_and_split(folder, name, whole):
    assert child_of(folder, name) == whole
    assert split_path(whole) == (folder, name)


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/d/sub-01/func/sub-01_bold.nii", "/d"),
        ("/d/sub-01/ses-a/func/sub-01_bold.nii", "/d"),
        ("/d/sub-01", "/d"),
        ("/d/flat/sub-01_bold.nii", "/d/flat"),
        ("/sub-01/func/x.nii", "/"),
        # the innermost: a study whose own folder is named like a subject
        ("/sub-study/fmriprep/sub-01/func/x.nii", "/sub-study/fmriprep"),
        ("https://h.org/d/sub-01/func/x.nii", "https://h.org/d"),
        ("zip://d/sub-01/func/x.nii::s3://b/sub-9/all.zip", "zip://d::s3://b/sub-9/all.zip"),
    ],
)
def test_the_root_of_a_dataset(path, root):
    assert dataset_root(path) == root


def test_bids_uris():
    path = "/d/sub-01/func/x.nii"
    assert bids_uri(path) == "bids::sub-01/func/x.nii"
    assert bids_uri(path, "/d/", "fmriprep") == "bids:fmriprep:sub-01/func/x.nii"
    assert bids_uri(path, "/d/sub") == path
    assert bids_uri("s3://b/d/sub-01/x.nii", "s3://b/d") == "bids::sub-01/x.nii"


@pytest.mark.parametrize(
    ("pattern", "filled"),
    [
        ("anat/sub-{subject}_dseg.nii.gz", "anat/sub-01_dseg.nii.gz"),
        ("sub-{sub}[_ses-{ses}][_space-{space}]_dseg.nii", "sub-01_space-T1w_dseg.nii"),
        ("{root}/sub-{subject}[/ses-{session}]/x.nii", "/d/sub-01/x.nii"),
        ("[_acq-{acquisition}_run-{run}]x", "x"),
        ("atlas.nii", "atlas.nii"),
    ],
)
def test_patterns(pattern, filled):
    run = {"subject": "01", "session": None, "space": "T1w", "image": "/d/../x", "problem": "y/z"}
    assert fill_pattern(pattern, run, root="/d") == filled


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("sub-{subject}_ses-{session}.nii", r"the run has no session.*\[_ses-\{session\}\]"),
        ("{image}", r"\{image\} is not an entity"),
        ("{subject.__class__}", "is not an entity"),
        ("x[_run-{run}", "do not match"),
        ("x]", "do not match"),
        ("[a[b]]", "do not match"),
    ],
)
def test_patterns_that_are_wrong(pattern, message):
    with pytest.raises(DaskroiError, match=message):
        fill_pattern(pattern, {"subject": "01", "session": None, "image": "/x"})


@given(st.lists(st.text("ab01_9-", max_size=8)))
def test_natural_order_is_total(names):
    names.sort(key=natural_key)
    backwards = names[::-1]
    backwards.sort(key=natural_key)
    assert backwards == names
    for one, two in pairwise(f"sub-{n}" for n in (1, 2, 9, 10, 11, 100)):
        assert natural_key(one) < natural_key(two)


def test_names_are_told_in_one_line():
    assert printable("a\nb\0") == "a\\nb\\x00"
    assert "\udc80" not in printable(os.fsdecode(b"a\x80"))
    assert printable("ü") == "ü"


@pytest.mark.parametrize(
    ("asked", "entities", "taken"),
    [
        ({"task": "rest"}, {"task": "rest"}, True),
        ({"task": "task-rest"}, {"task": "rest"}, True),
        ({"participant_label": "sub-01"}, {"subject": "01"}, True),
        ({"participant_label": "1"}, {"subject": "01"}, False),
        ({"run": 1}, {"run": "01"}, True),
        ({"run_id": ["01", "2"]}, {"run": "1"}, True),
        ({"run": "1"}, {"run": "1a"}, False),
        ({"run": 1}, {}, False),
        ({"res": 2}, {"resolution": "2"}, True),
        ({"res": "02"}, {"resolution": "2"}, False),
        ({"acq": "*"}, {"acquisition": "mb"}, True),
        ({"acquisition": "*"}, {}, False),
        ({"task": None}, {}, True),
        ({"task": ["a", "b"], "run": 1}, {"task": "a", "run": "2"}, False),
    ],
)
def test_what_is_taken(asked, entities, taken):
    assert (Selection.of(asked).failed(entities) is None) == taken


@pytest.mark.parametrize(
    ("bold", "entities", "taken"),
    [
        ({"session": None}, {}, True),
        ({"session": None}, {"session": "a"}, False),
        ({"session": [None, "a"]}, {"session": "a"}, True),
        ({"session": [None, "a"]}, {"session": "b"}, False),
        ({"session": "*"}, {"session": "b"}, True),
        ({"session": "*"}, {}, False),
        ({"session": "Query.NONE"}, {}, True),
        ({"session": "<Query.NONE: 1>"}, {"session": "a"}, False),
        ({"session": "Query.ANY"}, {}, False),
        ({"session": "Query.OPTIONAL"}, {}, True),
        ({"session": "Query.OPTIONAL"}, {"session": "a"}, True),
        ({"task": "^re", "regex_search": True}, {"task": "rest"}, True),
        ({"task": "^est", "regex_search": True}, {"task": "rest"}, False),
        ({"task": "^re"}, {"task": "rest"}, False),
        ({"suffix": "bold", "datatype": "func"}, {"suffix": "bold", "datatype": "func"}, True),
        ({"extension": "nii.gz"}, {"extension": ".nii.gz"}, True),
        ({"extension": [".nii", "nii.zarr"]}, {"extension": ".nii.gz"}, False),
        ({"scope": "raw"}, {}, True),
    ],
)
def test_filters_as_fmriprep_has_them(bold, entities, taken):
    assert (Selection.of({}, {"bold": bold}).failed(entities) is None) == taken


def test_filter_files(tmp_path):
    path = tmp_path / "filter.json"
    path.write_text(json.dumps({"t1w": {"session": "x"}, "bold": {"task": ["rest"]}}))
    assert str(Selection.of({}, path)) == str(Selection.of({}, str(path))) == "task=rest"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert str(Selection.of({}, path)) == "task=rest"
    path.write_text("{")
    with pytest.raises(DaskroiError, match=r"filter\.json: is no JSON"):
        Selection.of({}, path)
    with pytest.raises(DaskroiNotFoundError, match="no such file"):
        Selection.of({}, tmp_path / "none.json")
    with pytest.raises(DaskroiError, match="is a folder"):
        Selection.of({}, tmp_path)
    with pytest.warns(DaskroiWarning, match="no entry 'bold'"):
        Selection.of({}, {"t1w": {"session": "x"}})


@pytest.mark.parametrize(
    ("asked", "bids_filter", "error", "message"),
    [
        ({"task": []}, None, DaskroiError, "selects nothing"),
        ({"task": True}, None, DaskroiTypeError, "text or a whole number"),
        ({"run": 1.5}, None, DaskroiTypeError, "text or a whole number"),
        ({"task": {"a": 1}}, None, DaskroiTypeError, "a list of labels"),
        ({}, {"task": "rest"}, DaskroiError, "names the files it is for"),
        ({}, ["bold"], DaskroiError, "names the files it is for"),
        ({}, {"bold": {"task": "(", "regex_search": True}}, DaskroiError, "is no pattern"),
        ({"task": [None]}, None, DaskroiTypeError, "text or a whole number"),
    ],
)
def test_filters_that_are_wrong(asked, bids_filter, error, message):
    with pytest.raises(error, match=message):
        Selection.of(asked, bids_filter)


def test_folders_are_left_out_by_name():
    chosen = Selection.of({"participant_label": ["01", "sub-02"]}, {"bold": {"session": None}})
    entered = [n for n in ("sub-01", "sub-02", "sub-03", "ses-a", "func") if chosen.enters(n)]
    assert entered == ["sub-01", "sub-02", "func"]
