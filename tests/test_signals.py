"""Cleaning of NumPy series: nilearn 0.14.1 as oracle, a plain reference where its bugs act."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline
from signaloracle import assert_close, make_series, nilearn_clean, quiet

from daskroi.signals import CleanSteps, clean, kept_frames

T_R = 2.0


@st.composite
def problems(draw, censored_and_filtered=False):
    n_time = draw(st.integers(42, 90))  # a band needs 34, and 6 may be censored
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([np.float64, np.float64, np.float32]))
    signals = make_series(rng, n_time, draw(st.integers(1, 4))).astype(dtype)
    confounds = None
    if draw(st.booleans()):
        confounds = make_series(
            rng, n_time, draw(st.integers(1, 3)), mean=draw(st.sampled_from([0, 5]))
        )
    kind = draw(st.sampled_from(["butterworth", "cosine", False]))
    kind = "butterworth" if censored_and_filtered else kind
    # filtered, a constant is rounding noise, of which nilearn makes a confound: test_signals_edges
    if confounds is not None and kind != "butterworth" and draw(st.booleans()):
        confounds = np.column_stack([confounds, np.full(n_time, 3.0)])
    cutoffs = {
        "butterworth": [(None, None), (0.1, None), (None, 0.01), (0.12, 0.02)],
        "cosine": [(None, 0.01), (None, 0.03)],
        False: [(None, None)],
    }[kind]
    low_pass, high_pass = draw(st.sampled_from(cutoffs[1:] if censored_and_filtered else cutoffs))
    steps = {
        "detrend": draw(st.booleans()),
        "standardize": draw(st.sampled_from(["zscore_sample", "psc", None])),
        "standardize_confounds": draw(st.booleans()),
        "filter": kind,
        "low_pass": low_pass,
        "high_pass": high_pass,
        "t_r": T_R,
        "extrapolate": draw(st.booleans()),
    }
    if kind == "butterworth" and draw(st.booleans()):
        steps["butterworth__order"] = draw(st.integers(1, 4))
        steps["butterworth__padtype"] = draw(st.sampled_from(["odd", "even", "constant", None]))
    censored = draw(st.sets(st.integers(0, n_time - 1), max_size=6))
    keep = np.ones(n_time, dtype=bool)
    keep[list(censored)] = False
    masked = censored_and_filtered or draw(st.booleans())
    return signals, confounds, steps, keep if masked else None


def bug_acts(steps, keep):
    """nilearn fills the frames whose mirror image is kept, and then shifts the mask."""
    filtered = steps["filter"] == "butterworth" and (
        steps["low_pass"] is not None or steps["high_pass"] is not None
    )
    return keep is not None and filtered and bool((~keep & ~keep[::-1]).any())


@settings(max_examples=100, deadline=None)
@given(problems(), st.booleans())
def test_equals_nilearn(problem, as_indices):
    signals, confounds, steps, keep = problem
    assume(not bug_acts(steps, keep))
    mask = np.flatnonzero(keep) if as_indices and keep is not None else keep
    before = [None if a is None else a.copy() for a in (signals, confounds, mask)]
    with quiet():
        actual = clean(signals, CleanSteps.make(**steps), confounds, mask)
    expected = nilearn_clean(signals, confounds=confounds, sample_mask=mask, **steps)
    assert actual.dtype == signals.dtype
    assert_close(actual, expected, 1e-6 if signals.dtype == np.float64 else 1e-4)
    for array, copy in zip((signals, confounds, mask), before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert len(kept_frames(len(signals), mask)) == len(actual)


def plain_reference(signals, confounds, steps, keep):
    """Fill by a spline, filter and detrend alike, censor, regress: each by nilearn, unmasked."""

    def prepare(values):
        values = values.astype(np.float64)
        frames = np.arange(len(values)) * T_R
        filled = values.copy()
        filled[~keep] = CubicSpline(frames[keep], values[keep])(frames[~keep])
        span = slice(None)
        if not steps["extrapolate"]:
            span = slice(np.flatnonzero(keep)[0], np.flatnonzero(keep)[-1] + 1)
        filled = filled[span]
        alone = {k: v for k, v in steps.items() if k not in ("standardize", "extrapolate")}
        filtered = nilearn_clean(filled, standardize=None, **alone)
        return filtered[keep[span]], filled.mean(axis=0)

    cleaned, mean = prepare(signals)
    if confounds is not None:
        cleaned = nilearn_clean(
            cleaned,
            confounds=prepare(confounds)[0],
            detrend=False,
            filter=False,
            standardize=None,
            standardize_confounds=steps["standardize_confounds"],
        )
    if steps["standardize"] is None:
        return cleaned
    if steps["standardize"] == "psc":
        if np.abs(cleaned.mean(0)).mean() < 0.1 * np.abs(mean).mean():
            cleaned = cleaned + mean
        return 100 * (cleaned - cleaned.mean(0)) / np.abs(cleaned.mean(0))
    return (cleaned - cleaned.mean(0)) / cleaned.std(0, ddof=1)


@settings(max_examples=60, deadline=None)
@given(problems(censored_and_filtered=True))
def test_censoring_with_butterworth_equals_a_plain_reference(problem):
    signals, confounds, steps, keep = problem
    with quiet():
        actual = clean(signals, CleanSteps.make(**steps), confounds, keep)
        expected = plain_reference(signals, confounds, steps, keep)
    assert_close(actual, expected, 1e-6 if signals.dtype == np.float64 else 1e-4)


@pytest.mark.parametrize("extrapolate", [False, True])
def test_censoring_both_ends_does_not_shift_the_series(extrapolate):
    """nilearn: r = -0.80, -0.29 and -0.94 with the truth in three such probes."""
    time = np.arange(200) * T_R
    wave = np.sin(2 * np.pi * 0.03 * time)[:, None]
    spiked = wave.copy()
    bad = [0, 1, 2, 50, 51, 148, 149, 197, 198, 199]
    spiked[bad] += 30
    steps = CleanSteps(high_pass=0.01, low_pass=0.1, t_r=T_R, extrapolate=extrapolate)
    kept = np.setdiff1d(np.arange(200), bad)
    cleaned = clean(spiked, steps, sample_mask=kept)
    r = np.corrcoef(cleaned[5:-5, 0], wave[kept][5:-5, 0])[0, 1]
    assert r > 0.98


@settings(max_examples=25, deadline=None)
@given(problems())
def test_runs_are_cleaned_alone_with_all_steps(problem):
    signals, confounds, steps, keep = problem
    runs = np.repeat(["b", "a"], len(signals))
    both = np.concatenate([signals, signals[::-1]])
    table = None if confounds is None else np.concatenate([confounds, confounds[::-1]])
    masks = None if keep is None else [keep[::-1], np.flatnonzero(keep)]
    made = CleanSteps.make(**steps)
    with quiet():
        actual = clean(both, made, table, masks, runs)
        alone = [
            clean(signals[order], made, None if confounds is None else confounds[order],
                  None if keep is None else keep[order])
            for order in (slice(None, None, -1), slice(None))
        ]  # fmt: skip
    np.testing.assert_array_equal(actual, np.concatenate(alone))
    frames = kept_frames(len(both), masks, runs)
    assert len(frames) == len(actual)
    assert frames[0] >= len(signals)  # run "a" comes second in time and first in the result


@settings(max_examples=40, deadline=None)
@given(problems(), st.data())
def test_lost_series_stay_nan_and_touch_nothing(problem, data):
    signals, confounds, steps, keep = problem
    made = CleanSteps.make(**steps)
    lost = np.full((len(signals), 1), np.nan, dtype=signals.dtype)
    one_nan = signals[:, :1].copy()
    kept = np.arange(len(signals)) if keep is None else np.flatnonzero(keep)
    one_nan[data.draw(st.sampled_from(kept.tolist()))] = np.nan
    with quiet():
        alone = clean(signals, made, confounds, keep)
        joined = clean(np.hstack([lost, signals, one_nan]), made, confounds, keep)
    np.testing.assert_allclose(joined[:, 1:-1], alone, rtol=1e-6, atol=1e-9)
    assert np.isnan(joined[:, 0]).all()
    acts = steps["detrend"] or steps["standardize"] or made.active_filter or confounds is not None
    assert np.isnan(joined[:, -1]).sum() == (len(joined) if acts else 1)


@pytest.mark.parametrize("filter_", ["butterworth", "cosine"])
def test_nan_in_censored_frames_is_harmless(filter_):
    rng = np.random.default_rng(0)
    signals, confounds = make_series(rng, 60, 2), make_series(rng, 60, 2)
    keep = np.ones(60, dtype=bool)
    keep[[0, 20]] = False
    steps = CleanSteps(detrend=True, filter=filter_, high_pass=0.02, t_r=T_R)
    expected = clean(signals, steps, confounds, keep)
    signals[~keep], confounds[~keep] = np.nan, np.inf
    np.testing.assert_allclose(clean(signals, steps, confounds, keep), expected, rtol=1e-9)
