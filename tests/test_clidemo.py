"""``daskroi demo``: it finds the truth, and notices when it does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clirun import check_error, invoke, python, tables

import daskroi as dr


@pytest.mark.timeout(240)
def test_demo_finds_the_truth(tmp_path):
    done = python("-m", "daskroi", "demo", "--out", tmp_path / "demo", "--seed", 3)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Matches the truth." in done.stdout
    rows = re.findall(r"^(\S+) +(\S+) +(\S+) +(\S+e-\d+)$", done.stdout, flags=re.MULTILINE)
    assert len(rows) == 20
    before, after, error = np.array([row[1:] for row in rows], float).T
    # uncleaned series are far off, so that cleaning is seen to do something
    assert before.min() < 0.7
    assert after.min() > 0.99999
    assert error.max() < 0.002
    # what is printed is what was written: the truth once more, from the files alone
    phantom = dr.make_phantom((45, 54, 45), 120, n_regions=20, seed=3)
    [table] = tables(tmp_path / "demo" / "timeseries").values()
    assert list(table.columns) == [row[0] for row in rows] == phantom.atlas.names
    found = np.abs(table.to_numpy(np.float32) - phantom.signals.to_numpy()).max(axis=0)
    np.testing.assert_allclose(found, error, rtol=0.06)
    paths = [Path(line.strip()) for line in done.stdout.split("Files\n")[1].splitlines()]
    assert all(path.is_file() for path in paths)
    assert len(paths) == 9


@pytest.mark.timeout(240)
@pytest.mark.parametrize("wrong", ["cleaned", "raw"])
def test_demo_notices_wrong_numbers(tmp_path, monkeypatch, wrong):
    extract = dr.extract

    def off(*args: Any, **kwargs: Any) -> Any:
        series = extract(*args, **kwargs)
        # by 0.01, a thousandth of the signals
        return series + 0.01 if ("confounds" in kwargs) == (wrong == "cleaned") else series

    monkeypatch.setattr(dr, "extract", off)
    done = invoke("demo", "--out", tmp_path, "--workers", 1)
    assert done.exit_code == 1
    assert "Matches" not in done.stdout
    assert re.fullmatch(r"Error: daskroi demo: the result is not the truth.*\n", done.stderr)


def test_demo_refuses_a_file_as_its_folder(tmp_path):
    (tmp_path / "file").write_text("")
    check_error(invoke("demo", "--out", tmp_path / "file"), "is a file")
