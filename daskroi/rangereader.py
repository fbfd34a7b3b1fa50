"""A remote file as a readable object: fetched in blocks, the next ones while this one is used."""

from __future__ import annotations

import io
from concurrent.futures import Future, ThreadPoolExecutor

from daskroi.remote import fetch
from daskroi.urls import StorageOptions

__all__ = ["RangeReader"]

# a failed request is repeated from where it stopped, but what one has sent counts as one piece: not
# too large. Four on their way hide a latency of 50 ms up to 300 MB/s, and hold 20 MiB
BLOCK = 4 << 20
AHEAD = 4


class RangeReader(io.RawIOBase):
    """Bytes ``start:stop`` of a remote file, readable and seekable.

    Nothing outside the range is ever fetched, so that one volume of a run costs one volume.

    Parameters
    ----------
    url : str
    options : StorageOptions
    start, stop : int
        Positions are counted from the start of the file all the same.
    block : int
        Bytes of one request.
    ahead : int
        Requests under way beyond the block in use; 0 for reading here and there.

    Examples
    --------
    >>> import fsspec
    >>> with fsspec.open("memory://digits", "wb") as file:
    ...     _ = file.write(b"0123456789")
    >>> with RangeReader("memory://digits", StorageOptions(), 2, 9, block=3) as file:
    ...     file.read(3), file.seek(8), file.read()
    (b'234', 8, b'8')
    """

    def __init__(
        self,
        url: str,
        options: StorageOptions,
        start: int,
        stop: int,
        *,
        block: int = BLOCK,
        ahead: int = AHEAD,
    ) -> None:
        self._url, self._options = url, options
        self._start, self._stop, self._position = start, stop, start
        self._block, self._ahead = block, ahead
        self._pool = ThreadPoolExecutor(ahead + 1, thread_name_prefix="daskroi-fetch")
        self._coming: dict[int, Future[bytes]] = {}

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def seekable(self) -> bool:
        """Whether it can be positioned: always."""
        return True

    def tell(self) -> int:
        """Position, from the start of the file."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; nothing is fetched for it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._stop}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Read into a buffer, at most to the end of a block; 0 at the end."""
        if not self._start <= self._position < self._stop:
            return 0
        first = (self._position - self._start) // self._block
        content = memoryview(self._content(first))
        inside = self._position - self._start - first * self._block
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(content) - inside)
        view[:count] = content[inside : inside + count]
        self._position += count
        return count

    def _content(self, first: int) -> bytes:
        blocks = -(-(self._stop - self._start) // self._block)
        wanted = range(first, min(first + 1 + self._ahead, blocks))
        for gone in [b for b in self._coming if b not in wanted]:
            self._coming.pop(gone).cancel()
        for b in wanted:
            if b not in self._coming:
                lo = self._start + b * self._block
                hi = min(lo + self._block, self._stop)
                self._coming[b] = self._pool.submit(fetch, self._url, self._options, lo, hi)
        try:
            return self._coming[first].result()
        except BaseException:
            del self._coming[first]  # asked for again, it is fetched again
            raise

    def close(self) -> None:
        """Forget what is under way; does not wait for it."""
        if not self.closed:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._coming.clear()
        super().close()
