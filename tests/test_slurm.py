"""On a real SLURM of two nodes: jobs by connect(), shipped scripts, and what dies under them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import daskprocesses as processes
import distributed
import pytest

from daskroi.cluster import connect
from daskroi.errors import DaskroiError

pytestmark = pytest.mark.timeout(120)
HERE = Path(__file__).parent
SCRIPTS = HERE.parent / "deploy" / "slurm"
JOB: dict[str, Any] = {"threads_per_worker": 1, "memory": "1GiB", "job_mem": "1000M"}
FRAMES = range(10, 20)


@dataclass(frozen=True)
class Slurm:
    """Two nodes, n1 and n2, of two cores each; ``folder`` is seen by both."""

    home: Path
    folder: Path

    def jobs(self, *options: str) -> list[list[str]]:
        """Id, state and node of the jobs."""
        shown = run("squeue", "--noheader", "--format=%i %T %N", *options)
        return [line.split() for line in shown.splitlines()]

    def kill(self, node: int) -> None:
        """All that runs on it, at once."""
        os.kill(int((self.home / f"node-n{node}.pid").read_text()), signal.SIGKILL)

    def revive(self, node: int) -> None:
        # as its administrator would: SLURM by itself takes half a minute to believe it
        name = f"NodeName=n{node}"
        run("scontrol", "update", name, "State=DOWN", "Reason=killed")
        run(str(self.home / "node.sh"), str(node))
        run("scontrol", "update", name, "State=RESUME")
        until(lambda: not set(run("sinfo", "-hNo%T").replace("\n", "")) & set("*$"))


def run(*command: str) -> str:
    return subprocess.run(
        command, check=True, timeout=60, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """Started here, ended here; nothing on this host is touched but /etc/hosts."""
    needed = ("slurmctld", "slurmd", "munged", "unshare")
    paths = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))
    if os.geteuid() != 0 or any(shutil.which(name, path=paths) is None for name in needed):
        pytest.skip("needs root, and Debian's slurm-wlm and munge")
    # nodes have a /tmp of their own
    home = Path(tempfile.mkdtemp(prefix="daskroi-slurm-", dir="/var/tmp"))
    home.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        try:
            subprocess.run([str(HERE / "slurm/up.sh"), str(home)], check=True, timeout=60)
            patch.setenv("SLURM_CONF", str(home / "slurm.conf"))
            # what tests send to workers is unpickled there, by name
            patch.setenv("PYTHONPATH", str(HERE))
            path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
            patch.setenv("PATH", path)
            folder = home / "work"
            folder.mkdir()
            patch.chdir(folder)
            yield Slurm(home, folder)
        finally:
            subprocess.run([str(HERE / "slurm/down.sh"), str(home)], check=False, timeout=60)
            shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def quick_replacement(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A lost job is replaced after 2 s, not 15; one that never started after 1 s, not 20."""
    from daskroi.slurm import JobKeeper

    monkeypatch.setattr(JobKeeper, "every", 0.5)
    # its defaults are loaded; else leaving ``with`` would take them away
    assert distributed.__version__
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "2s"}):
        yield


@pytest.mark.usefixtures("quick_replacement")
def test_jobs_are_kept_while_some_are_cancelled_and_a_node_dies(slurm: Slurm) -> None:
    # jobs of a whole node: two run, the third waits
    options = JOB | {"job_cpu": 2, "log_directory": "logs"}
    with connect("slurm", n_workers=3, adaptive=False, **options) as client:
        client.wait_for_workers(2, timeout=60)
        assert client.scheduler.address.startswith("tls://127.0.0.1")
        for found in client.run(processes.listening_here).values():
            assert found <= {"127.0.0.1"}
        keys = list(slurm.folder.glob(".daskroi-tls-*"))
        assert [folder.stat().st_mode & 0o077 for folder in keys] == [0]
        first = {job for job, *_ in slurm.jobs()}
        assert len(first) == 3

        # one that waits: Dask has never seen it
        run("scancel", next(job for job, state, *_ in slurm.jobs() if state == "PENDING"))
        until(lambda: len(slurm.jobs("--states=PENDING")) == 1)
        futures = client.map(processes.slowly, FRAMES, seconds=1)
        until(lambda: any(future.done() for future in futures))
        # one that works, and a node
        run("scancel", next(job for job, _, *node in slurm.jobs() if node == ["n1"]))
        slurm.kill(2)
        try:
            assert client.gather(futures) == [processes.mean(n) for n in FRAMES]
        finally:
            slurm.revive(2)
        until(lambda: len(client.nthreads()) == 2)
        assert not first & {job for job, *_ in slurm.jobs("--states=RUNNING")}
    assert not list(slurm.folder.glob(".daskroi-tls-*"))
    until(lambda: not slurm.jobs())
    assert list(slurm.folder.glob("logs/*.err"))


@pytest.mark.usefixtures("quick_replacement")
def test_adaptive_takes_more_jobs_for_more_work(slurm: Slurm) -> None:
    with connect("slurm", n_workers=3, security=False, interface="lo", **JOB) as client:
        assert client.scheduler.address.startswith("tcp://127.0.0.1")
        assert len(client.nthreads()) == 1
        futures = client.map(processes.slowly, FRAMES, seconds=1)
        until(lambda: len(client.nthreads()) == 3)
        # all that wait for it have the time to ask for another
        for job, *_ in slurm.jobs():
            run("scancel", job)
        assert client.gather(futures) == [processes.mean(n) for n in FRAMES]
    until(lambda: not slurm.jobs())


def test_jobs_that_end_at_once(slurm: Slurm) -> None:
    match = r"slurm: no worker came within \d+ s. No job is left in the queue. Logs: broken/\*.err"
    with pytest.raises(DaskroiError, match=match):
        connect("slurm", python="/no/such/python", log_directory="broken", **JOB)
    [log] = slurm.folder.glob("broken/*.err")
    assert "/no/such/python" in log.read_text()


def test_jobs_that_wait(slurm: Slurm) -> None:
    run("scontrol", "update", "PartitionName=test", "State=DOWN")
    try:
        with pytest.raises(
            DaskroiError, match=r"job \d+ is PENDING \(PartitionDown\). Logs: slurm"
        ):
            connect("slurm", timeout=2, **JOB)
    finally:
        run("scontrol", "update", "PartitionName=test", "State=UP")
    until(lambda: not slurm.jobs())


def test_what_slurm_refuses_is_said_at_once(slurm: Slurm) -> None:
    with pytest.raises(DaskroiError, match=r"sbatch failed \(.*Invalid partition.*Ask for what"):
        connect("slurm", queue="nowhere", **JOB)
    assert not slurm.jobs()
    assert not list(slurm.folder.glob(".daskroi-tls-*"))


# --- the shipped scripts

STAND_IN = """#!{python}
import argparse, json, pathlib, sys
import daskprocesses as processes
from daskroi.cluster import connect
if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("command", "derivatives", "out", "level"):
        parser.add_argument(name)
    for name in ("--scheduler-file", "--scheduler", "--n-procs", "--shard", "--atlases"):
        parser.add_argument(name)
    given = parser.parse_args()
    to = given.scheduler_file or given.scheduler
    share = range(10, 20)
    sizes = dict(n_workers=1) if to == "local" else dict()
    if given.shard:
        i, n = map(int, given.shard.split("/"))
        share = share[i - 1 :: n]
    out = pathlib.Path(given.out)
    out.mkdir(exist_ok=True)
    with connect(to, **sizes) as client:
        for k, future in {{k: client.submit(processes.slowly, k, 1) for k in share}}.items():
            (out / f"{{k}}.json").write_text(json.dumps(future.result()))
"""


@pytest.fixture
def command(tmp_path_factory, monkeypatch, slurm):
    folder = slurm.home / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "daskroi").write_text(STAND_IN.format(python=sys.executable))
    (folder / "daskroi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder) + os.pathsep + os.environ["PATH"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def submit(*arguments: str) -> str:
    return run("sbatch", "--parsable", "--mem-per-cpu=900M", *arguments)


def test_scheduler_file_script_when_a_node_dies(slurm: Slurm, command) -> None:
    job = submit("--ntasks=3", "--cpus-per-task=1", str(SCRIPTS / "cohort.sbatch"), "in", "out", "--atlases", "x")
    try:
        until(lambda: len(list(slurm.folder.glob("out/*"))) >= 2)
        assert {"n1", "n[1-2]"} & {node for *_, node in slurm.jobs()}
        slurm.kill(2)
        t=time.time()
        until(lambda: not slurm.jobs("--states=PENDING,RUNNING"))
        print("kill to end", time.time()-t)
    finally:
        slurm.revive(2)
    print((slurm.folder / f"daskroi-{job}.out").read_text())
    until(lambda: not slurm.jobs())
    assert len(contents(slurm.folder / "out")) == 10
    assert not list(slurm.folder.glob(".daskroi-*"))


def test_array_script(slurm: Slurm, command) -> None:
    job = submit("--array=1-3", "--cpus-per-task=1", str(SCRIPTS / "array.sbatch"), "in", "out2")
    until(lambda: not slurm.jobs())
    for f in slurm.folder.glob(f"daskroi-{job}*.out"): print(f.read_text())
    assert len(contents(slurm.folder / "out2")) == 10
