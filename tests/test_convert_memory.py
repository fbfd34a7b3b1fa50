"""Conversions of long runs: in bounded memory; and their benchmark works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conversions import inflated, run_file
from niftis import nifti_bytes

import daskroi.zarrwrite
from daskroi.convert import convert
from daskroi.zarrwrite import to_zarr


def test_chunks_long_in_time_are_gathered_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_file(tmp_path / "x.nii.gz")
    monkeypatch.setattr(daskroi.zarrwrite, "WRITE_BYTES", 30_000)
    monkeypatch.setattr(daskroi.zarrwrite, "GATHER_BYTES", 100_000)
    parts: list[int] = []
    real = daskroi.zarrwrite._write
    monkeypatch.setattr(
        daskroi.zarrwrite, "_write", lambda *a: (parts.append(a[3].nbytes), real(*a))[1]
    )
    to_zarr(path, tmp_path / "x.nii.zarr", chunks={"time": -1, "z": 2, "y": 5})
    assert max(parts) <= 100_000
    convert(tmp_path / "x.nii.zarr", tmp_path / "y.nii.gz")
    assert inflated(tmp_path / "y.nii.gz") == inflated(path)


def test_the_benchmark_works(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = Path(__file__).parent / "benchmarks" / "niftizarr.py"
    words = ["--volumes", "20", "--shape", "8", "9", "8", "--repeat", "1", "--only", "zarr", "back"]
    done = subprocess.run([sys.executable, script, *words, "--keep", tmp_path], timeout=120)
    # 1: so small an image is not faster
    assert done.returncode in (0, 1)
    assert "| back |" in capfd.readouterr().out


PEAK = """
import resource, sys
from daskroi.convert import convert
convert(sys.argv[1], sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    peaks = {}
    for frames in (8, 150):
        # zeros, so that neither gzip nor the disk take long
        header = nifti_bytes(np.zeros((1, 1, 1, 1), "f4"), shape=(96, 96, 60, frames))[:352]
        path = tmp_path / f"{frames}.nii"
        with path.open("wb") as file:
            file.write(header)
            file.truncate(352 + 96 * 96 * 60 * frames * 4)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, path, f"{path}.zarr"],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        peaks[frames] = int(done.stdout)
    # the long one is 332 MB; in memory are two slabs of 32 MiB, and what Zarr makes of them
    assert peaks[150] - peaks[8] < 180_000, peaks
