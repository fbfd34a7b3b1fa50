"""NIfTI headers: from bytes to what they say, checked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.errors import DaskroiError
from daskroi.grid import Grid
from daskroi.repetition import RepetitionTime, header_t_r

if TYPE_CHECKING:
    import nibabel as nib

__all__ = ["checked_offset", "header_description", "header_fields", "parse_header"]

# of an axis; NIfTI-2 may promise 10^18, and times alone would fill the memory
LONGEST = 10**8


def parse_header(head: bytes, url: str, unit: str = "bytes") -> nib.Nifti1Header:
    """Parse 348 or 540 bytes with nibabel, which knows both versions and both byte orders.

    Parameters
    ----------
    head : bytes
        What the file starts with; bytes beyond the header are not looked at.
    url, unit : str
        For error messages; ``unit`` is what ``head`` is counted in.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    for cls, size in ((Nifti1Header, 348), (Nifti2Header, 540)):
        for endian, order in (("<", "little"), (">", "big")):
            if int.from_bytes(head[:4], order) == size:  # type: ignore[arg-type]
                if len(head) < size:
                    raise DaskroiError(
                        f"{url}: truncated, expected {size} {unit} and found {len(head)}. "
                        "Copy or download it again."
                    )
                try:
                    header = cls(head[:size], endianness=endian, check=False)
                    magic = header["magic"].item()
                except (HeaderDataError, ValueError) as error:
                    raise DaskroiError(
                        f"{url}: damaged NIfTI header ({error}). Copy or download it again."
                    ) from error
                if not magic.startswith((b"n+1", b"n+2")):
                    pair = magic.startswith((b"ni1", b"ni2"))
                    kind = "is the header of a .hdr/.img pair" if pair else "has no NIfTI magic"
                    raise DaskroiError(
                        f"{url}: {kind}. "
                        "Convert it to a single .nii file (for example with nibabel.save)."
                    )
                return header
    raise DaskroiError(
        f"{url}: not a NIfTI image (no header of 348 or 540 bytes at its start). "
        "Give a .nii or .nii.gz file, or convert it with nibabel."
    )


def header_fields(header: nib.Nifti1Header, url: str) -> dict[str, Any]:
    """What a header says, checked, as the fields of an `ImageFile`.

    Parameters
    ----------
    header : nibabel header
    url : str
        For error messages.
    """
    shape, dtype = _checked_shape(url, header), _checked_dtype(url, header)
    slope, inter = _checked_scaling(url, header)
    run = len(shape) == 4
    return {
        "grid": Grid.make(shape[2::-1], _checked_affine(url, header), url),
        "n_time": shape[3] if run else None,
        "dtype": dtype.str,
        "slope": slope,
        "inter": inter,
        "repetition": header_t_r(header) if run else RepetitionTime(),
        "description": header_description(header),
    }


def _checked_shape(url: str, header: nib.Nifti1Header) -> tuple[int, ...]:
    rank = int(header["dim"][0])
    dims = [int(n) for n in header["dim"][1 : rank + 1]] if 1 <= rank <= 7 else []
    if not dims or min(dims) < 1 or max(dims) > LONGEST:
        raise DaskroiError(
            f"{url}: the header's dimensions {header['dim'].tolist()} are not those of an image. "
            "The file is damaged; copy or download it again."
        )
    while len(dims) > 4 and dims[-1] == 1:
        dims.pop()
    if len(dims) > 4:
        raise DaskroiError(
            f"{url}: is {len(dims)}D, shape {tuple(dims)}; an image has 3 or 4 dimensions. "
            "Split it along the last one."
        )
    return tuple(dims + [1] * (3 - len(dims)))


def _checked_dtype(url: str, header: nib.Nifti1Header) -> np.dtype[Any]:
    from nibabel.nifti1 import data_type_codes
    from nibabel.spatialimages import HeaderDataError

    code = int(header["datatype"])
    try:
        dtype, name = header.get_data_dtype(), data_type_codes.label[code]
    except (HeaderDataError, KeyError) as error:
        raise DaskroiError(
            f"{url}: unknown NIfTI data type {code}, the file is damaged. "
            "Copy or download it again."
        ) from error
    if dtype.kind in "iuf":
        return dtype
    if name == "float128":
        raise DaskroiError(
            f"{url}: holds 128-bit floats, which this machine cannot represent. "
            "Save the image as float64."
        )
    raise DaskroiError(
        f"{url}: holds {name} voxels (NIfTI data type {code}); region series are of real "
        "numbers. Save the magnitude, or one channel, as its own image."
    )


def _checked_affine(url: str, header: nib.Nifti1Header) -> np.ndarray:
    from nibabel.nifti1 import xform_codes
    from nibabel.spatialimages import HeaderDataError

    # as nibabel, when it loads a file: codes that NIfTI does not know place nothing, and what is
    # no qfac is 1, as the standard says of 0
    header = header.copy()
    for code in ("qform_code", "sform_code"):
        if int(header[code]) not in xform_codes.value_set("code"):
            header[code] = 0
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1
    header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    try:
        with np.errstate(all="ignore"):  # what is not finite then is refused with the grid
            return header.get_best_affine()
    except (HeaderDataError, ValueError) as error:
        raise DaskroiError(
            f"{url}: no affine can be made from the header ({error}). "
            "Repair qform or sform (for example with nibabel's set_sform)."
        ) from error


def checked_offset(url: str, header: nib.Nifti1Header) -> int:
    """Byte of a single file where voxels start."""
    first = int(header["sizeof_hdr"]) + 4
    offset = float(header["vox_offset"])
    # single files must not start before the header ends; zero means "right after it"
    if offset != 0 and not first <= offset < math.inf:
        raise DaskroiError(
            f"{url}: the header says that voxels start at byte {offset:g}, before it ends at "
            f"{first}. The file is damaged; copy or download it again."
        )
    return int(header["vox_offset"]) or first


def _checked_scaling(url: str, header: nib.Nifti1Header) -> tuple[float, float]:
    from nibabel.spatialimages import HeaderDataError

    try:
        if np.isinf(header["scl_slope"]):  # nibabel takes it for "not scaled"
            raise HeaderDataError
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise DaskroiError(
            f"{url}: scl_slope={header['scl_slope']}, scl_inter={header['scl_inter']} cannot be "
            "used as scaling. Repair the header."
        ) from error
    # None is NIfTI's "not scaled"
    return (1.0 if slope is None else float(slope)), (0.0 if inter is None else float(inter))


def header_description(header: Any) -> str:
    """Free text of a header, which may name a template; empty in formats that have none."""
    fields = (header[k].item() for k in ("descrip", "aux_file", "intent_name") if k in header)
    return " ".join(f.decode("latin-1").strip("\0 ") for f in fields).strip()
