"""Results at URLs as in folders: whole or not at all, found again, and with no secret in them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import daskroi as dr
from daskroi import outputs, partfiles, sidecar, store, targets
from daskroi.errors import DaskroiError, DaskroiNotFoundError

SECRET = "very-secret-key"


@pytest.fixture(scope="module")
def s3(s3_endpoint: str) -> dict[str, Any]:
    """Storage options of a real S3 protocol server with a bucket ``bucket``."""
    import s3fs

    options = {"key": "someone", "secret": SECRET, "endpoint_url": s3_endpoint}
    s3fs.S3FileSystem(**options).makedirs("bucket", exist_ok=True)
    return options


@pytest.fixture(params=["memory", "s3"])
def place(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A URL prefix nobody has written to, and its options."""
    name = f"bucket/{request.node.name.replace('[', '-').replace(']', '')}"
    if request.param == "memory":
        return f"memory://{name}", {}
    return f"s3://{name}", request.getfixturevalue("s3")


@pytest.fixture(scope="module")
def series() -> Any:
    run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    return dr.extract(run.image, run.atlas).compute()


def test_results_at_a_url_are_those_of_a_folder(tmp_path, place, series):
    url, options = place
    there = store.write_run(series, url, "sub-01", storage_options=options)
    here = store.write_run(series, tmp_path, "sub-01")
    for remote, local in zip(there.all, here.all, strict=True):
        assert targets.read_text(remote) == local.read_text()
    back = dr.read_timeseries(str(there.timeseries), storage_options=options)
    np.testing.assert_array_equal(back.values, series.values)
    folder = targets.as_target(url, options)
    # nothing but the three, and nothing hidden
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in here.all)
    assert store.differences(series, url, "sub-01", storage_options=options) == []
    changed = series.assign_attrs(atlas_hash="other")
    assert store.differences(changed, url, "sub-01", storage_options=options) == ["atlas"]
    assert store.differences(series, url, "sub-02", storage_options=options) is None


def test_remote_inputs_are_known_by_size_and_version(tmp_path, place, series):
    url, options = place
    image = targets.as_target(f"{url}/bold.nii", options)
    outputs.write(image, b"12345")
    told: dict[str, Any] = {"inputs": {"image": str(image)}, "storage_options": options}
    written = store.write_run(series, tmp_path, "x", **told)
    [found] = sidecar.read_sidecar(written.sidecar)["Inputs"]["image"]
    assert (found["Path"], found["Size"]) == (str(image), 5)
    assert found["Version"]
    assert SECRET not in written.sidecar.read_text()
    assert store.differences(series, tmp_path, "x", **told) == []
    outputs.write(image, b"54321")
    assert store.differences(series, tmp_path, "x", **told) == ["input files"]
    gone = {"image": f"{url}/gone.nii"}
    with pytest.raises(DaskroiNotFoundError, match=r"gone\.nii: no such file"):
        store.write_run(series, tmp_path, "y", inputs=gone, storage_options=options)


def own_instance(s3: dict[str, Any], number: int) -> dict[str, Any]:
    """Options by which a filesystem is made anew: one keeps the methods it was made with.

    Clearing the cache of all would close, in this test, the sessions that others have left.
    """
    return s3 | {"default_block_size": (6 << 20) + number}


def test_files_come_in_order_and_the_sidecar_last(s3, series, monkeypatch):
    import s3fs

    calls: list[tuple[str, str]] = []
    for name in ("_pipe_file", "_rm_file"):
        real = getattr(s3fs.S3FileSystem, name)

        async def noted(self: Any, path: str, *args: Any, real: Any = real, **kwargs: Any) -> Any:
            calls.append((real.__name__, path.rpartition("_")[2]))
            return await real(self, path, *args, **kwargs)

        monkeypatch.setattr(s3fs.S3FileSystem, name, noted)
    for _ in range(2):
        store.write_run(series, "s3://bucket/order", "x", storage_options=own_instance(s3, 0))
    puts = [("_pipe_file", f) for f in ("timeseries.tsv", "bold.tsv", "timeseries.json")]
    # on a busy machine a request may be tried again
    assert [call for call, _ in groupby(calls)] == [*puts, ("_rm_file", "timeseries.json"), *puts]


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_failed_put_leaves_nothing(s3, series, monkeypatch, nth):
    import s3fs

    real, calls = s3fs.S3FileSystem._pipe_file, 0

    async def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise PermissionError(f"no right, {SECRET}")
        return await real(self, *args, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", broken)
    url = f"s3://bucket/failed{nth}"
    with pytest.raises(DaskroiError, match=rf"failed{nth}: results cannot be written") as error:
        store.write_run(series, url, "x", storage_options=own_instance(s3, nth))
    assert SECRET not in str(error.value)
    found = s3fs.S3FileSystem(**s3, skip_instance_cache=True)
    assert found.find(f"bucket/failed{nth}") == []


def test_a_bucket_that_is_not_there_is_named(s3, series):
    with pytest.raises(DaskroiError, match="s3://nobucket/out: results cannot be written there"):
        store.write_run(series, "s3://nobucket/out", "x", storage_options=s3)


def test_secrets_are_not_shown(s3):
    folder = targets.as_target("s3://bucket/out", s3)
    assert SECRET not in repr(folder) + str(folder)
    with pytest.raises(DaskroiError, match="holds a user name or password") as error:
        targets.as_target(f"ftp://me:{SECRET}@host/out")
    assert SECRET not in str(error.value)
    with pytest.raises(DaskroiError, match="no-such-protocol"):
        targets.check_folder("no-such-protocol://x")


def test_file_urls_are_local(tmp_path):
    assert targets.as_target(f"file://{tmp_path}/out") == tmp_path / "out"


def test_one_file_is_written_whole(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "runs.tsv"
    outputs.write(path, "old")
    outputs.write(path, b"new")
    assert path.read_bytes() == b"new"

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DaskroiError, match=r"deep: results cannot be written there \(No space"):
        outputs.write(path, "newer")
    monkeypatch.undo()
    assert [p.read_text() for p in path.parent.iterdir()] == ["new"]


WRITER = """
import os, sys, time
from pathlib import Path
real = os.replace
def stop(*args):
    print("here", flush=True)
    time.sleep(60)
os.replace = stop
from daskroi import outputs
outputs.write(Path(sys.argv[1]), "x")
"""


def test_what_a_killed_writer_left_is_swept_up_and_a_living_ones_is_not(tmp_path):
    path = tmp_path / "sub-01_timeseries.tsv"
    code = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "here\n"
            (tmp_path / ".mine").touch()
            assert partfiles.sweep(tmp_path) == 0
        finally:
            writer.kill()
    assert partfiles.sweep(tmp_path, "sub-02") == 0
    assert partfiles.sweep(tmp_path, "sub-01") == 1
    elsewhere = tmp_path / ".x.tsv.otherhost-1-0123abcd.part"
    elsewhere.touch()
    assert partfiles.sweep(tmp_path) == 0
    old = time.time() - 2 * partfiles.ORPHAN_SECONDS
    os.utime(elsewhere, (old, old))
    assert partfiles.sweep(tmp_path) == 1
    assert [p.name for p in tmp_path.iterdir()] == [".mine"]


def test_long_names_leave_room_for_the_temporary_one(tmp_path):
    path: Path = tmp_path / ("ä" * 120 + ".tsv")
    outputs.write(path, "x")
    assert path.read_text() == "x"
