"""Confounds of one run, from whatever holds them: arrays, tables, files, or several of these."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from daskroi.bytesource import ByteSource
from daskroi.errors import DaskroiError, DaskroiTypeError, check_texts, some, warn
from daskroi.texttable import frame_of
from daskroi.urls import shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_confounds"]


class _Source(NamedTuple):
    culprit: str
    values: NDArray[np.float64]
    names: tuple[str, ...]
    named: bool


def read_confounds(
    confounds: Any,
    n_time: int,
    columns: str | Sequence[str] | None = None,
    keep: NDArray[np.bool_] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Read and check confounds.

    Parameters
    ----------
    confounds : array, DataFrame, path, or list of these
        Arrays have dims (time,) or (time, confound). Files, also at URLs, are CSV or TSV (also
        gzipped), with or without a header; ``n/a`` is NaN. Several are put side by side.
    n_time : int
        Frames of the run. Confounds have full length; censored frames are left out later.
    columns : str or list of str, optional
        Names to take from the tables, with shell wildcards: ``["trans_?", "rot_?", "csf"]``. All
        columns if left out, which for fMRIPrep's tables is hardly ever what one wants. Arrays
        have no names and are always taken.
    keep : ndarray of bool, dims (time,), optional
        Kept frames. Values in the others need not be finite.
    storage_options : mapping, optional
        For fsspec, where files are at URLs.

    Returns
    -------
    values : ndarray of float64, dims (time, confound)
    names : tuple of str
        ``confound_0`` and so on, by column, where there is no name.

    Raises
    ------
    DaskroiNotFoundError
        No such file.
    DaskroiTypeError
        Something that holds no confounds, or a column that holds no numbers.
    DaskroiError
        An empty file, a wrong length, NaN in a kept frame, a name that no table has.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"trans_x": [0.0, 1.0], "trans_y": [1.0, 2.0], "csf": [5.0, 6.0]})
    >>> read_confounds(table, n_time=2, columns=["trans_*"])
    (array([[0., 1.], [1., 2.]]), ('trans_x', 'trans_y'))
    """
    items = list(confounds) if isinstance(confounds, (list, tuple)) else [confounds]
    if not items:
        raise DaskroiError("confounds is an empty list. Pass None to clean without confounds.")
    sources = [
        _read(item, f"[{i}]" if len(items) > 1 else "", storage_options)
        for i, item in enumerate(items)
    ]
    for source in sources:
        if len(source.values) != n_time:
            raise DaskroiError(
                f"{source.culprit} has {len(source.values)} rows and the run has {n_time} frames. "
                "Pass confounds of this run, one row per frame, censored frames included."
            )
    if columns is None:
        _name_numbering(sources)
    else:
        sources = _select(sources, check_texts("columns", columns))
    names: list[str] = []
    for source in sources:
        names += source.names if source.named else _numbered(len(names), source)
        _check_finite(source, names[len(names) - len(source.names) :], keep)
    return np.hstack([source.values for source in sources]), tuple(names)


def _name_numbering(sources: list[_Source]) -> None:
    """Say when the row numbers, which pandas writes unless told not to, are regressed out."""
    for source in sources:
        counted = np.arange(len(source.values))
        nameless = source.named and source.names[:1] in (("",), ("Unnamed: 0",))
        if nameless and np.array_equal(source.values[:, 0], counted):
            warn(
                f"{source.culprit}: its first column has no name and counts the rows, and is "
                "regressed out like the others. Write the table without row numbers "
                "(index=False), or choose columns."
            )


def _numbered(start: int, source: _Source) -> list[str]:
    return [f"confound_{start + i}" for i in range(source.values.shape[1])]


def _read(item: Any, position: str, storage_options: Mapping[str, Any] | None) -> _Source:
    import pandas as pd

    culprit = f"confounds{position}"
    if isinstance(item, str | os.PathLike):
        file, raw = shown(os.fspath(item)), ByteSource.of(item, storage_options).read()
        table, named = frame_of(raw, file, "confounds")
        return _from_table(table, file, named)
    if isinstance(item, pd.Series):
        item = item.to_frame()
    if isinstance(item, pd.DataFrame):
        return _from_table(item, culprit, True)
    # lists of numbers are refused by nilearn too: [0.1, 0.2] may mean one or two confounds
    if not hasattr(item, "__array__") or np.ndim(item) == 0:
        raise DaskroiTypeError(
            f"{culprit} is a {type(item).__name__}. Pass an array (time, confound), a DataFrame, "
            "the path of a CSV or TSV file, or a list of these."
        )
    values = np.asarray(item)
    if values.dtype.kind not in "biuf":
        raise DaskroiTypeError(f"{culprit} holds {values.dtype}, not numbers. Convert it first.")
    if values.ndim > 2:
        raise DaskroiError(f"{culprit} has shape {values.shape}. Give (time, confound) or (time,).")
    missing = np.ma.getmaskarray(item) if isinstance(item, np.ma.MaskedArray) else None
    values = values.astype(np.float64)
    if missing is not None:
        values[missing] = np.nan
    values = values[:, None] if values.ndim == 1 else values
    return _Source(culprit, values, ("",) * values.shape[1], False)


def _from_table(table: pd.DataFrame, culprit: str, named: bool) -> _Source:
    from pandas.api.types import is_complex_dtype, is_numeric_dtype

    names = tuple(str(name) for name in table.columns)
    words = [
        name
        for i, name in enumerate(names)
        if not is_numeric_dtype(table.dtypes.iloc[i]) or is_complex_dtype(table.dtypes.iloc[i])
    ]
    if words:
        raise DaskroiTypeError(
            f"{culprit}: {_listed(words)} values that are no numbers. Leave out what is no "
            "confound, and write missing values as n/a."
        )
    return _Source(culprit, table.to_numpy(np.float64, na_value=math.nan), names, named)


def _select(sources: list[_Source], patterns: list[str]) -> list[_Source]:
    """Keep the columns that match, in the order of the patterns; what has no names is kept."""
    if not any(source.named for source in sources):
        raise DaskroiError(
            f"columns={patterns!r} needs confounds with names. Pass a DataFrame or a file with a "
            "header, or leave columns out."
        )
    if not patterns:
        raise DaskroiError("columns is an empty list. Leave it out to take all columns.")
    table = [name for source in sources if source.named for name in source.names]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in table):
            where = ", ".join(source.culprit for source in sources if source.named)
            close = difflib.get_close_matches(pattern, table, n=5) or table[:5]
            raise DaskroiError(
                f"{where}: no column of {len(table)} matches {pattern!r}. "
                f"Use, for example: {', '.join(close)}."
            )
    chosen = []
    for source in sources:
        if source.named:
            # a dict: "trans_*" and "trans_x" take the column once
            places = dict.fromkeys(
                i
                for pattern in patterns
                for i, name in enumerate(source.names)
                if fnmatchcase(name, pattern)
            )
            names = tuple(source.names[i] for i in places)
            if twice := sorted({name for name in names if source.names.count(name) > 1}):
                raise DaskroiError(
                    f"{source.culprit}: there are several columns {', '.join(map(repr, twice))}. "
                    "Keep one of each name."
                )
            source = source._replace(values=source.values[:, list(places)], names=names)
        chosen.append(source)
    return chosen


def _check_finite(source: _Source, names: Sequence[str], keep: NDArray[np.bool_] | None) -> None:
    bad = ~np.isfinite(source.values)
    if keep is not None:
        bad &= keep[:, None]
    if not bad.any():
        return
    culprits = [names[int(i)] for i in np.flatnonzero(bad.any(axis=0))]
    if not bad[1:].any():
        where = "in frame 0"
        remedy = "fill the first row with 0 (derivatives have none)"
    else:
        where = f"in {int(bad.any(axis=1).sum())} frames"
        remedy = "fill them"
    raise DaskroiError(
        f"{source.culprit}: {_listed(culprits)} NaN or infinite values {where}. Leave "
        f"them out (columns=...), {remedy}, or drop the frames with sample_mask."
    )


def _listed(names: Sequence[str]) -> str:
    """Write ``column 'a' has`` or ``columns 'a', 'b' and 3 more have``."""
    # a table of fMRIPrep has hundreds of columns, of which a third starts with n/a
    shown = some(map(repr, names))
    return f"column {shown} has" if len(names) == 1 else f"columns {shown} have"
