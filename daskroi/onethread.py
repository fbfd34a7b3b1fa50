"""Linear algebra on one thread, so that its last bit does not depend on the number of cores.

BLAS cuts its sums by the number of threads it has: with 36 confounds, 1,200 frames and 400 regions,
a regression on two threads is another one by 3e-16 than on one. Dask's worker processes have one
thread, a notebook has all cores, and both are to write the same files. Dask has other tasks for the
other cores; threads of both kinds would wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock, local
from typing import Any

__all__ = ["one_thread"]

_lock = Lock()
_mine = local()
_threads = 0  # of Python, inside
_before: list[int] = []


@contextmanager
def one_thread() -> Iterator[None]:
    """Have BLAS work on one thread; a block, or a decorator of functions.

    Most libraries have one number of threads for the whole process: it is put back when the last of
    those who asked at the same time is done.

    Examples
    --------
    >>> import numpy as np
    >>> @one_thread()
    ... def gram(values):
    ...     return values.T @ values
    >>> gram(np.ones((3, 1)))
    array([[3.]])
    """
    global _threads, _before
    depth = getattr(_mine, "depth", 0)
    if depth == 0:
        with _lock:
            if _threads == 0:
                _before = [library.num_threads for library in _libraries()]
            _threads += 1
            for library in _libraries():
                _set(library, 1)
    _mine.depth = depth + 1
    try:
        yield
    finally:
        _mine.depth = depth
        if depth == 0:
            with _lock:
                _threads -= 1
                for library, number in zip(_libraries(), _before, strict=True):
                    # under OpenMP, the number is each thread's own
                    if _threads == 0 or getattr(library, "threading_layer", "") == "openmp":
                        _set(library, number)


@lru_cache
def _libraries() -> list[Any]:
    # NumPy and SciPy bring a BLAS each, which must be loaded to be found
    import numpy as np  # noqa: F401
    from scipy import linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


def _set(library: Any, number: int) -> None:
    # threadpoolctl 3.8 listens to the first thread that asks, and to others only when told to:
    # pools of Dask come and go, and this has a lock of its own
    free = getattr(library, "clear_controlling_thread", None)
    if free is not None:
        free(force=True)
    library.set_num_threads(number)
    if free is not None:
        free(force=True)
