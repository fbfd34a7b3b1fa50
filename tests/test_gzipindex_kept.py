"""Indexes in the cache: made once, anew when damaged, and no trace of a kill or a full disk."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import psutil
import pytest
from gzips import PACKED, PAYLOAD, opener, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskroi import gzipindex
from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.gzipindex import cache_folder, ensure_index, find_index, open_indexed
from daskroi.gzipsearch import make_index

pytestmark = pytest.mark.usefixtures("cache")

on_fixtures = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


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
