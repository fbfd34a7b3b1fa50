"""What the fused operator costs to make: 1,000 regions on a 1 mm atlas, smoothed by 6 mm.

    python tests/benchmarks/weights.py

A process for each case: seconds for the weights, and peak memory of the whole process.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

CASES = {
    "image of 2 mm": (2.0, False),
    "image of 2 mm, rotated": (2.0, True),
    "image of 1 mm, the atlas's own grid": (1.0, False),
}


def measure(case: str, n_regions: int, extent: tuple[int, int, int]) -> str:
    """Make the weights of one case in this process; a line about it."""
    from scipy.spatial import cKDTree

    from daskroi.grid import Grid
    from daskroi.operators import Part
    from daskroi.regions import RegionIndex
    from daskroi.resampling import Resampling
    from daskroi.smoothing import Smoothing

    size, rotated = CASES[case]
    corner = [[0.0, 0, 0, -90], [0, 0, 0, -126], [0, 0, 0, -72], [0, 0, 0, 0]]
    atlas = Grid.make(extent, np.eye(4) + corner)
    shape = tuple(round(n / size) for n in extent)
    affine = np.diag([size, size, size, 1]) + corner
    if rotated:  # by about 3 degrees around two axes
        affine = affine @ [[1, 0.05, 0, 0], [-0.05, 1, 0.03, 0], [0, -0.03, 1, 0], [0, 0, 0, 1]]
    axes = [(2 * np.arange(n) + 1 - n) / n for n in extent]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    brain = np.argwhere(z**2 + y**2 + x**2 < 0.7)
    seeds = brain[np.random.default_rng(0).choice(len(brain), n_regions, replace=False)]
    labels = np.zeros(extent, np.int16)
    labels[tuple(brain.T)] = 1 + cKDTree(seeds).query(brain)[1]
    regions = RegionIndex.of_labels(labels, np.arange(1, n_regions + 1))
    image = Grid.make(shape, affine)
    resampling = None if image.same_as(atlas) else Resampling(image, atlas)
    part = Part(regions, resampling, Smoothing.of(6.0, atlas))
    start = time.perf_counter()
    weights = part.weights
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return (
        f"{case}: {seconds:.1f} s, peak {peak:.0f} MB, "
        f"{len(weights.voxels):,} weights for {len(regions.voxels):,} voxels of the atlas"
    )


def main() -> None:
    """Run every case in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=CASES, help="this one only, in this process")
    parser.add_argument("--regions", type=int, default=1000)
    parser.add_argument("--extent", type=int, nargs=3, default=(182, 218, 182), metavar="MM")
    options = parser.parse_args()
    if options.case:
        print(measure(options.case, options.regions, tuple(options.extent)))
        return
    for case in CASES:
        subprocess.run([sys.executable, *sys.argv, "--case", case], check=True, timeout=1200)


if __name__ == "__main__":
    main()
