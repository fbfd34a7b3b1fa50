"""Random labels and images for tests of reducers, and reducers as `extract` calls them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from daskroi.kernels import REDUCERS, RegionIndex, finalize, partial

STRATEGIES = sorted(REDUCERS)
IDS = np.array([-3, 1, 2, 7, 40, 41])  # gaps and a negative id
MIRRORED = {"minimum": "maximum", "maximum": "minimum"}


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


seeds = st.integers(0, 2**32)
