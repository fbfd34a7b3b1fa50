"""``runs.tsv``: a row per run of a cohort, and what became of it.

Rows are kept in a file of SQLite's, not in memory: 100,000 runs are 30 MB. Every shard writes a
table of its own into ``logs/``; ``runs.tsv`` is all of them together.
"""

from __future__ import annotations

import io
import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from daskroi.errors import DaskroiError
from daskroi.outputs import NotWrittenError, write
from daskroi.partfiles import sweep
from daskroi.paths import printable
from daskroi.targets import exists, listed, read_text, remove
from daskroi.texttable import header_of
from daskroi.urls import shown

if TYPE_CHECKING:
    import pandas as pd

    from daskroi.outcome import Outcome
    from daskroi.targets import Target
    from daskroi.work import Job

__all__ = ["COLUMNS", "LOGS", "RunsTable", "read_runs", "shard_name"]

LOGS = "logs"
COLUMNS = (
    "run",
    "status",
    "reason",
    "seconds",
    "peak_memory_mb",
    "frames",
    "frames_kept",
    "regions_lost",
    "read_mb",
    "warnings",
    "image",
    "output",
)
STATUSES = ("ok", "skipped", "failed")


def shard_name(shard: tuple[int, int] | None) -> str:
    """Name of a shard's own table.

    Examples
    --------
    >>> shard_name((2, 16)), shard_name(None)
    ('logs/runs_shard-02of16.tsv', 'runs.tsv')
    """
    if shard is None:
        return "runs.tsv"
    number, count = shard
    return f"{LOGS}/runs_shard-{number:0{len(str(count))}}of{count}.tsv"


class RunsTable:
    """Rows as they come, in the order of runs when they are read.

    Parameters
    ----------
    out : Path or UPath
        Output folder.
    shard : (i, n) or None

    Examples
    --------
    >>> from daskroi.targets import as_target
    >>> from daskroi.work import Job
    >>> table = RunsTable(as_target("memory://table"))
    >>> table.add(Job(0, "sub-01_bold", "bold.nii"), "skipped")
    >>> table.publish()
    >>> read_runs(as_target("memory://table"))["status"].tolist()
    ['skipped']
    """

    def __init__(self, out: Target, shard: tuple[int, int] | None = None) -> None:
        self.out = out
        self.shard = shard
        self.counts = dict.fromkeys(STATUSES, 0)
        # "": a temporary file that the system removes with the process, however that ends
        self._rows = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._rows.execute("PRAGMA journal_mode=OFF")
        self._rows.execute("CREATE TABLE names (name TEXT PRIMARY KEY, image TEXT) WITHOUT ROWID")
        columns = ", ".join(f'"{c}"' for c in COLUMNS)
        self._rows.execute(f"CREATE TABLE runs (position INTEGER PRIMARY KEY, {columns})")
        # never committed: nobody else reads it, and 0.2 ms a row are saved
        self._rows.execute("BEGIN")
        self._has_earlier = False

    def claim(self, job: Job) -> None:
        """Have a name for this run alone.

        Raises
        ------
        DaskroiError
            Another run has it: the results of one would overwrite those of the other.
        """
        # one file where case does not count, and one way to write é, as on a Mac's disk
        key = unicodedata.normalize("NFC", job.name).casefold()
        image = printable(shown(job.image))
        try:
            self._rows.execute("INSERT INTO names VALUES (?, ?)", (key, image))
        except sqlite3.IntegrityError:
            [(other,)] = self._rows.execute("SELECT image FROM names WHERE name = ?", (key,))
            raise DaskroiError(
                f"{image}: its results would have the same names ({job.name}) as those "
                f"of {other}. Select one of them (space=, res=), or give names: a dict of "
                "name → image."
            ) from None

    def add(self, job: Job, status: str, outcome: Outcome | None = None, reason: str = "") -> None:
        """Note what became of a run."""
        self.counts[status] += 1
        row: list[Any] = [job.name, status, reason]
        if outcome is None:
            row += [None] * 7
        else:
            row[2] = reason or outcome.reason
            row += [round(outcome.seconds, 3), round(outcome.peak_bytes / 1e6)]
            done = outcome.status == "ok"
            row += [outcome.frames, outcome.kept, outcome.lost] if done else [None] * 3
            row += [round(outcome.read_bytes / 1e6, 3)] if done else [None]
            row += [" | ".join(outcome.warnings)]
        row += [shown(job.image), job.name.rpartition("/")[0] or "."]
        # a name on a disk may have bytes that are no text, which SQLite refuses
        row = [printable(" ".join(v.split())) if isinstance(v, str) else v for v in row]
        marks = ", ".join("?" * (len(COLUMNS) + 1))
        self._rows.execute(f"INSERT OR REPLACE INTO runs VALUES ({marks})", (job.position, *row))

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """All rows, by the position of the run."""
        names = ", ".join(f'"{c}"' for c in COLUMNS)
        yield from self._rows.execute(f"SELECT {names} FROM runs ORDER BY position")

    def publish(self, whole: bool = False) -> None:
        """Write the table, in one step. The cohort's, unless this is a shard.

        Parameters
        ----------
        whole : bool
            No run will follow. Otherwise those that were not looked at yet are kept as the table
            had them: interrupted, it would hold a few runs and say nothing of the others.

        Raises
        ------
        NotWrittenError
            It cannot be written.
        """
        path = self.out / shard_name(self.shard)
        rows = _as_text(self.rows())
        write(path, rows if whole else chain(rows, self._earlier(path)))

    def _earlier(self, path: Target) -> Iterator[str]:
        if not self._has_earlier:
            self._rows.execute("CREATE TABLE earlier (run TEXT PRIMARY KEY, text TEXT)")
            for name, text in _by_name(_texts([path]).values()).items():
                self._rows.execute("INSERT INTO earlier VALUES (?, ?)", (name, text))
            self._has_earlier = True
        rest = "SELECT text FROM earlier WHERE run NOT IN (SELECT run FROM runs)"
        yield from (f"{text}\n" for (text,) in self._rows.execute(rest))

    def finish(self) -> None:
        """Write the table, and put those of all shards together.

        Raises
        ------
        NotWrittenError
            It cannot be written.
        """
        self.publish(whole=True)
        if self.shard is None:
            for path in _shard_tables(self.out):
                remove(path)  # this table has all runs
            return
        count = self.shard[1]
        merge_shards(self.out, count)
        tables = _shard_tables(self.out, count)
        if len(tables) == count:
            # these have all runs: of another division, some may be gone from the cohort
            for path in set(_shard_tables(self.out)) - set(tables):
                remove(path)

    def close(self) -> None:
        """Forget the rows."""
        self._rows.close()


def merge_shards(out: Target, count: int | None = None) -> None:
    """Put the tables of all shards together, if there are any.

    Of a run that stands in several, because the cohort was divided otherwise before, the newest
    counts.

    Parameters
    ----------
    out : Path or UPath
    count : int, optional
        Of as many shards as this; any if not given.
    """
    before: Any = {}
    # another shard may end between our reading its table and our writing: look again
    while (tables := _texts(_shard_tables(out, count))) != before:
        before = tables
        write(out / "runs.tsv", _merged(tables.values()))


def read_runs(out: Target, name: str = "runs.tsv") -> pd.DataFrame:
    """The table of runs as it was last written.

    Raises
    ------
    FileNotFoundError
        There is none.
    DaskroiError
        It is damaged, or another program's.
    """
    import pandas as pd

    try:
        text = read_text(out / name)
    except UnicodeDecodeError as error:
        raise _no_table(out / name, str(error)) from error
    except DaskroiError as error:
        if isinstance(error.__cause__, IsADirectoryError):
            raise _no_table(out / name, "it is a folder") from error
        raise  # a server that is away, say: nothing is known of the table
    try:
        header_of(text, "\t")
        table = pd.read_csv(
            io.StringIO(text),
            sep="\t",
            na_values="n/a",
            keep_default_na=False,
            quoting=3,
            dtype={"run": str},
        )
        missing = [column for column in COLUMNS if column not in table]
    except ValueError as error:  # pandas' own
        raise _no_table(out / name, str(error)) from error
    if missing:
        raise _no_table(out / name, f"no column {missing[0]!r}")
    return table


def _no_table(path: Target, why: str) -> DaskroiError:
    return DaskroiError(
        f"{shown(str(path))}: is no table of runs ({' '.join(why.split())}). Extract the cohort "
        "again, which writes it anew; what is up to date is skipped."
    )


def sweep_tables(out: Target) -> None:
    """Remove what killed writers of tables and logs have left."""
    for folder in (out, out / LOGS):
        sweep(folder)


def _as_text(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    yield "\t".join(COLUMNS) + "\n"
    for row in rows:
        yield "\t".join(map(_cell, row)) + "\n"


def _cell(value: Any) -> str:
    # no tab, line break or quote is left to be quoted
    return " ".join(str(value).replace('"', "'").split()) if value not in (None, "") else "n/a"


def _shard_tables(out: Target, count: int | None = None) -> list[Target]:
    """Tables of shards, the oldest first."""
    pattern = rf"runs_shard-\d+of{count or '[0-9]+'}\.tsv"
    with suppress(OSError, DaskroiError):
        names = listed(out / LOGS) or ()
        found = [out / LOGS / name for name in names if re.fullmatch(pattern, name)]
        return sorted(found, key=lambda p: p.stat().st_mtime)
    return []


def _texts(paths: Iterable[Target]) -> dict[str, str]:
    found = {}
    for path in paths:
        with suppress(OSError, DaskroiError):
            found[path.name] = read_text(path)
    return found


def _by_name(tables: Iterable[str]) -> dict[str, str]:
    """Rows of tables by name of the run; of several the last one."""
    header = "\t".join(COLUMNS)
    return {
        row.partition("\t")[0]: row
        for text in tables
        if text.startswith(header)
        for row in text.removeprefix(header).splitlines()
        if row
    }


def _merged(tables: Iterable[str]) -> Iterator[str]:
    """A row per run, the last one there is, by name as people count: sub-2 before sub-10."""
    rows = _by_name(tables)
    yield "\t".join(COLUMNS) + "\n"
    for name in sorted(rows, key=lambda name: re.sub(r"\d+", lambda n: n[0].zfill(12), name)):
        yield rows[name] + "\n"


def log_of(out: Target, job: Job) -> Target:
    """Where the traceback of a run that failed goes."""
    *folders, prefix = job.name.split("/")
    # of names that a user gave, two may differ in the folder alone; BIDS repeats it in the name
    more = [f for f in folders if f != "func" and f not in prefix.split("_")]
    return out / LOGS / f"{'_'.join((*more, prefix))}_log.txt"


def write_log(out: Target, job: Job, outcome: Outcome) -> None:
    """Write why a run failed: reason, content key and traceback."""
    lines = [
        f"Run: {job.name}",
        f"Image: {printable(shown(job.image))}",
        f"Reason: {outcome.reason}",
        f"Key: {outcome.key or 'n/a'}",
    ]
    with suppress(NotWrittenError):
        write(log_of(out, job), "\n".join([*lines, "", outcome.trace.rstrip(), ""]))


def failed_before(out: Target, job: Job, key: str) -> str | None:
    """The reason, when a run has failed before with the same input; else None."""
    path = log_of(out, job)
    try:
        if not exists(path):
            return None
        said = dict(line.split(": ", 1) for line in read_text(path).splitlines()[:4])
    except (OSError, ValueError, DaskroiError):
        return None
    return said.get("Reason") if key and said.get("Key") == key else None


def forget_log(out: Target, job: Job) -> None:
    """Remove the log of a run that has succeeded."""
    with suppress(OSError, DaskroiError):
        remove(log_of(out, job))
