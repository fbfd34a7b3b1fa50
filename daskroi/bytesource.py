"""Bytes of a file, plain or gzipped: the one place that picks an inflater.

Measured on a 300-volume run (1.08 GB raw, 2 cores): `isal.igzip` inflates in 1.2-1.5 s on one
thread with no memory to speak of, `rapidgzip` in 1.0-1.2 s on two threads with 370-420 MB, `zlib`
in 3 s. One thread it is: the other core reduces, and a worker that runs one run per core has no
second core to give.
"""

from __future__ import annotations

import os
import stat
import threading
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from daskroi.errors import DaskroiError, DaskroiNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ByteSource"]

GZIP_MAGIC = b"\x1f\x8b"
# deflate cannot do better than 1032:1, so a longer claim is a lie or a bomb
DEFLATE_LIMIT = 1032


@dataclass(frozen=True)
class ByteSource:
    """A readable file, by what identifies its content.

    Picklable: a task that gets it reopens the file in its own process. Size and modification time
    are part of the value, hence of every dask key made from it, and are checked again when bytes
    are read: a file that changed in between is an error, not a mixture.

    Parameters
    ----------
    url : str
        Absolute path.
    size : int
        Bytes on disk.
    mtime_ns : int
        Modification time, in ns.
    gzipped : bool
        Whether the bytes are inflated on reading.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "x.bin"
    >>> _ = path.write_bytes(b"0123456789")
    >>> source = ByteSource.of(path)
    >>> buffer = bytearray(3)
    >>> source.read_at(2, memoryview(buffer)); buffer
    bytearray(b'234')
    """

    url: str
    size: int
    mtime_ns: int
    gzipped: bool

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> ByteSource:
        """Look at a file: existence, size, first two bytes."""
        url = os.path.abspath(os.path.expanduser(os.fspath(path)))
        try:
            status = os.stat(url)
            if not stat.S_ISREG(status.st_mode):
                what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
                raise DaskroiError(f"{url}: is {what}. Give the path of one image file.")
            with open(url, "rb") as file:
                gzipped = file.read(2) == GZIP_MAGIC
        except FileNotFoundError as error:
            if os.path.islink(url):
                raise DaskroiNotFoundError(
                    f"{url}: is a link to {os.readlink(url)!r}, which is not there. In a DataLad "
                    "or git-annex dataset, fetch the content with 'datalad get'."
                ) from error
            raise DaskroiNotFoundError(f"{url}: no such file. Check the path.") from error
        except OSError as error:
            raise DaskroiError(
                f"{url}: cannot be read ({error.strerror}). Check the path and its permissions."
            ) from error
        if status.st_size == 0:
            raise DaskroiError(f"{url}: the file is empty. Copy or download it again.")
        if url.endswith(".gz") and not gzipped:
            raise DaskroiError(
                f"{url}: is named .gz but holds no gzip data. Rename it, or download it again."
            )
        return cls(url, status.st_size, status.st_mtime_ns, gzipped)

    @property
    def seekable(self) -> bool:
        """Whether any part can be read without reading what comes before."""
        return not self.gzipped

    def check_unchanged(self) -> None:
        """Raise when the file is no longer the one that was opened."""
        try:
            status = os.stat(self.url)
        except OSError as error:
            raise DaskroiNotFoundError(
                f"{self.url}: was there when opened, now is not. Restore it, or open another image."
            ) from error
        if (status.st_size, status.st_mtime_ns) != (self.size, self.mtime_ns):
            raise DaskroiError(
                f"{self.url}: the file changed after it was opened. Open the image again."
            )

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open for reading from the start, inflating if need be; errors name the file."""
        self.check_unchanged()
        with self._named_errors(), self._open() as file:
            yield file

    def _open(self) -> IO[bytes]:
        if not self.gzipped:
            # unbuffered: slabs go straight into the caller's array
            return open(self.url, "rb", buffering=0)
        from isal import igzip

        return igzip.open(self.url, "rb")

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """What the inflater raises, with the file's name and the remedy."""
        from isal import isal_zlib

        broken: Any = (zlib.error, isal_zlib.error, OSError)
        try:
            yield
        except DaskroiError:
            raise
        except EOFError as error:
            raise DaskroiError(
                f"{self.url}: the gzip stream ends early, the file is truncated. "
                "Copy or download it again."
            ) from error
        except broken as error:
            raise DaskroiError(
                f"{self.url}: corrupt gzip data ({error}). Copy or download it again."
                if self.gzipped
                else f"{self.url}: cannot be read ({error}). Check the disk or connection."
            ) from error

    def fill(self, file: IO[bytes], buffer: memoryview) -> int:
        """Read until ``buffer`` is full or the file ends; return the bytes read.

        A loop, because one read may return less than asked for: inflaters do, and so does the
        kernel beyond 2 GiB.
        """
        got = 0
        with suppress(EOFError):  # a gzip stream that stops is a short file, like any other
            while got < len(buffer):
                n = file.readinto(buffer[got:])  # type: ignore[attr-defined]
                if not n:
                    break
                got += n
        return got

    def skip(self, file: IO[bytes], count: int) -> bool:
        """Read on over ``count`` bytes; whether the file has that many."""
        scratch = memoryview(bytearray(min(1 << 20, count)))
        while count > 0:
            got = self.fill(file, scratch[:count])
            if got == 0:
                return False
            count -= got
        return True

    def check_end(self, file: IO[bytes]) -> None:
        """Once the image is read: is the checksum right, and is it still the same file.

        Reads on, so that the inflater gets to the checksum; not far, for what follows the image
        may be anything.
        """
        if self.gzipped:
            file.read(1 << 16)
        self.check_unchanged()

    def head(self, count: int) -> bytes:
        """First ``count`` (inflated) bytes, or as many as there are."""
        self.check_unchanged()
        found = b""
        with self._named_errors():
            for piece in self._pieces():
                found += piece
                if len(found) >= count:
                    break
        return found[:count]

    def read_at(self, offset: int, buffer: memoryview, *, last: bool = False) -> None:
        """Fill ``buffer`` with the (inflated) bytes at ``offset``; too few is an error.

        ``last`` says that the image ends there: checksum and identity are then checked.
        """
        if self.gzipped:
            got = _forward.read_at(self, offset, buffer, last)
        else:
            with self.open() as file:
                file.seek(offset)
                got = self.fill(file, buffer)
        if got < len(buffer):
            raise self.truncated(offset + len(buffer), offset + got)

    def truncated(self, expected: int, found: int) -> DaskroiError:
        """Error for a file that ends before its header says."""
        what = "bytes"
        if self.gzipped:
            what, found = "bytes after inflating", self._inflated_size()
            if found >= expected:
                return DaskroiError(
                    f"{self.url}: the gzip stream ends early, the file is truncated. "
                    "Copy or download it again."
                )
        return DaskroiError(
            f"{self.url}: truncated, expected {expected} {what} and found {found}. "
            "Copy or download it again."
        )

    def _inflated_size(self) -> int:
        """Bytes that can be inflated; slow, for the message about a truncated file."""
        size = 0
        with suppress(OSError, zlib.error):
            for piece in self._pieces():
                size += len(piece)
        return size

    def _pieces(self) -> Iterator[bytes]:
        """The file from its start, to the last byte before it ends or is damaged.

        With zlib, which hands out all it has: isal loses what a read had got when the end comes.
        """
        with open(self.url, "rb") as file:
            inflater = zlib.decompressobj(31)  # 31: gzip header and checksum
            while chunk := file.read(4096):
                if not self.gzipped:
                    yield chunk
                    continue
                while chunk:
                    yield inflater.decompress(chunk)
                    chunk = inflater.unused_data
                    if chunk:  # another member
                        inflater = zlib.decompressobj(31)


class _Forward:
    """A few open gzip streams, kept where they stand.

    gzip has no random access: a chunk that starts at byte N costs inflating N bytes, unless a
    stream already stands before it. Chunks of one image are mostly asked for in order, so keeping
    two streams turns n(n+1)/2 passes into about one. `extract` on a file does not come here.
    """

    LIMIT = 2

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[ByteSource, int, IO[bytes]]] = []

    def read_at(self, source: ByteSource, offset: int, buffer: memoryview, last: bool) -> int:
        source.check_unchanged()
        position, file = self._take(source, offset)
        got, keep = 0, False
        try:
            with source._named_errors():
                if source.skip(file, offset - position):
                    got = source.fill(file, buffer)
                whole = got == len(buffer)
                if whole and last:
                    source.check_end(file)
            # a stream at its end serves nobody, and one that broke stands nobody knows where
            keep = whole and not last
        finally:
            if not keep:
                file.close()
        if keep:
            self._put(source, offset + got, file)
        return got

    def _take(self, source: ByteSource, offset: int) -> tuple[int, IO[bytes]]:
        with self._lock:
            usable = [i for i in self._idle if i[0] == source and i[1] <= offset]
            if usable:
                best = max(usable, key=lambda i: i[1])
                self._idle.remove(best)
                return best[1], best[2]
        return 0, source._open()

    def _put(self, source: ByteSource, position: int, file: IO[bytes]) -> None:
        with self._lock:
            self._idle.append((source, position, file))
            surplus = self._idle[: -self.LIMIT]
            del self._idle[: -self.LIMIT]
        for _, _, old in surplus:
            old.close()

    def forget(self) -> None:
        """Close what is idle."""
        idle, self._idle, self._lock = self._idle, [], threading.Lock()
        for _, _, file in idle:
            file.close()


_forward = _Forward()
if hasattr(os, "register_at_fork"):
    # parent and forked child share the position in an open file: they would read each other's parts
    os.register_at_fork(after_in_child=_forward.forget)
