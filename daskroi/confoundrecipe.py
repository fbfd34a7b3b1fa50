"""What is regressed out of a run, and which frames are censored, as one frozen value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from daskroi.errors import DaskroiError, brief, check_flag, check_texts, warn
from daskroi.strategies import (
    DEFAULTS,
    STRATEGIES,
    Columns,
    Strategy,
    component_row,
    strategy_row,
)

__all__ = ["ConfoundRecipe"]


@dataclass(frozen=True)
class ConfoundRecipe:
    """Which columns of a table are regressed out, and which frames are censored.

    Hashable and picklable: part of every key. Made by `make`, which checks everything that can be
    checked without a file.

    Parameters
    ----------
    strategy : str or tuple of str
        As asked for.
    groups : tuple of Columns
        All that is taken, ``patterns`` included.
    patterns : tuple of str
        Columns asked for by name.
    options : tuple of (name, value) pairs
        What was chosen for each component that has a choice.
    n_compcor : int or "all"
        Components per mask.
    scrub : int
        Shortest segment of frames between censored ones that is kept.
    fd_threshold, std_dvars_threshold : float or None
        In mm; without unit. Frames above are censored.
    n_dummy : int or "auto"
        Frames to drop at the start; "auto" are those that fMRIPrep flagged.
    first_row, detrend
        As in `Strategy`.
    demean : bool
    in_order : bool
        Whether columns keep the order of the patterns; otherwise they are sorted, as in nilearn.

    Examples
    --------
    >>> from daskroi import ConfoundRecipe
    >>> recipe = ConfoundRecipe.make("36P", fd_threshold=0.5)
    >>> len(recipe.groups), recipe.fd_threshold, recipe.options
    (36, 0.5, (('motion', 'full'), ('wm_csf', 'full'), ('global_signal', 'full')))
    """

    strategy: str | tuple[str, ...]
    groups: tuple[Columns, ...] = ()
    patterns: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    n_compcor: int | str = "all"
    scrub: int = 0
    fd_threshold: float | None = None
    std_dvars_threshold: float | None = None
    n_dummy: int | str = "auto"
    first_row: str = "next"
    detrend: bool = False
    demean: bool = True
    in_order: bool = False

    @classmethod
    def make(
        cls,
        strategy: str | Sequence[str] | None = None,
        *,
        motion: str | None = None,
        wm_csf: str | None = None,
        global_signal: str | None = None,
        compcor: str | None = None,
        n_compcor: int | str | None = None,
        ica_aroma: str | None = None,
        scrub: int | None = None,
        fd_threshold: float | None = None,
        std_dvars_threshold: float | None = None,
        n_dummy: int | str = "auto",
        columns: str | Sequence[str] | None = None,
        demean: bool = True,
    ) -> ConfoundRecipe:
        """Check the parameters of `load_confounds`, and look them up in the tables.

        Raises
        ------
        DaskroiError
            An unknown strategy or choice, an option that nothing in the strategy uses, CompCor
            without its high-pass filter, a threshold that is none.
        """
        patterns = _patterns(columns)
        row = strategy_row("none" if strategy is None and patterns else strategy)
        given = {
            "motion": motion,
            "wm_csf": wm_csf,
            "global_signal": global_signal,
            "compcor": compcor,
            "n_compcor": n_compcor,
            "ica_aroma": ica_aroma,
        }
        given = {name: value for name, value in given.items() if value is not None}
        # nilearn's presets take a global signal on top
        preset = row.name in STRATEGIES and not row.fixed
        components = row.components
        if preset and "global_signal" in given and "global_signal" not in components:
            components += ("global_signal",)
        _check_used(given, components, row)
        wanted = DEFAULTS | dict(row.options) | given
        rows = [component_row(name, wanted.get(name, "")) for name in components]
        scrubs = "scrub" in components
        fd = _threshold("fd_threshold", fd_threshold, scrubs)
        dvars = _threshold("std_dvars_threshold", std_dvars_threshold, scrubs)
        if scrub is None:
            scrub = DEFAULTS["scrub"] if scrubs else 0
        elif fd is None and dvars is None:
            raise DaskroiError(
                f"scrub={scrub!r} has nothing to act on. Give fd_threshold or std_dvars_threshold."
            )
        if not (isinstance(n_dummy, str) and n_dummy == "auto"):
            n_dummy = _count("n_dummy", n_dummy, 0, "'auto' or frames to drop at the start")
        n_compcor = wanted["n_compcor"]
        if not (isinstance(n_compcor, str) and n_compcor == "all"):
            n_compcor = _count("n_compcor", n_compcor, 1, "'all' or components per mask")
        options: tuple[tuple[str, Any], ...] = tuple((c.name, c.choice) for c in rows if c.choice)
        if "compcor" in components:
            options += (("n_compcor", n_compcor),)
        if ("ica_aroma", "full") in options:
            warn(
                "ica_aroma='full' regresses out nothing of AROMA's: it is for the image "
                "desc-smoothAROMAnonaggr_bold, which is clean already. Use ica_aroma='basic' for "
                "every other image."
            )
        groups = dict.fromkeys(c for component in rows for c in component.columns)
        return cls(
            row.name or components,
            tuple(groups) + tuple(Columns(pattern) for pattern in patterns),
            patterns,
            options,
            n_compcor,
            _count("scrub", scrub, 0, "frames of the shortest segment to keep"),
            fd,
            dvars,
            n_dummy,
            row.first_row,
            row.detrend,
            check_flag("demean", demean),
            bool(patterns) and not groups,
        )


def _patterns(columns: str | Sequence[str] | None) -> tuple[str, ...]:
    if columns is None:
        return ()
    patterns = tuple(check_texts("columns", columns))
    if not patterns:
        raise DaskroiError("columns is an empty list. Leave it out, or use strategy='none'.")
    return patterns


def _check_used(given: dict[str, Any], components: tuple[str, ...], row: Strategy) -> None:
    for name, value in given.items():
        if row.fixed:
            raise DaskroiError(
                f"{name}={brief(value)} cannot change strategy {row.name!r}, which is one exact "
                f"set of columns. Leave it out, or pass a tuple: strategy={row.components!r}."
            )
        component = "compcor" if name == "n_compcor" else name
        if component not in components:
            raise DaskroiError(
                f"{name}={brief(value)} has nothing to act on: the strategy is "
                f"{row.name or components!r}. Add {component!r} to a tuple of components, or leave "
                f"{name} out."
            )


def _threshold(name: str, value: float | None, scrubs: bool) -> float | None:
    if value is None:
        return DEFAULTS[name] if scrubs else None
    if not isinstance(value, Real) or isinstance(value, bool) or not value > 0:
        raise DaskroiError(
            f"{name}={brief(value)} is not a threshold. Pass a number above 0, or None to keep all "
            "frames."
        )
    return None if math.isinf(value) else float(value)


def _count(name: str, value: Any, least: int, meaning: str) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise DaskroiError(
            f"{name}={brief(value)} is not a number of {least} or more. Pass {meaning}."
        )
    return int(value)
