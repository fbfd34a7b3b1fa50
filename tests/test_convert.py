"""NIfTI to NIfTI-Zarr and back: the same bytes, whatever the chunks and whatever went wrong."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ngff_zarr
import nibabel as nib
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from niftis import nifti_bytes, write
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from servers import S3

import daskroi as dr
import daskroi.zarrwrite
from daskroi.cliconvert import convert as command
from daskroi.convert import convert
from daskroi.errors import DaskroiError
from daskroi.niftizarr import ZarrImage
from daskroi.terminal import Group
from daskroi.zarrlayout import Layout
from daskroi.zarrtarget import claimed
from daskroi.zarrwrite import to_zarr

DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def inflated(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.name.endswith(".gz") else content


def tree(folder: Path) -> dict[str, bytes]:
    """Files of a folder and what is in them."""
    return {
        os.fspath(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def bits(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Any bits at all: NaNs of every kind, infinities, minus zeros; half of them zeros."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    raw[rng.random(shape) < 0.5] = 0
    return raw.view(dtype)[..., 0]


def run_file(path: Path, shape: tuple[int, ...] = (16, 14, 12, 40), seed: int = 0) -> Path:
    values = np.random.default_rng(seed).integers(0, 1000, shape).astype("i2")
    return write(path, nifti_bytes(values))


@settings(max_examples=60)
@given(
    dtype=st.sampled_from(DTYPES),
    endian=st.sampled_from("<>"),
    version=st.sampled_from([1, 2]),
    shape=st.tuples(*[st.integers(1, 6)] * 3) | st.tuples(*[st.integers(1, 7)] * 4),
    extension=st.sampled_from([0, 0, 16, 64]),
    slope=st.sampled_from([1.0, 0.0, 0.25, -2.0]),
    zarr_format=st.sampled_from([2, 3]),
    compressor=st.sampled_from(["lz4", "zstd"]),
    gz=st.booleans(),
    data=st.data(),
)
def test_there_and_back_again(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    endian: str,
    version: int,
    shape: tuple[int, ...],
    extension: int,
    slope: float,
    zarr_format: int,
    compressor: str,
    gz: bool,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("round")
    content = nifti_bytes(
        bits(shape, dtype), version=version, endian=endian, extension=extension, scl_slope=slope
    )
    if extension:  # something in it
        at = 348 if version == 1 else 540
        content = (
            content[:at] + b"\1\0\0\0" + bytes(range(extension)) + content[at + 4 + extension :]
        )
    path = write(folder / ("x.nii.gz" if gz else "x.nii"), content)
    options: dict[str, Any] = {"chunks": "auto"}
    if data.draw(st.booleans()):
        options["chunks"] = tuple(data.draw(st.integers(1, n)) for n in shape[::-1])
        if zarr_format == 3 and data.draw(st.booleans()):
            options["shards"] = tuple(c * data.draw(st.integers(1, 3)) for c in options["chunks"])
    assert convert(
        path, folder / "x.nii.zarr", zarr_format=zarr_format, compressor=compressor, **options
    )
    assert convert(folder / "x.nii.zarr", folder / "back.nii.gz")
    assert inflated(folder / "back.nii.gz") == content
    assert not convert(
        path, folder / "x.nii.zarr", zarr_format=zarr_format, compressor=compressor, **options
    )
    nifti = zarr.open_array(folder / "x.nii.zarr" / "nifti", mode="r")
    assert nifti.dtype == "u1"
    if not extension:
        assert nifti.shape == ({1: 348, 2: 540}[version],)


def test_the_real_run(tmp_path: Path, real_run: Path) -> None:
    convert(real_run, tmp_path / "x.nii.zarr", chunks={"time": 10, "z": 8})
    convert(tmp_path / "x.nii.zarr", tmp_path / "back.nii")
    assert inflated(tmp_path / "back.nii") == inflated(real_run)


def test_nifti_to_nifti_and_zarr_to_zarr(tmp_path: Path) -> None:
    path = run_file(tmp_path / "x.nii.gz")
    convert(path, tmp_path / "x.nii")
    assert inflated(tmp_path / "x.nii") == inflated(path)
    convert(path, tmp_path / "a.nii.zarr", zarr_format=2, chunks=3)
    convert(tmp_path / "a.nii.zarr", tmp_path / "b.nii.zarr", chunks=7)
    convert(tmp_path / "b.nii.zarr", tmp_path / "y.nii")
    assert inflated(tmp_path / "y.nii") == inflated(path)


def test_images_in_memory_and_changed_ones(tmp_path: Path) -> None:
    phantom = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    changed = (phantom.image[2:, ::-1] / 3).chunk({"time": 7})
    to_zarr(changed, tmp_path / "x.nii.zarr", chunks=4)
    found = dr.open_image(tmp_path / "x.nii.zarr")
    np.testing.assert_array_equal(found.values, changed.values)
    assert dr.grid_of(found).same_as(dr.grid_of(changed))
    assert found.time.attrs["t_r"] == phantom.image.time.attrs["t_r"]
    # of nibabel's images what the user made of them counts, not what the file says
    image = nib.load(run_file(tmp_path / "y.nii"))
    moved = nib.Nifti1Image(image.dataobj, np.diag([5.0, 5, 5, 1]), image.header)
    to_zarr(moved, tmp_path / "y.nii.zarr")
    assert ZarrImage.open(tmp_path / "y.nii.zarr").grid.voxel_sizes == (5.0, 5.0, 5.0)
    to_zarr(phantom.image[3], tmp_path / "z.nii.zarr")
    np.testing.assert_array_equal(
        dr.open_image(tmp_path / "z.nii.zarr").values, phantom.image[3].values
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("frame", [None, 0])
def test_valid_ome_zarr_by_other_readers(
    tmp_path: Path, zarr_format: int, frame: int | None
) -> None:
    image = dr.make_phantom((12, 14, 11), n_time=9, n_regions=4).image
    image = image if frame is None else image[frame]
    path = tmp_path / "x.nii.zarr"
    to_zarr(image, path, zarr_format=zarr_format, chunks=4)
    read = ngff_zarr.from_ngff_zarr(os.fspath(path), validate=True).images[0]
    assert tuple(read.dims) == ("t", "z", "y", "x")[-image.ndim :]
    np.testing.assert_array_equal(np.asarray(read.data), image.values)
    sizes = dict(zip("xyz", dr.grid_of(image).voxel_sizes, strict=True))
    for axis in read.dims:
        wanted = sizes.get(axis, image.time.attrs.get("t_r"))
        assert read.scale[axis] == pytest.approx(wanted)
        assert read.axes_units[axis] == ("second" if axis == "t" else "millimeter")
    [node] = Reader(parse_url(os.fspath(path)))()
    np.testing.assert_array_equal(np.asarray(node.data[0]), image.values)


def test_units_that_ome_zarr_does_not_know_are_left_out(tmp_path: Path) -> None:
    values = np.zeros((4, 3, 2, 5), "i2")
    path = write(tmp_path / "x.nii", nifti_bytes(values, xyzt_units=32, pixdim=np.zeros(8)))
    to_zarr(path, tmp_path / "x.nii.zarr")
    image = zarr.open_group(tmp_path / "x.nii.zarr").attrs["ome"]["multiscales"][0]  # type: ignore[index,call-overload]
    assert not any("unit" in axis for axis in image["axes"])
    scales = image["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scales == [1.0] * 4


def test_stores_say_nothing_of_where_the_image_was(tmp_path: Path) -> None:
    (tmp_path / "secret place").mkdir()
    path = run_file(tmp_path / "secret place" / "x.nii")
    to_zarr(path, tmp_path / "x.nii.zarr")
    assert b"secret" not in (tmp_path / "x.nii.zarr" / "zarr.json").read_bytes()


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 4),
    sizes=st.tuples(*[st.integers(1, 9)] * 4),
    zarr_format=st.sampled_from([2, 3]),
)
def test_keys_are_the_files_zarr_writes(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, ...],
    sizes: tuple[int, ...],
    zarr_format: int,
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    layout = Layout.make(shape, "<i2", chunks=sizes, zarr_format=zarr_format)
    layout.create(zarr.storage.LocalStore(folder))[...] = 0
    files = {os.fspath(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert set(layout.keys(tuple(slice(0, n) for n in shape))) == {
        f for f in files if not f.endswith((".json", ".zarray", ".zattrs"))
    }


def test_sizes_that_are_chosen() -> None:
    assert Layout.make((1200, 91, 109, 91), "<f4").chunks == (4, 91, 109, 91)
    assert Layout.make((1200, 64, 64, 36), "<i2").chunks == (56, 64, 64, 36)
    assert Layout.make((3, 64, 64, 36), "<i2").chunks == (3, 64, 64, 36)
    # a volume of 0.2 mm
    assert Layout.make((800, 900, 700), "<f4").chunks == (6, 900, 700)
    assert Layout.make((9, 64, 64, 36), "<i2", shards="auto").shards is None
    one = Layout.make((1200, 64, 64, 36), "<i2", chunks=1, shards="auto")
    assert (one.chunks, one.shards) == ((1, 64, 64, 36), (227, 64, 64, 36))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunks": 0}, r"chunks=0 does not fit an image of shape \(40, 12, 14, 16\). Use 'auto'"),
        ({"chunks": (1, 2)}, "does not fit an image"),
        ({"chunks": {"t": 1}}, r"chunks names \['t'\], which are not dims"),
        ({"chunks": True}, "does not fit an image"),
        ({"chunks": 4, "shards": 6}, r"shards=6 do not hold whole chunks of \(4, 12, 14, 16\)"),
        ({"shards": 8, "zarr_format": 2}, "shards are for zarr_format=3"),
        ({"zarr_format": 4}, "zarr_format=4 is not known"),
        ({"compressor": "gzip"}, "compressor='gzip' is not known. Use one of: 'lz4', 'zstd'"),
    ],
)
def test_options_that_do_not_go(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = run_file(tmp_path / "x.nii")
    with pytest.raises(DaskroiError, match=message):
        to_zarr(path, tmp_path / "x.nii.zarr", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii"]


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


def test_what_is_there_is_kept_unless_it_may_go(tmp_path: Path) -> None:
    path, target = run_file(tmp_path / "x.nii.gz"), tmp_path / "x.nii.zarr"
    other = run_file(tmp_path / "y.nii.gz", seed=1)
    target.mkdir()  # an empty folder is nothing
    assert to_zarr(path, target)
    assert not to_zarr(path, target)
    assert to_zarr(path, target, overwrite=True)
    before = tree(target)
    for image, options in ((other, {}), (path, {"chunks": 3}), (path, {"zarr_format": 2})):
        with pytest.raises(DaskroiError, match=r"x.nii.zarr: is there already, of another image"):
            to_zarr(image, target, **options)
    assert tree(target) == before
    opened = ZarrImage.open(target)
    assert to_zarr(other, target, overwrite=True)
    with pytest.raises(DaskroiError, match="changed after it was opened"):
        opened.read_box((slice(0, 1), slice(0, 1), slice(0, 1), slice(0, 1)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.nii.gz", "x.nii.zarr", "y.nii.gz"]
    precious = tmp_path / "precious.zarr"
    precious.mkdir()
    (precious / "thesis.tex").write_text("words")
    with pytest.raises(DaskroiError, match="holds something else than a Zarr group"):
        to_zarr(path, precious, overwrite=True)
    assert (precious / "thesis.tex").read_text() == "words"
    with pytest.raises(DaskroiError, match="is there already"):
        convert(target, other)
    convert(target, other, overwrite=True)


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    from daskroi.urls import StorageOptions

    path, target = run_file(tmp_path / "x.nii.gz"), tmp_path / "x.nii.zarr"
    with claimed(os.fspath(target), StorageOptions(), {"plan": 1}, False):
        for overwrite in (False, True):
            with pytest.raises(DaskroiError, match=r"another process is converting into it. Wait"):
                to_zarr(path, target, overwrite=overwrite)
    assert to_zarr(path, target, overwrite=True)


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


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """After so many writes, Ctrl-C; 0 for never."""
    real = daskroi.zarrwrite._write

    def after(count: int) -> None:
        left = [count]

        def write(*args: Any) -> None:
            if left == [0]:
                raise KeyboardInterrupt
            real(*args)
            left[0] -= 1

        monkeypatch.setattr(daskroi.zarrwrite, "_write", write if count else real)
        monkeypatch.setattr(daskroi.zarrwrite, "WRITE_BYTES", 1)

    return after


def objects(s3: S3, prefix: str) -> dict[str, bytes]:
    fs = s3.filesystem
    fs.invalidate_cache()
    root = f"{s3.bucket}/{prefix}/"
    return {p.removeprefix(root): fs.cat_file(p) for p in fs.find(root)}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_s3_interrupted_and_taken_up_again(
    tmp_path: Path,
    s3: S3,
    interrupted: Callable[[int], None],
    zarr_format: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = run_file(tmp_path / "x.nii.gz", (8, 7, 6, 12))
    how: dict[str, Any] = {
        "chunks": 1,
        "zarr_format": zarr_format,
        "storage_options": s3.options,
    }
    url = s3.url("a/x.nii.zarr")
    interrupted(4)
    with pytest.raises(KeyboardInterrupt):
        to_zarr(path, url, **how)
    assert len(objects(s3, "a/x.nii.zarr")) >= 5
    with pytest.raises(DaskroiError, match=r"s3://.*/a/x.nii.zarr: the conversion into it has not"):
        ZarrImage.open(url, s3.options)
    with pytest.raises(DaskroiError, match="a conversion of another image, or with other options"):
        to_zarr(path, url, **(how | {"chunks": 2}))
    with pytest.raises(DaskroiError, match="another process is converting into it"):
        to_zarr(path, url, overwrite=True, **(how | {"chunks": 2}))
    interrupted(100)
    writes: list[int] = []
    real = daskroi.zarrwrite._write
    monkeypatch.setattr(daskroi.zarrwrite, "_write", lambda *a: (writes.append(1), real(*a)))
    assert to_zarr(path, url, **how)
    assert len(writes) == 8  # four were there
    interrupted(0)
    assert not to_zarr(path, url, **how)
    to_zarr(path, s3.url("b/x.nii.zarr"), **how)
    assert objects(s3, "a/x.nii.zarr") == objects(s3, "b/x.nii.zarr")
    convert(url, s3.url("back.nii.gz"), storage_options=s3.options)
    assert gzip.decompress(s3.filesystem.cat_file(s3.url("back.nii.gz"))) == inflated(path)
    with pytest.raises(DaskroiError, match="is there already"):
        convert(url, s3.url("back.nii.gz"), storage_options=s3.options)


def test_s3_overwriting(tmp_path: Path, s3: S3, interrupted: Callable[[int], None]) -> None:
    path = run_file(tmp_path / "x.nii.gz", (8, 7, 6, 12))
    other = run_file(tmp_path / "y.nii.gz", (8, 7, 6, 5), seed=1)
    url = s3.url("x.nii.zarr")
    to_zarr(path, url, storage_options=s3.options, chunks=1)
    with pytest.raises(DaskroiError, match="is there already, of another image"):
        to_zarr(other, url, storage_options=s3.options)
    # a writer that gave no sign of life for long is given up
    interrupted(2)
    with pytest.raises(KeyboardInterrupt):
        to_zarr(path, url, storage_options=s3.options, chunks=2, overwrite=True)
    interrupted(0)
    with pytest.raises(DaskroiError, match="has not ended"):
        ZarrImage.open(url, s3.options)
    note = f"{url}/.daskroi-conversion.json"
    old = json.loads(s3.filesystem.cat_file(note)) | {"alive": 0}
    s3.filesystem.pipe_file(note, json.dumps(old).encode())
    assert to_zarr(other, url, storage_options=s3.options, overwrite=True)
    convert(url, tmp_path / "back.nii", storage_options=s3.options)
    assert inflated(tmp_path / "back.nii") == inflated(other)
    s3.filesystem.pipe_file(s3.url("folder/thesis.tex"), b"words")
    with pytest.raises(DaskroiError, match="holds something else than a Zarr group"):
        to_zarr(path, s3.url("folder"), storage_options=s3.options, overwrite=True)


def test_s3_taken_over_in_the_last_minute(
    tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, url = run_file(tmp_path / "x.nii.gz", (8, 7, 6, 12)), s3.url("x.nii.zarr")
    real, note = daskroi.zarrwrite._write, f"{url}/.daskroi-conversion.json"

    def write(*args: Any) -> None:
        real(*args)
        s3.filesystem.pipe_file(note, json.dumps({"plan": "another", "alive": 0}).encode())

    monkeypatch.setattr(daskroi.zarrwrite, "_write", write)
    with pytest.raises(DaskroiError, match=r"another process has taken over the conversion"):
        to_zarr(path, url, storage_options=s3.options)
    assert not {"zarr.json", ".zattrs", ".zgroup"} & set(objects(s3, "x.nii.zarr"))


def test_memory_filesystem(tmp_path: Path) -> None:
    path = run_file(tmp_path / "x.nii.gz")
    assert convert(path, "memory://convert/x.nii.zarr", chunks=7)
    assert not convert(path, "memory://convert/x.nii.zarr", chunks=7)
    assert convert("memory://convert/x.nii.zarr", tmp_path / "y.nii")
    assert inflated(tmp_path / "y.nii") == inflated(path)


@pytest.fixture
def cli() -> Callable[..., Any]:
    main = Group("daskroi", commands={"convert": command})
    return lambda *words: CliRunner().invoke(main, ["convert", *map(str, words)])


def test_command(tmp_path: Path, cli: Callable[..., Any]) -> None:
    path, target = run_file(tmp_path / "x.nii.gz"), tmp_path / "x.nii.zarr"
    done = cli(path, target, "--chunks", "time=4,z=5", "--shards", "8", "--compressor", "zstd")
    assert (done.exit_code, done.stdout) == (0, f"{target}\n"), done.output
    array = zarr.open_array(target / "0", mode="r")
    assert (array.chunks, array.shards) == ((4, 5, 14, 16), (8, 15, 14, 16))
    again = cli(path, target, "--chunks", "time=4,z=5", "--shards", "8", "--compressor", "zstd")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "up to date, skipped" in again.stderr
    refused = cli(path, target, "--zarr-format", "2")
    assert refused.exit_code == 1
    assert "Pass overwrite=True (--overwrite)" in refused.stderr
    assert cli(path, target, "--zarr_format", "2", "--overwrite").exit_code == 0
    assert (target / ".zgroup").exists()
    back = cli(target, tmp_path / "y.nii.gz")
    assert back.exit_code == 0, back.output
    assert inflated(tmp_path / "y.nii.gz") == inflated(path)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["x.nii", "y.nii.zarr", "--chunks", "some"], 2, "'some' are no sizes. Give auto, a num"),
        (["none.nii", "y.nii.zarr"], 1, "none.nii: no such file"),
        (["x.nii", "y.txt"], 1, "y.txt: its ending says neither NIfTI nor Zarr"),
        (["x.nii", "y.nii", "--chunks", "3"], 1, "chunks: of Zarr, but y.nii is NIfTI"),
    ],
)
def test_command_refuses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Callable[..., Any],
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    run_file(tmp_path / "x.nii")
    done = cli(*words)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in " ".join(done.stderr.split())
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii"]


def test_command_to_s3(tmp_path: Path, s3: S3, cli: Callable[..., Any]) -> None:
    path = run_file(tmp_path / "x.nii.gz", (8, 7, 6, 5))
    options = [
        "--storage-option",
        f"key={s3.options['key']}",
        "--storage-option",
        f"secret={s3.options['secret']}",
        "--storage-option",
        f"client_kwargs.endpoint_url={s3.endpoint}",
    ]
    done = cli(path, s3.url("x.nii.zarr"), *options)
    assert (done.exit_code, done.stdout) == (0, f"{s3.url('x.nii.zarr')}\n"), done.output
    assert cli(s3.url("x.nii.zarr"), tmp_path / "y.nii", *options).exit_code == 0
    assert inflated(tmp_path / "y.nii") == inflated(path)
