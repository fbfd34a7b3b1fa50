"""Where inflating can begin inside a gzip file: the index as a value, in memory and on disk.

Deflated data can be read from the middle if one knows where a block begins (to the bit) and the
32 KiB before it. `daskroi.gzipsearch` finds such points, `daskroi.gzipreader` uses them.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskroi.jsontext import from_json

__all__ = ["GzipIndex"]

MAGIC = b"daskroi gzip index 1\n"


@dataclass(frozen=True, eq=False)
class GzipIndex:
    """Points at which inflating can begin, and the checksums of what comes out.

    Parameters
    ----------
    compressed, size : int
        Bytes of the file, before and after inflating.
    page : int
        Inflated bytes that share a checksum.
    bits : ndarray of uint64
        Where the points' deflate blocks begin in the file, in bits; ascending.
    offsets : ndarray of uint64
        The same places in the inflated bytes.
    bare : ndarray of bool
        Whether a point is inside a member (deflated data), not at its header.
    checks : ndarray of uint32
        CRC-32 of each page.
    windows : tuple of bytes
        The bytes before each point, compressed; empty at the start of a member.
    """

    compressed: int
    size: int
    page: int
    bits: NDArray[np.uint64]
    offsets: NDArray[np.uint64]
    bare: NDArray[np.bool_]
    checks: NDArray[np.uint32]
    windows: tuple[bytes, ...]

    def point_before(self, offset: int) -> int:
        """The last point from which ``offset`` can be reached."""
        return max(int(np.searchsorted(self.offsets, offset, "right")) - 1, 0)

    def byte_after(self, offset: int) -> int:
        """How far the file has to be read at most to inflate what comes before ``offset``."""
        point = int(np.searchsorted(self.offsets, offset, "left"))
        # one byte more: a point may be inside one
        return int(self.bits[point]) // 8 + 1 if point < len(self.bits) else self.compressed

    def window(self, point: int) -> bytes:
        """The up to 32 KiB before a point."""
        packed = self.windows[point]
        return zlib.decompress(packed) if packed else b""

    def to_bytes(self, identity: str) -> bytes:
        """As kept in a file: magic, checksum, identity and sizes, arrays."""
        lengths = np.array([len(w) for w in self.windows], "<u4")
        head = json.dumps(
            {
                "identity": identity,
                "compressed": self.compressed,
                "size": self.size,
                "page": self.page,
                "points": len(self.bits),
                "pages": len(self.checks),
            }
        ).encode()
        parts = [struct.pack("<I", len(head)), head, self.bits.astype("<u8").tobytes(),
                 self.offsets.astype("<u8").tobytes(), self.bare.astype("u1").tobytes(),
                 self.checks.astype("<u4").tobytes(), lengths.tobytes(), *self.windows]  # fmt: skip
        body = b"".join(parts)
        return MAGIC + hashlib.sha256(body).digest() + body

    @staticmethod
    def head_of(data: bytes, identity: str) -> dict[str, Any]:
        """Sizes in the head of an index file; ``ValueError`` when it is not one for this file."""
        start = len(MAGIC) + 32
        if not data.startswith(MAGIC) or len(data) < start + 4:
            raise ValueError("not an index")
        (length,) = struct.unpack_from("<I", data, start)
        head = from_json(data[start + 4 : start + 4 + length])
        if not isinstance(head, dict) or head.get("identity") != identity:
            raise ValueError("of another file")
        return head | {"start": start + 4 + length}

    @classmethod
    def from_bytes(cls, data: bytes, identity: str) -> GzipIndex:
        """What `to_bytes` made; ``ValueError`` for anything else, were it one bit."""
        start = len(MAGIC) + 32
        if hashlib.sha256(data[start:]).digest() != data[len(MAGIC) : start]:
            raise ValueError("damaged")
        head = cls.head_of(data, identity)
        position, points = head["start"], head["points"]
        found = []
        for dtype, count in (("<u8", points), ("<u8", points), ("u1", points),
                             ("<u4", head["pages"]), ("<u4", points)):  # fmt: skip
            found.append(np.frombuffer(data, dtype, count, position))
            position += found[-1].nbytes
        bits, offsets, bare, checks, lengths = found
        stops = position + np.cumsum(lengths, dtype=np.int64)
        windows = tuple(data[b - n : b] for b, n in zip(stops, lengths, strict=True))
        return cls(head["compressed"], head["size"], head["page"], bits, offsets,
                   bare.astype(bool), checks, windows)  # fmt: skip
