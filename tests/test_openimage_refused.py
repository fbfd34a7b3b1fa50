"""`open_image` of what is no image it can open: the message says which, and why."""

from __future__ import annotations

import bz2
import warnings
from pathlib import Path
from typing import Any

import dask
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from images import STRAIGHT, run, save
from niftis import nifti_bytes
from openedimages import NUMBERS

from daskroi.atlas import load_atlas
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError
from daskroi.openimage import open_image

pytestmark = pytest.mark.usefixtures("forgotten")

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (nib.Nifti1Image(np.zeros((3, 4, 5, 2, 2), "i2"), STRAIGHT), "shape .*3 or 4 dimensions"),
        (nib.Nifti1Image(np.zeros((3, 4), "i2"), STRAIGHT), r"shape \(3, 4\); an image has 3 or"),
        (nib.Nifti1Image(np.zeros((3, 0, 5), "i2"), STRAIGHT), "none of them empty"),
        (nib.Nifti1Image(np.zeros((3, 4, 5), "c8"), STRAIGHT), "holds complex64 voxels.*magnitud"),
        (
            nib.Nifti1Image(np.zeros((3, 4, 5), [(c, "u1") for c in "RGB"]), STRAIGHT),
            "the nibabel image: holds .* voxels",
        ),
        (nib.Nifti1Image(np.zeros((3, 4, 5), "i2"), None), "has no affine, so its voxels have no"),
    ],
)
def test_nibabel_images_that_are_refused(image: Any, message: str) -> None:
    with pytest.raises(DaskroiError, match=message):
        open_image(image)


def test_an_affine_that_was_broken_in_memory() -> None:
    image = run(RNG)
    image.affine[:] = 0
    with pytest.raises(DaskroiError, match="the nibabel image: the affine is singular"):
        open_image(image)


@pytest.mark.parametrize("values", ["complex", "rgb", "5d"])
@pytest.mark.parametrize("name", ["x.nii", "x.img"])
def test_files_that_are_refused(tmp_path: Path, values: str, name: str) -> None:
    array = {
        "complex": np.zeros((3, 4, 5), "c8"),
        "rgb": np.zeros((3, 4, 5), [(c, "u1") for c in "RGB"]),
        "5d": np.zeros((3, 4, 5, 2, 2), "i2"),
    }[values]
    kind = nib.Nifti1Image if name == "x.nii" else nib.Nifti1Pair
    path = save(kind(array, STRAIGHT), tmp_path / name)
    for image in (path, nib.load(path)):
        with pytest.raises(
            DaskroiError, match=rf"{name}: .*(complex|RGB|'R'|5D|\(3, 4, 5, 2, 2\))"
        ):
            open_image(image)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 5, 6)), [1, 2], None, 3, xr.Dataset(), ["a.nii", "b.nii"], b"a.nii"]
)
def test_other_things_are_refused(image: Any) -> None:
    message = rf"a path, a URL, a nibabel image or a DataArray, not {type(image).__name__}\."
    with pytest.raises(
        DaskroiTypeError, match=message + r".*(daskroi\.make_image|one run at a time)"
    ):
        open_image(image)


def test_what_is_delayed_is_refused_at_once() -> None:
    for use in (open_image, load_atlas):
        with pytest.raises(DaskroiTypeError, match=r"Delayed.*Call compute\(\) first"):
            use(dask.delayed("x.nii"))


@pytest.mark.parametrize("name", ["x.png", "x.tsv", "noending", "x.mgz", "x.mnc", "x.gii", "x.PAR"])
@pytest.mark.parametrize("content", [b"some text\n" * 100, b"\x89PNG\r\n\x1a\n" + bytes(1000)])
def test_not_an_image(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DaskroiError, match=name) as caught:
            open_image(path)
    assert "\n" not in str(caught.value)


def test_surfaces_are_not_images(tmp_path: Path) -> None:
    gifti = nib.GiftiImage(darrays=[nib.gifti.GiftiDataArray(np.zeros((4, 3), "f4"))])
    nib.save(gifti, tmp_path / "x.gii")
    with pytest.raises(DaskroiError, match=r"x\.gii"):
        open_image(tmp_path / "x.gii")
    with pytest.raises(DaskroiTypeError, match="not GiftiImage"):
        open_image(gifti)


def test_header_without_its_voxels(tmp_path: Path) -> None:
    save(nib.Nifti1Pair(NUMBERS, STRAIGHT), tmp_path / "x.img")
    (tmp_path / "x.img").unlink()
    with pytest.raises(DaskroiError, match=r"x\.(hdr|img)"):
        open_image(tmp_path / "x.hdr")


def test_compressed_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.bz2"
    path.write_bytes(bz2.compress(nifti_bytes(NUMBERS)))
    with pytest.raises(DaskroiError, match=r"x\.nii\.bz2"):
        open_image(path)


def test_missing_files(tmp_path: Path) -> None:
    for name in ("x.nii", "x.nii.gz", "x.img", "x"):
        with pytest.raises(DaskroiNotFoundError, match=rf"{name}: no such file\. Check the path"):
            open_image(tmp_path / name)
    with pytest.raises(DaskroiError, match="is a folder"):
        open_image(tmp_path)
