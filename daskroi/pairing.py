"""Which mask, confounds and sidecar belong to an image, by names alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from daskroi.entities import PLACES, BidsName, parse_name
from daskroi.listing import Folder
from daskroi.paths import child_of, stem_of

__all__ = ["IMAGES", "FolderIndex", "Run", "candidates"]

# image endings, the quickest to read first: of two copies that one is taken
IMAGES = (".nii.zarr", ".nii", ".nii.gz")
# CIFTI and GIFTI: grayordinates and surfaces, not volumes
SURFACES = (".dtseries.nii", ".func.gii", ".surf.gii", ".gii", ".ptseries.nii")
# fMRIPrep up to 20.1 said "regressors"; nilearn's fetcher writes a reduced table beside the full
CONFOUNDS = (
    ("confounds", "timeseries"),
    ("confounds", "regressors"),
    ("reducedConfounds", "regressors"),
    ("reducedConfounds", "timeseries"),
)


@dataclass
class Run:
    """An image and what was found for it.

    Parameters
    ----------
    image : str
        Path or URL.
    entities : dict of str to str
        Empty when the name is not by BIDS.
    mask, confounds, sidecar : str, optional
        Paths or URLs.
    problems : list of str
        What could not be paired, and why.
    """

    image: str
    entities: dict[str, str] = field(default_factory=dict)
    mask: str | None = None
    confounds: str | None = None
    sidecar: str | None = None
    problems: list[str] = field(default_factory=list)


def candidates(name: str) -> dict[str, list[str]]:
    """Names the files of an image would have, best first, for folders that cannot be listed.

    Examples
    --------
    >>> candidates("sub-1_task-a_space-T1w_desc-preproc_bold.nii.gz")["mask"]
    ['sub-1_task-a_space-T1w_desc-brain_mask.nii.gz', 'sub-1_task-a_space-T1w_desc-brain_mask.nii']
    """
    stem = stem_of(name)
    found: dict[str, list[str]] = {"mask": [], "confounds": [], "sidecar": [f"{stem}.json"]}
    if parse_name(name) is None:
        return found
    pairs = stem.split("_")[:-1]
    here = "_".join(p for p in pairs if not p.startswith("desc-"))
    keys = ("space-", "cohort-", "res-", "den-", "desc-", "echo-")
    run = "_".join(p for p in pairs if not p.startswith(keys))
    found["mask"] = [f"{here}_desc-brain_mask{end}" for end in (".nii.gz", ".nii")]
    found["confounds"] = [f"{run}_desc-{desc}_{suffix}.tsv" for desc, suffix in CONFOUNDS]
    return found


class FolderIndex:
    """The names of one folder, taken apart and looked up.

    Parameters
    ----------
    folder : Folder
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.images: list[tuple[str, BidsName | None]] = []
        self.surfaces = 0
        self._names = frozenset(folder.files)
        self._masks: dict[frozenset[tuple[str, str]], str] = {}
        self._confounds: dict[frozenset[tuple[str, str]], list[tuple[int, str, BidsName]]] = {}
        self._sidecars: list[tuple[str, BidsName]] = []
        self._used: set[str] = set()
        for name in folder.files:
            # told apart before taken apart: most files of a dataset are none of these
            if "_bold." in name or name == "bold.json":
                self._add_bold(name)
            elif "_mask." in name and name.endswith(IMAGES):
                found = parse_name(name)
                if found and found.entities.get("description") == "brain":
                    key = found.key({"description"})
                    self._masks[key] = _quicker(name, self._masks.get(key))
            elif name.endswith(".tsv") and "onfounds_" in name:
                self._add_confounds(name)

    def _add_bold(self, name: str) -> None:
        found = BidsName({}, "bold", ".json") if name == "bold.json" else parse_name(name)
        if name.endswith(SURFACES):
            self.surfaces += 1
        elif name.endswith(IMAGES):
            self.images.append((name, found))
        elif found and found.extension == ".json":
            self._sidecars.append((name, found))

    def _add_confounds(self, name: str) -> None:
        found = parse_name(name)
        if found is None:
            return
        kind = (found.entities.get("description", ""), found.suffix)
        if kind in CONFOUNDS:
            here = self._confounds.setdefault(found.key({"description"}), [])
            here.append((CONFOUNDS.index(kind), name, found))

    def pair(self, name: str, found: BidsName | None, above: Iterable[FolderIndex] = ()) -> Run:
        """An image with what belongs to it in this folder; sidecars also from folders above."""
        run = Run(child_of(self.folder.path, name), dict(found.entities) if found else {})
        if found is None:
            sidecar = f"{stem_of(name)}.json"
            run.sidecar = self._path(sidecar) if sidecar in self._names else None
            run.problems.append("mask and confounds: the image has no BIDS name to find them by")
            return run
        mask = self._masks.get(found.key({"description"}))
        if mask is None:
            mask = self._masks.get(found.key({"description", "echo"}))
        if mask is None:
            run.problems.append(self._no_mask(found))
        run.mask = self._path(mask)
        run.confounds = self._path(self._find_confounds(found))
        if run.confounds is None:
            run.problems.append("confounds: no ..._desc-confounds_timeseries.tsv of this run")
        run.sidecar = self._find_sidecar(name, found, above)
        return run

    def _path(self, name: str | None) -> str | None:
        return None if name is None else child_of(self.folder.path, name)

    def _no_mask(self, found: BidsName) -> str:
        run = found.key(PLACES)
        others = {
            "_".join(
                f"{k}-{v}"
                for k, v in (("space", e.get("space")), ("res", e.get("resolution")))
                if v
            )
            or "the run's own space"
            for e in (dict(key) for key in self._masks)
            if frozenset(p for p in e.items() if p[0] not in PLACES) == run
        }
        place = found.entities.get("space", "the run's own space")
        if "resolution" in found.entities:
            place += f", resolution {found.entities['resolution']}"
        there = f"; there is one in {', '.join(sorted(others))}" if others else ""
        return f"mask: no ..._desc-brain_mask.nii.gz in {place}{there}"

    def _find_confounds(self, found: BidsName) -> str | None:
        # without space as fMRIPrep names them; with it when somebody named them after the image
        for without in (PLACES, PLACES - {"echo"}, {"description"}):
            here = self._confounds.get(found.key(without))
            if here:
                self._used.update(name for _, name, _ in here)
                return min(here, key=lambda one: one[:2])[1]
        return None

    def _find_sidecar(self, name: str, found: BidsName, above: Iterable[FolderIndex]) -> str | None:
        own = f"{stem_of(name)}.json"
        if own in self._names:
            return self._path(own)
        # BIDS' inheritance: a sidecar speaks of all files that have its entities; nearest, then
        # most specific first
        mine = found.key()
        for index in (self, *above):
            fitting = [(len(s.entities), n) for n, s in index._sidecars if s.key() <= mine]
            if fitting:
                return index._path(max(fitting)[1])
        return None

    def left_confounds(self) -> list[tuple[str, BidsName]]:
        """Confounds that no image has asked for."""
        every = (h for here in self._confounds.values() for h in here)
        return [(name, found) for _, name, found in every if name not in self._used]


def _quicker(name: str, other: str | None) -> str:
    """Of two copies of an image, the one that is quicker to read."""
    if other is None:
        return name
    return min(name, other, key=ending_rank)


def ending_rank(name: str) -> int:
    """Place of an image's ending in `IMAGES`."""
    return next((i for i, end in enumerate(IMAGES) if name.endswith(end)), len(IMAGES))
