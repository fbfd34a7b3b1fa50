"""The benchmark's images: as large as real ones, quick to make, and compressing like real ones.

Straight NumPy and not `daskroi.phantom`, so that what is measured is not made by what measures.
Run as a script of its own: memory that this process held would count as that of the processes
that are measured (Linux hands the peak of a parent on to its children).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip
from scipy.spatial import cKDTree

SLAB = 16  # frames made and written at a time
T_R = 2.0
SLOPE = 0.05  # of the int16 run: noise of 10 is 200 steps
ATLASES = {"atlas48": 48, "atlas400": 400, "atlas100": 100, "atlas200": 200}


class Head:
    """An ellipsoid of a quarter of the voxels, with six time courses in it.

    The courses differ in strength and load on one voxel in thirty ("vessels") ten times as much
    as elsewhere, so that the components of `high_variance_confounds` are well separated. They do
    not average out: region means of pure noise would move by 0.2 around 850, and z-scoring would
    magnify what float32 has rounded until no two libraries agreed.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        axes = [(2 * np.arange(n) + 1 - n) / n for n in shape]
        z, y, x = np.meshgrid(*axes, indexing="ij")
        self.shape = shape
        self.depth = np.sqrt((z / 0.76) ** 2 + (y / 0.83) ** 2 + (x / 0.76) ** 2)
        self.brain = np.flatnonzero(self.depth < 1)
        rng = np.random.default_rng(0)
        self.base = (1000 - 200 * self.depth.reshape(-1)[self.brain]).astype(np.float32)
        strength = np.array([6, 5, 4, 3, 2.2, 1.5], np.float32)[:, None]
        self.maps = (1 + rng.standard_normal((6, self.brain.size), np.float32)) * strength
        self.maps *= np.where(rng.random(self.brain.size) < 1 / 30, 10, 1).astype(np.float32)

    def slabs(self, n_time: int) -> Iterator[np.ndarray]:
        """float32 slabs (time, z, y, x), always the same array: zero outside the brain."""
        rng = np.random.Generator(np.random.SFC64(1))
        courses = np.sin(
            np.outer(np.arange(n_time) * T_R, 2 * np.pi * np.linspace(0.013, 0.087, 6))
        ).astype(np.float32)
        out = np.zeros((SLAB, int(np.prod(self.shape))), np.float32)
        for start in range(0, n_time, SLAB):
            course = courses[start : start + SLAB]
            noise = rng.standard_normal((len(course), self.brain.size), np.float32)
            noise *= 10
            noise += course @ self.maps
            noise += self.base
            out[: len(course), self.brain] = noise
            yield out[: len(course)].reshape(-1, *self.shape)

    def atlas(self, n_regions: int) -> np.ndarray:
        """Parcels (z, y, x) around random voxels of the outer two thirds of the brain."""
        shell = np.argwhere((self.depth < 1) & (self.depth > 0.7))
        n_regions = min(n_regions, len(shell) // 4)
        seeds = np.random.default_rng(n_regions).choice(len(shell), n_regions, replace=False)
        labels = np.zeros(self.shape, np.int16)
        labels[tuple(shell.T)] = 1 + cKDTree(shell[seeds]).query(shell)[1]
        return labels


def header(
    shape: tuple[int, ...], dtype: str, slope: float = 1.0, size: float = 2.0
) -> nibabel.Nifti1Header:
    """Header of an image (time, z, y, x) or (z, y, x) in MNI space, voxels of ``size`` mm."""
    out = nibabel.Nifti1Header()
    out.set_data_dtype(dtype)
    out.set_data_shape(shape[::-1])
    affine = np.diag([size, size, size, 1])
    affine[:3, 3] = -90, -126, -72
    out.set_sform(affine, 4)
    out.set_qform(affine, 4)
    out.set_zooms((size, size, size, T_R)[: len(shape)])
    out.set_xyzt_units("mm", "sec")
    out.set_slope_inter(slope, 0)
    out["vox_offset"] = out.single_vox_offset
    return out


def make(folder: Path, names: list[str], shape: tuple[int, int, int]) -> None:
    """Make those of the named files that are missing.

    Names are ``bold<frames>.nii``, ``bold<frames>.nii.gz``, ``bold<frames>.nii.zarr`` (the same
    voxels; the last is converted from the second, by daskroi), ``scaled<frames>
    .nii.gz`` (int16 with a slope), ``coarse<frames>.nii.gz`` (the same kind, voxels of 3 mm instead
    of 2, in the same place) and ``atlas<regions>.nii.gz``. Gzip by isal, level 2, which
    writes ten times as fast as zlib's level 6 and comes out a few per cent larger.
    """
    missing = [name for name in names if not (folder / name).exists()]
    stores = [name for name in missing if name.endswith(".zarr")]
    sources = [name.removesuffix(".zarr") + ".gz" for name in stores]
    missing = [name for name in missing if name not in stores]
    missing += [n for n in sources if n not in missing and not (folder / n).exists()]
    head = Head(shape)
    for name in missing:
        if name.startswith("atlas"):
            labels = head.atlas(ATLASES[name.split(".")[0]])
            nibabel.Nifti1Image(labels.T, None, header(labels.shape, "i2")).to_filename(
                folder / name
            )
    for n_time in sorted({int("".join(filter(str.isdigit, n))) for n in missing
                          if not n.startswith("atlas")}):  # fmt: skip
        runs = [n for n in missing if n.startswith((f"bold{n_time}.", f"scaled{n_time}."))]
        write_runs(folder, runs, head, n_time)
        runs = [n for n in missing if n.startswith(f"coarse{n_time}.")]
        if runs:
            coarse = Head(tuple(round(n * 2 / 3) for n in shape))
            write_runs(folder, runs, coarse, n_time, size=3.0)
    for name, source in zip(stores, sources, strict=True):
        from daskroi import to_zarr

        to_zarr(folder / source, folder / name)


def is_scaled(name: str) -> bool:
    """Whether a run is stored as int16."""
    return name.startswith(("scaled", "coarse"))


def write_runs(folder: Path, names: list[str], head: Head, n_time: int, size: float = 2.0) -> None:
    """Write the forms of one run side by side, a thread each: isal releases the GIL."""
    if not names:
        return
    parts = {name: folder / (name + ".part") for name in names}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(len(names)))
        files = {}
        for name, part in parts.items():
            opened = igzip.open(part, "wb", 2) if name.endswith(".gz") else part.open("wb")
            files[name] = stack.enter_context(opened)
            kind, slope = ("f4", 1.0) if name.startswith("bold") else ("i2", SLOPE)
            header((n_time, *head.shape), kind, slope, size).write_to(files[name])
        for slab in head.slabs(n_time):
            stored = np.rint(slab / SLOPE).astype("i2") if any(is_scaled(n) for n in names) else 0
            jobs = [
                pool.submit(file.write, np.ascontiguousarray(stored if is_scaled(n) else slab))
                for n, file in files.items()
            ]
            for job in jobs:
                job.result()
    for name, part in parts.items():
        part.rename(folder / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--shape", type=int, nargs=3, default=(91, 109, 91))
    options = parser.parse_args()
    make(options.folder, options.names, tuple(options.shape))
