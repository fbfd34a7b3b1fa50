"""When the frames of a run were taken: TR by argument, sidecar or header, and doubts about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskroi.errors import DaskroiError, warn
from daskroi.header import plausible_t_r
from daskroi.image import TIME, t_r_of, time_coordinate
from daskroi.recipe import Recipe

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.imagefile import ImageFile

__all__ = ["run_times"]


def run_times(
    recipe: Recipe, run: xr.DataArray, file: ImageFile | None
) -> tuple[float | None, Any]:
    """TR in s and frame times: from the argument, else sidecar, else header; doubts are said."""
    known, source = t_r_of(run)
    doubt = file.t_r_source if file is not None and file.t_r is None and TIME in run.dims else ""
    if recipe.t_r is not None:
        if known is not None and abs(known - recipe.t_r) > 1e-3 * known:
            warn(
                f"t_r={recipe.t_r:g} s, but the image says {known:g} s ({source}). "
                "The argument is used."
            )
        dim, times, attrs = time_coordinate(run.sizes.get(TIME, 1), recipe.t_r, "argument")
        # a part of a run does not start at 0
        first = float(run.coords[TIME][0]) / known if known is not None else 0.0
        return recipe.t_r, (dim, times + first * recipe.t_r, attrs)
    if known is None and recipe.steps(1.0).active_filter is not None:
        name = file.url if file is not None else "the image"
        raise DaskroiError(
            f"{name}: filtering needs the repetition time, and "
            f"{doubt.rstrip('.') or 'the image has none'}. "
            "Pass t_r in seconds."
        )
    if known is None and "not a plausible" in doubt:
        assert file is not None
        warn(f"{file.url}: {doubt} Time is counted in frames; pass t_r in seconds.")
    if known is not None and not plausible_t_r(known):
        raise DaskroiError(
            f"The time coordinate says a TR of {known:g} s, which is not plausible. "
            "Pass t_r in seconds."
        )
    n_time = run.sizes.get(TIME, 1)
    return known, run.coords[TIME].variable if TIME in run.coords else time_coordinate(n_time, None)
