"""`find_runs`: a dataset of preprocessed runs, local or remote, as a table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from daskroi.bar import Bar
from daskroi.display import check_progress
from daskroi.entities import in_order
from daskroi.errors import DaskroiError, some, warn
from daskroi.listing import list_folder, local_or_url
from daskroi.paths import child_of, natural_key, printable, split_path
from daskroi.search import FILTERED, Found, as_images, beside, search
from daskroi.selection import Selection
from daskroi.urls import shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["describe_runs", "find_runs"]

FILES = ("image", "mask", "confounds", "sidecar")
# always there, so that what works on one dataset works on the next; others when a run has them
ALWAYS = ("subject", "session", "task", "acquisition", "run", "space", "resolution")


def find_runs(
    url: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    participant_label: Any = None,
    session_id: Any = None,
    task_id: Any = None,
    run_id: Any = None,
    space: Any = None,
    res: Any = None,
    bids_filter: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | Callable[[int], Any] | None = None,
    **entities: Any,
) -> pd.DataFrame:
    """Find the preprocessed runs of a dataset, each with its mask, confounds and sidecar.

    Only names are looked at, and only folders that may hold runs: 50,000 files take about a second.

    Parameters
    ----------
    url : str or Path, or list of them
        Folder of fMRIPrep's derivatives, or of any dataset with its names (also all in one
        folder, as nilearn's development_fmri): a path, or a URL of fsspec. Or images themselves,
        by any names: then all are taken, in the order given.
    participant_label, session_id, task_id, run_id, space, res : str, int or list, optional
        Labels to take, with or without ``sub-`` and the like; all if not given. ``"*"`` asks that
        there is one. Each space and resolution selected is a run of its own. Folders of other
        participants and sessions are not even listed.
    bids_filter : dict or path, optional
        Filter file as fMRIPrep has it, or what is in it: ``{"bold": {"task": ["rest"]}}``. null
        (None) asks that a name lacks the entity, ``"*"`` that it has it. Other entries than
        ``bold`` are for other files.
    storage_options : mapping, optional
        For fsspec: ``{"anon": True}`` for a public bucket.
    progress : bool or callable, optional
        Show how far it is, as `extract_cohort` does; not shown unless asked for. A function is
        called with the number of files seen instead, after each folder.
    **entities
        Any other entity by short or long name: ``acq="mb"``, ``direction=["AP", "PA"]``.
        ``desc`` is "preproc" unless given; ``echo`` takes single echoes.

    Returns
    -------
    pandas.DataFrame
        One row per image, in natural order. Columns ``image``, ``mask``, ``confounds``,
        ``sidecar``: absolute paths or URLs, None where there is none; then one per entity, by
        long name, in the order of BIDS: text as in the name, or None (``subject``, ``session``,
        ``task``, ``acquisition``, ``run``, ``space``, ``resolution`` always, others when a run has
        them); last ``problem``: what could not be paired and why, or None. A run with a problem
        can still be extracted, without the file it lacks. ``attrs["unpaired"]`` lists other files
        left over, as [file, reason]; ``attrs["ignored"]`` counts images that are not for us, by
        reason. `describe_runs` puts it in words.

    Raises
    ------
    DaskroiError
        Nothing found (the message says what is there instead), an entity that does not exist, a
        filter that cannot be read, a password in the URL.

    Warns
    -----
    DaskroiWarning
        Once, when runs lack a mask or confounds, files are left over, or labels match nothing.

    Examples
    --------
    >>> from daskroi import find_runs
    >>> import tempfile, pathlib
    >>> func = pathlib.Path(tempfile.mkdtemp()) / "sub-01" / "func"
    >>> func.mkdir(parents=True)
    >>> for end in ("space-T1w_desc-preproc_bold.nii.gz", "space-T1w_desc-brain_mask.nii.gz",
    ...             "desc-confounds_timeseries.tsv"):
    ...     _ = (func / f"sub-01_task-rest_{end}").write_bytes(b"")
    >>> runs = find_runs(func.parents[1], task="rest")
    >>> runs[["subject", "task", "space"]].values.tolist()
    [['01', 'rest', 'T1w']]
    """
    check_progress(progress)
    named = {
        "participant_label": participant_label,
        "session_id": session_id,
        "task_id": task_id,
        "run_id": run_id,
        "space": space,
        "res": res,
    }
    selection = Selection.of(named | entities, bids_filter, storage_options)
    images = as_images(url)
    if images is None:
        root = local_or_url(url)  # type: ignore[arg-type]
        with closing(Bar(f"Searching {shown(root)}", "files", progress)) as bar:
            found = search(root, selection, storage_options, bar.reach)
    else:
        found = beside(images, selection, storage_options)
    selection.check_entities(found.labels)
    if not found.runs:
        raise DaskroiError(_nothing(found, selection, storage_options))
    found.name_clashes()
    runs = _table(found)
    doubts = _doubts(runs, found, selection, alone=images is not None)
    if doubts:
        warn(f"{shown(found.where)}: {'; '.join(doubts)}. See describe_runs(runs).")
    return runs


def _table(found: Found) -> pd.DataFrame:
    import pandas as pd

    occurring = {entity for run in found.runs for entity in run.entities}
    columns = {name: [getattr(run, name) for run in found.runs] for name in FILES}
    columns |= {e: [r.entities.get(e) for r in found.runs] for e in in_order({*ALWAYS, *occurring})}
    columns["problem"] = ["; ".join(run.problems) or None for run in found.runs]
    # as objects, so that what is absent is None and not NaN
    runs = pd.DataFrame(columns, dtype=object)
    # lists and numbers only: pandas writes attrs as JSON, and copies them at every step
    runs.attrs["unpaired"] = [list(pair) for pair in found.unpaired]
    runs.attrs["ignored"] = {reason: n for reason, n in found.ignored.items() if n}
    return runs


def _nothing(found: Found, selection: Selection, options: Mapping[str, Any] | None) -> str:
    """Why no run was found, and what is there instead."""
    where = printable(shown(found.where))
    for condition in selection.conditions:
        labels = found.labels.get(condition.entity, Counter())
        if labels and not any(condition.holds(label) for label in (*labels, None)):
            known: list[str] = sorted(labels, key=natural_key)
            there = some(known)
            return f"{where}: no run has {condition}. There is: {there}."
    if found.ignored[FILTERED]:
        return f"{where}: no run meets {selection}. Leave out some of it."
    if found.raw:
        what = f"holds {found.raw} raw BOLD images and no preprocessed ones (desc-preproc)"
    else:
        what = "has no preprocessed BOLD images (..._desc-preproc_bold.nii.gz)"
        others = ", ".join(f"{n} {reason}" for reason, n in found.ignored.items() if n)
        what += f", only {others}" if others else ""
    if found.unlisted:
        what += f"; {found.unlisted} folders could not be listed"
    below = child_of(found.where, "derivatives")
    pipelines: list[str] = []
    if found.top is not None and "derivatives" in found.top.folders:
        pipelines = sorted(list_folder(below, options).folders, key=natural_key)
    remedy = "Give the folder with preprocessed data, as fMRIPrep writes it"
    if pipelines:
        remedy += f"; below {printable(shown(below))} there is: {some(pipelines)}"
    return f"{where}: {what}. {remedy}."


def _doubts(runs: pd.DataFrame, found: Found, selection: Selection, alone: bool) -> list[str]:
    """What a user must hear of, shortly."""
    doubts = []
    for name in ("mask", "confounds"):
        lacking = int(runs[name].isna().sum())
        # images given one by one may well come without
        if lacking and not (alone and lacking == len(runs)):
            doubts.append(f"{lacking} of {len(runs)} runs have no {name}")
    other = runs["problem"].str.contains(r"(?:^|; )(?:image|name|folder): ", na=False).sum()
    if other:
        doubts.append(f"{other} of {len(runs)} runs have another problem")
    if found.unlisted:
        doubts.append(f"{found.unlisted} folders could not be listed, so runs may be missing")
    if len(found.unpaired) > found.unlisted:
        doubts.append(f"{len(found.unpaired) - found.unlisted} files could not be used")
    for condition in selection.conditions:
        unmet = condition.unmet(found.labels.get(condition.entity, ()))
        if unmet:
            doubts.append(f"nothing is named {condition.asked}={some(unmet)}")
    return doubts


def describe_runs(runs: pd.DataFrame) -> str:
    """A table of runs in words: how many, in which spaces, and all that could not be paired.

    Parameters
    ----------
    runs : DataFrame
        From `find_runs`.

    Returns
    -------
    str
        Several lines. Each problem is told once, with the number of runs that have it and the
        first of them; files left over likewise.

    Raises
    ------
    DaskroiError
        Another table.

    Examples
    --------
    >>> from daskroi import describe_runs, find_runs
    >>> import tempfile, pathlib
    >>> func = pathlib.Path(tempfile.mkdtemp()) / "sub-01_task-rest_desc-preproc_bold.nii.gz"
    >>> _ = func.write_bytes(b"")
    >>> print(describe_runs(find_runs([func])))
    1 run of 1 subject; task rest (1); space none (1)
    1 run: no JSON sidecar, the header must tell the TR
    1 run: confounds: no ..._desc-confounds_timeseries.tsv of this run; first sub-01_task-rest...
    1 run: mask: no ..._desc-brain_mask.nii.gz in the run's own space; first sub-01_task-rest...
    """
    needed = ("image", "sidecar", "problem", "subject", "task", "space", "resolution")
    missing = [c for c in needed if c not in getattr(runs, "columns", ())]
    if missing:
        raise DaskroiError(f"runs has no column {missing[0]!r}. Give the table of find_runs.")
    lines = [_headline(runs)]
    bare = int(runs["sidecar"].isna().sum())
    if bare:
        lines.append(f"{_count(bare, 'run')}: no JSON sidecar, the header must tell the TR")
    told: dict[str, list[str]] = {}
    for image, problem in zip(runs["image"], runs["problem"], strict=True):
        for one in (problem or "").split("; ") if isinstance(problem, str) else ():
            told.setdefault(one, []).append(image)
    for problem, images in sorted(told.items()):
        first = printable(split_path(shown(images[0]))[1])
        lines.append(f"{_count(len(images), 'run')}: {problem}; first {first}")
    left: dict[str, list[str]] = {}
    for file, reason in runs.attrs.get("unpaired", ()):
        left.setdefault(reason, []).append(file)
    for reason, files in left.items():
        lines.append(f"{_count(len(files), 'file')}: {reason}; first {printable(shown(files[0]))}")
    lines += [f"{n} not used: {why}" for why, n in runs.attrs.get("ignored", {}).items()]
    return "\n".join(lines)


def _headline(runs: pd.DataFrame) -> str:
    parts = [_count(len(runs), "run")]
    subjects = runs["subject"].nunique()
    if subjects:
        parts[0] += f" of {_count(subjects, 'subject')}"
    for entity in ("task", "space", "resolution"):
        counts = Counter(v if isinstance(v, str) else "none" for v in runs[entity])
        if set(counts) != {"none"} or entity == "space":
            words = [f"{label} ({n})" for label, n in sorted(counts.items())]
            parts.append(f"{entity} {some(words)}")
    return "; ".join(parts)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
