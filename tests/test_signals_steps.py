"""Options of cleaning: warnings about them, and what is refused."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
from signaloracle import assert_close, make_series, nilearn_clean

from daskroi.errors import DaskroiError, DaskroiTypeError, DaskroiWarning
from daskroi.signals import CleanSteps, clean


def test_complex_signals_are_refused():
    with pytest.raises(DaskroiTypeError, match="complex128, not real numbers"):
        clean(np.ones((5, 2), dtype=complex), CleanSteps())


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
