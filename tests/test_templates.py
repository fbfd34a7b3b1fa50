"""Which template a name or header claims, and when that is worth a warning."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest

from daskroi.errors import DaskroiWarning
from daskroi.templates import template_of, warn_if_templates_differ


@pytest.mark.parametrize(
    ("name", "template"),
    [
        (
            "sub-01_task-rest_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz",
            "MNI152NLin2009cAsym",
        ),
        ("sub-01_task-x_bold_space-MNI152NLin2009cAsym_preproc.nii.gz", "MNI152NLin2009cAsym"),
        ("/a/space-T1w/sub-01_space-MNI152NLin6Asym_res-2_bold.nii.gz", "MNI152NLin6Asym"),
        (
            "s3://bucket/x/tpl-MNI152NLin6Asym_dseg.nii.gz?versionId=a/b",
            "MNI152NLin6Asym",
        ),
        ("C:\\data\\tpl-MNI152NLin6Asym_T1w.nii.gz", "MNI152NLin6Asym"),
        ("bold_space-MNI152NLin6ASym.nii.zarr/", "MNI152NLin6Asym"),
        ("Schaefer400_space-MNI152NLin6_res-2x2x2.nii.gz", "MNI152NLin6Asym"),
        ("sub-1_space-MNIPediatricAsym_cohort-2_bold.nii.gz", "MNIPediatricAsym:cohort-2"),
        ("sub-1_space-MNIInfant+2_bold.nii.gz", "MNIInfant:cohort-2"),
        ("MNIPediatricAsym:res-2:cohort-1", "MNIPediatricAsym:cohort-1"),
        ("MNI152NLin6Asym:res-2", "MNI152NLin6Asym"),
        ("sub-1_space-T1w_desc-preproc_bold.nii.gz", "T1w"),
        ("sub-1_space-Labtemplate_bold.nii.gz", "Labtemplate"),
        ("HarvardOxford-sub-maxprob-thr0-1mm.nii.gz", "MNI152NLin6Asym"),
        ("/usr/fsl/data/standard/MNI152_T1_2mm_brain.nii.gz", "MNI152NLin6Asym"),
        ("Schaefer2018_400Parcels_7Networks_order_FSLMNI152_2mm.nii.gz", "MNI152NLin6Asym"),
        ("Tian_Subcortex_S1_MNI152NLin2009cAsym.nii", "MNI152NLin2009cAsym"),
        ("mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz", "MNI152NLin2009aSym"),
        ("mni_icbm152_t1_tal_nlin_asym_09c.nii", "MNI152NLin2009cAsym"),
        ("sub-01_task-rest_desc-preproc_bold.nii.gz", None),
        ("sub-01_space-MNI_bold.nii.gz", None),
        ("MNI?", None),
        ("AAL.nii", None),
        ("", None),
    ],
)
def test_template_of_names(name: str, template: str | None) -> None:
    assert template_of(name) == template


def test_header_is_asked_when_the_name_is_silent() -> None:
    header = nib.Nifti1Image(np.zeros((2, 2, 2), "u1"), np.eye(4)).header
    assert template_of("a.nii", header) is None
    header["aux_file"] = b"MGH-Cortical"
    assert template_of("a.nii", header) == "MNI152NLin6Asym"
    header["intent_name"] = b"MNI152NLin2009cAs"  # 16 bytes cut it: no template of that name
    assert template_of("a.nii", header) == "MNI152NLin6Asym"
    assert template_of("a_space-T1w.nii", header) == "T1w"
    assert template_of("a.nii", "norm to MNI152NLin2009cAsym") == "MNI152NLin2009cAsym"
    assert template_of("a.nii", {}) is None


def test_the_real_files_say_one_template(real_data) -> None:
    files = sorted(real_data.glob("atlases/*.nii.gz"))
    files += sorted(real_data.glob("bids-derivatives/sub-01/func/*space-*.nii.gz"))
    assert len(files) == 6
    assert {template_of(f) for f in files} == {"MNI152NLin6Asym"}
    cortical = nib.load(real_data / "atlases/HarvardOxford-cort-maxprob-thr25-2mm.nii.gz")
    assert template_of("renamed.nii.gz", cortical.header) == "MNI152NLin6Asym"


@pytest.mark.parametrize(
    ("atlas", "image", "meaning"),
    [
        ("MNI152NLin6Asym", "MNI152NLin2009cAsym", "several mm"),
        ("MNI152NLin2009cSym", "MNI152NLin2009cAsym", "several mm"),
        ("MNIPediatricAsym:cohort-1", "MNIPediatricAsym:cohort-2", "several mm"),
        ("MNI152NLin6Asym", "T1w", "centimetres"),
        ("boldref", "MNI152NLin6Asym", "centimetres"),
        ("Labtemplate", "MNI152NLin6Asym", "several mm"),
    ],
)
def test_different_templates_warn_once_and_say_what_to_do(
    atlas: str, image: str, meaning: str
) -> None:
    with pytest.warns(DaskroiWarning, match=meaning) as seen:
        warn_if_templates_differ(atlas, image, "HO.nii.gz", "bold.nii.gz")
    assert len(seen) == 1
    message = str(seen[0].message)
    assert f"bold.nii.gz is in {image} but HO.nii.gz is in {atlas}" in message
    assert "Use the atlas in" in message or "Take both in the same space" in message
    assert "\n" not in message
    assert seen[0].filename == __file__


@pytest.mark.parametrize(
    ("atlas", "image"),
    [
        ("MNI152NLin6Asym", "MNI152NLin6Asym"),
        ("MNI152NLin6", "mni152nlin6asym"),
        ("MNI152NLin6Asym", "MNI152NLin6Asym:res-2"),
        ("MNIPediatricAsym", "MNIPediatricAsym:cohort-2"),
        (None, "MNI152NLin6Asym"),
        ("MNI152NLin6Asym", None),
        ("MNI", "MNI152NLin2009cAsym"),
        ("T1w", "individual"),
    ],
)
def test_same_or_unknown_templates_are_silent(atlas: str | None, image: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_templates_differ(atlas, image)
