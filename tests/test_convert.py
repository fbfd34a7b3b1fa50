"""NIfTI to NIfTI-Zarr and back: the same bytes, whatever the image and the chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import zarr
from conversions import inflated, run_file
from hypothesis import given, settings
from hypothesis import strategies as st
from niftis import nifti_bytes, write

import daskroi as dr
from daskroi.convert import convert
from daskroi.errors import DaskroiError
from daskroi.niftizarr import ZarrImage
from daskroi.zarrwrite import to_zarr

DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def bits(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Any bits at all: NaNs of every kind, infinities, minus zeros; half of them zeros."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    raw[rng.random(shape) < 0.5] = 0
    return raw.view(dtype)[..., 0]


@settings(max_examples=60)
@given(
    dtype=st.sampled_from(DTYPES),
    endian=st.sampled_from("<>"),
    version=st.sampled_from([1, 2]),
    shape=st.tuples(*[st.integers(1, 6)] * 3) | st.tuples(*[st.integers(1, 7)] * 4),
    extension=st.sampled_from([0, 0, 16, 64]),
    slope=st.sampled_from([1.0, 0.0, 0.25, -2.0]),
    zarr_format=st.sampled_from([2, 3]),
    compressor=st.sampled_from(["lz4", "zstd"]),
    gz=st.booleans(),
    data=st.data(),
)
def test_there_and_back_again(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    endian: str,
    version: int,
    shape: tuple[int, ...],
    extension: int,
    slope: float,
    zarr_format: int,
    compressor: str,
    gz: bool,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("round")
    content = nifti_bytes(
        bits(shape, dtype), version=version, endian=endian, extension=extension, scl_slope=slope
    )
    if extension:  # something in it
        at = 348 if version == 1 else 540
        content = (
            content[:at] + b"\1\0\0\0" + bytes(range(extension)) + content[at + 4 + extension :]
        )
    path = write(folder / ("x.nii.gz" if gz else "x.nii"), content)
    options: dict[str, Any] = {"chunks": "auto"}
    if data.draw(st.booleans()):
        options["chunks"] = tuple(data.draw(st.integers(1, n)) for n in shape[::-1])
        if zarr_format == 3 and data.draw(st.booleans()):
            options["shards"] = tuple(c * data.draw(st.integers(1, 3)) for c in options["chunks"])
    assert convert(
        path, folder / "x.nii.zarr", zarr_format=zarr_format, compressor=compressor, **options
    )
    assert convert(folder / "x.nii.zarr", folder / "back.nii.gz")
    assert inflated(folder / "back.nii.gz") == content
    assert not convert(
        path, folder / "x.nii.zarr", zarr_format=zarr_format, compressor=compressor, **options
    )
    nifti = zarr.open_array(folder / "x.nii.zarr" / "nifti", mode="r")
    assert nifti.dtype == "u1"
    if not extension:
        assert nifti.shape == ({1: 348, 2: 540}[version],)


def test_the_real_run(tmp_path: Path, real_run: Path) -> None:
    convert(real_run, tmp_path / "x.nii.zarr", chunks={"time": 10, "z": 8})
    convert(tmp_path / "x.nii.zarr", tmp_path / "back.nii")
    assert inflated(tmp_path / "back.nii") == inflated(real_run)


def test_nifti_to_nifti_and_zarr_to_zarr(tmp_path: Path) -> None:
    path = run_file(tmp_path / "x.nii.gz")
    convert(path, tmp_path / "x.nii")
    assert inflated(tmp_path / "x.nii") == inflated(path)
    convert(path, tmp_path / "a.nii.zarr", zarr_format=2, chunks=3)
    convert(tmp_path / "a.nii.zarr", tmp_path / "b.nii.zarr", chunks=7)
    convert(tmp_path / "b.nii.zarr", tmp_path / "y.nii")
    assert inflated(tmp_path / "y.nii") == inflated(path)


def test_images_in_memory_and_changed_ones(tmp_path: Path) -> None:
    phantom = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    changed = (phantom.image[2:, ::-1] / 3).chunk({"time": 7})
    to_zarr(changed, tmp_path / "x.nii.zarr", chunks=4)
    found = dr.open_image(tmp_path / "x.nii.zarr")
    np.testing.assert_array_equal(found.values, changed.values)
    assert dr.grid_of(found).same_as(dr.grid_of(changed))
    assert found.time.attrs["t_r"] == phantom.image.time.attrs["t_r"]
    # of nibabel's images what the user made of them counts, not what the file says
    image = nib.load(run_file(tmp_path / "y.nii"))
    moved = nib.Nifti1Image(image.dataobj, np.diag([5.0, 5, 5, 1]), image.header)
    to_zarr(moved, tmp_path / "y.nii.zarr")
    assert ZarrImage.open(tmp_path / "y.nii.zarr").grid.voxel_sizes == (5.0, 5.0, 5.0)
    to_zarr(phantom.image[3], tmp_path / "z.nii.zarr")
    np.testing.assert_array_equal(
        dr.open_image(tmp_path / "z.nii.zarr").values, phantom.image[3].values
    )


def test_memory_filesystem(tmp_path: Path) -> None:
    path = run_file(tmp_path / "x.nii.gz")
    assert convert(path, "memory://convert/x.nii.zarr", chunks=7)
    assert not convert(path, "memory://convert/x.nii.zarr", chunks=7)
    assert convert("memory://convert/x.nii.zarr", tmp_path / "y.nii")
    assert inflated(tmp_path / "y.nii") == inflated(path)


def test_a_store_is_not_written_over_by_what_is_made_of_it(tmp_path: Path) -> None:
    to_zarr(run_file(tmp_path / "x.nii"), tmp_path / "x.nii.zarr")
    image = dr.open_image(tmp_path / "x.nii.zarr")
    before = image.values
    made = (image * 2).isel(time=slice(3)).drop_attrs()  # also without a word of where it is from
    with pytest.raises(DaskroiError, match=r"x.nii.zarr: is the image itself"):
        to_zarr(made, tmp_path / "x.nii.zarr", overwrite=True)
    np.testing.assert_array_equal(dr.open_image(tmp_path / "x.nii.zarr"), before)
