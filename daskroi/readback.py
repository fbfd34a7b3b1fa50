"""One run's results read back: what `daskroi.extract` gave, from a table and its sidecar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.rowtimes import timing_in
from daskroi.sidecar import attributes_in, read_sidecar
from daskroi.targets import as_target, read_text
from daskroi.tsv import float_type, numbers, rows_of, that_fits
from daskroi.urls import shown

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["read_timeseries"]


def read_timeseries(path: Any, *, storage_options: Mapping[str, Any] | None = None) -> xr.DataArray:
    """Read region time series back, with the times, ids and coverage of the sidecar.

    Parameters
    ----------
    path : path or URL
        ``…_timeseries.tsv``, its JSON beside it.
    storage_options : mapping, optional
        For a URL.

    Returns
    -------
    DataArray, dims (time, region)
        As it was written, with the attributes that the sidecar has. A single volume is one row.

    Raises
    ------
    DaskroiNotFoundError
        No such file, or no sidecar.
    DaskroiError
        The table does not fit the sidecar.

    Examples
    --------
    >>> import tempfile
    >>> import daskroi as dr
    >>> from daskroi.store import write_run
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> ts = dr.extract(run.image, run.atlas).compute()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_run(ts, folder, "sub-01_task-rest").timeseries
    ...     dr.read_timeseries(path).identical(ts)
    True
    """
    path = as_target(path, storage_options)
    sidecar = read_sidecar(path.with_suffix(".json"))
    with that_fits(shown(str(path)), "does not go with its sidecar", "Extract this run again."):
        return _series(read_text(path), sidecar)


def _series(text: str, sidecar: Mapping[str, Any]) -> xr.DataArray:
    """The series of a table's text; what does not fit raises a `ValueError` or the like."""
    import xarray as xr

    regions = sidecar["Regions"]
    header, *rows = rows_of(text)
    if any(len(row) != len(regions["index"]) for row in (header, *rows)):
        raise ValueError(f"it does not have the {len(regions['index'])} columns that this names")
    kept = sidecar.get("KeptFrames")
    n_frames = sidecar.get("NumberOfFrames", len(rows)) if kept is None else len(kept)
    if len(rows) != n_frames:
        # a table that was cut between two rows looks like a shorter run
        raise ValueError(f"{len(rows)} rows for {n_frames} frames")
    dtype = float_type(sidecar["DataType"])
    values = np.array([numbers(row) for row in rows], dtype).reshape(-1, len(header))
    coords: dict[str, Any] = {
        "time": timing_in(sidecar, len(rows)),
        "region": np.array(regions["index"], dtype=np.int64),
        "region_name": ("region", np.array(regions["name"], dtype=object)),
        "n_voxels": ("region", np.array(regions["n_voxels"], dtype=np.int64)),
    }
    for name in ("coverage", "size_mm3"):
        coords[name] = ("region", np.array(regions[name], dtype=np.float64))
    return xr.DataArray(
        values, coords, ("time", "region"), name="timeseries", attrs=attributes_in(sidecar)
    )
