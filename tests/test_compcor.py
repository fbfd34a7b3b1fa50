"""High-variance confounds from slabs, against nilearn 0.14.1 on the whole."""

from __future__ import annotations

import tracemalloc
import warnings
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn import signal as oracle

from daskroi.compcor import SquareSums, high_variance, high_variance_components
from daskroi.errors import DaskroiError


def sums_of(series, cuts=()):
    sums = SquareSums(series.shape[1])
    for slab in np.split(series, cuts):
        sums.add(slab)
    return sums


def confounds_of(series, n_confounds, percentile, detrend):
    selected = high_variance(sums_of(series).mean_squares(detrend), percentile)
    return high_variance_components(series[:, selected], n_confounds, detrend)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(8, 40),
    st.integers(50, 900),
    st.integers(1, 6),
    st.sampled_from([2.0, 5.0, 20.0]),
    st.booleans(),
)
def test_equals_nilearn_up_to_sign(seed, n_time, n_voxel, n_confounds, percentile, detrend):
    rng = np.random.default_rng(seed)
    amplitude = rng.exponential(5, n_voxel)
    # a few common waves, so that eigenvalues are apart and eigenvectors well defined
    waves = rng.normal(size=(n_time, 6)) * 3.0 ** -np.arange(6)
    series = 1000 + amplitude * (waves @ rng.normal(size=(6, n_voxel)))
    series += 0.01 * rng.normal(size=series.shape)
    expected = oracle.high_variance_confounds(series, n_confounds, percentile, detrend)
    actual = confounds_of(series, n_confounds, percentile, detrend)
    assert actual.shape == expected.shape
    n_selected = int(np.ceil(n_voxel * percentile / 100)) - 1
    apart = min(n_confounds, 4, n_selected)
    cosines = (actual * expected).sum(axis=0)[:apart]
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.lists(st.integers(0, 30), max_size=4))
def test_mean_squares_do_not_depend_on_slabs(seed, n_time, cuts):
    # more voxels than a block, and a mean that would cost 8 digits
    rng = np.random.default_rng(seed)
    series = 1e5 + rng.normal(size=(n_time, 8200))
    for detrend in (False, True):
        whole = sums_of(series).mean_squares(detrend)
        cut = sums_of(series, sorted(cuts)).mean_squares(detrend)
        np.testing.assert_array_equal(cut, whole)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = oracle._detrend(series) if detrend else series
        expected = (plain**2).mean(axis=0)
        np.testing.assert_allclose(whole, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2", "float32", ">f4", "float64"])
def test_mean_squares_of_any_type(dtype):
    series = np.random.default_rng(0).integers(0, 200, (20, 50)).astype(dtype)
    expected = oracle._detrend(series.astype(float)) ** 2
    np.testing.assert_allclose(sums_of(series).mean_squares(), expected.mean(axis=0), rtol=1e-9)


def test_straight_lines_and_constants_have_no_variance_and_are_never_negative():
    line = np.arange(100.0)[:, None] * np.array([0.0, 0.1, 1e4]) + 7
    mean_squares = sums_of(line).mean_squares()
    assert mean_squares[0] == 0
    assert (mean_squares >= 0).all()
    assert mean_squares[2] < 1e-3  # of 1e11 before


@pytest.mark.parametrize("detrend", [True, False])
def test_nan_and_infinite_voxels_are_nan_and_never_selected(detrend):
    series = np.random.default_rng(0).normal(100, size=(20, 300))
    for voxel, (frame, value) in enumerate(product((0, 5), (np.nan, np.inf, -np.inf))):
        series[frame, voxel] = value
    mean_squares = sums_of(series).mean_squares(detrend)
    assert np.isnan(mean_squares[:6]).all()
    assert np.isfinite(mean_squares[6:]).all()
    expected = oracle.high_variance_confounds(series[:, 6:], 3, 10, detrend)
    actual = confounds_of(series, 3, 10, detrend)
    np.testing.assert_allclose(np.abs((actual * expected).sum(axis=0)), 1, atol=1e-6)


def test_components_have_a_sign_and_are_in_order():
    rng = np.random.default_rng(0)
    series = rng.normal(size=(30, 10000)).astype(np.float32)  # several blocks
    components = high_variance_components(series, 4)
    np.testing.assert_allclose(components.T @ components, np.eye(4), atol=1e-9)
    assert (components.max(axis=0) >= -components.min(axis=0)).all()
    plain = oracle._detrend(series.astype(float))
    strength = ((plain.T @ components) ** 2).sum(axis=0)
    assert (np.diff(strength) < 0).all()
    assert high_variance_components(series[:3], 5).shape == (3, 3)


def test_adding_takes_no_memory_to_speak_of():
    slab = np.ones((8, 200_000), dtype=np.float32)
    sums = SquareSums(slab.shape[1])
    sums.add(slab)
    tracemalloc.start()
    sums.add(slab)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6  # a float64 frame is 1.6 MB


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: SquareSums(3).add(np.zeros((2, 4))), r"slab has shape \(2, 4\), not \(time, 3\)"),
        (lambda: SquareSums(3).mean_squares(), "no frames were added"),
        (lambda: high_variance(np.ones(5), 101), "percentile=101 is not a share"),
        (lambda: high_variance(np.zeros(50)), r"none of 50 voxels \(50 finite\) varies more"),
        (lambda: high_variance(np.full(5, np.nan)), r"none of 5 voxels \(0 finite\)"),
        (lambda: high_variance_components(np.ones((5, 2)), 0), "n_confounds=0 leaves none"),
    ],
)
def test_bad_input_is_refused(call, match):
    with pytest.raises(DaskroiError, match=match):
        call()


def test_a_single_frame_has_no_trend():
    sums = sums_of(np.array([[3.0, -4.0]]))
    np.testing.assert_array_equal(sums.mean_squares(detrend=True), [9, 16])
