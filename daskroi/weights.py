"""The fused operator W: regions × voxels of the image, with resampling and smoothing inside.

Resampling, smoothing and averaging are linear, so a region's value is one weighted sum over the
image's own voxels. Its weights are found by the adjoint: not every volume is smoothed and brought
to the atlas's grid, but every region's own weights are taken the other way, once. The adjoint of
a cubic resampling to another grid followed by a Gaussian is the transposed Gaussian followed by the
transposed interpolation and the transposed spline prefilter.

Region by region inside its bounding box, so that no array is as large as a volume times regions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from daskroi.memory import worker_limit
from daskroi.onethread import one_thread
from daskroi.regions import RegionIndex
from daskroi.resampling import Resampling, along_axes
from daskroi.smoothing import Smoothing, gaussian_matrix

__all__ = ["TAIL", "fuse"]

Floats = NDArray[np.float64]
Box = tuple[tuple[int, int], ...]

# Tails (a Gaussian's corners, the spline prefilter's decay) are cut so that no mean of a region can
# move by more than this times the image's largest magnitude.
TAIL = 1e-9
# What is cut, as a fraction of the sum of absolute weights: a cubic spline has negative ones, and
# for a single voxel between eight others they sum up to 1.55 cubed, 3.7, instead of 1
CUT = TAIL / 8
# of which on the way, per axis and before scattering: prefilter rows sum up to 3, cubed
EARLY = TAIL / 100

# a whole brain's weights are 60 MiB (6 mm on 2 mm, with their matrix); runs of a cohort on grids of
# their own use none twice, and a worker would fill up with them
CACHE_BYTES = 256 << 20
_cache: OrderedDict[tuple[object, ...], RegionIndex] = OrderedDict()
_lock = Lock()


def fuse(
    regions: RegionIndex, resampling: Resampling | None, smoothing: Smoothing | None
) -> RegionIndex:
    """Weights of the image's own voxels for every region; kept in this process.

    Parameters
    ----------
    regions : RegionIndex
        On the grid that the image would be resampled to and smoothed on.
    resampling : Resampling, optional
        From the image's grid to that of ``regions``. None: they are the same.
    smoothing : Smoothing, optional
        After it.

    Returns
    -------
    RegionIndex
        With weights, on the image's grid: ``W @ x`` is the sum, over the voxels of each region and
        times their weights, of the resampled and smoothed ``x``, to within `TAIL`.

    Notes
    -----
    NaN-free images only, and without nilearn's clipping, which is not linear.

    Examples
    --------
    >>> from daskroi.grid import Grid
    >>> grid = Grid.make((9, 9, 9), np.eye(4))
    >>> centre = RegionIndex.of_rows([np.array([364])], grid.shape)
    >>> W = fuse(centre, None, Smoothing.of(2.0, grid))
    >>> len(W.voxels), float(W.totals[0].round(6))
    (343, 1.0)
    """
    key = (regions.token, resampling, smoothing)
    with _lock:  # two threads that need the same weights must not both make them
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
        found = _cache[key] = _fuse(regions, resampling, smoothing)
        # twice the size: its matrix, once used, holds as much again
        limit = worker_limit()
        most = CACHE_BYTES if limit is None else min(CACHE_BYTES, limit // 8)
        while sum(2 * _bytes(w) for w in _cache.values()) > most and len(_cache) > 1:
            _cache.popitem(last=False)
    return found


def _bytes(index: RegionIndex) -> int:
    return int(index.voxels.nbytes + index.all_weights.nbytes)


@one_thread()
def _fuse(
    regions: RegionIndex, resampling: Resampling | None, smoothing: Smoothing | None
) -> RegionIndex:
    shape = regions.shape if resampling is None else resampling.source.shape
    rows = [_cut(*pulled, shape) for pulled in _pulled(regions, resampling, smoothing)]
    bounds = np.concatenate([[0], np.cumsum([len(v) for v, _ in rows])]).astype(np.intp)
    voxels, weights = np.empty(bounds[-1], np.int32), np.empty(bounds[-1])
    for r, (lo, hi) in enumerate(pairwise(bounds)):
        voxels[lo:hi], weights[lo:hi] = rows[r]
        rows[r] = rows[r][0][:0], rows[r][1][:0]  # 1,000 regions of 1 mm: 300 MB not held twice
    return RegionIndex(voxels, bounds, shape, weights)


def _pulled(
    regions: RegionIndex, resampling: Resampling | None, smoothing: Smoothing | None
) -> Iterator[tuple[Floats, Box]]:
    """Each region's weights pulled back to the image's grid: a dense box and where it lies."""
    axes = None if resampling is None else resampling.axes
    separable = resampling is None or axes is not None
    fast = smoothing is not None and smoothing.fast
    gaussian = None
    if smoothing is not None and not fast:
        gaussian = [
            gaussian_matrix(n, s) for n, s in zip(regions.shape, smoothing.sigmas, strict=True)
        ]
    if separable:
        matrices = list(axes) if axes is not None else None
        if gaussian is not None:
            matrices = (
                [g @ a for g, a in zip(gaussian, matrices, strict=True)] if matrices else gaussian
            )
    weights = regions.all_weights
    for r in range(regions.n_regions):
        part = slice(regions.bounds[r], regions.bounds[r + 1])
        dense, box = _dense(regions.voxels[part], weights[part], regions.shape)
        if smoothing is not None and fast:
            dense, box = _widened(dense, box, smoothing.halo, regions.shape)
            dense = smoothing.apply(dense)  # symmetric: its own transpose
        if separable:
            yield _transposed(dense, box, matrices)
            continue
        assert resampling is not None
        if gaussian is not None:
            dense, box = _transposed(dense, box, gaussian)
        dense, box = _scattered(dense, box, resampling)
        yield _transposed(dense, box, _prefilter(resampling))


def _dense(voxels: NDArray[np.intp], weights: Floats, shape: tuple[int, ...]) -> tuple[Floats, Box]:
    if not len(voxels):
        return np.zeros((0, 0, 0)), ((0, 0),) * 3
    zyx = np.unravel_index(voxels, shape)
    box = tuple((int(a.min()), int(a.max()) + 1) for a in zyx)
    dense = np.zeros([hi - lo for lo, hi in box])
    dense[tuple(a - lo for a, (lo, _) in zip(zyx, box, strict=True))] = weights
    return dense, box


def _widened(
    dense: Floats, box: Box, halo: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[Floats, Box]:
    """The box with room for the kernel, as far as the volume goes."""
    if not dense.size:
        return dense, box
    wide = tuple(
        (max(0, lo - h), min(n, hi + h)) for (lo, hi), h, n in zip(box, halo, shape, strict=True)
    )
    pad = [(lo - a, b - hi) for (lo, hi), (a, b) in zip(box, wide, strict=True)]
    return np.pad(dense, pad), wide


def _transposed(dense: Floats, box: Box, matrices: list[Floats] | None) -> tuple[Floats, Box]:
    """Transposed matrices (output, input) along z, y and x, of a box of the output."""
    if matrices is None or not dense.size:
        return dense, box
    parts, wide = [], []
    for matrix, (lo, hi) in zip(matrices, box, strict=True):
        rows = matrix[lo:hi]
        first, last = _extent(np.abs(rows).max(axis=0))
        parts.append(rows[:, first:last])
        wide.append((first, last))
    z, y, x = parts
    return along_axes(z.T, y.T, x.T, dense), tuple(wide)


def _extent(size: Floats) -> tuple[int, int]:
    """First and last column that count: those before and after sum up to next to nothing."""
    negligible = EARLY * size.max(initial=0.0)
    first = int(np.searchsorted(np.cumsum(size), negligible, side="right"))
    last = len(size) - int(np.searchsorted(np.cumsum(size[::-1]), negligible, side="right"))
    return (first, last) if first < last else (0, 0)


def _scattered(dense: Floats, box: Box, resampling: Resampling) -> tuple[Floats, Box]:
    """Transposed interpolation: each target voxel's weight, to the spline coefficients it is of."""
    from daskroi.grid import voxel_transform

    window = tuple(slice(lo, hi) for lo, hi in box)
    # what lies outside the image is 0 whatever the image is
    dense = np.where(resampling.inside[window], dense, 0.0)
    dense = np.where(np.abs(dense) > _threshold(np.abs(dense).ravel(), EARLY), dense, 0.0)
    zyx = np.nonzero(dense)
    if not len(zyx[0]):
        return np.zeros((0, 0, 0)), ((0, 0),) * 3
    weights = dense[zyx]
    matrix, offset = voxel_transform(resampling.source, resampling.target)
    z, y, x = (a + lo for a, (lo, _) in zip(zyx, box, strict=True))
    there = matrix @ np.stack([x, y, z]).astype(np.float64) + offset[:, None]
    taps, values = zip(
        *(
            _taps(coordinate, n, resampling.order)
            for coordinate, n in zip(there[::-1], resampling.source.shape, strict=True)
        ),
        strict=True,
    )
    wide = tuple((int(t.min()), int(t.max()) + 1) for t in taps)
    (nz, ny, nx) = (hi - lo for lo, hi in wide)
    (tz, ty, tx) = (t - lo for t, (lo, _) in zip(taps, wide, strict=True))
    out = np.zeros(nz * ny * nx)
    step = 1 << 11  # target voxels at once: 64 taps of each are 1 MB, in cache
    for i in range(0, len(weights), step):
        s = slice(i, i + step)
        # (tap z, tap y, tap x, voxel): NumPy's inner loop is the long axis
        flat = (tz[:, None, None, s] * ny + ty[None, :, None, s]) * nx + tx[None, None, :, s]
        value = (
            (weights[s] * values[0][:, s])[:, None, None]
            * values[1][None, :, None, s]
            * values[2][None, None, :, s]
        )
        out += np.bincount(flat.ravel(), value.ravel(), minlength=len(out))
    return out.reshape(nz, ny, nx), wide


def _taps(coordinate: Floats, n: int, order: int) -> tuple[NDArray[np.intp], Floats]:
    """Coefficients that a spline at each coordinate is made of, (tap, point), and how much of each.

    B-spline bases of order 1 and 3; beyond the edges, coefficients are mirrored (d c b | a b c d).
    """
    start = np.floor(coordinate)
    t = coordinate - start
    if order == 1:
        values = np.stack([1 - t, t])
    else:
        u = 1 - t
        values = np.stack(
            [u**3 / 6, 2 / 3 - t**2 * (2 - t) / 2, 2 / 3 - u**2 * (2 - u) / 2, t**3 / 6]
        )
    taps = start.astype(np.intp) + (np.arange(order + 1) - order // 2)[:, None]
    period = max(2 * (n - 1), 1)
    taps = np.abs(taps) % period
    return np.minimum(taps, period - taps) if n > 1 else np.zeros_like(taps), values


@lru_cache(maxsize=32)
def _line_prefilter(n: int) -> Floats:
    from scipy.ndimage import spline_filter1d

    return spline_filter1d(np.eye(n), 3, axis=0, mode="mirror")


def _prefilter(resampling: Resampling) -> list[Floats] | None:
    if resampling.order < 2:
        return None
    return [_line_prefilter(n) for n in resampling.source.shape]


def _cut(
    dense: Floats, box: Box, shape: tuple[int, ...]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Flat voxels and weights of a box, without the tails."""
    flat = dense.ravel()
    size = np.abs(flat)
    kept = np.flatnonzero(size > _threshold(size, CUT))
    if not len(kept):
        return np.empty(0, np.int32), np.empty(0)
    zyx = np.unravel_index(kept, dense.shape)
    there = tuple(a + lo for a, (lo, _) in zip(zyx, box, strict=True))
    return np.ravel_multi_index(there, shape).astype(np.int32), flat[kept]


def _threshold(size: Floats, fraction: float) -> float:
    """A power of 2 such that all sizes up to it sum up to at most ``fraction`` of the whole."""
    # by exponent, which needs no sorting; 2**-200 and less is one bin
    exponent = np.clip(np.frexp(size)[1] + 200, 0, None)
    tail = np.cumsum(np.bincount(exponent, size))
    bins = int(np.searchsorted(tail, fraction * tail[-1], side="right")) if len(tail) else 0
    # bin e holds 2**(e - 1) <= size < 2**e; the half-open end is why this is not the next float up
    return float(np.nextafter(2.0 ** (bins - 1 - 200), 0)) if bins else 0.0
