"""`report`: what was extracted of a run, as a page. Finished series, and one volume of the image."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.atlas import Atlas, load_atlas
from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.reportdata import (
    Series,
    checked_series,
    confounding_of,
    demeaned,
    recipe_of,
    region_moments,
    series_of,
)
from daskroi.reportimage import Picture, read_picture, slices_of
from daskroi.reportpage import Report
from daskroi.reportplots import region_colors
from daskroi.reportregions import region_table, region_warnings, significant

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from daskroi.placement import AnyAtlas

__all__ = ["Report", "colors_of", "report"]

Columns = dict[str, "NDArray[Any] | None"]


def report(
    ts: xr.DataArray | None = None,
    atlas: Any = None,
    image: Any = None,
    *,
    raw: xr.DataArray | None = None,
    confounds: Any = None,
    n_frames: int | None = None,
    title: str | None = None,
    notes: Iterable[str] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> Report:
    """Make a report of region time series: an interactive page in one file.

    Parameters
    ----------
    ts : DataArray, dims (time, region), optional
        Finished series: what `daskroi.extract` returned, computed. Without them the report is of
        the atlas.
    atlas : Atlas, or anything `load_atlas` takes, optional
        For the slices, and for regions that ``ts`` does not have. Rows are its regions.
    image : path, URL, nibabel image or DataArray, optional
        For the slices: one volume of it is read, of ``.nii.gz`` one near the start.
    raw : DataArray, dims (time, region), optional
        The series before they were cleaned, for mean and tSNR, which cleaning may have taken out.
    confounds : DataFrame, path, URL, or what `load_confounds` returned, optional
        Shown, framewise displacement in a plot of its own.
    n_frames : int, optional
        Frames of the run before censoring; known where there is an image.
    title : str, optional
        By default the name of the image.
    notes : iterable of str
        Sentences for the top of the page.
    storage_options : mapping, optional
        For fsspec, for all URLs.

    Returns
    -------
    Report
        With ``save_as_html``, ``open_in_browser`` and ``html``; notebooks show it.

    Raises
    ------
    DaskroiTypeError
        The series are lazy: ``compute()`` them first, for a report reads no whole image.
    DaskroiError
        Neither series nor atlas; series of regions that the atlas does not have; confounds of
        another length.

    Notes
    -----
    The page holds all it needs and makes no request. 400 regions and 1,200 frames on a 2 mm image
    are about 4 MB, of which 1.3 MB are bokeh's.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> ts = dr.extract(run.image, run.atlas, sample_mask=range(2, 20)).compute()
    >>> page = report(ts, run.atlas, run.image, confounds=run.confounds, title="Phantom")
    >>> page
    <Report 'Phantom': save_as_html(path) or open_in_browser()>
    >>> list(page.regions.columns[-4:]), page.facts["frames"]
    (['n_voxels', 'coverage', 'mean', 'tSNR'], '18 of 20')
    """
    if ts is None and atlas is None:
        raise DaskroiError("A report is of series or of an atlas. Give ts or atlas.")
    series_in = None if ts is None else checked_series(ts)
    loaded: AnyAtlas | None = None
    if atlas is not None:
        loaded = load_atlas(atlas, storage_options=dict(storage_options or {}) or None)
    picture = None if image is None else read_picture(image, storage_options)
    if picture is not None and n_frames is None:
        n_frames = picture.n_frames
    on_axis = None if series_in is None else _on_axis_of(loaded, series_in)
    series = None if on_axis is None else series_of(on_axis, n_frames)
    slices = None if loaded is None else slices_of(loaded, picture)

    names, table, lost = _regions(loaded, on_axis, None if raw is None else checked_series(raw))
    confounding = None
    if confounds is not None and series is not None:
        used = [] if series_in is None else _used(series_in)
        confounding = confounding_of(read_confound_table(confounds, storage_options), series.frames, used)
    warnings = lost + _doubts(loaded, series_in, series, picture)
    said = list(notes)
    if loaded is not None and picture is None:
        said.insert(0, "No image was given: the slices show the atlas alone.")
    if slices is None:
        said.insert(0, "There are no slices: they need an atlas of labels or maps, or an image.")
    if "mean" not in table and series is not None:
        said.append(
            "Mean and tSNR are not known: cleaning has taken the mean out of the series. "
            "Give the uncleaned series as raw=."
        )
    return Report(
        title=title or _title(series_in, loaded, picture),
        notes=tuple(said),
        warnings=tuple(warnings),
        facts=_facts(len(names), series, series_in, loaded, table, confounding),
        regions=table,
        grid="" if loaded is None or loaded.grid is None else loaded.grid.describe(),
        slices=slices,
        series=series,
        confounding=confounding,
        colors=tuple(region_colors(len(names)) if loaded is None else colors_of(loaded)),
        introduction=introduction(len(names)),
        parameters={} if series_in is None else _parameters(series_in),
        provenance=_provenance(series_in, loaded, picture),
    )


def introduction(n: int) -> str:
    """The sentence over the table of regions."""
    return f"This report shows {n} region{'' if n == 1 else 's'}."


def colors_of(atlas: AnyAtlas) -> list[str]:
    """Colours of an atlas's regions: of its label table where that has a colour for each.

    Examples
    --------
    >>> import daskroi as dr, pandas as pd
    >>> lut = pd.DataFrame({"index": [1], "name": ["a"], "color": ["#FF0080"]})
    >>> colors_of(dr.load_atlas([(0, 0, 0)], lut=lut))
    ['#ff0080']
    """
    table = atlas.table
    if "color" in table:
        # BIDS: hexadecimal, with or without the opacity; nothing else may get into a page's style
        found = [re.match(r"#?([0-9a-fA-F]{6})(?:[0-9a-fA-F]{2})?$", str(c)) for c in table["color"]]
        if all(found):
            return [f"#{m[1].lower()}" for m in found if m]
    lower = {str(c).lower(): c for c in table.columns}
    if all(c in lower for c in "rgb"):
        values = table[[lower[c] for c in "rgb"]].to_numpy(np.float64)
        if ((values >= 0) & (values <= 255)).all():
            return ["#" + "".join(f"{int(v):02x}" for v in row) for row in values]
    return region_colors(len(table))


def read_confound_table(
    confounds: Any, storage_options: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Confounds as a table, whatever they were given as."""
    import os

    import pandas as pd

    from daskroi.confoundtable import read_table
    from daskroi.fmriprep import Confounds

    if isinstance(confounds, Confounds):
        return confounds.values
    if isinstance(confounds, str | os.PathLike):
        return read_table(confounds, storage_options)[1]
    if isinstance(confounds, pd.DataFrame):
        return confounds
    values = np.asarray(confounds)
    if values.ndim not in (1, 2):
        raise DaskroiTypeError(
            f"confounds is a {type(confounds).__name__} of shape {values.shape}. Give a table, a "
            "row per frame."
        )
    values = values.reshape(len(values), -1)
    return pd.DataFrame(values, columns=[f"confound {i}" for i in range(values.shape[1])])


def _on_axis_of(atlas: AnyAtlas | None, ts: xr.DataArray) -> xr.DataArray:
    """Series of all regions of the atlas, in its order, by id; NaN where there are none."""
    if "region" not in ts.coords:
        ts = ts.assign_coords(region=np.arange(ts.sizes["region"]))
    if atlas is None:
        return ts
    unknown = sorted(set(ts["region"].values.tolist()) - set(atlas.ids.tolist()))
    if unknown:
        raise DaskroiError(
            f"The series have regions {', '.join(map(str, unknown[:10]))}, which {atlas.name} does "
            "not have. Give the atlas they were extracted with."
        )
    return ts.reindex(region=atlas.ids) if len(ts["region"]) else ts


def _regions(
    atlas: AnyAtlas | None, ts: xr.DataArray | None, raw: xr.DataArray | None
) -> tuple[list[str], pd.DataFrame, list[str]]:
    """Names of regions, their table, and what is wrong with them."""

    def of(name: str) -> NDArray[Any] | None:
        return None if ts is None or name not in ts.coords else ts.coords[name].values

    if atlas is not None:
        ids, names = atlas.ids, atlas.names
        sizes = atlas.table["size_mm3"].to_numpy(np.float64)
    else:
        assert ts is not None
        ids = ts["region"].values
        given, given_sizes = of("region_name"), of("size_mm3")
        names = [str(n) for n in (ids if given is None else given)]
        sizes = np.full(len(ids), np.nan) if given_sizes is None else given_sizes
    n_voxels, coverage = of("n_voxels"), of("coverage")
    if n_voxels is None and atlas is not None and "n_voxels" in atlas.table:
        n_voxels = atlas.table["n_voxels"].to_numpy()
    elif n_voxels is not None:
        n_voxels = np.nan_to_num(n_voxels).astype(np.int64)
    if coverage is not None:
        coverage = np.nan_to_num(coverage)
    mean = tsnr = None
    source = raw if raw is not None else ts
    if source is not None and (raw is not None or not demeaned(source)):
        found = region_moments(_on_axis_of(atlas, source))
        mean, tsnr = (significant(v) for v in found)
    table = region_table(
        ids,
        names,
        sizes,
        n_voxels=n_voxels,
        coverage=None if coverage is None else coverage.round(3),
        mean=mean,
        tSNR=tsnr,
    )
    return names, table, region_warnings(ids, names, coverage, None if ts is None else ts.values)


def _doubts(
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
    if frames.unit == "frame":
        found.append(
            "The repetition time is not known, so time counts frames. Give t_r, or a JSON sidecar "
            "with RepetitionTime."
        )
    elif picture is not None and picture.t_r and frames.t_r:
        if not np.isclose(picture.t_r, frames.t_r, rtol=1e-3, atol=0):
            found.append(
                f"The series have a repetition time of {frames.t_r:g} s, the image says "
                f"{picture.t_r:g} s."
            )
    gone = len(frames.censored)
    if gone > len(frames.kept):
        found.append(f"More than half of the frames are censored: {gone} of {len(frames.times)}.")
    return found


def template_doubts(
    atlas_template: str | None, image_template: str | None, atlas_name: str, image_name: str
) -> list[str]:
    """What `warn_if_templates_differ` warns of, as text."""
    import warnings

    from daskroi.templates import warn_if_templates_differ

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_templates_differ(atlas_template, image_template, atlas_name, image_name)
    return [str(w.message) for w in caught]


def _title(ts: xr.DataArray | None, atlas: AnyAtlas | None, picture: Picture | None) -> str:
    source = picture.source if picture is not None else ""
    if not source and ts is not None:
        source = str(ts.attrs.get("source", ""))
    name = re.split(r"[/\\]", source.rstrip("/\\"))[-1]
    atlas_name = atlas.name if atlas is not None else str(ts.attrs.get("atlas", "")) if ts is not None else ""
    return ", ".join(filter(None, (name, atlas_name))) or "Region time series"


def _facts(
    n_regions: int,
    series: Series | None,
    ts: xr.DataArray | None,
    atlas: AnyAtlas | None,
    table: pd.DataFrame,
    confounding: Any,
) -> dict[str, str]:
    name = atlas.name if atlas is not None else str(ts.attrs.get("atlas", "")) if ts is not None else ""
    facts = {"atlas": name, "regions": str(n_regions)}
    if series is not None:
        frames = series.frames
        kept, total = len(frames.kept), len(frames.times)
        facts["frames"] = str(total) if kept == total else f"{kept} of {total}"
        if frames.t_r is not None:
            minutes, seconds = divmod(round(kept * frames.t_r), 60)
            facts["repetition time"] = f"{frames.t_r:g} s"
            facts["time kept"] = f"{minutes} min {seconds} s"
    if "coverage" in table and len(table):
        facts["lowest coverage"] = f"{table['coverage'].min():.2f}"
    if "tSNR" in table and table["tSNR"].notna().any():
        facts["median tSNR"] = f"{table['tSNR'].median():.0f}"
    if confounding is not None and confounding.displacement is not None:
        facts["mean FD"] = f"{np.nanmean(confounding.displacement):.2f} mm"
    return {k: v for k, v in facts.items() if v}


def _used(ts: xr.DataArray) -> list[str]:
    try:
        return [str(name) for name in json.loads(ts.attrs.get("confounds", "[]"))]
    except (TypeError, ValueError):
        return []


def _parameters(ts: xr.DataArray) -> dict[str, str]:
    found = {k: str(v) for k, v in sorted(recipe_of(ts).items())}
    if used := _used(ts):
        found["confounds"] = ", ".join(used)
    return found


def _provenance(
    ts: xr.DataArray | None, atlas: AnyAtlas | None, picture: Picture | None
) -> dict[str, str]:
    attrs: Mapping[Any, Any] = {} if ts is None else ts.attrs
    time = None if ts is None or "time" not in ts.coords else ts.coords["time"].attrs
    found = {
        "image": (picture.source if picture is not None else "") or attrs.get("source", ""),
        "image grid": "" if picture is None else picture.grid.describe(),
        "atlas": (atlas.source or atlas.name) if atlas is not None else attrs.get("atlas_source", ""),
        "atlas hash": atlas.hash if atlas is not None else attrs.get("atlas_hash", ""),
        "mask": attrs.get("mask", ""),
        "repetition time from": "" if time is None else time.get("t_r_source", ""),
        "resampling and smoothing": attrs.get("spatial", ""),
        "extracted by": f"daskroi {attrs['daskroi_version']}" if "daskroi_version" in attrs else "",
    }
    if isinstance(atlas, Atlas) and atlas.template:
        found["template of the atlas"] = atlas.template
    if picture is not None and picture.template:
        found["template of the image"] = picture.template
    return {k: str(v) for k, v in found.items() if v}
