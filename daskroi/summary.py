"""What became of a cohort, in a line, as a table, and as an exit code."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from daskroi.runstable import read_runs, shard_name

if TYPE_CHECKING:
    import pandas as pd

    from daskroi.targets import Target

__all__ = ["Summary"]


@dataclass(frozen=True, repr=False)
class Summary:
    """What `daskroi.extract_cohort` has done.

    Parameters
    ----------
    out : Path or UPath
    done, skipped, failed : int
        Runs that were extracted, were up to date, could not be extracted.
    seconds : float
    read_bytes : int
        Of the images, as they are stored.
    changed : dict of str to int
        Runs that were made again, by what had changed.
    shard : (i, n) or None
    """

    out: Target
    done: int
    skipped: int
    failed: int
    seconds: float
    read_bytes: int = 0
    changed: dict[str, int] = field(default_factory=dict)
    shard: tuple[int, int] | None = None

    @property
    def total(self) -> int:
        """All runs that were looked at."""
        return self.done + self.skipped + self.failed

    @property
    def exit_code(self) -> int:
        """0, or 1 when a run has failed."""
        return int(self.failed > 0)

    @property
    def runs(self) -> pd.DataFrame:
        """The table of runs, read from where it was written; of a shard, its own."""
        return read_runs(self.out, shard_name(self.shard))

    def describe(self) -> str:
        """In words, a line each."""
        lines = [f"{self._counts()} in {self.seconds:.1f} s"]
        if self.read_bytes:
            speed = self.read_bytes / max(self.seconds, 1e-9) / 1e6
            lines[0] += f"; {self.read_bytes / 1e6:.0f} MB read, {speed:.0f} MB/s"
        lines += [f"{n} runs: {what}" for what, n in self.changed.items()]
        lines.append(f"Table of runs: {self.out / shard_name(self.shard)}")
        if self.failed:
            lines.append(f"Tracebacks: {self.out / 'logs'}")
        return "\n".join(lines)

    def _counts(self) -> str:
        counts = [(self.done, "done"), (self.skipped, "skipped"), (self.failed, "failed")]
        parts = [f"{n} {what}" for n, what in counts if n]
        return f"{self.total} run{'' if self.total == 1 else 's'}: {', '.join(parts) or 'none'}"

    def __repr__(self) -> str:
        return f"<Summary: {self._counts()}>"

    def _repr_html_(self) -> str:
        return f"<b>Cohort</b>: {escape(self.describe()).replace(chr(10), '<br>')}"
