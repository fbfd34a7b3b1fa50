"""What a cohort will take, before it runs: memory of a run, bytes to read, grids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.errors import DaskroiError
from daskroi.outcome import Outcome
from daskroi.paths import name_of
from daskroi.upkeep import Needs

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.work import Job, Work

__all__ = ["Plan", "bytes_to_read", "memory_of", "plan_of"]

# of runs whose series are there, while something beside them is missing
TO_COMPLETE = "to complete, without reading images"
# stored bytes that are in memory at once: two slabs and what is made of them, or a chunk
SLABS_BYTES = 96 << 20
# labels, their order, masks and weights, per voxel; measured to 48
BYTES_PER_VOXEL = 64
# the weights of an atlas that the run is resampled to, per voxel of the atlas; measured to 130
BYTES_PER_ATLAS_VOXEL = 160
# the series as float64, its confound regression and its text
COPIES_OF_SERIES = 8


def memory_of(run: xr.DataArray, n_regions: int, atlas_voxels: int = 0) -> int:
    """Bytes that extracting a run needs at most, apart from Python and its libraries.

    Parameters
    ----------
    run : DataArray, dims (time, z, y, x) or (z, y, x)
        Lazy.
    n_regions : int
        Of all atlases.
    atlas_voxels : int
        Of all atlases, where the run is resampled to their grids.

    Notes
    -----
    An upper estimate. Neither plan holds the run: what counts are slabs or chunks, the atlas on the
    run's grid, and the series.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> memory_of(run.image, 4) < 200e6
    True
    """
    *_, z, y, x = run.shape
    frame = z * y * x * run.dtype.itemsize
    frames = run.shape[0] if run.ndim == 4 else 1
    voxels = min(max(SLABS_BYTES, 4 * frame), 3 * frames * frame)
    return int(
        voxels
        + BYTES_PER_VOXEL * z * y * x
        + BYTES_PER_ATLAS_VOXEL * atlas_voxels
        + COPIES_OF_SERIES * 8 * frames * max(n_regions, 1)
    )


def bytes_to_read(image: str, size: int, run: xr.DataArray) -> int:
    """Bytes of an image: its file's, or, of a Zarr store, those of its voxels before compression.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> bytes_to_read("run.nii.gz", 1000, run.image), bytes_to_read("run.nii.zarr", 9, run.image)
    (1000, 161280)
    """
    return int(run.nbytes) if name_of(image).endswith(".zarr") else size


@dataclass(repr=False)
class Plan:
    """What `daskroi.extract_cohort` would do.

    Parameters
    ----------
    counts : dict of str to int
        Runs by what would become of them: "to do", "skipped", "failed" (before).
    grids : dict of str to int
        Runs to do by grid and type.
    read_bytes : int
        Of the images to read.
    reads : int
        Passes over them.
    memory : int
        Bytes that the largest run needs.
    frames : int
        Of all runs to do.
    problems : list of str
        Runs that cannot be opened, and why.
    """

    counts: dict[str, int] = field(default_factory=lambda: {"to do": 0, "skipped": 0, "failed": 0})
    grids: Counter[str] = field(default_factory=Counter)
    read_bytes: int = 0
    reads: int = 1
    memory: int = 0
    frames: int = 0
    problems: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {what}" for what, n in self.counts.items() if n)
        return (
            f"<Plan: {counts or 'nothing to do'}; {self.read_bytes / 1e6:.0f} MB to read, "
            f"{self.memory / 1e6:.0f} MB of memory per run; see describe()>"
        )

    def describe(self) -> str:
        """The plan in words, a line each."""
        counted = [f"{n} {what}" for what, n in self.counts.items() if n or what == "to do"]
        lines = [f"Runs: {sum(self.counts.values())} ({', '.join(counted)})"]
        lines += [f"Grid: {grid} ({_runs(n)})" for grid, n in sorted(self.grids.items())]
        if self.grids:
            passes = "" if self.reads == 1 else f", {self.reads} times each"
            lines.append(f"To read: {self.read_bytes / 1e9:.2f} GB{passes}; {self.frames} frames")
            lines.append(
                f"Memory: at most {self.memory / 1e6:.0f} MB for a run; workers need about "
                f"{(self.memory + 300e6) / 1e9:.1f} GB for every thread"
            )
        lines += [f"Problem: {problem}" for problem in self.problems]
        return "\n".join(lines)


def _runs(n: int) -> str:
    return f"{n} run{'' if n == 1 else 's'}"


def plan_of(looked: Iterable[tuple[Job, Needs | Outcome]], work: Work) -> Plan:
    """Put the plan together: headers of the runs to do are read, and no voxel.

    Parameters
    ----------
    looked : iterable of (job, Needs, or the Outcome of one that cannot be looked at)
    work : Work
    """
    plan = Plan(reads=_reads(work.options))
    for job, found in looked:
        status, problem = found.status, ""
        if status == "failed":
            problem = found.reason if isinstance(found, Outcome) else found.failed_before
        elif isinstance(found, Needs) and found.beside and not found.series:
            status = TO_COMPLETE
        elif status == "to do":
            try:
                _add(plan, job, work)
            except DaskroiError as error:
                status, problem = "failed", str(error)
        plan.counts[status] = plan.counts.get(status, 0) + 1
        if problem:
            plan.problems.append(f"{job.name}: {problem}")
    return plan


def _add(plan: Plan, job: Job, work: Work) -> None:
    from daskroi.image import grid_of
    from daskroi.openimage import open_image
    from daskroi.sidecar import fingerprints

    run = open_image(job.image, storage_options=work.storage_options)
    [file] = fingerprints({"image": job.image}, work.storage_options)["image"]
    regions = sum(len(atlas.ids) for atlas in work.atlases.values())
    plan.read_bytes += bytes_to_read(job.image, file["Size"], run)
    plan.frames += run.sizes.get("time", 1)
    plan.memory = max(plan.memory, memory_of(run, regions, work.resampled_voxels))
    plan.grids[f"{grid_of(run).describe()}, {np.dtype(run.dtype).name}"] += 1


def _reads(options: Mapping[str, Any]) -> int:
    clip = options.get("resampling_clip")
    if clip is None:  # as `daskroi.ways.clips`
        linear = options.get("strategy", "mean") in ("mean", "sum")
        clip = options.get("spatial") == "voxelwise" or not linear
    clipped = bool(clip) and options.get("resampling_target") == "labels"
    return 1 + clipped + 2 * bool(options.get("high_variance_confounds"))
