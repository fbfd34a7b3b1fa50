"""What a masker's report says: its regions, their series if there are any, and its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.columns import split_signals
from daskroi.errors import DaskroiError, warn
from daskroi.estimator import describe
from daskroi.fitted import FittedAtlas
from daskroi.placement import coverage, list_regions
from daskroi.report import Report, colors_of, read_confound_table
from daskroi.reportdata import confounding_of, demeaned, region_moments, series_of
from daskroi.reportframes import series_on
from daskroi.reportimage import Picture, read_picture, slices_of
from daskroi.reportregions import region_details, region_warnings
from daskroi.reporttext import facts_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["report_of"]

CLOSING = (
    "This report was made from what was given at instantiation and to fit. An image on another "
    "grid that is given to transform has its regions placed anew; its result says how."
)


def report_of(
    kind: str,
    parameters: Mapping[str, Any],
    fitted: FittedAtlas | None,
    image: str = "",
    title: str | None = None,
    *,
    shown: Any = None,
    signals: Any = None,
    confounds: Any = None,
) -> Report:
    """Put the report of a masker together.

    Parameters
    ----------
    kind : str
        The masker's class.
    parameters : dict
        Its constructor parameters; ``reports`` is among them.
    fitted : FittedAtlas or None
        None before ``fit``.
    image : str
        Where the fitted image is from; empty for none.
    title : str, optional
        ``kind`` if not given.
    shown : DataArray, optional
        The image that was fitted, of which one volume is shown.
    signals : DataArray, DataFrame or array, dims (time, region), optional
        What ``transform`` returned, computed.
    confounds : DataFrame, path, URL, array or Confounds, optional
        Shown beside ``signals``.

    Warns
    -----
    DaskroiWarning
        There is no region table, because of ``reports=False`` or because fit was not called.
    """
    notes = []
    if not parameters["reports"]:
        notes.append("Report generation not enabled. Pass reports=True for the region table.")
    if fitted is None:
        notes.append(f"This {kind} has not been fitted yet. Call fit before generate_report.")
    for note in notes:
        warn(note)
    common: dict[str, Any] = {
        "title": title or kind,
        "description": "Time series of the regions of a label atlas: in every frame, the voxels of "
        "one label become one number.",
        "parameters": {k: describe(v, whole=True) for k, v in parameters.items()},
    }
    if fitted is None or notes:
        origin = {} if fitted is None else _provenance(fitted, image)
        return Report(notes=tuple(notes), provenance=origin, **common)
    picture, unreadable = _picture(shown, image)
    ts = None if signals is None else _series(signals, fitted, parameters)
    n_frames = None if picture is None else picture.n_frames
    series = None if ts is None else series_of(ts, at_least=n_frames)
    confounding = None
    if confounds is not None and series is not None:
        confounding = confounding_of(read_confound_table(confounds), series.frames)
    known = _known(fitted, image, ts)
    moments = (None, None) if ts is None or demeaned(ts) else region_moments(ts)
    details = region_details(len(fitted.atlas.ids), *known, *moments)
    n = len(fitted.atlas.ids)
    return Report(
        notes=tuple(_notes(kind, fitted, image or shown is not None) + unreadable),
        warnings=tuple(_warnings(fitted, *known, ts)),
        facts=facts_of(series, ts, fitted.atlas, details, confounding),
        regions=fitted.region_table(),
        details=details,
        grid=fitted.grid.describe(),
        slices=slices_of(fitted.atlas, picture),
        series=series,
        confounding=confounding,
        colors=tuple(colors_of(fitted.atlas)),
        introduction="This report shows the regions defined by the labels of the mask. "
        f"The masker has {n} different non-overlapping region{'' if n == 1 else 's'}.",
        closing=CLOSING,
        provenance=_provenance(fitted, image),
        **common,
    )


def _picture(shown: Any, image: str) -> tuple[Picture | None, list[str]]:
    """One volume of the image, or why there is none: a report is not for failing."""
    if shown is None:
        gone = "The image is not at hand any more; the slices show the atlas alone."
        return None, [gone] if image else []
    try:
        return read_picture(shown), []
    except (DaskroiError, OSError) as error:
        return None, [f"The image cannot be shown: {error}"]


def _series(signals: Any, fitted: FittedAtlas, parameters: Mapping[str, Any]) -> xr.DataArray:
    """Signals of all regions of the atlas, by id; those that were dropped are NaN."""
    import xarray as xr

    ids = fitted.atlas.ids
    if isinstance(signals, xr.DataArray) and "region" in signals.coords:
        return series_on(signals, ids, fitted.atlas.name)
    kept = ids if parameters["keep_masked_labels"] else ids[~fitted.lost]
    found, values = split_signals(signals, kept)
    made = xr.DataArray(np.atleast_2d(values), {"region": found}, ("time", "region"))
    return series_on(made, ids, fitted.atlas.name)


def _known(
    fitted: FittedAtlas, image: str, ts: xr.DataArray | None
) -> tuple[NDArray[Any] | None, NDArray[np.float64] | None]:
    """Voxels of every region, and how much of it they cover: of the signals, else of the image."""
    placement = fitted.placement
    n_voxels: Any = None
    covered: Any = None
    if image or fitted.mask is not None:
        n_voxels = placement.index.counts
        hidden = 0 if placement.hidden is None else placement.hidden
        usable = placement.index.totals - hidden
        covered = coverage(usable, placement.on_grid, placement.in_view)
    if ts is not None and "coverage" in ts.coords:
        own, there = (n_voxels, covered), (ts["n_voxels"].values, ts["coverage"].values)
        if n_voxels is None:
            return there
        # regions that were dropped, or not selected, come back as NaN
        n_voxels, covered = (np.where(np.isnan(b), a, b) for a, b in zip(own, there, strict=True))
    return n_voxels, covered


def _warnings(
    fitted: FittedAtlas,
    n_voxels: NDArray[Any] | None,
    covered: NDArray[np.float64] | None,
    ts: xr.DataArray | None,
) -> list[str]:
    atlas = fitted.atlas
    values = None if ts is None else ts.values
    # the lost ones stand in a note, in the words of the masker's warning
    return [
        text
        for text in region_warnings(atlas.ids, atlas.names, covered, values, n_voxels)
        if "no voxel in the image and mask" not in text
    ]


def _provenance(fitted: FittedAtlas, image: str) -> dict[str, str]:
    return {
        "atlas": fitted.atlas.source or f"{fitted.atlas.name} (in memory)",
        "atlas hash": fitted.atlas.hash,
        "image": image or "none",
    }


def _notes(kind: str, fitted: FittedAtlas, image: Any) -> list[str]:
    notes = []
    if not image:
        notes.append(
            f"No image provided to fit in {kind}. The slices show the atlas alone, and sizes are "
            "those of the atlas on its own grid."
        )
    lost = fitted.atlas.table[fitted.lost]
    if len(lost):
        where = "the image and mask" if image else "the mask"
        notes.append(
            f"{len(lost)} of {len(fitted.atlas.ids)} regions have no voxel in {where}: "
            f"{list_regions(lost['index'], lost['name'])}."
        )
    return notes
