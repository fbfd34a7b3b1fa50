"""After the runs: one table of all shards, and ``cohort.zarr``, from what is in place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskroi.cohortzarr import NAME, CohortZarr
from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.outputs import as_target
from daskroi.runstable import merge_shards, read_runs
from daskroi.store import Written

if TYPE_CHECKING:
    from daskroi.outputs import Target

__all__ = ["Built", "build_cohort_zarr"]


@dataclass(frozen=True)
class Built:
    """What `build_cohort_zarr` has made.

    Parameters
    ----------
    store : Path or UPath
    runs : int
        Runs in it.
    failed : int
        Runs that are not, because they failed.
    missing : list of str
        Runs whose results are not all there.
    """

    store: Target
    runs: int
    failed: int
    missing: list[str]

    @property
    def exit_code(self) -> int:
        """0, or 1 when runs are not in it."""
        return int(bool(self.failed or self.missing))

    def describe(self) -> str:
        """In words."""
        lines = [f"{self.store}: {self.runs} runs"]
        if self.failed:
            lines.append(f"{self.failed} runs failed and are not in it; see runs.tsv")
        if self.missing:
            lines.append(
                f"{len(self.missing)} runs lack results and are not in it; first {self.missing[0]}"
            )
        return "\n".join(lines)


def build_cohort_zarr(out: Any, *, storage_options: Mapping[str, Any] | None = None) -> Built:
    """Put all runs of an output folder into its ``cohort.zarr``, by ``runs.tsv``.

    For what shards have written, which must not write one store together. Runs that are in it as
    they are in their tables are left as they are.

    Parameters
    ----------
    out : path or URL
        Output folder of `daskroi.extract_cohort`.
    storage_options : mapping, optional
        For a URL.

    Returns
    -------
    Built

    Raises
    ------
    DaskroiError
        No table of runs, no results, or runs with different regions.

    Examples
    --------
    >>> build_cohort_zarr("nowhere")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiNotFoundError: nowhere: has no runs.tsv. Extract the runs first: ...
    """
    folder = as_target(out, storage_options)
    merge_shards(folder)
    try:
        table = read_runs(folder)
    except FileNotFoundError:
        raise DaskroiNotFoundError(
            f"{folder}: has no runs.tsv. Extract the runs first: daskroi bids ... participant."
        ) from None
    store = CohortZarr(folder)
    names: list[str] | None = None
    missing = []
    count = 0
    for run in table.loc[table["status"] != "failed", "run"].tolist():
        paths = _results(folder, run)
        if names is None and paths:
            names = list(paths)
        if not paths or list(paths) != names:
            missing.append(run)
            continue
        store.add(run, paths)
        count += 1
    if names is None:
        raise DaskroiError(f"{folder}: has no results. See runs.tsv there for the reasons.")
    store.finish()
    return Built(folder / NAME, count, int((table["status"] == "failed").sum()), missing)


def _results(out: Target, run: str) -> dict[str, Written]:
    """Results of a run that are complete, by atlas, and by statistic where there are several."""
    *folders, prefix = run.split("/")
    folder = out.joinpath(*folders)
    pattern = rf"{re.escape(prefix)}_atlas-([A-Za-z0-9]+)_stat-([A-Za-z0-9_]+)_timeseries\.json"
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return {}
    found = [match for name in names if (match := re.fullmatch(pattern, name))]
    atlases = [match[1] for match in found]
    paths = {}
    for match in found:
        name = match[1] if atlases.count(match[1]) == 1 else f"{match[1]}_{match[2]}"
        base = f"{prefix}_atlas-{match[1]}_stat-"
        stem = f"{base}{match[2]}_timeseries"
        paths[name] = Written(
            folder / f"{stem}.tsv", folder / f"{base}coverage_bold.tsv", folder / f"{stem}.json"
        )
    return paths
