"""Connectomes and Parquet files beside the series of runs: made with them, or of them later."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pandas as pd
import pytest
from cohorts import outputs_of
from daskprocesses import local_cluster

from daskroi.batch import extract_cohort
from daskroi.beside import beside_of
from daskroi.connectome import connectome
from daskroi.errors import DaskroiError
from daskroi.readback import read_timeseries
from daskroi.relmat import read_relmat
from daskroi.store import named_paths
from daskroi.targets import as_target

TOLD: dict[str, Any] = {"progress": False, "client": "threads", "min_coverage": 0.9}
BOTH: dict[str, Any] = {"connectome": "correlation", "parquet": True}
N_RUNS = 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Three runs; not to be changed."""
    return cohorts.write_cohort(tmp_path_factory.mktemp("data") / "in", N_RUNS, lambda i: 14 + i)


@pytest.fixture(scope="module")
def atlas() -> Any:
    return cohorts.atlas()


@pytest.fixture(scope="module")
def whole(runs: pd.DataFrame, atlas: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything, made at once; not to be changed."""
    pytest.importorskip("pyarrow")
    out = tmp_path_factory.mktemp("whole")
    assert extract_cohort(runs, atlas, out, **TOLD, **BOTH).done == N_RUNS
    return out


@pytest.fixture
def images_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No image is opened in this test."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr("daskroi.openimage.open_image", refuse)


def of(out: Path, ending: str) -> list[Path]:
    return sorted(out.rglob(f"*{ending}"))


@pytest.mark.parametrize(
    "choice", ["correlation", "covariance", "partial-correlation", "precision"]
)
def test_matrices_are_those_of_the_function(tmp_path, runs, atlas, choice):
    extract_cohort(runs, atlas, tmp_path, connectome=choice, **TOLD)
    matrices = of(tmp_path, "_relmat.tsv")
    assert len(matrices) == N_RUNS
    for path, table in zip(matrices, of(tmp_path, "_timeseries.tsv"), strict=True):
        shrinkage = "ledoit_wolf" if choice in ("partial-correlation", "precision") else None
        series = read_timeseries(table)
        expected = connectome(series, choice.replace("-", " "), shrinkage=shrinkage)
        np.testing.assert_array_equal(read_relmat(path).values, expected.values)
        said = json.loads(path.with_suffix(".json").read_text())
        assert said["Sources"] == [table.name]
        assert said["Atlas"] == json.loads(table.with_suffix(".json").read_text())["Atlas"]


def test_parquet_has_what_the_table_has(whole):
    import pyarrow.parquet

    for path in of(whole, ".parquet"):
        table = pd.read_csv(path.with_suffix(".tsv"), sep="\t")
        found = pd.read_parquet(path)
        assert list(found.columns) == list(table.columns)
        sidecar = json.loads(path.with_suffix(".json").read_text())
        assert {str(d) for d in found.dtypes} == {sidecar["DataType"]}
        np.testing.assert_allclose(found, table, rtol=1e-6)
        np.testing.assert_array_equal(found.to_numpy(), read_timeseries(path.with_suffix(".tsv")))
        schema = pyarrow.parquet.read_schema(path)
        assert json.loads(schema.metadata[b"region_ids"]) == sidecar["Regions"]["index"]
        # what is n/a in the table is null
        nulls = {name for name in table if table[name].isna().all()}
        columns = pyarrow.parquet.read_table(path)
        assert {n for n in columns.column_names if columns[n].null_count} == nulls
    assert len(of(whole, ".parquet")) == N_RUNS


def test_made_of_series_that_are_there_without_an_image(
    tmp_path, runs, atlas, whole, request, capsys
):
    out = tmp_path / "out"
    extract_cohort(runs, atlas, out, **TOLD)
    request.getfixturevalue("images_closed")
    plan = extract_cohort(runs, atlas, out, dry_run=True, **TOLD, **BOTH)
    text = f"Runs: {N_RUNS} (0 to do, {N_RUNS} to complete, without reading images)"
    assert plan.describe() == text
    done = extract_cohort(runs, atlas, out, **TOLD, **BOTH)
    assert (done.done, done.skipped, done.failed) == (N_RUNS, 0, 0)
    assert done.runs["frames"].tolist() == [14, 15, 16]
    assert done.runs["frames_kept"].tolist() == [14, 15, 16]
    assert outputs_of(out) == outputs_of(whole)
    # and is skipped then
    before = {p: p.stat().st_mtime_ns for p in out.rglob("sub-*.*")}
    assert extract_cohort(runs, atlas, out, **TOLD, **BOTH).skipped == N_RUNS
    # one is gone, one is damaged: these alone are made
    gone, damaged = of(out, "_relmat.json")[0], of(out, ".parquet")[1]
    gone.unlink()
    damaged.write_bytes(damaged.read_bytes()[:100])
    done = extract_cohort(runs, atlas, out, **TOLD, **BOTH)
    assert (done.done, done.skipped) == (2, 1)
    assert outputs_of(out) == outputs_of(whole)
    after = {p: p.stat().st_mtime_ns for p in out.rglob("sub-*.*")}
    assert {p for p in after if after[p] != before[p]} == {
        gone,
        gone.with_suffix(".tsv"),
        damaged,
    }


def test_changed_series_remake_what_is_beside(tmp_path, runs, atlas, whole):
    # first without, so that both stand beside series they are not of
    extract_cohort(runs, atlas, tmp_path, **TOLD | {"standardize": "psc"}, **BOTH)
    extract_cohort(runs, atlas, tmp_path, **TOLD)
    assert outputs_of(tmp_path) != outputs_of(whole)
    done = extract_cohort(runs, atlas, tmp_path, **TOLD, **BOTH)
    assert done.done == N_RUNS
    assert outputs_of(tmp_path) == outputs_of(whole)
    # all at once
    extract_cohort(runs, atlas, tmp_path, **TOLD | {"standardize": "psc"}, **BOTH)
    done = extract_cohort(runs, atlas, tmp_path, **TOLD, **BOTH)
    assert done.done == N_RUNS
    assert outputs_of(tmp_path) == outputs_of(whole)


def test_killed_while_files_come_into_place(tmp_path, runs, atlas, whole):
    one = runs[:1]
    for number in range(6):
        out = tmp_path / str(number)
        extract_cohort(one, atlas, out, **TOLD | {"standardize": "psc"}, **BOTH)
        # as `write_together` leaves it: no sidecar, and some files that are new
        order = ["relmat.tsv", "relmat.json", ".parquet", "timeseries.tsv", "coverage_bold.tsv"]
        of(out, "_timeseries.json")[0].unlink()
        for ending in order[:number]:
            path = of(out, ending)[0]
            path.write_bytes((whole / path.relative_to(out)).read_bytes())
        assert extract_cohort(one, atlas, out, **TOLD, **BOTH).done == 1
        expected = {k: v for k, v in outputs_of(whole).items() if not k.startswith("sub-0")}
        expected |= {k: v for k, v in outputs_of(whole).items() if k.startswith("sub-01")}
        assert outputs_of(out) == expected


@pytest.fixture(scope="module")
def blind_client() -> Iterator[Any]:
    """A worker that does not see the output folder."""

    def blind() -> None:
        from daskroi import sink

        sink.exists = lambda path: False  # type: ignore[assignment]

    with local_cluster(1) as client:
        client.run(blind)
        yield client


@pytest.mark.timeout(120)
def test_by_workers_that_do_not_see_the_folder(tmp_path, runs, atlas, whole, blind_client):
    told = TOLD | {"client": blind_client}
    extract_cohort(runs, atlas, tmp_path / "once", **told, **BOTH)
    assert outputs_of(tmp_path / "once") == outputs_of(whole)
    extract_cohort(runs, atlas, tmp_path / "twice", **told)
    done = extract_cohort(runs, atlas, tmp_path / "twice", **told, **BOTH)
    assert done.runs["frames"].tolist() == [14, 15, 16]
    assert outputs_of(tmp_path / "twice") == outputs_of(whole)


def test_series_stay_where_there_is_no_connectome(tmp_path, atlas, runs):
    import nibabel as nib

    image = nib.load(runs.loc[0, "image"])
    single = tmp_path / "sub-09_task-rest_bold.nii.gz"
    nib.save(image.slicer[..., 0], single)  # type: ignore[attr-defined]
    told = TOLD | {"mask": None}
    images = [str(single), runs.loc[1, "image"]]
    done = extract_cohort(images, atlas, tmp_path / "out", connectome="precision", **told)
    assert (done.done, done.failed) == (1, 1)
    assert len(of(tmp_path / "out", "_timeseries.json")) == 2
    assert len(of(tmp_path / "out", "_relmat.json")) == 1
    # it would fail again, and is not wanted again without
    again = extract_cohort(images, atlas, tmp_path / "out", connectome="precision", **told)
    assert (again.skipped, again.failed) == (1, 1)
    assert again.runs["reason"].iloc[0] == done.runs["reason"].iloc[0]
    assert extract_cohort(images, atlas, tmp_path / "out", **told).skipped == 2


def test_at_a_url(runs, atlas, whole):
    url = "memory://beside"
    for told in ({}, BOTH, BOTH):
        done = extract_cohort(runs, atlas, url, **TOLD, **told)
    assert done.skipped == N_RUNS
    for path in of(whole, "_relmat.tsv") + of(whole, ".parquet"):
        there = as_target(url) / str(path.relative_to(whole))
        assert there.read_bytes() == path.read_bytes()


def test_what_is_missing_is_said_before_a_run_starts(tmp_path, runs, atlas, monkeypatch):
    with pytest.raises(DaskroiError, match="connectome='tangent' is not known"):
        extract_cohort(runs, atlas, tmp_path / "out", connectome="tangent", **TOLD)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DaskroiError, match=r"not installed.*pip install 'daskroi\[parquet\]'"):
        extract_cohort(runs, atlas, tmp_path / "out", parquet=True, **TOLD)
    assert not os.path.exists(tmp_path / "out")


def test_all_files_of_a_kind_are_named(tmp_path):
    pytest.importorskip("pyarrow")
    series = named_paths(tmp_path, "sub-01", "AAL", "mean")
    assert [p.name for kind in beside_of("covariance", True) for p in kind.files_of(series)] == [
        "sub-01_atlas-AAL_stat-covariance_relmat.tsv",
        "sub-01_atlas-AAL_stat-covariance_relmat.json",
        "sub-01_atlas-AAL_stat-mean_timeseries.parquet",
    ]
    assert beside_of(None, parquet=False) == ()
