"""What plots share: axes, region names that fit, networks, time with its gaps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.image import declared_t_r

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = [
    "GONE",
    "Frames",
    "frames_of",
    "in_memory",
    "label_regions",
    "mark_networks",
    "names_of",
    "networks_of",
    "new_axes",
    "order_of",
    "plain",
]

# what is NaN; dark enough to be told from the white in the middle of a diverging scale
GONE = "#9e9e9e"
FONT_SIZE = 8
LONGEST = 36
SCHAEFER = r"(?:7|17)Networks_[LR]H_([A-Za-z]+)"


def new_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes to draw on: those given, or of a new figure of a size in inches.

    Raises
    ------
    DaskroiError
        matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise DaskroiError(
            "Plots need matplotlib, which is not installed. Run: pip install 'daskroi[plot]'."
        ) from error
    if ax is not None:
        if not hasattr(ax, "imshow"):
            raise DaskroiTypeError(f"ax is a {type(ax).__name__}. Give matplotlib axes, or None.")
        return ax
    return pyplot.figure(figsize=(width, height), layout="constrained").add_subplot()


def in_memory(array: Any, what: str, dims: tuple[str, ...]) -> xr.DataArray:
    """An array that can be drawn, its dims in order; computed if it is lazy.

    Raises
    ------
    DaskroiError
        It has other dims, is empty, or of no real numbers.
    """
    if not hasattr(array, "dims"):
        raise DaskroiTypeError(
            f"A {type(array).__name__} has no labels to plot. Give {what}, a DataArray."
        )
    if set(array.dims) != set(dims):
        raise DaskroiError(
            f"The array has dims {array.dims}, and this plot is of {what}, {dims}. Select one run, "
            "or take a mean."
        )
    if array.size == 0:
        raise DaskroiError(f"The array is empty, {dict(array.sizes)}. Check the selection.")
    if array.dtype.kind not in "biuf":
        raise DaskroiError(f"The array holds {array.dtype}, not real numbers. Convert it.")
    return array.compute().transpose(*dims)


def names_of(array: xr.DataArray) -> list[str]:
    """Region names, or ids where there are none."""
    for name in ("region_name", "region"):
        if name in array.coords:
            return [str(n) for n in array.coords[name].values]
    return [str(i) for i in range(array.sizes["region"])]


def label_regions(ax: Axes, names: Sequence[str], axis: Literal["x", "y"] = "y") -> None:
    """Names of regions at 0, 1, 2 …, only as many as fit; zooming in shows the others.

    Parameters
    ----------
    ax : Axes
    names : sequence of str
    axis : {"y", "x"}
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    shown = [plain(_short(name)) for name in names]

    class AsManyAsFit(MaxNLocator):
        """Asks how much room there is when it is drawn: the layout changes it until then."""

        def __call__(self) -> Any:
            extent = ax.get_window_extent()
            pixels = extent.height if axis == "y" else extent.width
            fit = int(pixels / ax.figure.dpi * 72 / (1.3 * FONT_SIZE))
            self.set_params(nbins=max(1, fit))
            return super().__call__()

    def name(value: float, _: Any = None) -> str:
        i = round(value)
        return shown[i] if abs(value - i) < 1e-6 and 0 <= i < len(shown) else ""

    which = ax.yaxis if axis == "y" else ax.xaxis
    which.set_major_locator(AsManyAsFit(steps=[1, 2, 5, 10], integer=True))
    which.set_major_formatter(FuncFormatter(name))
    ax.tick_params(axis, labelsize=FONT_SIZE, length=2, labelrotation=90 if axis == "x" else 0)


def plain(text: str) -> str:
    """Text to be drawn as it is: matplotlib takes what is between dollars for mathematics.

    Examples
    --------
    >>> plain("$V_1$")
    '\\\\$V_1\\\\$'
    """
    return text.replace("$", r"\$")


def _short(name: str) -> str:
    # from the middle: what names of an atlas begin with, many have in common, and the end as well
    cut = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[:cut]}…{name[1 - cut :]}"


def networks_of(array: xr.DataArray, networks: Any = None) -> list[str] | None:
    """The network of every region, or None when there are none.

    Parameters
    ----------
    array : DataArray with dim region
    networks : optional
        A table with ``index`` and ``network``, or an atlas with such a table; a mapping of id or
        name to network; a list in the order of the regions. None: coordinate ``network``, or what
        names of the Schaefer atlas say. False: none.

    Raises
    ------
    DaskroiError
        There is no such column, or the list has another length.

    Examples
    --------
    >>> import xarray as xr
    >>> names = ("region", ["7Networks_LH_Vis_1", "7Networks_RH_Default_pCunPCC_1"])
    >>> networks_of(xr.DataArray([0, 0], {"region_name": names}, "region"))
    ['Vis', 'Default']
    """
    if networks is False:
        return None
    names, n_region = names_of(array), array.sizes["region"]
    ids = array.coords["region"].values if "region" in array.coords else np.arange(n_region)
    if networks is None:
        if "network" in array.coords:
            return [str(n) for n in array.coords["network"].values]
        found = [re.search(SCHAEFER, name) for name in names]
        return [match[1] for match in found if match] if all(found) else None
    table = getattr(networks, "table", networks)
    if hasattr(table, "columns"):
        missing = [c for c in ("index", "network") if c not in table.columns]
        if missing:
            raise DaskroiError(
                f"The table of networks has no column {missing[0]!r}; it has "
                f"{', '.join(map(repr, table.columns))}. Name its columns index and network."
            )
        table = dict(zip(table["index"], table["network"], strict=True))
    if isinstance(table, Mapping):
        pairs = zip(ids.tolist(), names, strict=True)
        return [str(table.get(i, table.get(n, "none"))) for i, n in pairs]
    if not isinstance(table, Iterable):
        raise DaskroiTypeError(
            f"networks is a {type(table).__name__}. Give a table, a mapping, a list, None or False."
        )
    listed = [str(n) for n in table]
    if len(listed) != n_region:
        raise DaskroiError(f"networks has {len(listed)} entries for {n_region} regions.")
    return listed


def order_of(networks: Sequence[str] | None, n_region: int) -> NDArray[np.intp]:
    """Positions of regions, those of a network together, in the order in which they come first.

    Examples
    --------
    >>> order_of(["Vis", "Default", "Vis"], 3)
    array([0, 2, 1])
    """
    if networks is None:
        return np.arange(n_region)
    rank = {name: i for i, name in enumerate(dict.fromkeys(networks))}
    return np.argsort([rank[n] for n in networks], kind="stable")


def mark_networks(ax: Axes, ordered: Sequence[str], axes: str = "y") -> None:
    """Lines between networks, and their names on the far side.

    Parameters
    ----------
    ax : Axes
        With regions at 0, 1, 2 …
    ordered : sequence of str
        Network of every region, as drawn.
    axes : {"y", "xy"}
    """
    starts = [i for i, n in enumerate(ordered) if i == 0 or n != ordered[i - 1]]
    ends = [*starts[1:], len(ordered)]
    centres = [(a + b - 1) / 2 for a, b in zip(starts, ends, strict=True)]
    labels = [plain(ordered[i]) for i in starts]
    for at in starts[1:]:
        ax.axhline(at - 0.5, color="black", linewidth=0.6)
        if "x" in axes:
            ax.axvline(at - 0.5, color="black", linewidth=0.6)
    far = ax.secondary_xaxis("top") if "x" in axes else ax.secondary_yaxis("right")
    far.tick_params(length=0, labelsize=FONT_SIZE, labelrotation=40 if "x" in axes else 0)
    if "x" in axes:
        far.set_xticks(centres, labels, ha="left", rotation_mode="anchor")
    else:
        far.set_yticks(centres, labels)


@dataclass(frozen=True)
class Frames:
    """When the frames of series are, on an axis without gaps.

    Parameters
    ----------
    times : float array, (frame,)
        Of all frames from the first to the last, censored ones as well.
    at : int array, (time,)
        Where the frames of the series are among them.
    step : float
        From frame to frame.
    label : str
        Of the axis, with its unit.
    """

    times: NDArray[np.float64]
    at: NDArray[np.intp]
    step: float
    label: str

    @property
    def censored(self) -> NDArray[np.bool_]:
        """Frames that are not there."""
        gone = np.ones(len(self.times), bool)
        gone[self.at] = False
        return gone

    def spread(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Values (time, ...) of all frames; NaN where frames were censored."""
        found = np.full((len(self.times), *values.shape[1:]), np.nan)
        found[self.at] = values
        return found

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Begin and end of what was censored, in the unit of time."""
        edges = np.flatnonzero(np.diff(np.r_[0, self.censored, 0]))
        half = self.step / 2
        times = np.r_[self.times, self.times[-1] + self.step]
        return [(times[a] - half, times[b] - half) for a, b in edges.reshape(-1, 2)]


def frames_of(series: xr.DataArray, censored: Any = None) -> Frames:
    """Read the frames off the ``time`` coordinate; frames missing in between were censored.

    Parameters
    ----------
    series : DataArray with dim time
    censored : bool array, (frame,), optional
        Of the whole run, to know of frames before and after as well.

    Raises
    ------
    DaskroiError
        ``censored`` does not leave as many frames as there are.
    """
    n_time = series.sizes["time"]
    time = series.coords.get("time")
    if time is not None and (time.dtype.kind not in "iuf" or not np.isfinite(time).all()):
        time = None  # dates and the like: counted
    values = np.arange(n_time) if time is None else np.asarray(time.values, np.float64)
    seconds = time is not None and time.attrs.get("units") == "s"
    label = "time (s)" if seconds else "frame" if time is None else _unit(time)
    gaps = np.diff(values)
    step = float(gaps.min()) if gaps.size else 1.0
    if gaps.size and gaps.max() > 1.001 * step and time is not None:
        # with every second frame censored somewhere, the smallest gap may still be two frames
        step = declared_t_r(time).seconds or step
    if gaps.size and gaps.min() <= 0:  # runs in a row, each beginning at 0
        values, step, label = np.arange(n_time), 1.0, "frame"
    frames = np.rint((values - values[0]) / step).astype(np.intp)
    first, count = values[0], int(frames[-1]) + 1
    if censored is not None:
        gone = np.asarray(censored, dtype=bool)
        frames = np.flatnonzero(~gone)
        if len(frames) != n_time:
            raise DaskroiError(
                f"censored leaves {len(frames)} of {len(gone)} frames, and the series have "
                f"{n_time}. Give a True for every censored frame of the whole run."
            )
        first, count = first - frames[0] * step, len(gone)
    return Frames(first + np.arange(count) * step, frames, step, label)


def _unit(time: xr.DataArray) -> str:
    unit = str(time.attrs.get("units", ""))
    return "frame" if unit in ("", "frame") else f"time ({unit})"
