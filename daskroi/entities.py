"""BIDS names: entities, their order, and what may be made of them in paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from daskroi.errors import DaskroiError

__all__ = [
    "DEVICES",
    "ENTITIES",
    "INDICES",
    "OF_VOXELS",
    "PLACES",
    "BidsName",
    "atlas_label",
    "atlas_of",
    "checked_label",
    "checked_name",
    "entity_folder",
    "entity_stem",
    "in_order",
    "long_name",
    "parse_name",
    "plain_name",
    "present",
    "short_name",
]

# long name -> key in file names, in the order of names (BIDS 1.10)
ENTITIES = {
    "subject": "sub",
    "template": "tpl",
    "session": "ses",
    "cohort": "cohort",
    "sample": "sample",
    "task": "task",
    "tracksys": "tracksys",
    "acquisition": "acq",
    "nucleus": "nuc",
    "volume": "voi",
    "ceagent": "ce",
    "tracer": "trc",
    "stain": "stain",
    "reconstruction": "rec",
    "direction": "dir",
    "run": "run",
    "modality": "mod",
    "echo": "echo",
    "flip": "flip",
    "inversion": "inv",
    "mtransfer": "mt",
    "part": "part",
    "processing": "proc",
    "hemisphere": "hemi",
    "space": "space",
    "split": "split",
    "recording": "recording",
    "chunk": "chunk",
    "atlas": "atlas",
    "segmentation": "seg",
    "scale": "scale",
    "resolution": "res",
    "density": "den",
    "label": "label",
    "description": "desc",
}
LONG = {short: long for long, short in ENTITIES.items()}
ORDER = {long: i for i, long in enumerate(ENTITIES)}

# numbers, of which run-1 and run-01 are the same
INDICES = frozenset({"run", "echo", "flip", "inversion", "split", "chunk"})

# where the voxels of a run lie, not which run it is
PLACES = frozenset({"space", "cohort", "resolution", "density", "description", "echo"})

# results of a run have no voxels
OF_VOXELS = frozenset({"resolution", "density", "description"})

# ASCII only: a look-alike from another script is another file, and some file systems fold them
_LABEL = re.compile(r"[A-Za-z0-9+]+")
# with any ending, no file can have these names on Windows
DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
_KEY = re.compile(r"[A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class BidsName:
    """A file name taken apart; see `parse_name`.

    Parameters
    ----------
    entities : dict of str to str
        Long name of the entity to label, in the order of the file name.
    suffix : str
        What kind of file it is: ``bold``, ``mask``.
    extension : str
        From the first dot on: ``.nii.gz``.
    """

    entities: Mapping[str, str]
    suffix: str
    extension: str

    def key(self, without: Iterable[str] = ()) -> frozenset[tuple[str, str]]:
        """The entities but for some, for looking up."""
        return frozenset((k, v) for k, v in self.entities.items() if k not in without)


def parse_name(name: str) -> BidsName | None:
    """Take a file name apart; None if it is not one by BIDS.

    Parameters
    ----------
    name : str
        File name without folder.

    Examples
    --------
    >>> found = parse_name("sub-01_task-rest_res-2_desc-preproc_bold.nii.gz")
    >>> found.entities["resolution"], found.suffix, found.extension
    ('2', 'bold', '.nii.gz')
    >>> parse_name("sub-01_bold_mean.nii.gz")
    """
    stem, dot, extension = name.partition(".")
    *pairs, suffix = stem.split("_")
    if not pairs or not _KEY.fullmatch(suffix):
        return None
    entities: dict[str, str] = {}
    for pair in pairs:
        key, _, label = pair.partition("-")
        key = LONG.get(key, key)
        if key in entities or not _KEY.fullmatch(key) or not _LABEL.fullmatch(label):
            return None
        entities[key] = label
    return BidsName(entities, suffix, dot + extension)


def long_name(key: str) -> str:
    """The long name of an entity given by either; other keys as they are.

    Examples
    --------
    >>> long_name("acq"), long_name("acquisition"), long_name("mine")
    ('acquisition', 'acquisition', 'mine')
    """
    return LONG.get(key, key)


def short_name(key: str) -> str:
    """The key in file names of an entity given by either name; other keys as they are.

    Examples
    --------
    >>> short_name("acquisition"), short_name("acq"), short_name("mine")
    ('acq', 'acq', 'mine')
    """
    return ENTITIES.get(key, key)


def in_order(entities: Iterable[str]) -> list[str]:
    """Long names in the order of BIDS; those it does not know last, but before the description.

    Examples
    --------
    >>> in_order(["space", "mine", "subject", "description"])
    ['subject', 'space', 'mine', 'description']
    """
    last = len(ORDER) - 1
    return sorted(entities, key=lambda e: (ORDER.get(e, last - 0.5), e))


def checked_label(entity: str, label: Any) -> str:
    """A label that may stand in a path: letters, digits and ``+`` of ASCII, nothing else.

    Raises
    ------
    DaskroiError
        Anything else. It would form a name that BIDS tools cannot read, or leave the folder.

    Examples
    --------
    >>> checked_label("task", "rest")
    'rest'
    >>> checked_label("task", "../../etc")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: task='../../etc' cannot stand in a file name. Use letters and ...
    """
    text = str(label)
    if label is None or not _LABEL.fullmatch(text):
        raise DaskroiError(
            f"{entity}={label!r} cannot stand in a file name. Use letters and digits only."
        )
    return text


def checked_name(parameter: str, name: Any) -> str:
    """A beginning of a file name that stays in its folder, on any system.

    Raises
    ------
    DaskroiError
        It has a separator, a drive (``C:``), or what does not print; or it is a device's.

    Examples
    --------
    >>> checked_name("prefix", "sub-01_task-rest")
    'sub-01_task-rest'
    >>> checked_name("prefix", "../sub-01")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: prefix='../sub-01' cannot begin a file name. Use letters, ...
    """
    text = str(name)
    barred = not text.isprintable() or set(text) & set('/\\:*?"<>|') or text.startswith("-")
    if not text or barred or DEVICES.match(f"{text}_"):
        raise DaskroiError(
            f"{parameter}={text!r} cannot begin a file name. Use letters, digits, '-', '_' and "
            "'.'; a folder goes into out."
        )
    return text


def plain_name(text: str, *, ascii_only: bool = False) -> str:
    """Letters, digits, ``_``, ``.``, ``+`` and ``-`` of a text, the rest as ``-``; may be empty.

    Blanks and the like are a nuisance in shells, and impossible on some file systems.

    Examples
    --------
    >>> plain_name("run 1 (final)"), plain_name("Häufig"), plain_name("Häufig", ascii_only=True)
    ('run-1-final', 'Häufig', 'H-ufig')
    """
    return re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII if ascii_only else 0).strip("-.")


def atlas_label(name: Any) -> str:
    """What stands behind ``atlas-`` in names of results: letters and digits; may be empty.

    Examples
    --------
    >>> atlas_label("Harvard-Oxford")
    'HarvardOxford'
    """
    return re.sub(r"[^A-Za-z0-9]", "", str(name))


def atlas_of(stem: str) -> str:
    """The label of ``atlas-`` in a file's name without ending; without one, the name itself.

    Examples
    --------
    >>> atlas_of("tpl-MNI_atlas-AAL_dseg"), atlas_of("aal")
    ('AAL', 'aal')
    """
    entity = re.search(r"(?:^|_)atlas-([A-Za-z0-9+]+)", stem)
    return entity[1] if entity else stem


def present(entities: Mapping[str, Any]) -> dict[str, str]:
    """Those entities of a row of a table of runs that are there, in order, labels checked."""
    found = {e: entities[e] for e in in_order(e for e in ENTITIES if e in entities)}
    # None, or the NaN that some pandas operations make of it
    kept = {e: v for e, v in found.items() if v is not None and v == v and v != ""}
    return {e: checked_label(e, v) for e, v in kept.items()}


def entity_stem(entities: Mapping[str, Any], without: Iterable[str] = ()) -> str:
    """Entities by long names as they stand in a file name, in their order, but for some.

    Raises
    ------
    DaskroiError
        A label that cannot stand in a path.

    Examples
    --------
    >>> entity_stem({"subject": "01", "acquisition": "x", "resolution": "2"}, OF_VOXELS)
    'sub-01_acq-x'
    """
    return "_".join(
        f"{short_name(e)}-{checked_label(e, v)}" for e, v in entities.items() if e not in without
    )


def entity_folder(entities: Mapping[str, Any]) -> str:
    """The folder of a run in a BIDS dataset; empty if it has no subject.

    Raises
    ------
    DaskroiError
        A label that cannot stand in a path.

    Examples
    --------
    >>> entity_folder({"subject": "01", "session": "a", "task": "rest"})
    'sub-01/ses-a/func'
    """
    found = present(entities)
    if "subject" not in found:
        return ""
    session = f"ses-{found['session']}/" if "session" in found else ""
    return f"sub-{found['subject']}/{session}func"
