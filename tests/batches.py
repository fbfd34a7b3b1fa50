"""What tests of extract_cohort() ask for, and do to its runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

BASIC = {
    "strategy": ("motion", "wm_csf"),
    "motion": "basic",
    "wm_csf": "basic",
    "fd_threshold": 0.5,
}
# threads: otherwise it would be the cluster of other tests, which is the client that is current
OPTIONS: dict[str, Any] = {
    "standardize": "zscore_sample",
    "progress": False,
    "client": "threads",
}


def spoil(image: str | os.PathLike[str]) -> bytes:
    """Cut the second half off; give the whole back."""
    path = Path(image)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return whole
