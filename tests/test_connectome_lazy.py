"""Connectomes of lazy series: graphs, keys, the whole flow, cohorts."""

from __future__ import annotations

import dataclasses

import cohorts
import numpy as np
import pytest
import xarray as xr
from connectomeruns import nilearn, run
from sklearn import covariance as estimators

import daskroi as dr
from daskroi.batch import extract_cohort
from daskroi.connectivity import KINDS, Measure
from daskroi.connectome import connectome, mean_connectome, vec_to_sym_matrix
from daskroi.errors import DaskroiError
from daskroi.runmatrices import run_matrices


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
