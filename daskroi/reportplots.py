"""The figures of a report, in bokeh: three slice views, series, carpet, correlations, confounds.

Pictures are empty here. ``report.js`` fills them in the browser, from the volumes and rows that go
along once, compressed; so a page holds no picture twice.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from daskroi.reportdata import Confounding, Series
    from daskroi.reportviews import Slices

__all__ = ["LINE_COLORS", "Figures", "figures", "region_colors"]

# of selected regions; each has a contrast of 3:1 to a white and to a dark page
LINE_COLORS = (
    *("#3b82f6", "#e4572e", "#2a9d5c", "#a855f7", "#b37a00"),
    *("#0b93a0", "#d6409f", "#778700", "#94705a", "#71809a"),
)
MARKED = "#ffffff"  # selected regions beyond these
UNDER = "#ffffff90"  # the region under the pointer
CLEAR = "#00000000"
LONGEST_LABEL = 27  # of an axis: a phone is not much wider
# axes (x, y, z) across and upwards
VIEWS = {"sagittal": (1, 2), "coronal": (0, 2), "axial": (0, 1)}
ENDS = (("L", "R"), ("P", "A"), ("I", "S"))


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


def _models() -> Any:
    # as Any: the types that bokeh declares for its models lack some, and refuse what is allowed
    return import_module("bokeh.models")


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

    models = _models()
    made: dict[str, Any] = {}
    data: dict[str, Any] = {"names": list(names), "line_colors": [*LINE_COLORS, MARKED]}
    sources: dict[str, Any] = {}
    if slices is not None:
        _add_slices(made, sources, data, slices, colors)
    if series is not None:
        _add_series(made, sources, data, series, confounding)
    if not made:
        return Figures("", "", {})
    document = Document()
    for name, figure in made.items():
        figure.name = name
        _style(figure)
        document.add_root(figure)
    code = files("daskroi").joinpath("report.js").read_text(encoding="utf-8")
    everything = {"figures": made, "sources": sources, "data": data}
    document.js_on_event(DocumentReady, models.CustomJS(args=everything, code=code))
    script, places = components(made, wrap_script=False)
    # bokeh's names are random; a page has each figure once, so they are called what they are
    found = {name: re.search(r'id="([0-9a-f-]{36})"', place) for name, place in places.items()}
    names_of = {m[1]: f"figure-{name}" for name, m in found.items() if m}
    if document_id := re.search(r'"docid":"([0-9a-f-]{36})"', script):
        names_of[document_id[1]] = "figures"
    for random, own in names_of.items():
        script = script.replace(random, own)
        places = {name: place.replace(random, own) for name, place in places.items()}
    library = "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)
    return Figures(library, script, places)


def _figure(**settings: Any) -> Any:
    from bokeh.plotting import figure

    settings = {"toolbar_location": None, "tools": "", "sizing_mode": "stretch_width"} | settings
    made = figure(**settings)
    made.background_fill_alpha = made.border_fill_alpha = 0
    return made


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


def _picture(shape: tuple[int, int], dtype: Any) -> Any:
    models = _models()
    return models.ColumnDataSource({"image": [np.zeros(shape, dtype)]})


def _add_slices(
    made: dict[str, Any],
    sources: dict[str, Any],
    data: dict[str, Any],
    slices: Slices,
    colors: Sequence[str],
) -> None:

    models = _models()
    n = len(colors)
    greys = models.LinearColorMapper(
        palette=[f"#{g:02x}{g:02x}{g:02x}" for g in range(256)], low=0, high=255
    )
    regions = models.LinearColorMapper(palette=[CLEAR, *colors], low=-0.5, high=n + 0.5)
    marks = [CLEAR, *LINE_COLORS, MARKED, UNDER]
    marked = models.LinearColorMapper(palette=marks, low=-0.5, high=len(marks) - 0.5)
    voxels, sizes = slices.grid.shape[::-1], slices.grid.voxel_sizes
    opacity = 0.75 if slices.image is None else 0.35
    layers = []
    for name, (across, up) in VIEWS.items():
        width, height = voxels[across] * sizes[across], voxels[up] * sizes[up]
        view = _figure(
            x_range=(0, width), y_range=(0, height), aspect_ratio=width / height, min_border=0
        )
        view.axis.visible = view.grid.visible = False
        view.outline_line_color = None
        view.background_fill_color, view.background_fill_alpha = "#000000", 1
        shape = voxels[up], voxels[across]
        place = {"x": 0, "y": 0, "dw": width, "dh": height, "image": "image"}
        for layer, mapper, dtype in (
            ("grey", greys, np.uint8),
            ("regions", regions, np.uint16),
            ("marked", marked, np.uint8),
        ):
            if layer == "grey" and slices.image is None:
                continue
            source = sources[f"{name}_{layer}"] = _picture(shape, dtype)
            drawn = view.image(source=source, color_mapper=mapper, **place)
            if layer == "regions":
                drawn.glyph.global_alpha = opacity
                layers.append(drawn.glyph)
        cross = {"line_color": "#ffffff", "line_alpha": 0.6, "line_width": 1}
        sources[f"{name}_across"] = models.Span(dimension="height", location=0, **cross)
        sources[f"{name}_up"] = models.Span(dimension="width", location=0, **cross)
        view.add_layout(sources[f"{name}_across"])
        view.add_layout(sources[f"{name}_up"])
        for text, x, y, align, baseline in (
            (ENDS[across][0], 0, height / 2, "left", "middle"),
            (ENDS[across][1], width, height / 2, "right", "middle"),
            (ENDS[up][0], width / 2, 0, "center", "bottom"),
            (ENDS[up][1], width / 2, height, "center", "top"),
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
        made[name] = view
    sources["overlays"] = layers
    data["volume"] = slices.regions.ravel()
    data["grey"] = None if slices.image is None else slices.image.ravel()
    data["voxels"], data["sizes"] = list(voxels), list(sizes)
    data["affine"] = [list(row) for row in slices.grid.affine]
    data["centres"] = slices.centres.tolist()


def _add_series(
    made: dict[str, Any],
    sources: dict[str, Any],
    data: dict[str, Any],
    series: Series,
    confounding: Confounding | None,
) -> None:

    models = _models()
    frames = series.frames
    step, n_frames = frames.step, len(frames.times)
    start, end = frames.times[0] - step / 2, frames.times[-1] + step / 2
    time = models.Range1d(start=start, end=end, bounds=(start, end))
    unit = "Time (s)" if frames.unit == "s" else "Frame"
    gone = frames.times[frames.censored]
    censored = models.ColumnDataSource({"left": gone - step / 2, "right": gone + step / 2})
    # one line through all panels, for they have one time axis
    cursor = models.Span(dimension="height", line_color="#888888", line_dash="dashed", line_width=1)
    tools = "xpan,xwheel_zoom,xbox_zoom,reset,save"

    def panel(name: str, **settings: Any) -> Any:
        figure = made[name] = _figure(
            x_range=time, tools=tools, toolbar_location="above", active_drag=None, **settings
        )
        figure.add_tools(models.CrosshairTool(overlay=cursor))
        figure.xaxis.axis_label = unit
        figure.min_border_left, figure.min_border_right = 70, 10
        return figure

    def shade(figure: Any) -> None:
        figure.vstrip(
            x0="left",
            x1="right",
            source=censored,
            fill_color="#e0a000",
            fill_alpha=0.3,
            line_color=None,
            level="underlay",
        )

    # a first line, for the range of the axis wants to begin somewhere
    some: dict[str, Any] = {"xs": [[start, end]], "ys": [[0, 1]], "color": [CLEAR], "name": [""]}
    lines = sources["lines"] = models.ColumnDataSource(some)
    plot = panel("series", height=280, y_range=models.DataRange1d(range_padding=0.05))
    shade(plot)
    drawn = plot.multi_line("xs", "ys", color="color", line_width=1.6, source=lines)
    plot.y_range.renderers = [drawn]
    sources["under"] = models.ColumnDataSource({"xs": [], "ys": []})
    plot.multi_line("xs", "ys", color="#808890", line_width=1, source=sources["under"])
    plot.yaxis.axis_label = series.unit
    plot.add_tools(
        models.HoverTool(
            renderers=[drawn],
            tooltips=[("", "@name"), (unit, "$x{0.[0]}"), ("", "$y{0.[000]}")],
            line_policy="nearest",
        )
    )
    if confounding is not None and confounding.displacement is not None:
        plot = panel("motion", height=150, y_range=models.DataRange1d(start=0, range_padding=0.05))
        shade(plot)
        drawn = plot.line(frames.times, confounding.displacement, line_width=1.4)
        drawn.glyph.line_color = LINE_COLORS[1]
        plot.y_range.renderers = [drawn]
        plot.yaxis.axis_label = "FD (mm)"
        plot.yaxis.ticker.desired_num_ticks = 3
    # 0 is missing
    greys = models.LinearColorMapper(
        palette=[CLEAR, *(f"#{g:02x}{g:02x}{g:02x}" for g in range(1, 256))], low=-0.5, high=255.5
    )
    rows = sources["rows"] = models.ColumnDataSource({"at": [], "color": []})
    wide = {"x": start, "y": 0, "dw": end - start, "image": "image", "color_mapper": greys}
    n = len(series.rows.codes)
    carpet = panel("carpet", height=320, y_range=models.Range1d(start=n, end=0, bounds=(0, n)))
    sources["carpet"] = _picture((n, n_frames), np.uint8)
    carpet.image(source=sources["carpet"], dh=n, **wide)
    shade(carpet)
    carpet.hspan(y="at", line_color="color", line_width=2, source=rows)
    carpet.yaxis.axis_label = "Region, in the order of the table"
    carpet.grid.visible = False
    if confounding is not None and confounding.names:
        m = len(confounding.names)
        plot = panel(
            "confounds",
            height=60 + 18 * m + 30,
            y_range=models.Range1d(start=m, end=0, bounds=(0, m)),
        )
        sources["confounds"] = _picture((m, n_frames), np.uint8)
        plot.image(source=sources["confounds"], dh=m, **wide)
        shade(plot)
        plot.yaxis.ticker = [i + 0.5 for i in range(m)]
        plot.yaxis.major_label_overrides = {
            i + 0.5: _plain(name) for i, name in enumerate(confounding.names)
        }
        plot.grid.visible = False
        plot.min_border_left = 150
        data["confounds"] = confounding.rows.codes.ravel()
        data["confound_names"] = list(confounding.names)
    if series.matrix is not None:
        _add_matrix(made, sources, n, rows)
        data["matrix"] = series.matrix
    data["codes"] = series.rows.codes.ravel()
    data["low"], data["step"] = series.rows.low, series.rows.step
    data["times"], data["censored"] = frames.times, frames.censored.tolist()
    data["unit"], data["time_unit"] = series.unit, frames.unit
    data["standardized"] = series.comparable


def _plain(name: str) -> str:
    short = name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"
    # bokeh reads $$...$$ as mathematics, and would fetch the library for it
    return short.replace("$$", "$\u200b$")


def _add_matrix(made: dict[str, Any], sources: dict[str, Any], n: int, rows: Any) -> None:
    from bokeh.palettes import RdBu11, interp_palette

    models = _models()
    palette = list(interp_palette(RdBu11, 255))
    matrix = made["matrix"] = _figure(
        x_range=models.Range1d(start=0, end=n, bounds=(0, n)),
        y_range=models.Range1d(start=n, end=0, bounds=(0, n)),
        tools="pan,wheel_zoom,box_zoom,reset,save",
        toolbar_location="above",
        active_drag=None,
        aspect_ratio=1,
    )
    matrix.min_border_left, matrix.min_border_right = 50, 10
    sources["matrix"] = _picture((n, n), np.uint8)
    matrix.image(
        source=sources["matrix"],
        color_mapper=models.LinearColorMapper(palette=[CLEAR, *palette], low=-0.5, high=255.5),
        x=0,
        y=0,
        dw=n,
        dh=n,
        image="image",
    )
    for line, at in ((matrix.hspan, "y"), (matrix.vspan, "x")):
        line(**{at: "at"}, line_color="color", line_width=1.5, line_alpha=0.8, source=rows)
    matrix.axis.axis_label = "Region"
    matrix.grid.visible = False
    bar = models.ColorBar(
        color_mapper=models.LinearColorMapper(palette=palette, low=-1, high=1),
        height=10,
        title="Correlation r",
        background_fill_alpha=0,
        border_line_color=None,
        title_text_font="system-ui, sans-serif",
        major_label_text_font="system-ui, sans-serif",
        title_text_font_style="normal",
    )
    matrix.add_layout(bar, "below")
    sources["bar"] = bar
