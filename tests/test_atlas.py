"""Atlases: labels, names and sizes, against nilearn where nilearn is right."""

from __future__ import annotations

import gzip
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array as da
import fsspec
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from dask.tokenize import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st

from daskroi.atlas import Atlas, load_atlas, load_label_atlas
from daskroi.convert import convert
from daskroi.errors import (
    DaskroiError,
    DaskroiNotFoundError,
    DaskroiTypeError,
    DaskroiWarning,
)
from daskroi.grid import Grid
from daskroi.image import grid_of, make_image
from daskroi.labelimage import as_labels
from daskroi.labeltable import read_label_table

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


def nifti(values: Any, affine: Any = AFFINE, kind: Any = nib.Nifti1Image) -> nib.Nifti1Image:
    values = np.asarray(values)
    # nibabel wants a NIfTI's int64 said aloud
    said = {"dtype": values.dtype} if values.dtype == np.int64 else {}
    return kind(values, affine, **said)


def labels_of(ids: Sequence[int], dtype: str = "i4") -> np.ndarray:
    """A 4 x 5 x 6 volume (x, y, z) in which label k of ``ids`` has k + 1 voxels; the rest is 0."""
    flat = np.zeros(120, dtype)
    start = 0
    for k, label in enumerate(ids):
        flat[start : start + k + 1] = label
        start += k + 1
    return flat.reshape(4, 5, 6)


def lut(*rows: tuple[int, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["index", "name"])


def named(atlas: Atlas) -> dict[int, str]:
    return dict(zip(atlas.ids.tolist(), atlas.names, strict=True))


# real atlases


def test_harvard_oxford_sizes_are_nilearns_exactly(real_data: Path) -> None:
    atlas = load_atlas(real_data / "atlases/HarvardOxford-cort-maxprob-thr25-2mm.nii.gz")
    expected = pd.read_table(real_data / "atlases/harvard_oxford_expected_sizes.tsv")
    assert len(expected) == 48
    assert atlas.ids.tolist() == expected["label_value"].tolist()
    assert atlas.names == expected["region_name"].tolist()
    assert atlas.table["size_mm3"].tolist() == expected["size_mm3"].tolist()
    assert (
        atlas.table["relative_size_percent"].tolist() == expected["relative_size_percent"].tolist()
    )
    assert atlas.name == "HarvardOxford-cort-maxprob-thr25-2mm"
    assert atlas.template == "MNI152NLin6Asym"
    assert repr(atlas) == (
        "<Atlas 'HarvardOxford-cort-maxprob-thr25-2mm': 48 regions, 91 x 109 x 91 voxels of "
        "2 x 2 x 2 mm, origin (90, -126, -72) mm, MNI152NLin6Asym>"
    )


@pytest.mark.parametrize(
    ("file", "n_regions", "first", "last"),
    [
        ("HarvardOxford-cort-maxprob-thr25-2mm", 48, "Frontal Pole", "Occipital Pole"),
        (
            "HarvardOxfordsub-maxprob-thr25_space-MNI152NLin6_res-2x2x2",
            21,
            "Left Cerebral White Matter",
            "Right Accumbens",
        ),
        ("AAL_space-MNI152NLin6_res-2x2x2", 116, "Precentral_L", "Vermis_10"),
        (
            "Schaefer400_space-MNI152NLin6_res-2x2x2",
            400,
            "7Networks_LH_Vis_1",
            "7Networks_RH_Default_pCunPCC_9",
        ),
    ],
)
def test_real_atlases(real_data: Path, file: str, n_regions: int, first: str, last: str) -> None:
    path = real_data / f"atlases/{file}.nii.gz"
    atlas = load_atlas(str(path))
    raw = nib.load(path)
    truth = np.asarray(raw.dataobj).T
    assert len(atlas.table) == n_regions
    assert (atlas.names[0], atlas.names[-1]) == (first, last)
    assert atlas.labels.dtype == np.int32
    assert atlas.labels.flags.c_contiguous
    np.testing.assert_array_equal(atlas.labels, truth)
    np.testing.assert_array_equal(atlas.grid.matrix, raw.affine)
    ids, counts = np.unique(truth[truth != 0], return_counts=True)
    assert atlas.ids.tolist() == ids.tolist()
    assert atlas.table["n_voxels"].tolist() == counts.tolist()
    assert atlas.table["size_mm3"].tolist() == [8 * n for n in counts.tolist()]
    assert (atlas.source, atlas.template) == (str(path), "MNI152NLin6Asym")


# names: nilearn's, in any order


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


# where the table is looked for, names


@pytest.mark.parametrize(
    ("image", "table", "found"),
    [
        ("X_dseg.nii.gz", "X_dseg.tsv", True),
        ("X.nii", "X_dseg.tsv", True),
        ("X.nii", "X.tsv", True),
        ("tpl-A_res-01_atlas-B_dseg.nii", "tpl-A_atlas-B_dseg.tsv", True),
        ("X_dseg.nii.gz", "X.tsv", False),
        ("X.nii", "Y.tsv", False),
    ],
)
def test_table_beside_the_image(tmp_path: Path, image: str, table: str, found: bool) -> None:
    nib.save(nifti(labels_of([1])), tmp_path / image)
    (tmp_path / table).write_text("index\tname\n1\tV1\n")
    assert load_atlas(tmp_path / image).names == (["V1"] if found else ["1"])
    assert load_atlas(tmp_path / image, labels=["given"]).names == ["given"]


def test_the_table_beside_a_zarr_image_and_at_a_file_url(tmp_path: Path) -> None:
    folder = tmp_path / "my atlases"
    folder.mkdir()
    nib.save(nifti(labels_of([1])), folder / "B_dseg.nii")
    convert(folder / "B_dseg.nii", folder / "B_dseg.nii.zarr")
    (folder / "B_dseg.tsv").write_text("index\tname\n1\tV1\n")
    for image in (folder / "B_dseg.nii.zarr", (folder / "B_dseg.nii").as_uri()):
        atlas = load_atlas(image)
        assert (atlas.name, atlas.names) == ("B_dseg", ["V1"])


def test_a_run_in_zarr_is_no_atlas(tmp_path: Path) -> None:
    nib.save(nifti(np.ones((4, 5, 6, 3), "f4")), tmp_path / "sub-1_bold.nii")
    convert(tmp_path / "sub-1_bold.nii", tmp_path / "sub-1_bold.nii.zarr")
    with pytest.raises(DaskroiError, match="looks like a run, not an atlas"):
        load_atlas(tmp_path / "sub-1_bold.nii.zarr")


@pytest.mark.parametrize(
    ("file", "name", "template"),
    [
        ("AAL.nii", "AAL", None),
        (
            "tpl-MNI152NLin2009cAsym_res-02_atlas-Schaefer2018_desc-400Parcels_dseg.nii.gz",
            "Schaefer2018",
            "MNI152NLin2009cAsym",
        ),
    ],
)
def test_name_and_template(tmp_path: Path, file: str, name: str, template: str | None) -> None:
    nib.save(nifti(labels_of([1])), tmp_path / file)
    for image in (tmp_path / file, nib.load(tmp_path / file)):
        atlas = load_atlas(image)
        assert (atlas.name, atlas.template) == (name, template)
        assert atlas.source == str(tmp_path / file)
    assert load_atlas(tmp_path / file, name="mine").name == "mine"


def test_url_with_its_table() -> None:
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/a/B_dseg.nii.gz", gzip.compress(nifti(labels_of([3])).to_bytes()))
    filesystem.pipe("/a/B_dseg.tsv", b"index\tname\n3\tV3\n")
    atlas = load_atlas("memory://a/B_dseg.nii.gz")
    assert (atlas.names, atlas.name) == (["V3"], "B_dseg")
    assert atlas.source == "memory://a/B_dseg.nii.gz"
    with pytest.raises(DaskroiNotFoundError, match=r"memory://a/C\.nii: no such file"):
        load_atlas("memory://a/C.nii")
    filesystem.pipe("/a/C.nii", b"not an image" * 100)
    with pytest.raises(DaskroiError, match=r"^memory://a/C\.nii: not a NIfTI"):
        load_atlas("memory://a/C.nii")


# what an image may come as


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "u2", "i4", ">f4", "f8"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_files_of_any_dtype(tmp_path: Path, dtype: str, kind: Any, ending: str) -> None:
    values = labels_of([1, 5, 100], dtype)
    nib.save(kind(values[..., None], AFFINE), tmp_path / f"a{ending}")
    reference = load_atlas(make_image(values.T.astype("i4"), Grid.make((6, 5, 4), AFFINE)))
    atlas = load_atlas(tmp_path / f"a{ending}")
    assert atlas.labels.dtype == np.int32
    np.testing.assert_array_equal(atlas.labels, values.T)
    assert atlas == reference
    assert atlas.hash == reference.hash


def test_in_memory_forms_are_the_same_atlas() -> None:
    values = labels_of([1, 5, 100])
    grid = Grid.make((6, 5, 4), AFFINE)
    image = make_image(da.from_array(values.T, chunks=2), grid, name="mine")
    forms = [nifti(values), nifti(values[..., None, None]), image, image.transpose("x", "z", "y")]
    forms.append(make_image(values.T[None], grid))
    first = load_atlas(forms[0])
    for form in forms[1:]:
        assert load_atlas(form) == first
    assert load_atlas(image).name == "mine"
    assert first.image.dims == ("z", "y", "x")
    assert grid_of(first.image) == grid
    np.testing.assert_array_equal(first.image.values, values.T)


def test_scaled_integers_are_scaled(tmp_path: Path) -> None:
    image = nifti(labels_of([1, 2, 30], "i2"))
    image.header.set_slope_inter(0.1, 2)
    raw = labels_of([10, 20, 300], "<i2")
    path = tmp_path / "a.nii"
    nib.save(image, path)
    content = path.read_bytes()[:352] + raw.tobytes(order="F")
    path.write_bytes(content)
    assert named(load_atlas(path, background_label=2)) == {3: "3", 4: "4", 32: "32"}
    path.write_bytes(content[:352] + labels_of([10, 25], "<i2").tobytes(order="F"))
    with pytest.raises(DaskroiError, match=r"whole numbers, but there are 4\.5"):
        load_atlas(path, background_label=2)


@pytest.mark.parametrize("as_object", [False, True])
def test_nilearn_bunch(as_object: bool) -> None:
    image = nifti(labels_of([1, 2]))
    table = lut((2, "B"), (1, "A"), (0, "Background"))
    both = {"maps": image, "labels": ["Background", "x", "y"], "lut": table}

    def bunch(**fields: Any) -> Any:
        return SimpleNamespace(**fields) if as_object else fields

    assert load_atlas(bunch(**both)).names == ["A", "B"]
    assert load_atlas(bunch(maps=image, labels=[b"Background", b"x", b"y"])).names == ["x", "y"]
    assert load_atlas(bunch(maps=image)).names == ["1", "2"]
    assert load_atlas(bunch(**both), labels=["p", "q"]).names == ["p", "q"]
    assert load_atlas(bunch(**both), lut=lut((1, "r"), (2, "s"))).names == ["r", "s"]
    said = load_atlas(bunch(maps=image, template="MNI152NLin6Asym"), name="HO")
    assert (said.template, said.name) == ("MNI152NLin6Asym", "HO")
    assert load_atlas(bunch(maps=image, template="MNI?")).template is None


def test_atlas_is_taken_as_it_is() -> None:
    atlas = load_atlas(nifti(labels_of([1, 2])), labels=["a", "b"], background_label=0)
    assert load_atlas(atlas) is atlas
    assert load_atlas(atlas, name="other").name == "other"
    assert load_atlas(atlas, name="other") == atlas
    renamed = load_atlas(atlas, labels=["c", "d"])
    assert renamed.names == ["c", "d"]
    assert renamed != atlas
    with pytest.warns(DaskroiWarning, match="no row for these labels of atlas: 0"):
        inverted = load_atlas(atlas, background_label=2)
    assert named(inverted) == {0: "unknown", 1: "a"}
    assert load_atlas(inverted) is inverted


def test_freesurfer_image(tmp_path: Path) -> None:
    nib.save(nifti(labels_of([1, 5]), kind=nib.MGHImage), tmp_path / "aseg.mgz")
    atlas = load_atlas(tmp_path / "aseg.mgz")
    assert (atlas.name, atlas.table["n_voxels"].tolist()) == ("aseg", [1, 2])
    np.testing.assert_array_equal(atlas.labels, labels_of([1, 5]).T)


# voxels


def test_background_and_non_finite_voxels() -> None:
    values = labels_of([1, 5], "f4")
    values[3, 4, 5], values[3, 4, 4], values[3, 4, 3] = np.nan, np.inf, -np.inf
    atlas = load_atlas(nifti(values), background_label=5)
    assert atlas.ids.tolist() == [0, 1]
    assert atlas.table["n_voxels"].tolist() == [114, 1]
    assert (atlas.labels[5, 4, 3], atlas.labels[4, 4, 3], atlas.labels[3, 4, 3]) == (5, 5, 5)
    report = [round(n / 115 * 100, 2) for n in (114, 1)]
    assert atlas.table["relative_size_percent"].tolist() == report


def test_wide_ids_need_int64() -> None:
    values = labels_of([2**31, 5], "i8")
    atlas = load_atlas(nifti(values, kind=nib.Nifti2Image))
    assert atlas.labels.dtype == np.int64
    assert atlas.ids.tolist() == [5, 2**31]
    # 2**31 - 1 is no float32: the background must not go through the voxels' type
    assert as_labels(np.full((1, 1, 1), np.nan, "f4"), 2**31 - 1).item() == 2**31 - 1
    with pytest.raises(DaskroiError, match="do not fit 64-bit"):
        as_labels(np.full((1, 1, 1), 2**63, "u8"))


def test_equality_hash_token_and_pickle() -> None:
    def make(ids: Any = (1, 2), names: Any = ("a", "b"), **options: Any) -> Atlas:
        affine = options.pop("affine", AFFINE)
        return load_atlas(nifti(labels_of(ids), affine), labels=names, **options)

    atlas = make()
    back = pickle.loads(pickle.dumps(atlas))
    assert back == atlas
    assert back.table.equals(atlas.table)
    assert make() == atlas
    assert hash(make()) == hash(atlas)
    assert tokenize(make()) == tokenize(atlas)
    assert atlas != "atlas"
    others = [
        make([1, 3]),
        make(names=("a", "c")),
        make(affine=AFFINE * 2),
        make(background_label=-9, names=("0", "a", "b")),
    ]
    assert len({a.hash for a in [atlas, *others]}) == 5
    assert len({tokenize(a) for a in [atlas, *others]}) == 5
    with pytest.raises(ValueError, match="read-only"):
        atlas.labels[0, 0, 0] = 3


def test_the_input_is_neither_changed_nor_locked() -> None:
    values = labels_of([1, 2])
    load_atlas(nifti(values))
    load_atlas(make_image(values.T, Grid.make((6, 5, 4), AFFINE)))
    values[:] = 0


def test_html_is_escaped() -> None:
    atlas = load_atlas(nifti(labels_of([1, 2])), labels=["<b>x", "y"], name="a<i>")
    html = atlas._repr_html_()
    assert "&lt;b&gt;x" in html
    assert "a&lt;i&gt;" in html
    assert "<table" in html


# bad input


def test_bad_parameters() -> None:
    image = nifti(labels_of([1]))
    with pytest.raises(DaskroiError, match="lut and labels are both given"):
        load_atlas(image, lut((1, "a")), ["a"])
    with pytest.raises(DaskroiTypeError, match=r"labels must be a list of str.*not str"):
        load_atlas(image, labels="abc")
    with pytest.raises(DaskroiTypeError, match="these are not: 1, None"):
        load_atlas(image, labels=["a", 1, None])  # type: ignore[list-item]
    with pytest.raises(DaskroiTypeError, match=r"background_label=0\.5 is not a whole number"):
        load_atlas(image, background_label=0.5)  # type: ignore[arg-type]
    with pytest.raises(DaskroiTypeError, match="cannot be read from set"):
        load_atlas({1, 2})
    with pytest.raises(DaskroiError, match=r"lut and labels are both given"):
        load_atlas(image, lut((1, "a")), lut((1, "a")))
    with pytest.raises(DaskroiError, match=r"lut: none of its ids \(7, 9\) is in .* \(1\)"):
        load_atlas(image, lut=lut((9, "x"), (0, "bg"), (7, "y")))


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (nifti(labels_of([1], "f4") * 0.5), r"whole numbers, but there are 0\.5, … Resample"),
        (nifti(np.linspace(0, 1, 120, dtype="f4").reshape(4, 5, 6)), r"whole numbers"),
        (nifti(np.zeros((4, 5, 6), "u1")), r"contains no label.*background \(0\)"),
        (nifti(np.full((4, 5, 6), np.nan, "f4")), r"contains no label"),
        (
            nifti(np.ones((4, 5, 6, 1, 3), "u1")),
            r"has shape \(4, 5, 6, 1, 3\), a label",
        ),
        (nifti(np.ones((4, 5), "u1")), r"has shape \(4, 5\), a label image is 3D"),
        (nifti(np.ones((4, 5, 6), "c8")), r"holds complex64 voxels"),
        (nifti(np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])), r"voxels; labels"),
    ],
)
def test_images_that_are_no_label_image(image: nib.Nifti1Image, match: str) -> None:
    with pytest.raises(DaskroiError, match=match) as caught:
        load_atlas(image)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (labels_of([1], "f4") * 0.5, r"whole numbers, but there are 0\.5"),
        (np.zeros((4, 5, 6), "u1"), r"contains no label"),
        (np.ones((4, 5, 6, 1, 3), "u1"), r"5D"),
        (np.ones((4, 5, 6), "c8"), r"complex"),
        (np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")]), r"RGB"),
    ],
)
def test_files_that_are_no_label_image(tmp_path: Path, values: np.ndarray, match: str) -> None:
    nib.save(nifti(values), tmp_path / "bad.nii.gz")
    with pytest.raises(DaskroiError, match=match) as caught:
        load_atlas(tmp_path / "bad.nii.gz")
    assert str(tmp_path / "bad.nii.gz") in str(caught.value)


@pytest.mark.parametrize(("entry", "match"), [(0.0, "singular"), (np.nan, "non-finite")])
def test_bad_affine(tmp_path: Path, entry: float, match: str) -> None:
    content = bytearray(nifti(labels_of([1])).to_bytes())
    content[296:312] = np.full(4, entry, "<f4").tobytes()  # srow_y
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(DaskroiError, match=rf"a\.nii: the affine .*{match}"):
        load_atlas(tmp_path / "a.nii")


def test_dataarrays_that_are_no_label_image() -> None:
    grid = Grid.make((6, 5, 4), AFFINE)
    run = make_image(np.ones((3, 6, 5, 4), "u1"), grid, name="run")
    with pytest.raises(DaskroiError, match=r"run: has dims .* 'echo' first"):
        load_atlas(run.rename(time="echo"))
    with pytest.raises(DaskroiError, match="no 'affine' coordinate"):
        load_atlas(run[0].drop_vars("affine"))


def test_where_only_a_label_image_will_do(tmp_path: Path) -> None:
    image = nifti(labels_of([1, 2]))
    atlas = load_label_atlas(image, labels=["a", "b"])
    assert atlas == load_atlas(image, labels=["a", "b"])
    assert load_label_atlas(atlas) is atlas
    assert load_label_atlas({"maps": image, "labels": ["a", "b"]}) == atlas
    maps = nifti(np.ones((4, 5, 6, 3), "u1"))
    nib.save(maps, tmp_path / "maps.nii")
    # only the header is read: a run given by mistake must not be
    (tmp_path / "damaged.nii").write_bytes((tmp_path / "maps.nii").read_bytes()[:352] + bytes(360))
    run = make_image(np.ones((3, 6, 5, 4), "u1"), Grid.make((6, 5, 4), AFFINE), name="run")
    for many in (maps, run, tmp_path / "maps.nii", tmp_path / "damaged.nii", {"maps": maps}):
        with pytest.raises(DaskroiError, match=r"has 3 volumes, a label image has one. Give"):
            load_label_atlas(many)
    for soft in (load_atlas(maps), load_atlas([(0, 0, 0)]), np.zeros((2, 3))):
        with pytest.raises(DaskroiTypeError, match="Atlas was given where only a label image"):
            load_label_atlas(soft)


def test_damaged_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = nifti(rng.integers(1, 1000, (20, 20, 20), dtype="i4"))
    plain = image.to_bytes()
    packed = gzip.compress(plain)
    flipped = bytearray(packed)
    flipped[-6] ^= 1  # in the checksum
    cases = {
        "short.nii": (plain[:-100], r"truncated.*32352.*32252"),
        "short.nii.gz": (packed[: len(packed) // 2], r"truncated"),
        "checksum.nii.gz": (bytes(flipped), r"[Cc]orrupt|CRC"),
        "text.nii": (b"hello " * 200, r"not a NIfTI"),
        "text.nii.gz": (b"hello " * 200, r"no gzip|not a NIfTI"),
        "empty.nii": (b"", r"empty"),
    }
    for name, (content, match) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DaskroiError, match=match) as caught:
            load_atlas(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(DaskroiNotFoundError, match=r"none\.nii: no such file"):
        load_atlas(tmp_path / "none.nii")
    with pytest.raises(DaskroiNotFoundError, match=r"none\.tsv: no such file"):
        load_atlas(image, lut=tmp_path / "none.tsv")
