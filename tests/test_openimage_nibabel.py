"""`open_image` of nibabel's images and of DataArrays: proxies of files, changed ones, in memory."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import dask.array as da
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from daskprocesses import local_cluster
from images import OBLIQUE, STRAIGHT, labels, run, save
from openedimages import NUMBERS, check, nibabels

from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.extract import extract
from daskroi.grid import Grid
from daskroi.image import grid_of, make_image, repetition_of
from daskroi.nifti import NiftiFile
from daskroi.openimage import as_file, as_stored_file, open_image
from daskroi.repetition import RepetitionTime

pytestmark = pytest.mark.usefixtures("forgotten")

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.img", "x.hdr", "x.mgz", "x.mgh"])
@pytest.mark.parametrize("dtype", ["i2", "f4", "u1"])
@pytest.mark.parametrize("n_dim", [3, 4])
# nibabel leaves an .mgh open after reading its header
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_files_by_path_and_as_proxy(tmp_path: Path, name: str, dtype: str, n_dim: int) -> None:
    values = (NUMBERS % 100).astype(dtype)[..., : 10 if n_dim == 4 else 1].squeeze()
    kind = nib.MGHImage if "mg" in name else nib.Nifti1Image
    if name[-3:] in ("img", "hdr"):
        kind = nib.Nifti1Pair
    path = save(kind(values, OBLIQUE.astype("f4")), tmp_path / name)
    check(open_image(path), path)
    check(open_image(nib.load(path)), path)
    assert as_file(nib.load(path)) is not None


@pytest.mark.parametrize("kind", [nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage, nib.AnalyzeImage])
def test_analyze(tmp_path: Path, kind: Any) -> None:
    image = kind(NUMBERS, STRAIGHT)
    path = save(image, tmp_path / "x.img")
    check(open_image(path), path)


def test_a_proxy_is_the_same_file_as_its_path(tmp_path: Path) -> None:
    image = run(RNG)
    image.header["descrip"] = b"something"
    path = save(image, tmp_path / "x.nii.gz")
    found = open_image(nib.load(path))
    assert as_stored_file(found) == NiftiFile.open(path)
    assert found.data.name == open_image(path).data.name


def test_what_was_changed_in_memory_counts(tmp_path: Path) -> None:
    path = save(run(RNG, t_r=2.0), tmp_path / "x.nii")
    image = nib.load(path)
    image.header.set_zooms((2, 2, 2, 1.25))
    image.affine[:] = OBLIQUE
    found = open_image(image)
    np.testing.assert_array_equal(grid_of(found).matrix, OBLIQUE)
    assert repetition_of(found) == RepetitionTime(1.25, "header")
    np.testing.assert_array_equal(found.values, nibabels(path))


def test_a_cut_proxy_is_in_memory(tmp_path: Path) -> None:
    path = save(run(RNG), tmp_path / "x.nii")
    image = nib.load(path).slicer[::-1, 1:, :, 2:5]
    check(open_image(image), image)
    assert as_file(image) is None


@pytest.mark.parametrize("dtype", ["i2", "f4", "f8", "u1", ">i4", ">f4", "u8"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_in_memory(dtype: str, kind: Any) -> None:
    values = NUMBERS.astype(dtype)
    image = kind(values, OBLIQUE, dtype=values.dtype)
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 1500
    found = open_image(image, 4)
    np.testing.assert_array_equal(found.values, values.T)
    assert found.chunks[0] == (4, 4, 2)
    assert repetition_of(found) == RepetitionTime(1.5, "header")
    assert as_file(image) is None
    assert as_stored_file(found) is None


def test_in_memory_bool_and_trailing_dims() -> None:
    image = nib.Nifti1Image(NUMBERS[..., None, None], OBLIQUE)
    assert open_image(image).shape == (10, 7, 6, 5)
    mask = nib.spatialimages.SpatialImage(NUMBERS[..., 0] > 0, OBLIQUE)
    found = open_image(mask)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found.values, (NUMBERS[..., 0] > 0).T)


def test_a_data_array_stays_what_it_is() -> None:
    grid = Grid.make((7, 6, 5), OBLIQUE)
    image = make_image(da.from_array(NUMBERS.T, chunks=3), grid, t_r=2.0)
    assert open_image(image).identical(image)
    assert open_image(image, chunks=1).chunks == image.chunks
    assert open_image(image.transpose("x", "time", "z", "y")).identical(image)
    with pytest.raises(DaskroiError, match="no 'affine' coordinate"):
        open_image(image.drop_vars("affine"))
    with pytest.raises(DaskroiError, match="Select along 'dim_0', 'dim_1' first"):
        open_image(xr.DataArray(np.zeros((3, 4))))


def test_stored_file_is_recognised_only_untouched(tmp_path: Path) -> None:
    path = save(run(RNG), tmp_path / "x.nii.gz")
    image = open_image(path, 3)
    file = NiftiFile.open(path)
    assert as_stored_file(image) == as_file(image) == as_file(path) == file
    # what counts is where the values are from, not what somebody wrote on them
    assert as_stored_file(image.assign_attrs(source="/nowhere/x.nii.gz")) == file
    assert as_stored_file(image.drop_attrs()) == file
    assert as_stored_file(pickle.loads(pickle.dumps(image))) == file
    for changed in (
        image * 1,
        image.isel(time=slice(1, None)),
        image.isel(x=slice(None, None, -1)),
        image.astype("f8"),
        image.chunk(time=2),
        image.transpose("x", "y", "z", "time"),
        image.compute(),
        image.persist(),
        pickle.loads(pickle.dumps(image.persist())),
        image.where(image > 3),
    ):
        assert as_stored_file(changed) is None
    os.utime(path, ns=(0, 1))
    with pytest.raises(DaskroiError, match="changed after it was opened"):
        image.compute()


@pytest.mark.timeout(120)
def test_what_a_cluster_keeps_is_used_as_long_as_it_is_there(tmp_path: Path) -> None:
    path = save(run(RNG), tmp_path / "x.nii.gz")
    atlas = labels(RNG)
    with local_cluster(1):
        kept = open_image(path, 3).persist()
        assert as_stored_file(kept) is None
        expected = extract(kept, atlas).compute()
    assert as_stored_file(kept) == NiftiFile.open(path)
    np.testing.assert_allclose(extract(kept, atlas), expected)


def test_recognising_does_not_warn_again(tmp_path: Path) -> None:
    path = save(run(RNG, t_r=2.0), tmp_path / "x.nii.gz")
    (tmp_path / "x.json").write_text('{"RepetitionTime": 1.0}', "utf-8")
    with pytest.warns(DaskroiWarning, match="the sidecar's is used"):
        image = open_image(path)
    assert repetition_of(image).seconds == 1.0
    assert as_stored_file(image) is not None
