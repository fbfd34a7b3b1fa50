"""What one run of a cohort has of its own: regressors, frames to leave out, a JSON elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.errors import DaskroiError
from daskroi.lazyimage import lazy_image
from daskroi.nifti import sidecar_beside, timed
from daskroi.openimage import as_file
from daskroi.urls import shown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from daskroi.confoundrecipe import ConfoundRecipe
    from daskroi.work import Job

__all__ = ["nuisance_of", "timed_run"]


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


def timed_run(run: xr.DataArray, job: Job, storage_options: Mapping[str, Any]) -> xr.DataArray:
    """The run, by a JSON sidecar that does not lie beside it, where it would be found anyway."""
    file = as_file(run)
    if file is None or job.sidecar in (None, sidecar_beside(job.image)):
        return run
    return lazy_image(timed(file, job.sidecar, storage_options), run.chunks, name=str(run.name))
