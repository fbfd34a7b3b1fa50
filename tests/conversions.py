"""Runs to convert, and what came of them, byte by byte."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
from niftis import nifti_bytes, write


def inflated(path: Path) -> bytes:
    """What is in a file, gzipped or not."""
    content = path.read_bytes()
    return gzip.decompress(content) if path.name.endswith(".gz") else content


def tree(folder: Path) -> dict[str, bytes]:
    """Files of a folder and what is in them."""
    return {
        os.fspath(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def run_file(path: Path, shape: tuple[int, ...] = (16, 14, 12, 40), seed: int = 0) -> Path:
    """A run written to a file."""
    values = np.random.default_rng(seed).integers(0, 1000, shape).astype("i2")
    return write(path, nifti_bytes(values))
