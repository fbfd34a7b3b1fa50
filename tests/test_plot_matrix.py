"""Plot of a connectome: its colours, scale and names; networks are blocks of it and of carpets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from plots import labels, make

from daskroi import plot
from daskroi.connectome import connectome
from daskroi.errors import DaskroiError

pytestmark = pytest.mark.usefixtures("no_figures_left")


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
