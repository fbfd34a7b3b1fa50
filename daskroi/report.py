"""`report`: what was extracted of a run, as a page of finished series and one volume."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.atlas import load_atlas
from daskroi.errors import DaskroiError, DaskroiTypeError, brief, check_texts
from daskroi.reportdata import confounding_of, demeaned, region_moments, series_of
from daskroi.reportframes import MOST_FRAMES, series_on
from daskroi.reportimage import Picture, read_picture, slices_of
from daskroi.reportpage import Report
from daskroi.reportplots import region_colors
from daskroi.reportregions import region_details, region_table, region_warnings
from daskroi.reporttext import (
    doubts,
    facts_of,
    parameters_of,
    provenance_of,
    title_of,
    used_confounds,
)
from daskroi.urls import StorageOptions

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from daskroi.placement import AnyAtlas

__all__ = ["Report", "colors_of", "read_confound_table", "report"]


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
    image : path, URL, nibabel image, DataArray or Picture, optional
        For the slices: one volume of it is read, of ``.nii.gz`` one near the start. It need not be
        the run itself.
    raw : DataArray, dims (time, region), optional
        The series before they were cleaned, for mean and tSNR, which cleaning may have taken out;
        joined by region id.
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
        The series are lazy: ``compute()`` them first, for a report reads no whole image. Their
        regions are no ids, or there more than once.
    DaskroiError
        Neither series nor atlas; series without frames or regions, or of regions that the atlas
        does not have; confounds of another length.

    Notes
    -----
    The page holds all it needs and makes no request. 400 regions and 1,200 frames on a 2 mm image
    are about 4 MB, of which 1.3 MB are bokeh's.

    Examples
    --------
    >>> from daskroi import report
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> ts = dr.extract(run.image, run.atlas, sample_mask=range(2, 20)).compute()
    >>> page = report(ts, run.atlas, run.image, confounds=run.confounds, title="Phantom")
    >>> page
    <Report 'Phantom': save_as_html(path) or open_in_browser()>
    >>> list(page.details.columns), page.facts["frames"]
    (['n_voxels', 'coverage', 'mean', 'tSNR'], '18 of 20')
    """
    if ts is None and atlas is None:
        raise DaskroiError("A report is of series or of an atlas. Give ts or atlas.")
    if n_frames is not None and not (
        isinstance(n_frames, int | np.integer) and 0 < n_frames <= MOST_FRAMES
    ):
        raise DaskroiTypeError(
            f"n_frames={brief(n_frames)} is not a number of frames. Give that of the run before "
            "censoring, or None."
        )
    if title is not None and not isinstance(title, str):
        raise DaskroiTypeError(f"title={brief(title)} is not a str. Give one, or None.")
    notes = check_texts("notes", notes)
    series_in = None if ts is None else series_on(ts)
    loaded: AnyAtlas | None = None
    if atlas is not None:
        loaded = load_atlas(atlas, storage_options=dict(StorageOptions(storage_options)) or None)
    picture: Picture | None = image
    if not isinstance(image, Picture | None):
        picture = read_picture(image, storage_options)
    axis = (None, "") if loaded is None else (loaded.ids, loaded.name)
    on_axis = None if series_in is None else series_on(series_in, *axis)
    series = None
    if on_axis is not None:
        given = None if picture is None else picture.n_frames
        series = series_of(on_axis, n_frames) if n_frames else series_of(on_axis, at_least=given)
    slices = None if loaded is None else slices_of(loaded, picture)

    there = None if series_in is None else series_in["region"].values
    names, table, details, lost = _regions(loaded, on_axis, there, raw)
    confounding = None
    if confounds is not None and series is not None:
        used = [] if series_in is None else used_confounds(series_in)
        confounding = confounding_of(
            read_confound_table(confounds, storage_options), series.frames, used
        )
    warnings = lost + doubts(loaded, series_in, series, picture)
    said = list(notes)
    if slices is None:
        said.insert(0, "There are no slices: they need an atlas of labels or maps, or an image.")
    elif picture is None:
        said.insert(0, "No image was given: the slices show the atlas alone.")
    if "mean" not in details and series is not None:
        said.append(
            "Mean and tSNR are not known: cleaning has taken the mean out of the series. "
            "Give the uncleaned series as raw=."
        )
    return Report(
        title=title or title_of(series_in, loaded, picture),
        notes=tuple(said),
        warnings=tuple(warnings),
        facts=facts_of(series, series_in, loaded, details, confounding),
        regions=table,
        details=details,
        grid="" if loaded is None or loaded.grid is None else loaded.grid.describe(),
        slices=slices,
        series=series,
        confounding=confounding,
        colors=tuple(region_colors(len(names)) if loaded is None else colors_of(loaded)),
        introduction=introduction(len(names)),
        parameters={} if series_in is None else parameters_of(series_in),
        provenance=provenance_of(series_in, loaded, picture),
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
    import pandas as pd

    table = atlas.table
    if "color" in table:
        # BIDS: hexadecimal, with or without the opacity; nothing else may get into a page's style
        found = [
            re.match(r"#?([0-9a-fA-F]{6})(?:[0-9a-fA-F]{2})?$", str(c)) for c in table["color"]
        ]
        if all(found):
            return [f"#{m[1].lower()}" for m in found if m]
    lower = {str(c).lower(): c for c in table.columns}
    if all(c in lower for c in "rgb"):
        columns = table[[lower[c] for c in "rgb"]]
        values = columns.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        if ((values >= 0) & (values <= 255) & (values == np.rint(values))).all():
            return ["#" + "".join(f"{int(v):02x}" for v in row) for row in values]
    return region_colors(len(table))


def read_confound_table(
    confounds: Any, storage_options: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Confounds as a table, whatever they were given as."""
    import os

    import pandas as pd

    from daskroi.bytesource import ByteSource
    from daskroi.fmriprep import Confounds
    from daskroi.texttable import frame_of

    if isinstance(confounds, Confounds):
        return confounds.values
    if isinstance(confounds, str | os.PathLike):
        source = ByteSource.of(confounds, storage_options)
        table, named = frame_of(source.read(), source.shown, "confounds")
        return table if named else table.add_prefix("confound ")
    if isinstance(confounds, pd.DataFrame):
        return confounds
    values = np.asarray(confounds)
    if values.ndim not in (1, 2) or values.dtype.names:
        raise DaskroiTypeError(
            f"confounds is a {type(confounds).__name__} of shape {values.shape}. Give a table, a "
            "row per frame."
        )
    values = values[:, None] if values.ndim == 1 else values
    return pd.DataFrame(values, columns=[f"confound {i}" for i in range(values.shape[1])])


def _regions(
    atlas: AnyAtlas | None,
    ts: xr.DataArray | None,
    there: NDArray[Any] | None,
    raw: xr.DataArray | None,
) -> tuple[list[str], pd.DataFrame, pd.DataFrame, list[str]]:
    """Names of regions, their table, more columns for it, and what is wrong with them.

    ``there`` are the ids that the series had before they were brought to the atlas's regions.
    """

    def of(name: str) -> NDArray[Any] | None:
        return None if ts is None or name not in ts.coords else ts.coords[name].values

    shares = absent = None
    if atlas is not None:
        ids, names = atlas.ids, atlas.names
        sizes = atlas.table["size_mm3"].to_numpy(np.float64)
        shares = atlas.table["relative_size_percent"].to_numpy(np.float64)
        absent = None if there is None else ~np.isin(ids, there)
    else:
        assert ts is not None
        ids = ts["region"].values
        given, given_sizes = of("region_name"), of("size_mm3")
        names = [str(n) for n in (ids if given is None else given)]
        sizes = np.full(len(ids), np.nan) if given_sizes is None else given_sizes
    n_voxels, coverage = of("n_voxels"), of("coverage")
    wrong = region_warnings(
        ids, names, coverage, None if ts is None else ts.values, n_voxels, absent
    )
    if n_voxels is None and atlas is not None and "n_voxels" in atlas.table:
        n_voxels = atlas.table["n_voxels"].to_numpy()
    moments: tuple[Any, Any] = (None, None)
    if raw is not None:
        moments = region_moments(series_on(raw, ids, "" if atlas is None else atlas.name))
    elif ts is not None and not demeaned(ts):
        moments = region_moments(ts)
    details = region_details(len(ids), n_voxels, coverage, *moments)
    return names, region_table(ids, names, sizes, shares), details, wrong
