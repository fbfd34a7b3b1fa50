"""Plots along time: series with their names, and all regions as a carpet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, some
from daskroi.plotparts import (
    FONT_SIZE,
    Frames,
    frames_of,
    in_memory,
    label_regions,
    mark_networks,
    names_of,
    networks_of,
    new_axes,
    order_of,
    plain,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["carpet", "series"]

WHAT = "what daskroi.extract returns"
DIMS = ("time", "region")
# at this many standard deviations a carpet is black or white
LIMIT = 2.0
# of what is NaN on a carpet: on no scale of grey
NOT_GREY = "#f3d9b1"
SHADE = "#d5d5d5"


def series(
    ts: xr.DataArray,
    regions: Sequence[Any] | None = None,
    *,
    censored: Any = None,
    color: Any = "#0072B2",
    ax: Axes | None = None,
) -> Axes:
    """Draw region time series one above the other, with their names.

    Parameters
    ----------
    ts : DataArray, dims (time, region)
        Computed if it is lazy.
    regions : sequence of ids or names, optional
        Which, from top to bottom; all if not given.
    censored : bool array (frame,), optional
        True where a frame of the whole run was censored. Without it, only gaps in ``time`` show.
    color : matplotlib color
    ax : matplotlib Axes, optional
        A new figure if not given.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DaskroiError
        Other dims; a region that is not there; matplotlib is not installed.

    Notes
    -----
    All are drawn to the same scale, about their means; the label says how much a step is. A single
    region has an axis of its own. Lines end at censored frames, which are shaded. Lost regions
    have a name and no line.

    Examples
    --------
    >>> from daskroi.plot import series
    >>> import daskroi as dr, matplotlib
    >>> matplotlib.use("Agg")
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> ax = series(dr.extract(run.image, run.atlas))
    >>> len(ax.lines), ax.get_xlabel()
    (4, 'time (s)')
    """
    ts = in_memory(ts, WHAT, DIMS)
    if regions is not None:
        ts = ts.isel(region=_positions(ts, regions))
    names, n_region = [plain(name) for name in names_of(ts)], ts.sizes["region"]
    ax = new_axes(ax, 9, min(12.0, 2 + 0.25 * n_region))
    frames = frames_of(ts, censored)
    values = frames.spread(ts.values)
    unit = ts.attrs.get("units", "")
    if n_region == 1:
        ax.plot(frames.times, values[:, 0], color=color, linewidth=1, label=names[0])
        ax.set(title=names[0], ylabel=str(unit))
    else:
        centred, step = _about_means(values)
        for i, name in enumerate(names):
            # the axis runs down, so that the first region is at the top
            ax.plot(frames.times, i - centred[:, i], color=color, linewidth=0.8, label=name)
        ax.set_ylim(n_region - 0.3, -0.7)
        label_regions(ax, names_of(ts))
        ax.set_ylabel(f"a step is {step:.3g} {unit}".rstrip(), fontsize=FONT_SIZE)
    _shade(ax, frames)
    return ax


def _positions(ts: xr.DataArray, regions: Sequence[Any]) -> list[int]:
    wanted = list(regions) if np.ndim(regions) else [regions]
    ids = ts.coords["region"].values.tolist() if "region" in ts.coords else []
    names = names_of(ts)
    found = []
    for one in wanted:
        where: list[Any] = names if isinstance(one, str) else ids
        if one not in where:
            raise DaskroiError(
                f"regions: {one!r} is not there. Use ids ({some(ids, 3)}) "
                f"or names ({some(names, 3)})."
            )
        found.append(where.index(one))
    return found


def _about_means(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Series in steps between two of them, and how much a step is."""
    finite = np.isfinite(values)
    count = np.maximum(finite.sum(axis=0), 1)
    centred = values - np.where(finite, values, 0).sum(axis=0) / count
    sizes = np.abs(centred[finite])
    step = 2 * float(np.quantile(sizes, 0.995)) if sizes.size else 1.0
    return centred / (step or 1.0), step


def _shade(ax: Axes, frames: Frames) -> None:
    for i, (begin, end) in enumerate(frames.gaps):
        label = "censored" if i == 0 else "_"
        ax.axvspan(begin, end, color=SHADE, linewidth=0, zorder=0, label=label)
    half = frames.step / 2
    ax.set_xlim(frames.times[0] - half, frames.times[-1] + half)
    ax.set_xlabel(frames.label)


def carpet(
    ts: xr.DataArray,
    *,
    above: Mapping[str, Any] | Any = None,
    networks: Any = None,
    censored: Any = None,
    cmap: Any = "gray",
    ax: Axes | None = None,
) -> Axes:
    """Draw all regions as a carpet: a row per region, z-scored, grey.

    Parameters
    ----------
    ts : DataArray, dims (time, region)
        Computed if it is lazy.
    above : mapping of label to array, or one array, optional
        Drawn above as lines, such as ``{"FD (mm)": confounds["framewise_displacement"]}``: a value
        per frame of the series, or of the whole run when that is known from ``censored`` or from
        the times.
    networks : optional
        Rows by network: a table with ``index`` and ``network``, an atlas with such a table, a
        mapping of id or name, a list; None: what the series or Schaefer's names say; False: none.
    censored : bool array (frame,), optional
        As in `series`.
    cmap : matplotlib colormap
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        Of the carpet; what is above is on an inset of it (``ax.child_axes``).

    Raises
    ------
    DaskroiError
        Other dims; an array of another length; matplotlib is not installed.

    Notes
    -----
    z-scores are of the frames that are there. Censored frames and lost regions have a colour that
    is on no scale of grey: pale orange.

    Examples
    --------
    >>> from daskroi.plot import carpet
    >>> import daskroi as dr, matplotlib
    >>> matplotlib.use("Agg")
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> ax = carpet(dr.extract(run.image, run.atlas), above={"FD (mm)": [0.1] * 20})
    >>> ax.images[0].get_array().shape
    (4, 20)
    """
    from matplotlib import colormaps

    ts = in_memory(ts, WHAT, DIMS)
    frames = frames_of(ts, censored)
    lines = {} if above is None else above if isinstance(above, Mapping) else {"": above}
    found = networks_of(ts, networks)
    order = order_of(found, ts.sizes["region"])
    scores = frames.spread(_z_scored(ts.values))[:, order].T
    ax = new_axes(ax, 9, 5 + 0.8 * len(lines))
    half = frames.step / 2
    extent = (frames.times[0] - half, frames.times[-1] + half, len(scores) - 0.5, -0.5)
    colours = colormaps.get_cmap(cmap).with_extremes(bad=NOT_GREY)
    image = ax.imshow(
        scores, aspect="auto", cmap=colours, vmin=-LIMIT, vmax=LIMIT, extent=extent,
        interpolation="nearest",
    )  # fmt: skip
    ax.set_xlabel(frames.label)
    names = names_of(ts)
    label_regions(ax, [names[i] for i in order])
    if found is not None:
        mark_networks(ax, [found[i] for i in order])
    ax.figure.colorbar(image, ax=ax, label="z", shrink=0.5, pad=0.02)
    _strips(ax, frames, lines)
    return ax


def _z_scored(values: NDArray[Any]) -> NDArray[np.float64]:
    values = values.astype(np.float64)
    if len(values) < 2:
        return values * 0
    centred = values - values.mean(axis=0)
    deviation = values.std(axis=0, ddof=1)
    # of a constant, only rounding would be drawn
    flat = deviation <= 1e-6 * np.abs(values).max(axis=0)
    return centred / np.where(flat, np.inf, deviation)


def _strips(ax: Axes, frames: Frames, lines: Mapping[str, Any]) -> None:
    height, colours = 0.16, ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
    for i, (label, given) in enumerate(lines.items()):
        values = np.asarray(getattr(given, "values", given), dtype=np.float64).ravel()
        if len(values) == len(frames.at):
            values = frames.spread(values)
        if len(values) != len(frames.times):
            raise DaskroiError(
                f"above: {label or 'the array'} has {len(values)} values for {len(frames.at)} "
                f"frames ({len(frames.times)} with the censored ones)."
            )
        strip = ax.inset_axes((0, 1.03 + i * (height + 0.03), 1, height), sharex=ax)
        label = plain(str(label))
        strip.plot(frames.times, values, color=colours[i % 4], linewidth=0.9, label=label)
        strip.tick_params(labelbottom=False, labelsize=FONT_SIZE)
        strip.set_ylabel(label, fontsize=FONT_SIZE, rotation=0, ha="right", va="center")
        strip.spines[["top", "right"]].set_visible(False)
