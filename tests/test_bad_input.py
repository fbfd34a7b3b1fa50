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


SOFT = RNG.random((6, 7, 5, 3))
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
    "no overlap on the labels' grid": (
        lambda d: {
            "atlas": saved(d, np.ones((3, 3, 3), "i2"), "a.nii", FAR),
            "resampling_target": "labels",
        },
        "a.nii: no label left on the image's grid, the two do not overlap.*Different template",
    ),
    "fused and clipped": (
        lambda d: {
            "atlas": saved(d, np.ones((3, 3, 3), "i2"), "a.nii"),
            "resampling_target": "labels",
            "resampling_clip": True,
            "spatial": "fused",
        },
        "spatial='fused': resampling_clip=True is not linear.*Use spatial='auto'",
    ),
    "maps elsewhere": (
        lambda d: {"atlas": saved(d, SOFT, "m.nii", FAR)},
        "m.nii: no label left on the image's grid",
    ),
    "median of maps": (
        lambda d: {"atlas": saved(d, SOFT, "m.nii"), "strategy": "median"},
        "m.nii: strategy='median' of weighted voxels is not defined.*'mean' or 'sum'",
    ),
    "minimum of maps, least squares": (
        lambda d: {
            "atlas": saved(d, SOFT, "m.nii"),
            "strategy": "minimum",
            "maps_method": "lstsq",
        },
        "maps_method='lstsq' is instead of a strategy, and strategy='minimum' was given",
    ),
    "mean of maps below 0": (
        lambda d: {"atlas": saved(d, SOFT - 0.5, "m.nii")},
        "m.nii: maps have values below 0, so there is no weighted mean.*maps_method='lstsq'",
    ),
    "least squares, omit": (
        lambda d: {
            "atlas": saved(d, SOFT, "m.nii"),
            "maps_method": "lstsq",
            "nan_policy": "omit",
        },
        "maps_method='lstsq' .*cannot leave some out.*nan_policy='zero'",
    ),
    "spheres elsewhere": (
        lambda d: {"atlas": dr.load_atlas([(900, 0, 0)], radius=5)},
        "spheres: no label left on the image's grid",
    ),
    "run as atlas": (
        lambda d: {"atlas": saved(d, SOFT, "sub-01_task-rest_bold.nii.gz")},
        r"_bold.nii.gz: looks like a run, not an atlas \(its name ends in _bold\).*lut or labels",
    ),
    "run without its name as atlas": (
        lambda d: {"atlas": good(d, "a.nii")},
        r"a.nii: looks like a run, not an atlas \(40 volumes, 2 s apart\).*lut or labels",
    ),
    "opened run as atlas": (
        lambda d: {"atlas": dr.open_image(good(d, "a.nii"))},
        r"a.nii: looks like a run, not an atlas \(40 volumes, 2 s apart\)",
    ),
    "run in memory as atlas": (
        lambda d: {"atlas": images.run(RNG, (6, 7, 5, 40))},
        r"the atlas image: looks like a run, not an atlas \(40 volumes, 2 s apart\)",
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


@pytest.mark.parametrize("name", ["x_bold.nii.gz", "x.nii"])
def test_maps_that_look_like_a_run_can_be_insisted_on(tmp_path: Path, name: str) -> None:
    path = good(tmp_path, name)
    names = [f"map {i}" for i in range(40)]
    table = pd.DataFrame({"index": range(1, 41), "name": names})
    with pytest.raises(DaskroiError, match="looks like a run"):
        dr.load_atlas(path)
    for atlas in (
        dr.load_atlas(path, labels=names),
        dr.load_atlas(path, lut=table),
        dr.load_atlas({"maps": path, "labels": names}),
        dr.load_atlas(dr.open_image(path), labels=names),
    ):
        assert atlas.names == names
    stem = path.name.split(".")[0]
    table.to_csv(tmp_path / f"{stem}_probseg.tsv", sep="\t", index=False)
    assert dr.load_atlas(path).names == names


def test_maps_are_not_taken_for_a_run(tmp_path: Path) -> None:
    """What stacks maps writes 1 s or nothing between them, and few are no run either."""
    values = RNG.random((6, 7, 5, 40))
    for t_r, unit in ((1.0, "sec"), (0.0, "unknown"), (1.0, "unknown"), (0.0, "sec")):
        image = nib.Nifti1Image(values, images.STRAIGHT)
        image.header.set_zooms((2, 2, 2, t_r))
        image.header.set_xyzt_units("mm", unit)
        for given in (image, images.save(image, tmp_path / "msdl.nii")):
            assert len(dr.load_atlas(given).names) == 40
    few = images.save(images.run(RNG, (6, 7, 5, 20)), tmp_path / "few.nii")
    assert len(dr.load_atlas(few).names) == 20


def test_no_voxel_of_a_run_is_read_as_an_atlas(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("read")

    path = good(tmp_path, "x_bold.nii.gz")
    monkeypatch.setattr("daskroi.nifti.NiftiFile.slabs", refuse)
    with pytest.raises(DaskroiError, match="looks like a run"):
        dr.load_atlas(path)


@pytest.mark.parametrize("atlas", ["image", "maps"])
def test_a_radius_is_for_seeds(tmp_path: Path, atlas: str) -> None:
    values = SOFT if atlas == "maps" else np.ones((6, 7, 5), "u1")
    with pytest.raises(DaskroiError, match=r"radius=5 is for seeds, not for an image\. Leave"):
        dr.load_atlas(saved(tmp_path, values, "a.nii"), radius=5)
    for radius in (0, -2, np.inf, "5", [5, 6]):
        with pytest.raises(DaskroiError, match=r"radius=.* is not a (positive )?number"):
            dr.load_atlas([(0, 0, 0)], radius=radius)


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
    "negative width": ({"smoothing_fwhm": -6}, r"smoothing_fwhm=-6 is not a width.*'fast'"),
    "infinite width": ({"smoothing_fwhm": np.inf}, "smoothing_fwhm=inf is not a width"),
    "two widths": ({"smoothing_fwhm": (6, 6)}, r"smoothing_fwhm=\(6, 6\) is not a width.*three"),
    "NaN among widths": ({"smoothing_fwhm": (6, np.nan, 6)}, "smoothing_fwhm=.*is not a width"),
    "width as text": ({"smoothing_fwhm": "6mm"}, "smoothing_fwhm='6mm' is not a width"),
    "width as bool": ({"smoothing_fwhm": True}, "smoothing_fwhm=True is not a width"),
    "spatial": ({"spatial": "both"}, "spatial='both'.*'auto', 'fused', 'voxelwise'"),
    "maps_method": ({"maps_method": "ls"}, "maps_method='ls'.*'mean', 'lstsq'"),
    "resampling_clip": ({"resampling_clip": "yes"}, "resampling_clip='yes'.*True, False"),
    "fused median": (
        {"smoothing_fwhm": 6, "strategy": "median", "spatial": "fused"},
        "spatial='fused': strategy='median' is not linear.*Use spatial='auto'",
    ),
    "fused, NaN that spread": (
        {"smoothing_fwhm": 6, "nan_policy": "propagate", "spatial": "fused"},
        "spatial='fused': nan_policy='propagate' needs every voxel",
    ),
    "least squares of labels": (
        {"maps_method": "lstsq"},
        r"maps_method='lstsq' is for an atlas of maps.*Leave it 'mean'",
    ),
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
