"""After the runs: one table of all shards, and ``cohort.zarr``, from what is in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskroi.cohortzarr import NAME, CohortZarr, sole_writer
from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.runstable import merge_shards, read_runs
from daskroi.store import named_paths, results_of
from daskroi.targets import as_target
from daskroi.urls import shown

if TYPE_CHECKING:
    from daskroi.store import Written
    from daskroi.targets import Target

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
    >>> from daskroi import build_cohort_zarr
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
            f"{shown(str(folder))}: has no runs.tsv. Extract the runs first: daskroi bids ... "
            "participant."
        ) from None
    runs = table.loc[table["status"] != "failed", "run"].tolist()
    kinds = [frozenset(results_of(folder, run)) for run in runs]
    # what most runs have, of two that as many have the larger: an earlier cohort in the same
    # folder may have left results that new runs lack
    counts = Counter(kind for kind in kinds if kind)
    wanted = max(counts, key=lambda kind: (counts[kind], len(kind)), default=frozenset())
    if not wanted:
        raise DaskroiError(
            f"{shown(str(folder))}: has no results. See runs.tsv there for the reasons."
        )
    missing = []
    with sole_writer(folder):
        store = CohortZarr(folder)
        for run, there in zip(runs, kinds, strict=True):
            if wanted <= there:
                store.add(run, _paths(folder, run, wanted))
            else:
                missing.append(run)
        store.finish()
    failed = int((table["status"] == "failed").sum())
    return Built(folder / NAME, len(runs) - len(missing), failed, missing)


def _paths(out: Target, run: str, wanted: Collection[tuple[str, str]]) -> dict[str, Written]:
    """Results of a run by atlas, and by statistic where there are several."""
    *parents, prefix = run.split("/")
    several = Counter(atlas for atlas, _ in wanted)
    return {
        atlas if several[atlas] == 1 else f"{atlas}_{stat}": named_paths(
            out.joinpath(*parents), prefix, atlas, stat
        )
        for atlas, stat in sorted(wanted)
    }
