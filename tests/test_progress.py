"""What is told while a cohort runs: on a terminal, in a log, and not at all."""

from __future__ import annotations

import io

import pytest

from daskroi import progress


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
def test_the_sentence(monkeypatch, counts, read, seconds, text):
    state = progress._State(100)
    monkeypatch.setattr(progress.time, "monotonic", lambda: state.started + seconds)
    state.counts, state.read_bytes = counts, read
    assert state.text() == text


def test_lines_in_a_log_are_few(monkeypatch, capsys):
    shown = progress.show_progress(3)
    for i in range(50):
        shown.update({"ok": i % 4}, 0, "2 workers")
    shown.line("sub-01: failed")
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "sub-01: failed"
    assert lines[1].startswith("1 done, 2 left;")
    assert lines[1].endswith("2 workers")
    assert len(lines) == 2


def test_a_bar_on_a_terminal():
    from rich.console import Console

    out = io.StringIO()
    shown = progress._Live(4, Console(file=out, force_terminal=True, width=120))
    shown.update({"ok": 2, "failed": 1}, 1000, "")
    shown.line("sub-01: failed [red]")
    shown.close()
    assert "3/4" in out.getvalue()
    assert "2 done, 1 failed, 1 left" in out.getvalue()
    # no markup in what files are called
    assert "sub-01: failed [red]" in out.getvalue()


def test_nothing_is_shown_when_nothing_shall(capsys):
    shown = progress.show_progress(4, False)
    shown.update({"ok": 2}, 0, "")
    shown.line("x")
    shown.close()
    assert capsys.readouterr() == ("", "")
