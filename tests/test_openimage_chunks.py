"""`open_image`: chunks as they are asked for, and those that are chosen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from images import STRAIGHT
from niftis import nifti_bytes, write
from openedimages import NUMBERS

from daskroi.errors import DaskroiError
from daskroi.openimage import open_image

pytestmark = pytest.mark.usefixtures("forgotten")


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
