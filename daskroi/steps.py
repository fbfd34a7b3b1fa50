"""What cleaning does to a region time series, as one frozen value that is checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import numpy as np

from daskroi.errors import DaskroiError, DaskroiTypeError, brief, check_choice, check_flag
from daskroi.repetition import plausible_t_r

__all__ = ["CleanSteps", "clamp_cutoffs"]

FILTERS = ("butterworth", "cosine", False)
STANDARDIZE = ("zscore_sample", "psc", None)
# of `daskroi.filters.butterworth`
BUTTERWORTH_DEFAULTS: dict[str, Any] = {"order": 5, "padlen": None, "padtype": "odd"}
BUTTERWORTH = tuple(BUTTERWORTH_DEFAULTS)
PADTYPES = ("odd", "even", "constant", None)


@dataclass(frozen=True)
class CleanSteps:
    """What `clean` does, in its order. Hashable and picklable, so it can be part of a key.

    Parameters
    ----------
    detrend : bool
        Remove the mean and the linear trend, from confounds as well.
    standardize : {"zscore_sample", "psc", None}
        z-scores with ddof 1, percent signal change, or neither. True and False are taken as
        "zscore_sample" and None.
    standardize_confounds : bool
        z-score confounds before regression. If False they are divided by their maximum, and what
        they hold of the mean is removed too.
    filter : {"butterworth", "cosine", False}
        Butterworth needs ``low_pass``, ``high_pass`` or both, and does nothing without them.
        Cosine regresses slow drifts out together with the confounds.
    low_pass, high_pass : float or None
        Cutoffs in Hz.
    t_r : float or None
        Repetition time in s.
    extrapolate : bool
        Butterworth with censored frames: fill those before the first and after the last kept
        frame too, instead of dropping them before the filter.
    ensure_finite : bool
        Replace NaN and infinite values by 0 first. Lost regions become 0 then, no longer NaN.
    butterworth : tuple of (name, value) pairs
        Options of `daskroi.signals.butterworth`: ``order``, ``padtype``, ``padlen``.

    Raises
    ------
    DaskroiError
        A value that is not known, a missing ``t_r``, cutoffs the wrong way round, a ``t_r`` that
        no scanner has.
    DaskroiTypeError
        A value of the wrong type.

    Examples
    --------
    >>> CleanSteps(detrend=True, high_pass=0.01, t_r=2).active_filter
    'butterworth'
    >>> CleanSteps(high_pass=0.01, t_r=2000)
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: t_r=2000 s looks like milliseconds: pass t_r=2.0.
    """

    detrend: bool = False
    standardize: str | None = None
    standardize_confounds: bool = True
    filter: str | bool = "butterworth"
    low_pass: float | None = None
    high_pass: float | None = None
    t_r: float | None = None
    extrapolate: bool = False
    ensure_finite: bool = False
    butterworth: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        # one spelling per meaning, so that equal steps have equal keys (2 and 2.0 s, True)
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        for name in ("detrend", "standardize_confounds", "extrapolate", "ensure_finite"):
            put(name, check_flag(name, getattr(self, name)))
        for name in ("low_pass", "high_pass", "t_r"):
            put(name, _number(name, getattr(self, name)))
        if isinstance(self.standardize, (bool, np.bool_)):
            put("standardize", "zscore_sample" if self.standardize else None)
        check_choice("standardize", self.standardize, STANDARDIZE)
        if isinstance(self.filter, np.bool_):
            put("filter", bool(self.filter))
        check_choice("filter", self.filter, FILTERS)
        put("butterworth", _butterworth_options(self.butterworth))
        if self.t_r is not None:
            _check_t_r(self.t_r)
        self._check_filter()

    def _check_filter(self) -> None:
        if self.filter == "cosine":
            for name in ("t_r", "high_pass"):
                if getattr(self, name) is None:
                    raise DaskroiError(
                        f"filter='cosine' needs {name}. Pass t_r in s and high_pass in Hz."
                    )
        if self.active_filter != "butterworth":
            return
        if self.t_r is None:
            raise DaskroiError(
                f"low_pass={self.low_pass}, high_pass={self.high_pass}: a cutoff in Hz needs the "
                "repetition time. Pass t_r in s."
            )
        both = self.low_pass is not None and self.high_pass is not None
        if both and self.high_pass >= self.low_pass:  # type: ignore[operator]
            raise DaskroiError(
                f"high_pass={self.high_pass} Hz is not below low_pass={self.low_pass} Hz, so "
                "nothing would pass. Swap them, or leave one out."
            )

    @classmethod
    def make(cls, **options: Any) -> CleanSteps:
        """Build from keywords as nilearn writes them, ``butterworth__order=3`` included.

        Examples
        --------
        >>> CleanSteps.make(low_pass=0.1, t_r=2.0, butterworth__order=3).butterworth
        (('order', 3),)
        """
        prefix = "butterworth__"
        names = {field.name for field in fields(cls)}
        inner = {k.removeprefix(prefix): v for k, v in options.items() if k.startswith(prefix)}
        outer = {k: v for k, v in options.items() if not k.startswith(prefix)}
        if unknown := sorted(set(outer) - names):
            known = sorted(names - {"butterworth"}) + [prefix + name for name in BUTTERWORTH]
            raise DaskroiTypeError(
                f"cleaning has no option {', '.join(map(repr, unknown))}. "
                f"Use some of: {', '.join(known)}."
            )
        if inner:
            outer["butterworth"] = dict(outer.get("butterworth", ())) | inner
        return cls(**outer)

    @property
    def active_filter(self) -> str | None:
        """``"butterworth"``, ``"cosine"`` or None: butterworth without a cutoff is no filter."""
        if self.filter is False:
            return None
        if self.filter == "butterworth" and self.low_pass is None and self.high_pass is None:
            return None
        return str(self.filter)

    @property
    def min_frames(self) -> int:
        """Frames a run must have at least, from the padding at both ends of the filter.

        `scipy.signal.sosfiltfilt` pads with three times the length of the filter: 3 (n + 1)
        frames, where n is ``order`` (twice that for a band), and wants one frame more.
        """
        if self.active_filter != "butterworth":
            return 1
        options = dict(self.butterworth)
        if options.get("padtype", "odd") is None:
            return 1
        if options.get("padlen") is not None:
            return int(options["padlen"]) + 1
        order = int(options.get("order", 5))
        n = order * (2 if self.low_pass is not None and self.high_pass is not None else 1)
        return 3 * (n + 1) + 1


def clamp_cutoffs(
    high_pass: float | None, low_pass: float | None, t_r: float
) -> tuple[float | None, float | None]:
    """Move cutoffs (Hz) into the open interval from 0 to the Nyquist frequency.

    As nilearn 0.14.1: to 10 float32 epsilons below Nyquist, and 1 above 0, relative to Nyquist.

    Examples
    --------
    >>> clamp_cutoffs(0.01, 0.1, t_r=2.0)
    (0.01, 0.1)
    >>> clamp_cutoffs(None, 0.3, t_r=2.0)
    (None, 0.2499997...)
    """
    nyquist, eps = 0.5 / t_r, float(np.finfo(np.float32).eps)

    def clamp(cutoff: float | None) -> float | None:
        if cutoff is None:
            return None
        if cutoff >= nyquist:
            return nyquist - nyquist * 10 * eps
        # nilearn lets 0 and next to 0 pass, and scipy then refuses it: the filter is singular
        return max(cutoff, nyquist * eps)

    return clamp(high_pass), clamp(low_pass)


def _number(name: str, value: object) -> float | None:
    if value is None:
        return None
    unit = "s" if name == "t_r" else "Hz"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise DaskroiTypeError(
            f"{name}={brief(value)} is not a number. Pass {unit}, or None to do without."
        )
    if not math.isfinite(value):
        raise DaskroiError(f"{name}={value!r} is not finite. Pass {unit}, or None to do without.")
    return float(value)


def _check_t_r(t_r: float) -> None:
    if plausible_t_r(t_r):
        return
    # 10 s, long for fMRI, is 10,000 ms; no one means 31 ms
    if plausible_t_r(t_r / 1000):
        raise DaskroiError(f"t_r={t_r:g} s looks like milliseconds: pass t_r={t_r / 1000!r}.")
    what = "longer than any volume takes (30 s)" if t_r > 30 else "shorter than any scan (0.01 s)"
    raise DaskroiError(f"t_r={t_r:g} s is {what}. Pass the repetition time in s.")


def _butterworth_options(options: object) -> tuple[tuple[str, Any], ...]:
    try:
        given: dict[str, Any] = dict(options)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise DaskroiTypeError(
            f"butterworth={brief(options)} is not a set of (name, value) pairs. "
            "Pass options as butterworth__order=5."
        ) from None
    if unknown := sorted(set(given) - set(BUTTERWORTH), key=str):
        raise DaskroiTypeError(
            f"the butterworth filter has no option {', '.join(map(repr, unknown))}. "
            f"Use some of: {', '.join('butterworth__' + name for name in BUTTERWORTH)}."
        )
    if "padtype" in given:
        check_choice("butterworth__padtype", given["padtype"], PADTYPES)
    for name, least in (("order", 1), ("padlen", 0)):
        value = given.get(name)
        if name not in given or (value is None and name == "padlen"):
            continue
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if value is None or not (whole and least <= value < 2**31):
            raise DaskroiError(
                f"butterworth__{name}={brief(value)} does not do. Pass an integer of at least "
                f"{least}."
            )
        given[name] = int(value)
    # one spelling per meaning: what is the default is not said
    return tuple(sorted((k, v) for k, v in given.items() if v != BUTTERWORTH_DEFAULTS[k]))
