"""Resampling against nilearn: interpolation, clipping, types, targets."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import images
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from spatialcases import AFFINES, DTYPES, SHAPE, TARGETS, close, copy_of, grid

import daskroi as dr
from daskroi.resampling import ORDERS, Resampling

pytestmark = pytest.mark.usefixtures("synchronous")


def nilearns_resampled(
    image: nib.Nifti1Image, affine: np.ndarray, shape: Any, interpolation: str, clip: bool = True
) -> np.ndarray:
    from nilearn.image import resample_img

    # in double: it rounds what comes of integers to integers, or computes in float32
    integers = image.get_data_dtype().kind in "iu" and interpolation != "nearest"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = resample_img(
            copy_of(image, "f8" if integers else None),
            affine,
            shape,
            interpolation=interpolation,
            clip=clip,
            force_resample=True,
            copy_header=True,
        )
    return np.asarray(out.dataobj).T


@given(
    source=st.sampled_from(sorted(AFFINES)),
    target=st.sampled_from(sorted(TARGETS)),
    interpolation=st.sampled_from(sorted(ORDERS)),
    dtype=st.sampled_from(DTYPES),
    clip=st.booleans(),
    nan=st.sampled_from([0.0, 0.03, 0.4]),
    frames=st.sampled_from([None, 1, 3]),
    seed=st.integers(0, 9),
)
@settings(max_examples=150)
def test_resample_is_nilearns(source, target, interpolation, dtype, clip, nan, frames, seed):
    rng = np.random.default_rng(seed)
    shape = SHAPE if frames is None else (*SHAPE, frames)
    image = images.run(rng, shape, dtype, AFFINES[source], nan=nan)
    affine, target_shape = TARGETS[target]
    expected = nilearns_resampled(image, affine, target_shape, interpolation, clip)
    found = dr.resample(image, grid(affine, target_shape), interpolation, clip=clip)
    values = found.values
    if interpolation == "nearest":
        np.testing.assert_array_equal(values, expected)
        assert values.dtype == np.dtype(dtype).newbyteorder("=")
    else:
        close(values, expected, 1e-6 if "f4" in dtype else 1e-10)
        assert values.dtype == (np.float32 if "f4" in dtype else np.float64)
    assert found.dtype == values.dtype
    assert dr.grid_of(found) == grid(affine, target_shape)


@pytest.mark.parametrize("interpolation", ORDERS)
def test_clipping_is_by_the_whole_run(interpolation: str) -> None:
    """A volume overshoots where the run does not: nothing is clipped there."""
    values = np.zeros((*SHAPE, 2), "f8")
    values[3:5, 3:5, 3:5, 0] = 10.0
    values[..., 1] = -50.0
    values[2:5, 2:5, 2:5, 1] = 50.0
    image = nib.Nifti1Image(values, images.STRAIGHT)
    affine, shape = TARGETS["finer"]
    clipped, unclipped = (
        dr.resample(image, grid(affine, shape), interpolation, clip=clip, chunks=1)
        for clip in (True, False)
    )
    close(clipped, nilearns_resampled(image, affine, shape, interpolation), 1e-12)
    if interpolation == "continuous":
        assert float(clipped[0].max()) > 10 + 1e-3
        assert float(unclipped.max()) > 50 + 1e-3
        assert float(clipped.max()) == 50


def test_a_volume_without_a_number() -> None:
    image = nib.Nifti1Image(np.full((*SHAPE, 2), np.nan, "f4"), images.STRAIGHT)
    affine, shape = TARGETS["shifted"]
    found = dr.resample(image, grid(affine, shape)).values
    inside = Resampling(grid(images.STRAIGHT, SHAPE), grid(affine, shape)).inside
    assert np.isnan(found[:, inside]).all()
    assert (found[:, ~inside] == 0).all()


def test_masks_and_small_floats() -> None:
    values = np.random.default_rng(0).random(SHAPE[::-1]) > 0.5
    mask = dr.make_image(values, grid(images.STRAIGHT, SHAPE))
    to = grid(*TARGETS["finer"])
    assert dr.resample(mask, to, "nearest").values.dtype == bool
    halves = mask.astype("f2")
    for interpolation in ORDERS:
        expected = dr.resample(mask.astype("f8"), to, interpolation).values
        for form in (mask, halves):
            np.testing.assert_array_equal(dr.resample(form, to, interpolation), expected)
    np.testing.assert_array_equal(dr.smooth(mask, 5), dr.smooth(mask.astype("f8"), 5))


@pytest.mark.parametrize("kind", ["grid", "atlas", "path", "nibabel", "DataArray"])
def test_targets(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    affine, shape = TARGETS["turned"]
    image = images.labels(rng, shape, affine=affine)
    target = {
        "grid": grid(affine, shape),
        "atlas": dr.load_atlas(image),
        "path": images.save(image, tmp_path / "atlas.nii.gz"),
        "nibabel": image,
        "DataArray": dr.open_image(image).assign_coords(grid="not a grid"),
    }[kind]
    out = dr.resample(images.run(rng, (*SHAPE, 2)), target)
    assert dr.grid_of(out).same_as(grid(affine, shape))


def test_the_same_grid_is_the_image_itself() -> None:
    run = dr.open_image(images.run(np.random.default_rng(0), (*SHAPE, 2), nan=0.1))
    near = images.STRAIGHT.copy()
    near[0, 3] += 1e-9
    xr.testing.assert_identical(dr.resample(run, grid(near, SHAPE)), run)


@pytest.mark.parametrize("dtype", ["f2", "longdouble", ">f2"])
@pytest.mark.parametrize("clip", [True, False])
def test_types_that_scipy_does_not_know(dtype: str, clip: bool) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, *SHAPE)).astype(dtype)
    straight = np.diag([2.0, 2, 2, 1])
    straight[:3, 3] = images.OBLIQUE[:3, 3]  # where the image begins
    here, there = (dr.Grid.make(SHAPE, affine) for affine in (images.OBLIQUE, straight))
    image, double = (dr.make_image(v, here) for v in (values, values.astype("f8")))
    found = dr.resample(image, there, clip=clip)
    np.testing.assert_array_equal(found, dr.resample(double, there, clip=clip))
    labels = rng.integers(0, 3, SHAPE)
    atlas = nib.Nifti1Image(labels.T.astype("i2"), straight)
    for spatial in ("fused", "voxelwise"):
        options = {"resampling_target": "labels", "spatial": spatial}
        np.testing.assert_allclose(
            dr.extract(image, atlas, **options), dr.extract(double, atlas, **options), rtol=1e-9
        )
