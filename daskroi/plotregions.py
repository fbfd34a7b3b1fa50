"""Plot of regions on three orthogonal slices, in mm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.grid import Grid
from daskroi.plotparts import FONT_SIZE, GONE, new_axes

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from daskroi.atlas import Atlas

__all__ = ["regions"]

# for each plane: the axis that is cut, then what is drawn along and up
PLANES = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
NAMES = "xyz"
# negative and positive end of each axis of RAS
SIDES = ("LR", "PA", "IS")
# Okabe and Ito's, whom the colour-blind can tell apart, then lighter and darker
PALETTE = (
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
    "#F6CF80", "#AAD9F4", "#80CEB9", "#F7F1A0", "#80B8D8", "#EAAE80", "#E5BCD3",
    "#735000", "#2B5A75", "#004F3A", "#787221", "#003959", "#6A2F00", "#663D54",
)  # fmt: skip
MOST_PIXELS = 600
# between slices, for the labels of the axis
GAP = 0.07


def regions(
    atlas: Any,
    values: Any = None,
    *,
    background: Any = None,
    at: Sequence[float] | None = None,
    cmap: Any = None,
    vmin: float | None = None,
    vmax: float | None = None,
    alpha: float = 0.75,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> NDArray[Any]:
    """Draw regions, or a value for each, on three orthogonal slices.

    Parameters
    ----------
    atlas : Atlas, or what `daskroi.load_atlas` takes
        A label image.
    values : DataArray (region,), mapping of id to number, or sequence, optional
        A value per region, by id; a sequence is in the order of the atlas's table. Without it,
        regions have colours that only tell them apart.
    background : DataArray or path, optional
        An image below, on any grid; of a run the mean over time, which reads it.
    at : (x, y, z), optional
        Where to cut, in mm; the centre of the regions if not given.
    cmap : matplotlib colormap, optional
        "viridis", or "RdBu_r" about 0 when values have both signs.
    vmin, vmax : float, optional
        Of the scale.
    alpha : float
        Opacity of regions over a background.
    colorbar : bool
        Of values.
    ax : matplotlib Axes, optional
        Its place is taken by the three slices. A new figure if not given.

    Returns
    -------
    array of 3 matplotlib Axes
        Sagittal, coronal, axial.

    Raises
    ------
    DaskroiError
        Not a label image; values of no region of the atlas; matplotlib is not installed.

    Notes
    -----
    Left is left. Slices are planes of world space: of an image whose axes are oblique, every pixel
    is the voxel that it falls into. Regions whose value is NaN are grey. Where the backend is
    interactive, the status line names the region under the pointer.

    Examples
    --------
    >>> from daskroi.plot import regions
    >>> import daskroi as dr, matplotlib
    >>> matplotlib.use("Agg")
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> axes = regions(run.atlas, background=run.image)
    >>> [ax.get_xlabel() for ax in axes]
    ['y (mm)', 'x (mm)', 'x (mm)']
    """
    found = _label_atlas(atlas)
    below = None if background is None else _background(background)
    frame = found.grid if below is None else below[1]
    grey = (0.0, 1.0) if below is None else _window(below[0])
    where = _centre(found) if at is None else _point(at)
    paint = _Paint.make(found, values, cmap, vmin, vmax)
    outer = new_axes(ax, 10, 3.6)
    outer.set_axis_off()
    low, high = _bounds(frame)
    sizes = (high - low)[[1, 0, 0]]
    widths = sizes / sizes.sum() * (1 - 2 * GAP)
    lefts = np.r_[0, np.cumsum(widths[:2] + GAP)]
    parts = []
    for (cut, along, up), left, width in zip(PLANES, lefts, widths, strict=True):
        part = outer.inset_axes((left, 0.08, width, 0.84))
        points, extent = _plane(low, high, where, cut, along, up, found.grid)
        if below is not None:
            shades = _sample(*below, points).astype(np.float64)
            part.imshow(
                shades, cmap="gray", extent=extent, origin="lower", vmin=grey[0], vmax=grey[1]
            )
        labels = _sample(found.labels, found.grid, points, found.background_label)
        part.imshow(
            paint.colours(labels, alpha if below is not None else 1.0),
            extent=extent,
            origin="lower",
            interpolation="nearest",
        )
        _dress(part, cut, along, up, where, low, high)
        part.format_coord = _Reader(found, where, cut, along, up)  # type: ignore[method-assign]
        parts.append(part)
    if colorbar and paint.scale is not None:
        outer.figure.colorbar(paint.scale, ax=outer, label=paint.label, shrink=0.8, pad=0.02)
    return np.array(parts, dtype=object)


def _label_atlas(atlas: Any) -> Atlas:
    from daskroi.atlas import Atlas, load_label_atlas

    if hasattr(atlas, "hash") and not isinstance(atlas, Atlas):
        raise DaskroiTypeError(
            f"A {type(atlas).__name__} has no label image to draw. Give a label image (dseg)."
        )
    return load_label_atlas(atlas)


def _background(image: Any) -> tuple[NDArray[Any], Grid]:
    from daskroi.image import grid_of
    from daskroi.openimage import open_image

    run = open_image(image)
    if "time" in run.dims:
        run = run.mean("time", dtype=np.float64)
    return np.asarray(run.values), grid_of(run)


def _centre(atlas: Atlas) -> NDArray[np.float64]:
    zyx = np.argwhere(atlas.labels != atlas.background_label).mean(axis=0)
    centre = atlas.grid.matrix[:3, :3] @ zyx[::-1] + atlas.grid.matrix[:3, 3]
    return np.round(centre)


def _point(at: Any) -> NDArray[np.float64]:
    with suppress(TypeError, ValueError):
        point = np.asarray(at, np.float64)
        if point.shape == (3,) and np.isfinite(point).all():
            return point
    raise DaskroiError(f"at={at!r} is not a point. Give three numbers, x, y and z in mm.")


def _bounds(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The box in mm that holds all voxels."""
    ends = [(-0.5, n - 0.5) for n in grid.shape[::-1]]
    corners = np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1)
    places = grid.matrix[:3, :3] @ corners + grid.matrix[:3, 3:]
    return places.min(axis=1), places.max(axis=1)


def _plane(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    at: NDArray[np.float64],
    cut: int,
    along: int,
    up: int,
    grid: Grid,
) -> tuple[NDArray[np.float64], tuple[float, float, float, float]]:
    """Centres of a plane's pixels in mm, (3, up, along), and its extent."""
    # several pixels in a voxel, or those of an oblique image would be ragged
    step = max(min(grid.voxel_sizes) / 2, (high - low).max() / MOST_PIXELS)
    lines = {}
    for axis in (along, up):
        count = max(1, round((high[axis] - low[axis]) / step))
        edges = np.linspace(low[axis], high[axis], count + 1)
        lines[axis] = (edges[:-1] + edges[1:]) / 2
    points = np.empty((3, len(lines[up]), len(lines[along])))
    points[cut] = at[cut]
    points[along] = lines[along]
    points[up] = lines[up][:, None]
    return points, (low[along], high[along], low[up], high[up])


def _sample(
    values: NDArray[Any], grid: Grid, points: NDArray[np.float64], fill: float = 0
) -> NDArray[Any]:
    """Values of the voxels that points in mm fall into."""
    inverse = np.linalg.inv(grid.matrix)
    flat = points.reshape(3, -1)
    voxels = np.floor(inverse[:3, :3] @ flat + inverse[:3, 3:] + 0.5).astype(np.intp)[::-1]
    inside = np.all((voxels >= 0) & (voxels < np.array(grid.shape)[:, None]), axis=0)
    found = np.full(flat.shape[1], fill, dtype=values.dtype)
    found[inside] = values[tuple(voxels[:, inside])]
    return found.reshape(points.shape[1:])


def _window(values: NDArray[Any]) -> tuple[float, float]:
    """Grey from 0 to what all but the brightest voxels have."""
    finite = values[np.isfinite(values) & (values != 0)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite[:: max(1, finite.size // 100_000)], [2, 99.5])
    return min(0.0, float(low)), float(high)


def _dress(
    ax: Axes,
    cut: int,
    along: int,
    up: int,
    at: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> None:
    """Ticks in mm, sides, and lines where the other two slices are."""
    ax.set_facecolor("black")
    ax.set(
        title=f"{NAMES[cut]} = {at[cut]:g} mm",
        xlabel=f"{NAMES[along]} (mm)",
        xlim=(low[along], high[along]),
        ylim=(low[up], high[up]),
        aspect="equal",
    )
    ax.set_ylabel(f"{NAMES[up]} (mm)", labelpad=0)
    ax.tick_params(labelsize=FONT_SIZE, length=2)
    ax.locator_params(nbins=5)
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set_fontsize(FONT_SIZE + (text is ax.title))
    ax.axvline(at[along], color="white", linewidth=0.5, alpha=0.7)
    ax.axhline(at[up], color="white", linewidth=0.5, alpha=0.7)
    for place, side in zip((0.02, 0.98), SIDES[along], strict=True):
        ax.text(
            place, 0.97, side, color="white", transform=ax.transAxes, va="top",
            ha="left" if place < 0.5 else "right", fontsize=FONT_SIZE + 1, fontweight="bold",
        )  # fmt: skip


class _Reader:
    """What stands in the status line of a window."""

    def __init__(
        self, atlas: Atlas, at: NDArray[np.float64], cut: int, along: int, up: int
    ) -> None:
        self._atlas, self._at, self._along, self._up = atlas, at, along, up
        self._names = dict(zip(atlas.ids.tolist(), atlas.names, strict=True))

    def __call__(self, x: float, y: float) -> str:
        point = self._at.copy()
        point[self._along], point[self._up] = x, y
        atlas = self._atlas
        label = _sample(atlas.labels, atlas.grid, point[:, None], atlas.background_label)
        name = self._names.get(int(label[0]), "")
        return f"{', '.join(f'{v:.1f}' for v in point)} mm  {name}".rstrip()


class _Paint:
    """Colours of labels."""

    def __init__(self, ids: NDArray[np.int64], colours: NDArray[Any], scale: Any, label: str):
        self._ids, self._colours, self.scale, self.label = ids, colours, scale, label

    @classmethod
    def make(cls, atlas: Atlas, values: Any, cmap: Any, vmin: Any, vmax: Any) -> _Paint:
        from matplotlib import cm, colormaps, colors

        ids = atlas.ids
        if values is None:
            palette = colors.to_rgba_array(PALETTE if cmap is None else _listed(cmap))
            return cls(ids, palette[np.arange(len(ids)) % len(palette)], None, "")
        numbers = _values_of(atlas, values)
        finite = numbers[np.isfinite(numbers)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
        if low < 0 < high and vmin is None:
            high = max(-low, high) if vmax is None else vmax
            low = -high
            cmap = cmap or "RdBu_r"
        norm = colors.Normalize(low if vmin is None else vmin, high if vmax is None else vmax)
        chosen = colormaps.get_cmap(cmap or "viridis").with_extremes(bad=GONE)
        scale = cm.ScalarMappable(norm, chosen)
        painted = chosen(norm(np.ma.masked_invalid(numbers)))
        name = getattr(values, "name", None)
        return cls(ids, painted, scale, str(name) if name is not None else "")

    def colours(self, labels: NDArray[Any], alpha: float) -> NDArray[np.float64]:
        """RGBA of a plane of labels."""
        where = np.searchsorted(self._ids, labels)
        where[where == len(self._ids)] = 0
        known = self._ids[where] == labels
        found = np.array(self._colours[where])
        found[..., 3] = np.where(known, alpha, 0.0)
        return found


def _listed(cmap: Any) -> Any:
    from matplotlib import colormaps

    return colormaps.get_cmap(cmap)(np.linspace(0, 1, 20))


def _values_of(atlas: Atlas, values: Any) -> NDArray[np.float64]:
    """A number per region of the atlas; NaN where there is none."""
    ids = atlas.ids.tolist()
    if hasattr(values, "dims") and "region" in getattr(values, "coords", ()):
        one: xr.DataArray = values.compute()
        if one.dims != ("region",):
            raise DaskroiError(
                f"values has dims {one.dims}, and is drawn as one number per region. Select, or "
                "take a mean."
            )
        values = dict(zip(one.coords["region"].values.tolist(), one.values.tolist(), strict=True))
    if isinstance(values, Mapping):
        if not set(ids) & set(values):
            raise DaskroiError(
                f"values is of none of the {len(ids)} regions of atlas {atlas.name} (ids "
                f"{ids[0]} ...). Give them by region id."
            )
        return np.array([values.get(i, np.nan) for i in ids], dtype=np.float64)
    try:
        listed = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DaskroiTypeError(
            f"values is a {type(values).__name__}, not numbers. Give one number per region, or a "
            "mapping by id; an image goes to background=."
        ) from error
    if listed.shape != (len(ids),):
        raise DaskroiError(
            f"values has shape {listed.shape}, and atlas {atlas.name} {len(ids)} regions. Give one "
            "number per region, or a mapping by id."
        )
    return listed
