"""The same numbers from both plans, any slab length and any chunking, space included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import images
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import daskroi as dr
from daskroi.kernels import REDUCERS
from daskroi.openimage import as_file
from daskroi.operators import Direct, Part
from daskroi.reduce import finalize, stream_partials
from daskroi.regions import RegionIndex

SHAPE = (7, 8, 6, 11)  # x, y, z, time


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("run")
    image = images.run(rng, SHAPE, "f4", nan=0.02)
    labels = images.labels(rng, SHAPE[:3])
    return {
        "nii": images.save(image, folder / "run.nii"),
        "gz": images.save(image, folder / "run.nii.gz"),
        "atlas": dr.load_atlas(labels),
    }


def splits(n: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Any way of cutting n into consecutive chunks."""
    # few cuts: 4 dims of 3 chunks are 81 tasks already
    return st.sets(st.integers(1, n - 1), max_size=2).map(
        lambda cuts: tuple(np.diff([0, *sorted(cuts), n]).tolist())
    )


@pytest.mark.parametrize("source", ["nii", "gz"])
@pytest.mark.parametrize("strategy", REDUCERS)
@given(
    chunks=st.tuples(splits(11), splits(6), splits(8), splits(7)),
    policy=st.sampled_from(["zero", "omit", "propagate"]),
)
@settings(max_examples=6)
def test_any_chunking(run: dict[str, Any], source: str, strategy: str, chunks: Any, policy: str):
    options = {"strategy": strategy, "nan_policy": policy}
    expected = dr.extract(run["gz"], run["atlas"], plan="stream", **options).compute()
    image = dr.open_image(run[source], chunks=chunks)
    assert image.chunks == chunks
    for form in (image, image * 1, image.transpose("x", "z", "time", "y")):
        found = dr.extract(form, run["atlas"], plan="blocks", **options).compute()
        # float32 results: a difference of 1e-12 may still round differently
        xr.testing.assert_allclose(found, expected, rtol=1e-6)


@given(chunks=st.tuples(splits(11), splits(6), splits(8), splits(7)))
@settings(max_examples=25)
@pytest.mark.parametrize("strategy", ["mean", "variance"])
def test_chunks_of_space_agree_to_1e_12(run: dict[str, Any], strategy: str, chunks: Any) -> None:
    image = dr.open_image(run["nii"]).astype("f8")
    expected = dr.extract(image, run["atlas"], strategy=strategy).compute()
    cut = image.chunk(dict(zip(image.dims, chunks, strict=True)))
    found = dr.extract(cut, run["atlas"], strategy=strategy).compute()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("strategy", REDUCERS)
def test_slabs_and_time_chunks_agree_to_the_bit(run: dict[str, Any], strategy: str) -> None:
    atlas = run["atlas"]
    regions = Direct((Part(RegionIndex.of_labels(atlas.labels, atlas.ids)),))
    file = as_file(run["gz"])
    assert file is not None
    results = [
        finalize(stream_partials(file, regions, strategy, "zero", frames), strategy).compute()
        for frames in (1, 2, 3, 11, 50)
    ]
    for chunks in (1, 4, 11):
        ts = dr.extract(run["nii"], atlas, strategy=strategy, chunks=chunks, dtype="float64")
        results.append(ts.values)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_parts_of_a_run(run: dict[str, Any]) -> None:
    """Slices, strides and flips of an image are images."""
    whole = dr.extract(run["nii"], run["atlas"]).compute()
    image = dr.open_image(run["gz"])
    part = dr.extract(image.isel(time=slice(3, None, 2)), run["atlas"]).compute()
    # coverage is of the worst frame, and the part has fewer
    expected = whole.isel(time=slice(3, None, 2)).drop_vars("coverage")
    xr.testing.assert_equal(part.drop_vars("coverage"), expected)
    np.testing.assert_array_equal(part.time, [6.0, 10.0, 14.0, 18.0])
    flipped = dr.extract(image.isel(x=slice(None, None, -1)), run["atlas"]).compute()
    xr.testing.assert_allclose(flipped, whole, rtol=1e-6)


def test_two_plans_on_the_real_run(real_run: Path, harvard_oxford: Path) -> None:
    stream = dr.extract(real_run, harvard_oxford, plan="stream").compute()
    blocks = dr.extract(real_run, harvard_oxford, plan="blocks", chunks=(40, 61, 73, 30)).compute()
    np.testing.assert_allclose(stream, blocks, rtol=1e-12)
