"""Gzip files of all kinds, odd and damaged ones too, and scripts that read them."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from typing import IO

import numpy as np


def runs(seed: int, size: int) -> bytes:
    """Compressible to a half or so, with blocks that begin at any bit."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 64, size // 3 + 1, np.uint8)
    return np.repeat(values, rng.integers(1, 9, len(values)))[:size].tobytes()


PAYLOAD = runs(0, 9_000_000)
PACKED = gzip.compress(PAYLOAD, 1)


def opener(data: bytes) -> Callable[[], IO[bytes]]:
    return lambda: io.BytesIO(data)


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
