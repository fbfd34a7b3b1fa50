"""One run of a cohort: what is to be done, whether it is done already, and doing it.

A `Work` is what all runs have in common and travels once; a `Job` is a few strings. Neither holds
voxels of a run, so a task costs the scheduler a kilobyte or two.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi import store
from daskroi.beside import contents_beside, ensure_beside
from daskroi.cohortatlas import SubjectAtlas
from daskroi.errors import DaskroiError
from daskroi.memory import gate, peak_memory, reset_peak
from daskroi.nested import computing_here
from daskroi.outcome import Outcome, failure
from daskroi.outputs import write_together
from daskroi.partfiles import sweep
from daskroi.paths import bids_uri
from daskroi.runconfounds import nuisance_of, other_t_r
from daskroi.sidecar import NUMERICS, fingerprints, sidecar_of
from daskroi.targets import exists
from daskroi.unsaid import kept_warnings

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.beside import Beside
    from daskroi.confoundrecipe import ConfoundRecipe
    from daskroi.placement import AnyAtlas
    from daskroi.store import Written
    from daskroi.targets import Target

__all__ = ["LINK", "Job", "Work", "completed", "content_key", "run_job"]

LINK = "preprocessed"  # what dataset_description.json calls the dataset the runs are from


@dataclass(frozen=True)
class Job:
    """One run, by the files it consists of.

    Parameters
    ----------
    position : int
        In the table of runs.
    name : str
        Folder below the output folder, and what names of results begin with:
        ``sub-01/func/sub-01_task-rest``.
    image, mask, confounds, sidecar : str or None
        Paths or URLs.
    entities : tuple of (name, label) pairs
        BIDS entities by long name.
    """

    position: int
    name: str
    image: str
    mask: str | None = None
    confounds: str | None = None
    sidecar: str | None = None
    entities: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        # Dask logs arguments of tasks: no URL, which may hold credentials
        return f"Job({self.position}, {self.name!r})"

    @property
    def prefix(self) -> str:
        """What names of results begin with."""
        return self.name.rpartition("/")[2]

    @property
    def row(self) -> dict[str, Any]:
        """As a row of the table of runs."""
        return {"image": self.image, **dict(self.entities)}


@dataclass(frozen=True, eq=False)
class Work:
    """What is done to every run, and where results go.

    Parameters
    ----------
    out : Path or UPath
    atlases : dict of name to atlas or SubjectAtlas
    options : dict
        Keywords of `daskroi.extract`.
    recipe : dict
        What these come to, as it stands in sidecars.
    confounds : ConfoundRecipe or None
    mask : "auto", path, URL or None
        "auto" is the run's own.
    storage_options : mapping
        For all URLs; not shown.
    token : str
        Name of a file in ``out`` by which a worker knows that it sees that folder.
    root : str
        Folder of the dataset, for BIDS URIs.
    memory : int or None
        Bytes that runs in one process may need together, where Dask has no limit for it.
    beside : tuple of Beside
        What else is made of a run's series.
    """

    out: Target
    atlases: dict[str, AnyAtlas | SubjectAtlas]
    options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    confounds: ConfoundRecipe | None = None
    mask: str | None = field(default="auto", repr=False)
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    token: str = ""
    root: str = ""
    memory: int | None = None
    beside: tuple[Beside, ...] = ()

    def mask_of(self, job: Job) -> str | None:
        """Path of the mask that a run gets."""
        return job.mask if self.mask == "auto" else self.mask

    def paths_of(self, job: Job) -> dict[str, Written]:
        """Where results go, by atlas."""
        folder = self.out.joinpath(*job.name.split("/")[:-1])
        return {
            name: store.named_paths(folder, job.prefix, name, self._stat(atlas))
            for name, atlas in self.atlases.items()
        }

    def _stat(self, atlas: AnyAtlas | SubjectAtlas) -> str:
        from daskroi.maps import MapsAtlas

        solved = self.options.get("maps_method") == "lstsq" and isinstance(atlas, MapsAtlas)
        return "lstsq" if solved else self.options.get("strategy", "mean")

    @property
    def resampled_voxels(self) -> int:
        """Voxels of the atlases, where runs are resampled to their grids."""
        if self.options.get("resampling_target") != "labels":
            return 0
        grids = [getattr(atlas, "grid", None) for atlas in self.atlases.values()]
        return sum(math.prod(grid.shape) for grid in grids if grid is not None)

    @cached_property
    def _denoising(self) -> dict[str, Any]:
        # what is the same for all runs: which columns were found stands in "Confounds"
        if self.confounds is None:
            return {}
        groups = [f"{c.pattern} {c.mask}".strip() for c in self.confounds.groups]
        return _plain(asdict(replace(self.confounds, groups=())) | {"groups": groups})

    def identities(self, job: Job) -> dict[str, dict[str, Any]]:
        """What results would be made of, by atlas: all that settles their numbers.

        No file is opened, only looked at.

        Raises
        ------
        DaskroiNotFoundError
            One is not there.
        """
        given = {"image": job.image, "sidecar": job.sidecar, "mask": self.mask_of(job)}
        if self.confounds is not None:
            given["confounds"] = job.confounds
            if job.confounds is not None and any(c.mask for c in self.confounds.groups):
                # which component is of which mask stands only there
                given["confounds_sidecar"] = job.confounds.removesuffix(".tsv") + ".json"
        files = fingerprints(given, self.storage_options)
        found = {}
        for name, atlas in self.atlases.items():
            own, said = {}, {}
            if isinstance(atlas, SubjectAtlas):
                path = atlas.path_of(job.row, self.storage_options)
                own = fingerprints({"atlas": path}, self.storage_options)
                said = {"Name": name, "Pattern": atlas.pattern, "TableSHA256": atlas.table_hash}
            else:
                said = {"Name": name, "SHA256": atlas.hash}
            found[name] = {
                "Inputs": files | own,
                "Atlas": said,
                "Recipe": self.recipe,
                "Denoising": self._denoising,
                "NumericsVersion": NUMERICS,
            }
        return found

    def stale(self, job: Job, identities: Mapping[str, Any]) -> dict[str, list[str] | None]:
        """Atlases whose results are not up to date, and what changed; None: they are not there."""
        found = {}
        for name, paths in self.paths_of(job).items():
            sweep(paths.sidecar.parent, f"{job.prefix}_atlas-")
            why = store.stale(paths, identities[name], part=True)
            if why != []:
                found[name] = why
        return found

    def incomplete(self, job: Job, stale: Iterable[str]) -> bool:
        """Whether something is missing beside series that are not stale."""
        there = [paths for name, paths in self.paths_of(job).items() if name not in set(stale)]
        return not all(kind.is_current(paths) for kind in self.beside for paths in there)

    def key_of(self, identities: Mapping[str, Any]) -> str:
        """Hash of what results of a run would be made of, and of what would be made."""
        return content_key({**identities, **({"Beside": self.beside} if self.beside else {})})

    def sources_of(self, inputs: Mapping[str, Any]) -> list[str]:
        """Input files as BIDS URIs, where they are in the dataset."""
        paths = [file["Path"] for files in inputs.values() for file in files]
        return [bids_uri(path, self.root, LINK) for path in paths] if self.root else paths


def content_key(identities: Mapping[str, Any]) -> str:
    """Hash of what results of a run would be made of."""
    import hashlib

    return hashlib.sha256(json.dumps(_plain(dict(identities)), sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def run_job(job: Job, work: Work, wanted: tuple[str, ...] | None = None) -> Outcome:
    """Extract one run for all atlases, and write the results; never raises an `Exception`.

    Parameters
    ----------
    job : Job
    work : Work
    wanted : tuple of str, optional
        Atlases whose results are to be made; all if not given. Of the others there are series, and
        what is missing beside these is made.

    Returns
    -------
    Outcome
    """
    started = time.perf_counter()
    key = ""
    reset_peak()
    with kept_warnings() as said, computing_here():
        try:
            identities = work.identities(job)
            key = work.key_of(identities)
            every = tuple(work.atlases)
            outcome = _run(job, work, identities, every if wanted is None else wanted)
        except Exception as error:
            outcome = failure(error, key)
    return replace(
        outcome,
        seconds=time.perf_counter() - started,
        peak_bytes=peak_memory(),
        warnings=tuple(dict.fromkeys(said)),
    )


def _run(job: Job, work: Work, identities: Mapping[str, Any], wanted: tuple[str, ...]) -> Outcome:
    there = not work.token or exists(work.out / work.token)
    outcome = _extract_and_write(job, work, identities, wanted, there) if wanted else Outcome()
    others = {n: p for n, p in work.paths_of(job).items() if n not in wanted}
    if not (work.beside and others) or outcome.status != "ok":
        return outcome
    if not there:
        return replace(outcome, incomplete=tuple(others))
    frames, kept, lost = ensure_beside(work.beside, others.values())
    return outcome if wanted else replace(outcome, frames=frames, kept=kept, lost=lost)


def completed(job: Job, work: Work, outcome: Outcome) -> Outcome:
    """What a worker could not do that does not see the output folder, done here.

    Raises
    ------
    DaskroiError
        As `daskroi.beside.ensure_beside`, or the files cannot be written.
    """
    for files in outcome.files:
        write_together({work.out / name: content for name, content in files.items()})
    if outcome.incomplete:
        paths = work.paths_of(job)
        there = [paths[name] for name in outcome.incomplete]
        frames, kept, lost = ensure_beside(work.beside, there)
        if not outcome.frames:
            return replace(outcome, frames=frames, kept=kept, lost=lost)
    return outcome


def _extract_and_write(
    job: Job, work: Work, identities: Mapping[str, Any], wanted: tuple[str, ...], there: bool
) -> Outcome:
    import dask

    from daskroi.planning import bytes_to_read, memory_of

    lazy, run, censored = _lazy(job, work, wanted)
    n_frames = run.sizes.get("time")
    regions = sum(result.sizes["region"] for result in lazy.values())
    with gate(work.memory).reserve(memory_of(run, regions, work.resampled_voxels)):
        # one thread: runs are what is parallel, and a stream has a reader of its own besides
        computed = dask.compute(*lazy.values(), scheduler="synchronous")
    kept, lost, files = n_frames, 0, []
    problem: DaskroiError | None = None
    for (name, paths), result in zip(
        ((n, p) for n, p in work.paths_of(job).items() if n in lazy), computed, strict=True
    ):
        sources = work.sources_of(identities[name]["Inputs"])
        sidecar = sidecar_of(result, None, n_frames, sources) | identities[name] | censored
        texts: dict[Target, str | bytes] = {**store.contents(result, paths, sidecar)}
        try:
            # first: the sidecar stands for all being there
            text = str(texts[paths.sidecar])
            texts = contents_beside(work.beside, result, paths, text) | texts
        except DaskroiError as error:
            problem = problem or error  # of the series nothing is wrong
        if there:
            write_together(texts)
        else:
            folder = job.name[: -len(job.prefix)]
            files.append({folder + path.name: text for path, text in texts.items()})
        kept = result.sizes.get("time", 1)
        lost += int(np.count_nonzero(~(result.coords["coverage"].values > 0)))
    if problem is not None:
        return replace(failure(problem, work.key_of(identities)), files=tuple(files))
    size = bytes_to_read(job.image, identities[wanted[0]]["Inputs"]["image"][0]["Size"], run)
    return Outcome(
        frames=n_frames or 1, kept=kept or 1, lost=lost, read_bytes=size, files=tuple(files)
    )


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
    nuisance, censored = nuisance_of(
        job, work.confounds, work.storage_options, run.sizes.get("time")
    )
    options |= nuisance
    if options.get("t_r") is None:
        options["t_r"] = other_t_r(job, run, remote)
    with lost_regions_unsaid():
        found = extract(run, loaded, mask_img=work.mask_of(job), storage_options=remote, **options)
    lazy = {key.removeprefix("atlas-"): result for key, result in found.items()}
    for name, ids in shared.items():
        # one region axis for all subjects: the table's, whatever else an image has
        lazy[name] = lazy[name].sel(region=ids)
    return lazy, run, censored
