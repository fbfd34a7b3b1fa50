"""`to_nifti`: what is written is what is read back, by us and by nibabel."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import fsspec
import images
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from distributed import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images import OBLIQUE
from niftis import nifti_bytes, write

import daskroi as dr
from daskroi.backend import NiftiBackend
from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.image import repetition_of
from daskroi.nifti import NiftiFile
from daskroi.repetition import RepetitionTime
from daskroi.tonifti import image_slabs, to_nifti

RNG = np.random.default_rng(0)
SHAPE = (5, 6, 7)
GRID = dr.Grid.make(SHAPE, OBLIQUE)


def image(values: Any, t_r: float | None = 0.8) -> xr.DataArray:
    return dr.make_image(values, GRID, t_r=t_r)


def check(path: Path, expected: xr.DataArray) -> None:
    """The file holds this image: values, dtype, place and times."""
    found = dr.open_image(path)
    stored = np.asarray(expected.transpose(*found.dims).values)
    np.testing.assert_array_equal(found.values, stored)
    np.testing.assert_allclose(dr.grid_of(found).matrix, dr.grid_of(expected).matrix, rtol=1e-6)
    assert repetition_of(found).seconds == pytest.approx(repetition_of(expected).seconds)
    other = nib.load(path)
    np.testing.assert_array_equal(np.asanyarray(other.dataobj).T, stored)
    np.testing.assert_allclose(other.affine, dr.grid_of(expected).matrix, rtol=1e-6)
    assert other.header.get_xyzt_units()[0] == "mm"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dtype=st.sampled_from(["u1", "i2", ">i2", "u2", "i4", "i8", "u8", "f4", "f8", ">f8"]),
    n_time=st.sampled_from([None, 1, 9]),
    chunks=st.sampled_from([None, (4, 5, 6, 7), (3, 2, 6, 4), (-1, 1, 1, -1)]),
    steps=st.tuples(*[st.sampled_from([1, 2, -1, -2])] * 3),
    order=st.permutations(["time", "z", "y", "x"]),
    t_r=st.sampled_from([None, 0.8]),
    name=st.sampled_from(["x.nii", "x.nii.gz"]),
)
def test_round_trip(
    tmp_path: Path,
    dtype: str,
    n_time: int | None,
    chunks: Any,
    steps: Any,
    order: list[str],
    t_r: float | None,
    name: str,
) -> None:
    shape = SHAPE if n_time is None else (n_time, *SHAPE)
    values: Any = RNG.integers(-1000, 1000, shape).astype(dtype)
    if chunks is not None:
        values = da.from_array(values, chunks[-values.ndim :])
    cut = image(values, t_r).isel(
        {d: slice(None, None, s) for d, s in zip("zyx", steps, strict=True)}
    )
    to_nifti(cut.transpose(*(d for d in order if d in cut.dims)), tmp_path / name)
    check(tmp_path / name, cut)
    assert dr.open_image(tmp_path / name).dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize("chunks", ["auto", 2, {"z": 2}])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_file_again(tmp_path: Path, chunks: Any, name: str) -> None:
    source = images.save(images.run(RNG, nan=0.05, t_r=0.72), tmp_path / f"source_{name}")
    opened = dr.open_image(source, chunks)
    to_nifti(opened, tmp_path / name)
    xr.testing.assert_identical(
        dr.open_image(tmp_path / name, name="x").drop_attrs(deep=False),
        dr.open_image(source, name="x").drop_attrs(deep=False),
    )
    assert dr.grid_of(dr.open_image(tmp_path / name)) == dr.grid_of(opened)
    lazy = xr.open_dataset(source, engine=NiftiBackend).image
    to_nifti(lazy, tmp_path / f"again_{name}")
    again, once = tmp_path / f"again_{name}", tmp_path / name
    assert again.read_bytes() == once.read_bytes()


def test_scaled_values_come_back_to_the_bit(tmp_path: Path) -> None:
    values = RNG.integers(-1000, 1000, (7, 6, 5, 9)).astype("i2")
    source = write(tmp_path / "s.nii", nifti_bytes(values, scl_slope=0.1, scl_inter=-7.3))
    to_nifti(dr.open_image(source), tmp_path / "x.nii")
    check(tmp_path / "x.nii", dr.open_image(source))
    to_nifti(dr.open_image(source), tmp_path / "half.nii", dtype="float32")
    found = dr.open_image(tmp_path / "half.nii")
    np.testing.assert_array_equal(found, dr.open_image(source).astype("f4"))


@pytest.mark.parametrize(("dtype", "stored"), [("?", "u1"), ("f2", "f4")])
def test_types_that_nifti_lacks(tmp_path: Path, dtype: str, stored: str) -> None:
    expected = image(RNG.integers(0, 2, (4, *SHAPE)).astype(dtype))
    to_nifti(expected, tmp_path / "x.nii")
    check(tmp_path / "x.nii", expected)
    assert dr.open_image(tmp_path / "x.nii").dtype == stored


@pytest.mark.parametrize(
    ("value", "of", "to"),
    [
        (2.5, "f4", "i2"),
        (np.nan, "f8", "i4"),
        (np.inf, "f8", "i8"),
        (40000.0, "f4", "i2"),
        (-1.0, "f8", "u1"),
        (2.0**63, "f8", "i8"),
        (2.0**64, "f8", "u8"),
        (300, "i4", "u1"),
        (-1, "i8", "u8"),
        (2**63, "u8", "i8"),
        (1e300, "f8", "f4"),
    ],
)
def test_values_are_never_changed_silently(tmp_path: Path, value: float, of: str, to: str) -> None:
    values = np.ones((9, *SHAPE), of)
    values[4, 3, 2, 1] = value
    reason = r"dtype='\w+' cannot hold the value .* in frame 4, voxel \(x, y, z\) = \(1, 2, 3\)"
    with pytest.raises(DaskroiError, match=reason):
        to_nifti(image(da.from_array(values, (2, -1, -1, -1))), tmp_path / "x.nii.gz", dtype=to)
    assert not list(tmp_path.iterdir())


def test_whole_numbers_may_be_narrowed(tmp_path: Path) -> None:
    for of, to, ends in (
        ("f8", "i2", (-32768, 32767)),
        ("i8", "u1", (0, 255)),
        ("f4", "i8", (0, 2.0**62)),
    ):
        values = np.zeros((2, *SHAPE), of)
        values[1, 0, 0, :2] = ends
        to_nifti(image(values), tmp_path / "x.nii", dtype=to)
        check(tmp_path / "x.nii", image(values.astype(to)))
    special = np.array([np.nan, np.inf, -np.inf, 1e-300, 0.1, 1, 2])
    to_nifti(image(np.broadcast_to(special, (2, *SHAPE))), tmp_path / "x.nii", dtype="f4")
    check(tmp_path / "x.nii", image(np.broadcast_to(special.astype("f4"), (2, *SHAPE))))


def test_censored_runs_are_written_with_a_warning(tmp_path: Path) -> None:
    run = image(RNG.random((9, *SHAPE)))
    with pytest.warns(DaskroiWarning, match="no repetition time"):
        to_nifti(run[[0, 1, 5]], tmp_path / "x.nii")
    np.testing.assert_array_equal(dr.open_image(tmp_path / "x.nii"), run[[0, 1, 5]])
    assert repetition_of(dr.open_image(tmp_path / "x.nii")) == RepetitionTime()


# memory


def counted(n_time: int, step: int) -> tuple[xr.DataArray, list[int]]:
    """A lazy image and the frames computed so far."""
    frames: list[int] = []

    def block(block_info: Any = None) -> np.ndarray:
        start, stop = block_info[None]["array-location"][0]
        frames.extend(range(start, stop))
        return np.full((stop - start, *SHAPE), start, "f4")

    chunks = da.core.normalize_chunks((step, -1, -1, -1), (n_time, *SHAPE))
    return image(da.map_blocks(block, chunks=chunks, dtype="f4", meta=np.empty((0,) * 4))), frames


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_in_order_and_a_few_slabs_ahead(ahead: int) -> None:
    run, frames = counted(60, 2)
    slabs = image_slabs(run, np.dtype("f4"), ahead_bytes=ahead * 2 * GRID.size * 4)
    assert frames == []
    for done, slab in enumerate(slabs, 1):
        assert len(slab) == 2
        assert slab[0, 0, 0, 0] == 2 * (done - 1)
        assert len(frames) <= 2 * (done + max(ahead, 1))
    assert sorted(frames) == list(range(60))  # each once
    if ahead <= 1:
        assert frames == list(range(60))


def test_no_more_is_computed_than_is_wanted() -> None:
    run, frames = counted(60, 2)
    slabs = image_slabs(run, np.dtype("f4"), ahead_bytes=6 * GRID.size * 4)
    next(slabs)
    slabs.close()
    assert len(frames) <= 8
    assert not [t for t in threading.enumerate() if t.name.startswith("daskroi-slab")]


@pytest.mark.parametrize(
    ("chunks", "limit", "expected"),
    [
        (None, 4, [4, 4, 2]),
        ((3, 3, 4), 3, [3, 3, 3, 1]),
        ((3, 3, 4), 6, [3, 3, 4]),
        ((2, 8), 4, [2, 4, 4]),
        ((1,) * 10, 0, [1] * 10),
        ((10,), 99, [10]),
    ],
)
def test_slabs_are_chunks_while_these_are_small(chunks: Any, limit: int, expected: Any) -> None:
    values: Any = RNG.random((10, *SHAPE))
    if chunks is not None:
        values = da.from_array(values, (chunks, -1, 2, -1))
    slabs = list(image_slabs(image(values), np.dtype("f8"), limit * GRID.size * 8))
    assert [len(s) for s in slabs] == expected
    np.testing.assert_array_equal(np.concatenate(slabs), values)
    assert all(s.flags.c_contiguous for s in slabs)


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    run, _ = counted(60, 2)

    def fail(block: np.ndarray) -> np.ndarray:
        if block[0, 0, 0, 0] == 30:
            raise RuntimeError("on purpose")
        return block

    bad = run.copy(data=run.data.map_blocks(fail, dtype="f4", meta=np.empty((0,) * 4)))
    with pytest.raises(RuntimeError, match="on purpose"):
        to_nifti(bad, tmp_path / "x.nii.gz")
    assert not list(tmp_path.iterdir())


def test_the_callers_scheduler_is_used(tmp_path: Path) -> None:
    used = []

    def scheduler(graph: Any, keys: Any, **options: Any) -> Any:
        used.append(keys)
        return dask.get(graph, keys, **options)

    run, _ = counted(8, 2)
    with dask.config.set(scheduler=scheduler):
        to_nifti(run, tmp_path / "x.nii")
    assert used


def test_atlases_are_images_too(tmp_path: Path) -> None:
    atlas = dr.load_atlas(images.labels(RNG, SHAPE[::-1]))
    to_nifti(atlas.image, tmp_path / "x.nii.gz")
    assert dr.load_atlas(tmp_path / "x.nii.gz").hash == atlas.hash


def test_to_a_url(tmp_path: Path) -> None:
    run = image(da.from_array(RNG.random((9, *SHAPE)), (2, -1, -1, -1)))
    to_nifti(run, "memory://written/x.nii.gz", storage_options={"token": "s3cret"})
    to_nifti(run, tmp_path / "x.nii.gz")
    memory = fsspec.filesystem("memory")
    assert memory.cat("/written/x.nii.gz") == (tmp_path / "x.nii.gz").read_bytes()
    memory.rm("/written", recursive=True)


def test_over_its_own_source(tmp_path: Path) -> None:
    path = images.save(images.run(RNG), tmp_path / "x.nii")
    expected = nib.load(path).get_fdata(dtype="f4") * 2
    before = path.read_bytes()
    link = tmp_path / "link.nii"
    link.symlink_to(path)
    twice = dr.open_image(path) * np.float32(2)
    for target in (path, link):
        with pytest.raises(DaskroiError, match=r"x.nii: the image is read from this file, which"):
            to_nifti(twice, target)
    assert path.read_bytes() == before
    for chunks in ({}, None):
        opened = xr.open_dataset(path, engine=NiftiBackend, chunks=chunks).image
        for part in (opened, opened[:3]):
            with pytest.raises(DaskroiError, match=r"x.nii: the image is read from this file"):
                to_nifti(part, path)
    assert path.read_bytes() == before
    to_nifti(twice.compute(), path)  # in memory, it depends on no file
    np.testing.assert_array_equal(nib.load(path).get_fdata(dtype="f4"), expected)


def test_what_is_read_when_indexed_is_read_in_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = images.save(images.run(RNG), tmp_path / "x.nii")
    monkeypatch.setattr("daskroi.lazyimage.CHUNK_BYTES", 2 * 6 * 7 * 5 * 4)
    read: list[int] = []
    read_box = NiftiFile.read_box

    def spy(self: NiftiFile, box: Any) -> np.ndarray:
        read.append(box[0].stop - box[0].start)
        return read_box(self, box)

    monkeypatch.setattr(NiftiFile, "read_box", spy)
    to_nifti(xr.open_dataset(path, engine=NiftiBackend).image, tmp_path / "y.nii")
    assert sorted(read) == [1, 2, 2, 2, 2]


@pytest.mark.timeout(120)
def test_in_a_coroutine_it_does_not_wait_for_itself(tmp_path: Path) -> None:
    run = image(da.from_array(RNG.random((9, *SHAPE)), (2, -1, -1, -1)))

    async def write_both() -> None:
        options = {"n_workers": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
        async with Client(asynchronous=True, **options):
            with pytest.raises(DaskroiError, match=r"computed here.*asyncio.to_thread"):
                to_nifti(run, tmp_path / "x.nii")
            await asyncio.to_thread(to_nifti, run, tmp_path / "y.nii")

    asyncio.run(write_both())
    check(tmp_path / "y.nii", run)
    assert [path.name for path in tmp_path.iterdir()] == ["y.nii"]
