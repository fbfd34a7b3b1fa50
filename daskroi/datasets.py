"""Datasets by name: runs of children and adults, and the two atlases most people use.

Files are taken from where they already lie (nilearn's data folder, ``$FSLDIR``, TemplateFlow's
cache), and downloaded only if they lie nowhere. Names, files and order are those of nilearn's
fetchers, whose parameters these functions take.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskroi.atlas import Atlas, load_atlas
from daskroi.datasetfiles import DataFile, fetch_files
from daskroi.datasetruns import Dataset, development_fmri
from daskroi.errors import check_choice
from daskroi.labeltable import read_label_table

if TYPE_CHECKING:
    import pandas as pd

    from daskroi.maps import MapsAtlas

__all__ = ["Dataset", "development_fmri", "harvard_oxford", "schaefer"]

TEMPLATE = "MNI152NLin6Asym"
TEMPLATEFLOW = "https://templateflow.s3.amazonaws.com"
NITRC = "https://www.nitrc.org/frs/download.php/9902/HarvardOxford.tgz"
# the release that put wrong region names right
CBIG = (
    "https://raw.githubusercontent.com/ThomasYeoLab/CBIG/"
    "v0.14.3-Update_Yeo2011_Schaefer2018_labelname/stable_projects/brain_parcellation/"
    "Schaefer2018_LocalGlobal/Parcellations/MNI"
)
# two public projects that fetched these files independently of each other list the same checksums
SHA256 = {
    "Schaefer2018_400Parcels_7Networks_order.txt": (
        "f62cdc9de9696e11bda9fe1cd51fc013b1da27ba180d2dcead8f3fd94bf3cbc1"
    ),
    "Schaefer2018_400Parcels_7Networks_order_FSLMNI152_1mm.nii.gz": (
        "abb8032840af30603995fd59634fd6bcd816088870de9061bbf90ad42c408d4d"
    ),
}
HARVARD_OXFORD = tuple(
    f"{part}-{kind}-{size}mm"
    for part in ("cort", "cortl", "sub")
    for kind in ("maxprob-thr0", "maxprob-thr25", "maxprob-thr50", "prob")
    for size in (1, 2)
)
# FSL's table of names, and what TemplateFlow calls the atlas
PARTS = {
    "cort": ("HarvardOxford-Cortical.xml", "HOCPA"),
    "cortl": ("HarvardOxford-Cortical-Lateralized.xml", "HOCPAL"),
    "sub": ("HarvardOxford-Subcortical.xml", "HOSPA"),
}


def harvard_oxford(
    atlas_name: str = "cort-maxprob-thr25-2mm",
    data_dir: str | os.PathLike[str] | None = None,
    verbose: int = 1,
    *,
    name: str | None = None,
) -> Atlas | MapsAtlas:
    """Load the Harvard-Oxford atlas of FSL: cortical or subcortical, labels or probabilities.

    Parameters
    ----------
    atlas_name : str
        ``<part>-<kind>-<size>``: part ``cort`` (48 regions), ``cortl`` (the same, left and right
        apart) or ``sub``; kind ``maxprob-thr0``, ``maxprob-thr25``, ``maxprob-thr50`` (label
        images: the likeliest region where it is at least that likely, in percent) or ``prob`` (a
        map per region); size ``1mm`` or ``2mm``. As in nilearn.
    data_dir : str or Path, optional
        Looked in first, and where downloads go; by default the cache (``DASKROI_CACHE``). It may be
        nilearn's data folder or an FSL installation.
    verbose : int
        0 for no progress bar.
    name : str, optional
        Name of the atlas; by default such as ``HarvardOxfordCortMaxprobThr25``.

    Returns
    -------
    Atlas or MapsAtlas
        Of label images; of ``prob``, with weights in percent as FSL stores them. Names as nilearn
        spells them: "Opercular" for FSL's "Operculum", "Ventricle" for "Ventrical".

    Raises
    ------
    DaskroiNotFoundError
        Not on this machine, and cannot be downloaded; folders, URLs and reasons are named.
    DaskroiError
        No such ``atlas_name``; pooch is missing; damaged files.

    Notes
    -----
    Looked for in ``data_dir``, nilearn's data folders (``fsl/data/atlases``), ``$FSLDIR``, the
    cache, and, for label images, as ``HOCPA``, ``HOCPAL`` and ``HOSPA`` in TemplateFlow's; then
    downloaded from NITRC, as nilearn does, or from TemplateFlow. See `development_fmri` for
    mirrors and checksums.

    Examples
    --------
    >>> from daskroi.datasets import harvard_oxford
    >>> harvard_oxford("cort-maxprob-thr25-2mm").names[:2]  # doctest: +SKIP
    ['Frontal Pole', 'Insular Cortex']
    >>> harvard_oxford("cort")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: atlas_name='cort' is not known. Use one of: 'cort-...
    """
    check_choice("atlas_name", atlas_name, HARVARD_OXFORD)
    part, kind, size = re.fullmatch(r"(\w+)-(.+)-(\d)mm", atlas_name).groups()  # type: ignore[union-attr]
    xml, label = PARTS[part]
    archive = ("HarvardOxford.tgz",)
    fsl = tuple(
        DataFile("fsl", f"data/atlases/{path}", (NITRC,), *archive)
        for path in (f"HarvardOxford/HarvardOxford-{atlas_name}.nii.gz", xml)
    )
    alternatives = [fsl]
    if kind != "prob":
        threshold = kind.removeprefix("maxprob-thr")
        alternatives.append(_templateflow(f"res-0{size}", label, f"_desc-th{threshold}", ""))
    image, table = fetch_files(
        alternatives,
        data_dir,
        remedy=(
            "On a machine with a network, run nilearn.datasets.fetch_atlas_harvard_oxford"
            f"({atlas_name!r}) and copy its ~/nilearn_data here, or point FSLDIR to an FSL "
            "installation."
        ),
        verbose=verbose,
    )
    names = read_label_table(str(table), by_position=kind == "prob")
    for old, new in (("Operculum", "Opercular"), ("Ventrical", "Ventricle")):
        names["name"] = names["name"].str.replace(old, new)
    said = "".join(word.capitalize() for word in atlas_name.split("-")[:-1])
    return _atlas(image, names, name or f"HarvardOxford{said}")


def schaefer(
    n_rois: int = 400,
    yeo_networks: int = 7,
    resolution_mm: int = 2,
    data_dir: str | os.PathLike[str] | None = None,
    verbose: int = 1,
    *,
    name: str | None = None,
) -> Atlas:
    """Load the Schaefer 2018 parcellation of the cortex, release 0.14.3.

    Parameters
    ----------
    n_rois : int
        100, 200, … 1000.
    yeo_networks : {7, 17}
        Networks of Yeo 2011 that regions are named and ordered by.
    resolution_mm : {2, 1}
        Voxel size. At 2 mm (nilearn's default is 1) there are an eighth of the voxels; runs seldom
        have smaller ones.
    data_dir : str or Path, optional
        Looked in first, and where downloads go; by default the cache (``DASKROI_CACHE``). It may
        be nilearn's data folder.
    verbose : int
        0 for no progress bar.
    name : str, optional
        Name of the atlas; by default such as ``Schaefer400``, or ``Schaefer400Networks17``.

    Returns
    -------
    Atlas
        Its table has the columns ``color``, ``hemisphere`` (``LH``, ``RH``) and ``network`` too.

    Raises
    ------
    DaskroiNotFoundError
        Not on this machine, and cannot be downloaded; folders, URLs and reasons are named.
    DaskroiError
        A number that is not offered; pooch is missing; damaged files.

    Notes
    -----
    Looked for in ``data_dir``, nilearn's data folders (``schaefer_2018``), the cache, and as
    ``Schaefer2018`` in TemplateFlow's; then downloaded from the authors' repository, as nilearn
    does, or from TemplateFlow. See `development_fmri` for mirrors and checksums.

    Examples
    --------
    >>> from daskroi.datasets import schaefer
    >>> schaefer(400).names[:2]  # doctest: +SKIP
    ['7Networks_LH_Vis_1', '7Networks_LH_Vis_2']
    >>> schaefer(resolution_mm=3)
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: resolution_mm=3 is not known. Use one of: 1, 2.
    """
    check_choice("n_rois", n_rois, tuple(range(100, 1001, 100)))
    check_choice("yeo_networks", yeo_networks, (7, 17))
    check_choice("resolution_mm", resolution_mm, (1, 2))
    stem = f"Schaefer2018_{n_rois}Parcels_{yeo_networks}Networks_order"
    cbig = tuple(
        DataFile("schaefer_2018", f, (f"{CBIG}/{f}",), sha256=SHA256.get(f, ""))
        for f in (f"{stem}_FSLMNI152_{resolution_mm}mm.nii.gz", f"{stem}.txt")
    )
    desc = f"_desc-{n_rois}Parcels{yeo_networks}Networks"
    image, table = fetch_files(
        [cbig, _templateflow(f"res-0{resolution_mm}", "Schaefer2018", desc, desc)],
        data_dir,
        remedy=(
            "On a machine with a network, run nilearn.datasets.fetch_atlas_schaefer_2018"
            f"({n_rois}, {yeo_networks}, {resolution_mm}) and copy its ~/nilearn_data here."
        ),
        verbose=verbose,
    )
    names = read_label_table(str(table))
    parts = names["name"].str.extract(r"^\d+Networks_([LR]H)_([A-Za-z0-9]+)")
    names = names.assign(hemisphere=parts[0].fillna("n/a"), network=parts[1].fillna("n/a"))
    short = f"Schaefer{n_rois}" + (f"Networks{yeo_networks}" if yeo_networks != 7 else "")
    atlas = _atlas(image, names, name or short)
    assert isinstance(atlas, Atlas)
    return atlas


def _templateflow(resolution: str, label: str, image: str, table: str) -> tuple[DataFile, ...]:
    stem = f"tpl-{TEMPLATE}"
    paths = (
        f"{stem}_{resolution}_atlas-{label}{image}_dseg.nii.gz",
        f"{stem}_atlas-{label}{table}_dseg.tsv",
    )
    return tuple(DataFile(stem, path, (f"{TEMPLATEFLOW}/{stem}/{path}",)) for path in paths)


def _atlas(image: Path, table: pd.DataFrame, name: str) -> Any:
    # a FreeSurfer table drops regions that the image lacks; here every region has its row
    table.attrs["format"] = "dataframe"
    return replace(load_atlas(str(image), lut=table, name=name), template=TEMPLATE)
