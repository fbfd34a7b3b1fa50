"""NIfTI-Zarr against .nii.gz: seconds and bytes of converting, seconds of extracting on 2 threads.

    python tests/benchmarks/niftizarr.py [--repeat 5] [--keep FOLDER]

Programs take turns, a process each. Seconds are of the work alone, without imports, the median of
the repeats. The target: extracting from Zarr at least 1.5 times as fast as from .nii.gz.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CONVERT = """
import shutil, time
from daskroi.convert import convert
import zarr, daskroi.openimage, daskroi.zarrwrite, daskroi.zarrtarget
shutil.rmtree({target!r}, ignore_errors=True)
begun = time.perf_counter()
convert({source!r}, {target!r}, overwrite=True{options})
print(time.perf_counter() - begun)
"""
EXTRACT = """
import time
import dask, numpy
import daskroi as dr
atlas = dr.load_atlas({atlas!r})
with dask.config.set(scheduler="threads", num_workers=2):
    dr.extract(dr.open_image({source!r})[:2], atlas).compute()  # imports
    begun = time.perf_counter()
    result = dr.extract({source!r}, atlas).compute()
    print(time.perf_counter() - begun)
numpy.save({out!r}, result.values)
"""
CONVERSIONS = {
    "zarr": ("{run}.nii.gz", "{run}.nii.zarr", ""),
    "zarr from .nii": ("{run}.nii", "{run}-plain.nii.zarr", ""),
    "zarr, zstd": ("{run}.nii.gz", "{run}-zstd.nii.zarr", ', compressor="zstd"'),
    "zarr v2": ("{run}.nii.gz", "{run}-v2.nii.zarr", ", zarr_format=2"),
    "zarr, volumes in shards": (
        "{run}.nii.gz",
        "{run}-shards.nii.zarr",
        ', chunks=1, shards="auto"',
    ),
    "back": ("{run}.nii.zarr", "{run}-back.nii.gz", ""),
}
EXTRACTIONS = {
    ".nii.gz": "{run}.nii.gz",
    ".nii": "{run}.nii",
    "zarr": "{run}.nii.zarr",
    "zarr, zstd": "{run}-zstd.nii.zarr",
    "zarr v2": "{run}-v2.nii.zarr",
    "zarr, volumes in shards": "{run}-shards.nii.zarr",
}
TARGET = 1.5


def seconds(code: str) -> float:
    """What a program in a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    )
    return float(done.stdout)


def size(path: Path) -> float:
    """MB of a file, or of the files of a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files) / 1e6


def measure(programs: dict[str, str], repeat: int) -> dict[str, float]:
    """Median seconds of programs that take turns."""
    found: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeat):
        for name, code in programs.items():
            found[name].append(seconds(code))
    return {name: statistics.median(times) for name, times in found.items()}


def main(words: list[str] | None = None) -> int:
    """Make, measure, print tables; 1 when the target is missed, 2 when numbers differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=300)
    parser.add_argument("--shape", type=int, nargs=3, default=(91, 109, 91))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="of the conversions; default all")
    parser.add_argument("--keep", type=Path, help="folder for the images; else a temporary one")
    options = parser.parse_args(words)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="daskroi-zarr-"))
    folder.mkdir(parents=True, exist_ok=True)
    run = folder / f"bold{options.volumes}"
    images = [f"{run.name}.nii", f"{run.name}.nii.gz", "atlas400.nii.gz"]
    maker = Path(__file__).parent / "bench_data.py"
    shape = [str(n) for n in options.shape]
    subprocess.run([sys.executable, maker, folder, *images, "--shape", *shape], check=True)
    wanted = {k: v for k, v in CONVERSIONS.items() if k in (options.only or CONVERSIONS)}
    readable = (".nii.gz", ".nii", *wanted)
    sources = {name: s.format(run=run) for name, s in EXTRACTIONS.items() if name in readable}
    try:
        conversions = {
            name: CONVERT.format(
                source=source.format(run=run), target=target.format(run=run), options=how
            )
            for name, (source, target, how) in wanted.items()
        }
        times = measure(conversions, options.repeat)
        print("| conversion | s | MB |\n|---|---|---|")
        print(f"| (the .nii.gz) | | {size(Path(f'{run}.nii.gz')):.0f} |")
        for name, (_, target, _) in wanted.items():
            print(f"| {name} | {times[name]:.2f} | {size(Path(target.format(run=run))):.0f} |")
        extractions = {
            name: EXTRACT.format(
                source=source,
                atlas=str(folder / "atlas400.nii.gz"),
                out=str(folder / f"{i}.npy"),
            )
            for i, (name, source) in enumerate(sources.items())
        }
        times = measure(extractions, options.repeat)
        print("\n| extraction from | s | times as fast as .nii.gz |\n|---|---|---|")
        for name, own in times.items():
            print(f"| {name} | {own:.2f} | {times['.nii.gz'] / own:.2f} |")
        first = (folder / "0.npy").read_bytes()
        for i, name in enumerate(sources):
            if (folder / f"{i}.npy").read_bytes() != first:
                print(f"{name}: the numbers differ")
                return 2
        return int(times[".nii.gz"] / times["zarr"] < TARGET)
    finally:
        if options.keep is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
