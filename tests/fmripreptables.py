"""Tables of confounds as fMRIPrep writes them, and what nilearn takes from them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces import fmriprep as nilearn

from daskroi.censor import AllFramesCensoredError
from daskroi.errors import DaskroiWarning
from daskroi.fmriprep import load_confounds

STEM = "sub-1_task-rest"
EXPANSIONS = ("basic", "power2", "derivatives", "full")


def series(rng: np.random.Generator, n_time: int, names: list[str]) -> dict[str, np.ndarray]:
    """Signals with derivatives, which have n/a in the first row, and squares."""
    found = {}
    for name in names:
        values = rng.normal(rng.normal(0, 100), rng.uniform(0.01, 10), n_time)
        slope = np.concatenate([[np.nan], np.diff(values)])
        found[name] = values
        found[f"{name}_derivative1"] = slope
        found[f"{name}_power2"] = values**2
        found[f"{name}_derivative1_power2"] = slope**2
    return found


def table_of(
    seed: int = 0,
    n_time: int = 30,
    n_dummy: int = 0,
    n_cosine: int = 2,
    n_compcor: int = 7,
    old_names: bool = False,
    spikes: float = 0.1,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A table as fMRIPrep writes it, and its JSON file; ``old_names`` as up to version 20."""
    rng = np.random.default_rng(seed)
    motion = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    columns = series(rng, n_time, ["global_signal", "csf", "white_matter", *motion])
    columns["csf_wm"] = rng.normal(size=n_time)
    for name, typical in (("framewise_displacement", 0.2), ("std_dvars", 1.0)):
        loud = rng.random(n_time) < spikes
        columns[name] = rng.uniform(0, typical, n_time) + loud * 5 * typical
        columns[name][0] = np.nan
    about: dict[str, Any] = {"global_signal": {"Method": "Mean"}}
    number = 0
    for letter, mask in (("c", "CSF"), ("w", "WM"), ("a", "combined"), ("t", None)):
        prefix = "a" if old_names and mask else letter
        if not old_names or letter == "c":
            number = 0
        for i in range(n_compcor + (letter == "w")):
            name = f"{prefix}_comp_cor_{(i if letter == 't' else number):02}"
            number += 1
            columns[name] = rng.normal(size=n_time)
            about[name] = {"Method": "aCompCor" if mask else "tCompCor", "Retained": True}
            about[name] |= {"Mask": mask} if mask else {}
            about[name] |= {"VarianceExplained": 0.5 / (i + 1)}
            about[f"dropped_{letter}{i}"] = {**about[name], "Retained": False}
    for i in range(n_cosine):
        columns[f"cosine{i:02}"] = np.cos(np.pi * (i + 1) * (np.arange(n_time) + 0.5) / n_time)
    for i in range(n_dummy):
        columns[f"non_steady_state_outlier{i:02}"] = (np.arange(n_time) == i).astype(float)
    for i in range(2):
        columns[f"motion_outlier{i:02}"] = (np.arange(n_time) == n_time - 1 - i).astype(float)
    for i in range(3):
        columns[f"aroma_motion_{i + 1:02}"] = rng.normal(size=n_time)
    return pd.DataFrame(columns), about


def write(folder: Path, table: pd.DataFrame, about: Any = None, suffix: str = "timeseries") -> Path:
    """Table, JSON file and images' names, from which nilearn goes to the table."""
    path = folder / f"{STEM}_desc-confounds_{suffix}.tsv"
    table.to_csv(path, sep="\t", na_rep="n/a", index=False)
    if about is not None:
        path.with_suffix(".json").write_text(json.dumps(about))
    return path


def image_beside(path: Path, desc: str = "desc-preproc") -> str:
    stem = path.name.split("_desc-")[0]
    return str(path.with_name(f"{stem}_space-MNI152NLin6Asym_{desc}_bold.nii.gz"))


def theirs(path: Path, strategy: Any, **kw: Any) -> tuple[pd.DataFrame | None, Any]:
    aroma = "ica_aroma" in strategy and kw.get("ica_aroma", "full") == "full"
    image = image_beside(path, "desc-smoothAROMAnonaggr" if aroma else "desc-preproc")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(strategy, str):
            return nilearn.load_confounds_strategy(image, strategy, **kw)
        return nilearn.load_confounds(image, strategy, **kw)


def quiet(path: Path, *args: Any, **kw: Any) -> Any:
    """`load_confounds`, silent about cosines that are not there and images that must be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DaskroiWarning)
        return load_confounds(path, *args, **kw)


def check_like_nilearn(path: Path, strategy: Any, **kw: Any) -> None:
    values, mask = theirs(path, strategy, **kw)
    n_time = len(pd.read_csv(path, sep="\t"))
    if mask is not None and mask.size == 0:
        with pytest.raises(AllFramesCensoredError, match=r"all \d+ frames are censored"):
            quiet(path, strategy, **kw)
        return
    ours = quiet(path, strategy, **kw)
    kept = np.arange(n_time) if ours.sample_mask is None else np.flatnonzero(ours.sample_mask)
    np.testing.assert_array_equal(kept, np.arange(n_time) if mask is None else mask)
    if values is None or values.shape[1] == 0:
        assert ours.columns == []
    else:
        assert ours.columns == list(values.columns)
        scale = np.abs(values.to_numpy()).max(axis=0) + 1e-30
        np.testing.assert_allclose(ours.values / scale, values / scale, rtol=1e-9, atol=1e-9)
    assert ours.values.shape == (n_time, len(ours.columns))
    assert (ours.values.dtypes == np.float64).all()
