"""What figures of a report share: how they are drawn, their colours, what goes with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

__all__ = ["CLEAR", "LINE_COLORS", "MARKED", "Parts", "bokeh_models", "new_figure", "picture"]

# of selected regions; each has a contrast of 3:1 to a white and to a dark page
LINE_COLORS = (
    *("#3b82f6", "#e4572e", "#2a9d5c", "#a855f7", "#b37a00"),
    *("#0b93a0", "#d6409f", "#778700", "#94705a", "#71809a"),
)
MARKED = "#ffffff"  # selected regions beyond these
CLEAR = "#00000000"


@dataclass
class Parts:
    """What ``report.js`` is given, each by name.

    Parameters
    ----------
    figures : dict
        Those of the page.
    sources : dict
        What it fills or moves in them.
    data : dict
        What it fills them with.
    """

    figures: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


def bokeh_models() -> Any:
    """Bokeh's models, as Any: the types it declares lack some, and refuse what is allowed."""
    return import_module("bokeh.models")


def new_figure(**settings: Any) -> Any:
    """A figure as wide as the page, without tools unless given."""
    from bokeh.plotting import figure

    settings = {"toolbar_location": None, "tools": "", "sizing_mode": "stretch_width"} | settings
    made = figure(**settings)
    made.background_fill_alpha = made.border_fill_alpha = 0
    return made


def picture(shape: tuple[int, int], dtype: Any) -> Any:
    """A source of an empty picture."""
    return bokeh_models().ColumnDataSource({"image": [np.zeros(shape, dtype)]})
