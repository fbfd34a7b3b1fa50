"""Connectivity of one run, in NumPy: covariance, correlation, precision, partial correlation.

Regions that are not there do not count: they are NaN in the result, and the others get the numbers
they would have without them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, check_choice, some, warn
from daskroi.onethread import one_thread
from daskroi.spd import embedded, inverse

__all__ = [
    "CORRELATIONS",
    "KINDS",
    "Measure",
    "by_run",
    "connectivity",
    "covariance",
    "ledoit_wolf",
    "square",
    "to_correlation",
    "triangle",
]

KINDS = ("correlation", "covariance", "partial correlation", "precision", "tangent")
CORRELATIONS = ("correlation", "partial correlation")

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """What connectivity is: all that decides the numbers.

    Parameters
    ----------
    kind : str
        One of `KINDS`. "tangent" is the covariance here; what follows needs a group.
    shrinkage : "ledoit_wolf", float or None
        How the covariance is estimated: shrunk as Ledoit and Wolf estimate it, by a fraction
        between 0 and 1, or as it is.
    standardize : bool
        z-score series before a correlation, which matters to what is shrunk.
    fisher_z : bool
        Give the inverse hyperbolic tangent of correlations.
    cov_estimator : object or None
        With ``fit`` and ``covariance_``, as scikit-learn's; instead of ``shrinkage``.
    """

    kind: str = "correlation"
    shrinkage: str | float | None = "ledoit_wolf"
    standardize: bool = True
    fisher_z: bool = False
    cov_estimator: Any = None

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        check_choice("standardize", self.standardize, (True, False))
        check_choice("fisher_z", self.fisher_z, (True, False))
        if self.fisher_z and self.kind not in CORRELATIONS:
            raise DaskroiError(
                f"fisher_z=True is for correlations; kind={self.kind!r} has no such transform. "
                "Leave it out."
            )
        if self.cov_estimator is not None:
            if not hasattr(self.cov_estimator, "fit") or isinstance(self.cov_estimator, type):
                raise DaskroiError(
                    f"cov_estimator={self.cov_estimator!r} has no fit method. Give an estimator "
                    "such as sklearn.covariance.GraphicalLassoCV(), an instance."
                )
        elif isinstance(self.shrinkage, Real) and not isinstance(self.shrinkage, bool):
            if not 0 <= self.shrinkage <= 1:
                raise DaskroiError(f"shrinkage={self.shrinkage!r} is not between 0 and 1.")
        else:
            check_choice("shrinkage", self.shrinkage, ("ledoit_wolf", None))

    @property
    def estimator(self) -> str:
        """How the covariance is estimated, in a word or two."""
        if self.cov_estimator is not None:
            return type(self.cov_estimator).__name__
        if self.shrinkage is None:
            return "empirical"
        return self.shrinkage if isinstance(self.shrinkage, str) else f"shrunk {self.shrinkage:g}"


@one_thread()
def connectivity(
    series: NDArray[Any], measure: Measure, ids: NDArray[Any] | None = None, run: str = ""
) -> Matrix:
    """Connectivity of one run.

    Parameters
    ----------
    series : array, (time, region)
        Frames that are NaN in all regions were censored, and are left out.
    measure : Measure
    ids : int array, (region,), optional
        For messages.
    run : str
        For messages.

    Returns
    -------
    float64 array, (region, region)
        NaN in rows and columns of regions that are NaN in a frame, or constant.

    Raises
    ------
    DaskroiError
        Fewer than 2 frames; a covariance that has no inverse.

    Warns
    -----
    DaskroiWarning
        Regions are constant, or NaN in some frames only.

    Examples
    --------
    >>> series = np.array([[1.0, 2, np.nan], [2, 1, np.nan], [3, 3, np.nan]])
    >>> connectivity(series, Measure(shrinkage=None)).round(6)
    array([[1. , 0.5, nan],
           [0.5, 1. , nan],
           [nan, nan, nan]])
    """
    where = f"{run}: " if run else ""
    ids = np.arange(series.shape[1]) if ids is None else ids
    there = np.isfinite(series)
    frames = there.any(axis=1)
    if not frames.any():
        warn(f"{where}all series are NaN, so there is no connectivity. Look at the run's coverage.")
        return np.full((series.shape[1],) * 2, np.nan)
    if frames.sum() < 2:
        raise DaskroiError(
            f"{where}{frames.sum()} frame is no series: connectivity needs 2 at least, and means "
            "little below 50. Leave the run out, or censor less."
        )
    complete = there[frames].all(axis=0)
    if (holes := ids[there.any(axis=0) & ~complete]).size:
        warn(
            f"{where}{_regions(holes)} not finite in some frames, and NaN in the result. Use "
            "nan_policy='omit' in extract, or censor these frames."
        )
    values = series[frames][:, complete]
    centred = values.astype(np.float64)
    mean = centred.mean(axis=0)
    centred -= mean
    # what rounding leaves of a constant: relative to its own size, as stored
    eps = np.finfo(series.dtype).eps if series.dtype.kind == "f" else np.finfo(np.float64).eps
    spread = np.sqrt(np.einsum("tr,tr->r", centred, centred) / len(centred))
    varies = spread > np.maximum(8 * eps * np.abs(mean), np.finfo(np.float64).eps)
    kept = complete.copy()
    kept[complete] = varies
    if (constant := ids[complete & ~kept]).size:
        warn(f"{where}{_regions(constant)} constant, and NaN in the result.")
    if not kept.any():
        return np.full((series.shape[1],) * 2, np.nan)
    raw = values[:, varies] if measure.cov_estimator is not None else None
    return embedded(_connectivity(centred[:, varies], raw, measure, where), kept)


def _connectivity(
    centred: Matrix, raw: NDArray[Any] | None, measure: Measure, where: str
) -> Matrix:
    kind = measure.kind
    if kind == "correlation" and measure.standardize:
        deviation = np.sqrt(np.einsum("tr,tr->r", centred, centred) / (len(centred) - 1))
        centred = centred / deviation
        raw = None if raw is None else centred
    if raw is None:
        found = covariance(centred, measure.shrinkage)
    else:
        # a copy: estimators keep what they have fitted, and threads share this one
        found = np.asarray(copy.deepcopy(measure.cov_estimator).fit(raw).covariance_, np.float64)
    if kind in ("precision", "partial correlation"):
        frames, regions = centred.shape
        what = (
            f"{where}the covariance of {regions} regions in {frames} frames has no inverse, so "
            f"there is no {kind}. Use shrinkage='ledoit_wolf', more frames or fewer regions."
        )
        if frames <= regions and measure.shrinkage is None and measure.cov_estimator is None:
            raise DaskroiError(what)
        found = inverse(found, what)
    if kind == "correlation":
        found = to_correlation(found)
    elif kind == "partial correlation":
        found = -to_correlation(found)
        np.fill_diagonal(found, 1.0)
    if measure.fisher_z:
        with np.errstate(divide="ignore"):
            found = np.arctanh(found)
        np.fill_diagonal(found, np.nan)
    return found


def _regions(ids: NDArray[Any]) -> str:
    return f"region {ids[0]} is" if len(ids) == 1 else f"{len(ids)} regions ({some(ids, 5)}) are"


def covariance(centred: Matrix, shrinkage: str | float | None = "ledoit_wolf") -> Matrix:
    """Covariance (ddof 0) of series whose mean is 0, shrunk towards a multiple of the identity.

    Parameters
    ----------
    centred : float64 array, (time, region)
    shrinkage : "ledoit_wolf", float or None

    Returns
    -------
    float64 array, (region, region)

    Examples
    --------
    >>> covariance(np.array([[1.0, 2.0], [-1.0, -2.0]]), 0.5)
    array([[1.75, 1.  ],
           [1.  , 3.25]])
    """
    found = centred.T @ centred / len(centred)
    if shrinkage is None:
        return found
    amount = ledoit_wolf(centred, found) if isinstance(shrinkage, str) else float(shrinkage)
    mu = np.trace(found) / len(found)
    found *= 1.0 - amount
    found.flat[:: len(found) + 1] += amount * mu
    return found


def ledoit_wolf(centred: Matrix, empirical: Matrix) -> float:
    """The shrinkage that Ledoit and Wolf estimate to be best.

    Parameters
    ----------
    centred : float64 array, (time, region)
        Series whose mean is 0.
    empirical : float64 array, (region, region)
        Their covariance, ddof 0.

    Returns
    -------
    float
        Between 0 and 1.

    Notes
    -----
    Ledoit & Wolf, J. Multivariate Analysis 88 (2004), as in scikit-learn, which multiplies three
    matrices of this size where one will do: the variance of the products sums over frames first.

    Examples
    --------
    >>> centred = np.array([[1.0, 2.0], [-1.0, -2.0], [0.5, -0.5], [-0.5, 0.5]])
    >>> round(ledoit_wolf(centred, centred.T @ centred / 4), 6)
    0.582353
    """
    n_time, n_region = centred.shape
    if n_region == 1:
        return 0.0
    mu = np.trace(empirical) / n_region
    norm = float(np.vdot(empirical, empirical))
    rows = np.einsum("tr,tr->t", centred, centred)
    beta = (float(rows @ rows) / n_time - norm) / (n_region * n_time)
    delta = norm / n_region - mu**2
    # both are sums of squares; below 0 is rounding, where nothing is left to shrink
    return 0.0 if beta <= 0 or delta <= 0 else float(min(beta, delta) / delta)


def to_correlation(matrix: Matrix) -> Matrix:
    """Scale a covariance to a diagonal of 1.

    Examples
    --------
    >>> to_correlation(np.array([[4.0, 2.0], [2.0, 4.0]]))
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    scale = 1.0 / np.sqrt(np.diag(matrix))
    # rounding may take two equal series above 1, where Fisher's z has no value
    # one after the other, the factors would round differently above and below the diagonal
    found = np.clip(matrix * (scale * scale[:, None]), -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return found


def triangle(matrices: NDArray[Any], discard_diagonal: bool = False) -> NDArray[Any]:
    """The lower triangle, row by row, as nilearn's ``sym_matrix_to_vec`` gives it.

    Parameters
    ----------
    matrices : array, (..., region, region)
    discard_diagonal : bool
        Otherwise the diagonal is divided by sqrt(2), so that norms stay the same.

    Returns
    -------
    array, (..., edge)
        Of integers, float64.

    Examples
    --------
    >>> triangle(np.array([[1.0, 5.0], [5.0, 1.0]]), discard_diagonal=True)
    array([5.])
    """
    rows, columns = np.tril_indices(matrices.shape[-1], -1 if discard_diagonal else 0)
    values = matrices[..., rows, columns]
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    if not discard_diagonal:
        values[..., rows == columns] /= math.sqrt(2)
    return values


def square(edges: NDArray[Any], diagonal: NDArray[Any] | float | None = None) -> NDArray[Any]:
    """Matrices of `triangle`, back.

    Parameters
    ----------
    edges : array, (..., edge)
    diagonal : float or array (..., region), optional
        Where it was discarded: what stands on it.

    Returns
    -------
    array, (..., region, region)

    Raises
    ------
    DaskroiError
        No matrix has so many edges.

    Examples
    --------
    >>> square(np.array([5.0]), diagonal=1.0)
    array([[1., 5.],
           [5., 1.]])
    """
    n_edge, without = edges.shape[-1], diagonal is not None
    n_region = (math.isqrt(8 * n_edge + 1) - 1) // 2 + without
    rows, columns = np.tril_indices(n_region, -1 if without else 0)
    if len(rows) != n_edge:
        raise DaskroiError(
            f"{n_edge} edges are not the triangle of a matrix "
            f"{'without' if without else 'with'} its diagonal. Select whole regions."
        )
    found = np.empty((*edges.shape[:-1], n_region, n_region), dtype=np.float64)
    found[..., rows, columns] = found[..., columns, rows] = edges
    step = np.arange(n_region)
    found[..., step, step] = diagonal if without else found[..., step, step] * math.sqrt(2)
    return found


def by_run(
    block: NDArray[Any],
    names: NDArray[Any],
    *same: NDArray[Any],
    function: Callable[..., Matrix],
) -> NDArray[np.float64]:
    """Apply a function to each run of a block.

    Parameters
    ----------
    block : array, (run, ...)
    names : array, (run, 1, 1)
        Of the runs, for messages.
    *same : arrays, (1, region, region)
        The same for all runs.
    function : callable
        Of a run, of what is the same, and of ``run``.

    Returns
    -------
    float64 array, (run, region, region)

    Examples
    --------
    >>> by_run(np.ones((2, 1, 1)), np.ones((2, 1, 1)), function=lambda one, run: one * 3).ravel()
    array([3., 3.])
    """
    shared = [one[0] for one in same]
    return np.stack(
        [
            function(one, *shared, run=f"run {name}")
            for one, name in zip(block, names.ravel(), strict=True)
        ]
    )
