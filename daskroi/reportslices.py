"""Slice views of a report: sagittal, coronal and axial, each in layers, with cross-hairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.reportparts import (
    CLEAR,
    LINE_COLORS,
    MARKED,
    Parts,
    bokeh_models,
    new_figure,
    picture,
)

if TYPE_CHECKING:
    from daskroi.reportviews import Slices

__all__ = ["add_slices"]

UNDER = "#ffffff90"  # the region under the pointer
# axes (x, y, z) across and upwards
VIEWS = {"sagittal": (1, 2), "coronal": (0, 2), "axial": (0, 1)}
ENDS = (("L", "R"), ("P", "A"), ("I", "S"))


def add_slices(parts: Parts, slices: Slices, colors: Sequence[str]) -> None:
    """Add the three views.

    Parameters
    ----------
    parts : Parts
        Is changed.
    slices : Slices
    colors : sequence of str, (region,)
    """
    voxels, sizes = slices.grid.shape[::-1], slices.grid.voxel_sizes
    layers = _layers(colors)
    if slices.image is None:
        del layers["grey"]
    overlays = []
    for name, (across, up) in VIEWS.items():
        width, height = voxels[across] * sizes[across], voxels[up] * sizes[up]
        view = parts.figures[name] = _empty_view(width, height)
        place = {"x": 0, "y": 0, "dw": width, "dh": height, "image": "image"}
        for layer, (mapper, dtype) in layers.items():
            source = picture((voxels[up], voxels[across]), dtype)
            parts.sources[f"{name}_{layer}"] = source
            drawn = view.image(source=source, color_mapper=mapper, **place)
            if layer == "regions":
                drawn.glyph.global_alpha = 0.75 if slices.image is None else 0.35
                overlays.append(drawn.glyph)
        _add_cross(parts, name)
        _add_ends(view, ENDS[across], ENDS[up], width, height)
    parts.sources["overlays"] = overlays
    parts.data |= {
        "volume": slices.regions.ravel(),
        "grey": None if slices.image is None else slices.image.ravel(),
        "voxels": list(voxels),
        "sizes": list(sizes),
        "affine": [list(row) for row in slices.grid.affine],
        "centres": slices.centres.tolist(),
    }


def _layers(colors: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """Colours and dtype of the layers, from below: the image, all regions, selected ones."""
    models = bokeh_models()
    greys = models.LinearColorMapper(
        palette=[f"#{g:02x}{g:02x}{g:02x}" for g in range(256)], low=0, high=255
    )
    regions = models.LinearColorMapper(palette=[CLEAR, *colors], low=-0.5, high=len(colors) + 0.5)
    marks = [CLEAR, *LINE_COLORS, MARKED, UNDER]
    marked = models.LinearColorMapper(palette=marks, low=-0.5, high=len(marks) - 0.5)
    return {
        "grey": (greys, np.uint8),
        "regions": (regions, np.uint16),
        "marked": (marked, np.uint8),
    }


def _empty_view(width: float, height: float) -> Any:
    view = new_figure(
        x_range=(0, width), y_range=(0, height), aspect_ratio=width / height, min_border=0
    )
    view.axis.visible = view.grid.visible = False
    view.outline_line_color = None
    view.background_fill_color, view.background_fill_alpha = "#000000", 1
    return view


def _add_cross(parts: Parts, name: str) -> None:
    models = bokeh_models()
    cross = {"line_color": "#ffffff", "line_alpha": 0.6, "line_width": 1}
    for which, dimension in (("across", "height"), ("up", "width")):
        line = models.Span(dimension=dimension, location=0, **cross)
        parts.sources[f"{name}_{which}"] = line
        parts.figures[name].add_layout(line)


def _add_ends(
    view: Any, across: tuple[str, str], up: tuple[str, str], width: float, height: float
) -> None:
    """Say what is left, right, front ... at the four edges."""
    models = bokeh_models()
    for text, x, y, align, baseline in (
        (across[0], 0, height / 2, "left", "middle"),
        (across[1], width, height / 2, "right", "middle"),
        (up[0], width / 2, 0, "center", "bottom"),
        (up[1], width / 2, height, "center", "top"),
    ):
        view.add_layout(
            models.Label(
                x=x,
                y=y,
                text=text,
                text_align=align,
                text_baseline=baseline,
                text_color="#ffffff",
                text_font="system-ui, sans-serif",
                text_font_size="12px",
                x_offset={"left": 4, "right": -4}.get(align, 0),
                y_offset={"bottom": 3, "top": -3}.get(baseline, 0),
            )
        )
