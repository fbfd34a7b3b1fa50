"""Repetition times: what one can be, who says so, and whom to believe."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from daskroi.errors import warn

__all__ = ["RepetitionTime", "choose_t_r", "plausible_t_r", "same_t_r", "seems_milliseconds"]

# divided by, not multiplied with: 2530 * 1e-3 is 2.5300000000000002
UNITS_PER_SECOND = {"sec": 1, "msec": 1000, "usec": 1_000_000, "unknown": 1}


@dataclass(frozen=True)
class RepetitionTime:
    """The time between volumes, or why it is not known.

    Parameters
    ----------
    seconds : float or None
    source : str
        Who says so: "argument", "header", "time coordinate" or the path of a JSON sidecar. Without
        ``seconds``, who said what cannot be; empty if nobody said anything.
    reason : str
        Why there are no ``seconds``, if that is known.
    """

    seconds: float | None = None
    source: str = ""
    reason: str = ""


def plausible_t_r(t_r: float | None) -> bool:
    """Whether a TR can be meant in seconds: 0.01 s to 30 s."""
    return t_r is not None and 0.01 <= t_r <= 30


def seems_milliseconds(t_r: float) -> bool:
    """Whether a TR that is not plausible in seconds would be one in milliseconds."""
    return plausible_t_r(t_r / 1e3)


def same_t_r(a: float | None, b: float | None) -> bool:
    """Whether two TRs differ by no more than rounding, or one of them is not known."""
    return a is None or b is None or math.isclose(a, b, rel_tol=1e-3)


def choose_t_r(url: str, header: Any, sidecar: RepetitionTime | None = None) -> RepetitionTime:
    """The sidecar's repetition time, else the header's, whichever is plausible first."""
    beside, inside = sidecar or RepetitionTime(), _of_header(header)
    if plausible_t_r(beside.seconds):
        if plausible_t_r(inside.seconds) and not same_t_r(beside.seconds, inside.seconds):
            warn(
                f"{url}: the header says TR {inside.seconds:g} s and {beside.source} says "
                f"{beside.seconds:g} s; the sidecar's is used. Pass t_r to settle it."
            )
        return beside
    if plausible_t_r(inside.seconds):
        if beside.seconds is not None:
            warn(
                f"{url}: {beside.source} says {beside.seconds:g} s, which is not a plausible TR; "
                f"the header's {inside.seconds:g} s is used. Pass t_r to settle it."
            )
        return inside
    for found, who in ((beside, beside.source), (inside, "the header")):
        if (t_r := found.seconds) is not None:
            ms = (
                f". It looks like milliseconds: t_r={t_r / 1e3:g}"
                if seems_milliseconds(t_r)
                else ""
            )
            reason = f"{who} says {t_r:g} s, which is not a plausible TR{ms}"
            return RepetitionTime(None, found.source, reason)
    return RepetitionTime(reason="neither header nor JSON sidecar gives one")


def _of_header(header: Any) -> RepetitionTime:
    unit, raw = "unknown", 0.0
    # other formats have neither field; KeyError also for unit codes that NIfTI does not define
    with suppress(KeyError, AttributeError, TypeError, ValueError, IndexError):
        raw = float(header["pixdim"][4])
        unit = header.get_xyzt_units()[1]
    if not raw > 0 or unit not in UNITS_PER_SECOND:  # zero is "not said"; Hz and ppm are no times
        return RepetitionTime()
    # pixdim is float32: 0.72 would come out as 0.7200000286
    return RepetitionTime(float(f"{raw:.7g}") / UNITS_PER_SECOND[unit], "header")
