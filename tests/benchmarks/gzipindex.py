"""What random access into a .nii.gz costs: making the index, one late volume, long stretches.

    python tests/benchmarks/gzipindex.py [FOLDER]

A process for each case. Other libraries are measured when they are installed: rapidgzip's own
reader (on one thread and on two) and indexed_gzip. FOLDER is where the image is made, or is
already; by default a temporary one, which takes 0.3 GB.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

CASES = ("daskroi", "rapidgzip 1", "rapidgzip 2", "indexed_gzip")
HEADER = 352


def peak() -> float:
    """Most memory of this process or of one it has started, in MB."""
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in both) / 1024


def clock(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came out."""
    start = time.perf_counter()
    found = action()
    return time.perf_counter() - start, found


def daskroi_index(image: Path, index: Path) -> None:
    """Into the cache; ``index`` is a link to it, for its size."""
    from daskroi.gzipindex import ensure_index

    os.environ["DASKROI_CACHE"] = str(index.parent)
    made = ensure_index(str(image), lambda: image.open("rb", buffering=0), str(image))
    index.unlink(missing_ok=True)
    index.symlink_to(made)


def daskroi_reader(image: Path, index: Path) -> IO[bytes]:
    """From the cache."""
    from daskroi.gzipindex import find_index, open_indexed

    os.environ["DASKROI_CACHE"] = str(index.parent)
    assert find_index(str(image))
    return open_indexed(str(image), lambda: image.open("rb", buffering=0))  # type: ignore[return-value]


def rapidgzip_index(image: Path, index: Path, threads: int) -> None:
    """Only its index: no checksum of ours."""
    import rapidgzip

    with rapidgzip.open(str(image), parallelization=threads) as file:
        file.export_index(str(index))


def rapidgzip_reader(image: Path, index: Path, threads: int) -> IO[bytes]:
    """With its index."""
    import rapidgzip

    file = rapidgzip.open(str(image), parallelization=threads)
    file.import_index(str(index))
    return file


def indexed_gzip_index(image: Path, index: Path) -> None:
    """Its default spacing of 4 MiB."""
    import indexed_gzip

    with indexed_gzip.IndexedGzipFile(str(image)) as file:
        file.build_full_index()
        file.export_index(str(index))


def indexed_gzip_reader(image: Path, index: Path) -> IO[bytes]:
    """With its index."""
    import indexed_gzip

    return indexed_gzip.IndexedGzipFile(str(image), index_file=str(index))  # type: ignore[no-any-return]


def fill(file: IO[bytes], offset: int, count: int) -> bytearray:
    """Bytes at an offset, however many reads it takes."""
    out = bytearray(count)
    view, got = memoryview(out), 0
    file.seek(offset)
    while got < count and (n := file.readinto(view[got:])):  # type: ignore[attr-defined]
        got += n
    assert got == count
    return out


def importing(case: str) -> float:
    """Seconds for importing what a case needs."""
    names = {
        "daskroi": ("daskroi.gzipindex", "isal.igzip_lib", "isal.isal_zlib"),
        "rapidgzip": ("rapidgzip",),
        "indexed_gzip": ("indexed_gzip",),
    }[case.split()[0]]
    return clock(lambda: [importlib.import_module(n) for n in names])[0]


def measure(case: str, part: str, image: Path, index: Path, volume: int, n_time: int) -> str:
    """One line about one case."""
    library, *threads = case.split()
    arguments = (image, index, *map(int, threads))
    loading = importing(case)
    if part == "index":
        seconds, _ = clock(lambda: globals()[f"{library}_index"](*arguments))
        size = index.stat().st_size / 1e6
        return f"index made in {seconds:.2f} s, {size:.2f} MB, peak {peak():.0f} MB"
    late = HEADER + (n_time - 2) * volume
    opening, file = clock(lambda: globals()[f"{library}_reader"](*arguments))
    with file:
        first, _ = clock(lambda: fill(file, late, volume))
        places = [HEADER + (n_time * k // 7) * volume for k in (3, 1, 5, 2, 6, 4)]
        others = sorted(clock(lambda p=p: fill(file, p, volume))[0] for p in places)
        memory = peak()
        start = HEADER + n_time // 3 * volume
        stretch, _ = clock(
            lambda: [fill(file, start + i * volume, volume) for i in range(n_time // 3)]
        )
    speed = n_time // 3 * volume / stretch / 1e9
    return (
        f"late volume {1e3 * (opening + first):.1f} ms with opening (importing {1e3 * loading:.0f} "
        f"ms), others {1e3 * others[len(others) // 2]:.1f} ms, peak {memory:.0f} MB; "
        f"a third in order {speed:.2f} GB/s"
    )


def main() -> None:
    """Make the image, then run every case in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--shape", type=int, nargs=3, default=(91, 109, 91))
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    x, y, z = options.shape
    volume = 4 * x * y * z
    if options.case:
        case, part = options.case
        image = options.folder / f"bold{options.frames}.nii.gz"
        index = options.folder / (case.replace(" ", "") + ".index")
        print(f"{case}: {measure(case, part, image, index, volume, options.frames)}")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        shape = [str(n) for n in options.shape]
        subprocess.run(
            [sys.executable, Path(__file__).with_name("bench_data.py"), folder,
             f"bold{options.frames}.nii.gz", "--shape", *shape],
            check=True, timeout=1200,
        )  # fmt: skip
        for case in CASES:
            if importlib.util.find_spec(case.split()[0]) is None:
                print(f"{case}: not installed")
                continue
            for part in ("index", "read"):
                subprocess.run(
                    [sys.executable, __file__, folder, "--frames", str(options.frames),
                     "--shape", *shape, "--case", case, part],
                    check=True, timeout=1200,
                )  # fmt: skip


if __name__ == "__main__":
    main()
