"""Cohorts: the same results on threads, processes, shards and object stores."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import cohorts
import numpy as np
import pandas as pd
import pytest
from batches import BASIC, OPTIONS, spoil
from cohorts import outputs_of
from daskprocesses import local_cluster

import daskroi as dr
from daskroi.batch import extract_cohort
from daskroi.cohort import find_runs
from daskroi.readback import read_timeseries
from daskroi.targets import as_target


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with local_cluster() as client:
        yield client


def test_every_run_is_what_extract_gives(tmp_path, runs, atlas):
    done = extract_cohort(runs, atlas, tmp_path, confounds=BASIC, **OPTIONS)
    assert (done.done, done.skipped, done.failed, done.exit_code) == (5, 0, 0, 0)
    from daskroi.fmriprep import load_confounds

    for row in runs.to_dict("records"):
        confounds = load_confounds(row["confounds"], **BASIC)
        expected = dr.extract(
            row["image"],
            atlas,
            mask_img=row["mask"],
            confounds=confounds.values,
            sample_mask=confounds.sample_mask,
            standardize="zscore_sample",
        ).compute()
        [found] = (tmp_path / f"sub-{row['subject']}" / "func").glob("*_timeseries.tsv")
        back = read_timeseries(found)
        np.testing.assert_array_equal(back.values, expected.values)
        np.testing.assert_array_equal(back.time, expected.time)
        sidecar = json.loads(found.with_suffix(".json").read_text())
        assert sidecar["Confounds"] == list(confounds.values.columns)
        assert sidecar["CensoredFrames"] == {"framewise_displacement": [len(confounds.values) // 2]}
        assert sidecar["Sources"][0] == f"bids:preprocessed:{_below(row['image'], runs)}"
    table = done.runs
    assert table["status"].tolist() == ["ok"] * 5
    assert table["frames"].tolist() == [13, 10, 15, 11, 12]
    assert table["frames_kept"].tolist() == [12, 9, 14, 10, 11]
    assert (table["seconds"] > 0).all()
    assert (table["peak_memory_mb"] > 50).all()
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "daskroi"
    assert description["DatasetLinks"]["preprocessed"].startswith("file:///")
    # no temporary file, and of a run that went well no log
    assert not list(tmp_path.rglob(".*"))
    assert not list(tmp_path.glob("logs/*"))


def _below(image: str, runs: pd.DataFrame) -> str:
    root = os.path.commonpath(list(runs["image"]))
    return os.path.relpath(image, root)


def test_the_same_bytes_on_processes_and_by_two_shards(tmp_path, runs, atlas, client):
    told: dict[str, Any] = {"confounds": BASIC, **OPTIONS}
    extract_cohort(runs, atlas, tmp_path / "threads", **told)
    extract_cohort(runs, atlas, tmp_path / "cluster", **told | {"client": client})
    for i in (2, 1):
        extract_cohort(runs, atlas, tmp_path / "shards", shard=(i, 2), **told)
    expected = outputs_of(tmp_path / "threads")
    assert len(expected) == 5 * 3 + 1
    assert outputs_of(tmp_path / "cluster") == expected
    assert outputs_of(tmp_path / "shards") == expected
    # the tables of both shards, together, in order
    for name in ("cluster", "shards"):
        table = pd.read_csv(tmp_path / name / "runs.tsv", sep="\t")
        assert table["run"].tolist() == [
            f"sub-0{i}/func/sub-0{i}_task-rest_space-MNI152NLin6Asym" for i in range(1, 6)
        ]
    shards = sorted(p.name for p in (tmp_path / "shards" / "logs").iterdir())
    assert shards == ["runs_shard-1of2.tsv", "runs_shard-2of2.tsv"]
    # the whole cohort at once makes them superfluous
    extract_cohort(runs, atlas, tmp_path / "shards", **told)
    assert list((tmp_path / "shards" / "logs").iterdir()) == []


def test_a_run_is_one_task(tmp_path, runs, atlas, client):
    # what a task computes itself must not go back to the cluster: other runs would begin meanwhile
    def names(dask_scheduler: Any) -> set[str]:
        return set(dask_scheduler.task_prefixes)

    before = client.run_on_scheduler(names)
    told = OPTIONS | {"client": client, "high_variance_confounds": True}
    assert extract_cohort(runs, atlas, tmp_path, **told).done == 5
    new = client.run_on_scheduler(names) - before
    assert {name.rpartition("-")[0] or name for name in new} <= {"daskroi-run", "daskroi"}, new


def test_workers_that_do_not_see_the_folder_send_results(
    tmp_path, runs, atlas, client, monkeypatch
):
    told: dict[str, Any] = {"confounds": BASIC, **OPTIONS}
    extract_cohort(runs, atlas, tmp_path / "here", **told)

    def blind() -> None:
        from daskroi import sink

        sink.exists = lambda path: False  # type: ignore[assignment]

    def seeing() -> None:
        from daskroi import sink, targets

        sink.exists = targets.exists  # type: ignore[attr-defined]

    client.run(blind)
    try:
        extract_cohort(runs, atlas, tmp_path / "there", **told | {"client": client})
    finally:
        client.run(seeing)
    assert outputs_of(tmp_path / "there") == outputs_of(tmp_path / "here")


def test_stop_on_first_crash(tmp_path, atlas, client):
    runs = cohorts.write_cohort(tmp_path / "in", 6)
    spoil(runs.loc[0, "image"])
    for where in ("threads", client):
        out = tmp_path / type(where).__name__
        told = OPTIONS | {"client": where}
        done = extract_cohort(runs, atlas, out, stop_on_first_crash=True, max_in_flight=1, **told)
        assert (done.done, done.failed) == (0, 1)
        # what was not begun is no failure, and is done the next time
        again = extract_cohort(runs, atlas, out, **told)
        assert (again.done, again.failed) == (5, 1)


def test_results_go_to_an_object_store_and_are_found_there(runs, atlas, tmp_path, client, s3):
    out = s3.url("cohort")
    told = OPTIONS | {"confounds": BASIC, "storage_options": s3.options, "client": client}
    assert extract_cohort(runs, atlas, out, **told).done == 5
    assert extract_cohort(runs, atlas, out, **told).skipped == 5
    extract_cohort(runs, atlas, tmp_path, confounds=BASIC, **OPTIONS)
    folder = as_target(out, s3.options)
    found = {
        str(p).removeprefix(f"{out}/"): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "runs.tsv"
    }
    assert found == outputs_of(tmp_path)
    # nothing that was written has a secret in it
    everything = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    assert s3.options["secret"].encode() not in everything
    assert s3.options["secret"] not in repr(extract_cohort(runs, atlas, out, **told).out)


def test_runs_in_a_bucket_are_those_on_disk(tmp_path, dataset, runs, atlas, client, s3):
    s3.filesystem.put(str(dataset), f"{s3.bucket}/fmriprep", recursive=True)
    there = find_runs(s3.url("fmriprep"), storage_options=s3.options)
    assert len(there) == 5
    told = OPTIONS | {"confounds": BASIC}
    remote = told | {"client": client, "storage_options": s3.options}
    assert extract_cohort(there, atlas, tmp_path / "a", **remote).done == 5
    assert extract_cohort(runs, atlas, tmp_path / "b", **told).done == 5
    tables = [sorted((tmp_path / o).rglob("sub-*.tsv")) for o in "ab"]
    assert [p.read_bytes() for p in tables[0]] == [p.read_bytes() for p in tables[1]]
    assert extract_cohort(there, atlas, tmp_path / "a", **remote).skipped == 5
    sidecar = json.loads(next((tmp_path / "a").rglob("*_timeseries.json")).read_text())
    assert sidecar["Sources"][0].startswith("bids:preprocessed:sub-")
    assert sidecar["Inputs"]["image"][0]["Version"]
    plan = extract_cohort(there, atlas, tmp_path / "c", dry_run=True, **remote)
    assert plan.read_bytes == sum(os.path.getsize(p) for p in runs["image"])
