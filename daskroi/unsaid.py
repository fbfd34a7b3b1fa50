"""Warnings of one run among many that run at once: kept for its row, not written to a terminal."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from daskroi.errors import DaskroiWarning

__all__ = ["keeping_warnings", "kept_warnings"]

# a context variable tells threads apart; filters and `showwarning` are shared by all of them
_kept: ContextVar[list[str] | None] = ContextVar("kept_warnings", default=None)
_installed_in = 0


@contextmanager
def kept_warnings() -> Iterator[list[str]]:
    """The texts of daskroi's warnings inside ``with``, in this thread.

    In a worker process the filter is set at the first run and stays. Where it must not, it is set
    around all runs by `keeping_warnings`.
    """
    texts: list[str] = []
    token = _kept.set(texts)
    try:
        if _installed_in != os.getpid():
            _install()
        yield texts
    finally:
        _kept.reset(token)


@contextmanager
def keeping_warnings() -> Iterator[None]:
    """Have `kept_warnings` work in all threads of this process, until the end of ``with``."""
    global _installed_in
    before = _installed_in
    with warnings.catch_warnings():
        _install()
        try:
            yield
        finally:
            _installed_in = before


def _install() -> None:
    global _installed_in
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        texts = _kept.get()
        if texts is None:
            others(message, category, *args, **kwargs)
        elif issubclass(category, DaskroiWarning):
            texts.append(str(message))

    # "default" would keep only the first of equal ones
    warnings.simplefilter("always", DaskroiWarning)
    warnings.showwarning = show
    _installed_in = os.getpid()
