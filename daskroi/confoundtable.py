"""fMRIPrep's table of confounds and the JSON file beside it: reading, and finding columns."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.bytesource import ByteSource
from daskroi.confoundrecipe import ConfoundRecipe
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError, some, warn
from daskroi.jsontext import from_json
from daskroi.paths import links_of, name_of
from daskroi.texttable import frame_of
from daskroi.urls import is_url, shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MEASURES", "choose_columns", "numbers", "read_json", "read_table", "sidecar_of"]

# of fMRIPrep 1.0 and 1.1
OLD_COLUMNS = frozenset(
    ("FramewiseDisplacement", "GlobalSignal", "WhiteMatter", "stdDVARS", "RotX", "aCompCor00")
)
# what fMRIPrep calls its measures of motion
MEASURES = (("fd_threshold", "framewise_displacement"), ("std_dvars_threshold", "std_dvars"))


def read_table(
    path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
) -> tuple[str, pd.DataFrame, str]:
    """Name to show, table and SHA-256 of a file of confounds."""
    if not isinstance(path, str | os.PathLike):
        raise DaskroiTypeError(
            f"path is a {type(path).__name__}. Pass the path or URL of one table of confounds."
        )
    # nilearn wants the image here, and finds the table by itself
    if name_of(shown(os.fspath(path))).endswith((".nii", ".nii.gz", ".nii.zarr")):
        raise DaskroiError(
            f"{shown(os.fspath(path))}: is an image. Give the table beside it, "
            "..._desc-confounds_timeseries.tsv."
        )
    source = ByteSource.of(path, storage_options)
    file, raw = source.shown, source.read()
    give = "Give fMRIPrep's ..._desc-confounds_timeseries.tsv"
    table, named = frame_of(raw, file, "confounds", f"{give}.")
    if not named:
        raise DaskroiError(
            f"{file}: the table has no header, so no strategy can tell its columns. {give}, or "
            "pass it as confounds without a strategy."
        )
    return file, table, hashlib.sha256(raw).hexdigest()


def sidecar_of(path: str | os.PathLike[str]) -> str:
    """Path or URL of the JSON file that lies beside a table.

    Examples
    --------
    >>> sidecar_of("https://x.org/sub-1_desc-confounds_timeseries.tsv?token=1")
    'https://x.org/sub-1_desc-confounds_timeseries.json?token=1'
    """
    before, own, after = links_of(os.fspath(path))
    name, mark, query = own.partition("?") if is_url(own) else (own, "", "")
    stem = name.removesuffix(".gz").removesuffix(".tsv")
    return f"{before}{stem}.json{mark}{query}{after}"


def read_json(
    path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """What fMRIPrep says about CompCor's components, in the JSON file beside the table."""
    try:
        source = ByteSource.of(sidecar_of(path), storage_options)
    except DaskroiNotFoundError as error:
        raise DaskroiNotFoundError(
            f"{shown(os.fspath(path))}: the .json file beside it tells CompCor's masks apart, and "
            "is not there. Copy it from fMRIPrep's output (1.4 or later), or use another strategy."
        ) from error
    try:
        found = from_json(source.read())
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}, not an object")
        return {name: about for name, about in found.items() if isinstance(about, dict)}
    except ValueError as error:
        raise DaskroiError(
            f"{source.shown}: not a JSON file about confounds ({error}). Copy it again from "
            "fMRIPrep's output."
        ) from error


def choose_columns(
    file: str,
    names: list[str],
    recipe: ConfoundRecipe,
    about: Callable[[], dict[str, dict[str, Any]]],
) -> list[str]:
    """Names of the columns that a recipe takes from a table.

    ``about`` reads the JSON file; it is not called unless names alone do not tell.
    """
    chosen: list[str] = []
    missing: list[str] = []
    absent: list[str] = []
    for group in recipe.groups:
        found = [name for name in names if fnmatchcase(name, group.pattern)]
        if not found and group.mask:
            found = _by_mask(group.mask, about())
        if group.ranked:
            found = sorted(found, key=lambda name: (len(name), name))
            if recipe.n_compcor != "all":
                found = found[: int(recipe.n_compcor)]
        if found:
            missing += [name for name in found if name not in names]
            chosen += found
        elif group.needed:
            missing.append(f"a_comp_cor_* of mask {group.mask}" if group.mask else group.pattern)
        else:
            absent.append(group.pattern)
    for threshold, column in MEASURES:
        if getattr(recipe, threshold) is not None and column not in names:
            missing.append(column)
    if missing:
        raise _missing(file, names, recipe, missing)
    for pattern in absent:
        warn(
            f"{file}: has no column {pattern!r}, so that nothing of the kind is regressed out. "
            "Right for a run shorter than 128 s; otherwise look at the file."
        )
    chosen = list(dict.fromkeys(chosen))
    return chosen if recipe.in_order else sorted(chosen)


def _by_mask(mask: str, about: dict[str, dict[str, Any]]) -> list[str]:
    return [
        name
        for name, said in about.items()
        if fnmatchcase(name, "a_comp_cor_*")
        and said.get("Mask") == mask
        and said.get("Retained", True)
    ]


def _missing(
    file: str, names: list[str], recipe: ConfoundRecipe, missing: list[str]
) -> DaskroiError:
    if OLD_COLUMNS & set(names):
        return DaskroiError(
            f"{file}: is of fMRIPrep 1.0 or 1.1, whose columns have other names "
            f"({', '.join(sorted(OLD_COLUMNS & set(names)))}). Run fMRIPrep 1.2 or later, or name "
            "the columns with columns=[...]."
        )
    close = dict.fromkeys(
        name for wanted in missing for name in difflib.get_close_matches(wanted, names, n=2)
    )
    there = list(close)[:5] or names[:5]
    what = f"strategy {recipe.strategy!r} needs" if recipe.strategy != "none" else "needed are"
    return DaskroiError(
        f"{file}: {what} {some(map(repr, missing), 8)}, not there among "
        f"{len(names)} columns. Use another strategy or columns=[...]; close names: "
        f"{', '.join(map(repr, there))}."
    )


def numbers(table: pd.DataFrame, name: str, file: str) -> NDArray[np.float64]:
    """One column, n/a as NaN."""
    try:
        return table[name].to_numpy(np.float64)
    except (ValueError, TypeError) as error:
        raise DaskroiTypeError(
            f"{file}: column {name!r} holds values that are no numbers. Choose other columns, "
            "and write missing values as n/a."
        ) from error
