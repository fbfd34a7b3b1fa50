"""What all plots share: names that fit, given axes, errors; by the artists' data."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from plots import labels, make, overlap

import daskroi as dr
from daskroi import plot
from daskroi.connectome import connectome
from daskroi.errors import DaskroiError, DaskroiTypeError

pytestmark = pytest.mark.usefixtures("no_figures_left")


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


def test_what_cannot_be_drawn():
    cohort = connectome([make(), make()])
    with pytest.raises(DaskroiError, match=r"has dims \('run', .* Select one run"):
        plot.matrix(cohort)
    with pytest.raises(DaskroiError, match=r"this plot is of what daskroi.extract returns"):
        plot.carpet(connectome(make()))
    with pytest.raises(DaskroiTypeError, match="A ndarray has no labels to plot"):
        plot.series(np.zeros((3, 3)))
    for empty in (make()[:0], make()[:, :0]):
        for draw in (plot.series, plot.carpet):
            with pytest.raises(DaskroiError, match=r"The array is empty, .* Check the selection"):
                draw(empty)


def of_connectome(ts: xr.DataArray, ax: Any) -> Any:
    return plot.matrix(connectome(ts), ax=ax)


@pytest.mark.parametrize("draw", [plot.series, plot.carpet, of_connectome])
def test_names_with_dollars_are_no_mathematics(draw):
    figure, axes = plt.subplots()
    ts = make()
    ts["region_name"] = "region", ["$V_1$", r"$\frac{$", "5$", r"\$a$"]
    draw(ts, ax=axes)
    assert r"\$V_1\$" in labels(axes.yaxis)
    figure.canvas.draw()  # where matplotlib reads it
    if draw is plot.series:
        draw(ts[:, 1:2])
    if draw is plot.carpet:
        draw(ts, above={r"$\x{$": np.zeros(ts.sizes["time"])})
    if draw is of_connectome:
        plot.matrix(connectome(ts), networks=[r"$\x{$", "b", "b", "b"])
    plt.gcf().canvas.draw()


@pytest.mark.parametrize("draw", [plot.series, plot.carpet, of_connectome])
def test_given_axes_are_used(draw):
    figure, axes = plt.subplots(1, 2)
    before = plt.get_fignums()
    assert draw(make(), ax=axes[1]) is axes[1]
    assert axes[1].has_data()
    assert not axes[0].has_data()
    assert plt.get_fignums() == before
    figure.canvas.draw()


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
