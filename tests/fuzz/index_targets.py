"""Indexes of gzip files: made of damaged data, older than the damage, or damaged themselves."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz.engine import Planned, Wrong
from fuzz.image_targets import Flipped, flip, gzipped, values
from fuzz.mutations import of_bytes
from niftis import nifti_bytes

__all__ = ["index_targets"]


class _OldIndex:
    """Gzip data that were damaged after their index was made."""

    def __init__(self, contents: list[bytes], raw: bytes) -> None:
        from daskroi.gzipsearch import make_index

        self.raw = raw
        self.indexes = {
            len(c): make_index(lambda c=c: io.BytesIO(c), page=64)  # type: ignore[misc]
            for c in contents
        }

    def __call__(self, data: bytes) -> str:
        from daskroi.gzipreader import IndexedReader

        index = self.indexes.get(len(data)) or next(iter(self.indexes.values()))
        words = set()
        for offset in (0, 100, index.size - 50):
            try:
                with IndexedReader(lambda: io.BytesIO(data), index) as file:
                    file.seek(offset)
                    got = file.read(50)
            except (EOFError, OSError):  # said with the file's name by ByteSource
                words.add("refused")
                continue
            if got != self.raw[offset : offset + 50]:
                raise Wrong("wrong bytes, and nothing said")
            words.add("same")
        return "/".join(sorted(words))


class _IndexFile:
    """A damaged file of an index: made anew, never believed."""

    def __init__(self, folder: Path, packed: bytes) -> None:
        from daskroi.gzipindex import _path, ensure_index

        os.environ["DASKROI_CACHE"] = str(folder / "cache")
        self.packed = packed
        self.kept = ensure_index("fuzz", lambda: io.BytesIO(packed))
        assert self.kept == _path("fuzz")
        self.seed = self.kept.read_bytes()

    def __call__(self, data: bytes) -> str:
        from daskroi import gzipindex

        gzipindex._loaded.clear()
        self.kept.write_bytes(data)
        seen = gzipindex.find_index("fuzz") is not None
        with gzipindex.open_indexed("fuzz", lambda: io.BytesIO(self.packed)) as file:
            if file.read() != gzip.decompress(self.packed):
                raise Wrong("wrong bytes by a damaged index")
        return "believed at first" if seen else "made anew"


class _Big(Flipped):
    """Gzip data of more than 1 MiB, of which rapidgzip makes the index, in a child process."""

    def __call__(self, data: bytes) -> str:
        said = super().__call__(data)
        try:
            sound = _inflated(data)
        except zlib.error:
            return said
        if "refused" in said and sound[: len(self.content)] == self.content:
            raise Wrong(f"{said}, though zlib inflates it")
        return said


def _inflated(data: bytes) -> bytes:
    """All members by zlib, which heeds reserved flags; Python's gzip module does not."""
    out = []
    while data := data.lstrip(b"\0"):
        member = zlib.decompressobj(31)
        out.append(member.decompress(data))
        if not member.eof:
            raise zlib.error("cut")
        data = member.unused_data
    return b"".join(out)


def _big_flip(rng: Random, data: bytes) -> bytes:
    """Flipped bits anywhere, in a header or in a trailer; an end, or something inside, is gone."""
    out, kind = bytearray(data), rng.random()
    if kind < 0.7:
        for _ in range(rng.choice((1, 1, 3, 50))):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif kind < 0.85:
        out[rng.choice((rng.randrange(20), -1 - rng.randrange(12)))] ^= 1 << rng.randrange(8)
    elif kind < 0.92:
        del out[rng.randrange((1 << 20) + 1, len(out)) :]
    else:
        at = rng.randrange(len(out))
        del out[at : at + rng.choice((1, 100, 70_000))]
    return bytes(out)


def _old_index(folder: Path) -> Any:
    content = nifti_bytes(values("i2"))
    return gzipped(content), _OldIndex(gzipped(content), content), flip


def _index_file(folder: Path) -> Any:
    made = _IndexFile(folder, gzipped(nifti_bytes(values("i2")))[1])
    return [made.seed], made, of_bytes


def _big(folder: Path) -> Any:
    rng = np.random.default_rng(1)
    content = nifti_bytes(rng.normal(0, 300, (64, 64, 30, 16)).astype("i2"))  # 3 MB packed
    half = len(content) // 2
    whole = gzip.compress(content, 1, mtime=0)
    several = gzip.compress(content[:half], 6, mtime=0) + gzip.compress(content[half:], 1, mtime=0)
    return [whole, several + bytes(5000)], _Big(folder, content), _big_flip


def index_targets() -> list[Planned]:
    """All of this file."""
    return [
        Planned("gzip-old-index", 3, _old_index),
        Planned("gzip-index-file", 1, _index_file),
        # half a second each: 1 input in 500, and few in tests
        Planned("gzip-big", 0.07, _big, least=2),
    ]
