"""Least squares on overlapping maps: from weighted sums to the value of every map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import warn
from daskroi.onethread import one_thread
from daskroi.regions import RegionIndex

__all__ = ["least_squares"]

# eigenvalues below this fraction of the largest are zeros: sums over a million voxels round by
# about sqrt(1e6) eps = 2e-13
_ZERO = 1e-12


@one_thread()
def least_squares(index: RegionIndex, culprit: str = "the maps") -> NDArray[np.float64]:
    """Matrix that turns the weighted sums of maps into their least-squares values.

    With M the weights, (voxel, region), and x a volume: ``lstsq(M, x) == P @ (M.T @ x)``. The sums
    M.T @ x are what a reduction gives block by block, so least squares cost nothing extra per
    volume, and the voxels need not be in memory together.

    Parameters
    ----------
    index : RegionIndex
        Maps as weighted regions, where the image is.
    culprit : str
        What a warning calls the maps.

    Returns
    -------
    float64 array, (region, region)
        Pseudo-inverse of the Gram matrix M.T @ M: symmetric. Rows and columns of regions without
        a voxel are 0.

    Warns
    -----
    DaskroiWarning
        Maps are linearly dependent, so that many solutions fit equally well; the one of smallest
        norm is given, as by `scipy.linalg.lstsq`.

    Notes
    -----
    nilearn's ``img_to_signals_maps`` decomposes M anew for every run. Forming M.T @ M squares the
    condition number c of the maps: about 16 - 2 log10(c) digits remain. Maps whose singular values
    differ by more than 1e6, after scaling each to unit length, count as dependent.

    Examples
    --------
    >>> index = RegionIndex.of_rows([[0, 1], [1, 2]], (1, 1, 3), [[1.0, 1.0], [1.0, 2.0]])
    >>> volume = np.array([3.0, 5.0, 4.0])
    >>> (least_squares(index) @ (index.matrix @ volume)).round(6).tolist()
    [3.0, 2.0]
    """
    gram = (index.matrix @ index.matrix.T).toarray()
    inverse = np.zeros_like(gram)
    lengths = np.sqrt(gram.diagonal())
    there = np.flatnonzero(lengths)
    if not len(there):
        return inverse
    part = np.ix_(there, there)
    # of unit length first: a map in percent beside one in fractions is not near dependence
    unit = 1 / lengths[there]
    result, rank = _pseudo_inverse(gram[part] * (unit[:, None] * unit))
    if rank == len(there):
        inverse[part] = result * (unit[:, None] * unit)
        return (inverse + inverse.T) / 2
    warn(
        f"{culprit}: linearly dependent, {rank} of {len(there)} maps say it all, so least squares "
        "have many solutions; that of smallest norm is given. Leave out the redundant maps."
    )
    # the smallest norm is one of the values themselves, which scaling would change
    inverse[part], _ = _pseudo_inverse(gram[part], rank)
    return (inverse + inverse.T) / 2


def _pseudo_inverse(
    gram: NDArray[np.float64], rank: int | None = None
) -> tuple[NDArray[np.float64], int]:
    """Pseudo-inverse of a symmetric matrix without negative eigenvalues, and its rank."""
    from scipy import linalg

    values, vectors = linalg.eigh(gram)
    if rank is None:
        rank = int((values > values[-1] * _ZERO).sum())
    kept = vectors[:, len(values) - rank :]
    inverse = (kept / values[len(values) - rank :]) @ kept.T
    return inverse, rank
