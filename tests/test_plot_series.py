"""Plots along time: series, carpets and the strips above, and frames that are not there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from plots import labels, make

from daskroi import plot
from daskroi.errors import DaskroiError

pytestmark = pytest.mark.usefixtures("no_figures_left")


def test_series_have_names_and_one_scale():
    ts = make(units="%")
    ts[:, 2] = np.nan
    ax = plot.series(ts)
    assert labels(ax.yaxis) == ["R0", "R1", "R2", "R3"]
    assert ax.get_xlabel() == "time (s)"
    assert ax.get_ylabel().startswith("a step is ")
    assert ax.get_ylabel().endswith(" %")
    step = float(ax.get_ylabel().split()[3])
    for i in (0, 1, 3):
        drawn = (i - ax.lines[i].get_ydata()) * step  # the axis runs down
        np.testing.assert_allclose(drawn, ts[:, i] - ts[:, i].mean(), rtol=0.01, atol=0.01)
        np.testing.assert_array_equal(ax.lines[i].get_xdata(), ts.time)
    assert np.isnan(ax.lines[2].get_ydata()).all()
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert ax.get_xlim() == (-1, 59)
    assert not ax.patches


def test_series_of_some_regions():
    ts = make(units="%")
    ax = plot.series(ts.chunk(), regions=["R3", "R1"])
    assert labels(ax.yaxis) == ["R3", "R1"]
    ax = plot.series(ts, regions=[4])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), ts[:, 3])
    assert (ax.get_title(), ax.get_ylabel()) == ("R3", "%")
    assert plot.series(ts, regions="R2").get_title() == "R2"
    for wrong in (["R9"], [0]):
        with pytest.raises(DaskroiError, match=r"is not there\. Use ids \(1, 2, 3 and 1 more\) or"):
            plot.series(ts, regions=wrong)


def test_censored_frames_are_gaps_in_the_shade():
    keep = np.ones(30, bool)
    keep[[0, 5, 6, 12, 29]] = False
    ts = make().isel(time=keep)
    ax = plot.series(ts)  # as much as times tell
    y = ax.lines[0].get_ydata()
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), np.arange(1, 29) * 2.0)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(y)), [4, 5, 11])
    spans = [(p.get_x(), p.get_x() + p.get_width()) for p in ax.patches]
    assert spans == [(9, 13), (23, 25)]
    ax = plot.series(ts, censored=~keep)
    spans = [(p.get_x(), p.get_x() + p.get_width()) for p in ax.patches]
    assert spans == [(-1, 1), (9, 13), (23, 25), (57, 59)]
    assert ax.get_xlim() == (-1, 59)
    with pytest.raises(DaskroiError, match=r"censored leaves 26 of 30 frames, .* have 25"):
        plot.series(ts, censored=np.arange(30) < 4)


def test_time_axes_of_all_kinds():
    ts = make()
    assert plot.series(ts.drop_vars("time")).get_xlabel() == "frame"
    assert not plot.series(ts.isel(time=slice(None, None, 2))).patches  # strided, not censored
    frames = ts.assign_coords(time=("time", np.arange(30), {"units": "frame"}))
    assert plot.series(frames).get_xlabel() == "frame"
    minutes = ts.assign_coords(time=("time", np.arange(30) / 30, {"units": "min"}))
    assert plot.series(minutes).get_xlabel() == "time (min)"
    twice = xr.concat([ts, ts], "time")
    ax = plot.series(twice)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), np.arange(60))
    assert plot.series(ts.isel(time=[3])).get_xlim() == (5.5, 6.5)


def test_carpet():
    keep = np.ones(30, bool)
    keep[[5, 6]] = False
    ts = make().isel(time=keep)
    ts[:, 1] = np.nan
    ts[:, 2] = 1000.1
    ax = plot.carpet(ts)
    (image,) = ax.images
    drawn = image.get_array()
    assert drawn.shape == (4, 30)
    z = (ts - ts.mean("time")) / ts.std("time", ddof=1)
    np.testing.assert_allclose(drawn[0][keep], z[:, 0])
    np.testing.assert_allclose(drawn[2][keep], 0)
    assert np.ma.getmaskarray(np.ma.masked_invalid(drawn))[:, ~keep].all()
    assert np.ma.getmaskarray(np.ma.masked_invalid(drawn))[1].all()
    assert image.get_clim() == (-2, 2)
    assert image.cmap.name == "gray"
    assert not np.allclose(image.cmap.get_bad()[:3], image.cmap.get_bad()[0])  # is no grey
    assert image.get_extent() == [-1, 59, 3.5, -0.5]
    assert ax.get_xlabel() == "time (s)"
    assert labels(ax.yaxis) == ["R0", "R1", "R2", "R3"]
    assert not ax.child_axes


def test_strips_above_the_carpet():
    keep = np.ones(30, bool)
    keep[[5, 6]] = False
    ts = make().isel(time=keep)
    fd = np.linspace(0, 1, 30)
    above = {"FD (mm)": pd.Series(fd), "DVARS": xr.DataArray(fd[keep], dims="time")}
    ax = plot.carpet(ts, above=above)
    first, second = ax.child_axes
    np.testing.assert_array_equal(first.lines[0].get_ydata(), fd)
    np.testing.assert_array_equal(second.lines[0].get_ydata()[keep], fd[keep])
    assert np.isnan(second.lines[0].get_ydata()[~keep]).all()
    assert [a.get_ylabel() for a in ax.child_axes] == ["FD (mm)", "DVARS"]
    assert first.get_shared_x_axes().joined(first, ax)
    ax.figure.canvas.draw()
    boxes = [a.get_window_extent() for a in (ax, first, second)]
    assert boxes[0].y1 < boxes[1].y0 < boxes[1].y1 < boxes[2].y0
    assert plot.carpet(ts, above=fd).child_axes[0].get_ylabel() == ""
    with pytest.raises(DaskroiError, match=r"above: FD has 7 values for 28 frames .30 with"):
        plot.carpet(ts, above={"FD": np.zeros(7)})


@pytest.mark.parametrize("draw", [plot.series, plot.carpet])
@pytest.mark.parametrize(
    "change",
    [
        lambda ts: ts.isel(time=[]),
        lambda ts: ts.isel(region=[]),
        lambda ts: ts.astype(complex),
        lambda ts: ts.astype(str),
    ],
)
def test_nothing_to_draw(draw, change):
    with pytest.raises(DaskroiError, match=r"The array (is empty|holds .* not real numbers)"):
        draw(change(make()))


@pytest.mark.parametrize("draw", [plot.series, plot.carpet])
def test_times_that_are_no_seconds_are_counted(draw):
    ts = make(n_time=30)
    for times in (pd.date_range("2020", periods=30), pd.timedelta_range("0s", periods=30)):
        ax = draw(ts.assign_coords(time=times))
        assert ax.get_xlabel() == "frame"
        assert ax.dataLim.x1 <= 30
    draw(ts.assign_coords(time=("time", np.full(30, np.nan), {"units": "s"})))
