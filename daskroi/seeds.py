"""Seeds: coordinates in mm from what they come as, checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, DaskroiTypeError, some

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Seeds", "checked_radius"]


WIDEST = 1000  # mm: no sphere is wider than a head


@dataclass(frozen=True, eq=False)
class Seeds:
    """Coordinates as they were given, with what was given beside them.

    Parameters
    ----------
    xyz : float64 array, (seed, 3)
        Millimetres, in the space of the images.
    table : DataFrame or None
        Other columns of the table they are from.
    radii : tuple of float
        Those that the table had, which are not used: one radius is for all spheres.
    """

    xyz: NDArray[np.float64]
    table: pd.DataFrame | None = None
    radii: tuple[float, ...] = ()

    @classmethod
    def read(cls, seeds: Any) -> Seeds | None:
        """Read seeds; None when ``seeds`` is not even meant to be some.

        Parameters
        ----------
        seeds : array-like of float, (seed, 3), or DataFrame with columns x, y and z
            Or anything with such a DataFrame or record array as ``rois`` (nilearn's coordinates).

        Raises
        ------
        DaskroiError
            Not three finite numbers for every seed; the first wrong ones are named.

        Examples
        --------
        >>> Seeds.read([(0, -52, 18), (46, -68, 32)]).xyz.shape
        (2, 3)
        >>> Seeds.read("atlas.nii.gz") is None
        True
        """
        import pandas as pd

        if not isinstance(seeds, pd.DataFrame):
            get = seeds.get if isinstance(seeds, Mapping) else lambda k: getattr(seeds, k, None)
            rois = get("rois")
            if rois is not None:
                return cls.read(pd.DataFrame(rois))
        else:
            return cls._of_frame(seeds)
        listed = isinstance(seeds, Sequence) and not isinstance(seeds, str | bytes)
        if not listed and not isinstance(seeds, np.ndarray):
            return None
        return cls(_checked(seeds))

    @classmethod
    def _of_frame(cls, frame: pd.DataFrame) -> Seeds:
        columns = {str(c).strip().lower(): c for c in frame.columns}
        if missing := [c for c in "xyz" if c not in columns]:
            raise DaskroiError(
                f"seeds: the table needs the columns x, y and z in mm; {', '.join(missing)} "
                f"missing, found: {', '.join(map(repr, frame.columns))}. Rename the columns."
            )
        xyz = _checked(frame[[columns[c] for c in "xyz"]].to_numpy().tolist())
        radii = frame[columns["radius"]].unique().tolist() if "radius" in columns else []
        own = [c for key, c in columns.items() if key not in ("x", "y", "z", "radius")]
        return cls(xyz, frame[own].reset_index(drop=True), tuple(r for r in radii if r == r))


def _checked(seeds: Any) -> NDArray[np.float64]:
    ndim = getattr(seeds, "ndim", 2)
    if ndim != 2 or not len(seeds):
        raise DaskroiError(
            f"seeds: an array of shape {np.shape(seeds)}, not (seed, 3). Give one (x, y, z) in mm "
            "for each seed; for an image, use daskroi.make_image(array, grid)."
            if ndim != 2
            else "seeds: there are none. Give one (x, y, z) in mm for each."
        )
    if any(isinstance(seed, str | os.PathLike) or hasattr(seed, "dataobj") for seed in seeds):
        raise DaskroiTypeError(
            "A list of files or images is no atlas. Give several as a dict of name to atlas, "
            "or one."
        )
    rows: list[Any] = []
    for seed in seeds:
        try:
            row = np.asarray(seed, np.float64)
        except (TypeError, ValueError):
            row = np.empty(0)
        rows.append(row if row.shape == (3,) and np.isfinite(row).all() else None)
    if bad := [i for i, row in enumerate(rows) if row is None]:
        raise DaskroiError(
            f"seeds: not three finite numbers (x, y, z) in mm at position {some(bad, 5)}; the "
            f"first is {seeds[bad[0]]!r}. Correct or leave them out."
        )
    return np.array(rows)


def checked_radius(radius: Any) -> float | None:
    """Radius in mm as a float, or None.

    Raises
    ------
    DaskroiError
        It is not a positive number.

    Examples
    --------
    >>> checked_radius(8)
    8.0
    """
    if radius is None:
        return None
    if isinstance(radius, bool | np.bool_ | str):
        raise DaskroiTypeError(f"radius={radius!r} is not a number. Give it in mm, or None.")
    try:
        value = float(radius)
    except (TypeError, ValueError) as error:
        raise DaskroiTypeError(
            f"radius={radius!r} is not a number. Give one radius in mm for all seeds, or None."
        ) from error
    if not 0 < value <= WIDEST:
        raise DaskroiError(
            f"radius={radius!r} is not a positive number of mm, at most {WIDEST}. Leave it out for "
            "single voxels."
        )
    return value
