"""Series of a report: lines, motion, carpet and confounds above one time axis, and correlations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.reportparts import CLEAR, LINE_COLORS, Parts, bokeh_models, new_figure, picture

if TYPE_CHECKING:
    from daskroi.reportdata import Confounding, Series
    from daskroi.reportframes import FrameAxis

__all__ = ["add_series"]

LONGEST_LABEL = 27  # of an axis: a phone is not much wider


def add_series(parts: Parts, series: Series, confounding: Confounding | None) -> None:
    """Add the panels there are data for.

    Parameters
    ----------
    parts : Parts
        Is changed.
    series : Series
    confounding : Confounding, optional
        On the frames of ``series``.
    """
    panels = _Panels(parts, series.frames)
    _add_lines(panels, series.unit)
    if confounding is not None and confounding.displacement is not None:
        _add_motion(panels, confounding.displacement)
    n = len(series.rows.codes)
    greys = _greys()
    _add_carpet(panels, n, greys)
    if confounding is not None and confounding.names:
        _add_confounds(panels, confounding.names, greys)
        parts.data["confounds"] = confounding.rows.codes.ravel()
        parts.data["confound_names"] = list(confounding.names)
    if series.matrix is not None:
        _add_matrix(parts, n)
        parts.data["matrix"] = series.matrix
    parts.data |= {
        "codes": series.rows.codes.ravel(),
        "low": series.rows.low,
        "step": series.rows.step,
        "times": series.frames.times,
        "censored": series.frames.censored.tolist(),
        "unit": series.unit,
        "time_unit": series.frames.unit,
        "standardized": series.comparable,
    }


class _Panels:
    """Panels with one time axis and one cursor; frames that are censored are shaded in all."""

    def __init__(self, parts: Parts, frames: FrameAxis) -> None:
        models = bokeh_models()
        self.parts, self.frames = parts, frames
        half = frames.step / 2
        self.start, self.end = frames.times[0] - half, frames.times[-1] + half
        self.unit = "Time (s)" if frames.unit == "s" else "Frame"
        self._time = models.Range1d(start=self.start, end=self.end, bounds=(self.start, self.end))
        gone = frames.times[frames.censored]
        self._censored = models.ColumnDataSource({"left": gone - half, "right": gone + half})
        self._cursor = models.Span(
            dimension="height", line_color="#888888", line_dash="dashed", line_width=1
        )

    def add(self, name: str, **settings: Any) -> Any:
        """A panel with nothing in it."""
        figure = self.parts.figures[name] = new_figure(
            x_range=self._time,
            tools="xpan,xwheel_zoom,xbox_zoom,reset,save",
            toolbar_location="above",
            active_drag=None,
            **settings,
        )
        figure.add_tools(bokeh_models().CrosshairTool(overlay=self._cursor))
        figure.xaxis.axis_label = self.unit
        figure.min_border_left, figure.min_border_right = 70, 10
        return figure

    def add_rows(self, name: str, n: int, height: int, greys: Any) -> Any:
        """A panel with a picture of ``n`` rows, the first on top."""
        figure = self.add(
            name, height=height, y_range=bokeh_models().Range1d(start=n, end=0, bounds=(0, n))
        )
        source = self.parts.sources[name] = picture((n, len(self.frames.times)), np.uint8)
        wide = {"x": self.start, "y": 0, "dw": self.end - self.start, "dh": n}
        figure.image(source=source, image="image", color_mapper=greys, **wide)
        figure.grid.visible = False
        self.shade(figure)
        return figure

    def shade(self, figure: Any) -> None:
        """Shade the frames that are censored."""
        figure.vstrip(
            x0="left",
            x1="right",
            source=self._censored,
            fill_color="#e0a000",
            fill_alpha=0.3,
            line_color=None,
            level="underlay",
        )


def _add_lines(panels: _Panels, unit: str) -> None:
    """Series of selected regions, and of the region under the pointer."""
    models, sources = bokeh_models(), panels.parts.sources
    # a first line, for the range of the axis wants to begin somewhere
    span = [panels.start, panels.end]
    some: dict[str, Any] = {"xs": [span], "ys": [[0, 1]], "color": [CLEAR], "name": [""]}
    lines = sources["lines"] = models.ColumnDataSource(some)
    plot = panels.add("series", height=280, y_range=models.DataRange1d(range_padding=0.05))
    panels.shade(plot)
    drawn = plot.multi_line("xs", "ys", color="color", line_width=1.6, source=lines)
    plot.y_range.renderers = [drawn]
    under = sources["under"] = models.ColumnDataSource({"xs": [], "ys": []})
    plot.multi_line("xs", "ys", color="#808890", line_width=1, source=under)
    plot.yaxis.axis_label = unit
    plot.add_tools(
        models.HoverTool(
            renderers=[drawn],
            tooltips=[("", "@name"), (panels.unit, "$x{0.[0]}"), ("", "$y{0.[000]}")],
            line_policy="nearest",
        )
    )


def _add_motion(panels: _Panels, displacement: Any) -> None:
    span = bokeh_models().DataRange1d(start=0, range_padding=0.05)
    plot = panels.add("motion", height=150, y_range=span)
    panels.shade(plot)
    drawn = plot.line(panels.frames.times, displacement, line_width=1.4)
    drawn.glyph.line_color = LINE_COLORS[1]
    plot.y_range.renderers = [drawn]
    plot.yaxis.axis_label = "FD (mm)"
    plot.yaxis.ticker.desired_num_ticks = 3


def _greys() -> Any:
    """Of rows; 0 is missing."""
    palette = [CLEAR, *(f"#{g:02x}{g:02x}{g:02x}" for g in range(1, 256))]
    return bokeh_models().LinearColorMapper(palette=palette, low=-0.5, high=255.5)


def _add_carpet(panels: _Panels, n: int, greys: Any) -> None:
    """All regions as rows, the selected ones marked."""
    rows = bokeh_models().ColumnDataSource({"at": [], "color": []})
    panels.parts.sources["rows"] = rows
    carpet = panels.add_rows("carpet", n, 320, greys)
    carpet.hspan(y="at", line_color="color", line_width=2, source=rows)
    carpet.yaxis.axis_label = "Region, in the order of the table"


def _add_confounds(panels: _Panels, names: list[str], greys: Any) -> None:
    m = len(names)
    plot = panels.add_rows("confounds", m, 60 + 18 * m + 30, greys)
    plot.yaxis.ticker = [i + 0.5 for i in range(m)]
    plot.yaxis.major_label_overrides = {i + 0.5: _plain(name) for i, name in enumerate(names)}
    plot.min_border_left = 150


def _plain(name: str) -> str:
    short = name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"
    # bokeh reads $$...$$ as mathematics, and would fetch the library for it
    return short.replace("$$", "$\u200b$")


def _add_matrix(parts: Parts, n: int) -> None:
    from bokeh.palettes import RdBu11, interp_palette

    models = bokeh_models()
    palette = list(interp_palette(RdBu11, 255))
    matrix = parts.figures["matrix"] = new_figure(
        x_range=models.Range1d(start=0, end=n, bounds=(0, n)),
        y_range=models.Range1d(start=n, end=0, bounds=(0, n)),
        tools="pan,wheel_zoom,box_zoom,reset,save",
        toolbar_location="above",
        active_drag=None,
        aspect_ratio=1,
    )
    matrix.min_border_left, matrix.min_border_right = 50, 10
    parts.sources["matrix"] = picture((n, n), np.uint8)
    matrix.image(
        source=parts.sources["matrix"],
        color_mapper=models.LinearColorMapper(palette=[CLEAR, *palette], low=-0.5, high=255.5),
        x=0,
        y=0,
        dw=n,
        dh=n,
        image="image",
    )
    for line, at in ((matrix.hspan, "y"), (matrix.vspan, "x")):
        line(
            **{at: "at"},
            line_color="color",
            line_width=1.5,
            line_alpha=0.8,
            source=parts.sources["rows"],
        )
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
    parts.sources["bar"] = bar
