"""Both plans on real files and arrays: the same numbers, few tasks, nothing left open."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from niftis import nifti_bytes, write

from daskroi import kernels, reduce
from daskroi.errors import DaskroiError
from daskroi.kernels import NAN_POLICIES, REDUCERS
from daskroi.lazyimage import lazy_image
from daskroi.nifti import NiftiFile
from daskroi.operators import Direct, Part
from daskroi.reduce import block_partials, dask_array, finalize, stream_partials
from daskroi.regions import RegionIndex

SHAPE = (4, 5, 6)
IDS = np.array([1, 2, 5, 9])
STRATEGIES = sorted(REDUCERS)
RNG = np.random.default_rng(0)
LABELS = RNG.choice([0, 1, 2, 5], SHAPE)  # 9 is nowhere
INDEX = RegionIndex.of_labels(LABELS, IDS)
REGIONS = Direct((Part(INDEX),))

pytestmark = pytest.mark.usefixtures("synchronous")


def values(dtype: str = "f4", n_time: int = 11) -> np.ndarray:
    """(time, z, y, x)."""
    out = 100 + 10 * RNG.standard_normal((n_time, *SHAPE))
    if np.dtype(dtype).kind == "f":
        out[RNG.random(out.shape) < 0.03] = np.nan
    return out.astype(dtype)


def whole(array: np.ndarray, strategy: str, policy: str = "zero", **scale: float) -> np.ndarray:
    return kernels.partial(array, INDEX, REDUCERS[strategy], policy, **scale)


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=8)
@given(
    chunks=st.tuples(st.integers(3, 11), *[st.integers(2, 6)] * 3),
    policy=st.sampled_from(NAN_POLICIES),
    dtype=st.sampled_from(["f4", "i2", ">f8"]),
)
def test_blocks_of_any_chunking(
    strategy: str, chunks: tuple[int, ...], policy: str, dtype: str
) -> None:
    array = values(dtype)
    lazy = block_partials(da.from_array(array, chunks), REGIONS, strategy, policy)
    expected = whole(array, strategy, policy)
    assert lazy.shape == expected.shape
    assert lazy.dtype == np.float64
    found = lazy.compute()
    results = [kernels.finalize(REDUCERS[strategy], p) for p in (found, expected)]
    np.testing.assert_allclose(*results, rtol=1e-12)
    np.testing.assert_array_equal(found[:, -2:], expected[:, -2:])
    ready = finalize(lazy, strategy)
    assert ready.shape == (11, 4)
    np.testing.assert_array_equal(ready.compute(), results[0])


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("dtype", ["i2", ">i2", "f4"])
def test_both_plans_bit_for_bit(tmp_path: Path, strategy: str, name: str, dtype: str) -> None:
    stored = values(dtype)
    scale = {"scl_slope": 2.5, "scl_inter": -3.0}
    content = nifti_bytes(stored.T, endian="<>"[dtype[0] == ">"], **scale)
    file = NiftiFile.open(write(tmp_path / name, content))
    during = (2.5, -3.0) if dtype == "f4" else (1.0, 0.0)
    expected = whole(
        stored, strategy, **dict(zip(("slope", "inter"), (2.5, -3.0), strict=True))
    )  # the kernel itself leaves integers as stored
    for slab_frames in (None, 1, 4, 11, 100):
        found = stream_partials(file, REGIONS, strategy, "zero", slab_frames)
        assert found.shape == expected.shape
        assert found.compute().tobytes() == expected.tobytes()
    for frames in (1, 3, 11):
        array = lazy_image(file, frames, stored=True).data
        found = block_partials(array, REGIONS, strategy, "zero", during)
        assert found.compute().tobytes() == expected.tobytes()


def test_finalize_scales() -> None:
    array = values("i2")
    partials = block_partials(da.from_array(array, 4), REGIONS, "sum", "zero")
    found = finalize(partials, "sum", (2.0, 1.0)).compute()
    for r, label in enumerate(IDS):
        inside = 2.0 * array[:, label == LABELS] + 1
        expected = inside.sum(axis=1) if inside.size else np.full(11, np.nan)
        np.testing.assert_allclose(found[:, r], expected, rtol=1e-12)


def test_a_median_gets_whole_regions_in_bounded_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    array = values("f4")
    monkeypatch.setattr(reduce, "CHUNK_BYTES", 3 * array[0].nbytes)
    seen = []
    inner = kernels.partial
    monkeypatch.setattr(
        kernels, "partial", lambda slab, *a: seen.append(slab.shape) or inner(slab, *a)
    )
    lazy = block_partials(da.from_array(array, (11, 2, 3, 6)), REGIONS, "median", "zero")
    assert lazy.compute().tobytes() == inner(array, INDEX, REDUCERS["median"]).tobytes()
    assert all(shape[1:] == SHAPE and shape[0] <= 3 for shape in seen)
    # a short chunk at the end does not make all others as short
    seen.clear()
    short = da.from_array(array, ((5, 5, 1), 2, 3, 6))
    block_partials(short, REGIONS, "median", "zero").compute()
    assert sorted(shape[0] for shape in seen) == [1, 2, 2, 3, 3]


def test_the_index_is_one_key_whatever_the_regions() -> None:
    tasks = []
    array = da.zeros((100, *SHAPE), chunks=(5, 2, 5, 6))
    for n in (1, 100):
        index = RegionIndex.of_labels(np.arange(120).reshape(SHAPE) % n + 1, np.arange(n) + 1)
        graph = dict(block_partials(array, Direct((Part(index),)), "mean", "zero").__dask_graph__())
        assert len([k for k in graph if str(k).startswith("operator-")]) == 1
        tasks.append(len(graph))
    assert tasks[0] == tasks[1]
    assert tasks[0] <= 6 * 40


def test_different_options_have_different_names(tmp_path: Path) -> None:
    file = NiftiFile.open(write(tmp_path / "x.nii", nifti_bytes(values("f4").T)))
    array = da.zeros((10, *SHAPE), chunks=(5, 2, 5, 6))
    other = Direct((Part(RegionIndex.of_labels(LABELS, IDS[:2])),))
    names = [
        block_partials(array, index, strategy, policy, scale).name
        for index in (REGIONS, other)
        for strategy in STRATEGIES
        for policy in NAN_POLICIES
        for scale in ((1.0, 0.0), (2.0, 0.0), (1.0, 1.0))
    ]
    names += [
        stream_partials(file, index, strategy, policy, slab_frames).name
        for index in (REGIONS, other)
        for strategy in STRATEGIES
        for policy in NAN_POLICIES
        for slab_frames in (None, 3)
    ]
    assert len(set(names)) == len(names)
    again = block_partials(array, REGIONS, "mean", "zero").name
    assert again == block_partials(array, REGIONS, "mean", "zero").name


def test_a_stream_is_one_task(tmp_path: Path) -> None:
    file = NiftiFile.open(write(tmp_path / "x.nii.gz", nifti_bytes(values("f4").T)))
    graph = stream_partials(file, REGIONS, "mean", "zero").__dask_graph__()
    assert len(dict(graph)) <= 3


def test_nothing_stays_open_when_a_stream_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = NiftiFile.open(write(tmp_path / "x.nii.gz", nifti_bytes(values("f4").T)))
    monkeypatch.setattr(kernels, "partial", lambda *_: 1 / 0)
    lazy = stream_partials(file, REGIONS, "mean", "zero", 2)
    with pytest.raises(ZeroDivisionError) as kept:  # with its traceback, hence its frames
        lazy.compute()
    assert kept.value.__traceback__ is not None
    assert not [t for t in threading.enumerate() if t.name.startswith("daskroi-read")]
    assert file.source.url not in [f.path for f in psutil.Process().open_files()]


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_damaged_file_fails_as_a_whole(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, nifti_bytes(values("f4").T))
    file = NiftiFile.open(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DaskroiError, match="changed after it was opened"):
        stream_partials(file, REGIONS, "mean", "zero").compute()


def test_dask_array() -> None:
    array = da.zeros((3, 4))
    assert dask_array(array) is array
    assert isinstance(dask_array(np.zeros((3, 4))), da.Array)


def test_threads_share_one_index() -> None:
    array = values("f4", 60)
    with dask.config.set(scheduler="threads", num_workers=4):
        found: Any = block_partials(da.from_array(array, (1, 2, 2, 3)), REGIONS, "mean", "omit")
        np.testing.assert_allclose(found.compute(), whole(array, "mean", "omit"), rtol=1e-12)
