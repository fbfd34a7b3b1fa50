"""Cleaning of NumPy series: nilearn 0.14.1 as oracle, a plain reference where its bugs act."""

from __future__ import annotations

import contextlib
import pickle
import warnings
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nilearn import signal as oracle
from scipy.interpolate import CubicSpline

from daskroi.errors import DaskroiError, DaskroiIndexError, DaskroiTypeError, DaskroiWarning
from daskroi.signals import (
    AllFramesCensoredError,
    CleanSteps,
    butterworth,
    clean,
    detrend,
    fill_censored,
    kept_frames,
    sample_mask_to_bool,
    standardize,
)

T_R = 2.0


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def nilearn_clean(signals, **kwargs):
    """nilearn edits the sample mask in place: give it its own."""
    if kwargs.get("sample_mask") is not None:
        kwargs["sample_mask"] = np.array(kwargs["sample_mask"])
    with quiet():
        return oracle.clean(signals.copy(), **kwargs)


def assert_close(actual, expected, tolerance):
    """Relative to the largest value of all: a series may have been cleaned to rounding noise."""
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    scale = max(np.nanmax(np.abs(expected), initial=0), 1e-3)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def make_series(rng, n_time, n_series, mean=100.0):
    """Noise, drift and a mean, like regions of a run."""
    drift = np.linspace(-1, 1, n_time)[:, None] * rng.normal(0, 3, n_series)
    return mean + drift + rng.normal(0, 2, (n_time, n_series))


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
    # filtered, a constant is rounding noise, of which nilearn makes a confound: tested below
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


def test_complex_signals_are_refused():
    with pytest.raises(DaskroiTypeError, match="complex128, not real numbers"):
        clean(np.ones((5, 2), dtype=complex), CleanSteps())


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


# --- warnings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"filter": False, "low_pass": 0.1}, "filter=False: low_pass=0.1.* ignored"),
        (
            {"filter": "cosine", "high_pass": 0.01, "low_pass": 0.1, "t_r": 2},
            "knows no low_pass: 0.1 Hz is ignored",
        ),
        ({"filter": "cosine", "high_pass": 0.0001, "t_r": 2}, "no cosine is slower than"),
        ({"filter": "cosine", "high_pass": 0.3, "t_r": 2}, "the cosines explain everything"),
        ({"low_pass": 0.3, "t_r": 2}, "low_pass=0.3 Hz lies outside 0 to 0.25 Hz.*Check t_r"),
        ({"high_pass": 0.0, "t_r": 2}, "high_pass=0.0 Hz lies outside 0 to 0.25 Hz"),
    ],
)
def test_warnings_about_options(options, match):
    signals = make_series(np.random.default_rng(0), 60, 2)
    with pytest.warns(DaskroiWarning, match=match) as caught:
        clean(signals, CleanSteps.make(**options))
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_band_beyond_nyquist_leaves_signals_unfiltered_as_in_nilearn():
    signals = make_series(np.random.default_rng(0), 60, 2)
    steps = {"high_pass": 0.3, "low_pass": 0.5, "t_r": 2.0, "detrend": False, "standardize": None}
    with pytest.warns(DaskroiWarning) as caught:
        actual = clean(signals, CleanSteps.make(**steps))
    assert any("signals stay unfiltered" in str(w.message) for w in caught)
    np.testing.assert_array_equal(actual, nilearn_clean(signals, **steps))


def test_warns_when_confounds_keep_their_mean():
    signals = make_series(np.random.default_rng(0), 60, 2)
    steps = CleanSteps(standardize_confounds=False)
    with pytest.warns(DaskroiWarning, match="regression also removes part of each mean"):
        clean(signals, steps, np.arange(60.0))


def test_a_cosine_among_the_confounds_is_not_added_again():
    rng = np.random.default_rng(0)
    signals = make_series(rng, 60, 2)
    cosine = np.cos(np.pi / 60 * (np.arange(60) + 0.5))
    table = np.column_stack([rng.normal(size=60), 4 * cosine + 2])
    options = {"filter": "cosine", "high_pass": 0.02, "t_r": 2.0, "standardize": None}
    with pytest.warns(DaskroiWarning, match="hold a cosine drift already"):
        actual = clean(signals, CleanSteps.make(**options), table)
    assert_close(actual, nilearn_clean(signals, confounds=table, detrend=False, **options), 1e-9)


def test_percent_of_a_zero_mean_is_zero_with_a_warning():
    signals = np.array([[-1.0, 10.0], [1.0, 12.0], [0.0, 14.0]])
    with pytest.warns(DaskroiWarning, match="1 series have mean 0"):
        actual = clean(signals, CleanSteps(standardize="psc"))
    np.testing.assert_array_equal(actual[:, 0], 0)
    assert_close(actual, nilearn_clean(signals, standardize="psc", detrend=False), 1e-9)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"standardize": "zscore"}, DaskroiError, "'zscore_sample', 'psc', None"),
        ({"filter": "bessel"}, DaskroiError, "'butterworth', 'cosine', False"),
        ({"filter": True}, DaskroiError, "filter=True is not known"),
        ({"detrend": "yes"}, DaskroiTypeError, "detrend='yes' is not a flag"),
        ({"low_pass": "0.1", "t_r": 2}, DaskroiTypeError, "low_pass='0.1' is not a number"),
        ({"high_pass": False}, DaskroiTypeError, "high_pass=False is not a number"),
        ({"t_r": float("nan")}, DaskroiError, "t_r=nan is not finite"),
        ({"t_r": 2000}, DaskroiError, r"t_r=2000 s looks like milliseconds: pass t_r=2\.0"),
        ({"t_r": 0.002}, DaskroiError, "t_r=0.002 s is shorter than any scan"),
        ({"low_pass": 0.1}, DaskroiError, "a cutoff in Hz needs the repetition time. Pass t_r"),
        ({"filter": "cosine", "t_r": 2}, DaskroiError, "filter='cosine' needs high_pass"),
        ({"filter": "cosine", "high_pass": 0.1}, DaskroiError, "filter='cosine' needs t_r"),
        ({"low_pass": 0.1, "high_pass": 0.1, "t_r": 2}, DaskroiError, "is not below low_pass=0.1"),
        ({"detrnd": True}, DaskroiTypeError, "no option 'detrnd'. Use some of: detrend"),
        ({"butterworth__ordr": 3}, DaskroiTypeError, "no option 'ordr'.*butterworth__order"),
        ({"butterworth__order": 0}, DaskroiError, "an integer of at least 1"),
        ({"butterworth__order": None}, DaskroiError, "an integer of at least 1"),
        ({"butterworth__padlen": 2.5}, DaskroiError, "an integer of at least 0"),
        ({"butterworth__padtype": "wrap"}, DaskroiError, "'odd', 'even', 'constant', None"),
        ({"butterworth": 5}, DaskroiTypeError, "butterworth=5 is not a set of"),
    ],
)
def test_bad_options_are_refused(options, error, match):
    with pytest.raises(error, match=match):
        CleanSteps.make(**options)
    assert issubclass(error, ValueError)


def test_steps_are_values():
    steps = CleanSteps.make(
        standardize=True, low_pass=np.float32(0.125), t_r=2, butterworth__order=np.int64(3)
    )
    same = CleanSteps(
        standardize="zscore_sample", low_pass=0.125, t_r=2.0, butterworth=(("order", 3),)
    )
    assert steps == same
    assert hash(steps) == hash(same)
    assert pickle.loads(pickle.dumps(steps)) == steps
    assert type(steps.low_pass) is float
    assert CleanSteps(standardize=False) == CleanSteps(filter="butterworth")
    assert replace(steps, detrend=True) != steps
    assert "butterworth" in {field.name for field in fields(CleanSteps)}


@pytest.mark.parametrize("order", [1, 2, 4, 5])
@pytest.mark.parametrize(("low_pass", "high_pass"), [(0.1, None), (None, 0.02), (0.1, 0.02)])
def test_min_frames_is_what_the_filter_needs(order, low_pass, high_pass):
    options = {
        "low_pass": low_pass,
        "high_pass": high_pass,
        "t_r": 2.0,
        "butterworth__order": order,
    }
    steps = CleanSteps.make(**options)
    signals = make_series(np.random.default_rng(0), steps.min_frames, 1)
    assert clean(signals, steps).shape == signals.shape
    with pytest.raises(ValueError, match="greater than padlen"):
        nilearn_clean(signals[1:], **options)
    with pytest.raises(DaskroiError, match=f"filter needs {steps.min_frames} to pad"):
        clean(signals[1:], steps)


def test_padding_options_change_what_is_needed():
    options = {"low_pass": 0.1, "t_r": 2.0}
    assert CleanSteps.make(**options, butterworth__padlen=4).min_frames == 5
    assert CleanSteps.make(**options, butterworth__padtype=None).min_frames == 1
    assert CleanSteps.make(filter=False, t_r=2).min_frames == 1


def test_censoring_an_end_counts_against_the_filter():
    steps = CleanSteps(low_pass=0.1, t_r=2.0)
    signals = np.random.default_rng(0).normal(size=(20, 1))
    with pytest.raises(DaskroiError, match="a run has 17 frames and the butterworth"):
        clean(signals, steps, sample_mask=np.arange(20) > 2)
    assert len(clean(signals, replace(steps, extrapolate=True), sample_mask=np.arange(3, 20))) == 17


@pytest.mark.parametrize(
    ("confounds", "match"),
    [
        (np.zeros((9, 2)), r"confounds have shape \(9, 2\) and the signals have 10 frames"),
        (np.zeros((10, 2, 1)), r"confounds have shape \(10, 2, 1\)"),
        (np.column_stack([np.ones(10), np.full(10, np.nan)]), r"columns \[1\] are not finite"),
    ],
)
def test_bad_confounds_are_refused(confounds, match):
    with pytest.raises(DaskroiError, match=match):
        clean(np.zeros((10, 2)), CleanSteps(), confounds)


@pytest.mark.parametrize(
    ("signals", "match"),
    [(np.zeros(5), r"signals have shape \(5,\)"), (np.zeros((0, 2)), "signals have no frames")],
)
def test_bad_signals_are_refused(signals, match):
    with pytest.raises(DaskroiError, match=match):
        clean(signals, CleanSteps())


def test_no_series_and_no_confounds_are_fine():
    steps = CleanSteps(detrend=True, standardize="psc")
    assert clean(np.zeros((10, 0)), steps).shape == (10, 0)
    np.testing.assert_array_equal(
        clean(np.arange(6.0)[:, None] ** 2, steps, np.zeros((6, 0))),
        clean(np.arange(6.0)[:, None] ** 2, steps),
    )


# --- sample masks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mask", [[0, 2], np.array([0, 2], np.uint8), [True, False, True], [np.array([0, 2])]]
)
def test_spellings_of_a_mask(mask):
    np.testing.assert_array_equal(sample_mask_to_bool(mask, 3), [True, False, True])
    np.testing.assert_array_equal(kept_frames(3, mask), [0, 2])


@pytest.mark.parametrize("mask", [None, [0, 1, 2], [True] * 3])
def test_a_mask_that_censors_nothing_is_none(mask):
    assert sample_mask_to_bool(mask, 3) is None


@pytest.mark.parametrize(
    ("mask", "error", "match"),
    [
        ([0, 1, 2, 3], DaskroiIndexError, "has 4 entries and the run has 3 frames"),
        ([True] * 4, DaskroiIndexError, "has 4 entries and the run has 3 frames"),
        ([True, False], DaskroiError, "has 2 booleans and the run has 3 frames"),
        ([-1, 2], DaskroiError, "negative index -1"),
        ([1, 3], DaskroiIndexError, "names frame 3 and the run has 3 frames, 0 to 2"),
        ([1, 0, 1], DaskroiError, "neither sorted nor free of repeats"),
        ([0.0, 2.0], DaskroiTypeError, "holds float64. Give booleans"),
        (np.ones((3, 2), bool), DaskroiError, r"has shape \(3, 2\)"),
        ([], AllFramesCensoredError, "censors all 3 frames: nothing is left"),
        ([False] * 3, AllFramesCensoredError, "censors all 3 frames: nothing is left"),
        ([[0], [1]], DaskroiError, r"holds 2 mask\(s\) for 1 run"),
    ],
)
def test_bad_masks_are_refused(mask, error, match):
    with pytest.raises(error, match=match):
        sample_mask_to_bool(mask, 3)


@pytest.mark.parametrize(
    "masks", [[[0], [1, 2]], ([True, False], None), np.array([True, False, True, True, True])]
)
def test_masks_of_runs(masks):
    if isinstance(masks, list):
        masks = [[0], [0, 1, 2]]
    keep = sample_mask_to_bool(masks, 5, runs=[0, 0, 1, 1, 1])
    np.testing.assert_array_equal(keep, [True, False, True, True, True])


@pytest.mark.parametrize(
    ("masks", "runs", "error", "match"),
    [
        ([[0]], [0, 0, 1, 1], DaskroiError, r"holds 1 mask\(s\) for 2 run"),
        ([0, 1], [0, 0, 1, 1], DaskroiError, r"holds 1 mask\(s\) for 2 run"),
        ([[0], []], [0, 0, 1, 1], AllFramesCensoredError, "of run 2 censors all 2 frames"),
        ([[0], [2]], [0, 0, 1, 1], DaskroiIndexError, "of run 2 names frame 2"),
        ([[0], [1]], [0, 0, 1], DaskroiError, r"runs has shape \(3,\) and the series has 4"),
    ],
)
def test_bad_masks_of_runs_are_refused(masks, runs, error, match):
    with pytest.raises(error, match=match):
        sample_mask_to_bool(masks, 4, runs)


# --- kernels --------------------------------------------------------------------------------------


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
