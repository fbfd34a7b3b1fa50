"""Runs one function on many inputs, each within bounds of time and memory, and judges what it did.

What an input may do: be accepted, or be refused by a `DaskroiError` of one line. Any other
exception, a warning that is not ours, a hang, a jump in memory is a finding.
"""

from __future__ import annotations

import hashlib
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzz.mutations import Mutate, of_bytes

from daskroi.errors import DaskroiError, DaskroiWarning

__all__ = [
    "Hang",
    "Planned",
    "Report",
    "Target",
    "Wrong",
    "input_of",
    "limit_memory",
    "one_input",
    "run_target",
]

# of the processor for one input, so that other programs do not matter; a good one takes 0.2 s,
# 3 s with imports. What waits for ever is ended by the limit of the test or of the child process
SECONDS = 10.0
JUMP = 256 << 20  # bytes by which one input may raise the peak of memory


class Hang(BaseException):
    """An input took too long; no ``except Exception`` may swallow it."""


class Wrong(AssertionError):
    """Accepted, but not what the oracle says, or refused in words that do not do."""


@dataclass(frozen=True)
class Target:
    """One function that takes bytes from outside.

    Parameters
    ----------
    name : str
    seeds : sequence of bytes
        Valid inputs, of which others are made.
    run : function
        Of the input; says in a word what became of it, or raises.
    mutate : function
        Of a random generator and an input.
    """

    name: str
    seeds: Sequence[bytes]
    run: Callable[[bytes], str | None]
    mutate: Mutate = of_bytes


@dataclass(frozen=True)
class Planned:
    """A target before it is made, which may take seconds.

    Parameters
    ----------
    name : str
    weight : float
        Share of the inputs that this target gets in a long run.
    make : function
        Of a folder of its own: valid inputs, function, and how inputs are changed.
    least : int
        Inputs of a short run, beside the valid ones.
    """

    name: str
    weight: float
    make: Callable[[Path], tuple[Sequence[bytes], Callable[[bytes], str | None], Mutate]]
    least: int = 20

    def target(self, folder: Path) -> Target:
        """Make it, in a folder in that folder."""
        own = folder / self.name
        own.mkdir()
        return Target(self.name, *self.make(own))


@dataclass
class Report:
    """What became of the inputs of one target."""

    name: str
    seed: int
    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[str, bytes] = field(default_factory=dict)
    slowest: tuple[float, bytes] = (0.0, b"")
    peak: int = 0
    seconds: float = 0.0
    messages: dict[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """One line for people."""
        counts = ", ".join(f"{n} {what}" for what, n in self.outcomes.most_common())
        return (
            f"{self.name}: seed {self.seed}, {self.inputs} inputs in {self.seconds:.0f} s; "
            f"{counts}; "
            f"slowest {self.slowest[0] * 1e3:.0f} ms, peak {self.peak >> 20} MiB, "
            f"{len(self.findings)} findings"
        )


def limit_memory(extra: int = 2 << 30) -> None:
    """From here on this process may take so many bytes of addresses more, and no more."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, resource.RLIM_INFINITY))


@contextmanager
def _watched(seconds: float) -> Any:
    def late(*_: object) -> None:
        raise Hang(f"more than {seconds:g} s of the processor")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def peak() -> int:
    """Most bytes of memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def one_input(target: Target, data: bytes, seconds: float = SECONDS) -> str:
    """What became of one input; raises what is a finding."""
    with warnings.catch_warnings(), _watched(seconds):
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DaskroiWarning)
        try:
            return target.run(data) or "accepted"
        except DaskroiError as error:
            said = str(error)
            if not said.isprintable():
                raise Wrong(f"message is not one printable line: {said[:300]!r}") from error
            if len(said) > 40_000:  # 5,000, each of which may be escaped
                raise Wrong(f"message has {len(said)} characters: {said[:300]!r}") from error
            return "refused"


def run_target(
    target: Target,
    seed: int,
    inputs: int,
    *,
    begin: int = 0,
    until: float = float("inf"),
    before: Callable[[int, bytes], Any] = lambda number, data: None,
) -> Report:
    """Run a target on inputs ``begin`` to ``inputs`` of a seed, or until some time.

    The n-th input depends on seed and n alone. ``before`` is told each one before it is run.
    """
    report = Report(target.name, seed)
    started = time.process_time()
    for number in range(begin, inputs):
        if time.time() > until:
            break
        data = input_of(target, seed, number)
        before(number, data)
        report.inputs += 1
        memory, at = peak(), time.process_time()
        try:
            outcome = one_input(target, data)
        except (Exception, Hang) as error:
            outcome = note(report, data, error)
        took = time.process_time() - at
        report.outcomes[outcome] += 1
        if took > report.slowest[0]:
            report.slowest = took, data
        report.peak = peak()
        if report.peak - memory > JUMP:
            report.findings[f"memory-{hashlib.sha256(data).hexdigest()[:12]}"] = data
    report.seconds = time.process_time() - started
    return report


def input_of(target: Target, seed: int, number: int) -> bytes:
    """The n-th input of a seed: the valid ones first."""
    if number < len(target.seeds):
        return target.seeds[number]
    rng = Random(f"{target.name} {seed} {number}")
    data = rng.choice(target.seeds)
    if len(target.seeds) > 1 and rng.random() < 0.05:  # half of one, half of another
        other = rng.choice(target.seeds)
        data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
    return target.mutate(rng, data)


def note(report: Report, data: bytes, error: BaseException) -> str:
    """Keep an input that broke something, one for each place in the code where it did."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/daskroi/" in f.filename] or frames[-1:]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    name = f"{type(error).__name__}-{where}".replace(":", "-")
    if name not in report.findings:
        report.findings[name] = data
        text = "".join(traceback.format_exception(error))
        report.messages[name] = text[-3000:]
    return f"FINDING {name}"
