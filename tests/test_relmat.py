"""Connectomes as files: XCP-D's names, the series' region names, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from daskroi.connectivity import KINDS
from daskroi.connectome import connectome, mean_connectome
from daskroi.connectomefiles import CHOICES, ConnectomeFiles
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError
from daskroi.outputs import NotWrittenError
from daskroi.relmat import (
    STATS,
    read_relmat,
    relmat_is_current,
    relmat_paths,
    stat_of,
    write_relmat,
)
from daskroi.store import write_run

NAMES = ["V1", "V1", 'the "quoted"', "unknown", "a\tb", "lost"]


def series(seed: int = 0, dtype: str = "f8") -> xr.DataArray:
    values = np.random.default_rng(seed).normal(size=(40, 6))
    values[:, 5] = np.nan
    coords = {
        "time": ("time", np.arange(40) * 2.0, {"units": "s", "t_r": 2.0}),
        "region": [3, 5, 7, 11, 13, 17],
        "region_name": ("region", np.array(NAMES, object)),
        "n_voxels": ("region", [4, 4, 4, 4, 4, 0]),
        "coverage": ("region", [1, 1, 0.5, 1, 1, np.nan]),
        "size_mm3": ("region", np.arange(6) * 8.0),
    }
    attrs = {"atlas": "My-Atlas 2", "atlas_hash": "abc", "atlas_source": "atlas.nii.gz"}
    return xr.DataArray(values.astype(dtype), coords, ("time", "region"), attrs=attrs)


def test_a_matrix_comes_back_as_it_was(tmp_path):
    matrix = connectome(series(), shrinkage=None)
    paths = write_relmat(matrix, tmp_path / "sub-01", "sub-01_task-rest", sources=["bids::x.tsv"])
    assert paths.matrix.name == (
        "sub-01_task-rest_atlas-MyAtlas2_stat-pearsoncorrelation_relmat.tsv"
    )
    assert sorted(p.name for p in paths.matrix.parent.iterdir()) == [
        paths.sidecar.name,
        paths.matrix.name,
    ]
    back = read_relmat(paths.matrix)
    xr.testing.assert_equal(back, matrix)  # all coordinates as well
    assert back.attrs["kind"] == "correlation"
    assert back.attrs["n_frames"] == 40
    assert (back.attrs["atlas"], back.attrs["atlas_hash"]) == ("My-Atlas 2", "abc")
    assert stat_of(back.attrs) == stat_of(matrix.attrs)
    # once more from what was read
    again = write_relmat(back, tmp_path / "again", "sub-01_task-rest")
    assert again.matrix.read_bytes() == paths.matrix.read_bytes()


def test_the_table_is_what_scripts_for_xcp_d_read(tmp_path):
    matrix = connectome(series(), shrinkage=None)
    paths = write_relmat(matrix, tmp_path, "sub-01")
    table = pd.read_table(paths.matrix, index_col="Node", na_values="n/a")
    assert table.index.tolist() == table.columns.tolist()
    # pandas below 3 reads the last bit as it likes; `read_relmat` is exact, below
    np.testing.assert_allclose(table.to_numpy(), matrix.values, rtol=1e-14)
    assert "n/a" in paths.matrix.read_text()
    # the nodes are called what the series' columns are
    written = write_run(series(), tmp_path, "sub-01")
    header = pd.read_table(written.timeseries, nrows=0).columns.tolist()
    assert header == table.columns.tolist()
    assert header == ["V1_3", "V1_5", 'the "quoted"', "11", "a b", "lost"]


def test_the_sidecar_says_what_it_is(tmp_path):
    paths = write_relmat(
        connectome(series()), tmp_path, "sub-01", sources=["bids::a"], more={"SeriesSHA256": "x"}
    )
    said = json.loads(paths.sidecar.read_text())
    assert said["RelationshipMeasure"] == "Pearson correlation of shrunk covariance"
    expected = {
        "Weighted": True,
        "Directed": False,
        "ValidDiagonal": False,
        "StorageFormat": "Full",
        "NodeFiles": ["atlas.nii.gz"],
        "Sources": ["bids::a"],
        "ConnectivityKind": "correlation",
        "CovarianceEstimator": "ledoit_wolf",
        "NumberOfVolumes": 40,
        "Atlas": {"Name": "My-Atlas 2", "SHA256": "abc"},
        "SeriesSHA256": "x",
    }
    assert {k: said[k] for k in expected} == expected
    assert said["Regions"]["coverage"][-1] is None
    assert relmat_is_current(paths, {"SeriesSHA256": "x"})
    assert not relmat_is_current(paths, {"SeriesSHA256": "y"})
    paths.matrix.unlink()
    assert not relmat_is_current(paths, {})


def test_every_kind_has_a_name_of_its_own(tmp_path):
    found = {}
    for kind in KINDS:
        for shrinkage in ("ledoit_wolf", None):
            for z in (False, True):
                if z and "correlation" not in kind:
                    continue
                runs = [series(i) for i in range(2)] if kind == "tangent" else series()
                matrix = connectome(runs, kind, shrinkage=shrinkage, fisher_z=z)
                matrix = matrix.isel(run=0) if kind == "tangent" else matrix
                paths = write_relmat(matrix, tmp_path, "sub-01")
                xr.testing.assert_equal(
                    read_relmat(paths.matrix).drop_attrs(),
                    matrix.drop_attrs().drop_vars(["run", "n_frames"], errors="ignore"),
                )
                found.setdefault(stat_of(matrix.attrs)[0], set()).add((kind, z))
    assert all(len(kinds) == 1 for kinds in found.values())
    assert set(found) == {label for label, _ in STATS.values()}
    assert all(label.isalnum() for label in found)


def test_a_groups_mean(tmp_path):
    mean = mean_connectome(connectome([series(i) for i in range(3)], shrinkage=None), fisher_z=True)
    paths = write_relmat(mean, tmp_path, "task-rest")
    back = read_relmat(paths.matrix)
    np.testing.assert_array_equal(back, mean)
    assert back.attrs["average"] == "fisher z"


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_digits_are_enough(tmp_path, dtype):
    matrix = connectome(series()).astype(dtype)
    back = read_relmat(write_relmat(matrix, tmp_path, "x").matrix)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, matrix)


def test_urls(s3: Any):
    matrix = connectome(series(), shrinkage=None)
    out = f"s3://{s3.bucket}/out"
    paths = write_relmat(matrix, out, "sub-01", storage_options=s3.options)
    back = read_relmat(str(paths.matrix), storage_options=s3.options)
    xr.testing.assert_equal(back, matrix)
    assert relmat_is_current(paths, {})


def test_matrices_of_others(tmp_path):
    path = tmp_path / "sub-01_atlas-4S_stat-pearsoncorrelation_relmat.tsv"
    path.write_text("Node\tA\tB\nA\t1.0\tn/a\nB\tn/a\t1.0\n")
    for sidecar in (None, {"RelationshipMeasure": "Pearson correlation coefficient"}):
        if sidecar:
            path.with_suffix(".json").write_text(json.dumps(sidecar))
        found = read_relmat(path)
        assert found.region.values.tolist() == [1, 2]
        assert found.region_name.values.tolist() == ["A", "B"]
        assert np.isnan(found[0, 1])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "it is empty"),
        ("Node\tA\tB\nA\t1\t0\n", "not a square table"),
        ("Node\tA\tB\nB\t1\t0\nA\t0\t1\n", "not a square table"),
        ("Node\tA\nA\tx\n", "could not convert string to float: 'x'"),
        ("Node\tA\tB\nA\t1\nB\t0\t1\n", "inhomogeneous"),
        ("x" * 200_000, "field larger than field limit"),
        ("\udcff", "codec can't decode"),
    ],
)
def test_damaged_tables(tmp_path: Path, text: str, match: str):
    path = tmp_path / "x_relmat.tsv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DaskroiError, match=f"is no connectome, .*{match}.* Write it again"):
        read_relmat(path)


@pytest.mark.parametrize(
    "sidecar",
    [
        {"Atlas": "AAL"},
        {"Atlas": {}},
        {"DataType": "flurb"},
        {"Regions": {"name": ["A"]}},
        {"Regions": [1]},
        {"Regions": {"index": [1], "coverage": [0, 1]}},
    ],
)
def test_sidecars_of_something_else(tmp_path: Path, sidecar: Any):
    path = tmp_path / "x_relmat.tsv"
    path.write_text("Node\tA\nA\t1\n")
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    with pytest.raises(DaskroiError, match="its sidecar not that of one"):
        read_relmat(path)


def test_refusals(tmp_path):
    matrix = connectome(series())
    with pytest.raises(DaskroiTypeError, match="The matrix is lazy"):
        write_relmat(matrix.chunk(), tmp_path, "x")
    with pytest.raises(DaskroiError, match=r"one matrix .* run by run"):
        write_relmat(connectome([series(), series(1)]), tmp_path, "x")
    with pytest.raises(DaskroiError, match="kind=None has no name"):
        write_relmat(matrix.drop_attrs(), tmp_path, "x")
    with pytest.raises(DaskroiNotFoundError):
        read_relmat(tmp_path / "none.tsv")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWrittenError, match="cannot be written"):
        write_relmat(matrix, tmp_path / "file", "x")
    assert relmat_paths(tmp_path, "x", "").matrix.name.startswith("x_atlas-unnamed_stat-pearson")


@pytest.mark.parametrize("choice", CHOICES)
def test_the_matrix_beside_a_runs_series(tmp_path, choice):
    files = ConnectomeFiles(choice)
    written = write_run(series(), tmp_path, "sub-01_task-rest")
    assert not files.is_current(written)
    assert files.ensure(written)
    paths = files.paths_of(written)
    kind, shrinkage = CHOICES[choice]
    expected = connectome(series(), kind, shrinkage=shrinkage)
    assert stat_of(expected.attrs)[0] in paths.matrix.name
    np.testing.assert_array_equal(read_relmat(paths.matrix), expected)
    before = paths.matrix.stat().st_mtime_ns
    assert not files.ensure(written)
    assert paths.matrix.stat().st_mtime_ns == before
    # other series: another matrix
    again = write_run(series(1), tmp_path, "sub-01_task-rest", more={"Run": 2})
    assert not files.is_current(again)
    assert files.ensure(again)
    # by what a worker has in hand, the same bytes
    texts = files.contents(series(1), again, again.sidecar.read_text())
    assert texts[paths.matrix] == paths.matrix.read_text()
    assert json.loads(texts[paths.sidecar])["Sources"] == [again.timeseries.name]


def test_series_that_are_just_being_replaced_have_no_connectome(tmp_path):
    # two processes, one cohort: the sidecar goes first and comes last
    written = write_run(series(), tmp_path, "sub-01_task-rest")
    files = ConnectomeFiles("correlation")
    assert files.ensure(written)
    written.sidecar.unlink()
    assert not files.is_current(written)


def test_the_choices():
    assert set(CHOICES) == {"correlation", "covariance", "partial-correlation", "precision"}
    with pytest.raises(DaskroiError, match="connectome='tangent' is not known"):
        ConnectomeFiles("tangent")
