"""Warnings of one run among many that run at once: kept for its row, not written to a terminal.

`warnings.catch_warnings` swaps filters and hooks of the whole process, so of two threads that use
it one loses warnings, and what the last one puts back may be the other's. Nothing here does that.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

__all__ = ["ignored", "kept", "kept_warnings"]

# a context variable tells threads apart
_kept: ContextVar[list[str] | None] = ContextVar("kept_warnings", default=None)
_lock = threading.Lock()
_inside = 0
_others: Any = warnings.showwarning


@contextmanager
def kept_warnings() -> Iterator[list[str]]:
    """The texts of daskroi's warnings inside ``with``, in this thread; others' are dropped.

    Examples
    --------
    >>> from daskroi.errors import warn
    >>> with kept_warnings() as said:
    ...     warn("bold.nii: look at this.")
    >>> said
    ['bold.nii: look at this.']
    """
    global _inside, _others
    texts: list[str] = []
    with _lock:
        if _inside == 0 and warnings.showwarning is not _show:
            _others, warnings.showwarning = warnings.showwarning, _show
        _inside += 1
    token = _kept.set(texts)
    try:
        yield texts
    finally:
        _kept.reset(token)
        with _lock:
            _inside -= 1
            if _inside == 0 and warnings.showwarning is _show:
                warnings.showwarning = _others


def kept(message: str) -> bool:
    """Keep a warning, where warnings are kept in this thread; whether they are.

    Examples
    --------
    >>> kept("bold.nii: look at this.")
    False
    """
    texts = _kept.get()
    if texts is not None:
        texts.append(message)
    return texts is not None


def _show(*args: Any, **kwargs: Any) -> None:
    if _kept.get() is None:
        _others(*args, **kwargs)


@contextmanager
def ignored(category: type[Warning], message: str = "") -> Iterator[None]:
    """Without warnings of one kind inside ``with``, in all threads; other filters stay.

    Parameters
    ----------
    category : type of Warning
    message : str
        What it begins with.

    Examples
    --------
    >>> with ignored(FutureWarning, "soon"):
    ...     warnings.warn("soon it will be so", FutureWarning)
    """
    pattern = re.compile(re.escape(message)) if message else None
    rule: Any = ("ignore", pattern, category, None, 0)
    warnings.filters.insert(0, rule)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with suppress(ValueError):  # somebody has put older filters back meanwhile
            warnings.filters.remove(rule)  # type: ignore[attr-defined]
