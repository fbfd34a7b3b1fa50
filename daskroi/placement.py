"""An atlas on an image's grid: which voxels its regions have there, and how much is missing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.atlas import Atlas
from daskroi.errors import DaskroiError, some, warn
from daskroi.grid import Grid, centres_inside, resample_nearest
from daskroi.image import TIME, grid_of, repetition_of
from daskroi.labelimage import run_like
from daskroi.openimage import open_run, values_of
from daskroi.regions import RegionIndex
from daskroi.resampling import Resampling
from daskroi.spheres import SphereAtlas

if TYPE_CHECKING:
    from daskroi.maps import MapsAtlas

    AnyAtlas = Atlas | MapsAtlas | SphereAtlas

__all__ = [
    "Mask",
    "Placement",
    "coverage",
    "list_regions",
    "load_mask",
    "lost_regions_unsaid",
    "place",
]


# a context variable, not a warnings filter: filters are shared by all threads
_say_lost: ContextVar[bool] = ContextVar("say_lost", default=True)


@contextmanager
def lost_regions_unsaid() -> Iterator[None]:
    """Without the warning that regions without a voxel are NaN, for callers with their own."""
    token = _say_lost.set(False)
    try:
        yield
    finally:
        _say_lost.reset(token)


def list_regions(ids: Iterable[Any], names: Iterable[Any], limit: int = 20) -> str:
    """Id and name of regions, for messages.

    Examples
    --------
    >>> list_regions([3, 7, 9], ["V1", "V2", "V4"], limit=2)
    '3 V1, 7 V2 and 1 more'
    """
    return some((f"{i} {n}" for i, n in zip(ids, names, strict=True)), limit)


@dataclass(frozen=True, eq=False)
class Mask:
    """Voxels that count, on a grid of their own.

    Parameters
    ----------
    values : bool array, dims (z, y, x)
    grid : Grid
    source : str
        Where it is from, for messages and provenance.
    """

    values: NDArray[np.bool_]
    grid: Grid
    source: str

    def on(self, grid: Grid) -> NDArray[np.bool_]:
        """Bring to another grid by nearest neighbour; outside is False.

        Raises
        ------
        DaskroiError
            When no voxel is left there.
        """
        # uint8: scipy does not interpolate booleans
        there = resample_nearest(self.values.view(np.uint8), self.grid, grid).view(bool)
        if not there.any():
            raise DaskroiError(
                f"{self.source}: no voxel of the mask lies in the image ({grid.describe()}). "
                "Give the mask of this run, in the same space."
            )
        return there


def load_mask(mask: Any, storage_options: Mapping[str, Any] | None = None) -> Mask:
    """Read a mask: non-zero and finite voxels; of a 4D mask, those non-zero in all volumes.

    Parameters
    ----------
    mask : path, URL, nibabel image, DataArray or Mask
    storage_options : mapping, optional
        For fsspec.

    Raises
    ------
    DaskroiError
        When it cannot be read or has no voxel.
    """
    if isinstance(mask, Mask):
        return mask
    try:
        image = open_run(mask, "auto", storage_options)
    except DaskroiError as error:
        if isinstance(mask, str | os.PathLike) and os.fspath(mask):  # then it is named
            raise
        raise type(error)(f"mask_img: {error}") from error
    source = str(image.attrs.get("source", image.name or "the mask"))
    frames = image.sizes.get(TIME, 1)
    # before its voxels are read: they may be those of a whole run
    if frames > 1 and (why := run_like(source, frames, repetition_of(image).seconds)):
        raise DaskroiError(
            f"{source}: looks like a run, not a mask ({why}). Give the mask of this run."
        )
    values = values_of(image)
    inside = np.isfinite(values) & (values != 0)
    if values.dtype.kind == "f" and ((values > 0) & (values < 1)).any():
        warn(
            f"{source}: holds fractions between 0 and 1, so it is no mask but a probability map. "
            "Every voxel above 0 counts; give it cut at a threshold."
        )
    if inside.ndim == 4:
        inside = inside.all(axis=0)
    if not inside.any():
        raise DaskroiError(f"{source}: the mask is empty, all of its voxels are 0. Give another.")
    return Mask(inside, grid_of(image), source)


@dataclass(frozen=True, eq=False)
class Placement:
    """An atlas's regions on one grid; one entry per row of the atlas's table, always.

    Parameters
    ----------
    index : RegionIndex
        Voxels of every region, on the grid and in the mask.
    on_grid : float array, (region,)
        Voxels of every region on the grid, whether in the mask or not; their summed weights,
        whatever their signs, where they have weights.
    in_view : float array, (region,)
        Fraction of the region's volume in the atlas that lies in the image's field of view.
    resampling : Resampling, optional
        How the image gets to the grid, where that is the atlas's. None: the grid is the image's.
    hidden : float array, (region,), optional
        Voxels of ``index``, or their weight, that lie outside the image.
    """

    index: RegionIndex
    on_grid: NDArray[np.float64]
    in_view: NDArray[np.float64]
    resampling: Resampling | None = None
    hidden: NDArray[np.float64] | None = None

    @property
    def lost(self) -> NDArray[np.bool_]:
        """Regions without a voxel, (region,)."""
        return self.index.counts == 0


def coverage(
    usable: NDArray[Any], on_grid: NDArray[Any], in_view: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fraction of every region's volume that ``usable`` voxels of a `Placement` stand for.

    Examples
    --------
    >>> coverage(np.array([3, 0]), on_grid=np.array([4, 0]), in_view=np.array([1.0, 0.0]))
    array([0.75, 0.  ])
    """
    # the quotient first: n / n is 1 exactly, n * (1 / n) is not
    return usable / np.where(on_grid > 0, on_grid, 1) * in_view


def place(
    atlas: AnyAtlas,
    grid: Grid,
    mask: Mask | None = None,
    *,
    target: str | None = "data",
    in_view_only: bool = False,
) -> Placement:
    """Find an atlas's regions on the grid of an image, or prepare to bring the image to theirs.

    Parameters
    ----------
    atlas : Atlas, MapsAtlas or SphereAtlas
    grid : Grid
        Of the image.
    mask : Mask, optional
        On any grid.
    target : {"data", "labels", None}
        Whose grid is used where they differ: the image's or the atlas's. None: that is an error.
    in_view_only : bool
        With "labels", leave out voxels outside the image instead of counting them as 0.

    Raises
    ------
    DaskroiError
        Grids differ and may not; the atlas does not overlap the image; nothing left in the mask.

    Warns
    -----
    DaskroiWarning
        Regions that have no voxel left, by name.
    """
    name = atlas.source or atlas.name
    if target is None:
        if atlas.grid is not None:
            _same("atlas", name, atlas.grid, grid)
        if mask is not None:
            _same("mask", mask.source, mask.grid, grid)
    # also where the two are equal but for rounding: a mask from elsewhere has ties
    home = atlas.grid if target == "labels" and atlas.grid is not None else grid
    resampling = None if home.same_as(grid) else Resampling(grid, home)
    inside = None if mask is None else mask.on(home)
    everywhere, index = _regions_on(atlas, home, inside)
    everything = everywhere.absolute.totals
    if not everywhere.counts.any():
        raise _apart(name, atlas, grid)
    if not index.counts.any():
        assert mask is not None
        raise DaskroiError(
            f"{mask.source}: no label of {name} left inside the mask. "
            "Give a mask in the image's space."
        )
    if resampling is None:
        placement = Placement(index, everything, _in_view(atlas, grid))
    else:
        seen = resampling.inside.ravel()
        if not seen[everywhere.voxels].any():
            raise _apart(name, atlas, grid)
        visible = index.where(seen[index.voxels])
        # a region wholly outside is lost, not a series of zeros
        index = visible if in_view_only else index.where((visible.counts > 0)[index.regions])
        placement = Placement(
            index,
            everything,
            (everything > 0).astype(np.float64),
            resampling,
            index.absolute.totals - visible.absolute.totals,
        )
    _name_lost(atlas, placement, name)
    return placement


def _regions_on(
    atlas: AnyAtlas, grid: Grid, inside: NDArray[np.bool_] | None
) -> tuple[RegionIndex, RegionIndex]:
    """Regions on a grid: all of their voxels, and those in the mask."""
    if isinstance(atlas, Atlas):
        labels = resample_nearest(atlas.labels, atlas.grid, grid, fill=atlas.background_label)
        everywhere = RegionIndex.of_labels(labels, atlas.ids)
        if inside is None:
            return everywhere, everywhere
        return everywhere, RegionIndex.of_labels(labels, atlas.ids, inside)
    everywhere = atlas.regions_on(grid)
    if inside is None:
        return everywhere, everywhere
    if isinstance(atlas, SphereAtlas):  # the voxel nearest to a seed depends on the mask
        return everywhere, atlas.regions_on(grid, inside)
    return everywhere, everywhere.where(inside.ravel()[everywhere.voxels])


def _apart(name: str, atlas: AnyAtlas, grid: Grid) -> DaskroiError:
    where = "" if atlas.grid is None else f" Atlas: {atlas.grid.describe()};"
    return DaskroiError(
        f"{name}: no label left on the image's grid, the two do not overlap.{where} "
        f"image: {grid.describe()}. Different template or space? "
        "Give an atlas in the image's space."
    )


def _same(what: str, name: str, grid: Grid, image: Grid) -> None:
    if not grid.same_as(image):
        raise DaskroiError(
            f"{name}: the {what} is not on the image's grid ({grid.describe()}; image: "
            f"{image.describe()}) and resampling_target=None forbids resampling. "
            "Use resampling_target='data', or resample it beforehand."
        )


def _in_view(atlas: AnyAtlas, grid: Grid) -> NDArray[np.float64]:
    """Fraction of each region's atlas voxels whose centre lies in a voxel of ``grid``."""
    if not isinstance(atlas, Atlas):
        return atlas.in_view(grid)
    own = RegionIndex.of_labels(atlas.labels, atlas.ids)
    if atlas.grid.same_as(grid):
        return (own.counts > 0).astype(np.float64)
    inside = centres_inside(own.voxels, atlas.grid, grid)
    hits = np.concatenate([[0], np.cumsum(inside)])
    return np.diff(hits[own.bounds]) / np.maximum(own.counts, 1)


def _name_lost(atlas: AnyAtlas, placement: Placement, name: str) -> None:
    lost = placement.lost
    if lost.any() and _say_lost.get():
        names = np.array(atlas.names, dtype=object)
        warn(
            f"{name}: {lost.sum()} of {len(lost)} regions have no voxel in the image and mask "
            f"and are NaN: {list_regions(atlas.ids[lost], names[lost])}."
        )
