"""Fuzz daskroi for long: ``python tests/fuzz/run.py --inputs 200000 --seed 1``.

Every target runs in a child process, so that what ends a process is found too. Inputs that broke
something are kept in ``--out``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.engine import Report, input_of, limit_memory, run_target
from fuzz.targets import TARGETS

MOST_ENDS = 20  # of the children of one target; then it is broken enough


def _child(name: str, seed: int, begin: int, inputs: int, seconds: float, out: Path) -> None:
    """Run one target here; its report goes to a file, and what it is at as well."""
    import faulthandler

    with tempfile.TemporaryDirectory(prefix="daskroi-fuzz-") as folder:
        target = TARGETS[name].target(Path(folder))
        limit_memory()
        at = (out / f"{name}.at").open("w")

        def before(number: int, data: bytes) -> None:
            at.seek(0)
            at.write(f"{number:<20}")
            at.flush()
            # a hang in C heeds no signal, and waiting takes no time of the processor
            faulthandler.dump_traceback_later(120, exit=True)

        report = run_target(
            target, seed, inputs, begin=begin, until=time.time() + seconds, before=before
        )
        faulthandler.cancel_dump_traceback_later()
        save(report, out)
        (out / f"{name}.at").unlink(missing_ok=True)


def save(report: Report, out: Path) -> None:
    """Inputs that broke something, with what was said, and the report."""
    for name, data in report.findings.items():
        stem = out / f"{report.name}--{name}"
        Path(f"{stem}.bin").write_bytes(data)
        Path(f"{stem}.txt").write_text(report.messages.get(name, ""), errors="backslashreplace")
    (out / f"{report.name}.slowest").write_bytes(report.slowest[1])
    counts = {"inputs": report.inputs, "findings": len(report.findings), "line": report.line()}
    (out / f"{report.name}.json").write_text(json.dumps(counts))


def _target(name: str, options: argparse.Namespace, inputs: int, seconds: float) -> tuple[int, int]:
    """Inputs that were run, and findings, of one target in as many children as it takes."""
    begin = ends = total = findings = 0
    stop = time.time() + seconds
    while begin < inputs and ends < MOST_ENDS and time.time() < stop:
        command = [sys.executable, __file__, "--child", name, "--begin", str(begin)]
        command += ["--inputs", str(inputs), "--seed", str(options.seed)]
        command += ["--seconds", str(stop - time.time()), "--out", str(options.out)]
        (options.out / f"{name}.json").unlink(missing_ok=True)
        (options.out / f"{name}.at").unlink(missing_ok=True)
        child = subprocess.run(command, check=False, capture_output=True)
        found = options.out / f"{name}.json"
        if child.returncode == 0 and found.exists():
            said = json.loads(found.read_text())
            print(said["line"], flush=True)
            return total + said["inputs"], findings + said["findings"]
        ends += 1
        at = options.out / f"{name}.at"
        if not at.exists():
            print(f"{name}: could not begin\n{child.stderr.decode()[-2000:]}", flush=True)
            return total, findings + 1
        number = int(at.read_text() or begin)
        total, begin, findings = total + number - begin + 1, number + 1, findings + 1
        print(f"{name}: input {number} ended the process with {child.returncode}", flush=True)
        (options.out / f"{name}--ended-{number}.txt").write_bytes(child.stderr[-5000:])
        with tempfile.TemporaryDirectory(prefix="daskroi-fuzz-") as folder:
            target = TARGETS[name].target(Path(folder))
            data = input_of(target, options.seed, number)
        (options.out / f"{name}--ended-{number}.bin").write_bytes(data)
    return total, findings


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=200_000, help="in all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for all targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", action="append", help="only these; may be repeated")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "daskroi-fuzz")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--begin", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.child:
        _child(
            options.child, options.seed, options.begin, options.inputs, options.seconds, options.out
        )
        return 0
    weights = {name: TARGETS[name].weight for name in options.target or TARGETS}
    whole = sum(weights.values())
    total = findings = 0
    for name, weight in weights.items():
        share = weight / whole
        done, found = _target(
            name, options, max(1, round(options.inputs * share)), options.seconds * share
        )
        total, findings = total + done, findings + found
    print(f"{total} inputs, {findings} findings, in {options.out}")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
