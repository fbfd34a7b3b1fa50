"""Files that are being written: hidden names by which what a killed writer left is known."""

from __future__ import annotations

import os
import platform
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from daskroi.urls import is_url

__all__ = ["part_of", "session_file", "sweep"]

# of a writer on another machine nobody can ask whether it lives; no file takes that long to write
ORPHAN_SECONDS = 3600


def part_of(path: Path) -> Path:
    """A name in the same folder, for a rename to be one step; hidden from those who list *.tsv."""
    name = path.name.encode()[:180].decode(errors="ignore")  # a file name has 255 bytes at most
    return path.parent / f".{name}.{_host()}-{os.getpid()}-{uuid4().hex[:8]}.part"


def session_file(folder: Path) -> Path:
    """A hidden name of this process's own, which `sweep` removes when the process is gone.

    Examples
    --------
    >>> session_file(Path("out")).name.startswith(".session.")
    True
    """
    return part_of(folder / "session")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", platform.node())[:32] or "host"


def sweep(folder: Any, begins: str = "") -> int:
    """Remove what writers that were killed have left in a folder; return how many files.

    Files of writers that live are not touched: those of this machine are known by process id,
    others by being younger than an hour.

    Parameters
    ----------
    folder : path or URL
        Object stores have nothing of the kind.
    begins : str
        What names of the files that were being written begin with.

    Examples
    --------
    >>> sweep("nowhere")
    0
    """
    if not isinstance(folder, str | Path) or is_url(folder):
        return 0
    removed = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(f".{begins}") or not _is_orphan(entry):
                continue
            with suppress(OSError):
                os.unlink(entry.path)
                removed += 1
    return removed


def _is_orphan(entry: os.DirEntry[str]) -> bool:
    found = re.search(r"\.([A-Za-z0-9]+)-(\d+)-[0-9a-f]{8}\.part$", entry.name)
    if found is None:
        return False
    if found[1] == _host():
        import psutil

        if int(found[2]) != os.getpid() and not psutil.pid_exists(int(found[2])):
            return True
    return time.time() - entry.stat().st_mtime > ORPHAN_SECONDS
