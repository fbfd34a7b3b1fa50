"""Clean labelled region time series, lazily: `daskroi.signals` on a DataArray."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from daskroi.censor import kept_frames, sample_mask_to_bool, split_runs
from daskroi.confounds import read_confounds
from daskroi.errors import DaskroiError, DaskroiTypeError, brief
from daskroi.image import declared_t_r
from daskroi.recipe import cleaned_again
from daskroi.signals import apply_steps, check_steps, output_dtype
from daskroi.steps import CleanSteps

__all__ = ["clean", "t_r_from_time"]

DIMS = ("time", "region")


def clean(
    series: xr.DataArray,
    steps: CleanSteps | Mapping[str, Any] | None = None,
    *,
    confounds: Any = None,
    columns: str | Sequence[str] | None = None,
    sample_mask: Any = None,
    runs: ArrayLike | None = None,
    **options: Any,
) -> xr.DataArray:
    """Detrend, filter, regress confounds out, censor and standardise region time series.

    Parameters
    ----------
    series : DataArray, dims (time, region)
        Lazy or in memory. Series with NaN (lost regions) come out as NaN.
    steps : CleanSteps or mapping, optional
        What to do. Or say it in ``options``.
    confounds : optional
        Anything `read_confounds` takes, or a dask array (time, confound), or a list of both.
        Read, and checked for length and NaN, at once; only a dask array waits.
    columns : str or list of str, optional
        Confounds to take from tables, with shell wildcards.
    sample_mask : optional
        Frames to keep: booleans or indices; with ``runs``, a list of one such per run.
    runs : array-like, dims (time,), optional
        Run label of each frame. Each run is cleaned on its own.
    **options
        Fields of `CleanSteps`: ``detrend``, ``standardize``, ``low_pass``, ``high_pass``, ``t_r``
        and so on; also ``butterworth__order`` and the like.

    Returns
    -------
    DataArray, dims (time, region)
        Lazy, one chunk, one task. ``time`` holds the kept frames; other coordinates and
        attributes are those of ``series``, but that ``recipe`` and ``confounds``, where
        `daskroi.extract` has written them, say what was done here too. float32 stays float32, all
        else becomes float64.

    Raises
    ------
    DaskroiError
        Bad options, confounds or masks, while building; see `CleanSteps`, `read_confounds` and
        `daskroi.signals.clean`.

    Notes
    -----
    Cleaning needs all frames at once, and 1,200 frames of 400 regions are 4 MB: hence one task.
    Without ``t_r``, a cutoff in Hz takes it from an evenly spaced ``time`` in seconds.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from daskroi import clean
    >>> time = ("time", np.arange(4) * 2.0, {"units": "s"})
    >>> series = xr.DataArray(
    ...     [[1.0], [2.0], [9.0], [3.0]], dims=("time", "region"), coords={"time": time}
    ... )
    >>> cleaned = clean(series, standardize="zscore_sample", sample_mask=[0, 1, 3])
    >>> cleaned.time.values
    array([0., 2., 6.])
    >>> cleaned.compute().values.ravel()
    array([-1.,  0.,  1.])
    """
    if not isinstance(series, xr.DataArray):
        raise DaskroiTypeError(
            f"series is a {type(series).__name__}. Give a DataArray (time, region), such as "
            "daskroi.extract returns."
        )
    if sorted(map(str, series.dims)) != sorted(DIMS):
        raise DaskroiError(f"series has dims {series.dims}, not {DIMS}. Rename or transpose it.")
    series = series.transpose(*DIMS)
    steps = _steps(series, steps, options, runs)
    n_time, n_region = series.shape
    keep = sample_mask_to_bool(sample_mask, n_time, runs)
    if columns is not None and confounds is None:
        raise DaskroiError(
            f"columns={brief(columns)} were chosen, but confounds were not given. Give both."
        )
    table, names = (None, ()) if confounds is None else _read(confounds, n_time, columns, keep)
    known = table if isinstance(table, np.ndarray) else None
    check_steps(steps, n_time, table is not None, known, keep, runs)

    frames = kept_frames(n_time, keep, runs)
    dtype = output_dtype(series.dtype)
    # one chunk each: blocks of map_blocks are matched by position, whatever their shape
    arrays = [_one_chunk(series.data)] + ([] if table is None else [_one_chunk(table)])
    cleaned = da.map_blocks(
        _clean_block,
        *arrays,
        steps=steps,
        keep=keep,
        runs=None if runs is None else np.asarray(runs),
        chunks=((len(frames),), (n_region,)),
        dtype=dtype,
        # with a meta, dask does not run the function on empty arrays to learn what it returns
        meta=np.empty((0, 0), dtype),
    )
    # there may be no coordinate along time
    coords = series.coords.to_dataset().isel(time=frames, missing_dims="ignore").coords
    attrs = series.attrs | _said(series.attrs, steps, names)
    return xr.DataArray(cleaned, coords, DIMS, name=series.name, attrs=attrs)


def _said(attrs: Mapping[Any, Any], steps: CleanSteps, names: Sequence[str]) -> dict[str, str]:
    """What the attributes of `daskroi.extract` have to say now: a report goes by them."""
    said = {}
    if "recipe" in attrs:
        said["recipe"] = cleaned_again(attrs["recipe"], steps)
    if names and "confounds" in attrs:
        with suppress(TypeError, ValueError):  # attributes may be anything
            said["confounds"] = json.dumps([*json.loads(attrs["confounds"]), *names])
    return said


def t_r_from_time(series: xr.DataArray, runs: ArrayLike | None = None) -> float:
    """Repetition time (s) from an evenly spaced ``time`` coordinate in seconds.

    Raises
    ------
    DaskroiError
        There is no such coordinate, its ``units`` are not "s", or its steps differ by more than
        0.1 %.

    Examples
    --------
    >>> time = ("time", [0.0, 1.5, 3.0], {"units": "s"})
    >>> t_r_from_time(xr.DataArray(np.zeros(3), dims="time", coords={"time": time}))
    1.5
    """
    remedy = "Pass t_r in s."
    if "time" not in series.coords:
        raise DaskroiError(f"t_r is missing and the series has no time coordinate. {remedy}")
    time = series.coords["time"]
    if time.attrs.get("units") != "s":
        raise DaskroiError(
            f"t_r is missing and time has units {time.attrs.get('units')!r}, not 's'. {remedy}"
        )
    values = np.asarray(time.values, dtype=np.float64)
    # each run may start at 0 again
    gaps = np.concatenate([np.diff(values[frames]) for frames in split_runs(len(values), runs)])
    if gaps.size == 0:
        raise DaskroiError(f"t_r is missing and a single frame does not tell. {remedy}")
    t_r = float(gaps.mean())
    if not np.allclose(gaps, t_r, rtol=1e-3, atol=0):
        raise DaskroiError(
            f"t_r is missing and the time between frames is {gaps.min():g} to {gaps.max():g} s. "
            "Pass t_r in s, and clean before leaving frames out."
        )
    said = declared_t_r(time).seconds
    if said is not None and np.allclose(gaps, said, rtol=1e-6, atol=0):
        return said
    # the mean of 0.72 s steps is 0.7199999999999999
    return round(t_r, 9)


def _steps(
    series: xr.DataArray,
    steps: CleanSteps | Mapping[str, Any] | None,
    options: dict[str, Any],
    runs: ArrayLike | None,
) -> CleanSteps:
    if isinstance(steps, CleanSteps):
        if options:
            raise DaskroiTypeError(
                f"steps and {', '.join(options)} were both given. Put all into one of them."
            )
        return steps
    if steps is not None and not isinstance(steps, Mapping):
        raise DaskroiTypeError(
            f"steps is a {type(steps).__name__}. Pass CleanSteps, a mapping of options, or options."
        )
    options = dict(steps or {}) | options
    if options.get("t_r") is None:
        # without t_r, CleanSteps refuses cutoffs; and without cutoffs, no t_r is needed
        cut = options.get("low_pass") is not None or options.get("high_pass") is not None
        if cut and options.get("filter", "butterworth") is not False:
            options["t_r"] = t_r_from_time(series, runs)
    return CleanSteps.make(**options)


def _read(
    confounds: Any,
    n_time: int,
    columns: str | Sequence[str] | None,
    keep: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.float64] | da.Array, Sequence[str]]:
    """Confounds side by side in the order given: NumPy, or dask if any of them is lazy; names."""
    items = list(confounds) if isinstance(confounds, (list, tuple)) else [confounds]
    items = [i.data if isinstance(i, xr.DataArray) else i for i in items]
    eager = [item for item in items if not isinstance(item, da.Array)]
    if len(eager) == len(items):
        return read_confounds(confounds, n_time, columns, keep)
    parts = []
    names: Sequence[str] = ()
    for item in items:
        if isinstance(item, da.Array) and (item.ndim != 2 or item.shape[0] != n_time):
            raise DaskroiError(
                f"lazy confounds have shape {item.shape} and the run has {n_time} frames. "
                "Give (time, confound), of full length."
            )
        if isinstance(item, da.Array):
            parts.append(item.astype(np.float64))
    if eager:
        # after the lazy ones, as nilearn puts high-variance confounds first; the order only
        # matters to a pivoted QR's rounding
        values, names = read_confounds(eager, n_time, columns, keep)
        parts.append(da.from_array(values, chunks=-1))
    return da.concatenate(parts, axis=1), names


def _one_chunk(array: Any) -> da.Array:
    if not isinstance(array, da.Array):
        return da.from_array(array, chunks=-1)
    # left to choose a method, rechunk imports distributed: 0.1 s where there is no cluster
    return array if array.npartitions == 1 else array.rechunk(-1, method="tasks")


def _clean_block(
    series: NDArray[Any],
    confounds: NDArray[np.float64] | None = None,
    *,
    steps: CleanSteps,
    keep: NDArray[np.bool_] | None,
    runs: NDArray[Any] | None,
) -> NDArray[np.floating[Any]]:
    return apply_steps(series, steps, confounds, keep, runs)
