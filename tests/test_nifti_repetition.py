"""The repetition time: of the header, of the sidecar, or of neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from images import STRAIGHT
from niftis import VOLUME, nifti_bytes, write

from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.nifti import NiftiFile
from daskroi.repetition import RepetitionTime, header_t_r, plausible_t_r


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
