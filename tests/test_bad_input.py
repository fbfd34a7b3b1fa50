"""Bad input to one run, systematically: every row of the tables, at both doors.

The tables are in `bad_images`, `bad_tables`, `bad_values` and `bad_calls`; what a row is, in
`bad_inputs`.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import bad_images
import bad_tables
import bad_values
import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from bad_calls import CALLS
from bad_inputs import call, row, words, write_good
from click.testing import CliRunner, Result

import daskroi as dr
from daskroi.cli import main
from daskroi.errors import DaskroiError, DaskroiWarning

RNG = np.random.default_rng(0)
TABLES = {
    "image": bad_images.IMAGES,
    "sidecar": bad_images.SIDECARS,
    "atlas": bad_images.ATLASES,
    "table": bad_tables.TABLES,
    "seeds": bad_tables.SEEDS,
    "mask": bad_images.MASKS,
    "confounds": bad_tables.CONFOUNDS,
    "frames": bad_tables.SAMPLE_MASKS,
    "parameter": bad_values.PARAMETERS,
}
ROWS = {f"{name}: {key}": row for name, rows in TABLES.items() for key, row in rows.items()}
API = [name for name, row in ROWS.items() if row.api]
CLI = [name for name, row in ROWS.items() if row.cli]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of good inputs; what is temporary goes beside it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(write_good(tmp_path / "in"))
    return tmp_path / "in"


def state_of(folder: Path) -> dict[str, str]:
    """Every file below a folder, and what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }


def check_line(line: str, says: str) -> None:
    """One line, for people and for logs, that says what the table promises."""
    assert line.isprintable(), line
    assert re.search(says, line), line
    assert line.endswith((".", "'", "?", ")", "…")), line
    assert len(line) < 800, line
    # reasons come from libraries at times; their tracebacks and objects do not
    assert not re.search(r"Traceback| object at 0x|has no attribute|NoneType' object", line), line


@pytest.mark.parametrize("name", API)
def test_api(name: str, inputs: Path) -> None:
    given = ROWS[name].given(inputs)
    before = state_of(inputs.parent)
    with pytest.raises(DaskroiError) as caught:
        call(given)
    check_line(str(caught.value), ROWS[name].says)
    assert state_of(inputs.parent) == before


def invoke(*args: Any) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


def check_refused(done: Result, says: str, code: int = 1) -> None:
    """The line, and nothing else."""
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    *before, line = done.stderr.splitlines()
    # click says how the command is used, too
    known = ("Usage: ", "Try ") if code == 2 else ("Warning: ", "Reading ")
    assert all(not text or text.startswith(known) for text in before), done.stderr
    assert line.startswith("Error: "), line
    assert not re.match(r"Error: unexpected \w+:", line), line
    check_line(line, says)


@pytest.mark.parametrize("name", CLI)
def test_cli(name: str, inputs: Path) -> None:
    row = ROWS[name]
    given = row.given(inputs)
    before = state_of(inputs.parent)
    done = invoke(*words(given), "--output", inputs.parent / "out")
    check_refused(done, row.usage or row.says, 2 if row.usage else 1)
    assert state_of(inputs.parent) == before


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str, inputs: Path) -> None:
    function, says = CALLS[name]
    before = state_of(inputs.parent)
    with pytest.raises(DaskroiError) as caught:
        function(inputs)
    check_line(str(caught.value), says)
    assert state_of(inputs.parent) == before


def test_the_good_inputs_are_good(inputs: Path) -> None:
    given = row("", mask_img=inputs / "mask.nii", confounds=inputs / "confounds.tsv").given(inputs)
    before = state_of(inputs)
    expected = call({**given, "lut": inputs / "names.txt"})
    done = invoke(*words({**given, "lut": inputs / "names.txt"}), "-o", inputs.parent / "out")
    assert done.exit_code == 0, done.output
    [path] = (inputs.parent / "out").glob("*_timeseries.tsv")
    np.testing.assert_array_equal(pd.read_csv(path, sep="\t").to_numpy("f4"), expected.values)
    assert state_of(inputs) == before
    assert state_of(inputs.parent / "tmp") == {}


# words of the command line that no function has; code 2 is a mistake in the words themselves
GOOD = ("run.nii.gz", "--atlas", "atlas.nii")
COMMANDS: dict[str, tuple[tuple[str, ...], str, int]] = {
    "no output": (("extract", *GOOD), "Missing option '-o' / '--output'", 2),
    "no image": (("extract", "--atlas", "atlas.nii", "-o", "out"), "Missing argument 'IMAGE'", 2),
    "no atlas": (("extract", "run.nii.gz", "-o", "out"), "Missing option '--atlas'", 2),
    "misspelt option": (
        ("extract", *GOOD, "-o", "out", "--smoothin", "6"),
        "No such option.*--smoothing",
        2,
    ),
    "misspelt command": (("extrct", *GOOD), "No such command 'extrct'", 2),
    "two images": (("extract", "mask.nii", *GOOD, "-o", "out"), "unexpected extra argument", 2),
    "two tables, one atlas": (
        ("extract", *GOOD, "--labels-table", "a", "--labels-table", "b", "-o", "out"),
        "--labels-table",
        2,
    ),
    "one name for two": (
        ("extract", *GOOD, "--atlas", "atlas.nii", "-o", "out"),
        "same names .*NAME=PATH",
        1,
    ),
    "storage option": (
        ("extract", *GOOD, "-o", "out", "--storage-option", "anon"),
        "not KEY=VALUE",
        2,
    ),
    "output is a file": (
        ("extract", *GOOD, "-o", "names.txt"),
        "names.txt: .*Give|names.txt.*folder",
        1,
    ),
    "output is the image": (("extract", *GOOD, "-o", "run.nii.gz"), "run.nii.gz", 1),
    "output below a file": (("extract", *GOOD, "-o", "names.txt/out"), "names.txt", 1),
    "all dummies": (
        ("extract", *GOOD, "-o", "out", "--dummy-scans", "40"),
        "leaves none of the 40",
        1,
    ),
    "dummies below 0": (
        ("extract", *GOOD, "-o", "out", "--dummy-scans", "-1"),
        "-1 is not in the",
        2,
    ),
    "connectome of a volume": (
        ("extract", "mask.nii", "--atlas", "atlas.nii", "-o", "out", "--connectome", "covariance"),
        "of a run, and this is a single volume",
        1,
    ),
    "demo into a file": (("demo", "--out", "names.txt"), "names.txt", 1),
    "demo of a size": (("demo", "--size", "huge"), "'huge' is not one of", 2),
    "demo without workers": (("demo", "--workers", "0"), "0 is not in the range", 2),
    "demo with a seed": (("demo", "--seed", "one"), "'one' is not a valid integer", 2),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(name: str, inputs: Path) -> None:
    given, says, code = COMMANDS[name]
    before = state_of(inputs.parent)
    check_refused(invoke(*given), says, code)
    assert state_of(inputs.parent) == before


def test_a_result_never_replaces_an_input(inputs: Path) -> None:
    """The confounds are called as the result will be, in the folder where it goes."""
    name = "run_atlas-atlas_stat-mean_timeseries.tsv"
    (inputs / "confounds.tsv").rename(inputs / name)
    before = state_of(inputs.parent)
    for options in ((), ("--overwrite",)):
        done = invoke("extract", *GOOD, "--confounds", name, "-o", ".", *options)
        check_refused(done, f"{name}: is an input, and a result would replace it. Give another")
    assert state_of(inputs.parent) == before


@pytest.mark.parametrize("name", ["image: truncated gz", "table: an id twice"])
def test_tracebacks_are_for_who_asks(name: str, inputs: Path) -> None:
    given = words(ROWS[name].given(inputs))
    done = invoke(*given, "-v", "-o", inputs.parent / "out")
    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.stderr
    check_line(done.stderr.splitlines()[-1], ROWS[name].says)


@pytest.mark.parametrize("name", ["image: text", "confounds: semicolons", "parameter: strategy"])
def test_processes(name: str, inputs: Path) -> None:
    """What a shell sees."""
    row = ROWS[name]
    given = row.given(inputs)
    before = state_of(inputs)
    done = subprocess.run(
        [sys.executable, "-m", "daskroi", *words(given), "-o", "out"],
        env=os.environ | {"PYTHONPATH": str(Path(dr.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == (2 if row.usage else 1)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    check_line(line, row.usage or row.says)
    assert state_of(inputs) == before


@pytest.mark.parametrize("name", bad_tables.DOUBTS)
def test_doubts_are_said_and_the_work_goes_on(name: str, inputs: Path) -> None:
    doubt = bad_tables.DOUBTS[name]
    given = doubt.given(inputs)
    before = state_of(inputs)
    with pytest.warns(DaskroiWarning) as caught:
        call(given)
    [line] = {str(w.message) for w in caught if re.search(doubt.says, str(w.message))}
    check_line(line, doubt.says)
    done = invoke(*words(given), "-o", inputs.parent / "out")
    assert done.exit_code == 0, done.output
    assert f"Warning: {line}\n" in done.stderr
    assert state_of(inputs) == before


@pytest.mark.parametrize("plan", ["stream", "blocks"])
def test_a_file_that_changes_is_an_error_not_a_mixture(tmp_path: Path, plan: str) -> None:
    path = images.save(images.run(RNG, (6, 7, 5, 40)), tmp_path / "run.nii")
    ts = dr.extract(path, images.labels(RNG), plan=plan)
    images.save(images.run(RNG, (6, 7, 5, 41)), path)
    with pytest.raises(DaskroiError, match=r"run.nii: the file changed after it was opened"):
        ts.compute()


@pytest.mark.parametrize("name", ["x_bold.nii.gz", "x.nii"])
def test_maps_that_look_like_a_run_can_be_insisted_on(tmp_path: Path, name: str) -> None:
    path = images.save(images.run(RNG, (6, 7, 5, 40)), tmp_path / name)
    names = [f"map {i}" for i in range(40)]
    table = pd.DataFrame({"index": range(1, 41), "name": names})
    with pytest.raises(DaskroiError, match="looks like a run"):
        dr.load_atlas(path)
    for atlas in (
        dr.load_atlas(path, labels=names),
        dr.load_atlas(path, lut=table),
        dr.load_atlas({"maps": path, "labels": names}),
        dr.load_atlas(dr.open_image(path), labels=names),
    ):
        assert atlas.names == names
    stem = path.name.split(".")[0]
    table.to_csv(tmp_path / f"{stem}_probseg.tsv", sep="\t", index=False)
    assert dr.load_atlas(path).names == names


def test_maps_are_not_taken_for_a_run(tmp_path: Path) -> None:
    """What stacks maps writes 1 s or nothing between them, and few are no run either."""
    values = RNG.random((6, 7, 5, 40))
    for t_r, unit in ((1.0, "sec"), (0.0, "unknown"), (1.0, "unknown"), (0.0, "sec")):
        image = nib.Nifti1Image(values, images.STRAIGHT)
        image.header.set_zooms((2, 2, 2, t_r))
        image.header.set_xyzt_units("mm", unit)
        for given in (image, images.save(image, tmp_path / "msdl.nii")):
            assert len(dr.load_atlas(given).names) == 40
    few = images.save(images.run(RNG, (6, 7, 5, 20)), tmp_path / "few.nii")
    assert len(dr.load_atlas(few).names) == 20


def test_no_voxel_of_a_run_is_read_as_an_atlas(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("read")

    path = images.save(images.run(RNG, (6, 7, 5, 40)), tmp_path / "x_bold.nii.gz")
    monkeypatch.setattr("daskroi.nifti.NiftiFile.slabs", refuse)
    with pytest.raises(DaskroiError, match="looks like a run"):
        dr.load_atlas(path)
