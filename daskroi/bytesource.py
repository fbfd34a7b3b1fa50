"""Bytes of a file, local or at a URL, plain or gzipped, and what identifies them."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import IO, TYPE_CHECKING, Any

from daskroi.errors import DaskroiError, DaskroiNotFoundError, warn
from daskroi.inflate import (
    MOST_BEHIND,
    fill,
    indexed_streams,
    inflated,
    inflating,
    streams,
    to_end,
)
from daskroi.localfile import look
from daskroi.rangereader import RangeReader
from daskroi.remote import check_ranges, fetch, identify
from daskroi.urls import StorageOptions, is_url, local_path, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DEFLATE_LIMIT", "STUBS", "ByteSource"]

GZIP_MAGIC = b"\x1f\x8b"
# deflate cannot do better than 1032:1, so a longer claim is a lie or a bomb
DEFLATE_LIMIT = 1032
# the first request for a remote file: its header, whatever extensions it has
HEAD_BYTES = 1 << 16
# Dask computes the chunks of a plain image from the last to the first. Without an index each of
# them is inflated from the start: once that has cost about one pass over the file (which inflates
# to 3 to 5 times its size), an index is made. Not below 64 MiB, which take 0.1 s
WASTE, WASTED_FILES = 64 << 20, 4
# a table of 5,000 frames and 500 confounds has 50 MB; a .tsv.gz of 10 MB may inflate to 10 GB
MOST_TEXT = 256 << 20
# what stands in place of a file whose content was not fetched, and the command that fetches it
STUBS = {b"annex/objects/": "datalad get", b"version https://git-lfs": "git lfs pull"}


@dataclass(frozen=True)
class ByteSource:
    """A readable file, local or at a URL, by what identifies its content.

    Picklable: a task that gets it reopens the file in its own process. Size and version are part of
    the value, hence of every dask key made from it, and are checked again when bytes are read: a
    file that changed in between is an error, not a mixture.

    Parameters
    ----------
    url : str
        Absolute path, or URL; may hold credentials, so show ``shown``.
    size : int
        Bytes as stored.
    version : str
        Modification time in ns; of remote files ETag, generation or modification time.
    gzipped : bool
        Whether the bytes are inflated on reading.
    options : StorageOptions
        For fsspec.
    indexed : bool
        Whether an index makes gzip seekable (built by who reads first, if it is not there).
    may_index : bool
        Whether to make one when reading here and there has cost as much.
    most : int, optional
        Inflated bytes that an index is made for; who knows the header says so.

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
    version: str
    gzipped: bool
    options: StorageOptions = field(default_factory=StorageOptions)
    indexed: bool = False
    may_index: bool = False
    most: int | None = None

    @classmethod
    def of(
        cls,
        path: str | os.PathLike[str],
        storage_options: Mapping[str, Any] | None = None,
        *,
        index: bool | str = False,
    ) -> ByteSource:
        """Look at a file: existence, size, first bytes.

        Parameters
        ----------
        path : path or URL
        storage_options : mapping, optional
            For fsspec.
        index : bool or "auto"
            Whether to read gzip by an index; "auto" if there is one, or when it pays.

        Raises
        ------
        DaskroiNotFoundError
            No such file.
        DaskroiError
            Not a file, not readable, empty, named .gz without being gzip.
        """
        url = local_path(path)
        options = StorageOptions(storage_options)
        if is_url(url):
            size, version = identify(url, options)
            check_ranges(url, options, size)
            start = _first_bytes(url, options, size, version)
        else:
            url, size, version, start = look(url)
        name = shown(url)
        gzipped = start[:2] == GZIP_MAGIC
        if size == 0:
            raise DaskroiError(f"{name}: the file is empty. Copy or download it again.")
        for mark, command in STUBS.items():
            if size < 1 << 15 and mark in start[:512]:
                raise DaskroiNotFoundError(
                    f"{name}: is only a pointer to the file; its content is not here. "
                    f"Fetch it with '{command}'."
                )
        if name.endswith(".gz") and not gzipped:
            page = start.lstrip()[:5].lower() in (b"<html", b"<!doc")
            what = "a web page, perhaps to log in" if page else "no gzip data"
            raise DaskroiError(
                f"{name}: is named .gz but holds {what}. Rename it, or download it again."
            )
        found = cls(url, size, version, gzipped, options)
        return found._with_index(index) if gzipped and index else found

    def _with_index(self, index: bool | str) -> ByteSource:
        from dataclasses import replace

        from daskroi.gzipindex import find_index

        if index == "auto" and find_index(self.identity) is None:
            return replace(self, may_index=True)
        return replace(self, indexed=True)

    def __repr__(self) -> str:
        return f"ByteSource({self.shown!r}, size={self.size}, version={self.version!r})"

    @property
    def shown(self) -> str:
        """Path or URL without credentials, for messages."""
        return shown(self.url)

    @property
    def identity(self) -> str:
        """Hash of what identifies the content."""
        text = repr((self.url, self.size, self.version))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def remote(self) -> bool:
        """Whether it is at a URL."""
        return is_url(self.url)

    @property
    def seekable(self) -> bool:
        """Whether any part can be read without reading what comes before."""
        return not self.gzipped or self.indexed

    def check_unchanged(self) -> None:
        """Raise when the file is no longer the one that was opened."""
        try:
            if self.remote:
                now = identify(self.url, self.options)
            else:
                status = os.stat(self.url)
                now = status.st_size, str(status.st_mtime_ns)
        except (DaskroiNotFoundError, OSError) as error:
            raise DaskroiNotFoundError(
                f"{self.shown}: was there when opened, now is not. Restore it, or open another "
                "image."
            ) from error
        if now != (self.size, self.version):
            raise DaskroiError(
                f"{self.shown}: the file changed after it was opened. Open the image again."
            )

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open for reading from the start, inflating if need be; errors name the file."""
        self.check_unchanged()
        with self._named_errors(), self._open() as file:
            yield file

    def _open(self) -> IO[bytes]:
        raw = self.open_raw()
        return inflating(raw) if self.gzipped else raw

    def open_raw(self, *, sequential: bool = True) -> Any:
        """Open for reading the bytes as they are stored; remote ones ``sequential``-ly or not."""
        if not self.remote:
            # unbuffered: slabs go straight into the caller's array
            return open(self.url, "rb", buffering=0)
        if sequential:
            return RangeReader(self.url, self.options, 0, self.size)
        return RangeReader(self.url, self.options, 0, self.size, block=1 << 20, ahead=0)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """What the inflater raises, with the file's name and the remedy."""
        from isal import isal_zlib

        broken: Any = (zlib.error, isal_zlib.error, OSError)
        try:
            yield
        except DaskroiError as error:
            if self.shown in str(error):
                raise
            raise type(error)(f"{self.shown}: {error}") from error
        except EOFError as error:
            raise DaskroiError(
                f"{self.shown}: the gzip stream ends early, the file is truncated. "
                "Copy or download it again."
            ) from error
        except broken as error:
            raise DaskroiError(
                f"{self.shown}: corrupt gzip data ({error}). Copy or download it again."
                if self.gzipped
                else f"{self.shown}: cannot be read ({error}). Check the disk or connection."
            ) from error

    def check_end(self, file: IO[bytes]) -> None:
        """Once the image is read: is the checksum right, and is it still the same file.

        Reads on, so that the inflater gets to the checksum; not far, for what follows the image
        may be anything.
        """
        if self.gzipped and not to_end(file):
            warn(
                f"{self.shown}: behind the image are more than {MOST_BEHIND >> 20} MiB of other "
                "data, so its checksum was not compared. Save the image again."
            )
        self.check_unchanged()

    def read(self) -> bytes:
        """All (inflated) bytes: for tables and other small files."""
        pieces, left = [], MOST_TEXT
        with self.open() as file:
            while piece := file.read(1 << 20):
                pieces.append(piece)
                left -= len(piece)
                if left < 0:
                    raise DaskroiError(
                        f"{self.shown}: holds more than {MOST_TEXT >> 20} MiB, which is no table "
                        "or text that belongs to a run. Check that it is the right file."
                    )
        return b"".join(pieces)

    def head(self, count: int) -> bytes:
        """First ``count`` (inflated) bytes, or as many as there are."""
        self._check_local()
        found = b""
        with self._named_errors():
            for piece in self._pieces():
                found += piece
                if len(found) >= count:
                    break
        return found[:count]

    def _check_local(self) -> None:
        if not self.remote:  # where asking costs a round trip, asking afterwards is enough
            self.check_unchanged()

    def read_at(self, offset: int, buffer: memoryview, *, last: bool = False) -> None:
        """Fill ``buffer`` with the (inflated) bytes at ``offset``; too few is an error.

        ``last`` says that the image ends there: a gzip stream's checksum is then compared.
        """
        self._check_local()
        if self.indexed:
            got = self._read_indexed(offset, buffer)
        elif self.gzipped:
            got = self._read_forward(offset, buffer, last)
        else:
            got = self._read_range(offset, buffer)
        # afterwards, so that what was read is of the file that was opened
        self.check_unchanged()
        if got < len(buffer):
            raise self.truncated(offset + len(buffer), offset + got)

    def _read_forward(self, offset: int, buffer: memoryview, last: bool) -> int:
        if self.may_index and streams.wasted(self, offset) > max(WASTE, WASTED_FILES * self.size):
            # what fails here is said by who reads on, if it matters there
            with suppress(DaskroiError):
                return self._read_indexed(offset, buffer)
        with self._named_errors():
            return streams.read_at(self, self._open, offset, buffer, last=last)

    def _read_indexed(self, offset: int, buffer: memoryview) -> int:
        from daskroi.gzipindex import open_indexed

        path = None if self.remote else self.url
        raw = partial(self.open_raw, sequential=False)
        reopen = partial(open_indexed, self.identity, raw, path, most=self.most)
        with self._named_errors():
            return indexed_streams.read_at(self, reopen, offset, buffer)

    def make_index(self) -> None:
        """Make the index that lets gzip be read anywhere, if there is none; reads the file once."""
        from daskroi.gzipindex import ensure_index

        self.check_unchanged()
        with self._named_errors():
            path = None if self.remote else self.url
            ensure_index(self.identity, self.open_raw, path, most=self.most)
        self.check_unchanged()

    def _read_range(self, offset: int, buffer: memoryview) -> int:
        with self._named_errors():
            if self.remote:
                stop = min(offset + len(buffer), self.size)
                with RangeReader(self.url, self.options, offset, stop) as file:
                    return fill(file, buffer)
            with self.open_raw() as file:
                file.seek(offset)
                return fill(file, buffer)

    def truncated(self, expected: int, found: int) -> DaskroiError:
        """Error for a file that ends before its header says."""
        what = "bytes"
        if self.gzipped:
            what, found = "bytes after inflating", self._inflated_size()
            if found >= expected:
                return DaskroiError(
                    f"{self.shown}: the gzip stream ends early, the file is truncated. "
                    "Copy or download it again."
                )
        return DaskroiError(
            f"{self.shown}: truncated, expected {expected} {what} and found {found}. "
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
        """The file from its start, to the last byte before it ends or is damaged."""
        return inflated(self._raw_pieces()) if self.gzipped else self._raw_pieces()

    def _raw_pieces(self) -> Iterator[bytes]:
        start = 0
        if self.remote:
            first = _first_bytes(self.url, self.options, self.size, self.version)
            yield first
            start = len(first)
            if start == self.size:
                return
        with self.open_raw() as file:
            file.seek(start)
            while chunk := file.read(HEAD_BYTES if self.remote else 4096):
                yield chunk


@lru_cache(maxsize=64)
def _first_bytes(url: str, options: StorageOptions, size: int, version: str) -> bytes:
    # the magic number, the header and a small file as a whole: one request instead of three
    return fetch(url, options, 0, min(size, HEAD_BYTES)) if size else b""
