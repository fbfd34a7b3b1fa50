"""Small cohorts on disk, laid out as fMRIPrep lays them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

import daskroi as dr
from daskroi.cohort import find_runs

SHAPE = (10, 12, 10)  # z, y, x
N_REGIONS = 4


def atlas() -> Any:
    """The atlas of all phantoms of this shape."""
    return dr.make_phantom(SHAPE, n_time=2, n_regions=N_REGIONS).atlas


def write_cohort(folder: Path, n_runs: int = 4, n_time: Any = 12, *, gz: bool = True) -> Any:
    """Write runs, masks, confounds and sidecars; the table that `find_runs` makes of them.

    ``n_time`` may be a function of the run's number.
    """
    rng = np.random.default_rng(0)
    affine = np.asarray(atlas().grid.affine)
    (folder / "dataset_description.json").parent.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    for i in range(n_runs):
        frames = n_time(i) if callable(n_time) else n_time
        func = folder / f"sub-{i + 1:02}" / "func"
        func.mkdir(parents=True)
        stem = func / f"sub-{i + 1:02}_task-rest"
        space = f"{stem}_space-MNI152NLin6Asym"
        values = rng.normal(100, 10, (*SHAPE[::-1], frames)).astype("f4")
        image = nib.Nifti1Image(values, affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 2.0
        nib.save(image, f"{space}_desc-preproc_bold.nii{'.gz' if gz else ''}")
        mask = np.ones(SHAPE[::-1], "u1")
        mask[0] = 0
        nib.save(nib.Nifti1Image(mask, affine), f"{space}_desc-brain_mask.nii.gz")
        Path(f"{space}_desc-preproc_bold.json").write_text(json.dumps({"RepetitionTime": 2.0}))
        names = [f"{a}_{b}" for a in ("trans", "rot") for b in "xyz"]
        names += ["csf", "white_matter", "global_signal", "framewise_displacement", "std_dvars"]
        names += ["cosine00"]
        table = rng.normal(size=(frames, len(names)))
        table[:, names.index("framewise_displacement")] = 0.1
        table[frames // 2, names.index("framewise_displacement")] = 0.9
        rows = ["\t".join(names), *("\t".join(map(str, row)) for row in table)]
        Path(f"{stem}_desc-confounds_timeseries.tsv").write_text("\n".join(rows) + "\n")
    return find_runs(folder)


def outputs_of(out: Path) -> dict[str, bytes]:
    """All files of a cohort's results that do not tell times, by path; hidden ones too."""
    files = [p for p in out.rglob("*") if p.is_file()]
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in files
        if p.name != "runs.tsv" and p.parent.name != "logs"
    }
