"""The figures of a report, in bokeh, put together for a page.

Pictures are empty here. ``report.js`` fills them in the browser, from the volumes and rows that go
along once, compressed; so a page holds no picture twice.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.reportparts import LINE_COLORS, MARKED, Parts, bokeh_models
from daskroi.reportseries import add_series
from daskroi.reportslices import add_slices

if TYPE_CHECKING:
    from daskroi.reportdata import Confounding, Series
    from daskroi.reportviews import Slices

__all__ = ["Figures", "figures", "region_colors"]


@dataclass(frozen=True)
class Figures:
    """What goes into a page.

    Parameters
    ----------
    library : str
        BokehJS, as text.
    script : str
        Makes the figures.
    places : dict of str to str
        HTML of the place of each figure, by its name.
    """

    library: str
    script: str
    places: dict[str, str]


def region_colors(n: int) -> list[str]:
    """Colours that tell neighbours on the region axis apart, however many there are.

    Examples
    --------
    >>> region_colors(2)
    ['#d93a3a', '#5cd680']
    """
    # steps of the golden angle: no two of a row are near each other
    hues = (np.arange(n) * 0.381966) % 1
    bright = (0.54, 0.60, 0.48)
    return [_hex(hue, bright[i % 3]) for i, hue in enumerate(hues.tolist())]


def _hex(hue: float, lightness: float) -> str:
    rgb = colorsys.hls_to_rgb(hue, lightness, 0.68 if lightness < 0.58 else 0.6)
    return "#" + "".join(f"{round(255 * c):02x}" for c in rgb)


def figures(
    names: Sequence[str],
    colors: Sequence[str],
    slices: Slices | None = None,
    series: Series | None = None,
    confounding: Confounding | None = None,
) -> Figures:
    """Make the figures there are data for.

    Parameters
    ----------
    names : sequence of str, (region,)
        For what is said under a pointer; any text.
    colors : sequence of str, (region,)
    slices : Slices, optional
    series : Series, optional
    confounding : Confounding, optional
        On the frames of ``series``.

    Returns
    -------
    Figures
        Of "sagittal", "coronal", "axial", "series", "motion", "carpet", "matrix", "confounds",
        those there are.
    """
    from bokeh.document import Document
    from bokeh.embed import components
    from bokeh.events import DocumentReady
    from bokeh.resources import Resources

    parts = Parts(data={"names": list(names), "line_colors": [*LINE_COLORS, MARKED]})
    if slices is not None:
        add_slices(parts, slices, colors)
    if series is not None:
        add_series(parts, series, confounding)
    if not parts.figures:
        return Figures("", "", {})
    document = Document()
    for name, figure in parts.figures.items():
        figure.name = name
        _style(figure)
        document.add_root(figure)
    code = files("daskroi").joinpath("report.js").read_text(encoding="utf-8")
    callback = bokeh_models().CustomJS(args=vars(parts), code=code)
    document.js_on_event(DocumentReady, callback)
    script, places = components(parts.figures, wrap_script=False)
    script, places = _named(script, places)
    library = "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)
    return Figures(library, script, places)


def _named(script: str, places: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Bokeh's names are random; a page has each figure once, so they are called what they are."""
    found = {name: re.search(r'id="([0-9a-f-]{36})"', place) for name, place in places.items()}
    names_of = {m[1]: f"figure-{name}" for name, m in found.items() if m}
    if document_id := re.search(r'"docid":"([0-9a-f-]{36})"', script):
        names_of[document_id[1]] = "figures"
    for random, own in names_of.items():
        script = script.replace(random, own)
        places = {name: place.replace(random, own) for name, place in places.items()}
    return script, places


def _style(figure: Any) -> None:
    """Fonts of the page; colours are set in the browser, which knows whether it is dark."""
    figure.grid.grid_line_alpha = 0.25
    figure.axis.axis_label_text_font_style = "normal"
    for kind in ("axis_label", "major_label"):
        setattr(figure.axis, f"{kind}_text_font", "system-ui, sans-serif")
    figure.axis.axis_label_text_font_size = "12px"
    figure.axis.major_label_text_font_size = "11px"
    figure.toolbar.logo = None
    figure.toolbar.autohide = True
