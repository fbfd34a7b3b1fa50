"""Region sums, means and variances against exact ones, of up to 10^8 voxels.

Exact by integers: voxels are whole multiples of a power of two. The long version, with a table::

    python tests/test_exact_sums.py 100000000      (2 minutes, 6 GB)
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

import daskroi as dr
from daskroi.atlas import load_atlas
from daskroi.grid import Grid
from daskroi.image import make_image
from daskroi.kernels import REDUCERS, finalize, partial
from daskroi.regions import PIECE, RegionIndex

N = 2_000_000
EPS = 2.0**-53


def offset(n: int) -> tuple[NDArray[Any], Fraction]:
    """A mean of 10^6 and a standard deviation of 1, at float32's resolution there."""
    noise = np.rint(16 * np.random.default_rng(0).standard_normal(n, np.float32))
    return 16_000_000 + noise.astype(np.int32), Fraction(1, 16)


def alternating(n: int) -> tuple[NDArray[Any], Fraction]:
    """Large values that nearly cancel."""
    found = 2**23 + np.random.default_rng(1).integers(0, 1000, n, dtype=np.int32)
    found[1::2] *= -1
    return found, Fraction(1, 1024)


def tenths(n: int) -> tuple[NDArray[Any], Fraction]:
    """The float32 nearest to 0.1, everywhere: adding up in a row always rounds the same way."""
    return np.full(n, 13_421_773, np.int32), Fraction(1, 2**27)


def falling(n: int) -> tuple[NDArray[Any], Fraction]:
    """Sizes from 2^23 to 1, the largest first: the small ones are lost on the large sum."""
    found = (2 ** np.random.default_rng(2).integers(0, 24, n)).astype(np.int32)
    found[::-1].sort()
    return found, Fraction(1)


def one_large(n: int) -> tuple[NDArray[Any], Fraction]:
    """A voxel of 2^24 among ones: in float32, none of those is added."""
    found = np.ones(n, np.int32)
    found[0] = 2**24
    return found, Fraction(1)


CASES = {case.__name__: case for case in (offset, alternating, tenths, falling, one_large)}


class Exact:
    """Voxels of a case, and what is exactly true of them."""

    def __init__(self, case: Callable[[int], tuple[NDArray[Any], Fraction]], n: int) -> None:
        whole, unit = case(n)
        total = squares = size = 0
        for start in range(0, n, 1 << 14):  # sums of squares of 2^48 in 64 bits
            part = whole[start : start + (1 << 14)].astype(np.int64)
            total += int(part.sum())
            squares += int((part**2).sum())
            size += int(np.abs(part).sum())
        self.voxels = (whole * np.float64(unit)).astype(np.float32)
        assert whole[0] * unit == Fraction(float(self.voxels[0]))
        self.shape = next(
            (n // k // j, k, j) for k, j in ((400, 500), (20, 20), (1, 1)) if n % (k * j) == 0
        )
        self.mean = Fraction(total, n) * unit
        self.sum = total * unit
        self.size = Fraction(size, n) * unit  # of the mean of magnitudes: what rounding goes by
        self.variance = (Fraction(squares, n) - Fraction(total, n) ** 2) * unit**2

    def off(self, found: Any) -> float:
        """Error of a mean, relative to the mean magnitude."""
        return float(abs(Fraction(float(found)) - self.mean) / self.size)

    def off_variance(self, found: Any) -> float:
        """Relative error of a variance; absolute where it is 0."""
        error = abs(Fraction(float(found)) - self.variance)
        return float(error / self.variance) if self.variance else float(error)


@lru_cache(maxsize=1)
def exact(name: str, n: int = N) -> Exact:
    """A case's voxels; one case in memory."""
    return Exact(CASES[name], n)


def reduced(truth: Exact, strategy: str, weights: Any = None, frames: int = 1) -> NDArray[Any]:
    """By the kernel, in one piece."""
    n = len(truth.voxels)
    index = RegionIndex(np.arange(n), np.array([0, n]), truth.shape, weights)
    slab = np.broadcast_to(truth.voxels.reshape(truth.shape), (frames, *truth.shape))
    return finalize(REDUCERS[strategy], partial(slab, index, REDUCERS[strategy]))[:, 0]


@pytest.mark.parametrize("name", CASES)
def test_float32_voxels_sum_as_exactly_as_double_can(name: str) -> None:
    truth = exact(name)
    n = len(truth.voxels)
    assert truth.off(reduced(truth, "mean")[0]) <= 4 * EPS
    assert truth.off(reduced(truth, "sum")[0] / n) <= 4 * EPS
    assert truth.off(reduced(truth, "mean", np.ones(n))[0]) <= 4 * EPS
    # weights that are no power of two: products round, and pieces are added up in a row
    assert truth.off(reduced(truth, "mean", np.full(n, 0.1))[0]) <= PIECE * EPS
    # 2 passes; a mean that is 10^6 times the deviation costs nothing
    assert truth.off_variance(reduced(truth, "variance")[0]) <= 16 * EPS
    # what float32 makes of it: the test is of something
    assert (
        truth.off(np.add.accumulate(truth.voxels)[-1] / np.float32(n)) > 1e-9
        or name == "alternating"
    )


@pytest.mark.parametrize("name", ["offset", "alternating", "falling"])
@pytest.mark.parametrize("source", ["soft", "labels"])
def test_through_chunks_of_space_and_their_tree(name: str, source: str) -> None:
    truth = exact(name, N // 2)
    grid = Grid.make(truth.shape, np.diag([2.0, 2, 2, 1]))
    image = make_image(np.broadcast_to(truth.voxels.reshape(truth.shape), (2, *truth.shape)), grid)
    chunks = {"time": 1, "z": 3, "y": 150, "x": 170}
    atlas: Any = load_atlas(make_image(np.ones(truth.shape, "i2"), grid))
    if source == "soft":
        maps = np.full((*truth.shape[::-1], 2), 0.1)
        atlas = load_atlas(nib.Nifti1Image(maps, np.array(grid.affine)))
    for strategy in ("mean", "variance") if source == "labels" else ("mean",):
        found = dr.extract(image.chunk(chunks), atlas, strategy=strategy, dtype="float64").values
        off, bound = truth.off, (PIECE if source == "soft" else 4) * EPS
        if strategy == "variance":  # means of chunks are 10^6 and differ by 0.01
            off, bound = truth.off_variance, 1e-12
        assert max(map(off, found.ravel())) <= bound


@pytest.mark.parametrize("shape", [(40, 50, 60), (7, 7, 7)])
def test_smoothing_keeps_the_mean_of_a_constant(shape: tuple[int, int, int]) -> None:
    """W is a sum of a million products; of a constant image it is the constant."""
    grid = Grid.make(shape, np.diag([2.0, 2, 2, 1]))
    atlas = load_atlas(make_image(np.ones(shape, "i2"), grid))
    image = make_image(np.full((1, *shape), 1e6 + 0.0625, "f4"), grid)
    for options in ({"smoothing_fwhm": 6}, {"smoothing_fwhm": 6, "spatial": "voxelwise"}):
        found = dr.extract(image, atlas, dtype="float64", **options).compute().item()
        assert abs(found / (1e6 + 0.0625) - 1) < 1e-9 / 4  # W's tails are cut at 1e-9


def test_doubles_against_fsum() -> None:
    """1/1 + 1/2 + ... with signs and sizes of all kinds, in float64: nothing is exact there."""
    rng = np.random.default_rng(3)
    n = 1_000_000
    values = (1 / np.arange(1, n + 1)) * rng.choice([-1, 1], n) * 10.0 ** rng.integers(-8, 8, n)
    weights = rng.random(n)
    index = RegionIndex(np.arange(n), np.array([0, n]), (1, 1, n))
    soft = RegionIndex(index.voxels, index.bounds, index.shape, weights)
    for one, terms in ((index, values), (soft, values * weights)):
        found = partial(values.reshape(1, 1, 1, n), one, REDUCERS["sum"])[0, 0, 0]
        assert abs(found - math.fsum(terms)) <= 40 * EPS * math.fsum(np.abs(terms))


def measured(name: str, n: int) -> Iterator[tuple[str, float, float, float]]:
    """Of a case: method, errors of mean and variance, seconds of the mean."""
    truth = exact(name, n)
    labels = np.ones(truth.shape, np.uint8)
    volume = truth.voxels.reshape(truth.shape)
    tenth = np.full(n, 0.1)

    def timed(method: Callable[[], Any]) -> tuple[Any, float]:
        begun = time.perf_counter()
        return method(), time.perf_counter() - begun

    for method, mean, variance in (
        ("daskroi", lambda: reduced(truth, "mean")[0], lambda: reduced(truth, "variance")[0]),
        ("daskroi, weights 0.1", lambda: reduced(truth, "mean", tenth)[0], None),
        (
            "nilearn (scipy.ndimage)",
            lambda: ndimage.mean(volume, labels, 1),
            lambda: ndimage.variance(volume, labels, 1),
        ),
        ("NumPy, float32, pairwise", truth.voxels.mean, truth.voxels.var),
        (
            "NumPy, float32, in a row",
            lambda: np.add.accumulate(truth.voxels)[-1] / np.float32(n),
            None,
        ),
        (
            "a matrix product, weights 0.1",
            lambda: np.add.accumulate(truth.voxels * np.float64(0.1))[-1] / math.fsum([0.1] * n),
            None,
        ),
    ):
        found, seconds = timed(mean)
        wide = math.nan if variance is None else truth.off_variance(variance())
        yield method, truth.off(found), wide, seconds


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else N
    print(f"{count} voxels; errors of the mean are relative to the mean magnitude")
    print(f"{'case':<12}{'method':<32}{'mean':>10}{'variance':>10}{'seconds':>9}")
    for case in CASES:
        for row in measured(case, count):
            print(f"{case:<12}{row[0]:<32}{row[1]:>10.1e}{row[2]:>10.1e}{row[3]:>9.2f}", flush=True)
