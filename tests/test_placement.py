"""Atlases and masks on an image's grid, against nilearn's resampling and brute force."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from images import OBLIQUE, STRAIGHT, save

from daskroi.atlas import Atlas, load_atlas
from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.grid import Grid
from daskroi.image import make_image
from daskroi.openimage import open_image
from daskroi.placement import (
    Mask,
    Placement,
    coverage,
    load_mask,
    lost_regions_unsaid,
    place,
)

FLIPPED = np.array([[-2.0, 0, 0, 8], [0, 2, 0, -6], [0, 0, 3, -4], [0, 0, 0, 1]])
IDS = [1, 2, 5, 9, 2**31 - 1]
ZERO = np.empty((0,) * 4, "f4")


def atlas_of(rng: np.random.Generator, grid: Grid, ids: list[int] = IDS) -> Atlas:
    values = rng.choice([0, *ids], grid.shape).astype("i4")
    values.flat[: len(ids)] = ids
    table = pd.DataFrame({"index": ids, "name": [f"region {i}" for i in ids]})
    return load_atlas(nib.Nifti1Image(values.T, grid.matrix), lut=table)


def mask_of(rng: np.random.Generator, grid: Grid) -> Mask:
    values = rng.random(grid.shape) < 0.7
    values.flat[0] = True
    return Mask(values, grid, "mask.nii")


def nearest(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """nilearn's, on (z, y, x)."""
    from nilearn.image import resample_img
    from nilearn.image.resampling import BoundingBoxError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            out = resample_img(
                nib.Nifti1Image(values.T, source.matrix, dtype=values.dtype),
                target_affine=target.matrix,
                target_shape=target.shape[::-1],
                interpolation="nearest",
                force_resample=True,
                copy_header=True,
            )
        except BoundingBoxError:
            return np.zeros(target.shape, values.dtype)
    return np.asarray(out.dataobj).T


def quietly(*args: Any, **kwargs: Any) -> Placement:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DaskroiWarning)
        return place(*args, **kwargs)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Grids around the origin; half-voxel shifts against each other are likely."""
    affine = draw(st.sampled_from([STRAIGHT, OBLIQUE, FLIPPED])).copy()
    affine[:3, :3] *= draw(st.sampled_from([0.5, 1.0, 1.5]))
    shape = draw(st.tuples(*[st.integers(2, 7)] * 3))
    shift = draw(st.tuples(*[st.sampled_from([-1.0, -0.5, 0.0, 0.5, 0.3])] * 3))
    middle = (np.array(shape[::-1]) - 1) / 2
    affine[:3, 3] = affine[:3, :3] @ (np.array(shift) - middle)
    return Grid.make(shape, affine)


@settings(max_examples=60)
@given(grids(), grids(), grids(), st.booleans(), st.integers(0, 2**32))
def test_regions_are_where_nilearn_puts_them(
    image: Grid, own: Grid, other: Grid, masked: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    atlas, mask = atlas_of(rng, own), mask_of(rng, other)
    labels = nearest(atlas.labels, own, image)
    inside = np.ones(image.shape, bool)
    if masked:
        inside = nearest(mask.values.view("u1"), other, image).astype(bool)
    assume(((labels > 0) & inside).any())
    found = quietly(atlas, image, mask if masked else None)
    for r, label in enumerate(IDS):
        voxels = found.index.voxels[found.index.bounds[r] : found.index.bounds[r + 1]]
        np.testing.assert_array_equal(voxels, np.flatnonzero((labels == label) & inside))
        assert found.on_grid[r] == (labels == label).sum()
    np.testing.assert_array_equal(found.lost, found.index.counts == 0)


@settings(max_examples=60)
@given(grids(), grids(), st.integers(0, 2**32))
def test_in_view_is_brute_force(image: Grid, own: Grid, seed: int) -> None:
    atlas = atlas_of(np.random.default_rng(seed), own)
    try:
        found = quietly(atlas, image)
    except DaskroiError:
        assume(False)
    to_image = np.linalg.inv(image.matrix) @ own.matrix
    nz, ny, nx = image.shape
    hits, total = np.zeros(len(IDS)), np.zeros(len(IDS))
    for (z, y, x), label in np.ndenumerate(atlas.labels):
        if label:
            i, j, k, _ = to_image @ [x, y, z, 1]
            # its centre lies in a voxel of the image, faces included
            near = [-0.5 - 1e-6 <= v <= n - 0.5 + 1e-6 for v, n in ((i, nx), (j, ny), (k, nz))]
            hits[IDS.index(label)] += all(near)
            total[IDS.index(label)] += 1
    np.testing.assert_allclose(found.in_view, hits / total, rtol=1e-15)
    covered = coverage(found.on_grid, found.on_grid, found.in_view)
    np.testing.assert_allclose(covered, np.where(found.on_grid > 0, found.in_view, 0), rtol=1e-14)


def test_half_in_view() -> None:
    labels = np.ones((4, 4, 8), "i4")
    labels[:2] = 2
    atlas = load_atlas(nib.Nifti1Image(labels.T, STRAIGHT))
    found = place(atlas, Grid.make((4, 4, 4), STRAIGHT))
    np.testing.assert_array_equal(found.in_view, [0.5, 0.5])
    np.testing.assert_array_equal(found.on_grid, [32, 32])
    finer = Grid.make((8, 8, 8), np.diag([1.0, 1, 1, 1]))
    np.testing.assert_array_equal(place(atlas, finer).in_view, [0.5, 0.5])


def test_same_grid_is_all_in_view() -> None:
    grid = Grid.make((4, 5, 6), OBLIQUE)
    atlas = atlas_of(np.random.default_rng(0), grid)
    found = place(atlas, grid)
    np.testing.assert_array_equal(found.in_view, np.ones(len(IDS)))
    assert not found.lost.any()
    assert found.index.counts.tolist() == [(atlas.labels == i).sum() for i in IDS]


def test_lost_regions_are_named() -> None:
    labels = np.zeros((2, 2, 30), "i4")
    labels[0, 0] = np.arange(30) + 1
    names = pd.DataFrame({"index": np.arange(30) + 1, "name": [f"area {i}" for i in range(1, 31)]})
    atlas = load_atlas(nib.Nifti1Image(labels.T, STRAIGHT), lut=names)
    message = r"27 of 30 regions have no voxel .*: 4 area 4, 5 area 5, .*, 23 area 23 and 7 more\.$"
    with pytest.warns(DaskroiWarning, match=message) as caught:
        found = place(atlas, Grid.make((2, 2, 3), STRAIGHT))
    assert caught[0].filename == __file__
    assert found.lost.tolist() == [False] * 3 + [True] * 27
    assert found.index.n_regions == 30
    np.testing.assert_array_equal(found.in_view, [1.0] * 3 + [0.0] * 27)
    covered = coverage(found.index.counts, found.on_grid, found.in_view)
    np.testing.assert_array_equal(covered, [1.0] * 3 + [0.0] * 27)


def test_lost_to_the_mask_keeps_coverage_apart() -> None:
    labels = np.array([[[1, 1, 2, 2]]], "i4")
    atlas = load_atlas(nib.Nifti1Image(labels.T, STRAIGHT))
    grid = Grid.make((1, 1, 4), STRAIGHT)
    with pytest.warns(DaskroiWarning, match=r"1 of 2 regions have no voxel in the image and mask"):
        found = place(atlas, grid, Mask(labels == 1, grid, "m.nii"))
    assert found.on_grid.tolist() == [2, 2]
    assert found.in_view.tolist() == [1, 1]
    assert found.index.counts.tolist() == [2, 0]


def test_no_overlap() -> None:
    grid = Grid.make((4, 5, 6), STRAIGHT)
    atlas = atlas_of(np.random.default_rng(0), grid)
    away = STRAIGHT + np.eye(4, k=3) * 500
    message = r"no label left on the image's grid.* Atlas: 6 x 5 x 4 voxels .*; image: 7 x 5 x 4"
    with pytest.raises(DaskroiError, match=message):
        place(atlas, Grid.make((4, 5, 7), away))


def test_mask_elsewhere() -> None:
    grid = Grid.make((4, 5, 6), STRAIGHT)
    atlas = atlas_of(np.random.default_rng(0), grid)
    away = Grid.make((4, 5, 6), STRAIGHT + np.eye(4, k=3) * 500)
    mask = Mask(np.ones((4, 5, 6), bool), away, "m.nii")
    with pytest.raises(DaskroiError, match=r"m\.nii: no voxel of the mask lies in the image"):
        place(atlas, grid, mask)
    background = Mask(atlas.labels == 0, grid, "m.nii")
    with pytest.raises(DaskroiError, match=r"m\.nii: no label of .* left inside the mask"):
        place(atlas, grid, background)


def test_without_resampling() -> None:
    grid = Grid.make((4, 5, 6), STRAIGHT)
    atlas = atlas_of(np.random.default_rng(0), grid)
    mask = Mask(np.ones((4, 5, 6), bool), grid, "m.nii")
    nearly = Grid.make((4, 5, 6), STRAIGHT + np.eye(4, k=3) * 1e-9)
    assert not place(atlas, nearly, mask, target=None).lost.any()
    other = Grid.make((4, 5, 6), OBLIQUE)
    with pytest.raises(DaskroiError, match=r"the atlas is not on the image's grid.*None forbids"):
        place(atlas, other, target=None)
    elsewhere = Mask(mask.values, other, "m.nii")
    with pytest.raises(DaskroiError, match=r"m\.nii: the mask is not on the image's grid"):
        place(atlas, grid, elsewhere, target=None)


def test_background_other_than_zero_fills_what_is_outside() -> None:
    labels = np.array([[[7, 0, 0, 3]]], "i4")
    atlas = load_atlas(nib.Nifti1Image(labels.T, STRAIGHT), background_label=7)
    found = place(atlas, Grid.make((2, 1, 6), STRAIGHT))  # 0 is a region: outside must not be it
    assert found.index.counts.tolist() == [2, 1]


# masks


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", ">f8"])
def test_load_mask(tmp_path: Path, dtype: str) -> None:
    values = np.random.default_rng(0).choice([0, 1, 5], (4, 5, 6)).astype(dtype)
    if np.dtype(dtype).kind == "f":
        values[0, 0, :3] = np.nan, np.inf, -np.inf
    image = nib.Nifti1Image(values, OBLIQUE)
    expected = (np.isfinite(values) & (values != 0)).T
    path = save(image, tmp_path / "mask.nii.gz")
    array = make_image(da.from_array(values.T, chunks=2), Grid.make((6, 5, 4), OBLIQUE))
    for given_, source in ((path, str(path)), (image, "the mask"), (array, "the mask")):
        mask = load_mask(given_)
        assert mask.values.dtype == bool
        np.testing.assert_array_equal(mask.values, expected)
        np.testing.assert_allclose(mask.grid.matrix, OBLIQUE, rtol=1e-6)  # float32 in files
        assert mask.source == source
        assert load_mask(mask) is mask


def test_masks_and_atlases_of_files_are_read_here(tmp_path: Path) -> None:
    import dask
    from dask.local import get_sync

    values = np.ones((3, 4, 5), "u1")
    path = save(nib.Nifti1Image(values.T, STRAIGHT), tmp_path / "mask.nii")
    asked = []

    def elsewhere(*args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        return get_sync(*args, **kwargs)

    opened = open_image(path)
    with dask.config.set(scheduler=elsewhere):
        for given in (path, opened):
            load_mask(given)
            load_atlas(given)
        assert not asked
        # what was computed with may be in the memory of the cluster that is current
        load_mask(opened * 2)
        load_atlas(opened * 2)
        assert len(asked) == 2


def test_load_4d_mask() -> None:
    values = np.random.default_rng(0).integers(0, 2, (4, 5, 6, 3)).astype("u1")
    mask = load_mask(nib.Nifti1Image(values, OBLIQUE))
    np.testing.assert_array_equal(mask.values, values.all(axis=3).T)


@pytest.mark.parametrize("value", [0, np.nan])
def test_empty_mask(tmp_path: Path, value: float) -> None:
    image = nib.Nifti1Image(np.full((4, 5, 6), value, "f4"), OBLIQUE)
    with pytest.raises(DaskroiError, match=r"m\.nii: the mask is empty.* Give another"):
        load_mask(save(image, tmp_path / "m.nii"))


@settings(max_examples=40)
@given(grids(), grids(), st.integers(0, 2**32))
def test_mask_on_another_grid_is_nilearns(image: Grid, own: Grid, seed: int) -> None:
    mask = mask_of(np.random.default_rng(seed), own)
    expected = nearest(mask.values.view("u1"), own, image).astype(bool)
    assume(expected.any())
    np.testing.assert_array_equal(mask.on(image), expected)


def test_lost_regions_unsaid_is_for_one_thread_only() -> None:
    from concurrent.futures import ThreadPoolExecutor

    labels = nib.Nifti1Image(np.arange(1, 9, dtype="i4").reshape(2, 2, 2), STRAIGHT)
    atlas, grid = load_atlas(labels), Grid.make((2, 2, 1), STRAIGHT)
    with lost_regions_unsaid():
        place(atlas, grid)
        with ThreadPoolExecutor(1) as pool, pytest.warns(DaskroiWarning, match="4 of 8 regions"):
            pool.submit(place, atlas, grid).result()
    with pytest.warns(DaskroiWarning, match="4 of 8 regions"):
        place(atlas, grid)


def test_a_run_is_refused_as_a_mask_before_it_is_read() -> None:
    def never(block: np.ndarray) -> np.ndarray:
        raise AssertionError("read")

    voxels = da.zeros((30, 3, 4, 5), chunks=(1, 3, 4, 5)).map_blocks(never, dtype="f4", meta=ZERO)
    run = make_image(voxels, Grid.make((3, 4, 5), np.eye(4)), t_r=2.0, name="run")
    with pytest.raises(DaskroiError, match="looks like a run, not a mask"):
        load_mask(run)
    # without times, nothing says that it is one
    with pytest.raises(AssertionError, match="read"):
        load_mask(run.drop_vars("time"))
