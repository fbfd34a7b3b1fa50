"""Connectomes of labelled series: nilearn's numbers, labels, lost regions, errors."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from connectomeruns import nilearn, run
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import covariance as estimators

from daskroi.connectivity import KINDS
from daskroi.connectome import connectome
from daskroi.errors import DaskroiError, DaskroiTypeError, DaskroiWarning

ESTIMATORS = {
    "ledoit_wolf": None,
    None: estimators.EmpiricalCovariance(store_precision=False),
    0.2: estimators.ShrunkCovariance(shrinkage=0.2, store_precision=False),
}


@given(
    st.sampled_from(KINDS),
    st.sampled_from(list(ESTIMATORS)),
    st.lists(st.integers(20, 45), min_size=2, max_size=3),
    st.integers(1, 8),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(1, 20),
)
@settings(max_examples=40)
def test_numbers_are_nilearns(kind, shrinkage, lengths, n_region, std, vector, discard, chunk):
    series = [run(i, n, n_region) for i, n in enumerate(lengths)]
    options = {"standardize": std, "vectorize": vector, "discard_diagonal": discard}
    expected = nilearn(series, kind, ESTIMATORS[shrinkage], **options)
    found = connectome(series, kind, shrinkage=shrinkage, **options)
    np.testing.assert_allclose(found.values, expected, rtol=1e-6, atol=1e-9)
    lazy = connectome([s.chunk(time=chunk) for s in series], kind, shrinkage=shrinkage, **options)
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy.values, found.values)


def test_float32_series_give_nilearns_numbers():
    series = [run(i, 60, 5, "f4") for i in range(2)]
    for kind in KINDS:
        found = connectome(series, kind)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, nilearn(series, kind), rtol=1e-4, atol=1e-4)


def test_any_estimator_of_scikit_learn():
    series = [run(i) for i in range(2)]
    estimator = estimators.OAS(store_precision=False)
    for kind in ("correlation", "precision", "tangent"):
        found = connectome(series, kind, cov_estimator=estimator)
        np.testing.assert_allclose(found, nilearn(series, kind, estimator), rtol=1e-6, atol=1e-9)
        assert found.attrs["covariance"] == "OAS"
    assert not hasattr(estimator, "covariance_")
    lost = series[0].copy()
    lost[:, 2] = np.nan
    found = connectome(lost, cov_estimator=estimator)
    expected = nilearn([lost.isel(region=[0, 1, 3, 4, 5])], "correlation", estimator)[0]
    np.testing.assert_allclose(found.dropna("region", how="all").dropna("other_region"), expected)


def test_labels_of_one_run():
    series = run()
    found = connectome(series, shrinkage=None)
    assert found.dims == ("region", "other_region")
    assert found.name == "connectome"
    for name in ("region", "region_name", "n_voxels", "coverage", "size_mm3"):
        np.testing.assert_array_equal(found[name], series[name])
    np.testing.assert_array_equal(found.other_region, series.region)
    np.testing.assert_array_equal(found.other_region_name, series.region_name)
    assert "time" not in found.coords
    assert float(found.sel(region=15, other_region=45)) == pytest.approx(
        np.corrcoef(series.sel(region=15), series.sel(region=45))[0, 1]
    )
    assert found.attrs | {"daskroi_version": ""} == {
        "atlas": "Made",
        "source": "run0.nii",
        "n_frames": 40,
        "kind": "correlation",
        "covariance": "empirical",
        "connectome_standardize": "zscore_sample",
        "transform": "none",
        "daskroi_version": "",
    }
    np.testing.assert_array_equal(connectome(series.transpose(), shrinkage=None), found)
    bare = connectome(xr.DataArray(series.values, dims=("time", "region")), shrinkage=None)
    np.testing.assert_array_equal(bare, found)
    np.testing.assert_array_equal(bare.region, range(6))


def test_labels_of_several():
    series = {"a": run(0), "b": run(1, 50)}
    found = connectome(series)
    assert found.dims == ("run", "region", "other_region")
    assert found.run.values.tolist() == ["a", "b"]
    assert found.n_frames.values.tolist() == [40, 50]
    assert found.coverage.dims == ("run", "region")
    np.testing.assert_array_equal(found.n_voxels, [series["a"].n_voxels, series["b"].n_voxels])
    assert found.size_mm3.dims == ("region",)
    assert found.attrs["atlas"] == "Made"
    assert "source" not in found.attrs  # they differ
    np.testing.assert_array_equal(found.sel(run="b"), connectome(series["b"]))
    assert connectome(list(series.values())).run.values.tolist() == [0, 1]
    assert connectome(iter(series.values())).sizes["run"] == 2


def test_results_go_to_files_and_through_pickle(tmp_path):
    found = connectome([run(0), run(1)], fisher_z=True)
    found.to_netcdf(tmp_path / "c.nc")
    with xr.open_dataarray(tmp_path / "c.nc") as back:
        xr.testing.assert_allclose(back, found)
        assert back.attrs == found.attrs
    lazy = connectome([run(0).chunk(), run(1).chunk()], "tangent")
    xr.testing.assert_equal(pickle.loads(pickle.dumps(lazy)).compute(), lazy.compute())


def test_lost_regions_stay_and_harm_nobody():
    series = run()
    series[:, 3] = np.nan
    rest = series.isel(region=[0, 1, 2, 4, 5])
    for kind in KINDS[:4]:
        for form in (series, series.chunk()):
            found = connectome(form, kind).compute()
            assert found.sizes["region"] == 6
            assert np.isnan(found[3]).all()
            kept = found.isel(region=[0, 1, 2, 4, 5], other_region=[0, 1, 2, 4, 5])
            np.testing.assert_allclose(kept, nilearn([rest], kind)[0], rtol=1e-9)


def test_warnings_name_the_run():
    bad = run(1)
    bad[:, 2] = 7
    with pytest.warns(DaskroiWarning, match=r"^run b: region 25 is constant"):
        connectome({"a": run(0), "b": bad})
    with pytest.warns(DaskroiWarning, match=r"^run1\.nii: region 25 is constant"):
        connectome(bad)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (np.zeros((9, 3)), DaskroiTypeError, "A ndarray has no region axis"),
        ("bold.nii", DaskroiTypeError, "A str has no region axis"),
        ([np.zeros((9, 3))], DaskroiTypeError, "run 0: is a ndarray, not a DataArray"),
        ([], DaskroiError, "There is no run"),
        (run(n_time=1), DaskroiError, "1 frame is no series"),
        (run().isel(time=0), DaskroiError, r"has dims \('region',\)"),
        ([run(), run().expand_dims("run")], DaskroiError, r"run 1: has dims .*; .* of \(time, reg"),
        (run().astype(complex), DaskroiTypeError, "dtype complex128, not real"),
        ([run(), run(n_region=5)], DaskroiError, r"run 1 has other regions than run 0 \(5 and 6\)"),
        ([run(), run().assign_coords(region=range(6))], DaskroiError, "has other regions"),
        (xr.Dataset(), DaskroiError, "Say which atlas. There are: none"),
    ],
)
def test_what_is_no_series_is_refused(given, error, match):
    with pytest.raises(error, match=match):
        connectome(given)


def test_atlas_is_for_datasets():
    with pytest.raises(DaskroiError, match="atlas='A' is for a dataset"):
        connectome(run(), atlas="A")


def test_attributes_may_be_arrays():
    # as files have them; compared by ==, they have no truth value
    given = [run(0), run(1)]
    given = [one.assign_attrs(shared=np.arange(3), own=np.arange(n)) for n, one in enumerate(given)]
    found = connectome(given)
    assert found.attrs["shared"].tolist() == [0, 1, 2]
    assert "own" not in found.attrs


def test_the_benchmark_runs(capsys, monkeypatch):
    for name in ("OPENBLAS", "OMP", "MKL"):  # which it would set, for the tests after this as well
        monkeypatch.setenv(f"{name}_NUM_THREADS", "1")
    path = Path(__file__).parent / "benchmarks" / "connectome.py"
    spec = importlib.util.spec_from_file_location("connectome_benchmark", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    # of so small matrices nobody is faster; that the numbers agree is what is asserted
    benchmark.main(["--regions", "8", "--frames", "30", "--runs", "2", "--repeat", "1"])
    _, *lines, last = capsys.readouterr().out.strip().split("\n")
    assert [line[:20].strip() for line in lines] == list(benchmark.KINDS)
    assert all(float(line.rpartition(" ")[2]) < 1e-6 for line in lines)
    assert last.startswith("target: ")
