"""Columns of region series as nilearn's masker counts them: by position, without lost regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, warn
from daskroi.placement import list_regions

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from daskroi.fitted import FittedAtlas

__all__ = [
    "RegionColumns",
    "as_frame",
    "keep_or_drop",
    "name_lost",
    "split_signals",
    "zero_lost",
]

# a warning is read, not scrolled through
IMAGES_NAMED = 10


class RegionColumns:
    """Attributes of a fitted masker that say which column is which region.

    A subclass has ``keep_masked_labels``, ``lut_`` and ``_get_fitted``.
    """

    keep_masked_labels: bool
    lut_: pd.DataFrame

    if TYPE_CHECKING:

        def _get_fitted(self) -> FittedAtlas: ...

    def _column_ids(self) -> NDArray[np.int64]:
        fitted = self._get_fitted()
        ids = fitted.atlas.ids
        return ids if self.keep_masked_labels else ids[~fitted.lost]

    def _background(self) -> list[int]:
        background = self._get_fitted().atlas.background_label
        return [background] if (self.lut_["index"] == background).any() else []

    @property
    def labels_(self) -> list[int]:
        """Label ids of the columns, after the background if the atlas's image has it."""
        return self._background() + self._column_ids().tolist()

    @property
    def n_elements_(self) -> int:
        """Number of columns."""
        return len(self._column_ids())

    @property
    def region_names_(self) -> dict[int, str]:
        """Name of each column."""
        ids = self._column_ids()
        names = self.lut_.set_index("index")["name"]
        return {column: str(name) for column, name in enumerate(names.loc[ids.tolist()])}

    @property
    def region_ids_(self) -> dict[str | int, int]:
        """Label id of each column, and of "background" if the atlas's image has it."""
        ids: dict[str | int, int] = dict(enumerate(self._column_ids().tolist()))
        background = self._background()
        return {"background": background[0], **ids} if background else ids

    def get_feature_names_out(self, input_features: Any = None) -> list[str]:
        """Region names of the columns; ``input_features`` is for scikit-learn."""
        return list(self.region_names_.values())


def name_lost(
    series: Sequence[xr.DataArray], images: Sequence[str], keep: bool
) -> NDArray[np.bool_]:
    """Find the regions that no image has, and name these and what only some images lack.

    Parameters
    ----------
    series : sequence of DataArray
        One per image, with the coordinates ``region``, ``n_voxels`` and ``region_name``.
    images : sequence of str
        Names of the images.
    keep : bool
        What the warning shall say of regions that no image has: columns of 0, or no column.

    Returns
    -------
    bool array, (region,)

    Warns
    -----
    DaskroiWarning
        If there are regions without a voxel: one warning for those that all images lack, one for
        the others, image by image.
    """
    first = series[0]
    lost = np.array([s.coords["n_voxels"].values == 0 for s in series])
    everywhere: NDArray[np.bool_] = np.logical_and.reduce(lost)
    atlas = first.attrs.get("atlas", "atlas")
    ids, names = (first.coords[c].values for c in ("region", "region_name"))
    if everywhere.any():
        remedy = "have no column; keep_masked_labels=True keeps them as 0"
        done = "are columns of 0" if keep else remedy
        warn(
            f"{atlas}: {everywhere.sum()} of {len(ids)} regions have no voxel in the image and "
            f"mask and {done}: {list_regions(ids[everywhere], names[everywhere])}."
        )
    only = lost & ~everywhere
    if only.any():
        each = [
            f"{image}: {list_regions(ids[row], names[row])}"
            for image, row in zip(images, only, strict=False)
            if row.any()
        ]
        more = f" … and {len(each) - IMAGES_NAMED} more images" if len(each) > IMAGES_NAMED else ""
        warn(
            f"{atlas}: {only.any(axis=0).sum()} of {len(ids)} regions have no voxel in some of the "
            f"images and are 0 there ({'; '.join(each[:IMAGES_NAMED])}{more})."
        )
    return everywhere


def zero_lost(series: xr.DataArray, *, but: NDArray[np.bool_] | None = None) -> xr.DataArray:
    """Make 0 of regions without a voxel, apart from those in ``but``, which stay NaN.

    Parameters
    ----------
    series : DataArray, dims (time, region) or (region,)
        With the coordinate ``n_voxels``.
    but : bool array, (region,), optional
    """
    import xarray as xr

    lost = series.coords["n_voxels"].values == 0
    lost = lost if but is None else lost & ~but
    return series.where(xr.DataArray(~lost, dims="region"), 0) if lost.any() else series


def keep_or_drop(series: xr.DataArray, lost: NDArray[np.bool_], keep: bool) -> xr.DataArray:
    """Make columns of 0 of lost regions, or drop them.

    Parameters
    ----------
    series : DataArray, dims (time, region) or (region,)
    lost : bool array, (region,)
    keep : bool

    Examples
    --------
    >>> import xarray as xr
    >>> series = xr.DataArray([1.0, np.nan], dims="region")
    >>> keep_or_drop(series, np.array([False, True]), keep=True).values
    array([1., 0.])
    """
    import xarray as xr

    if not lost.any():
        return series
    if not keep:
        return series.isel(region=~lost)
    return series.where(xr.DataArray(~lost, dims="region"), 0)


def as_frame(series: xr.DataArray, frames: NDArray[np.intp]) -> pd.DataFrame:
    """Compute into a DataFrame: index ``frame`` × region names; one row for one volume.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=3, n_regions=4)
    >>> as_frame(dr.extract(run.image, run.atlas), np.arange(3)).shape
    (3, 4)
    """
    import pandas as pd

    values = np.atleast_2d(series.to_numpy())
    names = [str(n) for n in series.coords["region_name"].values]
    return pd.DataFrame(values, index=pd.Index(frames, name="frame"), columns=names)


def split_signals(signals: Any, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Label ids of the columns of anything array-like, and its values.

    Parameters
    ----------
    signals : DataArray, DataFrame or array, dims (time, region) or (region,)
    ids : int array, (region,)
        Ids of the columns of what does not say its own.

    Returns
    -------
    ids : int array, (region,)
    values : array, dims (time, region) or (region,)

    Raises
    ------
    DaskroiError
        Neither 1D nor 2D, not numbers, or another number of columns than ``ids``.

    Examples
    --------
    >>> split_signals([[1.0, 2.0]], np.array([3, 7]))
    (array([3, 7]), array([[1., 2.]]))
    """
    import pandas as pd
    import xarray as xr

    if isinstance(signals, xr.DataArray) and "region" in signals.coords:
        signals = signals.transpose(..., "region") if "region" in signals.dims else signals
        ids = np.atleast_1d(signals.coords["region"].values)
        if len(np.unique(ids)) < len(ids):
            raise DaskroiError("signals has regions more than once. Select each of them once.")
    one_row = isinstance(signals, pd.DataFrame) and len(signals) == 1
    values = np.asarray(signals)
    values = np.atleast_1d(values[0] if one_row else values)
    if values.dtype.kind not in "biuf":
        raise DaskroiError(f"signals has dtype {values.dtype}; give numbers, (time, region).")
    if values.ndim > 2 or values.shape[-1] != len(ids):
        raise DaskroiError(
            f"signals has shape {values.shape}, but the masker has {len(ids)} regions. Give "
            f"(time, {len(ids)}) or ({len(ids)},), or the DataArray that transform returned."
        )
    return ids, values
