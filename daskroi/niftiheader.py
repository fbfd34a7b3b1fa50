"""From an image to the bytes before its voxels in a NIfTI file: header and "no extensions"."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.errors import DaskroiError, warn
from daskroi.grid import Grid
from daskroi.image import TIME, as_dims, grid_of, repetition_of
from daskroi.templates import template_of

if TYPE_CHECKING:
    import xarray as xr
    from nibabel.nifti1 import Nifti1Header

__all__ = ["file_dtype", "header_bytes"]

# its dimensions are 16-bit integers
NIFTI1_LARGEST = 32767
# NIfTI's codes of what world coordinates are those of
ALIGNED, MNI = 2, 4
# of float32 rotations, in voxels at the corner of the grid, that a qform may be off
QFORM_TOLERANCE = 0.01
# NumPy's types that NIfTI lacks, and those that hold all of their values
WIDER: dict[Any, np.dtype[Any]] = {
    np.dtype(bool): np.dtype(np.uint8),
    np.dtype(np.float16): np.dtype(np.float32),
}


def file_dtype(image: xr.DataArray, dtype: Any = None) -> np.dtype[Any]:
    """Type of the voxels in the file, little-endian.

    Parameters
    ----------
    image : DataArray
    dtype : dtype, optional
        The image's own if not given, so that every value comes back: integers as integers, bool as
        uint8, float16 as float32.

    Raises
    ------
    DaskroiError
        NIfTI has no such type.

    Examples
    --------
    >>> from daskroi.image import make_image
    >>> file_dtype(make_image(np.zeros((2, 3, 4), bool), Grid.make((2, 3, 4), np.eye(4))))
    dtype('uint8')
    """
    try:
        found: np.dtype[Any] = np.dtype(image.dtype if dtype is None else dtype).newbyteorder("=")
    except TypeError as error:
        raise DaskroiError(
            f"dtype={dtype!r} is not a NumPy dtype. Use for example 'float32'."
        ) from error
    found = WIDER.get(found, found)
    if found.kind not in "iuf" or found.itemsize > 8:
        raise DaskroiError(
            f"dtype={found.name!r} cannot be written to NIfTI. Pass dtype='float64', or an integer "
            "type."
        )
    return found.newbyteorder("<")


def header_bytes(image: xr.DataArray, dtype: Any = None) -> bytes:
    """Everything that comes before the voxels in a single NIfTI file.

    Parameters
    ----------
    image : DataArray, dims (time, z, y, x) or (z, y, x), in any order
        With geometry; sliced, strided or flipped as may be. No voxel is read.
    dtype : dtype, optional
        Of the voxels in the file; see `file_dtype`.

    Returns
    -------
    bytes
        352 for NIfTI-1; 544 for NIfTI-2, which is taken when a dimension is longer than 32767.
        Little-endian. sform, and qform where rotations and voxel sizes give the same affine; mm
        and s; not scaled. The affine's code and the free text are those of the file that the image
        was opened from, if that is at hand; else 4 (MNI) where its name says so, or 2 (aligned).

    Raises
    ------
    DaskroiError
        No geometry, no voxel left, or a type that NIfTI lacks.

    Warns
    -----
    DaskroiWarning
        Frames are not evenly spaced in time (censored), so that there is no repetition time.

    Examples
    --------
    >>> import daskroi as dr, nibabel
    >>> image = dr.make_phantom((8, 9, 7), n_time=10, n_regions=4).image
    >>> head = header_bytes(image[:, ::-1])
    >>> len(head), nibabel.Nifti1Header(head[:348]).get_data_shape()
    (352, (7, 9, 8, 10))
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    image = as_dims(image)
    grid = grid_of(image)
    if 0 in image.shape:
        raise DaskroiError("The image has no frame left. Check the selection.")
    cls = Nifti1Header if max(image.shape) <= NIFTI1_LARGEST else Nifti2Header
    header = cls(endianness="<")
    header.set_data_dtype(file_dtype(image, dtype))
    header.set_data_shape(image.shape[::-1])
    header.set_slope_inter(1, 0)
    header["magic"] = header.single_magic
    header["vox_offset"] = header.single_vox_offset
    code = _set_origin(header, image.attrs.get("source"))
    _set_affine(header, grid, code)
    _set_time(header, image)
    return header.binaryblock + bytes(4)  # 4 zeros: no extensions


def _set_affine(header: Nifti1Header, grid: Grid, code: int) -> None:
    header.set_qform(grid.matrix, code)
    far = np.array([*grid.shape[::-1], 1.0])
    off = (header.get_qform() - grid.matrix)[:3] * far
    if np.abs(off).sum(axis=1).max() > QFORM_TOLERANCE * min(grid.voxel_sizes):
        header["qform_code"] = 0  # sheared: ITK would take the nearest rotation for the truth
    header.set_sform(grid.matrix, code)
    header["pixdim"][1:4] = grid.voxel_sizes


def _set_time(header: Nifti1Header, image: xr.DataArray) -> None:
    if TIME not in image.dims:
        header.set_xyzt_units("mm")
        return
    t_r = repetition_of(image).seconds
    seconds = TIME in image.coords and image[TIME].attrs.get("units") == "s"
    if t_r is None and seconds and image.sizes[TIME] > 1:
        warn(
            "The image's frames are not evenly spaced in time (censored or reordered), so the "
            "NIfTI file has no repetition time. Write the whole run, or keep the times elsewhere."
        )
    header["pixdim"][4] = t_r or 0.0
    header.set_xyzt_units("mm", "sec" if t_r else None)
    if seconds:
        header["toffset"] = float(image[TIME][0])


def _set_origin(header: Nifti1Header, source: Any) -> int:
    """Set the free text that may name a template; return the affine's code."""
    from daskroi import __version__

    header["descrip"] = f"daskroi {__version__}".encode()
    if not isinstance(source, str):
        return ALIGNED
    # whatever is wrong with the source by now, or with its format, the image can be written
    with suppress(Exception):
        if os.path.exists(source):  # a file, or a folder of Zarr; a URL is not asked again
            before = _header_of(source)
            header["aux_file"] = before["aux_file"]
            header["descrip"] = before["descrip"].item() or header["descrip"]
            # the affine is the sform, else the qform, as nibabel decides
            code = int(before["sform_code"]) or int(before["qform_code"])
            if 0 < code <= 5:
                return code
    return MNI if (template_of(source) or "").startswith("MNI") else ALIGNED


def _header_of(source: str) -> Any:
    import nibabel

    from daskroi.header import parse_header
    from daskroi.niftizarr import ZarrImage

    if os.path.isdir(source):
        return parse_header(ZarrImage.open(source).read_head(), source)
    return nibabel.load(source).header
