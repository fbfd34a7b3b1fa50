"""Every line of the README runs, on a synthetic run with the files it names."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import daskroi as dr

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    run = dr.make_phantom((18, 22, 18), n_time=60, n_regions=5)
    paths = dr.write_phantom(folder, run)
    for key, name in {
        "image": "bold.nii.gz",
        "atlas": "atlas_dseg.nii.gz",
        "labels": "atlas_dseg.tsv",
        "confounds": "confounds.tsv",
    }.items():
        shutil.copy(paths[key], folder / name)
    shutil.copy(paths["atlas"], folder / "other_dseg.nii.gz")
    shutil.copy(paths["atlas"], folder / "schaefer_dseg.nii.gz")
    derivatives = folder / "derivatives" / "fmriprep"
    func = dr.write_phantom(derivatives, run)["image"].parent
    [table] = func.glob("*_desc-confounds_timeseries.tsv")
    signals = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    signals += ["csf", "white_matter", "global_signal"]
    forms = ("", "_derivative1", "_power2", "_derivative1_power2")
    columns = [name + form for name in signals for form in forms]
    values = np.random.default_rng(0).standard_normal((60, len(columns)))
    pd.DataFrame(values, columns=columns).to_csv(table, sep="\t", index=False)
    labels = nib.load(paths["atlas"])
    ids = np.unique(labels.get_fdata())[1:4]
    values = np.stack([labels.get_fdata() == i for i in ids], axis=-1) * 0.8
    nib.save(nib.Nifti1Image(values, labels.affine), folder / "maps_probseg.nii.gz")
    return folder


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.split("\n")[0])
def test_python(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("Agg")
    monkeypatch.chdir(folder)
    exec(compile(code, "README.md", "exec"), {})


def test_nilearn_example_is_the_same_but_for_the_import(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = blocks("py")[0].splitlines()
    ours = blocks("python")[0].splitlines()
    differing = [a for a, b in zip(theirs, ours, strict=True) if a != b]
    assert len(differing) == 2  # the import and the comment on what comes out
    assert "import" in differing[0]


@pytest.mark.timeout(120)
def test_command_line(folder: Path) -> None:
    lines = [
        line
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith(("daskroi extract", "daskroi convert", "daskroi bids"))
    ]
    assert lines
    for line in lines:
        command = line.replace("daskroi", f"{sys.executable} -m daskroi", 1)
        subprocess.run(["bash", "-ec", command], cwd=folder, timeout=60, check=True)
    assert list((folder / "out").glob("*_timeseries.tsv"))
    assert list((folder / "out" / "sub-01" / "func").glob("*_timeseries.tsv"))


def test_links_and_picture_exist() -> None:
    text = README.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (README.parent / target).exists(), target
