"""connect() to this machine: what it starts, and that it ends with who asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import dask
import daskprocesses as processes
import psutil
import pytest
from distributed import Client

from daskroi.cluster import connect
from daskroi.errors import DaskroiError

pytestmark = pytest.mark.timeout(120)
LOOPBACK = {"127.0.0.1", "::1"}


def children() -> list[int]:
    return [
        child.pid
        for child in psutil.Process().children(recursive=True)
        if "resource_tracker" not in " ".join(child.cmdline())
    ]


def test_local_is_processes_on_loopback_and_leaves_none() -> None:
    before = set(children())
    with connect("local", n_workers=2, threads_per_worker=1, memory="1GiB") as client:
        workers = client.scheduler_info()["workers"]
        assert len(workers) == 2
        assert {w["nthreads"] for w in workers.values()} == {1}
        assert {w["memory_limit"] for w in workers.values()} == {2**30}
        started = set(children()) - before
        assert len(started) >= 2
        assert processes.listening([os.getpid(), *started]) <= LOOPBACK
        assert Client.current() is client
        assert client.submit(processes.mean, 20).result(timeout=60) == processes.mean(20)
        cluster = client.cluster
    assert cluster.status.name == "closed"
    assert set(children()) <= before


def test_local_with_certificates_of_its_own() -> None:
    with connect("local", n_workers=1, security=True) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1")
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3


def test_local_uses_what_dask_finds_right() -> None:
    with connect(processes=False) as client:
        [worker] = client.scheduler_info()["workers"].values()
        assert worker["nthreads"] == dask.system.CPU_COUNT


def test_close_ends_the_cluster_once() -> None:
    client = connect("local", n_workers=1, processes=False)
    client.close()
    client.close()
    assert client.cluster.status.name == "closed"


def test_an_error_inside_with_still_ends_the_cluster() -> None:
    with pytest.raises(KeyError), connect("local", n_workers=1, processes=False) as client:
        raise KeyError
    assert client.cluster.status.name == "closed"


def commands_below(pid: int) -> list[str]:
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found.append(" ".join(child.cmdline()))
    return found


INTERRUPTED = """
import sys, time
import daskroi as dr
if __name__ == "__main__":
    try:
        with dr.connect("local", n_workers=1) as client:
            time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_ctrl_c_while_workers_start_is_heard_by_who_started_them(tmp_path: Path) -> None:
    # a terminal sends it to all: workers that are importing answered with pages of tracebacks
    (tmp_path / "script.py").write_text(INTERRUPTED)
    command = [sys.executable, str(tmp_path / "script.py")]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not any("spawn_main" in command for command in commands_below(process.pid)):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, said) == (130, "")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"n_workers": -1}, "n_workers=-1 is not a number"),
        ({"n_workers": "2"}, "n_workers='2' is not a number"),
        ({"threads_per_worker": 0}, "threads_per_worker=0 is not a number"),
        ({"memory": "lots"}, "memory='lots' is no size"),
    ],
)
def test_impossible_sizes_are_not_waited_for(told, message):
    with pytest.raises(DaskroiError, match=message):
        connect("local", timeout=1, **told)
