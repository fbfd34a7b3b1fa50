"""Reducers against scipy.ndimage and plain NumPy, and against themselves under any splitting."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from dask.tokenize import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from daskroi.kernels import (
    NAN_POLICIES,
    REDUCERS,
    RegionIndex,
    combine,
    finalize,
    partial,
)

pytestmark = pytest.mark.filterwarnings("error")

STRATEGIES = sorted(REDUCERS)
IDS = np.array([-3, 1, 2, 7, 40, 41])  # gaps and a negative id
SCIPYS = {
    "mean": ndimage.mean,
    "median": ndimage.median,
    "sum": ndimage.sum_labels,
    "minimum": ndimage.minimum,
    "maximum": ndimage.maximum,
    "standard_deviation": ndimage.standard_deviation,
    "variance": ndimage.variance,
}
NUMPYS: dict[str, Any] = {
    "mean": np.mean,
    "median": np.median,
    "sum": np.sum,
    "minimum": np.min,
    "maximum": np.max,
    "standard_deviation": np.std,
    "variance": np.var,
}
MIRRORED = {"minimum": "maximum", "maximum": "minimum"}
DTYPES = [
    "u1",
    "i1",
    "i2",
    ">i2",
    "u2",
    "i4",
    ">i4",
    "u4",
    "i8",
    "u8",
    "f4",
    ">f4",
    "f8",
    ">f8",
    "?",
]


def label_volume(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Region 40 has one voxel, 41 none, 9 is in no table, 0 is background."""
    labels = rng.choice([0, 9, -3, 1, 2, 7], shape)
    labels.flat[rng.integers(labels.size)] = 40
    return labels


def image(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: str, holes: float = 0.0
) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        values = (100 * rng.standard_normal(shape)).astype(kind)
        where = rng.random(shape) < holes
        values[where] = rng.choice([np.nan, np.inf, -np.inf], where.sum())
        return values
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    limits = np.iinfo(kind)
    low, high = (limits.min, limits.max) if rng.random() < 0.5 else (0, 100)
    # byte order is a matter of the type, not of the values
    native = rng.integers(low, high, shape, dtype=kind.newbyteorder("="), endpoint=True)
    return native.astype(kind)


def run(
    slab: np.ndarray,
    index: RegionIndex,
    strategy: str,
    policy: str = "zero",
    slope: float = 1.0,
    inter: float = 0.0,
) -> np.ndarray:
    """Partial and finalize as `extract` calls them: integers are scaled at the end."""
    integer = slab.dtype.kind != "f"
    during, after = ((1.0, 0.0), (slope, inter))[:: 1 if integer else -1]
    if after[0] < 0:
        strategy = MIRRORED.get(strategy, strategy)
    reducer = REDUCERS[strategy]
    return finalize(reducer, partial(slab, index, reducer, policy, *during), after)


def reference(
    slab: np.ndarray, labels: np.ndarray, strategy: str, policy: str, slope: float, inter: float
) -> np.ndarray:
    physical = slab.astype("f8") * slope + inter
    out = np.full((len(slab), len(IDS)), np.nan)
    for t, frame in enumerate(physical):
        for r, label in enumerate(IDS):
            values = frame[labels == label]
            if policy == "zero":
                values = np.where(np.isfinite(values), values, 0)
            elif policy == "omit":
                values = values[np.isfinite(values)]
            if values.size:
                with np.errstate(invalid="ignore"):
                    out[t, r] = NUMPYS[strategy](values)
    return out


seeds = st.integers(0, 2**32)


# against others


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=30)
@given(seed=seeds, dtype=st.sampled_from(DTYPES))
@pytest.mark.filterwarnings("ignore::RuntimeWarning:scipy")  # its means of no voxels
def test_is_scipys(strategy: str, seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    labels = label_volume(rng, (4, 5, 6))
    slab = image(rng, (3, 4, 5, 6), dtype)
    index = RegionIndex.of_labels(labels, IDS)
    found = run(slab, index, strategy)
    for t, frame in enumerate(slab.astype(slab.dtype.newbyteorder("="))):
        wide = frame.astype("f8")  # scipy sums in the image's type
        for r, label in enumerate(IDS):
            if not (labels == label).any():
                assert np.isnan(found[t, r])
                continue
            expected = SCIPYS[strategy](wide, labels, label)
            scale = np.abs(wide).max() ** (2 if strategy == "variance" else 1)
            np.testing.assert_allclose(found[t, r], expected, rtol=1e-11, atol=1e-13 * scale)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("policy", NAN_POLICIES)
@settings(max_examples=30)
@given(
    seed=seeds,
    dtype=st.sampled_from(["i2", "u1", ">i4", "f4", ">f4", "f8"]),
    slope=st.sampled_from([1.0, 2.5, -0.3, 0.001]),
    inter=st.sampled_from([0.0, -7.0, 1000.0]),
    holes=st.sampled_from([0.0, 0.01, 0.2, 0.95]),
)
def test_policies_and_scaling(
    strategy: str, policy: str, seed: int, dtype: str, slope: float, inter: float, holes: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = label_volume(rng, (4, 5, 6))
    slab = image(rng, (3, 4, 5, 6), dtype, holes)
    found = run(slab, RegionIndex.of_labels(labels, IDS), strategy, policy, slope, inter)
    expected = reference(slab, labels, strategy, policy, slope, inter)
    scale = np.nanmax(np.abs(slab.astype("f8")), initial=0, where=np.isfinite(slab.astype("f8")))
    scale = (scale * abs(slope) + abs(inter)) ** (2 if strategy == "variance" else 1)
    if slab.dtype.kind != "f" and strategy in ("variance", "standard_deviation"):
        scale *= 100  # the reference loses digits to the intercept, we do not
    # sqrt(eps) where the deviation is only what rounding leaves of a constant
    loose = strategy == "standard_deviation"
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=(1e-8 if loose else 1e-13) * scale)


def test_zero_is_a_physical_zero() -> None:
    slab = np.array([[[[np.nan, 2.0]]]], "f4")
    index = RegionIndex.of_labels(np.array([[[1, 1]]]), np.array([1]))
    assert run(slab, index, "mean", "zero", 2.0, 100.0) == 52.0
    assert run(slab, index, "mean", "omit", 2.0, 100.0) == 104.0
    assert np.isnan(run(slab, index, "mean", "propagate", 2.0, 100.0))


def test_scaled_float32_is_computed_in_double() -> None:
    slab = np.full((1, 1, 1, 1), 16_777_217, "f4")
    index = RegionIndex.of_labels(np.ones((1, 1, 1), int), np.array([1]))
    assert run(slab, index, "mean", "zero", 1.0, 1.0) == 16_777_217.0  # float32 would lose the 1


@pytest.mark.parametrize("policy", NAN_POLICIES)
def test_last_fields_count_voxels_used_and_finite(policy: str) -> None:
    rng = np.random.default_rng(3)
    labels = label_volume(rng, (4, 5, 6))
    slab = image(rng, (5, 4, 5, 6), "f4", 0.3)
    slab[2] = 1  # a frame without holes
    found = partial(slab, RegionIndex.of_labels(labels, IDS), REDUCERS["mean"], policy)
    finite = np.array([[np.isfinite(f[labels == i]).sum() for i in IDS] for f in slab])
    there = np.broadcast_to([(labels == i).sum() for i in IDS], finite.shape)
    np.testing.assert_array_equal(found[:, -1], finite)
    np.testing.assert_array_equal(found[:, -2], finite if policy == "omit" else there)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_region_without_finite_voxels(strategy: str) -> None:
    labels = np.array([[[1, 1, 2]]])
    slab = np.array([[[[np.nan, np.inf, 5]]]], "f8")
    index = RegionIndex.of_labels(labels, np.array([1, 2]))
    one = 0.0 if strategy in ("variance", "standard_deviation") else 5.0
    np.testing.assert_array_equal(run(slab, index, strategy, "omit"), [[np.nan, one]])
    np.testing.assert_array_equal(run(slab, index, strategy, "zero"), [[0.0, one]])


@pytest.mark.parametrize("dtype", ["i4", "i8", "u8", "u1", ">i8"])
def test_sums_do_not_overflow(dtype: str) -> None:
    high = np.iinfo(dtype).max
    slab = np.full((2, 1, 1, 1000), high, dtype)
    index = RegionIndex.of_labels(np.ones((1, 1, 1000), int), np.array([1]))
    np.testing.assert_allclose(run(slab, index, "sum"), 1000.0 * high, rtol=1e-14)
    np.testing.assert_allclose(run(slab, index, "mean"), float(high), rtol=1e-14)
    np.testing.assert_array_equal(run(slab, index, "median"), float(high))
    np.testing.assert_allclose(run(slab, index, "variance"), 0.0, atol=(1e-14 * high) ** 2)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_small_variance_on_a_large_mean(dtype: str) -> None:
    rng = np.random.default_rng(1)
    slab = (1e4 + 1e-2 * rng.standard_normal((3, 10, 20, 30))).astype(dtype)
    index = RegionIndex.of_labels(np.ones((10, 20, 30), int), np.array([1]))
    exact = slab.reshape(3, -1).astype(np.longdouble).var(axis=1)
    # mean of squares minus square of the mean would be 1e-8 off in double, useless in float
    np.testing.assert_allclose(run(slab, index, "variance")[:, 0], exact.astype("f8"), rtol=1e-12)
    halves = [RegionIndex.of_labels(np.ones((5, 20, 30), int), np.array([1]))] * 2
    reducer = REDUCERS["variance"]
    parts = [partial(slab[:, a : a + 5], i, reducer) for a, i in zip((0, 5), halves, strict=True)]
    found = finalize(reducer, combine(reducer, np.stack(parts)))
    # the two means are rounded to 1e-12: that is 1e-10 of what lies between them
    np.testing.assert_allclose(found[:, 0], exact.astype("f8"), rtol=1e-10)


def test_float32_sums_in_double() -> None:
    slab = np.full((1, 1, 1, 2**21), 16_777_216, "f4")
    slab[..., 1::2] = 1
    index = RegionIndex.of_labels(np.ones((1, 1, 2**21), int), np.array([1]))
    assert run(slab, index, "sum") == 2**20 * (16_777_216 + 1)


# splitting


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=30)
@given(
    seed=seeds,
    dtype=st.sampled_from(["i2", "f4", ">f8", "u8"]),
    policy=st.sampled_from(NAN_POLICIES),
    holes=st.sampled_from([0.0, 0.02, 0.5]),
    cuts=st.lists(st.integers(1, 8), max_size=5),
)
def test_no_bit_depends_on_the_slab_length(
    strategy: str, seed: int, dtype: str, policy: str, holes: float, cuts: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    slab = image(rng, (9, 4, 5, 6), dtype, holes)
    slab[rng.random(9) < 0.5] = 1  # frames without holes go other ways
    index = RegionIndex.of_labels(label_volume(rng, (4, 5, 6)), IDS)
    reducer = REDUCERS[strategy]
    whole = partial(slab, index, reducer, policy)
    parts = [partial(p, index, reducer, policy) for p in np.split(slab, sorted(cuts)) if len(p)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_gathering_in_steps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 4, (60, 70, 80))
    slab = image(rng, (5, 60, 70, 80), "f4", 1e-5)
    index = RegionIndex.of_labels(labels, np.array([1, 2, 3]))
    assert 8 * len(index.voxels) * 5 > 8 << 20  # more than one step
    for strategy in STRATEGIES:
        whole = partial(slab, index, REDUCERS[strategy])
        frames = [partial(slab[t : t + 1], index, REDUCERS[strategy]) for t in range(5)]
        assert np.concatenate(frames).tobytes() == whole.tobytes()


@pytest.mark.parametrize("strategy", sorted(s for s, r in REDUCERS.items() if r.combine))
@settings(max_examples=40)
@given(
    seed=seeds,
    dtype=st.sampled_from(["i2", "f4", ">i4", "f8", "u8"]),
    policy=st.sampled_from(NAN_POLICIES),
    holes=st.sampled_from([0.0, 0.1, 0.9]),
    cuts=st.tuples(*[st.sets(st.integers(1, n - 1)) for n in (4, 5, 6)]),
)
def test_blocks_of_space_combine_to_the_whole(
    strategy: str, seed: int, dtype: str, policy: str, holes: float, cuts: Any
) -> None:
    rng = np.random.default_rng(seed)
    shape = (4, 5, 6)
    slab = image(rng, (3, *shape), dtype, holes)
    index = RegionIndex.of_labels(label_volume(rng, shape), IDS)
    reducer = REDUCERS[strategy]
    edges = [[0, *sorted(c), n] for c, n in zip(cuts, shape, strict=True)]
    boxes = [
        tuple((e[i], e[i + 1]) for e, i in zip(edges, corner, strict=True))
        for corner in np.ndindex(*(len(e) - 1 for e in edges))
    ]
    rng.shuffle(boxes)
    parts = []
    for box in boxes:
        block = slab[(slice(None), *(slice(*b) for b in box))]
        parts.append(partial(block, index.within(box), reducer, policy))
    with np.errstate(invalid="ignore"):
        found = finalize(reducer, combine(reducer, np.stack(parts)))
        whole = finalize(reducer, partial(slab, index, reducer, policy))
    finite = np.abs(slab.astype("f8"))
    scale = np.max(finite, initial=0, where=np.isfinite(finite))
    if strategy in ("variance", "standard_deviation"):
        found, whole, scale = (np.square(v) if strategy[0] == "s" else v for v in (found, whole, 0))
        scale = np.max(finite, initial=0, where=np.isfinite(finite)) ** 2
    np.testing.assert_allclose(found, whole, rtol=1e-12, atol=1e-13 * scale)


def test_a_median_cannot_be_combined() -> None:
    assert [name for name, r in REDUCERS.items() if r.combine is None] == ["median"]


# the index


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


# what it must not do


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_input_is_not_changed(strategy: str) -> None:
    rng = np.random.default_rng(0)
    slab = image(rng, (3, 4, 5, 6), "f4", 0.2)
    slab.flags.writeable = False
    index = RegionIndex.of_labels(label_volume(rng, (4, 5, 6)), IDS)
    for policy in NAN_POLICIES:
        run(slab, index, strategy, policy, 2.0, 1.0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_memory_is_bounded(strategy: str) -> None:
    slab = np.zeros((60, 40, 50, 60), "i2")
    labels = np.arange(40 * 50 * 60).reshape(40, 50, 60) % 100 + 1
    index = RegionIndex.of_labels(labels, np.arange(1, 101))
    tracemalloc.start()
    partial(slab, index, REDUCERS[strategy])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # never the 58 MB that the gathered run would take in float64
    assert peak < 40e6
