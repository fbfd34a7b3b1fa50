"""Numbers for a report: series, their correlations and moments, and confounds.

All of it small enough for a page: 400 regions and 1,200 frames are 1 MB here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError
from daskroi.onethread import one_thread
from daskroi.reportframes import FrameAxis, Quantised, checked_series, frame_axis

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = [
    "Confounding",
    "Series",
    "confounding_of",
    "correlations",
    "demeaned",
    "packed_correlations",
    "recipe_of",
    "region_moments",
    "series_of",
]

# a picture of more regions has less than a tenth of a dot for each, and weighs 8 MB
MOST_IN_MATRIX = 2000
MOST_CONFOUNDS = 24
# what people look at first, when there are more columns than are shown
CONFOUNDS_FIRST = (
    "framewise_displacement",
    "dvars",
    "std_dvars",
    "rmsd",
    "global_signal",
    "csf",
    "white_matter",
    *(f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"),
)

Floats = NDArray[np.float64]


def _numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """In double, with NaN for what is not finite: infinities make NumPy warn."""
    values = np.array(values, np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def region_moments(ts: xr.DataArray) -> tuple[Floats, Floats]:
    """Mean and temporal signal-to-noise ratio (mean / standard deviation, ddof 1) of regions.

    Returns
    -------
    mean, tsnr : float64 array, (region,)
        NaN for lost regions; the ratio also for constant series.

    Examples
    --------
    >>> import xarray as xr
    >>> mean, tsnr = region_moments(xr.DataArray([[1.0], [3.0]], dims=("time", "region")))
    >>> mean, tsnr.round(3)
    (array([2.]), array([1.414]))
    """
    values = _numbers(checked_series(ts).values)
    mean = values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(len(mean), np.nan)
    # rounding noise of a constant is no noise
    steady = ~(spread > 1e-12 * np.abs(mean))
    return mean, np.where(steady, np.nan, mean / np.where(steady, 1, spread))


@one_thread()
def correlations(values: NDArray[Any]) -> Floats:
    """Pearson correlation of all pairs of columns; NaN for columns without variance or with NaN.

    Parameters
    ----------
    values : array, dims (time, region)

    Returns
    -------
    float64 array, dims (region, region)

    Examples
    --------
    >>> correlations(np.array([[1.0, 2, 5, np.nan], [2, 1, 5, 0], [3, 0, 5, 1]]))[0]
    array([ 1., -1., nan, nan])
    """
    values = _numbers(values)
    found = np.full((values.shape[1],) * 2, np.nan)
    if len(values) < 2:
        return found
    spread = values.std(axis=0)
    good = np.flatnonzero(np.isfinite(spread) & (spread > 1e-12 * np.abs(values.mean(axis=0))))
    z = (values[:, good] - values[:, good].mean(axis=0)) / spread[good]
    found[np.ix_(good, good)] = np.clip(z.T @ z / len(z), -1, 1)
    return found


def packed_correlations(matrix: Floats) -> NDArray[np.int16]:
    """The part below the diagonal, row after row, in steps of 1e-4; -32768 where missing.

    Examples
    --------
    >>> packed_correlations(np.array([[1.0, 0.25], [0.25, 1.0]]))
    array([2500], dtype=int16)
    """
    values = matrix[np.tril_indices(len(matrix), -1)]
    finite = np.isfinite(values)
    return np.where(finite, np.rint(np.where(finite, values, 0) * 10000), -32768).astype(np.int16)


@dataclass(frozen=True, eq=False)
class Series:
    """Region series as a report shows them.

    Parameters
    ----------
    frames : FrameAxis
    rows : Quantised
        dims (region, frame): all frames; missing where censored, or where a region is.
    matrix : int16 array or None
        `packed_correlations`; None for one frame, or more than 2,000 regions.
    unit : str
        For an axis.
    comparable : bool
        Whether series of several regions can share an axis as they are.
    """

    frames: FrameAxis
    rows: Quantised
    matrix: NDArray[np.int16] | None
    unit: str
    comparable: bool


@dataclass(frozen=True, eq=False)
class Confounding:
    """Confounds as a report shows them.

    Parameters
    ----------
    names : list of str
    rows : Quantised
        dims (confound, frame).
    displacement : float64 array, (frame,), or None
        Framewise displacement in mm.
    hidden : int
        Confounds that are not shown, for there are too many.
    """

    names: list[str]
    rows: Quantised
    displacement: NDArray[np.float64] | None
    hidden: int = 0


def series_of(
    ts: xr.DataArray, n_frames: int | None = None, *, at_least: int | None = None
) -> Series:
    """Prepare finished series for a report.

    Parameters
    ----------
    ts : DataArray, dims (time, region)
        Computed. Attribute ``recipe``, as `daskroi.extract` writes it, says what unit it has.
    n_frames : int, optional
        Frames of the run before censoring.
    at_least : int, optional
        The same, where it may be that of something else; then it counts if it is large enough.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> found = series_of(dr.extract(run.image, run.atlas, standardize="psc").compute())
    >>> found.rows.codes.shape, found.matrix.shape, found.unit
    ((4, 20), (6,), 'Signal change (%)')
    """
    ts = checked_series(ts)
    frames = frame_axis(ts, n_frames)
    if n_frames is None and (at_least or 0) > len(frames.times):
        frames = frame_axis(ts, at_least)
    values = _numbers(ts.values)
    standardize = recipe_of(ts).get("standardize")
    unit = {"zscore_sample": "z-score", "psc": "Signal change (%)"}.get(
        "zscore_sample" if standardize is True else str(standardize), "Signal (units of the image)"
    )
    matrix = None
    if len(values) > 1 and values.shape[1] <= MOST_IN_MATRIX:
        matrix = packed_correlations(correlations(values))
    rows = Quantised.of(frames.spread(values.T))
    means, spreads = values.mean(axis=0), values.std(axis=0)
    there = np.isfinite(means)
    # a plot of several lines wants them near each other
    comparable = not there.any() or np.ptp(means[there]) <= 6 * np.median(spreads[there])
    return Series(frames, rows, matrix, unit, bool(comparable))


def recipe_of(ts: xr.DataArray) -> dict[str, Any]:
    """What was done to series, as their attribute ``recipe`` has it; {} if it does not say.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> recipe = recipe_of(dr.extract(run.image, run.atlas, detrend=True))
    >>> recipe["strategy"], recipe["detrend"]
    ('mean', True)
    """
    try:
        found = json.loads(ts.attrs.get("recipe", "{}"))
    except (TypeError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    clean = found.pop("clean", None)
    return found | (clean if isinstance(clean, dict) else {})


def demeaned(ts: xr.DataArray) -> bool:
    """Whether cleaning has taken the mean out of series, so that they do not tell it any more."""
    recipe = recipe_of(ts)
    filters = recipe.get("filter") == "cosine" or (
        recipe.get("high_pass") and recipe.get("filter") is not False
    )
    return bool(recipe.get("standardize") or recipe.get("detrend") or filters)


def confounding_of(table: pd.DataFrame, frames: FrameAxis, used: Iterable[str] = ()) -> Confounding:
    """Prepare confounds for a report.

    Parameters
    ----------
    table : DataFrame
        A row for each of all frames, or for each kept one; columns that are no numbers are left
        out.
    frames : FrameAxis
        Of the series.
    used : iterable of str
        Columns that were regressed out: shown rather than others.

    Raises
    ------
    DaskroiError
        Another number of rows.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"csf": [1.0, 2.0], "framewise_displacement": [np.nan, 0.1]})
    >>> found = confounding_of(table, FrameAxis(np.arange(2.0), np.arange(2), "s", 1.0))
    >>> found.names, found.displacement
    (['framewise_displacement', 'csf'], array([nan, 0.1]))
    """
    import pandas as pd

    n = len(frames.times)
    if len(table) not in (n, len(frames.kept)):
        raise DaskroiError(
            f"confounds has {len(table)} rows and the run {n} frames. Give the confounds of this "
            "run, and n_frames= where frames were censored at its end."
        )
    numbers = table.apply(pd.to_numeric, errors="coerce")
    numbers.columns = [str(c) for c in table.columns]
    numbers = numbers.loc[:, numbers.notna().any() & ~numbers.columns.duplicated()]
    rows = numbers.to_numpy(np.float64).T
    if len(table) != n:
        rows = frames.spread(rows)
    names = list(numbers.columns)
    order = [*CONFOUNDS_FIRST, *used]
    ranks = {name: i for i, name in reversed(list(enumerate(order)))}
    chosen = sorted(range(len(names)), key=lambda i: ranks.get(names[i], len(order)))
    chosen = chosen[:MOST_CONFOUNDS]
    fd = "framewise_displacement"
    return Confounding(
        [names[i] for i in chosen],
        Quantised.of(rows[chosen] if chosen else np.empty((0, n))),
        rows[names.index(fd)] if fd in names else None,
        len(names) - len(chosen),
    )
