"""Label tables: which label value is which region, from the files people have.

A format is a row of `_FORMATS`, told by content: file endings of label tables mean little (a
FreeSurfer LUT is a ``.txt``, a ``.tsv`` may hold commas).
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.bytesource import ByteSource
from daskroi.errors import DaskroiError, DaskroiTypeError, brief, some
from daskroi.texttable import rows
from daskroi.urls import shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_label_table", "some"]

# label values and colours; longer ones are damage
_NUMBER, _COLOR = re.compile(r"-?\d{1,19}"), re.compile(r"\d{1,9}")

# what the tables of DiFuMo and of many lists of seeds call them
_SYNONYMS = {"component": "index", "difumo_names": "name", "label": "name"}


def read_label_table(
    table: str | os.PathLike[str] | pd.DataFrame,
    *,
    by_position: bool = False,
    storage_options: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """Read a label table.

    Parameters
    ----------
    table : str, Path or DataFrame
        BIDS ``*_dseg.tsv`` or CSV with columns ``index`` and ``name`` (delimiter guessed; tab,
        comma, semicolon or blanks), FSL atlas XML, FreeSurfer colour table
        (``id name R G B A``), or a DataFrame with ``index`` and ``name``. Path or URL. UTF-8 with
        or without BOM; what is not UTF-8 is read as Latin-1.
    by_position : bool
        The table is of an atlas whose regions have an order (4D maps, seeds): rows are theirs in
        that order, so ``index`` may be missing (then 1, 2, …), and ``component``,
        ``difumo_names`` and ``label`` will do for ``index`` and ``name``.
    storage_options : dict, optional
        For fsspec, when ``table`` is a URL.

    Returns
    -------
    DataFrame
        ``index`` (int64, unique), ``name`` (str; "unknown" where it is empty or ``n/a``), then the
        other columns, as text when from a file. FreeSurfer's colours become ``color`` as
        ``#rrggbb``. Rows as they come. ``attrs["format"]`` is "delimited", "fsl", "freesurfer" or
        "dataframe".

    Raises
    ------
    DaskroiError
        Columns missing (the ones found are listed), an index that is no whole number or comes
        twice, no row, ragged or unreadable file, XML with a DTD.
    DaskroiNotFoundError
        No such file.

    Notes
    -----
    In FSL's XML, label index ``i`` is image value ``i + 1``; in atlases of type "Label"
    (Talairach, JHU) it is the image value itself, as FSLeyes has it. Harvard-Oxford names get
    nilearn's spelling: "Opercular" for "Operculum", "Ventricle" for "Ventrical".

    Examples
    --------
    >>> import pandas as pd
    >>> read_label_table(pd.DataFrame({"name": ["V1", "V2"], "index": [10.0, 20.0]}))
       index name
    0     10   V1
    1     20   V2
    """
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        frame = table.reset_index() if "index" in table.index.names else table.copy()
        # a FreeSurfer table read earlier is still one
        return _normalise(frame, "lut", str(table.attrs.get("format", "dataframe")), by_position)
    if not isinstance(table, str | os.PathLike):
        raise DaskroiTypeError(
            f"lut has type {type(table).__name__}. Give a path, or a DataFrame with the columns "
            "'index' and 'name'."
        )
    culprit = shown(os.fspath(table))
    raw = ByteSource.of(table, storage_options).read()
    text = _decode(raw)
    for name, matches, read in _FORMATS:
        if matches(text):
            # XML says its own encoding, so its parser gets the bytes
            frame = read(raw if name == "fsl" else text, culprit)
            return _normalise(frame, culprit, name, by_position)
    raise DaskroiError(
        f"{culprit}: the label table is empty. Give columns 'index' and 'name', or leave it out."
    )


def _decode(raw: bytes) -> str:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):  # Excel's "Unicode text"
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _lines(text: str, comment: str | None = None) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not (comment and line.lstrip().startswith(comment)):
            yield number, line


def _read_fsl(raw: bytes, culprit: str) -> pd.DataFrame:
    import pandas as pd
    from defusedxml import DefusedXmlException, ElementTree

    try:
        root = ElementTree.fromstring(raw, forbid_dtd=True)
    except DefusedXmlException as error:
        raise DaskroiError(
            f"{culprit}: the XML declares a DTD or entities, which atlas files do not need and "
            "attacks do. Remove the declaration if you trust the file."
        ) from error
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise DaskroiError(
            f"{culprit}: broken XML ({error}). Copy the atlas file again."
        ) from error
    labels = root.findall(".//label")
    if not labels:
        raise DaskroiError(
            f"{culprit}: no <label index=…> in the XML. Give an FSL atlas file, such as "
            "HarvardOxford-Cortical.xml."
        )
    if any(label.find(".//label") is not None for label in labels):
        # and the texts of 100,000 nested ones are 10^10 characters
        raise DaskroiError(
            f"{culprit}: has labels inside of labels. Give an FSL atlas file as it came with FSL."
        )
    shift = 0 if (root.findtext("header/type") or "").strip().lower() == "label" else 1
    ids: list[Any] = []
    for label in labels:
        index = label.get("index")
        try:
            ids.append(int(index) + shift)
        except (TypeError, ValueError):
            ids.append(index)  # refused with all others of its kind
    names = [" ".join("".join(label.itertext()).split()) for label in labels]
    if "harvard" in (root.findtext("header/name") or "").lower():
        spelling = (("Operculum", "Opercular"), ("Ventrical", "Ventricle"))
        for old, new in spelling:
            names = [name.replace(old, new) for name in names]
    return pd.DataFrame({"index": ids, "name": names})


def _read_freesurfer(text: str, culprit: str) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for number, line in _lines(text, "#"):
        fields = _lut_fields(line)
        if fields is None:
            raise DaskroiError(
                f"{culprit}: line {number} is not 'id name R G B A': {line.strip()[:60]!r}. "
                "Correct the line, or put a # before it."
            )
        red, green, blue = (min(int(v), 255) for v in fields[2:5])
        rows.append((*fields[:2], f"#{red:02x}{green:02x}{blue:02x}"))
    return pd.DataFrame(rows, columns=["index", "name", "color"])


def _lut_fields(line: str) -> list[str] | None:
    """Id, name (may hold blanks), R, G, B, and mostly A; None if it is no such line.

    By splitting: a regular expression takes minutes for a long line of blanks.
    """
    for colors in (4, 3):
        id_and_name, *rest = line.strip().rsplit(None, colors)
        fields = [*id_and_name.split(None, 1), *rest]
        numbers = _NUMBER.fullmatch(fields[0]) and all(map(_COLOR.fullmatch, rest))
        if len(fields) == 2 + colors and numbers:
            return fields
    return None


def _read_delimited(text: str, culprit: str) -> pd.DataFrame:
    import pandas as pd

    # shorter than what csv refuses
    header = next(line for _, line in _lines(text))[:100_000]
    separators = ("\t", ",", ";", " ")
    fields = {s: [_key(f) for f in next(csv.reader([header], delimiter=s))] for s in separators}
    fit = [s for s in separators if {"index", "name"} <= set(fields[s])]
    separator = fit[0] if fit else max(separators[:3], key=lambda s: len(fields[s]))
    try:
        (_, names), *lines = rows(text, separator)
        for line, row in lines:
            if len(row) > len(names):
                raise ValueError(f"line {line} has {len(row)} fields, the header {len(names)}")
    except ValueError as error:
        raise DaskroiError(
            f"{culprit}: {error}. Quote names that contain {separator!r}, and close all quotes."
        ) from error
    return pd.DataFrame([row + [""] * (len(names) - len(row)) for _, row in lines], columns=names)


def _key(column: object) -> str:
    return str(column).strip().lower()


def _normalise(
    frame: pd.DataFrame, culprit: str, format_name: str, by_position: bool = False
) -> pd.DataFrame:
    """Check a table and bring it to the promised columns and types."""
    import pandas as pd

    keys = [_key(c) for c in frame.columns]
    if by_position:
        for synonym, key in _SYNONYMS.items():
            if key not in keys:
                keys = [key if k == synonym else k for k in keys]
        if "index" not in keys:
            frame = frame.copy()
            frame.insert(frame.shape[1], "index", range(1, len(frame) + 1), allow_duplicates=True)
            keys.append("index")
    if missing := [k for k in ("index", "name") if k not in keys]:
        raise DaskroiError(
            f"{culprit}: a label table needs the columns 'index' and 'name'; "
            f"{' and '.join(map(repr, missing))} missing, found: "
            f"{', '.join(brief(str(c)) for c in frame.columns[:10]) or 'none'}. Rename the columns."
        )
    if repeated := sorted({k for k in ("index", "name") if keys.count(k) > 1}):
        raise DaskroiError(
            f"{culprit}: more than one column {' and '.join(map(repr, repeated))}. Keep one."
        )
    if len(frame) == 0:
        raise DaskroiError(
            f"{culprit}: the label table has no rows. Give one row per label, or leave it out."
        )
    index = frame.iloc[:, keys.index("index")].tolist()
    ids = [_whole(v) for v in index]
    if bad := [v for v, i in zip(index, ids, strict=True) if i is None]:
        raise DaskroiError(
            f"{culprit}: 'index' must hold whole numbers, the label values of the image; not so: "
            f"{some(map(repr, bad))}."
        )
    counts = Counter(i for i in ids if i is not None)
    if twice := sorted(i for i, n in counts.items() if n > 1):
        raise DaskroiError(
            f"{culprit}: 'index' has the same label in several rows: {some(twice)}. Keep one row "
            "for each."
        )
    names = [_name(v) for v in frame.iloc[:, keys.index("name")]]
    out = pd.DataFrame({"index": np.array(ids, dtype=np.int64), "name": names})
    for position, key in enumerate(keys):
        if key not in ("index", "name"):
            out[str(frame.columns[position]).strip()] = frame.iloc[:, position].to_numpy()
    out.attrs["format"] = format_name
    return out


def _whole(value: Any) -> int | None:
    """Return the whole number a table cell stands for; None when it is none."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        number = int(value)
        same = isinstance(value, str) or number == value
    except (TypeError, ValueError, OverflowError):
        try:
            number = int(float(value))
            same = float(value) == number
        except (TypeError, ValueError, OverflowError):
            return None
    return number if same and abs(number) < 2**63 else None


def _name(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    # NaN, None and pandas' NA are what a DataFrame has for an empty cell
    name = str(value).strip()
    return "unknown" if name.lower() in ("", "n/a", "nan", "none", "<na>") else name


def _is_lut(text: str) -> bool:
    first = next(_lines(text, "#"), None)
    return first is not None and _lut_fields(first[1]) is not None


_Format = tuple[str, Callable[[str], bool], Callable[[Any, str], Any]]
_FORMATS: tuple[_Format, ...] = (
    ("fsl", lambda text: text.lstrip().startswith("<"), _read_fsl),
    ("freesurfer", _is_lut, _read_freesurfer),
    ("delimited", lambda text: re.search(r'[^\s",;]', text) is not None, _read_delimited),
)
