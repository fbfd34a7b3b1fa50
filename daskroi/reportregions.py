"""The table of regions of a report, and what in it a reader should look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.placement import list_regions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LOW_COVERAGE", "region_table", "region_warnings", "significant"]

# below this, XCP-D leaves a region out
LOW_COVERAGE = 0.5
MISSION = ("label value", "region name", "size (in mm^3)", "relative size (in %)")


def region_table(
    ids: NDArray[Any],
    names: Sequence[str],
    sizes: Iterable[float],
    **more: NDArray[Any] | None,
) -> pd.DataFrame:
    """Rows as nilearn's report has them, then what else is known.

    Parameters
    ----------
    ids : int array, (region,)
    names : sequence of str, (region,)
    sizes : iterable of float, (region,)
        In mm³.
    **more
        Further columns; None is left out.

    Examples
    --------
    >>> table = region_table(np.array([1, 4]), ["a", "b"], [30.0, 10.0], n_voxels=np.array([3, 1]))
    >>> print(table.to_string(index=False))
     label value region name  size (in mm^3)  relative size (in %)  n_voxels
               1           a              30                  75.0         3
               4           b              10                  25.0         1
    """
    import pandas as pd

    sizes = [float(s) for s in sizes]
    total = sum(s for s in sizes if np.isfinite(s))
    columns = (
        np.asarray(ids, np.int64),
        [str(n) for n in names],
        [round(s) if np.isfinite(s) else None for s in sizes],
        [round(s / total * 100, 2) if np.isfinite(s) and total else None for s in sizes],
    )
    table = pd.DataFrame(dict(zip(MISSION, columns, strict=True)))
    return table.assign(**{k: v for k, v in more.items() if v is not None})


def significant(values: NDArray[Any] | None, digits: int = 4) -> NDArray[Any] | None:
    """Numbers with so many significant digits, for people.

    Examples
    --------
    >>> significant(np.array([1234.5678, 0.0123456, np.nan]))
    array([1.235e+03, 1.235e-02,       nan])
    """
    if values is None:
        return None
    return np.array([float(f"{v:.{digits}g}") for v in np.asarray(values, np.float64)])


def region_warnings(
    ids: NDArray[Any],
    names: Sequence[str],
    coverage: NDArray[Any] | None = None,
    series: NDArray[Any] | None = None,
) -> list[str]:
    """What is wrong with regions, a sentence each.

    Parameters
    ----------
    ids, names
        (region,)
    coverage : float array, (region,), optional
    series : float array, dims (time, region), optional
        Regions that are missing from it altogether are NaN.

    Examples
    --------
    >>> region_warnings(np.array([1, 4]), ["a", "b"], np.array([1.0, 0.0]))
    ['1 of 2 regions has no voxel in the image and mask: 4 b.']
    """
    names = np.array(list(names), dtype=object)
    found = []

    def tell(which: NDArray[np.bool_], one: str, many: str) -> None:
        n = int(which.sum())
        if n:
            listed = list_regions(np.asarray(ids)[which], names[which])
            found.append(f"{n} of {len(which)} regions {one if n == 1 else many}: {listed}.")

    lost = np.zeros(len(names), bool)
    if coverage is not None:
        coverage = np.asarray(coverage, np.float64)
        lost = ~(coverage > 0)
        tell(lost, *(f"{have} no voxel in the image and mask" for have in ("has", "have")))
        low = (coverage > 0) & (coverage < LOW_COVERAGE)
        tell(low, *(f"{are} covered less than {LOW_COVERAGE:.0%}" for are in ("is", "are")))
    if series is not None and len(series):
        values = np.asarray(series, np.float64)
        finite = np.isfinite(values)
        missing = ~finite.any(axis=0) & ~lost
        tell(missing, "has no series though covered", "have no series though covered")
        holes = ~finite.all(axis=0) & finite.any(axis=0)
        tell(holes, "has frames without a value", "have frames without a value")
        if len(values) > 1:
            with np.errstate(invalid="ignore"):
                flat = finite.all(axis=0) & (np.ptp(values, axis=0) == 0)
            tell(flat, "is constant", "are constant")
    return found
