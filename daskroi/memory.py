"""Memory of a process: how much runs in it may need together, and how much they did."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

__all__ = ["Gate", "gate", "peak_memory", "reset_peak"]

# Dask pauses a worker at 0.8 of its limit and kills it at 0.95
USED_AT_MOST = 0.75
# Python, NumPy, SciPy, Dask and xarray, loaded: 160-200 MB measured
BASE_BYTES = 200 << 20


class Gate:
    """Lets runs through as long as there is memory for them; one is let through in any case.

    Parameters
    ----------
    limit : int or None
        Bytes for all runs together; None for no limit.

    Examples
    --------
    >>> with Gate(1000).reserve(4000):
    ...     print("alone")
    alone
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Wait until ``size`` bytes are free, and have them inside ``with``."""
        with self._changed:
            while self._used and self.limit is not None and self._used + size > self.limit:
                self._changed.wait()
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()


def gate(memory: int | None = None) -> Gate:
    """The gate of this process, whose limit is that of the Dask worker it is, else ``memory``."""
    limit = worker_limit()
    if limit is not None:
        limit = max(int(limit * USED_AT_MOST) - BASE_BYTES, 0)
    return _gate(memory if limit is None else limit)


@lru_cache(maxsize=8)
def _gate(limit: int | None) -> Gate:
    return Gate(limit)


def worker_limit() -> int | None:
    """Memory limit in bytes of the Dask worker this thread runs a task of; None without one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return None
    return getattr(getattr(worker, "memory_manager", None), "memory_limit", None)


def available_memory() -> int:
    """Bytes that runs in this process may need, of what the machine has free now."""
    import psutil

    return max(int(psutil.virtual_memory().available * USED_AT_MOST) - BASE_BYTES, 0)


def reset_peak() -> None:
    """Start to measure `peak_memory` anew, where the system can (Linux)."""
    with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def peak_memory() -> int:
    """Largest resident memory of this process in bytes, since `reset_peak` or its start.

    Other runs in the same process count as well.
    """
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
