"""Clean region time series: fill, detrend, filter, censor, regress confounds out, standardise.

NumPy in, NumPy out, always (time, series). Each step is in `daskroi.filters`. Steps and numbers are
those of ``nilearn.signal`` 0.14.1 and the order is that of Lindquist et al. (2019, Hum Brain Mapp
40:2358): the filter that acts on the signals also acts on the confounds, or regression would bring
back what the filter removed.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daskroi.censor import (
    AllFramesCensoredError,
    fill_censored,
    filtered_span,
    kept_frames,
    sample_mask_to_bool,
    split_runs,
)
from daskroi.errors import DaskroiError, DaskroiTypeError, warn
from daskroi.filters import (
    Signals,
    butterworth,
    cosine_drift,
    detrend,
    has_cosine,
    regress_out,
    standardize,
)
from daskroi.onethread import one_thread
from daskroi.steps import CleanSteps, clamp_cutoffs

__all__ = [
    "AllFramesCensoredError",
    "CleanSteps",
    "apply_steps",
    "butterworth",
    "check_steps",
    "clean",
    "cosine_drift",
    "detrend",
    "fill_censored",
    "kept_frames",
    "output_dtype",
    "regress_out",
    "sample_mask_to_bool",
    "standardize",
]


def clean(
    signals: ArrayLike,
    steps: CleanSteps,
    confounds: ArrayLike | None = None,
    sample_mask: Any = None,
    runs: ArrayLike | None = None,
) -> NDArray[np.floating[Any]]:
    """Clean series in the order of nilearn: fill, detrend, filter, censor, regress, standardise.

    Parameters
    ----------
    signals : ndarray, dims (time, series)
        Any real type. Series that are not finite (lost regions) come out as NaN and touch no
        other series.
    steps : CleanSteps
    confounds : ndarray, dims (time, confound) or (time,), optional
        Of full length, finite in the kept frames.
    sample_mask : optional
        Frames to keep, see `sample_mask_to_bool`.
    runs : array-like, dims (time,), optional
        Run label of each frame. Each run is cleaned on its own, with all steps.

    Returns
    -------
    ndarray, dims (kept time, series)
        float32 if ``signals`` are float32 (computed in float64 nevertheless), else float64. Rows
        are the frames of `kept_frames`. Inputs are not modified.

    Raises
    ------
    DaskroiError
        Lengths that differ, confounds that are not finite, a run too short for the filter.

    Examples
    --------
    >>> signals = np.array([[1.0, 5.0], [2.0, 4.0], [9.0, 9.0], [3.0, 6.0]])
    >>> clean(signals, CleanSteps(standardize="zscore_sample"), sample_mask=[0, 1, 3])
    array([[-1.,  0.],
           [ 0., -1.],
           [ 1.,  1.]])
    """
    values = np.asarray(signals)
    if values.ndim != 2:
        raise DaskroiError(
            f"signals have shape {values.shape}. Give two dimensions, (time, series)."
        )
    keep = sample_mask_to_bool(sample_mask, len(values), runs)
    table = None if confounds is None else np.asarray(confounds, dtype=np.float64)
    table = table[:, None] if table is not None and table.ndim == 1 else table
    check_steps(steps, len(values), table is not None, table, keep, runs)
    return apply_steps(values, steps, table, keep, runs)


def check_steps(
    steps: CleanSteps,
    n_time: int,
    confounded: bool = False,
    confounds: Signals | None = None,
    keep: NDArray[np.bool_] | None = None,
    runs: ArrayLike | None = None,
) -> None:
    """Raise or warn about all that can be known before any signal is.

    ``confounded`` says whether there will be confounds, ``confounds`` holds them if they are
    there already. Separate from `apply_steps` so that a lazy caller, and not a worker whose
    warnings nobody sees, tells the user.

    Examples
    --------
    >>> check_steps(CleanSteps(high_pass=0.01, t_r=2.0), n_time=10)
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: a run has 10 frames and the butterworth filter needs 19 ...
    """
    if n_time < 1:
        raise DaskroiError("signals have no frames: nothing to clean. Give at least one.")
    if confounds is not None:
        _check_confounds(confounds, n_time, keep)
    # a dict, so that ten runs say the same thing once
    messages: dict[str, None] = {}
    if confounded and not (steps.detrend or steps.standardize_confounds):
        messages[
            "detrend=False and standardize_confounds=False: unless the confounds have mean 0, "
            "regression also removes part of each mean. Set one of them to True."
        ] = None
    if steps.filter is False and (steps.low_pass is not None or steps.high_pass is not None):
        messages[
            f"filter=False: low_pass={steps.low_pass}, high_pass={steps.high_pass} are ignored. "
            "Pass filter='butterworth' to filter."
        ] = None
    for frames in split_runs(n_time, runs):
        own_keep = None if keep is None else keep[frames]
        if steps.active_filter == "butterworth":
            _check_length(steps, frames, own_keep)
            messages |= dict.fromkeys(_cutoff_warnings(steps))
        elif steps.active_filter == "cosine":
            own = None if confounds is None else confounds[frames]
            messages |= dict.fromkeys(_cosine_warnings(steps, len(frames), own))
        n_kept = len(frames) if own_keep is None else int(own_keep.sum())
        if confounds is not None and confounds.shape[1] >= n_kept > 1:
            messages[
                f"{confounds.shape[1]} confounds are regressed out of {n_kept} frames: nothing but "
                "rounding is left. Choose fewer columns, or keep more frames."
            ] = None
        if n_kept == 1 and (steps.detrend or steps.standardize):
            messages[
                "a single frame cannot be detrended or standardised, since nothing but 0 would "
                "be left: these steps are skipped."
            ] = None
    for message in messages:
        warn(message)


def _check_confounds(confounds: Signals, n_time: int, keep: NDArray[np.bool_] | None) -> None:
    if confounds.ndim != 2 or len(confounds) != n_time:
        raise DaskroiError(
            f"confounds have shape {confounds.shape} and the signals have {n_time} frames. Give "
            "(time, confound), of full length: censored frames are left out later."
        )
    finite = np.isfinite(confounds if keep is None else confounds[keep]).all(axis=0)
    if not finite.all():
        raise DaskroiError(
            f"confounds: columns {np.flatnonzero(~finite).tolist()} are not finite. Leave them "
            "out, fill them, or drop the frames with sample_mask."
        )


def _check_length(
    steps: CleanSteps, frames: NDArray[np.intp], keep: NDArray[np.bool_] | None
) -> None:
    n_time = len(frames)
    if keep is not None:
        span = filtered_span(keep, steps.extrapolate)
        n_time = span.stop - span.start
    if n_time < steps.min_frames:
        raise DaskroiError(
            f"a run has {n_time} frames and the butterworth filter needs {steps.min_frames} to "
            "pad its ends. Lower butterworth__order or butterworth__padlen, or use "
            "filter='cosine'."
        )


def _cutoff_warnings(steps: CleanSteps) -> list[str]:
    t_r = cast(float, steps.t_r)
    high, low = clamp_cutoffs(steps.high_pass, steps.low_pass, t_r)
    given = (("high_pass", steps.high_pass, high), ("low_pass", steps.low_pass, low))
    messages = [
        f"{name}={old} Hz lies outside 0 to {0.5 / t_r:g} Hz, the Nyquist frequency of "
        f"t_r={t_r:g} s, and becomes {new:.7g} Hz. Check t_r."
        for name, old, new in given
        if new != old
    ]
    if high == low:
        messages.append(
            "signals stay unfiltered, since high_pass and low_pass both become "
            f"{high:.7g} Hz. Check t_r."
        )
    return messages


def _cosine_warnings(steps: CleanSteps, n_time: int, confounds: Signals | None) -> list[str]:
    t_r, high_pass = cast(float, steps.t_r), cast(float, steps.high_pass)
    messages = []
    if steps.low_pass is not None:
        messages.append(
            f"filter='cosine' knows no low_pass: {steps.low_pass} Hz is ignored. "
            "Use filter='butterworth'."
        )
    if high_pass * t_r >= 0.5:
        messages.append(
            f"high_pass={high_pass} Hz is not below {0.5 / t_r:g} Hz, the Nyquist frequency of "
            f"t_r={t_r:g} s: the cosines explain everything. Lower high_pass."
        )
    cosines = cosine_drift(n_time, high_pass, t_r)
    if cosines.shape[1] == 0:
        messages.append(
            f"no cosine is slower than high_pass={high_pass} Hz in {n_time} frames of "
            f"{t_r:g} s: nothing is filtered. Raise high_pass."
        )
    elif confounds is not None and has_cosine(confounds, cosines):
        messages.append(
            "the confounds hold a cosine drift already (correlation > 0.9), so none are added. "
            "Leave it out, or pass filter=False."
        )
    return messages


def output_dtype(dtype: Any) -> np.dtype[Any]:
    """float32 stays float32, all else becomes float64; what is not real is refused.

    Examples
    --------
    >>> output_dtype("int16")
    dtype('float64')
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "biuf":
        raise DaskroiTypeError(f"signals hold {dtype}, not real numbers. Convert them first.")
    single = dtype.kind == "f" and dtype.itemsize == 4
    return np.dtype(np.float32 if single else np.float64)


@one_thread()
def apply_steps(
    signals: NDArray[Any],
    steps: CleanSteps,
    confounds: Signals | None = None,
    keep: NDArray[np.bool_] | None = None,
    runs: ArrayLike | None = None,
) -> NDArray[np.floating[Any]]:
    """Clean without the checks that `check_steps` has made: what a worker runs.

    Parameters are those of `clean`, with the mask as booleans.

    Examples
    --------
    >>> apply_steps(np.array([[1.0], [2.0], [4.0]]), CleanSteps(detrend=True)).round(2).ravel()
    array([ 0.17, -0.33,  0.17])
    """
    if confounds is not None:
        _check_confounds(confounds, len(signals), keep)  # lazy ones are first seen here
    dtype = output_dtype(signals.dtype)
    parts = [
        _apply_to_run(
            signals[frames].astype(np.float64),
            steps,
            None if confounds is None else confounds[frames],
            None if keep is None or keep[frames].all() else keep[frames],
        )
        for frames in split_runs(len(signals), runs)
    ]
    return np.concatenate(parts).astype(dtype, copy=False)


def _apply_to_run(
    signals: Signals,
    steps: CleanSteps,
    confounds: Signals | None,
    keep: NDArray[np.bool_] | None,
) -> Signals:
    if steps.ensure_finite:
        signals[~np.isfinite(signals)] = 0
    if steps.active_filter == "cosine":
        confounds = _add_cosines(steps, len(signals), confounds)
    if confounds is not None and confounds.shape[1] == 0:
        confounds = None
    kept = signals if keep is None else signals[keep]
    if confounds is None and not (steps.detrend or steps.standardize or steps.active_filter):
        return kept
    # one NaN spreads over its whole series anyway, and the spline and QR refuse to see it
    finite = np.isfinite(kept).all(axis=0)
    out = np.full(kept.shape, np.nan)
    if finite.any():
        # C order keeps the sums of nilearn, to the last bit
        out[:, finite] = _clean_finite(signals[:, finite], steps, confounds, keep)
    return out


def _add_cosines(steps: CleanSteps, n_time: int, confounds: Signals | None) -> Signals | None:
    cosines = cosine_drift(n_time, cast(float, steps.high_pass), cast(float, steps.t_r))
    if confounds is None:
        return cosines
    return confounds if has_cosine(confounds, cosines) else np.hstack((confounds, cosines))


def _clean_finite(
    signals: Signals,
    steps: CleanSteps,
    confounds: Signals | None,
    keep: NDArray[np.bool_] | None,
) -> Signals:
    """Steps on one run; all series are finite in the kept frames."""
    filtered = steps.active_filter == "butterworth"

    def before_regression(values: Signals) -> tuple[Signals, Signals]:
        """Alike for signals and confounds. The mean, too: percent change is relative to it."""
        if keep is not None:
            values = fill_censored(values, keep, steps.extrapolate) if filtered else values[keep]
        mean = values.mean(axis=0)
        if steps.detrend:
            values = detrend(values)
        if filtered:
            values = butterworth(
                values,
                t_r=cast(float, steps.t_r),
                low_pass=steps.low_pass,
                high_pass=steps.high_pass,
                **dict(steps.butterworth),
            )
            if keep is not None:
                values = values[keep[filtered_span(keep, steps.extrapolate)]]
        return values, mean

    signals, original_mean = before_regression(signals)
    if confounds is not None:
        size = np.abs(confounds if keep is None else confounds[keep]).max(axis=0)
        confounds, _ = before_regression(confounds)
        signals = regress_out(signals, confounds, steps.standardize_confounds, size)
    return standardize(signals, steps.standardize, original_mean)
