"""Labelled series for tests of connectomes, and nilearn's matrices of them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from nilearn.connectome import ConnectivityMeasure


def run(seed: int = 0, n_time: int = 40, n_region: int = 6, dtype: str = "f8") -> xr.DataArray:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_time, n_region)) @ rng.normal(size=(n_region, n_region)) + 50
    coords = {
        "time": ("time", np.arange(n_time) * 2.0, {"units": "s", "t_r": 2.0}),
        "region": np.arange(n_region) * 10 + 5,
        "region_name": ("region", np.array([f"R{i}" for i in range(n_region)], object)),
        "n_voxels": ("region", np.arange(n_region) + seed),
        "coverage": ("region", np.linspace(0.5, 1, n_region)),
        "size_mm3": ("region", np.arange(n_region) * 27.0),
    }
    attrs = {"atlas": "Made", "source": f"run{seed}.nii"}
    return xr.DataArray(values.astype(dtype), coords, ("time", "region"), attrs=attrs)


def nilearn(series: list[xr.DataArray], kind: str, estimator: Any = None, **options: Any) -> Any:
    measure = ConnectivityMeasure(estimator, kind, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what changes in 0.15
        return measure.fit_transform([s.values for s in series])
