"""What a masker's report says: its atlas's regions, its parameters, and what was not as hoped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daskroi.errors import warn
from daskroi.estimator import describe
from daskroi.fitted import FittedAtlas
from daskroi.placement import list_regions
from daskroi.report import Report

__all__ = ["report_of"]


def report_of(
    kind: str,
    parameters: Mapping[str, Any],
    fitted: FittedAtlas | None,
    image: str = "",
    title: str | None = None,
) -> Report:
    """Put the report of a masker together.

    Parameters
    ----------
    kind : str
        The masker's class.
    parameters : dict
        Its constructor parameters; ``reports`` is among them.
    fitted : FittedAtlas or None
        None before ``fit``.
    image : str
        Where the fitted image is from; empty for none.
    title : str, optional
        ``kind`` if not given.

    Warns
    -----
    DaskroiWarning
        There is no region table, because of ``reports=False`` or because fit was not called.
    """
    notes = []
    if not parameters["reports"]:
        notes.append("Report generation not enabled. Pass reports=True for the region table.")
    if fitted is None:
        notes.append(f"This {kind} has not been fitted yet. Call fit before generate_report.")
    for note in notes:
        warn(note)
    shown = None if notes else fitted
    return Report(
        title=title or kind,
        description="Time series of the regions of a label atlas: in every frame, the voxels of "
        "one label become one number.",
        notes=tuple(notes if shown is None else _notes(kind, shown, image)),
        regions=None if shown is None else shown.region_table(),
        grid="" if shown is None else shown.grid.describe(),
        parameters={k: describe(v, whole=True) for k, v in parameters.items()},
        provenance={}
        if fitted is None
        else {
            "atlas": fitted.atlas.source or f"{fitted.atlas.name} (in memory)",
            "atlas hash": fitted.atlas.hash,
            "image": image or "none",
        },
    )


def _notes(kind: str, fitted: FittedAtlas, image: str) -> list[str]:
    notes = []
    if not image:
        notes.append(
            f"No image provided to fit in {kind}. Sizes are those of the atlas on its own grid."
        )
    lost = fitted.atlas.table[fitted.lost]
    if len(lost):
        where = "the image and mask" if image else "the mask"
        notes.append(
            f"{len(lost)} of {len(fitted.atlas.ids)} regions have no voxel in {where}: "
            f"{list_regions(lost['index'], lost['name'])}."
        )
    return notes
