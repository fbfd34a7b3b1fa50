"""`open_image` of .nii.gz by an index: when there is one, and that it changes no number."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from images import run, save

import daskroi as dr
from daskroi.errors import DaskroiError
from daskroi.image import grid_of, make_image
from daskroi.openimage import as_file, open_image

pytestmark = pytest.mark.usefixtures("forgotten")

RNG = np.random.default_rng(0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_an_index_changes_no_number(tmp_path: Path, cache: Path, dtype: str) -> None:
    path = save(run(RNG, (16, 17, 15, 30), dtype=dtype), tmp_path / "x.nii.gz")
    plain = open_image(path, 4)
    indexed = open_image(path, 4, index=True)
    assert not cache.exists(), "opening reads the header only"
    assert not as_file(plain).seekable
    assert as_file(indexed).seekable
    np.testing.assert_array_equal(indexed.isel(time=23).values, plain.isel(time=23).values)
    assert list(cache.rglob("*.gzi"))
    np.testing.assert_array_equal(indexed.values, plain.values)
    labels = np.zeros((15, 17, 16), "i2")
    labels[3:6, 4:9, 5:8], labels[8:12, 4:9, 5:8] = 1, 2
    atlas = make_image(labels, grid_of(plain))
    for strategy in ("mean", "median", "maximum"):
        a = dr.extract(plain, atlas, strategy=strategy)
        b = dr.extract(indexed, atlas, strategy=strategy)
        assert len(a.__dask_graph__()) < len(b.__dask_graph__()), "a stream, and blocks"
        xr.testing.assert_identical(a.compute(), b.compute())


def test_an_index_that_is_there_is_used(tmp_path: Path, cache: Path) -> None:
    path = save(run(RNG), tmp_path / "x.nii.gz")
    assert not as_file(path).seekable
    dr.build_index(path)
    assert as_file(path).seekable
    assert not as_file(path, index=False).seekable
    expected = nib.load(path).dataobj[..., 5].T
    np.testing.assert_array_equal(open_image(path, 1).isel(time=5).values, expected)
    # another file in its place has no index
    save(run(RNG), path)
    os.utime(path, ns=(0, 1))
    assert not as_file(path).seekable


def test_an_index_of_what_is_no_gzip(tmp_path: Path, cache: Path) -> None:
    path = save(run(RNG), tmp_path / "x.nii")
    dr.build_index(path)  # can be read anywhere already
    assert as_file(path, index=True).seekable
    assert not cache.exists()
    broken = tmp_path / "b.nii.gz"
    broken.write_bytes(save(run(RNG), tmp_path / "y.nii.gz").read_bytes()[:-2000])
    with pytest.raises(DaskroiError, match=r"b\.nii\.gz: the gzip stream ends early"):
        dr.build_index(broken)
    assert not list(cache.rglob("*.gzi"))


def test_reading_backwards_makes_an_index_once_it_pays(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(run(RNG, (16, 17, 15, 40)), tmp_path / "x.nii.gz")
    frame, raw = 16 * 17 * 15 * 4, 16 * 17 * 15 * 4 * 40
    compressed = path.stat().st_size
    monkeypatch.setattr("daskroi.bytesource.WASTE", 0)
    monkeypatch.setattr("daskroi.bytesource.WASTED_FILES", raw / compressed)
    expected = nib.load(path).get_fdata(dtype="f4").T
    image = open_image(path, 1)
    for t in range(10):  # in order: nothing is wasted
        np.testing.assert_array_equal(image.isel(time=t).values, expected[t])
    assert not cache.exists()
    np.testing.assert_array_equal(image.isel(time=39).values, expected[39])
    np.testing.assert_array_equal(image.isel(time=3).values, expected[3])
    assert not cache.exists(), "less than a pass"
    np.testing.assert_array_equal(image.isel(time=30).values, expected[30])
    assert list(cache.rglob("*.gzi"))
    assert frame * (30 + 3 + 29) > raw
    np.testing.assert_array_equal(image.values, expected)


def test_no_index_where_it_is_not_wanted_or_not_to_be_had(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(run(RNG, (16, 17, 15, 40)), tmp_path / "x.nii.gz")
    monkeypatch.setattr("daskroi.bytesource.WASTE", 0)
    monkeypatch.setattr("daskroi.bytesource.WASTED_FILES", 0)
    expected = nib.load(path).get_fdata(dtype="f4").T
    image = open_image(path, 1, index=False)
    for t in (39, 20, 3):
        np.testing.assert_array_equal(image.isel(time=t).values, expected[t])
    assert not cache.exists()
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    image = open_image(cut, 1)
    for t in (8, 5, 3):  # what is there can be read, with no index of what is not
        np.testing.assert_array_equal(image.isel(time=t).values, expected[t])
    with pytest.raises(DaskroiError, match=r"cut\.nii\.gz: truncated, expected"):
        image.isel(time=39).compute()
