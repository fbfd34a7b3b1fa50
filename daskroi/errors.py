"""What daskroi raises and warns: culprit, reason, remedy, in one line."""

from __future__ import annotations

import sys
import warnings

from daskroi.unsaid import kept

__all__ = [
    "DaskroiError",
    "DaskroiIndexError",
    "DaskroiNotFoundError",
    "DaskroiPermissionError",
    "DaskroiTypeError",
    "DaskroiWarning",
    "check_choice",
    "warn",
]


class DaskroiError(ValueError):
    """Base class of every error daskroi raises on purpose.

    It is a ``ValueError`` because that is what nilearn raises for the same mistakes: scripts that
    catch it go on working. The message is one line that names the culprit (a file, a parameter, a
    region), the reason, and what to do about it.

    Examples
    --------
    >>> raise DaskroiError("bold.nii: not a NIfTI image. Convert it first.")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: bold.nii: not a NIfTI image. Convert it first.
    """


class DaskroiTypeError(DaskroiError, TypeError):
    """A parameter has the wrong type."""


class DaskroiIndexError(DaskroiError, IndexError):
    """A frame that the run does not have was asked for."""


class DaskroiNotFoundError(DaskroiError, FileNotFoundError):
    """A file that should be there is not."""


class DaskroiPermissionError(DaskroiError, PermissionError):
    """A file that is there may not be read or written."""


class DaskroiWarning(UserWarning):
    """Something a user should look at, though the work goes on."""


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
            f"{name}={value!r} is not known. Use one of: {', '.join(map(repr, allowed))}."
        )


def warn(message: str) -> None:
    """Warn with `DaskroiWarning`, pointing at the user's line: the first one outside the package.

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
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("daskroi"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, DaskroiWarning, stacklevel=level)
