"""Reducers against scipy.ndimage and plain NumPy."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelcases import IDS, STRATEGIES, image, label_volume, run, seeds
from scipy import ndimage

from daskroi.kernels import NAN_POLICIES, REDUCERS, RegionIndex, combine, finalize, partial

pytestmark = pytest.mark.filterwarnings("error")

SCIPYS = {
    "mean": ndimage.mean,
    "median": ndimage.median,
    "sum": ndimage.sum_labels,
    "minimum": ndimage.minimum,
    "maximum": ndimage.maximum,
    "standard_deviation": ndimage.standard_deviation,
    "variance": ndimage.variance,
}
NUMPYS: dict[str, Any] = {
    "mean": np.mean,
    "median": np.median,
    "sum": np.sum,
    "minimum": np.min,
    "maximum": np.max,
    "standard_deviation": np.std,
    "variance": np.var,
}

DTYPES = [
    "u1",
    "i1",
    "i2",
    ">i2",
    "u2",
    "i4",
    ">i4",
    "u4",
    "i8",
    "u8",
    "f4",
    ">f4",
    "f8",
    ">f8",
    "?",
]


def reference(
    slab: np.ndarray, labels: np.ndarray, strategy: str, policy: str, slope: float, inter: float
) -> np.ndarray:
    physical = slab.astype("f8") * slope + inter
    out = np.full((len(slab), len(IDS)), np.nan)
    for t, frame in enumerate(physical):
        for r, label in enumerate(IDS):
            values = frame[labels == label]
            if policy == "zero":
                values = np.where(np.isfinite(values), values, 0)
            elif policy == "omit":
                values = values[np.isfinite(values)]
            if values.size:
                with np.errstate(invalid="ignore"):
                    out[t, r] = NUMPYS[strategy](values)
    return out


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=30)
@given(seed=seeds, dtype=st.sampled_from(DTYPES))
@pytest.mark.filterwarnings("ignore::RuntimeWarning:scipy")  # its means of no voxels
def test_is_scipys(strategy: str, seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    labels = label_volume(rng, (4, 5, 6))
    slab = image(rng, (3, 4, 5, 6), dtype)
    index = RegionIndex.of_labels(labels, IDS)
    found = run(slab, index, strategy)
    for t, frame in enumerate(slab.astype(slab.dtype.newbyteorder("="))):
        wide = frame.astype("f8")  # scipy sums in the image's type
        for r, label in enumerate(IDS):
            if not (labels == label).any():
                assert np.isnan(found[t, r])
                continue
            expected = SCIPYS[strategy](wide, labels, label)
            scale = np.abs(wide).max() ** (2 if strategy == "variance" else 1)
            np.testing.assert_allclose(found[t, r], expected, rtol=1e-11, atol=1e-13 * scale)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("policy", NAN_POLICIES)
@settings(max_examples=30)
@given(
    seed=seeds,
    dtype=st.sampled_from(["i2", "u1", ">i4", "f4", ">f4", "f8"]),
    slope=st.sampled_from([1.0, 2.5, -0.3, 0.001]),
    inter=st.sampled_from([0.0, -7.0, 1000.0]),
    holes=st.sampled_from([0.0, 0.01, 0.2, 0.95]),
)
def test_policies_and_scaling(
    strategy: str, policy: str, seed: int, dtype: str, slope: float, inter: float, holes: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = label_volume(rng, (4, 5, 6))
    slab = image(rng, (3, 4, 5, 6), dtype, holes)
    found = run(slab, RegionIndex.of_labels(labels, IDS), strategy, policy, slope, inter)
    expected = reference(slab, labels, strategy, policy, slope, inter)
    scale = np.nanmax(np.abs(slab.astype("f8")), initial=0, where=np.isfinite(slab.astype("f8")))
    scale = (scale * abs(slope) + abs(inter)) ** (2 if strategy == "variance" else 1)
    if slab.dtype.kind != "f" and strategy in ("variance", "standard_deviation"):
        scale *= 100  # the reference loses digits to the intercept, we do not
    # sqrt(eps) where the deviation is only what rounding leaves of a constant
    loose = strategy == "standard_deviation"
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=(1e-8 if loose else 1e-13) * scale)


def test_zero_is_a_physical_zero() -> None:
    slab = np.array([[[[np.nan, 2.0]]]], "f4")
    index = RegionIndex.of_labels(np.array([[[1, 1]]]), np.array([1]))
    assert run(slab, index, "mean", "zero", 2.0, 100.0) == 52.0
    assert run(slab, index, "mean", "omit", 2.0, 100.0) == 104.0
    assert np.isnan(run(slab, index, "mean", "propagate", 2.0, 100.0))


def test_scaled_float32_is_computed_in_double() -> None:
    slab = np.full((1, 1, 1, 1), 16_777_217, "f4")
    index = RegionIndex.of_labels(np.ones((1, 1, 1), int), np.array([1]))
    assert run(slab, index, "mean", "zero", 1.0, 1.0) == 16_777_217.0  # float32 would lose the 1


@pytest.mark.parametrize("policy", NAN_POLICIES)
def test_last_fields_count_voxels_used_and_finite(policy: str) -> None:
    rng = np.random.default_rng(3)
    labels = label_volume(rng, (4, 5, 6))
    slab = image(rng, (5, 4, 5, 6), "f4", 0.3)
    slab[2] = 1  # a frame without holes
    found = partial(slab, RegionIndex.of_labels(labels, IDS), REDUCERS["mean"], policy)
    finite = np.array([[np.isfinite(f[labels == i]).sum() for i in IDS] for f in slab])
    there = np.broadcast_to([(labels == i).sum() for i in IDS], finite.shape)
    np.testing.assert_array_equal(found[:, -1], finite)
    np.testing.assert_array_equal(found[:, -2], finite if policy == "omit" else there)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_region_without_finite_voxels(strategy: str) -> None:
    labels = np.array([[[1, 1, 2]]])
    slab = np.array([[[[np.nan, np.inf, 5]]]], "f8")
    index = RegionIndex.of_labels(labels, np.array([1, 2]))
    one = 0.0 if strategy in ("variance", "standard_deviation") else 5.0
    np.testing.assert_array_equal(run(slab, index, strategy, "omit"), [[np.nan, one]])
    np.testing.assert_array_equal(run(slab, index, strategy, "zero"), [[0.0, one]])


@pytest.mark.parametrize("dtype", ["i4", "i8", "u8", "u1", ">i8"])
def test_sums_do_not_overflow(dtype: str) -> None:
    high = np.iinfo(dtype).max
    slab = np.full((2, 1, 1, 1000), high, dtype)
    index = RegionIndex.of_labels(np.ones((1, 1, 1000), int), np.array([1]))
    np.testing.assert_allclose(run(slab, index, "sum"), 1000.0 * high, rtol=1e-14)
    np.testing.assert_allclose(run(slab, index, "mean"), float(high), rtol=1e-14)
    np.testing.assert_array_equal(run(slab, index, "median"), float(high))
    np.testing.assert_allclose(run(slab, index, "variance"), 0.0, atol=(1e-14 * high) ** 2)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_small_variance_on_a_large_mean(dtype: str) -> None:
    rng = np.random.default_rng(1)
    slab = (1e4 + 1e-2 * rng.standard_normal((3, 10, 20, 30))).astype(dtype)
    index = RegionIndex.of_labels(np.ones((10, 20, 30), int), np.array([1]))
    exact = slab.reshape(3, -1).astype(np.longdouble).var(axis=1)
    # mean of squares minus square of the mean would be 1e-8 off in double, useless in float
    np.testing.assert_allclose(run(slab, index, "variance")[:, 0], exact.astype("f8"), rtol=1e-12)
    halves = [RegionIndex.of_labels(np.ones((5, 20, 30), int), np.array([1]))] * 2
    reducer = REDUCERS["variance"]
    parts = [partial(slab[:, a : a + 5], i, reducer) for a, i in zip((0, 5), halves, strict=True)]
    found = finalize(reducer, combine(reducer, np.stack(parts)))
    # the two means are rounded to 1e-12: that is 1e-10 of what lies between them
    np.testing.assert_allclose(found[:, 0], exact.astype("f8"), rtol=1e-10)


def test_float32_sums_in_double() -> None:
    slab = np.full((1, 1, 1, 2**21), 16_777_216, "f4")
    slab[..., 1::2] = 1
    index = RegionIndex.of_labels(np.ones((1, 1, 2**21), int), np.array([1]))
    assert run(slab, index, "sum") == 2**20 * (16_777_216 + 1)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_input_is_not_changed(strategy: str) -> None:
    rng = np.random.default_rng(0)
    slab = image(rng, (3, 4, 5, 6), "f4", 0.2)
    slab.flags.writeable = False
    index = RegionIndex.of_labels(label_volume(rng, (4, 5, 6)), IDS)
    for policy in NAN_POLICIES:
        run(slab, index, strategy, policy, 2.0, 1.0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_memory_is_bounded(strategy: str) -> None:
    slab = np.zeros((60, 40, 50, 60), "i2")
    labels = np.arange(40 * 50 * 60).reshape(40, 50, 60) % 100 + 1
    index = RegionIndex.of_labels(labels, np.arange(1, 101))
    tracemalloc.start()
    partial(slab, index, REDUCERS[strategy])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # never the 58 MB that the gathered run would take in float64
    assert peak < 40e6
