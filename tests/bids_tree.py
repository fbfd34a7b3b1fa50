"""Trees named as fMRIPrep names them; files are empty unless something fills them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

MNI = "MNI152NLin2009cAsym"


def run_names(
    stem: str,
    spaces: Iterable[str] = (f"{MNI}_res-2",),
    *,
    image: str = ".nii.gz",
    old: bool = False,
    surfaces: bool = True,
) -> Iterator[str]:
    """Names fMRIPrep gives to the files of one run.

    ``spaces`` are ``T1w``, ``MNI152NLin2009cAsym_res-2``, or empty for the run's own space; ``old``
    is the naming up to 20.1.
    """
    kind = "regressors" if old else "timeseries"
    yield f"{stem}_desc-confounds_{kind}.tsv"
    yield f"{stem}_desc-confounds_{kind}.json"
    yield f"{stem}_from-scanner_to-boldref_mode-image_xfm.txt"
    for space in spaces:
        here = f"{stem}_space-{space}" if space else stem
        yield f"{here}_desc-preproc_bold{image}"
        yield f"{here}_desc-preproc_bold.json"
        yield f"{here}_desc-brain_mask.nii.gz"
        yield f"{here}_desc-brain_mask.json"
        yield f"{here}_boldref.nii.gz"
        if space == "T1w":
            yield f"{here}_desc-aparcaseg_dseg.nii.gz"
    if surfaces:
        for hemi in "LR":
            yield f"{stem}_hemi-{hemi}_space-fsaverage5_bold.func.gii"
        yield f"{stem}_space-fsLR_den-91k_bold.dtseries.nii"


def make_tree(
    root: Path,
    subjects: Iterable[str] = ("01", "02", "10"),
    sessions: Iterable[str] = ("",),
    tasks: Iterable[str] = ("rest",),
    runs: Iterable[str] = ("",),
    spaces: Iterable[str] = (f"{MNI}_res-2", "T1w"),
    *,
    image: str = ".nii.gz",
    old: bool = False,
    surfaces: bool = True,
    figures: int = 4,
    fill: Callable[[Path], None] | None = None,
) -> Path:
    """Write a tree of derivatives; ``fill`` writes a file instead of leaving it empty."""
    root.mkdir(parents=True, exist_ok=True)
    description = {"Name": "fMRIPrep", "BIDSVersion": "1.4.0", "DatasetType": "derivative"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    for label in subjects:
        subject = f"sub-{label}"
        _touch(root / subject / "figures", (f"{subject}_{i}_bold.svg" for i in range(figures)))
        for session in sessions:
            folder = root / subject / (f"ses-{session}" if session else "")
            base = f"{subject}_ses-{session}" if session else subject
            _touch(folder / "anat", _anat_names(base), fill)
            for task in tasks:
                for run in runs:
                    stem = f"{base}_task-{task}" + (f"_run-{run}" if run else "")
                    names = run_names(stem, spaces, image=image, old=old, surfaces=surfaces)
                    _touch(folder / "func", names, fill)
    return root


def _anat_names(base: str) -> Iterator[str]:
    for space in ("", f"_space-{MNI}_res-2"):
        for what in ("desc-preproc_T1w", "desc-brain_mask", "dseg"):
            yield f"{base}{space}_{what}.nii.gz"
            yield f"{base}{space}_{what}.json"
    yield f"{base}_desc-aparcaseg_dseg.nii.gz"
    for hemi in "LR":
        for surface in ("midthickness", "pial", "white", "inflated"):
            yield f"{base}_hemi-{hemi}_{surface}.surf.gii"


def _touch(folder: Path, names: Iterable[str], fill: Callable[[Path], None] | None = None) -> None:
    os.makedirs(folder, exist_ok=True)
    for name in names:
        path = os.path.join(folder, name)
        if fill is not None:
            fill(Path(path))
        elif name.endswith(".zarr"):
            # a store, with a chunk in it whose name must not be taken for a file of the dataset
            os.makedirs(os.path.join(path, "0"), exist_ok=True)
            os.close(os.open(os.path.join(path, "0", "zarr.json"), os.O_CREAT))
        else:
            os.close(os.open(path, os.O_CREAT))
