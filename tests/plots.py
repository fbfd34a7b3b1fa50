"""Series to plot, and the labels that an axis shows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr


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
