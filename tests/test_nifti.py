"""Headers, slabs and reads of NIfTI files, against nibabel."""

from __future__ import annotations

import gc
import gzip
import json
import os
import pickle
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
from dask.tokenize import tokenize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images import OBLIQUE, STRAIGHT
from niftis import nifti_bytes, write

from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.imagefile import watch_slabs
from daskroi.nifti import NiftiFile
from daskroi.repetition import RepetitionTime, header_t_r, plausible_t_r

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
RNG = np.random.default_rng(0)


def random_values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Any bits that are a number of this type, extremes and non-finite ones included."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    return np.ascontiguousarray(raw).view(dtype)[..., 0]


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """Name and bytes of an image that nibabel can read."""
    shape = draw(st.sampled_from([(3, 4, 5), (3, 4, 5, 6), (3, 4, 5, 1), (1, 1, 1, 9), (3, 4, 1)]))
    shape += (1,) * draw(st.integers(0, 2)) if len(shape) == 4 else ()
    fields: dict[str, Any] = {
        "scl_slope": draw(st.sampled_from([0, 1, np.nan, 2.5, -0.125, 1e-4])),
        "scl_inter": draw(st.sampled_from([0, -7.25, 1000])),
    }
    content = nifti_bytes(
        random_values(shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 99))),
        version=draw(st.sampled_from([1, 2])),
        endian=draw(st.sampled_from("<>")),
        form=draw(st.sampled_from(["sform", "qform", None])),
        affine=draw(st.sampled_from([STRAIGHT, OBLIQUE, STRAIGHT[[1, 0, 2, 3]]])),
        extension=draw(st.sampled_from([0, 16, 12, 5000])),
        **fields,
    )
    content += bytes(draw(st.sampled_from([0, 1, 100_000])))  # what follows is ignored
    return draw(st.sampled_from(["x.nii", "x.nii.gz"])), content


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files(), st.integers(1, 7))
@pytest.mark.filterwarnings("ignore:invalid value|overflow:RuntimeWarning")
def test_everything_is_nibabels(tmp_path: Path, named: tuple[str, bytes], step: int) -> None:
    path = write(tmp_path / named[0], named[1])
    file, image = NiftiFile.open(path), nib.load(path)
    stored = image.dataobj.get_unscaled()
    shape = image.shape
    while len(shape) > 4:
        shape = shape[:-1]
    assert file.shape == shape[::-1]
    assert file.frames == (shape[3] if len(shape) == 4 else 1)
    assert np.dtype(file.dtype) == image.get_data_dtype()
    np.testing.assert_array_equal(file.grid.matrix, image.affine)
    assert (file.slope, file.inter) == (image.dataobj.slope, image.dataobj.inter)
    assert file.value_dtype == np.asanyarray(image.dataobj).dtype.newbyteorder("=")
    assert file.offset == image.dataobj.offset
    expected = stored.reshape(*shape[:3], -1).T
    found = file.read(0, file.frames)
    assert found.dtype == file.dtype
    np.testing.assert_array_equal(found, expected)
    slabs = [(start, slab.tobytes()) for start, slab in file.slabs(step)]
    assert [s for s, _ in slabs] == list(range(0, file.frames, step))
    assert b"".join(b for _, b in slabs) == found.tobytes()


def test_gzip_of_several_members_and_other_names(tmp_path: Path) -> None:
    content = nifti_bytes(random_values((3, 4, 5, 6), "i2"))
    expected = NiftiFile.open(write(tmp_path / "a.nii", content)).read(0, 6)
    members = b"".join(gzip.compress(content[a : a + 100]) for a in range(0, len(content), 100))
    (tmp_path / "b.nii.gz").write_bytes(members)
    (tmp_path / "c.nii").write_bytes(gzip.compress(content))
    for name in ("b.nii.gz", "c.nii"):
        file = NiftiFile.open(tmp_path / name)
        np.testing.assert_array_equal(file.read(0, 6), expected)
        np.testing.assert_array_equal(file.read(2, 3), expected[2:3])
        assert [s for s, _ in file.slabs(4)] == [0, 4]


def test_reading_parts(tmp_path: Path) -> None:
    values = random_values((3, 4, 5, 9), "f4")
    for name in ("a.nii", "a.nii.gz"):
        file = NiftiFile.open(write(tmp_path / name, nifti_bytes(values)))
        for start, stop in [(0, 9), (8, 9), (3, 5), (0, 1), (2, 9), (0, 3)]:
            np.testing.assert_array_equal(file.read(start, stop), values.T[start:stop])


def test_flat_images_get_a_third_dimension(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", nifti_bytes(random_values((3, 4), "i2")))
    assert NiftiFile.open(path).shape == (1, 4, 3)


def test_zero_offset_means_after_the_header(tmp_path: Path) -> None:
    values = random_values((3, 4, 5), "i2")
    for version, first in ((1, 352), (2, 544)):
        content = nifti_bytes(values, version=version, vox_offset=0)
        file = NiftiFile.open(write(tmp_path / "a.nii", content))
        assert file.offset == first
        np.testing.assert_array_equal(file.read(0, 1)[0], values.T)


def test_is_a_value(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", nifti_bytes(random_values((3, 4, 5, 6), "i2")))
    file = NiftiFile.open(path)
    assert file == NiftiFile.open(path) == pickle.loads(pickle.dumps(file))
    assert hash(file) == hash(NiftiFile.open(path))
    assert tokenize(file) == tokenize(NiftiFile.open(path))


def test_description(tmp_path: Path) -> None:
    content = nifti_bytes(
        random_values((3, 4, 5), "i2"), descrip=b"MNI152NLin6Asym", intent_name=b"atlas"
    )
    file = NiftiFile.open(write(tmp_path / "a.nii", content))
    assert file.description == "MNI152NLin6Asym  atlas"


# the header only


def test_opens_8_terabytes_at_once(tmp_path: Path) -> None:
    header = nifti_bytes(np.zeros((1, 1, 1), "f8"), version=2)[:544]
    parsed = nib.Nifti2Header(header[:540], check=False)
    parsed.set_data_shape((1000, 1000, 1000, 1000))
    path = tmp_path / "huge.nii"
    path.write_bytes(parsed.binaryblock + header[540:])
    try:
        os.truncate(path, 544 + 8 * 1000**4)
    except OSError:
        pytest.skip("this file system has no sparse files of 8 TB")
    tracemalloc.start()
    file = NiftiFile.open(path)
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()
    assert file.shape == (1000,) * 4
    assert file.slab_frames() == 1


def test_voxels_may_be_damaged(tmp_path: Path) -> None:
    values = random_values((20, 20, 20, 9), "f8")
    path = write(tmp_path / "a.nii.gz", nifti_bytes(values))
    content = path.read_bytes()
    path.write_bytes(content[:100_000] + bytes(100_000) + content[200_000:])
    file = NiftiFile.open(path)
    assert file.shape == (9, 20, 20, 20)
    with pytest.raises(
        DaskroiError, match=r"a\.nii\.gz: .*(corrupt|truncated).* download it again"
    ):
        list(file.slabs())


# slabs


@pytest.fixture
def run(tmp_path: Path) -> NiftiFile:
    values = random_values((20, 20, 20, 12), "f4")
    return NiftiFile.open(write(tmp_path / "run.nii.gz", nifti_bytes(values)))


def readers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("daskroi-read")]


def is_open(file: NiftiFile) -> bool:
    return file.source.url in [f.path for f in psutil.Process().open_files()]


@pytest.mark.parametrize("name", ["run.nii", "run.nii.gz"])
def test_left_early(tmp_path: Path, name: str) -> None:
    content = nifti_bytes(random_values((40, 40, 40, 12), "f4"))
    file = NiftiFile.open(write(tmp_path / name, content))
    for taken in (1, 2, 5):
        slabs = file.slabs(2)
        for _ in range(taken):
            next(slabs)
        assert readers()
        assert is_open(file)
        slabs.close()
        assert not readers()
        assert not is_open(file)


def test_not_started(run: NiftiFile) -> None:
    slabs = run.slabs()
    assert not readers()
    slabs.close()
    assert not is_open(run)


def test_the_consumer_fails(run: NiftiFile) -> None:
    def consume() -> None:
        for start, _ in run.slabs(2):
            if start == 4:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        consume()
    gc.collect()
    assert not readers()
    assert not is_open(run)


def test_the_reader_fails(run: NiftiFile, monkeypatch: pytest.MonkeyPatch) -> None:
    slabs = run.slabs(2)
    next(slabs)
    monkeypatch.setattr("daskroi.nifti.fill", lambda *_: 1 / 0)

    def rest() -> None:
        for _ in slabs:
            pass

    with pytest.raises(ZeroDivisionError):
        rest()
    assert not readers()
    assert not is_open(run)


def test_watchers(run: NiftiFile) -> None:
    seen: list[int] = []
    with watch_slabs(seen.append):
        assert len(list(run.slabs(5))) == 3
    list(run.slabs(5))  # nobody watches
    assert seen == [5, 5, 2]

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with watch_slabs(stop), pytest.raises(KeyboardInterrupt):
        list(run.slabs(5))
    assert not readers()
    assert not is_open(run)


def test_buffers_are_used_again(run: NiftiFile) -> None:
    kept = [slab for _, slab in run.slabs(2)]
    addresses = {slab.ctypes.data for slab in kept}
    assert len(addresses) == 2


def test_two_streams_at_once(run: NiftiFile) -> None:
    for (_, a), (_, b) in zip(run.slabs(5), run.slabs(5), strict=True):
        np.testing.assert_array_equal(a.view("u4"), b.view("u4"))


def test_memory_is_two_slabs(tmp_path: Path) -> None:
    path = tmp_path / "long.nii.gz"
    frame = np.zeros((64, 64, 50), "f4")  # 0.8 MB; 256 of them are 210 MB
    header = nifti_bytes(np.zeros((64, 64, 50, 1), "f4"))[:352]
    parsed = nib.Nifti1Header(header[:348], check=False)
    parsed.set_data_shape((64, 64, 50, 256))
    with gzip.open(path, "wb", 1) as out:
        out.write(parsed.binaryblock + header[348:])
        for _ in range(256):
            out.write(frame)
    file = NiftiFile.open(path)
    tracemalloc.start()
    frames = sum(len(slab) for _, slab in file.slabs())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frames == 256
    assert peak < 70e6  # two slabs of 16 MiB and what one read of the inflater returns


def test_slab_frames(run: NiftiFile) -> None:
    assert run.frame_bytes == 32_000
    assert run.slab_frames() == 12
    assert run.slab_frames(100_000) == 3
    assert run.slab_frames(1) == 1


# damaged files


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("cut", [30_000, 48_351, 353, 352, 349, 348, 300])
def test_truncated(tmp_path: Path, name: str, cut: int) -> None:
    """48,352 bytes should be there."""
    content = nifti_bytes(random_values((10, 10, 20, 6), "f4"))[:cut]
    path = write(tmp_path / name, content)
    what = " after inflating" if name.endswith("gz") else ""
    needed = 48_352 if cut >= 348 else 348
    message = rf"{name}: truncated, expected {needed} bytes{what} and found {cut}\. Copy or downl"
    with pytest.raises(DaskroiError, match=message):
        list(NiftiFile.open(path).slabs())
    with pytest.raises(DaskroiError, match=message):
        NiftiFile.open(path).read(0, 6)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("compressible", [True, False])
def test_truncated_gzip_stream(tmp_path: Path, share: float, compressible: bool) -> None:
    import zlib

    shape = (20, 20, 20, 6)
    values = np.zeros(shape, "i4") if compressible else random_values(shape, "i4")
    content = nifti_bytes(values)
    packed = gzip.compress(content)
    packed = packed[: int(len(packed) * share)]
    path = tmp_path / "a.nii.gz"
    path.write_bytes(packed)
    found = len(zlib.decompressobj(31).decompress(packed))
    needed = len(content) if found >= 348 else 348
    message = f"truncated, expected {needed} bytes after inflating and found {found}"
    if found == len(content):  # only the checksum is missing
        message = "the gzip stream ends early, the file is truncated"
    elif found >= 348 and len(packed) * 1032 < len(content):  # told from the size alone
        message = f"the header promises {len(content)} bytes, more than {len(packed)} gzipped"
    with pytest.raises(DaskroiError, match=message):
        list(NiftiFile.open(path).slabs())


def test_changed_while_streaming(run: NiftiFile) -> None:
    slabs = run.slabs(5)
    next(slabs)
    os.utime(run.source.url, ns=(0, 1))
    with pytest.raises(DaskroiError, match="changed after it was opened"):
        list(slabs)
    with pytest.raises(DaskroiError, match="changed after it was opened"):
        next(run.slabs())


CLAIMS = (30_000,) * 3 + (100,)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_impossible_claims_are_refused_from_the_size(tmp_path: Path, name: str) -> None:
    content = bytearray(nifti_bytes(np.zeros((3, 4, 5), "f8")))
    parsed = nib.Nifti1Header(bytes(content[:348]), check=False)
    parsed.set_data_shape(CLAIMS)  # 2.7e15 voxels
    content[:348] = parsed.binaryblock
    path = write(tmp_path / name, bytes(content))
    with pytest.raises(
        DaskroiError, match=rf"{name}: .*21600000000000352 bytes.*download it again"
    ):
        NiftiFile.open(path)


VOLUME = np.zeros((3, 4, 5), "i2")


def dim(*sizes: int) -> dict[str, Any]:
    return {"dim": [*sizes] + [1] * (8 - len(sizes))}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an image" * 50, r"a\.nii: not a NIfTI image \(no header of 348 or 540 bytes"),
        (b"x", r"not a NIfTI image"),
        (nifti_bytes(VOLUME)[:4], "truncated, expected 348 bytes and found 4"),
        (nifti_bytes(VOLUME, magic=b"ni1"), r"is the header of a \.hdr/\.img pair\. Convert"),
        (nifti_bytes(VOLUME, magic=b""), r"has no NIfTI magic\. Convert"),
        (nifti_bytes(VOLUME, version=2, magic=b""), r"has no NIfTI magic\. Convert"),
        (nifti_bytes(VOLUME, **dim(3, 3, -4, 5)), r"dimensions \[3, 3, -4, 5, .* not those of an"),
        (nifti_bytes(VOLUME, **dim(3, 3, 0, 5)), r"dimensions \[3, 3, 0, 5, .* not those of an im"),
        (nifti_bytes(VOLUME, **dim(0, 3, 4, 5)), "are not those of an image"),
        (nifti_bytes(VOLUME, **dim(8, 3, 4, 5)), "are not those of an image"),
        (nifti_bytes(VOLUME, **dim(-1, 3, 4, 5)), "are not those of an image"),
        (nifti_bytes(np.zeros((3, 4, 5, 2, 3), "i2")), r"is 5D, shape \(3, 4, 5, 2, 3\).* Split"),
        (nifti_bytes(np.zeros((3, 4, 5, 1, 3), "i2")), r"is 5D, shape \(3, 4, 5, 1, 3\).* Split"),
        (nifti_bytes(VOLUME.astype("c8")), r"holds complex64 voxels .* Save the magnitude"),
        (nifti_bytes(VOLUME.astype("c16")), "holds complex128 voxels"),
        (nifti_bytes(VOLUME, datatype=128, bitpix=24), r"holds RGB voxels \(NIfTI data type 128\)"),
        (nifti_bytes(VOLUME, datatype=2304, bitpix=32), "holds RGBA voxels"),
        (nifti_bytes(VOLUME, datatype=1, bitpix=1), "holds binary voxels"),
        (nifti_bytes(VOLUME, datatype=0), "holds none voxels"),
        (nifti_bytes(VOLUME, datatype=77), "unknown NIfTI data type 77, the file is damaged"),
        (nifti_bytes(VOLUME, datatype=-3), "unknown NIfTI data type -3"),
        (nifti_bytes(VOLUME, scl_slope=np.inf), "scl_slope=inf, scl_inter=.* cannot be used"),
        (nifti_bytes(VOLUME, scl_slope=-np.inf), "cannot be used as scaling. Repair"),
        (nifti_bytes(VOLUME, scl_slope=2, scl_inter=np.nan), "scl_inter=nan cannot be used"),
        (nifti_bytes(VOLUME, scl_slope=2, scl_inter=np.inf), "scl_inter=inf cannot be used"),
        (nifti_bytes(VOLUME, srow_x=[0, 0, 0, 0]), r"a\.nii: the affine is singular"),
        (nifti_bytes(VOLUME, srow_y=[0, np.nan, 0, 0]), r"a\.nii: the affine has non-finite"),
        (nifti_bytes(VOLUME, form=None, pixdim=[1, 2, 0, 2, 1, 1, 1, 1]), "affine is singular"),
        (nifti_bytes(VOLUME, form="qform", quatern_b=7), "no affine can be made from the header"),
        (nifti_bytes(VOLUME, form="qform", quatern_b=np.nan), "affine .*non-finite|no affine can"),
        (nifti_bytes(VOLUME, vox_offset=100), "start at byte 100, before it ends at 352. The file"),
        (nifti_bytes(VOLUME, vox_offset=-352), "start at byte -352, before"),
        (nifti_bytes(VOLUME, vox_offset=np.nan), "start at byte nan, before"),
        (nifti_bytes(VOLUME, vox_offset=np.inf), "start at byte inf, before"),
        (
            nifti_bytes(VOLUME, version=2, vox_offset=352),
            "start at byte 352, before it ends at 544",
        ),
        (nifti_bytes(VOLUME, vox_offset=1e30), "truncated, expected 1000"),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(content)
    with pytest.raises(DaskroiError, match=message) as caught:
        NiftiFile.open(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 347), st.integers(0, 255), st.sampled_from([1, 2]))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_any_damaged_header_opens_or_is_refused_by_name(
    tmp_path: Path, where: int, byte: int, version: int
) -> None:
    content = bytearray(nifti_bytes(np.zeros((3, 4, 5, 6), "i2"), version=version, form="qform"))
    content[where] = byte
    path = tmp_path / "a.nii"
    path.write_bytes(content)
    try:
        file = NiftiFile.open(path)
    except DaskroiError as error:
        message = str(error)
    else:
        message = str(path)
        assert file.read(0, file.frames).shape == (file.frames, *file.grid.shape)
    assert message.startswith(str(path))


def test_128_bit_floats(tmp_path: Path) -> None:
    """Read where the machine has them (ARM), else refused."""
    content = nifti_bytes(
        np.zeros((3, 4, 5, 8), "i2"), datatype=1536, bitpix=128, **dim(3, 3, 4, 5)
    )
    path = write(tmp_path / "a.nii", content)
    if nib.Nifti1Header(content[:348], check=False).get_data_dtype().kind == "f":
        assert NiftiFile.open(path).value_dtype == np.longdouble
    else:
        with pytest.raises(DaskroiError, match=r"128-bit floats, which this machine cannot.*Save"):
            NiftiFile.open(path)


# repetition time


def opened(folder: Path, **fields: Any) -> NiftiFile:
    return NiftiFile.open(write(folder / "bold.nii", nifti_bytes(BOLD, **fields)))


BOLD = np.zeros((3, 4, 5, 6), "i2")
MM, SEC, MSEC, USEC, HZ, PPM = 2, 8, 16, 24, 32, 40


def pixdim(t: float) -> list[float]:
    return [1, 2, 2, 2, t, 1, 1, 1]


@pytest.mark.parametrize(
    ("value", "units", "expected"),
    [
        (2, SEC, 2.0),
        (0.72, SEC, 0.72),
        (0.8, SEC + MM, 0.8),
        (2530, MSEC + MM, 2.53),
        (720, MSEC, 0.72),
        (1_490_000, USEC, 1.49),
        (2.5, 0, 2.5),
        (2.5, MM, 2.5),
        (2.5, 56, 2.5),
        (30, SEC, 30.0),
        (0.01, SEC, 0.01),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_t_r_of_the_header(
    tmp_path: Path, value: float, units: int, expected: float, version: int
) -> None:
    file = opened(tmp_path, pixdim=pixdim(value), xyzt_units=units, version=version)
    assert file.repetition == RepetitionTime(expected, "header")


@pytest.mark.parametrize(
    ("value", "units", "reason"),
    [
        (2000, SEC, r"the header says 2000 s, .* looks like milliseconds: t_r=2$"),
        (720, 0, r"the header says 720 s, .* looks like milliseconds: t_r=0\.72$"),
        (2, MSEC, r"the header says 0\.002 s, which is not a plausible TR$"),
        (31, SEC, "the header says 31 s"),
        (1e9, SEC, r"the header says 1e\+09 s, which is not a plausible TR$"),
        (0, SEC, "neither header nor JSON sidecar gives one"),
        (-2, SEC, "neither header nor"),
        (np.nan, SEC, "neither header nor"),
        (np.inf, SEC, "the header says inf s"),
        (2, HZ, "neither header nor"),
        (2, PPM, "neither header nor"),
        (2, 48, "neither header nor"),
    ],
)
def test_no_plausible_t_r(tmp_path: Path, value: float, units: int, reason: str) -> None:
    import re

    file = opened(tmp_path, pixdim=pixdim(value), xyzt_units=units)
    assert file.repetition.seconds is None
    assert re.match(reason, file.repetition.reason)


@pytest.mark.parametrize("name", ["bold.nii", "bold.nii.gz"])
def test_sidecar_wins(tmp_path: Path, name: str) -> None:
    sidecar = tmp_path / "bold.json"
    sidecar.write_text(json.dumps({"RepetitionTime": 1.5}), "utf-8")
    path = write(tmp_path / name, nifti_bytes(BOLD))
    with pytest.warns(DaskroiWarning, match=r"header says TR 2 s and .*json says 1.5 s.* Pass t_r"):
        file = NiftiFile.open(path)
    assert file.repetition == RepetitionTime(1.5, str(sidecar))
    sidecar.write_text(json.dumps({"RepetitionTime": 2.0001}), "utf-8")  # no warning: the same
    assert NiftiFile.open(path).repetition.seconds == 2.0001


def test_sidecar_without_header(tmp_path: Path) -> None:
    (tmp_path / "bold.json").write_bytes(b'\xef\xbb\xbf{"RepetitionTime": 0.72}')
    assert opened(tmp_path, pixdim=pixdim(0)).repetition.seconds == 0.72


@pytest.mark.parametrize("text", ["{}", "[]", '{"RepetitionTime": null}', "3", "null"])
def test_sidecar_that_does_not_say(tmp_path: Path, text: str) -> None:
    (tmp_path / "bold.json").write_text(text, "utf-8")
    assert opened(tmp_path).repetition.source == "header"


@pytest.mark.parametrize("text", ["{", "", '{"RepetitionTime": "two"}', "\udcff"])
def test_sidecar_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "bold.json").write_text(text, "utf-8", errors="surrogateescape")
    with pytest.raises(
        DaskroiError,
        match=r"bold\.json: (no repetition|the file is empty)",
    ):
        opened(tmp_path)


def test_sidecar_in_milliseconds(tmp_path: Path) -> None:
    (tmp_path / "bold.json").write_text('{"RepetitionTime": 2000}', "utf-8")
    with pytest.warns(DaskroiWarning, match=r"bold.json says 2000 s.*the header's 2 s is used"):
        assert opened(tmp_path).repetition.seconds == 2  # the header's is plausible
    file = opened(tmp_path, pixdim=pixdim(0))
    assert file.repetition.seconds is None
    assert (
        "bold.json says 2000 s, which is not a plausible TR. It looks like"
        in file.repetition.reason
    )


def test_a_volume_has_no_t_r(tmp_path: Path) -> None:
    (tmp_path / "mask.json").write_text("{broken", "utf-8")
    file = NiftiFile.open(write(tmp_path / "mask.nii", nifti_bytes(VOLUME)))
    assert file.repetition == RepetitionTime()


def test_other_headers_have_no_t_r() -> None:
    for header in (nib.MGHImage(VOLUME, STRAIGHT).header, object()):
        assert header_t_r(header) == RepetitionTime()


def test_plausible() -> None:
    assert [plausible_t_r(t) for t in (0.009, 0.01, 30, 30.1, -1, float("nan"))] == [
        False, True, True, False, False, False,
    ]  # fmt: skip
