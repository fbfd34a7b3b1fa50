"""Make the index of a gzip file: inflate it once, on several threads, and check everything.

rapidgzip finds the points at which inflating can begin. It takes files for whole that end early
and refuses padded ones, so what it found is checked against the file's own checksum, and what
cannot be checked that way (several members) is inflated once more, by isal, which judges as
Python's gzip module does.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from gzip import BadGzipFile
from typing import IO, Any

import numpy as np

from daskroi.errors import DaskroiError
from daskroi.gzippoints import GzipIndex

__all__ = ["OpenRaw", "make_index"]

OpenRaw = Callable[[], IO[bytes]]

PAGE = 1 << 20
# Compressed bytes between points. For 1.08 GB on two threads 2 MiB takes 2.3 s of CPU time, 300 MB
# of memory and 393 points; 4 MiB 2.0 s and 465 MB, 1 MiB 3.1 s and 265 MB
CHUNK = 2 << 20
# What inflates to so many times its size, as zeros do, takes 820 MB of memory with these, 160 MB
# with shorter ones, in the same time. Real runs inflate to 2 to 10 times theirs
DENSE, SHORT_CHUNK = 20, 1 << 18
# Compressed; smaller files need no points inside, the start is near enough
SMALL = 1 << 20
# Compressed bytes inflated at a time: 17 MB at the best that deflate can do
BITE = 1 << 14
# A worker has other work as well, and each thread takes memory
MOST_THREADS = 4
PIECE = 1 << 18
# SIGABRT, SIGBUS, SIGKILL, SIGSEGV: how the process ends when memory does
OF_MEMORY = (6, 7, 9, 11)


def make_index(
    open_raw: OpenRaw,
    path: str | None = None,
    *,
    threads: int | None = None,
    chunk: int = CHUNK,
    page: int = PAGE,
    most: int | None = None,
) -> GzipIndex:
    """Inflate a gzip file once and note where inflating can begin.

    Every checksum in the file is verified on the way.

    Parameters
    ----------
    open_raw : callable
        Opens the compressed bytes.
    path : str, optional
        The same file on a local disk. Without it the bytes are copied to a temporary file first,
        front to back: the parallel search jumps about, which a connection would pay for.
    threads : int, optional
        By default as many as there are processors for this process, up to four.
    chunk, page : int
        Compressed bytes between points; inflated bytes that share a checksum.
    most : int, optional
        Inflated bytes that the file may have; one that has more is a bomb, or no image.

    Raises
    ------
    EOFError
        The file ends early.
    OSError
        The file is damaged (`gzip.BadGzipFile`) or cannot be read.
    DaskroiError
        There is no room for the temporary file, or the search could not be run. Or the file
        inflates to more than ``most``.

    Examples
    --------
    >>> import gzip, io
    >>> packed = gzip.compress(b"0123456789")
    >>> make_index(lambda: io.BytesIO(packed)).size
    10
    """
    with ExitStack() as stack:
        raw = stack.enter_context(open_raw())
        length = raw.seek(0, os.SEEK_END)
        raw.seek(0)
        if length <= SMALL:
            return _inflate(raw, page, most).index(length, page)
        if path is None:
            spool = stack.enter_context(_spooled(raw, length))
            raw, path = spool, f"/dev/fd/{spool.fileno()}"
        if threads is None:
            threads = min(_processors(), MOST_THREADS)
        if most is not None and most > DENSE * length:
            chunk = min(chunk, SHORT_CHUNK)
        found, reason = _scan(path, threads, chunk, page, raw, most)
        raw.seek(max(length - 8, 0))
        footer = _read(raw, 8)
        if found and footer == struct.pack("<II", found.whole, found.size & 0xFFFFFFFF):
            # one member, to its end: what was inflated is what was compressed
            return found.index(length, page)
        raw.seek(0)
        judged = _inflate(raw, page, most)
        if found and (found.size, found.whole) == (judged.size, judged.whole):
            return found.index(length, page)
        if judged.gaps:  # zeros between members: the members' starts serve as points
            return judged.index(length, page)
        if judged.end < length:
            # zeros after the last member (tapes, some archives), which rapidgzip refuses
            raw.seek(0)
            with _spooled(raw, judged.end) as cut:
                found, reason = _scan(f"/dev/fd/{cut.fileno()}", threads, chunk, page, cut, most)
            if found and (found.size, found.whole) == (judged.size, judged.whole):
                return found.index(length, page)
        raise DaskroiError(
            f"{path}: sound gzip data, but rapidgzip cannot index it "
            f"({reason or 'it found other bytes'}). Open the image without an index."
        )


@dataclass
class _Found:
    """What one pass over a file has found."""

    size: int
    whole: int
    checks: list[int]
    points: list[tuple[int, int, bool, bytes]]  # bit, offset, inside a member, window
    end: int = 0
    gaps: bool = False

    def index(self, compressed: int, page: int) -> GzipIndex:
        """As a value, without points that nobody would start from."""
        points = [p for i, p in enumerate(self.points) if i == 0 or p[1] < self.size]
        # of several at one place (empty members) the last: least to skip
        places = {offset: (bit, offset, bare, window) for bit, offset, bare, window in points}
        bits, offsets, bare, windows = zip(*places.values(), strict=True)
        return GzipIndex(compressed, self.size, page, np.array(bits, np.uint64),
                         np.array(offsets, np.uint64), np.array(bare, bool),
                         np.array(self.checks, np.uint32), windows)  # fmt: skip


def _scan(
    path: str, threads: int, chunk: int, page: int, raw: IO[bytes], most: int | None
) -> tuple[_Found | None, str | None]:
    """Run `daskroi.gzipscan` on a file; what it found, or why it found nothing."""
    program = os.path.join(os.path.dirname(__file__), "gzipscan.py")
    # -P: the package's own folder holds modules that are nobody else's business
    command = [sys.executable, "-P", program, path, str(threads), str(chunk), str(page)]
    command += [] if most is None else [str(most)]
    kept = (raw.fileno(),) if path.startswith("/dev/fd/") else ()
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            pass_fds=kept, env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
    except OSError as error:
        raise DaskroiError(
            f"{sys.executable}: cannot be started to index a gzip file ({error}). "
            "Open the image without an index."
        ) from error
    with child:
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            # not communicate(): that closes stdin, by which the child knows that we are gone
            output = child.stdout.read()
            complaint = child.stderr.read().decode(errors="replace")
            code = child.wait()
        except BaseException:
            child.kill()
            raise
    if code == 0:
        return _parse(output), None
    if code == 2:
        return None, complaint.strip()
    if code == 3:
        raise _too_much(most)
    if threads > 1 and -code in OF_MEMORY:  # one thread takes 1.3 GB of addresses, four 3.5
        return _scan(path, 1, chunk, page, raw, most)
    raise DaskroiError(
        f"indexing a gzip file: the process for it ended with code {code} "
        f"({' '.join(complaint.split())[-200:] or 'no message'}). "
        "Give it more memory, or open the image without an index."
    )


def _parse(output: bytes) -> _Found:
    """What the child wrote; the index in the layout of indexed_gzip's zran.c."""
    size, whole, pages = struct.unpack_from("<QIQ", output)
    checks = struct.unpack_from(f"<{pages}I", output, 20)
    at = 20 + 4 * pages
    if output[at : at + 6] != b"GZIDX\x01":
        raise DaskroiError("rapidgzip: wrote an index of an unknown version. Update daskroi.")
    _, _, _, window, count = struct.unpack_from("<QQIII", output, at + 7)
    at += 35
    rows = [struct.unpack_from("<QQBB", output, at + 18 * i) for i in range(count)]
    at += 18 * count
    points = []
    for byte, offset, bits, has_window in rows:
        packed = b""
        if has_window:
            # what no later byte refers to is zero: windows of 13 MB shrink to 0.1 MB
            packed = zlib.compress(output[at : at + window], 6)
            at += window
        points.append((8 * byte - bits, offset, True, packed))
    return _Found(size, whole, list(checks), points)


def _too_much(most: int | None) -> DaskroiError:
    return DaskroiError(
        f"inflates to more than {most} bytes, all that an image of this header can take. "
        "Save the image again, or open it without an index."
    )


def _inflate(raw: IO[bytes], page: int, most: int | None) -> _Found:
    """Inflate from front to back on one thread; as strict as Python's gzip module.

    Raises what that raises: EOFError, BadGzipFile.
    """
    from isal import isal_zlib

    broken: Any = isal_zlib.error
    found = _Found(0, 0, [], [])
    inflater, position, check, filled = None, 0, 0, 0
    while True:
        data = raw.read(BITE)
        if not data:
            break
        position += len(data)
        while data:
            if inflater is None:
                if found.points:
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                start = position - len(data)
                found.gaps |= start != found.end
                data += _read(raw, 2 - len(data))
                position = start + len(data)
                if data[:2] != b"\x1f\x8b":
                    raise BadGzipFile(f"Not a gzipped file ({data[:2]!r})")
                # not one for each of a million members of no or a few bytes
                if (
                    not found.points
                    or found.size >= found.points[-1][1] + page
                    or 8 * start > found.points[-1][0] + 8 * SMALL
                ):
                    found.points.append((8 * start, found.size, False, b""))
                inflater = isal_zlib.decompressobj(31)
            try:
                out = memoryview(inflater.decompress(data))
            except broken as error:
                raise BadGzipFile(str(error)) from error
            found.whole = isal_zlib.crc32(out, found.whole)
            found.size += len(out)
            if most is not None and found.size > most:
                raise _too_much(most)
            while len(out):
                part = out[: page - filled]
                check, filled, out = (
                    isal_zlib.crc32(part, check),
                    filled + len(part),
                    out[len(part) :],
                )
                if filled == page:
                    found.checks.append(check)
                    check = filled = 0
            data = b""
            if inflater.eof:
                data, inflater = inflater.unused_data, None
                found.end = position - len(data)
    if inflater is not None:
        raise EOFError("Compressed file ended before the end-of-stream marker was reached")
    if filled:
        found.checks.append(check)
    if not found.points:  # no bytes at all are no bytes inflated
        found.points.append((0, 0, False, b""))
    return found


def _spooled(raw: IO[bytes], length: int) -> IO[bytes]:
    """A copy of the first ``length`` bytes, on disk and without a name: gone when closed."""
    try:
        spool = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    except OSError as error:
        raise DaskroiError(
            f"{tempfile.gettempdir()}: no temporary file can be made there ({error.strerror}). "
            "Set TMPDIR to another folder."
        ) from error
    try:
        while length > 0 and (piece := raw.read(min(4 * PIECE, length))):
            length -= len(piece)
            try:
                view = memoryview(piece)
                while view:
                    view = view[spool.write(view) or 0 :]
            except OSError as error:
                raise DaskroiError(
                    f"{tempfile.gettempdir()}: no room for a copy of the compressed file "
                    f"({error.strerror}). Set TMPDIR to another folder, or open the image "
                    "without an index."
                ) from error
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    return spool


def _read(raw: IO[bytes], count: int) -> bytes:
    """``count`` bytes, or what there is: one read may bring less."""
    found = b""
    while len(found) < count and (piece := raw.read(count - len(found))):
        found += piece
    return found


def _processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
