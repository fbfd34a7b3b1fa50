"""What smoothing and resampling share: graphs, keys, coordinates, mistakes, series after."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import images
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from spatialcases import SHAPE, TARGETS, copy_of, grid

import daskroi as dr
from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.resampling import ORDERS

pytestmark = pytest.mark.usefixtures("synchronous")

OPERATIONS = {
    "smooth": lambda image: dr.smooth(image, 6),
    "fast": lambda image: dr.smooth(image, "fast"),
    **{
        f"{interpolation} {target}": lambda image, i=interpolation, t=target: dr.resample(
            image, grid(*TARGETS[t]), i
        )
        for interpolation in ORDERS
        for target in ("finer", "turned")
    },
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_building_computes_nothing(
    operation: str, ending: str, tmp_path: Path, no_compute: None
) -> None:
    path = images.save(images.run(np.random.default_rng(0), (*SHAPE, 9)), tmp_path / f"r{ending}")
    for image in (path, dr.open_image(path, chunks=(4, 3, 7, 5)) * 2):
        out = OPERATIONS[operation](image)
        assert out.sizes["time"] == 9
        assert str(out)
        # no voxels in the graph either
        assert len(pickle.dumps(dict(out.__dask_graph__()))) < 4_000_000


@pytest.mark.parametrize("operation", OPERATIONS)
def test_names_are_deterministic(operation: str, tmp_path: Path) -> None:
    path = images.save(images.run(np.random.default_rng(0), (*SHAPE, 9)), tmp_path / "run.nii")
    for chunks in ("auto", (4, 3, 7, 5)):
        graphs = [
            set(dict(OPERATIONS[operation](dr.open_image(path, chunks)).__dask_graph__()))
            for _ in range(2)
        ]
        assert graphs[0] == graphs[1]


def test_every_option_is_in_the_key() -> None:
    run = dr.open_image(images.run(np.random.default_rng(0), (*SHAPE, 4), nan=0.1))
    affine, shape = TARGETS["finer"]
    near = affine + np.eye(4) * [[1e-3]] * 4 * [[1], [1], [1], [0]]
    to = grid(affine, shape)
    made = [
        *(dr.smooth(run, f) for f in (None, 5, 5.001, (5, 5, 4), (5, 4, 5), "fast")),
        *(dr.resample(run, to, i) for i in ORDERS),
        dr.resample(run, to, clip=False),
        *(dr.resample(run, grid(near, shape), i) for i in ORDERS),
        dr.resample(run, grid(affine, (11, 9, 9))),
        dr.resample(run, to, chunks=1),
    ]
    names = [image.data.name for image in made]
    assert len(set(names)) == len(names)
    # computed in one go, none takes another's blocks
    for alone, together in zip(
        [image.compute() for image in made], dask.compute(*made), strict=True
    ):
        xr.testing.assert_identical(alone, together)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_graph_size(operation: str) -> None:
    run = dr.open_image(images.run(np.random.default_rng(0), (60, 60, 12, 24)), chunks=1)
    whole = OPERATIONS[operation](run)
    # reading, limits twice over a tree, reading again, the work
    assert len(dict(whole.__dask_graph__())) <= 8 * 24 + 20
    cut = run.chunk({"time": 6, "x": 30, "y": 30})
    read = len(dict(cut.__dask_graph__()))
    out = OPERATIONS[operation](cut)
    blocks = max(out.data.npartitions, cut.data.npartitions)
    assert len(dict(out.__dask_graph__())) <= 2 * read + 40 * blocks + 20


@pytest.mark.parametrize("operation", OPERATIONS)
def test_coordinates_are_kept(operation: str) -> None:
    run = dr.open_image(images.run(np.random.default_rng(0), (*SHAPE, 9), t_r=1.5), name="bold")
    run = run.assign_attrs(source="here").assign_coords(label=("time", list("abcdefghi")))
    part = run.isel(time=slice(2, None, 3)).transpose("x", "time", "z", "y")
    out = OPERATIONS[operation](part)
    assert out.dims == ("time", "z", "y", "x")
    assert out.name == "bold"
    assert out.attrs["source"] == "here"
    xr.testing.assert_identical(out.time.variable, part.time.variable)
    assert out.label.values.tolist() == list("cfi")
    if "smooth" in operation:
        assert dr.grid_of(out) == dr.grid_of(part)
    single = OPERATIONS[operation](run[3])
    assert single.dims == ("z", "y", "x")
    assert float(single.time) == 4.5
    np.testing.assert_array_equal(single.values, OPERATIONS[operation](run).values[3])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_images_in_memory(operation: str) -> None:
    values = np.random.default_rng(0).standard_normal((3, *SHAPE[::-1]))
    eager = dr.make_image(values, grid(images.STRAIGHT, SHAPE))
    before = values.copy()
    lazy = dr.make_image(da.from_array(values), grid(images.STRAIGHT, SHAPE))
    xr.testing.assert_identical(
        OPERATIONS[operation](eager).compute(), OPERATIONS[operation](lazy).compute()
    )
    np.testing.assert_array_equal(values, before)


def test_mistakes() -> None:
    run = images.run(np.random.default_rng(0), (*SHAPE, 2))
    far = images.STRAIGHT.copy()
    far[:3, 3] = 500
    turned = images.OBLIQUE.copy()
    turned[:3, 3] = 500
    for affine in (far, turned):
        for interpolation in ORDERS:
            with pytest.raises(DaskroiError, match=r"8 x 7 x 6 .*500, 500.*do not overlap\. Check"):
                dr.resample(run, grid(affine, SHAPE), interpolation)
    with pytest.raises(DaskroiError, match=r"interpolation='cubic' is not known.*'continuous'"):
        dr.resample(run, grid(far, SHAPE), "cubic")
    with pytest.raises(DaskroiError, match="clip='no' is not known"):
        dr.resample(run, grid(far, SHAPE), clip="no")  # type: ignore[arg-type]
    with pytest.raises(DaskroiError, match=r"chunks names .*'t'"):
        dr.resample(run, grid(*TARGETS["finer"]), chunks={"t": 1})
    with pytest.raises(DaskroiTypeError, match="An image is a path"):
        dr.resample(run, (3, 3, 3))
    for fwhm in (-1, (1, 2), np.nan, "slow", True):
        with pytest.raises(DaskroiError, match=r"^fwhm=.*is not a width"):
            dr.smooth(run, fwhm)


def nilearns_series(image: nib.Nifti1Image, atlas: nib.Nifti1Image, **options: Any) -> np.ndarray:
    from nilearn.maskers import NiftiLabelsMasker

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masker = NiftiLabelsMasker(atlas, standardize=None, **options)
        return np.asarray(masker.fit_transform(copy_of(image)))


def test_smooth_then_extract_is_nilearns_masker() -> None:
    rng = np.random.default_rng(0)
    run, atlas = images.run(rng, (*SHAPE, 6), "f8"), images.labels(rng, SHAPE)
    for fwhm in (6, 2.5):
        expected = nilearns_series(run, atlas, smoothing_fwhm=fwhm)
        for chunks in ("auto", (2, 4, 3, 5)):
            found = dr.extract(dr.smooth(dr.open_image(run, chunks), fwhm), atlas, dtype="float64")
            np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("target", TARGETS)
def test_resample_then_extract_is_nilearns_masker(target: str) -> None:
    rng = np.random.default_rng(0)
    affine, shape = TARGETS[target]
    run, atlas = images.run(rng, (*SHAPE, 6), "f8"), images.labels(rng, shape, affine=affine)
    expected = nilearns_series(run, atlas, resampling_target="labels")
    found = dr.extract(dr.resample(run, dr.load_atlas(atlas)), atlas, dtype="float64")
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
