"""Which template a file says it is in, and a warning when atlas and image say different things.

Files carry no reliable field for this: sform code 4 says "MNI" and not which of about ten. What is
left is names (BIDS entities, file names everybody knows) and a few free-text header fields. What
none of these says stays unknown, and unknown never warns.
"""

from __future__ import annotations

import os
import re
from typing import Any

from daskroi.errors import warn
from daskroi.paths import name_of
from daskroi.urls import shown

__all__ = ["template_of", "warn_if_templates_differ"]

# TemplateFlow's and BIDS's spelling; looked up without case, so that MNI152NLin6ASym is no stranger
_KNOWN = (
    *(f"MNI152NLin{v}{s}" for v in ("2009a", "2009b", "2009c", "6") for s in ("Asym", "Sym")),
    *("MNI152Lin", "MNI305", "MNIColin27", "MNIInfant", "MNIPediatricAsym", "IXI549Space"),
    *("ICBM452AirSpace", "ICBM452Warp5Space", "OASIS30ANTs", "OASISTRT20", "NKI", "PNC"),
    *("UNCInfant", "Talairach", "fsaverage", "fsLR", "dhcpAsym", "dhcpSym", "dhcpVol"),
)
_ALIASES = {
    **{name.lower(): name for name in _KNOWN},
    "mni152nlin6": "MNI152NLin6Asym",  # neuroparc
    "fslmni152": "MNI152NLin6Asym",  # CBIG's Schaefer files
    "mni152nlin2009c": "MNI152NLin2009cAsym",
    "colin27": "MNIColin27",
}
# spaces of one brain; which of them is meant is often not said, so they are not told apart
_SUBJECT = frozenset(
    [
        *("t1w", "t2w", "t2star", "flair", "anat", "acpc", "orig", "fsnative", "native", "scanner"),
        *("func", "bold", "boldref", "epi", "individual", "subject"),
    ]
)
# too little to go by: about ten templates are called this
_VAGUE = frozenset({"", "mni", "mni152", "standard", "template", "unknown", "other", "n/a"})

_ENTITY = r"(?:^|_)(?:{})-([A-Za-z0-9]+)(?:\+([A-Za-z0-9]+))?(?=[_.]|$)"
_COHORT = re.compile(r"_cohort-([A-Za-z0-9]+)")
# a known name anywhere in a file name or header text; the longest first, so that
# MNI152NLin6Asym is not read as an alias
_ANYWHERE = re.compile(
    r"(?<![A-Za-z0-9])("
    + "|".join(
        sorted(
            (n for n in _ALIASES if n.startswith(("mni", "fslmni", "ixi"))), key=len, reverse=True
        )
    )
    + r")(?![A-Za-z0-9])",
    re.IGNORECASE,
)
# ICBM's own file names, as nilearn and the MNI distribute them
_ICBM = re.compile(r"icbm_?152.*?nlin_(a?sym)_(09[abc]|6th)", re.IGNORECASE)
# FSL's atlases and templates; aux_file "MGH-Cortical" is in the header of FSL's Harvard-Oxford
_FSL = re.compile(
    r"HarvardOxford|(?:^|/)MNI152_T1_|(?:^|/)avg152T1|(?:^|/)Juelich-(?:max)?prob"
    r"|(?:^|/)MNI-(?:max)?prob|Cerebellum-MNI[fn]|MGH-(?:Sub)?cortical",
    re.IGNORECASE,
)


def template_of(name_or_path: str | os.PathLike[str], header: Any = None) -> str | None:
    """Say which template (or subject space) a file claims to be in.

    Parameters
    ----------
    name_or_path : str or Path
        File name, path, URL, or a bare template name as fMRIPrep takes it
        (``MNIPediatricAsym:cohort-1``, ``MNI152NLin6Asym:res-2``). Only the last part is looked
        at. May be empty.
    header : mapping or str, optional
        NIfTI header (or a dict) whose ``intent_name``, ``aux_file`` and ``descrip`` are searched
        when the name says nothing; or their text.

    Returns
    -------
    str or None
        TemplateFlow's spelling, with ``:cohort-<n>`` where the template has cohorts; the label of
        the ``space-`` or ``tpl-`` entity as it is when we do not know it; None when nothing is
        said, or only "MNI".

    Notes
    -----
    In this order: ``space-``, ``tpl-``, a template's name anywhere in the file name, file names
    that are always in one template (FSL's are in MNI152NLin6Asym), the header.

    Examples
    --------
    >>> template_of("sub-01_task-rest_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz")
    'MNI152NLin2009cAsym'
    >>> template_of("HarvardOxford-cort-maxprob-thr25-2mm.nii.gz")
    'MNI152NLin6Asym'
    >>> template_of("tpl-MNIPediatricAsym_cohort-3_res-1_T1w.nii.gz")
    'MNIPediatricAsym:cohort-3'
    >>> template_of("bold.nii.gz", {"descrip": b"warped to MNI152NLin6Asym"})
    'MNI152NLin6Asym'
    >>> template_of("bold.nii.gz") is None
    True
    """
    name = name_of(shown(os.fspath(name_or_path)).replace("\\", "/"))
    for entity in ("space", "tpl"):
        if found := re.search(_ENTITY.format(entity), name):
            cohort = _COHORT.search(name)
            return _canonical(found[1], found[2] or (cohort[1] if cohort else None))
    label, *modifiers = name.split(":")
    if label.lower() in _ALIASES or label.lower() in _SUBJECT:
        cohorts = [m.removeprefix("cohort-") for m in modifiers if m.startswith("cohort-")]
        return _canonical(label, cohorts[0] if cohorts else None)
    if found_in_name := _in_text(name):
        return found_in_name
    for field in ("intent_name", "aux_file", "descrip"):
        if found_in_header := _in_text(_header_text(header, field)):
            return found_in_header
    return None


def warn_if_templates_differ(
    atlas_template: str | None,
    image_template: str | None,
    atlas_name: str = "the atlas",
    image_name: str = "the image",
) -> None:
    """Warn when atlas and image are in different templates; stay silent when one is unknown.

    Parameters
    ----------
    atlas_template, image_template : str or None
        What `template_of` says. A template with a cohort agrees with the same one without.
    atlas_name, image_name : str
        For the message.

    Warns
    -----
    DaskroiWarning
        One per call.

    Examples
    --------
    >>> warn_if_templates_differ("MNI152NLin6Asym", "MNI152NLin6Asym")
    >>> warn_if_templates_differ(None, "MNI152NLin6Asym")
    """
    if not atlas_template or not image_template:
        return
    atlas, image = _split(atlas_template), _split(image_template)
    if atlas[0] in _VAGUE or image[0] in _VAGUE:
        return
    subject = [space[0] in _SUBJECT for space in (atlas, image)]
    cohorts_agree = atlas[1] == image[1] or not (atlas[1] and image[1])
    if all(subject) or (atlas[0] == image[0] and cohorts_agree):
        return
    said = f"{image_name} is in {image_template} but {atlas_name} is in {atlas_template}"
    if any(subject):
        meaning = (
            "a subject's own space and a template are centimetres apart, so regions fall on other "
            "tissue"
        )
        remedy = "Take both in the same space: resample the run to the template, or warp the atlas."
    else:
        meaning = (
            "these templates are shifted by several mm in places, so regions take in neighbouring "
            "tissue"
        )
        remedy = (
            f"Use the atlas in {image_template} (TemplateFlow has many), or the run in "
            f"{atlas_template} (fMRIPrep: --output-spaces {atlas_template})."
        )
    warn(f"{said}: {meaning}. {remedy}")


def _canonical(label: str, cohort: str | None = None) -> str | None:
    if label.lower() in _VAGUE:
        return None
    known = _ALIASES.get(label.lower(), label)
    return f"{known}:cohort-{cohort}" if cohort else known


def _split(template: str) -> tuple[str, str | None]:
    """Template in lower case, aliases resolved, and its cohort."""
    label, *modifiers = template.split(":")
    known = _ALIASES.get(label.lower(), label).lower()
    cohorts = [m for m in modifiers if m.startswith("cohort-")]
    return known, cohorts[0] if cohorts else None


def _in_text(text: str) -> str | None:
    if found := _ANYWHERE.search(text.replace("_", " ")):
        return _canonical(found[1])
    if found := _ICBM.search(text):
        version = "6" if found[2].lower() == "6th" else f"2009{found[2][-1].lower()}"
        return f"MNI152NLin{version}{found[1].capitalize()}"
    return "MNI152NLin6Asym" if _FSL.search(text) else None


def _header_text(header: Any, field: str) -> str:
    if isinstance(header, str):
        return header
    try:
        value = header[field]
    except (KeyError, TypeError, IndexError, ValueError):
        return ""  # no header, or one of a format without this field
    value = getattr(value, "item", lambda: value)()  # NumPy's 0-d bytes
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
