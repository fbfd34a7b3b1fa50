"""Confound strategies by the names people know: rows of tables, and no code for any one of them.

Three tables. `COMPONENTS` says which columns of fMRIPrep's table a component is (nilearn's names
and choices), `STRATEGIES` which components a strategy has, `DEFAULTS` what is chosen where nothing
is said. `ConfoundRecipe` is what they come to: one frozen value, checked before any file is read.

Sources: ``nilearn.interfaces.fmriprep`` 0.14.1 (`load_confounds`, `load_confounds_strategy`); the
files ``data/nuisance/*.yml`` of XCP-D, after its pull request 1498: until version 0.11, its
acompcor left out the first component of each mask, and acompcor_gsr added the mean signals of
white matter and CSF. Both follow Ciric et al. 2017, NeuroImage 154:174.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from daskroi.errors import DaskroiError, DaskroiTypeError, check_choice

__all__ = ["COMPONENTS", "DEFAULTS", "STRATEGIES", "Columns", "ConfoundRecipe", "Strategy"]


@dataclass(frozen=True)
class Columns:
    """Columns of fMRIPrep's table that belong together.

    Parameters
    ----------
    pattern : str
        Shell wildcard.
    mask : str
        Of CompCor: the tissue. Up to fMRIPrep 20 all masks share the names ``a_comp_cor_*`` and the
        JSON file tells them apart; columns of this mask there count as well.
    needed : bool
        Whether it is an error that there are none.
    ranked : bool
        Whether there is an order of importance, so that ``n_compcor`` may take the first ones.
    """

    pattern: str
    mask: str = ""
    needed: bool = True
    ranked: bool = False


@dataclass(frozen=True)
class Component:
    """What one choice of a component takes: ``motion``, ``"full"`` → 24 columns."""

    name: str
    choice: str
    columns: tuple[Columns, ...]


@dataclass(frozen=True)
class Strategy:
    """A row of the table of strategies.

    Parameters
    ----------
    name : str
    components : tuple of str
    options : tuple of (name, value) pairs
        Where they differ from `DEFAULTS`.
    fixed : bool
        Whether options may not be changed: the name stands for one exact set of columns.
    first_row : {"next", "zero"}
        What stands in for the n/a in the first row of derivatives: the second row, as in nilearn,
        or 0, as in XCP-D.
    detrend : bool
        Whether the package that the name comes from removes a linear trend as well. Information:
        the columns have none.
    """

    name: str
    components: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()
    fixed: bool = False
    first_row: str = "next"
    detrend: bool = False


EXPANSIONS = {
    "basic": ("",),
    "power2": ("", "_power2"),
    "derivatives": ("", "_derivative1"),
    "full": ("", "_derivative1", "_power2", "_derivative1_power2"),
}
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
# components are numbered by the variance they explain
TEMPORAL = Columns("t_comp_cor_*", ranked=True)
COMBINED = Columns("", "combined", ranked=True)
WHITE_MATTER = Columns("w_comp_cor_*", "WM", ranked=True)
CSF = Columns("c_comp_cor_*", "CSF", ranked=True)


def _expanded(name: str, columns: Sequence[str]) -> tuple[Component, ...]:
    return tuple(
        Component(name, choice, tuple(Columns(c + suffix) for c in columns for suffix in suffixes))
        for choice, suffixes in EXPANSIONS.items()
    )


COMPONENTS = (
    *_expanded("motion", MOTION),
    *_expanded("wm_csf", ("csf", "white_matter")),
    *_expanded("global_signal", ("global_signal",)),
    # runs shorter than half the cut-off (128 s) have none
    Component("high_pass", "", (Columns("*cosine*", needed=False),)),
    Component("compcor", "anat_combined", (COMBINED,)),
    Component("compcor", "anat_separated", (WHITE_MATTER, CSF)),
    Component("compcor", "temporal", (TEMPORAL,)),
    Component("compcor", "temporal_anat_combined", (TEMPORAL, COMBINED)),
    Component("compcor", "temporal_anat_separated", (TEMPORAL, WHITE_MATTER, CSF)),
    # "full" has been regressed out of the image desc-smoothAROMAnonaggr_bold already
    Component("ica_aroma", "full", ()),
    Component("ica_aroma", "basic", (Columns("*aroma*"),)),
    # these two censor frames: no columns
    Component("scrub", "", ()),
    Component("non_steady_state", "", ()),
)
_NAMES = tuple(dict.fromkeys(row.name for row in COMPONENTS))

# nilearn's
DEFAULTS: dict[str, Any] = {
    "motion": "full",
    "wm_csf": "basic",
    "global_signal": "basic",
    "compcor": "anat_combined",
    "n_compcor": "all",
    "ica_aroma": "full",
    "scrub": 5,
    "fd_threshold": 0.5,
    "std_dvars_threshold": 1.5,
}
_DEFAULT = Strategy("", ("motion", "high_pass", "wm_csf"))


def _xcp(name: str, *components: str, **options: Any) -> Strategy:
    detrend = bool(components)
    return Strategy(name, components, tuple(options.items()), True, "zero", detrend)


_SEPARATED = {"motion": "derivatives", "compcor": "anat_separated", "n_compcor": 5}
STRATEGIES = {
    row.name: row
    for row in (
        Strategy("simple", ("high_pass", "motion", "wm_csf")),
        Strategy(
            "scrubbing", ("high_pass", "motion", "wm_csf", "scrub"), options=(("wm_csf", "full"),)
        ),
        Strategy("compcor", ("high_pass", "motion", "compcor")),
        Strategy("ica_aroma", ("high_pass", "wm_csf", "ica_aroma")),
        _xcp("24P", "motion"),
        _xcp("27P", "motion", "wm_csf", "global_signal"),
        _xcp("36P", "motion", "wm_csf", "global_signal", wm_csf="full", global_signal="full"),
        _xcp("acompcor", "motion", "compcor", "high_pass", **_SEPARATED),
        _xcp("acompcor_gsr", "motion", "compcor", "high_pass", "global_signal", **_SEPARATED),
        _xcp("gsr_only", "global_signal"),
        _xcp("none"),
    )
}
# asked for by name elsewhere, and why they are not here
_ABSENT = {
    "tedana": "reads files of tedana, not of fMRIPrep. Pass its mixing table with columns=[...]",
    "aroma": "reads files of fMRIPost-AROMA. Use 'ica_aroma' with ica_aroma='basic' for fMRIPrep "
    "up to 23.0, or pass the columns with columns=[...]",
    "aroma_gsr": "reads files of fMRIPost-AROMA. Use ('wm_csf', 'global_signal', 'ica_aroma') with "
    "ica_aroma='basic' for fMRIPrep up to 23.0, or pass the columns with columns=[...]",
}


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
    >>> recipe = ConfoundRecipe.make("36P", fd_threshold=0.5)
    >>> len(recipe.groups), recipe.fd_threshold, recipe.options
    (36, 0.5, (('motion', 'full'), ('wm_csf', 'full'), ('global_signal', 'full')))
    """

    strategy: str | tuple[str, ...]
    groups: tuple[Columns, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
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
        row = _row("none" if strategy is None and patterns else strategy)
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
        rows = [_component(name, wanted.get(name, "")) for name in components]
        scrubs = "scrub" in components
        fd = _threshold("fd_threshold", fd_threshold, scrubs)
        dvars = _threshold("std_dvars_threshold", std_dvars_threshold, scrubs)
        if scrub is None:
            scrub = DEFAULTS["scrub"] if scrubs else 0
        elif fd is None and dvars is None:
            raise DaskroiError(
                f"scrub={scrub!r} has nothing to act on. Give fd_threshold or std_dvars_threshold."
            )
        if n_dummy != "auto":
            n_dummy = _count("n_dummy", n_dummy, 0, "'auto' or frames to drop at the start")
        n_compcor = wanted["n_compcor"]
        if n_compcor != "all":
            n_compcor = _count("n_compcor", n_compcor, 1, "'all' or components per mask")
        groups = dict.fromkeys(c for component in rows for c in component.columns)
        return cls(
            row.name or components,
            tuple(groups) + tuple(Columns(pattern) for pattern in patterns),
            tuple((c.name, c.choice) for c in rows if c.choice),
            n_compcor,
            _count("scrub", scrub, 0, "frames of the shortest segment to keep"),
            fd,
            dvars,
            n_dummy,
            row.first_row,
            row.detrend,
            bool(demean),
            bool(patterns) and not groups,
        )


def _patterns(columns: str | Sequence[str] | None) -> tuple[str, ...]:
    if columns is None:
        return ()
    patterns = (columns,) if isinstance(columns, str) else tuple(columns)
    if not patterns:
        raise DaskroiError("columns is an empty list. Leave it out, or use strategy='none'.")
    return patterns


def _row(strategy: str | Sequence[str] | None) -> Strategy:
    if strategy is None:
        return _DEFAULT
    if isinstance(strategy, str):
        if strategy in STRATEGIES:
            return STRATEGIES[strategy]
        strategy = (strategy,)
    if not isinstance(strategy, (list, tuple)) or not all(isinstance(s, str) for s in strategy):
        raise DaskroiTypeError(
            f"strategy={strategy!r} is a {type(strategy).__name__}. Pass one of "
            f"{', '.join(map(repr, STRATEGIES))}, or a tuple of {', '.join(map(repr, _NAMES))}."
        )
    for name in strategy:
        if name in _ABSENT:
            raise DaskroiError(f"strategy {name!r} {_ABSENT[name]}.")
        if name not in _NAMES:
            hint = f" {name!r} stands alone: strategy={name!r}." if name in STRATEGIES else ""
            raise DaskroiError(
                f"strategy={strategy[0] if len(strategy) == 1 else strategy!r} is not known.{hint} "
                f"Use one of {', '.join(map(repr, STRATEGIES))}, or a tuple of "
                f"{', '.join(map(repr, _NAMES))}."
            )
    if "compcor" in strategy and "high_pass" not in strategy:
        raise DaskroiError(
            f"strategy={strategy!r}: CompCor's components were computed after a high-pass filter. "
            "Add 'high_pass'."
        )
    return Strategy("", tuple(dict.fromkeys(strategy)))


def _check_used(given: dict[str, Any], components: tuple[str, ...], row: Strategy) -> None:
    for name, value in given.items():
        if row.fixed:
            raise DaskroiError(
                f"{name}={value!r} cannot change strategy {row.name!r}, which is one exact set of "
                f"columns. Leave it out, or pass a tuple: strategy={row.components!r}."
            )
        component = "compcor" if name == "n_compcor" else name
        if component not in components:
            raise DaskroiError(
                f"{name}={value!r} has nothing to act on: the strategy is "
                f"{row.name or components!r}. Add {component!r} to a tuple of components, or leave "
                f"{name} out."
            )


def _component(name: str, choice: Any) -> Component:
    rows = {row.choice: row for row in COMPONENTS if row.name == name}
    if tuple(rows) == ("",):
        return rows[""]
    check_choice(name, choice, tuple(rows))
    return rows[choice]


def _threshold(name: str, value: float | None, scrubs: bool) -> float | None:
    if value is None:
        return DEFAULTS[name] if scrubs else None
    if not isinstance(value, Real) or isinstance(value, bool) or not value > 0:
        raise DaskroiError(
            f"{name}={value!r} is not a threshold. Pass a number above 0, or None to keep all "
            "frames."
        )
    return None if math.isinf(value) else float(value)


def _count(name: str, value: Any, least: int, meaning: str) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise DaskroiError(f"{name}={value!r} is not a number of {least} or more. Pass {meaning}.")
    return int(value)
