"""Interpolation of one volume onto another grid, as nilearn does it, and its parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from daskroi.grid import Grid, voxel_transform
from daskroi.onethread import one_thread

__all__ = ["ORDERS", "Resampling", "along_axes", "extrapolate", "lowest_and_highest"]

Order = Literal[0, 1, 3]
# names as in nilearn; the order of the spline
ORDERS: dict[str, Order] = {"continuous": 3, "linear": 1, "nearest": 0}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Resampling:
    """From one grid to another by spline interpolation; what lies outside is 0.

    Parameters
    ----------
    source, target : Grid
    order : int
        Of the spline: 3 (cubic), 1 (linear) or 0 (nearest).

    Notes
    -----
    `scipy.ndimage.affine_transform` with mode "constant", and a transform built as nilearn does.
    Where axes do not mix it is a matrix per axis, (target, source): the Kronecker product of three
    small ones, 10 times as fast as interpolating voxel by voxel and the same to rounding. The
    matrices are scipy's responses to unit lines, so that all its rules are in them: mirrored spline
    prefilter, nothing outside.

    Examples
    --------
    >>> source = Grid.make((4, 4, 4), np.diag([2.0, 2, 2, 1]))
    >>> target = Grid.make((7, 7, 7), np.eye(4))
    >>> Resampling(source, target, 1).apply(np.arange(64.0).reshape(4, 4, 4))[0, 0]
    array([0. , 0.5, 1. , 1.5, 2. , 2.5, 3. ])
    """

    source: Grid
    target: Grid
    order: Order = 3

    def apply(self, volume: NDArray) -> Floats:
        """Interpolate one finite volume, (z, y, x) → (z, y, x) of the target, float64."""
        matrices = self.axes
        if matrices is None or self.order == 0:
            return self._voxelwise(volume)
        return along_axes(*matrices, np.asarray(volume, np.float64))

    def apply_nonfinite(self, volume: Floats) -> Floats:
        """`apply` where voxels may be NaN or infinite: those come back as NaN.

        They are first extrapolated away, from their neighbours in two rounds, so that they spoil
        nothing around them; the target voxels nearest to them are NaN.
        """
        holes = ~np.isfinite(volume)
        if not holes.any():
            return self.apply(volume)
        out = self.apply(extrapolate(volume, holes))
        nearest = Resampling(self.source, self.target, 0)
        out[nearest._voxelwise(holes.view(np.uint8)) > 0] = np.nan
        return out

    def _voxelwise(self, volume: NDArray) -> NDArray:
        from scipy import ndimage

        matrix, offset = voxel_transform(self.source, self.target)
        # (x, y, z) as in nilearn: the order of a sum of coordinates decides what is outside
        # scipy knows neither float16 nor longdouble; splines are computed in double anyway
        native = np.asarray(volume, np.float64 if self.order else volume.dtype.newbyteorder("="))
        out = ndimage.affine_transform(
            native.T,
            matrix,
            offset,
            output_shape=self.target.shape[::-1],
            output=np.float64 if self.order else native.dtype,
            order=self.order,
        )
        return out.T

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which target voxels lie in the source's field of view, (z, y, x), by scipy's own rule."""
        return _inside(self.source, self.target)

    @property
    def axes(self) -> tuple[Floats, Floats, Floats] | None:
        """Matrices (target, source) along z, y and x; None where axes mix (rotations, swaps)."""
        return _axes(self)


@lru_cache(maxsize=32)
def _inside(source: Grid, target: Grid) -> NDArray[np.bool_]:
    ones = np.ones(source.shape, np.uint8)
    out = Resampling(source, target, 0)._voxelwise(ones).astype(bool)
    out.setflags(write=False)
    return out


@lru_cache(maxsize=64)
def _axes(resampling: Resampling) -> tuple[Floats, Floats, Floats] | None:
    from scipy import ndimage

    matrix, offset = voxel_transform(resampling.source, resampling.target)
    if matrix.ndim == 2:
        return None
    x, y, z = (
        np.stack(
            [
                ndimage.affine_transform(
                    line, scale[None], shift, output_shape=(n_target,), order=resampling.order
                )
                for line in np.eye(n_source)
            ],
            axis=1,
        )
        for scale, shift, n_source, n_target in zip(
            matrix,
            offset,
            resampling.source.shape[::-1],
            resampling.target.shape[::-1],
            strict=True,
        )
    )
    return z, y, x


@one_thread()
def along_axes(z: Floats, y: Floats, x: Floats, volume: Floats) -> Floats:
    """Apply a matrix (output, input) along each axis of a volume (z, y, x).

    As many small products, plane by plane, not as a few large ones, and on one thread: with all
    cores, BLAS waits for the ones that other tasks are using: six times as long, measured on two
    cores, one of them busy. And no result depends on the number of cores.
    """
    out = y @ (volume @ x.T)
    return np.matmul(z, out.transpose(1, 0, 2)).transpose(1, 0, 2)


def extrapolate(volume: Floats, holes: NDArray[np.bool_], rounds: int = 2) -> Floats:
    """Fill holes with the mean of their known face neighbours, round after round; the rest is 0.

    Parameters
    ----------
    volume : float array, (z, y, x)
    holes : bool array, (z, y, x)
        Voxels without a usable value.
    rounds : int
        How many voxels deep to fill.

    Returns
    -------
    float64 array, (z, y, x)

    Notes
    -----
    nilearn's ``extrapolate_out_mask``: two rounds reach two voxels into a hole.

    Examples
    --------
    >>> line = np.array([[[1.0, 3.0, np.nan, np.nan, np.nan, 7.0]]])
    >>> extrapolate(line, np.isnan(line)).round(2).tolist()
    [[[1.0, 3.0, 3.0, 5.0, 7.0, 7.0]]]
    """
    known = np.pad(~holes, 1)
    values = np.pad(np.where(holes, 0.0, volume), 1).astype(np.float64)
    for _ in range(rounds):
        zyx = np.nonzero(_beside(known))
        total, count = np.zeros(len(zyx[0])), np.zeros(len(zyx[0]))
        for axis in range(3):
            for step in (1, -1):
                there = tuple(a + step if i == axis else a for i, a in enumerate(zyx))
                total += values[there]
                count += known[there]
        values[zyx] = total / count
        known[zyx] = True
    return values[1:-1, 1:-1, 1:-1]


def _beside(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels that are not known but have a known face neighbour; never on the padding."""
    out = np.zeros_like(known)
    core = out[1:-1, 1:-1, 1:-1]
    for axis in range(3):
        for lo in (0, 2):
            window = [slice(1, -1)] * 3
            window[axis] = slice(lo, lo + known.shape[axis] - 2)
            core |= known[tuple(window)]
    core &= ~known[1:-1, 1:-1, 1:-1]
    return out


def lowest_and_highest(block: NDArray, slope: float = 1.0, inter: float = 0.0) -> Floats:
    """Minus the lowest and the highest physical value of a block and 0; NaN is passed over.

    What nilearn clips resampled images to, taken over the whole run.

    Returns
    -------
    float64 array, (2,)
        So that blocks combine by one maximum.

    Examples
    --------
    >>> lowest_and_highest(np.array([np.nan, 3.0, -2.0]))
    array([2., 3.])
    """
    # fmin, not nanmin: no mask of the block's size, no warning where all is NaN
    ends = [slope * float(f.reduce(block, axis=None)) + inter for f in (np.fmin, np.fmax)]
    return np.array([-np.fmin.reduce([*ends, 0.0]), np.fmax.reduce([*ends, 0.0])])
