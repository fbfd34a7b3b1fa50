"""Random access into gzip: any file, any place, against Python's gzip; and all kinds of trouble."""

from __future__ import annotations

import gc
import gzip
import io
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskroi import gzipindex, gzipsearch
from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.gzipindex import cache_folder, ensure_index, find_index, open_indexed
from daskroi.gzippoints import GzipIndex
from daskroi.gzipreader import IndexedReader
from daskroi.gzipsearch import make_index

on_fixtures = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "cache"))
    gzipindex._loaded.clear()
    yield tmp_path / "cache"
    gzipindex._loaded.clear()


@pytest.fixture
def search_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files as well go to the process that searches in parallel."""
    monkeypatch.setattr(gzipsearch, "SMALL", 0)


def runs(seed: int, size: int) -> bytes:
    """Compressible to a half or so, with blocks that begin at any bit."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 64, size // 3 + 1, np.uint8)
    return np.repeat(values, rng.integers(1, 9, len(values)))[:size].tobytes()


PAYLOAD = runs(0, 9_000_000)
PACKED = gzip.compress(PAYLOAD, 1)


def opener(data: bytes) -> Callable[[], IO[bytes]]:
    return lambda: io.BytesIO(data)


# the same bytes as Python's gzip

member = st.tuples(
    st.sampled_from(["runs", "noise", "zeros"]),
    st.one_of(st.just(0), st.integers(1, 300), st.integers(1, 400_000)),
    st.sampled_from([0, 1, 6, 9]),
)
members = st.lists(member, min_size=1, max_size=5)
cuts = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 70_000)), min_size=1, max_size=6)


def made(drawn: list[tuple[str, int, int]]) -> tuple[bytes, bytes]:
    """Payload and gzip file of some members."""
    kinds = {"noise": lambda n: random.Random(n).randbytes(n), "zeros": bytes}
    parts = [kinds.get(kind, lambda n: runs(n, n))(size) for kind, size, _ in drawn]
    packed = [gzip.compress(p, level) for p, (_, _, level) in zip(parts, drawn, strict=True)]
    return b"".join(parts), b"".join(packed)


def assert_same(reader: IndexedReader, payload: bytes, places: list[tuple[float, int]]) -> None:
    assert reader.size == len(payload)
    for fraction, count in places:
        start = int(fraction * len(payload))
        assert reader.seek(start) == start
        assert reader.read(count) == payload[start : start + count]
        assert reader.tell() == min(start + count, len(payload))


@settings(max_examples=25)
@given(members, cuts, st.sampled_from([1 << 15, 1 << 17]), st.sampled_from([999, 1 << 16]))
def test_any_members_any_places(
    drawn: list[tuple[str, int, int]], places: list[tuple[float, int]], chunk: int, page: int
) -> None:
    payload, packed = made(drawn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gzipsearch, "SMALL", 0)
        index = make_index(opener(packed), chunk=chunk, page=page, threads=2)
    with IndexedReader(opener(packed), GzipIndex.from_bytes(index.to_bytes("x"), "x")) as reader:
        assert_same(reader, payload, places)


@settings(max_examples=60)
@given(members, cuts, st.sampled_from([999, 1 << 16]))
def test_small_files_need_no_search(
    drawn: list[tuple[str, int, int]], places: list[tuple[float, int]], page: int
) -> None:
    payload, packed = made(drawn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gzipsearch, "SMALL", len(packed))
        patch.setattr(gzipsearch, "_scan", None)
        index = make_index(opener(packed), page=page)
    assert_same(IndexedReader(opener(packed), index), payload, places)


def test_points_at_every_bit_of_a_byte() -> None:
    index = make_index(opener(PACKED), chunk=1 << 16, page=10_000)
    assert set(index.bits % 8) == set(range(8))
    reader = IndexedReader(opener(PACKED), index)
    for point in reversed(index.offsets.tolist()):  # backwards, so that each is started from
        page = bytearray(10_000)
        start = -(-point // 10_000) * 10_000
        got = reader.read_at(start, page)
        assert page[:got] == PAYLOAD[start : start + 10_000]


ODD = {
    "whole": PACKED,
    "empty file": b"",
    "empty member": gzip.compress(b""),
    "empty members around": gzip.compress(b"") * 2 + PACKED + gzip.compress(b"") * 2,
    "stored": gzip.compress(PAYLOAD[:2_000_000], 0),
    "many members": b"".join(
        gzip.compress(PAYLOAD[i : i + 65_280], 1) for i in range(0, 3_000_000, 65_280)
    ),
    "zeros after": PACKED + bytes(1000),
    "one zero after": PACKED + b"\0",
    "zeros between": PACKED + bytes(100) + gzip.compress(b"more"),
    "zeros before": bytes(10) + PACKED,
    "name and comment": PACKED[:3]
    + b"\x1e"
    + PACKED[4:10]
    + b"\x03\0abcname\0comment\0"
    + zlib.crc32(PACKED[:3] + b"\x1e" + PACKED[4:10] + b"\x03\0abcname\0comment\0").to_bytes(
        4, "little"
    )[:2]
    + PACKED[10:],
    "text after": PACKED + b"text",
    "a byte after": PACKED + b"\x1f",
    "magic after": PACKED + b"\x1f\x8b\x08",
    "not gzip": b"text" * 10_000,
    "cut in the header": PACKED[:5],
    "cut in the middle": PACKED[: len(PACKED) // 2],
    "cut in the trailer": PACKED[:-3],
    "without trailer": PACKED[:-8],
    "second member cut": PACKED + PACKED[:-3],
    "wrong checksum": PACKED[:-8] + bytes([PACKED[-8] ^ 1]) + PACKED[-7:],
    "wrong length": PACKED[:-1] + bytes([PACKED[-1] ^ 1]),
    "wrong checksum, then more": gzip.compress(b"a")[:-8] + b"abcd\1\0\0\0" + PACKED,
    "a flipped bit": PACKED[:1_000_000] + bytes([PACKED[1_000_000] ^ 16]) + PACKED[1_000_001:],
}


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_as_strict_as_pythons_gzip(
    name: str, small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gzipsearch, "SMALL", 1 << 30 if small else 0)
    path = tmp_path / "x.gz"
    path.write_bytes(ODD[name])
    expected: bytes | type[Exception]
    try:
        expected = gzip.decompress(ODD[name])
    except EOFError:
        expected = EOFError
    except (gzip.BadGzipFile, zlib.error):
        expected = gzip.BadGzipFile
    if name == "cut in the header":
        expected = EOFError  # decompress() and GzipFile differ here; files are what we read
    if isinstance(expected, type):
        with pytest.raises(expected):
            open_indexed(name, lambda: path.open("rb"), str(path), threads=2)
        assert find_index(name) is None
        return
    with open_indexed(name, lambda: path.open("rb"), str(path), threads=2) as reader:
        reader.seek(len(expected) // 2)
        assert reader.read(1000) == expected[len(expected) // 2 :][:1000]
        reader.seek(0)
        assert reader.read() == expected


def test_a_gap_between_members_keeps_rapidgzip_off(search_all: None) -> None:
    index = make_index(opener(ODD["zeros between"]))
    assert index.bare.tolist() == [False, False]
    padded = make_index(opener(ODD["zeros after"]), chunk=1 << 18)
    assert len(padded.bits) > 5


# the reader as a file


def test_it_is_a_file(tmp_path: Path) -> None:
    raw = io.BytesIO(PACKED)
    reader = IndexedReader(lambda: raw, make_index(opener(PACKED)))
    assert reader.readable()
    assert reader.seekable()
    assert not reader.writable()
    assert reader.seek(-10, os.SEEK_END) == len(PAYLOAD) - 10
    assert reader.seek(-5, os.SEEK_CUR) == len(PAYLOAD) - 15
    assert reader.read(100) == PAYLOAD[-15:]
    assert reader.read(100) == b""
    assert reader.seek(10, os.SEEK_END) == len(PAYLOAD) + 10
    assert reader.read(1) == b""
    assert reader.read() == b""
    with pytest.raises(ValueError, match="before the start"):
        reader.seek(-1)
    reader.seek(0)
    values = np.empty((3, 5), ">i2")
    assert reader.readinto(values) == 30
    assert values.tobytes() == PAYLOAD[:30]
    with io.BufferedReader(reader) as buffered:
        buffered.seek(1_000_000)
        assert buffered.read(3) == PAYLOAD[1_000_000:1_000_003]
    reader.close()
    reader.close()
    assert raw.closed
    for act in (reader.tell, reader.read, lambda: reader.seek(0), lambda: reader.read_at(0, b"")):
        with pytest.raises(ValueError, match="closed"):
            act()  # type: ignore[operator]


class Counting(io.BytesIO):
    """Counts the bytes asked for, and gives few at a time."""

    def __init__(self, data: bytes, most: int = 1 << 30) -> None:
        super().__init__(data)
        self.asked = 0
        self.most = most

    def read(self, count: int | None = -1) -> bytes:
        found = super().read(self.most if count is None or count < 0 else min(count, self.most))
        self.asked += len(found)
        return found


def test_no_more_is_fetched_than_needed() -> None:
    index = make_index(opener(PACKED), chunk=1 << 18, page=1 << 16)
    step = int(np.diff(index.bits).max()) // 8
    raw = Counting(PACKED)
    reader = IndexedReader(lambda: raw, index)
    reader.read_at(6_000_000, bytearray(1000))
    assert raw.asked <= 2 * step + 4096
    before = raw.asked
    reader.read_at(6_001_000, bytearray(1000))  # on the same page
    assert raw.asked == before
    raw.asked = 0
    whole = bytearray(len(PAYLOAD))
    for start in range(0, len(PAYLOAD), 100_000):  # in order: goes on where it stands
        reader.read_at(start, memoryview(whole)[start : start + 100_000])
    assert whole == PAYLOAD
    assert raw.asked <= len(PACKED)


def test_short_reads_are_no_end() -> None:
    index = make_index(lambda: Counting(PACKED, 10_007), chunk=1 << 18)
    reader = IndexedReader(lambda: Counting(PACKED, 7), index)
    assert reader.read_at(8_000_000, part := bytearray(1000)) == 1000
    assert part == PAYLOAD[8_000_000:8_001_000]


def test_threads_may_share_a_reader() -> None:
    reader = IndexedReader(opener(PACKED), make_index(opener(PACKED), page=1 << 16))
    starts = list(range(0, len(PAYLOAD), 300_000)) * 2
    random.Random(1).shuffle(starts)

    def read(start: int) -> bool:
        part = bytearray(50_000)
        got = reader.read_at(start, part)
        return part[:got] == PAYLOAD[start : start + 50_000]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, starts))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_reads_on_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(PACKED)
    script = """
        import os, sys, zlib
        from daskroi.gzipindex import open_indexed
        reader = open_indexed("x", lambda: open(sys.argv[1], "rb", buffering=0), sys.argv[1])
        part = lambda start: zlib.crc32(reader.read()) if reader.seek(start) else reader.read(9)
        part(0)
        child = os.fork()
        print([part(s) for s in range(100_000, 9_000_000, 900_000)], flush=True)
        if child == 0:
            reader.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    out = run(script, path).stdout  # of both, in any order
    expected = [zlib.crc32(PAYLOAD[s:]) for s in range(100_000, 9_000_000, 900_000)]
    assert out.count(str(expected)) == 2


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script to its end, as strict as Python can be."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script),
         *map(str, arguments)],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done


def test_handles_that_nobody_closes(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(PACKED)
    script = """
        import sys, threading
        from daskroi.gzipindex import open_indexed
        def opened(where):
            file = open_indexed("x", lambda: open(sys.argv[1], "rb", buffering=0), sys.argv[1])
            file.seek(where)
            file.read(10)
            return file
        kept = [opened(n * 1000) for n in range(20)]
        for n in range(20):
            opened(n * 1000)
        circle = [opened(5)]
        circle.append(circle)
        threading.Thread(target=lambda: kept.append(opened(7))).start()
    """
    run(script, path)


# damage


def test_a_file_that_changed_gives_no_wrong_bytes(tmp_path: Path) -> None:
    other = runs(1, len(PAYLOAD))
    repacked = gzip.compress(other, 1)
    index = make_index(opener(PACKED), chunk=1 << 18)
    for data in (repacked, PACKED[:2_000_000], bytes(len(PACKED)), b"", ODD["a flipped bit"]):
        reader = IndexedReader(opener(data), index)
        refused = 0
        for start in range(0, len(PAYLOAD), 1 << 20):
            part = bytearray(1000)
            try:
                reader.read_at(start, part)
            except (EOFError, gzip.BadGzipFile):
                refused += 1
            else:
                assert part == PAYLOAD[start : start + 1000]
        assert refused


def test_what_the_file_raises_comes_through(search_all: None) -> None:
    class Breaking(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            if self.tell() > 1_000_000:
                raise ConnectionResetError("gone")
            return super().read(count)

    with pytest.raises(ConnectionResetError, match="gone"):
        open_indexed("x", lambda: Breaking(PACKED))
    assert find_index("x") is None
    index = make_index(opener(PACKED), chunk=1 << 18)
    reader = IndexedReader(lambda: Breaking(PACKED), index)
    with pytest.raises(ConnectionResetError, match="gone"):
        reader.read_at(8_000_000, bytearray(10))
    assert reader.read_at(0, part := bytearray(10)) == 10
    assert part == PAYLOAD[:10]


@settings(on_fixtures, max_examples=40)
@given(st.sampled_from(["flip", "cut", "grow", "other"]), st.floats(0, 1, exclude_max=True))
def test_a_damaged_index_is_made_anew(cache: Path, how: str, where: float) -> None:
    packed = gzip.compress(PAYLOAD[:50_000], 6)
    path = ensure_index("x", opener(packed))
    whole = path.read_bytes()
    at = int(where * len(whole))
    path.write_bytes(
        {
            "flip": whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :],
            "cut": whole[:at],
            "grow": whole + b"\0",
            "other": make_index(opener(gzip.compress(b"other"))).to_bytes("y"),
        }[how]
    )
    gzipindex._loaded.clear()
    with open_indexed("x", opener(packed)) as reader:
        assert reader.read() == PAYLOAD[:50_000]
    assert path.read_bytes() == whole


def test_find_index_tells_an_index_of_this_file(cache: Path) -> None:
    assert find_index("x") is None
    path = ensure_index("x", opener(gzip.compress(b"a")))
    assert find_index("x") == path
    assert path.is_relative_to(cache)
    other = ensure_index("y", opener(gzip.compress(b"b")))
    other.write_bytes(path.read_bytes())
    assert find_index("y") is None
    for junk in (b"", b"junk", path.read_bytes()[:60], path.read_bytes()[:53] + b"\xff" * 20):
        path.write_bytes(junk)
        assert find_index("x") is None


# keeping


def test_the_folder(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("DASKROI_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder().name == "daskroi"


def test_made_once_for_many_threads(search_all: None) -> None:
    opened = []

    def open_raw() -> IO[bytes]:
        opened.append(1)
        return io.BytesIO(PACKED)

    with ThreadPoolExecutor(6) as pool:
        paths = set(pool.map(lambda _: ensure_index("x", open_raw), range(6)))
    assert len(paths) == len(opened) == 1


def test_made_once_for_two_processes(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "x.gz").write_bytes(PACKED)
    script = textwrap.dedent("""
        import pathlib, sys, time
        from daskroi.gzipindex import ensure_index
        folder = pathlib.Path(sys.argv[1])
        def open_raw():
            with (folder / "made").open("a") as log:
                log.write("1")
            return (folder / "x.gz").open("rb")
        print("ready", flush=True)
        sys.stdin.readline()
        print(ensure_index("x", open_raw, str(folder / "x.gz")))
    """)
    both = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]  # fmt: skip
    try:
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        outputs = []
        for process in both:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        outputs = {process.communicate(timeout=100)[0].strip() for process in both}
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert outputs == {str(find_index("x"))}
    assert (tmp_path / "made").read_text() == "1"
    assert [f.suffix for f in (cache / "gzip").iterdir() if f.is_file()] == [".gzi"]


@pytest.mark.parametrize("stage", ["copying", "searching"])
def test_killed_while_making(tmp_path: Path, cache: Path, stage: str) -> None:
    # large enough that the search takes a second: 1 GB of zeros
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(bytes(50_000_000), 1) * 20)
    script = textwrap.dedent("""
        import sys, time
        from daskroi.gzipindex import ensure_index
        class Stalling:
            def __getattr__(self, name): return getattr(self.file, name)
            def __init__(self): self.file = open(sys.argv[1], "rb")
            def __enter__(self): return self
            def __exit__(self, *_): self.file.close()
            def read(self, count):
                print("reading", flush=True)
                time.sleep(100)
        if sys.argv[2] == "copying":
            ensure_index("x", Stalling)
        else:
            ensure_index("x", lambda: open(sys.argv[1], "rb"), sys.argv[1])
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path), stage], stdout=subprocess.PIPE
    )
    try:
        children: list[psutil.Process] = []
        if stage == "copying":
            assert process.stdout is not None
            assert process.stdout.readline() == b"reading\n"
        else:
            deadline = time.monotonic() + 60
            while not children and time.monotonic() < deadline:
                children = psutil.Process(process.pid).children()
                time.sleep(0.002)
            assert children
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    # the search ends with the process that asked for it
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert find_index("x") is None
    assert not [f for f in (cache / "gzip").iterdir() if f.is_file()]
    packed = gzip.compress(b"again")
    with open_indexed("x", opener(packed)) as reader:  # and nobody holds the lock
        assert reader.read() == b"again"


def test_a_folder_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DaskroiError, match=r"file/cache/gzip: .* set DASKROI_CACHE"):
        ensure_index("x", opener(PACKED))
    opened = []

    def open_raw() -> IO[bytes]:
        opened.append(1)
        return io.BytesIO(PACKED)

    with pytest.warns(DaskroiWarning, match="every process makes the index for itself"):
        reader = open_indexed("y", open_raw)
    assert reader.read_at(5_000_000, part := bytearray(10)) == 10
    assert part == PAYLOAD[5_000_000:5_000_010]
    opened.clear()
    open_indexed("y", open_raw)  # from memory, and without saying it again
    assert not opened


def test_a_full_disk_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    script = """
        import gzip, io, resource, signal, sys
        from daskroi.errors import DaskroiError
        from daskroi.gzipindex import ensure_index, find_index
        packed = gzip.compress(b"a")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        try:
            ensure_index("x", lambda: io.BytesIO(packed))
        except DaskroiError as error:
            print(error)
        assert find_index("x") is None
    """
    assert "cannot be kept there (File too large)" in run(script).stdout
    assert not [f for f in (cache / "gzip").iterdir() if f.is_file()]


def test_no_room_for_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(DaskroiError, match=r"nowhere: no temporary file .* Set TMPDIR"):
        open_indexed("x", opener(PACKED))


def test_the_least_recently_used_go(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = {name: gzip.compress(name.encode() * 100) for name in "abcde"}
    now = time.time()
    for i, name in enumerate("abcd"):
        os.utime(ensure_index(name, opener(packed[name])), (now - 90 + i, now - 90 + i))
    # of writers on another machine
    stale, fresh = (cache / "gzip" / f".x.gzi.other-1-0123abc{i}.part" for i in range(2))
    for part, age in ((stale, 2 * 3600), (fresh, 60)):
        part.write_bytes(b"")
        os.utime(part, (now - age, now - age))
    gzipindex._loaded.clear()
    reader = open_indexed("a", opener(packed["a"]))  # used, so no longer the oldest
    size = max(f.stat().st_size for f in (cache / "gzip").glob("*.gzi"))
    monkeypatch.setattr(gzipindex, "LIMIT", 3 * size)
    ensure_index("e", opener(packed["e"]))
    assert {n for n in "abcde" if find_index(n)} == {"a", "d", "e"}
    assert (stale.exists(), fresh.exists()) == (False, True)
    for file in (cache / "gzip").glob("*.gzi"):
        file.unlink()
    assert reader.read() == b"a" * 100


@pytest.mark.parametrize(
    ("program", "message"),
    [("/nowhere/python", "cannot be started"), ("/bin/false", "ended with code 1")],
)
def test_a_search_that_cannot_be_run(
    program: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(DaskroiError, match=message):
        open_indexed("x", opener(PACKED))


@pytest.mark.skipif(sys.platform != "linux", reason="limits addresses, as batch systems do")
def test_one_thread_where_there_is_no_memory_for_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rapidgzip dies of it, by SIGSEGV."""
    program = tmp_path / "python"
    program.write_text(
        f'#!/bin/sh\necho "$4" >> {tmp_path}/threads\nulimit -v 2000000\n'
        f'exec {sys.executable} "$@"\n'
    )
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    payload = np.random.default_rng(0).integers(0, 200, 6 << 20, np.uint8).tobytes()
    packed = gzip.compress(payload, 1)
    index = make_index(opener(packed), threads=4)
    assert (tmp_path / "threads").read_text().split() == ["4", "1"]
    with IndexedReader(opener(packed), index) as reader:
        assert reader.read() == payload


def test_nothing_is_left_open(tmp_path: Path, search_all: None) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(PACKED)
    me = psutil.Process()
    before = len(me.open_files()), len(me.children()), threading.active_count(), me.num_fds()
    open_indexed("x", lambda: path.open("rb"), str(path)).read(10)
    open_indexed("y", opener(PACKED)).read(10)
    gc.collect()
    assert before == (
        len(me.open_files()), len(me.children()), threading.active_count(), me.num_fds()
    )  # fmt: skip


def test_the_benchmark_runs(tmp_path: Path) -> None:
    script = Path(__file__).parent / "benchmarks" / "gzipindex.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path, "--frames", "12", "--shape", "20", "24", "20"],
        capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip
    assert "daskroi: index made in" in done.stdout
    assert "daskroi: late volume" in done.stdout
