"""How long connectomes take, against nilearn.

    python tests/benchmarks/connectome.py
    python tests/benchmarks/connectome.py --regions 400 --frames 300 --runs 8
    OPENBLAS_NUM_THREADS=4 python tests/benchmarks/connectome.py

Random series of given rank plus noise; both start from NumPy arrays in memory and end with the
matrix (labelled, here). The best of the repetitions, on one thread each unless told otherwise: with
more than the machine has to spare, threads of the linear algebra wait for each other, and a tangent
space that took 0.8 s took 19 s. The numbers are compared as well.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable

# before NumPy is imported
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402

KINDS = ("correlation", "covariance", "partial correlation", "precision", "tangent")
# no slower than nilearn, within what a busy machine and 1 ms for labels make of it
TARGET = 0.75


def main(argv: list[str] | None = None) -> int:
    """Measure and print; 1 if the numbers differ or daskroi is slower."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--regions", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=1200)
    parser.add_argument("--runs", type=int, default=3, help="of the tangent space")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    args = parser.parse_args(argv)

    import xarray as xr
    from nilearn.connectome import ConnectivityMeasure

    from daskroi.connectome import connectome

    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(max(2, args.regions // 20), args.regions))
    arrays = [
        rng.normal(size=(args.frames, len(mixing))) @ mixing
        + 3 * rng.normal(size=(args.frames, args.regions))
        for _ in range(args.runs)
    ]
    threads = os.environ["OPENBLAS_NUM_THREADS"]
    print(
        f"{args.regions} regions x {args.frames} frames, {threads} thread(s); "
        f"tangent: {args.runs} runs"
    )
    missed = False
    for kind in args.kinds:
        several = kind == "tangent"
        given = arrays if several else arrays[:1]
        series = [xr.DataArray(a, dims=("time", "region")) for a in given]
        repeat = 1 if several else args.repeat

        def ours(kind: str = kind, runs: list = series, several: bool = several) -> np.ndarray:
            return connectome(runs if several else runs[0], kind).values

        def theirs(kind: str = kind, given: list = given) -> np.ndarray:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # nilearn: of what changes in its next version
                return ConnectivityMeasure(kind=kind).fit_transform(given)

        (own, seconds), (other, against) = _best(ours, repeat), _best(theirs, repeat)
        apart = float(np.abs(own.reshape(other.shape) - other).max() / np.abs(other).max())
        ratio = against / seconds
        print(
            f"{kind:20s} {seconds:7.3f} s, nilearn {against:7.3f} s: {ratio:4.1f} times as fast, "
            f"difference {apart:.0e}"
        )
        missed |= ratio < TARGET or not apart < 1e-6
    print(f"target: {'missed' if missed else 'reached'}")
    return int(missed)


def _best(work: Callable[[], np.ndarray], repeat: int) -> tuple[np.ndarray, float]:
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


if __name__ == "__main__":
    raise SystemExit(main())
