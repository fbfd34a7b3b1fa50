"""What is no atlas: bad parameters, images without labels, runs, damaged files."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from labelimages import AFFINE, labels_of, lut, nifti

from daskroi.atlas import load_atlas, load_label_atlas
from daskroi.convert import convert
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError
from daskroi.grid import Grid
from daskroi.image import make_image


def test_a_run_in_zarr_is_no_atlas(tmp_path: Path) -> None:
    nib.save(nifti(np.ones((4, 5, 6, 3), "f4")), tmp_path / "sub-1_bold.nii")
    convert(tmp_path / "sub-1_bold.nii", tmp_path / "sub-1_bold.nii.zarr")
    with pytest.raises(DaskroiError, match="looks like a run, not an atlas"):
        load_atlas(tmp_path / "sub-1_bold.nii.zarr")


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
