"""The tangent space of several runs: new runs, lost regions, what is refused."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from connectomeruns import nilearn, run
from nilearn.connectome import ConnectivityMeasure
from sklearn import covariance as estimators

from daskroi.connectome import TangentSpace, connectome
from daskroi.errors import DaskroiError, DaskroiWarning


def test_tangent_space_takes_new_runs():
    series = [run(i, 50 + i) for i in range(5)]
    fitted = ConnectivityMeasure(kind="tangent")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted.fit([s.values for s in series[:3]])
        expected = fitted.transform([s.values for s in series[3:]])
    space = TangentSpace.fit([s.chunk() for s in series[:3]])
    assert space.n_runs == 3
    assert space.mean.chunks is None
    np.testing.assert_allclose(space.mean, fitted.mean_, rtol=1e-6)
    np.testing.assert_allclose(space.whitening, fitted.whitening_, rtol=1e-6, atol=1e-9)
    found = space.transform(series[3:])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    one = space.transform(series[4].chunk())
    assert one.chunks is not None
    np.testing.assert_allclose(one, expected[1], rtol=1e-6, atol=1e-9)
    assert one.attrs["kind"] == "tangent"
    back = space.inverse_transform(found)
    assert back.attrs["kind"] == "covariance"
    np.testing.assert_allclose(back, connectome(series[3:], "covariance"), rtol=1e-9)
    again = pickle.loads(pickle.dumps(space)).transform(series[3:])
    np.testing.assert_array_equal(again, found)
    np.testing.assert_allclose(
        connectome(series[:3], "tangent"), space.transform(series[:3]), rtol=1e-12, atol=1e-12
    )


def test_tangent_space_is_of_regions_that_all_runs_have():
    series = [run(i, 50) for i in range(3)]
    series[1][:, 2] = np.nan
    with pytest.warns(DaskroiWarning, match=r"1 regions \(25\) are missing in some of 3 runs"):
        found = connectome(series, "tangent", shrinkage=None)
    rest = [0, 1, 3, 4, 5]
    assert np.isnan(found[:, 2]).all()
    estimator = estimators.EmpiricalCovariance(store_precision=False)
    expected = nilearn([s.isel(region=rest) for s in series], "tangent", estimator)
    np.testing.assert_allclose(found[:, rest][:, :, rest], expected, rtol=1e-6, atol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        space = TangentSpace.fit(series)
    new = run(7)
    assert np.isfinite(space.transform(new).isel(region=rest, other_region=rest)).all()
    new[:, 4] = np.nan
    with pytest.raises(DaskroiError, match=r"run x: lacks 1 regions of the tangent space \(45\)"):
        space.transform({"x": new})
    # lost in all runs: nothing new
    for one in series:
        one[:, 2] = np.nan
    assert np.isnan(connectome(series, "tangent")[:, 2]).all()


def test_tangent_space_refuses():
    with pytest.raises(DaskroiError, match="this is a single run"):
        connectome(run(), "tangent")
    with pytest.raises(DaskroiError, match="this is a single run"):
        TangentSpace.fit([run()])
    few = [run(i, 5) for i in range(2)]
    with pytest.raises(DaskroiError, match=r"run 0: its covariance of 6 regions is singular"):
        connectome(few, "tangent", shrinkage=None)
    with pytest.raises(DaskroiError, match=r"The runs have 5 regions, which are not the 6"):
        TangentSpace.fit(few).transform(run(n_region=5))
    few[1][:] = np.nan
    with (
        pytest.warns(DaskroiWarning, match="run 1: all series are NaN"),
        pytest.raises(DaskroiError, match=r"No region is there in all 2 .* in run 1"),
    ):
        connectome(few, "tangent")
