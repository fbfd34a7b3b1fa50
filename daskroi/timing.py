"""When the frames of a run were taken: TR by argument, else the image's, and doubts about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskroi.errors import DaskroiError, warn
from daskroi.image import TIME, repetition_of, time_coordinate
from daskroi.recipe import Recipe
from daskroi.repetition import RepetitionTime, plausible_t_r, same_t_r

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.imagefile import ImageFile

__all__ = ["run_times"]


def run_times(
    recipe: Recipe, run: xr.DataArray, file: ImageFile | None
) -> tuple[float | None, Any]:
    """TR in s and frame times: from the argument, else sidecar, else header; doubts are said."""
    found, n_time = repetition_of(run), run.sizes.get(TIME, 1)
    known, of_file = found.seconds, RepetitionTime() if file is None else file.repetition
    name = "the image" if file is None else file.url
    if recipe.t_r is not None:
        if not same_t_r(known, recipe.t_r):
            warn(
                f"t_r={recipe.t_r:g} s, but the image says {known:g} s ({found.source}). "
                "The argument is used."
            )
        dim, times, attrs = time_coordinate(n_time, RepetitionTime(recipe.t_r, "argument"))
        # a part of a run does not start at 0
        first = float(run.coords[TIME][0]) / known if known is not None else 0.0
        return recipe.t_r, (dim, times + first * recipe.t_r, attrs)
    if known is None and recipe.steps(1.0).active_filter is not None:
        lost = file is None or of_file.seconds is not None or TIME not in run.dims
        raise DaskroiError(
            f"{name}: filtering needs the repetition time, and "
            f"{'the image has none' if lost else of_file.reason}. Pass t_r in seconds."
        )
    if known is None and of_file.refused is not None:
        warn(f"{name}: {of_file.reason}. Time is counted in frames; pass t_r in seconds.")
    if known is not None and not plausible_t_r(known):
        raise DaskroiError(
            f"The time coordinate says a TR of {known:g} s, which is not plausible. "
            "Pass t_r in seconds."
        )
    there = TIME in run.coords
    return known, run.coords[TIME].variable if there else time_coordinate(n_time, found)
