"""Confound strategies by the names people know: rows of tables, and no code for any one of them.

Three tables. `COMPONENTS` says which columns of fMRIPrep's table a component is (nilearn's names
and choices), `STRATEGIES` which components a strategy has, `DEFAULTS` what is chosen where nothing
is said.

Sources: ``nilearn.interfaces.fmriprep`` 0.14.1 (`load_confounds`, `load_confounds_strategy`); the
files ``data/nuisance/*.yml`` of XCP-D, as they are since its pull request 1498. Before that (its
issue 1497, version 0.10.6), acompcor left out the first component of each mask, and acompcor_gsr
added the mean signals of white matter and CSF. Both follow Ciric et al. 2017, NeuroImage 154:174.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from daskroi.errors import DaskroiError, DaskroiTypeError, brief, check_choice

__all__ = [
    "COMPONENTS",
    "DEFAULTS",
    "STRATEGIES",
    "Columns",
    "Component",
    "Strategy",
    "component_row",
    "strategy_row",
]


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

    Examples
    --------
    >>> Columns("c_comp_cor_*", "CSF", ranked=True).needed
    True
    """

    pattern: str
    mask: str = ""
    needed: bool = True
    ranked: bool = False


@dataclass(frozen=True)
class Component:
    """What one choice of a component takes: ``motion``, ``"full"`` → 24 columns.

    Examples
    --------
    >>> Component("tissue", "", (Columns("csf"), Columns("white_matter"))).columns[0].pattern
    'csf'
    """

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

    Examples
    --------
    >>> STRATEGIES["acompcor"].components
    ('motion', 'compcor', 'high_pass')
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


def strategy_row(strategy: str | Sequence[str] | None) -> Strategy:
    """Row of a strategy's name, or a row made of components; None is nilearn's default.

    Raises
    ------
    DaskroiError
        An unknown name, or CompCor without its high-pass filter.

    Examples
    --------
    >>> strategy_row("27P").components
    ('motion', 'wm_csf', 'global_signal')
    >>> strategy_row(["motion", "scrub"]).components
    ('motion', 'scrub')
    """
    if strategy is None:
        return _DEFAULT
    if isinstance(strategy, str):
        if strategy in STRATEGIES:
            return STRATEGIES[strategy]
        strategy = (strategy,)
    if not isinstance(strategy, (list, tuple)) or not all(isinstance(s, str) for s in strategy):
        raise DaskroiTypeError(
            f"strategy={brief(strategy)} is a {type(strategy).__name__}. Pass one of "
            f"{', '.join(map(repr, STRATEGIES))}, or a tuple of {', '.join(map(repr, _NAMES))}."
        )
    for name in strategy:
        if name in _ABSENT:
            raise DaskroiError(f"strategy {name!r} {_ABSENT[name]}.")
        if name not in _NAMES:
            hint = f" {name!r} stands alone: strategy={name!r}." if name in STRATEGIES else ""
            raise DaskroiError(
                f"strategy={strategy if len(strategy) > 1 else name!r} is not known.{hint} "
                f"Use one of {', '.join(map(repr, STRATEGIES))}, or a tuple of "
                f"{', '.join(map(repr, _NAMES))}."
            )
    if "compcor" in strategy and "high_pass" not in strategy:
        raise DaskroiError(
            f"strategy={strategy!r}: CompCor's components were computed after a high-pass filter. "
            "Add 'high_pass'."
        )
    return Strategy("", tuple(dict.fromkeys(strategy)))


def component_row(name: str, choice: Any) -> Component:
    """Row of a component, by the choice made for it.

    Examples
    --------
    >>> [columns.pattern for columns in component_row("wm_csf", "power2").columns]
    ['csf', 'csf_power2', 'white_matter', 'white_matter_power2']
    """
    rows = {row.choice: row for row in COMPONENTS if row.name == name}
    if tuple(rows) == ("",):
        return rows[""]
    check_choice(name, choice, tuple(rows))
    return rows[choice]
