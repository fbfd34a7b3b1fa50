"""Measure daskroi against nilearn, process against process. One command:

    python tests/benchmarks/run.py

Makes large images once (6.6 GB in a temporary folder, or in ``--keep DIR`` to have them next time),
then for every case starts a fresh process for daskroi, one for the other, and again, and prints a
table of medians: wall seconds and peak memory of the whole process, imports included. Files are
read once before, so that both find them in the page cache.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # its siblings, also when a test imports this file

from bench_cases import CASES, Case, Program  # noqa: E402

COLUMNS = (
    "case", "against", "daskroi s", "its s", "ratio", "daskroi MB", "its MB", "memory",
    "difference", "target", "reached",
)  # fmt: skip
SAME = 1e-4  # what float32 images leave of agreement, relative to the largest value


@dataclass(frozen=True)
class Measured:
    """One process: wall seconds, peak resident memory in MB, and why it failed if it did."""

    seconds: float
    megabytes: float
    error: str = ""


def measure(code: str, timeout: float) -> Measured:
    """Run a program in a fresh interpreter.

    On Linux a child starts with its parent's peak memory, so this process must stay smaller than
    what it measures: images are made and results compared elsewhere or late.
    """
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]).strip(":")
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryFile("w+") as stderr:
        start = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=empty,  # nothing there that could be imported by mistake
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=os.environ | {"PYTHONPATH": path},
        )
        timer = threading.Timer(timeout, os.kill, (child.pid, 9))
        timer.start()
        _, status, usage = os.wait4(child.pid, 0)
        timer.cancel()
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        lines = stderr.read().split("\n")
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    error = ""
    if child.returncode == -9:
        error = f"killed after {seconds:.0f} s: out of memory, or of the {timeout:.0f} s it had"
    elif child.returncode:
        error = next((line for line in reversed(lines) if line.strip()), f"{child.returncode}")
    return Measured(seconds, kilobytes * 1024 / 1e6, error)


def median(runs: list[Measured]) -> Measured:
    """Median of each number; the first error, if any."""
    return Measured(
        statistics.median(r.seconds for r in runs),
        statistics.median(r.megabytes for r in runs),
        next((r.error for r in runs if r.error), ""),
    )


def difference(one: Path, two: Path) -> float:
    """Largest difference of two saved results, relative to the largest value.

    The sign of a component of `high_variance_confounds` is free, so columns may be flipped.
    """
    import numpy as np

    a, b = np.load(one), np.load(two)
    if a.shape != b.shape:
        return float("inf")
    flip = np.where((a * b).sum(axis=0) < 0, -1, 1)
    return float(np.abs(a - flip * b).max() / np.abs(b).max())


@dataclass(frozen=True)
class Bench:
    """Where files are and how often everything is done."""

    folder: Path
    volumes: tuple[int, int]
    shape: tuple[int, int, int]
    repeat: int
    quick: bool
    timeout: float

    def name(self, text: str) -> str:
        short, long = map(str, self.volumes)
        return text.replace("<short>", short).replace("<long>", long)

    def fill(self, program: Program, out: Path) -> str:
        files = {k: repr(str(self.folder / self.name(v))) for k, v in program.files.items()}
        return program.code.format(**files, out=repr(str(out)))

    def make(self, cases: list[Case]) -> None:
        """Make the files the cases need, and read them once."""
        programs = [p for case in cases for p in (case.ours, *case.others)]
        names = sorted({self.name(f) for p in programs for f in p.files.values()})
        command = [sys.executable, HERE / "bench_data.py", self.folder, *names, "--shape"]
        subprocess.run([*map(str, command), *map(str, self.shape)], check=True)
        for name in names:
            path = self.folder / name
            for part in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if part.is_file():
                    with part.open("rb") as file:
                        while file.read(1 << 22):
                            pass

    def run(self, case: Case) -> list[tuple[str, ...]]:
        """Measure one case: A B A B …; a row for each of the others."""
        with tempfile.TemporaryDirectory() as scratch:
            programs = [case.ours, *case.others]
            outs = [Path(scratch, f"{i}.npy") for i in range(len(programs))]
            runs: list[list[Measured]] = [[] for _ in programs]
            for turn in range(self.repeat):
                for program, out, done in zip(programs, outs, runs, strict=True):
                    once = self.quick and program.who == "nilearn" and turn > 0
                    if once or (done and done[0].error):
                        continue
                    if program.needs and not importlib.util.find_spec(program.needs):
                        done.append(Measured(0, 0, f"{program.needs} is not installed"))
                        continue
                    done.append(measure(self.fill(program, out), self.timeout))
            rows = []
            for i, other in enumerate(case.others, start=1):
                apart = None
                if case.compare and outs[0].exists() and outs[i].exists():
                    apart = difference(outs[0], outs[i])
                rows.append(self.row(case, other, median(runs[0]), median(runs[i]), apart, i == 1))
        return rows

    def row(
        self, case: Case, other: Program, a: Measured, b: Measured, apart: float | None, held: bool
    ) -> tuple[str, ...]:
        """One row of the table; ``held`` says whether the case's target is for this one."""
        title, who = self.name(case.title), self.name(other.who)
        target = case.target if held else ""
        if a.error or b.error:
            culprit = f"daskroi: {a.error}" if a.error else f"{who}: {b.error}"
            return (title, who, *([""] * 7), target, f"failed: {culprit[:160]}")
        ratio, memory = b.seconds / a.seconds, a.megabytes / b.megabytes
        shown = f"{ratio:.1f}× faster" if case.slower is None else f"{1 / ratio:.2f}× its time"
        misses = [
            word
            for word, missed in (
                ("speed", case.faster is not None and ratio < case.faster),
                ("speed", case.slower is not None and 1 / ratio > case.slower),
                ("memory", case.memory is not None and memory > case.memory),
                ("numbers differ", apart is not None and not apart <= SAME),
            )
            if missed
        ]
        reached = (f"no: {', '.join(misses)}" if misses else "yes") if held else ""
        return (
            title, who, f"{a.seconds:.2f}", f"{b.seconds:.2f}", shown,
            f"{a.megabytes:.0f}", f"{b.megabytes:.0f}", f"{memory:.0%}",
            "" if apart is None else f"{apart:.0e}", target, reached,
        )  # fmt: skip


def about(bench: Bench) -> str:
    """What was measured, where: a table of seconds means nothing without it."""
    found = [n for n in ("nilearn", "numpy", "scipy", "isal", "rapidgzip", "nibabel")
             if importlib.util.find_spec(n)]  # fmt: skip
    size = "×".join(map(str, bench.shape))
    times = f"medians of {bench.repeat}" + (", nilearn once" if bench.quick else "")
    return (
        f"{size} voxels, {bench.volumes[0]} and {bench.volumes[1]} volumes, a quarter of the "
        f"voxels not 0, .nii.gz written by isal at level 2. {os.cpu_count()} CPUs, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"{', '.join(f'{n} {version(n)}' for n in found)}. Whole processes, {times}."
    )


def show(rows: list[tuple[str, ...]], markdown: bool) -> None:
    """Print the table, for a terminal or as GitHub Markdown."""
    if markdown:
        for line in (COLUMNS, ["---"] * len(COLUMNS), *rows):
            print("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row)
    # piped output would be cut to 80 columns
    Console(width=None if sys.stdout.isatty() else 220).print(table)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; 1 when a process failed. Missing a target is no failure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    keys = [case.key for case in CASES]
    parser.add_argument("--only", nargs="+", choices=keys, default=keys, metavar="CASE",
                        help=f"of {', '.join(keys)}")  # fmt: skip
    parser.add_argument("--repeat", type=int, default=3, help="processes of each (default 3)")
    parser.add_argument("--quick", action="store_true", help="nilearn only once each")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where images stay for next time")
    parser.add_argument("--markdown", action="store_true", help="print a GitHub table")
    parser.add_argument("--shape", type=int, nargs=3, default=(91, 109, 91), metavar="N",
                        help="voxels along z, y, x")  # fmt: skip
    parser.add_argument("--volumes", type=int, nargs=2, default=(300, 1200), metavar="N")
    parser.add_argument("--timeout", type=float, default=1200, help="seconds for one process")
    options = parser.parse_args(argv)
    cases = [case for case in CASES if case.key in options.only]

    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).resolve()
        # other code makes other images: never measure on those of an older version
        recipe = hashlib.sha256((HERE / "bench_data.py").read_bytes()).hexdigest()[:8]
        folder = folder / ("x".join(map(str, options.shape)) + f"-{recipe}")
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder, tuple(options.volumes), tuple(options.shape), options.repeat,
                      options.quick, options.timeout)  # fmt: skip
        print(f"Images in {folder} …", file=sys.stderr)
        bench.make(cases)
        rows = []
        for case in cases:
            print(f"{bench.name(case.title)} …", file=sys.stderr)
            rows += bench.run(case)
    print(about(bench), end="\n\n")
    show(rows, options.markdown)
    return int(any("failed" in row[-1] and "not installed" not in row[-1] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
