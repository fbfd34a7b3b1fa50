"""One call of `extract_cohort`: looks at runs, submits them, and notes what became of them."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from daskroi import runstable
from daskroi.errors import DaskroiError
from daskroi.outcome import Outcome, failure
from daskroi.outputs import NotWrittenError
from daskroi.progress import Progress
from daskroi.runjob import run_job
from daskroi.sink import deliver
from daskroi.summary import Summary
from daskroi.upkeep import Needs, everything, look
from daskroi.urls import is_url

if TYPE_CHECKING:
    from daskroi.cohortzarr import InOrder
    from daskroi.runstable import RunsTable
    from daskroi.window import Window
    from daskroi.work import Job, Work

__all__ = ["Session"]

T = TypeVar("T")

SECONDS_BETWEEN_TABLES = 30.0
SECONDS_BETWEEN_TICKS = 0.25
# looks at remote runs at once: each is a handful of requests
LOOKS = 8
# failures, and runs that are made again, that are told one by one
SAID = 5


class Session:
    """Works through jobs by a window.

    Parameters
    ----------
    work : Work
    table : RunsTable
    overwrite, retry_failed : bool
        As in `daskroi.extract_cohort`.
    """

    def __init__(self, work: Work, table: RunsTable, overwrite: bool, retry_failed: bool) -> None:
        self.work = work
        self.table = table
        self.overwrite = overwrite
        self.retry_failed = retry_failed
        self.zarr: InOrder | None = None
        self.display = Progress(None, False)
        self.changed: Counter[str] = Counter()
        self.read_bytes = 0
        self.started = time.monotonic()
        self._needs: dict[int, Needs] = {}  # of runs in the window
        self._published = time.monotonic()
        self._stop: DaskroiError | None = None

    def run(self, jobs: Iterable[Job], window: Window, stop_on_first_crash: bool) -> None:
        """Work through all jobs."""
        complete = False
        try:
            for job, found in self.looked(jobs):
                if isinstance(found, Outcome):
                    self._note(job, found.status, found)
                elif found.status != "to do":
                    self._note(job, found.status, reason=found.failed_before)
                else:
                    while window.full and not self._ended(stop_on_first_crash):
                        self._take(window)
                    if not self._ended(stop_on_first_crash):
                        self._needs[job.position] = found
                        window.submit(job, found)
                if self._ended(stop_on_first_crash):
                    break
                self._tick(window)
            while window.busy and not (stop_on_first_crash and self.table.counts["failed"]):
                self._take(window)
            complete = not self._ended(stop_on_first_crash)
        finally:
            self._finish(complete)
        if self._stop is not None:
            raise self._stop

    def _ended(self, stop_on_first_crash: bool) -> bool:
        crashed = stop_on_first_crash and self.table.counts["failed"] > 0
        return crashed or self._stop is not None

    def looked(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Needs | Outcome]]:
        """Look at every run: what it needs, or the failure of one that cannot be looked at."""

        def claimed() -> Iterator[Job]:
            for job in jobs:
                self.table.claim(job)
                yield job

        if isinstance(self.work.out, Path) and not is_url(self.work.root):
            yield from map(self._look, claimed())
            return
        yield from _ahead(self._look, claimed(), LOOKS)

    def _look(self, job: Job) -> tuple[Job, Needs | Outcome]:
        try:
            needs = look(self.work, job)
        except DaskroiError as error:
            return job, failure(error)
        if self.overwrite:
            needs = everything(self.work)
        if self.retry_failed:
            needs = replace(needs, failed_before="")
        return job, needs

    def _take(self, window: Window) -> None:
        found = window.next(SECONDS_BETWEEN_TICKS)
        if found is not None:
            job, outcome = found
            needs = self._needs.pop(job.position)
            if outcome.sent is not None:
                outcome = self._received(job, needs, outcome)
            self._note(job, outcome.status, outcome, needs.reason if outcome.status == "ok" else "")
            if self._stops(outcome) and self._stop is None:
                self._stop = NotWrittenError(
                    f"{outcome.reason} Runs that are done are complete: start again, and they are "
                    "skipped."
                )
        self._tick(window)

    def _received(self, job: Job, needs: Needs, outcome: Outcome) -> Outcome:
        """Do here what a worker could not that does not see the output folder."""
        try:
            deliver(outcome.sent or (), self.work.out)
        except DaskroiError as error:
            return failure(error)
        if outcome.status != "ok" or not needs.beside:
            return outcome
        made = run_job(job, self.work, replace(needs, series=()))
        return outcome if needs.series and made.status == "ok" else made

    def _stops(self, outcome: Outcome) -> bool:
        # a full disk stays full; of a bucket a single put may fail
        return outcome.fatal and isinstance(self.work.out, Path)

    def _note(
        self, job: Job, status: str, outcome: Outcome | None = None, reason: str = ""
    ) -> None:
        if outcome is not None and outcome.status == "failed":
            runstable.write_log(self.work.out, job, outcome)
            self._say_failed(job, outcome.reason)
        elif status == "ok":
            self.read_bytes += outcome.read_bytes if outcome is not None else 0
            if reason:
                self._say_changed(job, reason)
            runstable.forget_log(self.work.out, job)
        if outcome is None or not self._stops(outcome):  # what ends the cohort is told as an error
            self.table.add(job, status, outcome, reason)
        if self.zarr is not None:
            paths = None if status == "failed" else self.work.paths_of(job)
            self.zarr.done(job.position, job.name, paths)

    def _say_failed(self, job: Job, reason: str) -> None:
        failed = self.table.counts["failed"] + 1
        if failed <= SAID:
            more = " (More failures are only in runs.tsv.)" if failed == SAID else ""
            self.display.line(f"{job.name}: failed: {reason}{more}")

    def _say_changed(self, job: Job, reason: str) -> None:
        self.changed[reason] += 1
        if self.changed[reason] <= SAID:
            more = ", and so are more" if self.changed[reason] == SAID else ""
            self.display.line(f"{job.name}: {reason}{more}.")

    def _tick(self, window: Window) -> None:
        self.display.update(self.table.counts, self.read_bytes, window.where)
        if time.monotonic() - self._published > SECONDS_BETWEEN_TABLES:
            self._published = time.monotonic()
            with suppress(NotWrittenError):
                self.table.publish()

    def _finish(self, complete: bool) -> None:
        """The table, also after an interruption; of a full disk enough was said then."""
        if not complete:
            with suppress(NotWrittenError):
                self.table.publish()
            return
        try:
            self.table.finish()
        finally:
            if self.zarr is not None:
                self.zarr.finish()

    def summary(self) -> Summary:
        """What became of the runs."""
        counts = self.table.counts
        return Summary(
            self.work.out,
            counts["ok"],
            counts["skipped"],
            counts["failed"],
            time.monotonic() - self.started,
            self.read_bytes,
            dict(self.changed),
            self.table.shard,
        )


def _ahead(look: Callable[[Job], T], jobs: Iterator[Job], count: int) -> Iterator[T]:
    """Look at some runs at once, in order, never far ahead of those that are taken."""
    from concurrent.futures import Future, ThreadPoolExecutor

    with ThreadPoolExecutor(count, thread_name_prefix="daskroi-look") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(look, job))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
