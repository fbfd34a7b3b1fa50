"""The header of a written image, as nibabel reads it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from images import OBLIQUE, STRAIGHT
from niftis import nifti_bytes, write

import daskroi as dr
from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.niftiheader import file_dtype, header_bytes
from daskroi.zarrwrite import to_zarr

SHAPE = (4, 5, 6)  # (z, y, x)
# a rotation by 20 degrees about z and 10 about x, voxels of 2 x 3 x 4 mm: a qform can say that
TURNED = np.eye(4)
TURNED[:3, :3] = nib.eulerangles.euler2mat(np.radians(20), 0, np.radians(10)) * [2, 3, 4]
TURNED[:3, 3] = -80, -110, -60


def image(
    affine: np.ndarray = TURNED,
    n_time: int | None = 7,
    t_r: float | None = 0.72,
    dtype: Any = "f4",
    **attrs: Any,
) -> xr.DataArray:
    shape = SHAPE if n_time is None else (n_time, *SHAPE)
    grid = dr.Grid.make(SHAPE, affine)
    return dr.make_image(np.zeros(shape, dtype), grid, t_r=t_r, attrs=attrs)


def header(image: xr.DataArray, **options: Any) -> nib.Nifti1Header:
    head = header_bytes(image, **options)
    cls = {352: nib.Nifti1Header, 544: nib.Nifti2Header}[len(head)]
    found = cls(head[:-4])  # checks it
    assert head[-4:] == bytes(4)
    assert found["vox_offset"] == len(head)
    assert found.get_slope_inter() in [(1, 0), (None, None)]
    return found


@pytest.mark.parametrize("affine", [TURNED, STRAIGHT, TURNED @ np.diag([-1, 1, 1, 1])], ids=str)
def test_affine_in_both_forms(affine: np.ndarray) -> None:
    found = header(image(affine))
    assert found.get_sform(coded=True)[1] == found.get_qform(coded=True)[1] == 2
    np.testing.assert_allclose(found.get_sform(), affine, rtol=1e-6)
    np.testing.assert_allclose(found.get_qform(), affine, atol=1e-4)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(found.get_zooms(), [*sizes, 0.72], rtol=1e-6)
    assert found.get_xyzt_units() == ("mm", "sec")


def test_no_qform_for_a_sheared_affine() -> None:
    found = header(image(OBLIQUE))
    assert found.get_qform(coded=True) == (None, 0)
    np.testing.assert_allclose(found.get_best_affine(), OBLIQUE, rtol=1e-6)
    np.testing.assert_allclose(found.get_zooms()[:3], np.linalg.norm(OBLIQUE[:3, :3], axis=0))


@given(
    st.tuples(*[st.sampled_from([1, 2, -1, -2])] * 3),
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(0.3, 8)] * 3),
)
def test_qforms_say_what_sforms_say(steps: Any, angles: Any, sizes: Any) -> None:
    affine = np.eye(4)
    affine[:3, :3] = nib.eulerangles.euler2mat(*np.radians(angles)) * sizes
    cut = image(affine).isel(dict(zip("xyz", (slice(None, None, s) for s in steps), strict=True)))
    found = header(cut)
    expected = dr.grid_of(cut).matrix
    np.testing.assert_allclose(found.get_best_affine(), expected, rtol=1e-5, atol=1e-5)
    qform, code = found.get_qform(coded=True)
    assert code == 2
    corner = np.array([*cut.shape[:0:-1], 1])
    assert np.abs((qform - expected) @ corner).max() < 0.01 * min(sizes) * np.abs(steps).max()


def test_the_time_of_frames() -> None:
    found = header(image()[2::2])
    assert found.get_zooms()[3] == np.float32(1.44)
    assert found["toffset"] == np.float32(1.44)
    assert header(image(t_r=None))["pixdim"][4] == 0
    for unknown in (image(t_r=None), image(n_time=None)):
        assert header(unknown).get_xyzt_units() == ("mm", "unknown")
    assert header(image(n_time=None)).get_data_shape() == SHAPE[::-1]
    assert header(image()[:1]).get_zooms()[3] == np.float32(0.72)


@pytest.mark.parametrize("frames", [[0, 1, 4, 5], [2, 1, 0]])
def test_censored_runs_have_no_t_r(frames: list[int]) -> None:
    with pytest.warns(DaskroiWarning, match=r"not evenly spaced in time .* no repetition time"):
        found = header(image()[frames])
    assert found["pixdim"][4] == 0


def test_one_frame_without_t_r_says_nothing() -> None:
    one = image()[3:4].assign_coords(time=("time", [2.16], {"units": "s"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert header(one)["pixdim"][4] == 0


def test_nifti_2_where_nifti_1_is_too_small() -> None:
    for length, cls in ((32767, nib.Nifti1Header), (32768, nib.Nifti2Header)):
        grid = dr.Grid.make((1, 1, length), STRAIGHT)
        found = header(dr.make_image(np.zeros((1, 1, length), "u1"), grid))
        assert type(found) is cls
        assert found.get_data_shape() == (length, 1, 1)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [(f"{k}{n}", f"<{k}{n}") for k in "iu" for n in (1, 2, 4, 8)]
    + [("?", "<u1"), ("f2", "<f4"), ("f4", "<f4"), ("f8", "<f8"), (">i2", "<i2"), (">f8", "<f8")],
)
def test_types_hold_every_value(dtype: str, stored: str) -> None:
    assert header(image(dtype=dtype)).get_data_dtype() == np.dtype(stored)
    assert file_dtype(image(dtype=dtype)).str in (stored, stored.replace("<", "|"))


def test_a_type_of_choice() -> None:
    assert header(image(dtype="f8"), dtype="float32").get_data_dtype() == np.dtype("<f4")
    assert header(image(dtype="f8"), dtype=np.int16).get_data_dtype() == np.dtype("<i2")
    for dtype in ("complex64", "U3", "datetime64[s]", object):
        with pytest.raises(DaskroiError, match=r"dtype=.* cannot be written to NIfTI\. Pass"):
            header(image(), dtype=dtype)
    with pytest.raises(DaskroiError, match="'flaot' is not a NumPy dtype"):
        header(image(), dtype="flaot")
    if np.dtype(np.longdouble).itemsize > 8:
        with pytest.raises(DaskroiError, match="cannot be written to NIfTI"):
            header(image(dtype=np.longdouble))


@pytest.mark.parametrize(
    ("codes", "code"), [((1, 4), 4), ((1, 0), 1), ((0, 3), 3), ((0, 0), 2), ((77, -3), 2)]
)
def test_codes_and_text_of_the_source(tmp_path: Path, codes: Any, code: int) -> None:
    values = np.zeros(SHAPE, "i2")
    fields = {"qform_code": codes[0], "sform_code": codes[1], "descrip": b"FSL", "aux_file": b"aux"}
    path = write(tmp_path / "x.nii.gz", nifti_bytes(values, **fields))
    if code == 1:
        to_zarr(path, tmp_path / "x.nii.zarr")
        path = tmp_path / "x.nii.zarr"
    found = header(dr.open_image(path) * 2 if code == 3 else image(source=str(path)))
    assert found["sform_code"] == code
    assert found["qform_code"] in (code, 0)
    assert (found["descrip"].item(), found["aux_file"].item()) == (b"FSL", b"aux")


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("s3://bucket/sub-01_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz", 4),
        ("/gone/sub-01_space-T1w_desc-preproc_bold.nii.gz", 2),
        (__file__, 2),
        (7, 2),
    ],
)
def test_codes_without_the_source(source: Any, code: int) -> None:
    found = header(image(source=source))
    assert found["sform_code"] == found["qform_code"] == code
    assert found["descrip"].item() == f"daskroi {dr.__version__}".encode()


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(DaskroiError, match="no 'affine'"):
        header_bytes(image().drop_vars("affine"))
    with pytest.raises(DaskroiError, match="no frame left"):
        header_bytes(image()[:0])
    with pytest.raises(DaskroiError, match=r"Select along 'run' first"):
        header_bytes(image().expand_dims("run"))
