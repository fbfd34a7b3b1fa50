"""The table of regions of a report, and what in it a reader should look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.placement import list_regions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LOW_COVERAGE", "region_details", "region_table", "region_warnings"]

# below this, XCP-D leaves a region out
LOW_COVERAGE = 0.5
LISTED = 8  # the table has them all
# of nilearn's report
MISSION = ("label value", "region name", "size (in mm^3)", "relative size (in %)")


def region_table(
    ids: NDArray[Any],
    names: Sequence[str],
    sizes: Iterable[float],
    shares: Iterable[float] | None = None,
) -> pd.DataFrame:
    """The table of nilearn's report.

    Parameters
    ----------
    ids : int array, (region,)
    names : sequence of str, (region,)
    sizes : iterable of float, (region,)
        In mm³.
    shares : iterable of float, (region,), optional
        Relative sizes in percent. If not given, of the sum of sizes; where some are below 0, as of
        maps with weights of either sign, that is nothing to compare with.

    Examples
    --------
    >>> table = region_table(np.array([1, 4]), ["a", "b"], [30.0, 10.0])
    >>> print(table.to_string(index=False))
     label value region name  size (in mm^3)  relative size (in %)
               1           a              30                  75.0
               4           b              10                  25.0
    """
    import pandas as pd

    sizes = [float(s) for s in sizes]
    total = sum(s for s in sizes if np.isfinite(s)) if not any(s < 0 for s in sizes) else 0
    if shares is None:
        shares = [s / total * 100 if total else np.nan for s in sizes]
    columns = (
        np.asarray(ids, np.int64),
        [str(n) for n in names],
        [round(s) if np.isfinite(s) else np.nan for s in sizes],
        [round(p, 2) if np.isfinite(s) else np.nan for s, p in zip(sizes, shares, strict=True)],
    )
    return pd.DataFrame(dict(zip(MISSION, columns, strict=True)))


def region_details(
    n: int,
    n_voxels: NDArray[Any] | None = None,
    coverage: NDArray[Any] | None = None,
    mean: NDArray[Any] | None = None,
    tsnr: NDArray[Any] | None = None,
) -> pd.DataFrame:
    """What else is known of regions, rounded for people; a column for each that is given.

    Examples
    --------
    >>> region_details(2, np.array([3.0, np.nan]), None, np.array([1234.567, np.nan]))
       n_voxels    mean
    0         3  1235.0
    1      <NA>     NaN
    """
    import pandas as pd

    found: dict[str, Any] = {}
    if n_voxels is not None:
        # of a region that the series do not have, nothing is known
        whole = not np.isnan(np.asarray(n_voxels, np.float64)).any()
        found["n_voxels"] = pd.array(n_voxels, "Int64") if not whole else n_voxels.astype(np.int64)
    if coverage is not None:
        found["coverage"] = np.asarray(coverage, np.float64).round(3)
    if mean is not None:
        found["mean"] = _significant(mean)
    if tsnr is not None:
        found["tSNR"] = _significant(tsnr)
    return pd.DataFrame(found, index=range(n))


def _significant(values: NDArray[Any], digits: int = 4) -> NDArray[np.float64]:
    return np.array([float(f"{v:.{digits}g}") for v in np.asarray(values, np.float64)])


def region_warnings(
    ids: NDArray[Any],
    names: Sequence[str],
    coverage: NDArray[Any] | None = None,
    series: NDArray[Any] | None = None,
    n_voxels: NDArray[Any] | None = None,
    absent: NDArray[np.bool_] | None = None,
) -> list[str]:
    """What is wrong with regions, a sentence each.

    Parameters
    ----------
    ids, names
        (region,)
    coverage : float array, (region,), optional
    series : float array, dims (time, region), optional
    n_voxels : array, (region,), optional
        Without it, regions that are not covered are taken for lost; those may have voxels, of which
        none is finite in every frame.
    absent : bool array, (region,), optional
        Regions that the series do not have, because they were not selected or a masker dropped
        them; they are NaN in ``series``.

    Examples
    --------
    >>> region_warnings(np.array([1, 4]), ["a", "b"], np.array([1.0, 0.0]))
    ['1 of 2 regions has no voxel in the image and mask: 4 b.']
    """
    called = np.array(list(names), dtype=object)
    found = []

    def tell(which: NDArray[Any], one: str, many: str) -> None:
        n = int(which.sum())
        if n:
            listed = list_regions(np.asarray(ids)[which], called[which], LISTED)
            found.append(f"{n} of {len(which)} regions {one if n == 1 else many}: {listed}.")

    lost = np.zeros(len(names), bool)
    absent = lost if absent is None else absent
    tell(absent, *(f"{are} not in the series" for are in ("is", "are")))
    if coverage is not None:
        coverage = np.nan_to_num(np.asarray(coverage, np.float64))
        lost = ~(coverage > 0 if n_voxels is None else np.asarray(n_voxels) > 0) & ~absent
        tell(lost, *(f"{have} no voxel in the image and mask" for have in ("has", "have")))
        low = (coverage < LOW_COVERAGE) & ~lost & ~absent
        tell(low, *(f"{are} covered less than {LOW_COVERAGE:.0%}" for are in ("is", "are")))
    if series is not None and len(series):
        values = np.array(series, np.float64)
        finite = np.isfinite(values)
        values[~finite] = np.nan
        missing = ~np.asarray(finite.any(axis=0)) & ~lost & ~absent
        tell(missing, "has no series though covered", "have no series though covered")
        holes = np.asarray(~finite.all(axis=0) & finite.any(axis=0))
        tell(holes, "has frames without a value", "have frames without a value")
        if len(values) > 1:
            flat: NDArray[Any] = np.asarray(np.ptp(values, axis=0) == 0)
            tell(flat & np.asarray(finite.all(axis=0)), "is constant", "are constant")
    return found
