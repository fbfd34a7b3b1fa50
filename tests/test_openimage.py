"""`open_image` of files: values and geometry against nibabel, from threads, after damage."""

from __future__ import annotations

import os
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import nibabel as nib
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images import run, save
from niftis import nifti_bytes, write
from openedimages import NUMBERS, check, nibabels

from daskroi import inflate
from daskroi.errors import DaskroiError
from daskroi.image import repetition_of
from daskroi.lazyimage import lazy_image
from daskroi.nifti import NiftiFile
from daskroi.openimage import open_image
from daskroi.repetition import RepetitionTime

pytestmark = pytest.mark.usefixtures("forgotten")

RNG = np.random.default_rng(0)


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


def test_stored_values(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii", nifti_bytes(NUMBERS, endian=">", scl_slope=3, scl_inter=1))
    stored = lazy_image(NiftiFile.open(path), 4, stored=True)
    assert stored.dtype == np.dtype("i2")
    np.testing.assert_array_equal(stored.values, NUMBERS.T)
    np.testing.assert_array_equal(open_image(path).values, NUMBERS.T * 3.0 + 1)


def test_nifti_by_another_name(tmp_path: Path) -> None:
    for name in ("x.dat", "noending", "X.NII", "x.NII.GZ"):
        path = tmp_path / name
        content = nifti_bytes(NUMBERS)
        path.write_bytes(content)
        if name.endswith("GZ"):
            write(tmp_path / "y.gz", content).rename(path)
        np.testing.assert_array_equal(open_image(path).values, NUMBERS.T)


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
