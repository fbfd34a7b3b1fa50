"""Measure cohorts: against nilearn with joblib, by workers, and with 100,000 runs. One command:

    python tests/benchmarks/cohort.py

Three tables. *Cohort*: 16 runs (2 mm, int16, gzipped, 200 volumes), 400 regions, 24 confounds,
detrended and z-scored: nilearn in two processes of joblib; daskroi on one and two worker processes
and on two threads; wall seconds, and the largest memory of all processes together. *Scale*: 1,000
and 100,000 runs whose reader is faked, on a scheduler and two workers of their own: peak memory of
the client and of the scheduler, milliseconds per run. *Rerun*: the same runs, when all are done.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # its siblings, also when a test imports this file

CONFOUNDS = [f"{a}_{b}{c}" for a in ("trans", "rot") for b in "xyz"
             for c in ("", "_derivative1", "_power2", "_derivative1_power2")]  # fmt: skip

WAYS = ("nilearn", "1", "2", "threads")

NILEARN = """
import sys, warnings
import pandas as pd
from joblib import Parallel, delayed
from pathlib import Path

def one(image, table, mask, atlas, out):
    from nilearn.maskers import NiftiLabelsMasker
    warnings.simplefilter("ignore")
    masker = NiftiLabelsMasker(
        atlas, mask_img=mask, standardize="zscore_sample", detrend=True, t_r=2.0
    )
    confounds = pd.read_csv(table, sep="\\t").fillna(0)
    series = masker.fit_transform(image, confounds=confounds)
    pd.DataFrame(series).to_csv(out, sep="\\t", index=False)

if __name__ == "__main__":
    folder, out = map(Path, sys.argv[1:3])
    images = sorted(folder.rglob("*_bold.nii.gz"))
    Parallel(n_jobs=2)(
        delayed(one)(
            image,
            str(image).replace("_space-MNI_desc-preproc_bold.nii.gz",
                               "_desc-confounds_timeseries.tsv"),
            str(image).replace("_desc-preproc_bold", "_desc-brain_mask"),
            folder / "atlas_dseg.nii.gz",
            out / (image.name + ".tsv"),
        )
        for image in images
    )
"""

# then once more where all are warm: what it costs to start a cluster is the same for 16 runs and
# for 16,000
DASKROI = """
import sys, time
from daskroi.batch import extract_cohort
from daskroi.cohort import find_runs

if __name__ == "__main__":
    folder, out, workers = sys.argv[1:4]
    told = dict(confounds={"strategy": "24P", "n_dummy": 0}, standardize="zscore_sample",
                detrend=True, progress=False)
    runs = find_runs(folder)
    if workers == "threads":
        done = extract_cohort(runs, folder + "/atlas_dseg.nii.gz", out, client="threads", **told)
    else:
        from daskroi.cluster import connect
        with connect("local", n_workers=int(workers), threads_per_worker=1,
                     dashboard_address="127.0.0.1:0") as client:
            told["client"] = client
            done = extract_cohort(runs, folder + "/atlas_dseg.nii.gz", out, **told)
            begun = time.perf_counter()
            extract_cohort(runs, folder + "/atlas_dseg.nii.gz", out, overwrite=True, **told)
            print("warm", time.perf_counter() - begun)
    assert done.failed == 0, done.runs["reason"].tolist()
"""

SCALE = """
import sys
from daskroi import store, window, work
from daskroi.batch import extract_cohort
import daskroi as dr

from daskroi.outcome import Outcome

def fake_run(job, work, needs):
    return Outcome(seconds=0.001, frames=100, kept=100)

fake_run.__module__ = "__main__"

if __name__ == "__main__":
    address, count, out, done = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "done"
    window.run_job = fake_run
    work.Work.identities = lambda self, one: {name: {} for name in self.atlases}
    store.stale = lambda paths, identity, part: [] if done else None
    atlas = dr.make_phantom((12, 14, 12), n_time=2, n_regions=4).atlas
    names = ({"image": f"/nowhere/sub-{i:06}/func/sub-{i:06}_task-rest_bold.nii.gz",
              "name": f"sub-{i:06}/func/sub-{i:06}_task-rest"} for i in range(count))
    from distributed import Client
    with Client(address) as client:
        found = extract_cohort(names, atlas, out, client=client, mask=None, progress=False)
    assert found.total == count and found.failed == 0
    print(found.seconds)
"""


@dataclass(frozen=True)
class Measured:
    """Wall seconds, largest memory in MB of a process and all it started, and what it printed."""

    seconds: float
    megabytes: float
    printed: str = ""


def memory_of(pid: int) -> float:
    """Resident MB of a process and all below it."""
    import psutil

    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return total / 1e6


def measure(code: str, *args: str, timeout: float = 3600) -> Measured:
    """Run a program from a file, for its processes can be started from nothing else."""
    with tempfile.TemporaryDirectory() as empty:
        script = Path(empty) / "program.py"
        script.write_text(code)
        path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]).strip(":")
        start = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, str(script), *args],
            cwd=empty,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        timer = threading.Timer(timeout, os.killpg, (child.pid, signal.SIGKILL))
        timer.start()
        peak = 0.0
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.append(child.stdout.read()))
        reader.start()
        while child.poll() is None:
            peak = max(peak, memory_of(child.pid))
            time.sleep(0.05)
        seconds = time.perf_counter() - start
        timer.cancel()
        reader.join(5)
        child.stdout.close()
    if child.returncode:
        raise RuntimeError(f"exit code {child.returncode}: {''.join(said)[-2000:]}")
    return Measured(seconds, peak, "".join(said))


def make_cohort(folder: Path, count: int, n_time: int, shape: tuple[int, int, int]) -> None:
    """Links to one run, laid out as fMRIPrep does, with masks, confounds, and an atlas."""
    import nibabel
    import numpy as np
    from bench_data import ATLASES, Head, header, make

    name = f"scaled{n_time}.nii.gz"
    folder.mkdir(parents=True, exist_ok=True)
    make(folder, [name], shape)
    head = Head(shape)
    atlas = head.atlas(ATLASES["atlas400"])
    nibabel.Nifti1Image(atlas.T, None, header(shape, "i2")).to_filename(
        folder / "atlas_dseg.nii.gz"
    )
    mask = (head.depth < 1).astype("u1")
    rng = np.random.default_rng(0)
    for i in range(count):
        func = folder / "fmriprep" / f"sub-{i + 1:02}" / "func"
        func.mkdir(parents=True, exist_ok=True)
        stem = f"{func}/sub-{i + 1:02}_task-rest"
        image = Path(f"{stem}_space-MNI_desc-preproc_bold.nii.gz")
        if not image.exists():
            os.link(folder / name, image)
        nibabel.Nifti1Image(mask.T, None, header(shape, "u1")).to_filename(
            f"{stem}_space-MNI_desc-brain_mask.nii.gz"
        )
        table = rng.standard_normal((n_time, len(CONFOUNDS)))
        rows = ["\t".join(CONFOUNDS), *("\t".join(f"{v:.6f}" for v in row) for row in table)]
        Path(f"{stem}_desc-confounds_timeseries.tsv").write_text("\n".join(rows) + "\n")
    link = folder / "fmriprep" / "atlas_dseg.nii.gz"
    if not link.exists():
        os.link(folder / "atlas_dseg.nii.gz", link)


def largest_difference(ours: Path, theirs: Path) -> float:
    """Between the tables of both, all runs; z-scores."""
    import numpy as np
    import pandas as pd

    worst = 0.0
    for path in sorted(theirs.glob("*.tsv")):
        run = path.name.split("_")[0]
        [own] = (ours / run).rglob("*_timeseries.tsv")
        a, b = (pd.read_csv(p, sep="\t").to_numpy() for p in (own, path))
        worst = max(worst, float(np.abs(a - b).max()))
    return worst


def without_warm(one: Measured, warm: dict[str, float], way: str) -> Measured:
    """The first pass alone; the second's seconds are kept in ``warm``, the best of them."""
    if "warm" not in one.printed:
        return one
    seconds = float(one.printed.split("warm")[1].split()[0])
    warm[way] = min(seconds, warm.get(way, seconds))
    return Measured(one.seconds - seconds, one.megabytes, one.printed)


def cohort(
    folder: Path,
    count: int,
    n_time: int,
    shape: tuple[int, int, int],
    repeat: int,
    ways: Sequence[str] = WAYS,
) -> None:
    """Print the table of the cohort."""
    make_cohort(folder, count, n_time, shape)
    data = folder / "fmriprep"
    for path in data.rglob("*.nii.gz"):
        path.read_bytes()
    found: dict[str, list[Measured]] = {way: [] for way in ways}
    warm: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for i in range(repeat):
            for way in ways:
                out = Path(scratch) / f"{way}{i}"
                out.mkdir()
                code = NILEARN if way == "nilearn" else DASKROI
                args = () if way == "nilearn" else (way,)
                found[way].append(
                    without_warm(measure(code, str(data), str(out), *args), warm, way)
                )
        worst = largest_difference(Path(scratch) / f"{ways[-1]}0", Path(scratch) / "nilearn0")
    best = {
        way: Measured(min(m.seconds for m in ms), max(m.megabytes for m in ms))
        for way, ms in found.items()
    }
    base = best["nilearn"]
    print(f"\n{count} runs of {n_time} volumes, {' x '.join(map(str, shape))}; best of {repeat}")
    print(f"{'':<28}{'seconds':>9}{'runs/s':>9}{'MB':>8}{'throughput':>12}{'memory':>9}")
    names = {"nilearn": "nilearn, joblib n_jobs=2", "1": "daskroi, 1 worker",
             "2": "daskroi, 2 workers", "threads": "daskroi, 2 threads"}  # fmt: skip
    for way in ways:
        one = best[way]
        print(
            f"{names[way]:<28}{one.seconds:>9.1f}{count / one.seconds:>9.2f}{one.megabytes:>8.0f}"
            f"{base.seconds / one.seconds:>11.1f}x{one.megabytes / base.megabytes:>8.2f}x"
        )
    if {"1", "2"} <= set(ways):
        whole, inside = (t["1"] / t["2"] for t in ({w: best[w].seconds for w in "12"}, warm))
        print(
            f"1 -> 2 workers: {inside:.2f}x in a cluster that runs ({warm['1']:.1f} s, "
            f"{warm['2']:.1f} s), {whole:.2f}x with starting it"
        )
    print(f"largest difference of z-scores: {worst:.1e}")


@contextmanager
def scheduler_and_workers(folder: Path) -> Iterator[tuple[str, int]]:
    """Address and pid of a scheduler with two workers, processes of their own."""
    import json

    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    common = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [
        subprocess.Popen(
            [*dask, "scheduler", "--port", "0", "--scheduler-file", str(file), *common], **quiet
        )
    ]
    try:
        deadline = time.monotonic() + 60
        while not file.exists() or not file.read_text().endswith("}"):
            if time.monotonic() > deadline:
                raise TimeoutError("no scheduler came")
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        options = ["--no-nanny", "--nthreads", "1", "--memory-limit", "1GiB"]
        started += [
            subprocess.Popen([*dask, "worker", address, *options, *common], **quiet)
            for _ in range(2)
        ]
        yield address, started[0].pid
    finally:
        for process in started:
            process.kill()  # asked to end, a worker looks for its scheduler first
        for process in started:
            process.wait(20)


def scale(counts: list[int]) -> None:
    """Print the table of many runs."""
    columns = ("client MB", "scheduler MB", "ms per run", "rerun ms")
    print("\n" + f"{'faked runs':>10}" + "".join(f"{name:>14}" for name in columns))
    for count in counts:
        with (
            tempfile.TemporaryDirectory() as scratch,
            scheduler_and_workers(Path(scratch)) as (address, pid),
        ):
            out = Path(scratch) / "out"
            found = measure(SCALE, address, str(count), str(out), "new")
            scheduler = memory_of(pid)
            again = measure(SCALE, address, str(count), str(out), "done")
        each, rerun = (1000 * float(m.printed.split()[-1]) / count for m in (found, again))
        numbers = (f"{found.megabytes:.0f}", f"{scheduler:.0f}", f"{each:.2f}", f"{rerun:.2f}")
        print(f"{count:>10}" + "".join(f"{number:>14}" for number in numbers), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=("cohort", "scale"))
    parser.add_argument("--keep", type=Path, help="folder for images, to have them next time")
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--volumes", type=int, default=200)
    parser.add_argument("--shape", type=int, nargs=3, default=(91, 109, 91))
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--scale", type=int, nargs="+", default=[1000, 100_000])
    options = parser.parse_args(arguments)
    if options.only != "scale":
        with tempfile.TemporaryDirectory() as scratch:
            folder = options.keep or Path(scratch)
            cohort(
                folder,
                options.runs,
                options.volumes,
                tuple(options.shape),
                options.repeat,
                options.ways,
            )
    if options.only != "cohort":
        scale(options.scale)
    return 0


if __name__ == "__main__":
    sys.exit(main())
