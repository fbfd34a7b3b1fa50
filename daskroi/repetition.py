"""Repetition times: what one can be, who says so, and whom to believe."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from daskroi.errors import warn

__all__ = ["RepetitionTime", "choose_t_r", "header_t_r", "plausible_t_r", "same_t_r"]

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

    @property
    def who(self) -> str:
        """The source, as a sentence names it."""
        return f"the {self.source}" if self.source == "header" else self.source

    @property
    def refused(self) -> bool:
        """Whether somebody said what cannot be."""
        return self.seconds is None and bool(self.source)


def plausible_t_r(t_r: float | None) -> bool:
    """Whether a TR can be meant in seconds: 0.01 s to 30 s."""
    return t_r is not None and 0.01 <= t_r <= 30


def same_t_r(a: float | None, b: float | None) -> bool:
    """Whether two TRs differ by no more than rounding, or one of them is not known."""
    return a is None or b is None or math.isclose(a, b, rel_tol=1e-3)


def choose_t_r(url: str, sidecar: RepetitionTime, other: RepetitionTime) -> RepetitionTime:
    """A JSON sidecar's, else the header's (or another sidecar's), whichever first is plausible."""
    wrong = "which is not a plausible TR"
    if plausible_t_r(sidecar.seconds):
        if plausible_t_r(other.seconds) and not same_t_r(sidecar.seconds, other.seconds):
            warn(
                f"{url}: {other.who} says TR {other.seconds:g} s and {sidecar.source} says "
                f"{sidecar.seconds:g} s; the sidecar's is used. Pass t_r to settle it."
            )
        return sidecar
    if plausible_t_r(other.seconds):
        if sidecar.seconds is not None:
            warn(
                f"{url}: {sidecar.source} says {sidecar.seconds:g} s, {wrong}; {other.who}'s "
                f"{other.seconds:g} s is used. Pass t_r to settle it."
            )
        return other
    for said in (sidecar, other):
        if (t_r := said.seconds) is not None:
            hint = f". It looks like milliseconds: t_r={t_r / 1e3:g}"
            reason = f"{said.who} says {t_r:g} s, {wrong}{hint if plausible_t_r(t_r / 1e3) else ''}"
            return RepetitionTime(None, said.source, reason)
    return replace(other, reason=other.reason or "neither header nor JSON sidecar gives one")


def header_t_r(header: Any) -> RepetitionTime:
    """What a header says, in its unit; of formats that have no such fields, nothing."""
    unit, raw = "unknown", 0.0
    # KeyError also for unit codes that NIfTI does not define
    with suppress(KeyError, AttributeError, TypeError, ValueError, IndexError):
        raw = float(header["pixdim"][4])
        unit = header.get_xyzt_units()[1]
    if not raw > 0 or unit not in UNITS_PER_SECOND:  # zero is "not said"; Hz and ppm are no times
        return RepetitionTime()
    # pixdim is float32: 0.72 would come out as 0.7200000286
    return RepetitionTime(float(f"{raw:.7g}") / UNITS_PER_SECOND[unit], "header")
