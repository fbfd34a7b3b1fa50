"""Starts jobs of SLURM that are workers, and keeps as many as are wanted.

Imported where jobs are started, never before: it needs distributed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from typing import Any

import dask
from distributed import Security
from distributed.deploy.adaptive import Adaptive
from distributed.utils import get_ip

from daskroi.engines import PROFILE, Engine, Wanted, check_names
from daskroi.errors import DaskroiError
from daskroi.interrupt import handlers_kept

__all__ = ["JobKeeper", "own_address", "start_slurm"]

# what a node is to the network it reaches the scheduler by; a UDP connect sends nothing
WAY = (
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('%s', 9)); "
    "print(s.getsockname()[0])"
)
logger = logging.getLogger("distributed.daskroi")


def start_slurm(wanted: Wanted, options: dict[str, Any], owned: ExitStack) -> Engine:
    """One job per worker, submitted with ``sbatch`` from here.

    What is not given is taken from dask-jobqueue's configuration (``~/.config/dask``). Scheduler
    and workers listen only on the network between them, and only to holders of certificates made
    for this cluster: whoever else can send a task to a worker runs code as you.
    """
    _main_thread()
    with handlers_kept():
        from dask_jobqueue import SLURMCluster
        from dask_jobqueue.core import Job, JobQueueCluster
        from dask_jobqueue.slurm import SLURMJob

    check_names("slurm", options, SLURMCluster, JobQueueCluster, SLURMJob, Job)
    given = {
        name: options.get(name, dask.config.get(f"jobqueue.slurm.{name}", None))
        for name in ("cores", "memory", "interface", "processes")
    }
    cores = options.pop("cores", None) or wanted.threads or given["cores"]
    memory = options.pop("memory", None) or wanted.memory or given["memory"]
    if not cores or not memory:
        raise DaskroiError(
            "slurm: how large is a job? Give threads_per_worker= and memory=, for example "
            "connect('slurm', threads_per_worker=2, memory='8GiB', queue='...'), or set cores and "
            "memory in jobqueue.yaml."
        )
    # one worker per job: what SLURM ends is then one worker's work
    options.setdefault("processes", given["processes"] or 1)
    # a key file must be seen by the nodes; so must this folder, jobs start in it
    shared = os.path.expanduser(options.get("shared_temp_directory") or os.getcwd())
    security = _in_files(wanted.security, shared, owned)
    extra = list(options.pop("worker_extra_args", None) or _configured("worker-extra-args"))
    prologue = list(options.pop("job_script_prologue", None) or _configured("job-script-prologue"))
    prologue.insert(0, f"export {PROFILE}=${{{PROFILE}:-False}}")
    scheduler = {"dashboard_address": "127.0.0.1:0"} | _configured("scheduler-options", {})
    scheduler |= options.pop("scheduler_options", {})
    if not given["interface"] and not {"host", "interface"} & set(scheduler):
        host = own_address()
        scheduler["host"] = host
        # as here: the node's own address on the way to the scheduler, not all it has
        python = options.get("python") or _configured("python") or sys.executable
        prologue.append(f"DASKROI_HOST=$({shlex.quote(python)} -c {shlex.quote(WAY % host)})")
        extra += ["--host", '"$DASKROI_HOST"']
    extra += ["--dashboard-address", "127.0.0.1:0"]
    n_workers = wanted.n_workers or 10
    try:
        cluster = SLURMCluster(
            cores=cores,
            memory=memory if isinstance(memory, str) else f"{memory}B",
            security=security,
            worker_extra_args=extra,
            job_script_prologue=prologue,
            scheduler_options=scheduler,
            **options,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise DaskroiError(f"slurm: {str(error).splitlines()[0]}") from error
    owned.callback(cluster.close)
    # later, in the background, Dask only logs that the queue or the account does not exist
    _output("sbatch", "--test-only", given=cluster.job_script())
    # not scale(): it never replaces a job that SLURM ended
    cluster.adapt(
        Adaptive=JobKeeper,
        minimum=1 if wanted.adaptive else n_workers,
        maximum=n_workers,
        # Dask takes a task it has not seen for half a second of work, a run takes minutes: with
        # this target every waiting task counts for a thread
        target_duration="500ms",
        # a job given back is queued for again: keep it through half a minute without work
        wait_count=30,
    )

    def clue() -> str:
        logs = options.get("log_directory") or _configured("log-directory", None)
        where = f"{logs}/*.err" if logs else f"slurm-*.out in {os.getcwd()}"
        states = _squeue(jobs_of(cluster.workers.values()))
        told = "; ".join(f"job {key} is {state}" for key, state in states.items())
        return f"{told or 'No job is left in the queue'}. Logs: {where}."

    def dead() -> bool:
        known = jobs_of(cluster.workers.values())
        return bool(known) and not _squeue(known)

    return Engine(cluster=cluster, clue=clue, dead=dead)


def _main_thread() -> None:
    """Say what importing dask-jobqueue elsewhere would say with "signal only works in main ..."."""
    elsewhere = threading.current_thread() is not threading.main_thread()
    if elsewhere and "dask_jobqueue" not in sys.modules:
        raise DaskroiError(
            "slurm: connect was called in a thread, where dask-jobqueue cannot be imported. "
            "Call it in the main thread, or import dask_jobqueue there first."
        )


class JobKeeper(Adaptive):
    """Dask's scaling, which besides notices jobs that ended before their worker came.

    Dask itself counts a job as there from ``sbatch`` on, until its worker is lost. One that is
    cancelled while it waits, or whose node dies while it starts, would be counted for ever.

    Attributes
    ----------
    every : float
        Seconds between two looks at the queue.
    most : int
        After so many of these jobs in a row no more are submitted: it is not bad luck.
    """

    every = 10.0
    most = 20

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._looked = time.monotonic()
        self._missed: set[Any] = set()
        self._failures = 0

    async def recommendations(self, target: int) -> dict[str, Any]:
        """What Dask would do next, once it does not count what is not there."""
        if time.monotonic() - self._looked > self.every:
            self._looked = time.monotonic()
            await self._forget_ended_jobs()
        return await super().recommendations(target)

    async def _forget_ended_jobs(self) -> None:
        cluster: Any = self.cluster
        workers, came = cluster.workers, self.observed
        if came:
            self._failures = 0
        waiting = {name: jobs_of([job]) for name, job in workers.items() if name not in came}
        states = await asyncio.to_thread(
            _squeue, [job for jobs in waiting.values() for job in jobs]
        )
        if "?" in states:
            return
        missing = {name for name, jobs in waiting.items() if jobs and jobs[0] not in states}
        # at two looks: a worker may have come between the two lists
        for name in missing & self._missed:
            self._failures += 1
            if self._failures > self.most:
                logger.error(
                    "%d jobs in a row ended before a worker came; see their logs", self.most
                )
                return
            # it is planned still, so that Dask submits it again
            workers.pop(name, None)
        self._missed = missing


def jobs_of(workers: Any) -> list[str]:
    """Ids of those that were submitted."""
    return [worker.job_id for worker in workers if getattr(worker, "job_id", None)]


def own_address() -> str:
    """This machine's address on the network of the SLURM controller; needs SLURM.

    Returns
    -------
    str

    Raises
    ------
    DaskroiError
        No SLURM here, or the controller has no address.
    """
    shown = _output("scontrol", "show", "config")
    for line in shown.splitlines():
        name, _, value = line.partition("=")
        if name.strip().startswith("SlurmctldHost"):
            # name(address), or a name alone
            host = value.strip()
            host = host[host.find("(") + 1 : -1] if host.endswith(")") else host
            try:
                return str(get_ip(host))
            except OSError as error:
                raise DaskroiError(
                    f"slurm: no way to the controller {host} ({error}). Give interface=, the "
                    "network between this machine and the nodes, such as 'ib0'."
                ) from error
    raise DaskroiError(
        "slurm: scontrol does not name the controller. Give interface=, the network between this "
        "machine and the nodes, such as 'ib0'."
    )


def _output(*command: str, given: str | None = None) -> str:
    """What a command of SLURM prints."""
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=60, check=True
        )
    except FileNotFoundError as error:
        raise DaskroiError(
            f"slurm: there is no {command[0]} here. Run this on a machine that submits jobs (a "
            "login node)."
        ) from error
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise DaskroiError(
            f"slurm: {command[0]} failed ({said[-1] if said else error}). Ask for what the cluster "
            "has: queue=, account=, walltime=, threads_per_worker=, memory=."
        ) from error
    return done.stdout


def _squeue(jobs: list[str]) -> dict[str, str]:
    """State and reason of the jobs that are waiting or running."""
    if not jobs:
        return {}
    try:
        # not --jobs: that fails when one of them is forgotten already
        mine = f"--user={os.geteuid()}"
        lines = _output("squeue", "--noheader", mine, "--format=%i %T (%r)").splitlines()
    except DaskroiError as error:
        return {"?": str(error)}
    states = dict(line.split(maxsplit=1) for line in lines if " " in line)
    return {job: states[job] for job in jobs if job in states}


def _configured(name: str, default: Any = ()) -> Any:
    return dask.config.get(f"jobqueue.slurm.{name}", None) or default


def _in_files(security: Any, folder: str, owned: ExitStack) -> Any:
    """Certificates that exist in memory only, written for the jobs to read; gone at the end."""
    if security is True:
        security = Security.temporary()
    if security is None or "\n" not in (security.tls_ca_file or ""):
        return security
    # 0700; jobqueue would write into it too, but leave the files to the garbage collector
    home = owned.enter_context(tempfile.TemporaryDirectory(prefix=".daskroi-tls-", dir=folder))
    paths = {}
    for name in ("tls_ca_file", "tls_worker_cert", "tls_worker_key"):
        paths[name] = os.path.join(home, name.removeprefix("tls_") + ".pem")
        with open(paths[name], "w", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
            file.write(getattr(security, name))
    cert, key = paths["tls_worker_cert"], paths["tls_worker_key"]
    return Security(
        require_encryption=True,
        tls_ca_file=paths["tls_ca_file"],
        **{f"tls_{role}_cert": cert for role in ("client", "scheduler", "worker")},
        **{f"tls_{role}_key": key for role in ("client", "scheduler", "worker")},
    )
