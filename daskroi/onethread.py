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
from threading import Lock
from typing import Any

__all__ = ["one_thread"]

_lock = Lock()
_running = 0
_before: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Have BLAS work on one thread; a block, or a decorator of functions.

    The number of threads is the process's: it is put back when the last of those who asked at the
    same time is done.

    Examples
    --------
    >>> import numpy as np
    >>> @one_thread()
    ... def gram(values):
    ...     return values.T @ values
    >>> gram(np.ones((3, 1)))
    array([[3.]])
    """
    global _running, _before
    with _lock:
        if _running == 0:
            _before = _controller().limit(limits=1, user_api="blas")
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0:
                _before.restore_original_limits()


@lru_cache
def _controller() -> Any:
    # NumPy and SciPy bring a BLAS each, which must be loaded to be found
    import numpy as np  # noqa: F401
    from scipy import linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
