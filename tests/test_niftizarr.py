"""NIfTI-Zarr read: our stores and those of others, lazily, and under keys that tell them apart."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import dask
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st
from niftis import nifti_bytes
from niftizarrs import foreign, head_of, picture, run, whole

import daskroi as dr
from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.niftizarr import ZarrImage
from daskroi.zarrwrite import to_zarr


@settings(max_examples=60)
@given(
    zarr_format=st.sampled_from([2, 3]),
    dtype=st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"]),
    shape=st.tuples(*[st.integers(1, 6)] * 3) | st.tuples(*[st.integers(1, 6)] * 4),
    channel=st.booleans(),
    endian=st.sampled_from("<>"),
    data=st.data(),
)
def test_any_chunk_grid_of_others(
    tmp_path_factory: pytest.TempPathFactory,
    zarr_format: int,
    dtype: str,
    shape: tuple[int, ...],
    channel: bool,
    endian: str,
    data: st.DataObject,
) -> None:
    values = run(shape, dtype)
    header = head_of(values, endian=endian)[:348]
    stored, axes = values, "tzyx"[-len(shape) :]
    if channel and len(shape) == 4:  # an axis of length 1 after time
        stored, axes = values[:, :, :, None], "tczyx"
    chunks = tuple(data.draw(st.integers(1, n)) for n in stored.T.shape)
    path = foreign(
        tmp_path_factory.mktemp("zarr") / "x.nii.zarr",
        stored,
        zarr_format=zarr_format,
        chunks=chunks,
        axes=axes,
        header=header,
    )
    file = ZarrImage.open(path)
    assert file.shape == shape[::-1]
    np.testing.assert_array_equal(whole(file), np.atleast_3d(values).T.reshape(whole(file).shape))
    box = tuple(
        slice(lo, data.draw(st.integers(lo + 1, n)))
        for n in (file.frames, *file.grid.shape)
        for lo in [data.draw(st.integers(0, n - 1))]
    )
    np.testing.assert_array_equal(file.read_box(box), whole(file)[box])  # type: ignore[arg-type]
    assert file.read_box(box).dtype == np.dtype(file.dtype)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.concatenate([s for _, s in file.slabs(2)]), whole(file))


def test_the_header_is_authoritative(tmp_path: Path) -> None:
    values = run(dtype="i2")
    header = head_of(values, scl_slope=0.5, scl_inter=-3, extension=32, descrip=b"MNI")
    path = foreign(tmp_path / "x.nii.zarr", values, header=header)
    (tmp_path / "x.nii").write_bytes(nifti_bytes(values, scl_slope=0.5, scl_inter=-3))
    plain, stored = nib.load(tmp_path / "x.nii"), ZarrImage.open(path)
    assert (stored.slope, stored.inter, stored.repetition.seconds) == (0.5, -3.0, 2.0)
    np.testing.assert_array_equal(stored.grid.matrix, plain.affine)
    assert stored.description == "MNI"
    np.testing.assert_array_equal(dr.open_image(path).values.T, plain.get_fdata())


def test_repetition_time_of_the_sidecar(tmp_path: Path) -> None:
    values = run()
    path = foreign(tmp_path / "x.nii.zarr", values, header=head_of(values)[:348])
    (tmp_path / "x.json").write_text('{"RepetitionTime": 2.0005}')
    assert ZarrImage.open(path).repetition.seconds == 2.0005


@pytest.mark.parametrize("how", ["pyramid", "names", "no-ome", "pair"])
def test_stores_of_other_shapes(tmp_path: Path, how: str) -> None:
    values = run()
    header = head_of(values)[:348]
    if how == "pair":
        header = header[:344] + b"ni1\0"
        header = header[:108] + np.float32(0).tobytes() + header[112:]
    path = foreign(
        tmp_path / "x.nii.zarr",
        values,
        header=header,
        pyramid=how == "pyramid",
        level="fine/best" if how == "names" else "0",
        ome=how != "no-ome",
    )
    file = ZarrImage.open(path)
    np.testing.assert_array_equal(whole(file), values.T)
    assert len(file.read_head()) == 352


def test_open_image_is_lazy_and_extracts_the_same(tmp_path: Path) -> None:
    phantom = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    paths = dr.write_phantom(tmp_path, phantom)
    to_zarr(paths["image"], tmp_path / "x.nii.zarr", chunks={"time": 3, "z": 5})

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        image = dr.open_image(tmp_path / "x.nii.zarr", chunks={"time": 5, "y": 7})
        lazy = dr.extract(image, phantom.atlas)
    expected = dr.extract(paths["image"], phantom.atlas).compute()
    np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-6)
    exact = dr.extract(tmp_path / "x.nii.zarr", phantom.atlas).compute()
    np.testing.assert_array_equal(
        exact, dr.extract(paths["image"], phantom.atlas, plan="blocks").compute()
    )


def test_dask_chunks_are_whole_stored_chunks(tmp_path: Path) -> None:
    image = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4).image
    to_zarr(image, tmp_path / "x.nii.zarr", chunks=6)
    file = ZarrImage.open(tmp_path / "x.nii.zarr")
    assert file.chunks == (6, 12, 14, 12)
    assert file.slab_frames(13 * file.frame_bytes) == 12


def test_pickles_and_reads_in_another_process(tmp_path: Path) -> None:
    image = picture()
    to_zarr(image, tmp_path / "x.nii.zarr", chunks=3)
    file = ZarrImage.open(tmp_path / "x.nii.zarr")
    whole(file)  # an open array must not be in the way
    again = pickle.loads(pickle.dumps(file))
    assert again == file
    assert tokenize(again) == tokenize(file)
    with dask.config.set(scheduler="processes", num_workers=1):
        np.testing.assert_array_equal(dr.open_image(tmp_path / "x.nii.zarr").values, whole(file))


def test_every_field_is_in_the_key(tmp_path: Path) -> None:
    to_zarr(picture(), tmp_path / "x.nii.zarr")
    file = ZarrImage.open(tmp_path / "x.nii.zarr")
    for field in dataclasses.fields(file):
        other = dataclasses.replace(file, **{field.name: "something else"})
        assert tokenize(other) != tokenize(file), field.name


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_written_anew_has_another_key(tmp_path: Path, zarr_format: int) -> None:
    values, path = run(), tmp_path / "x.nii.zarr"
    foreign(path, values, zarr_format=zarr_format, header=head_of(values)[:348])
    before = ZarrImage.open(path)
    shutil.rmtree(path)
    foreign(path, values + 1, zarr_format=zarr_format, header=head_of(values)[:348])
    after = ZarrImage.open(path)
    assert tokenize(before) != tokenize(after)
    np.testing.assert_array_equal(whole(after), values.T + 1)
    with pytest.raises(DaskroiError, match=r"changed after it was opened. Open the image again"):
        whole(before)
    with pytest.raises(DaskroiError, match=r"changed after it was opened"):
        before.read_head()
    shutil.rmtree(path)
    with pytest.raises(DaskroiNotFoundError, match="was there when opened"):
        whole(before)


def test_others_may_leave_out_chunks_of_zeros(tmp_path: Path) -> None:
    values = np.zeros((5, 4, 3, 7), "i2")
    path = foreign(tmp_path / "x.nii.zarr", values, header=head_of(values)[:348])
    assert not (path / "0" / "c").exists()
    assert not whole(ZarrImage.open(path)).any()


def test_xarray_opens_it_too(tmp_path: Path) -> None:
    image = picture()
    for zarr_format in (2, 3):
        path = tmp_path / f"{zarr_format}.nii.zarr"
        to_zarr((image * 0).astype("i2"), path, zarr_format=zarr_format)
        with xr.open_zarr(path, consolidated=False) as found:
            assert found["0"].dims == ("t", "z", "y", "x")
            assert found["0"].dtype == "i2"  # zeros are not missing
            assert found["nifti"].dtype == "u1"


def test_relative_paths_and_file_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to_zarr(picture(), tmp_path / "x.nii.zarr")
    monkeypatch.chdir(tmp_path)
    expected = ZarrImage.open(os.path.abspath("x.nii.zarr"))
    assert ZarrImage.open("x.nii.zarr") == expected
    assert ZarrImage.open(f"file://{tmp_path}/x.nii.zarr") == expected
