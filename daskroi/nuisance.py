"""What is cleaned out of a run's series: confounds from everywhere, and the frames that stay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.censor import sample_mask_to_bool, split_runs
from daskroi.confounds import read_confounds
from daskroi.errors import DaskroiError
from daskroi.fmriprep import Confounds
from daskroi.highvariance import high_variance_confounds
from daskroi.image import TIME

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.recipe import Recipe

__all__ = ["Nuisance", "kept_mask", "nuisance_of"]


@dataclass(frozen=True, eq=False)
class Nuisance:
    """Confounds and kept frames of one run.

    Parameters
    ----------
    arrays : list of array, dims (time, confound)
        Of full length; lazy where they are made of the image.
    names : list of str
        Of all their columns.
    sample_mask : array, or None
        Frames that are kept, as `daskroi.clean` takes them.
    strategies : list of dict
        What strategies chose and censored; see `daskroi.load_confounds`.
    """

    arrays: list[Any]
    names: list[str]
    sample_mask: Any
    strategies: list[dict[str, Any]]

    @property
    def said(self) -> dict[str, str]:
        """Attributes of the result."""
        names = {"confounds": json.dumps(self.names)}
        if not self.strategies:
            return names
        return names | {"confound_strategies": json.dumps(self.strategies)}


def nuisance_of(
    run: xr.DataArray,
    recipe: Recipe,
    confounds: Any,
    columns: Any,
    sample_mask: Any,
    runs: Any,
    storage_options: Mapping[str, Any] | None = None,
) -> Nuisance:
    """Gather what `daskroi.extract` was given; high-variance confounds first, as in nilearn.

    Raises
    ------
    DaskroiError
        ``columns`` without confounds; censoring by a strategy together with ``runs``; or as
        `read_confounds`.
    """
    arrays: list[Any] = []
    names: list[str] = []
    n_time = run.sizes.get(TIME, 1)
    list(split_runs(n_time, runs))  # also where nothing is cleaned, and nobody else looks
    if recipe.high_variance_confounds:
        found = high_variance_confounds(run).data
        arrays.append(found)
        names += [f"high_variance_{i}" for i in range(found.shape[1])]
    sample_mask = kept_mask(confounds, sample_mask, n_time, runs)
    items = [c.values if isinstance(c, Confounds) else c for c in _listed(confounds)]
    items = [c for c in items if not _is_empty_table(c)]
    if items:
        keep = sample_mask_to_bool(sample_mask, n_time, runs)
        given = items if len(items) > 1 else items[0]
        values, own = read_confounds(given, n_time, columns, keep, storage_options)
        arrays.append(values)
        names += own
    elif columns is not None:
        raise DaskroiError(
            f"columns={columns!r} were chosen, but confounds were not given. Give both."
        )
    elif isinstance(confounds, list | tuple) and not confounds:
        raise DaskroiError("confounds is an empty list. Pass None to clean without confounds.")
    return Nuisance(arrays, names, sample_mask, [c.description for c in _chosen(confounds)])


def kept_mask(confounds: Any, sample_mask: Any, n_time: int, runs: Any = None) -> Any:
    """The user's frames without those that strategies among the confounds censor.

    Raises
    ------
    DaskroiError
        As `nuisance_of`, for censoring by a strategy; no frame is left.

    Examples
    --------
    >>> kept_mask(None, [0, 2], n_time=3)
    [0, 2]
    """
    masks = [c.sample_mask for c in _chosen(confounds) if c.sample_mask is not None]
    if not masks:
        return sample_mask
    if runs is not None:
        raise DaskroiError(
            "Confounds that censor frames cannot be combined with runs. Extract each run alone, or "
            "give their values and sample_mask."
        )
    if wrong := [len(m) for m in masks if len(m) != n_time]:
        raise DaskroiError(
            f"confounds has {wrong[0]} rows and the run has {n_time} frames. Pass confounds of "
            "this run, one row per frame, censored frames included."
        )
    own = sample_mask_to_bool(sample_mask, n_time)
    keep = np.logical_and.reduce(masks if own is None else [*masks, own])
    if not keep.any():
        raise DaskroiError(
            f"No frame of {n_time} is left: those that sample_mask keeps are censored by the "
            "confounds' strategy. Check both."
        )
    return keep


def _chosen(confounds: Any) -> list[Confounds]:
    return [c for c in _listed(confounds) if isinstance(c, Confounds)]


def _listed(confounds: Any) -> list[Any]:
    if confounds is None:
        return []
    return list(confounds) if isinstance(confounds, list | tuple) else [confounds]


def _is_empty_table(one: Any) -> bool:
    # strategy "none" censors frames and has no column
    return hasattr(one, "columns") and len(one.columns) == 0
