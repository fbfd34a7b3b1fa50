"""Short forms of what watches memory for long: `benchmarks/soak.py` and `benchmarks/tight.py`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cohorts
import pytest
from daskprocesses import local_cluster

import daskroi as dr
from daskroi.batch import extract_cohort
from daskroi.errors import DaskroiError

pytestmark = pytest.mark.timeout(240)

FOLDER = Path(__file__).parent / "benchmarks"
ROOT = str(Path(dr.__file__).parents[1])


def run(program: str, *args: str) -> tuple[int, str]:
    """One of them; its exit code, and what it found."""
    command = [sys.executable, str(FOLDER / program), *args]
    env = os.environ | {"PYTHONPATH": ROOT}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert done.stdout, done.stderr
    return done.returncode, done.stdout


# of the first rounds caches take up to 5 MB each, 360 MB per 1,000 extractions: a leak is blatant
# here if it is of 20 MB a round, or of one file or thread
@pytest.mark.parametrize("leak", ["0", "40"])
def test_soak(leak: str) -> None:
    args = ("--minutes", "0.07", "--side", "12", "--no-cluster", "--most", "1400", "--leak", leak)
    code, said = run("soak.py", *args)
    assert re.search(r"^client: \d+ MB; .* files [-+]\d+, threads [-+]\d+", said)
    assert code == (leak != "0"), said


def test_workers_that_pause_again_and_again() -> None:
    code, said = run("tight.py", "--runs", "20", "--frames", "120", "--room", "5")
    assert code == 0, said
    assert said.startswith("20 done, 0 failed, 0 not as by extract")
    assert re.search(r"paused [1-9]\d* times", said)


def test_workers_that_are_paused_for_good(tmp_path, monkeypatch) -> None:
    import dask

    monkeypatch.setattr("daskroi.window.SECONDS_PAUSED", 1.0)
    monkeypatch.setattr("daskroi.window.SECONDS_BETWEEN_LOOKS", 0.2)
    runs = cohorts.write_cohort(tmp_path / "in", 2)
    # less than a worker has without any run; not ended for it, as where the system sets the limit
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        local_cluster(1, memory_limit="60MB") as client,
    ):
        said = (
            r"^tcp://127.0.0.1:\d+: nothing goes on, workers \(1\) are paused for want of memory: "
            r"without a run, one has \d+ of its 60 MB in use\. Give workers more memory .*\.$"
        )
        with pytest.raises(DaskroiError, match=said):
            extract_cohort(runs, cohorts.atlas(), tmp_path / "out", client=client, progress=False)
    assert not list((tmp_path / "out").rglob("*_timeseries.tsv"))
