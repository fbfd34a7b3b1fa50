"""Atlases and seeds as the command line names them: ``[NAME=]PATH``, or one known by name."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import click

from daskroi.entities import atlas_label, atlas_of
from daskroi.errors import DaskroiError
from daskroi.paths import name_of
from daskroi.urls import shown

if TYPE_CHECKING:
    import pandas as pd

    from daskroi.placement import AnyAtlas

__all__ = ["Named", "atlases_of", "load_named", "named"]

# atlas, or pattern and table of one per subject, and the files that it is from
Named = tuple[Any, dict[str, str]]


def named(spec: str) -> tuple[str | None, str]:
    """Name and path of ``NAME=PATH``; a path may have an equals sign too.

    Examples
    --------
    >>> named("AAL=atlases/aal.nii.gz"), named("aal.nii.gz")
    (('AAL', 'atlases/aal.nii.gz'), (None, 'aal.nii.gz'))
    """
    name, equals, path = spec.partition("=")
    if not equals or os.path.exists(spec) or not re.fullmatch(r"[A-Za-z0-9]+", name):
        return None, spec
    return name, path


def load_named(
    name: str | None,
    path: str,
    table: str | None = None,
    background_label: int = 0,
    storage_options: dict[str, Any] | None = None,
) -> AnyAtlas:
    """Load the atlas at a path or URL, or the one that is known by that name.

    Raises
    ------
    DaskroiError
        As `load_atlas`, or no such dataset.
    """
    from daskroi.atlas import load_atlas

    known = None if table or not _is_name(path) else _known(path, name)
    return known or load_atlas(
        path, table, background_label=background_label, name=name, storage_options=storage_options
    )


def _is_name(path: str) -> bool:
    return not (os.path.exists(path) or "/" in path or "." in path)


def _known(spec: str, name: str | None) -> AnyAtlas | None:
    from daskroi import datasets

    label = name or atlas_label(spec)
    schaefer = re.fullmatch(r"Schaefer(\d+)(?:x(7|17))?", spec)
    if schaefer:
        return datasets.schaefer(int(schaefer[1]), int(schaefer[2] or 7), name=label)
    if spec == "HarvardOxford":
        return datasets.harvard_oxford(name=label)
    if spec in datasets.HARVARD_OXFORD:
        return datasets.harvard_oxford(spec, name=label)
    return None


def atlases_of(
    specs: tuple[str, ...],
    tables: tuple[str, ...],
    *,
    option: str,
    background_label: int = 0,
    seeds: tuple[str, ...] = (),
    radius: float | None = None,
    storage_options: dict[str, Any] | None = None,
    per_subject: bool = False,
) -> dict[str, Named]:
    """Load atlases and seeds, by the name that their results get.

    Parameters
    ----------
    specs, tables, seeds : tuple of str
        ``[NAME=]PATH``. Tables go with the atlas of their name, or all in the order of the atlases.
        An atlas may be the name of a known one.
    option : str
        What ``specs`` are called on the command line.
    background_label : int
    radius : float, optional
        Of ``seeds``, in mm.
    storage_options : dict, optional
        For fsspec.
    per_subject : bool
        A path with ``{subject}`` or the like in it is a pattern; it is not loaded.

    Returns
    -------
    dict of name to (atlas, files)
        ``files`` by the option that gave them, without dashes.

    Raises
    ------
    UsageError
        Options that do not go together.
    DaskroiError
        Two of one name, or as `load_atlas`.
    """
    if not specs and not seeds:
        raise click.UsageError(f"Missing option '{option}' (or '--seeds').")
    if radius is not None and not seeds:
        raise click.BadOptionUsage("--radius", "--radius is for --seeds. Give both, or neither.")
    found: dict[str, Named] = {}
    for spec, table in zip(specs, _tables_of(specs, tables, option), strict=True):
        name, path = named(spec)
        files = {option.strip("-"): path} | ({"labels_table": table} if table else {})
        if per_subject and "{" in path:
            if not name or table is None:
                raise click.BadOptionUsage(
                    option,
                    f"{path!r} is one atlas per subject, which needs a name and a table: "
                    f"{option} NAME=PATTERN --labels-table NAME=PATH.",
                )
            _keep(found, name, ((path, table), files), option)
            continue
        atlas = load_named(name, path, table, background_label, storage_options)
        if table is None and atlas.source:
            files = {option.strip("-"): atlas.source if _is_name(path) else path}
        _keep(found, atlas.name, (atlas, files), option)
    for spec in seeds:
        spheres, path = _spheres(spec, radius, storage_options)
        _keep(found, spheres.name, (spheres, {"seeds": path}), "--seeds")
    return found


def _keep(found: dict[str, Named], name: str, one: Named, option: str) -> None:
    key = atlas_label(name)
    if key in found:
        path, first = (shown(next(iter(files.values()))) for files in (one[1], found[key][1]))
        raise DaskroiError(
            f"{path}: its results would have the same names (atlas-{key}) as those of {first}. "
            f"Give names: {option} NAME=PATH."
        )
    found[key] = one


def _tables_of(
    specs: tuple[str, ...], tables: tuple[str, ...], option: str
) -> tuple[str | None, ...]:
    """The table of every atlas, None for its own."""
    if not tables:
        return (None,) * len(specs)
    pairs = [named(text) for text in tables]
    if all(name is None for name, _ in pairs):
        if len(tables) != len(specs):
            raise click.BadOptionUsage(
                "--labels-table",
                f"--labels-table was given {len(tables)} times and {option} {len(specs)} times. "
                "Give one table per atlas, in the same order, or say which atlas each is for: "
                "--labels-table NAME=PATH.",
            )
        return tables
    by_name = dict(pairs)
    if None in by_name or len(by_name) < len(pairs):
        raise click.BadOptionUsage(
            "--labels-table",
            "Of several tables each needs the name of its atlas, or none has one: --labels-table "
            "NAME=PATH.",
        )
    chosen = tuple(by_name.pop(named(spec)[0], None) for spec in specs)
    if by_name:
        unused = next(iter(by_name))
        raise click.BadOptionUsage(
            "--labels-table", f"There is no atlas {unused!r}. Give it as {option} {unused}=PATH."
        )
    return chosen


def _spheres(
    spec: str, radius: float | None, storage_options: dict[str, Any] | None
) -> tuple[AnyAtlas, str]:
    from daskroi.atlas import load_atlas

    name, path = named(spec)
    frame = _read_seeds(path, storage_options)
    if name is None:
        name = atlas_of(os.path.splitext(name_of(shown(path)))[0])
    try:
        return load_atlas(frame, radius=radius, name=name), path
    except DaskroiError as error:
        raise type(error)(f"{shown(path)}: {error}") from error


def _read_seeds(path: str, storage_options: dict[str, Any] | None) -> pd.DataFrame:
    from daskroi.bytesource import ByteSource
    from daskroi.texttable import frame_of

    table, named = frame_of(ByteSource.of(path, storage_options).read(), shown(path), "seeds")
    if not named:
        raise DaskroiError(
            f"{shown(path)}: the table of seeds has no header. Name its columns x, y and z."
        )
    return table
