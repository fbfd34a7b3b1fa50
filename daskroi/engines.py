"""Starts what runs the tasks: processes of this machine, or pods of Kubernetes; `slurm` has jobs.

Each function gives an `Engine`: the cluster object of Dask's own package for it, and what to say
when no worker comes. Names of options are those of that package.
"""

from __future__ import annotations

import inspect
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from daskroi.errors import DaskroiError, DaskroiTypeError

__all__ = ["PROFILE", "Engine", "Wanted", "check_names", "start_kubernetes", "start_local"]


# Dask samples the stacks of all threads and keeps 1,000 s of that: a worker that extracts grows by
# 0.25 MB per run until it has 200 MB more, and where memory is tight pauses for ever
NO_PROFILE = {"distributed.worker.profile.enabled": False}
PROFILE = "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED"
# of KubeCluster, but of no use to it once the specification is ours
SPEC_OPTIONS = ("worker_command", "scheduler_service_type", "idle_timeout", "jupyter")


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

    check_names("local", options, LocalCluster, Nanny, Worker)
    if options.get("processes", True):
        options = {"host": "127.0.0.1", "config": NO_PROFILE} | options
    else:  # which knows no host, and would serve a page on all networks
        options = {"worker_dashboard_address": "127.0.0.1:0"} | options
    if wanted.memory is not None:
        options = {"memory_limit": wanted.memory} | options
    # any free port: the second cluster on a machine would warn that 8787 is taken
    options = {"dashboard_address": "127.0.0.1:0"} | options
    if options.get("silence_logs"):
        options = options | {"silence_logs": _log_level(options["silence_logs"])}
    with _ctrl_c_later():
        cluster = LocalCluster(
            n_workers=wanted.n_workers,
            threads_per_worker=wanted.threads,
            security=wanted.security,
            **options,
        )
        owned.callback(cluster.close)
    return Engine(cluster=cluster, clue=lambda: "The workers' own messages are above.")


def _log_level(given: Any) -> int:
    """A level of `logging` by number or name: Dask takes numbers only, and says so late."""
    level = logging.getLevelNamesMapping().get(given.upper()) if isinstance(given, str) else given
    if not isinstance(level, int):
        raise DaskroiError(
            f"silence_logs={given!r} is no level of logging. Use 'error', logging.ERROR or False."
        )
    return level


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM wait until processes are started, and Ctrl-C never come to these.

    A terminal sends it to all processes, and workers, or a cluster that is half started, would
    answer with pages of tracebacks. Who has started them ends them.
    """
    mine = threading.current_thread() is threading.main_thread()  # which alone may set signals
    if not mine or signal.getsignal(signal.SIGINT) is signal.SIG_IGN or os.name == "nt":
        yield
        return
    from multiprocessing import resource_tracker

    # it is started with the first process, and lets signals through again
    resource_tracker.ensure_running()
    came: list[int] = []
    before: dict[int, Any] = {}
    for number in map(int, (signal.SIGINT, signal.SIGTERM)):
        there = signal.getsignal(number)
        # where Python does not handle SIGTERM, it ends the process at once
        if number == signal.SIGINT or callable(there):
            # None: it was not Python that set it, and cannot be put back
            before[number] = signal.default_int_handler if there is None else there
            signal.signal(number, lambda came_now, _: came.append(came_now))
    # threads that are made from here on inherit this, and so do processes that these start
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        if callable(handler := before[came[0]]):
            handler(came[0], None)
        raise KeyboardInterrupt


def start_kubernetes(wanted: Wanted, options: dict[str, Any], owned: ExitStack) -> Engine:
    """Pods, by Dask's operator, which must be installed in the Kubernetes cluster."""
    from dask_kubernetes.operator import KubeCluster, make_cluster_spec

    check_names("kubernetes", options, KubeCluster)
    if wanted.security is not None:
        raise DaskroiError(
            "kubernetes: a cluster started from here cannot use TLS, the operator's client speaks "
            "tcp only. Start deploy/kubernetes/tls and connect to its address, 'tls://...'."
        )
    n_workers = wanted.n_workers or 10
    spec = options.pop("custom_cluster_spec", None)
    # then it may be somebody's, to connect to by name
    theirs = "create_mode" in options
    if spec is None and not theirs:
        image = options.pop("image", None)
        if image is None:
            raise DaskroiError(
                "kubernetes: which image? Give image=, one with daskroi in it "
                "(deploy/docker/Dockerfile builds it), or custom_cluster_spec=."
            )
        more = {name: options.pop(name) for name in SPEC_OPTIONS if name in options}
        spec = make_cluster_spec(
            options.pop("name", None) or f"daskroi-{os.urandom(4).hex()}",
            image=image,
            n_workers=1 if wanted.adaptive else n_workers,
            resources=options.pop("resources", None) or _resources(wanted),
            env={PROFILE: "False"} | (options.pop("env", None) or {}),
            # dask-worker and dask-scheduler, its own choice, are not in distributed 2026.8
            **{"worker_command": ["dask", "worker"]} | more,
        )
        for part in ("scheduler", "worker"):
            container = spec["spec"][part]["spec"]["containers"][0]
            args = container["args"]
            if args[0] == "dask-scheduler":
                args[:1] = ["dask", "scheduler"]
            # whatever the image starts by itself
            container["command"], container["args"] = args[:2], args[2:]
    try:
        # before: a cluster object that failed tries again to delete itself at exit, and says so
        _ask_kubernetes()
        cluster = KubeCluster(custom_cluster_spec=spec, quiet=True, **options)
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        raise DaskroiError(
            f"kubernetes: no cluster ({type(error).__name__}: {said}). "
            "Is kubectl set up here, and the Dask operator installed there (helm install "
            "--repo https://helm.dask.org dask-kubernetes-operator)?"
        ) from error
    owned.callback(cluster.close)
    if theirs and wanted.n_workers is None:
        pass
    elif wanted.adaptive:
        cluster.adapt(minimum=1, maximum=n_workers)
    else:
        # each pod is a Deployment's, so a lost one is replaced
        cluster.scale(n_workers)
    selector = f"-n {cluster.namespace} -l dask.org/cluster-name={cluster.name}"
    return Engine(
        cluster=cluster,
        clue=lambda: f"See: kubectl get pods {selector}; kubectl describe pods {selector}.",
    )


def _ask_kubernetes() -> None:
    """Raise what is wrong with the way to Kubernetes."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    import kr8s

    async def ask() -> None:
        await (await kr8s.asyncio.api()).version()

    # in a loop of its own: a notebook's is running, and kr8s keeps a failure for each loop
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(ask())).result()


def _resources(wanted: Wanted) -> dict[str, dict[str, str]] | None:
    from dask.utils import parse_bytes

    asked = {}
    if wanted.threads is not None:
        asked["cpu"] = str(wanted.threads)
    if wanted.memory is not None:
        asked["memory"] = str(parse_bytes(wanted.memory))
    return {"requests": asked, "limits": asked} if asked else None


def check_names(engine: str, options: dict[str, Any], *classes: type) -> None:
    """Said here: a worker would say it in its own process, and Dask only that it did not start."""
    known = {name for one in classes for name in inspect.signature(one).parameters}
    for name in options:
        if name not in known:
            raise DaskroiTypeError(
                f"{engine}: {name}= is not an option of {classes[0].__name__}. See its help()."
            )
