"""Confounds of an fMRIPrep run: regressors and censored frames, by a strategy's name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.censor import AllFramesCensoredError
from daskroi.confoundrecipe import ConfoundRecipe
from daskroi.confoundtable import MEASURES, choose_columns, numbers, read_json, read_table
from daskroi.errors import DaskroiError, some

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Confounds", "load_confounds", "read_fmriprep", "short_segments"]

# what stands in the first row of derivatives, by `Strategy.first_row`
FILLS = {"next": "second row", "zero": "0"}


@dataclass(frozen=True, eq=False)
class Confounds:
    """Confounds of one run: what to regress out, and which frames to leave out.

    Parameters
    ----------
    values : DataFrame, dims (time, regressor), float64
        Of full length, also when frames are censored. No columns for strategy "none".
    sample_mask : ndarray of bool, dims (time,), or None
        True for frames that are kept; None when all are.
    description : dict
        What was done, for a sidecar: holds nothing but JSON. Frames count from 0; a frame may be
        censored for several reasons.
    recipe : ConfoundRecipe

    Examples
    --------
    >>> import numpy as np
    >>> from daskroi import ConfoundRecipe, Confounds
    >>> import pandas as pd
    >>> recipe = ConfoundRecipe.make(columns="csf", n_dummy=1)
    >>> values = pd.DataFrame({"csf": [9.0, 1.0, -1.0]})
    >>> found = Confounds(values, np.array([False, True, True]), {}, recipe)
    >>> found.columns, found.n_time, found.n_kept
    (['csf'], 3, 2)
    """

    values: pd.DataFrame
    sample_mask: NDArray[np.bool_] | None
    description: dict[str, Any]
    recipe: ConfoundRecipe

    @property
    def columns(self) -> list[str]:
        """Names of the regressors."""
        return list(self.values.columns)

    @property
    def n_time(self) -> int:
        """Frames of the run, censored ones included."""
        return len(self.values)

    @property
    def n_kept(self) -> int:
        """Frames that are kept."""
        return self.n_time if self.sample_mask is None else int(self.sample_mask.sum())

    @property
    def arguments(self) -> dict[str, Any]:
        """What `extract`, `clean` and maskers call it: ``extract(image, atlas, **arguments)``."""
        # an empty table is no confounds
        values = self.values if self.columns else None
        return {"confounds": values, "sample_mask": self.sample_mask}

    def __repr__(self) -> str:
        return (
            f"<Confounds {self.recipe.strategy!r}: {len(self.columns)} regressors, "
            f"{self.n_kept} of {self.n_time} frames kept>"
        )


def load_confounds(
    path: str | os.PathLike[str],
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
    storage_options: Mapping[str, Any] | None = None,
) -> Confounds:
    """Read the confounds of a run that fMRIPrep (1.2 or later) has preprocessed.

    Parameters
    ----------
    path : path or URL
        ``…_desc-confounds_timeseries.tsv`` (up to fMRIPrep 20.1 ``…_regressors.tsv``), with its
        ``.json`` beside it where CompCor's masks are asked for.
    strategy : str or tuple of str, optional
        nilearn's presets "simple", "scrubbing", "compcor" and "ica_aroma"; XCP-D's "24P", "27P",
        "36P", "acompcor", "acompcor_gsr", "gsr_only" and "none"; or a tuple of nilearn's
        components "motion", "high_pass", "wm_csf", "global_signal", "compcor", "ica_aroma" and
        "scrub". If not given, ``columns``, or else nilearn's default
        ("motion", "high_pass", "wm_csf").
    motion, wm_csf, global_signal : {"basic", "power2", "derivatives", "full"}
        Expansions of a component: with squares, with derivatives, or with both and the squares of
        these. By default as the strategy has it; "full", "basic" and "basic" for a tuple. Giving
        ``global_signal`` adds it to one of nilearn's presets.
    compcor : str
        {"anat_combined", "anat_separated", "temporal", "temporal_anat_combined",
        "temporal_anat_separated"}: whose components.
    n_compcor : int or "all"
        The first so many components of each mask.
    ica_aroma : {"full", "basic"}
        "basic" takes AROMA's components; "full" takes nothing, because the image
        ``desc-smoothAROMAnonaggr_bold`` is clean already, and fits no other image.
    scrub : int
        Segments between censored frames that are shorter are censored as well; 5 if "scrub" is in
        the strategy, else 0.
    fd_threshold : float, optional
        Framewise displacement in mm above which a frame is censored; 0.5 if "scrub" is in the
        strategy, else none is. Infinity turns it off.
    std_dvars_threshold : float, optional
        Likewise for standardised DVARS; 1.5 if "scrub" is in the strategy.
    n_dummy : int or "auto"
        Frames to censor at the start; "auto" are those flagged as not in steady state.
    columns : list of str, optional
        Further columns, by name or shell wildcard (``"trans_?"``); alone if no strategy is given.
    demean : bool
        Remove each regressor's mean over the kept frames, as nilearn does. With
        ``standardize_confounds`` or ``detrend`` it makes no difference to what is regressed out;
        without them, a mean that is left would be regressed out of the signals too.
    storage_options : mapping, optional
        For the file system of a URL.

    Returns
    -------
    Confounds
        ``values`` (time, regressor), ``sample_mask`` (time,), ``description``; and ``arguments``
        for ``extract(image, atlas, **confounds.arguments)``.

    Raises
    ------
    DaskroiNotFoundError
        No such table.
    DaskroiError
        A column that the strategy needs is missing, or is not finite in a kept frame; no JSON file
        where CompCor needs it; a table of fMRIPrep 1.0 or 1.1; options that do not fit together.
    AllFramesCensoredError
        No frame is left.

    Notes
    -----
    Columns, values and kept frames equal those of nilearn 0.14.1 for everything that has a name
    there. Different on purpose: ``sample_mask`` is boolean, and None when all frames are kept;
    options and thresholds that the strategy does not use are applied (thresholds) or refused, not
    ignored; a component of CompCor or a mask that is not there is an error.

    n/a in the first row, where derivatives have none, becomes the second row's value, as in
    nilearn; 0 for XCP-D's strategies, as there. XCP-D also removes a linear trend: clean with
    ``detrend=True`` (``recipe.detrend`` tells).

    As in nilearn, dummy frames do not count as the border of a segment.

    Examples
    --------
    >>> from daskroi import load_confounds
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "sub-1_task-rest_desc-confounds_timeseries.tsv")
    >>> _ = path.write_text("csf\\twhite_matter\\tframewise_displacement\\n"
    ...     "1.0\\t5.0\\tn/a\\n2.0\\t7.0\\t0.1\\n9.0\\t9.0\\t0.9\\n3.0\\t6.0\\t0.2\\n")
    >>> confounds = load_confounds(path, ["wm_csf"], fd_threshold=0.5)
    >>> confounds
    <Confounds ('wm_csf',): 2 regressors, 3 of 4 frames kept>
    >>> confounds.values["csf"].tolist(), confounds.sample_mask.tolist()
    ([-1.0, 0.0, 7.0, 1.0], [True, True, False, True])
    >>> confounds.description["censored"]
    {'framewise_displacement': [2]}
    """
    recipe = ConfoundRecipe.make(
        strategy,
        motion=motion,
        wm_csf=wm_csf,
        global_signal=global_signal,
        compcor=compcor,
        n_compcor=n_compcor,
        ica_aroma=ica_aroma,
        scrub=scrub,
        fd_threshold=fd_threshold,
        std_dvars_threshold=std_dvars_threshold,
        n_dummy=n_dummy,
        columns=columns,
        demean=demean,
    )
    return read_fmriprep(path, recipe, storage_options)


def read_fmriprep(
    path: str | os.PathLike[str],
    recipe: ConfoundRecipe,
    storage_options: Mapping[str, Any] | None = None,
) -> Confounds:
    """Read confounds by a recipe that was checked before: `load_confounds` for many runs.

    Examples
    --------
    >>> read_fmriprep("sub-1_desc-confounds_timeseries.tsv", ConfoundRecipe.make("36P"))
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiNotFoundError: ...sub-1_desc-confounds_timeseries.tsv: no such file...
    """
    file, table, sha256 = read_table(path, storage_options)
    names = choose_columns(
        file, table.columns.tolist(), recipe, lambda: read_json(path, storage_options)
    )
    censored = _censored(table, recipe, file)
    flagged = np.zeros(len(table), dtype=bool)
    for frames in censored.values():
        flagged[frames] = True
    if flagged.all():
        reasons = ", ".join(f"{len(frames)} by {reason}" for reason, frames in censored.items())
        raise AllFramesCensoredError(
            f"{file}: all {len(table)} frames are censored ({reasons}). Raise the thresholds, "
            "lower scrub, or leave this run out."
        )
    keep = ~flagged
    values, filled = _regressors(table, names, recipe, keep, file)
    description = {
        "source": os.path.basename(file),
        "sha256": sha256,
        "strategy": recipe.strategy if isinstance(recipe.strategy, str) else list(recipe.strategy),
        "options": dict(recipe.options),
        "patterns": list(recipe.patterns),
        "columns": names,
        "first_row": {"filled_with": FILLS[recipe.first_row], "columns": filled},
        "demean": recipe.demean,
        "fd_threshold": recipe.fd_threshold,
        "std_dvars_threshold": recipe.std_dvars_threshold,
        "scrub": recipe.scrub,
        "n_dummy": recipe.n_dummy,
        "n_frames": len(table),
        "n_kept": int(keep.sum()),
        "n_censored": int(flagged.sum()),
        "censored": censored,
    }
    return Confounds(values, None if keep.all() else keep, description, recipe)


def short_segments(keep: NDArray[np.bool_], shortest: int) -> NDArray[np.bool_]:
    """Frames of segments of kept frames that are shorter than ``shortest``.

    None when nothing is censored: a short run is one segment, and stays.

    Examples
    --------
    >>> short_segments(np.array([1, 0, 1, 1, 0, 1, 1, 1], dtype=bool), 3).astype(int)
    array([1, 0, 1, 1, 0, 0, 0, 0])
    """
    if keep.all():
        return np.zeros_like(keep)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]]).astype(np.int8)))
    short = np.zeros_like(keep)
    for start, stop in edges.reshape(-1, 2):
        short[start:stop] = stop - start < shortest
    return short


def _censored(table: pd.DataFrame, recipe: ConfoundRecipe, file: str) -> dict[str, list[int]]:
    """Frames to leave out, by reason; a frame may have several."""
    flags: dict[str, NDArray[np.bool_]] = {}
    still = np.ones(len(table), dtype=bool)
    for parameter, column in MEASURES:
        threshold = getattr(recipe, parameter)
        if threshold is not None:
            # n/a, as in the first row, is above nothing
            flags[column] = numbers(table, column, file) > threshold
            still &= ~flags[column]
    if flags:
        flags["short_segment"] = short_segments(still, recipe.scrub)
    if recipe.n_dummy == "auto":
        states = [
            numbers(table, c, file) for c in table.columns.tolist() if "non_steady_state" in c
        ]
        if states:
            flags["non_steady_state"] = np.sum(states, axis=0) != 0
    else:
        flags["dummy"] = np.arange(len(table)) < int(recipe.n_dummy)
    return {reason: np.flatnonzero(flag).tolist() for reason, flag in flags.items() if flag.any()}


def _regressors(
    table: pd.DataFrame,
    names: list[str],
    recipe: ConfoundRecipe,
    keep: NDArray[np.bool_],
    file: str,
) -> tuple[pd.DataFrame, list[str]]:
    """Values of the chosen columns, and those whose first row was filled."""
    import pandas as pd

    values = np.empty((len(table), len(names)))
    for i, name in enumerate(names):
        values[:, i] = numbers(table, name, file)
    empty = np.isnan(values[0])
    if empty.any():
        values[0, empty] = (
            0.0 if recipe.first_row == "zero" else values[min(1, len(values) - 1), empty]
        )
    bad = ~np.isfinite(values) & keep[:, None]
    if bad.any():
        columns = [names[i] for i in np.flatnonzero(bad.any(axis=0))]
        frames = np.flatnonzero(bad.any(axis=1))
        raise DaskroiError(
            f"{file}: n/a or infinite in {len(frames)} kept frames, first {frames[0]}: "
            f"{some(map(repr, columns), 5)}. Censor these frames, or choose columns "
            "without them."
        )
    if recipe.demean and names:
        values -= values[keep].mean(axis=0)
    return pd.DataFrame(values, columns=names), [n for n, e in zip(names, empty, strict=True) if e]
