"""Reports of results on disk: of one run, of every run of a cohort, and a page that lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from daskroi.entities import atlas_label
from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.outputs import write
from daskroi.readback import read_timeseries
from daskroi.report import Report, report
from daskroi.reportpage import render
from daskroi.runstable import read_runs
from daskroi.sidecar import input_in, read_sidecar, told
from daskroi.store import results_of
from daskroi.targets import as_target, exists
from daskroi.urls import shown

if TYPE_CHECKING:
    import pandas as pd

    from daskroi.targets import Target

__all__ = ["cohort_index", "cohort_reports", "report_of_result", "report_path"]

SERIES, REPORT = "_timeseries.tsv", "_report.html"
INDEX = "index.html"
INDEX_TEMPLATE = "cohort.html.jinja"
# a browser takes a second to show this many; the others are in runs.tsv
MOST_ROWS = 5000
NUMBERS = ("frames", "frames_kept", "regions_lost", "seconds")


def report_path(result: Target) -> Target:
    """Where the report of a result goes: beside it.

    Examples
    --------
    >>> report_path(Path("out/sub-01_atlas-AAL_stat-mean_timeseries.tsv")).name
    'sub-01_atlas-AAL_stat-mean_report.html'
    """
    return result.with_name(result.name.removesuffix(".tsv").removesuffix("_timeseries") + REPORT)


def report_of_result(
    path: Any,
    *,
    atlas: Any = None,
    image: Any = None,
    confounds: Any = None,
    title: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Report:
    """Make the report of a result that ``daskroi extract`` or `extract_cohort` has written.

    Parameters
    ----------
    path : path or URL
        ``…_timeseries.tsv``, its JSON beside it.
    atlas, image, confounds : optional
        As in `daskroi.report`; where not given, the files that the JSON names, if they are there.
    title : str, optional
    storage_options : mapping, optional
        For fsspec, for all URLs.

    Raises
    ------
    DaskroiError
        No such result, or one that does not fit its JSON; as `daskroi.report` for what was given.

    Examples
    --------
    >>> report_of_result("nowhere_timeseries.tsv")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiNotFoundError: nowhere_timeseries.json: no such file. Check the path.
    """
    target = as_target(path, storage_options)
    load = _loader(storage_options)
    return _report_of(target, load, atlas, image, confounds, title, storage_options)


def _report_of(
    target: Target,
    load: Callable[[str, str | None], Any],
    atlas: Any = None,
    image: Any = None,
    confounds: Any = None,
    title: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Report:
    if not target.name.endswith(".tsv"):
        raise DaskroiError(f"{shown(str(target))}: is no result. Give a file named …{SERIES}.")
    sidecar = read_sidecar(target.with_suffix(".json"))
    ts = read_timeseries(target)
    notes: list[str] = []

    def found(role: str, given: Any, read: Any) -> Any:
        """What was given, or the file that the sidecar names: that may be gone by now."""
        if given is not None:
            return read(given)
        name = input_in(sidecar, role)
        if not name:
            return None
        try:
            return read(name)
        except (DaskroiError, OSError) as error:
            notes.append(f"Of the {role} nothing is shown: {error}")
            return None

    loaded = found("atlas", atlas, partial(_atlas, sidecar=sidecar, load=load))
    # read once here, so that what cannot be read is a note and not the end
    picture = found("image", image, partial(_picture, options=storage_options))
    table = found("confounds", confounds, partial(_confounds, options=storage_options))
    return report(
        ts,
        loaded,
        picture,
        confounds=table,
        n_frames=sidecar.get("NumberOfFrames"),
        title=title or target.name.removesuffix(SERIES),
        notes=notes,
        storage_options=storage_options,
    )


def _atlas(given: Any, sidecar: Mapping[str, Any], load: Callable[[str, str | None], Any]) -> Any:
    from daskroi.atlas import load_atlas

    if not isinstance(given, str | Path):
        return load_atlas(given)
    loaded = load(str(given), input_in(sidecar, "labels_table") or None)
    name = sidecar.get("Atlas", {}).get("Name")
    return load_atlas(loaded, name=name) if name else loaded


def _loader(options: Mapping[str, Any] | None) -> Callable[[str, str | None], Any]:
    """Loads atlases, each once: of a cohort's runs, all have the same."""
    from daskroi.atlas import load_atlas

    @lru_cache(maxsize=8)
    def load(path: str, table: str | None) -> Any:
        return load_atlas(path, table, storage_options=dict(options or {}))

    # a cache of this call's alone: the next one may find another file there
    return load


def _picture(given: Any, options: Mapping[str, Any] | None) -> Any:
    from daskroi.reportimage import read_picture

    return read_picture(given, options)


def _confounds(given: Any, options: Mapping[str, Any] | None) -> Any:
    from daskroi.report import read_confound_table

    return read_confound_table(given, options)


def cohort_reports(
    out: Any,
    *,
    atlases: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Iterator[Target]:
    """Write a report of every result of a cohort, and at last the page that lists them.

    Parameters
    ----------
    out : path or URL
        What was ``out`` of `daskroi.extract_cohort`.
    atlases : mapping of name to what `load_atlas` takes, optional
        For the slices, by the names in the names of files.
    overwrite : bool
        Make reports again that are newer than their result; at URLs, they are made in any case.
    storage_options : mapping, optional
        For fsspec, for all URLs.

    Yields
    ------
    Path or UPath
        Each page, when it is written: do not stop before the last.

    Raises
    ------
    DaskroiNotFoundError
        There is no ``runs.tsv``.
    DaskroiError
        A result or an atlas that cannot be read; a page that cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from daskroi import cohort_reports
    >>> import daskroi as dr, tempfile
    >>> from daskroi.batch import extract_cohort
    >>> folder = Path(tempfile.mkdtemp())
    >>> phantom = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> image = dr.write_phantom(folder / "in", phantom)["image"]
    >>> done = extract_cohort([image], phantom.atlas, folder / "out", mask=None, progress=False)
    >>> for path in cohort_reports(folder / "out", atlases={"Phantom": phantom.atlas}):
    ...     print(path.name)
    sub-01_task-rest_space-MNI152NLin6Asym_atlas-Phantom_stat-mean_report.html
    index.html
    """
    folder = as_target(out, storage_options)
    table = _runs(folder)
    given = {atlas_label(name): atlas for name, atlas in (atlases or {}).items()}
    there = {run: results_of(folder, run) for run in table["run"]}
    names = {name for found in there.values() for name, _ in found}
    if unknown := sorted(set(given) - names):
        raise DaskroiError(
            f"{shown(str(folder))}: has no results of an atlas {unknown[0]!r}. There is: "
            f"{', '.join(sorted(names)) or 'none'}."
        )
    load = _loader(storage_options)
    for found in there.values():
        for (name, _), series in found.items():
            path = report_path(series.timeseries)
            if not overwrite and _is_newer(path, series.sidecar):
                continue
            made = _report_of(
                series.timeseries, load, given.get(name), storage_options=storage_options
            )
            write(path, made.html)
            yield path
    yield cohort_index(folder)


def _is_newer(path: Target, than: Target) -> bool:
    try:
        return isinstance(path, Path) and path.stat().st_mtime >= than.stat().st_mtime
    except OSError:
        return False


def _runs(folder: Target) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    try:
        table = read_runs(folder)
    except FileNotFoundError:
        raise DaskroiNotFoundError(
            f"{shown(str(folder / 'runs.tsv'))}: no such file, so this is not the output of a "
            "cohort. Give the output folder of daskroi bids, or an image or a result."
        ) from None
    # a table that somebody has edited
    numbers = table[list(NUMBERS)].apply(pd.to_numeric, errors="coerce")
    return table.assign(**numbers.where(np.isfinite(numbers)))


def cohort_index(out: Any, *, storage_options: Mapping[str, Any] | None = None) -> Target:
    """Write the page that lists a cohort's runs, with links to the reports there are.

    Parameters
    ----------
    out : path or URL
        What was ``out`` of `daskroi.extract_cohort`; ``index.html`` is written there.
    storage_options : mapping, optional
        For fsspec, for a URL.

    Returns
    -------
    Path or UPath
        Of the page. It opens offline and makes no request; links are relative.

    Raises
    ------
    DaskroiNotFoundError
        There is no ``runs.tsv``.
    DaskroiError
        It cannot be written.

    Notes
    -----
    Of more than 5,000 runs, those that failed come first and the rest are counted.

    Examples
    --------
    >>> from daskroi import cohort_index
    >>> cohort_index("nowhere")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiNotFoundError: nowhere/runs.tsv: no such file, so ...
    """
    folder = as_target(out, storage_options)
    table = _runs(folder)
    counts = table["status"].value_counts()
    failed = table["status"] == "failed"
    order = failed.sort_values(ascending=False, kind="stable").index
    listed = table if len(table) <= MOST_ROWS else table.loc[order]
    rows = [_row(folder, row) for row in listed.head(MOST_ROWS).to_dict("records")]
    facts = {"runs": str(len(table))} | {str(k): str(n) for k, n in counts.items()}
    if table["seconds"].notna().any():
        facts["seconds per run"] = f"{table['seconds'].median():.1f}"
    html = render(
        INDEX_TEMPLATE,
        title=f"Runs of {folder.name or 'the cohort'}",
        facts=facts,
        rows=rows,
        hidden=len(table) - len(rows),
    )
    write(folder / INDEX, html)
    return folder / INDEX


def _row(folder: Target, row: Mapping[Any, Any]) -> dict[str, Any]:
    """What stands in the row of a run."""
    run = str(row["run"])
    lowest: tuple[float, str] | None = None
    links, kept, frames = [], _whole(row["frames_kept"]), _whole(row["frames"])
    for (atlas, _), series in results_of(folder, run).items():
        with suppress(DaskroiError, KeyError, TypeError, ValueError):
            of = told(read_sidecar(series.sidecar))
            least = (of.lowest, of.where)
            lowest = least if lowest is None else min(lowest, least)
            frames, kept = of.frames, of.kept
        page = report_path(series.timeseries)
        parts = [*run.split("/")[:-1], page.name]
        links.append((atlas, "./" + "/".join(map(quote, parts)) if exists(page) else ""))
    return {
        "run": run,
        "status": _text(row["status"]),
        "links": links,
        "frames": frames,
        "kept": kept,
        "lost": _whole(row["regions_lost"]),
        "lowest": None if lowest is None else f"{lowest[0]:.2f}",
        "where": "" if lowest is None or lowest[0] >= 0.995 else lowest[1],
        "seconds": None if row["seconds"] != row["seconds"] else round(row["seconds"], 1),
        "said": " ".join(filter(None, (_text(row["reason"]), _text(row["warnings"])))),
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: float) -> int | None:
    return None if value != value else int(value)
