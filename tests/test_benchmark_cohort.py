"""The benchmark of cohorts must go on working while nobody looks: all of it, on tiny runs."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "benchmarks" / "cohort.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    """tests/benchmarks/cohort.py as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_cohort", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path, sys.modules["benchmark_cohort"] = list(sys.path), module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path
    del sys.modules["benchmark_cohort"]


@pytest.mark.timeout(200)
def test_a_cohort_is_what_nilearn_makes_of_it(bench, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    told = ["--only", "cohort", "--runs", "2", "--volumes", "60", "--shape", "14", "16", "14"]
    told += ["--repeat", "1", "--keep", str(tmp_path), "--ways", "nilearn", "threads"]
    assert bench.main(told) == 0
    said = capsys.readouterr().out
    assert re.search(r"daskroi, 2 threads +[\d.]+", said)
    [difference] = re.findall(r"largest difference of z-scores: (\S+)", said)
    assert float(difference) < 1e-9


@pytest.mark.timeout(200)
def test_many_runs_cost_a_client_no_memory(bench, capsys):
    assert bench.main(["--only", "scale", "--scale", "10", "300"]) == 0
    rows = [row.split() for row in capsys.readouterr().out.strip().splitlines()[-2:]]
    few, many = (float(row[1]) for row in rows)
    # 300 runs that were kept would be 300 futures and tasks of 3 kB; 30 MB is what processes differ
    assert many < few + 30
    assert float(rows[1][3]) < 100
