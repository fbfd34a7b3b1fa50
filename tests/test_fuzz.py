"""A short run of every fuzz target. The long one: ``python tests/fuzz/run.py --inputs 200000``."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.engine import run_target
from fuzz.targets import TARGETS

INPUTS = 40  # times the weight of a target, which is 0.02 to 5; 1,900 in all


# nibabel leaves the file open when it refuses its header
@pytest.mark.filterwarnings(
    r"ignore:Exception ignored in. <_io.FileIO .*\.mg[hz]:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_our_errors(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "cache"))
    planned = TARGETS[name]
    target = planned.target(tmp_path)
    inputs = len(target.seeds) + max(planned.least, round(INPUTS * planned.weight))
    report = run_target(target, seed=7, inputs=inputs)
    assert not report.findings, "\n".join([report.line(), *report.messages.values()])
