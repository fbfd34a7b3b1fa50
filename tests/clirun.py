"""The command line in tests: called here or as a process, its words checked; a small run for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import images
import nibabel as nib
import numpy as np
import pandas as pd
from click.testing import CliRunner, Result

import daskroi as dr
from daskroi.cli import main

SHAPE = (6, 7, 5)
N_TIME = 60
IDS = (1, 2, 5, 9)
BOLD = "sub-01_task-rest_space-MNI152NLin6Asym_res-2_desc-preproc_bold"
PREFIX = "sub-01_task-rest_space-MNI152NLin6Asym"


def invoke(*args: Any) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


def check_ok(done: Result) -> Result:
    assert done.exit_code == 0, done.output
    return done


def check_error(done: Result, match: str, code: int = 1) -> None:
    """One line that says it, and no traceback."""
    assert done.exit_code == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.fullmatch(f"Error: .*{match}.*\n", done.stderr), done.stderr


def tables(out: Path) -> dict[str, pd.DataFrame]:
    return {p.name: pd.read_csv(p, sep="\t") for p in sorted(out.glob("*_timeseries.tsv"))}


def python(*args: Any, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, args)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **kwargs,
    )


def environment() -> dict[str, str]:
    # also where the package is not installed
    return os.environ | {"PYTHONPATH": str(Path(dr.__file__).parents[1])}


def block_labels(dtype: Any = "i2") -> nib.Nifti1Image:
    values = np.zeros(SHAPE)
    for i, label in enumerate(IDS):
        values[1:5, 1:6, i + 1] = label
    return nib.Nifti1Image(values.astype(dtype), images.STRAIGHT)


def write_files(folder: Path) -> SimpleNamespace:
    """A small run and all that goes with it."""
    rng = np.random.default_rng(0)
    run = images.run(rng, (*SHAPE, N_TIME), t_r=2.0)
    mask = np.ones(SHAPE, "u1")
    mask[:, :, 1], mask[:3, :, 2] = 0, 0  # region 1 is lost, region 2 half of it
    confounds = pd.DataFrame(
        rng.standard_normal((N_TIME, 4)), columns=["trans_x", "trans_y", "csf", "with_nan"]
    )
    confounds.loc[0, "with_nan"] = np.nan
    found = SimpleNamespace(
        image=images.save(run, folder / f"{BOLD}.nii.gz"),
        plain=images.save(run, folder / "mybold.nii"),
        mask=images.save(nib.Nifti1Image(mask, images.STRAIGHT), folder / "mask.nii"),
        atlas=images.save(block_labels(), folder / "atlas-Block_x.nii"),
        table=folder / "names.tsv",
        confounds=folder / "confounds.tsv",
        folder=folder,
    )
    # on another grid than the run
    there = images.labels(rng, (4, 4, 3), affine=np.diag([3.0, 3, 3, 1]))
    found.coarse = images.save(there, folder / "coarse.nii")
    maps = rng.random((*SHAPE, 3)) * (rng.random((*SHAPE, 3)) < 0.5)
    image = nib.Nifti1Image(maps.astype("f4"), images.STRAIGHT)
    found.maps = images.save(image, folder / "atlas-Soft_probseg.nii.gz")
    found.seeds = folder / "atlas-Net_seeds.tsv"
    found.seeds.write_text("x\ty\tz\tname\n4\t6\t4\tPCC\n8\t8\t4\tIPL\n")
    names = pd.DataFrame({"index": IDS, "name": ["V1", "V2", "A1", "M1"]})
    names.to_csv(found.table, sep="\t", index=False)
    confounds.to_csv(found.confounds, sep="\t", index=False, na_rep="n/a")
    return found
