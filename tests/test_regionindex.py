"""The index of regions' voxels against brute force."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from dask.tokenize import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelcases import IDS, STRATEGIES, image, label_volume, run, seeds

from daskroi.kernels import RegionIndex

pytestmark = pytest.mark.filterwarnings("error")


@st.composite
def atlases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    rng = np.random.default_rng(draw(seeds))
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    ids = np.array(sorted(draw(st.sets(st.integers(-5, 12), max_size=8))), dtype=np.int64)
    kind = draw(st.sampled_from(["i1", "i2", "i4", "i8"]))
    labels = rng.integers(-5, 13, shape).astype(kind)
    return labels, ids, (rng.random(shape) < 0.5 if draw(st.booleans()) else None)


def members(index: RegionIndex) -> list[list[int]]:
    return [
        index.voxels[a:b].tolist() for a, b in zip(index.bounds, index.bounds[1:], strict=False)
    ]


@settings(max_examples=100)
@given(atlases())
def test_of_labels_is_brute_force(atlas: tuple[np.ndarray, np.ndarray, np.ndarray | None]) -> None:
    labels, ids, mask = atlas
    index = RegionIndex.of_labels(labels, ids, mask)
    inside = np.ones(labels.shape, bool) if mask is None else mask
    expected = [np.flatnonzero((labels == i) & inside).tolist() for i in ids]
    assert members(index) == expected
    assert index.n_regions == len(ids)
    assert index.counts.tolist() == [len(e) for e in expected]
    assert index.shape == labels.shape


@settings(max_examples=60)
@given(atlases(), st.data())
def test_within_is_brute_force(
    atlas: tuple[np.ndarray, np.ndarray, np.ndarray | None], data: st.DataObject
) -> None:
    labels, ids, mask = atlas
    box = []
    for n in labels.shape:
        lo = data.draw(st.integers(0, n - 1))
        box.append((lo, data.draw(st.integers(lo + 1, n))))
    cut = tuple(slice(*b) for b in box)
    found = RegionIndex.of_labels(labels, ids, mask).within(tuple(box))
    expected = RegionIndex.of_labels(labels[cut], ids, None if mask is None else mask[cut])
    assert members(found) == members(expected)
    assert found.shape == expected.shape
    assert found.token == expected.token


def test_within_everything_is_itself() -> None:
    index = RegionIndex.of_labels(np.ones((2, 3, 4), int), np.array([1]))
    assert index.within(((0, 2), (0, 3), (0, 4))) is index


def test_concat() -> None:
    rng = np.random.default_rng(0)
    volumes = [label_volume(rng, (4, 5, 6)) for _ in range(3)]
    parts = [
        RegionIndex.of_labels(v, ids)
        for v, ids in zip(volumes, (IDS, np.array([5000]), IDS[:2]), strict=True)
    ]
    found = RegionIndex.concat(parts)
    assert members(found) == [m for p in parts for m in members(p)]
    assert RegionIndex.concat(parts[:1]) is parts[0]
    slab = image(rng, (3, 4, 5, 6), "f4")
    for strategy in STRATEGIES:
        together = run(slab, found, strategy)
        alone = np.concatenate([run(slab, p, strategy) for p in parts], axis=1)
        np.testing.assert_array_equal(together, alone)


def test_many_regions() -> None:
    n = 2**15 + 100  # more than the int16 sort keys hold
    labels = np.arange(n).reshape(2, 2, -1) + 1
    index = RegionIndex.of_labels(labels, np.arange(n) + 1)
    assert index.voxels.tolist() == list(range(n))
    assert (index.counts == 1).all()


def test_labels_at_the_limits() -> None:
    ids = np.array([np.iinfo("i4").min, -1, np.iinfo("i4").max])
    labels = ids.astype("i4").reshape(1, 1, 3)
    assert members(RegionIndex.of_labels(labels, ids)) == [[0], [1], [2]]


def test_memory_order_of_labels_and_image_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    labels = label_volume(rng, (4, 5, 6))
    mask = rng.random((4, 5, 6)) < 0.5
    slab = image(rng, (3, 4, 5, 6), "f4")
    index = RegionIndex.of_labels(labels, IDS, mask)
    other = RegionIndex.of_labels(np.asfortranarray(labels), IDS, np.asfortranarray(mask))
    assert other.token == index.token
    np.testing.assert_array_equal(
        run(np.asfortranarray(slab), index, "mean"), run(slab, index, "mean")
    )


def test_token() -> None:
    labels = np.array([[[1, 2, 2]]])
    index = RegionIndex.of_labels(labels, np.array([1, 2]))
    assert tokenize(index) == tokenize(RegionIndex.of_labels(labels.copy(), np.array([1, 2])))
    assert tokenize(index) == tokenize(pickle.loads(pickle.dumps(index)))
    others = [
        RegionIndex.of_labels(labels, np.array([1])),
        RegionIndex.of_labels(labels, np.array([1, 2, 3])),
        RegionIndex.of_labels(labels[..., ::-1], np.array([1, 2])),
        RegionIndex.of_labels(labels.reshape(1, 3, 1), np.array([1, 2])),
    ]
    assert len({tokenize(i) for i in [index, *others]}) == 5


def test_no_regions_and_no_voxels() -> None:
    slab = np.ones((2, 1, 1, 3), "f4")
    nothing = RegionIndex.of_labels(np.zeros((1, 1, 3), int), np.array([], int))
    empty = RegionIndex.of_labels(np.zeros((1, 1, 3), int), np.array([1, 2]))
    for strategy in STRATEGIES:
        assert run(slab, nothing, strategy).shape == (2, 0)
        assert np.isnan(run(slab, empty, strategy)).all()
