"""Connectomes as edges and back, and their mean over runs."""

from __future__ import annotations

import warnings

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from connectomeruns import run

from daskroi.connectome import connectome, mean_connectome, sym_matrix_to_vec, vec_to_sym_matrix
from daskroi.errors import DaskroiError


def test_edges_and_back():
    series = {"a": run(0), "b": run(1)}
    for form in (series, {k: v.chunk() for k, v in series.items()}):
        matrices = connectome(form)
        for discard in (False, True):
            edges = sym_matrix_to_vec(matrices, discard)
            assert edges.dims == ("run", "edge")
            xr.testing.assert_equal(
                connectome(form, vectorize=True, discard_diagonal=discard).compute(),
                edges.compute(),
            )
            where = 7
            a, b = int(edges.region[where]), int(edges.other_region[where])
            np.testing.assert_allclose(
                edges[:, where], matrices.sel(region=a, other_region=b), rtol=1e-15
            )
            assert edges.region_name[where] == matrices.region_name.sel(region=a)
            assert edges.other_region_name[where] == matrices.region_name.sel(region=b)
            back = vec_to_sym_matrix(edges)
            assert back.region_name.values.tolist() == matrices.region_name.values.tolist()
            xr.testing.assert_allclose(
                back.compute(), matrices.drop_vars(["coverage", "n_voxels", "size_mm3"]).compute()
            )
    z = connectome(series, fisher_z=True, vectorize=True, discard_diagonal=True)
    back = vec_to_sym_matrix(z)
    assert np.isnan(back.values[:, np.arange(6), np.arange(6)]).all()
    assert float(vec_to_sym_matrix(z, diagonal=0.0)[0, 3, 3]) == 0
    with pytest.raises(DaskroiError, match="not in the order"):
        vec_to_sym_matrix(z.isel(edge=slice(None, None, -1)))
    with pytest.raises(DaskroiError, match="14 edges are not the triangle"):
        vec_to_sym_matrix(z.isel(edge=slice(1, None)))
    with pytest.raises(DaskroiError, match="no dim 'edge'"):
        vec_to_sym_matrix(run())
    with pytest.raises(DaskroiError, match="there is no matrix"):
        sym_matrix_to_vec(run())
    with pytest.raises(DaskroiError, match="Add discard_diagonal=True"):
        connectome(series, fisher_z=True, vectorize=True)


def test_group_mean():
    series = [run(i) for i in range(3)]
    series[1][:, 2] = np.nan
    for one in series:
        one[:, 5] = np.nan
    matrices = connectome(series)
    found = mean_connectome(matrices)
    assert found.dims == ("region", "other_region")
    assert int(found.n_runs[0, 1]) == 3
    assert int(found.n_runs[0, 2]) == 2
    assert int(found.n_runs[5, 5]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(found, np.nanmean(matrices, axis=0), rtol=1e-12)
        z = np.tanh(np.nanmean(np.arctanh(matrices), axis=0))
    averaged = mean_connectome(matrices, fisher_z=True)
    np.testing.assert_allclose(averaged, z, rtol=1e-12)
    assert (np.diag(averaged)[:5] == 1).all()
    assert averaged.attrs["average"] == "fisher z"
    assert averaged.region_name.values.tolist() == series[0].region_name.values.tolist()
    lazy = connectome([s.chunk() for s in series])
    xr.testing.assert_allclose(mean_connectome(lazy, fisher_z=True).compute(), averaged)
    edges = connectome(series, vectorize=True, discard_diagonal=True)
    np.testing.assert_allclose(
        mean_connectome(edges), sym_matrix_to_vec(found, discard_diagonal=True)
    )
    with pytest.raises(DaskroiError, match="this is one run already"):
        mean_connectome(found)
    for bad in (connectome(series, "covariance"), connectome(series, fisher_z=True)):
        with pytest.raises(DaskroiError, match="fisher_z=True is for correlations; these are"):
            mean_connectome(bad, fisher_z=True)


@pytest.mark.parametrize("discard", [True, False])
def test_edges_of_integers(discard):
    counts = np.array([[2, 1], [1, 2]])
    for values in (counts, da.asarray(counts)):
        matrix = xr.DataArray(values, dims=("region", "other_region"))
        edges = sym_matrix_to_vec(matrix, discard)
        assert edges.dtype == edges.compute().dtype == np.float64
        back = vec_to_sym_matrix(edges, 2.0 if discard else None)
        np.testing.assert_allclose(back, counts)
