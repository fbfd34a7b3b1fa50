"""Reducers against themselves: no bit depends on slabs of time, blocks of space combine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelcases import IDS, STRATEGIES, image, label_volume, seeds

from daskroi.kernels import NAN_POLICIES, REDUCERS, RegionIndex, combine, finalize, partial

pytestmark = pytest.mark.filterwarnings("error")


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
