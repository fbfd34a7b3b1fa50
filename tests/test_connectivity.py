"""Connectivity in NumPy, against scikit-learn and nilearn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn import connectome as oracle
from sklearn import covariance as estimators

from daskroi import connectivity as con
from daskroi import spd
from daskroi.errors import DaskroiError, DaskroiWarning


def series(seed: int, n_time: int, n_region: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n_time, n_region)) @ rng.normal(size=(n_region, n_region))
    return scale * mixed + 100 * scale


shapes = st.tuples(st.integers(0, 999), st.integers(2, 60), st.integers(1, 30))
scales = st.sampled_from([1e-6, 1.0, 1e4])


@given(shapes, scales)
def test_ledoit_wolf_is_scikit_learns(shape, scale):
    values = series(*shape, scale)
    centred = values - values.mean(axis=0)
    expected = estimators.LedoitWolf(store_precision=False).fit(values)
    amount = con.ledoit_wolf(centred, centred.T @ centred / len(centred))
    assert 0 <= amount <= 1
    np.testing.assert_allclose(amount, expected.shrinkage_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        con.covariance(centred), expected.covariance_, rtol=1e-7, atol=1e-9 * scale**2
    )


@given(shapes, st.floats(0, 1))
def test_fixed_shrinkage_is_scikit_learns(shape, amount):
    values = series(*shape)
    centred = values - values.mean(axis=0)
    expected = estimators.ShrunkCovariance(shrinkage=amount, store_precision=False).fit(values)
    np.testing.assert_allclose(
        con.covariance(centred, amount), expected.covariance_, rtol=1e-9, atol=1e-9
    )


def test_nothing_to_shrink():
    centred = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    np.testing.assert_allclose(con.covariance(centred), np.eye(2))
    assert con.ledoit_wolf(np.array([[1.0], [-1.0]]), np.eye(1)) == 0


@given(st.integers(0, 99), st.integers(2, 6), st.integers(1, 8))
@settings(max_examples=30)
def test_geometric_mean_is_nilearns(seed, n_runs, n_region):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(n_runs, n_region, n_region + 5))
    matrices = roots @ roots.transpose(0, 2, 1) + np.eye(n_region)
    expected = oracle.connectivity_matrices._geometric_mean(list(matrices), max_iter=30, tol=1e-7)
    np.testing.assert_allclose(spd.geometric_mean(matrices), expected, rtol=1e-8, atol=1e-10)


def test_a_mean_that_has_not_converged_says_so():
    matrices = np.array([np.diag([1.0, 1e8]), np.array([[1e8, 1e3], [1e3, 1.0]])])
    with pytest.warns(DaskroiWarning, match=r"2 covariances has not converged in 1 steps"):
        spd.geometric_mean(matrices, max_iter=1)


def test_inverse_and_its_refusal():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(20, 40))
    matrix = root @ root.T
    found = spd.inverse(matrix, "no")
    np.testing.assert_allclose(found @ matrix, np.eye(20), atol=1e-10)
    np.testing.assert_array_equal(found, found.T)
    twice = np.vstack([root, root[:1]])  # one region twice
    for bad in (twice @ twice.T, -matrix, np.zeros((2, 2))):
        with pytest.raises(DaskroiError, match="singular here"):
            spd.inverse(bad, "singular here")


@given(st.integers(1, 9), st.booleans(), st.integers(0, 2))
def test_triangles_are_nilearns_and_come_back(n_region, discard, n_extra):
    rng = np.random.default_rng(n_region)
    values = rng.normal(size=(*(2,) * n_extra, n_region, n_region))
    values += np.swapaxes(values, -1, -2)
    edges = con.triangle(values, discard)
    np.testing.assert_array_equal(edges, oracle.sym_matrix_to_vec(values, discard))
    step = np.arange(n_region)
    diagonal = values[..., step, step] if discard else None
    np.testing.assert_allclose(con.square(edges, diagonal), values, rtol=1e-15)


def test_edges_of_no_matrix_are_refused():
    with pytest.raises(DaskroiError, match="4 edges are not the triangle of a matrix with its"):
        con.square(np.zeros(4))
    with pytest.raises(DaskroiError, match=r"4 edges .* without its diagonal"):
        con.square(np.zeros(4), diagonal=1.0)


KINDS = [k for k in con.KINDS if k != "tangent"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shrinkage", ["ledoit_wolf", None, 0.1])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_regions_that_are_not_there_do_not_count(kind, shrinkage, dtype):
    measure = con.Measure(kind, shrinkage)
    values = series(0, 50, 6, 100).astype(dtype)
    alone = con.connectivity(values, measure)
    rest = np.array([0, 2, 3, 5, 6, 8])
    more = np.full((50, 9), np.nan, "f4" if dtype == "f4" else "f8")
    more[:, rest] = values
    more[:, 4] = 1234.567  # constant; its mean rounds
    more[:, 7] = values[:, 0]
    more[7:9, 7] = np.inf
    with pytest.warns(DaskroiWarning) as said:
        found = con.connectivity(more, measure, np.arange(11, 20), "bold.nii")
    assert [str(w.message).split(".")[0] for w in said] == ["bold"] * 2
    assert "bold.nii: region 18 is not finite in some frames" in str(said[0].message)
    assert "bold.nii: region 15 is constant" in str(said[1].message)
    np.testing.assert_allclose(found[np.ix_(rest, rest)], alone, rtol=1e-9)
    lost = np.setdiff1d(np.arange(9), rest)
    assert np.isnan(found[lost]).all()
    assert np.isnan(found[:, lost]).all()


def test_frames_that_are_nan_everywhere_were_censored():
    values = series(1, 40, 5)
    keep = np.ones(40, bool)
    keep[[0, 3, 4, 39]] = False
    holed = np.where(keep[:, None], values, np.nan)
    measure = con.Measure("partial correlation")
    np.testing.assert_array_equal(
        con.connectivity(holed, measure), con.connectivity(values[keep], measure)
    )


def test_what_has_no_answer_says_so():
    values = series(2, 10, 12)
    for kind in ("precision", "partial correlation"):
        with pytest.raises(DaskroiError, match=r"run 7: the covariance of 12 regions in 10 frames"):
            con.connectivity(values, con.Measure(kind, None), run="run 7")
        assert np.isfinite(con.connectivity(values, con.Measure(kind))).all()
    with pytest.raises(DaskroiError, match=r"1 frame is no series"):
        con.connectivity(values[:1], con.Measure())
    with pytest.warns(DaskroiWarning, match="bold: all series are NaN"):
        assert np.isnan(con.connectivity(values * np.nan, con.Measure(), run="bold")).all()
    with pytest.warns(DaskroiWarning, match=r"3 regions \(0, 1, 2\) are constant"):
        assert np.isnan(con.connectivity(np.ones((9, 3)), con.Measure())).all()
    with pytest.warns(DaskroiWarning, match=r"7 regions \(0, 1, 2, 3, 4 and 2 more\) are constant"):
        con.connectivity(np.ones((9, 7)), con.Measure())


def test_fisher_z():
    values = series(3, 40, 5)
    values = np.column_stack([values, values[:, 0]])  # one twice: r is 1
    r = con.connectivity(values, con.Measure(shrinkage=None))
    z = con.connectivity(values, con.Measure(shrinkage=None, fisher_z=True))
    assert np.isnan(np.diag(z)).all()
    off = ~np.eye(6, dtype=bool)
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(z[off], np.arctanh(r[off]))
    assert r.max() == 1
    assert z[0, 5] > 15


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "pearson"}, "kind='pearson' is not known. Use one of: 'correlation'"),
        ({"kind": "covariance", "fisher_z": True}, "fisher_z=True is for correlations; kind='cov"),
        ({"shrinkage": "oas"}, "shrinkage='oas' is not known"),
        ({"shrinkage": True}, "shrinkage=True is not known"),
        ({"shrinkage": 1.5}, "shrinkage=1.5 is not between 0 and 1"),
        ({"standardize": "psc"}, "standardize='psc' is not known"),
        ({"cov_estimator": estimators.OAS}, "has no fit method"),
        ({"cov_estimator": "oas"}, "has no fit method"),
    ],
)
def test_bad_measures(options, match):
    with pytest.raises(DaskroiError, match=match):
        con.Measure(**options)


def test_estimators_have_names():
    assert con.Measure().estimator == "ledoit_wolf"
    assert con.Measure(shrinkage=None).estimator == "empirical"
    assert con.Measure(shrinkage=0.25).estimator == "shrunk 0.25"
    assert con.Measure(cov_estimator=estimators.OAS()).estimator == "OAS"
