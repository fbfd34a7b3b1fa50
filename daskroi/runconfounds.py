"""What one run of a cohort has of its own: regressors, frames to leave out, a JSON elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.errors import DaskroiError
from daskroi.sidecar import read_sidecar
from daskroi.targets import as_target
from daskroi.urls import shown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from daskroi.confoundrecipe import ConfoundRecipe
    from daskroi.work import Job

__all__ = ["nuisance_of", "other_t_r"]


def nuisance_of(
    job: Job,
    recipe: ConfoundRecipe | None,
    storage_options: Mapping[str, Any],
    n_frames: int | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Confounds and sample mask, as keywords of `extract`; frames by why they are left out.

    Parameters
    ----------
    job : Job
    recipe : ConfoundRecipe or None
    storage_options : mapping
        For URLs.
    n_frames : int or None
        Of the run; None for a single volume.

    Returns
    -------
    (dict, dict)
        Keywords; an entry for the sidecar.

    Raises
    ------
    DaskroiError
        No table where one is needed, or as `load_confounds`.
    """
    if recipe is None:
        return {}, {}
    plain = not recipe.groups and recipe.fd_threshold is None and recipe.std_dvars_threshold is None
    if plain and isinstance(recipe.n_dummy, int):
        # known without a table
        if n_frames is None or recipe.n_dummy >= n_frames:
            raise DaskroiError(
                f"{shown(job.image)}: n_dummy={recipe.n_dummy} leaves none of the "
                f"{n_frames or 1} frames. Give fewer."
            )
        if recipe.n_dummy == 0:
            return {}, {}
        keep = np.arange(n_frames) >= recipe.n_dummy
        return {"sample_mask": keep}, {"CensoredFrames": {"dummy": list(range(recipe.n_dummy))}}
    if job.confounds is None:
        raise DaskroiError(
            f"{shown(job.image)}: has no table of confounds (desc-confounds_timeseries.tsv), "
            f"which strategy {recipe.strategy!r} needs. Use strategy 'none', or add the file."
        )
    from daskroi.fmriprep import read_fmriprep

    found = read_fmriprep(job.confounds, recipe, storage_options)
    values: pd.DataFrame | None = found.values if found.columns else None
    said = found.description["censored"]
    return (
        {"confounds": values, "sample_mask": found.sample_mask},
        {"CensoredFrames": said} if said else {},
    )


def other_t_r(job: Job, run: xr.DataArray, storage_options: Mapping[str, Any]) -> float | None:
    """TR of a JSON sidecar that does not lie beside the image, where it would be found anyway."""
    if job.sidecar is None or run.coords.get("time") is None:
        return None
    beside = job.image.removesuffix(".gz").removesuffix(".nii") + ".json"
    if job.sidecar == beside:
        return None
    t_r = None
    with suppress(DaskroiError, TypeError, ValueError):
        t_r = float(read_sidecar(as_target(job.sidecar, storage_options))["RepetitionTime"])
    return t_r
