"""Small datasets in the layouts of nilearn's folders, FSL and TemplateFlow."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from images import run

BOLD = "{}_task-pixar_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
CONFOUNDS = "{}_task-pixar_desc-confounds_regressors.tsv"
REDUCED = "{}_task-pixar_desc-reducedConfounds_regressors.tsv"
COLUMNS = [
    *("csf", "white_matter", "global_signal", "framewise_displacement", "std_dvars"),
    *(f"a_comp_cor_{i:02}" for i in range(8)),
    *("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"),
]
ADULT = "sub-pixar123"
SCHAEFER = "Schaefer2018_{}Parcels_{}Networks_order"
NETWORKS = ("Vis", "SomMot", "DorsAttn", "SalVentAttn", "Limbic", "Cont", "Default")
# 8 mm voxels over the whole of MNI space
WIDE = np.array([[8.0, 0, 0, -90], [0, 8, 0, -126], [0, 0, 8, -72], [0, 0, 0, 1]])


def gzipped(image: nib.Nifti1Image) -> bytes:
    return gzip.compress(image.to_bytes(), 1, mtime=0)


def confounds(n_time: int, seed: int = 0, first: float = 0.0) -> str:
    """As fMRIPrep writes them; the published runs have a number where it has n/a in the first row.

    Or nilearn's examples, which regress them out, would fail.
    """
    values = np.random.default_rng(seed).standard_normal((n_time, len(COLUMNS)))
    frame = pd.DataFrame(values, columns=COLUMNS)
    frame.loc[0, ["framewise_displacement", "std_dvars"]] = first, np.nan
    return frame.to_csv(sep="\t", index=False, na_rep="n/a")


def participants() -> str:
    """155 rows as in the real table: 122 children, 33 adults, more columns than needed."""
    rows = ["participant_id\tAge\tAgeGroup\tChild_Adult\tGender\tHandedness\tFB_Composite"]
    for i in range(1, 156):
        group = "5yo\tchild" if i < 123 else "Adult\tadult"
        rows.append(f"sub-pixar{i:03}\t{i % 30 + 4}.5\t{group}\tF\tR\tn/a")
    return "\n".join(rows) + "\n"


def write_development(folder: Path, subjects: list[str]) -> Path:
    """What nilearn's folder of development_fmri holds after a download."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "participants.tsv").write_text(participants())
    bold = gzipped(run(np.random.default_rng(0), (23, 28, 24, 12), "i2", WIDE))
    for subject in subjects:
        (folder / BOLD.format(subject)).write_bytes(bold)
        (folder / CONFOUNDS.format(subject)).write_text(confounds(12))
    return folder


FSL_NAMES = ("Frontal Pole", "Frontal Operculum Cortex", "Left Lateral Ventrical", "Occipital Pole")


def xml(names: tuple[str, ...] | list[str]) -> str:
    labels = "\n".join(
        f'<label index="{i}" x="48" y="94" z="35">{name}</label>' for i, name in enumerate(names)
    )
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<atlas version="1.0">\n<header>\n'
        "<name>Harvard-Oxford Cortical Structural Atlas</name>\n<type>Probabalistic</type>\n"
        f"</header>\n<data>\n{labels}\n</data>\n</atlas>\n"
    )


def write_fsl(fsl: Path) -> Path:
    """Small atlases in the layout of FSL: three label images, one of maps, the tables."""
    atlases = fsl / "data" / "atlases"
    (atlases / "HarvardOxford").mkdir(parents=True)
    rng = np.random.default_rng(1)
    labels = nib.Nifti1Image(rng.integers(0, 5, (23, 28, 24)).astype("u1"), WIDE)
    maps = nib.Nifti1Image(rng.integers(0, 60, (5, 6, 5, 4)).astype("u1"), WIDE)
    for name in ("cort-maxprob-thr25-2mm", "cortl-maxprob-thr0-1mm", "sub-maxprob-thr50-2mm"):
        (atlases / f"HarvardOxford/HarvardOxford-{name}.nii.gz").write_bytes(gzipped(labels))
    (atlases / "HarvardOxford/HarvardOxford-cort-prob-2mm.nii.gz").write_bytes(gzipped(maps))
    for table in ("Cortical", "Cortical-Lateralized", "Subcortical"):
        (atlases / f"HarvardOxford-{table}.xml").write_text(xml(FSL_NAMES))
    return fsl


def schaefer_table(n: int, networks: int) -> str:
    """CBIG's table; the networks of 17 are made of parts, as the real ones are."""
    rows = []
    for i in range(n):
        side, k = ("LH", i) if i < n // 2 else ("RH", i - n // 2)
        network = NETWORKS[k * 7 // (n // 2)] + ("" if networks == 7 else "A_IPS")
        rows.append(f"{i + 1}\t{networks}Networks_{side}_{network}_{k + 1}\t120\t18\t{k % 256}\t0")
    return "\n".join(rows) + "\n"


def write_schaefer(folder: Path, n: int = 100, networks: int = 7, size: int = 2) -> Path:
    """Table and image; the last region has no voxel."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = SCHAEFER.format(n, networks)
    (folder / f"{stem}.txt").write_text(schaefer_table(n, networks))
    values = (np.arange(23 * 28 * 24) % n).reshape(23, 28, 24).astype("i2")
    image = gzipped(nib.Nifti1Image(values, WIDE))
    (folder / f"{stem}_FSLMNI152_{size}mm.nii.gz").write_bytes(image)
    return folder


def write_templateflow(folder: Path) -> Path:
    """The two atlases as TemplateFlow has them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2)
    labels = gzipped(nib.Nifti1Image(rng.integers(0, 5, (5, 6, 5)).astype("u1"), WIDE))
    stem = "tpl-MNI152NLin6Asym"
    ho, schaefer = "atlas-HOSPA", "atlas-Schaefer2018"
    (folder / f"{stem}_res-02_{ho}_desc-th25_dseg.nii.gz").write_bytes(labels)
    table = "index\tname\n" + "".join(f"{i + 1}\t{n}\n" for i, n in enumerate(FSL_NAMES))
    (folder / f"{stem}_{ho}_dseg.tsv").write_text(table)
    desc = "desc-100Parcels17Networks"
    (folder / f"{stem}_res-01_{schaefer}_{desc}_dseg.nii.gz").write_bytes(labels)
    rows = [line.split("\t") for line in schaefer_table(100, 17).splitlines()]
    table = "index\tname\tcolor\n" + "".join(f"{r[0]}\t{r[1]}\t#781280\n" for r in rows)
    (folder / f"{stem}_{schaefer}_{desc}_dseg.tsv").write_text(table)
    return folder


def parts_left(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.part"))
