"""The fused operator W against scipy's own resampling and smoothing, and against its adjoint."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images import OBLIQUE, STRAIGHT
from scipy import ndimage

from daskroi import weights
from daskroi.grid import Grid, voxel_transform
from daskroi.regions import RegionIndex
from daskroi.resampling import Resampling
from daskroi.smoothing import Smoothing, checked_fwhm
from daskroi.weights import TAIL, fuse

FLIPPED = np.array([[-3.0, 0, 0, 14], [0, 3, 0, -1], [0, 0, 2, 0.5], [0, 0, 0, 1]])
SWAPPED = np.array([[0, 2.0, 0, 1], [0, 0, -2, 12], [2, 0, 0, 0], [0, 0, 0, 1]])
AFFINES = (STRAIGHT, FLIPPED, OBLIQUE, SWAPPED)
FWHMS = (None, 2.5, 6.0, (3.0, 0.0, 8.0), "fast")


def forward(volume: np.ndarray, resampling: Resampling | None, fwhm: Any, grid: Grid) -> np.ndarray:
    """scipy, voxel by voxel, without any of our code but the transform."""
    if resampling is not None:
        matrix, offset = voxel_transform(resampling.source, resampling.target)
        volume = ndimage.affine_transform(
            volume.T, matrix, offset, grid.shape[::-1], order=resampling.order
        ).T
    if fwhm == "fast":
        kernel = np.zeros((3, 3, 3))
        kernel[1, 1, :] = kernel[1, :, 1] = kernel[:, 1, 1] = 0.2
        kernel[1, 1, 1] = 1
        return ndimage.convolve(volume, kernel / 2.2, mode="constant")
    if fwhm is not None:
        sigma = np.broadcast_to(fwhm, 3) / (np.sqrt(8 * np.log(2)) * np.array(grid.voxel_sizes))
        volume = ndimage.gaussian_filter(volume, sigma[::-1])
    return volume


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shapes = st.tuples(*[st.integers(1, 14)] * 3)
    grid = Grid.make(draw(shapes), draw(st.sampled_from(AFFINES)))
    resampling = None
    if draw(st.booleans()):
        source = Grid.make(draw(shapes), draw(st.sampled_from(AFFINES)))
        resampling = Resampling(source, grid, draw(st.sampled_from([1, 3])))
    labels = rng.integers(0, 5, grid.shape)
    regions = RegionIndex.of_labels(labels, np.array([1, 2, 3, 9]))  # 9 has no voxel
    if draw(st.booleans()):
        weighted = rng.uniform(0.1, 2, len(regions.voxels))
        regions = RegionIndex(regions.voxels, regions.bounds, regions.shape, weighted)
    fwhm = draw(st.sampled_from(FWHMS))
    return {"rng": rng, "regions": regions, "resampling": resampling, "fwhm": fwhm, "grid": grid}


@given(cases())
@settings(max_examples=250)
def test_equals_voxelwise(case: dict[str, Any]) -> None:
    regions, resampling, fwhm, grid = (case[k] for k in ("regions", "resampling", "fwhm", "grid"))
    found = fuse(regions, resampling, Smoothing.of(checked_fwhm(fwhm), grid))
    shape = grid.shape if resampling is None else resampling.source.shape
    assert found.shape == shape
    assert found.n_regions == 4
    volume = case["rng"].standard_normal(shape)
    there = forward(volume, resampling, fwhm, grid).ravel()[regions.voxels]
    expected = regions.sums(there * regions.all_weights)
    sums = found.matrix @ volume.ravel()[found.used]
    # the bound that is stated, and rounding
    limit = (TAIL + 1e-14) * np.abs(volume).max() * np.maximum(regions.totals, 1)
    assert (np.abs(sums - expected) <= limit).all()


@given(cases())
@settings(max_examples=100)
def test_adjoint_identity(case: dict[str, Any]) -> None:
    """<W x, y> = <x, W' y>, W x by scipy and W' y by `fuse` of a single region with weights y."""
    rng, grid, resampling, fwhm = (case[k] for k in ("rng", "grid", "resampling", "fwhm"))
    y = rng.standard_normal(grid.shape)
    everything = RegionIndex.of_rows([np.arange(grid.size)], grid.shape, [y.ravel()])
    pulled = fuse(everything, resampling, Smoothing.of(checked_fwhm(fwhm), grid))
    shape = grid.shape if resampling is None else resampling.source.shape
    x = rng.standard_normal(shape)
    left = (forward(x, resampling, fwhm, grid) * y).sum()
    right = (x.ravel()[pulled.voxels] * pulled.all_weights).sum()
    assert abs(left - right) <= 2 * TAIL * np.abs(x).max() * np.abs(y).sum()


@pytest.mark.parametrize("affine", [FLIPPED, OBLIQUE])
@pytest.mark.parametrize("fwhm", [None, 6.0])
def test_what_is_cut_is_within_the_bound(affine: np.ndarray, fwhm: float | None) -> None:
    """As absolute values, which no image can make worse."""
    rng = np.random.default_rng(0)
    source, grid = Grid.make((40, 44, 42), STRAIGHT), Grid.make((26, 27, 25), affine)
    regions = RegionIndex.of_labels(rng.integers(0, 40, grid.shape) // 36, np.array([1]))
    one = RegionIndex.of_rows([regions.voxels[:30]], grid.shape)
    resampling, smoothing = Resampling(source, grid), Smoothing.of(fwhm, grid)
    found = fuse(one, resampling, smoothing)
    # every weight, by the response to every voxel of a part of the image
    dense = np.zeros(source.size)
    dense[found.voxels] = found.all_weights
    sample = rng.choice(source.size, 400, replace=False)
    for voxel in sample:
        unit = np.zeros(source.shape)
        unit.flat[voxel] = 1
        weight = forward(unit, resampling, fwhm, grid).ravel()[one.voxels].sum()
        assert abs(weight - dense[voxel]) <= TAIL * np.abs(dense).sum()
    assert len(found.voxels) < source.size  # and something was cut


def test_rows_are_ascending_and_unique() -> None:
    grid = Grid.make((9, 9, 9), STRAIGHT)
    regions = RegionIndex.of_labels(np.arange(729).reshape(9, 9, 9) % 3, np.array([1, 2]))
    found = fuse(regions, None, Smoothing.of(4.0, grid))
    for lo, hi in zip(found.bounds[:-1], found.bounds[1:], strict=True):
        assert (np.diff(found.voxels[lo:hi]) > 0).all()


def test_nothing_in_view_weighs_nothing() -> None:
    far = np.array(STRAIGHT)
    far[0, 3] = 1000
    grid = Grid.make((5, 5, 5), STRAIGHT)
    regions = RegionIndex.of_labels(np.ones((5, 5, 5), int), np.array([1]))
    for affine in (far, OBLIQUE + far - STRAIGHT):
        found = fuse(regions, Resampling(Grid.make((6, 6, 6), affine), grid), None)
        assert len(found.voxels) == 0
        assert found.n_regions == 1


def test_made_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = weights._fuse

    def counted(*args: Any) -> RegionIndex:
        made.append(args)
        return real(*args)

    monkeypatch.setattr(weights, "_fuse", counted)
    monkeypatch.setattr(weights, "_cache", type(weights._cache)())
    grid = Grid.make((9, 9, 9), STRAIGHT)
    labels = np.arange(729).reshape(9, 9, 9) % 3
    smoothing = Smoothing.of(4.0, grid)
    found = []

    def run() -> None:
        index = RegionIndex.of_labels(labels, np.array([1, 2]))  # equal, not the same
        found.append(fuse(index, None, smoothing))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 1
    assert len({id(f) for f in found}) == 1
    fuse(RegionIndex.of_labels(labels, np.array([1])), None, smoothing)
    fuse(RegionIndex.of_labels(labels, np.array([1, 2])), None, Smoothing.of(5.0, grid))
    assert len(made) == 3
    monkeypatch.setattr(weights, "CACHE_BYTES", 1)  # the last one always stays
    fuse(RegionIndex.of_labels(labels, np.array([2])), None, smoothing)
    assert len(weights._cache) == 1


@pytest.mark.parametrize("affine", [np.diag([1.5, 1.5, 1.5, 1]), OBLIQUE])
@pytest.mark.parametrize("fwhm", [None, 6.0])
def test_the_worst_image_stays_within_the_bound(
    affine: np.ndarray, fwhm: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image of ±1 that has the sign of every weight that was cut, for regions of one voxel."""
    source, grid = Grid.make((36, 36, 36), STRAIGHT), Grid.make((24, 24, 24), affine)
    inside = np.flatnonzero(Resampling(source, grid).inside)
    voxels = np.random.default_rng(0).choice(inside, 20, replace=False)
    regions = RegionIndex.of_rows([np.array([v]) for v in voxels], grid.shape)
    parts = (regions, Resampling(source, grid), Smoothing.of(fwhm, grid))
    cut = weights._fuse(*parts)
    monkeypatch.setattr(weights, "CUT", 0.0)
    monkeypatch.setattr(weights, "EARLY", 0.0)
    exact = weights._fuse(*parts)
    for r in range(20):
        both = []
        for found in (exact, cut):
            dense, part = np.zeros(source.size), slice(found.bounds[r], found.bounds[r + 1])
            dense[found.voxels[part]] = found.all_weights[part]
            both.append(dense)
        assert np.abs(both[0] - both[1]).sum() <= TAIL
    assert len(cut.voxels) < len(exact.voxels)
