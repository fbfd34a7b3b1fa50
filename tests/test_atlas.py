"""Atlases: real ones, what a label image may come as, and its voxels."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array as da
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from dask.tokenize import tokenize
from labelimages import AFFINE, labels_of, lut, named, nifti

from daskroi.atlas import Atlas, load_atlas
from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.grid import Grid
from daskroi.image import grid_of, make_image
from daskroi.labelimage import as_labels


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
