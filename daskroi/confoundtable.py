"""fMRIPrep's table of confounds and the JSON file beside it: reading, and finding columns."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.bytesource import ByteSource
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError, warn
from daskroi.strategies import Columns, ConfoundRecipe

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MEASURES", "choose_columns", "numbers", "read_json", "read_table"]

# of fMRIPrep 1.0 and 1.1
OLD_COLUMNS = frozenset(
    ("FramewiseDisplacement", "GlobalSignal", "WhiteMatter", "stdDVARS", "RotX", "aCompCor00")
)
# what fMRIPrep calls its measures of motion
MEASURES = (("fd_threshold", "framewise_displacement"), ("std_dvars_threshold", "std_dvars"))


def read_table(
    path: str | os.PathLike[str], storage_options: dict[str, Any] | None
) -> tuple[str, pd.DataFrame]:
    import pandas as pd

    source = _source(path, storage_options)
    shown = source.url
    try:
        with source.open() as file:
            table = pd.read_csv(file, sep="\t")
    except ValueError as error:  # of pandas, or of UTF-8
        if isinstance(error, DaskroiError):
            raise
        reason = str(error).strip().splitlines()[-1]
        raise DaskroiError(
            f"{shown}: not a table of confounds ({reason}). Give fMRIPrep's "
            "..._desc-confounds_timeseries.tsv."
        ) from error
    if table.empty:
        raise DaskroiError(f"{shown}: the table has a header and no rows. Write it again.")
    try:
        float(table.columns[0])
    except ValueError:
        return shown, table
    raise DaskroiError(
        f"{shown}: the table has no header, so no strategy can tell its columns. Give fMRIPrep's "
        "..._desc-confounds_timeseries.tsv, or pass the file to extract as confounds=..."
    )


def _source(path: str | os.PathLike[str], storage_options: dict[str, Any] | None) -> ByteSource:
    return ByteSource.of(path)


def read_json(
    path: str | os.PathLike[str], storage_options: dict[str, Any] | None
) -> dict[str, dict[str, Any]] | None:
    """What fMRIPrep says about CompCor's components, or None if there is no such file."""
    name = os.fspath(path)
    for suffix in (".gz", ".tsv"):
        name = name.removesuffix(suffix)
    try:
        source = _source(f"{name}.json", storage_options)
    except DaskroiNotFoundError:
        return None
    with source.open() as file:
        raw = file.read()
    try:
        found = json.loads(raw)
        return {name: about for name, about in found.items() if isinstance(about, dict)}
    except (ValueError, AttributeError) as error:
        raise DaskroiError(
            f"{source.url}: not a JSON file about confounds ({error}). Copy it again from "
            "fMRIPrep's output."
        ) from error


def choose_columns(
    shown: str,
    names: list[str],
    recipe: ConfoundRecipe,
    read_json: Callable[[], dict[str, dict[str, Any]] | None],
) -> list[str]:
    """Names of the columns that a recipe takes from a table."""
    about = read_json() if any(group.ranked for group in recipe.groups) else None
    chosen: list[str] = []
    missing: list[str] = []
    for group in recipe.groups:
        if group.ranked:
            found = _components(group, names, about)
            if recipe.n_compcor != "all":
                found = found[: int(recipe.n_compcor)]
        else:
            found = [name for name in names if fnmatchcase(name, group.pattern)]
        if not found and not group.needed:
            warn(
                f"{shown}: has no column {group.pattern!r}, so that nothing of the kind is "
                "regressed out. Right for a run shorter than 128 s; otherwise look at the file."
            )
        elif not found and group.mask and about is None:
            raise DaskroiError(
                f"{shown}: CompCor's {group.mask} components are named in the .json file beside "
                "it, which is not there. Copy it from fMRIPrep's output (1.4 or later), or use "
                "another strategy."
            )
        elif not found:
            missing.append(f"{group.pattern or 'a_comp_cor_*'}{group.mask and f' ({group.mask})'}")
        missing += [name for name in found if name not in names]
        chosen += found
    needed = [c for name, c in MEASURES if getattr(recipe, name) is not None and c not in names]
    if missing or needed:
        raise _missing(shown, names, recipe, missing + needed)
    chosen = list(dict.fromkeys(chosen))
    return chosen if recipe.in_order else sorted(chosen)


def _components(
    group: Columns, names: list[str], about: dict[str, dict[str, Any]] | None
) -> list[str]:
    """CompCor's components of one mask, by number; also those that only the JSON file has."""
    told = {n: a for n, a in (about or {}).items() if a.get("Retained", True)}
    found = {n for n in [*names, *told] if fnmatchcase(n, group.pattern)}
    if group.mask:
        found |= {
            n
            for n, a in told.items()
            if fnmatchcase(n, "a_comp_cor_*") and a.get("Mask") == group.mask
        }
    return sorted(found, key=lambda name: (len(name), name))


def _missing(
    shown: str, names: list[str], recipe: ConfoundRecipe, missing: list[str]
) -> DaskroiError:
    if OLD_COLUMNS & set(names):
        return DaskroiError(
            f"{shown}: is of fMRIPrep 1.0 or 1.1, whose columns have other names "
            f"({', '.join(sorted(OLD_COLUMNS & set(names)))}). Run fMRIPrep 1.2 or later, or name "
            "the columns with columns=[...]."
        )
    close = dict.fromkeys(
        name for wanted in missing for name in difflib.get_close_matches(wanted, names, n=2)
    )
    there = list(close)[:5] or names[:5]
    listed = ", ".join(map(repr, missing[:8]))
    more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
    return DaskroiError(
        f"{shown}: strategy {recipe.strategy!r} needs {listed}{more}, not there among "
        f"{len(names)} columns. Use another strategy or columns=[...]; close names: "
        f"{', '.join(map(repr, there))}."
    )


def numbers(table: pd.DataFrame, name: str, shown: str) -> NDArray[np.float64]:
    try:
        return table[name].to_numpy(np.float64)
    except (ValueError, TypeError) as error:
        raise DaskroiTypeError(
            f"{shown}: column {name!r} holds values that are no numbers. Choose other columns, "
            "and write missing values as n/a."
        ) from error
