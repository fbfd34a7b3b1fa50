"""Watch memory while one process, and the workers of one cluster, do everything again and again:

    python tests/benchmarks/soak.py --minutes 12

Every round makes new images and extracts from them in every plan (also smoothed, on another grid,
from Zarr, with an index, from a file that is cut), makes a report, goes through a cohort on threads
and through one on a cluster of two processes that lives as long as the soak. After every round it
notes resident memory, open files and threads of this process and of the workers.

Images are small, so that there are many rounds: the package keeps weights, grids and cut operators
of the last 8 to 128 images, in bounded caches, which the warm-up may not fill.

It prints a line per process: growth of memory after the warm-up (the first third), in MB per hour
and per 1,000 extractions, with 95 % confidence (least squares on the means of 30 parts of the time:
rounds next to each other are alike), and how many files and threads there are more than after the
warm-up. Exit code 1 says that one grew: memory by more than ``--most`` MB per 1,000 extractions for
certain, or files or threads at all.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cohorts, images

PARTS = 30
CONFOUNDS = {"columns": ["trans_?", "csf"], "fd_threshold": 0.5}
T_95 = 2.05  # Student's t for 28 degrees of freedom
# Dask's logs are bounded by what only an hour and more fills. Here they are full in the warm-up
SHORT_LOGS = {
    "distributed.admin.low-level-log-length": 50,  # of 1,000
    "distributed.admin.system-monitor.log-length": 50,  # of 7,200, every 0.5 s
    "distributed.diagnostics.computations.max-history": 5,  # of 100
    "distributed.diagnostics.erred-tasks.max-history": 5,  # of 100
}
SPANS_KEPT = 20  # workers still report on the last ones


@dataclass
class Noted:
    """One process at one moment."""

    seconds: float
    extractions: int
    mb: float
    files: int
    threads: int
    objects: int


def look() -> dict[str, float]:
    """Memory, files, threads and Python's objects of this process; also asked of workers."""
    import psutil

    gc.collect()
    process = psutil.Process()
    return {
        "mb": process.memory_info().rss / 1e6,
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "objects": len(gc.get_objects()),
    }


def forget_spans(dask_scheduler: Any) -> int:
    """Have a scheduler forget old computations, one or two a cohort; how many it had.

    Dask (2026.8) keeps them, with their groups of tasks, until the scheduler ends, and has no
    option against it: 14 kB a cohort, however many runs that has.
    """
    found = dask_scheduler.extensions["spans"]
    count = len(found.spans)
    old = [id for id, span in list(found.spans.items())[:-SPANS_KEPT] if span.done]
    gone = {found.spans.pop(id) for id in old}
    found.root_spans[:] = [span for span in found.root_spans if span not in gone]
    for spans in (*found.spans_search_by_name.values(), *found.spans_search_by_tag.values()):
        spans[:] = [span for span in spans if span not in gone]
    return count


def forget_names() -> int:
    """Have Dask forget the names of tasks it has split, in this process; how many it had.

    ``dask.utils.key_split`` (2026.8) keeps the last 100,000, 28 MB when that is full, after an hour
    or more: until then the client grows by 25 kB a round, about 2 MB per 1,000 extractions.
    """
    from dask.utils import key_split

    count = int(key_split.cache_info().currsize)
    key_split.cache_clear()
    return count


class Rig:
    """What is done in a round; every image is a new one.

    Parameters
    ----------
    folder : Path
    seed : int
    side : int
        Voxels along an axis.
    client : distributed.Client or None
    """

    def __init__(self, folder: Path, seed: int, side: int, client: Any) -> None:
        self.folder, self.client = folder, client
        self.rng = np.random.default_rng(seed)
        self.side, self.count, self.rounds = side, 0, 0
        self.kept: list[Any] = []
        labels = self.rng.integers(0, 20, (side,) * 3).astype("i2")
        self.atlas = self.save(labels, folder / "atlas_dseg.nii.gz")
        coarse = self.rng.integers(0, 9, (side // 2,) * 3).astype("i2")
        self.coarse = self.save(coarse, folder / "coarse_dseg.nii.gz", 4.0)

    def save(self, values: Any, path: Path, size: float = 2.0) -> str:
        """Write an image of voxels of ``size`` mm."""
        import nibabel as nib

        affine = np.diag([size, size, size, 1.0])
        affine[:3, 3] = self.rounds * 0.01  # a grid of its own: nothing kept for another one fits
        image = nib.Nifti1Image(values, affine)
        image.header.set_xyzt_units("mm", "sec")
        if values.ndim == 4:
            image.header["pixdim"][4] = 2.0
        nib.save(image, path)
        return str(path)

    def run(self, name: str, frames: int = 40) -> str:
        """A new run; its values are random bytes, which is fast."""
        shape = (self.side,) * 3
        values = self.rng.integers(0, 4000, (*shape, frames), dtype=np.int16)
        return self.save(values, self.folder / name)

    def extract(self, *args: Any, **options: Any) -> Any:
        """Extract and compute, on threads of this process."""
        import daskroi as dr

        self.count += 1
        return dr.extract(*args, **options).compute(scheduler="threads")

    def round(self) -> None:
        """Everything once."""
        self.rounds += 1
        for step in (self.plans, self.others, self.failing, self.reports, self.cohorts):
            step()

    def plans(self) -> None:
        """Streamed, by chunks, with an index, from Zarr."""
        import daskroi as dr

        packed, plain = self.run("a_bold.nii.gz"), self.run("b_bold.nii")
        self.extract(packed, self.atlas, standardize="zscore_sample", detrend=True)
        self.extract(plain, self.atlas, chunks=7, strategy="median")
        self.extract(dr.open_image(packed, index=True, chunks=7), self.atlas)
        store = f"{self.folder}/c.nii.zarr"
        dr.to_zarr(packed, store, overwrite=True)
        self.extract(store, self.atlas, low_pass=0.1, high_pass=0.01)
        dr.convert(store, f"{self.folder}/d_bold.nii.gz", overwrite=True)

    def others(self) -> None:
        """Smoothed, resampled; an image in memory."""
        import nibabel as nib

        plain = str(self.folder / "b_bold.nii")
        self.extract(plain, self.atlas, smoothing_fwhm=4 + self.rounds % 50 / 10)
        self.extract(plain, self.coarse, resampling_target="labels")
        self.extract(nib.load(plain), self.atlas, high_variance_confounds=True)

    def failing(self) -> None:
        """A file that is cut, and a table that is not there."""
        from daskroi.errors import DaskroiError

        path = self.folder / "a_bold.nii.gz"
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        for options in ({}, {"confounds": "nowhere.tsv"}):
            try:
                self.extract(str(path), self.atlas, **options)
            except DaskroiError:
                continue
            raise AssertionError("half a file was extracted")

    def reports(self) -> None:
        """The page of a run."""
        import daskroi as dr

        image = str(self.folder / "b_bold.nii")
        page = dr.report(self.extract(image, self.atlas), self.atlas, image=image)
        page.save_as_html(self.folder / "page.html")

    def cohorts(self) -> None:
        """Runs with masks and confounds, on threads and on the cluster."""
        import cohorts

        from daskroi.batch import extract_cohort

        for where in ("threads", self.client):
            folder = self.folder / f"in-{self.rounds}"
            runs = cohorts.write_cohort(folder, 4)
            done = where and extract_cohort(
                runs, cohorts.atlas(), self.folder / "out", client=where, progress=False,
                confounds=CONFOUNDS, connectome="correlation",
            )  # fmt: skip
            assert where is None or done.failed == 0, done.runs["reason"].tolist()
            self.count += 4 * bool(where)
            shutil.rmtree(folder)
            shutil.rmtree(self.folder / "out", ignore_errors=True)


def soak(
    seconds: float, seed: int, side: int = 16, cluster: bool = True, leak: float = 0,
    said: Callable[[str], None] = lambda _: None,
) -> dict[str, list[Noted]]:  # fmt: skip
    """Rounds until the time is up; what was noted, by process."""
    import dask

    from daskroi import weights
    from daskroi.cluster import connect

    noted: dict[str, list[Noted]] = {}
    with ExitStack() as stack:
        # kept weights of every new grid: up to 256 MB, which the warm-up would not reach
        most, weights.CACHE_BYTES = weights.CACHE_BYTES, 1 << 24
        stack.callback(setattr, weights, "CACHE_BYTES", most)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="daskroi-soak-")))
        before = os.environ.get("DASKROI_CACHE")
        os.environ["DASKROI_CACHE"] = str(folder / "cache")
        stack.callback(_restore, before)
        client = None
        if cluster:
            stack.enter_context(dask.config.set(SHORT_LOGS))
            client = stack.enter_context(connect("local", n_workers=2, threads_per_worker=1))
        rig = Rig(folder, seed, side, client)
        started = time.monotonic()
        while (spent := time.monotonic() - started) < seconds or rig.rounds < 4:
            rig.round()
            if leak:
                rig.kept.append(b"x" * int(leak * 1e6))
            shutil.rmtree(folder / "cache", ignore_errors=True)
            forget_names()
            if client is not None:
                client.run_on_scheduler(forget_spans)
                client.run(forget_names)
            found = {"client": look()}
            if client is not None:
                for i, one in enumerate(client.run(look).values()):
                    found[f"worker {i}"] = one
            for name, one in found.items():
                row = Noted(spent, rig.count, **one)  # type: ignore[arg-type]
                noted.setdefault(name, []).append(row)
            said(f"{spent:.0f} s, {rig.count} extractions: {found}")
    return noted


def _restore(before: str | None) -> None:
    os.environ.pop("DASKROI_CACHE")
    if before is not None:
        os.environ["DASKROI_CACHE"] = before


@dataclass
class Growth:
    """Of one process after its warm-up."""

    rounds: int
    extractions: int
    mb: float
    mb_per_1000: float
    uncertain: float
    mb_per_hour: float
    files: int
    threads: int
    objects_per_round: float

    def __str__(self) -> str:
        return (
            f"{self.mb:.0f} MB; {self.mb_per_1000:+.2f} ± {self.uncertain:.2f} MB per 1,000 "
            f"extractions ({self.mb_per_hour:+.1f} MB per hour; {self.extractions} in "
            f"{self.rounds} rounds); files {self.files:+d}, threads {self.threads:+d}, "
            f"objects {self.objects_per_round:+.1f} per round"
        )


def growth(noted: list[Noted]) -> Growth:
    """Slope after the first third, with its confidence."""
    kept = noted[len(noted) // 3 :]
    parts = [part for part in np.array_split(np.arange(len(kept)), PARTS) if len(part)]
    x = np.array([np.mean([kept[i].extractions for i in part]) for part in parts])
    y = np.array([np.mean([kept[i].mb for i in part]) for part in parts])
    slope, error = _slope(x, y)
    hours = (kept[-1].seconds - kept[0].seconds) / 3600
    made = kept[-1].extractions - kept[0].extractions
    # of a few, the least: a thread may be about to end
    files, threads = (
        min(getattr(row, what) for row in kept[-3:]) - min(getattr(row, what) for row in kept[:3])
        for what in ("files", "threads")
    )
    objects = np.polyfit(np.arange(len(kept)), [row.objects for row in kept], 1)[0]
    return Growth(
        len(kept), made, kept[-1].mb, 1000 * slope, 1000 * T_95 * error,
        slope * made / max(hours, 1e-9), files, threads, float(objects),
    )  # fmt: skip


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Of a straight line, and its standard error."""
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    left = y - y.mean() - slope * centred
    return slope, float(np.sqrt(left @ left / max(len(x) - 2, 1) / (centred @ centred)))


def bad(grown: Growth, most: float) -> bool:
    """Whether it grew."""
    return grown.mb_per_1000 - grown.uncertain > most or grown.files > 0 or grown.threads > 0


def main(args: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=16, help="voxels along an axis")
    parser.add_argument("--no-cluster", action="store_true")
    parser.add_argument("--most", type=float, default=2.0, help="MB per 1,000 extractions")
    parser.add_argument("--leak", type=float, default=0, help="MB lost a round, to see it seen")
    parser.add_argument("--json", type=Path, help="where to write all that was noted")
    parser.add_argument("-v", "--verbose", action="store_true")
    told = parser.parse_args(args)
    noted = soak(
        told.minutes * 60, told.seed, told.side, not told.no_cluster, told.leak,
        (lambda text: print(text, flush=True)) if told.verbose else lambda _: None,
    )  # fmt: skip
    if told.json:
        told.json.write_text(json.dumps({k: list(map(asdict, v)) for k, v in noted.items()}))
    grown = {name: growth(rows) for name, rows in noted.items()}
    for name, one in grown.items():
        print(f"{name}: {one}")
    return int(any(bad(one, told.most) for one in grown.values()))


if __name__ == "__main__":
    sys.exit(main())
