"""Slices for a report: one volume and the regions on its grid, small enough for a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskroi.grid import Grid
from daskroi.regions import RegionIndex

__all__ = ["Slices", "index_volume", "quantised_volume"]

# 2 mm over the whole head is 0.9 million; finer grids are shown at every 2nd or 3rd voxel
MOST_VOXELS = 1_200_000
MOST_REGIONS = np.iinfo(np.uint16).max - 1


@dataclass(frozen=True, eq=False)
class Slices:
    """What the three slice views of a report are cut from.

    Parameters
    ----------
    regions : uint16 array, dims (z, y, x)
        Position of the region on the region axis + 1; 0 where there is none.
    image : uint8 array, dims (z, y, x), or None
    grid : Grid
        Of both; axes run to the right, to the front and upwards, as nearly as voxels allow.
    centres : int array, (region, 3)
        Voxel (x, y, z) in the middle of each region, and in it; -1 for regions without a voxel.
    caption : str
        What volume is shown.
    thinned : int
        1, or n where only every n-th voxel is shown along some axis.

    Examples
    --------
    >>> grid = Grid.make((2, 2, 3), np.diag([-2.0, 2, 2, 1]))
    >>> values = np.zeros((2, 2, 3), int)
    >>> values[0, 0] = [1, 2, 2]
    >>> slices = Slices.of(values, grid, 2)
    >>> slices.regions[0, 0], slices.grid.affine[0]
    (array([2, 2, 1], dtype=uint16), (2.0, 0.0, 0.0, -4.0))
    """

    regions: NDArray[np.uint16]
    image: NDArray[np.uint8] | None
    grid: Grid
    centres: NDArray[np.int64]
    caption: str = ""
    thinned: int = 1

    @classmethod
    def of(
        cls,
        positions: NDArray[np.integer],
        grid: Grid,
        n_regions: int,
        image: NDArray[Any] | None = None,
        caption: str = "",
    ) -> Slices:
        """Turn a volume of regions and an image so that axes run right, front and up.

        Parameters
        ----------
        positions : int array, dims (z, y, x)
            As `index_volume` makes it.
        grid : Grid
            Of both volumes.
        n_regions : int
        image : array, dims (z, y, x), optional
            Any real numbers; they are quantised to 256 greys.
        caption : str
        """
        positions, turned = _to_ras(positions, grid)
        step = _steps(turned)
        start = tuple((s - 1) // 2 for s in step)
        cut = tuple(slice(a, None, s) for a, s in zip(start, step, strict=True))
        regions = np.ascontiguousarray(positions[cut], dtype=np.uint16)
        grey = None
        if image is not None:
            grey = quantised_volume(_to_ras(image, grid)[0][cut])
        shown = turned.sub(start, step, regions.shape)
        return cls(regions, grey, shown, _centres(regions, n_regions), caption, max(step))

    @property
    def widths(self) -> list[float]:
        """Of the sagittal, coronal and axial view, in mm."""
        nx, ny, _ = self.grid.shape[::-1]
        x, y, _ = self.grid.voxel_sizes
        return [round(ny * y, 3), round(nx * x, 3), round(nx * x, 3)]


def index_volume(index: RegionIndex) -> NDArray[np.uint16]:
    """Paint regions into a volume: position + 1 on the region axis, 0 where there is none.

    Where regions have weights, a voxel goes to the region with the largest one, and voxels below a
    tenth of a region's largest weight to none.

    Examples
    --------
    >>> index = RegionIndex.of_rows([[0, 1], [1, 2]], (1, 1, 3), [[1.0, 0.5], [0.4, 1.0]])
    >>> index_volume(index)
    array([[[1, 1, 2]]], dtype=uint16)
    """
    volume = np.zeros(int(np.prod(index.shape)), np.uint16)
    if index.n_regions > MOST_REGIONS:
        return volume.reshape(index.shape)
    region, voxels = index.regions, index.voxels
    if index.weights is not None and len(voxels):
        weights = np.abs(index.weights)
        largest = np.zeros(index.n_regions)
        np.maximum.at(largest, region, weights)
        kept = np.flatnonzero(weights >= largest[region] / 10)
        order = kept[np.argsort(weights[kept], kind="stable")]
        region, voxels = region[order], voxels[order]
    # the last one written stays, so the largest weights come last
    volume[voxels] = region + 1
    return volume.reshape(index.shape)


def quantised_volume(values: NDArray[Any]) -> NDArray[np.uint8]:
    """256 greys between the darkest and brightest values of any weight; what is not finite is 0.

    Examples
    --------
    >>> quantised_volume(np.array([[[0.0, 50, 100, np.nan]]]))
    array([[[  0, 128, 255,   0]]], dtype=uint8)
    """
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    inside = values[finite & (values != 0)]
    if not inside.size:
        return np.zeros(values.shape, np.uint8)
    # a few voxels (vessels, ringing) are ten times as bright as tissue
    low, high = np.percentile(inside, (0.5, 99.5), method="nearest")
    low = min(low, 0.0) if (inside > 0).all() or low < 0 else low
    high = high if high > low else low + 1
    scaled = np.where(finite, np.clip((values - low) / (high - low), 0, 1), 0)
    return np.rint(scaled * 255).astype(np.uint8)


def _to_ras(values: NDArray[Any], grid: Grid) -> tuple[NDArray[Any], Grid]:
    """A volume with its axes flipped and swapped to run right, front and up; a view."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    turn = io_orientation(grid.matrix)
    turned = apply_orientation(values.T, turn).T
    affine = grid.matrix @ inv_ornt_aff(turn, grid.shape[::-1])
    return turned, Grid.make(turned.shape, affine + 0.0)


def _steps(grid: Grid) -> tuple[int, int, int]:
    """Every which voxel to show along (z, y, x); the finest axis is thinned first."""
    step = [1, 1, 1]
    sizes = grid.voxel_sizes[::-1]
    shape = list(grid.shape)
    while np.prod([-(-n // s) for n, s in zip(shape, step, strict=True)]) > MOST_VOXELS:
        axis = min(range(3), key=lambda i: sizes[i] * step[i])
        step[axis] += 1
    return step[0], step[1], step[2]


def _centres(regions: NDArray[np.uint16], n_regions: int) -> NDArray[np.int64]:
    """Of every region the voxel (x, y, z) nearest to its centre of mass."""
    found = np.full((n_regions, 3), -1)
    index = RegionIndex.of_labels(regions, np.arange(1, n_regions + 1))
    if not len(index.voxels):
        return found
    zyx = np.array(np.unravel_index(index.voxels, regions.shape))
    counts = np.maximum(index.counts, 1)
    means = np.array([index.sums(axis) for axis in zyx]) / counts
    distance = ((zyx - means[:, index.regions]) ** 2).sum(axis=0)
    # sorted by region, then by distance: the first of each region is the nearest
    order = np.lexsort((distance, index.regions))
    there = np.flatnonzero(index.counts)
    nearest = order[index.bounds[:-1][there]]
    found[there] = zyx[::-1, nearest].T
    return found
