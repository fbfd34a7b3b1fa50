"""Gaussian smoothing of one volume, as nilearn does it, and its parts: matrices and halo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, DaskroiTypeError, brief, warn
from daskroi.grid import Grid

__all__ = ["Fwhm", "Smoothing", "checked_fwhm", "gaussian_matrix"]

Fwhm = float | tuple[float, float, float] | str | None
Floats = NDArray[np.float64]

TRUNCATE = 4.0  # scipy's default: the kernel ends at 4 sigma
WIDEST = 1000  # mm; a kernel far wider than the image costs memory, and says no more
NEIGHBOUR = 0.2  # of nilearn's fast kernel: [0.2, 1, 0.2] along each axis, over 1 + 6 * 0.2


def checked_fwhm(fwhm: Any, name: str = "smoothing_fwhm") -> Fwhm:
    """Check a full width at half maximum in mm; None where nothing is to be smoothed.

    Parameters
    ----------
    fwhm : None, float, 3 floats, or "fast"
        3 floats are along (x, y, z); None among them is 0.
    name : str
        What messages call it.

    Raises
    ------
    DaskroiError
        Negative, not finite, not 1 or 3 numbers.

    Warns
    -----
    DaskroiWarning
        ``fwhm`` is 0: nothing is smoothed.

    Examples
    --------
    >>> checked_fwhm(6), checked_fwhm([6, 6, None]), checked_fwhm("fast")
    (6.0, (6.0, 6.0, 0.0), 'fast')
    """
    if fwhm is None or (isinstance(fwhm, str) and fwhm == "fast"):
        return fwhm
    remedy = "Give mm as one number, three along (x, y, z), 'fast', or None."
    try:
        if isinstance(fwhm, bool | str) or np.asarray(fwhm).dtype.kind not in "iufO":
            raise TypeError  # NumPy would make numbers of them
        values = np.array([0.0 if v is None else v for v in np.atleast_1d(fwhm)], np.float64)
    except (TypeError, ValueError) as error:
        raise DaskroiTypeError(f"{name}={brief(fwhm)} is not a width. {remedy}") from error
    if values.shape not in ((1,), (3,)) or not (np.isfinite(values) & (values >= 0)).all():
        raise DaskroiError(f"{name}={brief(fwhm)} is not a width. {remedy}")
    if values.max() > WIDEST:
        raise DaskroiError(
            f"{name}={brief(fwhm)} is wider than a head ({WIDEST} mm). Give the width in mm."
        )
    if not values.any():
        warn(f"{name}={fwhm!r}: nothing is smoothed. Use None to say so.")
        return None
    if len(values) == 1:
        return float(values[0])
    x, y, z = values.tolist()
    # one spelling per meaning, so that equal widths have equal keys
    return x if x == y == z else (x, y, z)


@dataclass(frozen=True)
class Smoothing:
    """A Gaussian, or nilearn's fast kernel, on one voxel grid.

    Parameters
    ----------
    sigmas : 3 floats
        Standard deviations along (z, y, x), in voxels; 0 where nothing is smoothed.
    fast : bool
        nilearn's 7-point kernel instead: a voxel and a fifth of each of its six neighbours, divided
        by 2.2. Beyond the edges there is nothing, and the divisor stays.

    Notes
    -----
    sigma = fwhm / (sqrt(8 ln 2) x voxel size), edges reflected (d c b a | a b c d), kernel cut off
    at 4 sigma: `scipy.ndimage.gaussian_filter1d` along each axis, in double.

    Examples
    --------
    >>> grid = Grid.make((9, 9, 9), np.diag([2.0, 2, 3, 1]))
    >>> Smoothing.of(6.0, grid).halo  # voxels along (z, y, x)
    (3, 5, 5)
    """

    sigmas: tuple[float, float, float]
    fast: bool = False

    @classmethod
    def of(cls, fwhm: Fwhm, grid: Grid) -> Smoothing | None:
        """Smoothing of a checked ``fwhm`` in mm on a grid; None for none."""
        if fwhm is None:
            return None
        if isinstance(fwhm, str):
            return cls((0.0, 0.0, 0.0), fast=True)
        sigmas = np.broadcast_to(fwhm, 3) / (np.sqrt(8 * np.log(2)) * np.array(grid.voxel_sizes))
        x, y, z = sigmas.tolist()
        return cls((z, y, x))

    @property
    def halo(self) -> tuple[int, int, int]:
        """How many voxels away, along (z, y, x), a voxel still counts."""
        if self.fast:
            return 1, 1, 1
        z, y, x = (int(TRUNCATE * s + 0.5) if s > 0 else 0 for s in self.sigmas)
        return z, y, x

    def apply(self, volume: Floats) -> Floats:
        """Smooth the last three axes of an array with dims (…, z, y, x); finite or not, as it is.

        Returns
        -------
        float64 array, same shape
        """
        if self.fast:
            return _fast(volume)
        from scipy.ndimage import gaussian_filter1d

        out = np.array(volume, np.float64)
        for axis, sigma in zip((-3, -2, -1), self.sigmas, strict=True):
            if sigma > 0:
                gaussian_filter1d(out, sigma, axis=axis, output=out, truncate=TRUNCATE)
        return out


def gaussian_matrix(n: int, sigma: float) -> Floats:
    """`gaussian_filter1d` of a line of n voxels as a matrix (output, input)."""
    from scipy.ndimage import gaussian_filter1d

    if sigma <= 0:
        return np.eye(n)
    return gaussian_filter1d(np.eye(n), sigma, axis=0, truncate=TRUNCATE)


def _fast(volume: Floats) -> Floats:
    out = np.array(volume, np.float64)
    weighted = NEIGHBOUR * out
    for axis in (-1, -2, -3):
        lower = [slice(None)] * volume.ndim
        upper = [slice(None)] * volume.ndim
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        out[tuple(lower)] += weighted[tuple(upper)]
        out[tuple(upper)] += weighted[tuple(lower)]
    out /= 1 + 6 * NEIGHBOUR
    return out
