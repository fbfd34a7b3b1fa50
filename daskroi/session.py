"""One call of `extract_cohort`: looks at runs, submits them, and notes what became of them."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daskroi import runstable
from daskroi.errors import DaskroiError
from daskroi.job import Job, Work, completed
from daskroi.outcome import Outcome, failure
from daskroi.outputs import NotWrittenError
from daskroi.progress import Progress, show_progress
from daskroi.summary import Summary
from daskroi.urls import is_url

if TYPE_CHECKING:
    from daskroi.cohortzarr import InOrder
    from daskroi.runstable import RunsTable
    from daskroi.window import Window

__all__ = ["Checked", "Session"]

SECONDS_BETWEEN_TABLES = 30.0
SECONDS_BETWEEN_TICKS = 0.25
# looks at remote runs at once: each is a handful of requests
LOOKS = 8
# failures, and runs that are made again, that are told one by one
SAID = 5


@dataclass
class Checked:
    """A job, and what is to be done about it."""

    job: Job
    status: str  # "to do", "skipped" or "failed"
    reason: str = ""
    wanted: tuple[str, ...] = ()  # none, of a run to do: only something beside its series
    outcome: Outcome | None = None


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
        self.display: Progress = show_progress(None, False)
        self.changed: Counter[str] = Counter()
        self.read_bytes = 0
        self.started = time.monotonic()
        self._why: dict[int, str] = {}
        self._published = time.monotonic()
        self._stop: DaskroiError | None = None

    def run(self, jobs: Iterable[Job], window: Window, stop_on_first_crash: bool) -> None:
        """Work through all jobs."""
        complete = False
        try:
            for checked in self.checked(jobs):
                if checked.status != "to do":
                    self._note(checked.job, checked.status, checked.outcome, checked.reason)
                else:
                    while window.full and not self._ended(stop_on_first_crash):
                        self._take(window)
                    if not self._ended(stop_on_first_crash):
                        self._why[checked.job.position] = checked.reason
                        window.submit(checked.job, checked.wanted)
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

    def checked(self, jobs: Iterable[Job]) -> Iterator[Checked]:
        """Look at every run: is it up to date, did it fail before."""

        def claimed() -> Iterator[Job]:
            for job in jobs:
                self.table.claim(job)
                yield job

        if isinstance(self.work.out, Path) and not is_url(self.work.root):
            yield from map(self._check, claimed())
            return
        yield from _ahead(self._check, claimed(), LOOKS)

    def _check(self, job: Job) -> Checked:
        every = tuple(self.work.atlases)
        try:
            identities = self.work.identities(job)
            key = self.work.key_of(identities)
            stale = self.work.stale(job, identities)
            complete = not stale and not self.work.incomplete(job, stale)
        except DaskroiError as error:
            outcome = failure(error)
            return Checked(job, "failed", outcome.reason, outcome=outcome)
        if self.overwrite:
            return Checked(job, "to do", wanted=every)
        if complete:
            return Checked(job, "skipped")
        if not self.retry_failed:
            before = runstable.failed_before(self.work.out, job, key)
            if before is not None:
                return Checked(job, "failed", before)
        why = list(dict.fromkeys(w for found in stale.values() for w in found or ()))
        reason = f"made again, with other {', '.join(why)}" if why else ""
        return Checked(job, "to do", reason, tuple(stale))

    def _take(self, window: Window) -> None:
        found = window.next(SECONDS_BETWEEN_TICKS)
        if found is not None:
            job, outcome = found
            try:
                outcome = completed(job, self.work, outcome)
            except DaskroiError as error:
                outcome = failure(error)
            why = self._why.pop(job.position, "")
            self._note(job, outcome.status, outcome, why if outcome.status == "ok" else "")
            if self._stops(outcome) and self._stop is None:
                self._stop = NotWrittenError(
                    f"{outcome.reason} Runs that are done are complete: start again, and they are "
                    "skipped."
                )
        self._tick(window)

    def _stops(self, outcome: Outcome) -> bool:
        # a full disk stays full; of a bucket a single put may fail
        return outcome.fatal and isinstance(self.work.out, Path)

    def _note(self, job: Job, status: str, outcome: Outcome | None, reason: str) -> None:
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


def _ahead(look: Callable[[Job], Checked], jobs: Iterator[Job], count: int) -> Iterator[Checked]:
    """Look at some runs at once, in order, never far ahead of those that are taken."""
    from concurrent.futures import Future, ThreadPoolExecutor

    with ThreadPoolExecutor(count, thread_name_prefix="daskroi-look") as pool:
        waiting: deque[Future[Checked]] = deque()
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
