"""From what a user calls runs (a table, paths, names) to jobs, one by one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daskroi.entities import DEVICES, ENTITIES, plain_name
from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.places import output_prefixes
from daskroi.urls import located, shown
from daskroi.work import Job

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["jobs_of", "parse_shard"]

FILES = ("image", "mask", "confounds", "sidecar")


def jobs_of(runs: Any) -> tuple[Iterator[Job], int | None]:
    """Jobs, lazily, and how many there are if that is known.

    Parameters
    ----------
    runs : DataFrame, path, dict of name → path, or iterable of paths or of mappings
        A DataFrame or mappings as `daskroi.find_runs` gives them: ``image``, and where there are
        ``mask``, ``confounds``, ``sidecar`` and entities. An iterator is used up as runs are done.

    Raises
    ------
    DaskroiError
        No ``image``.
    DaskroiTypeError
        Something else.

    Examples
    --------
    >>> jobs, count = jobs_of(["/data/sub-01_task-rest_desc-preproc_bold.nii.gz"])
    >>> next(jobs).name, count
    ('sub-01/func/sub-01_task-rest', 1)
    """
    rows, total = _rows(runs)
    return (_job(i, row) for i, row in enumerate(rows)), total


def _rows(runs: Any) -> tuple[Iterable[Any], int | None]:
    if isinstance(runs, str | os.PathLike):
        return [runs], 1
    if hasattr(runs, "columns") and hasattr(runs, "itertuples"):
        if "image" not in runs.columns:
            raise DaskroiError(
                f"runs has no column 'image', only {', '.join(map(repr, runs.columns))}. "
                "Give the table of find_runs, or one like it."
            )
        return _of_table(runs), len(runs)
    if isinstance(runs, Mapping):
        return [{"image": image, "name": name} for name, image in runs.items()], len(runs)
    if isinstance(runs, Sequence):
        if all(isinstance(run, str | os.PathLike) for run in runs):
            images = [_file(run) or "" for run in runs]
            names = output_prefixes(_table(images))
            return [{"image": i, "name": n} for i, n in zip(images, names, strict=True)], len(runs)
        return runs, len(runs)
    if isinstance(runs, Iterable):
        return runs, None
    raise DaskroiTypeError(
        f"runs={type(runs).__name__} is no table of runs. Give what find_runs returns, or images."
    )


def _table(images: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"image": [shown(image) for image in images]}, dtype=object)


def _of_table(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    # row by row: records of 100,000 runs at once would be 200 MB
    columns = list(runs.columns)
    names = runs["name"] if "name" in runs else output_prefixes(runs)
    for name, values in zip(names, runs.itertuples(index=False, name=None), strict=True):
        yield dict(zip(columns, values, strict=True)) | {"name": name}


def _job(position: int, row: Any) -> Job:
    if isinstance(row, Job):
        return row
    given = row if isinstance(row, Mapping) else {"image": row}
    files = {name: _file(given.get(name)) for name in FILES}
    image = files.pop("image")
    if image is None:
        raise DaskroiError(f"runs: run {position} has no image. Leave it out.")
    entities = tuple((e, str(given[e])) for e in ENTITIES if _there(given.get(e)))
    name = given.get("name")
    if name is None:
        [name] = output_prefixes(_table([image]))
    *folders, prefix = str(name).split("/")
    name = "/".join([*map(_safe, folders), _safe(prefix, "_")])
    return Job(position, name, image, **files, entities=entities)


def _file(value: Any) -> str | None:
    if not _there(value):
        return None
    if not isinstance(value, str | os.PathLike):
        raise DaskroiTypeError(
            f"runs: {type(value).__name__} is no path. A cohort is of files or URLs; for an image "
            "in memory there is extract."
        )
    return located(value)


def _there(value: Any) -> bool:
    if isinstance(value, str):
        return value != ""
    # None, or the NaN or NA that some pandas operations make of it
    return value is not None and type(value).__name__ != "NAType" and not _is_nan(value)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


def _safe(name: str, followed_by: str = "") -> str:
    text = plain_name(name)
    if not text:
        raise DaskroiError(f"runs: name {name!r} cannot name files. Use letters and digits.")
    # what results of a run "con" are called, con_atlas-…, is not among them
    if DEVICES.match(text + followed_by):
        raise DaskroiError(
            f"runs: name {name!r} is a device's on Windows, where no file can have it. Use another."
        )
    return text


def parse_shard(shard: Any) -> tuple[int, int] | None:
    """A shard as ``(i, n)``, counted from 1; from "i/n" too.

    Raises
    ------
    DaskroiError
        Something else.

    Examples
    --------
    >>> parse_shard("2/16")
    (2, 16)
    >>> parse_shard((0, 4))
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: shard=(0, 4): shards count from 1. Use 1/4 to 4/4 (SLURM: ...
    """
    if shard is None:
        return None
    try:
        number, count = shard.split("/") if isinstance(shard, str) else shard
        number, count = int(number), int(count)
    except (TypeError, ValueError, AttributeError):
        raise DaskroiError(f"shard={shard!r} is no shard. Use i/n, for example 1/4.") from None
    if not 1 <= number <= count:
        raise DaskroiError(
            f"shard={shard!r}: shards count from 1. Use 1/{count} to {count}/{count} "
            f"(SLURM: --array=1-{count})."
        )
    return number, count
