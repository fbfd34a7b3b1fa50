"""Smoothing and resampling against nilearn, for any chunks, without reading while building."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import images
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from dask.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st

import daskroi as dr
from daskroi.blockresampling import BlockResampling
from daskroi.errors import DaskroiError, DaskroiTypeError, DaskroiWarning
from daskroi.resampling import ORDERS, Resampling

SHAPE = (8, 7, 6)  # x, y, z
AFFINES = {
    "straight": images.STRAIGHT,
    "flipped": np.diag([-2.0, 2, 2, 1]) + np.array([[0, 0, 0, 14], *[[0] * 4] * 3]),
    "oblique": images.OBLIQUE,
    "swapped": np.array([[0, 2.0, 0, 0], [2, 0, 0, 1], [0, 0, 2.5, 0], [0, 0, 0, 1]]),
}
TARGETS = {
    "finer": (images.STRAIGHT @ np.diag([0.6, 0.7, 0.55, 1]), (11, 9, 8)),
    "halves": (np.diag([1.0, 1, 1, 1]), (15, 13, 11)),  # half of it ties
    "shifted": (np.array([[2, 0, 0, 1.3], [0, 2, 0, -3], [0, 0, 2, 0.7], [0, 0, 0, 1]]), SHAPE),
    "flipped": (np.array([[-3, 0, 0, 12.0], [0, 2, 0, 0], [0, 0, 3, 1], [0, 0, 0, 1]]), (6, 7, 4)),
    "turned": (
        np.array([[1.7, 0.4, 0, -1], [-0.4, 1.8, 0.2, 1], [0.1, -0.2, 1.9, 0.5], [0, 0, 0, 1]]),
        (9, 8, 7),
    ),
}
DTYPES = ["f4", "f8", "i2", "u1", ">f4"]

pytestmark = pytest.mark.usefixtures("synchronous")


def copy_of(image: nib.Nifti1Image, dtype: Any = None) -> nib.Nifti1Image:
    """A native copy: nilearn writes into what it is given."""
    values = np.array(image.dataobj)
    return nib.Nifti1Image(values.astype(dtype or values.dtype.newbyteorder("=")), image.affine)


def nilearns_resampled(
    image: nib.Nifti1Image, affine: np.ndarray, shape: Any, interpolation: str, clip: bool = True
) -> np.ndarray:
    from nilearn.image import resample_img

    # in double: it rounds what comes of integers to integers, or computes in float32
    integers = image.get_data_dtype().kind in "iu" and interpolation != "nearest"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = resample_img(
            copy_of(image, "f8" if integers else None),
            affine,
            shape,
            interpolation=interpolation,
            clip=clip,
            force_resample=True,
            copy_header=True,
        )
    return np.asarray(out.dataobj).T


def nilearns_smoothed(image: nib.Nifti1Image, fwhm: Any) -> np.ndarray:
    from nilearn.image import smooth_img

    values = np.array(image.dataobj, np.float64)  # given float32 it computes in it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = smooth_img(nib.Nifti1Image(values, image.affine), fwhm)
    return np.asarray(out.dataobj).T


def close(found: Any, expected: Any, tolerance: float = 1e-6) -> None:
    """Equal within a share of the largest finite value; NaN at the same places."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    finite = expected[np.isfinite(expected)]
    scale = float(np.abs(finite).max()) if finite.size else 1.0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(scale, 1e-30))


def splits(n: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Any way of cutting n into up to 4 consecutive chunks."""
    return st.sets(st.integers(1, max(n - 1, 1)), max_size=3).map(
        lambda cuts: tuple(int(c) for c in np.diff([0, *sorted(c for c in cuts if c < n), n]))
    )


def grid(affine: np.ndarray, shape: tuple[int, ...]) -> dr.Grid:
    return dr.Grid.make(shape[::-1], affine)


# ---------------------------------------------------------------- resample, against nilearn


@given(
    source=st.sampled_from(sorted(AFFINES)),
    target=st.sampled_from(sorted(TARGETS)),
    interpolation=st.sampled_from(sorted(ORDERS)),
    dtype=st.sampled_from(DTYPES),
    clip=st.booleans(),
    nan=st.sampled_from([0.0, 0.03, 0.4]),
    frames=st.sampled_from([None, 1, 3]),
    seed=st.integers(0, 9),
)
@settings(max_examples=150)
def test_resample_is_nilearns(source, target, interpolation, dtype, clip, nan, frames, seed):
    rng = np.random.default_rng(seed)
    shape = SHAPE if frames is None else (*SHAPE, frames)
    image = images.run(rng, shape, dtype, AFFINES[source], nan=nan)
    affine, target_shape = TARGETS[target]
    expected = nilearns_resampled(image, affine, target_shape, interpolation, clip)
    found = dr.resample(image, grid(affine, target_shape), interpolation, clip=clip)
    values = found.values
    if interpolation == "nearest":
        np.testing.assert_array_equal(values, expected)
        assert values.dtype == np.dtype(dtype).newbyteorder("=")
    else:
        close(values, expected, 1e-6 if "f4" in dtype else 1e-10)
        assert values.dtype == (np.float32 if "f4" in dtype else np.float64)
    assert found.dtype == values.dtype
    assert dr.grid_of(found) == grid(affine, target_shape)


@pytest.mark.parametrize("interpolation", ORDERS)
def test_clipping_is_by_the_whole_run(interpolation: str) -> None:
    """A volume overshoots where the run does not: nothing is clipped there."""
    values = np.zeros((*SHAPE, 2), "f8")
    values[3:5, 3:5, 3:5, 0] = 10.0
    values[..., 1] = -50.0
    values[2:5, 2:5, 2:5, 1] = 50.0
    image = nib.Nifti1Image(values, images.STRAIGHT)
    affine, shape = TARGETS["finer"]
    clipped, unclipped = (
        dr.resample(image, grid(affine, shape), interpolation, clip=clip, chunks=1)
        for clip in (True, False)
    )
    close(clipped, nilearns_resampled(image, affine, shape, interpolation), 1e-12)
    if interpolation == "continuous":
        assert float(clipped[0].max()) > 10 + 1e-3
        assert float(unclipped.max()) > 50 + 1e-3
        assert float(clipped.max()) == 50


def test_a_volume_without_a_number() -> None:
    image = nib.Nifti1Image(np.full((*SHAPE, 2), np.nan, "f4"), images.STRAIGHT)
    affine, shape = TARGETS["shifted"]
    found = dr.resample(image, grid(affine, shape)).values
    inside = Resampling(grid(images.STRAIGHT, SHAPE), grid(affine, shape)).inside
    assert np.isnan(found[:, inside]).all()
    assert (found[:, ~inside] == 0).all()


# ---------------------------------------------------------------- resample, any chunks

LONG = (70, 6, 5)  # x, y, z: longer than twice the margin
LONG_TARGETS = {
    "straight": (np.diag([1.3, 1.7, 1.9, 1]), (100, 7, 6)),
    "turned": (
        np.array([[1.6, 0.1, 0, -3], [-0.03, 1.8, 0.2, 1], [0.02, -0.2, 1.9, 0.5], [0, 0, 0, 1]]),
        (90, 7, 6),
    ),
    "beyond": (np.diag([2.5, 1, 2, 1]), (90, 9, 5)),  # the last third is outside
}


@given(
    target=st.sampled_from(sorted(LONG_TARGETS)),
    interpolation=st.sampled_from(sorted(ORDERS)),
    dtype=st.sampled_from(["f4", "f8", "i2"]),
    chunks=st.tuples(splits(3), splits(5), splits(6), splits(70)),
    cuts=st.data(),
    nan=st.sampled_from([0.0, 0.05, 0.4]),
)
@settings(max_examples=40)
def test_resample_any_chunking(target, interpolation, dtype, chunks, cuts, nan) -> None:
    rng = np.random.default_rng(3)
    run = dr.open_image(images.run(rng, (*LONG, 3), dtype, nan=nan))
    affine, shape = LONG_TARGETS[target]
    to = grid(affine, shape)
    expected = dr.resample(run, to, interpolation).values
    cut = run.chunk(dict(zip(run.dims, chunks, strict=True)))
    wanted = tuple(cuts.draw(splits(n)) for n in to.shape)
    for form in ("auto", (chunks[0], *wanted)):
        found = dr.resample(cut, to, interpolation, chunks=form)
        if form != "auto":
            assert found.chunks == form
        if interpolation == "nearest":
            np.testing.assert_array_equal(found.values, expected)
        else:
            close(found.values, expected, 2e-7 if dtype == "f4" else 1e-9)


@pytest.mark.parametrize("target", LONG_TARGETS)
def test_the_margin_is_wide_enough_for_the_worst_image(target: str) -> None:
    """Alternating ±1 is what a cubic prefilter amplifies most."""
    affine, shape = LONG_TARGETS[target]
    whole = Resampling(grid(images.STRAIGHT, LONG), grid(affine, shape))
    signs = 1.0 - 2 * (np.indices(whole.source.shape).sum(axis=0) % 2)
    expected = whole.apply(signs)
    for lo, hi in ((0, 10), (20, 23), (40, 60)):
        block = BlockResampling(whole, ((0, 6), (0, shape[1]), (lo, hi)))
        box = block.source_box
        if box is None:
            assert not expected[..., lo:hi].any()
            continue
        crop = signs[tuple(slice(*pair) for pair in box)]
        assert crop.size < signs.size
        np.testing.assert_allclose(block.apply(crop), expected[..., lo:hi], rtol=0, atol=1e-9)


def test_a_block_reads_only_its_part() -> None:
    """What is far from the block that is computed may be missing."""
    values = np.ones((5, 6, 70), "f8")

    def read(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info[None]["chunk-location"][2] > 1:
            raise AssertionError("read what it does not need")
        return block

    array = da.from_array(values, chunks=(5, 6, 25)).map_blocks(read, dtype="f8")
    image = dr.make_image(array, grid(images.STRAIGHT, LONG))
    to = grid(np.diag([1.0, 2, 2, 1]), (140, 6, 5))
    out = dr.resample(image, to, clip=False, chunks={"x": 20})
    close(out[..., :20], np.ones((5, 6, 20)), 1e-9)
    with pytest.raises(AssertionError, match="does not need"):
        out[..., 60:80].compute()


def test_auto_chunks() -> None:
    run = dr.open_image(images.run(np.random.default_rng(0), (120, 6, 5, 9)), chunks=4)
    to = grid(np.diag([1.0, 2, 2, 1]), (240, 6, 5))
    whole = dr.resample(run, to, "linear")
    assert whole.chunks == ((4, 4, 1), (5,), (6,), (240,))
    cut = dr.resample(run.chunk({"x": 60}), to, "linear")
    assert cut.chunks == ((4, 4, 1), (5,), (6,), (60,) * 4)
    asked = dr.resample(run, to, "linear", chunks={"y": 2})
    assert asked.chunks == ((4, 4, 1), (5,), (2, 2, 2), (240,))
    assert dr.resample(run, to, "linear", chunks=3).chunks[0] == (3, 3, 3)
    for chunks in ((5, 3, 120), {"y": 3, "x": 120}):
        single = dr.resample(run[0], to, "linear", chunks=chunks)
        assert single.chunks == ((5,), (3, 3), (120, 120))


def test_a_grid_that_grows_gets_shorter_chunks() -> None:
    array = da.zeros((100, 50, 50, 50), dtype="i2", chunks=(100, 50, 50, 50))
    image = dr.make_image(array, dr.Grid.make((50, 50, 50), images.STRAIGHT))
    to = dr.Grid.make((100, 100, 100), np.diag([1.0, 1, 1, 1]))
    out = dr.resample(image, to).data
    assert max(out.chunks[0]) * 8 * to.size <= 32 << 20


def test_chunks_do_not_wait_in_memory_for_the_limits() -> None:
    """The second reading has tasks of its own."""
    reads: list[int] = []

    def read(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        reads.append(block_info[None]["chunk-location"][0])
        return block + np.float32(1)

    frames = da.zeros((40, 5, 6, 70), dtype="f4", chunks=(1, 5, 6, 35))
    array = frames.map_blocks(read, dtype="f4", meta=np.empty((0,) * 4, "f4"))
    image = dr.make_image(array, grid(images.STRAIGHT, LONG))
    to = grid(np.diag([3.0, 2, 2, 1]), (46, 6, 5))
    peak = 0

    def watch(key: Any, result: Any, dsk: Any, state: Any, worker: Any) -> None:
        nonlocal peak
        held = (v for v in state["cache"].values() if isinstance(v, np.ndarray))
        peak = max(peak, sum(v.nbytes for v in held))

    for interpolation, clip, times in (
        ("continuous", True, 2),
        ("continuous", False, 1),
        ("linear", True, 1),
        ("nearest", True, 1),
    ):
        for form, chunks in (
            (image, "auto"),
            (image, {"x": 40}),
            (image, {"x": 10}),
            (image.isel(z=slice(1, None)), {"x": 40}),
            (image.chunk({"x": 70}), "auto"),
        ):
            reads.clear()
            peak = 0
            out = dr.resample(form, to, interpolation, clip=clip, chunks=chunks)
            total = out.sum(("z", "y", "x"))
            with Callback(posttask=watch):
                total.compute()
            assert len(reads) == times * 80
            assert peak < 0.1 * array.nbytes


def test_persisted_images() -> None:
    run = dr.open_image(images.run(np.random.default_rng(0), (*SHAPE, 9), nan=0.1), chunks=2)
    to = grid(*TARGETS["finer"])
    for form in (run, run.chunk({"x": 4}), run * 1):
        expected = dr.resample(form, to).compute()
        kept = form.persist()
        xr.testing.assert_identical(dr.resample(kept, to).compute(), expected)
        xr.testing.assert_identical(dr.resample(kept + 0, to).compute(), expected)


# ---------------------------------------------------------------- smooth


@given(
    affine=st.sampled_from(sorted(AFFINES)),
    fwhm=st.sampled_from([1, 6.0, 30, "fast", (4, 0, 9.5), [2, None, 3], np.float32(5)]),
    dtype=st.sampled_from(DTYPES),
    nan=st.sampled_from([0.0, 0.1]),
    shape=st.sampled_from([SHAPE, (*SHAPE, 1), (*SHAPE, 3), (8, 8, 1, 2), (1, 1, 5, 2)]),
    seed=st.integers(0, 9),
)
@settings(max_examples=100)
def test_smooth_is_nilearns(affine, fwhm, dtype, nan, shape, seed) -> None:
    rng = np.random.default_rng(seed)
    image = images.run(rng, shape, dtype, AFFINES[affine], nan=nan)
    found = dr.smooth(image, fwhm)
    values = found.values
    assert values.dtype == found.dtype == (np.float32 if "f4" in dtype else np.float64)
    close(values, nilearns_smoothed(image, fwhm), 1e-7 if "f4" in dtype else 1e-12)


@given(
    fwhm=st.sampled_from([1, 4.0, 12, 40, "fast", (4, 0, 9.5)]),
    dtype=st.sampled_from(["f4", "f8", "i2"]),
    shape=st.sampled_from([(16, 11, 9, 3), (8, 8, 1, 3), (3, 2, 16, 3), (40, 5, 4, 3)]),
    cuts=st.data(),
)
@settings(max_examples=60)
def test_smooth_any_chunking(fwhm, dtype, shape, cuts) -> None:
    run = dr.open_image(images.run(np.random.default_rng(1), shape, dtype, nan=0.02))
    expected = dr.smooth(run, fwhm)
    chunks = {d: cuts.draw(splits(n)) for d, n in run.sizes.items()}
    found = dr.smooth(run.chunk(chunks), fwhm)
    close(found.values, expected.values, 1e-7 if dtype == "f4" else 1e-12)
    close(dr.smooth(run[0].chunk({d: chunks[d] for d in "zyx"}), fwhm), expected[0].values, 1e-7)


def test_nothing_to_smooth_is_the_image_itself() -> None:
    run = dr.open_image(images.run(np.random.default_rng(0)))
    xr.testing.assert_identical(dr.smooth(run, None), run)
    with pytest.warns(DaskroiWarning, match="fwhm=0"):
        xr.testing.assert_identical(dr.smooth(run, 0), run)


# ---------------------------------------------------------------- both

OPERATIONS = {
    "smooth": lambda image: dr.smooth(image, 6),
    "fast": lambda image: dr.smooth(image, "fast"),
    **{
        f"{interpolation} {target}": lambda image, i=interpolation, t=target: dr.resample(
            image, grid(*TARGETS[t]), i
        )
        for interpolation in ORDERS
        for target in ("finer", "turned")
    },
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_building_computes_nothing(
    operation: str, ending: str, tmp_path: Path, no_compute: None
) -> None:
    path = images.save(images.run(np.random.default_rng(0), (*SHAPE, 9)), tmp_path / f"r{ending}")
    for image in (path, dr.open_image(path, chunks=(4, 3, 7, 5)) * 2):
        out = OPERATIONS[operation](image)
        assert out.sizes["time"] == 9
        assert str(out)
        # no voxels in the graph either
        assert len(pickle.dumps(dict(out.__dask_graph__()))) < 4_000_000


@pytest.mark.parametrize("operation", OPERATIONS)
def test_names_are_deterministic(operation: str, tmp_path: Path) -> None:
    path = images.save(images.run(np.random.default_rng(0), (*SHAPE, 9)), tmp_path / "run.nii")
    for chunks in ("auto", (4, 3, 7, 5)):
        graphs = [
            set(dict(OPERATIONS[operation](dr.open_image(path, chunks)).__dask_graph__()))
            for _ in range(2)
        ]
        assert graphs[0] == graphs[1]


def test_every_option_is_in_the_key() -> None:
    run = dr.open_image(images.run(np.random.default_rng(0), (*SHAPE, 4), nan=0.1))
    affine, shape = TARGETS["finer"]
    near = affine + np.eye(4) * [[1e-3]] * 4 * [[1], [1], [1], [0]]
    to = grid(affine, shape)
    made = [
        *(dr.smooth(run, f) for f in (None, 5, 5.001, (5, 5, 4), (5, 4, 5), "fast")),
        *(dr.resample(run, to, i) for i in ORDERS),
        dr.resample(run, to, clip=False),
        *(dr.resample(run, grid(near, shape), i) for i in ORDERS),
        dr.resample(run, grid(affine, (11, 9, 9))),
        dr.resample(run, to, chunks=1),
    ]
    names = [image.data.name for image in made]
    assert len(set(names)) == len(names)
    # computed in one go, none takes another's blocks
    for alone, together in zip(
        [image.compute() for image in made], dask.compute(*made), strict=True
    ):
        xr.testing.assert_identical(alone, together)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_graph_size(operation: str) -> None:
    run = dr.open_image(images.run(np.random.default_rng(0), (60, 60, 12, 24)), chunks=1)
    whole = OPERATIONS[operation](run)
    # reading, limits twice over a tree, reading again, the work
    assert len(dict(whole.__dask_graph__())) <= 8 * 24 + 20
    cut = run.chunk({"time": 6, "x": 30, "y": 30})
    read = len(dict(cut.__dask_graph__()))
    out = OPERATIONS[operation](cut)
    blocks = max(out.data.npartitions, cut.data.npartitions)
    assert len(dict(out.__dask_graph__())) <= 2 * read + 40 * blocks + 20


@pytest.mark.parametrize("operation", OPERATIONS)
def test_coordinates_are_kept(operation: str) -> None:
    run = dr.open_image(images.run(np.random.default_rng(0), (*SHAPE, 9), t_r=1.5), name="bold")
    run = run.assign_attrs(source="here").assign_coords(label=("time", list("abcdefghi")))
    part = run.isel(time=slice(2, None, 3)).transpose("x", "time", "z", "y")
    out = OPERATIONS[operation](part)
    assert out.dims == ("time", "z", "y", "x")
    assert out.name == "bold"
    assert out.attrs["source"] == "here"
    xr.testing.assert_identical(out.time.variable, part.time.variable)
    assert out.label.values.tolist() == list("cfi")
    if "smooth" in operation:
        assert dr.grid_of(out) == dr.grid_of(part)
    single = OPERATIONS[operation](run[3])
    assert single.dims == ("z", "y", "x")
    assert float(single.time) == 4.5
    np.testing.assert_array_equal(single.values, OPERATIONS[operation](run).values[3])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_images_in_memory(operation: str) -> None:
    values = np.random.default_rng(0).standard_normal((3, *SHAPE[::-1]))
    eager = dr.make_image(values, grid(images.STRAIGHT, SHAPE))
    before = values.copy()
    lazy = dr.make_image(da.from_array(values), grid(images.STRAIGHT, SHAPE))
    xr.testing.assert_identical(
        OPERATIONS[operation](eager).compute(), OPERATIONS[operation](lazy).compute()
    )
    np.testing.assert_array_equal(values, before)


def test_masks_and_small_floats() -> None:
    values = np.random.default_rng(0).random(SHAPE[::-1]) > 0.5
    mask = dr.make_image(values, grid(images.STRAIGHT, SHAPE))
    to = grid(*TARGETS["finer"])
    assert dr.resample(mask, to, "nearest").values.dtype == bool
    halves = mask.astype("f2")
    for interpolation in ORDERS:
        expected = dr.resample(mask.astype("f8"), to, interpolation).values
        for form in (mask, halves):
            np.testing.assert_array_equal(dr.resample(form, to, interpolation), expected)
    np.testing.assert_array_equal(dr.smooth(mask, 5), dr.smooth(mask.astype("f8"), 5))


@pytest.mark.parametrize("kind", ["grid", "atlas", "path", "nibabel", "DataArray"])
def test_targets(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    affine, shape = TARGETS["turned"]
    image = images.labels(rng, shape, affine=affine)
    target = {
        "grid": grid(affine, shape),
        "atlas": dr.load_atlas(image),
        "path": images.save(image, tmp_path / "atlas.nii.gz"),
        "nibabel": image,
        "DataArray": dr.open_image(image).assign_coords(grid="not a grid"),
    }[kind]
    out = dr.resample(images.run(rng, (*SHAPE, 2)), target)
    assert dr.grid_of(out).same_as(grid(affine, shape))


def test_the_same_grid_is_the_image_itself() -> None:
    run = dr.open_image(images.run(np.random.default_rng(0), (*SHAPE, 2), nan=0.1))
    near = images.STRAIGHT.copy()
    near[0, 3] += 1e-9
    xr.testing.assert_identical(dr.resample(run, grid(near, SHAPE)), run)


def test_mistakes() -> None:
    run = images.run(np.random.default_rng(0), (*SHAPE, 2))
    far = images.STRAIGHT.copy()
    far[:3, 3] = 500
    turned = images.OBLIQUE.copy()
    turned[:3, 3] = 500
    for affine in (far, turned):
        for interpolation in ORDERS:
            with pytest.raises(DaskroiError, match=r"8 x 7 x 6 .*500, 500.*do not overlap\. Check"):
                dr.resample(run, grid(affine, SHAPE), interpolation)
    with pytest.raises(DaskroiError, match=r"interpolation='cubic' is not known.*'continuous'"):
        dr.resample(run, grid(far, SHAPE), "cubic")
    with pytest.raises(DaskroiError, match="clip='no' is not known"):
        dr.resample(run, grid(far, SHAPE), clip="no")  # type: ignore[arg-type]
    with pytest.raises(DaskroiError, match=r"chunks names .*'t'"):
        dr.resample(run, grid(*TARGETS["finer"]), chunks={"t": 1})
    with pytest.raises(DaskroiTypeError, match="An image is a path"):
        dr.resample(run, (3, 3, 3))
    for fwhm in (-1, (1, 2), np.nan, "slow", True):
        with pytest.raises(DaskroiError, match=r"^fwhm=.*is not a width"):
            dr.smooth(run, fwhm)


# ---------------------------------------------------------------- and extract


def nilearns_series(image: nib.Nifti1Image, atlas: nib.Nifti1Image, **options: Any) -> np.ndarray:
    from nilearn.maskers import NiftiLabelsMasker

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masker = NiftiLabelsMasker(atlas, standardize=None, **options)
        return np.asarray(masker.fit_transform(copy_of(image)))


def test_smooth_then_extract_is_nilearns_masker() -> None:
    rng = np.random.default_rng(0)
    run, atlas = images.run(rng, (*SHAPE, 6), "f8"), images.labels(rng, SHAPE)
    for fwhm in (6, 2.5):
        expected = nilearns_series(run, atlas, smoothing_fwhm=fwhm)
        for chunks in ("auto", (2, 4, 3, 5)):
            found = dr.extract(dr.smooth(dr.open_image(run, chunks), fwhm), atlas, dtype="float64")
            np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("target", TARGETS)
def test_resample_then_extract_is_nilearns_masker(target: str) -> None:
    rng = np.random.default_rng(0)
    affine, shape = TARGETS[target]
    run, atlas = images.run(rng, (*SHAPE, 6), "f8"), images.labels(rng, shape, affine=affine)
    expected = nilearns_series(run, atlas, resampling_target="labels")
    found = dr.extract(dr.resample(run, dr.load_atlas(atlas)), atlas, dtype="float64")
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
