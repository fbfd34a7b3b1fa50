"""Which frames of a run are kept, and what stands in for the others while filtering."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daskroi.errors import DaskroiError, DaskroiIndexError, DaskroiTypeError, brief

__all__ = [
    "AllFramesCensoredError",
    "fill_censored",
    "filtered_span",
    "kept_frames",
    "sample_mask_to_bool",
    "split_runs",
]


class AllFramesCensoredError(DaskroiError):
    """A sample mask leaves no frame of a run."""


def sample_mask_to_bool(
    sample_mask: Any, n_time: int, runs: ArrayLike | None = None
) -> NDArray[np.bool_] | None:
    """Bring any spelling of a sample mask into one: True for frames that are kept.

    Parameters
    ----------
    sample_mask : array-like of bool or int, dims (time,), or list of these, or None
        Booleans (True: kept), or the indices of the kept frames in increasing order. With
        ``runs``, one such mask per run, in sorted order of the run labels (None: all kept), or
        booleans for all frames. Never modified.
    n_time : int
        Number of frames.
    runs : array-like, dims (time,), optional
        Run label of each frame.

    Returns
    -------
    ndarray of bool, dims (time,), or None
        None when no frame is censored.

    Raises
    ------
    DaskroiIndexError
        The mask is longer than its run, or names a frame the run does not have.
    DaskroiTypeError
        Neither booleans nor integers.
    DaskroiError
        Negative, repeated or unordered indices; booleans of another length than the run.
    AllFramesCensoredError
        Nothing is left.

    Examples
    --------
    >>> sample_mask_to_bool([1, 2], 4)
    array([False,  True,  True, False])
    >>> sample_mask_to_bool([[0], None], 4, runs=[0, 0, 1, 1])
    array([ True, False,  True,  True])
    """
    if sample_mask is None:
        return None
    members = list(split_runs(n_time, runs))
    listed = isinstance(sample_mask, (list, tuple)) and any(
        mask is None or np.ndim(mask) > 0 for mask in sample_mask
    )
    if runs is None or not listed:
        if listed:
            _check_count(sample_mask, members)
            sample_mask = sample_mask[0]
        if runs is not None and len(members) > 1 and np.asarray(sample_mask).dtype != bool:
            _check_count([sample_mask], members)
        keep = _one_mask(sample_mask, n_time, "sample_mask")
    else:
        _check_count(sample_mask, members)
        keep = np.ones(n_time, dtype=bool)
        for i, (frames, mask) in enumerate(zip(members, sample_mask, strict=True)):
            if mask is not None:
                keep[frames] = _one_mask(mask, len(frames), f"sample_mask of run {i + 1}")
    for i, frames in enumerate(members):
        if not keep[frames].any():
            which = "sample_mask" if len(members) == 1 else f"sample_mask of run {i + 1}"
            raise AllFramesCensoredError(
                f"{which} censors all {len(frames)} frames: nothing is left to clean. "
                "Relax the censoring threshold, or leave this run out."
            )
    return None if keep.all() else keep


def kept_frames(
    n_time: int, sample_mask: Any = None, runs: ArrayLike | None = None
) -> NDArray[np.intp]:
    """Frame index of each row that `clean` returns, known before anything is computed.

    Runs follow one another in sorted order of their labels, as in nilearn.

    Examples
    --------
    >>> kept_frames(4, [True, False, True, True])
    array([0, 2, 3])
    """
    keep = sample_mask_to_bool(sample_mask, n_time, runs)
    frames = np.concatenate(list(split_runs(n_time, runs)))
    return frames if keep is None else frames[keep[frames]]


def split_runs(n_time: int, runs: ArrayLike | None = None) -> Iterator[NDArray[np.intp]]:
    """Frame indices of each run, in sorted order of the run labels.

    Raises
    ------
    DaskroiError
        ``runs`` does not have one label per frame.

    Examples
    --------
    >>> [frames.tolist() for frames in split_runs(4, [1, 1, 2, 2])]
    [[0, 1], [2, 3]]
    """
    if runs is None:
        yield np.arange(n_time)
        return
    labels = np.asarray(runs)
    if labels.shape != (n_time,):
        raise DaskroiError(
            f"runs has shape {labels.shape} and the series has {n_time} frames. "
            "Give one run label per frame."
        )
    if labels.dtype == object and len({type(label) for label in labels}) == 1:
        labels = np.array(labels.tolist())  # a column of a table
    # NaN is no label: its frames would belong to no run, and be lost
    if labels.dtype.kind not in "biufSU" or (labels.dtype.kind == "f" and np.isnan(labels).any()):
        raise DaskroiTypeError(
            f"runs={brief(runs)} has labels that are neither numbers nor text. Give one of either "
            "kind per frame."
        )
    for label in np.unique(labels):
        yield np.flatnonzero(labels == label)


def filtered_span(keep: NDArray[np.bool_], extrapolate: bool) -> slice:
    """Frames that a filter sees: from the first to the last kept one, all if ``extrapolate``.

    Examples
    --------
    >>> filtered_span(np.array([False, True, False, True, False]), extrapolate=False)
    slice(1, 4, None)
    """
    if extrapolate:
        return slice(0, len(keep))
    kept = np.flatnonzero(keep)
    return slice(int(kept[0]), int(kept[-1]) + 1)


def fill_censored(
    signals: NDArray[np.float64], keep: NDArray[np.bool_], extrapolate: bool = False
) -> NDArray[np.float64]:
    """Replace censored frames by a cubic spline through the kept ones.

    Parameters
    ----------
    signals : ndarray, dims (time, series)
        Finite in the kept frames; what the censored ones hold never matters.
    keep : ndarray of bool, dims (time,)
        True for kept frames.
    extrapolate : bool
        Whether frames before the first and after the last kept one are filled or dropped.

    Returns
    -------
    ndarray, dims (time, series)
        The frames of `filtered_span`. A new array.

    Notes
    -----
    Frames are evenly spaced, so the spline (not-a-knot) is the same in frames as in seconds.
    nilearn 0.14.1 fills another set of frames: those whose mirror image in time is kept.

    Examples
    --------
    >>> fill_censored(np.array([[9.0], [0], [9], [2], [3]]), np.array([0, 1, 0, 1, 1], dtype=bool))
    array([[0.], [1.], [2.], [3.]])
    """
    span = filtered_span(keep, extrapolate)
    filled = signals[span].copy()
    censored = ~keep[span]
    if censored.any():
        if keep.sum() < 2:
            raise DaskroiError(
                "sample_mask leaves 1 frame, from which the others cannot be extrapolated. "
                "Pass extrapolate=False, or relax the censoring threshold."
            )
        from scipy.interpolate import CubicSpline

        frames = np.arange(len(signals), dtype=np.float64)
        spline = CubicSpline(frames[keep], signals[keep])
        filled[censored] = spline(frames[span][censored])
    return filled


def _check_count(masks: Any, members: list[NDArray[np.intp]]) -> None:
    if len(masks) != len(members):
        raise DaskroiError(
            f"sample_mask holds {len(masks)} mask(s) for {len(members)} run(s). "
            "Give a list of one mask per run."
        )


def _one_mask(sample_mask: Any, n_time: int, culprit: str) -> NDArray[np.bool_]:
    try:
        mask = np.asarray(sample_mask)
    except ValueError:  # rows of different lengths
        mask = np.empty(0, object)
    if mask.ndim == 0:
        raise DaskroiTypeError(
            f"{culprit}={brief(sample_mask)} is no mask. Give booleans (True: kept), or the "
            "indices of the kept frames."
        )
    if mask.ndim != 1:
        raise DaskroiError(f"{culprit} has shape {mask.shape}. Give one dimension, time.")
    if len(mask) > n_time:
        raise DaskroiIndexError(
            f"{culprit} has {len(mask)} entries and the run has {n_time} frames. "
            "Make the mask from the confounds of this run."
        )
    if mask.dtype == bool:
        if len(mask) != n_time:
            raise DaskroiError(
                f"{culprit} has {len(mask)} booleans and the run has {n_time} frames. "
                "Give one per frame, True for frames to keep."
            )
        return mask.copy()
    keep = np.zeros(n_time, dtype=bool)
    if len(mask) == 0 and mask.dtype != object:
        return keep
    if mask.dtype.kind not in "iu":
        raise DaskroiTypeError(
            f"{culprit} holds {mask.dtype}. Give booleans (True: kept) or the indices of the "
            "kept frames as integers."
        )
    if mask.min() < 0:
        raise DaskroiError(f"{culprit} has the negative index {mask.min()}. Count frames from 0.")
    if mask.max() >= n_time:
        raise DaskroiIndexError(
            f"{culprit} names frame {mask.max()} and the run has {n_time} frames, "
            f"0 to {n_time - 1}. Count frames from 0."
        )
    # unsigned types wrap around in np.diff
    if (np.diff(mask.astype(np.int64)) <= 0).any():
        raise DaskroiError(
            f"{culprit} is neither sorted nor free of repeats. Pass np.unique(sample_mask), "
            "or booleans if it is a mask of 0 and 1."
        )
    keep[mask] = True
    return keep
