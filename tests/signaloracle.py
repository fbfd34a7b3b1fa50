"""Series like those of regions, and nilearn's cleaning of them."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
from nilearn import signal as oracle


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
