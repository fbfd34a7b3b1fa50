"""Files of atlases: the table beside the image, names and templates from paths and URLs."""

from __future__ import annotations

import gzip
from pathlib import Path

import fsspec
import nibabel as nib
import pytest
from labelimages import labels_of, nifti

from daskroi.atlas import load_atlas
from daskroi.convert import convert
from daskroi.errors import DaskroiError, DaskroiNotFoundError


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
