"""A phantom on disk, as fMRIPrep would have left it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.errors import DaskroiError, DaskroiTypeError, check_choice, check_flag
from daskroi.niftiwrite import write_nifti
from daskroi.outputs import write
from daskroi.phantom import Phantom, table_of
from daskroi.simulate import model_of
from daskroi.targets import check_folder
from daskroi.urls import checked_path, is_url, local_path, shown

if TYPE_CHECKING:
    from daskroi.simulate import Simulation

__all__ = ["local_folder", "write_phantom"]


def local_folder(folder: Any) -> Path:
    """The folder on this machine that a phantom goes to.

    Examples
    --------
    >>> local_folder("s3://bucket/phantom")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: s3://bucket/phantom: a phantom goes to a folder on this machine...
    """
    path = local_path(checked_path("folder", folder))
    if is_url(path):
        raise DaskroiError(
            f"{shown(path)}: a phantom goes to a folder on this machine. Give one, and copy it."
        )
    check_folder(path)
    return Path(path).expanduser()


def write_phantom(
    folder: str | os.PathLike[str], phantom: Phantom, *, gz: bool = True, version: int = 1
) -> dict[str, Path]:
    """Write a phantom as fMRIPrep would have left it, 16 frames in memory at a time.

    Parameters
    ----------
    folder : path
        Made when missing. Existing files of the same names are replaced, each in one move.
    phantom : Phantom
    gz : bool
        ``.nii.gz`` (fastest level: small is not the point) rather than ``.nii`` for the run.
    version : {1, 2}
        NIfTI version of the run.

    Returns
    -------
    dict of str to Path
        ``image``, ``sidecar`` (JSON), ``mask``, ``confounds`` (TSV), ``atlas``, ``labels`` (TSV).

    Raises
    ------
    DaskroiError
        The folder is a URL or cannot be written to, or there is no such version.

    Examples
    --------
    >>> from daskroi import make_phantom, write_phantom
    >>> import tempfile, nibabel
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = write_phantom(folder, make_phantom((9, 11, 9), 30, n_regions=5))
    ...     nibabel.load(paths["image"]).shape, paths["image"].name
    ((9, 11, 9, 30), 'sub-01_task-rest_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz')
    """
    check_choice("version", version, (1, 2))
    check_flag("gz", gz)
    place = local_folder(folder)
    if not isinstance(phantom, Phantom):
        raise DaskroiTypeError(
            f"phantom is a {type(phantom).__name__}. Give what daskroi.make_phantom returns."
        )
    simulation = phantom.simulation
    run = place / "sub-01" / "func" / "sub-01_task-rest"
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DaskroiError(
            f"{run.parent}: cannot be made ({error.strerror}). Give another folder."
        ) from error
    image = f"{run}_space-MNI152NLin6Asym_desc"
    atlas = place / "tpl-MNI152NLin6Asym_atlas-Phantom_dseg"
    paths = {
        "image": Path(f"{image}-preproc_bold.nii" + ".gz" * gz),
        "sidecar": Path(f"{image}-preproc_bold.json"),
        "mask": Path(f"{image}-brain_mask.nii.gz"),
        "confounds": Path(f"{run}_desc-confounds_timeseries.tsv"),
        "atlas": atlas.with_suffix(".nii.gz"),
        "labels": atlas.with_suffix(".tsv"),
    }
    steps = range(0, simulation.n_time, 16)
    parts = (phantom.frames(t, min(t + 16, simulation.n_time)) for t in steps)
    head = _head(simulation, np.dtype(simulation.dtype), version, run=True)
    write_nifti(paths["image"], head, parts)
    write_nifti(paths["mask"], _head(simulation, np.dtype("u1")), [phantom.mask.values[None]])
    write_nifti(paths["atlas"], _head(simulation, np.dtype("<i4")), [phantom.atlas.labels[None]])
    sidecar = {"RepetitionTime": simulation.t_r, "TaskName": "rest", "SkullStripped": True}
    write(paths["sidecar"], json.dumps(sidecar, indent=2) + "\n")
    write(paths["confounds"], phantom.confounds.to_csv(sep="\t", index=False, na_rep="n/a"))
    write(paths["labels"], table_of(model_of(simulation).anatomy).to_csv(sep="\t", index=False))
    return paths


def _head(
    simulation: Simulation, kind: np.dtype[Any], version: int = 1, *, run: bool = False
) -> bytes:
    """What comes before the voxels: a header by nibabel, and 4 bytes that say: no extensions."""
    import nibabel

    header = {1: nibabel.Nifti1Header, 2: nibabel.Nifti2Header}[version](
        endianness=">" if kind.byteorder == ">" else "<"
    )
    header.set_data_dtype(kind)
    header.set_data_shape((*simulation.grid.shape[::-1], *((simulation.n_time,) if run else ())))
    header.set_sform(simulation.grid.matrix, 4)  # 4: MNI152
    header.set_qform(simulation.grid.matrix, 4)
    header.set_zooms((*simulation.grid.voxel_sizes, *((simulation.t_r,) if run else ())))
    header.set_xyzt_units("mm", "sec")
    header.set_slope_inter(*((simulation.slope, simulation.inter) if run else (1, 0)))
    header["vox_offset"] = header.single_vox_offset
    header["descrip"] = b"daskroi phantom"
    return bytes(header.binaryblock) + bytes(4)
