"""How commands compute: in this process, with a bar, and Ctrl-C ends it at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from daskroi.bar import Bar

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["shown_compute"]


def shown_compute(
    lazy: list[xr.DataArray], title: str, streamed_frames: int = 0
) -> list[xr.DataArray]:
    """Compute together in this process, with a progress bar on stderr.

    Parameters
    ----------
    lazy : list of DataArray
    title : str
        Stands before the bar.
    streamed_frames : int
        Frames that will be streamed off files. Dask sees a whole stream as one task, so these are
        counted as they are read; tasks are counted besides.

    Returns
    -------
    list of DataArray

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> [result] = shown_compute([dr.extract(run.image, run.atlas)], "Extracting")
    >>> result.shape
    (20, 4)
    """
    import dask
    from dask.callbacks import Callback
    from dask.system import CPU_COUNT

    with closing(Bar(title)) as bar:

        def begin(_: Any, state: Any) -> None:
            bar.add(sum(len(state[kind]) for kind in ("ready", "waiting", "running")))

        def after(*_: Any) -> None:
            bar.update(1)

        bar.add(streamed_frames)
        threads = dask.config.get("num_workers", None) or CPU_COUNT
        # left with its threads at rest: one that is still writing when Python ends has Zarr's event
        # loop say so, in many lines
        with (
            ThreadPoolExecutor(threads) as pool,
            _counted_slabs(bar),
            Callback(start_state=begin, posttask=after),
        ):
            return list(dask.compute(*lazy, scheduler="threads", pool=pool))


@contextmanager
def _counted_slabs(bar: Bar) -> Iterator[None]:
    """Count frames as slabs come, and end streams when the user has pressed Ctrl-C."""
    from daskroi.imagefile import StreamEndedError, watch_slabs

    cancelled = threading.Event()

    def watcher(frames: int) -> None:
        # threads are waited for: without this, until the run's end
        if cancelled.is_set():
            raise StreamEndedError("cancelled. Start it again.")
        bar.update(frames)

    with watch_slabs(watcher):
        try:
            yield
        except BaseException:
            cancelled.set()
            raise
