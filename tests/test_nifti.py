"""Headers and voxels of NIfTI files, against nibabel."""

from __future__ import annotations

import gzip
import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from dask.tokenize import tokenize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images import OBLIQUE, STRAIGHT
from niftis import nifti_bytes, random_values, write

from daskroi.errors import DaskroiError
from daskroi.nifti import NiftiFile

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


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
