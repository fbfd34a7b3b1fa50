"""What a session must not do: wait for ever, lose a failure, end in somebody else's error."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import cohorts
import fsspec
import pandas as pd
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from daskroi.batch import extract_cohort
from daskroi.cohort import find_runs
from daskroi.errors import DaskroiError, DaskroiTypeError

OPTIONS: dict[str, Any] = {"mask": None, "progress": False, "client": "threads"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Three runs; not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    cohorts.write_cohort(folder, 3, 6)
    return find_runs(folder)


def test_a_put_that_fails_is_a_failed_run(runs, monkeypatch):
    # of a folder a full disk ends the cohort; in a bucket one run may fail, and must be counted
    fsspec.filesystem("memory").store.clear()
    put = MemoryFileSystem.pipe_file

    def sometimes(self: Any, path: str, *args: Any, **options: Any) -> Any:
        if "sub-02" in path and "timeseries" in path:
            raise OSError(28, "No space left on device")
        return put(self, path, *args, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", sometimes)
    done = extract_cohort(runs, cohorts.atlas(), "memory://out", **OPTIONS)
    assert (done.done, done.failed, done.exit_code) == (2, 1, 1)
    row = done.runs.set_index("run").filter(like="sub-02", axis=0).iloc[0]
    assert row["status"] == "failed"
    assert re.search("cannot be written there .*No space", row["reason"])
    # nothing was wrong with the run, so it is tried again
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", put)
    again = extract_cohort(runs, cohorts.atlas(), "memory://out", **OPTIONS)
    assert (again.done, again.skipped, again.failed) == (1, 2, 0)
    fsspec.filesystem("memory").store.clear()


@pytest.mark.timeout(60)
def test_a_run_that_is_cancelled_is_not_waited_for(tmp_path, runs, monkeypatch):
    # no Exception, and what asyncio raises below fsspec
    def cancelled(*_: Any) -> Any:
        raise asyncio.CancelledError("by the server")

    monkeypatch.setattr("daskroi.window.run_job", cancelled)
    done = extract_cohort(runs, cohorts.atlas(), tmp_path, **OPTIONS)
    assert done.failed == 3
    assert done.runs["reason"].tolist() == ["CancelledError: by the server"] * 3


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"max_in_flight": 0}, "max_in_flight=0 is not a number of runs"),
        ({"max_in_flight": -1}, "max_in_flight=-1 is not a number of runs"),
        ({"max_in_flight": "2"}, "max_in_flight='2' is not a number of runs"),
        ({"memory": "lots"}, "memory='lots' is no size"),
        ({"client": "tcp://host:8786"}, "client='tcp://host:8786' is no client"),
        ({"mask": cohorts.atlas()}, "mask is a Atlas. A cohort's mask is the path"),
        ({"confounds": {"strategi": "36P"}}, "confounds has 'strategi', .* Use some of: strategy"),
    ],
)
def test_mistakes_are_said(tmp_path, runs, told, message):
    # -1 waited for ever, the others were errors of Python's
    with pytest.raises(DaskroiError, match=message):
        extract_cohort(runs, cohorts.atlas(), tmp_path, **OPTIONS | told)


def test_no_runs_and_no_folder_are_said(tmp_path: Path, runs: pd.DataFrame) -> None:
    with pytest.raises(DaskroiError, match="runs is empty"):
        extract_cohort(iter([]), cohorts.atlas(), tmp_path, **OPTIONS)
    with pytest.raises(DaskroiTypeError, match="out is None"):
        extract_cohort(runs, cohorts.atlas(), None, **OPTIONS)
