"""From a slab of the image to partials of regions: at once, fused into W, or voxel by voxel.

Regions lie on a grid of their own, and the image may have to be resampled to it and smoothed on it.
Three operators do that, and all give the same partials (time, field, region):

- `Direct`: nothing to do, regions are on the image's grid;
- `Fused`: mean and sum, resampling and smoothing folded into one sparse product per frame;
- `Voxelwise`: every frame is resampled and smoothed. For everything that is not linear: medians and
  the like, nilearn's clipping, NaN where images are resampled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskroi import kernels
from daskroi.kernels import Reducer, gather
from daskroi.regions import RegionIndex
from daskroi.resampling import Resampling
from daskroi.smoothing import Smoothing
from daskroi.weights import fuse

__all__ = ["Direct", "Fused", "Operator", "Part", "Voxelwise", "operator_of"]

Floats = NDArray[np.float64]
Box = tuple[tuple[int, int], ...]


class _Shipped:
    """Pickles its fields only: what is cached is made again where it is needed."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Part(_Shipped):
    """Regions of one atlas, and what is done to the image before they are averaged.

    Parameters
    ----------
    regions : RegionIndex
        On the grid that the image is brought to.
    resampling : Resampling, optional
        From the image's grid to that one. None: it is the same.
    smoothing : Smoothing, optional
        On that grid.
    hidden : float array, (region,), optional
        Weight of every region's voxels that lie outside the image: they are 0 and count, as in
        nilearn, but are not covered.
    """

    regions: RegionIndex
    resampling: Resampling | None = None
    smoothing: Smoothing | None = None
    hidden: Floats | None = None

    @property
    def idle(self) -> bool:
        """Whether the image is used as it is."""
        return self.resampling is None and self.smoothing is None

    @property
    def seen(self) -> Floats:
        """Weight of every region inside the image, (region,), whatever its sign."""
        totals = self.regions.absolute.totals
        return totals if self.hidden is None else totals - self.hidden

    @cached_property
    def weights(self) -> RegionIndex:
        """The fused operator: weights of the image's own voxels."""
        return self.regions if self.idle else fuse(self.regions, self.resampling, self.smoothing)

    @cached_property
    def _window(self) -> tuple[tuple[slice, ...], RegionIndex]:
        """The part of the volume that regions can see when it is smoothed, and them in it."""
        shape = self.regions.shape
        if not len(self.regions.voxels) or self.smoothing is None:
            return (slice(None),) * 3, self.regions
        zyx = np.unravel_index(self.regions.voxels, shape)
        box = tuple(
            (max(0, int(a.min()) - h), min(n, int(a.max()) + 1 + h))
            for a, h, n in zip(zyx, self.smoothing.halo, shape, strict=True)
        )
        return tuple(slice(lo, hi) for lo, hi in box), self.regions.within(box)

    def partial(
        self,
        volume: NDArray,
        reducer: Reducer,
        nan_policy: str,
        limits: tuple[float, float] | None,
    ) -> Floats:
        """Partials of one volume of physical values, voxel by voxel, (field, region)."""
        finite = volume.dtype.kind != "f" or bool(np.isfinite(volume).all())
        if self.resampling is not None:
            way = self.resampling.apply if finite else self.resampling.apply_nonfinite
            volume = way(volume)
            if limits is not None:
                volume = volume.clip(*limits)
            finite = finite or bool(np.isfinite(volume).all())
            if nan_policy == "omit" and self.smoothing is not None:
                # what lies outside is not there, instead of a 0 that is smoothed in
                inside = self.resampling.inside
                volume, finite = np.where(inside, volume, np.nan), finite and bool(inside.all())
        window, regions = self._window
        volume = np.asarray(volume[window], np.float64)
        if self.smoothing is None:
            out = kernels.partial(volume[None], regions, reducer, nan_policy)[0]
        elif nan_policy == "propagate" or (
            # at the edges, the fast kernel has less weight than inside
            finite and not (nan_policy == "omit" and self.smoothing.fast)
        ):
            with np.errstate(invalid="ignore"):  # inf - inf
                volume = self.smoothing.apply(volume)
            out = kernels.partial(volume[None], regions, reducer, nan_policy)[0]
        else:
            out = self._smoothed(volume, regions, reducer, nan_policy)
        if self.hidden is not None:
            out[-1] -= self.hidden
        return out

    def _smoothed(
        self, volume: Floats, regions: RegionIndex, reducer: Reducer, nan_policy: str
    ) -> Floats:
        """Partials of a volume with holes, which count as 0 or, to omit them, as not there."""
        assert self.smoothing is not None
        valid = np.isfinite(volume)
        smooth = self.smoothing.apply(np.where(valid, volume, 0.0))
        share = None
        if nan_policy == "omit":
            share = self.smoothing.apply(valid.astype(np.float64))
            if not reducer.linear:
                # an average of the finite voxels around; the holes themselves stay out
                with np.errstate(divide="ignore", invalid="ignore"):
                    smooth = np.where(valid, smooth / share, np.nan)
        out = kernels.partial(smooth[None], regions, reducer, nan_policy)[0]
        if share is not None and reducer.linear:
            # the weighted mean of the finite voxels: their weights' sum is the denominator
            out[-2] = regions.sums(share.ravel()[regions.voxels] * regions.all_weights)
        out[-1] = regions.sums(valid.ravel()[regions.voxels] * regions.absolute.all_weights)
        return out


@dataclass(frozen=True, eq=False)
class Operator(_Shipped, ABC):
    """Several atlases side by side on one axis of regions.

    Parameters
    ----------
    parts : tuple of Part
        One for each atlas.
    """

    parts: tuple[Part, ...]

    @property
    def n_regions(self) -> int:
        """Regions of all parts."""
        return sum(p.regions.n_regions for p in self.parts)

    @cached_property
    def token(self) -> str:
        """Hash of all that changes the result."""
        digest = sha256(type(self).__name__.encode())
        for part in self.parts:
            digest.update(repr((part.regions.token, part.resampling, part.smoothing)).encode())
            if part.hidden is not None:
                digest.update(np.ascontiguousarray(part.hidden).tobytes())
        return digest.hexdigest()

    def __dask_tokenize__(self) -> tuple[str, str]:
        return f"daskroi.{type(self).__name__}", self.token

    def __eq__(self, other: object) -> bool:
        # by value: the next run's operator, on the same grid, finds what was cut for this one
        return self.token == other.token if isinstance(other, Operator) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.token)

    @property
    def resampled(self) -> bool:
        """Whether any part resamples the image."""
        return any(p.resampling is not None for p in self.parts)

    @property
    def whole(self) -> bool:
        """Whether it needs whole volumes, not blocks of them."""
        return self.resampled

    @abstractmethod
    def partial(
        self, slab: NDArray, reducer: Reducer, nan_policy: str, slope: float, inter: float
    ) -> Floats:
        """Partials of a slab (time, z, y, x) of stored values, (time, field, region)."""

    @abstractmethod
    def within(self, box: Box) -> Operator:
        """The same for a block of the volume: ((z0, z1), (y0, y1), (x0, x1))."""


@dataclass(frozen=True, eq=False)
class Direct(Operator):
    """Regions on the image's own grid: one gathering, whatever their number."""

    @cached_property
    def _index(self) -> RegionIndex:
        return RegionIndex.concat([p.regions for p in self.parts])

    def partial(
        self, slab: NDArray, reducer: Reducer, nan_policy: str, slope: float, inter: float
    ) -> Floats:
        """Integers are reduced as stored; their results are scaled by `kernels.finalize`."""
        groups = [self._index] if self._alike else [p.regions for p in self.parts]
        found = [kernels.partial(slab, g, reducer, nan_policy, slope, inter) for g in groups]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=-1)

    def within(self, box: Box) -> Direct:
        if self._alike:
            return Direct((Part(self._index.within(box)),))
        return Direct(tuple(Part(p.regions.within(box)) for p in self.parts))

    @property
    def _alike(self) -> bool:
        # labels beside maps would be sums of products, which round otherwise than their own sums
        return len({p.regions.weights is None for p in self.parts}) == 1


@dataclass(frozen=True, eq=False)
class Voxelwise(Operator):
    """Every frame resampled and smoothed, in double.

    Parameters
    ----------
    parts : tuple of Part
    clip : bool
        nilearn's: resampled values no lower or higher than the whole run's and 0.
    limits : (lowest, highest), optional
        Of the whole run, 0 included; they must be known before the first frame is clipped.
    """

    clip: bool = False
    limits: tuple[float, float] | None = None

    @property
    def whole(self) -> bool:
        return True

    @cached_property
    def token(self) -> str:
        return sha256(repr((super().token, self.clip, self.limits)).encode()).hexdigest()

    def fused(self) -> Fused:
        """The same as sparse weights; takes a moment, and is kept in this process."""
        return Fused(self.parts, RegionIndex.concat([p.weights for p in self.parts]))

    def clipped(self, lowest: float, highest: float) -> Voxelwise:
        """The same with the whole run's lowest and highest value."""
        return replace(self, limits=(lowest, highest))

    def partial(
        self, slab: NDArray, reducer: Reducer, nan_policy: str, slope: float, inter: float
    ) -> Floats:
        """Physical values are reduced: integers are scaled here."""
        out = np.empty((len(slab), reducer.fields + 2, self.n_regions))
        native = slab.dtype.newbyteorder("=")
        for frame, volume in zip(out, slab, strict=True):
            volume = volume.astype(native, copy=False)
            if (slope, inter) != (1.0, 0.0):
                volume = volume * np.float64(slope) + inter
            first = 0
            for part in self.parts:
                last = first + part.regions.n_regions
                frame[:, first:last] = part.partial(volume, reducer, nan_policy, self.limits)
                first = last
        return out

    def within(self, box: Box) -> Voxelwise:
        assert all(lo == 0 for lo, _ in box)  # the graph keeps volumes whole
        return self


@dataclass(frozen=True, eq=False)
class Fused(Operator):
    """One sparse product per frame.

    Parameters
    ----------
    parts : tuple of Part
    weights : RegionIndex
        Of all parts, over the image's own voxels.
    """

    weights: RegionIndex

    def partial(
        self, slab: NDArray, reducer: Reducer, nan_policy: str, slope: float, inter: float
    ) -> Floats:
        """Physical sums: integers are summed as stored, then scaled.

        A frame with a NaN where weights are cannot be resampled by them: it goes voxel by voxel.
        Smoothing alone takes NaN for 0, exactly; to omit them it divides by the weights left.
        """
        flat = slab.reshape(len(slab), -1)
        out = np.empty((len(slab), reducer.fields + 2, self.n_regions))
        out[:, -2] = self.weights.totals if nan_policy == "omit" else self._used
        out[:, -1] = self._seen
        whole, weights, columns = self.whole, self.weights, self.weights.used
        for t, frame in enumerate(out):
            (values,), valid = gather(flat[t : t + 1], columns, slope, inter)
            if valid is not None:
                if whole:
                    frame[:] = Voxelwise(self.parts).partial(
                        slab[t : t + 1], reducer, nan_policy, slope, inter
                    )[0]
                    continue
                values = np.where(valid[0], values, 0)
                frame[-1] = self._finite(flat[t])
                if nan_policy == "omit":
                    frame[-2] = weights.product(valid[0].astype(np.float64))
            frame[0] = weights.product(values.astype(np.float64, copy=False))
            if slab.dtype.kind != "f" and (slope, inter) != (1.0, 0.0):
                frame[0] = slope * frame[0] + inter * self.weights.totals
        return out

    @cached_property
    def _used(self) -> Floats:
        return np.concatenate([p.regions.totals for p in self.parts])

    @cached_property
    def _seen(self) -> Floats:
        return np.concatenate([p.seen for p in self.parts])

    def _finite(self, volume: NDArray) -> Floats:
        """Weight of every region's own voxels that are finite, (region,), whatever its sign."""
        return np.concatenate(
            [
                p.regions.sums(
                    np.isfinite(volume[p.regions.voxels]) * p.regions.absolute.all_weights
                )
                for p in self.parts
            ]
        )

    def within(self, box: Box) -> Fused:
        parts = tuple(replace(p, regions=p.regions.within(box)) for p in self.parts)
        return Fused(parts, self.weights.within(box))


def operator_of(parts: Sequence[Part], way: str, clip: bool) -> Direct | Voxelwise:
    """The operator to ship: "direct", or the one that can become `Fused` where it is needed."""
    if way == "direct":
        return Direct(tuple(parts))
    return Voxelwise(tuple(parts), clip)
