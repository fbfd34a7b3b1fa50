"""The stores that conversions write: OME-Zarr that others read, sizes of chunks and shards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ngff_zarr
import numpy as np
import pytest
import zarr
from conversions import run_file
from hypothesis import given
from hypothesis import strategies as st
from niftis import nifti_bytes, write
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

import daskroi as dr
from daskroi.errors import DaskroiError
from daskroi.zarrlayout import Layout
from daskroi.zarrwrite import to_zarr


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("frame", [None, 0])
def test_valid_ome_zarr_by_other_readers(
    tmp_path: Path, zarr_format: int, frame: int | None
) -> None:
    image = dr.make_phantom((12, 14, 11), n_time=9, n_regions=4).image
    image = image if frame is None else image[frame]
    path = tmp_path / "x.nii.zarr"
    to_zarr(image, path, zarr_format=zarr_format, chunks=4)
    read = ngff_zarr.from_ngff_zarr(os.fspath(path), validate=True).images[0]
    assert tuple(read.dims) == ("t", "z", "y", "x")[-image.ndim :]
    np.testing.assert_array_equal(np.asarray(read.data), image.values)
    sizes = dict(zip("xyz", dr.grid_of(image).voxel_sizes, strict=True))
    for axis in read.dims:
        wanted = sizes.get(axis, image.time.attrs.get("t_r"))
        assert read.scale[axis] == pytest.approx(wanted)
        assert read.axes_units[axis] == ("second" if axis == "t" else "millimeter")
    [node] = Reader(parse_url(os.fspath(path)))()
    np.testing.assert_array_equal(np.asarray(node.data[0]), image.values)


def test_units_that_ome_zarr_does_not_know_are_left_out(tmp_path: Path) -> None:
    values = np.zeros((4, 3, 2, 5), "i2")
    path = write(tmp_path / "x.nii", nifti_bytes(values, xyzt_units=32, pixdim=np.zeros(8)))
    to_zarr(path, tmp_path / "x.nii.zarr")
    image = zarr.open_group(tmp_path / "x.nii.zarr").attrs["ome"]["multiscales"][0]  # type: ignore[index,call-overload]
    assert not any("unit" in axis for axis in image["axes"])
    scales = image["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scales == [1.0] * 4


def test_stores_say_nothing_of_where_the_image_was(tmp_path: Path) -> None:
    (tmp_path / "secret place").mkdir()
    path = run_file(tmp_path / "secret place" / "x.nii")
    to_zarr(path, tmp_path / "x.nii.zarr")
    assert b"secret" not in (tmp_path / "x.nii.zarr" / "zarr.json").read_bytes()


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 4),
    sizes=st.tuples(*[st.integers(1, 9)] * 4),
    zarr_format=st.sampled_from([2, 3]),
)
def test_keys_are_the_files_zarr_writes(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, ...],
    sizes: tuple[int, ...],
    zarr_format: int,
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    layout = Layout.make(shape, "<i2", chunks=sizes, zarr_format=zarr_format)
    layout.create(zarr.storage.LocalStore(folder))[...] = 0
    files = {os.fspath(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert set(layout.keys(tuple(slice(0, n) for n in shape))) == {
        f for f in files if not f.endswith((".json", ".zarray", ".zattrs"))
    }


def test_sizes_that_are_chosen() -> None:
    assert Layout.make((1200, 91, 109, 91), "<f4").chunks == (4, 91, 109, 91)
    assert Layout.make((1200, 64, 64, 36), "<i2").chunks == (56, 64, 64, 36)
    assert Layout.make((3, 64, 64, 36), "<i2").chunks == (3, 64, 64, 36)
    # a volume of 0.2 mm
    assert Layout.make((800, 900, 700), "<f4").chunks == (6, 900, 700)
    assert Layout.make((9, 64, 64, 36), "<i2", shards="auto").shards is None
    one = Layout.make((1200, 64, 64, 36), "<i2", chunks=1, shards="auto")
    assert (one.chunks, one.shards) == ((1, 64, 64, 36), (227, 64, 64, 36))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunks": 0}, r"chunks=0 does not fit an image of shape \(40, 12, 14, 16\). Use 'auto'"),
        ({"chunks": (1, 2)}, "does not fit an image"),
        ({"chunks": {"t": 1}}, r"chunks names \['t'\], which are not dims"),
        ({"chunks": True}, "does not fit an image"),
        ({"chunks": 4, "shards": 6}, r"shards=6 do not hold whole chunks of \(4, 12, 14, 16\)"),
        ({"shards": 8, "zarr_format": 2}, "shards are for zarr_format=3"),
        ({"zarr_format": 4}, "zarr_format=4 is not known"),
        ({"compressor": "gzip"}, "compressor='gzip' is not known. Use one of: 'lz4', 'zstd'"),
    ],
)
def test_options_that_do_not_go(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = run_file(tmp_path / "x.nii")
    with pytest.raises(DaskroiError, match=message):
        to_zarr(path, tmp_path / "x.nii.zarr", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii"]
