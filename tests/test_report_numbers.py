"""The numbers of a report: packed small, frames in their place, what is wrong with them said."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import daskroi as dr
from daskroi.errors import DaskroiError
from daskroi.reportdata import (
    confounding_of,
    correlations,
    demeaned,
    packed_correlations,
    region_moments,
    series_of,
)
from daskroi.reportframes import FrameAxis, Quantised, frame_axis
from daskroi.reportregions import region_warnings

ROWS = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.floats(-1e6, 1e6) | st.just(np.nan) | st.just(np.inf),
)


def frames(n: int) -> FrameAxis:
    return FrameAxis(np.arange(n) * 2.0, np.arange(n), "s", 2.0)


@given(ROWS)
def test_quantised_rows_come_back_to_half_a_step(rows: np.ndarray) -> None:
    packed = Quantised.of(rows)
    back = packed.values()
    finite = np.isfinite(rows)
    np.testing.assert_array_equal(np.isfinite(back), finite)
    error = np.abs(np.where(finite, back - np.where(finite, rows, 0), 0))
    assert (error <= packed.step[:, None] / 2 + 1e-9 * np.abs(packed.low[:, None])).all()


@given(ROWS)
def test_correlations_are_numpys_and_nan_poisons_no_others(values: np.ndarray) -> None:
    found = correlations(values)
    good = np.isfinite(values).all(axis=0)
    with np.errstate(all="ignore"):
        flat = values.std(axis=0) <= 1e-9 * np.abs(values).max(axis=0, initial=0)
    bad = ~good | flat
    assert np.isnan(found[bad & ~good]).all()
    if len(values) > 2 and (~bad).sum() > 1:
        with np.errstate(all="ignore"):
            expected = np.corrcoef(values[:, ~bad].T)
        np.testing.assert_allclose(found[np.ix_(~bad, ~bad)], expected, atol=1e-6)
    codes = packed_correlations(found)
    lower = found[np.tril_indices(len(found), -1)]
    np.testing.assert_array_equal(codes == -32768, np.isnan(lower))
    np.testing.assert_allclose(codes[codes != -32768] / 1e4, lower[~np.isnan(lower)], atol=5.1e-5)


@cache
def run_of(t_r: float) -> Any:
    return dr.make_phantom((8, 9, 8), n_time=20, n_regions=3, t_r=t_r)


@settings(max_examples=30)
@given(st.sets(st.integers(0, 19), min_size=1), st.sampled_from([0.5, 0.8, 2.2]))
def test_frames_are_found_by_their_times(kept: set[int], t_r: float) -> None:
    run = run_of(t_r)
    ts = dr.extract(run.image, run.atlas, sample_mask=sorted(kept))
    axis = frame_axis(ts, 20)
    assert axis.kept.tolist() == sorted(kept)
    assert len(axis.times) == 20
    np.testing.assert_allclose(axis.times, np.arange(20) * t_r)
    spread = axis.spread(np.arange(len(kept))[None].astype(float))
    assert np.flatnonzero(np.isfinite(spread[0])).tolist() == sorted(kept)


def test_frames_without_a_repetition_time_are_counted() -> None:
    ts = xr.DataArray(
        np.zeros((3, 1)), {"time": ("time", [0, 2, 5], {"units": "frame"})}, ("time", "region")
    )
    axis = frame_axis(ts, 7)
    assert axis.unit == "frame"
    assert axis.censored.tolist() == [1, 3, 4, 6]
    uneven = ts.assign_coords(time=("time", [0.0, 1.3, 7.0], {"units": "s"}))
    assert frame_axis(uneven).times.tolist() == [0.0, 1.3, 7.0]
    assert len(frame_axis(uneven).censored) == 0
    assert frame_axis(ts.drop_vars("time")).kept.tolist() == [0, 1, 2]
    # of a clock: not half a billion frames, of which all but three are censored
    clock = ts.assign_coords(time=("time", [1e9, 1e9 + 2, 1e9 + 4], {"units": "s"}))
    assert frame_axis(clock).times.tolist() == clock.time.values.tolist()
    runs = ts.assign_coords(time=("time", [0.0, 2.0, 0.0], {"units": "s", "t_r": 2.0}))
    axis = frame_axis(runs)
    assert (axis.times.tolist(), axis.unit, axis.t_r) == ([0, 1, 2], "frame", 2.0)
    with pytest.raises(DaskroiError, match=r"has frame 5 .* n_frames=4.*before censoring"):
        frame_axis(ts, 4)


def test_moments_of_regions(phantom: Any) -> None:
    ts = dr.extract(phantom.image, phantom.atlas).compute()
    mean, tsnr = region_moments(ts)
    np.testing.assert_allclose(mean, ts.mean("time"), rtol=1e-6)
    np.testing.assert_allclose(tsnr, ts.mean("time") / ts.std("time", ddof=1), rtol=1e-5)
    constant = xr.DataArray(np.full((4, 2), [7.1, np.nan]), dims=("time", "region"))
    mean, tsnr = region_moments(constant)
    assert mean[0] == 7.1
    assert np.isnan([mean[1], *tsnr]).all()


def test_confounds_that_people_look_at_come_first() -> None:
    rng = np.random.default_rng(0)
    names = [f"other_{i:02}" for i in range(40)] + ["rot_z", "framewise_displacement", "csf"]
    table = pd.DataFrame(rng.normal(size=(5, len(names))), columns=names)
    table.loc[0, "framewise_displacement"] = np.nan
    table["text"] = "no number"
    found = confounding_of(table, frames(5), used=["other_31"])
    assert found.names[:4] == ["framewise_displacement", "csf", "rot_z", "other_31"]
    assert len(found.names) == 24
    assert found.hidden == len(names) - 24
    assert found.displacement is not None
    np.testing.assert_array_equal(found.displacement, table["framewise_displacement"])
    np.testing.assert_allclose(found.rows.values()[1], table["csf"], atol=1e-4)
    # of kept frames only: spread over all
    axis = FrameAxis(np.arange(7.0), np.array([0, 1, 2, 4, 6]), "frame", None)
    assert np.flatnonzero(confounding_of(table, axis).rows.codes[1] == 0).tolist() == [3, 5]
    with pytest.raises(DaskroiError, match="confounds has 5 rows and the run 9 frames"):
        confounding_of(table, frames(9))


def test_what_is_wrong_with_regions_is_said() -> None:
    ids, names = np.arange(1, 7), list("abcdef")
    coverage = np.array([1.0, 0.0, 0.3, np.nan, 1.0, 1.0])
    series = np.tile(np.arange(4.0)[:, None], (1, 6))
    series[:, 1] = np.nan
    series[:, 4] = np.nan
    series[2, 5] = np.nan
    series[:, 0] = 3
    assert region_warnings(ids, names, coverage, series) == [
        "2 of 6 regions have no voxel in the image and mask: 2 b, 4 d.",
        "1 of 6 regions is covered less than 50%: 3 c.",
        "1 of 6 regions has no series though covered: 5 e.",
        "1 of 6 regions has frames without a value: 6 f.",
        "1 of 6 regions is constant: 1 a.",
    ]
    assert (
        region_warnings(ids, names, np.ones(6), np.random.default_rng(0).normal(size=(4, 6))) == []
    )


def test_series_say_their_unit(phantom: Any) -> None:
    units = {
        None: "Signal (units of the image)",
        "psc": "Signal change (%)",
        "zscore_sample": "z-score",
    }
    for standardize, unit in units.items():
        ts = dr.extract(phantom.image, phantom.atlas, standardize=standardize).compute()
        assert series_of(ts).unit == unit
    ts = dr.extract(phantom.image, phantom.atlas).compute()
    ts.attrs["recipe"] = "[not json"
    assert series_of(ts).unit == units[None]
    ts.attrs["recipe"] = json.dumps([1])
    assert series_of(ts).unit == units[None]


def test_series_of_no_real_numbers() -> None:
    ts = xr.DataArray(np.ones((5, 2), complex), dims=("time", "region"))
    with pytest.raises(DaskroiError, match="hold complex128, not real numbers"):
        series_of(ts)


def test_series_cleaned_afterwards_are_in_the_unit_they_were_brought_to() -> None:
    run = dr.make_phantom((12, 14, 12), n_time=40, n_regions=4)
    ts = dr.extract(run.image, run.atlas).compute()
    scores = dr.clean(ts, detrend=True, standardize="zscore_sample").compute()
    assert series_of(ts).unit == "Signal (units of the image)"
    assert series_of(scores).unit == "z-score"
    assert (demeaned(ts), demeaned(scores)) == (False, True)
