"""On a real SLURM of two nodes: jobs by connect(), shipped scripts, and what dies under them."""

from __future__ import annotations

import json
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

import daskroi as dr
from daskroi.batch import extract_cohort
from daskroi.cluster import connect
from daskroi.cohort import find_runs
from daskroi.errors import DaskroiError
from daskroi.interrupt import handlers_kept

pytestmark = pytest.mark.timeout(120)
HERE = Path(__file__).parent
SCRIPTS = HERE.parent / "deploy" / "slurm"
JOB: dict[str, Any] = {"threads_per_worker": 1, "memory": "1GiB", "job_mem": "1000M"}
FRAMES = range(10, 18)


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
    if any(Path(place).is_relative_to("/tmp") for place in (sys.prefix, HERE)):
        pytest.skip("needs Python and the checkout anywhere but below /tmp")
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


@pytest.fixture
def shipped_configuration() -> Iterator[None]:
    """deploy/slurm/jobqueue.yaml, as from ~/.config/dask."""
    import yaml

    with handlers_kept():
        pytest.importorskip("dask_jobqueue")
    given = yaml.safe_load((SCRIPTS / "jobqueue.yaml").read_text())["jobqueue"]["slurm"]
    with dask.config.set({f"jobqueue.slurm.{key}": value for key, value in given.items()}):
        yield


@pytest.mark.usefixtures("quick_replacement", "shipped_configuration")
def test_adaptive_takes_more_jobs_for_more_work(slurm: Slurm) -> None:
    with connect("slurm", n_workers=2, security=False, interface="lo") as client:
        assert client.scheduler.address.startswith("tcp://127.0.0.1")
        [worker] = client.scheduler_info()["workers"].values()
        assert worker["nthreads"] == 2
        assert worker["memory_limit"] == 8 * 2**30
        futures = client.map(processes.slowly, FRAMES, seconds=1.5)
        until(lambda: len(client.nthreads()) == 2)
        # all at once
        for job, *_ in slurm.jobs():
            run("scancel", job)
        assert client.gather(futures) == [processes.mean(n) for n in FRAMES]
    until(lambda: not slurm.jobs())
    assert list(slurm.folder.glob("daskroi-logs/*.err"))


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


# --- the shipped scripts, on a dataset

RUNS = 24
# voxel by voxel, so that there is time for something to happen
OPTIONS = ("--strategy", "median", "--smoothing-fwhm", "5", "--mask", "none")


@pytest.fixture(scope="module")
def dataset(slurm: Slurm) -> Path:
    """Derivatives of 24 runs: two phantoms, under many names."""
    made = slurm.home / "derivatives"
    for seed in range(2):
        phantom = dr.make_phantom((24, 28, 24), n_time=40, n_regions=6, seed=seed)
        paths = dr.write_phantom(slurm.home / f"phantom-{seed}", phantom)
        for subject in range(seed, RUNS, 2):
            func = made / f"sub-{subject:02}" / "func"
            func.mkdir(parents=True)
            for name in ("image", "sidecar", "mask", "confounds"):
                os.link(paths[name], func / paths[name].name.replace("01", f"{subject:02}", 1))
    described = {"Name": "phantoms", "BIDSVersion": "1.9.0", "DatasetType": "derivative"}
    (made / "dataset_description.json").write_text(json.dumps(described))
    shutil.copytree(slurm.home / "phantom-0", slurm.home / "atlas", ignore=lambda *_: ["sub-01"])
    return made


@pytest.fixture(scope="module")
def atlas(slurm: Slurm, dataset: Path) -> str:
    return str(next((slurm.home / "atlas").glob("*_dseg.nii.gz")))


@pytest.fixture(scope="module")
def undisturbed(slurm: Slurm, dataset: Path, atlas: str) -> dict[str, bytes]:
    """What comes out on this machine alone."""
    out = slurm.folder / "undisturbed"
    runs = find_runs(dataset)
    options: dict[str, Any] = {
        "strategy": "median",
        "smoothing_fwhm": 5,
        "mask": None,
        "min_coverage": 0.5,
    }
    # said by the command in any case, and so part of a result's key
    options |= dict.fromkeys(("high_pass", "low_pass", "standardize"))
    extract_cohort(runs, {"Phantom": dr.load_atlas(atlas)}, out, client="threads", **options)
    return tables(out)


def tables(out: Path) -> dict[str, bytes]:
    """The results, without what tells when and how fast."""
    found = {str(p.relative_to(out)): p.read_bytes() for p in out.glob("sub-*/**/*") if p.is_file()}
    assert found
    return found


def submit(*arguments: str) -> str:
    return run("sbatch", "--parsable", "--mem-per-cpu=900M", "--cpus-per-task=1", *arguments)


def test_script_with_scheduler_file_when_a_node_dies(
    slurm: Slurm, dataset: Path, atlas: str, undisturbed: dict[str, bytes]
) -> None:
    script = str(SCRIPTS / "cohort.sbatch")
    job = submit(
        "--ntasks=3", script, str(dataset), "out", "--atlases", f"Phantom={atlas}", *OPTIONS
    )
    done = "out/sub-*/func/*timeseries.json"
    try:
        until(lambda: list(slurm.folder.glob(done)))
        assert slurm.jobs("--states=RUNNING") == [[job, "RUNNING", "n[1-2]"]]
        slurm.kill(2)
        assert len(list(slurm.folder.glob(done))) < RUNS
        until(lambda: not slurm.jobs("--states=PENDING,RUNNING"))
    finally:
        slurm.revive(2)
    assert tables(slurm.folder / "out") == undisturbed
    assert f"{RUNS} done" in (slurm.folder / f"daskroi-{job}.out").read_text()
    # keys and scheduler file are gone
    assert not list(slurm.folder.glob(".daskroi-*"))
    until(lambda: not slurm.jobs())


def test_array_script(
    slurm: Slurm, dataset: Path, atlas: str, undisturbed: dict[str, bytes]
) -> None:
    script = str(SCRIPTS / "array.sbatch")
    given = ("--atlases", f"Phantom={atlas}", *OPTIONS)
    submit("--array=1-2", script, str(dataset), "shards", *given)
    until(lambda: not slurm.jobs())
    assert tables(slurm.folder / "shards") == undisturbed


@pytest.mark.parametrize(
    ("given", "share"), [({}, "3/4"), ({"SHARDS": "20"}, "3/20")], ids=["all", "again"]
)
def test_array_script_says_which_share(tmp_path: Path, given: dict[str, str], share: str) -> None:
    stand_in = tmp_path / "daskroi"
    stand_in.write_text('#!/bin/sh\necho "$@"\n')
    stand_in.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}
    size = {"SLURM_CPUS_PER_TASK": "2", "SLURM_MEM_PER_CPU": "4096"}
    shown = subprocess.run(
        ["bash", SCRIPTS / "array.sbatch", "in", "out", "--atlases", "x y"],
        env=task | size | given | {"PATH": path},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=20,
    ).stdout.strip()
    options = f"--n-procs 2 --mem 8192MiB --shard {share} --atlases x y"
    assert shown == f"bids in out participant {options}"
