"""Tangent space of covariances: runs as deviations from the mean of a group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral, Real
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from daskroi.connectivity import Measure
from daskroi.errors import DaskroiError, DaskroiTypeError, some, warn
from daskroi.nested import scheduler_here
from daskroi.onethread import one_thread
from daskroi.runmatrices import PAIR, REGION, RUN, map_runs, run_matrices
from daskroi.spd import embedded, factor, from_tangent, geometric_mean, map_eigenvalues, to_tangent

__all__ = ["TangentSpace", "run_covariances"]


@dataclass(frozen=True, eq=False)
class TangentSpace:
    """The tangent space at a group's mean covariance: fitted once, used for new runs as well.

    Parameters
    ----------
    mean : DataArray, dims (region, other_region)
        Geometric mean of the group's covariances. NaN for regions that some run does not have:
        the space is without them.
    measure : Measure
        How covariances are estimated.
    n_runs : int
        Runs in the group.

    Notes
    -----
    Varoquaux et al., MICCAI 2010, as in nilearn's ``ConnectivityMeasure(kind="tangent")``. The
    region axis stays whole; a region that is lost in one run is NaN in all, with a warning, for
    whitening mixes all regions of the space. What Ledoit and Wolf shrink is each run's covariance
    of the regions that this run has.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from daskroi import TangentSpace
    >>> rng = np.random.default_rng(0)
    >>> runs = [xr.DataArray(rng.normal(size=(50, 3)), dims=("time", "region")) for _ in range(4)]
    >>> space = TangentSpace.fit(runs[:3])
    >>> new = space.transform(runs[3])
    >>> new.dims, space.transform(runs[:3]).sizes["run"]
    (('region', 'other_region'), 3)
    >>> bool(abs(space.transform(runs[:3]).mean("run")).max() < 1e-6)
    True
    """

    mean: xr.DataArray
    measure: Measure
    n_runs: int

    @classmethod
    def fit(
        cls,
        series: Any,
        *,
        shrinkage: str | float | None = "ledoit_wolf",
        cov_estimator: Any = None,
        atlas: str | None = None,
        max_iter: int = 30,
        tol: float = 1e-7,
    ) -> TangentSpace:
        """Find the mean of a group; computes.

        Parameters
        ----------
        series, shrinkage, cov_estimator, atlas
            As in `daskroi.connectome`; several runs.
        max_iter, tol
            Of the geometric mean.

        Raises
        ------
        DaskroiError
            A single run; a covariance that is not positive definite; no region that all have.

        Warns
        -----
        DaskroiWarning
            Regions are left out because some run does not have them, or the mean has not converged.
        """
        space = cls.lazy(run_covariances(series, shrinkage, cov_estimator, atlas), max_iter, tol)
        return replace(space, mean=space.mean.compute())

    @classmethod
    def lazy(
        cls, covariances: tuple[xr.DataArray, Measure], max_iter: int = 30, tol: float = 1e-7
    ) -> TangentSpace:
        """The space of covariances (run, region, other_region), its mean not computed yet."""
        found, measure = covariances
        if not (isinstance(max_iter, Integral) and max_iter > 0):
            raise DaskroiError(f"max_iter={max_iter!r} is no number of steps. Give 1 or more.")
        if not (isinstance(tol, Real) and 0 <= tol < np.inf):
            raise DaskroiError(f"tol={tol!r} is no tolerance. Give 0 or more.")
        if RUN not in found.dims or found.sizes[RUN] < 2:
            raise DaskroiError(
                "kind='tangent' is about deviations from a group's mean, and this is a single run. "
                "Give several, or use TangentSpace.fit on a group and transform on this run."
            )
        data = found.data
        names = tuple(map(str, found[RUN].values.tolist()))
        options: dict[str, Any] = {
            "names": names,
            "ids": found[REGION].values,
            "max_iter": max_iter,
            "tol": tol,
        }
        if isinstance(data, da.Array):
            shape = data.shape[1:]
            data = da.map_blocks(
                _mean,
                data.rechunk(-1),
                **options,
                drop_axis=0,
                chunks=tuple((n,) for n in shape),
                dtype=np.float64,
                meta=np.empty((0, 0)),
            )
        else:
            data = _mean(data, **options)
        coords = {k: c for k, c in found.coords.items() if RUN not in c.dims}
        mean = xr.DataArray(data, coords, PAIR, name="mean", attrs=found.attrs)
        return cls(mean.assign_attrs(kind="covariance", n_runs=len(names)), measure, len(names))

    @property
    def whitening(self) -> xr.DataArray:
        """Inverse square root of the mean, dims (region, other_region)."""
        return self.mean.copy(data=self._power(-0.5)).rename("whitening")

    def transform(self, series: Any, *, atlas: str | None = None) -> xr.DataArray:
        """Runs as deviations from the mean.

        Parameters
        ----------
        series, atlas
            As in `daskroi.connectome`; one run or several, of the same regions.

        Returns
        -------
        DataArray, dims (run, region, other_region), or (region, other_region) of one run
            Lazy where the series are.

        Raises
        ------
        DaskroiError
            Other regions; or a run that lacks a region of the space.
        """
        return self.deviations(run_matrices(series, self.measure, atlas))

    def deviations(self, covariances: xr.DataArray) -> xr.DataArray:
        """`transform` of covariances that are there already."""
        found = self._each(covariances, -0.5, _deviation)
        return found.assign_attrs(kind="tangent", tangent_runs=self.n_runs)

    def inverse_transform(self, deviations: xr.DataArray) -> xr.DataArray:
        """Covariances of deviations from the mean: `transform` back."""
        found = self._each(deviations, 0.5, _covariance)
        found.attrs.pop("tangent_runs", None)
        return found.assign_attrs(kind="covariance")

    def _each(self, matrices: xr.DataArray, exponent: float, kernel: Any) -> xr.DataArray:
        if tuple(d for d in getattr(matrices, "dims", ()) if d != RUN) != PAIR:
            raise DaskroiTypeError(
                f"A {type(matrices).__name__} is no matrices of regions. Give a DataArray, dims "
                f"(run, {', '.join(PAIR)}) or {PAIR}."
            )
        if not np.array_equal(matrices[REGION].values, self.mean[REGION].values):
            raise DaskroiError(
                f"The runs have {matrices.sizes[REGION]} regions, which are not the "
                f"{self.mean.sizes[REGION]} of the space. Extract them with the same atlas."
            )
        several = RUN in matrices.dims
        names = matrices[RUN].values if several else [matrices.attrs.get("source", "")]
        data = matrices.data if several else matrices.data[None]
        lazy = matrices.chunks is not None or self.mean.chunks is not None
        chunked = (
            data if isinstance(data, da.Array) else da.from_array(data, (1, -1, -1), name=False)
        )
        kernel = partial(kernel, ids=matrices[REGION].values)
        values = map_runs(chunked, names, kernel, len(self.mean), self._power(exponent))
        values = values if several else values[0]
        return matrices.copy(data=values if lazy else values.compute(scheduler=scheduler_here()))

    def _power(self, exponent: float) -> Any:
        """The mean to a power; once, for all runs."""
        data = self.mean.data
        if not isinstance(data, da.Array):
            return _power(data, exponent)
        return da.map_blocks(_power, data, exponent, dtype=np.float64, meta=np.empty((0, 0)))


def run_covariances(
    series: Any, shrinkage: Any, cov_estimator: Any, atlas: str | None
) -> tuple[xr.DataArray, Measure]:
    """Covariances of runs, and how they were estimated."""
    measure = Measure("tangent", shrinkage, cov_estimator=cov_estimator)
    return run_matrices(series, measure, atlas), measure


@one_thread()
def _mean(
    matrices: NDArray[np.float64],
    names: tuple[str, ...],
    ids: NDArray[Any],
    max_iter: int,
    tol: float,
) -> NDArray[np.float64]:
    there = np.isfinite(np.einsum("rii->ri", matrices))
    kept = there.all(axis=0)
    if not kept.any():
        worst = names[int(there.sum(axis=1).argmin())]
        raise DaskroiError(
            f"No region is there in all {len(names)} runs, so they have no tangent space; fewest "
            f"are in run {worst}. Leave such runs out."
        )
    if not kept.all() and there.any(axis=0).sum() > kept.sum():
        lost = ids[there.any(axis=0) & ~kept]
        warn(
            f"{len(lost)} regions ({some(lost, 5)}) are missing in some of {len(names)} "
            "runs, and NaN in all: the tangent space is of regions that all have."
        )
    inner = np.ix_(kept, kept)
    whole = np.stack(
        [_definite(m[inner], f"run {n}") for m, n in zip(matrices, names, strict=True)]
    )
    return embedded(geometric_mean(whole, max_iter, tol), kept)


def _definite(matrix: NDArray[np.float64], run: str) -> NDArray[np.float64]:
    factor(
        matrix,
        f"{run}: its covariance of {len(matrix)} regions is singular, so it has no logarithm. "
        "Use shrinkage='ledoit_wolf', more frames or fewer regions.",
    )
    return matrix


@one_thread()
def _power(mean: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    kept = np.isfinite(np.diag(mean))
    inner = mean[np.ix_(kept, kept)]
    return embedded(map_eigenvalues(lambda values: values**exponent, inner), kept)


@one_thread()
def _deviation(
    matrix: NDArray[np.float64], whitening: NDArray[np.float64], ids: NDArray[Any], run: str
) -> NDArray[np.float64]:
    kept = np.isfinite(np.diag(whitening))
    if (lost := ids[kept & ~np.isfinite(np.diag(matrix))]).size:
        raise DaskroiError(
            f"{run}: lacks {len(lost)} regions of the tangent space ({some(lost, 5)}), and "
            "whitening needs all. Leave the run out, or these regions, from the group as well."
        )
    inner = np.ix_(kept, kept)
    return embedded(to_tangent(_definite(matrix[inner], run), whitening[inner]), kept)


@one_thread()
def _covariance(
    matrix: NDArray[np.float64], root: NDArray[np.float64], ids: NDArray[Any], run: str
) -> NDArray[np.float64]:
    kept = np.isfinite(np.diag(root))
    inner = np.ix_(kept, kept)
    return embedded(from_tangent(matrix[inner], root[inner]), kept)
