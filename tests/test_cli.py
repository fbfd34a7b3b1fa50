"""The command itself: its help, its mistakes and exit codes, errors and warnings of one line."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from clirun import check_error, check_ok, invoke, python, tables

import daskroi as dr
from daskroi import clioptions, connectomefiles, kernels, recipe, store
from daskroi.errors import DaskroiError
from daskroi.steps import FILTERS, STANDARDIZE


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--strategy", "avg"), "'avg' is not one of 'mean', 'sum', 'median'"),
        (("--standardize", "zscore"), "'zscore' is not one of 'none', 'zscore_sample', 'psc'"),
        (("--filter", "fir"), "'fir' is not one of 'butterworth', 'cosine', 'none'"),
        (("--nan-policy", "drop"), "'drop' is not one of 'zero', 'omit', 'propagate'"),
        (("--resampling-target", "mask"), "'mask' is not one of 'data', 'labels', 'none'"),
        (("--spatial", "both"), "'both' is not one of 'auto', 'fused', 'voxelwise'"),
        (("--maps-method", "sum"), "'sum' is not one of 'mean', 'lstsq'"),
        (("--smoothing", "wide"), "'wide' is not a width. Give mm .* 6,6,4, or fast"),
        (("--smoothing", "6,6"), "'6,6' is not a width"),
        (("--radius", "5"), "--radius is for --seeds"),
        (("--plan", "fast"), "'fast' is not one of 'auto', 'stream', 'blocks'"),
        (("--low-pass", "fast"), "'fast' is not a valid float"),
        (("--dummy-scans", "-1"), "-1 is not in the range"),
        (("--smooth", "6"), "No such option.*--smooth"),
    ],
)
def test_mistakes_in_the_command_line_exit_with_2(files, tmp_path, options, match):
    args = ("extract", files.plain, "--atlas", files.atlas, "-o", tmp_path / "out")
    done = invoke(*args, *options)
    assert done.exit_code == 2
    assert re.search(match, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_required_options_are_asked_for(files):
    for args, missing in [
        (("extract",), "IMAGE"),
        (("extract", files.plain, "-o", "x"), "--atlas"),
        (("extract", files.plain, "--atlas", files.atlas), "--output"),
    ]:
        done = invoke(*args)
        assert done.exit_code == 2
        assert missing in done.stderr


def test_a_file_where_the_folder_should_be(files, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "out"):
        done = invoke("extract", files.plain, "--atlas", files.atlas, "-o", out)
        check_error(done, "file: is a file, so results cannot be written below it. Give a folder")
    assert file.read_text() == "mine"


def test_columns_do_not_swallow_the_image(files, tmp_path):
    args = ("--confounds", files.confounds, "--columns", "trans_x", "csf", files.plain)
    check_ok(invoke("extract", "--atlas", files.atlas, "-o", tmp_path, *args))
    sidecar = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert sidecar["Confounds"] == ["trans_x", "csf"]
    args = ("--confounds", files.confounds, "--columns=trans_x,csf", "--", files.plain)
    done = check_ok(invoke("extract", "--atlas", files.atlas, "-o", tmp_path, *args))
    assert "up to date" in done.stderr


def test_unexpected_errors_are_one_line_unless_verbose(files, tmp_path, monkeypatch):
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("half\nline")

    monkeypatch.setattr(store, "write_run", broken)
    args = ("extract", files.plain, "--atlas", files.atlas, "-o", tmp_path / "out")
    check_error(invoke(*args), "unexpected KeyError: .*Run again with -v for the traceback")
    done = invoke(*args, "-v")
    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: unexpected KeyError")
    assert "-v" not in done.stderr.splitlines()[-1]

    def refused(*_: Any, **__: Any) -> None:
        raise DaskroiError("this\nfile: no.")

    monkeypatch.setattr(store, "write_run", refused)
    check_error(invoke(*args), r"this\\nfile: no\.")
    assert "Traceback" in invoke(*args, "-v").stderr


def test_warnings_are_one_line_each_and_said_once(files, tmp_path):
    args = ("extract", files.plain, "--atlas", files.atlas, "--atlas", f"Same={files.atlas}")
    done = check_ok(invoke(*args, "--mask", files.mask, "--t-r", 3, "-o", tmp_path))
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("Warning: ") for line in lines)
    assert "t_r=3 s, but the image says 2 s" in lines[1]
    assert ".py" not in done.stderr


def test_help_says_what_there_is():
    done = check_ok(invoke("extract", "--help"))
    headings = re.findall(r"^(\w[\w ]+):$", done.stdout, flags=re.MULTILINE)
    assert headings == ["Input and output", "Regions", "Cleaning", "Running", "Other"]
    for text in ("[default: mean]", "Cutoff in Hz", "--t-r SECONDS", "--columns 'trans_?'"):
        assert text in done.stdout
    assert {c.split()[0] for c in _commands(check_ok(invoke("--help")).stdout)} == {
        "bids",
        "convert",
        "demo",
        "extract",
        "report",
    }
    assert check_ok(invoke("--version")).stdout == f"daskroi {dr.__version__}\n"


def _commands(text: str) -> list[str]:
    return [line for line in text.split("Commands:\n")[1].splitlines() if line.strip()]


def test_choices_are_those_of_the_library():
    assert set(clioptions.STRATEGIES) == set(kernels.REDUCERS)
    assert clioptions.NAN_POLICIES == kernels.NAN_POLICIES
    assert set(clioptions.STANDARDIZE) == {s or "none" for s in STANDARDIZE}
    assert set(clioptions.FILTERS) == {f or "none" for f in FILTERS}
    assert recipe.SPATIAL == clioptions.SPATIAL
    assert ("none", *connectomefiles.CHOICES) == clioptions.CONNECTOMES
    assert recipe.MAPS_METHODS == clioptions.MAPS_METHODS
    targets = {t or "none" for t in recipe.RESAMPLING_TARGETS}
    assert set(clioptions.RESAMPLING_TARGETS) == targets
    done = invoke("extract", "--help")
    for plan in clioptions.PLANS:
        assert plan in done.stdout
        dr.Recipe.make(plan=plan)
    with pytest.raises(DaskroiError) as caught:
        dr.Recipe.make(plan="?")
    for plan in clioptions.PLANS:
        assert repr(plan) in str(caught.value)


@pytest.mark.parametrize("args", [["--help"], ["extract", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(args):
    code = (
        "import sys\nfrom daskroi.cli import main\n"
        f"try: main({args})\nexcept SystemExit: pass\n"
        "print('modules', *sys.modules)"
    )
    done = python("-c", code)
    modules = set(done.stdout.splitlines()[-1].split())
    assert "daskroi.cli" in modules
    heavy = {"numpy", "dask", "distributed", "xarray", "pandas", "nibabel", "scipy", "rich"}
    assert not modules & heavy


def test_the_module_is_the_command(files, tmp_path):
    args = ("-m", "daskroi", "extract", files.image, "--atlas", files.atlas, "-o", tmp_path)
    done = python("-W", "error", *args)
    assert (done.returncode, done.stderr) == (0, "")
    [table] = tables(tmp_path).values()
    expected = dr.extract(files.image, files.atlas).values
    np.testing.assert_array_equal(table.to_numpy(np.float32), expected)
    done = python("-m", "daskroi", "extract", "no.nii", "--atlas", files.atlas, "-o", tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"Error: .*no\.nii: no such file\. Check the path\.\n", done.stderr)
    assert python("-m", "daskroi", "extract").returncode == 2
