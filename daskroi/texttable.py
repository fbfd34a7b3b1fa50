"""Tables of text that people give: from bytes to rows that fit their header."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from daskroi.errors import DaskroiError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["decoded", "frame_of", "header_of", "rows"]


def decoded(raw: bytes) -> str:
    """Text of a table of numbers: UTF-8, with or without BOM.

    Raises
    ------
    ValueError
        Another encoding, or bytes of 0, which a crash leaves where text should be.

    Examples
    --------
    >>> decoded(b"a\\tb\\n\\0\\0")
    Traceback (most recent call last):
        ...
    ValueError: line 2 holds bytes of 0
    """
    text = raw.decode("utf-8-sig")
    before, nul, _ = text.partition("\0")
    if nul:
        raise ValueError(f"line {before.count(chr(10)) + 1} holds bytes of 0")
    return text


def rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Numbers of lines and their fields, the header first; what is blank is left out.

    Empty fields behind those of the header are, too: programs end lines with a separator.

    Raises
    ------
    ValueError
        Quotes that do not fit, or a cell of 128 kB.

    Examples
    --------
    >>> list(rows("x\\ty\\n\\n1\\t2\\t\\n", "\\t"))
    [(1, ['x', 'y']), (3, ['1', '2'])]
    """
    # no pandas parser: of rows longer than the header, it takes the first fields for an index
    file = io.StringIO(text, newline=None)
    reader = csv.reader(file, delimiter=separator, skipinitialspace=separator == " ", strict=True)
    width = 0
    try:
        for row in reader:
            fields = list(map(str.strip, row))
            if any(fields):
                # a first row of numbers may end in one that is missing
                least = width or (len(fields) if all(map(_is_number, fields)) else 0)
                while not fields[-1] and (len(fields) > least or separator == " "):
                    fields.pop()
                width = width or len(fields)
                yield reader.line_num, fields
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} cannot be read ({error})") from error


def frame_of(raw: bytes, file: str, what: str, give: str = "") -> tuple[pd.DataFrame, bool]:
    """A table of numbers, and whether its columns have names.

    Separated by tabs if ``file`` is called .tsv; else by tabs, semicolons, commas or blanks.
    ``give`` is the remedy if it is no text.

    Raises
    ------
    DaskroiError
        No text, no row, a row that is longer or shorter than the header, a name that comes twice.

    Examples
    --------
    >>> frame_of(b"x,y\\n1,2\\n", "points.csv", "points")
    (   x  y
    0  1  2, True)
    >>> frame_of(b"x,y\\n0,5,1,2\\n", "points.csv", "points")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: points.csv: not a table of points (line 2 has 4 fields, the ...
    """
    import pandas as pd

    try:
        text = decoded(raw)
    except ValueError as error:
        kind = what if give else "text"
        give = give or f"Pass a CSV or TSV file of {what}, in UTF-8."
        raise DaskroiError(f"{file}: not a table of {kind} ({error}). {give}") from error
    separator = _separator(next(filter(str.strip, io.StringIO(text, newline=None)), ""), file)
    try:
        header, skipped = header_of(text, separator)
        named = not all(map(_is_number, header))
        places = range(skipped, skipped + len(header))
        table = pd.DataFrame()
        if header:
            table = pd.read_csv(
                io.StringIO(text),
                sep=r"\s+" if separator == " " else separator,
                header=0 if named else None,
                # by number: pandas would call the second "csf" "csf.1"
                names=list(range(places.stop)),
                usecols=list(places),
                index_col=False,
            )
    except ValueError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DaskroiError(
            f"{file}: not a table of {what} ({reason}). Use one separator, and as many values in "
            "each row."
        ) from error
    if not len(table):
        how = "has a header and no rows" if header else "is empty"
        raise DaskroiError(f"{file}: the {what} file {how}. Write it again.")
    if named:
        table.columns = header
        if twice := sorted(name for name, n in Counter(header).items() if name and n > 1):
            raise DaskroiError(
                f"{file}: there are several columns {', '.join(map(repr, twice))}. Keep one of "
                "each name."
            )
    return table, named


def header_of(text: str, separator: str) -> tuple[list[str], int]:
    """The header, which all rows fit, and how many fields they have before those it names.

    One if rows are numbered and the header leaves that out, as R's ``write.table`` does. Not where
    commas separate: the first field may be all that a decimal comma has left of a number.

    Raises
    ------
    ValueError
        A row that is longer or shorter, as the last of a file that was cut; as `rows`.

    Examples
    --------
    >>> header_of("x,y\\n1,2\\n3", ",")
    Traceback (most recent call last):
        ...
    ValueError: line 3 has 1 fields, the header 2
    """
    lines = rows(text, separator)
    _, header = next(lines, (0, []))
    start = skipped = 0
    for count, (line, row) in enumerate(lines):
        if not count and separator != "," and len(row) == len(header) + 1 and row[0] in ("0", "1"):
            start, skipped = int(row[0]), 1
        if len(row) != len(header) + skipped or (skipped and row[0] != str(start + count)):
            raise ValueError(f"line {line} has {len(row)} fields, the header {len(header)}")
    return header, skipped


def _separator(line: str, file: str) -> str:
    found = [separator for separator in "\t;," if separator in line]
    if file.endswith((".tsv", ".tsv.gz")):
        if found and found[0] != "\t":
            raise DaskroiError(
                f"{file}: its columns are not separated by tabs but by {found[0]!r}. Write it with "
                "tabs, or name it .csv."
            )
        return "\t"
    return found[0] if found else " " if len(line.split()) > 1 else ","


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return field.lower() in ("", "n/a", "na", "true", "false")
    return True
