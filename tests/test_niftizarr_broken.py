"""NIfTI-Zarr that is broken: what is wrong with it is said, and nothing becomes zeros."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from niftizarrs import foreign, head_of, picture, run, whole
from numcodecs import Blosc

from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.niftizarr import ZarrImage
from daskroi.zarrwrite import to_zarr


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
