"""Runs in flight: a bounded window of them, on a Dask cluster or on threads of this process.

As many runs are known to the scheduler as keep its workers busy, never all: 100,000 runs cost
client and scheduler no more memory than 100 do. What is done is forgotten at once.
"""

from __future__ import annotations

import math
import queue
import time
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from daskroi.errors import DaskroiError
from daskroi.outcome import Outcome, failure
from daskroi.runjob import run_job

if TYPE_CHECKING:
    from distributed import Client, Future

    from daskroi.upkeep import Needs
    from daskroi.work import Job, Work

__all__ = ["ClusterWindow", "LostClusterError", "ThreadWindow", "Window"]

# runs in flight for each thread of the workers: one to do, one to take up next
PER_THREAD = 2
FEWEST = 8
SECONDS_BETWEEN_LOOKS = 2.0
# workers are paused, and none computes: what they hold is not of runs, and does not go
SECONDS_PAUSED = 60.0


class LostClusterError(DaskroiError):
    """The scheduler, or the connection to it, is gone."""


class Window(ABC):
    """Takes jobs until it is full, and gives back what is done."""

    @property
    @abstractmethod
    def full(self) -> bool:
        """Whether to wait before another job is submitted."""

    @property
    @abstractmethod
    def busy(self) -> int:
        """Jobs that were submitted and not given back."""

    @abstractmethod
    def submit(self, job: Job, needs: Needs) -> None:
        """Have a job done."""

    @abstractmethod
    def next(self, timeout: float) -> tuple[Job, Outcome] | None:
        """What is done next; None when nothing is after ``timeout`` seconds."""

    @abstractmethod
    def close(self) -> None:
        """Give up what is not done."""

    #: what the progress display says it runs on
    where: str = ""


class ThreadWindow(Window):
    """Runs on threads of this process: NumPy, SciPy and the inflater let go of Python's lock.

    Parameters
    ----------
    work : Work
    threads : int, optional
        Runs at once; a thread per core if not given.
    most : int, optional
        Runs that are under way or wait; one more than threads if not given.
    """

    def __init__(self, work: Work, threads: int | None = None, most: int | None = None) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._work = work
        count = threads or cores()
        self._most = most or count + 1
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="daskroi-run")
        self._done: queue.SimpleQueue[tuple[Job, Outcome]] = queue.SimpleQueue()
        self._busy = 0
        self.where = f"{count} thread{'s' if count > 1 else ''}"

    @property
    def full(self) -> bool:
        """Whether to wait before another job is submitted."""
        return self._busy >= self._most

    @property
    def busy(self) -> int:
        """Jobs that were submitted and not given back."""
        return self._busy

    def submit(self, job: Job, needs: Needs) -> None:
        """Have a job done."""
        self._busy += 1
        self._pool.submit(self._run, job, needs)

    def _run(self, job: Job, needs: Needs) -> None:
        try:
            outcome = run_job(job, self._work, needs)
        except BaseException as error:  # asyncio's CancelledError: not given back, it is waited for
            outcome = failure(error)
        self._done.put((job, outcome))

    def next(self, timeout: float) -> tuple[Job, Outcome] | None:
        """What is done next; None when nothing is after ``timeout`` seconds."""
        try:
            found = self._done.get(timeout=timeout)
        except queue.Empty:
            return None
        self._busy -= 1
        return found

    def close(self) -> None:
        """Give up what has not begun, and wait for the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def cores() -> int:
    """Cores this process may use."""
    from dask.system import CPU_COUNT

    return CPU_COUNT


class ClusterWindow(Window):
    """Runs on the workers of a Dask cluster, a task each.

    Parameters
    ----------
    client : distributed.Client
    work : Work
        Travels once, as a task of its own: when the worker that has it dies, it is made again.
    most : int, optional
        Runs in flight; by the threads of the workers if not given, as they come and go.
    """

    def __init__(self, client: Client, work: Work, most: int | None = None) -> None:
        self._client = client
        self._given = most
        self._done: queue.SimpleQueue[tuple[int, Future]] = queue.SimpleQueue()
        self._running: dict[int, tuple[Job, Future]] = {}
        self._ready: deque[tuple[Job, Outcome]] = deque()
        self._lost: list[tuple[int, Future]] = []
        # one group for the scheduler's bookkeeping, however many runs there are
        self._group = f"daskroi-run-{uuid.uuid4().hex}"
        self._looked = -math.inf
        self._moved = time.monotonic()  # when something was last seen to go on
        self._threads = 0
        self.where = ""
        self._shared = client.submit(
            _unpacked, _packed(work), key=f"{self._group}-work", pure=False
        )
        self._look()

    def _look(self) -> None:
        """See how many threads there are, now and then: workers come and go."""
        if time.monotonic() - self._looked < SECONDS_BETWEEN_LOOKS:
            return
        self._looked = time.monotonic()
        if self._client.status != "running":
            return
        try:
            threads = self._client.nthreads()
        except (OSError, TimeoutError, ValueError, RuntimeError):
            return  # `next` says what is lost
        self._check_paused()
        self._threads = sum(threads.values())
        count = len(threads)
        self.where = f"{count} worker{'' if count == 1 else 's'}, {self._threads} threads"

    def _check_paused(self) -> None:
        """Raise when nothing goes on because workers are paused: it would be so for ever."""
        try:
            paused = self._client.run_on_scheduler(_paused)
        except (OSError, TimeoutError, ValueError, RuntimeError):
            return
        if not paused:
            self._moved = time.monotonic()
        elif time.monotonic() - self._moved > SECONDS_PAUSED:
            used, limit = max(paused)
            where = getattr(self._client.scheduler, "address", "cluster")
            raise DaskroiError(
                f"{where}: nothing goes on, workers ({len(paused)}) are "
                f"paused for want of memory: without a run, one has {used / 1e6:.0f} of its "
                f"{limit / 1e6:.0f} MB in use. Give workers more memory (memory=, --mem), or have "
                "fewer of them."
            )

    @property
    def full(self) -> bool:
        """Whether to wait before another job is submitted."""
        self._look()
        most = self._given or max(FEWEST, PER_THREAD * self._threads)
        return self.busy >= most

    @property
    def busy(self) -> int:
        """Jobs that were submitted and not given back."""
        return len(self._running) + len(self._ready)

    def submit(self, job: Job, needs: Needs) -> None:
        """Have a job done."""
        position = job.position
        with self._lost_said():
            future = self._client.submit(
                run_job, job, self._shared, needs, key=(self._group, position), pure=False
            )
        self._running[position] = (job, future)
        future.add_done_callback(lambda f, p=position: self._done.put((p, f)))

    def next(self, timeout: float) -> tuple[Job, Outcome] | None:
        """What is done next; None when nothing is after ``timeout`` seconds.

        Raises
        ------
        LostClusterError
            The scheduler is gone.
        """
        if not self._ready:
            self._look()
            self._gather(timeout)
        return self._ready.popleft() if self._ready else None

    def _gather(self, timeout: float) -> None:
        """Wait for something that is done, and fetch all that is."""
        done: list[tuple[int, Future]] = []
        try:
            done.append(self._done.get(timeout=timeout))
            while True:
                done.append(self._done.get_nowait())
        except queue.Empty:
            pass
        # a worker that dies with a result takes it along: the scheduler has it made again, and the
        # future, which was done, is so once more. Its callbacks do not wait for that
        done += self._lost
        self._lost = [(p, future) for p, future in done if future.status in ("lost", "pending")]
        done = [(p, future) for p, future in done if future.status not in ("lost", "pending")]
        if not done or any(future.status == "cancelled" for _, future in done):
            self._check(certainly=bool(done))
        if done:
            self._moved = time.monotonic()
        finished = [(p, future) for p, future in done if future.status == "finished"]
        # one question to the workers for all: 1 ms each otherwise
        with self._lost_said():
            outcomes = self._client.gather([future for _, future in finished], errors="skip")
        if len(outcomes) == len(finished):
            for (position, _), outcome in zip(finished, outcomes, strict=True):
                self._ready.append((self._running.pop(position)[0], outcome))
        for position, future in done:
            if position in self._running:
                job, _ = self._running.pop(position)
                self._ready.append((job, self._fetched(job, future)))
            future.release()

    @contextmanager
    def _lost_said(self) -> Iterator[None]:
        """A scheduler that goes just while it is asked: told from any other error by its kind."""
        from distributed import CancelledError
        from distributed.client import ClosedClientError

        try:
            yield
        except (OSError, TimeoutError, CancelledError, ClosedClientError):
            self._check(certainly=True)

    def _fetched(self, job: Job, future: Future) -> Outcome:
        try:
            return future.result()
        except Exception as error:
            return self._of_scheduler(job, error)

    def _of_scheduler(self, job: Job, error: Exception) -> Outcome:
        """A failure that is not the run's own: its worker died, or could not take the task."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        if isinstance(error, CancelledError | CommClosedError):
            self._check(certainly=True)
        if not isinstance(error, KilledWorker):
            return failure(error)
        failed = failure(error)
        again = " and again" if error.allowed_failures else ""
        reason = (
            f"its worker died{again} ({error.allowed_failures + 1} times), for want of memory as a "
            "rule. Give workers more memory, or fewer threads; their logs say more."
        )
        return Outcome("failed", reason, failed.trace)

    def _check(self, certainly: bool = False) -> None:
        if certainly or self._client.status != "running":
            address = getattr(self._client.scheduler, "address", "the scheduler")
            raise LostClusterError(
                f"{address}: the scheduler is gone. What was done is kept: start again with "
                "another one."
            )

    def close(self) -> None:
        """Cancel what is not done."""
        futures = [future for _, future in self._running.values()]
        self._running.clear()
        if self._client.status == "running" and futures:
            try:
                self._client.cancel(futures, force=True)
            except (OSError, TimeoutError, RuntimeError):
                return  # with the scheduler, the tasks are gone as well


def _paused(dask_scheduler: Any) -> list[tuple[int, int]]:
    """Memory and its limit of workers that are paused, where no worker computes."""
    workers = list(dask_scheduler.workers.values())
    if any(w.executing for w in workers):
        return []
    paused = [w for w in workers if w.status.name == "paused"]
    return [(int(w.metrics.get("memory", 0)), int(w.memory_limit or 0)) for w in paused]


def _packed(work: Work) -> bytes:
    """Pickled and compressed: label images shrink by a factor of 20 and more."""
    import zlib

    import cloudpickle

    return zlib.compress(cloudpickle.dumps(work), 1)


def _unpacked(packed: bytes) -> Work:
    import pickle
    import zlib

    return pickle.loads(zlib.decompress(packed))
