"""What a report says in words: what was extracted of what, and what makes one wonder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.image import declared_t_r
from daskroi.repetition import same_t_r
from daskroi.reportdata import recipe_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from daskroi.placement import AnyAtlas
    from daskroi.reportdata import Confounding, Series
    from daskroi.reportimage import Picture

__all__ = [
    "doubts",
    "facts_of",
    "parameters_of",
    "provenance_of",
    "title_of",
    "used_confounds",
]


def doubts(
    atlas: AnyAtlas | None, ts: xr.DataArray | None, series: Series | None, picture: Picture | None
) -> list[str]:
    """What makes one wonder whether atlas, image and series belong together."""
    from daskroi.templates import template_of

    found = []
    here = None if picture is None else picture.template
    name = "the image" if picture is None else picture.source or "the image"
    if here is None and ts is not None:
        name = str(ts.attrs.get("source", ""))
        here = template_of(name)
    if atlas is not None:
        found += template_doubts(atlas.template, here, atlas.source or atlas.name, name)
    if series is None or ts is None:
        return found
    frames = series.frames
    if frames.unit == "frame" and frames.t_r is None and len(frames.times) > 1:
        found.append(
            "The repetition time is not known, so time counts frames. Give t_r, or a JSON sidecar "
            "with RepetitionTime."
        )
    there = None if picture is None else picture.t_r
    if not same_t_r(there, frames.t_r):
        found.append(
            f"The series have a repetition time of {frames.t_r:g} s, the image says {there:g} s."
        )
    gone = len(frames.censored)
    if gone > len(frames.kept):
        found.append(f"More than half of the frames are censored: {gone} of {len(frames.times)}.")
    return found


def template_doubts(
    atlas_template: str | None, image_template: str | None, atlas_name: str, image_name: str
) -> list[str]:
    """What `warn_if_templates_differ` warns of, as text."""
    from daskroi.templates import warn_if_templates_differ
    from daskroi.unsaid import kept_warnings

    with kept_warnings() as said:
        warn_if_templates_differ(atlas_template, image_template, atlas_name, image_name)
    return said


def title_of(ts: xr.DataArray | None, atlas: AnyAtlas | None, picture: Picture | None) -> str:
    source = picture.source if picture is not None else ""
    if not source and ts is not None:
        source = str(ts.attrs.get("source", ""))
    name = re.split(r"[/\\]", source.rstrip("/\\"))[-1]
    return ", ".join(filter(None, (name, _atlas_name(ts, atlas)))) or "Region time series"


def _atlas_name(ts: xr.DataArray | None, atlas: AnyAtlas | None) -> str:
    if atlas is not None:
        return atlas.name
    return "" if ts is None else str(ts.attrs.get("atlas", ""))


def facts_of(
    series: Series | None,
    ts: xr.DataArray | None,
    atlas: AnyAtlas | None,
    details: pd.DataFrame,
    confounding: Confounding | None,
) -> dict[str, str]:
    facts = {"atlas": _atlas_name(ts, atlas), "regions": str(len(details))}
    if series is not None:
        frames = series.frames
        kept, total = len(frames.kept), len(frames.times)
        facts["frames"] = str(total) if kept == total else f"{kept} of {total}"
        if frames.t_r is not None:
            minutes, seconds = divmod(round(kept * frames.t_r), 60)
            facts["repetition time"] = f"{frames.t_r:g} s"
            facts["time kept"] = f"{minutes} min {seconds} s"
    if "coverage" in details and len(details):
        facts["lowest coverage"] = f"{details['coverage'].min():.2f}"
    if "tSNR" in details and details["tSNR"].notna().any():
        facts["median tSNR"] = f"{round(details['tSNR'].median())}"
    if confounding is not None and confounding.displacement is not None:
        facts["mean FD"] = f"{np.nanmean(confounding.displacement):.2f} mm"
    return {k: v for k, v in facts.items() if v}


def used_confounds(ts: xr.DataArray | None) -> list[str]:
    try:
        if ts is None:
            return []
        return [str(name) for name in json.loads(ts.attrs.get("confounds", "[]"))]
    except (TypeError, ValueError):
        return []


def parameters_of(ts: xr.DataArray) -> dict[str, str]:
    found = {k: str(v) for k, v in sorted(recipe_of(ts).items())}
    if used := used_confounds(ts):
        found["confounds"] = ", ".join(used)
    return found


def provenance_of(
    ts: xr.DataArray | None, atlas: AnyAtlas | None, picture: Picture | None
) -> dict[str, str]:
    attrs: Mapping[Any, Any] = {} if ts is None else ts.attrs
    time = None if ts is None else ts.coords.get("time")
    found = {
        "image": (picture.source if picture is not None else "") or attrs.get("source", ""),
        "image grid": "" if picture is None else picture.grid.describe(),
        "atlas": (atlas.source or atlas.name)
        if atlas is not None
        else attrs.get("atlas_source", ""),
        "atlas hash": atlas.hash if atlas is not None else attrs.get("atlas_hash", ""),
        "mask": attrs.get("mask", ""),
        "repetition time from": "" if time is None else declared_t_r(time).source,
        "resampling and smoothing": attrs.get("spatial", ""),
        "extracted by": f"daskroi {attrs['daskroi_version']}" if "daskroi_version" in attrs else "",
    }
    if atlas is not None and atlas.template:
        found["template of the atlas"] = atlas.template
    if picture is not None and picture.template:
        found["template of the image"] = picture.template
    return {k: str(v) for k, v in found.items() if v}
