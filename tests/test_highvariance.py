"""High-variance confounds against nilearn, from every kind of image, in bounded memory."""

from __future__ import annotations

import gzip
import pickle
import threading
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import nibabel as nib
import numpy as np
import psutil
import pytest
from dask.tokenize import tokenize
from images import OBLIQUE, STRAIGHT, save
from niftis import nifti_bytes, write

import daskroi as dr
from daskroi.errors import DaskroiError
from daskroi.grid import Grid
from daskroi.highvariance import high_variance_confounds
from daskroi.image import make_image

SHAPE = (9, 10, 11)  # x, y, z

pytestmark = pytest.mark.usefixtures("synchronous")


def signals(seed: int = 0, n_time: int = 40, nan: int = 0) -> np.ndarray:
    """(x, y, z, time): voxels of unequal variance, so that components are well apart."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((*SHAPE, 6)) * np.array([9, 7, 5, 4, 3, 2.5])
    sources = rng.standard_normal((6, n_time))
    size = np.exp(rng.standard_normal(SHAPE))[..., None]
    out = 500 + size * (mix @ sources) + rng.standard_normal((*SHAPE, n_time))
    out += size * rng.standard_normal((*SHAPE, 1)) * np.arange(n_time)  # drift
    out.reshape(-1)[rng.choice(out.size, nan, replace=False)] = np.nan
    return out.astype("f4")


def nilearns(image: nib.Nifti1Image, **options: Any) -> np.ndarray:
    from nilearn.image import high_variance_confounds as oracle

    # in double: given float32, nilearn computes in it and is 1e-5 off
    image = nib.Nifti1Image(image.get_fdata(), image.affine)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(oracle(image, **options))


def check(found: Any, expected: np.ndarray) -> None:
    """Equal up to the sign of each component, which is ours: the largest entry is positive."""
    assert found.dims == ("time", "confound")
    assert found.dtype == np.float64
    values = found.values
    assert values.shape == expected.shape
    signs = np.sign((values * expected).sum(axis=0))
    np.testing.assert_allclose(values * signs, expected, rtol=1e-6, atol=1e-6)
    assert (values[np.abs(values).argmax(axis=0), range(values.shape[1])] > 0).all()


def mask_image() -> nib.Nifti1Image:
    return nib.Nifti1Image((np.random.default_rng(1).random(SHAPE) < 0.6).astype("u1"), OBLIQUE)


@pytest.mark.parametrize("detrend", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("options", [{}, {"n_confounds": 3, "percentile": 20.0}])
@pytest.mark.parametrize("kind", ["memory", ".nii", ".nii.gz", "array"])
def test_is_nilearns(
    tmp_path: Path, kind: str, detrend: bool, masked: bool, options: dict[str, Any]
) -> None:
    image = nib.Nifti1Image(signals(), OBLIQUE)
    mask = mask_image() if masked else None
    given: Any = image
    if kind.startswith("."):
        given = save(image, tmp_path / f"x{kind}")
        image = nib.load(given)
    elif kind == "array":
        given = make_image(
            da.from_array(signals().T, chunks=(7, 4, 5, 6)), Grid.make(SHAPE[::-1], OBLIQUE)
        )
    found = high_variance_confounds(given, detrend=detrend, mask_img=mask, **options)
    check(found, nilearns(image, detrend=detrend, mask_img=mask, **options))


@pytest.mark.parametrize("detrend", [True, False])
@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize(("slope", "inter"), [(0.05, 0.0), (0.5, -90.0), (-0.2, 1000.0)])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_scaled_integers(
    tmp_path: Path, name: str, slope: float, inter: float, endian: str, detrend: bool
) -> None:
    stored = np.round((signals() - 500) * 10).astype("i2")
    content = nifti_bytes(stored, endian=endian, scl_slope=slope, scl_inter=inter)
    path = write(tmp_path / name, content)
    check(high_variance_confounds(path, detrend=detrend), nilearns(nib.load(path), detrend=detrend))


def test_scaled_float32_in_double(tmp_path: Path) -> None:
    # float32 cannot hold both the offset and the signal
    content = nifti_bytes(signals(), scl_slope=1e-3, scl_inter=100)
    path = write(tmp_path / "x.nii", content)
    expected = nilearns(nib.load(path), detrend=False)
    check(high_variance_confounds(path, detrend=False), expected)


@pytest.mark.parametrize("detrend", [True, False])
def test_nan_voxels(tmp_path: Path, detrend: bool) -> None:
    """A voxel that is not finite in some frame is left out; nilearn does so without detrending."""
    values = signals(nan=200)
    path = save(nib.Nifti1Image(values, OBLIQUE), tmp_path / "x.nii.gz")
    found = high_variance_confounds(path, detrend=detrend, percentile=10)
    finite = np.isfinite(values).all(axis=3)
    from nilearn.signal import high_variance_confounds as oracle

    expected = oracle(values[finite].T.astype("f8"), percentile=10, detrend=detrend)
    check(found, np.asarray(expected))


def test_mask_on_another_grid(tmp_path: Path) -> None:
    mask = nib.Nifti1Image(np.ones((5, 5, 5), "u1"), OBLIQUE @ np.diag([2, 2, 2, 1]))
    image = nib.Nifti1Image(signals(), OBLIQUE)
    from nilearn.image import resample_to_img

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = resample_to_img(mask, image, "nearest", force_resample=True, copy_header=True)
    check(high_variance_confounds(image, mask_img=mask), nilearns(image, mask_img=there))


# the same whatever the way


def test_no_bit_depends_on_chunks_or_slabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from daskroi import nifti

    path = save(nib.Nifti1Image(signals(), OBLIQUE), tmp_path / "x.nii.gz")
    grid = Grid.make(SHAPE[::-1], OBLIQUE)
    found = {high_variance_confounds(path).values.tobytes()}
    for slab_bytes in (1, 50_000):
        monkeypatch.setattr(nifti.NiftiFile.slab_frames, "__defaults__", (slab_bytes,))
        found.add(high_variance_confounds(path).values.tobytes())
    for chunks in [(1, -1, -1, -1), (40, 3, 3, 3), (7, -1, 5, -1)]:
        array = make_image(da.from_array(signals().T, chunks=chunks), grid)
        found.add(high_variance_confounds(array).values.tobytes())
    found.add(high_variance_confounds(make_image(signals().T, grid)).values.tobytes())
    assert len(found) == 1


def test_masks_and_options_are_in_the_key(tmp_path: Path) -> None:
    path = save(nib.Nifti1Image(signals(), OBLIQUE), tmp_path / "x.nii.gz")
    array = dr.open_image(path) * 1
    options: list[dict[str, Any]] = [
        {},
        {"n_confounds": 4},
        {"percentile": 3.0},
        {"detrend": False},
        {"mask_img": mask_image()},
    ]
    names = [high_variance_confounds(i, **o).data.name for i in (path, array) for o in options]
    assert len(set(names)) == 10


def test_lazy_and_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(nib.Nifti1Image(signals(), OBLIQUE), tmp_path / "x.nii.gz")
    monkeypatch.setattr(dr.open_image(path).data.__class__, "compute", lambda *_: 1 / 0)
    found = high_variance_confounds(path)
    assert len(pickle.dumps(found)) < 20_000
    assert isinstance(found.data, da.Array)


def test_the_mask_travels_once() -> None:
    grid = Grid.make(SHAPE[::-1], OBLIQUE)
    image = make_image(da.zeros((40, *grid.shape), chunks=(1, -1, -1, -1)), grid)
    mask = mask_image()
    graph = dict(high_variance_confounds(image, mask_img=mask).__dask_graph__())
    voxels = np.asarray(mask.dataobj).T.astype(bool).tobytes()
    assert len([k for k, task in graph.items() if voxels in pickle.dumps(task)]) == 1


def test_memory_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "long.nii.gz"
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 1000, (8, 50, 64, 64)).astype("i2")  # (time, z, y, x)
    header = nib.Nifti1Header(nifti_bytes(frames.T)[:348], check=False)
    header.set_data_shape((64, 64, 50, 200))
    with gzip.open(path, "wb", 1) as out:
        out.write(header.binaryblock + bytes(4))
        for i in range(200):
            out.write(np.roll(frames[i % 8], i))
    found = high_variance_confounds(path)
    tracemalloc.start()
    found.compute()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 82 MB raw, 328 MB in double. Slabs 34 MB, a read of the inflater 17, sums and a few volumes
    assert peak < 75e6


def test_time_and_attributes(tmp_path: Path) -> None:
    image = nib.Nifti1Image(signals(), STRAIGHT)
    image.header.set_zooms((2, 2, 2, 0.72))
    image.header.set_xyzt_units("mm", "sec")
    path = save(image, tmp_path / "x.nii.gz")
    found = dr.high_variance_confounds(path)
    np.testing.assert_allclose(found.time, np.arange(40) * 0.72)
    assert found.attrs["source"] == str(path)
    assert found.name == "high_variance_confounds"


def test_nothing_stays_open_on_errors(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii.gz", nifti_bytes(signals())[:-5000])
    with pytest.raises(DaskroiError, match=r"x\.nii\.gz: truncated") as kept:
        high_variance_confounds(path).compute()
    assert kept.value.__traceback__ is not None
    assert not [t for t in threading.enumerate() if t.name.startswith("daskroi-read")]
    assert str(path) not in [f.path for f in psutil.Process().open_files()]


def test_fewer_frames_than_confounds() -> None:
    image = nib.Nifti1Image(signals(n_time=4), OBLIQUE)
    assert high_variance_confounds(image, percentile=50).compute().shape == (4, 4)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (nib.Nifti1Image(signals()[..., 0], OBLIQUE), {}, r"this image has one volume\. Leave"),
        (nib.Nifti1Image(signals()[..., :1], OBLIQUE), {}, "this image has one volume"),
        (nib.Nifti1Image(signals(), OBLIQUE), {"n_confounds": 0}, "n_confounds=0 leaves none"),
        (nib.Nifti1Image(signals(), OBLIQUE), {"percentile": 101}, r"percentile=101 .* 0 to 100"),
        (nib.Nifti1Image(signals(), OBLIQUE), {"percentile": "2"}, r"percentile='2' .* 0 to 100"),
        (nib.Nifti1Image(signals(), OBLIQUE), {"n_confounds": 2.5}, r"n_confounds=2\.5 is no"),
        (nib.Nifti1Image(signals(), OBLIQUE), {"detrend": "no"}, "detrend='no' is not a flag"),
        (nib.Nifti1Image(np.ones((3, 4, 5, 6), "f4"), OBLIQUE), {}, "none of 60 voxels"),
        (nib.Nifti1Image(np.full((3, 4, 5, 6), np.nan, "f4"), OBLIQUE), {}, r"\(0 finite\)"),
    ],
)
def test_refused(image: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DaskroiError, match=message):
        high_variance_confounds(image, **options).compute()


def test_deterministic_token(tmp_path: Path) -> None:
    path = save(nib.Nifti1Image(signals(), OBLIQUE), tmp_path / "x.nii.gz")
    one, two = (high_variance_confounds(path, mask_img=mask_image()) for _ in range(2))
    assert tokenize(one.data) == tokenize(two.data)
