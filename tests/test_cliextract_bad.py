"""Bad input to ``daskroi extract``: one line that says it, and nothing left behind.

Each case: what to do to the good arguments, and what the line must say.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from clirun import N_TIME, SHAPE, block_labels, check_error, invoke


def _spoiled(change: Any) -> Any:
    """An image whose bytes or header were changed."""

    def make(files: SimpleNamespace, folder: Path) -> dict[str, Any]:
        return {"image": change(files, folder)}

    return make


def _cut(source: str, share: float) -> Any:
    def change(files: SimpleNamespace, folder: Path) -> Path:
        whole = getattr(files, source)
        path = folder / whole.name
        path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
        return path

    return change


def _flipped(files: SimpleNamespace, folder: Path) -> Path:
    raw = bytearray(files.image.read_bytes())
    for i in range(len(raw) // 2, len(raw) // 2 + 64):
        raw[i] ^= 0xFF
    path = folder / "flipped.nii.gz"
    path.write_bytes(raw)
    return path


def _bytes(name: str, raw: bytes) -> Any:
    def change(files: SimpleNamespace, folder: Path) -> Path:
        (folder / name).write_bytes(raw)
        return folder / name

    return change


def _affine(*row: float) -> Any:
    def change(files: SimpleNamespace, folder: Path) -> Path:
        image = nib.load(files.plain)
        raw = bytearray(files.plain.read_bytes())
        header = image.header.copy()
        header["qform_code"], header["sform_code"] = 0, 1
        header["srow_x"] = row
        raw[:348] = header.binaryblock
        (folder / "affine.nii").write_bytes(raw)
        return folder / "affine.nii"

    return change


def _array(values: Any) -> Any:
    def change(files: SimpleNamespace, folder: Path) -> Path:
        return images.save(nib.Nifti1Image(values, images.STRAIGHT), folder / "other.nii")

    return change


def _t_r(t_r: float, unit: str = "sec") -> Any:
    def change(files: SimpleNamespace, folder: Path) -> Path:
        image = nib.load(files.plain)
        image = nib.Nifti1Image(image.get_fdata(dtype="f4"), image.affine)
        image.header.set_zooms((2, 2, 2, t_r))
        image.header.set_xyzt_units("mm", unit)
        return images.save(image, folder / "t_r.nii")

    return change


def _atlas(values: Any = None, affine: Any = images.STRAIGHT) -> Any:
    def make(files: SimpleNamespace, folder: Path) -> dict[str, Any]:
        voxels = block_labels("f4").get_fdata(dtype="f4") if values is None else values
        return {"atlas": images.save(nib.Nifti1Image(voxels, affine), folder / "bad.nii")}

    return make


def _table(ids: Any) -> Any:
    def make(files: SimpleNamespace, folder: Path) -> dict[str, Any]:
        frame = pd.DataFrame({"index": ids, "name": "x"})
        frame.to_csv(folder / "bad.tsv", sep="\t", index=False)
        return {"options": ("--labels-table", folder / "bad.tsv")}

    return make


def _confounds(text: str) -> Any:
    def make(files: SimpleNamespace, folder: Path) -> dict[str, Any]:
        (folder / "c.tsv").write_text(text)
        return {"options": ("--confounds", folder / "c.tsv")}

    return make


def _seeds(text: str) -> Any:
    def make(files: SimpleNamespace, folder: Path) -> dict[str, Any]:
        (folder / "s.tsv").write_text(text)
        return {"options": ("--atlas", files.atlas, "--seeds", folder / "s.tsv")}

    return make


def _options(*options: Any, image: Any = None) -> Any:
    def make(files: SimpleNamespace, folder: Path) -> dict[str, Any]:
        found = {"options": tuple(str(o).format(folder=files.folder) for o in options)}
        return found | ({"image": image(files, folder)} if image else {})

    return make


FAR = np.diag([2.0, 2, 2, 1])
FAR[:3, 3] = 1000
RGB = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
NAN = float("nan")
CUTOFF = ("--high-pass", 0.01)

BAD = {
    "no image": (_options(image=lambda f, d: d / "no.nii"), r"no\.nii: no such file"),
    "folder": (_options(image=lambda f, d: f.folder), "is a folder"),
    "empty": (_spoiled(_bytes("x.nii", b"")), r"x\.nii: the file is empty"),
    "not an image": (_spoiled(_bytes("x.nii", b"hello" * 200)), r"x\.nii: not a NIfTI image"),
    "text as gz": (_spoiled(_bytes("x.nii.gz", b"hello")), r"x\.nii\.gz: .* no gzip data"),
    "other ending": (_spoiled(_bytes("x.txt", b"hello" * 200)), r"x\.txt: not a NIfTI image"),
    "gz of text": (_spoiled(_bytes("x.nii.gz", gzip.compress(b"hi" * 400))), "not a NIfTI image"),
    "cut": (_spoiled(_cut("plain", 0.7)), r"mybold\.nii: truncated, expected \d+ .* found \d+"),
    "cut gz": (_spoiled(_cut("image", 0.7)), r"bold\.nii\.gz: .*truncated.* again"),
    "corrupt gz": (_spoiled(_flipped), r"flipped\.nii\.gz: (corrupt|truncated|.*truncated)"),
    "singular": (_spoiled(_affine(0, 0, 0, 0)), r"affine\.nii: .*singular"),
    "nan affine": (_spoiled(_affine(NAN, 0, 0, 0)), r"affine\.nii: .*finite"),
    "complex": (_spoiled(_array(np.zeros((*SHAPE, 9), "c8"))), r"complex\d* voxels.*magnitude"),
    "rgb": (_spoiled(_array(RGB)), "RGB voxels.*channel"),
    "5D": (_spoiled(_array(np.zeros((*SHAPE, 3, 2), "f4"))), "is 5D, shape .* Split"),
    "no atlas": (_options("--atlas", "{folder}/no.nii"), r"no\.nii: no such file"),
    "fractional": (_atlas(np.full(SHAPE, 1.5, "f4")), r"bad\.nii: .*1\.5"),
    "no label": (_atlas(np.zeros(SHAPE, "u1")), r"bad\.nii: "),
    "no overlap": (_atlas(affine=FAR), r"bad\.nii: no label left .* do not overlap"),
    "foreign table": (_table([100, 200]), r"bad\.tsv: none of its ids \(100, 200\)"),
    "no table": (_options("--labels-table", "{folder}/no.tsv"), r"no\.tsv: no such file"),
    "run as atlas": (
        lambda f, _: {"atlas": f.image},
        r"_bold\.nii\.gz: looks like a run, not an atlas \(its name ends in _bold\)\. Give",
    ),
    "run without its name as atlas": (
        lambda f, _: {"atlas": f.plain},
        rf"mybold\.nii: looks like a run, not an atlas \({N_TIME} volumes, 2 s apart\)",
    ),
    "no seeds": (_options("--seeds", "{folder}/no.tsv"), r"no\.tsv: no such file"),
    "image as seeds": (_options("--seeds", "{folder}/mask.nii"), r"mask\.nii: "),
    "empty seeds": (_seeds(""), r"s\.tsv: the file is empty"),
    "no z": (_seeds("x\ty\n1\t2\n"), r"s\.tsv: seeds: the table needs .*z missing"),
    "words as seeds": (_seeds("x\ty\tz\n1\t2\tn/a\n"), r"s\.tsv: seeds: .*at position 0"),
    "seeds far away": (_seeds("x\ty\tz\n900\t0\t0\n"), "no label left on the image's grid"),
    "radius": (
        _options("--seeds", "{folder}/atlas-Net_seeds.tsv", "--radius", "-1"),
        r"seeds\.tsv: radius=-1\.0 is not a positive number of mm",
    ),
    "negative width": (_options("--smoothing", "-3"), r"smoothing_fwhm=-3\.0 is not a width"),
    "fused median": (
        _options("--smoothing", 6, "--strategy", "median", "--spatial", "fused"),
        "spatial='fused': strategy='median' is not linear",
    ),
    "fused and clipped": (
        _options(
            "--atlas",
            "{folder}/coarse.nii",
            "--resampling-target",
            "labels",
            "--resampling-clip",
            "--spatial",
            "fused",
        ),
        "spatial='fused': resampling_clip=True is not linear",
    ),
    "lstsq of labels": (_options("--maps-method", "lstsq"), "maps_method='lstsq' is for an atlas"),
    "median of maps": (
        _options("--atlas", "{folder}/atlas-Soft_probseg.nii.gz", "--strategy", "median"),
        r"probseg\.nii\.gz: strategy='median' of weighted voxels",
    ),
    "no mask": (_options("--mask", "{folder}/no.nii"), r"no\.nii: no such file"),
    "no confounds": (_options("--confounds", "{folder}/no.tsv"), r"no\.tsv: no such file"),
    "short confounds": (_confounds("a\n1\n2\n"), rf"c\.tsv has 2 rows and .* {N_TIME} frames"),
    "nan confounds": (
        _options("--confounds", "{folder}/confounds.tsv"),
        r"confounds\.tsv: column 'with_nan' has NaN .* in frame 0",
    ),
    "words": (_confounds("a\n" + "x\n" * N_TIME), r"c\.tsv: column 'a' has values .* no numbers"),
    "no column": (
        _options("--confounds", "{folder}/confounds.tsv", "--columns", "tranz_x"),
        "matches 'tranz_x'.*trans_x",
    ),
    "columns alone": (_options("--columns", "csf"), "confounds were not given"),
    "no t_r": (_options(*CUTOFF, image=_t_r(0)), r"t_r\.nii: .*Pass t_r in seconds"),
    "header in ms": (_options(*CUTOFF, image=_t_r(2000)), r"milliseconds: t_r=2\."),
    "t_r in ms": (_options(*CUTOFF, "--t-r", 2000), "t_r=2000 s looks like milliseconds"),
    "t_r tiny": (_options("--t-r", 0.001), "shorter than any scan"),
    "cutoffs swapped": (_options(*CUTOFF, "--low-pass", 0.005), "is not below low_pass"),
    "all dummies": (_options("--dummy-scans", N_TIME), f"none of the {N_TIME} frames"),
    "no sample mask": (_options("--sample-mask", "{folder}/no.txt"), r"no\.txt: no such file"),
    "odd sample mask": (_options("--sample-mask", "{folder}/names.tsv"), "not a sample mask"),
    "other grid": (
        _options("--resampling-target", "none", image=_array(np.zeros((4, 4, 4, 9), "f4"))),
        "forbids resampling",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(files, tmp_path, case):
    make, match = BAD[case]
    changes = {"image": files.plain, "atlas": files.atlas, "options": ()} | make(files, tmp_path)
    out = tmp_path / "made" / "out"
    options = changes["options"]
    atlas = () if {"--atlas", "--seeds"} & set(options) else ("--atlas", changes["atlas"])
    done = invoke("extract", changes["image"], *atlas, *options, "-o", out)
    check_error(done, match)
    assert not out.parent.exists()
