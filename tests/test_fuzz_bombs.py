"""Small files that promise much, or unpack to much: refused soon, and in little memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import time
import tracemalloc
import urllib.request
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from images import OBLIQUE
from niftis import nifti_bytes
from servers import Server, http_server

import daskroi as dr
from daskroi.errors import DaskroiError
from daskroi.gzipreader import IndexedReader
from daskroi.gzipsearch import make_index
from daskroi.inflate import PIECE, inflated
from daskroi.labeltable import read_label_table
from daskroi.openimage import as_file
from daskroi.placement import load_mask

VALUES = np.arange(120).reshape(4, 3, 2, 5).astype("i2")
ROOT = str(Path(dr.__file__).parents[1])
ZEROS = bytes(1 << 20)
HUGE = (30_000, 30_000, 30_000, 30_000)
LABELS = nib.Nifti1Image((np.arange(24) % 5).reshape(4, 3, 2).astype("i2"), OBLIQUE)


def refused(work: Callable[[], Any], seconds: float = 3.0, mebibytes: float = 40.0) -> str:
    """The message; time of the processor and memory (NumPy's too) are bounded."""
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(DaskroiError) as caught:
            work()
        took, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert took < seconds
    assert peak < mebibytes * (1 << 20)
    assert str(caught.value).isprintable()
    return str(caught.value)


def bomb(head: bytes, mebibytes: int) -> bytes:
    """Gzip data: ``head``, then zeros. Of one block, written again and again: no time is lost."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + block * mebibytes


@pytest.fixture(scope="module", autouse=True)
def _imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Times are of the work, not of the imports that the first work does."""
    folder = tmp_path_factory.mktemp("good")
    path = _written(folder / "x.nii", nifti_bytes(VALUES))
    dr.to_zarr(path, folder / "x.nii.zarr")
    for image in (path, folder / "x.nii.zarr"):
        dr.extract(image, LABELS).compute(scheduler="synchronous")


DOORS: dict[str, Callable[[Path], Any]] = {
    "image": lambda path: dr.open_image(path),
    "extract": lambda path: dr.extract(path, LABELS).compute(scheduler="synchronous"),
    "atlas": lambda path: dr.load_atlas(path),
    "mask": load_mask,
    "xarray": lambda path: dr.open_image(path, chunks=1),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("version", [1, 2])
def test_1e15_voxels_are_refused_from_the_size_alone(
    tmp_path: Path, door: str, version: int
) -> None:
    DOORS[door](_written(tmp_path / "small.nii", nifti_bytes(VALUES[..., 0])))  # imports
    content = nifti_bytes(VALUES, version=version, shape=HUGE)
    for name, packed in (("x.nii", content), ("x.nii.gz", gzip.compress(content))):
        path = _written(tmp_path / name, packed)
        message = refused(lambda path=path: DOORS[door](path), 1.0, 2)  # type: ignore[misc]
        assert (
            "expected 1620000000000000352 bytes" in message
            or "promises" in message
            or ("1620000000000000544" in message)
        )


def test_an_axis_of_1e18(tmp_path: Path) -> None:
    shape = (1, 1, 1, 10**18)
    path = _written(tmp_path / "x.nii", nifti_bytes(VALUES, version=2, shape=shape))
    assert "not those of an image" in refused(lambda: as_file(path), 1.0, 2)


def test_a_sparse_file_that_is_as_large_as_it_says(tmp_path: Path) -> None:
    """It takes no room on the disk. A volume of 2 TB is said to fit into no memory."""
    shape = (10_000, 10_000, 10_000, 1)
    path = _written(tmp_path / "x.nii", nifti_bytes(VALUES, shape=shape)[:352])
    os.truncate(path, 352 + 2 * 10_000**3)
    assert "do not fit into memory" in refused(lambda: dr.load_atlas(path), 0.5, 2)


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("chunk", [1, 100, 30_000])
def test_1e15_voxels_in_zarr(tmp_path: Path, chunk: int, foreign: bool) -> None:
    source = _written(tmp_path / "x.nii", nifti_bytes(VALUES))
    place = tmp_path / "x.nii.zarr"
    dr.to_zarr(source, place)
    header = next(p for p in (place / "nifti").rglob("*") if p.is_file() and p.suffix == "")
    header.write_bytes(nifti_bytes(VALUES, shape=HUGE)[: header.stat().st_size])
    _edit(place / "0" / "zarr.json", "shape", HUGE)
    grid = {"name": "regular", "configuration": {"chunk_shape": [1] + [chunk] * 3}}
    _edit(place / "0" / "zarr.json", "chunk_grid", grid)
    if foreign:  # then chunks may be absent, and are zeros
        group = json.loads((place / "zarr.json").read_text())
        del group["attributes"]["daskroi"]
        (place / "zarr.json").write_text(json.dumps(group))
    as_file(place)
    # 30,000 frames would be as many tasks: none is made
    refused(lambda: dr.extract(place, LABELS).compute(scheduler="synchronous"), 1, 2)
    refused(lambda: dr.load_atlas(place))
    refused(lambda: load_mask(place))


def _edit(path: Path, key: str, value: Any) -> None:
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {key: value}))


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_an_image_stops_where_its_header_says(tmp_path: Path, size: int) -> None:
    """4 GB and 1 TB of zeros behind 120 voxels: the voxels are read, the rest is not."""
    path = tmp_path / "x.nii.gz"
    path.write_bytes(bomb(nifti_bytes(VALUES), min(size, 4096)))
    if size > 4096:
        with path.open("ab") as file:  # more of the same, as a sparse file
            file.truncate(1 << 30)
    with pytest.warns(dr.DaskroiWarning, match="its checksum was not compared"):
        series = dr.extract(path, LABELS, nan_policy="zero").compute(scheduler="synchronous")
    began, before = time.process_time(), _resident()
    with pytest.warns(dr.DaskroiWarning, match="its checksum was not compared"):
        atlas = dr.load_atlas(path)
    assert time.process_time() - began < 3
    assert _resident() - before < 100 << 20
    assert series.shape == (5, 4)
    np.testing.assert_array_equal(series[0, 0], VALUES[..., 0].ravel()[1::5].mean())
    assert len(atlas.table) == 5


def test_an_index_stops_where_the_header_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 GB behind 120 voxels took 14 s and 1 GB of a child process; below 1 MiB there is none."""
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "cache"))
    for mebibytes in (500, 2048):
        path = _written(tmp_path / "x.nii.gz", bomb(nifti_bytes(VALUES), mebibytes))
        assert "inflates to more than" in refused(lambda path=path: dr.build_index(path))  # type: ignore[misc]
        image = dr.open_image(path, index=True)
        assert "inflates to more than" in refused(lambda image=image: image.compute())  # type: ignore[misc]


INDEXING = """
import resource, sys
import daskroi as dr
dr.build_index(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)
"""


def test_an_index_of_an_honest_image_of_zeros(tmp_path: Path) -> None:
    """2 GB in 2 MB took 820 MB; 24 GB take as much time each, and no more memory."""
    from isal import isal_zlib

    head = nifti_bytes(VALUES, shape=(128, 128, 64, 1024))[:352]
    check = isal_zlib.crc32(head)
    for _ in range(2048):
        check = isal_zlib.crc32(ZEROS, check)
    content = bomb(head, 2048) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    content += check.to_bytes(4, "little") + (352 + (1 << 31)).to_bytes(4, "little")
    path = _written(tmp_path / "x.nii.gz", content)
    done = subprocess.run(
        [sys.executable, "-c", INDEXING, path], capture_output=True, text=True, timeout=120,
        env=os.environ | {"DASKROI_CACHE": str(tmp_path / "cache"), "PYTHONPATH": ROOT},
        check=True,
    )  # fmt: skip
    assert int(done.stdout) < 400


def test_an_index_of_many_members_of_nothing() -> None:
    """A point was kept for each: 8 times as much memory as the file has bytes."""
    content, empty = nifti_bytes(VALUES), gzip.compress(b"", mtime=0)
    packed = b"".join([gzip.compress(content[:400]), empty * 20_000, gzip.compress(content[400:])])
    index = make_index(lambda: io.BytesIO(packed))
    assert len(index.bits) == 1
    with IndexedReader(lambda: io.BytesIO(packed), index) as file:
        assert file.read() == content


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5])
def test_heads_are_inflated_by_pieces(size: int) -> None:
    """What one chunk holds may be a thousand times its size; 77 MB were inflated at once."""
    for content in (bytes(size), np.random.default_rng(0).bytes(size)):
        packed = gzip.compress(content, 1)
        for data, times in ((packed, 1), (packed + packed, 2), (packed + bytes(5), 1)):
            for step in (4096, 1 << 30):
                pieces = inflated(data[i : i + step] for i in range(0, len(data), step))
                found = b""
                with suppress(zlib.error):  # of the zeros behind
                    for piece in pieces:
                        assert len(piece) <= PIECE
                        found += piece
                assert found == content * times


def test_an_image_of_200_gigabytes_is_opened_lazily(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as its size could hold. What is asked for is read, and nothing behind it."""
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "cache"))
    frames = 100_000
    head = nifti_bytes(VALUES, shape=(100, 100, 100, frames), version=2)[:544]
    path = _written(tmp_path / "x.nii.gz", bomb(head, 40))
    os.truncate(path, 210_000_000)  # the rest is a hole, and takes no room on the disk
    atlas = nib.Nifti1Image((np.indices((100,) * 3).sum(0) % 5).astype("i2"), OBLIQUE)

    def first() -> None:
        image = dr.open_image(path)
        assert image.shape == (frames, 100, 100, 100)
        assert image[0].compute(scheduler="synchronous").values.sum() == 0
        image[90:120].compute(scheduler="synchronous")

    refused(first, 10, 300)
    refused(lambda: dr.extract(path, atlas).compute(scheduler="synchronous"), 10, 300)
    refused(lambda: dr.build_index(path))
    refused(lambda: dr.load_atlas(path))
    refused(lambda: load_mask(path))


def test_an_image_that_promises_more_than_there_is(tmp_path: Path) -> None:
    """As much as 4 MB of gzip could hold: it is inflated, to say so, and kept nowhere."""
    content = nifti_bytes(VALUES, shape=(1000, 1000, 1000, 1))
    path = _written(tmp_path / "x.nii.gz", gzip.compress(content) + bytes(4 << 20))
    for work in (dr.load_atlas, lambda p: [*as_file(p).slabs()]):  # type: ignore[union-attr]
        # room for two volumes that is never touched; RSS stays flat
        before = _resident()
        with pytest.raises(DaskroiError, match=r"truncated|corrupt|do not fit"):
            work(path)
        assert _resident() - before < 200 << 20


def _resident() -> int:
    import psutil

    return psutil.Process().memory_info().rss


TABLES: dict[str, Callable[[Path], Any]] = {
    "x_timeseries.tsv.gz": lambda path: dr.load_confounds(path, "24P"),
    "x.csv.gz": lambda path: dr.extract(LABELS, LABELS, confounds=path),
    "run.json": lambda path: as_file(path.with_suffix(".nii")),
    "atlas.xml": read_label_table,
    "atlas.tsv.gz": read_label_table,
    "lut.txt": read_label_table,
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_inflate_to_gigabytes(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskroi.bytesource.MOST_TEXT", 8 << 20)
    _written(tmp_path / "run.nii", nifti_bytes(VALUES))
    path = _written(tmp_path / name, bomb(b"<a>\tb\n", 4096))
    assert "holds more than 8 MiB" in refused(lambda: TABLES[name](path))


EVIL = """<?xml version="1.0"?>
<!DOCTYPE atlas [{}]>
<atlas><data><label index="0">{}</label></data></atlas>"""
LAUGHS = '<!ENTITY a0 "ha">' + "".join(
    f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12)
)


def test_xml_fetches_nothing(tmp_path: Path) -> None:
    """External entities, an external DTD, parameter entities, XInclude, billion laughs."""
    secret = _written(tmp_path / "secret.txt", b"hunter2")
    with http_server(tmp_path) as server:
        there = f"{server.url}/secret.txt"
        documents = [
            EVIL.format(f'<!ENTITY x SYSTEM "{there}">', "&x;"),
            EVIL.format(f'<!ENTITY x SYSTEM "{secret.as_uri()}">', "&x;"),
            EVIL.format(f'<!ENTITY % x SYSTEM "{there}"> %x;', "a"),
            f'<!DOCTYPE atlas SYSTEM "{there}"><atlas><label index="0">a</label></atlas>',
            f'<!DOCTYPE atlas PUBLIC "a" "{there}"><atlas><label index="0">a</label></atlas>',
            EVIL.format(LAUGHS, "&a11;"),
            EVIL.format(f'<!ENTITY x "{"a" * 100_000}">', "&x;" * 10_000),
        ]
        for document in documents:
            for encoding in ("utf-8", "utf-16"):
                path = _written(tmp_path / "atlas.xml", document.encode(encoding))
                message = refused(lambda path=path: read_label_table(path))  # type: ignore[misc]
                assert "DTD" in message or encoding == "utf-16"
                assert "hunter2" not in message
        include = (
            '<atlas xmlns:xi="http://www.w3.org/2001/XInclude"><label index="0">'
            f'<xi:include href="{there}" parse="text"/></label></atlas>'
        )
        table = read_label_table(_written(tmp_path / "atlas.xml", include.encode()))
        assert table["name"].tolist() == ["unknown"]
        assert server.requests == []
        # the server does answer
        assert urllib.request.urlopen(there).read() == b"hunter2"


REMOTE_TABLES = {
    "x_timeseries.tsv.gz": lambda url: dr.load_confounds(url, "24P"),
    "x.csv.gz": lambda url: dr.extract(LABELS, LABELS, confounds=url),
    "atlas.xml": read_label_table,
    "lut.txt": read_label_table,
}


def test_bombs_behind_a_url(tmp_path: Path, web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A web server gives 500 MB and 2 GB in some hundred KB and 2 MB; zeros are sent."""
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("daskroi.bytesource.MOST_TEXT", 8 << 20)
    url = f"{web.url}/x.nii.gz"
    as_file(f"{web.url}/{_written(tmp_path / 'y.nii', nifti_bytes(VALUES)).name}")  # imports
    for mebibytes in (500, 2048):
        _written(tmp_path / "x.nii.gz", bomb(nifti_bytes(VALUES), mebibytes))
        assert "inflates to more than" in refused(lambda: dr.build_index(url), 5, 60)
        began, before = time.process_time(), _resident()
        with pytest.warns(dr.DaskroiWarning, match="its checksum was not compared"):
            series = dr.extract(url, LABELS, nan_policy="zero").compute(scheduler="synchronous")
        np.testing.assert_array_equal(series[0, 0], VALUES[..., 0].ravel()[1::5].mean())
        assert time.process_time() - began < 5
        assert _resident() - before < 200 << 20
    for name, read in REMOTE_TABLES.items():
        _written(tmp_path / name, bomb(b"<a>\tb\n", 4096))
        assert "holds more than 8 MiB" in refused(lambda r=read, n=name: r(f"{web.url}/{n}"))  # type: ignore[misc]


def test_an_image_of_16_gigabytes_behind_a_url(tmp_path: Path, web: Server) -> None:
    """Opened by its head; of the first volume, blocks that are fetched ahead are all that is."""
    head = nifti_bytes(VALUES, shape=(100, 100, 100, 8000), version=2)[:544]
    path = _written(tmp_path / "x.nii.gz", bomb(head, 100))
    os.truncate(path, 64 << 20)
    image = dr.open_image(f"{web.url}/x.nii.gz")
    assert image.shape == (8000, 100, 100, 100)
    assert image[0].compute(scheduler="synchronous").values.sum() == 0
    assert web.bytes_sent < 24 << 20  # a few blocks ahead
    refused(lambda: image[90:120].compute(scheduler="synchronous"), 5, 300)
