"""What is broken on purpose: a small dataset, an atlas, a Zarr store, a finished cohort."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cohorts
import nibabel as nib
import numpy as np

import daskroi as dr

NAME = "sub-01_task-rest_space-MNI152NLin6Asym"
SERIES = f"sub-01/func/{NAME}_atlas-P_stat-mean_timeseries"


@dataclass
class World:
    """Paths of what there is, below one folder."""

    root: Path

    def __getattr__(self, name: str) -> Path:
        return self.root / PATHS[name]

    @property
    def paths(self) -> dict[str, str]:
        """All, as text, for a command line."""
        return {name: str(self.root / path) for name, path in PATHS.items()} | WEB

    def cohort(self, runs: Any = None, atlases: Any = None, **options: Any) -> Any:
        """`extract_cohort` of the dataset, on threads."""
        told = {"client": "threads", "progress": False} | options
        found = dr.find_runs(self.data) if runs is None else runs
        out = told.pop("out", self.out)
        return dr.extract_cohort(
            found, {"P": self.atlas} if atlases is None else atlases, out, **told
        )

    def tree(self) -> dict[str, str]:
        """Everything below the folder, hidden and temporary files too, with its content's hash."""
        found = {}
        for path in self.root.rglob("*"):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = f"link to {os.readlink(path)}"
            elif path.is_file():
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[name] = "folder"
        return found


PATHS = {
    "here": ".",
    "data": "data",
    "image": f"data/sub-01/func/{NAME}_desc-preproc_bold.nii.gz",
    "mask": f"data/sub-01/func/{NAME}_desc-brain_mask.nii.gz",
    "sidecar": f"data/sub-01/func/{NAME}_desc-preproc_bold.json",
    "confounds": "data/sub-01/func/sub-01_task-rest_desc-confounds_timeseries.tsv",
    "other": f"data/sub-02/func/{NAME.replace('01', '02', 1)}_desc-preproc_bold.nii.gz",
    "atlas": "P_dseg.nii.gz",
    "table": "P_dseg.tsv",
    "store": "x.nii.zarr",
    "out": "out",
    "made": "made",
    "runs": "made/runs.tsv",
    "series": f"made/{SERIES}.tsv",
    "series_json": f"made/{SERIES}.json",
    "relmat": f"made/sub-01/func/{NAME}_atlas-P_stat-pearsoncorrelation_relmat.tsv",
    "relmat_json": f"made/sub-01/func/{NAME}_atlas-P_stat-pearsoncorrelation_relmat.json",
}
# of a server that misbehaves, when there is one
WEB: dict[str, str] = {}


def make_world(root: Path) -> World:
    """Two runs, and what is made of them."""
    world = World(root)
    cohorts.write_cohort(world.data, 2)
    atlas = cohorts.atlas()
    values = np.asarray(atlas.labels).T.astype("i4")
    nib.save(nib.Nifti1Image(values, np.asarray(atlas.grid.affine)), world.atlas)
    atlas.table[["index", "name"]].to_csv(world.table, sep="\t", index=False)
    dr.to_zarr(world.image, world.store)
    world.cohort(out=world.made, connectome="correlation")
    (root / "tmp").mkdir()
    return world


def copied(world: World, root: Path) -> World:
    """The same, to be broken."""
    shutil.copytree(world.root, root, symlinks=True)
    return World(root)


@dataclass(frozen=True)
class Bad:
    """A bad input, and what is said of it.

    Parameters
    ----------
    name : str
        The input.
    says : str
        Pattern in the message: culprit, reason, remedy.
    api : callable, optional
        Told the world.
    cli : str, optional
        Arguments of ``daskroi``, with ``{data}`` and other names of paths.
    spoil : callable, optional
        Breaks the world first.
    code : int
        Exit code.
    leaves : str
        Pattern of the files that may be new: all of them, whole name.
    limit : int, optional
        Bytes that a file may have: a disk that is full.
    """

    name: str
    says: str
    api: Callable[[World], Any] | None = None
    cli: str = ""
    spoil: Callable[[World], Any] | None = None
    code: int = 1
    leaves: str = ""
    limit: int = 0


def put(name: str, content: str | bytes = "x") -> Callable[[World], Any]:
    """Has a file there."""

    def spoil(world: World) -> None:
        path = world.root / PATHS.get(name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def folder(name: str) -> Callable[[World], Any]:
    """Has a folder there, in place of a file if there is one."""

    def spoil(world: World) -> None:
        path = world.root / PATHS.get(name, name)
        path.unlink(missing_ok=True)
        path.mkdir(parents=True)

    return spoil


def gone(name: str) -> Callable[[World], Any]:
    """Has nothing there."""

    def spoil(world: World) -> None:
        path = world.root / PATHS.get(name, name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def cut(name: str, size: int) -> Callable[[World], Any]:
    """Has only the beginning of a file there."""

    def spoil(world: World) -> None:
        path = world.root / PATHS.get(name, name)
        path.write_bytes(path.read_bytes()[:size])

    return spoil


def edited(name: str, edit: Callable[[Any], Any]) -> Callable[[World], Any]:
    """Has another JSON there."""

    def spoil(world: World) -> None:
        path = world.root / PATHS.get(name, name)
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return spoil
