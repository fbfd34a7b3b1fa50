"""NIfTI files that are cut or whose header cannot be: refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from niftis import VOLUME, nifti_bytes, random_values, write

from daskroi.errors import DaskroiError
from daskroi.nifti import NiftiFile


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("cut", [30_000, 48_351, 353, 352, 349, 348, 300])
def test_truncated(tmp_path: Path, name: str, cut: int) -> None:
    """48,352 bytes should be there."""
    content = nifti_bytes(random_values((10, 10, 20, 6), "f4"))[:cut]
    path = write(tmp_path / name, content)
    what = " after inflating" if name.endswith("gz") else ""
    needed = 48_352 if cut >= 348 else 348
    message = rf"{name}: truncated, expected {needed} bytes{what} and found {cut}\. Copy or downl"
    with pytest.raises(DaskroiError, match=message):
        list(NiftiFile.open(path).slabs())
    with pytest.raises(DaskroiError, match=message):
        NiftiFile.open(path).read(0, 6)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("compressible", [True, False])
def test_truncated_gzip_stream(tmp_path: Path, share: float, compressible: bool) -> None:
    import zlib

    shape = (20, 20, 20, 6)
    values = np.zeros(shape, "i4") if compressible else random_values(shape, "i4")
    content = nifti_bytes(values)
    packed = gzip.compress(content)
    packed = packed[: int(len(packed) * share)]
    path = tmp_path / "a.nii.gz"
    path.write_bytes(packed)
    found = len(zlib.decompressobj(31).decompress(packed))
    needed = len(content) if found >= 348 else 348
    message = f"truncated, expected {needed} bytes after inflating and found {found}"
    if found == len(content):  # only the checksum is missing
        message = "the gzip stream ends early, the file is truncated"
    elif found >= 348 and len(packed) * 1032 < len(content):  # told from the size alone
        message = f"the header promises {len(content)} bytes, more than {len(packed)} gzipped"
    with pytest.raises(DaskroiError, match=message):
        list(NiftiFile.open(path).slabs())


CLAIMS = (30_000,) * 3 + (100,)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_impossible_claims_are_refused_from_the_size(tmp_path: Path, name: str) -> None:
    content = bytearray(nifti_bytes(np.zeros((3, 4, 5), "f8")))
    parsed = nib.Nifti1Header(bytes(content[:348]), check=False)
    parsed.set_data_shape(CLAIMS)  # 2.7e15 voxels
    content[:348] = parsed.binaryblock
    path = write(tmp_path / name, bytes(content))
    with pytest.raises(
        DaskroiError, match=rf"{name}: .*21600000000000352 bytes.*download it again"
    ):
        NiftiFile.open(path)


def dim(*sizes: int) -> dict[str, Any]:
    return {"dim": [*sizes] + [1] * (8 - len(sizes))}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an image" * 50, r"a\.nii: not a NIfTI image \(no header of 348 or 540 bytes"),
        (b"x", r"not a NIfTI image"),
        (nifti_bytes(VOLUME)[:4], "truncated, expected 348 bytes and found 4"),
        (nifti_bytes(VOLUME, magic=b"ni1"), r"is the header of a \.hdr/\.img pair\. Convert"),
        (nifti_bytes(VOLUME, magic=b""), r"has no NIfTI magic\. Convert"),
        (nifti_bytes(VOLUME, version=2, magic=b""), r"has no NIfTI magic\. Convert"),
        (nifti_bytes(VOLUME, **dim(3, 3, -4, 5)), r"dimensions \[3, 3, -4, 5, .* not those of an"),
        (nifti_bytes(VOLUME, **dim(3, 3, 0, 5)), r"dimensions \[3, 3, 0, 5, .* not those of an im"),
        (nifti_bytes(VOLUME, **dim(0, 3, 4, 5)), "are not those of an image"),
        (nifti_bytes(VOLUME, **dim(8, 3, 4, 5)), "are not those of an image"),
        (nifti_bytes(VOLUME, **dim(-1, 3, 4, 5)), "are not those of an image"),
        (nifti_bytes(np.zeros((3, 4, 5, 2, 3), "i2")), r"is 5D, shape \(3, 4, 5, 2, 3\).* Split"),
        (nifti_bytes(np.zeros((3, 4, 5, 1, 3), "i2")), r"is 5D, shape \(3, 4, 5, 1, 3\).* Split"),
        (nifti_bytes(VOLUME.astype("c8")), r"holds complex64 voxels .* Save the magnitude"),
        (nifti_bytes(VOLUME.astype("c16")), "holds complex128 voxels"),
        (nifti_bytes(VOLUME, datatype=128, bitpix=24), r"holds RGB voxels \(NIfTI data type 128\)"),
        (nifti_bytes(VOLUME, datatype=2304, bitpix=32), "holds RGBA voxels"),
        (nifti_bytes(VOLUME, datatype=1, bitpix=1), "holds binary voxels"),
        (nifti_bytes(VOLUME, datatype=0), "holds none voxels"),
        (nifti_bytes(VOLUME, datatype=77), "unknown NIfTI data type 77, the file is damaged"),
        (nifti_bytes(VOLUME, datatype=-3), "unknown NIfTI data type -3"),
        (nifti_bytes(VOLUME, scl_slope=np.inf), "scl_slope=inf, scl_inter=.* cannot be used"),
        (nifti_bytes(VOLUME, scl_slope=-np.inf), "cannot be used as scaling. Repair"),
        (nifti_bytes(VOLUME, scl_slope=2, scl_inter=np.nan), "scl_inter=nan cannot be used"),
        (nifti_bytes(VOLUME, scl_slope=2, scl_inter=np.inf), "scl_inter=inf cannot be used"),
        (nifti_bytes(VOLUME, srow_x=[0, 0, 0, 0]), r"a\.nii: the affine is singular"),
        (nifti_bytes(VOLUME, srow_y=[0, np.nan, 0, 0]), r"a\.nii: the affine has non-finite"),
        (nifti_bytes(VOLUME, form=None, pixdim=[1, 2, 0, 2, 1, 1, 1, 1]), "affine is singular"),
        (nifti_bytes(VOLUME, form="qform", quatern_b=7), "no affine can be made from the header"),
        (nifti_bytes(VOLUME, form="qform", quatern_b=np.nan), "affine .*non-finite|no affine can"),
        (nifti_bytes(VOLUME, vox_offset=100), "start at byte 100, before it ends at 352. The file"),
        (nifti_bytes(VOLUME, vox_offset=-352), "start at byte -352, before"),
        (nifti_bytes(VOLUME, vox_offset=np.nan), "start at byte nan, before"),
        (nifti_bytes(VOLUME, vox_offset=np.inf), "start at byte inf, before"),
        (
            nifti_bytes(VOLUME, version=2, vox_offset=352),
            "start at byte 352, before it ends at 544",
        ),
        (nifti_bytes(VOLUME, vox_offset=1e30), "truncated, expected 1000"),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(content)
    with pytest.raises(DaskroiError, match=message) as caught:
        NiftiFile.open(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 347), st.integers(0, 255), st.sampled_from([1, 2]))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_any_damaged_header_opens_or_is_refused_by_name(
    tmp_path: Path, where: int, byte: int, version: int
) -> None:
    content = bytearray(nifti_bytes(np.zeros((3, 4, 5, 6), "i2"), version=version, form="qform"))
    content[where] = byte
    path = tmp_path / "a.nii"
    path.write_bytes(content)
    try:
        file = NiftiFile.open(path)
    except DaskroiError as error:
        message = str(error)
    else:
        message = str(path)
        assert file.read(0, file.frames).shape == (file.frames, *file.grid.shape)
    assert message.startswith(str(path))


def test_128_bit_floats(tmp_path: Path) -> None:
    """Read where the machine has them (ARM), else refused."""
    content = nifti_bytes(
        np.zeros((3, 4, 5, 8), "i2"), datatype=1536, bitpix=128, **dim(3, 3, 4, 5)
    )
    path = write(tmp_path / "a.nii", content)
    if nib.Nifti1Header(content[:348], check=False).get_data_dtype().kind == "f":
        assert NiftiFile.open(path).value_dtype == np.longdouble
    else:
        with pytest.raises(DaskroiError, match=r"128-bit floats, which this machine cannot.*Save"):
            NiftiFile.open(path)
