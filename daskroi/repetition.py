"""Repetition times: what one can be, who says so, and whom to believe."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from daskroi.errors import warn

__all__ = ["RepetitionTime", "choose_t_r", "header_t_r", "plausible_t_r", "same_t_r"]

# divided by, not multiplied with: 2530 * 1e-3 is 2.5300000000000002
UNITS_PER_SECOND = {"sec": 1, "msec": 1000, "usec": 1_000_000, "unknown": 1}


@dataclass(frozen=True)
class RepetitionTime:
    """The time between volumes, and who says so.

    Parameters
    ----------
    seconds : float or None
        None: not known.
    source : str
        "argument", "header", "time coordinate" or the path of a JSON sidecar; empty if nobody.
    refused : float or None
        What the source says, if no TR can be that.
    """

    seconds: float | None = None
    source: str = ""
    refused: float | None = None

    @classmethod
    def said(cls, t_r: float, source: str) -> RepetitionTime:
        """What a header or sidecar says, judged."""
        return cls(t_r, source) if plausible_t_r(t_r) else cls(None, source, t_r)

    @property
    def who(self) -> str:
        """The source, as a sentence names it."""
        return "the header" if self.source == "header" else self.source

    @property
    def refusal(self) -> str:
        """Why ``refused`` is."""
        return f"{self.who} says {self.refused:g} s, which is not a plausible TR"

    @property
    def reason(self) -> str:
        """Why a file gives no repetition time."""
        if self.refused is None:
            return "neither header nor JSON sidecar gives one"
        ms = self.refused / 1e3
        hint = f". It looks like milliseconds: t_r={ms:g}" if plausible_t_r(ms) else ""
        return self.refusal + hint


def plausible_t_r(t_r: float) -> bool:
    """Whether a TR can be meant in seconds: 0.01 s to 30 s."""
    return 0.01 <= t_r <= 30


def same_t_r(a: float | None, b: float | None) -> bool:
    """Whether two TRs differ by no more than rounding, or one of them is not known."""
    return a is None or b is None or math.isclose(a, b, rel_tol=1e-3)


def choose_t_r(url: str, sidecar: RepetitionTime, other: RepetitionTime) -> RepetitionTime:
    """A JSON sidecar's before the header's (or another sidecar's)."""
    if sidecar.seconds is not None:
        if not same_t_r(sidecar.seconds, other.seconds):
            warn(
                f"{url}: {other.who} says TR {other.seconds:g} s and {sidecar.source} says "
                f"{sidecar.seconds:g} s; the sidecar's is used. Pass t_r to settle it."
            )
        return sidecar
    if sidecar.refused is None:
        return other
    if other.seconds is None:
        return sidecar
    warn(
        f"{url}: {sidecar.refusal}; {other.who}'s {other.seconds:g} s is used. "
        "Pass t_r to settle it."
    )
    return other


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
    return RepetitionTime.said(float(f"{raw:.7g}") / UNITS_PER_SECOND[unit], "header")
