"""A report as a page: one HTML file that opens offline, in a browser or in a notebook."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskroi.errors import DaskroiNotFoundError
from daskroi.outputs import write
from daskroi.targets import as_target
from daskroi.tsv import MISSING

if TYPE_CHECKING:
    import pandas as pd

    from daskroi.reportdata import Confounding, Series
    from daskroi.reportviews import Slices

__all__ = ["Report", "render"]

TEMPLATE = "report.html.jinja"


def _epoch() -> float | None:
    """The time that https://reproducible-builds.org has a file say it was made at, if any."""
    with suppress(KeyError, ValueError):
        return float(int(os.environ["SOURCE_DATE_EPOCH"]))
    return None


def _now() -> str:
    epoch = _epoch()
    now = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(epoch, UTC)
    return now.strftime("%Y-%m-%d %H:%M UTC")


def _cell(value: Any) -> Any:
    import pandas as pd

    if not isinstance(value, float):
        return MISSING if value is None or value is pd.NA else value
    if value != value:
        return MISSING
    return int(value) if value.is_integer() and abs(value) >= 1000 else value


def render(template: str, **content: Any) -> str:
    """A page of one of the templates, with all text escaped, that can load nothing.

    Its policy allows the scripts that are in it, by a number nobody can guess, and no request: a
    name of a region that got past the escaping would still not run. With SOURCE_DATE_EPOCH, the
    same content is the same page.
    """
    import hashlib
    import secrets
    from importlib.resources import files

    import jinja2

    folder = files("daskroi")

    def read(name: str) -> str:
        return folder.joinpath(name).read_text(encoding="utf-8")

    # autoescape: names and paths come from files, and a page runs whatever is in it
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(read),
    )
    # our own files, which stand in <script> and <style> as they are
    own = {name: read(file) for name, file in (("css", "report.css"), ("table_js", "table.js"))}
    page = partial(environment.get_template(template).render, **own, **content)
    if _epoch() is None:
        return page(nonce=secrets.token_hex(16))
    # no text in a page can hold a hash of that page
    return page(nonce=hashlib.sha256(page(nonce="").encode()).hexdigest()[:32])


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What was made of which atlas, as a page. Jupyter shows it by itself.

    Made by `daskroi.report` and by ``generate_report`` of a masker. Text is escaped wherever it
    comes from: a region called ``<b>`` is shown as that.

    Parameters
    ----------
    title : str
    description : str
        A sentence on what the reported object does.
    notes : tuple of str
        What a reader must know before the tables.
    warnings : tuple of str
        What a reader should look at.
    facts : dict of str
        The numbers that people ask for first.
    regions : DataFrame, optional
        One row per region: the columns of nilearn's report.
    details : DataFrame, optional
        More columns for the same rows: ``n_voxels``, ``coverage`` (0 to 1), ``mean`` and ``tSNR``
        of the series before cleaning, those that are known.
    grid : str
        The grid the regions' sizes are on.
    slices : Slices, optional
        What the slice views show; regions are those of ``regions``, in its order.
    series : Series, optional
        Of the regions of ``regions``, in its order.
    confounding : Confounding, optional
        On the frames of ``series``.
    colors : tuple of str, optional
        Of regions, as ``#rrggbb``.
    introduction, closing : str
        Sentences before the table of regions and at the end.
    parameters, provenance : dict of str
        Two columns each. daskroi's version and ``date`` are added to provenance.
    date : str
        When the report was made; now, or what SOURCE_DATE_EPOCH says, if not given.

    Examples
    --------
    >>> from daskroi import Report
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
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    slices: Slices | None = None
    series: Series | None = None
    confounding: Confounding | None = None
    colors: tuple[str, ...] = ()
    details: pd.DataFrame | None = None
    introduction: str = ""
    closing: str = ""

    @cached_property
    def html(self) -> str:
        """The whole page, self-contained."""
        from markupsafe import Markup

        import daskroi
        from daskroi.reportplots import figures, region_colors

        given: Any = [] if self.regions is None else self.regions.get("region name", [])
        names = [str(n) for n in given]
        colors = self.colors or region_colors(len(names))
        made = figures(names, colors, self.slices, self.series, self.confounding)
        provenance = {**self.provenance, "daskroi": daskroi.__version__, "date": self.date}
        return render(
            TEMPLATE,
            report=self,
            provenance=provenance,
            library=made.library,
            script=made.script,
            # divs of bokeh's, which hold nothing of ours
            places={name: Markup(div) for name, div in made.places.items()},
            colors=colors,
            columns=self._columns(),
            widths=[] if self.slices is None else self.slices.widths,
        )

    def _columns(self) -> list[tuple[str, Any]]:
        """Names of columns, and the class of their cells."""
        from markupsafe import Markup

        if self.table is None:
            return []
        numbers = [self.table[c].dtype.kind in "iuf" for c in self.table.columns]
        kinds = [Markup(' class="number"') if n else "" for n in numbers]
        return list(zip(self.table.columns, kinds, strict=True))

    @cached_property
    def table(self) -> pd.DataFrame | None:
        """``regions`` and ``details`` side by side."""
        if self.regions is None or self.details is None:
            return self.regions
        return self.regions.assign(**{str(c): self.details[c].array for c in self.details})

    def region_rows(self) -> list[list[Any]]:
        """Cells of the region table: Python numbers and text, so that 0.4 is not 0.40."""
        if self.table is None:
            return []
        return [[_cell(v) for v in row] for row in self.table.astype(object).to_numpy().tolist()]

    def save_as_html(self, path: Any, *, storage_options: Mapping[str, Any] | None = None) -> None:
        """Write the page to a file or URL: whole or not at all.

        Parameters
        ----------
        path : path or URL
            An existing file is replaced.
        storage_options : mapping, optional
            For fsspec, for a URL.

        Raises
        ------
        DaskroiNotFoundError
            Its folder does not exist.
        DaskroiError
            It cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Report("Run 1").save_as_html(f"{folder}/report.html")
        ...     os.listdir(folder)
        ['report.html']
        """
        target = as_target(path, storage_options)
        if isinstance(target, Path) and not target.parent.is_dir():
            raise DaskroiNotFoundError(
                f"{target}: its folder does not exist. Create {target.parent} first."
            )
        write(target, self.html)

    def open_in_browser(self, file_name: str | os.PathLike[str] | None = None) -> None:
        """Write the page to a file and open it in the browser.

        Parameters
        ----------
        file_name : str or Path, optional
            In a temporary folder if not given. It is left to the system to delete, for the browser
            may read it after this process has ended.
        """
        import webbrowser

        if file_name is None:
            # its owner's alone, which a page in the folder of all would not be
            file_name = Path(tempfile.mkdtemp(prefix="daskroi-"), "report.html")
        self.save_as_html(file_name)
        webbrowser.open(Path(file_name).expanduser().resolve().as_uri())

    def _repr_html_(self) -> str:
        # in a frame, so that neither the notebook's style nor the page's gets at the other; its
        # scripts may run, but reach nothing of the notebook: it counts as another site
        from html import escape

        return (
            f'<iframe srcdoc="{escape(self.html)}" title="{escape(self.title)}" '
            'sandbox="allow-scripts" '
            'style="width: 100%; height: 48em; border: 1px solid #8884"></iframe>'
        )

    def __str__(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"<Report {self.title!r}: save_as_html(path) or open_in_browser()>"
