"""Tables as BIDS has them: tabs, ``n/a`` for what is missing, region names as headers."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, DaskroiNotFoundError

__all__ = [
    "MISSING",
    "cells",
    "column_names",
    "float_type",
    "numbers",
    "rows_of",
    "table_text",
    "that_fits",
]

MISSING = "n/a"
NAMELESS = ("", MISSING, "unknown")


def column_names(ids: Sequence[int], names: Sequence[str]) -> list[str]:
    """Region names for a header: no two the same, none empty, no tab or line break in them.

    Examples
    --------
    >>> column_names([3, 7, 9], ["V1", "V1", "n/a"])
    ['V1_3', 'V1_7', '9']
    """
    found = [" ".join(str(name).split()) for name in names]
    found = [str(i) if n in NAMELESS else n for i, n in zip(ids, found, strict=True)]
    # a loop: "a", "a" and "a_2" need two rounds. Ids are unique, so it ends
    while repeated := {name for name, n in Counter(found).items() if n > 1}:
        found = [f"{n}_{i}" if n in repeated else n for i, n in zip(ids, found, strict=True)]
    return found


def cells(row: NDArray[Any]) -> list[str]:
    """Numbers as text, with as many digits as bring the same float32 or float64 back.

    Examples
    --------
    >>> import numpy as np
    >>> cells(np.array([0.1, np.nan]))
    ['0.1', 'n/a']
    """
    return [MISSING if text == "nan" else text for text in row.astype(str).tolist()]


def numbers(row: Iterable[str]) -> list[float]:
    """Text as numbers.

    Raises
    ------
    ValueError
        A cell is no number.

    Examples
    --------
    >>> numbers(["0.1", "n/a"])
    [0.1, nan]
    """
    return [float("nan") if cell == MISSING else float(cell) for cell in row]


def float_type(name: Any) -> np.dtype[Any]:
    """What a sidecar says its numbers are.

    Raises
    ------
    ValueError
        It is no floating-point type.

    Examples
    --------
    >>> float_type("float32")
    dtype('float32')
    """
    dtype = np.dtype(name) if isinstance(name, str) else None
    if dtype is None or dtype.kind != "f":
        raise ValueError(f"DataType is {name!r}, not float32 or float64")
    return dtype


def table_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as the text of a file.

    Examples
    --------
    >>> table_text(("Node", "coverage"), [("V1", "1.0")])
    'Node\\tcoverage\\nV1\\t1.0\\n'
    """
    text = io.StringIO()
    # quotes only around names that have a quote in them
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def rows_of(text: str) -> list[list[str]]:
    """Rows of a file's text, the header first.

    Raises
    ------
    ValueError
        It is no table: a cell has 128 kB.

    Examples
    --------
    >>> rows_of("Node\\tV1\\nV1\\t1.0\\n")
    [['Node', 'V1'], ['V1', '1.0']]
    """
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))
    except csv.Error as error:
        raise ValueError(str(error)) from error


@contextmanager
def that_fits(path: Any, otherwise: str, remedy: str) -> Iterator[None]:
    """Say of a table that is read inside ``with`` what does not fit it or its sidecar.

    Examples
    --------
    >>> with that_fits("x.tsv", "is no table", "Write it again."):
    ...     numbers(["a"])
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: x.tsv: is no table (could not convert string to float: 'a'). ...
    """
    try:
        yield
    except DaskroiError:
        raise
    except FileNotFoundError:
        raise DaskroiNotFoundError(f"{path}: no such file. Check the path.") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        why = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise DaskroiError(f"{path}: {otherwise} ({' '.join(why.split())}). {remedy}") from error
