"""runs.tsv: a row per run in the order of the table, also by several shards."""

from __future__ import annotations

import os

import pandas as pd
import pytest

from daskroi.errors import DaskroiError
from daskroi.outcome import Outcome
from daskroi.runstable import (
    COLUMNS,
    RunsTable,
    failed_before,
    forget_log,
    merge_shards,
    read_runs,
    write_log,
)
from daskroi.work import Job


def job(i: int) -> Job:
    return Job(
        i, f"sub-{i}/func/sub-{i}_task-rest", f"https://me:secret@host/sub-{i}.nii?sig=secret"
    )


def test_rows_are_in_order_and_in_one_line_each(tmp_path):
    table = RunsTable(tmp_path)
    table.add(job(10), "failed", Outcome("failed", 'tab\there, "quoted",\nline'))
    table.add(job(2), "skipped")
    done = Outcome(seconds=1.23456, peak_bytes=10**8, read_bytes=5 * 10**6, frames=9, kept=8,
                   lost=1, warnings=("one", "two"))  # fmt: skip
    table.add(job(3), "ok", done, "made again, with other recipe")
    table.finish()
    text = (tmp_path / "runs.tsv").read_text()
    assert "secret" not in text
    assert text.splitlines()[0].split("\t") == list(COLUMNS)
    found = read_runs(tmp_path)
    assert found["run"].tolist() == [job(i).name for i in (2, 3, 10)]
    assert found["reason"].tolist()[1:] == [
        "made again, with other recipe",
        "tab here, 'quoted', line",
    ]
    row = found.iloc[1]
    assert (row.seconds, row.peak_memory_mb, row.frames_kept, row.read_mb) == (1.235, 100, 8, 5)
    assert (row.warnings, row.output) == ("one | two", "sub-3/func")
    assert found.loc[0, ["seconds", "frames", "reason"]].isna().all()
    assert table.counts == {"ok": 1, "skipped": 1, "failed": 1}
    # as any program reads it
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "runs.tsv", sep="\t", dtype={"run": str}), found
    )


def test_a_name_is_for_one_run(tmp_path):
    table = RunsTable(tmp_path)
    table.claim(job(1))
    with pytest.raises(DaskroiError, match="would have the same names") as error:
        table.claim(Job(2, job(1).name, "other.nii"))
    assert "secret" not in str(error.value)


def test_shards_come_together_as_people_count(tmp_path):
    for shard, runs in (((1, 2), (1, 10)), ((2, 2), (2, 9))):
        table = RunsTable(tmp_path, shard)
        for i in runs:
            table.add(job(i), "ok", Outcome())
        table.finish()
        # what is there so far
        assert len(read_runs(tmp_path)) == (2 if shard == (1, 2) else 4)
    assert read_runs(tmp_path)["run"].tolist() == [job(i).name for i in (1, 2, 9, 10)]
    # left over from another number of shards, it does not get in between
    RunsTable(tmp_path, (1, 3)).publish()
    table = RunsTable(tmp_path, (2, 2))
    table.add(job(2), "skipped")
    table.finish()
    assert read_runs(tmp_path)["status"].tolist() == ["ok", "skipped", "ok"]
    (tmp_path / "runs.tsv").unlink()
    merge_shards(tmp_path, 2)
    assert len(read_runs(tmp_path)) == 3


def test_an_interrupted_rerun_forgets_no_run(tmp_path):
    first = RunsTable(tmp_path)
    for i in range(3):
        first.add(job(i), "ok", Outcome())
    first.finish()
    again = RunsTable(tmp_path)
    again.add(job(0), "failed", Outcome("failed", "why"))
    for _ in range(2):
        again.publish()  # every half minute, and when it ends early
        assert read_runs(tmp_path)["run"].tolist() == [job(i).name for i in range(3)]
        assert read_runs(tmp_path)["status"].tolist() == ["failed", "ok", "ok"]
    again.finish()  # these are all there are now
    assert read_runs(tmp_path)["status"].tolist() == ["failed"]


def test_of_a_run_in_several_shards_the_newest_row_counts(tmp_path):
    # divided in two, then in three: `group` takes all there are
    for i, (shard, status) in enumerate((((2, 2), "failed"), ((1, 3), "ok"))):
        table = RunsTable(tmp_path, shard)
        table.add(job(1), status, Outcome(status))
        table.publish()
        [path] = (tmp_path / "logs").glob(f"*of{shard[1]}.tsv")
        os.utime(path, (1e9 + i, 1e9 + i))
    merge_shards(tmp_path)
    assert read_runs(tmp_path)["status"].tolist() == ["ok"]


def test_a_run_that_is_gone_does_not_come_back_from_another_division(tmp_path):
    for count, runs in ((2, (0, 1, 2)), (3, (0, 1))):
        for number in range(1, count + 1):
            table = RunsTable(tmp_path, (number, count))
            for i in runs[number - 1 :: count]:
                table.add(job(i), "ok", Outcome())
            table.finish()
        merge_shards(tmp_path)  # as `group` does
        assert read_runs(tmp_path)["run"].tolist() == [job(i).name for i in runs]


@pytest.mark.parametrize("text", ["", "garbage\n1\n", "run\tstatus\na\n", "a\tb\n1\t2\t3\t4\n"])
def test_a_damaged_table_is_said(tmp_path, text):
    (tmp_path / "runs.tsv").write_text(text)
    with pytest.raises(DaskroiError, match=r"runs\.tsv: is no table of runs \(.*\)\. Extract"):
        read_runs(tmp_path)


def test_a_cut_table_is_said(tmp_path):
    table = RunsTable(tmp_path)
    for i in range(2):
        table.add(job(i), "ok", Outcome())
    table.finish()
    text = (tmp_path / "runs.tsv").read_text()
    (tmp_path / "runs.tsv").write_text(text[: text.rindex("\t")])
    with pytest.raises(DaskroiError, match=r"no table of runs \(line 3 has \d+ fields, the header"):
        read_runs(tmp_path)


def test_logs_of_two_folders_are_two(tmp_path):
    first, second = (Job(i, f"{folder}/run", "x.nii") for i, folder in enumerate("ab"))
    write_log(tmp_path, first, Outcome("failed", "first", "", "key"))
    forget_log(tmp_path, second)  # that one has succeeded
    assert failed_before(tmp_path, first, "key") == "first"


def test_a_failure_is_known_again_by_its_key(tmp_path):
    one = job(1)
    assert failed_before(tmp_path, one, "key") is None
    write_log(tmp_path, one, Outcome("failed", "bad: data", "Traceback ...", "key"))
    assert failed_before(tmp_path, one, "key") == "bad: data"
    assert failed_before(tmp_path, one, "other") is None
    # not the input's fault
    write_log(tmp_path, one, Outcome("failed", "its worker died", "Traceback ..."))
    assert failed_before(tmp_path, one, "") is None
    [log] = (tmp_path / "logs").iterdir()
    assert "secret" not in log.read_text()
    forget_log(tmp_path, one)
    forget_log(tmp_path, one)
    assert not log.exists()
