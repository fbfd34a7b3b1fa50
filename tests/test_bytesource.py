"""Bytes of plain and gzipped files: random access, threads, forks, and every way to be broken."""

from __future__ import annotations

import gc
import gzip
import os
import pickle
import random
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from dask.tokenize import tokenize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import put, read

from daskroi import inflate
from daskroi.bytesource import ByteSource
from daskroi.errors import DaskroiError, DaskroiNotFoundError

# does not compress well, so that damage hits data and not one long run
PAYLOAD = random.Random(0).randbytes(300_000) + b"\0" * 100_000


@pytest.fixture(autouse=True)
def no_file_left_open() -> Iterator[None]:
    inflate.streams.forget()
    gc.collect()  # what other tests have left
    before = open_files()
    yield
    inflate.streams.forget()
    gc.collect()
    assert set(open_files()) <= set(before)


def open_files() -> list[str]:
    return sorted(f.path for f in psutil.Process().open_files())


def written(folder: Path, name: str, payload: bytes = PAYLOAD) -> Path:
    return put(folder / name, payload)


# reading


@pytest.mark.parametrize("name", ["x.bin", "x.bin.gz"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 399_999), st.integers(1, 50_000)), max_size=8))
def test_any_order_reads_the_same(tmp_path: Path, name: str, cuts: list[tuple[int, int]]) -> None:
    path = tmp_path / name
    source = ByteSource.of(path if path.exists() else written(tmp_path, name))
    for start, n in cuts:
        stop = min(start + n, len(PAYLOAD))
        assert read(source, start, stop) == PAYLOAD[start:stop]


@pytest.mark.parametrize("name", ["x.bin", "x.bin.gz"])
def test_four_threads_in_random_order(tmp_path: Path, name: str) -> None:
    source = ByteSource.of(written(tmp_path, name))
    starts = [(s, min(s + 9_000, len(PAYLOAD))) for s in range(0, len(PAYLOAD), 9_000)] * 3
    random.Random(1).shuffle(starts)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda cut: read(source, *cut), starts))
    assert all(part == PAYLOAD[a:b] for part, (a, b) in zip(parts, starts, strict=True))
    assert len([f for f in open_files() if f == source.url]) <= inflate.streams.limit


def test_in_order_opens_once_and_closes_at_the_end(tmp_path: Path, monkeypatch: object) -> None:
    source = ByteSource.of(written(tmp_path, "x.gz"))
    opened = []
    inner = ByteSource._open
    monkeypatch.setattr(ByteSource, "_open", lambda self: opened.append(1) or inner(self))  # type: ignore[attr-defined]
    step = 10_000
    for start in range(0, len(PAYLOAD), step):
        last = start + step == len(PAYLOAD)
        buffer = bytearray(step)
        source.read_at(start, memoryview(buffer), last=last)
        assert buffer == PAYLOAD[start : start + step]
        assert (source.url in open_files()) != last
    assert len(opened) == 1


def test_streams_of_many_files_are_bounded(tmp_path: Path) -> None:
    for i in range(10):
        source = ByteSource.of(written(tmp_path, f"{i}.gz", bytes([i]) * 5000))
        assert read(source, 100, 200) == bytes([i]) * 100
    assert sum(f.startswith(str(tmp_path)) for f in open_files()) <= inflate.streams.limit


def test_a_changed_file_does_not_meet_an_old_stream(tmp_path: Path) -> None:
    path = written(tmp_path, "x.gz", b"a" * 5000)
    old = ByteSource.of(path)
    assert read(old, 0, 10) == b"a" * 10
    written(tmp_path, "x.gz", b"b" * 5001)
    assert read(ByteSource.of(path), 10, 20) == b"b" * 10
    with pytest.raises(DaskroiError, match="changed after it was opened"):
        read(old, 20, 30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_move_the_parents_stream(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import os, sys, zlib
        from daskroi.bytesource import ByteSource
        source = ByteSource.of(sys.argv[1])
        def part(start):
            buffer = bytearray(50_000)
            source.read_at(start, memoryview(buffer))
            return zlib.crc32(buffer)
        first = part(0)
        child = os.fork()
        if child == 0:
            mine = [part(s) for s in range(50_000, 2_000_000, 50_000)]
            os._exit(0)
        os.waitpid(child, 0)
        print(first, *[part(s) for s in range(50_000, 2_000_000, 50_000)])
    """)
    payload = random.Random(2).randbytes(2_000_000)  # more than one buffer of the inflater
    path = written(tmp_path, "x.gz", payload)
    out = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    expected = [zlib.crc32(payload[s : s + 50_000]) for s in range(0, 2_000_000, 50_000)]
    assert [int(n) for n in out.stdout.split()] == expected


def test_fill_goes_on_after_short_reads() -> None:
    class Dribble:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def readinto(self, buffer: memoryview) -> int:
            part, self.data = self.data[:7], self.data[7:]
            part = part[: len(buffer)]
            buffer[: len(part)] = part
            return len(part)

    buffer = bytearray(100)
    assert inflate.fill(Dribble(PAYLOAD[:50]), memoryview(buffer)) == 50  # type: ignore[arg-type]
    assert bytes(buffer[:50]) == PAYLOAD[:50]


@pytest.mark.parametrize("cuts", [[10], [1, 2, 3], [4096, 8192], [200_000], [399_999]])
def test_gzip_of_several_members(tmp_path: Path, cuts: list[int]) -> None:
    path = tmp_path / "x.gz"
    edges = [0, *cuts, len(PAYLOAD)]
    pieces = [PAYLOAD[a:b] for a, b in pairwise(edges)]
    path.write_bytes(b"".join(gzip.compress(p, 1) for p in [b"", *pieces]))
    source = ByteSource.of(path)
    assert source.head(540) == PAYLOAD[:540]
    assert read(source, 0, len(PAYLOAD)) == PAYLOAD
    assert source._inflated_size() == len(PAYLOAD)


def test_gzip_is_told_by_its_bytes_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "x.nii"
    path.write_bytes(gzip.compress(PAYLOAD))
    source = ByteSource.of(path)
    assert source.gzipped
    assert not source.seekable
    assert read(source, 5, 9) == PAYLOAD[5:9]


@pytest.mark.parametrize("name", ["x.bin", "x.bin.gz"])
def test_head(tmp_path: Path, name: str) -> None:
    source = ByteSource.of(written(tmp_path, name, PAYLOAD[:400]))
    assert source.head(348) == PAYLOAD[:348]
    assert source.head(540) == PAYLOAD[:400]


# identity


def test_is_a_value(tmp_path: Path) -> None:
    path = written(tmp_path, "x.gz")
    source = ByteSource.of(path)
    assert source == ByteSource.of(str(path)) == pickle.loads(pickle.dumps(source))
    assert source.url == str(path)
    token = tokenize(source)
    assert token == tokenize(ByteSource.of(path))
    os.utime(path, ns=(0, 1))
    assert ByteSource.of(path) != source
    assert tokenize(ByteSource.of(path)) != token


def test_relative_and_home_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "x.bin")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ByteSource.of("x.bin").url == str(tmp_path / "x.bin")
    assert ByteSource.of("~/x.bin").url == str(tmp_path / "x.bin")


# broken files


@pytest.mark.parametrize("cut", [15, 400, 5_000, 150_000, 300_200, -9, -8, -5, -1])
@pytest.mark.parametrize("how", ["chunk", "stream"])
def test_truncated_gzip(tmp_path: Path, cut: int, how: str) -> None:
    path = written(tmp_path, "x.gz")
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    there = len(zlib.decompressobj(31).decompress(whole[:cut]))
    source = ByteSource.of(path)
    assert source._inflated_size() == there
    if there < len(PAYLOAD):
        message = rf"x\.gz: truncated, expected 400000 bytes after inflating and found {there}\. C"
    else:  # only the checksum is cut off
        message = r"x\.gz: the gzip stream ends early, .* truncated\. Copy or download"
    buffer = memoryview(bytearray(len(PAYLOAD)))

    def stream() -> None:
        with source.open() as file:
            got = inflate.fill(file, buffer)
            if got < len(buffer):
                raise source.truncated(len(buffer), got)
            source.check_end(file)

    with pytest.raises(DaskroiError, match=message):
        stream() if how == "stream" else source.read_at(0, buffer, last=True)


def test_truncated_plain(tmp_path: Path) -> None:
    source = ByteSource.of(written(tmp_path, "x.bin"))
    message = r"x\.bin: truncated, expected 400100 bytes and found 400000\. Copy"
    with pytest.raises(DaskroiError, match=message):
        read(source, 399_000, 400_100)


def test_short_stream_is_not_kept(tmp_path: Path) -> None:
    source = ByteSource.of(written(tmp_path, "x.gz"))
    for start in (399_000, 500_000):
        with pytest.raises(
            DaskroiError, match=r"expected \d+ bytes after inflating and found 4000"
        ):
            read(source, start, start + 2000)
        assert source.url not in open_files()
    assert read(source, 399_000, 400_000) == PAYLOAD[399_000:]


@pytest.mark.parametrize("where", [12, 1000, 100_000, 299_000, -8, -4])
def test_flipped_bits_are_noticed(tmp_path: Path, where: int) -> None:
    """In the middle as well as in checksum and length, which come last."""
    path = written(tmp_path, "x.gz")
    broken = bytearray(path.read_bytes())
    broken[where] ^= 0x10
    path.write_bytes(broken)
    source = ByteSource.of(path)
    with pytest.raises(DaskroiError, match=r"x\.gz: .*(corrupt gzip|truncated).*download it again"):
        source.read_at(0, memoryview(bytearray(len(PAYLOAD))), last=True)
    assert source.url not in open_files()


def test_stored_blocks_are_only_saved_by_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    broken = bytearray(gzip.compress(PAYLOAD, 0))
    broken[200_000] ^= 1
    path.write_bytes(broken)
    source = ByteSource.of(path)
    buffer = memoryview(bytearray(len(PAYLOAD)))
    with pytest.raises(DaskroiError, match=r"corrupt gzip data \(CRC check failed"):
        source.read_at(0, buffer, last=True)


def test_bytes_after_the_image_may_be_anything(tmp_path: Path) -> None:
    source = ByteSource.of(written(tmp_path, "x.gz"))
    buffer = bytearray(1000)
    source.read_at(0, memoryview(buffer), last=True)
    assert buffer == PAYLOAD[:1000]


def test_zero_padding_after_the_stream_is_fine(tmp_path: Path) -> None:
    path = written(tmp_path, "x.gz")  # tape and block devices pad
    path.write_bytes(path.read_bytes() + b"\0" * 5000)
    source = ByteSource.of(path)
    buffer = bytearray(len(PAYLOAD))
    source.read_at(0, memoryview(buffer), last=True)
    assert buffer == PAYLOAD


# files that cannot be opened


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DaskroiNotFoundError, match=r"nothing\.nii: no such file\. Check the path"):
        ByteSource.of(tmp_path / "nothing.nii")
    with pytest.raises(FileNotFoundError):
        ByteSource.of(tmp_path / "nothing.nii")


def test_broken_link(tmp_path: Path) -> None:
    link = tmp_path / "bold.nii.gz"
    link.symlink_to("../.git/annex/objects/xx")
    with pytest.raises(DaskroiNotFoundError, match=r"is a link to '\.\./\.git/annex.*datalad get"):
        ByteSource.of(link)


def test_link_is_followed(tmp_path: Path) -> None:
    written(tmp_path, "x.gz")
    (tmp_path / "link.gz").symlink_to("x.gz")
    assert read(ByteSource.of(tmp_path / "link.gz"), 0, 9) == PAYLOAD[:9]


def test_folder_pipe_and_path_through_a_file(tmp_path: Path) -> None:
    with pytest.raises(DaskroiError, match=r"is a folder\. Give the path of one file"):
        ByteSource.of(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DaskroiError, match=r"pipe: is not a regular file\. Give"):
        ByteSource.of(tmp_path / "pipe")  # opening it would wait for ever
    path = written(tmp_path, "x.bin")
    with pytest.raises(DaskroiError, match=r"cannot be read \(Not a directory\)\. Check the path"):
        ByteSource.of(path / "y.nii")


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "x.bin")

    def refuse(*_: object, **__: object) -> None:  # root may read everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DaskroiError, match=r"x\.bin: cannot be read \(Permission denied\)\. Check"):
        ByteSource.of(path)


def test_empty_and_misnamed(tmp_path: Path) -> None:
    (tmp_path / "x.nii").write_bytes(b"")
    with pytest.raises(DaskroiError, match=r"x\.nii: the file is empty\. Copy or download"):
        ByteSource.of(tmp_path / "x.nii")
    (tmp_path / "x.nii.gz").write_bytes(PAYLOAD)
    with pytest.raises(DaskroiError, match=r"named \.gz but holds no gzip data\. Rename it"):
        ByteSource.of(tmp_path / "x.nii.gz")


@pytest.mark.parametrize("name", ["x.bin", "x.bin.gz"])
def test_changed_and_vanished(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    source = ByteSource.of(path)
    os.utime(path, ns=(0, 1))
    with pytest.raises(DaskroiError, match=r"changed after it was opened\. Open the image again"):
        read(source, 0, 10)
    path.unlink()
    with pytest.raises(DaskroiNotFoundError, match="was there when opened, now is not"):
        read(source, 0, 10)


def test_changed_while_reading(tmp_path: Path) -> None:
    path = written(tmp_path, "x.bin")
    source = ByteSource.of(path)
    with source.open() as file:
        inflate.skip(file, 100)
        os.utime(path, ns=(0, 1))
        with pytest.raises(DaskroiError, match="changed after it was opened"):
            source.check_end(file)


def test_errors_of_the_disk_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ByteSource.of(written(tmp_path, "x.bin"))

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("daskroi.bytesource.fill", fail)
    with pytest.raises(DaskroiError, match=r"x\.bin: cannot be read \(.*Input/output error\)"):
        read(source, 0, 10)
