"""Interpolation of one box of the target from the box of the source that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskroi.grid import Grid, voxel_transform
from daskroi.resampling import Resampling, along_axes, extrapolate

__all__ = ["MARGIN", "BlockResampling", "Box", "overlap"]

# first voxel and the one after the last, along z, y and x
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Floats = NDArray[np.float64]

# Voxels of the source around those that a target voxel lies between, by order of the spline. A hole
# is filled from up to 2 voxels away. The cubic prefilter reaches on for ever, but falls by 0.268 a
# voxel: 20 voxels away is 3.6e-12, and with its gains (1.73 / (1 - 0.268) beyond the cut, 3 along
# each of the other axes) an edge that is not one changes a value by less than 1e-9 of the range.
MARGIN = {0: 1, 1: 1 + 2, 3: 2 + 20 + 2}


@dataclass(frozen=True)
class BlockResampling:
    """A `Resampling` of which only one box of the target is wanted.

    Parameters
    ----------
    whole : Resampling
    box : 3 pairs (start, stop)
        Of the target, along (z, y, x).

    Notes
    -----
    The same numbers as that box of the whole: to the bit for nearest, within 1e-9 of the range of
    values for a cubic spline (see ``MARGIN``), to rounding for linear. What is outside the source
    is decided by scipy for the whole target, never by coordinates computed anew.

    Examples
    --------
    >>> source, target = Grid.make((90, 4, 4), np.eye(4)), Grid.make((60, 4, 4), np.eye(4))
    >>> block = BlockResampling(Resampling(source, target, 1), ((0, 10), (0, 4), (0, 4)))
    >>> block.source_box
    ((0, 13), (0, 4), (0, 4))
    """

    whole: Resampling
    box: Box

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels of the box along (z, y, x)."""
        z, y, x = (hi - lo for lo, hi in self.box)
        return z, y, x

    @property
    def source_box(self) -> Box | None:
        """Box of the source that the values depend on; None where they are all outside."""
        matrix, offset = voxel_transform(self.whole.source, self.whole.target)
        full = matrix if matrix.ndim == 2 else np.diag(matrix)
        ends = [(lo, hi - 1) for lo, hi in reversed(self.box)]
        corners = np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 3)
        at = corners @ full.T + offset  # (corner, x y z), in voxels of the source
        margin = MARGIN[self.whole.order]
        lows = np.floor(at.min(axis=0)).astype(int) - margin
        highs = np.ceil(at.max(axis=0)).astype(int) + margin + 1
        pairs = [
            (int(max(lo, 0)), int(min(hi, n)))
            for lo, hi, n in zip(lows, highs, self.whole.source.shape[::-1], strict=True)
        ]
        if any(lo >= hi for lo, hi in pairs):
            return None
        x, y, z = pairs
        return z, y, x

    def apply(self, crop: NDArray) -> NDArray:
        """Interpolate one volume, (z, y, x) → (z, y, x).

        Parameters
        ----------
        crop : array, (z, y, x) of ``source_box``
            Or, where the box is the whole target, of the whole source. NaN and infinite voxels
            come back as NaN; see `Resampling.apply_nonfinite`.

        Returns
        -------
        array, (z, y, x) of ``box``
            float64; for order 0 the dtype of ``crop``.
        """
        source, target = self.whole.source, self.whole.target
        is_whole = crop.shape == source.shape and self.shape == target.shape
        if self.whole.order == 0:
            out = _picked(crop, _nearest_of_all(source, target) if is_whole else _nearest(self))
            if out.dtype.kind == "f":
                out[~np.isfinite(out)] = np.nan
            return out
        volume = np.asarray(crop, np.float64)
        if is_whole:
            return self.whole.apply_nonfinite(volume)
        holes = ~np.isfinite(volume)
        if not holes.any():
            return self._interpolated(volume)
        values = self._interpolated(extrapolate(volume, holes))
        values[_picked(holes, _nearest(self))] = np.nan
        return values

    def _interpolated(self, crop: Floats) -> Floats:
        source_box = self.source_box
        assert source_box is not None  # then there would be no crop
        matrices = self.whole.axes
        if matrices is not None:
            z, y, x = (
                m[slice(*rows), slice(*columns)]
                for m, rows, columns in zip(matrices, self.box, source_box, strict=True)
            )
            return along_axes(z, y, x, crop)
        from scipy import ndimage

        matrix, offset = voxel_transform(self.whole.source, self.whole.target)
        first = np.array([lo for lo, _ in reversed(self.box)])
        origin = np.array([lo for lo, _ in reversed(source_box)])
        # "mirror" is how scipy reads a spline near the edge of a volume in mode "constant" too, and
        # it lets rounded coordinates be a little outside
        out = ndimage.affine_transform(
            crop.T,
            matrix,
            matrix @ first + offset - origin,
            output_shape=self.shape[::-1],
            order=self.whole.order,
            mode="mirror",
        ).T
        out[~self.whole.inside[_slices(self.box)]] = 0
        return out


def _slices(box: Box) -> tuple[slice, slice, slice]:
    z, y, x = (slice(lo, hi) for lo, hi in box)
    return z, y, x


@lru_cache(maxsize=8)
def _nearest_of_all(source: Grid, target: Grid) -> NDArray[Any]:
    """Index into the flat source for each target voxel; -1 outside."""
    dtype = np.int32 if source.size < np.iinfo(np.int32).max else np.int64
    index = np.arange(1, source.size + 1, dtype=dtype).reshape(source.shape)
    # by scipy, so that ties fall as they do for the values themselves
    out: NDArray[Any] = Resampling(source, target, 0).apply(index)
    out -= 1
    out.setflags(write=False)
    return out


@lru_cache(maxsize=64)
def _nearest(block: BlockResampling) -> NDArray[Any]:
    """Index into the flat crop for each voxel of the box; -1 outside."""
    # chunks of one place follow each other through time: made once
    source = block.whole.source
    index = _nearest_of_all(source, block.whole.target)[_slices(block.box)]
    found = index >= 0
    out = np.full(index.shape, -1, index.dtype)
    if found.any():
        box = block.source_box
        assert box is not None
        zyx = np.unravel_index(index[found], source.shape)
        local = [i - lo for i, (lo, _) in zip(zyx, box, strict=True)]
        out[found] = np.ravel_multi_index(local, tuple(hi - lo for lo, hi in box))
    out.setflags(write=False)
    return out


def _picked(crop: NDArray, index: NDArray[Any]) -> NDArray:
    out = crop.ravel()[index]
    out[index < 0] = 0
    return out.astype(crop.dtype.newbyteorder("="), copy=False)


def overlap(resampling: Resampling) -> bool:
    """Whether any target voxel lies in the source's field of view.

    Examples
    --------
    >>> here = Grid.make((4, 4, 4), np.eye(4))
    >>> there = here.sub((9, 0, 0), (1, 1, 1), (4, 4, 4))
    >>> overlap(Resampling(here, here)), overlap(Resampling(here, there))
    (True, False)
    """
    axes = resampling.axes
    if axes is None:
        return bool(resampling.inside.any())
    return all(bool(m.any()) for m in axes)
