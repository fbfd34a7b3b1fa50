"""Answers known before daskroi is asked: brute force in long double, closed forms.

From voxels, in every kind of file, to series. What comes after is in test_known_series.py.
"""

from __future__ import annotations

import gzip
import math
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import daskroi as dr
from daskroi.atlas import load_atlas
from daskroi.grid import Grid
from daskroi.image import make_image
from daskroi.kernels import REDUCERS

SHAPE = (5, 6, 7)  # x, y, z
AFFINE = np.array([[2.0, 0, 0, -5], [0, 2.5, 0, 3], [0, 0, 3.0, 1], [0, 0, 0, 1]])
IDS = (3, 4, 9)
STORED = ("<i2", ">i2", "u1", "<i1", ">u2", "<i4", ">i4", "<i8", ">u8", "<f4", ">f4", "<f8", ">f8")
SCALES = ((1.0, 0.0), (0.5, 100.0), (-0.1, 7.0))
LONG = np.longdouble

TRUTHS: dict[str, Any] = {
    "mean": np.mean,
    "sum": np.sum,
    "median": np.median,
    "minimum": np.min,
    "maximum": np.max,
    "variance": np.var,
    "standard_deviation": np.std,
}


def stored_values(rng: np.random.Generator, dtype: str, n_time: int) -> NDArray[Any]:
    """Voxels (x, y, z, time) over the whole range of the type, or with a large mean."""
    kind = np.dtype(dtype)
    shape = (*SHAPE, n_time)
    if kind.kind == "f":
        return (1e4 + rng.standard_normal(shape)).astype(kind)
    limits = np.iinfo(kind)
    native = kind.newbyteorder("=")
    return rng.integers(limits.min, limits.max, shape, native, endpoint=True).astype(kind)


def nifti(values: NDArray[Any], scale: tuple[float, float], path: Path) -> Path:
    """Values as they are, in the byte order they have."""
    header = nib.Nifti1Header(endianness=">" if values.dtype.byteorder == ">" else "<")
    header.set_data_dtype(values.dtype)
    header.set_data_shape(values.shape)
    header.set_sform(AFFINE, 1)
    header.set_qform(AFFINE, 1)
    header.set_zooms((2.0, 2.5, 3.0, 2.0)[: values.ndim])
    header.set_xyzt_units("mm", "sec")
    header.set_slope_inter(*scale)
    header["vox_offset"] = 352
    raw = header.binaryblock + bytes(4) + values.tobytes(order="F")
    if path.suffix == ".gz":
        raw = gzip.compress(raw, 1)
    path.write_bytes(raw)
    return path


def brute(
    values: NDArray[Any], labels: NDArray[Any], strategy: str, policy: str = "zero"
) -> NDArray[Any]:
    """(time, region) of physical values (x, y, z, time), in long double."""
    out = np.full((values.shape[-1], len(IDS)), np.nan, LONG)
    for t in range(values.shape[-1]):
        for r, region in enumerate(IDS):
            there = values[..., t][labels == region].astype(LONG)
            if policy == "zero":
                there = np.where(np.isfinite(there), there, 0)
            elif policy == "omit":
                there = there[np.isfinite(there)]
            if there.size:
                with np.errstate(invalid="ignore"):
                    out[t, r] = TRUTHS[strategy](there)
    return out


def label_image(rng: np.random.Generator, dtype: str = "<i2") -> nib.Nifti1Image:
    labels = rng.choice([0, *IDS], SHAPE).astype(dtype)
    labels.flat[: len(IDS)] = IDS
    image = nib.Nifti1Image(labels, AFFINE, dtype=np.dtype(dtype))
    image.header.set_data_dtype(dtype)
    return image


@st.composite
def runs(draw: Any) -> dict[str, Any]:
    """How a run is stored and read."""
    return {
        "seed": draw(st.integers(0, 2**32)),
        "dtype": draw(st.sampled_from(STORED)),
        "scale": draw(st.sampled_from(SCALES)),
        "form": draw(st.sampled_from(["nii", "nii.gz", "indexed", "zarr", "memory", "strided"])),
        "n_time": draw(st.sampled_from([1, 2, 5])),
        "nan": draw(st.booleans()),
        "policy": draw(st.sampled_from(["zero", "omit", "propagate"])),
        "atlas": draw(st.sampled_from(["<i2", ">i2", ">i4", "<f4", ">f8", "u1"])),
        "masked": draw(st.booleans()),
    }


@pytest.mark.parametrize("strategy", REDUCERS)
@given(case=runs())
@settings(max_examples=15)
def test_region_values_are_those_of_long_double(
    strategy: str, case: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(case["seed"])
    folder = tmp_path_factory.mktemp("run")
    stored = stored_values(rng, case["dtype"], case["n_time"])
    if case["nan"] and stored.dtype.kind == "f":
        holes = rng.random(stored.shape) < 0.1
        stored[holes] = rng.choice([np.nan, np.inf, -np.inf], holes.sum())
    # NIfTI-1 keeps them in 32 bits
    slope, inter = (float(np.float32(s)) for s in case["scale"])
    # nibabel, and daskroi, scale in double: the truth about what a file holds
    scaled = (slope, inter) != (1, 0)
    physical = stored * np.float64(slope) + np.float64(inter) if scaled else stored
    atlas = label_image(rng, case["atlas"])
    labels = np.asarray(atlas.dataobj)
    form = case["form"]
    path = folder / ("run.nii" if form in ("zarr", "memory", "strided") else "run.nii.gz")
    nifti(stored, (slope, inter), path if form != "nii" else (path := folder / "run.nii"))
    options: dict[str, Any] = {"strategy": strategy, "nan_policy": case["policy"]}
    if case["masked"]:
        mask = rng.random(SHAPE) < 0.8
        labels = np.where(mask, labels, 0)
        options["mask_img"] = nib.Nifti1Image(mask.astype(">i2"), AFFINE)
    image: Any = path
    if form == "indexed":
        image = dr.open_image(path, index=True, chunks=2)
    elif form == "zarr":
        dr.to_zarr(path, folder / "run.nii.zarr")
        image = folder / "run.nii.zarr"
    elif form in ("memory", "strided"):
        grid = Grid.make(SHAPE[::-1], AFFINE)
        values = physical.T if form == "strided" else np.ascontiguousarray(physical.T)
        image = make_image(values, grid, t_r=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dr.DaskroiWarning)  # of regions without a voxel
        found = dr.extract(image, atlas, dtype="float64", **options).compute()
    assert found.dtype.isnative
    truth = brute(physical, labels, strategy, case["policy"])
    size = np.nanmax(np.abs(np.where(np.isfinite(physical), physical, 0)).astype(LONG))
    # one rounding of every 64-bit integer, and of the result
    bound = {"sum": 200, "variance": size}.get(strategy, 1) * size * LONG(2e-15)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(truth))
    finite = np.isfinite(truth)
    np.testing.assert_array_equal(found.values[~finite], truth[~finite].astype("f8"))
    assert (np.abs(found.values[finite] - truth[finite]) <= bound).all()


@pytest.mark.parametrize("dtype", ["f2", ">f2", "?", "f16"])
def test_types_that_only_arrays_have(dtype: str) -> None:
    rng = np.random.default_rng(0)
    atlas = label_image(rng)
    labels = np.asarray(atlas.dataobj)
    values = (100 + rng.standard_normal((*SHAPE, 3))).astype(dtype)
    image = make_image(values.T, Grid.make(SHAPE[::-1], AFFINE), t_r=2.0)
    for strategy in ("mean", "median", "variance", "maximum"):
        found = dr.extract(image, atlas, strategy=strategy).compute()
        truth = brute(values, labels, strategy)
        np.testing.assert_allclose(found.values, truth.astype("f8"), rtol=1e-12, atol=1e-12)


# space


def linear_field(grid: Grid, frames: int = 2) -> NDArray[Any]:
    """a + b·x at every voxel's place in mm, (time, z, y, x): splines and kernels keep it."""
    zyx = np.indices(grid.shape).reshape(3, -1)
    place = grid.matrix[:3, :3] @ zyx[::-1] + grid.matrix[:3, 3:]
    field = 50 + np.array([0.5, -0.25, 2.0]) @ place
    return np.stack([field * (t + 1) for t in range(frames)]).reshape(frames, *grid.shape)


def inner_atlas(grid: Grid, margin: int) -> Any:
    """Two regions away from the edges, and where their middles are, in mm."""
    labels = np.zeros(grid.shape, "i2")
    inner = tuple(slice(margin, n - margin) for n in grid.shape)
    rng = np.random.default_rng(0)
    labels[inner] = rng.integers(1, 3, labels[inner].shape)
    middles = []
    for region in (1, 2):
        zyx = np.argwhere(labels == region).mean(axis=0)
        middles.append(grid.matrix[:3, :3] @ zyx[::-1] + grid.matrix[:3, 3])
    return load_atlas(make_image(labels, grid)), np.array(middles)


@pytest.mark.parametrize("spatial", ["fused", "voxelwise"])
@pytest.mark.parametrize("fwhm", [None, 5.0, (6.0, 0.0, 4.0)])
@pytest.mark.parametrize("turn", [0.0, 0.3])
def test_a_linear_field_stays_one(spatial: str, fwhm: Any, turn: float) -> None:
    """Resampled to the atlas by splines, and smoothed: a region's mean is that of its middle."""
    source = Grid.make((30, 32, 34), np.diag([2.0, 2, 2, 1]))
    c, s = math.cos(turn), math.sin(turn)
    affine = np.array([[2.5 * c, -2.5 * s, 0, 25], [2.5 * s, 2.5 * c, 0, 20], [0, 0, 2.7, 18]])
    target = Grid.make((9, 10, 10), np.vstack([affine, [0, 0, 0, 1]]))
    atlas, middles = inner_atlas(target, 3 if fwhm else 1)
    field = linear_field(source)
    if fwhm:  # on the atlas's grid, the kernel must not reach its edge: widths of half a voxel
        fwhm = tuple(0.3 * f for f in np.broadcast_to(fwhm, 3))
    found = dr.extract(
        make_image(field, source),
        atlas,
        resampling_target="labels",
        smoothing_fwhm=fwhm,
        spatial=spatial,
    ).compute()
    truth = 50 + middles @ [0.5, -0.25, 2.0]
    # the spline's mirrored edges reach in by 0.268 a voxel: 1e-5 after 8; W's tails by 1e-9
    scale = np.abs(field[0]).max()
    np.testing.assert_allclose(found[0], truth, atol=2e-4 * scale / 50)
    np.testing.assert_allclose(found[1], 2 * found[0], rtol=1e-9)


@pytest.mark.parametrize("spatial", ["fused", "voxelwise"])
def test_smoothing_an_impulse_is_the_gaussian(spatial: str) -> None:
    grid = Grid.make((19, 21, 23), np.diag([2.0, 2.5, 3.0, 1]))
    values = np.zeros((1, *grid.shape), "f4")
    values[0, 9, 10, 11] = 1000
    labels = np.zeros(grid.shape, "i2")
    steps = {1: (0, 0, 0), 2: (1, 0, 0), 3: (0, 2, 0), 4: (-1, 1, 3), 5: (0, 0, -2)}
    for region, step in steps.items():
        labels[tuple(np.array([9, 10, 11]) + step)] = region
    fwhm = 6.0
    found = dr.extract(
        make_image(values, grid),
        load_atlas(make_image(labels, grid)),
        smoothing_fwhm=fwhm,
        spatial=spatial,
        dtype="float64",
    ).compute()

    def kernel(step: int, size: float) -> float:
        sigma = fwhm / math.sqrt(8 * math.log(2)) / size
        reach = int(4 * sigma + 0.5)
        whole = math.fsum(math.exp(-(k**2) / (2 * sigma**2)) for k in range(-reach, reach + 1))
        return math.exp(-(step**2) / (2 * sigma**2)) / whole

    for region, (dz, dy, dx) in steps.items():
        truth = 1000 * kernel(dz, 3.0) * kernel(dy, 2.5) * kernel(dx, 2.0)
        assert math.isclose(found.sel(region=region).item(), truth, rel_tol=1e-6, abs_tol=1e-6)


def test_atlas_of_half_the_resolution_on_the_image() -> None:
    """Target "data": every voxel of the atlas is eight of the image, by construction."""
    fine = Grid.make((8, 10, 12), np.diag([2.0, 2, 2, 1]))
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = 1.0
    coarse = Grid.make((4, 5, 6), affine)
    rng = np.random.default_rng(1)
    # not at the edge: nilearn takes the outer half of an atlas's last voxels for outside
    labels = np.pad(rng.integers(0, 4, (2, 3, 4)), 1)
    values = rng.standard_normal((3, *fine.shape))
    eight = labels.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    found = dr.extract(
        make_image(values, fine), load_atlas(make_image(labels, coarse)), resampling_target="data"
    ).compute()
    for region in (1, 2, 3):
        truth = [math.fsum(v[eight == region]) / (eight == region).sum() for v in values]
        np.testing.assert_allclose(found.sel(region=region), truth, rtol=1e-12, atol=1e-13)


# maps and spheres


@given(seed=st.integers(0, 2**32), dtype=st.sampled_from(["<f4", ">f8", "<i2"]))
@settings(max_examples=15)
def test_maps_by_hand(seed: int, dtype: str) -> None:
    """Weighted means by long double, least squares by NumPy's."""
    rng = np.random.default_rng(seed)
    maps = rng.random((*SHAPE, 3)) * (rng.random((*SHAPE, 3)) < 0.5)
    values = stored_values(rng, dtype, 2)
    image = make_image(values.T, Grid.make(SHAPE[::-1], AFFINE), t_r=2.0)
    atlas = nib.Nifti1Image(maps, AFFINE)
    weights = maps.reshape(-1, 3).astype(LONG)
    flat = values.reshape(-1, 2).astype(LONG)
    found = dr.extract(image, atlas, dtype="float64").compute()
    truth = (flat.T @ weights) / weights.sum(axis=0)
    size = np.abs(flat).max()
    assert (np.abs(found.values - truth) <= 1e-14 * size).all()
    found = dr.extract(image, atlas, maps_method="lstsq", dtype="float64").compute()
    best = np.linalg.lstsq(maps.reshape(-1, 3), values.reshape(-1, 2).astype("f8"), rcond=None)[0]
    np.testing.assert_allclose(found, best.T, rtol=1e-10, atol=1e-10 * float(size))


def test_spheres_by_hand() -> None:
    rng = np.random.default_rng(2)
    grid = Grid.make((12, 13, 14), np.diag([2.0, 2, 2, 1]))
    values = rng.standard_normal((2, *grid.shape))
    seeds = [(8.0, 10.0, 12.0), (20.0, 12.5, 9.0)]
    found = dr.extract(make_image(values, grid), load_atlas(seeds, radius=5.0)).compute()
    zyx = np.indices(grid.shape).reshape(3, -1)
    place = 2.0 * zyx[::-1].T
    for r, seed in enumerate(seeds):
        inside = ((place - seed) ** 2).sum(axis=1) <= 25
        truth = [math.fsum(v.ravel()[inside]) / inside.sum() for v in values]
        np.testing.assert_allclose(found[:, r], truth, rtol=1e-12, atol=1e-13)
