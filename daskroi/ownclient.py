"""A client that closes what was started for it. Imported where a client is made, never before."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from distributed import Client

__all__ = ["OwningClient"]


class OwningClient(Client):
    """A `distributed.Client` that also closes its cluster, by ``close``, ``with`` or at exit.

    A plain client of a cluster object leaves it running: jobs would idle on until their time limit.

    Parameters
    ----------
    address : cluster or address
    owned : ExitStack
        What to close after the client.
    **options
        As of `distributed.Client`.

    Examples
    --------
    >>> from contextlib import ExitStack
    >>> from distributed import LocalCluster
    >>> cluster = LocalCluster(n_workers=1, processes=False, dashboard_address=None)
    >>> owned = ExitStack()
    >>> _ = owned.callback(cluster.close)
    >>> with OwningClient(cluster, owned) as client:
    ...     client.submit(abs, -1).result()
    1
    >>> cluster.status.name
    'closed'
    """

    # for __del__ of one whose __init__ failed
    _owned = ExitStack()

    def __init__(self, address: Any, owned: ExitStack, **options: Any) -> None:
        super().__init__(address, **options)
        self._owned = owned

    def close(self, *args: Any, **kwargs: Any) -> Any:
        """Close the client, then what it owns."""
        try:
            return super().close(*args, **kwargs)
        finally:
            self._owned.close()
