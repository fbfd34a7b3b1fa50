"""What daskroi raises and warns: culprit, reason, remedy, in one line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from daskroi.unsaid import kept

__all__ = [
    "DaskroiError",
    "DaskroiIndexError",
    "DaskroiNotFoundError",
    "DaskroiPermissionError",
    "DaskroiTypeError",
    "DaskroiWarning",
    "brief",
    "check_choice",
    "check_flag",
    "check_texts",
    "one_line",
    "printable",
    "some",
    "warn",
]


# characters of a message; the longest of ours, about an atlas that was looked for in all folders
# there are, has 1,400, and 2,500 where their paths are long
LONGEST = 5000


class DaskroiError(ValueError):
    """Base class of every error daskroi raises on purpose.

    It is a ``ValueError`` because that is what nilearn raises for the same mistakes: scripts that
    catch it go on working. The message is one line that names the culprit (a file, a parameter, a
    region), the reason, and what to do about it.

    Examples
    --------
    >>> from daskroi import DaskroiError
    >>> raise DaskroiError("bold.nii: not a NIfTI image. Convert it first.")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: bold.nii: not a NIfTI image. Convert it first.
    """

    def __init__(self, message: object = "", *more: object) -> None:
        # names of files and messages of others may hold anything, and logs go by lines
        super().__init__(_bounded(str(message)), *more)


class DaskroiTypeError(DaskroiError, TypeError):
    """A parameter has the wrong type."""


class DaskroiIndexError(DaskroiError, IndexError):
    """A frame that the run does not have was asked for."""


class DaskroiNotFoundError(DaskroiError, FileNotFoundError):
    """A file that should be there is not."""

    # of ValueError, which is found first, it is refused: a worker's error that is taken apart and
    # put together by tblib would arrive as a bare Exception
    __new__ = FileNotFoundError.__new__  # type: ignore[assignment]


class DaskroiPermissionError(DaskroiError, PermissionError):
    """A file that is there may not be read or written."""

    __new__ = PermissionError.__new__  # type: ignore[assignment]  # as of DaskroiNotFoundError


class DaskroiWarning(UserWarning):
    """Something a user should look at, though the work goes on.

    Examples
    --------
    >>> import warnings
    >>> from daskroi import DaskroiWarning
    >>> warnings.simplefilter("error", DaskroiWarning)  # to stop at the first one
    >>> warnings.simplefilter("default", DaskroiWarning)
    """


def brief(value: object) -> str:
    """What a user gave, for a message: one line, not a whole table or book.

    Examples
    --------
    >>> brief("a\\tb"), len(brief("x" * 5000))
    ("'a\\\\tb'", 80)
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:79]}…"


def some(values: Iterable[object], most: int = 10) -> str:
    """The first few of many, for a message.

    Examples
    --------
    >>> some([3, 7, 9], most=2), some(map(repr, ["V1", "V2"]))
    ('3, 7 and 1 more', "'V1', 'V2'")
    """
    texts = [str(value) for value in values]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def one_line(error: BaseException) -> str:
    """What an exception of somebody else's says, for within a message of ours.

    Examples
    --------
    >>> one_line(OSError("Access denied.\\n  See the log."))
    'Access denied. See the log'
    """
    return " ".join(str(error).split()).rstrip(".")


def printable(text: str) -> str:
    """Whatever does not print, or is half a character, as Python writes it in a literal.

    Examples
    --------
    >>> printable("a\\nb")
    'a\\\\nb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _bounded(text: str) -> str:
    """Of a long text the culprit and the remedy: a damaged table has cells of any length."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 4 :]}"
    return printable(text if text.isprintable() else text.strip())


def check_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise when ``value`` is not one of ``allowed``, and list what is.

    Examples
    --------
    >>> check_choice("strategy", "avg", ("mean", "median"))
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: strategy='avg' is not known. Use one of: 'mean', 'median'.
    """
    # `in` would let 1 pass for True and choke on arrays
    if not any(type(value) is type(a) and value == a for a in allowed):
        raise DaskroiError(
            f"{name}={brief(value)} is not known. Use one of: {', '.join(map(repr, allowed))}."
        )


def check_flag(name: str, value: object) -> bool:
    """A bool, of Python or NumPy; nothing else, for ``"no"`` and an array are true as well.

    Examples
    --------
    >>> check_flag("detrend", "no")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiTypeError: detrend='no' is not a flag. Use one of: True, False.
    """
    # by name: NumPy's ("bool_" before version 2) without importing it
    if type(value).__name__ not in ("bool", "bool_"):
        raise DaskroiTypeError(f"{name}={brief(value)} is not a flag. Use one of: True, False.")
    return bool(value)


def check_texts(name: str, value: Any) -> list[str]:
    """One text or several, as a list.

    Examples
    --------
    >>> check_texts("columns", "csf"), check_texts("columns", ("csf", "white_matter"))
    (['csf'], ['csf', 'white_matter'])
    >>> check_texts("columns", 3)
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiTypeError: columns=3 is not a list of str. Give names, as str.
    """
    texts = [value] if isinstance(value, str) else value
    with suppress(TypeError):
        texts = list(texts)
        if all(isinstance(text, str) for text in texts):
            return texts
    raise DaskroiTypeError(f"{name}={brief(value)} is not a list of str. Give names, as str.")


# what may stand between a user's line and ours: `xarray.open_dataset`, `compute`
LIBRARIES = frozenset({"daskroi", "dask", "distributed", "xarray"})


def _of_library(module: str) -> bool:
    return module.partition(".")[0] in LIBRARIES


def warn(message: str) -> None:
    """Warn with `DaskroiWarning`, pointing at the user's line: the first one that is no library's.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn("bold.nii: look at this.")
    >>> caught[0].category.__name__
    'DaskroiWarning'
    """
    if kept(message):
        return
    level, frame = 1, sys._getframe()
    # by module, not by path: the tests lie beside the package and are users
    while frame.f_back is not None and _of_library(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(_bounded(message), DaskroiWarning, stacklevel=level)
