"""Connectomes of labelled series: nilearn's numbers, laziness, labels, cohorts."""

from __future__ import annotations

import dataclasses
import importlib.util
import pickle
import warnings
from pathlib import Path
from typing import Any

import cohorts
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.connectome import ConnectivityMeasure
from sklearn import covariance as estimators

import daskroi as dr
from daskroi.batch import extract_cohort
from daskroi.connectivity import KINDS, Measure
from daskroi.connectome import (
    TangentSpace,
    connectome,
    mean_connectome,
    sym_matrix_to_vec,
    vec_to_sym_matrix,
)
from daskroi.errors import DaskroiError, DaskroiTypeError, DaskroiWarning
from daskroi.runmatrices import run_matrices


def run(seed: int = 0, n_time: int = 40, n_region: int = 6, dtype: str = "f8") -> xr.DataArray:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_time, n_region)) @ rng.normal(size=(n_region, n_region)) + 50
    coords = {
        "time": ("time", np.arange(n_time) * 2.0, {"units": "s", "t_r": 2.0}),
        "region": np.arange(n_region) * 10 + 5,
        "region_name": ("region", np.array([f"R{i}" for i in range(n_region)], object)),
        "n_voxels": ("region", np.arange(n_region) + seed),
        "coverage": ("region", np.linspace(0.5, 1, n_region)),
        "size_mm3": ("region", np.arange(n_region) * 27.0),
    }
    attrs = {"atlas": "Made", "source": f"run{seed}.nii"}
    return xr.DataArray(values.astype(dtype), coords, ("time", "region"), attrs=attrs)


def nilearn(series: list[xr.DataArray], kind: str, estimator: Any = None, **options: Any) -> Any:
    measure = ConnectivityMeasure(estimator, kind, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what changes in 0.15
        return measure.fit_transform([s.values for s in series])


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


def test_building_computes_nothing(no_compute):
    series = {i: run(i).chunk(time=7) for i in range(5)}
    for kind in KINDS:
        for vectorize in (False, True):
            found = connectome(series, kind, vectorize=vectorize)
            assert found.chunks is not None
            assert vectorize or found.coverage.chunks is not None
    vec_to_sym_matrix(connectome(series, vectorize=True))
    mean_connectome(connectome(series), fisher_z=True)
    connectome(series[0], "precision")


def test_one_task_on_the_whole_time_axis():
    found = connectome(run().chunk(time=4, region=2))
    assert found.data.npartitions == 1
    layers = [n for n in found.data.dask.layers if n.startswith("connectivity")]
    assert len(layers) == 1
    few, many = (len(connectome([run(i).chunk() for i in range(n)]).data.dask) for n in (2, 12))
    assert many <= 6 * few + 12


def test_keys_hold_what_changes_the_result():
    lazy = run().chunk()
    name = run_matrices(lazy, Measure()).data.name
    assert run_matrices(lazy, Measure()).data.name == name
    other = {
        "kind": "covariance",
        "shrinkage": 0.1,
        "standardize": False,
        "fisher_z": True,
        "cov_estimator": estimators.OAS(),
    }
    assert set(other) == {f.name for f in dataclasses.fields(Measure)}
    for key, value in other.items():
        assert run_matrices(lazy, dataclasses.replace(Measure(), **{key: value})).data.name != name
    two = [Measure(cov_estimator=estimators.ShrunkCovariance(shrinkage=s)) for s in (0.1, 0.2)]
    assert len({run_matrices(lazy, m).data.name for m in two}) == 2


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


def test_the_whole_flow():
    phantom = dr.make_phantom((12, 14, 12), n_time=60, n_regions=5)
    series = dr.extract(phantom.image, phantom.atlas, detrend=True, sample_mask=np.arange(5, 60))
    found = connectome(series)
    assert found.chunks is not None
    found = found.compute()
    assert found.attrs["n_frames"] == 55
    assert found.attrs["strategy"] == "mean"
    np.testing.assert_allclose(found, nilearn([series.compute()], "correlation")[0], rtol=1e-6)


def test_cohort_zarr(tmp_path):
    runs = cohorts.write_cohort(tmp_path / "in", 3, lambda i: 12 + 3 * i)
    out = tmp_path / "out"
    atlas = cohorts.atlas()
    options = {"cohort_zarr": True, "client": "threads", "progress": False}
    extract_cohort(runs, {"A": atlas, "B": atlas}, out, **options)
    with xr.open_zarr(out / "cohort.zarr") as store:
        found = connectome(store, atlas="A")
        assert found.chunks is not None
        assert found.dims == ("run", "region", "other_region")
        assert found.coverage.dims == ("run", "region")
        found = found.compute()
        assert found.region_name.values.tolist() == atlas.names
        assert found.n_frames.values.tolist() == [12, 15, 18]
        for i, frames in enumerate(found.n_frames.values):
            one = store["A"].isel(run=i, time=slice(int(frames)))
            np.testing.assert_allclose(
                found[i], nilearn([one], "correlation")[0], rtol=1e-9, atol=1e-12
            )
            np.testing.assert_array_equal(connectome(one.compute()), found[i])
        bare = found.drop_vars(["coverage", "n_voxels", "size_mm3"])
        xr.testing.assert_equal(connectome(store["A"]).compute(), bare)
        tangent = connectome(store, "tangent", atlas="B").compute()
        np.testing.assert_allclose(tangent.mean("run"), 0, atol=1e-6)
        with pytest.raises(DaskroiError, match=r"Say which atlas\. There are: 'A', 'B'"):
            connectome(store)
        with pytest.raises(DaskroiError, match=r"atlas='C' is not in the dataset"):
            connectome(store, atlas="C")


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


def test_a_cube_of_runs_in_memory():
    cube = xr.concat([run(i) for i in range(3)], "run", coords="minimal", compat="override",
                     join="override", combine_attrs="drop")  # fmt: skip
    found = connectome(cube)
    assert found.run.values.tolist() == [0, 1, 2]
    for i in range(3):
        np.testing.assert_array_equal(found[i], connectome(run(i)))
    chunked = connectome(cube.chunk(run=2, time=10))
    assert chunked.data.numblocks == (2, 1, 1)
    np.testing.assert_array_equal(chunked, found)


def test_attributes_may_be_arrays():
    # as files have them; compared by ==, they have no truth value
    given = [run(0), run(1)]
    given = [one.assign_attrs(shared=np.arange(3), own=np.arange(n)) for n, one in enumerate(given)]
    found = connectome(given)
    assert found.attrs["shared"].tolist() == [0, 1, 2]
    assert "own" not in found.attrs


@pytest.mark.parametrize("discard", [True, False])
def test_edges_of_integers(discard):
    counts = np.array([[2, 1], [1, 2]])
    for values in (counts, da.asarray(counts)):
        matrix = xr.DataArray(values, dims=("region", "other_region"))
        edges = sym_matrix_to_vec(matrix, discard)
        assert edges.dtype == edges.compute().dtype == np.float64
        back = vec_to_sym_matrix(edges, 2.0 if discard else None)
        np.testing.assert_allclose(back, counts)


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
