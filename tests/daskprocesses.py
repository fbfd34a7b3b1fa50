"""Real schedulers and workers, as a cluster starts them: processes of the command ``dask``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

# `python -m dask`, but ended by the system when the process that started it is killed
MORTAL = """
import ctypes, signal, sys
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
from dask.cli import run_cli
run_cli()
"""


@contextmanager
def dask_process(*args: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """``dask ARGS`` on loopback, ended at the end; what it says is only shown when it fails."""
    command = [sys.executable, "-c", MORTAL, *args, "--host", "127.0.0.1"]
    command += ["--dashboard-address", "127.0.0.1:0"]
    env = os.environ | dict(env or {})
    # what tests send is unpickled there, by name
    here = os.path.dirname(os.path.abspath(__file__))
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (env.get("PYTHONPATH"), here)))
    # a pipe that nobody reads is full after 64 kB, as when a scheduler is lost; then all stands
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=env, stderr=said)
        try:
            yield process
        except BaseException as error:
            said.seek(0)
            error.add_note(said.read()[-10_000:])
            raise
        finally:
            process.terminate()
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(20)
            finally:  # also when a test's time is up right here
                process.kill()
                process.wait()


@contextmanager
def local_cluster(n_workers: int = 2, **options: Any) -> Iterator[Client]:
    """A client of new workers on this machine, with one thread and 1 GiB each."""
    from distributed import Client, LocalCluster

    usual = {"threads_per_worker": 1, "memory_limit": "1GiB", "host": "127.0.0.1"}
    # any free port: two test processes start one each
    usual |= {"dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=n_workers, **usual | options) as cluster, Client(cluster) as client:
        yield client


@contextmanager
def scheduler(folder: Path, *args: str) -> Iterator[tuple[str, Path]]:
    """A scheduler; its address and its scheduler file."""
    file = folder / "scheduler.json"
    command = ("scheduler", "--port", "0", "--scheduler-file", str(file), *args)
    with dask_process(*command) as process:
        yield address_in(file, process), file


@contextmanager
def worker(to: str, *args: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """A worker in one process, so that one pid is all of it."""
    options = ("--no-nanny", "--nthreads", "1", "--memory-limit", "1GiB", "--death-timeout", "30")
    with dask_process("worker", to, *options, *args, env=env) as process:
        yield process


def address_in(file: Path, process: subprocess.Popen) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"dask ended with {process.returncode}")
        try:
            return str(json.loads(file.read_text())["address"])
        except (OSError, ValueError):
            time.sleep(0.05)
    raise TimeoutError(f"no scheduler wrote {file}")


def listening(pids: Sequence[int]) -> set[str]:
    """Addresses on which these processes listen."""
    import psutil

    return {
        found.laddr.ip
        for pid in pids
        for found in psutil.Process(pid).net_connections("inet")
        if found.status == psutil.CONN_LISTEN
    }


def listening_here() -> set[str]:
    """The same, asked on a worker: of it and of the nanny that started it."""
    return listening([os.getpid(), os.getppid()])


def slowly(frames: int, seconds: float) -> float:
    """`mean` that takes its time: long enough for something to happen to it."""
    time.sleep(seconds)
    return mean(frames)


def mean(frames: int) -> float:
    """Some real work: the extraction of a phantom, in whatever process this runs."""
    import dask

    import daskroi as dr

    run = dr.make_phantom((12, 14, 12), n_time=frames, n_regions=4)
    with dask.config.set(scheduler="synchronous"):
        return float(dr.extract(run.image, run.atlas).mean())
