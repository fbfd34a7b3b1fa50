"""Connect to what runs the tasks: this machine, a scheduler, SLURM or Kubernetes."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from numbers import Real
from typing import TYPE_CHECKING, Any

from daskroi.currentclient import current_client
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError, one_line
from daskroi.jsontext import from_json

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["connect", "connected"]

EXTRAS = {"slurm": "dask_jobqueue", "kubernetes": "dask_kubernetes"}
# s: a process starts at once, a job or pod may have to wait for its turn
PATIENCE = {"slurm": 600.0, "kubernetes": 600.0}
TLS_FILES = ("tls_ca_file", "tls_cert", "tls_key")


def connect(
    to: Any = "local",
    *,
    n_workers: int | None = None,
    threads_per_worker: int | None = None,
    memory: str | int | None = None,
    adaptive: bool = True,
    security: Any = None,
    tls_ca_file: str | os.PathLike[str] | None = None,
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    **options: Any,
) -> Client:
    """Connect to a Dask cluster, or start one, and check that its workers can do the work.

    Parameters
    ----------
    to : str, path, Client, cluster or None
        - "local": processes on this machine.
        - "slurm": jobs submitted from here, by dask-jobqueue.
        - "kubernetes": pods, by dask-kubernetes and the Dask operator.
        - "tcp://host:8786", "tls://host:8786" or "host:8786": a scheduler that runs.
        - a path: the file a scheduler wrote (``dask scheduler --scheduler-file``); waited for.
        - a `distributed.Client`: given back as it is. A cluster object: connected to.
        - None: the client that is current, as in a notebook; "local" if there is none.
    n_workers : int, optional
        Most workers to have (SLURM and Kubernetes: 10), or how many to keep if not ``adaptive``.
        "local": how many processes.
    threads_per_worker : int, optional
        Tasks a worker does at once. SLURM: cores of a job.
    memory : str or int, optional
        Of one worker, "8GiB" or bytes. A worker that needs more is ended, and its task with it.
    adaptive : bool
        SLURM and Kubernetes: from 1 to ``n_workers`` workers, by the work there is. False: always
        ``n_workers``. Workers that are lost are replaced either way.
    security : distributed.Security or bool, optional
        For TLS. True makes certificates for this cluster alone, and is what "slurm" does if nothing
        is given; False turns that off.
    tls_ca_file, tls_cert, tls_key : path, optional
        The same as PEM files: of the authority, and of this client.
    timeout : float, optional
        Seconds to wait for the first worker; 60, for SLURM and Kubernetes 600.
    **options
        Further options of `distributed.LocalCluster`, `dask_jobqueue.SLURMCluster` (``queue``,
        ``account``, ``walltime`` ...) or `dask_kubernetes.operator.KubeCluster` (``image``,
        ``namespace``, ``custom_cluster_spec`` ...).

    Returns
    -------
    distributed.Client
        The current client from now on. ``close``, or leaving ``with``, also ends the cluster if it
        was started here.

    Raises
    ------
    DaskroiError
        No scheduler, no worker in time (the message says where the logs are), a missing extra, or
        software on the workers that cannot work with that here.

    Warns
    -----
    DaskroiWarning
        Other versions on the workers, which may work.

    Notes
    -----
    What is started here listens on loopback only, SLURM's on the network of the controller only.
    What Dask reads when a scheduler starts must be set before: how often a task may lose its worker
    (``distributed.scheduler.allowed-failures``, 3), and how long a worker may be silent
    (``distributed.scheduler.worker-ttl``, 5 min). A lost SLURM job is replaced after
    ``distributed.deploy.lost-worker-timeout``, 15 s.

    A script that starts processes must do so below ``if __name__ == "__main__":``.

    Examples
    --------
    >>> import daskroi as dr
    >>> with dr.connect("local", n_workers=1, processes=False) as client:
    ...     run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    ...     dr.extract(run.image, run.atlas).compute().shape
    (20, 4)
    """
    from distributed import Client

    if to is None:
        to = current_client(of_task=True) or "local"
    sizes = _sizes(n_workers=n_workers, threads_per_worker=threads_per_worker, memory=memory)
    tls = dict(zip(TLS_FILES, (tls_ca_file, tls_cert, tls_key), strict=True))
    if isinstance(to, Client):
        _refuse(sizes | options, "a Client")
        return to
    safety = _security(security, tls)
    patience = PATIENCE.get(to if isinstance(to, str) else "", 60.0) if timeout is None else timeout
    if not (isinstance(patience, Real) and 0 <= patience < math.inf):
        raise DaskroiError(f"timeout={timeout!r} is no time to wait. Give seconds, or None.")
    if isinstance(to, str) and to in ("local", *EXTRAS):
        if safety is None and security is None and to == "slurm":
            safety = _configured_security() or True
        wants = {"n_workers": n_workers, "threads": threads_per_worker, "memory": memory}
        return _start(to, wants | {"adaptive": adaptive, "security": safety}, options, patience)
    shown = str(to) if isinstance(to, str | os.PathLike) else type(to).__name__
    _refuse(sizes | options, shown)
    return _join(to, shown, None if safety is True else safety, patience)


@contextmanager
def connected(to: Any = None, **options: Any) -> Iterator[Client]:
    """As `connect`, but leaving ``with`` closes only what this call opened.

    Examples
    --------
    >>> with connected("local", n_workers=1, processes=False) as client:
    ...     with connected(client) as same:
    ...         pass
    ...     client.status
    'running'
    """
    from distributed import Client

    current = current_client(of_task=True) if to is None else None
    client = connect(to, **options)
    try:
        yield client
    finally:
        if client is not current and not isinstance(to, Client):
            client.close()


def _sizes(*, memory: Any, **counts: Any) -> dict[str, Any]:
    """What was given; a cluster of -1 workers would be waited for."""
    from dask.utils import parse_bytes

    given = {name: value for name, value in counts.items() if value is not None}
    for name, value in given.items():
        if not (hasattr(value, "__index__") and value > 0):
            raise DaskroiError(f"{name}={value!r} is not a number. Give 1 or more.")
    if memory is None:
        return given
    try:
        parse_bytes(memory)
    except (TypeError, ValueError, AttributeError):
        raise DaskroiError(
            f"memory={memory!r} is no size. Give bytes, or a text such as '8GiB'."
        ) from None
    return given | {"memory": memory}


def _start(name: str, wants: dict[str, Any], options: dict[str, Any], patience: float) -> Client:
    """Start an engine and wait for its first worker; whatever fails, nothing is left running."""
    from daskroi import engines
    from daskroi.ownclient import OwningClient

    with ExitStack() as owned:
        try:
            if name == "slurm":
                from daskroi.slurm import start_slurm as start
            else:
                start = engines.start_local if name == "local" else engines.start_kubernetes
            engine = start(engines.Wanted(**wants), options, owned)
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            if module == "cryptography":
                remedy = "Type: pip install cryptography, or give security=False."
            elif name in EXTRAS:
                remedy = f"Type: pip install 'daskroi[{name}]'."
            else:
                raise
            raise DaskroiError(f"{name}: {module} is not installed. {remedy}") from error
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            if name != "local" or isinstance(error, DaskroiError):
                raise
            # what LocalCluster says of an option, or of its folder
            reason = one_line(error)
            raise DaskroiError(
                f"local: no cluster ({type(error).__name__}: {reason}). Check its options"
                f"{''.join(f', {option}=' for option in options)}."
            ) from error
        keep = owned.pop_all()
    try:
        client = _client(
            engine.cluster, name, patience, lambda *a, **k: OwningClient(a[0], keep, **k)
        )
    except BaseException:
        keep.close()
        raise
    return _ready(client, name, patience, engine.clue, engine.dead)


def _join(to: Any, shown: str, security: Any, patience: float) -> Client:
    """Connect to what runs already, by address, scheduler file or cluster object."""
    from distributed import Client
    from distributed.deploy import Cluster

    target = to
    if not isinstance(to, Cluster):
        target = _address(to, patience)
        if target.startswith("tls://"):
            security = security or _configured_security()
            if security is None:
                raise DaskroiError(
                    f"{shown}: tls needs certificates. Give tls_ca_file=, tls_cert= and tls_key=, "
                    "or set distributed.comm.tls in Dask's configuration."
                )
        elif security is not None:
            raise DaskroiError(
                f"{shown}: certificates were given, but the scheduler speaks "
                f"{target.partition('://')[0]}. Start it with --tls-ca-file, --tls-cert and "
                "--tls-key, or leave them out."
            )
    client = _client(
        target, shown, patience, Client, **({"security": security} if security else {})
    )
    return _ready(client, shown, patience, lambda: "Start one: dask worker, with this scheduler.")


def _client(
    target: Any, shown: str, patience: float, make: Callable[..., Client], **options: Any
) -> Client:
    import ssl

    import dask
    from distributed.versions import VersionMismatchWarning

    from daskroi.unsaid import ignored

    scheduler = dask.config.get("scheduler", None)
    try:
        # a table over many lines; `check_environment` says it in one, with the remedy
        with ignored(VersionMismatchWarning):
            try:
                return make(target, timeout=max(patience, 1), **options)
            except BaseException:
                # Dask's client has said that all is computed by it, before it finds no scheduler:
                # whatever this process computed next would ask for the client that is not there
                dask.config.set(scheduler=scheduler)
                raise
    except (OSError, ssl.SSLError, TimeoutError) as error:
        reason = (str(error.__cause__ or error) or type(error).__name__).splitlines()[0]
        raise DaskroiError(
            f"{shown}: no connection to the scheduler ({reason}). Does it run, is its port "
            "open to this machine? A scheduler file may be left over from an earlier one."
        ) from error
    except ValueError as error:  # of the text itself
        raise DaskroiError(
            f"{shown}: is no address of a scheduler ({error}). Give one such as 'tcp://host:8786'."
        ) from error


def _ready(
    client: Client,
    shown: str,
    patience: float,
    clue: Callable[[], str],
    dead: Callable[[], bool] = lambda: False,
) -> Client:
    """The client, when a worker is there that can do our work; otherwise closed and an error."""
    from daskroi.environment import check_environment

    try:
        started = time.monotonic()
        while not client.nthreads():
            spent = time.monotonic() - started
            # a job that ends at once needs a moment to be submitted
            if spent > patience or (spent > 5 and dead()):
                raise DaskroiError(
                    f"{shown}: no worker came within {spent:.0f} s. {clue()} "
                    "More time: timeout= (seconds)."
                )
            time.sleep(min(0.1 + spent / 10, 2))
        check_environment(client, shown)
    except BaseException:
        client.close()
        raise
    return client


def _address(to: Any, patience: float) -> str:
    """The scheduler's address, from an address or a scheduler file."""
    if isinstance(to, str):
        if re.match(r"^[a-z]+://", to):
            return to
        if re.match(r"^[\w.-]+:\d+$", to) and not os.path.exists(to):
            return f"tcp://{to}"
    elif not isinstance(to, os.PathLike):
        raise DaskroiTypeError(
            f"to={type(to).__name__} is nothing to connect to. Give a name, an address, a "
            "scheduler file, a Client or a cluster."
        )
    path = os.fspath(to)
    if not (os.sep in path or path.endswith(".json") or os.path.exists(path)):
        raise DaskroiError(
            f"to={path!r} is not known. Use 'local', 'slurm', 'kubernetes', an address such as "
            "'tcp://host:8786', or the path of a scheduler file."
        )
    deadline = time.monotonic() + patience
    while True:
        try:
            with open(path, encoding="utf-8") as file:
                return str(from_json(file.read())["address"])
        except OSError as error:
            reason = error.strerror or str(error)
        except (ValueError, KeyError, TypeError):
            # written in place: half of it may be there
            reason = "not a scheduler's file"
        if time.monotonic() > deadline:
            raise DaskroiNotFoundError(
                f"{path}: {reason}, after {patience:.0f} s. Start a scheduler that writes it: "
                f"dask scheduler --scheduler-file {path}"
            )
        time.sleep(0.1)


def _security(security: Any, files: dict[str, Any]) -> Any:
    """Security of all roles from what was given; None if nothing was, True to make certificates."""
    from distributed import Security

    given = {name: os.fspath(path) for name, path in files.items() if path is not None}
    if security is not None and not isinstance(security, bool | Security):
        raise DaskroiTypeError(
            f"security={type(security).__name__} is not distributed.Security. Give that, True, or "
            "tls_ca_file=, tls_cert= and tls_key=."
        )
    if not given:
        return None if security is False else security
    if security is not None:
        raise DaskroiError("security= and tls_ca_file=, tls_cert=, tls_key= were given. Give one.")
    for name in TLS_FILES:
        if name not in given:
            raise DaskroiError(f"{name}= is missing. Give all of {'=, '.join(TLS_FILES)}=.")
        if not os.access(given[name], os.R_OK):
            raise DaskroiNotFoundError(f"{name}={given[name]}: cannot be read. Give a PEM file.")
    made = Security(
        require_encryption=True,
        tls_ca_file=given["tls_ca_file"],
        **{f"tls_{role}_cert": given["tls_cert"] for role in ("client", "scheduler", "worker")},
        **{f"tls_{role}_key": given["tls_key"] for role in ("client", "scheduler", "worker")},
    )
    try:
        made.get_connection_args("client")
    except OSError as error:
        raise DaskroiError(
            f"tls_cert={given['tls_cert']}, tls_key={given['tls_key']}: not a certificate and its "
            f"key ({error}). Give PEM files."
        ) from error
    return made


def _configured_security() -> Any:
    """From Dask's configuration, distributed.comm.tls; None if it has no certificates."""
    from distributed import Security

    found = Security()
    tls = found.get_tls_config_for_role("client")
    return found if tls["ca_file"] and tls["cert"] else None


def _refuse(options: dict[str, Any], shown: str) -> None:
    if options:
        raise DaskroiError(
            f"{shown} is there already: {', '.join(f'{name}=' for name in sorted(options))} cannot "
            "change it. Leave out what is for starting a cluster."
        )
