"""A synthetic head: brain, tissues, contrast, parcels, and how its voxels answer to nuisances."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError
from daskroi.grid import Grid

__all__ = ["TISSUES", "Anatomy", "anatomy_of"]

TISSUES = ("white", "csf")  # brain voxels outside the atlas; grey matter is all in parcels
_WHITE, _CSF, _GREY = range(3)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Where things are; (n,) arrays run over the brain's voxels."""

    brain: NDArray[np.intp]  # (n,) flat positions in (z, y, x)
    group: NDArray[np.intp]  # (n,) region, or n_regions + position in TISSUES
    base: NDArray[np.float64]  # (n,) contrast
    gain: NDArray[np.float64]  # (n,) signal per unit of region signal; mean 1 in every region
    maps: NDArray[np.float64]  # (nuisance, n): drift, six motion gradients, physiology
    sizes: NDArray[np.intp]  # (group,) voxels
    ids: tuple[int, ...]
    names: tuple[str, ...]

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of (n,) voxels in every group; a tissue without a voxel gets 0."""
        total = np.bincount(self.group, weights=values, minlength=len(self.sizes))
        return total / np.maximum(self.sizes, 1)


@lru_cache(maxsize=4)
def anatomy_of(grid: Grid, n_regions: int) -> Anatomy:
    """Anatomy on a grid; built once per process and kept (1 s for 91x109x91).

    Raises
    ------
    DaskroiError
        Fewer than 3 regions, or more than the grid's grey matter has voxels.
    """
    z, y, x = np.meshgrid(
        *((np.arange(n) * 2 + 1 - n) / n for n in grid.shape), indexing="ij", sparse=True
    )
    if grid.matrix[0, 0] < 0:
        x = -x  # left is where x is negative in mm
    depth, tissue = _head(x, y, z)
    brain = np.flatnonzero(depth < 1)
    kind = tissue.reshape(-1)[brain]

    places = np.stack(np.broadcast_arrays(x, y, z), axis=-1).reshape(-1, 3)[brain]
    places = places * grid.voxel_sizes * np.array(grid.shape[::-1])  # even spread in mm
    group = n_regions + kind
    group[kind == _GREY] = _parcels(places[kind == _GREY], n_regions, grid)
    sizes = np.bincount(group, minlength=n_regions + len(TISSUES))

    # contrast of a T2*-weighted image, brighter near the coils; around the brain is fluid
    contrast = _blur(np.array([780.0, 1150.0, 900.0])[tissue])
    contrast *= 0.9 + 0.2 * depth**2 + 0.06 * y - 0.04 * z
    slow = (1 + 0.5 * y - 0.3 * z + 0.2 * x * y).reshape(-1)[brain]
    pulse = _blur(np.array([0.25, 2.0, 0.6])[tissue]).reshape(-1)[brain]
    maps = np.stack([slow, *_motion_maps(contrast, brain, grid), pulse])
    gain = (1 + 0.4 * np.sin(9 * y + 3 * x) * np.cos(8 * z)).reshape(-1)[brain]
    gain *= group < n_regions
    mean = np.bincount(group, weights=gain, minlength=len(sizes)) / np.maximum(sizes, 1)
    gain /= np.where(mean > 0, mean, 1)[group]
    ids, names = _numbering(n_regions)
    base = contrast.reshape(-1)[brain]
    return Anatomy(brain, group, base, gain, maps, sizes, ids, names)


def _head(x: Any, y: Any, z: Any) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Distance from the inside (1 is the brain's surface) and tissue, dims (z, y, x).

    The three coordinates run from -1 to 1 over the field of view. Left and right are mirror images.
    """

    def ball(cx: float, cy: float, cz: float, rx: float, ry: float, rz: float) -> Any:
        """Distance from the centre, 1 at the surface, of one on each side."""
        return np.sqrt(((abs(x) - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2)

    def folds(scale: float) -> Any:
        across = np.sin(scale * abs(x) + 3 * np.sin(7 * y)) * np.sin(scale * y + 3 * np.sin(6 * z))
        return across + np.sin(scale * z + 3 * np.sin(5 * abs(x) + 2 * y))

    cerebrum = ball(0, 0, 0.08, 0.77, 0.86, 0.78) + np.maximum(0, -0.32 - z) * 2.2  # flat below
    cerebellum = ball(0.24, -0.5, -0.5, 0.36, 0.33, 0.27)
    stem = ball(0, -0.22, -0.6, 0.14, 0.15, 0.35)
    ventricles = ball(0.075, 0, 0.14, 0.055, 0.3, 0.1)
    depth = np.minimum(np.minimum(cerebrum, cerebellum), stem)
    ribbon = np.minimum(cerebrum + 0.07 * folds(24), cerebellum + 0.08 * folds(60))
    # the fissure between the hemispheres
    ribbon = ribbon + 0.35 * np.exp(-((x / 0.035) ** 2)) * ((z > 0.12) | (cerebrum > 0.7))
    tissue = np.select([ribbon > 0.98, ribbon > 0.74], [_CSF, _GREY], _WHITE)
    tissue[stem < np.minimum(ribbon, 1)] = _WHITE
    tissue[ball(0.16, -0.08, 0.02, 0.11, 0.17, 0.12) < 1] = _GREY  # deep nuclei
    tissue[ventricles < 1] = _CSF
    tissue[np.unravel_index(ventricles.argmin(), tissue.shape)] = _CSF  # on coarse grids too
    return depth, tissue


def _parcels(places: NDArray[np.float64], n_regions: int, grid: Grid) -> NDArray[np.intp]:
    """Region of every grey voxel: that of the nearest of some well spread seeds on its side."""
    from scipy.spatial import cKDTree

    left = places[:, 0] < 0
    n_left, n_right = (n_regions - 1) // 2, n_regions // 2
    # one voxel of the right side is the last region
    if n_regions < 3 or left.sum() < n_right or (~left).sum() <= n_right:
        raise DaskroiError(
            f"n_regions={n_regions} does not go with shape {grid.shape}, whose grey matter has "
            f"{len(places)} voxels. Use at least 3 regions, and fewer than voxels."
        )
    points = places[left]
    chosen = [0]  # farthest-point sampling: each seed the furthest from those before it
    distance = np.full(len(points), np.inf)
    for _ in range(n_right - 1):
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    seeds = points[chosen]
    region = np.empty(len(places), np.intp)
    region[left] = cKDTree(seeds[:n_left]).query(points)[1]
    region[~left] = n_left + cKDTree(seeds * [-1, 1, 1]).query(places[~left])[1]
    largest = np.bincount(region).argmax()
    region[np.flatnonzero(region == largest)[-1]] = n_regions - 1
    return region


def _numbering(n_regions: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Ascending ids with gaps: 1 2 3 4 6 … on the left, 101 102 … on the right, 201 the last."""
    n_left, n_right = (n_regions - 1) // 2, n_regions // 2
    number = [1 + i + i // 4 for i in range(n_right)]
    hundred = 100 * (1 + number[-1] // 100)
    ids = (*number[:n_left], *(hundred + i for i in number), 2 * hundred + 1)
    names = (f"{side}_parcel_{i:02d}" for side, n in (("LH", n_left), ("RH", n_right))
             for i in number[:n])  # fmt: skip
    return ids, (*names, "Tiny_nucleus")


def _motion_maps(
    contrast: NDArray[np.float64], brain: NDArray[np.intp], grid: Grid
) -> NDArray[np.float64]:
    """(6, n) change of every voxel per mm and per rad, to first order.

    Contrast moves by the displacement, so a voxel sees minus its gradient along it.
    """
    by_index = np.zeros((3, brain.size))
    for row, axis in enumerate((2, 1, 0)):
        if contrast.shape[axis] > 1:
            by_index[row] = np.gradient(contrast, axis=axis).reshape(-1)[brain]
    gradient = np.linalg.inv(grid.matrix[:3, :3]).T @ by_index  # per mm along (x, y, z)
    arm = grid.matrix[:3, :3] @ np.stack(np.unravel_index(brain, contrast.shape))[::-1]
    arm = arm - arm.mean(axis=1, keepdims=True)  # mm from the centre of the brain
    turns = (np.cross(axis, arm, axisb=0, axisc=0) for axis in np.eye(3))
    return np.stack([*-gradient, *(-(gradient * turn).sum(axis=0) for turn in turns)])


def _blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy import ndimage

    return cast("NDArray[np.float64]", ndimage.gaussian_filter(values, 0.7))
