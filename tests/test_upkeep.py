"""What a run lacks, seen without opening an image; what was sent comes into place elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cohorts
import pytest

from daskroi import runstable
from daskroi.beside import beside_of
from daskroi.errors import DaskroiError
from daskroi.jobs import jobs_of
from daskroi.outcome import failure
from daskroi.runjob import run_job
from daskroi.sink import Sink, deliver
from daskroi.upkeep import Needs, everything, look
from daskroi.work import Job, Work

ALL = ("A", "B")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run; not to be changed."""
    jobs, _ = jobs_of(cohorts.write_cohort(tmp_path_factory.mktemp("data") / "in", 1))
    return next(jobs)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """Two atlases, a connectome beside the series of each."""
    atlas = cohorts.atlas()
    return Work(
        tmp_path / "out", {"A": atlas, "B": atlas}, beside=beside_of("correlation", parquet=False)
    )


@pytest.fixture
def done(work: Work, job: Job, monkeypatch: pytest.MonkeyPatch) -> Work:
    """The same when all is made, and no image can be opened any more."""
    assert run_job(job, work, look(work, job)).status == "ok"

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr("daskroi.openimage.open_image", refuse)
    return work


def test_nothing_is_there(work, job):
    assert look(work, job) == everything(work) == Needs(ALL)
    assert not work.out.exists()


def test_all_is_there(done, job):
    assert look(done, job) == Needs()
    assert look(done, job).status == "skipped"


@pytest.mark.parametrize("gone", ["timeseries", "coverage", "sidecar"])
def test_series_that_lack_a_file_are_made_again_without_a_reason(done, job, gone):
    getattr(done.paths_of(job)["B"], gone).unlink()
    assert look(done, job) == Needs(("B",))


def test_a_table_that_was_changed_and_kept_its_size_is_made_again(done, job):
    table = done.paths_of(job)["A"].timeseries
    before = table.read_bytes()
    table.write_bytes(before[:-3] + bytes([before[-3] ^ 1]) + before[-2:])
    assert look(done, job) == Needs(("A",))
    table.write_bytes(before)
    # of older code
    sidecar = done.paths_of(job)["A"].sidecar
    said = json.loads(sidecar.read_text())
    for key in ("TimeseriesCRC32", "TimeseriesSize"):
        del said[key]
        sidecar.write_text(json.dumps(said))
        assert look(done, job).series == ()


def test_other_input_is_named_once(done, job):
    other = replace(done, recipe={"standardize": "psc"})
    assert look(other, job) == Needs(ALL, reason="made again, with other recipe")
    # of one atlas it is not there: still the other one's reason
    done.paths_of(job)["A"].sidecar.unlink()
    assert look(other, job) == Needs(ALL, reason="made again, with other recipe")


def test_beside_is_needed_of_series_that_are_current_alone(done, job):
    first, second = done.paths_of(job).values()
    [kind] = done.beside
    kind.files_of(second)[0].unlink()
    assert look(done, job) == Needs((), ("B",))
    first.sidecar.unlink()
    assert look(done, job) == Needs(("A",), ("B",))
    assert look(replace(done, beside=()), job) == Needs(("A",))


def test_a_failure_counts_with_the_same_input_and_only_while_something_is_missing(done, job):
    key = done.key_of(done.identities(job))
    runstable.write_log(done.out, job, failure(DaskroiError("bold.nii: is bad."), key))
    assert look(done, job).status == "skipped"
    done.paths_of(job)["A"].sidecar.unlink()
    found = look(done, job)
    assert (found.failed_before, found.status) == ("bold.nii: is bad.", "failed")
    assert look(replace(done, recipe={"dtype": "float32"}), job).status == "to do"


def test_a_file_that_is_gone_is_said(work, job):
    with pytest.raises(DaskroiError, match=r"gone\.nii: cannot be found"):
        look(work, replace(job, image="/gone.nii"))


def test_what_is_sent_is_what_would_be_written(work, job):
    blind = replace(work, out=work.out.parent / "other", token="logs/.unseen")
    sent = run_job(job, blind, everything(blind))
    assert sent.status == "ok"
    assert not blind.out.exists()
    here = run_job(job, work, everything(work))
    assert here.sent is None
    assert sent.sent is not None
    deliver(sent.sent, blind.out)
    assert cohorts.outputs_of(blind.out) == cohorts.outputs_of(work.out)
    assert [sum(name.endswith(".json") for name in files) for files in sent.sent] == [2, 2]
    assert (sent.frames, sent.kept, sent.lost) == (here.frames, here.kept, here.lost) == (12, 12, 0)


def test_beside_series_that_are_not_seen_nothing_is_made(done, job):
    [kind] = done.beside
    matrix = kind.files_of(done.paths_of(job)["B"])[0]
    matrix.unlink()
    blind = replace(done, token="logs/.unseen")
    assert not Sink(blind).here
    outcome = run_job(job, blind, look(done, job))
    assert (outcome.status, outcome.sent) == ("ok", ())
    assert not matrix.exists()
    # where they are seen, it is; frames and lost regions are of all atlases
    outcome = run_job(job, done, look(done, job))
    assert (outcome.status, outcome.sent, outcome.frames) == ("ok", None, 12)
    assert matrix.exists()


def test_a_run_that_cannot_be_read_never_raises(work, job, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    broken = replace(job, image=str(bad))
    outcome = run_job(broken, work, look(work, broken))
    assert outcome.status == "failed"
    assert outcome.key == work.key_of(work.identities(broken))
    gone = run_job(replace(job, image="/gone.nii"), work, everything(work))
    assert (gone.status, gone.key) == ("failed", "")
