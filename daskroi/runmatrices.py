"""Matrices of runs, lazily: from one run, a list or dict of runs, or a store of a cohort."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from daskroi.connectivity import Measure, by_run, connectivity
from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.nested import scheduler_here

__all__ = ["OTHER", "PAIR", "REGION", "RUN", "TIME", "map_runs", "run_matrices"]

TIME, RUN, REGION = "time", "run", "region"
# the same regions once more: an array cannot have two dims of one name
OTHER = "other_region"
PAIR = (REGION, OTHER)
OF_REGIONS = ("region_name", "n_voxels", "coverage", "size_mm3", "network")


def run_matrices(series: Any, measure: Measure, atlas: str | None = None) -> xr.DataArray:
    """Connectivity of every run; see `daskroi.connectome.connectome`.

    Returns
    -------
    DataArray, dims (run, region, other_region), or (region, other_region) of one run
        In memory where the series are.
    """
    if isinstance(series, xr.Dataset):
        series = _of_store(series, atlas)
    elif atlas is not None:
        raise DaskroiError(f"atlas={atlas!r} is for a dataset such as cohort.zarr. Leave it out.")
    if isinstance(series, xr.DataArray):
        one = _as_series(series)
        found, lazy = (_of_cube if RUN in one.dims else _of_one)(one, measure), _is_lazy(one)
    elif isinstance(series, Iterable) and not isinstance(series, str | bytes | np.ndarray):
        named = series.items() if isinstance(series, Mapping) else enumerate(series)
        runs = {name: _as_series(one, f"run {name}", cube=False) for name, one in named}
        found, lazy = _of_several(runs, measure), any(map(_is_lazy, runs.values()))
    else:
        raise DaskroiTypeError(
            f"A {type(series).__name__} has no region axis. Give what daskroi.extract returns, a "
            "list or dict of these, or a cohort.zarr opened by xarray."
        )
    # not by whatever cluster there is: it would get the series first
    return found if lazy else found.compute(scheduler=scheduler_here())


def _is_lazy(series: xr.DataArray) -> bool:
    return series.chunks is not None


def _of_one(series: xr.DataArray, measure: Measure) -> xr.DataArray:
    ids = series[REGION].values
    values = da.map_blocks(
        connectivity,
        _whole(series, 0),
        measure=measure,
        ids=ids,
        run=str(series.attrs.get("source", "")),
        chunks=((len(ids),), (len(ids),)),
        dtype=np.float64,
        meta=np.empty((0, 0)),
    )
    attrs = {**series.attrs, "n_frames": series.sizes[TIME]}
    return xr.DataArray(values, _coords(series), PAIR, name="connectome", attrs=attrs)


def _of_cube(series: xr.DataArray, measure: Measure) -> xr.DataArray:
    ids = series[REGION].values
    names = series[RUN].values if RUN in series.coords else np.arange(series.sizes[RUN])
    kernel = partial(connectivity, measure=measure, ids=ids)
    values = map_runs(_whole(series, 1), names, kernel, len(ids))
    coords = _coords(series) | {RUN: names}
    coords |= {str(k): c.variable for k, c in series.coords.items() if c.dims == (RUN,)}
    return xr.DataArray(values, coords, (RUN, *PAIR), name="connectome", attrs=series.attrs)


def map_runs(
    values: da.Array, names: Any, kernel: Callable[..., Any], n_region: int, *same: Any
) -> da.Array:
    """Apply a kernel that knows one run to every run: a task per chunk of runs.

    Parameters
    ----------
    values : dask array, (run, ...)
        One chunk but for runs.
    names : array, (run,)
    kernel : callable
        Of an array (...), of ``same``, and of ``run``.
    n_region : int
    *same : arrays, (region, region)
        The same for all runs.

    Returns
    -------
    dask array, (run, region, region)
    """
    runs = values.chunks[0]
    labels = da.from_array(np.array(names, dtype=object)[:, None, None], (runs, 1, 1))
    return da.map_blocks(
        by_run,
        values,
        labels,
        *(da.asarray(one).rechunk(-1)[None] for one in same),
        function=kernel,
        chunks=(runs, (n_region,), (n_region,)),
        dtype=np.float64,
        meta=np.empty((0, 0, 0)),
    )


def _of_several(runs: Mapping[Any, xr.DataArray], measure: Measure) -> xr.DataArray:
    if not runs:
        raise DaskroiError("There is no run, so there is no connectome. Give one at least.")
    first_name, first = next(iter(runs.items()))
    for name, one in runs.items():
        if not np.array_equal(one[REGION].values, first[REGION].values):
            raise DaskroiError(
                f"run {name} has other regions than run {first_name} ({one.sizes[REGION]} and "
                f"{first.sizes[REGION]}). Extract both with the same atlas, or select what they "
                "have in common."
            )
    matrices = [
        _of_one(one.assign_attrs(source=f"run {name}"), measure) for name, one in runs.items()
    ]
    coords: dict[str, Any] = {k: v for k, v in _coords(first).items() if v.ndim == 1}
    for name in ("n_voxels", "coverage"):
        if all(name in one.coords for one in runs.values()):
            coords[name] = ((RUN, REGION), _stacked([one[name].data for one in runs.values()]))
    coords[RUN] = list(runs)
    coords["n_frames"] = (RUN, [m.attrs["n_frames"] for m in matrices])
    # what was done to all alike; a file may have arrays for attributes
    attrs = {
        k: v
        for k, v in first.attrs.items()
        if all(k in one.attrs and np.array_equal(one.attrs[k], v) for one in runs.values())
    }
    values = da.stack([m.data for m in matrices])
    return xr.DataArray(values, coords, (RUN, *PAIR), name="connectome", attrs=attrs)


def _stacked(arrays: list[Any]) -> Any:
    lazy = any(isinstance(a, da.Array) for a in arrays)
    return da.stack(arrays) if lazy else np.stack(arrays)


def _whole(series: xr.DataArray, first: int) -> da.Array:
    """The data in one chunk, but for axes before ``first``."""
    data = series.data
    if not isinstance(data, da.Array):
        # without a name, Dask would hash the data
        return da.from_array(data, chunks=(1,) * first + (-1, -1), name=False)
    return data.rechunk(dict.fromkeys(range(first, data.ndim), -1), method="tasks")


def _coords(series: xr.DataArray) -> dict[str, xr.Variable]:
    """What is known of regions, and ids and names once more for the other axis."""
    coords = {REGION: series[REGION].variable}
    dims = ((REGION,), (RUN, REGION))
    coords |= {n: series[n].variable for n in OF_REGIONS if n in series.coords}
    coords = {n: v for n, v in coords.items() if v.dims in dims}
    coords[OTHER] = xr.Variable(OTHER, series[REGION].values)
    if "region_name" in coords:
        coords["other_region_name"] = xr.Variable(OTHER, coords["region_name"].data)
    return coords


def _as_series(series: Any, who: str = "series", cube: bool = True) -> xr.DataArray:
    """Dims (time, region), or with run before them, whatever the store calls its regions."""
    if not isinstance(series, xr.DataArray):
        raise DaskroiTypeError(
            f"{who}: is a {type(series).__name__}, not a DataArray. Give what daskroi.extract "
            "returns; for an array, xarray.DataArray(array, dims=('time', 'region'))."
        )
    regions = [d for d in series.dims if d == REGION or str(d).endswith(f"_{REGION}")]
    others = [d for d in series.dims if d not in regions]
    wanted = ([TIME], [RUN, TIME]) if cube else ([TIME],)
    if len(regions) != 1 or sorted(map(str, others)) not in [sorted(w) for w in wanted]:
        raise DaskroiError(
            f"{who}: has dims {series.dims}; a connectome is of (time, region)"
            f"{' or (run, time, region)' if cube else ''}. Rename the dims, or select from them."
        )
    if series.dtype.kind not in "biuf":
        raise DaskroiTypeError(f"{who}: has dtype {series.dtype}, not real numbers. Convert it.")
    long = str(regions[0])
    series = series.rename(
        {n: n.replace(long, REGION, 1) for n in (long, f"{long}_name") if _has(series, n)}
        if long != REGION
        else {}
    )
    if series.sizes[TIME] < 2:
        raise DaskroiError(
            f"{who}: {series.sizes[TIME]} frame is no series: connectivity needs 2 at least, and "
            "means little below 50."
        )
    if REGION not in series.coords:
        series = series.assign_coords({REGION: np.arange(series.sizes[REGION])})
    return series.transpose(*(d for d in (RUN, TIME, REGION) if d in series.dims))


def _has(series: xr.DataArray, name: str) -> bool:
    return name in series.dims or name in series.coords


def _of_store(store: xr.Dataset, atlas: str | None) -> xr.DataArray:
    """Series of one atlas in what ``cohort.zarr`` opens to, with coverage and sizes."""
    names = [str(n) for n, v in store.data_vars.items() if TIME in v.dims and v.ndim > 2]
    if atlas is None and len(names) == 1:
        atlas = names[0]
    if atlas not in names:
        which = "Say which atlas" if atlas is None else f"atlas={atlas!r} is not in the dataset"
        raise DaskroiError(f"{which}. There are: {', '.join(map(repr, names)) or 'none'}.")
    series = store[atlas]
    for name in ("n_voxels", "coverage", "size_mm3"):
        if (found := store.get(f"{atlas}_{name}")) is not None:
            series = series.assign_coords({name: found.variable})
    return series
