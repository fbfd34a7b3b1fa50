"""NIfTI files written slab by slab: byte by byte what was given, or nothing."""

from __future__ import annotations

import gzip
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from niftis import nifti_bytes
from servers import S3

from daskroi.errors import DaskroiError
from daskroi.niftiwrite import write_nifti
from daskroi.partfiles import part_of


def parts(values: np.ndarray, step: int = 2, **how: Any) -> tuple[bytes, list[np.ndarray], bytes]:
    """Head, slabs and whole content of an image (x, y, z, time)."""
    whole = nifti_bytes(values, **how)
    head = whole[: -values.nbytes]
    frames = values[..., None] if values.ndim == 3 else values
    slabs = [frames.T[i : i + step] for i in range(0, frames.shape[3], step)]
    return head, slabs, whole


def values(shape: tuple[int, ...] = (4, 3, 2, 5), dtype: Any = "f4", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 100, shape).astype(dtype)


@given(
    dtype=st.sampled_from(["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]),
    endian=st.sampled_from("<>"),
    version=st.sampled_from([1, 2]),
    shape=st.tuples(*[st.integers(1, 5)] * 3) | st.tuples(*[st.integers(1, 5)] * 4),
    step=st.integers(1, 5),
    extension=st.sampled_from([0, 16, 4096]),
    gz=st.booleans(),
)
def test_content_is_what_was_given(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    endian: str,
    version: int,
    shape: tuple[int, ...],
    step: int,
    extension: int,
    gz: bool,
) -> None:
    head, slabs, whole = parts(
        values(shape, dtype), step, endian=endian, version=version, extension=extension
    )
    path = tmp_path_factory.mktemp("write") / ("x.nii.gz" if gz else "x.nii")
    write_nifti(path, head, slabs)
    content = path.read_bytes()
    assert (gzip.decompress(content) if gz else content) == whole
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), values(shape, dtype))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_gzip_is_the_same_whenever_and_whatever_it_is_called(tmp_path: Path) -> None:
    head, slabs, _ = parts(values())
    write_nifti(tmp_path / "a.nii.gz", head, slabs)
    write_nifti(tmp_path / "b.nii.gz", head, [np.concatenate(slabs)])
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (tmp_path / "a.nii.gz").read_bytes()[3:8] == bytes(5)  # no name, no time


def test_nan_payloads_survive_a_change_of_byte_order(tmp_path: Path) -> None:
    bits = np.array([0x7F800001, 0x7FC12345, 0xFFFFFFFF, 0x80000000], "u4")
    head, _, _ = parts(np.zeros((4, 1, 1, 1), "f4"), endian=">")
    write_nifti(tmp_path / "x.nii", head, [bits.view("f4").reshape(1, 1, 1, 4)])
    assert (tmp_path / "x.nii").read_bytes()[len(head) :] == bits.astype(">u4").tobytes()


@pytest.mark.parametrize("error", [RuntimeError("slab"), KeyboardInterrupt()])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_what_fails_leaves_what_was(tmp_path: Path, name: str, error: BaseException) -> None:
    head, slabs, _ = parts(values())
    (tmp_path / name).write_bytes(b"before")

    def broken() -> Iterator[np.ndarray]:
        yield slabs[0]
        raise error

    with pytest.raises(type(error)):
        write_nifti(tmp_path / name, head, broken())
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"before"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, s: (h, s[:-1]), r"x.nii: 4 volumes came and the header says 5\. Give all"),
        (lambda h, s: (h, [*s, s[0]]), r"slab of shape \(2, 2, 3, 4\) at volume 5 does not fit"),
        (lambda h, s: (h, [s[0].T]), r"does not fit an image .* of shape \(5, 2, 3, 4\)"),
        (lambda h, s: (h, [x.astype("f8") for x in s]), "are float64 and the header says float32"),
        (lambda h, s: (h + bytes(16), s), "start at byte 352, but 368 bytes come before"),
        (lambda h, s: (b"?" * 400, s), "not a NIfTI image"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, change: Any, message: str) -> None:
    head, slabs = change(*parts(values())[:2])
    with pytest.raises(DaskroiError, match=message):
        write_nifti(tmp_path / "x.nii", head, slabs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_full_disk(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    head, slabs, _ = parts(rng.standard_normal((32, 32, 16, 8)).astype("f4"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(DaskroiError, match=rf"{name}: cannot be written \(File too large\)"):
            write_nifti(tmp_path / name, head, slabs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_no_such_folder(tmp_path: Path) -> None:
    head, slabs, _ = parts(values())
    with pytest.raises(DaskroiError, match=r"cannot be written \(No such file or directory\)"):
        write_nifti(tmp_path / "none" / "x.nii", head, slabs)
    with pytest.raises(DaskroiError, match="is a folder"):
        write_nifti(tmp_path, head, slabs)


def test_s3_whole_or_not_at_all(s3: S3) -> None:
    rng = np.random.default_rng(0)
    # more than one part
    image = rng.integers(0, 1000, (64, 64, 32, 72)).astype("i2")
    head, slabs, whole = parts(image, 16)
    fs, url = s3.filesystem, s3.url("x.nii")
    write_nifti(url, head, slabs, s3.options)
    fs.invalidate_cache()
    assert fs.cat_file(url) == whole

    def broken() -> Iterator[np.ndarray]:
        yield from slabs[:-1]
        raise RuntimeError("slab")

    with pytest.raises(RuntimeError, match="slab"):
        write_nifti(s3.url("y.nii"), head, broken(), s3.options)
    with pytest.raises(RuntimeError, match="slab"):
        write_nifti(url, head, broken(), s3.options)
    fs.invalidate_cache()
    assert [path.rpartition("/")[2] for path in fs.ls(s3.bucket)] == ["x.nii"]
    assert fs.cat_file(url) == whole
    assert not fs.list_multipart_uploads(s3.bucket)


def test_a_bucket_that_is_not_there_is_said_without_credentials(s3: S3) -> None:
    head, slabs, _ = parts(values())
    with pytest.raises(DaskroiError, match=r"s3://none-such/x.nii: cannot be written") as caught:
        write_nifti("s3://none-such/x.nii", head, slabs, s3.options)
    assert "daskroi-test" not in str(caught.value)


def test_memory_filesystem() -> None:
    import fsspec

    head, slabs, whole = parts(values())
    write_nifti("memory://write/x.nii.gz", head, slabs)
    assert gzip.decompress(fsspec.filesystem("memory").cat_file("/write/x.nii.gz")) == whole


def test_what_a_killed_writer_has_left_goes_with_the_next(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(timeout=60)  # so that nobody has this number
    host = part_of(tmp_path / "x.nii").name.split(".")[3].split("-")[0]
    killed, other = (
        tmp_path / f".{n}.{host}-{child.pid}-0123abcd.part" for n in ("x.nii", "y.nii")
    )
    for path in (killed, other):
        path.write_bytes(b"half")
    head, slabs, whole = parts(values())
    write_nifti(tmp_path / "x.nii", head, slabs)
    assert (tmp_path / "x.nii").read_bytes() == whole
    assert not killed.exists()
    assert other.exists()  # of another file, whose writer may look for it
