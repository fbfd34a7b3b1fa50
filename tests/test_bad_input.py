"""Bad input through `extract`: one line that names the file, the reason and the remedy."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import daskroi as dr
from daskroi.errors import DaskroiError

RNG = np.random.default_rng(0)


def good(folder: Path, name: str = "run.nii.gz", t_r: float = 2.0) -> Path:
    return images.save(images.run(RNG, (6, 7, 5, 40), t_r=t_r), folder / name)


def edited(folder: Path, edit: Callable[[bytearray], Any], name: str = "run.nii") -> Path:
    """A good run whose raw bytes were changed."""
    path = good(folder, name)
    raw = bytearray(path.read_bytes())
    path.write_bytes(edit(raw) or raw)
    return path


def put(raw: bytearray, offset: int, values: Any, dtype: str) -> None:
    data = np.asarray(values, dtype).tobytes()
    raw[offset : offset + len(data)] = data


def flip(raw: bytearray) -> None:
    for i in range(len(raw) // 2, len(raw) // 2 + 40):
        raw[i] ^= 0xFF


def saved(folder: Path, values: Any, name: str = "run.nii", affine: Any = images.STRAIGHT) -> Path:
    return images.save(nib.Nifti1Image(values, affine), folder / name)


IMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda d: d / "absent.nii.gz", r"absent.nii.gz: no such file\. Check"),
    "folder": (lambda d: d, "is a folder. Give the path"),
    "text": (
        lambda d: [(d / "x.nii").write_text("hello " * 200), d / "x.nii"][1],
        r"x.nii: not a NIfTI image .*Give a .nii",
    ),
    "empty": (lambda d: [(d / "x.nii").touch(), d / "x.nii"][1], "the file is empty. Copy"),
    "not gzip": (
        lambda d: [(d / "x.nii.gz").write_bytes(b"\0" * 999), d / "x.nii.gz"][1],
        "named .gz but holds no gzip data. Rename",
    ),
    "truncated nii": (
        lambda d: edited(d, lambda raw: raw[:-100]),
        r"run.nii: truncated, expected 33952 bytes and found 33852. Copy",
    ),
    "truncated gz": (
        lambda d: edited(d, lambda raw: raw[:-3000], "run.nii.gz"),
        r"run.nii.gz: truncated, expected 33952 bytes after inflating and found \d+. Copy",
    ),
    "truncated trailer": (
        lambda d: edited(d, lambda raw: raw[:-3], "run.nii.gz"),
        "run.nii.gz: the gzip stream ends early",
    ),
    "corrupt gz": (
        lambda d: edited(d, flip, "run.nii.gz"),
        r"run.nii.gz: (corrupt gzip data|truncated).*Copy",
    ),
    "bad checksum": (
        lambda d: edited(d, lambda raw: put(raw, len(raw) - 8, [1234], "<u4"), "run.nii.gz"),
        "run.nii.gz: corrupt gzip data .*Copy",
    ),
    "singular affine": (
        lambda d: edited(d, lambda raw: put(raw, 280, [0] * 12, "<f4")),
        "run.nii: the affine is singular .*Repair",
    ),
    "non-finite affine": (
        lambda d: edited(d, lambda raw: put(raw, 280, [np.nan], "<f4")),
        "run.nii: the affine has non-finite entries.*Repair",
    ),
    "complex": (
        lambda d: saved(d, np.ones((6, 7, 5, 40), "c8")),
        "run.nii: holds complex.* voxels .*Save the magnitude",
    ),
    "RGB": (
        lambda d: saved(d, np.ones((6, 7, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "run.nii: holds RGB voxels .*Save",
    ),
    "5D": (
        lambda d: saved(d, np.ones((6, 7, 5, 4, 3), "f4")),
        r"run.nii: is 5D, shape \(6, 7, 5, 4, 3\).*Split",
    ),
    "no voxels": (
        lambda d: edited(d, lambda raw: put(raw, 40, [4, 6, 0, 5, 40], "<i2")),
        "run.nii: the header's dimensions .*damaged",
    ),
    "10^15 voxels": (
        lambda d: edited(d, lambda raw: put(raw, 40, [4, 30000, 30000, 30000, 30000], "<i2")),
        "run.nii: truncated, expected",
    ),
    "10^15 voxels, gz": (
        lambda d: [
            (d / "run.nii.gz").write_bytes(
                gzip.compress(
                    edited(
                        d, lambda raw: put(raw, 40, [4, 30000, 30000, 30000, 30000], "<i2")
                    ).read_bytes()
                )
            ),
            d / "run.nii.gz",
        ][1],
        "run.nii.gz: the header promises .* than .* gzipped bytes can hold",
    ),
    "infinite intercept": (
        lambda d: edited(d, lambda raw: put(raw, 112, [2, np.inf], "<f4")),
        r"run.nii: scl_slope=2\.0, scl_inter=inf.*Repair",
    ),
    "array": (lambda d: np.ones((6, 7, 5, 40)), r"An image is a path.*not ndarray.*make_image"),
    "number": (lambda d: 7, "An image is a path.*not int"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_images(case: str, tmp_path: Path) -> None:
    make, message = IMAGES[case]
    image = make(tmp_path)
    with pytest.raises(DaskroiError, match=message) as caught:
        dr.extract(image, images.labels(RNG)).compute()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("plan", ["stream", "blocks"])
def test_a_file_that_changes_is_an_error_not_a_mixture(tmp_path: Path, plan: str) -> None:
    path = good(tmp_path, "run.nii")
    ts = dr.extract(path, images.labels(RNG), plan=plan)
    images.save(images.run(RNG, (6, 7, 5, 41)), path)
    with pytest.raises(DaskroiError, match=r"run.nii: the file changed after it was opened"):
        ts.compute()


def labels_with(values: Any, affine: Any = images.STRAIGHT) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(values), affine)


def fractional() -> np.ndarray:
    values = np.asarray(images.labels(RNG).dataobj).astype("f4")
    values[0, 0, 0] = 1.5
    return values


FAR = images.STRAIGHT + np.array([[0, 0, 0, 500.0]] + [[0] * 4] * 3)
ATLASES: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "missing": (lambda d: {"atlas": d / "absent.nii"}, "absent.nii: no such file"),
    "fractional": (lambda d: {"atlas": saved(d, fractional(), "a.nii")}, r"a.nii: .*1\.5"),
    "no label": (
        lambda d: {"atlas": saved(d, np.zeros((6, 7, 5), "i2"), "a.nii")},
        "a.nii: .*contains no label",
    ),
    "no overlap": (
        lambda d: {"atlas": saved(d, images.labels(RNG).get_fdata(), "a.nii", FAR)},
        "a.nii: no label left on the image's grid.*Different template or space",
    ),
    "other grid, no resampling": (
        lambda d: {
            "atlas": saved(d, np.ones((3, 3, 3), "i2"), "a.nii"),
            "resampling_target": None,
        },
        "a.nii: the atlas is not on the image's grid.*resampling_target='data'",
    ),
    "images to the labels' grid": (
        lambda d: {
            "atlas": saved(d, np.ones((3, 3, 3), "i2"), "a.nii"),
            "resampling_target": "labels",
        },
        "resampling_target='labels': .*not available yet",
    ),
    "empty mask": (
        lambda d: {"mask_img": saved(d, np.zeros((6, 7, 5), "u1"), "m.nii")},
        "m.nii: the mask is empty",
    ),
    "mask elsewhere": (
        lambda d: {"mask_img": saved(d, np.ones((6, 7, 5), "u1"), "m.nii", FAR)},
        "m.nii: no voxel of the mask lies in the image",
    ),
    "mask without labels": (
        lambda d: {
            "atlas": labels_with((np.arange(210).reshape(6, 7, 5) == 0).astype("i2")),
            "mask_img": saved(d, (np.arange(210).reshape(6, 7, 5) > 9).astype("u1"), "m.nii"),
        },
        "m.nii: no label of .* left inside the mask",
    ),
    "empty dict": (lambda d: {"atlas": {}}, "atlas is an empty dict"),
}


@pytest.mark.parametrize("case", ATLASES)
def test_atlases_and_masks(case: str, tmp_path: Path) -> None:
    make, message = ATLASES[case]
    options = {"atlas": images.labels(RNG), **make(tmp_path)}
    with pytest.raises(DaskroiError, match=message) as caught:
        dr.extract(good(tmp_path), **options)
    assert "\n" not in str(caught.value)


def test_table_that_matches_nothing(tmp_path: Path) -> None:
    table = pd.DataFrame({"index": [100, 200], "name": ["a", "b"]})
    with pytest.raises(DaskroiError, match=r"100|match"):
        dr.load_atlas(images.labels(RNG), lut=table)


CONFOUNDS = pd.DataFrame(RNG.random((40, 3)), columns=["trans_x", "trans_y", "csf"])
HOLED = CONFOUNDS.copy()
HOLED.loc[0, "trans_y"] = np.nan
PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "short confounds": ({"confounds": CONFOUNDS[:-1]}, "39.*40|40.*39"),
    "NaN in confounds": ({"confounds": HOLED}, "trans_y"),
    "unknown column": ({"confounds": CONFOUNDS, "columns": ["trans_z"]}, "trans_z.*trans_x"),
    "columns alone": ({"columns": ["csf"]}, "confounds were not given"),
    "strategy": ({"strategy": "avg"}, "strategy='avg'.*'mean', 'sum', 'median'"),
    "nan_policy": ({"nan_policy": "drop"}, "nan_policy='drop'.*'zero', 'omit', 'propagate'"),
    "plan": ({"plan": "both"}, "plan='both'.*'auto', 'stream', 'blocks'"),
    "target": ({"resampling_target": "maps"}, "resampling_target='maps'.*'data'"),
    "standardize": ({"standardize": "z"}, "standardize='z'.*'zscore_sample', 'psc'"),
    "filter": ({"filter": "fft"}, "filter='fft'.*'butterworth', 'cosine'"),
    "clean_args": ({"butterworth__ordre": 3}, "ordre.*order"),
    "min_coverage": ({"min_coverage": 50}, "min_coverage=50 is not a fraction"),
    "dtype": ({"dtype": "int32"}, "dtype='int32' would truncate"),
    "no dtype": ({"dtype": "floaty"}, "dtype='floaty' is not a type"),
    "t_r in ms": ({"t_r": 2000, "high_pass": 0.01}, "t_r=2000.*milliseconds.*2.0"),
    "t_r too short": ({"t_r": 1e-4}, "t_r=0.0001"),
    "t_r negative": ({"t_r": -2}, "t_r=-2"),
    "cutoffs swapped": ({"low_pass": 0.01, "high_pass": 0.1}, "high_pass=0.1.*low_pass=0.01"),
    "sample_mask too long": ({"sample_mask": np.ones(41, bool)}, "41.*40|40.*41"),
    "sample_mask negative": ({"sample_mask": [-1, 3]}, "-1"),
    "nothing kept": ({"sample_mask": np.zeros(40, bool)}, "no frame|nothing|none"),
    "smoothing": ({"smoothing_fwhm": 6}, "smoothing_fwhm=6: .*not available yet"),
    "chunks": ({"chunks": {"t": 3}}, r"chunks names \['t'\]"),
    "bad chunks": ({"chunks": "many"}, "chunks='many'"),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters(case: str, tmp_path: Path) -> None:
    options, message = PARAMETERS[case]
    options = {"t_r": 2.0} | options
    with pytest.raises(DaskroiError, match=message) as caught:
        dr.extract(good(tmp_path), images.labels(RNG), **options)
    assert "\n" not in str(caught.value)


def test_t_r_missing(tmp_path: Path) -> None:
    path = good(tmp_path, t_r=0.0)
    with pytest.raises(DaskroiError, match=r"run.nii.gz: filtering needs .*Pass t_r in seconds"):
        dr.extract(path, images.labels(RNG), high_pass=0.01)


def test_stream_of_an_array() -> None:
    with pytest.raises(DaskroiError, match="plan='stream' needs an image file"):
        dr.extract(images.run(RNG), images.labels(RNG), plan="stream")
