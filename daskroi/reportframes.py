"""Finished series on the axis of all frames of a run, and rows of numbers for a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, DaskroiTypeError, some
from daskroi.image import declared_t_r

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["MOST_FRAMES", "FrameAxis", "Quantised", "checked_series", "frame_axis", "series_on"]

# of a run; times that begin later than this, such as those of a clock, count from their first
MOST_FRAMES = 200_000
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Quantised:
    """Rows of numbers as 16-bit steps between the smallest and largest of each row.

    No picture shows the difference: a row has 65,535 steps and a screen some 1,000 dots.

    Parameters
    ----------
    codes : uint16 array, dims (row, frame)
        0 is missing; otherwise ``low + (code - 1) * step``.
    low, step : float64 array, (row,)

    Examples
    --------
    >>> Quantised.of(np.array([[0.0, 1.0, np.nan]])).values()
    array([[ 0.,  1., nan]])
    """

    codes: NDArray[np.uint16]
    low: Floats
    step: Floats

    @classmethod
    def of(cls, rows: NDArray[Any]) -> Quantised:
        """Quantise rows, dims (row, frame); what is not finite is missing."""
        rows = np.asarray(rows, np.float64)
        finite = np.isfinite(rows)
        low = np.where(finite, rows, np.inf).min(axis=1, initial=np.inf)
        high = np.where(finite, rows, -np.inf).max(axis=1, initial=-np.inf)
        there = finite.any(axis=1)
        low, high = np.where(there, low, 0), np.where(there, high, 0)
        step = (high - low) / 65534
        codes = np.where(
            finite, (rows - low[:, None]) / np.where(step > 0, step, 1)[:, None] + 1, 0
        )
        return cls(np.rint(codes).astype(np.uint16), low, step)

    def values(self) -> Floats:
        """The numbers back, to half a step."""
        found = self.low[:, None] + (self.codes - 1.0) * self.step[:, None]
        return np.where(self.codes == 0, np.nan, found)


@dataclass(frozen=True, eq=False)
class FrameAxis:
    """All frames of a run, the censored ones too.

    Parameters
    ----------
    times : float64 array, (frame,)
        In ``unit``, ascending, evenly spaced unless the repetition time is not known.
    kept : int array, (kept frame,)
        Which of all frames the series have.
    unit : {"s", "frame"}
    t_r : float or None
        Seconds; None where it is not known.

    Examples
    --------
    >>> FrameAxis(np.arange(4) * 2.0, np.array([0, 3]), "s", 2.0).censored
    array([1, 2])
    """

    times: Floats
    kept: NDArray[np.int64]
    unit: str
    t_r: float | None

    @property
    def censored(self) -> NDArray[np.int64]:
        """Frames the series do not have."""
        return np.setdiff1d(np.arange(len(self.times)), self.kept)

    @property
    def step(self) -> float:
        """From frame to frame, in ``unit``."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else self.t_r or 1.0

    def spread(self, rows: NDArray[Any]) -> Floats:
        """Rows of kept frames, dims (row, kept frame), on all frames; NaN in between."""
        out = np.full((len(rows), len(self.times)), np.nan)
        out[:, self.kept] = rows
        return out


def frame_axis(ts: xr.DataArray, n_frames: int | None = None) -> FrameAxis:
    """Find out which frames of a run a series has.

    Parameters
    ----------
    ts : DataArray, dims (time, region)
        As `daskroi.extract` returns it.
    n_frames : int, optional
        Frames of the run. Without it, frames censored at the end do not show.

    Raises
    ------
    DaskroiError
        The series has more frames than that.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> axis = frame_axis(dr.extract(run.image, run.atlas, sample_mask=[4, 5, 8]), 20)
    >>> axis.kept, len(axis.censored), axis.unit
    (array([4, 5, 8]), 17, 's')
    """
    time = ts.coords.get("time")
    length = ts.sizes["time"]
    values: NDArray[Any] = np.arange(length) if time is None else np.asarray(time.values)
    if values.dtype.kind not in "iuf" or not np.isfinite(values.astype(np.float64)).all():
        values, time = np.arange(length), None  # dates and the like: counted
    values = values.astype(np.float64)
    unit = "s" if time is not None and time.attrs.get("units") == "s" else "frame"
    t_r = None if time is None else declared_t_r(time).seconds
    if unit == "s" and t_r is None:
        t_r = _shortest_step(np.diff(values))
    every = 1.0 if unit == "frame" else t_r
    if every is None or not every > 0:
        return _as_it_is(values, unit, None)
    kept = np.rint(values / every).astype(np.int64)
    if len(np.unique(kept)) != length or (kept < 0).any() or kept.max(initial=0) > MOST_FRAMES:
        return _as_it_is(values, unit, t_r)
    total = int(kept.max(initial=-1)) + 1 if n_frames is None else int(n_frames)
    if total < length or (length and kept.max() >= total):
        raise DaskroiError(
            f"The series has frame {int(kept.max())} (from 0), and n_frames={total}. Give the "
            "number of frames of the run before censoring."
        )
    return FrameAxis(np.arange(total) * every, kept, unit, t_r)


def _as_it_is(values: Floats, unit: str, t_r: float | None) -> FrameAxis:
    """Every frame of the series, and no other; counted if runs follow each other, each from 0."""
    frames = np.arange(len(values))
    if (np.diff(values) <= 0).any():
        values, unit = frames * 1.0, "frame"
    return FrameAxis(values, frames, unit, t_r)


def _shortest_step(steps: Floats) -> float | None:
    """The step that all others are multiples of: frames are missing there."""
    if not len(steps) or not steps.min() > 0:
        return None
    ratios = steps / steps.min()
    even = np.allclose(ratios, np.rint(ratios), rtol=0, atol=1e-3)
    return float(steps.min()) if even else None


def checked_series(ts: Any) -> xr.DataArray:
    """Series that are finished, as dims (time, region).

    Raises
    ------
    DaskroiTypeError
        Not a DataArray of real numbers with a region axis, or still lazy; regions that are not
        whole numbers, each once.
    """
    import xarray as xr

    if not isinstance(ts, xr.DataArray) or "region" not in ts.dims:
        what = f"dims {ts.dims}" if isinstance(ts, xr.DataArray) else type(ts).__name__
        raise DaskroiTypeError(
            f"Series are a DataArray with dims (time, region), as daskroi.extract returns; not "
            f"{what}. Give that."
        )
    coverage = ts.coords.get("coverage")
    if ts.chunks is not None or (coverage is not None and coverage.chunks is not None):
        raise DaskroiTypeError("The series are lazy and have no numbers yet. Call compute() first.")
    if ts.dtype.kind not in "biuf":
        raise DaskroiTypeError(f"The series hold {ts.dtype}, not real numbers. Convert them first.")
    if "time" not in ts.dims:
        ts = ts.expand_dims("time")
    if extra := [d for d in ts.dims if d not in ("time", "region")]:
        raise DaskroiTypeError(
            f"The series have dims {ts.dims}. Select along {', '.join(map(repr, extra))} first."
        )
    if "region" in ts.coords:
        ids = ts["region"].values
        if ids.dtype.kind not in "biuf" or not (ids == np.rint(ids)).all():
            raise DaskroiTypeError(
                f"The series have regions {some(map(repr, ids.tolist()), 5)}. Regions are the ids "
                "of the atlas, whole numbers; names are in the coordinate region_name."
            )
        found, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            raise DaskroiTypeError(
                f"The series have regions more than once: {some(found[counts > 1])}. Select one of "
                "each."
            )
    return ts.transpose("time", "region")


def series_on(ts: Any, ids: NDArray[Any] | None = None, atlas: str = "") -> xr.DataArray:
    """Finished series of all regions of an atlas, in its order, by id; NaN where there are none.

    Parameters
    ----------
    ts : DataArray, dims (time, region)
    ids : int array, (region,), optional
        None: the regions are those that there are.
    atlas : str
        Its name. Without it, ``ids`` may be some of the regions.

    Raises
    ------
    DaskroiError
        There are no frames or regions, or the atlas does not have them.

    Examples
    --------
    >>> import xarray as xr
    >>> ts = xr.DataArray([[1.0, 2.0]], {"region": [7, 3]}, ("time", "region"))
    >>> series_on(ts, np.array([3, 5, 7])).values
    array([[ 2., nan,  1.]])
    """
    ts = checked_series(ts)
    if 0 in ts.shape:
        raise DaskroiError(
            f"The series have {ts.sizes['time']} frames of {ts.sizes['region']} regions: nothing "
            "to report. Check the selection."
        )
    if "region" not in ts.coords:
        ts = ts.assign_coords(region=np.arange(ts.sizes["region"]))
    if ids is None:
        return ts
    if atlas and (unknown := sorted(set(ts["region"].values.tolist()) - set(ids.tolist()))):
        raise DaskroiError(
            f"The series have regions {some(unknown)}, which {atlas} does not have. Give the atlas "
            "they were extracted with."
        )
    return ts.reindex(region=ids)
