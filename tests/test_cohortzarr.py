"""cohort.zarr: made of the tables in place, whatever happened; a run is whole or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from cohorts import outputs_of
from results import result

import daskroi as dr
from daskroi import store
from daskroi.cohortzarr import RUNS_PER_COMMIT, CohortZarr, InOrder
from daskroi.errors import DaskroiError
from daskroi.group import build_cohort_zarr
from daskroi.outputs import NotWrittenError
from daskroi.runstable import RunsTable
from daskroi.store import Written
from daskroi.targets import as_target
from daskroi.work import Job


def write(folder: Any, i: int, n_time: int = 4, change: float = 0.0) -> dict[str, Written]:
    """A run's results for two atlases."""
    rng = np.random.default_rng(i)
    found = {}
    for atlas, n_region in (("A", 3), ("B", 2)):
        recipe = json.dumps({"added": change})
        series = result(rng.normal(size=(n_time, n_region)) + change, atlas=atlas, recipe=recipe)
        found[atlas] = store.write_run(series, folder / f"r{i}", f"r{i}", n_frames=n_time)
    return found


def build(folder: Any, runs: dict[str, dict[str, Written]]) -> xr.Dataset:
    made = CohortZarr(folder)
    for name, paths in runs.items():
        made.add(name, paths)
    made.finish()
    return xr.open_zarr(str(folder / "cohort.zarr")).load()


def zarr_of(folder: Path) -> dict[str, bytes]:
    return {k: v for k, v in outputs_of(folder).items() if k.startswith("cohort.zarr")}


def fresh(folder: Path, runs: dict[str, dict[str, Written]]) -> dict[str, bytes]:
    """The store as it is when it is made at once."""
    folder.mkdir()
    build(folder, runs)
    return zarr_of(folder)


def test_runs_of_any_length_side_by_side(tmp_path):
    lengths = [4, 7, 2, 5]
    runs = {f"r{i}": write(tmp_path, i, n) for i, n in enumerate(lengths)}
    found = build(tmp_path, runs)
    assert found.run.values.tolist() == list(runs)
    assert found.n_frames.values.tolist() == lengths
    assert found.t_r.values.tolist() == [2.0] * 4
    for atlas in "AB":
        assert found[atlas].dims == ("run", "time", f"{atlas}_region")
        assert found[atlas].shape[1] == 7
        for name, paths in runs.items():
            one = dr.read_timeseries(paths[atlas].timeseries)
            there = found.sel(run=name)
            n = int(there.n_frames)
            np.testing.assert_array_equal(there[atlas][:n], one.values)
            assert np.isnan(there[atlas][n:]).all()
            np.testing.assert_array_equal(there[f"{atlas}_time"][:n], one.time)
            np.testing.assert_array_equal(there[f"{atlas}_coverage"], one.coverage)
            np.testing.assert_array_equal(found[f"{atlas}_region"], one.region)
            names = found[f"{atlas}_region_name"].values.tolist()
            assert names == one.region_name.values.tolist()
    # by id, and lazily
    lazy = xr.open_zarr(tmp_path / "cohort.zarr")
    assert lazy.A.chunks is not None
    assert lazy.A.sel(A_region=20, run="r1").shape == (7,)


WAYS = ("append", "changed", "removed", "last removed", "inserted", "longer", "shorter", "none")


@pytest.mark.parametrize("what", WAYS)
def test_a_rerun_gives_what_a_first_run_would(tmp_path, what):
    out = tmp_path / "out"
    runs = {f"r{i}": write(out, i, 3 + i) for i in range(5)}
    build(out, runs)
    wanted = dict(runs)
    if what == "append":
        wanted["r5"] = write(out, 5)
    elif what == "changed":
        wanted["r2"] = write(out, 2, change=1.0)
    elif what == "removed":
        del wanted["r1"]
    elif what == "last removed":
        del wanted["r4"], wanted["r3"]
    elif what == "shorter":
        wanted["r0"] = write(out, 0, n_time=2)
    elif what == "inserted":
        wanted = {"r9": write(out, 9), **runs}
    elif what == "longer":
        wanted["r3"] = write(out, 3, n_time=9)
    build(out, wanted)
    assert zarr_of(out) == fresh(tmp_path / "fresh", wanted)


def test_nothing_is_written_when_nothing_changed(tmp_path):
    runs = {f"r{i}": write(tmp_path, i) for i in range(3)}
    build(tmp_path, runs)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "cohort.zarr").rglob("*")}
    build(tmp_path, runs)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cohort.zarr").rglob("*")} == before


def test_without_runs_there_is_no_store(tmp_path):
    build_one = CohortZarr(tmp_path)
    build_one.add("r0", write(tmp_path, 0))
    build_one.finish()
    assert (tmp_path / "cohort.zarr").exists()
    CohortZarr(tmp_path).finish()
    assert not (tmp_path / "cohort.zarr").exists()


class Crash(BaseException):
    pass


def crash_at(monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    """End the process, as it were, at the nth file that the store writes."""
    import zarr.storage._local as local

    real, calls = local._put, 0

    def put(path: Path, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise Crash
        return real(path, *args, **kwargs)

    monkeypatch.setattr(local, "_put", put)


@pytest.mark.parametrize("nth", [1, 5, 16, 31, 40])
def test_after_a_crash_runs_are_whole_or_absent(tmp_path, monkeypatch, nth):
    out = tmp_path / "out"
    runs = {f"r{i}": write(out, i, 3 + i) for i in range(5)}
    build(out, dict(list(runs.items())[:2]))
    crash_at(monkeypatch, nth)
    crashed = False
    try:
        build(out, runs)
    except Crash:
        crashed = True
    monkeypatch.undo()
    there = xr.open_zarr(out / "cohort.zarr").load()
    assert there.run.values.tolist() == list(runs)[: there.sizes["run"]]
    assert there.sizes["run"] >= 2
    assert crashed or there.sizes["run"] == 5
    for i, (name, paths) in enumerate(list(runs.items())[: there.sizes["run"]]):
        one = dr.read_timeseries(paths["A"].timeseries)
        np.testing.assert_array_equal(there.A.sel(run=name)[: 3 + i], one.values)
    build(out, runs)
    assert zarr_of(out) == fresh(tmp_path / "fresh", runs)


def test_a_store_that_cannot_be_read_is_made_again(tmp_path):
    out = tmp_path / "out"
    runs = {f"r{i}": write(out, i) for i in range(2)}
    build(out, runs)
    (out / "cohort.zarr" / "zarr.json").write_text("{")
    (out / "cohort.zarr" / "run" / "zarr.json").unlink()
    build(out, runs)
    assert zarr_of(out) == fresh(tmp_path / "fresh", runs)


def test_more_runs_than_are_committed_at_once(tmp_path):
    out = tmp_path / "out"
    runs = {f"r{i}": write(out, i, 2 + i % 3) for i in range(2 * RUNS_PER_COMMIT + 3)}
    assert build(out, runs).run.values.tolist() == list(runs)


def test_order_is_that_of_the_table(tmp_path):
    runs = [write(tmp_path, i) for i in range(5)]
    order = InOrder(CohortZarr(tmp_path))
    for i in (2, 0, 4, 1):
        order.done(i, f"r{i}", runs[i])
    order.done(3, "r3", None)  # failed
    order.finish()
    assert xr.open_zarr(tmp_path / "cohort.zarr").run.values.tolist() == ["r0", "r1", "r2", "r4"]


def test_runs_with_other_regions_have_no_axis_in_common(tmp_path):
    made = CohortZarr(tmp_path)
    made.add("r0", {"A": store.write_run(result(), tmp_path / "r0", "r0")})
    other = result(np.zeros((4, 2)))
    made.add("r1", {"A": store.write_run(other, tmp_path / "r1", "r1")})
    with pytest.raises(DaskroiError, match=r"runs differ in the regions of atlas A"):
        made.finish()


def test_a_store_at_a_url(s3, tmp_path):
    folder = as_target(s3.url("zarr"), s3.options)
    runs = {f"r{i}": write(folder, i, 3 + i) for i in range(3)}
    made = CohortZarr(folder)
    for name, paths in runs.items():
        made.add(name, paths)
    made.finish()
    url = f"{folder}/cohort.zarr"
    found = xr.open_zarr(url, storage_options=s3.options).load()
    assert found.run.values.tolist() == ["r0", "r1", "r2"]
    xr.testing.assert_identical(found.A, build(tmp_path, runs).A)


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    import zarr.storage._local as local

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    made = CohortZarr(tmp_path)
    made.add("r0", write(tmp_path, 0))
    monkeypatch.setattr(local, "_put", full)
    with pytest.raises(NotWrittenError, match=r"cohort\.zarr: cannot be written \(No space"):
        made.finish()


def test_group_takes_what_is_complete(tmp_path):
    for i in range(3):
        write(tmp_path, i)
    table = RunsTable(tmp_path)
    for i, status in enumerate(("ok", "failed", "skipped")):
        table.add(Job(i, f"r{i}/r{i}", "x.nii"), status)
    table.finish()
    done = build_cohort_zarr(tmp_path)
    assert (done.runs, done.failed, done.exit_code) == (2, 1, 1)
    there = xr.open_zarr(tmp_path / "cohort.zarr")
    assert there.run.values.tolist() == ["r0/r0", "r2/r2"]
    assert {"A", "B"} <= set(there)
    # one atlas less than the first run has
    next((tmp_path / "r2").glob("*atlas-B*timeseries.json")).unlink()
    done = build_cohort_zarr(tmp_path)
    assert done.missing == ["r2/r2"]
    assert "1 runs lack results" in done.describe()
    # another strategy beside
    write_two = result(strategy="median", atlas="A")
    store.write_run(write_two, tmp_path / "r0", "r0")
    build_cohort_zarr(tmp_path)
    assert {"A_mean", "A_median", "B"} <= set(xr.open_zarr(tmp_path / "cohort.zarr"))


def test_group_leaves_out_what_an_earlier_cohort_left(tmp_path):
    table = RunsTable(tmp_path)
    for i in range(3):
        write(tmp_path, i)  # atlases A and B
        table.add(Job(i, f"r{i}/r{i}", "x.nii"), "ok")
    # only the first run has been there already
    store.write_run(result(strategy="median", atlas="A"), tmp_path / "r0", "r0")
    table.finish()
    done = build_cohort_zarr(tmp_path)
    assert (done.runs, done.missing) == (3, [])
    there = xr.open_zarr(tmp_path / "cohort.zarr")
    assert {"A", "B"} <= set(there)
    assert "A_median" not in there
