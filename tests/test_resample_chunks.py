"""Resampling through any chunks: the same values, little read, little held in memory."""

from __future__ import annotations

from typing import Any

import dask.array as da
import images
import numpy as np
import pytest
import xarray as xr
from dask.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st
from spatialcases import SHAPE, TARGETS, close, grid, splits

import daskroi as dr
from daskroi.blockresampling import BlockResampling
from daskroi.resampling import ORDERS, Resampling

pytestmark = pytest.mark.usefixtures("synchronous")
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
