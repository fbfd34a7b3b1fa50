"""The search for an index, in a process of its own, where it has no program, disk or memory."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
from gzips import PACKED, opener

from daskroi.errors import DaskroiError
from daskroi.gzipindex import open_indexed
from daskroi.gzipreader import IndexedReader
from daskroi.gzipsearch import make_index

pytestmark = pytest.mark.usefixtures("cache")


def test_no_room_for_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(DaskroiError, match=r"nowhere: no temporary file .* Set TMPDIR"):
        open_indexed("x", opener(PACKED))


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
