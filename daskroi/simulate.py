"""The voxels of a synthetic run, frame by frame, and the means they must have."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from daskroi.anatomy import Anatomy, anatomy_of
from daskroi.errors import DaskroiTypeError, brief
from daskroi.grid import Grid
from daskroi.onethread import one_thread

__all__ = ["Model", "Simulation", "frames", "group_means", "model_of", "tolerance_of"]


@dataclass(frozen=True)
class Simulation:
    """All that a frame depends on; see `daskroi.phantom.make_phantom` for the fields.

    Tasks carry this and rebuild the maps once per process: the graph of a 91x109x91 phantom would
    otherwise hold 20 MB of them.
    """

    grid: Grid
    n_time: int
    n_regions: int
    t_r: float
    dtype: str
    signal: float
    noise: float
    drift: float
    motion: float
    physio: float
    seed: int
    slope: float
    inter: float

    def __post_init__(self) -> None:
        for name in ("n_time", "n_regions", "seed"):
            value = getattr(self, name)
            whole = isinstance(value, Integral) and not isinstance(value, bool)
            if not whole or abs(value) >= 2**31:
                raise DaskroiTypeError(
                    f"{name}={brief(value)} is not a whole number. Give a small one."
                )
        sizes = ("t_r", "signal", "noise", "drift", "motion", "physio", "slope", "inter")
        for name in sizes:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise DaskroiTypeError(f"{name}={brief(value)} is not a number. Give one.")
            object.__setattr__(self, name, float(value))
        # NIfTI-1 keeps them in 32 bits: work with what a reader will find
        for name in ("slope", "inter"):
            object.__setattr__(self, name, float(np.float32(getattr(self, name))))


@dataclass(frozen=True, eq=False)
class Model:
    """Voxel v at time t is base + gain * signals[t, group] + courses[t] @ maps + noise."""

    anatomy: Anatomy
    signals: NDArray[np.float64]  # (time, group); 0 outside the atlas
    courses: NDArray[np.float64]  # (time, nuisance)
    cosines: NDArray[np.float64]  # (time, order)
    limits: tuple[float, float]  # no voxel is outside


def frames(simulation: Simulation, start: int, stop: int) -> NDArray[Any]:
    """Frames as stored; 10 ms each for 91x109x91 (250,000 voxels in the brain).

    Sums term by term rather than by a matrix product: BLAS rounds by the shape of its input, and
    then a frame would depend on the chunk it is in.
    """
    model = model_of(simulation)
    anatomy = model.anatomy
    kind = np.dtype(simulation.dtype).newbyteorder("=")
    whole = kind.kind in "iu"

    def encode(values: NDArray[np.float64]) -> NDArray[np.float64]:
        if (simulation.slope, simulation.inter) != (1, 0):
            values = (values - simulation.inter) / simulation.slope
        return np.rint(values) if whole else values

    outside = encode(np.zeros(1)).astype(kind)[0]
    out = np.full((stop - start, simulation.grid.size), outside, dtype=kind)
    for frame in range(start, stop):
        voxels = anatomy.base + anatomy.gain * model.signals[frame][anatomy.group]
        for course, loading in zip(model.courses[frame], anatomy.maps, strict=True):
            if course:
                voxels += course * loading
        if simulation.noise:
            # seeded by frame: any frame can be made alone
            rng = np.random.Generator(np.random.SFC64([simulation.seed, 4, frame]))
            noise = rng.standard_normal(voxels.size, dtype=np.float32).astype(np.float64)
            voxels += simulation.noise * (noise - anatomy.means(noise)[anatomy.group])
        out[frame - start, anatomy.brain] = encode(voxels)
    return out.reshape(stop - start, *simulation.grid.shape)


@one_thread()
def group_means(
    model: Model, signals: NDArray[np.float64], courses: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Means (time, group) that follow from the model, without a voxel of it being made."""
    anatomy = model.anatomy
    loadings = np.stack([anatomy.means(loading) for loading in anatomy.maps])
    return anatomy.means(anatomy.base) + signals + courses @ loadings


def tolerance_of(simulation: Simulation) -> float:
    """Largest difference between region means of the stored image and `group_means`."""
    kind, (low, high) = np.dtype(simulation.dtype), model_of(simulation).limits
    step = abs(simulation.slope) / 2 if kind.kind in "iu" else 0.0
    # float32: half a unit in the last place when stored, and once more in a float32 result
    rounding = 2.0**-23 if kind.name == "float32" else 1e-12
    return step + rounding * (max(-low, high) + abs(simulation.inter))


_LOCK = threading.Lock()


def model_of(simulation: Simulation) -> Model:
    """What a simulation's frames are made of; built once per process and kept."""
    with _LOCK:  # threads that start together would each build it
        return _build(simulation)


@lru_cache(maxsize=4)
@one_thread()
def _build(simulation: Simulation) -> Model:
    anatomy = anatomy_of(simulation.grid, simulation.n_regions)
    n_time = simulation.n_time
    # fMRIPrep's high-pass basis: DCT-II up to periods of 128 s
    orders = np.arange(1, min(n_time - 1, int(2 * n_time * simulation.t_r / 128)) + 1)
    cosines = np.cos(np.pi * np.outer(np.arange(n_time) + 0.5, orders) / n_time)
    cosines *= np.sqrt(2 / n_time)
    line = np.linspace(-1, 1, n_time) if n_time > 1 else np.zeros(1)
    courses = _nuisances(simulation, line, cosines)
    signals = np.zeros((n_time, len(anatomy.sizes)))
    signals[:, : simulation.n_regions] = _signals(simulation)

    nuisances = np.column_stack([np.ones(n_time), line, cosines, courses])
    if n_time >= 2 * nuisances.shape[1]:  # shorter runs would have no signal left
        scale = np.maximum(np.linalg.norm(nuisances, axis=0), 1e-12)
        left, values, _ = np.linalg.svd(nuisances / scale, full_matrices=False)
        basis = left[:, values > 1e-10]
        for _ in range(2):  # the second time for the last digits
            signals -= basis @ (basis.T @ signals)

    # 8 standard deviations of noise: once in 1e15 voxels
    reach = anatomy.gain * np.abs(signals).max(axis=0)[anatomy.group] + 8 * simulation.noise
    reach += np.abs(courses).max(axis=0) @ np.abs(anatomy.maps)
    low, high = (anatomy.base - reach).min(), (anatomy.base + reach).max()
    return Model(anatomy, signals, courses, cosines, (min(0.0, float(low)), float(high)))


def _nuisances(
    simulation: Simulation, line: NDArray[np.float64], cosines: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(time, nuisance): a slow drift, six motion parameters, breath and pulse."""
    from scipy.signal import lfilter

    rng = np.random.default_rng([simulation.seed, 2])
    n_time = simulation.n_time
    slow = cosines[:, :2]
    drift = line + slow @ rng.normal(0, np.sqrt(n_time) / 4, slow.shape[1])
    steps = rng.standard_normal((n_time, 6))
    steps[rng.random(n_time) < 0.02] *= 8  # now and then the head jerks
    walk = lfilter([1.0], [1.0, -0.97], steps, axis=0)
    walk -= walk[0]
    walk /= np.maximum(walk.std(axis=0), 1e-12)
    walk[:, 3:] *= 0.01  # rad per mm: 0.5 mm at 50 mm, a head's radius
    return np.column_stack(
        [
            simulation.drift * drift / max(np.abs(drift).max(), 1e-12),
            simulation.motion * walk,
            simulation.physio * _band(rng, simulation, 1, 0.02, 0.2),
        ]
    )


def _signals(simulation: Simulation) -> NDArray[np.float64]:
    """(time, region): what regions share with their network and with their mirror image, and own.

    Regions of one network correlate at 0.5, a region and its mirror image at 0.75.
    """
    rng = np.random.default_rng([simulation.seed, 1])
    n_regions = simulation.n_regions
    pair = np.arange(n_regions) % ((n_regions - 1) // 2)  # the same parcel, left and right
    network = pair % max(2, min(7, n_regions // 6))
    shared = _band(rng, simulation, network.max() + 1, 0.01, 0.08)[:, network]
    both = _band(rng, simulation, pair.max() + 1, 0.01, 0.08)[:, pair]
    own = _band(rng, simulation, n_regions, 0.01, 0.08)
    return simulation.signal * (np.sqrt(0.5) * shared + 0.5 * both + 0.5 * own)


def _band(
    rng: np.random.Generator, simulation: Simulation, n: int, low: float, high: float
) -> NDArray[np.float64]:
    """(time, n) courses of unit variance with all power between two frequencies in Hz."""
    high = min(high, 0.4 / simulation.t_r)  # below Nyquist
    frequency = rng.uniform(min(low, high / 2), high, (12, n))
    phase = rng.uniform(0, 2 * np.pi, (12, n))
    time = np.arange(simulation.n_time)[:, None, None] * simulation.t_r
    waves = np.sin(2 * np.pi * time * frequency + phase)
    return cast("NDArray[np.float64]", waves.sum(axis=1) / np.sqrt(6))
