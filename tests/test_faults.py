"""What may happen to a cohort, happens; in the end, results are those of an undisturbed one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cohorts
import pandas as pd
import pytest
from cohorts import outputs_of
from daskprocesses import local_cluster, scheduler, worker

from daskroi.batch import extract_cohort
from daskroi.cohort import find_runs
from daskroi.errors import DaskroiError

pytestmark = pytest.mark.timeout(120)

OPTIONS: dict[str, Any] = {
    "confounds": {"columns": ["trans_?", "csf"], "fd_threshold": 0.5},
    "standardize": "zscore_sample",
    "cohort_zarr": True,
    "progress": False,
}
N_RUNS = 20


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Twenty runs of different lengths; not to be changed."""
    return cohorts.write_cohort(
        tmp_path_factory.mktemp("faults") / "in", N_RUNS, lambda i: 12 + i % 3
    )


@pytest.fixture(scope="module")
def undisturbed(runs: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Results that nothing has happened to."""
    out = tmp_path_factory.mktemp("undisturbed")
    done = extract_cohort(runs, cohorts.atlas(), out, client="threads", **OPTIONS)
    assert (done.done, done.failed) == (N_RUNS, 0)
    return outputs_of(out)


@pytest.fixture(autouse=True)
def no_orphans(tmp_path: Path) -> Iterator[None]:
    """Whatever a test did, after it no temporary file is left."""
    yield
    out = tmp_path / "out"
    assert not [p for p in out.rglob("*") if p.suffix in (".part", ".partial")]
    assert not [p for p in out.rglob(".*") if p.is_file()]


def partial_runs(out: Path) -> list[str]:
    """Runs some of whose files are visible, but not all."""
    found: dict[str, set[str]] = {}
    for path in out.rglob("sub-*_atlas-*"):
        if not path.name.startswith("."):
            run, _, what = path.name.partition("_atlas-Phantom_stat-")
            found.setdefault(run, set()).add(what)
    whole = {"mean_timeseries.tsv", "coverage_bold.tsv", "mean_timeseries.json"}
    return [run for run, files in found.items() if files != whole]


def done_in(out: Path) -> dict[str, int]:
    """When the sidecars were written, by run."""
    return {p.name: p.stat().st_mtime_ns for p in out.rglob("*_timeseries.json")}


def wait_for(condition: Callable[[], Any], process: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        assert process is None or process.poll() is None, "the process ended"
        time.sleep(0.01)


def slow_commits() -> None:
    """In a worker: writing results takes a while, so that death comes in the middle of it."""
    real = os.replace

    def replace(*args: Any) -> None:
        real(*args)
        time.sleep(0.1)

    os.replace = replace  # type: ignore[assignment]


def test_a_worker_killed_in_the_middle_of_a_run(tmp_path, runs, undisturbed):
    import threading

    out = tmp_path / "out"
    with local_cluster() as client:
        client.run(slow_commits)
        killed: list[int] = []

        def kill() -> None:
            wait_for(lambda: partial_runs(out))
            [pid, _] = client.run(os.getpid).values()
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

        killer = threading.Thread(target=kill)
        killer.start()
        done = extract_cohort(runs, cohorts.atlas(), out, client=client, **OPTIONS)
        killer.join(10)
        assert killed
        assert (done.done, done.failed) == (N_RUNS, 0)
    assert outputs_of(out) == undisturbed


def test_a_worker_that_dies_of_a_run_every_time(tmp_path, runs, undisturbed):
    out = tmp_path / "out"
    poison = runs.loc[3, "image"]

    def prepare(image: str) -> None:
        from daskroi import runjob

        real = runjob._make_series

        def deadly(one: Any, *args: Any) -> Any:
            if one.image == image:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(one, *args)

        runjob._make_series = deadly

    from distributed import WorkerPlugin

    class Poison(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            prepare(poison)

    with local_cluster() as client:
        client.register_plugin(Poison())
        done = extract_cohort(runs, cohorts.atlas(), out, client=client, **OPTIONS)
    # others may have been on the same worker as often; it alone died with none beside it
    table = done.runs.set_index("image")
    assert table.loc[poison, "status"] == "failed"
    assert "its worker died" in table.loc[poison, "reason"]
    # it was not the input's fault, so it is tried again
    done = extract_cohort(runs, cohorts.atlas(), out, client="threads", **OPTIONS)
    assert done.failed == 0
    assert outputs_of(out) == undisturbed


def test_a_worker_that_dies_with_a_result_is_not_the_scheduler_lost(tmp_path):
    from daskroi.upkeep import Needs
    from daskroi.window import ClusterWindow
    from daskroi.work import Job, Work

    with local_cluster() as client:
        window = ClusterWindow(client, Work(tmp_path, {}))
        window.submit(Job(0, "sub-01", str(tmp_path / "gone.nii")), Needs(("A",)))

        def holders() -> list[str]:
            where = {str(key): workers for key, workers in client.who_has().items()}
            return [w for key, workers in where.items() if key.endswith(", 0)") for w in workers]

        wait_for(holders)
        [address] = holders()
        os.kill(client.run(os.getpid, workers=[address])[address], signal.SIGKILL)
        wait_for(lambda: address not in holders())
        deadline = time.monotonic() + 60
        found = None
        while found is None and time.monotonic() < deadline:
            found = window.next(0.25)
        assert found is not None
        assert "gone.nii: cannot be found" in found[1].reason
        assert window.busy == 0
        window.close()


CLIENT = """
import sys
from pathlib import Path
import cohorts
from daskroi.batch import extract_cohort
from daskroi.cohort import find_runs
import test_faults

if __name__ == "__main__":
    test_faults.slow_commits()
    client = sys.argv[3] if len(sys.argv) > 3 else "threads"
    if client != "threads":
        from distributed import Client
        client = Client(client)
    runs = find_runs(sys.argv[1])
    print("begins", flush=True)
    extract_cohort(runs, cohorts.atlas(), sys.argv[2], client=client, **test_faults.OPTIONS)
"""


def client_process(tmp_path: Path, runs: pd.DataFrame, *args: str) -> subprocess.Popen:
    """The whole cohort in a process of its own, with slow commits."""
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    root = str(Path(runs.loc[0, "image"]).parents[2])
    tests = os.path.dirname(os.path.abspath(__file__))
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH"))))
    }
    return subprocess.Popen(
        [sys.executable, str(script), root, str(tmp_path / "out"), *args],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_client_killed_and_started_again(tmp_path, runs, undisturbed):
    out = tmp_path / "out"
    with client_process(tmp_path, runs) as process:
        try:
            wait_for(lambda: len(done_in(out)) >= 4 and partial_runs(out), process)
        finally:
            process.kill()
    before = done_in(out)
    assert 4 <= len(before) < N_RUNS
    # files are visible that do not make a whole run; none of them is taken for one
    done = extract_cohort(runs, cohorts.atlas(), out, client="threads", **OPTIONS)
    assert done.skipped == len(before)
    assert done.done == N_RUNS - len(before)
    after = done_in(out)
    assert {name: after[name] for name in before} == before
    assert partial_runs(out) == []
    assert outputs_of(out) == undisturbed


def test_the_scheduler_lost_and_another_one_found(tmp_path, runs, undisturbed):
    import threading

    from distributed import Client

    out = tmp_path / "out"
    with scheduler(tmp_path) as (address, _), worker(address), Client(address) as client:
        client.wait_for_workers(1, timeout=60)
        client.run(slow_commits)
        pid = client.run_on_scheduler(os.getpid)

        def kill() -> None:
            wait_for(lambda: len(done_in(out)) >= 3)
            os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(DaskroiError, match=r"the scheduler is gone.*start again"):
            extract_cohort(runs, cohorts.atlas(), out, client=client, **OPTIONS)
        killer.join(60)
        before = done_in(out)
        assert 3 <= len(before) < N_RUNS
    shutil.rmtree(tmp_path / "two", ignore_errors=True)
    (tmp_path / "two").mkdir()
    with scheduler(tmp_path / "two") as (address, _), worker(address), Client(address) as client:
        done = extract_cohort(runs, cohorts.atlas(), out, client=client, **OPTIONS)
        assert done.skipped >= len(before)
        assert (done.done + done.skipped, done.failed) == (N_RUNS, 0)
    assert outputs_of(out) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 kB."""
    out = tmp_path / "out"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(out)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small disk")
    try:
        yield out
    finally:
        subprocess.run(["umount", str(out)], check=True)


@pytest.mark.parametrize("where", ["threads", "processes"])
def test_a_full_disk(tmp_path, small_disk, runs, undisturbed, where):
    from contextlib import nullcontext

    from daskroi.cluster import connect

    here: Any = nullcontext("threads")
    if where == "processes":
        here = connect("local", n_workers=1, threads_per_worker=1)
    told = OPTIONS | {"cohort_zarr": False}
    full = pytest.raises(DaskroiError, match=r"No space left.* Runs that are done are complete")
    with here as client, full:
        extract_cohort(runs, cohorts.atlas(), small_disk, client=client, **told)
    before = done_in(small_disk)
    assert 0 < len(before) < N_RUNS
    assert partial_runs(small_disk) == []
    assert not list(small_disk.rglob("*.part"))
    # room is made
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    done = extract_cohort(runs, cohorts.atlas(), small_disk, client="threads", **OPTIONS)
    assert (done.skipped, done.failed) == (len(before), 0)
    assert outputs_of(small_disk) == undisturbed


def test_a_full_disk_for_the_store_alone(tmp_path, small_disk, runs, undisturbed):
    # tmpfs counts pages: 60 of the tables, and of the store more than 80
    subprocess.run(["mount", "-o", "remount,size=400k", str(small_disk)], check=True)
    with pytest.raises(DaskroiError, match=r"cohort\.zarr: cannot be written .No space left"):
        extract_cohort(runs, cohorts.atlas(), small_disk, client="threads", **OPTIONS)
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    extract_cohort(runs, cohorts.atlas(), small_disk, client="threads", **OPTIONS)
    assert outputs_of(small_disk) == undisturbed


def test_an_output_folder_that_becomes_read_only(tmp_path, small_disk, runs, undisturbed):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(DaskroiError, match=r"no permission to write|cannot be written there"):
        extract_cohort(runs, cohorts.atlas(), small_disk, client="threads", **OPTIONS)
    subprocess.run(["mount", "-o", "remount,rw,size=16m", str(small_disk)], check=True)
    extract_cohort(runs, cohorts.atlas(), small_disk, client="threads", **OPTIONS)
    assert outputs_of(small_disk) == undisturbed


def test_one_image_of_twenty_truncated(tmp_path, undisturbed):
    folder = tmp_path / "in"
    runs = cohorts.write_cohort(folder, N_RUNS, lambda i: 12 + i % 3)
    out = tmp_path / "out"
    image = Path(runs.loc[7, "image"])
    whole, status = image.read_bytes(), image.stat()
    image.write_bytes(whole[: len(whole) // 2])
    done = extract_cohort(runs, cohorts.atlas(), out, client="threads", **OPTIONS)
    assert (done.done, done.failed, done.exit_code) == (N_RUNS - 1, 1, 1)
    row = done.runs.iloc[7]
    assert (row["status"], "truncated" in row["reason"]) == ("failed", True)
    # all others are as if it were not there
    others = extract_cohort(
        runs.drop(index=7), cohorts.atlas(), tmp_path / "others", client="threads", **OPTIONS
    )
    assert others.failed == 0
    assert outputs_of(out) == outputs_of(tmp_path / "others")
    # copied again, it takes its place
    image.write_bytes(whole)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    done = extract_cohort(runs, cohorts.atlas(), out, client="threads", **OPTIONS)
    assert (done.done, done.skipped) == (1, N_RUNS - 1)
    fresh = tmp_path / "fresh"
    extract_cohort(runs, cohorts.atlas(), fresh, client="threads", **OPTIONS)
    assert outputs_of(out) == outputs_of(fresh)
    assert outputs_of(out).keys() == undisturbed.keys()


def test_runs_are_the_same_when_found_again(runs):
    again = find_runs(Path(runs.loc[0, "image"]).parents[2])
    pd.testing.assert_frame_equal(again, runs)
