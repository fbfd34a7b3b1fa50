"""What became of a run."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from daskroi.errors import DaskroiError
from daskroi.outputs import BlockedError, NotWrittenError

__all__ = ["Outcome", "failure"]


@dataclass(frozen=True)
class Outcome:
    """What became of a run: small, whatever the size of the run.

    Parameters
    ----------
    status : {"ok", "failed"}
    reason : str
        Of a failure, in one line.
    trace : str
        Of a failure: the traceback.
    key : str
        Of a failure that will come again with the same input: the run's content key.
    fatal : bool
        Results cannot be written: the next runs would fail as well.
    seconds, peak_bytes, read_bytes : numbers
        Time; largest memory of the process meanwhile; size of the image file.
    frames, kept, lost : int
        Frames of the run, those not censored; regions without a voxel, of all atlases.
    warnings : tuple of str
    sent : tuple of dict of str to str or bytes, or None
        Results, a dict per atlas, by path below the output folder, of a worker that does not see
        that folder; nor has it made what was missing beside series that are in place. None: all is
        written.
    """

    status: str = "ok"
    reason: str = ""
    trace: str = ""
    key: str = ""
    fatal: bool = False
    seconds: float = 0.0
    peak_bytes: int = 0
    read_bytes: int = 0
    frames: int = 0
    kept: int = 0
    lost: int = 0
    warnings: tuple[str, ...] = ()
    sent: tuple[Mapping[str, str | bytes], ...] | None = None


def failure(error: BaseException, key: str = "") -> Outcome:
    """A failed run's outcome; ``key`` is kept only where the input is to blame."""
    reason = " ".join(str(error).split()) or type(error).__name__
    unwritten = isinstance(error, NotWrittenError)
    fatal = unwritten and not isinstance(error, BlockedError)
    expected = isinstance(error, DaskroiError)
    if not expected:
        reason = f"{type(error).__name__}: {reason}"
    trace = "".join(traceback.format_exception(error))
    return Outcome("failed", reason, trace, key if expected and not unwritten else "", fatal)
