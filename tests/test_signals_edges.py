"""Cleaning of series in which there is little: types, one frame, NaN, only rounding."""

from __future__ import annotations

import numpy as np
import pytest
from signaloracle import assert_close, make_series, nilearn_clean, quiet

from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.signals import CleanSteps, butterworth, clean, detrend, fill_censored, standardize


@pytest.mark.parametrize("standardize_", ["zscore_sample", "psc", None])
def test_ensure_finite_equals_nilearn(standardize_):
    signals = make_series(np.random.default_rng(1), 50, 3)
    signals[3, 0], signals[7, 1], signals[:, 2] = np.nan, -np.inf, np.nan
    steps = {"detrend": True, "standardize": standardize_, "ensure_finite": True}
    with quiet():
        actual = clean(signals, CleanSteps.make(**steps))
    assert_close(actual, nilearn_clean(signals, **steps), 1e-9)
    assert (actual[:, 2] == 0).all()


@pytest.mark.parametrize("dtype", ["int16", "uint8", "int64", ">f8", "float16", "bool"])
def test_all_but_float32_becomes_float64(dtype):
    signals = np.arange(12).reshape(6, 2).astype(dtype)
    assert clean(signals, CleanSteps(standardize="zscore_sample")).dtype == np.float64
    assert clean(signals.astype(">f4"), CleanSteps()).dtype == np.float32


@pytest.mark.parametrize("name", ["detrend", "zscore_sample", "psc"])
def test_single_frame_is_left_alone_with_a_warning(name):
    steps = CleanSteps(detrend=True) if name == "detrend" else CleanSteps(standardize=name)
    with pytest.warns(DaskroiWarning, match="a single frame cannot be detrended"):
        np.testing.assert_array_equal(clean([[3.0, 4.0]], steps), [[3.0, 4.0]])


@pytest.mark.parametrize("standardize_confounds", [True, False])
@pytest.mark.parametrize("cutoffs", [{"high_pass": 0.01}, {"low_pass": 0.1}, {}])
def test_confounds_of_which_only_rounding_is_left_do_nothing(cutoffs, standardize_confounds):
    """Detrended and filtered lines are 1e-17; nilearn z-scores them into a random confound."""
    rng = np.random.default_rng(0)
    signals, table = make_series(rng, 60, 3), make_series(rng, 60, 2)
    options = {"detrend": True, "standardize_confounds": standardize_confounds, "t_r": 2.0}
    steps = CleanSteps(**options, **cutoffs)
    lines = np.column_stack([np.full(60, 0.1), np.full(60, 3e4), np.arange(60) * 0.1 + 7])
    expected = clean(signals, steps, table)
    np.testing.assert_allclose(clean(signals, steps, np.hstack([lines, table])), expected)


def test_a_series_of_which_only_rounding_is_left_is_zero():
    signals = np.column_stack([np.full(60, 1e4 / 3), np.arange(60) / 3 + 7, np.arange(60) ** 2])
    cleaned = clean(signals, CleanSteps(detrend=True, standardize="zscore_sample"))
    assert (cleaned[:, :2] == 0).all()
    np.testing.assert_allclose(cleaned[:, 2].std(ddof=1), 1)


def test_tiny_confounds_count():
    signals = make_series(np.random.default_rng(0), 60, 3)
    table = make_series(np.random.default_rng(1), 60, 2, mean=0)
    for steps in (CleanSteps(detrend=True, standardize_confounds=False), CleanSteps(detrend=True)):
        expected = clean(signals, steps, table)
        np.testing.assert_allclose(clean(signals, steps, table * 1e-14), expected)


def test_percent_of_a_zero_mean_is_zero_with_a_warning():
    signals = np.array([[-1.0, 10.0], [1.0, 12.0], [0.0, 14.0]])
    with pytest.warns(DaskroiWarning, match="1 series have mean 0"):
        actual = clean(signals, CleanSteps(standardize="psc"))
    np.testing.assert_array_equal(actual[:, 0], 0)
    assert_close(actual, nilearn_clean(signals, standardize="psc", detrend=False), 1e-9)


def test_no_series_and_no_confounds_are_fine():
    steps = CleanSteps(detrend=True, standardize="psc")
    assert clean(np.zeros((10, 0)), steps).shape == (10, 0)
    np.testing.assert_array_equal(
        clean(np.arange(6.0)[:, None] ** 2, steps, np.zeros((6, 0))),
        clean(np.arange(6.0)[:, None] ** 2, steps),
    )


def test_kernels_leave_their_input_alone():
    signals = make_series(np.random.default_rng(0), 40, 2)
    copy = signals.copy()
    detrend(signals)
    standardize(signals, "psc", signals.mean(axis=0))
    standardize(signals, "zscore_sample")
    butterworth(signals, t_r=2.0, low_pass=0.1)
    fill_censored(signals, np.arange(40) % 5 > 0)
    np.testing.assert_array_equal(signals, copy)
    assert standardize(signals, None) is not signals


def test_fill_needs_two_frames_to_extrapolate():
    keep = np.array([False, True, False])
    np.testing.assert_array_equal(fill_censored(np.array([[1.0], [2], [3]]), keep), [[2.0]])
    with pytest.raises(DaskroiError, match="leaves 1 frame"):
        fill_censored(np.ones((3, 1)), keep, extrapolate=True)
