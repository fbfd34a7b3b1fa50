"""NIfTI-Zarr read: our stores and those of others, and what is wrong with broken ones."""

from __future__ import annotations

import dataclasses
import json
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
import zarr
from dask.base import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st
from niftis import nifti_bytes
from numcodecs import Blosc
from servers import S3, Server

import daskroi as dr
from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.niftizarr import ZarrImage
from daskroi.zarrwrite import to_zarr

AXES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def whole(file: ZarrImage) -> np.ndarray:
    """All of an image."""
    z, y, x = (slice(0, n) for n in file.grid.shape)
    return file.read_box((slice(0, file.frames), z, y, x))


def picture() -> xr.DataArray:
    """An image (8, 6, 7, 5)."""
    values = np.random.default_rng(2).standard_normal((8, 6, 7, 5)).astype("f4")
    return dr.make_image(values, dr.Grid.make((6, 7, 5), np.diag([2.0, 2, 3, 1])), t_r=2.0)


def foreign(
    path: Path,
    values: np.ndarray,
    *,
    zarr_format: int = 3,
    chunks: tuple[int, ...] | None = None,
    axes: str | None = None,
    header: bytes | None = None,
    level: str = "0",
    pyramid: bool = False,
    ome: bool = True,
) -> Path:
    """A store as others write it; ``values`` are (x, y, z, time), or with a channel after these."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)  # type: ignore[arg-type]
    stored = values.T
    names = axes or "tzyx"[-stored.ndim :]
    how: dict[str, Any] = {} if zarr_format == 3 else {"chunk_key_encoding": ("v2", "/")}
    if zarr_format == 2:
        how = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    levels = [level, "coarse"] if pyramid else [level]
    for i, name in enumerate(levels):
        array = stored[..., :: i + 1]
        group.create_array(
            name, shape=array.shape, chunks=chunks or array.shape, dtype=array.dtype, **how
        )[...] = array
    scales = [
        {
            "path": name,
            "coordinateTransformations": [{"type": "scale", "scale": [1.0] * len(names)}],
        }
        for name in levels
    ]
    described = [
        {"name": "x", "axes": [{"name": a, "type": AXES[a]} for a in names], "datasets": scales}
    ]
    if ome and zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": described}
    elif ome:
        group.attrs["multiscales"] = described
    if header is not None:
        nifti = np.frombuffer(header, "u1")
        group.create_array("nifti", shape=nifti.shape, dtype="u1", compressors=None)[:] = nifti
    return path


def head_of(values: np.ndarray, **how: Any) -> bytes:
    """The header and extensions of an image, as a file has them."""
    content = nifti_bytes(values, **how)
    return content[: len(content) - values.nbytes]


def run(shape: tuple[int, ...] = (5, 4, 3, 7), dtype: str = "f4") -> np.ndarray:
    return np.random.default_rng(1).integers(0, 100, shape).astype(dtype)


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


def test_a_chunk_that_is_lost_or_cut_is_no_zeros(tmp_path: Path) -> None:
    for i, shards in enumerate((None, 6)):
        path = tmp_path / f"{i}.nii.zarr"
        image = picture()
        to_zarr(image, path, chunks=3, shards=shards)
        chunk = path / "0" / "c" / "1" / "0" / "0" / "0"
        content = chunk.read_bytes()
        chunk.write_bytes(content[: len(content) // 2])
        with pytest.raises(DaskroiError, match=rf"{i}.nii.zarr: damaged Zarr data"):
            whole(ZarrImage.open(path))
        chunk.unlink()
        with pytest.raises(DaskroiError, match=r"chunk c/1/0/0/0 is not there. Copy the store"):
            whole(ZarrImage.open(path))


def test_a_chunk_of_others_that_is_cut(tmp_path: Path) -> None:
    values = run()
    path = foreign(tmp_path / "x.nii.zarr", values, zarr_format=2, header=head_of(values)[:348])
    zarr.open_group(path, mode="r+").create_array(
        "0",
        shape=values.T.shape,
        chunks=(4, 3, 4, 5),
        dtype="f4",
        compressors=Blosc("zstd", 3),
        chunk_key_encoding={"name": "v2", "separator": "/"},
        overwrite=True,
    )[...] = values.T
    np.testing.assert_array_equal(whole(ZarrImage.open(path)), values.T)
    chunk = path / "0" / "1" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(DaskroiError, match=r"chunk 1/0/0/0 has \d+ bytes instead of \d+"):
        whole(ZarrImage.open(path))


def test_others_may_leave_out_chunks_of_zeros(tmp_path: Path) -> None:
    values = np.zeros((5, 4, 3, 7), "i2")
    path = foreign(tmp_path / "x.nii.zarr", values, header=head_of(values)[:348])
    assert not (path / "0" / "c").exists()
    assert not whole(ZarrImage.open(path)).any()


def spoil(path: Path, what: str) -> None:
    """Break a good store."""
    if what == "nifti":
        shutil.rmtree(path / "nifti")
    elif what == "level":
        shutil.rmtree(path / "0")
    elif what == "group":
        (path / "zarr.json").unlink()
    elif what == "json":
        (path / "0" / "zarr.json").write_text("{")
    elif what == "header":
        array = zarr.open_array(path / "nifti", mode="r+")
        array[40:56] = np.array([4, 5, 4, 3, 8, 1, 1, 1], "<i2").view("u1")
    elif what == "dtype":
        array = zarr.open_array(path / "nifti", mode="r+")
        array[70:74] = np.array([4, 16], "<i2").view("u1")
    elif what == "junk":
        zarr.open_array(path / "nifti", mode="r+")[:4] = 0
    else:
        document = json.loads((path / "zarr.json").read_text())
        image = document["attributes"]["ome"]["multiscales"][0]
        if what == "axes":
            image["axes"][0]["name"] = "q"
        elif what == "no axes":
            del image["axes"]
        else:
            document["attributes"]["ome"] = ["some", "list"]
        (path / "zarr.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nifti", "is an OME-Zarr without array 'nifti'. Convert the NIfTI file with 'daskroi con"),
        ("level", "is an OME-Zarr without array '0'. Convert the image again"),
        ("group", r"is not a Zarr group \(no zarr.json or .zgroup in it\). Give the folder"),
        ("json", "damaged Zarr data"),
        ("header", r"the array has shape .* \(7, 3, 4, 5\) and the NIfTI header says \(8, 3, 4, 5"),
        ("dtype", "the array holds float32 voxels and the NIfTI header says int16"),
        ("junk", "not a NIfTI image"),
        ("axes", "has axes 'qzyx'; an image has t, z, y and x"),
        ("no axes", r"damaged Zarr data \(KeyError: 'axes'\). Copy the store"),
        ("list", r"damaged Zarr data \(AttributeError: "),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, what: str, message: str) -> None:
    values = run()
    path = foreign(tmp_path / "x.nii.zarr", values, header=head_of(values)[:348])
    spoil(path, what)
    with pytest.raises(DaskroiError, match=message) as caught:
        ZarrImage.open(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_several_channels_and_nothing(tmp_path: Path) -> None:
    values = np.zeros((5, 4, 3, 2, 7), "f4")
    header = head_of(values[..., 0, :])[:348]
    path = foreign(tmp_path / "x.nii.zarr", values, axes="tczyx", header=header)
    with pytest.raises(DaskroiError, match="has 2 channels; an image has one"):
        ZarrImage.open(path)
    with pytest.raises(DaskroiNotFoundError, match=r"no such Zarr store. Check the path"):
        ZarrImage.open(tmp_path / "none.nii.zarr")


def test_read_from_a_web_server(tmp_path: Path, web: Server) -> None:
    image = picture()
    for zarr_format in (2, 3):
        to_zarr(image, tmp_path / f"{zarr_format}.nii.zarr", chunks=3, zarr_format=zarr_format)
        file = ZarrImage.open(f"{web.url}/{zarr_format}.nii.zarr")
        web.forget()
        part = file.read_box((slice(0, 3), slice(0, 6), slice(0, 7), slice(0, 5)))
        np.testing.assert_array_equal(part, image.values[:3])
        # the metadata of the array, whether the group has changed, and one chunk
        assert len(web.requests) <= 8
        np.testing.assert_array_equal(whole(file), image.values)
    with pytest.raises(DaskroiNotFoundError):
        ZarrImage.open(f"{web.url}/none.nii.zarr")


def test_faults_of_a_server_are_tried_again(tmp_path: Path, web: Server) -> None:
    image = picture()
    to_zarr(image, tmp_path / "x.nii.zarr", chunks=3)
    file = ZarrImage.open(f"{web.url}/x.nii.zarr")
    whole(file)
    web.faults += ["busy", "drop", "reset", "short"]
    np.testing.assert_array_equal(whole(file), image.values)
    assert not web.faults


def test_s3_lazily_and_without_showing_credentials(s3: S3) -> None:
    image = picture()
    url = s3.url("a/x.nii.zarr")
    to_zarr(image, url, chunks=3, storage_options=s3.options)
    found = dr.open_image(url, storage_options=s3.options)
    np.testing.assert_array_equal(found.values, image.values)
    assert found.attrs["source"] == url
    file = ZarrImage.open(url, s3.options)
    assert "daskroi-test" not in repr(file)
    with pytest.raises(DaskroiNotFoundError, match="no such Zarr store"):
        ZarrImage.open(s3.url("a/y.nii.zarr"), s3.options)


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
