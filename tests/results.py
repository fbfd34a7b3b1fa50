"""Results of an extraction, made by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

T_R = 2.0


def result(
    values: Any = None,
    frames: Any = None,
    *,
    names: Any = None,
    t_r: float | None = T_R,
    coverage: Any = None,
    **attrs: str,
) -> xr.DataArray:
    """What `extract` gives, by hand."""
    values = np.arange(12.0).reshape(4, 3) if values is None else np.asarray(values)
    n_time, n_region = values.shape
    frames = np.arange(n_time) if frames is None else np.asarray(frames)
    time: Any = ("time", frames, {"units": "frame"})
    if t_r is not None:
        time = ("time", frames * t_r, {"units": "s", "t_r": t_r, "t_r_source": "header"})
    names = names or [f"region {i}" for i in range(n_region)]
    coverage = np.linspace(0.5, 1, n_region) if coverage is None else np.asarray(coverage)
    coords = {
        "time": time,
        "region": np.arange(n_region) * 10 + 10,
        "region_name": ("region", np.array(names, dtype=object)),
        "n_voxels": ("region", np.arange(n_region) + 5),
        "coverage": ("region", coverage),
        "size_mm3": ("region", np.arange(n_region) * 8.0),
    }
    recipe = json.dumps({"strategy": attrs.get("strategy", "mean"), "clean": {}})
    attrs = {
        "strategy": "mean",
        "recipe": recipe,
        "atlas": "My-Atlas_1",
        "atlas_hash": "abc",
    } | attrs
    return xr.DataArray(values, coords, ("time", "region"), name="timeseries", attrs=attrs)
