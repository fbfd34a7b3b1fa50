"""gzip streams: the one place that picks an inflater.

Measured on a 300-volume run (1.08 GB raw, 2 cores): `isal.igzip` inflates in 1.2-1.5 s on one
thread with no memory to speak of, `rapidgzip` in 1.0-1.2 s on two threads with 370-420 MB, `zlib`
in 3 s. One thread it is: the other core reduces, and a worker that runs one run per core has no
second core to give.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from typing import Any

__all__ = [
    "Streams",
    "fill",
    "indexed_streams",
    "inflated",
    "inflating",
    "skip",
    "streams",
    "to_end",
]

# bytes behind an image that are read to get to the checksum; 0.1 s
MOST_BEHIND = 64 << 20
# inflated bytes handed out at a time
PIECE = 1 << 20
# files of which it is known how much was inflated in vain
REMEMBERED = 64


def fill(file: Any, buffer: memoryview) -> int:
    """Read until ``buffer`` is full or the file ends; return the bytes read.

    A loop, because one read may return less than asked for: inflaters do, and so does the
    kernel beyond 2 GiB.

    Examples
    --------
    >>> import io
    >>> buffer = bytearray(4)
    >>> fill(io.BytesIO(b"abc"), memoryview(buffer)), bytes(buffer)
    (3, b'abc\\x00')
    """
    got = 0
    with suppress(EOFError):  # a gzip stream that stops is a short file, like any other
        while got < len(buffer):
            n = file.readinto(buffer[got:])
            if not n:
                break
            got += n
    return got


def skip(file: Any, count: int) -> bool:
    """Read on over ``count`` bytes; whether the file has that many.

    Examples
    --------
    >>> import io
    >>> skip(io.BytesIO(b"abc"), 4)
    False
    """
    scratch = memoryview(bytearray(min(1 << 20, count)))
    while count > 0:
        got = fill(file, scratch[:count])
        if got == 0:
            return False
        count -= got
    return True


def to_end(file: Any) -> bool:
    """Read on over what follows, to the end and so to the checksum; whether it was reached.

    Not for ever: what follows may be a bomb.

    Examples
    --------
    >>> import io
    >>> to_end(io.BytesIO(b"abc"))
    True
    """
    left = MOST_BEHIND
    while left > 0:
        piece = file.read(1 << 16)
        if not piece:
            return True
        left -= len(piece)
    return False


def inflating(raw: Any) -> Any:
    """Reader of the inflated bytes of ``raw``, which is closed with it.

    Examples
    --------
    >>> import gzip, io
    >>> with inflating(io.BytesIO(gzip.compress(b"abc"))) as file:
    ...     file.read(10)
    b'abc'
    """
    from isal import igzip

    return _Closing(igzip.open(raw, "rb"), raw)


def inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Inflate chunk by chunk, to the last byte before the stream ends or is damaged.

    With zlib, which hands out all it has: isal loses what a read had got when the end comes.
    At most `PIECE` at a time, because the caller may want no more: a chunk may hold a thousand
    times its size.

    Examples
    --------
    >>> import gzip
    >>> b"".join(inflated([gzip.compress(b"abc")[:-9]]))
    b'abc'
    """
    inflater = zlib.decompressobj(31)  # 31: gzip header and checksum
    for chunk in chunks:
        while chunk:
            piece = inflater.decompress(chunk, PIECE)
            yield piece
            # what came is all there was, unless it is as much as was allowed
            while not inflater.eof and (len(piece) == PIECE or inflater.unconsumed_tail):
                piece = inflater.decompress(inflater.unconsumed_tail, PIECE)
                yield piece
            chunk = inflater.unused_data
            if chunk:  # another member
                inflater = zlib.decompressobj(31)


class _Closing:
    """An inflating reader that closes the file it reads from, which the inflater leaves open."""

    def __init__(self, file: Any, raw: Any) -> None:
        self._raw = raw
        self.read, self.readinto, self._close = file.read, file.readinto, file.close

    def close(self) -> None:
        self._close()
        self._raw.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Streams:
    """A few open gzip streams, kept where they stand.

    gzip has no random access: a chunk that starts at byte N costs inflating N bytes, unless a
    stream already stands before it. Chunks of one image are mostly asked for in order, so keeping
    two streams turns n(n+1)/2 passes into about one. `extract` on a file does not come here.

    Parameters
    ----------
    limit : int
        How many are kept.
    seekable : bool
        Whether they go anywhere by ``seek``, as those with an index do.
    """

    def __init__(self, limit: int = 2, *, seekable: bool = False) -> None:
        self.limit, self._seekable = limit, seekable
        self._lock = threading.Lock()
        self._idle: list[tuple[Hashable, int, Any]] = []
        self._waste: dict[Hashable, int] = {}

    def read_at(
        self,
        key: Hashable,
        reopen: Callable[[], Any],
        offset: int,
        buffer: memoryview,
        *,
        last: bool = False,
    ) -> int:
        """Fill ``buffer`` with what is at ``offset`` of the stream ``key``; return the bytes read.

        ``last`` says that nothing after it is wanted: the checksum is compared, the stream closed.
        """
        position, file = self._take(key, reopen, offset)
        with self._lock:
            # of those read last: a worker lives long, and a key is a kilobyte
            self._waste[key] = self._waste.pop(key, 0) + offset - position
            if len(self._waste) > REMEMBERED:
                del self._waste[next(iter(self._waste))]
        got, keep = 0, False
        try:
            if self._seekable:
                file.seek(offset)
            if self._seekable or skip(file, offset - position):
                got = fill(file, buffer)
            whole = got == len(buffer)
            if whole and last:
                to_end(file)
            # a stream at its end serves nobody, and one that broke stands nobody knows where
            keep = whole and not last
        finally:
            if not keep:
                file.close()
        if keep:
            self._put(key, offset + got, file)
        return got

    def wasted(self, key: Hashable, offset: int) -> int:
        """Bytes inflated so far only to get over them, and what reading at ``offset`` would add."""
        with self._lock:
            before = [i[1] for i in self._idle if i[0] == key and i[1] <= offset]
            return self._waste.get(key, 0) + offset - max(before, default=0)

    def _take(self, key: Hashable, reopen: Callable[[], Any], offset: int) -> tuple[int, Any]:
        with self._lock:
            usable = [i for i in self._idle if i[0] == key and (i[1] <= offset or self._seekable)]
            if usable:
                best = max(usable, key=lambda i: i[1])
                self._idle.remove(best)
                return best[1], best[2]
        return 0, reopen()

    def _put(self, key: Hashable, position: int, file: Any) -> None:
        with self._lock:
            self._idle.append((key, position, file))
            surplus = self._idle[: -self.limit]
            del self._idle[: -self.limit]
        for _, _, old in surplus:
            old.close()

    def forget(self) -> None:
        """Close what is idle."""
        idle, self._idle, self._lock = self._idle, [], threading.Lock()
        self._waste = {}
        for _, _, file in idle:
            file.close()


streams = Streams()
# four: one for each thread of a usual worker
indexed_streams = Streams(4, seekable=True)
if hasattr(os, "register_at_fork"):
    # parent and forked child share the position in an open file: they would read each other's parts
    os.register_at_fork(after_in_child=streams.forget)
    os.register_at_fork(after_in_child=indexed_streams.forget)
