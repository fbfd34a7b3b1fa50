"""The indexed reader is a file, for threads and forks, by short reads; it gives no wrong bytes."""

from __future__ import annotations

import gc
import gzip
import io
import os
import random
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from gzips import ODD, PACKED, PAYLOAD, opener, run, runs

from daskroi.gzipindex import find_index, open_indexed
from daskroi.gzipreader import IndexedReader
from daskroi.gzipsearch import make_index

pytestmark = pytest.mark.usefixtures("cache")


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
