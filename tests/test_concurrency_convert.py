"""Two conversions at once into one store, into one file; and what a killed one leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import images
import numpy as np
import pytest
from together import HERE, READY, ROOT, processes

import daskroi as dr
from daskroi.errors import DaskroiError

pytestmark = pytest.mark.timeout(300)

CONVERT = (
    READY
    + """
from daskroi.errors import DaskroiError
try:
    print(dr.to_zarr(sys.argv[1], sys.argv[2], chunks={chunks}))
except DaskroiError as error:
    print(error)
"""
)


@pytest.mark.parametrize("chunks", [(1, 1), (1, 2)])
def test_two_conversions_into_one_store(tmp_path, chunks):
    run = images.run(np.random.default_rng(0), (20, 20, 20, 60))
    path = images.save(run, tmp_path / "x.nii.gz")
    codes = [CONVERT.format(chunks=c) for c in chunks]
    ended = processes(codes, path, tmp_path / "x.nii.zarr")
    said = [out.strip() for _, out, _ in ended]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "True" in said
    for one in said:
        refused = "another process is converting into it" in one or "is there already" in one
        assert one in ("True", "False") or refused, one
    assert said.count("True") == 1
    np.testing.assert_array_equal(dr.open_image(tmp_path / "x.nii.zarr"), dr.open_image(path))
    assert sorted(os.listdir(tmp_path)) == ["x.nii.gz", "x.nii.zarr"]
    assert not list((tmp_path / "x.nii.zarr").rglob(".daskroi*"))


SLOWLY = (
    READY
    + """
import time
from daskroi.errors import DaskroiError
image = dr.open_image(sys.argv[1], chunks=5)
slow = image.data.map_blocks(lambda b: time.sleep(0.1) or b, dtype=image.dtype, meta=np.empty(0))
try:
    print(dr.convert(image.copy(data=slow), sys.argv[2]))
except DaskroiError as error:
    print(error)
"""
)


def test_two_conversions_into_one_nifti_file(tmp_path):
    path = images.save(images.run(np.random.default_rng(0), (9, 9, 9, 60)), tmp_path / "x.nii")
    ended = processes([SLOWLY] * 2, path, tmp_path / "y.nii.gz")
    assert [(code, err) for code, _, err in ended] == [(0, "")] * 2
    one, other = sorted(out.strip() for _, out, _ in ended)
    assert other == "True"
    assert one.endswith("y.nii.gz: another process is converting into it. Wait for it, or give "
                        "another path.")  # fmt: skip
    np.testing.assert_array_equal(dr.open_image(tmp_path / "y.nii.gz"), dr.open_image(path))
    assert sorted(os.listdir(tmp_path)) == ["x.nii", "y.nii.gz"]
    with pytest.raises(DaskroiError, match="is there already"):
        dr.convert(path, tmp_path / "y.nii.gz")


def test_what_a_killed_conversion_leaves_goes_with_the_next(tmp_path):
    path = images.save(images.run(np.random.default_rng(0), (9, 9, 9, 60)), tmp_path / "x.nii")
    out = tmp_path / "out"
    out.mkdir()
    env = os.environ | {"PYTHONPATH": os.pathsep.join((HERE, ROOT))}
    command = [sys.executable, "-c", SLOWLY, str(path), str(out / "y.nii.gz")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env) as on:
        try:
            assert on.stdin is not None
            on.stdin.write(b"go\n")
            on.stdin.flush()
            deadline = time.monotonic() + 60
            while not list(out.glob(".*.part")) and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            on.kill()
    left = os.listdir(out)
    assert [name for name in left if name.endswith(".part")]
    assert "y.nii.gz" not in left
    assert dr.convert(path, out / "y.nii.gz")
    assert os.listdir(out) == ["y.nii.gz"]
    np.testing.assert_array_equal(dr.open_image(out / "y.nii.gz"), dr.open_image(path))


def test_one_who_comes_late_does_not_replace_what_is_there(tmp_path, monkeypatch):
    # between looking at the target and having its lock, another process ends
    from daskroi import zarrtarget
    from daskroi.zarrwrite import to_zarr

    rng = np.random.default_rng(0)
    first, second = (images.save(images.run(rng), tmp_path / f"{n}.nii") for n in "ab")
    target, real = tmp_path / "x.nii.zarr", zarrtarget.alone_in

    def late(*args: Any) -> Any:
        monkeypatch.setattr(zarrtarget, "alone_in", real)
        to_zarr(first, target)
        os.makedirs(f"{target}.part", exist_ok=True)
        return real(*args)

    monkeypatch.setattr(zarrtarget, "alone_in", late)
    with pytest.raises(DaskroiError, match="is there already, of another image"):
        to_zarr(second, target)
    np.testing.assert_array_equal(dr.open_image(target), dr.open_image(first))
    assert not Path(f"{target}.part").exists()
