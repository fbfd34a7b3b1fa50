"""Many runs through two worker processes whose memory is so tight that they pause. One command:

    python tests/benchmarks/tight.py --runs 1000

A worker's limit is what it has when it has done some runs, and ``--room`` MB above: Dask pauses it
at 80 % of the limit, which every run exceeds while it is read. In the end all runs must be done and
be what `extract` gives, and the workers' own logs must say that they paused. It prints how often
they did, and how many processes died. Exit code 1: not so.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cohorts

SIDE = 32
IMAGES = 8  # each many times, under many names


@dataclass
class Told:
    """What became of the runs and of the workers."""

    done: int
    failed: int
    different: int
    pauses: int
    resumed: int
    died: int
    seconds: float
    limit_mb: float

    @property
    def good(self) -> bool:
        """Whether all went well, and was put to the test."""
        return not (self.failed or self.different) and self.pauses > 0

    def __str__(self) -> str:
        return (
            f"{self.done} done, {self.failed} failed, {self.different} not as by extract, in "
            f"{self.seconds:.0f} s; workers of {self.limit_mb:.0f} MB paused {self.pauses} times, "
            f"went on {self.resumed} times, died {self.died} times"
        )


def write(folder: Path, frames: int) -> tuple[dict[int, str], Any]:
    """Images of 16 MB and more, and an atlas."""
    import nibabel as nib

    rng = np.random.default_rng(0)
    affine, images = np.diag([2.0, 2, 2, 1]), {}
    for i in range(IMAGES):
        values = rng.integers(0, 4000, (SIDE, SIDE, SIDE, frames), dtype=np.int16)
        image = nib.Nifti1Image(values, affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 2.0
        images[i] = str(folder / f"run-{i}_bold.nii.gz")
        nib.save(image, images[i])
    labels = rng.integers(0, 20, (SIDE,) * 3).astype("i2")
    nib.save(nib.Nifti1Image(labels, affine), folder / "atlas.nii.gz")
    return images, str(folder / "atlas.nii.gz")


def used(images: list[str], atlas: str, folder: str) -> float:
    """Memory of this worker in bytes when it has done some runs, two at a time."""
    from concurrent.futures import ThreadPoolExecutor

    import psutil

    from daskroi.batch import extract_cohort

    # its own runs: a scheduler may give all runs of a small cohort to the other worker, and one
    # without any has 70 MB, not 186
    with ThreadPoolExecutor(2) as threads:
        done = threads.map(
            lambda i: extract_cohort(
                {f"run-{i}": images[i]}, atlas, Path(folder) / f"{os.getpid()}-{i}",
                mask=None, progress=False,
            ).failed,
            range(len(images)),
        )  # fmt: skip
        assert not sum(done)
    return float(psutil.Process().memory_info().rss)


def cluster(limit: float) -> Any:
    """Two processes of two threads."""
    from daskroi.cluster import connect

    return connect("local", n_workers=2, threads_per_worker=2, memory=int(limit))


def tight(folder: Path, runs: int, room: float, frames: int = 400) -> Told:
    """Extract ``runs`` runs; a worker pauses ``room`` MB above what it has anyway."""
    import dask

    import daskroi as dr
    from daskroi.batch import extract_cohort
    from daskroi.readback import read_timeseries

    images, atlas = write(folder, frames)
    named = {f"run-{i:05}": images[i % IMAGES] for i in range(runs)}
    told: dict[str, Any] = {"mask": None, "progress": False}
    with cluster(2e9) as client:
        base = min(client.run(used, list(images.values()), atlas, str(folder / "first")).values())
    limit = (base + room * 1e6) / 0.8
    often = {"distributed.worker.memory.monitor-interval": "10ms"}
    with dask.config.set(often), cluster(limit) as client:
        started = time.monotonic()
        done = extract_cohort(named, atlas, folder / "out", client=client, **told)
        seconds = time.monotonic() - started
        logs = [text for lines in client.get_worker_logs().values() for _, text in lines]
        spawned = client.cluster._i if hasattr(client.cluster, "_i") else 0
        died = sum("restarting" in str(text) for text in logs) + 0 * spawned
    expected = [dr.extract(path, atlas).compute().values for path in images.values()]
    different = 0
    for path in (folder / "out").glob("run-*_timeseries.tsv"):
        number = int(path.name[4:9])
        same = np.array_equal(read_timeseries(path).values, expected[number % IMAGES])
        different += not same
    return Told(
        done.done, done.failed + runs - done.done, different,
        sum("Pausing worker" in text for text in logs),
        sum("Resuming worker" in text for text in logs), died, seconds, limit / 1e6,
    )  # fmt: skip


def main(args: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--room", type=float, default=20.0, help="MB")
    parser.add_argument("--frames", type=int, default=400, help="of a run, of 65 kB each")
    told = parser.parse_args(args)
    with tempfile.TemporaryDirectory(prefix="daskroi-tight-") as folder:
        found = tight(Path(folder), told.runs, told.room, told.frames)
    print(found)
    return int(not found.good)


if __name__ == "__main__":
    sys.exit(main())
