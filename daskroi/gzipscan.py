"""A program of its own: inflate a whole gzip file in parallel, and say where one can start.

`daskroi.gzipsearch` runs it as a child process, by its path. Not in the worker's own process,
because rapidgzip keeps the GIL while it works, aborts the process when the interpreter ends
before a handle is closed, and keeps 300 MB that are given back when a process ends. Starting
the child costs 0.1 s.
"""

from __future__ import annotations

import os
import struct
import sys
import threading

__all__ = ["main"]


def main(path: str, threads: int, chunk: int, page: int, most: int = sys.maxsize) -> bytes:
    """Inflate ``path``; its size and pages' checksums, then rapidgzip's own index.

    Parameters
    ----------
    path : str
        A seekable gzip file.
    threads : int
        How many inflate at once.
    chunk : int
        Compressed bytes that a thread takes at a time, hence the distance of the points.
    page : int
        Inflated bytes that share a checksum.
    most : int
        Inflated bytes that the file may have; the process ends with 3 when there are more.

    Returns
    -------
    bytes
        Little-endian: inflated size (8 bytes), CRC-32 of everything (4), number of pages (8), the
        CRC-32 of each (4), and the index in indexed_gzip's format, which is documented.
    """
    import io

    from isal import isal_zlib
    from rapidgzip import _RapidgzipFile  # the public class wraps it and hides export_index

    buffer = memoryview(bytearray(page))
    size = whole = 0
    pages: list[int] = []
    index = io.BytesIO()
    file = _RapidgzipFile(path, parallelization=threads, chunk_size=chunk)
    try:
        got = page
        while got == page:
            got = 0
            while got < page:
                count = file.readinto(buffer[got:])
                if not count:
                    break
                got += count
            if got:
                pages.append(isal_zlib.crc32(buffer[:got]))
                whole = isal_zlib.crc32(buffer[:got], whole)
                size += got
            if size > most:
                # not by way of close(), which waits for what is being inflated
                os._exit(3)
        file.export_index(index)
    finally:
        file.close()
    return struct.pack(f"<QIQ{len(pages)}I", size, whole, len(pages), *pages) + index.getvalue()


def _end_with_parent() -> None:
    """The parent holds the other end of stdin: when that closes, nobody waits for the result."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        found = main(sys.argv[1], *map(int, sys.argv[2:6]))
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(2)
    sys.stdout.buffer.write(found)
    sys.stdout.flush()
    os._exit(0)  # past the threads that still stand around
