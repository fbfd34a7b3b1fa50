"""Where voxels lie: a shape and an affine, as one frozen value that is compared once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daskroi.errors import DaskroiError, DaskroiTypeError, brief

__all__ = ["Grid", "centres_inside", "in_field", "resample_nearest", "voxel_transform"]


@dataclass(frozen=True)
class Grid:
    """Voxel grid of an image.

    Parameters
    ----------
    shape : tuple of 3 int
        Number of voxels along ``(z, y, x)``, our array order (C order, x fastest on disk).
    affine : tuple of 4 tuples of 4 float
        NIfTI affine in mm: maps voxel indices ``(x, y, z, 1)`` to world coordinates (RAS+).

    Examples
    --------
    >>> import numpy as np
    >>> from daskroi import Grid
    >>> grid = Grid.make((91, 109, 91), np.diag([2.0, 2, 2, 1]))
    >>> grid.voxel_sizes
    (2.0, 2.0, 2.0)
    >>> grid.voxel_volume
    8.0
    >>> grid == Grid.make((91, 109, 91), np.diag([2.0, 2, 2, 1]))
    True
    """

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]

    @classmethod
    def make(cls, shape: Sequence[int], affine: ArrayLike, culprit: str = "image") -> Grid:
        """Build from anything array-like; a bad affine is a `DaskroiError` naming ``culprit``."""
        try:
            matrix = np.asarray(affine, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DaskroiTypeError(
                f"{culprit}: the affine is {brief(affine)}, not a matrix of numbers. Give the 4x4 "
                "matrix from voxel indices (x, y, z) to mm."
            ) from error
        if matrix.shape != (4, 4):
            raise DaskroiError(
                f"{culprit}: the affine has shape {matrix.shape}, not (4, 4). "
                "Give the 4x4 matrix from voxel indices (x, y, z) to mm."
            )
        if not np.isfinite(matrix).all():
            raise DaskroiError(
                f"{culprit}: the affine has non-finite entries, so voxels have no place in space. "
                "Repair sform/qform in the header (for example with nibabel's set_sform)."
            )
        if matrix[3, :3].any():
            raise DaskroiError(
                f"{culprit}: the affine has translations in its last row, {matrix[3].tolist()}. "
                "Transpose it."
            )
        # relative to the voxel sizes: a 1e-3 mm grid is fine, a flat one is not
        with np.errstate(all="ignore"):  # a damaged header has voxels of 1e300 mm
            sizes = np.linalg.norm(matrix[:3, :3], axis=0)
            flat = not abs(np.linalg.det(matrix[:3, :3] / sizes)) >= 1e-9
        if flat:
            raise DaskroiError(
                f"{culprit}: the affine is singular (voxel sizes {sizes.tolist()} mm), so voxels "
                "have no volume. Repair sform/qform in the header."
            )
        try:
            nz, ny, nx = (index(n) for n in shape)
            if min(nz, ny, nx) < 1:
                raise ValueError
        except (TypeError, ValueError) as error:
            raise DaskroiError(
                f"{culprit}: shape={brief(shape)} is no grid. Give three numbers of voxels, along "
                "(z, y, x)."
            ) from error
        return cls((nz, ny, nx), tuple(tuple(float(v) for v in row) for row in matrix))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Affine as a (4, 4) float64 array."""
        return np.array(self.affine)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def voxel_sizes(self) -> tuple[float, float, float]:
        """Voxel edge lengths along (x, y, z), in mm."""
        x, y, z = np.linalg.norm(self.matrix[:3, :3], axis=0).tolist()
        return x, y, z

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel, in mm³."""
        x, y, z = self.matrix[:3, :3].T
        # NumPy's determinant goes by logarithms: 2 x 2 x 2 mm would be 7.999999999999998 mm³
        return abs(float(x @ np.cross(y, z)))

    def same_as(self, other: Grid) -> bool:
        """Whether both grids are the same place.

        Same shape and affines within ``np.allclose`` (1e-5 relative, 1e-8 absolute): nilearn's
        rule, so that both libraries agree on when an atlas needs resampling.
        """
        return self.shape == other.shape and np.allclose(self.matrix, other.matrix)

    def sub(self, start: Sequence[int], step: Sequence[int], shape: Sequence[int]) -> Grid:
        """Grid of a regular subset: first index, step (can be negative), length per (z, y, x)."""
        select = np.eye(4)
        for axis in range(3):
            select[2 - axis, 2 - axis] = step[axis]
            select[2 - axis, 3] = start[axis]
        return Grid.make(shape, self.matrix @ select)

    def describe(self) -> str:
        """One line for error messages: shape (x, y, z), voxel sizes and origin in mm."""
        nz, ny, nx = self.shape
        sizes = " x ".join(f"{s:g}" for s in self.voxel_sizes)
        origin = ", ".join(f"{v:g}" for v in self.matrix[:3, 3])
        return f"{nx} x {ny} x {nz} voxels of {sizes} mm, origin ({origin}) mm"


def voxel_transform(source: Grid, target: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix and offset from voxels of ``target`` to voxels of ``source``, (x, y, z).

    Returns
    -------
    matrix : float64 array, (3, 3), or (3,) where axes do not mix
        For `scipy.ndimage.affine_transform`, which separates the axes when it gets a diagonal.
    offset : float64 array, (3,)

    Notes
    -----
    Built as nilearn's ``resample_img`` builds it: which voxels fall outside, and how ties fall,
    depends on the last bit.
    """
    from scipy import linalg

    # scipy's inverse, not NumPy's, and this product
    transform = np.dot(linalg.inv(source.matrix), target.matrix)
    if source.affine == target.affine:
        transform = np.eye(4)  # not inv(A) A, whose rounding pushes edge voxels out
    matrix, offset = transform[:3, :3], transform[:3, 3]
    if np.all(np.diag(np.diag(matrix)) == matrix):
        matrix = np.diag(matrix).copy()
    return matrix, offset


def in_field(points: NDArray[Any], grid: Grid) -> NDArray[np.bool_]:
    """Whether points lie in the field of view of a grid: in one of its voxels.

    Parameters
    ----------
    points : float array, (3, point)
        Voxel indices (x, y, z) of ``grid``; they need not be whole.
    grid : Grid

    Returns
    -------
    bool array, (point,)

    Examples
    --------
    >>> grid = Grid.make((4, 5, 6), np.eye(4))
    >>> in_field(np.array([[0, 5.5, 5.6], [0, 4, 4], [-0.5, 0, 0]]), grid)
    array([ True,  True, False])
    """
    # a hair of tolerance: points that fall on the face of an edge voxel are in it
    upper = np.array(grid.shape[::-1])[:, None] - 0.5 + 1e-6
    inside = (points >= -0.5 - 1e-6) & (points <= upper)
    return np.all(inside, axis=0)


def centres_inside(voxels: NDArray[np.intp], source: Grid, target: Grid) -> NDArray[np.bool_]:
    """Whether the centres of voxels of one grid lie in the field of view of another.

    Parameters
    ----------
    voxels : int array, (voxel,)
        Flat C-order positions on ``source``.
    source, target : Grid

    Returns
    -------
    bool array, (voxel,)

    Examples
    --------
    >>> small, large = (Grid.make((1, 1, n), np.eye(4)) for n in (2, 4))
    >>> centres_inside(np.arange(4), large, small)
    array([ True,  True, False, False])
    """
    zyx = np.array(np.unravel_index(voxels, source.shape))
    affine = np.linalg.inv(target.matrix) @ source.matrix
    return in_field(affine[:3, :3] @ zyx[::-1] + affine[:3, 3:], target)


def resample_nearest(
    values: NDArray[Any], source: Grid, target: Grid, fill: float = 0
) -> NDArray[Any]:
    """Bring a label image or mask from one grid to another by nearest neighbour.

    Parameters
    ----------
    values : ndarray, dims (z, y, x)
        Labels or mask on ``source``.
    source, target : Grid
    fill : number
        What voxels outside ``source`` get: the background.

    Returns
    -------
    ndarray, dims (z, y, x)
        On ``target``, same dtype. ``values`` itself when the grids are the same.

    Notes
    -----
    `scipy.ndimage.affine_transform` with order 0 and the matrix built as nilearn's
    ``resample_img`` builds it, so that voxels halfway between two labels fall the same way.
    """
    if source.same_as(target):
        return values
    from scipy import ndimage

    matrix, offset = voxel_transform(source, target)
    # 1-byte and big-endian types take scipy's slow or missing ways
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    out = ndimage.affine_transform(
        native.T, matrix, offset, output_shape=target.shape[::-1], order=0, cval=fill
    )
    return np.ascontiguousarray(out.T)
