"""What is told while something goes on: on a terminal, in a notebook, in a log, and not at all."""

from __future__ import annotations

import io
import re
import sys
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pytest

import daskroi as dr
from daskroi import display
from daskroi.bar import BYTES, Bar
from daskroi.errors import DaskroiTypeError
from daskroi.progress import Progress


@pytest.mark.parametrize(
    ("counts", "read", "seconds", "text"),
    [
        ({}, 0, 10, "0 done, 100 left"),
        ({"ok": 10, "skipped": 40, "failed": 2}, 3_500_000_000, 10,
         "10 done, 40 skipped, 2 failed, 48 left; 1.2 runs/s, 0:40 to go; 3.5 GB read, 350 MB/s"),
        ({"ok": 1}, 0, 7200, "1 done, 99 left; 0.5 runs/h, 198:00:00 to go"),
        ({"skipped": 100}, 0, 1, "0 done, 100 skipped"),
    ],
)  # fmt: skip
def test_the_sentence_of_a_cohort(monkeypatch, counts, read, seconds, text):
    state = Progress(100, False)
    monkeypatch.setattr("time.monotonic", lambda: state.started + seconds)
    state.update(counts, read, "")
    assert state.text() == text


@pytest.mark.parametrize(
    ("unit", "total", "done", "text"),
    [
        ("", 200, 50, "25 %, 0:10 so far, 0:30 to go"),
        ("", None, 0, "0:10 so far"),
        ("", 0, 3, "0:10 so far"),
        (BYTES, 2_000_000, 500_000, "25 %, 500 kB, 50 kB/s, 0:10 so far, 0:30 to go"),
        (BYTES, 2_000_000, 2_900_000, "100 %, 2 MB, 200 kB/s, 0:10 so far"),
        ("files", None, 12345, "12,345 files, 0:10 so far"),
    ],
)
def test_the_sentence_of_a_bar(monkeypatch, unit, total, done, text):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bar = Bar("Reading", unit, progress=False)
    now[0], bar.total = 10.0, total
    bar.update(done)
    assert bar.text() == text


def test_lines_in_a_log_are_few(capsys):
    shown = Progress(3, True)
    for i in range(50):
        shown.update({"ok": i % 4}, 0, "2 workers")
    shown.line("sub-01: failed")
    shown.close()
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "sub-01: failed"
    assert lines[1].startswith("Runs: 1 done, 2 left;")
    assert lines[1].endswith("2 workers")
    assert len(lines) == 2


def test_a_line_every_ten_seconds_in_a_log(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with closing(Bar("Reading \x1b[31m")) as bar:
        bar.add(100)
        for _ in range(100):
            now[0] += 0.3
            bar.update(1)
    assert capsys.readouterr().err.splitlines() == [
        "Reading \\x1b[31m: 34 %, 0:10 so far, 0:20 to go",
        "Reading \\x1b[31m: 68 %, 0:20 so far, 0:10 to go",
    ]


def test_a_bar_on_a_terminal():
    from rich.console import Console

    out = io.StringIO()
    state = Progress(4, False)
    shown = display._InPlace(state, True, Console(file=out, force_terminal=True, width=120))
    state.update({"ok": 2, "failed": 1}, 1000, "")
    shown.update()
    shown.line("sub-01: failed [red]")
    shown.close()
    assert re.search(r"Runs \x1b\[\d+m━", out.getvalue())
    assert "2 done, 1 failed, 1 left" in out.getvalue()
    # no markup in what files are called
    assert "sub-01: failed [red]" in out.getvalue()


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_terminal_that_cannot_go_back_has_lines(monkeypatch, term):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(display, "SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with closing(Bar("Reading")) as bar:
        bar.add(4)
        bar.update(1)
        bar.update(2)
    said = sys.stderr.getvalue()
    if term == "dumb":
        assert [line.split(",")[0] for line in said.splitlines()] == [
            "Reading: 25 %",
            "Reading: 75 %",
        ]
    else:
        assert re.search(r"Reading \x1b\[\d+m━", said)
        assert "75 %" in said


def test_nothing_is_shown_when_nothing_shall(capsys):
    shown = Progress(4, False)
    shown.update({"ok": 2}, 0, "")
    shown.line("x")
    shown.close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("broken", ["full", "closed"])
def test_a_log_that_cannot_be_written_does_not_end_the_work(monkeypatch, broken):
    with ExitStack() as stack:
        # what could not be written is tried again when it is closed
        stack.enter_context(suppress(OSError))
        log = stack.enter_context(Path("/dev/full").open("w"))
        if broken == "closed":
            log.close()
        monkeypatch.setattr(sys, "stderr", log)
        shown = Progress(4, True)
        shown.update({"ok": 2}, 0, "")
        shown.line("sub-01: failed")
        shown.close()
        monkeypatch.undo()
    assert shown.done == 2


class Stop(Exception):
    """What a caller may raise to end the work."""


def test_progress_is_the_same_for_a_search_and_a_cohort(tmp_path, capsys, monkeypatch):
    """True shows it, a function is told how many; False and None are silent."""
    cohorts.write_cohort(tmp_path / "in", 3)
    atlas = cohorts.atlas()
    monkeypatch.setattr(display, "SECONDS_BETWEEN_LINES", 0)

    def both(name: str, progress: Any) -> str:
        runs = dr.find_runs(tmp_path / "in", progress=progress)
        dr.extract_cohort(runs, atlas, tmp_path / name, client="threads", progress=progress)
        return capsys.readouterr().err

    for i, silent in enumerate((False, None, 0)):
        assert both(f"silent{i}", silent) == ""
    for i, loud in enumerate((True, np.True_)):
        said = both(f"loud{i}", loud)
        assert f"Searching {tmp_path / 'in'}: " in said
        assert re.search(r": \d+ files, 0:00 so far\n", said)
        assert "Runs: 3 done;" in said.splitlines()[-1]
    seen: list[int] = []
    assert both("told", seen.append) == ""
    search, cohort = seen[: seen.index(0, 1)], seen[seen.index(0, 1) :]
    assert search == sorted(search)
    assert search[-1] >= 9
    assert cohort == sorted(cohort)
    assert cohort[-1] == 3


def test_a_function_that_is_told_may_end_the_work(tmp_path):
    runs = cohorts.write_cohort(tmp_path / "in", 3)
    told = {"client": "threads", "max_in_flight": 1}

    def stop(seen: int) -> None:
        if seen:
            raise Stop

    with pytest.raises(Stop):
        dr.extract_cohort(runs, cohorts.atlas(), tmp_path / "out", progress=stop, **told)
    # what was done is kept
    again = dr.extract_cohort(runs, cohorts.atlas(), tmp_path / "out", progress=False, **told)
    assert again.skipped >= 1
    assert again.total == 3


def test_what_progress_cannot_be(tmp_path):
    runs = cohorts.write_cohort(tmp_path / "in", 1)
    for call in (
        lambda: dr.find_runs(tmp_path / "in", progress="no"),
        lambda: dr.find_runs(list(runs["image"]), progress="no"),
        lambda: dr.extract_cohort(runs, cohorts.atlas(), tmp_path / "out", progress="no"),
    ):
        with pytest.raises(DaskroiTypeError, match=r"^progress is a str\. Give True, False or a f"):
            call()
    assert not (tmp_path / "out").exists()


CELL = """
import time
from contextlib import closing
from daskroi.bar import Bar
from daskroi.progress import Progress
progress = Progress(4, True)
progress.update({"ok": 1}, 0, "")
time.sleep(0.3)
progress.update({"ok": 2, "failed": 1}, 0, "<workers>")
progress.line("sub-01: failed")
progress.close()
with closing(Bar("Reading <b>")) as bar:
    bar.update(1)
"""


def test_a_bar_in_a_notebook_without_widgets():
    """rich's needs ipywidgets, and warned four times a second where there are none."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    client.NotebookClient(notebook, timeout=60, startup_timeout=60, kernel_name="python3").execute()
    shown, line, gone = notebook.cells[0].outputs
    html = shown["data"]["text/html"]
    assert html.startswith('Runs <progress value="3" max="4"></progress> 2 done, 1 failed, 1 left;')
    assert html.endswith("; &lt;workers&gt;")
    assert shown["data"]["text/plain"].startswith("Runs: 2 done, 1 failed, 1 left;")
    assert (line["name"], line["text"]) == ("stderr", "sub-01: failed\n")
    # a bar goes when what it is for is done
    assert gone["data"] == {"text/plain": "", "text/html": ""}
