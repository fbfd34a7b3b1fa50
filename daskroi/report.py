"""A report: one HTML page of finished things, without network or scripts."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskroi.errors import DaskroiNotFoundError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Report"]

TEMPLATE = "report.html.jinja"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What was made of which atlas, as a page. Jupyter shows it by itself.

    Text is escaped wherever it comes from: a region called ``<b>`` is shown as that.

    Parameters
    ----------
    title : str
    description : str
        A sentence on what the reported object does.
    notes : tuple of str
        What a reader must know before the tables.
    regions : DataFrame, optional
        One row per region; shown as it is.
    grid : str
        The grid the regions' sizes are on.
    parameters, provenance : dict of str
        Two columns each. daskroi's version and ``date`` are added to provenance.
    date : str
        When the report was made; now, if not given.

    Examples
    --------
    >>> report = Report("Run 1", notes=("No <image>.",), parameters={"strategy": "mean"})
    >>> "No &lt;image&gt;." in report.html
    True
    >>> report
    <Report 'Run 1': save_as_html(path) or open_in_browser()>
    """

    title: str
    description: str = ""
    notes: tuple[str, ...] = ()
    regions: pd.DataFrame | None = None
    grid: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    date: str = field(default_factory=_now)

    @cached_property
    def html(self) -> str:
        """The whole page, self-contained."""
        from importlib.resources import files

        import jinja2

        import daskroi

        text = files("daskroi").joinpath(TEMPLATE).read_text(encoding="utf-8")
        # autoescape: names and paths come from files, and a page runs whatever is in it
        environment = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        provenance = {**self.provenance, "daskroi": daskroi.__version__, "date": self.date}
        return environment.from_string(text).render(report=self, provenance=provenance)

    def region_rows(self) -> list[list[Any]]:
        """Cells of the region table: Python numbers and text, so that 0.4 is not 0.40."""
        return [] if self.regions is None else self.regions.astype(object).to_numpy().tolist()

    def save_as_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file: whole or not at all.

        Parameters
        ----------
        path : str or Path
            An existing file is replaced.

        Raises
        ------
        DaskroiNotFoundError
            Its folder does not exist.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Report("Run 1").save_as_html(f"{folder}/report.html")
        ...     os.listdir(folder)
        ['report.html']
        """
        target = Path(path).expanduser()
        if not target.parent.is_dir():
            raise DaskroiNotFoundError(
                f"{target}: its folder does not exist. Create {target.parent} first."
            )
        # beside the target: a rename is atomic only within one file system
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            part.write_text(self.html, encoding="utf-8")
            os.replace(part, target)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise

    def open_in_browser(self, file_name: str | os.PathLike[str] | None = None) -> None:
        """Write the page to a file and open it in the browser.

        Parameters
        ----------
        file_name : str or Path, optional
            A temporary file if not given. It is left to the system to delete, for the browser may
            read it after this process has ended.
        """
        import webbrowser

        if file_name is None:
            handle, file_name = tempfile.mkstemp(prefix="daskroi-", suffix=".html")
            os.close(handle)
        self.save_as_html(file_name)
        webbrowser.open(Path(file_name).expanduser().resolve().as_uri())

    def _repr_html_(self) -> str:
        # in a frame, so that neither the notebook's style nor the page's gets at the other
        from html import escape

        return (
            f'<iframe srcdoc="{escape(self.html)}" title="{escape(self.title)}" sandbox '
            'style="width: 100%; height: 36em; border: 1px solid #8884"></iframe>'
        )

    def __str__(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"<Report {self.title!r}: save_as_html(path) or open_in_browser()>"
