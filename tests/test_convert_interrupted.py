"""Conversions that end in the middle: interrupted, killed, a full disk, a source that is cut."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conversions import inflated, run_file, tree
from niftis import nifti_bytes, write

import daskroi as dr
from daskroi.convert import convert
from daskroi.errors import DaskroiError
from daskroi.niftizarr import ZarrImage
from daskroi.zarrwrite import to_zarr

# a chunk at a time, and slowly
SLOW = """
import sys, time
import daskroi.zarrwrite as z
real = z._write
def slow(*args):
    real(*args)
    time.sleep(0.02)
z._write = slow
z.WRITE_BYTES = 1
"""

SLOW_CALL = SLOW + "z.to_zarr(sys.argv[1], sys.argv[2], chunks=1)"

SLOW_COMMAND = (
    SLOW
    + """
from daskroi.cliconvert import convert
from daskroi.terminal import Group
Group("daskroi", commands={"convert": convert})(["convert", *sys.argv[1:], "--chunks", "1"])
"""
)


def stopped(
    code: str, path: Path, target: Path, how: signal.Signals, chunks: int = 8
) -> tuple[list[Path], int, str]:
    """Begin a conversion and stop it in the middle: the chunks there were, exit code and stderr."""
    part = Path(f"{target}.part")
    words = [sys.executable, "-c", code, os.fspath(path), os.fspath(target)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(6000):
            found = [p for p in part.rglob("c/*/*/*/*") if p.is_file()]
            if len(found) >= chunks:
                break
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(how)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait(10)
    return found, process.returncode, said


def test_interrupted_by_the_user(tmp_path: Path) -> None:
    path, target = run_file(tmp_path / "x.nii.gz"), tmp_path / "x.nii.zarr"
    _, code, said = stopped(SLOW_COMMAND, path, target, signal.SIGINT)
    assert (code, said) == (130, "Interrupted: run it again, and it goes on where it was.\n")
    assert to_zarr(path, target, chunks=1)


def test_killed_in_the_middle(tmp_path: Path) -> None:
    path, target = run_file(tmp_path / "x.nii.gz"), tmp_path / "x.nii.zarr"
    found, _, _ = stopped(SLOW_CALL, path, target, signal.SIGKILL)
    assert not target.exists()
    with pytest.raises(DaskroiError, match=r"x.nii.zarr: the conversion into it has not ended. If"):
        dr.open_image(target)
    with pytest.raises(DaskroiError, match="the conversion into it has not ended"):
        ZarrImage.open(f"{target}.part")
    # what a power cut leaves: the name, and not all of the content
    found.sort(key=lambda p: int(p.parts[-4]))
    cut, kept = found[0], found[1:5]
    cut.write_bytes(cut.read_bytes()[:50])
    before = {p: p.stat().st_mtime_ns for p in kept}
    names = {p: target / p.relative_to(f"{target}.part") for p in kept}
    assert to_zarr(path, target, chunks=1)
    assert {p: names[p].stat().st_mtime_ns for p in kept} == before
    assert not Path(f"{target}.part").exists()
    undisturbed = tmp_path / "other" / "x.nii.zarr"
    to_zarr(path, undisturbed, chunks=1)
    assert tree(target) == tree(undisturbed)
    assert not to_zarr(path, target, chunks=1)


def test_another_conversion_does_not_go_on_with_it(tmp_path: Path) -> None:
    path, target = run_file(tmp_path / "x.nii.gz"), tmp_path / "x.nii.zarr"
    stopped(SLOW_CALL, path, target, signal.SIGKILL)
    with pytest.raises(DaskroiError, match=r"a conversion of another image, or with other options"):
        to_zarr(path, target, chunks=2)
    assert to_zarr(path, target, chunks=2, overwrite=True)
    convert(target, tmp_path / "y.nii.gz")
    assert inflated(tmp_path / "y.nii.gz") == inflated(path)


def test_a_full_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((32, 32, 16, 8)).astype("f4")
    path, target = write(tmp_path / "x.nii", nifti_bytes(values)), tmp_path / "x.nii.zarr"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(DaskroiError, match=r"cannot be written \(File too large\). What was"):
            to_zarr(path, target, chunks=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not target.exists()
    to_zarr(path, target, chunks=4)
    convert(target, tmp_path / "y.nii")
    assert inflated(tmp_path / "y.nii") == inflated(path)


def test_a_source_that_is_cut(tmp_path: Path) -> None:
    path, target = run_file(tmp_path / "x.nii.gz"), tmp_path / "x.nii.zarr"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DaskroiError, match=r"x.nii.gz: (truncated|the gzip stream ends early)"):
        to_zarr(path, target, chunks=2)
    assert not target.exists()
    with pytest.raises(DaskroiError, match=r"x.nii.gz: (truncated|the gzip stream ends early)"):
        convert(path, tmp_path / "y.nii")
    assert not (tmp_path / "y.nii").exists()
