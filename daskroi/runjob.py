"""Doing what one run of a cohort needs; what a worker gets as a task."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daskroi import store
from daskroi.beside import contents_beside, ensure_beside
from daskroi.cohortatlas import SubjectAtlas
from daskroi.errors import DaskroiError
from daskroi.memory import gate, peak_memory, reset_peak
from daskroi.nested import computing_here
from daskroi.outcome import Outcome, failure
from daskroi.runconfounds import nuisance_of, timed_run
from daskroi.sidecar import read_sidecar, sidecar_of, told
from daskroi.sink import Sink
from daskroi.unsaid import kept_warnings

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.targets import Target
    from daskroi.upkeep import Needs
    from daskroi.work import Job, Work

__all__ = ["run_job"]


def run_job(job: Job, work: Work, needs: Needs) -> Outcome:
    """Make what a run lacks, and write or send it; never raises an `Exception`.

    Parameters
    ----------
    job : Job
    work : Work
    needs : Needs
        Of `daskroi.upkeep.look`.
    """
    started = time.perf_counter()
    key, sink = "", None
    reset_peak()
    with kept_warnings() as said, computing_here():
        try:
            identities = work.identities(job)
            key = work.key_of(identities)
            sink = Sink(work)
            outcome = Outcome()
            if needs.series:
                outcome = _make_series(job, work, needs.series, identities, sink)
            if needs.beside and sink.here:  # else it is made where the series are seen
                paths = work.paths_of(job)
                ensure_beside(work.beside, [paths[name] for name in needs.beside])
            if not needs.series and sink.here:
                outcome = _said(*(read_sidecar(p.sidecar) for p in work.paths_of(job).values()))
        except Exception as error:
            outcome = failure(error, key)
    return replace(
        outcome,
        seconds=time.perf_counter() - started,
        peak_bytes=peak_memory(),
        warnings=tuple(dict.fromkeys(said)),
        sent=None if sink is None else sink.sent,
    )


def _make_series(
    job: Job, work: Work, wanted: tuple[str, ...], identities: Mapping[str, Any], sink: Sink
) -> Outcome:
    """Extract a run for some atlases, with what belongs beside their series."""
    import dask

    from daskroi.planning import bytes_to_read, memory_of

    lazy, run, censored = _lazy(job, work, wanted)
    n_frames = run.sizes.get("time")
    regions = sum(result.sizes["region"] for result in lazy.values())
    with gate(work.memory).reserve(memory_of(run, regions, work.resampled_voxels)):
        # one thread: runs are what is parallel, and a stream has a reader of its own besides
        computed = dask.compute(*lazy.values(), scheduler="synchronous")
    places = work.paths_of(job)
    sidecars = []
    problem: DaskroiError | None = None
    for name, result in zip(lazy, computed, strict=True):
        paths = places[name]
        sources = work.sources_of(identities[name]["Inputs"])
        sidecar = sidecar_of(result, None, n_frames, sources) | identities[name] | censored
        sidecars.append(sidecar)
        texts: dict[Target, str | bytes] = {**store.contents(result, paths, sidecar)}
        try:
            # first: the sidecar stands for all being there
            text = str(texts[paths.sidecar])
            texts = contents_beside(work.beside, result, paths, text) | texts
        except DaskroiError as error:
            problem = problem or error  # of the series nothing is wrong
        sink.put(texts, job.prefix)
    if problem is not None:
        raise problem
    size = bytes_to_read(job.image, identities[wanted[0]]["Inputs"]["image"][0]["Size"], run)
    return replace(_said(*sidecars), read_bytes=size)


def _said(*sidecars: Mapping[str, Any]) -> Outcome:
    """Frames of the run and regions without a voxel, as the sidecars of its results have them."""
    found = [told(sidecar) for sidecar in sidecars]
    return Outcome(frames=found[-1].frames, kept=found[-1].kept, lost=sum(t.lost for t in found))


def _lazy(
    job: Job, work: Work, wanted: tuple[str, ...]
) -> tuple[dict[str, xr.DataArray], xr.DataArray, dict[str, Any]]:
    """Lazy results by atlas, the run, and which frames are left out, as the sidecar has it."""
    from daskroi.extract import extract
    from daskroi.openimage import open_image
    from daskroi.placement import lost_regions_unsaid

    options = dict(work.options)
    loaded, shared = {}, {}
    for name in wanted:
        atlas = work.atlases[name]
        if isinstance(atlas, SubjectAtlas):
            shared[name] = atlas.ids
            atlas = atlas.load(name, job.row, work.storage_options)
        loaded[f"atlas-{name}"] = atlas
    remote = work.storage_options
    run = open_image(job.image, options.pop("chunks", "auto"), storage_options=remote)
    if options.get("t_r") is None:
        run = timed_run(run, job, remote)
    nuisance, censored = nuisance_of(
        job, work.confounds, work.storage_options, run.sizes.get("time")
    )
    options |= nuisance
    with lost_regions_unsaid():
        found = extract(run, loaded, mask_img=work.mask_of(job), storage_options=remote, **options)
    lazy = {key.removeprefix("atlas-"): result for key, result in found.items()}
    for name, ids in shared.items():
        # one region axis for all subjects: the table's, whatever else an image has
        lazy[name] = lazy[name].sel(region=ids)
    return lazy, run, censored
