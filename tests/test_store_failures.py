"""Results on disk: all or nothing, however writing fails, and nothing of lazy ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from results import result

import daskroi as dr
from daskroi import partfiles, store, targets
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError


class Stop(Exception):
    pass


def fail_at(nth: int, function: Any, error: BaseException) -> Any:
    """The function, but its nth call raises after doing half of its work."""
    calls = 0

    def broken(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            if isinstance(args[0], partfiles.PartFile):
                function(args[0], b"half of")
            raise error
        return function(*args, **kwargs)

    return broken


ERRORS = [OSError(28, "No space left on device"), Stop(), KeyboardInterrupt()]


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("error", ERRORS, ids=["full disk", "error", "ctrl-c"])
@pytest.mark.parametrize("where", ["write", "replace"])
def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch, nth, error, where):
    out = tmp_path / "a" / "out"
    owner = partfiles.PartFile if where == "write" else os
    broken = fail_at(nth, getattr(owner, where), error)
    monkeypatch.setattr(owner, where, broken)
    expected: Any = DaskroiError if isinstance(error, OSError) else type(error)
    match = r"out: results cannot be written there \(No space" if expected is DaskroiError else None
    with pytest.raises(expected, match=match):
        store.write_run(result(), out, "x")
    monkeypatch.undo()
    assert not out.exists()


def test_a_failed_write_keeps_older_results_and_other_files(tmp_path, monkeypatch):
    written = store.write_run(result(), tmp_path, "x")
    (tmp_path / "mine.txt").write_text("keep")
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    broken = fail_at(3, partfiles.PartFile.write, OSError(28, "full"))
    monkeypatch.setattr(partfiles.PartFile, "write", broken)
    with pytest.raises(DaskroiError, match="full"):
        store.write_run(result() + 1, tmp_path, "x")
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert written.sidecar in before


def test_tables_never_stand_beside_an_older_sidecar(tmp_path, monkeypatch):
    # or a run that was cut short would look up to date afterwards
    written = store.write_run(result(), tmp_path, "x")
    seen = []

    def replace(source: Any, target: Any) -> None:
        seen.append((Path(target).name, written.sidecar.exists()))
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    store.write_run(result(), tmp_path, "x")
    assert seen == [(p.name, False) for p in written.all]


def test_a_file_in_the_way_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for out in (file, file / "out" / "deeper"):
        with pytest.raises(DaskroiError, match=r"file: is a file, so .* Give a folder\."):
            targets.check_folder(out)
        with pytest.raises(DaskroiError, match="cannot be written there"):
            store.write_run(result(), out, "x")
    targets.check_folder(tmp_path / "not" / "there" / "yet")
    assert os.listdir(tmp_path) == ["file"]


def test_missing_inputs_are_named(tmp_path):
    with pytest.raises(DaskroiNotFoundError, match=r"gone\.nii: cannot be found"):
        store.write_run(result(), tmp_path / "out", "x", inputs={"image": tmp_path / "gone.nii"})
    assert not (tmp_path / "out").exists()


def test_lazy_results_are_refused(tmp_path):
    with pytest.raises(DaskroiTypeError, match=r"lazy .*compute\(\)"):
        store.write_run(result().chunk(), tmp_path / "out", "x")
    run = dr.make_phantom((12, 14, 12), n_time=5, n_regions=4)
    half = dr.extract(run.image, run.atlas)
    half = half.copy(data=half.values)
    with pytest.raises(DaskroiTypeError, match="lazy"):
        store.write_run(half, tmp_path / "out", "x")
    assert not (tmp_path / "out").exists()
