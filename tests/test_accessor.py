"""The `.roi` accessor: the same as the functions, and there whenever xarray is."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import images
import numpy as np
import pytest
import xarray as xr

import daskroi as dr
from daskroi import accessor
from daskroi.accessor import RoiAccessor
from daskroi.backend import NiftiBackend
from daskroi.errors import DaskroiError

RNG = np.random.default_rng(0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return images.save(images.run(RNG), tmp_path / "x.nii.gz")


def test_the_same_as_the_functions(path: Path) -> None:
    atlas = dr.load_atlas(images.labels(RNG))
    options = {"detrend": True, "standardize": "zscore_sample", "smoothing_fwhm": 5}
    image = dr.open_image(path)
    xr.testing.assert_identical(
        image.roi.extract(atlas, **options), dr.extract(image, atlas, **options)
    )
    assert set(image.roi.extract({"a": atlas, "b": atlas})) == {"a", "b"}
    xr.testing.assert_identical(image.roi.smooth(4), dr.smooth(image, 4))
    grid = dr.Grid.make((4, 4, 4), np.diag([3.0, 3, 3, 1]))
    xr.testing.assert_identical(image.roi.resample(grid), dr.resample(image, grid))
    assert image.roi.grid == dr.grid_of(image)
    assert image.roi.t_r == 2.0
    assert image[::2].roi.t_r == 4.0
    assert image[[0, 1, 5]].roi.t_r is None
    assert "x" in repr(image.roi)


def test_on_a_dataset_of_the_engine(path: Path, tmp_path: Path) -> None:
    atlas = images.labels(RNG)
    dataset = xr.open_dataset(path, engine=NiftiBackend, chunks={})
    # values only: the attribute "plan" and the like may differ
    np.testing.assert_array_equal(dataset.image.roi.extract(atlas), dr.extract(path, atlas))
    dataset.image[:, ::-1].roi.to_nifti(tmp_path / "flipped.nii", dtype="f8")
    flipped = dr.open_image(tmp_path / "flipped.nii")
    np.testing.assert_array_equal(flipped, dataset.image[:, ::-1])
    assert flipped.dtype == "f8"
    assert flipped.roi.grid.same_as(dataset.image[:, ::-1].roi.grid)


def test_to_zarr(path: Path, tmp_path: Path) -> None:
    dr.open_image(path).roi.to_zarr(tmp_path / "x.nii.zarr", chunks={"time": 2})
    found = dr.open_image(tmp_path / "x.nii.zarr")
    np.testing.assert_array_equal(found, dr.open_image(path))
    assert found.roi.grid == dr.open_image(path).roi.grid


def test_an_image_that_is_not_one() -> None:
    with pytest.raises(DaskroiError, match="an image needs z, y and x"):
        _ = xr.DataArray(np.zeros(3)).roi.grid


def test_it_travels_with_the_image(path: Path) -> None:
    image = dr.open_image(path)
    assert image.roi is image.roi
    again = pickle.loads(pickle.dumps(image))
    assert again.roi.grid == image.roi.grid


def test_registered_once_whatever_is_reloaded() -> None:
    # a second registration would warn, which is an error here
    module = importlib.reload(accessor)
    assert xr.DataArray.roi.__module__ == module.__name__
    importlib.reload(module)


@pytest.mark.parametrize(
    "code",
    [
        "import xarray as xr, daskroi",
        "import daskroi.accessor, xarray as xr",
        "import daskroi as dr; image = dr.open_image(path)",
        "import daskroi as dr, xarray as xr; dr.grid_of",
        "import xarray as xr; image = xr.open_dataset(path, engine='nifti').image",
        "import daskroi, xarray as xr; image = xr.open_dataset(path, engine='nifti').image",
        "from daskroi import make_image",
    ],
)
def test_there_whenever_xarray_is(path: Path, code: str) -> None:
    check = "import xarray as xr; assert xr.DataArray.roi; 'image' in globals() and image.roi.grid"
    code = f"path = {str(path)!r}; {code}; {check}"
    subprocess.run([sys.executable, "-W", "error", "-c", code], timeout=60, check=True)


def test_functions_that_use_the_package_go_to_workers() -> None:
    """A function of a notebook is sent by its code, and with the modules that it names."""
    script = "import daskroi as dr\ndef function(image):\n    return dr.grid_of(image).shape"
    notebook = {"__name__": "__main__"}
    exec(script, notebook)
    function = pickle.loads(cloudpickle.dumps(notebook["function"]))
    assert function(dr.make_phantom((8, 9, 7), n_time=2, n_regions=4).image) == (8, 9, 7)
    assert pickle.loads(cloudpickle.dumps(dr)) is dr


def test_importing_the_package_imports_no_xarray() -> None:
    code = "import sys, daskroi as dr; dr.Grid, dr.DaskroiError; assert 'xarray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_methods_say_what_they_do() -> None:
    for name in ("grid", "t_r", "extract", "resample", "smooth", "to_nifti", "to_zarr"):
        assert getattr(RoiAccessor, name).__doc__
