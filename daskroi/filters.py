"""What acts on region time series: filters, regression, standardising.

NumPy in, NumPy out, always float64 (time, series) and finite. Numbers are those of
``nilearn.signal`` 0.14.1. The functions are silent: `daskroi.signals.check_steps` warns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import check_choice, warn
from daskroi.steps import clamp_cutoffs

__all__ = [
    "Signals",
    "butterworth",
    "cosine_drift",
    "detrend",
    "has_cosine",
    "regress_out",
    "standardize",
]

EPS = np.finfo(np.float64).eps

# What detrending or a filter leave of a constant or a straight line is below 1e-15 of its size
# (60 to 1,200 frames, five filters). nilearn stretches that to a z-score of pure rounding, and
# regresses it out: one random direction less.
ROUNDING = 1e-13

Signals = NDArray[np.float64]


def detrend(signals: Signals) -> Signals:
    """Remove mean and linear trend of each series. A single frame is returned as it is.

    Examples
    --------
    >>> detrend(np.array([[1.0], [3.0], [2.0]])).ravel().round(3)
    array([-0.5,  1. , -0.5])
    """
    if len(signals) == 1:
        return signals.copy()
    line = np.arange(len(signals), dtype=np.float64)
    line -= line.mean()
    line /= np.sqrt((line**2).sum())
    signals = signals - signals.mean(axis=0)
    signals -= line[:, None] * (line @ signals)
    return signals


def butterworth(
    signals: Signals,
    *,
    t_r: float,
    low_pass: float | None = None,
    high_pass: float | None = None,
    order: int = 5,
    padtype: Literal["odd", "even", "constant"] | None = "odd",
    padlen: int | None = None,
) -> Signals:
    """Band-, low- or high-pass filter, forwards and backwards, so without a shift in time.

    Parameters
    ----------
    signals : ndarray, dims (time, series)
    t_r : float
        Repetition time in s.
    low_pass, high_pass : float or None
        Cutoffs in Hz, moved into the open interval from 0 to Nyquist (see `clamp_cutoffs`). When
        both end up equal, the signals are returned unfiltered.
    order : int
        Steepness. Frames needed grow with it, see `CleanSteps.min_frames`.
    padtype, padlen
        As in `scipy.signal.sosfiltfilt`, which this is.

    Examples
    --------
    >>> wave = np.sin(np.arange(100) * 0.1)[:, None]
    >>> bool(np.abs(butterworth(wave + 5, t_r=2.0, high_pass=0.001)).max() < 2)
    True
    """
    high, low = clamp_cutoffs(high_pass, low_pass, t_r)
    if high == low:
        return signals.copy()
    from scipy import signal

    # nilearn hands over the sampling rate, so 1 / t_r it is, to the last bit
    rate = 1.0 / t_r
    if high is not None and low is not None:
        sos = signal.butter(order, [high, low], "band", output="sos", fs=rate)
    elif high is not None:
        sos = signal.butter(order, high, "high", output="sos", fs=rate)
    elif low is not None:
        sos = signal.butter(order, low, "low", output="sos", fs=rate)
    return signal.sosfiltfilt(sos, signals, axis=0, padtype=padtype, padlen=padlen)


def cosine_drift(n_time: int, high_pass: float, t_r: float) -> NDArray[np.float64]:
    """Slow cosines (DCT-II) below ``high_pass`` (Hz), without the constant.

    Returns
    -------
    ndarray, dims (time, cosine)
        ``floor(2 n_time high_pass t_r)`` columns of unit length, at most ``n_time - 1``.

    Examples
    --------
    >>> cosine_drift(100, high_pass=0.01, t_r=2.0).shape
    (100, 4)
    """
    if n_time == 1:
        return np.empty((1, 0))
    # t_r as nilearn finds it back from its frame times: the floor hangs on the last bit
    t_r = (np.arange(n_time) * t_r)[-1] / (n_time - 1)
    # at most one per frame; negative cutoffs have none
    order = max(0, min(n_time - 1, int(np.floor(2 * n_time * high_pass * t_r))))
    phase = (np.pi / n_time) * (np.arange(n_time) + 0.5)
    return np.sqrt(2.0 / n_time) * np.cos(phase[:, None] * np.arange(1, order + 1))


def has_cosine(confounds: Signals, cosines: Signals) -> bool:
    """Whether a confound is one of the cosines: a correlation above 0.9, nilearn's rule.

    Examples
    --------
    >>> cosines = cosine_drift(100, high_pass=0.01, t_r=2.0)
    >>> has_cosine(cosines[:, :1] * 3 + 1, cosines)
    True
    """
    # constant confounds and those with NaN in a censored frame correlate with nothing
    with np.errstate(invalid="ignore"):
        centred = confounds - confounds.mean(axis=0)
        norm = np.sqrt((centred**2).sum(axis=0))
        # cosines have mean 0 and length 1
        return bool((cosines.T @ centred > 0.9 * norm)[:, norm > 0].any())


def regress_out(
    signals: Signals,
    confounds: Signals,
    standardize_confounds: bool = True,
    size: Signals | None = None,
) -> Signals:
    """Remove from the signals all that is a linear combination of the confounds.

    Parameters
    ----------
    signals : ndarray, dims (time, series)
    confounds : ndarray, dims (time, confound)
        May be linearly dependent: a pivoted QR drops directions below 100 float64 epsilons.
    standardize_confounds : bool
        z-score confounds (ddof 1) first, which keeps the mean of the signals. If False, divide
        them by their maximum.
    size : ndarray, dims (confound,), optional
        Largest absolute values before detrending and filtering. A confound of which less than
        1e-13 is left is rounding error and takes no part.

    Notes
    -----
    Friston et al. (1994, Hum Brain Mapp 2:189): ``signals - Q Qᵀ signals``.

    Examples
    --------
    >>> drift = np.arange(5.0)[:, None]
    >>> regress_out(3 * drift + 1, drift).round(6).ravel()
    array([7., 7., 7., 7., 7.])
    """
    from scipy import linalg

    if standardize_confounds:
        confounds = _zscore(confounds, size)
    else:
        most = np.abs(confounds).max(axis=0)
        least = 0.0 if size is None else ROUNDING * size
        confounds = confounds / np.where(most <= least, np.inf, most)
    q, r, _ = linalg.qr(confounds, mode="economic", pivoting=True)
    q = q[:, np.abs(np.diag(r)) > EPS * 100]
    return signals - q @ (q.T @ signals)


def _zscore(signals: Signals, original_mean: Signals | None = None) -> Signals:
    if len(signals) == 1:
        return signals
    signals = signals - signals.mean(axis=0)
    std = signals.std(axis=0, ddof=1)
    least = EPS if original_mean is None else np.maximum(EPS, ROUNDING * np.abs(original_mean))
    signals /= np.where(std < least, np.inf, std)
    return signals


def _percent_change(signals: Signals, original_mean: Signals | None = None) -> Signals:
    mean = signals.mean(axis=0)
    # detrending and high-pass filters take the mean away, and percent of nothing explodes. One
    # verdict for all series, as in nilearn
    if original_mean is not None and np.abs(mean).sum() < 0.1 * np.abs(original_mean).sum():
        signals = signals + original_mean
        mean = signals.mean(axis=0)
    if len(signals) == 1:
        return signals
    zero = np.abs(mean) < EPS
    if zero.any():
        warn(
            f"standardize='psc': {zero.sum()} series have mean 0, of which no percentage can be "
            "taken. They are set to 0; use standardize='zscore_sample' for such data."
        )
    signals = 100 * (signals - mean) / np.where(zero, 1.0, np.abs(mean))
    signals[:, zero] = 0
    return signals


STANDARDIZERS: dict[str, Callable[[Signals, Signals | None], Signals]] = {
    "zscore_sample": _zscore,
    "psc": _percent_change,
}


def standardize(signals: Signals, how: str | None, original_mean: Signals | None = None) -> Signals:
    """Bring series to a common scale. A single frame is returned as it is.

    Parameters
    ----------
    signals : ndarray, dims (time, series)
    how : {"zscore_sample", "psc", None}
        Mean 0 and standard deviation 1 (ddof 1; constant series become 0), or percent change
        from the mean (series of mean 0 become 0, with a warning).
    original_mean : ndarray, dims (series,), optional
        Means before cleaning. "psc" adds them back when less than a tenth of them is left;
        "zscore_sample" takes what varies by less than 1e-13 of them as constant.

    Examples
    --------
    >>> standardize(np.array([[1.0], [2.0], [3.0]]), "zscore_sample").ravel()
    array([-1.,  0.,  1.])
    >>> standardize(np.array([[1.0], [2.0], [3.0]]), "psc").ravel()
    array([-50.,   0.,  50.])
    """
    check_choice("standardize", how, (*STANDARDIZERS, None))
    return signals.copy() if how is None else STANDARDIZERS[how](signals, original_mean)
