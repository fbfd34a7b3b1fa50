"""When the rows of a result are: from its ``time`` into the sidecar, and back to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.image import TIME, declared_t_r, time_coordinate
from daskroi.repetition import RepetitionTime

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["timing_in", "timing_of"]


def timing_of(result: xr.DataArray, n_frames: int | None) -> dict[str, Any]:
    """When the rows are: regular, from where, or one by one; and which frames they are.

    Parameters
    ----------
    result : DataArray, dims (time, region) or (region,)
        Without ``time`` there is nothing to say.
    n_frames : int or None
        Frames of the run, before censoring.

    Returns
    -------
    dict
        Keys of a sidecar. BIDS has ``RepetitionTime`` or ``VolumeTiming``, never both.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=4, n_regions=4)
    >>> kept = dr.extract(run.image, run.atlas, sample_mask=[0, 1, 3])
    >>> timing_of(kept, 4)
    {'NumberOfFrames': 4, 'VolumeTiming': [0.0, 2.0, 6.0], 'RepetitionTimeSource': 'argument',
     'KeptFrames': [0, 1, 3]}
    """
    if TIME not in result.coords or TIME not in result.dims:
        return {}
    time = result.coords[TIME]
    values = np.asarray(time.values, dtype=np.float64)
    said = declared_t_r(time)
    t_r = said.seconds
    timing: dict[str, Any] = {} if n_frames is None else {"NumberOfFrames": n_frames}
    if time.attrs.get("units") == "s":
        if t_r is not None and np.allclose(np.diff(values), t_r, rtol=1e-6, atol=0):
            timing["RepetitionTime"] = t_r
            if values.size and values[0] != 0:
                timing["StartTime"] = float(values[0])
        else:
            timing["VolumeTiming"] = values.tolist()
        if said.source:
            timing["RepetitionTimeSource"] = said.source
        if t_r is None:
            return timing
        values = np.rint(values / t_r)
    frames = values.astype(np.int64).tolist()
    if frames != list(range(len(frames) if n_frames is None else n_frames)):
        timing["KeptFrames"] = frames
    return timing


def timing_in(sidecar: Mapping[str, Any], n_rows: int) -> tuple[str, np.ndarray, dict[str, Any]]:
    """The ``time`` coordinate that `timing_of` has put into a sidecar.

    Parameters
    ----------
    sidecar : Mapping
        What the JSON holds.
    n_rows : int
        Rows of the table.

    Returns
    -------
    tuple of dim, values and attributes
        Seconds, or frame numbers where the repetition time was not known. Censored rows have the
        repetition time of the run, too, which BIDS leaves no place for: it is found again.

    Raises
    ------
    TypeError
        The sidecar holds something else than numbers.

    Examples
    --------
    >>> timing_in({"VolumeTiming": [0.0, 0.72, 2.16], "KeptFrames": [0, 1, 3]}, 3)
    ('time', array([0.  , 0.72, 2.16]), {'units': 's', 't_r': 0.72, 't_r_source': ''})
    """
    frames = np.array(sidecar.get("KeptFrames", range(n_rows)), dtype=np.int64)
    source = str(sidecar.get("RepetitionTimeSource", ""))
    if "VolumeTiming" in sidecar:
        values = np.array(sidecar["VolumeTiming"], dtype=np.float64)
        t_r = _spacing(values, frames) if "KeptFrames" in sidecar else None
        if t_r is None:
            return TIME, values, {"units": "s"}
        return TIME, values, time_coordinate(frames, RepetitionTime(t_r, source))[2]
    t_r = float(sidecar["RepetitionTime"]) if "RepetitionTime" in sidecar else None
    dim, values, attrs = time_coordinate(frames, RepetitionTime(t_r, source))
    if t_r is not None and n_rows and values[0] != (start := float(sidecar.get("StartTime", 0))):
        # a part of an image, cut where no frame begins
        return dim, start + np.arange(n_rows) * t_r, attrs
    return dim, values, attrs


def _spacing(times: np.ndarray, frames: np.ndarray) -> float | None:
    """Seconds of one frame, of which ``times`` are multiples; None where a frame tells nothing."""
    if len(times) != len(frames) or not len(frames) or frames[-1] <= frames[0]:
        return None
    guess = times[-1] / frames[-1]
    # dividing may be off by the last bit of what was multiplied; of those that fit, 0.72 is meant
    # and not 0.7200000000000001
    near = (float(t_r) for t_r in (guess, np.nextafter(guess, 0), np.nextafter(guess, np.inf)))
    fitting = [t_r for t_r in near if np.array_equal(frames * t_r, times)]
    if fitting:
        return min(fitting, key=lambda t_r: len(repr(t_r)))
    return float((times[-1] - times[0]) / (frames[-1] - frames[0]))
