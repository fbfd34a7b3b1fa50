"""What a cohort does, and what a run of it is: files, where results go, what settles their numbers.

A `Work` is what all runs have in common and travels once; a `Job` is a few strings. Neither holds
voxels of a run, so a task costs the scheduler a kilobyte or two.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from daskroi import store
from daskroi.cohortatlas import SubjectAtlas
from daskroi.errors import DaskroiNotFoundError, DaskroiPermissionError
from daskroi.nifti import sidecar_beside
from daskroi.paths import bids_uri
from daskroi.sidecar import NUMERICS, fingerprints

if TYPE_CHECKING:
    from daskroi.besidefiles import BesideFiles
    from daskroi.confoundrecipe import ConfoundRecipe
    from daskroi.placement import AnyAtlas
    from daskroi.store import Written
    from daskroi.targets import Target

__all__ = ["LINK", "Job", "Work"]

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
    beside : tuple of BesideFiles
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
    beside: tuple[BesideFiles, ...] = ()

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
        given = {"image": job.image, "mask": self.mask_of(job)}
        if self.confounds is not None:
            given["confounds"] = job.confounds
            if job.confounds is not None and any(c.mask for c in self.confounds.groups):
                # which component is of which mask stands only there
                given["confounds_sidecar"] = job.confounds.removesuffix(".tsv") + ".json"
        files = fingerprints(given, self.storage_options) | self._sidecar_of(job)
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

    def _sidecar_of(self, job: Job) -> dict[str, Any]:
        """The JSON of a run; where the table of runs names none, what is read beside the image."""
        if job.sidecar is not None:
            return fingerprints({"sidecar": job.sidecar}, self.storage_options)
        path = sidecar_beside(job.image)
        # as it is read: S3 forbids asking for what is not there, where one may not list
        with suppress(DaskroiNotFoundError, DaskroiPermissionError):
            return fingerprints({"sidecar": path or None}, self.storage_options)
        return {}

    def key_of(self, identities: Mapping[str, Any]) -> str:
        """Hash of what results of a run would be made of, and of what would be made."""
        said = {**identities, **({"Beside": self.beside} if self.beside else {})}
        return hashlib.sha256(json.dumps(_plain(said), sort_keys=True).encode()).hexdigest()

    def sources_of(self, inputs: Mapping[str, Any]) -> list[str]:
        """Input files as BIDS URIs, where they are in the dataset."""
        paths = [file["Path"] for files in inputs.values() for file in files]
        return [bids_uri(path, self.root, LINK) for path in paths] if self.root else paths


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
