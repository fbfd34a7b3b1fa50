"""Streams of slabs: their thread, their memory, and how they end."""

from __future__ import annotations

import gc
import gzip
import os
import threading
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
from niftis import nifti_bytes, random_values, write

from daskroi.errors import DaskroiError
from daskroi.imagefile import watch_slabs
from daskroi.nifti import NiftiFile


@pytest.fixture
def run(tmp_path: Path) -> NiftiFile:
    values = random_values((20, 20, 20, 12), "f4")
    return NiftiFile.open(write(tmp_path / "run.nii.gz", nifti_bytes(values)))


def readers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("daskroi-read")]


def is_open(file: NiftiFile) -> bool:
    return file.source.url in [f.path for f in psutil.Process().open_files()]


@pytest.mark.parametrize("name", ["run.nii", "run.nii.gz"])
def test_left_early(tmp_path: Path, name: str) -> None:
    content = nifti_bytes(random_values((40, 40, 40, 12), "f4"))
    file = NiftiFile.open(write(tmp_path / name, content))
    for taken in (1, 2, 5):
        slabs = file.slabs(2)
        for _ in range(taken):
            next(slabs)
        assert readers()
        assert is_open(file)
        slabs.close()
        assert not readers()
        assert not is_open(file)


def test_not_started(run: NiftiFile) -> None:
    slabs = run.slabs()
    assert not readers()
    slabs.close()
    assert not is_open(run)


def test_the_consumer_fails(run: NiftiFile) -> None:
    def consume() -> None:
        for start, _ in run.slabs(2):
            if start == 4:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        consume()
    gc.collect()
    assert not readers()
    assert not is_open(run)


def test_the_reader_fails(run: NiftiFile, monkeypatch: pytest.MonkeyPatch) -> None:
    slabs = run.slabs(2)
    next(slabs)
    monkeypatch.setattr("daskroi.nifti.fill", lambda *_: 1 / 0)

    def rest() -> None:
        for _ in slabs:
            pass

    with pytest.raises(ZeroDivisionError):
        rest()
    assert not readers()
    assert not is_open(run)


def test_watchers(run: NiftiFile) -> None:
    seen: list[int] = []
    with watch_slabs(seen.append):
        assert len(list(run.slabs(5))) == 3
    list(run.slabs(5))  # nobody watches
    assert seen == [5, 5, 2]

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with watch_slabs(stop), pytest.raises(KeyboardInterrupt):
        list(run.slabs(5))
    assert not readers()
    assert not is_open(run)


def test_buffers_are_used_again(run: NiftiFile) -> None:
    kept = [slab for _, slab in run.slabs(2)]
    addresses = {slab.ctypes.data for slab in kept}
    assert len(addresses) == 2


def test_two_streams_at_once(run: NiftiFile) -> None:
    for (_, a), (_, b) in zip(run.slabs(5), run.slabs(5), strict=True):
        np.testing.assert_array_equal(a.view("u4"), b.view("u4"))


def test_memory_is_two_slabs(tmp_path: Path) -> None:
    path = tmp_path / "long.nii.gz"
    frame = np.zeros((64, 64, 50), "f4")  # 0.8 MB; 256 of them are 210 MB
    header = nifti_bytes(np.zeros((64, 64, 50, 1), "f4"))[:352]
    parsed = nib.Nifti1Header(header[:348], check=False)
    parsed.set_data_shape((64, 64, 50, 256))
    with gzip.open(path, "wb", 1) as out:
        out.write(parsed.binaryblock + header[348:])
        for _ in range(256):
            out.write(frame)
    file = NiftiFile.open(path)
    tracemalloc.start()
    frames = sum(len(slab) for _, slab in file.slabs())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frames == 256
    assert peak < 70e6  # two slabs of 16 MiB and what one read of the inflater returns


def test_slab_frames(run: NiftiFile) -> None:
    assert run.frame_bytes == 32_000
    assert run.slab_frames() == 12
    assert run.slab_frames(100_000) == 3
    assert run.slab_frames(1) == 1


def test_changed_while_streaming(run: NiftiFile) -> None:
    slabs = run.slabs(5)
    next(slabs)
    os.utime(run.source.url, ns=(0, 1))
    with pytest.raises(DaskroiError, match="changed after it was opened"):
        list(slabs)
    with pytest.raises(DaskroiError, match="changed after it was opened"):
        next(run.slabs())
