"""Starts what runs the tasks: processes here, jobs of SLURM, pods of Kubernetes.

Each function gives an `Engine`: the cluster object of Dask's own package for it, and what to say
when no worker comes. Names of options are those of that package.
"""

from __future__ import annotations

import inspect
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from daskroi.errors import DaskroiError, DaskroiTypeError

__all__ = ["ENGINES", "Engine", "Wanted", "own_address"]


# what a node is to the network it reaches the scheduler by; a UDP connect sends nothing
WAY = (
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('%s', 9)); "
    "print(s.getsockname()[0])"
)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What every engine can be asked for.

    Attributes
    ----------
    n_workers : int, optional
        At most so many (adaptive), or always so many.
    threads : int, optional
        Of a worker.
    memory : str or int, optional
        Of a worker; text like "8GiB", or bytes.
    adaptive : bool
    security : Security or True, optional
        True: certificates made for this cluster alone.
    """

    n_workers: int | None = None
    threads: int | None = None
    memory: str | int | None = None
    adaptive: bool = True
    security: Any = None


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A cluster that was started.

    Attributes
    ----------
    cluster : object
        LocalCluster, SLURMCluster or KubeCluster.
    clue : callable giving str
        Where to look when no worker comes, as a sentence.
    dead : callable giving bool
        No worker will ever come.
    """

    cluster: Any
    clue: Callable[[], str]
    dead: Callable[[], bool] = field(default=lambda: False)


def start_local(wanted: Wanted, options: dict[str, Any], owned: ExitStack) -> Engine:
    """Processes on this machine, reachable from nowhere else.

    Without ``n_workers`` as many processes and threads as Dask finds right for the cores this
    process may use, each with its share of the memory it may use.
    """
    from distributed import LocalCluster, Nanny, Worker

    _check_names("local", options, LocalCluster, Nanny, Worker)
    if options.get("processes", True):
        options = {"host": "127.0.0.1"} | options
    if wanted.memory is not None:
        options = {"memory_limit": wanted.memory} | options
    # any free port: the second cluster on a machine would warn that 8787 is taken
    options = {"dashboard_address": "127.0.0.1:0"} | options
    cluster = LocalCluster(
        n_workers=wanted.n_workers,
        threads_per_worker=wanted.threads,
        security=wanted.security,
        **options,
    )
    owned.callback(cluster.close)
    return Engine(cluster=cluster, clue=lambda: "The workers' own messages are above.")


def start_slurm(wanted: Wanted, options: dict[str, Any], owned: ExitStack) -> Engine:
    """One job per worker, submitted with ``sbatch`` from here.

    What is not given is taken from dask-jobqueue's configuration (``~/.config/dask``). Scheduler
    and workers listen only on the network between them, and only to holders of certificates made
    for this cluster: whoever else can send a task to a worker runs code as you.
    """
    import dask
    from dask_jobqueue import SLURMCluster
    from dask_jobqueue.core import Job, JobQueueCluster
    from dask_jobqueue.slurm import SLURMJob

    _check_names("slurm", options, SLURMCluster, JobQueueCluster, SLURMJob, Job)
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
    shared = options.get("shared_temp_directory") or os.getcwd()
    security = _in_files(wanted.security, shared, owned)
    extra = list(options.pop("worker_extra_args", None) or _configured("worker-extra-args"))
    prologue = list(options.pop("job_script_prologue", None) or _configured("job-script-prologue"))
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
        minimum=1 if wanted.adaptive else n_workers,
        maximum=n_workers,
        # Dask takes a task it has not seen for half a second of work, a run takes minutes: with
        # this target every waiting task counts for a thread
        target_duration="500ms",
        # a job given back is queued for again: keep it through half a minute without work
        wait_count=30,
    )

    def jobs() -> list[str]:
        return [job.job_id for job in cluster.workers.values() if getattr(job, "job_id", None)]

    def clue() -> str:
        logs = options.get("log_directory") or _configured("log-directory", None)
        where = f"{logs}/*.err" if logs else f"slurm-*.out in {os.getcwd()}"
        states = _squeue(jobs())
        told = "; ".join(f"job {key} is {state}" for key, state in states.items())
        return f"{told or 'No job is left in the queue'}. Logs: {where}."

    def dead() -> bool:
        known = jobs()
        return bool(known) and not _squeue(known)

    return Engine(cluster=cluster, clue=clue, dead=dead)


def start_kubernetes(wanted: Wanted, options: dict[str, Any], owned: ExitStack) -> Engine:
    """Pods, by Dask's operator, which must be installed in the Kubernetes cluster."""
    from dask_kubernetes.operator import KubeCluster, make_cluster_spec

    _check_names("kubernetes", options, KubeCluster)
    if wanted.security is not None:
        raise DaskroiError(
            "kubernetes: a cluster started from here cannot use TLS, the operator's client speaks "
            "tcp only. Start deploy/kubernetes/tls and connect to its address, 'tls://...'."
        )
    n_workers = wanted.n_workers or 10
    spec = options.pop("custom_cluster_spec", None)
    if spec is None:
        image = options.pop("image", None)
        if image is None:
            raise DaskroiError(
                "kubernetes: which image? Give image=, one with daskroi in it "
                "(deploy/docker/Dockerfile builds it), or custom_cluster_spec=."
            )
        spec = make_cluster_spec(
            options.pop("name", None) or f"daskroi-{os.urandom(4).hex()}",
            image=image,
            n_workers=1 if wanted.adaptive else n_workers,
            resources=options.pop("resources", None) or _resources(wanted),
            env=options.pop("env", None) or {},
        )
        for part in ("scheduler", "worker"):
            container = spec["spec"][part]["spec"]["containers"][0]
            # the spec has dask-scheduler and dask-worker, which distributed 2026.8 lacks
            container["command"] = ["dask", part]
            container["args"] = container["args"][1:]
    try:
        cluster = KubeCluster(custom_cluster_spec=spec, quiet=True, **options)
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        raise DaskroiError(
            f"kubernetes: no cluster ({type(error).__name__}: {said}). "
            "Is kubectl set up here, and the Dask operator installed there (helm install "
            "--repo https://helm.dask.org dask-kubernetes-operator)?"
        ) from error
    owned.callback(cluster.close)
    if wanted.adaptive:
        cluster.adapt(minimum=1, maximum=n_workers)
    else:
        # each pod is a Deployment's, so a lost one is replaced
        cluster.scale(n_workers)
    selector = f"-n {cluster.namespace} -l dask.org/cluster-name={cluster.name}"
    return Engine(
        cluster=cluster,
        clue=lambda: f"See: kubectl get pods {selector}; kubectl describe pods {selector}.",
    )


ENGINES = {"local": start_local, "slurm": start_slurm, "kubernetes": start_kubernetes}


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
    from distributed.utils import get_ip

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


def _check_names(engine: str, options: dict[str, Any], *classes: type) -> None:
    """Said here: a worker would say it in its own process, and Dask only that it did not start."""
    known = {name for one in classes for name in inspect.signature(one).parameters}
    for name in options:
        if name not in known:
            raise DaskroiTypeError(
                f"{engine}: {name}= is not an option of {classes[0].__name__}. See its help()."
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
        lines = _output("squeue", "--noheader", "--format=%i %T (%r)").splitlines()
    except DaskroiError as error:
        return {"?": str(error)}
    states = dict(line.split(maxsplit=1) for line in lines if " " in line)
    return {job: states[job] for job in jobs if job in states}


def _configured(name: str, default: Any = ()) -> Any:
    import dask

    return dask.config.get(f"jobqueue.slurm.{name}", None) or default


def _in_files(security: Any, folder: str, owned: ExitStack) -> Any:
    """Certificates that exist in memory only, written for the jobs to read; gone at the end."""
    from distributed import Security

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


def _resources(wanted: Wanted) -> dict[str, dict[str, str]] | None:
    from dask.utils import parse_bytes

    asked = {}
    if wanted.threads is not None:
        asked["cpu"] = str(wanted.threads)
    if wanted.memory is not None:
        asked["memory"] = str(parse_bytes(wanted.memory))
    return {"requests": asked, "limits": asked} if asked else None
