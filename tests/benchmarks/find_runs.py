"""How long finding runs takes in a dataset of 50,000 files.

    python tests/benchmarks/find_runs.py
    python tests/benchmarks/find_runs.py --files 500000

A tree as fMRIPrep writes it (two sessions, two tasks, two spaces; empty files) is made in a
temporary folder, then listed: all of it, one participant, and as a plain list of its images. The
first time includes what the system has not cached; the best of the repetitions follows. Importing
pandas (0.5 s) is left out.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bids_tree import make_tree

TARGET = 2.0  # seconds for 50,000 files, the first time


def main(argv: list[str] | None = None) -> int:
    """Measure and print; 1 if the target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to make the tree (default: temporary)")
    args = parser.parse_args(argv)

    import pandas  # noqa: F401

    from daskroi.cohort import find_runs

    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        root = Path(folder) / "fmriprep"
        make_tree(root, ["0000"], ("a", "b"), ("rest", "nback"))
        each = _count(root)
        subjects = [f"{i:04d}" for i in range(max(1, round(args.files / each)))]
        make_tree(root, subjects, ("a", "b"), ("rest", "nback"))
        files = _count(root)
        runs, first, best = _timed(lambda: find_runs(root), args.repeat)
        _tell(f"{files} files, {len(runs)} runs", first, best)
        one, *both = _timed(lambda: find_runs(root, participant_label=subjects[-1]), args.repeat)
        _tell(f"one participant, {len(one)} runs", *both)
        images = runs["image"].tolist()
        again, *both = _timed(lambda: find_runs(images), args.repeat)
        _tell(f"a list of {len(again)} images", *both)
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    allowed = TARGET * files / 50_000
    print(f"target {allowed:.1f} s: {'reached' if first <= allowed else 'missed'}")
    return int(first > max(allowed, 0.5))


def _count(root: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(root))


def _timed(work: Callable, repeat: int) -> tuple:
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return result, seconds[0], min(seconds)


def _tell(what: str, first: float, best: float) -> None:
    print(f"{what}: {first:.2f} s the first time, {best:.2f} s at best")


if __name__ == "__main__":
    raise SystemExit(main())
