"""Empty files to find runs among, and the names in the table that is found."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from daskroi.cohort import find_runs
from daskroi.errors import DaskroiWarning

FILES = ["image", "mask", "confounds", "sidecar"]
END = "desc-preproc_bold.nii.gz"


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def quietly(*args, **kwargs) -> pd.DataFrame:
    """find_runs where warnings are beside the point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DaskroiWarning)
        return find_runs(*args, **kwargs)


def names(runs: pd.DataFrame, column: str = "image") -> list[str | None]:
    return [None if p is None else p.rsplit("/", 1)[1] for p in runs[column]]
