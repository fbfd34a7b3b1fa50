"""Least squares from weighted sums, against scipy and nilearn."""

from __future__ import annotations

import warnings
from typing import Any

import images
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from daskroi.errors import DaskroiWarning
from daskroi.leastsquares import least_squares
from daskroi.regions import RegionIndex

SHAPE = (3, 4, 5)


def index_of(maps: np.ndarray) -> RegionIndex:
    """From maps (region, voxel), zeros left out."""
    rows = [np.flatnonzero(m) for m in maps]
    return RegionIndex.of_rows(rows, SHAPE, [m[r] for m, r in zip(maps, rows, strict=True)])


def fit(index: RegionIndex, values: np.ndarray) -> np.ndarray:
    return least_squares(index) @ (index.matrix @ values[index.used])


def random_maps(rng: np.random.Generator, n: int, sparsity: float) -> np.ndarray:
    return rng.standard_normal((n, 60)) * (rng.random((n, 60)) > sparsity)


@given(st.integers(1, 12), st.sampled_from([0.0, 0.5, 0.8]), st.integers(0, 2**32))
def test_is_scipys_lstsq(n: int, sparsity: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = random_maps(rng, n, sparsity) * 10.0 ** rng.integers(-3, 3, (n, 1))
    values = rng.standard_normal((60, 3))
    found = fit(index_of(maps), values)
    expected = linalg.lstsq(maps.T, values)[0]
    scale = np.linalg.norm(maps, axis=1, keepdims=True)
    np.testing.assert_allclose(found * scale, expected * scale, atol=1e-8)


@given(st.integers(2, 8), st.integers(1, 4), st.integers(0, 2**32))
def test_dependent_maps_give_the_solution_of_smallest_norm(n: int, extra: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = random_maps(rng, n, 0.3)
    maps = np.concatenate([base, rng.standard_normal((extra, n)) @ base])
    values = rng.standard_normal((60, 3))
    with pytest.warns(DaskroiWarning, match=rf"the maps: .* {n} of {n + extra} maps .*smallest"):
        found = fit(index_of(maps), values)
    np.testing.assert_allclose(found, linalg.lstsq(maps.T, values, cond=1e-9)[0], atol=1e-7)


def test_the_same_map_twice_shares_its_value() -> None:
    maps = np.zeros((3, 60))
    maps[0, :5] = maps[1, :5] = 1
    maps[2, 10] = 2
    with pytest.warns(DaskroiWarning, match="2 of 3 maps"):
        found = fit(index_of(maps), np.full(60, 6.0))
    np.testing.assert_allclose(found, [3, 3, 3])


def test_regions_without_voxels_are_zero_and_no_dependence() -> None:
    maps = random_maps(np.random.default_rng(0), 4, 0.5)
    maps[[0, 2]] = 0
    matrix = least_squares(index_of(maps))
    assert not matrix[[0, 2]].any()
    assert not matrix[:, [0, 2]].any()
    np.testing.assert_array_equal(matrix, matrix.T)
    expected = np.linalg.inv(maps[[1, 3]] @ maps[[1, 3]].T)
    np.testing.assert_allclose(matrix[np.ix_([1, 3], [1, 3])], expected)
    assert not least_squares(index_of(np.zeros((2, 60)))).any()
    assert least_squares(index_of(np.zeros((0, 60)))).shape == (0, 0)


def test_weights_of_one_give_means() -> None:
    labels = np.random.default_rng(0).integers(0, 4, SHAPE)
    index = RegionIndex.of_labels(labels, np.array([1, 2, 3]))
    np.testing.assert_allclose(least_squares(index), np.diag(1 / index.counts))


@pytest.mark.parametrize("affine", [images.STRAIGHT, images.OBLIQUE])
def test_is_nilearns_maps_masker(affine: Any) -> None:
    from nilearn.maskers import NiftiMapsMasker

    rng = np.random.default_rng(1)
    maps = rng.random((6, 7, 5, 9)) * (rng.random((6, 7, 5, 9)) > 0.6)
    run = images.run(rng, dtype="f8", affine=affine)
    values = np.asarray(run.dataobj).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masker = NiftiMapsMasker(nib.Nifti1Image(maps, affine), standardize=None, reports=False)
        expected = masker.fit_transform(run)
    flat = maps.T.reshape(9, -1)
    rows = [np.flatnonzero(m) for m in flat]
    weights = [m[r] for m, r in zip(flat, rows, strict=True)]
    index = RegionIndex.of_rows(rows, values.shape[1:], weights)
    found = fit(index, values.reshape(len(values), -1).T).T
    np.testing.assert_allclose(found, expected, rtol=1e-8)
