"""The command line while it reads a long run: lines in a log, a bar on a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import images
import nibabel as nib
import numpy as np
import pytest
from clirun import check_ok, environment, invoke

import daskroi as dr
from daskroi import display


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of several slabs, so that there is progress to see."""
    phantom = dr.make_phantom((45, 54, 45), 120, n_regions=5)
    return dr.write_phantom(tmp_path_factory.mktemp("long"), phantom)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("plan", ["stream", "blocks"])
def test_progress_counts_to_the_end(long_run, tmp_path, monkeypatch, plan, clip):
    monkeypatch.setattr(display, "SECONDS_BETWEEN_LINES", 0)
    args = ("extract", long_run["image"], "--plan", plan, "-o", tmp_path / "out")
    if clip:  # reads twice
        labels = np.zeros((3, 3, 3), "u1")
        labels[1] = 1
        affine = nib.load(long_run["image"]).affine.copy()
        affine[:3, 3] += 40
        small = images.save(nib.Nifti1Image(labels, affine), tmp_path / "small.nii")
        args += ("--atlas", small, "--resampling-target", "labels", "--resampling-clip")
    else:
        args += ("--atlas", long_run["atlas"])
    done = check_ok(invoke(*args))
    lines = done.stderr.splitlines()
    assert {line.partition(": ")[0] for line in lines} == {f"Reading {long_run['image'].name}"}
    percents = [int(re.search(r": (\d+) %, \d:\d\d so far", line)[1]) for line in lines]
    assert percents == sorted(percents)
    # steps along the way, not only at its end
    assert len([p for p in percents if 5 < p < 95]) >= 3
    assert percents[-1] < 100


def test_progress_is_a_bar_on_a_terminal(long_run, tmp_path):
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    args = ("extract", long_run["image"], "--atlas", long_run["atlas"], "-o", tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-m", "daskroi", *map(str, args)],
        env=environment() | {"TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=follower,
        timeout=120,
        check=True,
    )
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 1 << 16):
            shown += part
    except OSError:  # Linux's end of a terminal
        pass
    os.close(leader)
    assert b"Reading sub-01_task-rest" in shown
    assert b"100 %" in shown
    assert b"\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 5
