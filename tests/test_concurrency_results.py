"""Two at once into the same results, the same cohort; and folders that have no locks."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pandas as pd
import pytest
from together import READY, processes

import daskroi as dr
from daskroi.batch import extract_cohort
from daskroi.errors import DaskroiError
from daskroi.readback import read_timeseries

pytestmark = pytest.mark.timeout(300)

WRITER = (
    READY
    + """
run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
ts = dr.extract(run.image, run.atlas, standardize={standardize!r}).compute()
for i in range(60):
    dr.store.write_run(ts, sys.argv[1], "sub-01")
"""
)


def whole(table: Path) -> bool | None:
    """Whether numbers are those of the recipe that the sidecar has; None: being written."""
    sidecar = table.with_suffix(".json")
    try:
        text, before = sidecar.read_text(), sidecar.stat()
        series = read_timeseries(table)
        after = sidecar.stat()  # the text may be the same again, after another's
        if (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns):
            return None
    except (DaskroiError, OSError, ValueError):
        return None
    scored = json.loads(text)["Recipe"]["clean"].get("standardize") == "zscore_sample"
    return scored == bool(np.allclose(series.std("time", ddof=1), 1))


def test_a_table_never_stands_beside_the_sidecar_of_another_writer(tmp_path):
    codes = [WRITER.format(standardize=s) for s in (None, "zscore_sample")]
    seen: list[bool | None] = []
    stop = threading.Event()
    table = tmp_path / "sub-01_atlas-Phantom_stat-mean_timeseries.tsv"

    def read() -> None:
        while not stop.is_set():
            seen.append(whole(table))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for code, _, err in processes(codes, tmp_path):
            assert code == 0, err
    finally:
        stop.set()
        reader.join(20)
    assert False not in seen
    assert seen.count(True) > 10
    assert whole(table)
    assert len(os.listdir(tmp_path)) == 3


EXTRACT = (
    READY
    + """
told = ["extract", sys.argv[1], "--atlas", sys.argv[2], "-o", sys.argv[3]]
dr.cli.main(told + {more!r})
"""
)


@pytest.mark.parametrize("more", [[], ["--standardize", "zscore_sample"]])
def test_two_commands_into_the_same_results(tmp_path, more):
    paths = dr.write_phantom(tmp_path, dr.make_phantom((12, 14, 12), n_time=20, n_regions=4))
    out = tmp_path / "out"
    codes = [EXTRACT.format(more=more), EXTRACT.format(more=[])]
    for code, _, err in processes(codes, paths["image"], paths["atlas"], out):
        assert code == 0, err
        assert "Traceback" not in err
    [table] = out.glob("*_timeseries.tsv")
    assert whole(table)
    assert len(os.listdir(out)) == 3


COHORT = (
    READY
    + """
from daskroi.errors import DaskroiError
runs = cohorts.find_runs(sys.argv[1])
try:
    done = dr.batch.extract_cohort(runs, cohorts.atlas(), sys.argv[2], client="threads",
                                   progress=False, **{told!r})
    print(done.done + done.skipped, done.failed)
except DaskroiError as error:
    print(error)
"""
)


@pytest.mark.parametrize(
    ("store", "other"), [(False, {}), (True, {"standardize": "zscore_sample"})]
)
def test_two_cohorts_into_the_same_folder(tmp_path, store, other):
    cohorts.write_cohort(tmp_path / "in", 8)
    told: dict[str, Any] = {"cohort_zarr": store, "standardize": None}
    codes = [COHORT.format(told=told | one) for one in ({}, other)]
    said = []
    for code, out, err in processes(codes, tmp_path / "in", tmp_path / "out"):
        assert code == 0, err
        said.append(out)
    refused = [s for s in said if "cohort.zarr: another process is writing it" in s]
    assert len(refused) <= int(store)
    assert [s for s in said if s not in refused] == ["8 0\n"] * (2 - len(refused))
    tables = sorted((tmp_path / "out").rglob("*_timeseries.tsv"))
    assert len(tables) == 8
    assert all(whole(t) for t in tables)
    assert not list((tmp_path / "out").rglob(".*.part"))
    assert len(pd.read_csv(tmp_path / "out" / "runs.tsv", sep="\t")) == 8
    # and is what one alone makes of it
    for out in ("out", "alone"):
        extract_cohort(
            cohorts.find_runs(tmp_path / "in"), cohorts.atlas(), tmp_path / out,
            client="threads", progress=False, **told,
        )  # fmt: skip
    assert cohorts.outputs_of(tmp_path / "out") == cohorts.outputs_of(tmp_path / "alone")


def test_folders_that_have_no_locks(tmp_path, monkeypatch):
    import fcntl
    import stat

    from daskroi.locks import BusyError, alone_in

    real = fcntl.flock

    def nfs(handle: int, how: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(9, "Bad file descriptor")
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", nfs)
    with alone_in(tmp_path, 0), pytest.raises(BusyError), alone_in(tmp_path, 0.1):
        pass
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(95, "no")))
    with alone_in(tmp_path, 0), alone_in(tmp_path, 0):
        pass
