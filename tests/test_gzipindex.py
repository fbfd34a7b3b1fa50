"""An index gives the same bytes as Python's gzip: any file, any place; as strict, too."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from gzips import ODD, PACKED, PAYLOAD, opener, runs
from hypothesis import given, settings
from hypothesis import strategies as st

from daskroi import gzipsearch
from daskroi.gzipindex import find_index, open_indexed
from daskroi.gzippoints import GzipIndex
from daskroi.gzipreader import IndexedReader
from daskroi.gzipsearch import make_index

pytestmark = pytest.mark.usefixtures("cache")

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


def test_the_benchmark_runs(tmp_path: Path) -> None:
    script = Path(__file__).parent / "benchmarks" / "gzipindex.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path, "--frames", "12", "--shape", "20", "24", "20"],
        capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip
    assert "daskroi: index made in" in done.stdout
    assert "daskroi: late volume" in done.stdout
