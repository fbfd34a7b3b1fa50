"""Is the software on the workers the same as here? Asked once, right after connecting.

Dask itself warns of some packages in a table, and never of the one that matters most: ours.
"""

from __future__ import annotations

import os
import platform
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

from daskroi.errors import DaskroiError, one_line, warn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import Client

__all__ = ["check_environment", "compare", "environment"]

# what takes part in reading, reducing or sending; the rest may differ
PACKAGES = (
    "dask",
    "distributed",
    "cloudpickle",
    "msgpack",
    "numpy",
    "scipy",
    "pandas",
    "xarray",
    "nibabel",
    "zarr",
    "fsspec",
    "isal",
)
# of so many leading parts of the version, none may differ
DECISIVE = {"daskroi": 9, "python": 2, "numpy": 1}
MISSING = "missing"
REMEDY = (
    "Give both the same environment: the same container image, or on a cluster the same conda "
    "environment or venv on a shared file system."
)


def environment() -> dict[str, str]:
    """Versions in this process, and where it runs.

    Returns
    -------
    dict of str
        By package; ``python``, ``host`` and ``executable`` besides.

    Examples
    --------
    >>> import numpy
    >>> environment()["numpy"] == numpy.__version__
    True
    """
    import sys
    from importlib.metadata import PackageNotFoundError, version

    import daskroi

    found = {
        "daskroi": daskroi.__version__,
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "executable": sys.executable,
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = MISSING
    return found


def compare(here: Mapping[str, str], there: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What cannot work between two environments, and what may.

    Parameters
    ----------
    here, there : mapping of str
        Two results of `environment`.

    Returns
    -------
    fatal, doubtful : lists of str
        Each "name version here, version there".

    Notes
    -----
    Fatal: another daskroi (one cohort would mix results of two versions), another minor version of
    Python (compiled functions do not unpickle), another major version of NumPy (arrays of NumPy 2
    do not unpickle in NumPy 1), a package that is missing there.

    Examples
    --------
    >>> here = {"daskroi": "1.0", "python": "3.12.1", "numpy": "2.1.0"}
    >>> compare(here, here | {"python": "3.12.9", "numpy": "2.2.0"})
    ([], ['numpy 2.1.0 here, 2.2.0 there'])
    >>> compare(here, here | {"python": "3.11.7"})
    (['python 3.12.1 here, 3.11.7 there'], [])
    """
    fatal: list[str] = []
    doubtful: list[str] = []
    for name in ("daskroi", "python", *PACKAGES):
        mine, theirs = here.get(name, MISSING), there.get(name, MISSING)
        if mine == theirs:
            continue
        said = f"{name} {mine} here, {theirs} there"
        parts = DECISIVE.get(name, 0)
        differs = mine.split(".")[:parts] != theirs.split(".")[:parts]
        if differs or (theirs == MISSING and mine != MISSING):
            fatal.append(said)
        elif name != "python":
            doubtful.append(said)
    return fatal, doubtful


def check_environment(client: Client, shown: str) -> None:
    """Compare this process with scheduler and workers; raise or warn, once, with the remedy.

    Parameters
    ----------
    client : Client
        Of a cluster that has a worker already.
    shown : str
        What messages call the cluster.

    Raises
    ------
    DaskroiError
        daskroi is not installed there, or something else that cannot work; see `compare`.

    Examples
    --------
    >>> import daskroi as dr
    >>> with dr.connect("local", n_workers=1, processes=False) as client:
    ...     check_environment(client, "local")
    """
    here = environment()
    replies: dict[str, Any] = dict(client.run(environment, on_error="return"))
    try:
        # it unpickles every graph, so it needs the package as well
        replies["scheduler"] = client.run_on_scheduler(environment)
    except Exception as error:
        # some sites forbid it; then the workers' word has to do
        if _missing(error):
            replies["scheduler"] = error
    fatal: Counter[str] = Counter()
    doubtful: Counter[str] = Counter()
    for name, reply in replies.items():
        if isinstance(reply, BaseException) and _missing(reply):
            who = "its scheduler" if name == "scheduler" else f"the worker {name}"
            raise DaskroiError(
                f"{shown}: daskroi cannot be imported by {who} ({_said(reply)}). Install "
                f"daskroi {here['daskroi']} where it runs. {REMEDY}"
            ) from reply
        if isinstance(reply, BaseException):
            raise DaskroiError(
                f"{shown}: {name} does not answer ({_said(reply)}). See its log."
            ) from reply
        for kind, found in zip((fatal, doubtful), compare(here, reply), strict=True):
            if found:
                kind["; ".join(found) + f" ({_who(name, reply)})"] += 1
    if fatal:
        raise DaskroiError(f"{shown}: this cannot work: {_listed(fatal)}. {REMEDY}")
    if doubtful:
        warn(f"{shown}: versions differ: {_listed(doubtful)}. {REMEDY}")


def _missing(error: BaseException) -> bool:
    # what a worker cannot unpickle comes back as a plain Exception that quotes the reason
    return isinstance(error, ImportError) or "ModuleNotFoundError" in str(error)


def _who(name: str, reply: Mapping[str, str]) -> str:
    part = "scheduler" if name == "scheduler" else "workers"
    return f"{part} on {reply['host']}, {os.path.dirname(reply['executable'])}"


def _listed(found: Counter[str]) -> str:
    """The commonest few: 500 workers with one fault make one line."""
    first = [text for text, _ in found.most_common(3)]
    more = len(found) - len(first)
    return " and ".join(first) + (f" and {more} more" if more else "")


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
