"""Plots: what is drawn, by the data of the artists, their labels and limits."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import daskroi as dr
from daskroi import plot
from daskroi.connectome import connectome
from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.grid import Grid
from daskroi.image import make_image

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


def make(n_time: int = 30, n_region: int = 4, prefix: str = "R", **attrs: Any) -> xr.DataArray:
    values = np.random.default_rng(0).normal(size=(n_time, n_region)) + np.arange(n_region) * 100
    coords = {
        "time": ("time", np.arange(n_time) * 2.0, {"units": "s", "t_r": 2.0}),
        "region": np.arange(n_region) + 1,
        "region_name": ("region", np.array([f"{prefix}{i}" for i in range(n_region)], object)),
    }
    return xr.DataArray(values, coords, ("time", "region"), name="timeseries", attrs=attrs)


def labels(axis: Any) -> list[str]:
    """Labels that can be seen."""
    axis.figure.canvas.draw()
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    return [t.get_text() for at, t in ticks if low <= at <= high and t.get_text()]


def overlap(axis: Any) -> bool:
    """Whether two labels lie on each other."""
    axis.figure.canvas.draw()
    boxes = [t.get_window_extent() for t in axis.get_ticklabels() if t.get_text()]
    vertical = axis.axis_name == "y"
    spans = sorted((b.y0, b.y1) if vertical else (b.x0, b.x1) for b in boxes)
    return any(a[1] > b[0] + 1 for a, b in pairwise(spans))


def test_xarrays_own_plot_knows_labels_and_units():
    phantom = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    ts = dr.extract(phantom.image, phantom.atlas)
    lines = ts.plot.line(x="time")
    ax = lines[0].axes
    assert len(lines) == 4
    assert ax.get_xlabel() == "time [s]"
    assert ax.get_ylabel() == "timeseries"
    np.testing.assert_allclose(lines[2].get_ydata(), ts[:, 2])
    legend = [t.get_text() for t in ax.get_legend().get_texts()]
    assert legend == [str(i) for i in ts.region.values]
    plt.close("all")
    mesh = ts.plot()  # region by time, as an image
    assert mesh.axes.get_ylabel() == "time [s]"
    plt.close("all")
    (line,) = ts.isel(region=0).plot()
    assert ts.region_name.values[0] in line.axes.get_title()
    plt.close("all")
    mesh = connectome(ts).plot()
    assert {mesh.axes.get_xlabel(), mesh.axes.get_ylabel()} == {"region", "other_region"}


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


def test_names_are_thinned_to_what_fits():
    n_region = 400
    ts = make(20, n_region, "7Networks_LH_SalVentAttn_ParOper_and_more_")
    for ax in (plot.series(ts), plot.carpet(ts), plot.matrix(connectome(ts))):
        found = labels(ax.yaxis)
        assert 10 < len(found) <= n_region
        assert not overlap(ax.yaxis)
        assert all(len(n) <= 36 for n in found)
        assert found[0].startswith("7Networks_LH")
        assert found[0].endswith("_0")
    assert not overlap(ax.xaxis)
    ax.set(xlim=(9.5, 20.5), ylim=(20.5, 9.5))  # zoomed in, all are there
    assert [n.rpartition("_")[2] for n in labels(ax.yaxis)] == [str(i) for i in range(10, 21)]


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


def test_matrix():
    ts = make()
    ts[:, 2] = np.nan
    found = connectome(ts, shrinkage=None)
    ax = plot.matrix(found)
    (image,) = ax.images
    drawn = image.get_array()
    np.testing.assert_array_equal(drawn.filled(np.nan), found)
    assert drawn.mask[2].all()
    off = np.abs(found.values[~np.eye(4, dtype=bool)])
    assert image.get_clim() == (-np.nanmax(off), np.nanmax(off))
    bad = image.cmap.get_bad()
    assert np.allclose(bad[:3], bad[0])  # grey
    assert abs(bad[0] - image.cmap(0.5)[0]) > 0.25  # and not the white of 0
    assert labels(ax.yaxis) == labels(ax.xaxis) == ["R0", "R1", "R2", "R3"]
    assert ax.figure.axes[-1].get_ylabel() == "correlation"
    ax = plot.matrix(connectome(ts, fisher_z=True), vmax=0.7)
    assert ax.images[0].get_clim() == (-0.7, 0.7)
    assert ax.figure.axes[-1].get_ylabel() == "Fisher's z of correlation"
    assert len(plot.matrix(found, colorbar=False).figure.axes) == 1
    edges = connectome(make(), vectorize=True)
    np.testing.assert_allclose(plot.matrix(edges).images[0].get_array(), connectome(make()))
    nothing = plot.matrix(found * np.nan)
    assert nothing.images[0].get_clim() == (-1, 1)


TABLE = pd.DataFrame({"index": [1, 2, 3, 4], "network": ["Vis", "Default", "Vis", "Default"]})


@pytest.mark.parametrize(
    "networks",
    [
        TABLE,
        dict(zip(TABLE["index"], TABLE["network"], strict=True)),
        {"R0": "Vis", "R1": "Default", "R2": "Vis", "R3": "Default"},
        ["Vis", "Default", "Vis", "Default"],
        type("AnAtlas", (), {"table": TABLE}),
        None,
    ],
)
def test_networks_are_blocks(networks):
    ts = make()
    if networks is None:
        ts = ts.assign_coords(network=("region", TABLE["network"].to_numpy(object)))
    found = connectome(ts)
    ax = plot.matrix(found, networks=networks)
    order = [0, 2, 1, 3]
    np.testing.assert_array_equal(ax.images[0].get_array(), found.values[np.ix_(order, order)])
    assert labels(ax.yaxis) == ["R0", "R2", "R1", "R3"]
    (far,) = ax.child_axes
    assert labels(far.xaxis) == ["Vis", "Default"]
    np.testing.assert_allclose(far.get_xticks(), [0.5, 2.5])
    assert [line.get_ydata()[0] for line in ax.lines if np.ptp(line.get_ydata()) == 0] == [1.5]
    assert len(ax.lines) == 2
    ax = plot.carpet(ts, networks=networks)
    assert labels(ax.yaxis) == ["R0", "R2", "R1", "R3"]
    assert labels(ax.child_axes[0].yaxis) == ["Vis", "Default"]
    assert not plot.carpet(ts, networks=False).child_axes


def test_networks_of_schaefers_names_and_mistakes():
    ts = make()
    names = ["7Networks_LH_Vis_1", "7Networks_RH_Default_pCunPCC_1"] * 2
    named = ts.assign_coords(region_name=("region", np.array(names, object)))
    assert labels(plot.matrix(connectome(named)).child_axes[0].xaxis) == ["Vis", "Default"]
    some = plot.matrix(connectome(ts), networks={1: "Vis"})
    assert labels(some.child_axes[0].xaxis) == ["Vis", "none"]
    with pytest.raises(DaskroiError, match="networks has 2 entries for 4 regions"):
        plot.matrix(connectome(ts), networks=["a", "b"])
    with pytest.raises(DaskroiError, match="no column 'network'; it has 'index', 'net'"):
        plot.matrix(connectome(ts), networks=TABLE.rename(columns={"network": "net"}))


def test_what_cannot_be_drawn():
    cohort = connectome([make(), make()])
    with pytest.raises(DaskroiError, match=r"has dims \('run', .* Select one run"):
        plot.matrix(cohort)
    with pytest.raises(DaskroiError, match=r"this plot is of what daskroi.extract returns"):
        plot.carpet(connectome(make()))
    with pytest.raises(DaskroiTypeError, match="A ndarray has no labels to plot"):
        plot.series(np.zeros((3, 3)))


def of_connectome(ts: xr.DataArray, ax: Any) -> Any:
    return plot.matrix(connectome(ts), ax=ax)


@pytest.mark.parametrize("draw", [plot.series, plot.carpet, of_connectome])
def test_given_axes_are_used(draw):
    figure, axes = plt.subplots(1, 2)
    before = plt.get_fignums()
    assert draw(make(), ax=axes[1]) is axes[1]
    assert axes[1].has_data()
    assert not axes[0].has_data()
    assert plt.get_fignums() == before
    figure.canvas.draw()


# x runs right to left; z and y are mixed by 20 degrees
ANGLE = np.deg2rad(20)
OBLIQUE = np.array(
    [
        [-2, 0, 0, 20],
        [0, 2 * np.cos(ANGLE), -3 * np.sin(ANGLE), -15],
        [0, 2 * np.sin(ANGLE), 3 * np.cos(ANGLE), -20],
        [0, 0, 0, 1],
    ]
)
STRAIGHT = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -15], [0, 0, 3, -20], [0, 0, 0, 1]])


def an_atlas(affine: np.ndarray) -> Any:
    """Three boxes; 10 is at the left, 20 at the right, 30 high up."""
    values = np.zeros((14, 16, 20), "i2")  # z, y, x
    values[3:7, 5:11, 12:18] = 10  # a high x index is a negative x
    values[3:7, 5:11, 2:8] = 20
    values[9:12, 6:9, 9:12] = 30
    grid = Grid.make(values.shape, affine)
    return dr.load_atlas(make_image(values, grid), labels=["left", "right", "top"])


def at_pixels(ax: Any, image: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of an image, and where their centres are along and up."""
    left, right, bottom, top = image.get_extent()
    array = image.get_array()
    assert image.origin == "lower"
    rows, columns = array.shape[:2]
    along = left + (np.arange(columns) + 0.5) * (right - left) / columns
    up = bottom + (np.arange(rows) + 0.5) * (top - bottom) / rows
    return array, along, up


@pytest.mark.parametrize("affine", [STRAIGHT, OBLIQUE])
def test_regions_are_where_they_are_in_mm(affine):
    atlas = an_atlas(affine)
    at = affine[:3, :3] @ [15, 8, 5] + affine[:3, 3]  # in region 10
    values = {10: 1.0, 20: 3.0}
    axes = plot.regions(atlas, values, at=at, cmap="viridis", vmin=0, vmax=4)
    colours = {i: mpl.colormaps["viridis"](v / 4) for i, v in values.items()}
    colours[30] = to_rgba("#9e9e9e")
    inverse = np.linalg.inv(affine)
    for ax, (cut, along, up) in zip(axes, [(0, 1, 2), (1, 0, 2), (2, 0, 1)], strict=True):
        (image,) = ax.images
        array, us, vs = at_pixels(ax, image)
        seen = set()
        for i in range(0, len(vs), 3):
            for j in range(0, len(us), 3):
                point = np.array(at, float)
                point[along], point[up] = us[j], vs[i]
                voxel = np.floor(inverse[:3, :3] @ point + inverse[:3, 3] + 0.5).astype(int)[::-1]
                inside = (voxel >= 0).all() and (voxel < atlas.labels.shape).all()
                label = int(atlas.labels[tuple(voxel)]) if inside else 0
                if label:
                    np.testing.assert_allclose(array[i, j], colours[label])
                    seen.add(label)
                else:
                    assert array[i, j, 3] == 0
        assert 10 in seen
        assert (20 in seen) == (cut != 0)
        assert ax.get_title() == f"{'xyz'[cut]} = {at[cut]:g} mm"
        assert (ax.get_xlabel(), ax.get_ylabel()) == (f"{'xyz'[along]} (mm)", f"{'xyz'[up]} (mm)")
        assert ax.get_aspect() == 1
        cross = [line.get_xdata()[0] for line in ax.lines if np.ptp(line.get_xdata()) == 0]
        assert cross == [at[along]]
    # the status line names what is there
    assert axes[1].format_coord(at[0], at[2]).endswith("mm  left")


def test_left_is_left_and_says_so():
    axes = plot.regions(an_atlas(STRAIGHT), [1.0, 2.0, 3.0], at=(0, 0, -5), vmin=0)
    for ax in axes[1:]:
        array, along, _ = at_pixels(ax, ax.images[0])
        one = np.isclose(array, mpl.colormaps["viridis"](1 / 3)).all(axis=-1).any(axis=0)
        assert (along[one] < 0).all()
        sides = {t.get_text(): t.get_position()[0] for t in ax.texts}
        assert sides["L"] < 0.5 < sides["R"]
        assert ax.get_xlim()[0] < ax.get_xlim()[1]
    sides = {t.get_text(): t.get_position()[0] for t in axes[0].texts}
    assert sides["P"] < 0.5 < sides["A"]


def test_background_on_another_grid():
    atlas = an_atlas(STRAIGHT)
    grid = Grid.make((12, 14, 11), np.array([[4.0, 0, 0, -20], [0, 4, 0, -25], [0, 0, 4, -22],
                                             [0, 0, 0, 1]]))  # fmt: skip
    x = grid.matrix[0, 0] * np.arange(11) + grid.matrix[0, 3]
    volume = np.broadcast_to(x + 100, grid.shape).astype("f4")
    run = make_image(np.stack([volume, volume + 2]), grid, t_r=2.0)
    axes = plot.regions(atlas, background=run, at=(0, 0, -5), alpha=0.5)
    below, above = axes[2].images
    array, along, _ = at_pixels(axes[2], below)
    nearest = x[np.abs(along[:, None] - x).argmin(axis=1)]
    np.testing.assert_allclose(array[20], nearest + 101, atol=4.01)  # the mean over time
    assert below.get_cmap().name == "gray"
    assert axes[2].get_xlim() == (-22, 22)  # of the background
    assert set(np.unique(above.get_array()[..., 3])) == {0.0, 0.5}
    lazy = make_image(run.chunk(time=1).data, grid, t_r=2.0)
    again = plot.regions(atlas, background=lazy, at=(0, 0, -5))
    np.testing.assert_allclose(again[2].images[0].get_array(), array)


def test_scales_of_values():
    atlas = an_atlas(STRAIGHT)
    signed = plot.regions(atlas, [-1.0, 4.0, np.nan])
    bar = signed[0].figure.axes[-1]
    assert bar.get_ylim() == (-4, 4)
    values = xr.DataArray([1.0, 2.0], {"region": [20, 10]}, "region", name="coverage")
    found = plot.regions(atlas, values)
    assert found[0].figure.axes[-1].get_ylabel() == "coverage"
    assert found[0].figure.axes[-1].get_ylim() == (1, 2)
    one = len(plot.regions(atlas, values, colorbar=False)[0].figure.axes)
    assert len(found[0].figure.axes) == one + 1
    assert np.isfinite(plot.regions(atlas, [np.nan] * 3)[0].figure.axes[-1].get_ylim()).all()


def test_neighbouring_regions_have_different_colours():
    axes = plot.regions(an_atlas(STRAIGHT), at=(0, 0, -5))
    array = axes[2].images[0].get_array()
    assert len(np.unique(array[array[..., 3] > 0], axis=0)) == 2
    assert len(axes[0].figure.axes) == 1


def test_regions_in_given_axes_and_mistakes():
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    atlas = an_atlas(STRAIGHT)
    axes = plot.regions(atlas, ax=right)
    figure.canvas.draw()
    assert all(ax.get_window_extent().x0 > left.get_window_extent().x1 for ax in axes)
    with pytest.raises(DaskroiError, match=r"values has shape \(2,\), and atlas atlas 3 regions"):
        plot.regions(atlas, [1.0, 2.0])
    with pytest.raises(DaskroiError, match="values is of none of the 3 regions"):
        plot.regions(atlas, {1: 2.0})
    for at in ((1, 2), "abc", [1, 2, np.nan]):
        with pytest.raises(DaskroiError, match=r"at=.* is not a point"):
            plot.regions(atlas, at=at)
    with pytest.raises(DaskroiError, match=r"values has dims \('time', 'region'\)"):
        plot.regions(atlas, make())
    with pytest.raises(DaskroiTypeError, match="A SphereAtlas has no label image"):
        plot.regions(dr.load_atlas([(0, 0, 0)], radius=5))


def test_without_matplotlib_the_remedy_is_said():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import numpy as np, xarray as xr\n"
        "from daskroi import plot\n"
        "try: plot.series(xr.DataArray(np.zeros((3, 2)), dims=('time', 'region')))\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "pip install 'daskroi[plot]'" in done.stdout
