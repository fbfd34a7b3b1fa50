"""Which Dask client is current; Dask's own code is not imported to know that there is none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["current_client"]


def current_client(*, of_task: bool) -> Client | None:
    """The client that is current, as in a notebook; None if there is none.

    Parameters
    ----------
    of_task : bool
        Inside a task, the client of its worker. Who then waits for many other tasks may wait for
        ever: the worker's thread is taken.
    """
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client, get_client

    try:
        return get_client() if of_task else default_client()
    except ValueError:
        return None
