"""`open_image`: values and geometry against nibabel, for everything an image can come as."""

from __future__ import annotations

import bz2
import os
import pickle
import random
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import nibabel as nib
import numpy as np
import psutil
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images import OBLIQUE, STRAIGHT, run, save
from niftis import nifti_bytes, write

import daskroi as dr
from daskroi import inflate
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError, DaskroiWarning
from daskroi.grid import Grid
from daskroi.image import grid_of, make_image, repetition_of
from daskroi.lazyimage import lazy_image
from daskroi.nifti import NiftiFile
from daskroi.openimage import as_file, as_stored_file, open_image
from daskroi.repetition import RepetitionTime

RNG = np.random.default_rng(0)
NUMBERS = RNG.integers(-1000, 1000, (5, 6, 7, 10)).astype("i2")


@pytest.fixture(autouse=True)
def forgotten(synchronous: None) -> Iterator[None]:
    yield
    inflate.streams.forget()


def nibabels(image: Any) -> np.ndarray:
    """Values as nibabel gives them, in our order."""
    values = np.asanyarray((nib.load(image) if isinstance(image, Path) else image).dataobj)
    while values.ndim > 4:
        values = values[..., 0]
    return values.T


def check(found: xr.DataArray, image: Any) -> None:
    expected = nibabels(image)
    image = nib.load(image) if isinstance(image, Path) else image
    assert found.dims == ("time", "z", "y", "x")[-expected.ndim :]
    assert isinstance(found.data, da.Array)
    assert found.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found.values, expected)
    np.testing.assert_array_equal(grid_of(found).matrix, image.affine)


# files


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dtype=st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]),
    endian=st.sampled_from("<>"),
    version=st.sampled_from([1, 2]),
    slope=st.sampled_from([0, 1, np.nan, 2.5, -0.1, 1e-20]),
    inter=st.sampled_from([0, -7.3, 1000]),
    shape=st.sampled_from([(5, 6, 7, 10), (5, 6, 7), (5, 6, 7, 1), (5, 6, 7, 4, 1, 1)]),
    chunks=st.sampled_from(["auto", 3, {"time": 4, "x": 2}, {"z": 3, "y": 4, "x": 1}]),
    name=st.sampled_from(["x.nii", "x.nii.gz"]),
)
def test_values_are_nibabels(
    tmp_path: Path,
    dtype: str,
    endian: str,
    version: int,
    slope: float,
    inter: float,
    shape: tuple[int, ...],
    chunks: Any,
    name: str,
) -> None:
    values = np.resize(NUMBERS, shape).astype(dtype)  # negative ones wrap: high bits are tested
    content = nifti_bytes(values, version=version, endian=endian, scl_slope=slope, scl_inter=inter)
    path = write(tmp_path / name, content)
    if len(shape) == 3 and isinstance(chunks, dict):
        chunks = {d: n for d, n in chunks.items() if d != "time"}
    check(open_image(path, chunks), path)


def test_attributes_of_an_opened_file(tmp_path: Path) -> None:
    path = save(run(RNG, t_r=0.72), tmp_path / "sub-01_bold.nii.gz")
    found = open_image(str(path))
    assert found.name == "sub-01_bold"
    assert found.attrs == {"source": str(path)}
    assert repetition_of(found) == RepetitionTime(0.72, "header")
    np.testing.assert_array_equal(found.time, np.arange(9) * 0.72)
    np.testing.assert_array_equal(found.x, np.arange(6))
    assert open_image(path, name="mine").name == "mine"
    assert open_image(path).identical(open_image(path))
    assert open_image(path).data.name == open_image(path).data.name
    assert open_image(path, 2).data.name != open_image(path, 3).data.name


def test_only_the_header_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(run(RNG, (40, 40, 40, 20)), tmp_path / "x.nii")
    monkeypatch.setattr(NiftiFile, "read", lambda *_: 1 / 0)
    monkeypatch.setattr(NiftiFile, "slabs", lambda *_: 1 / 0)
    before = psutil.Process().io_counters().read_chars
    found = open_image(path, 1)
    assert psutil.Process().io_counters().read_chars - before < 50_000
    assert found.nbytes == 40**3 * 20 * 4


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_chunks_out_of_order_and_from_threads(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, nifti_bytes(NUMBERS, scl_slope=0.5))
    before = psutil.Process().num_fds()
    found = open_image(path, 1)
    expected = nibabels(path)
    order = list(range(10)) * 4
    random.Random(0).shuffle(order)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda t: found[t].values, order))
    for t, part in zip(order, parts, strict=True):
        np.testing.assert_array_equal(part, expected[t])
    with dask.config.set(scheduler="threads", num_workers=4):
        np.testing.assert_array_equal(found.values, expected)
    inflate.streams.forget()
    assert psutil.Process().num_fds() <= before + 1  # a thread pool may hold one


def test_a_part_of_a_volume_does_not_keep_the_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii", nifti_bytes(NUMBERS))
    array = open_image(path, {"time": 5, "x": 1}).data
    (block,) = dask.get(array.__dask_graph__(), [(array.name, 0, 0, 0, 0)])
    assert block.shape == (5, 7, 6, 1)
    assert block.base is None or block.base.nbytes == block.nbytes


def test_pickles_small(tmp_path: Path) -> None:
    path = save(run(RNG, (40, 40, 40, 20)), tmp_path / "x.nii")
    found = open_image(path, 1)
    packed = pickle.dumps(found)
    assert len(packed) < 20_000
    np.testing.assert_array_equal(pickle.loads(packed).values, found.values)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_changed_between_open_and_read(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, nifti_bytes(NUMBERS))
    found = open_image(path)
    os.utime(path, ns=(0, 1))
    with pytest.raises(DaskroiError, match=rf"{name}: the file changed after it was opened"):
        found.compute()


def test_truncated_gzip_is_noticed_by_the_chunk(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii.gz", nifti_bytes(NUMBERS)[:3000])
    found = open_image(path, 1)
    assert found[0].values.shape == (7, 6, 5)  # what is there can be read
    message = r"expected 3292 bytes after inflating and found 3000\. Copy"
    with pytest.raises(DaskroiError, match=message):
        found[6].compute()


def test_corrupt_gzip_is_noticed_by_the_last_chunk(tmp_path: Path) -> None:
    # something after the image, or the inflater would come across the checksum by chance
    values = RNG.integers(0, 1000, (60, 60, 60, 4)).astype("i2")
    path = write(tmp_path / "x.nii.gz", nifti_bytes(values) + bytes(20_000))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    image = open_image(path, 2)
    np.testing.assert_array_equal(image[:2].values, values.T[:2])
    with pytest.raises(DaskroiError, match=r"x\.nii\.gz: corrupt gzip data \(CRC check failed"):
        image.compute()


# chunks


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ("auto", ((10,), (7,), (6,), (5,))),
        (4, ((4, 4, 2), (7,), (6,), (5,))),
        (np.int64(4), ((4, 4, 2), (7,), (6,), (5,))),
        (-1, ((10,), (7,), (6,), (5,))),
        (None, ((10,), (7,), (6,), (5,))),
        (100, ((10,), (7,), (6,), (5,))),
        ("1 KiB", ((2,) * 5, (7,), (6,), (5,))),
        ({"time": 5}, ((5, 5), (7,), (6,), (5,))),
        ({"x": 3}, ((10,), (7,), (6,), (3, 2))),
        ({"time": 5, "z": -1, "y": (1, 5)}, ((5, 5), (7,), (1, 5), (5,))),
        ({}, ((10,), (7,), (6,), (5,))),
        ((5, 7, 3, 5), ((5, 5), (7,), (3, 3), (5,))),
        ([5, 7, 3, -1], ((5, 5), (7,), (3, 3), (5,))),
        (((3, 7), 7, 6, (1, 4)), ((3, 7), (7,), (6,), (1, 4))),
    ],
)
def test_chunks(tmp_path: Path, chunks: Any, expected: Any) -> None:
    path = write(tmp_path / "x.nii", nifti_bytes(NUMBERS))
    found = open_image(path, chunks)
    assert found.chunks == expected
    assert open_image(nib.Nifti1Image(NUMBERS, STRAIGHT), chunks).chunks == expected
    np.testing.assert_array_equal(found.values, NUMBERS.T)


@pytest.mark.parametrize(
    "chunks",
    [0, -5, True, False, 2.5, "foo", (5, 5), ((5, 4), 7, 6, 5), {"time": 0}, {"time": -7},
     {"time": True}, {"x": 1.5}, (True, -1, -1, -1), object()],
)  # fmt: skip
def test_bad_chunks(tmp_path: Path, chunks: Any) -> None:
    path = write(tmp_path / "x.nii", nifti_bytes(NUMBERS))
    message = r"chunks=.* does not fit an image of shape \(10, 7, 6, 5\) \(.*\)\. Use 'auto', a num"
    with pytest.raises(DaskroiError, match=message) as caught:
        open_image(path, chunks)
    assert "\n" not in str(caught.value)


def test_chunks_of_unknown_dims(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii", nifti_bytes(NUMBERS))
    with pytest.raises(DaskroiError, match=r"chunks names \['t', 'w'\].*Use time, z, y, x"):
        open_image(path, {"t": 3, "w": 1})


def test_auto_chunks_are_whole_volumes_of_32_mib(tmp_path: Path) -> None:
    header = bytearray(nifti_bytes(np.zeros((1, 1, 1, 1), "f4"), version=1))
    parsed = nib.Nifti1Header(bytes(header[:348]), check=False)
    parsed.set_data_shape((91, 109, 91, 300))
    path = tmp_path / "x.nii"
    path.write_bytes(parsed.binaryblock + bytes(4))
    os.truncate(path, 352 + 4 * 91 * 109 * 91 * 300)
    found = open_image(path)
    assert found.chunks[1:] == ((91,), (109,), (91,))
    assert found.chunks[0][0] == 9
    assert len(found.__dask_graph__()) <= 2 * len(found.chunks[0])


def test_stored_values(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii", nifti_bytes(NUMBERS, endian=">", scl_slope=3, scl_inter=1))
    stored = lazy_image(NiftiFile.open(path), 4, stored=True)
    assert stored.dtype == np.dtype("i2")
    np.testing.assert_array_equal(stored.values, NUMBERS.T)
    np.testing.assert_array_equal(open_image(path).values, NUMBERS.T * 3.0 + 1)


# nibabel images


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.img", "x.hdr", "x.mgz", "x.mgh"])
@pytest.mark.parametrize("dtype", ["i2", "f4", "u1"])
@pytest.mark.parametrize("n_dim", [3, 4])
# nibabel leaves an .mgh open after reading its header
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_files_by_path_and_as_proxy(tmp_path: Path, name: str, dtype: str, n_dim: int) -> None:
    values = (NUMBERS % 100).astype(dtype)[..., : 10 if n_dim == 4 else 1].squeeze()
    kind = nib.MGHImage if "mg" in name else nib.Nifti1Image
    if name[-3:] in ("img", "hdr"):
        kind = nib.Nifti1Pair
    path = save(kind(values, OBLIQUE.astype("f4")), tmp_path / name)
    check(open_image(path), path)
    check(open_image(nib.load(path)), path)
    assert as_file(nib.load(path)) is not None


@pytest.mark.parametrize("kind", [nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage, nib.AnalyzeImage])
def test_analyze(tmp_path: Path, kind: Any) -> None:
    image = kind(NUMBERS, STRAIGHT)
    path = save(image, tmp_path / "x.img")
    check(open_image(path), path)


def test_a_proxy_is_the_same_file_as_its_path(tmp_path: Path) -> None:
    image = run(RNG)
    image.header["descrip"] = b"something"
    path = save(image, tmp_path / "x.nii.gz")
    found = open_image(nib.load(path))
    assert as_stored_file(found) == NiftiFile.open(path)
    assert found.data.name == open_image(path).data.name


def test_what_was_changed_in_memory_counts(tmp_path: Path) -> None:
    path = save(run(RNG, t_r=2.0), tmp_path / "x.nii")
    image = nib.load(path)
    image.header.set_zooms((2, 2, 2, 1.25))
    image.affine[:] = OBLIQUE
    found = open_image(image)
    np.testing.assert_array_equal(grid_of(found).matrix, OBLIQUE)
    assert repetition_of(found) == RepetitionTime(1.25, "header")
    np.testing.assert_array_equal(found.values, nibabels(path))


def test_a_cut_proxy_is_in_memory(tmp_path: Path) -> None:
    path = save(run(RNG), tmp_path / "x.nii")
    image = nib.load(path).slicer[::-1, 1:, :, 2:5]
    check(open_image(image), image)
    assert as_file(image) is None


@pytest.mark.parametrize("dtype", ["i2", "f4", "f8", "u1", ">i4", ">f4", "u8"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_in_memory(dtype: str, kind: Any) -> None:
    values = NUMBERS.astype(dtype)
    image = kind(values, OBLIQUE, dtype=values.dtype)
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 1500
    found = open_image(image, 4)
    np.testing.assert_array_equal(found.values, values.T)
    assert found.chunks[0] == (4, 4, 2)
    assert repetition_of(found) == RepetitionTime(1.5, "header")
    assert as_file(image) is None
    assert as_stored_file(found) is None


def test_in_memory_bool_and_trailing_dims() -> None:
    image = nib.Nifti1Image(NUMBERS[..., None, None], OBLIQUE)
    assert open_image(image).shape == (10, 7, 6, 5)
    mask = nib.spatialimages.SpatialImage(NUMBERS[..., 0] > 0, OBLIQUE)
    found = open_image(mask)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found.values, (NUMBERS[..., 0] > 0).T)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (nib.Nifti1Image(np.zeros((3, 4, 5, 2, 2), "i2"), STRAIGHT), "shape .*3 or 4 dimensions"),
        (nib.Nifti1Image(np.zeros((3, 4), "i2"), STRAIGHT), r"shape \(3, 4\); an image has 3 or"),
        (nib.Nifti1Image(np.zeros((3, 0, 5), "i2"), STRAIGHT), "none of them empty"),
        (nib.Nifti1Image(np.zeros((3, 4, 5), "c8"), STRAIGHT), "holds complex64 voxels.*magnitud"),
        (
            nib.Nifti1Image(np.zeros((3, 4, 5), [(c, "u1") for c in "RGB"]), STRAIGHT),
            "the nibabel image: holds .* voxels",
        ),
        (nib.Nifti1Image(np.zeros((3, 4, 5), "i2"), None), "has no affine, so its voxels have no"),
    ],
)
def test_nibabel_images_that_are_refused(image: Any, message: str) -> None:
    with pytest.raises(DaskroiError, match=message):
        open_image(image)


def test_an_affine_that_was_broken_in_memory() -> None:
    image = run(RNG)
    image.affine[:] = 0
    with pytest.raises(DaskroiError, match="the nibabel image: the affine is singular"):
        open_image(image)


@pytest.mark.parametrize("values", ["complex", "rgb", "5d"])
@pytest.mark.parametrize("name", ["x.nii", "x.img"])
def test_files_that_are_refused(tmp_path: Path, values: str, name: str) -> None:
    array = {
        "complex": np.zeros((3, 4, 5), "c8"),
        "rgb": np.zeros((3, 4, 5), [(c, "u1") for c in "RGB"]),
        "5d": np.zeros((3, 4, 5, 2, 2), "i2"),
    }[values]
    kind = nib.Nifti1Image if name == "x.nii" else nib.Nifti1Pair
    path = save(kind(array, STRAIGHT), tmp_path / name)
    for image in (path, nib.load(path)):
        with pytest.raises(
            DaskroiError, match=rf"{name}: .*(complex|RGB|'R'|5D|\(3, 4, 5, 2, 2\))"
        ):
            open_image(image)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 5, 6)), [1, 2], None, 3, xr.Dataset(), ["a.nii", "b.nii"], b"a.nii"]
)
def test_other_things_are_refused(image: Any) -> None:
    message = rf"a path, a URL, a nibabel image or a DataArray, not {type(image).__name__}\."
    with pytest.raises(
        DaskroiTypeError, match=message + r".*(daskroi\.make_image|one run at a time)"
    ):
        open_image(image)


# other files


def test_nifti_by_another_name(tmp_path: Path) -> None:
    for name in ("x.dat", "noending", "X.NII", "x.NII.GZ"):
        path = tmp_path / name
        content = nifti_bytes(NUMBERS)
        path.write_bytes(content)
        if name.endswith("GZ"):
            write(tmp_path / "y.gz", content).rename(path)
        np.testing.assert_array_equal(open_image(path).values, NUMBERS.T)


@pytest.mark.parametrize("name", ["x.png", "x.tsv", "noending", "x.mgz", "x.mnc", "x.gii", "x.PAR"])
@pytest.mark.parametrize("content", [b"some text\n" * 100, b"\x89PNG\r\n\x1a\n" + bytes(1000)])
def test_not_an_image(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DaskroiError, match=name) as caught:
            open_image(path)
    assert "\n" not in str(caught.value)


def test_surfaces_are_not_images(tmp_path: Path) -> None:
    gifti = nib.GiftiImage(darrays=[nib.gifti.GiftiDataArray(np.zeros((4, 3), "f4"))])
    nib.save(gifti, tmp_path / "x.gii")
    with pytest.raises(DaskroiError, match=r"x\.gii"):
        open_image(tmp_path / "x.gii")
    with pytest.raises(DaskroiTypeError, match="not GiftiImage"):
        open_image(gifti)


def test_header_without_its_voxels(tmp_path: Path) -> None:
    save(nib.Nifti1Pair(NUMBERS, STRAIGHT), tmp_path / "x.img")
    (tmp_path / "x.img").unlink()
    with pytest.raises(DaskroiError, match=r"x\.(hdr|img)"):
        open_image(tmp_path / "x.hdr")


def test_compressed_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.bz2"
    path.write_bytes(bz2.compress(nifti_bytes(NUMBERS)))
    with pytest.raises(DaskroiError, match=r"x\.nii\.bz2"):
        open_image(path)


def test_missing_files(tmp_path: Path) -> None:
    for name in ("x.nii", "x.nii.gz", "x.img", "x"):
        with pytest.raises(DaskroiNotFoundError, match=rf"{name}: no such file\. Check the path"):
            open_image(tmp_path / name)
    with pytest.raises(DaskroiError, match="is a folder"):
        open_image(tmp_path)


# DataArrays


def test_a_data_array_stays_what_it_is() -> None:
    grid = Grid.make((7, 6, 5), OBLIQUE)
    image = make_image(da.from_array(NUMBERS.T, chunks=3), grid, t_r=2.0)
    assert open_image(image).identical(image)
    assert open_image(image, chunks=1).chunks == image.chunks
    assert open_image(image.transpose("x", "time", "z", "y")).identical(image)
    with pytest.raises(DaskroiError, match="no 'affine' coordinate"):
        open_image(image.drop_vars("affine"))
    with pytest.raises(DaskroiError, match="Select along 'dim_0', 'dim_1' first"):
        open_image(xr.DataArray(np.zeros((3, 4))))


def test_stored_file_is_recognised_only_untouched(tmp_path: Path) -> None:
    path = save(run(RNG), tmp_path / "x.nii.gz")
    image = open_image(path, 3)
    file = NiftiFile.open(path)
    assert as_stored_file(image) == as_file(image) == as_file(path) == file
    # what counts is where the values are from, not what somebody wrote on them
    assert as_stored_file(image.assign_attrs(source="/nowhere/x.nii.gz")) == file
    assert as_stored_file(image.drop_attrs()) == file
    assert as_stored_file(pickle.loads(pickle.dumps(image))) == file
    for changed in (
        image * 1,
        image.isel(time=slice(1, None)),
        image.isel(x=slice(None, None, -1)),
        image.astype("f8"),
        image.chunk(time=2),
        image.transpose("x", "y", "z", "time"),
        image.compute(),
        image.where(image > 3),
    ):
        assert as_stored_file(changed) is None
    os.utime(path, ns=(0, 1))
    with pytest.raises(DaskroiError, match="changed after it was opened"):
        image.compute()


def test_recognising_does_not_warn_again(tmp_path: Path) -> None:
    path = save(run(RNG, t_r=2.0), tmp_path / "x.nii.gz")
    (tmp_path / "x.json").write_text('{"RepetitionTime": 1.0}', "utf-8")
    with pytest.warns(DaskroiWarning, match="the sidecar's is used"):
        image = open_image(path)
    assert repetition_of(image).seconds == 1.0
    assert as_stored_file(image) is not None


# .nii.gz by an index


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_an_index_changes_no_number(tmp_path: Path, cache: Path, dtype: str) -> None:
    path = save(run(RNG, (16, 17, 15, 30), dtype=dtype), tmp_path / "x.nii.gz")
    plain = open_image(path, 4)
    indexed = open_image(path, 4, index=True)
    assert not cache.exists(), "opening reads the header only"
    assert not as_file(plain).seekable
    assert as_file(indexed).seekable
    np.testing.assert_array_equal(indexed.isel(time=23).values, plain.isel(time=23).values)
    assert list(cache.rglob("*.gzi"))
    np.testing.assert_array_equal(indexed.values, plain.values)
    labels = np.zeros((15, 17, 16), "i2")
    labels[3:6, 4:9, 5:8], labels[8:12, 4:9, 5:8] = 1, 2
    atlas = make_image(labels, grid_of(plain))
    for strategy in ("mean", "median", "maximum"):
        a = dr.extract(plain, atlas, strategy=strategy)
        b = dr.extract(indexed, atlas, strategy=strategy)
        assert len(a.__dask_graph__()) < len(b.__dask_graph__()), "a stream, and blocks"
        xr.testing.assert_identical(a.compute(), b.compute())


def test_an_index_that_is_there_is_used(tmp_path: Path, cache: Path) -> None:
    path = save(run(RNG), tmp_path / "x.nii.gz")
    assert not as_file(path).seekable
    dr.build_index(path)
    assert as_file(path).seekable
    assert not as_file(path, index=False).seekable
    expected = nib.load(path).dataobj[..., 5].T
    np.testing.assert_array_equal(open_image(path, 1).isel(time=5).values, expected)
    # another file in its place has no index
    save(run(RNG), path)
    os.utime(path, ns=(0, 1))
    assert not as_file(path).seekable


def test_an_index_of_what_is_no_gzip(tmp_path: Path, cache: Path) -> None:
    path = save(run(RNG), tmp_path / "x.nii")
    dr.build_index(path)  # can be read anywhere already
    assert as_file(path, index=True).seekable
    assert not cache.exists()
    broken = tmp_path / "b.nii.gz"
    broken.write_bytes(save(run(RNG), tmp_path / "y.nii.gz").read_bytes()[:-2000])
    with pytest.raises(DaskroiError, match=r"b\.nii\.gz: the gzip stream ends early"):
        dr.build_index(broken)
    assert not list(cache.rglob("*.gzi"))


def test_reading_backwards_makes_an_index_once_it_pays(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(run(RNG, (16, 17, 15, 40)), tmp_path / "x.nii.gz")
    frame, raw = 16 * 17 * 15 * 4, 16 * 17 * 15 * 4 * 40
    compressed = path.stat().st_size
    monkeypatch.setattr("daskroi.bytesource.WASTE", 0)
    monkeypatch.setattr("daskroi.bytesource.WASTED_FILES", raw / compressed)
    expected = nib.load(path).get_fdata(dtype="f4").T
    image = open_image(path, 1)
    for t in range(10):  # in order: nothing is wasted
        np.testing.assert_array_equal(image.isel(time=t).values, expected[t])
    assert not cache.exists()
    np.testing.assert_array_equal(image.isel(time=39).values, expected[39])
    np.testing.assert_array_equal(image.isel(time=3).values, expected[3])
    assert not cache.exists(), "less than a pass"
    np.testing.assert_array_equal(image.isel(time=30).values, expected[30])
    assert list(cache.rglob("*.gzi"))
    assert frame * (30 + 3 + 29) > raw
    np.testing.assert_array_equal(image.values, expected)


def test_no_index_where_it_is_not_wanted_or_not_to_be_had(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(run(RNG, (16, 17, 15, 40)), tmp_path / "x.nii.gz")
    monkeypatch.setattr("daskroi.bytesource.WASTE", 0)
    monkeypatch.setattr("daskroi.bytesource.WASTED_FILES", 0)
    expected = nib.load(path).get_fdata(dtype="f4").T
    image = open_image(path, 1, index=False)
    for t in (39, 20, 3):
        np.testing.assert_array_equal(image.isel(time=t).values, expected[t])
    assert not cache.exists()
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    image = open_image(cut, 1)
    for t in (8, 5, 3):  # what is there can be read, with no index of what is not
        np.testing.assert_array_equal(image.isel(time=t).values, expected[t])
    with pytest.raises(DaskroiError, match=r"cut\.nii\.gz: truncated, expected"):
        image.isel(time=39).compute()


def test_file_urls_have_their_escapes_resolved_everywhere(tmp_path: Path) -> None:
    # read from one place and written to another: %20 stood for a blank here and for itself there
    import daskroi as dr
    from daskroi.listing import local_or_url
    from daskroi.targets import as_target

    folder = tmp_path / "a b%20c"
    folder.mkdir()
    url = folder.as_uri()
    dr.to_nifti(dr.make_phantom((8, 9, 7), n_time=3, n_regions=4).image, f"{url}/x.nii")
    assert dr.convert(f"{url}/x.nii", f"{url}/x.nii.zarr")
    assert sorted(p.name for p in folder.iterdir()) == ["x.nii", "x.nii.zarr"]
    assert dr.open_image(f"{url}/x.nii").attrs["source"] == str(folder / "x.nii")
    assert local_or_url(url) == str(folder)
    assert as_target(url) == folder


def test_other_formats_at_file_urls(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(np.ones((4, 5, 6), "f4"), np.eye(4)), tmp_path / "x.mgz")
    assert open_image((tmp_path / "x.mgz").as_uri()).shape == (6, 5, 4)
