"""Names of an atlas' regions: from tables in any order and from lists, as nilearn does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelimages import labels_of, lut, named, nifti

from daskroi.atlas import load_atlas
from daskroi.errors import DaskroiWarning
from daskroi.labeltable import read_label_table


def nilearn_names(image: nib.Nifti1Image, background: int, **parameters: Any) -> dict[int, str]:
    from nilearn.maskers import NiftiLabelsMasker

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masker = NiftiLabelsMasker(
            image, background_label=background, reports=False, **parameters
        ).fit()
        ids = {k: int(v) for k, v in masker.region_ids_.items() if k != "background"}
        table = masker.lut_[masker.lut_["index"] != background]
        assert list(masker.region_names_.values()) == table["name"].tolist()
        return {ids[k]: n for k, n in masker.region_names_.items()}


@st.composite
def atlases(draw: st.DrawFn) -> tuple[nib.Nifti1Image, list[int], int]:
    # int32 like nilearn's own; unique per region, gaps and negative ids included
    ids = draw(st.lists(st.integers(-5, 3000), min_size=1, max_size=8, unique=True))
    background = draw(st.sampled_from([0, -1, 7, *ids]))
    values = labels_of(ids)
    values[values == 0] = background if draw(st.booleans()) else ids[0]
    present = sorted({int(v) for v in np.unique(values)} - {background})
    if not present:
        values[-1, -1, -1] = background + 1
        present = [background + 1]
    return nifti(values), present, background


names = st.text("abc ÄQ", min_size=1, max_size=5).map(lambda n: f"r{n}x")


@settings(max_examples=40, deadline=None)
@given(data=st.data(), case=atlases())
def test_lut_in_any_order_is_joined_by_id_as_nilearn_does(data: Any, case: Any) -> None:
    image, ids, background = case
    in_table = data.draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
    absent = data.draw(st.lists(st.integers(4000, 4010), max_size=3, unique=True))
    rows = [(i, f"region {i}") for i in [*in_table, *absent]]
    if data.draw(st.booleans()):
        rows.append((background, "Unknown"))
    table = lut(*data.draw(st.permutations(rows)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if set(in_table) != set(ids) else "error")
        atlas = load_atlas(image, lut=table, background_label=background)
    expected = nilearn_names(image, background, lut=table)
    # what only the table has, nilearn drops and we keep
    assert {i: n for i, n in named(atlas).items() if i not in absent} == expected
    assert atlas.ids.tolist() == sorted([*ids, *absent])
    assert atlas.table.loc[atlas.table["index"].isin(absent), "n_voxels"].tolist() == [0] * len(
        absent
    )


@settings(max_examples=40, deadline=None)
@given(data=st.data(), case=atlases())
def test_labels_go_by_position_as_in_nilearn(data: Any, case: Any) -> None:
    image, ids, background = case
    given_names = data.draw(st.lists(names, min_size=1, max_size=len(ids) + 3))
    values = {int(v) for v in np.unique(np.asarray(image.dataobj))}
    place = sum(i < background for i in ids)
    # nilearn counts a "Background" entry as any other: it must stand where the background does
    if background in values and place <= len(given_names) and data.draw(st.booleans()):
        given_names.insert(place, data.draw(st.sampled_from(["Background", "background"])))
    elif background in values and place > len(given_names):
        return  # nilearn then inserts the background's name before the end of the regions' names
    expected = nilearn_names(image, background, labels=list(given_names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        atlas = load_atlas(image, labels=given_names, background_label=background)
    assert named(atlas) == expected


def test_no_names_at_all() -> None:
    image = nifti(labels_of([5, -3, 12]))
    assert named(load_atlas(image)) == {-3: "-3", 5: "5", 12: "12"}
    assert named(load_atlas(image)) == nilearn_names(image, 0)
    assert named(load_atlas(image, labels=[])) == {-3: "-3", 5: "5", 12: "12"}


def test_background_entry_is_taken_out_wherever_it_stands() -> None:
    image = nifti(labels_of([1, 2]))
    for listed in (["Background", "a", "b"], ["a", "b"], ("background", "a", "b")):
        assert named(load_atlas(image, labels=listed)) == {1: "a", 2: "b"}
    with pytest.warns(DaskroiWarning, match=r"'Background' is at position 2.*\(0\) comes at 0"):
        assert named(load_atlas(image, labels=["a", "b", "Background"])) == {1: "a", 2: "b"}
    full = nifti(np.where(labels_of([1, 2]) == 2, 2, 1))  # no voxel is background
    assert named(load_atlas(full, labels=["Background", "a", "b"])) == {1: "a", 2: "b"}


def test_too_many_and_too_few_names() -> None:
    image = nifti(labels_of([4, 9]))
    with pytest.warns(
        DaskroiWarning, match=r"4 names for the 2 regions.*dropped: 'c', 'd'"
    ) as seen:
        assert named(load_atlas(image, labels=["a", "b", "c", "d"])) == {4: "a", 9: "b"}
    assert seen[0].filename == __file__
    with pytest.warns(DaskroiWarning, match=r"1 names for the 2 regions.*'unknown': 9\."):
        assert named(load_atlas(image, labels=["a"])) == {4: "a", 9: "unknown"}


def test_ids_missing_from_the_table() -> None:
    image = nifti(labels_of([1, 2, 3]))
    with pytest.warns(DaskroiWarning, match=r"lut: has no row for these labels.*: 1, 3\."):
        atlas = load_atlas(image, lut=lut((2, "b")))
    assert named(atlas) == {1: "unknown", 2: "b", 3: "unknown"}


def test_extra_columns_stay_and_computed_ones_are_computed_again() -> None:
    table = lut((2, "b"), (1, "a"), (0, "bg"), (8, "gone"))
    table["color"] = ["#2", "#1", "#0", "#8"]
    atlas = load_atlas(nifti(labels_of([1, 2])), lut=table)
    assert list(atlas.table) == [
        "index",
        "name",
        "n_voxels",
        "size_mm3",
        "relative_size_percent",
        "color",
    ]
    assert atlas.table["color"].tolist() == ["#1", "#2", "#8"]
    assert atlas.table["n_voxels"].tolist() == [1, 2, 0]
    assert atlas.table["size_mm3"].tolist() == [12.0, 24.0, 0.0]
    assert atlas.table["relative_size_percent"].tolist() == [33.33, 66.67, 0.0]
    assert "3 regions (1 without voxels)" in repr(atlas)
    again = load_atlas(nifti(labels_of([1, 2, 2])), lut=atlas.table)
    assert again.table["n_voxels"].tolist() == [1, 5, 0]


def test_freesurfer_table_is_a_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "LUT.txt"
    path.write_text("0 Unknown 0 0 0 0\n10 Thalamus 0 118 14 0\n11 Caudate 1 2 3 0\n")
    atlas = load_atlas(nifti(labels_of([11])), lut=path)
    assert named(atlas) == {11: "Caudate"}
    assert load_atlas(nifti(labels_of([11])), lut=read_label_table(path)) == atlas
    assert atlas.table["color"].tolist() == ["#010203"]
