"""High-variance confounds of a run, from slabs of frames: no more than a few of them in memory.

Two passes. The first (`SquareSums`) finds each voxel's mean square, from which `high_variance`
selects voxels; the second collects the series of those (2 % by default), whose principal
components are the confounds. Close to CompCor (Behzadi et al. 2007, NeuroImage 37:90), and the
same as ``nilearn.signal.high_variance_confounds`` 0.14.1 but for the sign of each component.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError
from daskroi.filters import Signals
from daskroi.filters import detrend as remove_trend
from daskroi.onethread import one_thread

__all__ = ["SquareSums", "high_variance", "high_variance_components"]

# six float64 rows of 8,192 voxels (384 KB) stay in the second cache: 300 frames of 902,629 float32
# voxels take 0.8 s. 2,048 take 1.1 s (calls), 32,768 take 2.2 s (cache missed)
BLOCK = 8192


class SquareSums:
    """Mean square of each voxel in time, accumulated frame by frame.

    Parameters
    ----------
    n_voxel : int
        Number of voxels, in any order.

    Notes
    -----
    Three float64 sums per voxel, of ``d``, ``d²`` and of all partial sums of ``d``, where ``d`` is
    the difference from the first frame: relative to 0, a mean of 10,000 would cost 8 digits of the
    variance. The slope comes from the sum of partial sums, ``Σ (T - t) d``, which is one addition
    instead of a product and an addition. Frames are added one at a time, so the result does not
    depend on how the run is cut into slabs, to the last bit.

    Examples
    --------
    >>> sums = SquareSums(2)
    >>> sums.add(np.array([[1.0, 0.0], [2.0, 3.0]]))
    >>> sums.add(np.array([[3.0, 0.0]]))
    >>> sums.mean_squares(detrend=True).round(6)
    array([0., 2.])
    """

    def __init__(self, n_voxel: int) -> None:
        self.n_voxel = n_voxel
        self.n_time = 0
        self._first = np.zeros(n_voxel)
        self._sums = np.zeros((3, n_voxel))

    def add(self, slab: NDArray[Any]) -> None:
        """Add consecutive frames.

        Parameters
        ----------
        slab : ndarray, dims (time, voxel)
            Any real type; not modified.
        """
        if slab.ndim != 2 or slab.shape[1] != self.n_voxel:
            raise DaskroiError(
                f"slab has shape {slab.shape}, not (time, {self.n_voxel}). "
                "Flatten the voxels of each frame."
            )
        if len(slab) == 0:
            return
        if self.n_time == 0:
            self._first[:] = slab[0]
        difference, square = np.empty((2, min(BLOCK, self.n_voxel)))
        # infinite voxels become NaN, which is what they are worth
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, self.n_voxel, BLOCK):
                block = slice(start, min(start + BLOCK, self.n_voxel))
                d, d2 = difference[: block.stop - start], square[: block.stop - start]
                first = self._first[block]
                total, squares, partial = self._sums[:, block]
                for frame in slab[:, block]:
                    np.subtract(frame, first, out=d)
                    total += d
                    partial += total
                    np.multiply(d, d, out=d2)
                    squares += d2
        self.n_time += len(slab)

    def mean_squares(self, detrend: bool = True) -> NDArray[np.float64]:
        """Mean over time of the squared series, after removing mean and linear trend if asked.

        Returns
        -------
        ndarray, dims (voxel,)
            NaN where a voxel was not finite in some frame. A single frame has no trend, and
            ``detrend`` is ignored.
        """
        if self.n_time == 0:
            raise DaskroiError("no frames were added: there is nothing to average. Call add.")
        n = self.n_time
        total, squares, partial = self._sums
        with np.errstate(invalid="ignore", over="ignore"):
            if not detrend or n == 1:
                first = self._first
                out = (squares + 2 * first * total + n * first**2) / n
                # inf - inf is NaN by itself, but a sum of inf is not
                return np.where(np.isfinite(out), out, np.nan)
            # Σ (t - (n - 1) / 2) d, from Σ (n - t) d; its norm is that of 0 ... n - 1 centred
            slope = (n + 1) / 2 * total - partial
            out = squares - total**2 / n - slope**2 * (12 / (n * (n**2 - 1)))
        # what rounding leaves of a straight line may be negative
        return np.asarray(np.maximum(out, 0.0) / n)


def high_variance(mean_squares: NDArray[np.float64], percentile: float = 2.0) -> NDArray[np.bool_]:
    """Voxels whose mean square is above that of all but ``percentile`` per cent.

    Parameters
    ----------
    mean_squares : ndarray, dims (voxel,)
        NaN voxels neither count nor are selected.
    percentile : float
        Share of voxels to keep, in per cent. A small share of many voxels outside the brain may
        still be most of the brain.

    Raises
    ------
    DaskroiError
        ``percentile`` outside 0 to 100, or no voxel above the threshold.

    Examples
    --------
    >>> high_variance(np.array([1.0, 5.0, np.nan, 2.0]), percentile=40)
    array([False,  True, False, False])
    """
    if not 0 <= percentile <= 100:
        raise DaskroiError(
            f"percentile={percentile!r} is not a share of voxels. Pass 0 to 100 per cent."
        )
    finite = mean_squares[np.isfinite(mean_squares)]
    if finite.size:
        selected = mean_squares > np.percentile(finite, 100.0 - percentile)
        if selected.any():
            return np.asarray(selected)
    raise DaskroiError(
        f"high-variance confounds: none of {mean_squares.size} voxels ({finite.size} finite) "
        f"varies more than the rest at percentile={percentile:g}. Raise percentile, or check that "
        "the image is not constant."
    )


@one_thread()
def high_variance_components(
    series: NDArray[Any], n_confounds: int = 5, detrend: bool = True
) -> Signals:
    """Principal components in time of the selected voxels.

    Parameters
    ----------
    series : ndarray, dims (time, voxel)
        Series of the voxels that `high_variance` selected. Any real type.
    n_confounds : int
        How many components; a run of fewer frames has no more than it has frames.
    detrend : bool
        Remove mean and linear trend of each voxel first.

    Returns
    -------
    ndarray, dims (time, confound)
        Unit eigenvectors of ``X Xᵀ``, largest eigenvalue first. The sign, which is free, makes the
        largest entry positive.

    Examples
    --------
    >>> wave = np.array([0.0, 1.0, 0.0, -1.0])
    >>> high_variance_components(np.outer(wave, [3.0, 4.0]), 1, detrend=False).round(3).ravel()
    array([ 0. ,  0.707,  0. , -0.707])
    """
    if n_confounds < 1:
        raise DaskroiError(f"n_confounds={n_confounds!r} leaves none. Pass 1 or more.")
    from scipy import linalg

    n_time = len(series)
    gram = np.zeros((n_time, n_time))
    # 18,000 voxels of 1,200 frames are 173 MB in float64; a block is 39
    for start in range(0, series.shape[1], BLOCK // 2):
        block = series[:, start : start + BLOCK // 2].astype(np.float64)
        if detrend:
            block = remove_trend(block)
        gram += block @ block.T
    top = (max(0, n_time - n_confounds), n_time - 1)
    _, vectors = linalg.eigh(gram / n_time, subset_by_index=top)
    vectors = vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    return np.asarray(vectors * np.where(vectors[largest, range(len(largest))] < 0, -1.0, 1.0))
