"""Connectomes: how regions go together, of one run or of a cohort, with their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

import daskroi
from daskroi.connectivity import CORRELATIONS, Measure, square, triangle
from daskroi.errors import DaskroiError, DaskroiTypeError, brief, check_flag
from daskroi.runmatrices import OTHER, PAIR, REGION, RUN, run_matrices
from daskroi.tangent import TangentSpace, run_covariances

__all__ = [
    "connectome",
    "mean_connectome",
    "sym_matrix_to_vec",
    "vec_to_sym_matrix",
]

EDGE = "edge"


def connectome(
    series: Any,
    kind: str = "correlation",
    *,
    shrinkage: str | float | None = "ledoit_wolf",
    cov_estimator: Any = None,
    standardize: bool = True,
    fisher_z: bool = False,
    vectorize: bool = False,
    discard_diagonal: bool = False,
    atlas: str | None = None,
) -> xr.DataArray:
    """Connectivity between regions, of one run or of many.

    Parameters
    ----------
    series : DataArray, list or dict of DataArrays, or Dataset
        What `daskroi.extract` returns, (time, region). Of several runs a list, or a dict of name →
        run: lengths may differ, regions may not. Or what ``cohort.zarr`` opens to, whole or one
        atlas of it, (run, time, region). Frames that are NaN in all regions do not count.
    kind : {"correlation", "covariance", "partial correlation", "precision", "tangent"}
        "tangent" is how each run deviates from the geometric mean of all; see `TangentSpace`, which
        also takes new runs.
    shrinkage : "ledoit_wolf", float in [0, 1], or None
        Of the covariance towards a multiple of the identity, from which all kinds follow.
        "ledoit_wolf" is nilearn's default: correlations are a little smaller than Pearson's, and
        there is an inverse however few frames there are. None: none, which is Pearson's r.
    cov_estimator : object, optional
        With ``fit`` and ``covariance_``, such as scikit-learn's ``GraphicalLassoCV()``; instead of
        ``shrinkage``. Lost and constant regions do not get there.
    standardize : bool
        z-score series before a correlation. Without, the shrinkage is that of the covariance.
    fisher_z : bool
        Fisher's z of correlations, arctanh(r). The diagonal, which would be infinite, is NaN.
    vectorize : bool
        Give the lower triangle as one dimension ``edge``; see `sym_matrix_to_vec`.
    discard_diagonal : bool
        Of the triangle. Without effect when matrices are given, as in nilearn.
    atlas : str, optional
        Which, if a Dataset has several.

    Returns
    -------
    DataArray, dims (region, other_region); of several runs (run, region, other_region)
        float64. Lazy where the series are: one task per run. Both axes have the region ids, with
        ``region_name`` and ``other_region_name``; ``n_voxels``, ``coverage`` and ``size_mm3`` as
        on the series. With ``vectorize``, dims (edge,) or (run, edge).

    Raises
    ------
    DaskroiError
        Bad input; runs with different regions; fewer than 2 frames; a covariance without inverse;
        "tangent" of a single run. What depends on the numbers is raised by ``compute``.

    Warns
    -----
    DaskroiWarning
        A region is constant, or not finite in some frames.

    Notes
    -----
    The numbers of nilearn's ``ConnectivityMeasure``, with one difference: regions that are NaN or
    constant are NaN here and do not count, while nilearn refuses NaN, and gives constant series a
    variance by shrinking.

    Examples
    --------
    >>> from daskroi import connectome
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=60, n_regions=4)
    >>> matrix = connectome(dr.extract(run.image, run.atlas))
    >>> matrix.dims, float(matrix[1, 1].compute())
    (('region', 'other_region'), 1.0)
    """
    check_flag("vectorize", vectorize)
    check_flag("discard_diagonal", discard_diagonal)
    if vectorize and fisher_z and not discard_diagonal:
        raise DaskroiError(
            "fisher_z=True leaves no diagonal, so vectorize=True would give NaN. Add "
            "discard_diagonal=True."
        )
    measure = Measure(kind, shrinkage, standardize, fisher_z, cov_estimator)
    if kind == "tangent":
        covariances = run_covariances(series, shrinkage, cov_estimator, atlas)
        found = TangentSpace.lazy(covariances).deviations(covariances[0])
    else:
        found = run_matrices(series, measure, atlas)
    scaled = kind == "correlation" and standardize
    found = found.assign_attrs(
        kind=kind,
        covariance=measure.estimator,
        connectome_standardize="zscore_sample" if scaled else "none",
        transform="fisher z" if fisher_z else "none",
        daskroi_version=daskroi.__version__,
    )
    return sym_matrix_to_vec(found, discard_diagonal) if vectorize else found


def mean_connectome(matrices: xr.DataArray, *, fisher_z: bool = False) -> xr.DataArray:
    """Mean over runs, of each pair over the runs that have it.

    Parameters
    ----------
    matrices : DataArray, dims (run, region, other_region) or (run, edge)
        From `connectome`.
    fisher_z : bool
        Average Fisher's z of correlations, and give the correlation it stands for: less biased,
        since r is skewed where it is large.

    Returns
    -------
    DataArray, dims (region, other_region) or (edge,)
        ``n_runs`` is how many runs a pair is the mean of. NaN where there is none.

    Raises
    ------
    DaskroiError
        No ``run``; ``fisher_z`` of what is no correlation, or is z already.

    Examples
    --------
    >>> import xarray as xr
    >>> from daskroi import mean_connectome
    >>> values = [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.9], [0.9, 1.0]]]
    >>> matrices = xr.DataArray(
    ...     values, dims=("run", "region", "other_region"), attrs={"kind": "correlation"}
    ... )
    >>> mean_connectome(matrices, fisher_z=True).values.round(4)
    array([[1.    , 0.6268],
           [0.6268, 1.    ]])
    """
    _check_array(matrices)
    if RUN not in matrices.dims:
        raise DaskroiError(f"There is no dim {RUN!r} in {matrices.dims}: this is one run already.")
    if fisher_z:
        kind, transform = matrices.attrs.get("kind"), matrices.attrs.get("transform", "none")
        if kind not in CORRELATIONS or transform != "none":
            raise DaskroiError(
                f"fisher_z=True is for correlations; these are kind={kind!r}, "
                f"transform={transform!r}. Leave it out."
            )
    values = _arctanh(matrices) if fisher_z else matrices
    count = values.notnull().sum(RUN)
    # by hand: the mean of nothing warns, in every chunk
    mean = values.fillna(0.0).sum(RUN) / count.where(count > 0)
    if fisher_z:
        mean = mean.copy(data=np.tanh(mean.data))
    mean.attrs = {**matrices.attrs, "average": "fisher z" if fisher_z else "mean"}
    return mean.assign_coords(n_runs=count).rename(matrices.name)


def _arctanh(matrices: xr.DataArray) -> xr.DataArray:
    # of the diagonal it is infinite, and comes back as 1
    return xr.apply_ufunc(_arctanh_of, matrices, dask="parallelized", output_dtypes=[np.float64])


def _arctanh_of(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.arctanh(values)


def sym_matrix_to_vec(symmetric: xr.DataArray, discard_diagonal: bool = False) -> xr.DataArray:
    """The lower triangle of matrices, row by row, with the names of both ends.

    Parameters
    ----------
    symmetric : DataArray, dims (..., region, other_region)
    discard_diagonal : bool
        Otherwise the diagonal is divided by sqrt(2), as in nilearn, so that norms stay the same.

    Returns
    -------
    DataArray, dims (..., edge)
        Along ``edge``: ``region`` and ``other_region`` (ids), ``region_name`` and
        ``other_region_name``. The order is that of nilearn's function of this name.

    Raises
    ------
    DaskroiError
        There are no dims ``region`` and ``other_region``.

    Examples
    --------
    >>> import xarray as xr
    >>> from daskroi import sym_matrix_to_vec
    >>> matrix = xr.DataArray([[1.0, 0.5], [0.5, 1.0]], dims=("region", "other_region"))
    >>> sym_matrix_to_vec(matrix, discard_diagonal=True).values
    array([0.5])
    """
    _check_array(symmetric)
    if not set(PAIR) <= set(symmetric.dims):
        raise DaskroiError(f"There are no dims {PAIR} in {symmetric.dims}, so there is no matrix.")
    symmetric = symmetric.transpose(..., *PAIR)
    ends = np.tril_indices(symmetric.sizes[REGION], -1 if discard_diagonal else 0)
    values = xr.apply_ufunc(
        triangle,
        symmetric.variable,
        kwargs={"discard_diagonal": discard_diagonal},
        input_core_dims=[PAIR],
        output_core_dims=[[EDGE]],
        dask="parallelized",
        output_dtypes=[symmetric.dtype if symmetric.dtype.kind == "f" else np.float64],
        dask_gufunc_kwargs={"output_sizes": {EDGE: len(ends[0])}},
    )
    coords = {k: c.variable for k, c in symmetric.coords.items() if not {*PAIR} & {*c.dims}}
    for dim, where in zip(PAIR, ends, strict=True):
        ids = symmetric[dim].values if dim in symmetric.coords else np.arange(symmetric.sizes[dim])
        coords[dim] = xr.Variable(EDGE, ids[where])
        name = f"{dim}_name"
        if name in symmetric.coords:
            coords[name] = xr.Variable(EDGE, symmetric[name].data[where])
    return xr.DataArray(values, coords, name=symmetric.name, attrs=symmetric.attrs)


def vec_to_sym_matrix(vec: xr.DataArray, diagonal: Any = None) -> xr.DataArray:
    """Matrices of `sym_matrix_to_vec`, back, with the regions on both axes.

    Parameters
    ----------
    vec : DataArray, dims (..., edge)
    diagonal : float or array (..., region), optional
        Where it was discarded: what stands on it. 1 for correlations and NaN for all else, if not
        given. (nilearn's function wants it divided by sqrt(2).)

    Returns
    -------
    DataArray, dims (..., region, other_region)

    Raises
    ------
    DaskroiError
        These are not all edges of a set of regions.

    Examples
    --------
    >>> import xarray as xr
    >>> from daskroi import sym_matrix_to_vec, vec_to_sym_matrix
    >>> matrix = xr.DataArray([[1.0, 0.5], [0.5, 1.0]], dims=("region", "other_region"))
    >>> vec_to_sym_matrix(sym_matrix_to_vec(matrix)).values.round(6)
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    _check_array(vec)
    if EDGE not in vec.dims or not set(PAIR) <= set(vec.coords):
        raise DaskroiError(
            f"There is no dim {EDGE!r} with coordinates {PAIR} in {vec.dims}. Give what "
            "sym_matrix_to_vec, or connectome with vectorize=True, has returned."
        )
    vec = vec.transpose(..., EDGE)
    rows, columns = vec[REGION].values, vec[OTHER].values
    without = not bool((rows == columns).any())
    if without and diagonal is None:
        plain = vec.attrs.get("kind") in CORRELATIONS and vec.attrs.get("transform") == "none"
        diagonal = 1.0 if plain else np.nan
    n_edge = vec.sizes[EDGE]
    n_region = len(square(np.empty(n_edge), diagonal=0.0 if without else None)) if n_edge else 0
    if without:
        diagonal = _checked_diagonal(diagonal, n_region)
    # the last row has them all, but for its own end where the diagonal is not there
    last = slice(n_edge - (n_region - without), n_edge)
    ids = _of_last_row(vec, last, without, "")
    ends = np.tril_indices(n_region, -1 if without else 0)
    if not all(np.array_equal(ids[e], v) for e, v in zip(ends, (rows, columns), strict=True)):
        raise DaskroiError(
            "The edges are not in the order of sym_matrix_to_vec, so they are not put into a "
            "matrix. Select or sort regions of the matrix, not edges."
        )
    coords = {k: c.variable for k, c in vec.coords.items() if EDGE not in c.dims}
    coords |= {dim: xr.Variable(dim, ids) for dim in PAIR}
    if f"{REGION}_name" in vec.coords and f"{OTHER}_name" in vec.coords:
        names = _of_last_row(vec, last, without, "_name")
        coords |= {f"{dim}_name": xr.Variable(dim, names) for dim in PAIR}
    values = xr.apply_ufunc(
        square,
        vec.variable,
        kwargs={"diagonal": diagonal},
        input_core_dims=[[EDGE]],
        output_core_dims=[PAIR],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": dict.fromkeys(PAIR, n_region)},
    )
    return xr.DataArray(values, coords, name=vec.name, attrs=vec.attrs)


def _check_array(matrices: Any) -> None:
    if not isinstance(matrices, xr.DataArray):
        raise DaskroiTypeError(
            f"A connectome is a DataArray, not a {type(matrices).__name__}. Give what "
            "daskroi.connectome returns."
        )


def _checked_diagonal(diagonal: Any, n_region: int) -> Any:
    """Numbers that stand on a diagonal: one for all, or one each."""
    try:
        values = np.asarray(diagonal, np.float64)
        return np.broadcast_to(values, (*values.shape[:-1], n_region))
    except (TypeError, ValueError) as error:
        raise DaskroiError(
            f"diagonal={brief(diagonal)} does not fit {n_region} regions. Give a number, or one "
            "per region."
        ) from error


def _of_last_row(vec: xr.DataArray, last: slice, without: bool, what: str) -> Any:
    # names may be lazy: xarray's chunk() takes coordinates along
    found = vec[f"{OTHER}{what}"].data[last]
    return np.concatenate([found, vec[f"{REGION}{what}"].data[-1:]]) if without else found
