"""Names that would do harm: in pages, notebooks, tables and on the terminal they are text."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser as browsers
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from servers import Server

import daskroi as dr
from daskroi.readback import read_timeseries
from daskroi.store import write_run

# each would set window.evil, or break what stands around it
NAMES = [
    "<script>window.evil = 1</script>",
    "</script><script>window.evil = 1</script>",
    "<!--<script>",
    "--></script><img src=x onerror=\"window.evil = 1\">",
    "\" onload=\"window.evil = 1\" x=\"",
    "' onfocus='window.evil = 1' autofocus x='",
    "</title></style></textarea><svg/onload=window.evil=1>",
    "javascript:window.evil=1",
    "{{ 7 * 7 }} ${window.evil = 1} #{7}",
    "]]><script>window.evil = 1</script>",
    "a\u2028window.evil = 1\u2029",
    "&lt;img src=x onerror=window.evil=1&gt;",
    "$$\\href{javascript:window.evil=1}{x}$$",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "tab\there \"and\" quotes, commas",
    "line\nbreak\r\n",
    "[bold red]markup[/] [link=file:///etc]x[/link] [/nothing]",
    "\x1b]0;evil\x07\x1b[31m\x9b2J",
    "\u202egnp.exe",
]  # fmt: skip


def hostile_run() -> tuple[Any, Any, xr.DataArray]:
    """A run whose atlas has these names, and is called by one."""
    phantom = dr.make_phantom((20, 24, 20), n_time=12, n_regions=len(NAMES))
    table = pd.DataFrame({"index": phantom.atlas.ids, "name": NAMES})
    table["color"] = "red;}</style><script>window.evil = 1</script>"
    atlas = dr.load_atlas(phantom.atlas.image, lut=table)
    ts = dr.extract(phantom.image, atlas).compute()
    told = {"source": NAMES[1], "atlas": NAMES[2], "mask": NAMES[3], "recipe": json.dumps(NAMES)}
    return phantom, atlas, ts.assign_attrs(told)


def hostile_report() -> Any:
    phantom, atlas, ts = hostile_run()
    confounds = phantom.confounds.iloc[:, :6].set_axis(NAMES[:6], axis=1)
    return dr.report(ts, atlas, phantom.image, confounds=confounds, title=NAMES[6], notes=NAMES)


@pytest.fixture(scope="module")
def made() -> Any:
    return hostile_report()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of hostile names: of files, runs, regions, and of why a run failed."""
    folder = tmp_path_factory.mktemp("cohort")
    phantom, atlas, _ = hostile_run()
    image = Path(dr.write_phantom(folder / "in", phantom)["image"])
    runs: dict[str, Any] = {}
    for i, name in enumerate(NAMES[:4]):
        path = folder / f"{name.replace('/', '-')}.nii.gz"
        path.write_bytes(image.read_bytes() if i % 2 else b"broken")
        runs[f"{name.replace('/', '-')}{i}"] = path
    dr.extract_cohort(runs, atlas, folder / "out", mask=None, client="threads", progress=False)
    list(dr.cohort_reports(folder / "out", atlases={"Phantom": atlas}))
    return folder / "out"


class Elements(HTMLParser):
    """What a browser would make of a page: elements, and attributes that run or load something."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts: list[dict[str, Any]] = []
        self.active: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script":
            self.scripts.append(given)
        for name, value in given.items():
            text = (value or "").strip().lower()
            loads = name in ("src", "href", "action", "formaction", "data", "poster", "srcset")
            if name.startswith("on") or (loads and not text.startswith(("#", "./", "data:image/"))):
                self.active.append(f"<{tag} {name}={value!r}>")
        if tag in ("base", "object", "embed", "link", "iframe", "form", "frame", "applet"):
            self.active.append(f"<{tag}>")


def test_pages_hold_no_element_of_a_name(made: Any, cohort: Path) -> None:
    pages = {"report": made.html, **{p.name: p.read_text() for p in cohort.rglob("*.html")}}
    assert len(pages) >= 3
    for name, html in pages.items():
        found = Elements(html)
        assert found.active == [], name
        [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
        assert "default-src 'none'" in policy
        [nonce] = set(re.findall(r"nonce-([0-9a-f]{32})", policy))
        assert found.scripts
        assert [s.get("nonce") for s in found.scripts] == [nonce] * len(found.scripts)
    assert len(set(re.findall(r"nonce-([0-9a-f]{32})", "".join(pages.values())))) == len(pages)


def without_policy(html: str) -> str:
    """The same page with nothing but escaping to protect it."""
    bare, count = re.subn(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", html)
    assert count == 1
    return bare


def test_in_a_browser_nothing_runs(
    browser: Any, made: Any, cohort: Path, tmp_path: Path, web: Server
) -> None:
    """Without the policy that would stop it, and with a network."""
    pages = {"report": made.html, "index": (cohort / "index.html").read_text()}
    for name, html in pages.items():
        path = tmp_path / f"{name}.html"
        path.write_text(without_policy(html), encoding="utf-8")
        with browsers.tab(browser, offline=False) as opened:
            dialogs: list[str] = []
            opened.page.on("dialog", lambda d, seen=dialogs: seen.append(d.message))
            if name == "report":
                page = opened.open(path)
                rows = page.locator("table.regions tbody tr")
                assert rows.count() == len(NAMES)
                # what the page makes of names when it is used
                for i in range(0, len(NAMES), 3):
                    rows.nth(i).click(modifiers=["Control"])
                shown = page.locator("#chips button").all_inner_texts()
                assert len(shown) >= 5
                assert {name.strip() for name in shown} <= {" ".join(n.split()) for n in NAMES}
                page.get_by_label("Search").fill("<script>")
            else:
                page = opened.page
                page.goto(path.as_uri())
                assert page.locator("tbody tr").count() == 4
                for link in page.locator("a").evaluate_all("all => all.map((a) => a.href)"):
                    assert link.startswith("file:///")
            page.wait_for_timeout(100)
            assert page.evaluate("window.evil") is None
            assert dialogs == []
            opened.check()
    assert web.requests == []


def test_notebooks_show_text(made: Any) -> None:
    _, atlas, ts = hostile_run()
    frame = Elements(made._repr_html_())
    assert frame.scripts == []
    assert frame.active == ["<iframe>"]
    assert 'sandbox="allow-scripts"' in made._repr_html_()
    shown = [atlas, ts, dr.load_atlas([(0, 0, 0), (9, 9, 9)], labels=NAMES[:2])]
    for thing in shown:
        html = getattr(thing, "_repr_html_", lambda: "")()
        found = Elements(html)
        assert found.scripts == []
        assert [a for a in found.active if "xlink" not in a] == []
        assert "<img" not in html


def test_tables_and_sidecars_keep_names(tmp_path: Path) -> None:
    """As they are in JSON; in a header with blanks for tabs and line breaks. A formula is left one:

    a program that evaluates a table's cells is told to by its user, and a name with a mark before
    it is another name.
    """
    ts = hostile_run()[2].drop_attrs(deep=False).assign_attrs(recipe="{}")
    paths = write_run(ts.assign_attrs(atlas="A"), tmp_path, "sub-01")
    sidecar = json.loads(paths.sidecar.read_bytes())
    assert sidecar["Regions"]["name"] == [name.strip() for name in NAMES]
    back = read_timeseries(paths.timeseries)
    assert back.region_name.values.tolist() == [name.strip() for name in NAMES]
    np.testing.assert_array_equal(back.values, ts.values)
    text = paths.timeseries.read_bytes().decode()
    [header, *rows] = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
    assert header == [" ".join(name.split()) for name in NAMES]
    assert {len(row) for row in rows} == {len(NAMES)}
    table = pd.read_csv(paths.timeseries, sep="\t")
    assert table.columns.tolist() == header
    coverage = pd.read_csv(paths.coverage, sep="\t")
    assert coverage["Node"].tolist() == header


CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]")


def on_a_terminal(command: list[str], folder: Path) -> bytes:
    """What a command writes to a terminal."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        command, cwd=folder, stdin=its, stdout=its, stderr=its, close_fds=True,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "300", "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(its)
    said = b""
    try:
        while True:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # Linux says so that the other end is closed
                break
            if not piece:
                break
            said += piece
        process.wait(60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return said


def test_names_do_not_speak_to_the_terminal(tmp_path: Path) -> None:
    """Sequences that set a title, move the cursor or answer as if typed; and rich's markup."""
    evil = "\x1b]0;evil\x07\x1b[31m\x9bevil[bold]\u202e"
    phantom = dr.make_phantom((12, 14, 12), n_time=4, n_regions=4)
    image = Path(dr.write_phantom(tmp_path / "in", phantom)["image"]).read_bytes()
    (tmp_path / f"{evil}.nii.gz").write_bytes(image[:300])
    table = pd.DataFrame({"index": phantom.atlas.ids, "name": [evil] * 4})
    dr.to_nifti(phantom.atlas.image.astype("i2"), tmp_path / f"{evil}_dseg.nii.gz")
    table.to_csv(tmp_path / f"{evil}_dseg.tsv", sep="\t", index=False)
    (tmp_path / f"sub-1_{evil}_bold.nii.gz").write_bytes(image)
    daskroi = [sys.executable, "-m", "daskroi"]
    atlas = f"{evil}_dseg.nii.gz"
    for args in (
        ["extract", f"{evil}.nii.gz", "--atlas", atlas, "-o", "out", "-v"],
        ["extract", f"sub-1_{evil}_bold.nii.gz", "--atlas", atlas, "-o", "out"],
        ["bids", evil, "out", "participant", "--atlases", atlas],
    ):
        said = on_a_terminal([*daskroi, *args], tmp_path)
        assert b"evil" in said
        # rich's own: cursor on and off, erase a line, one up; and the colour of our first word
        said = re.sub(rb"\x1b\[(\?25[lh]|2K|1A|0?m|1m)", b"", said)
        said = re.sub(rb"\x1b\[3[13]m(?=(Error|Warning):)", b"", said)
        found = CONTROL.search(said)
        assert not found, said[max(0, found.start() - 300) : found.end() + 100]
        assert b"[bold]" in said


def test_progress_of_a_cohort_shows_markup_as_text(tmp_path: Path, capsys: Any) -> None:
    from rich.console import Console

    from daskroi.display import _InPlace, _Lines
    from daskroi.progress import Progress

    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=200, color_system=None)
    for display in (
        _InPlace(Progress(3, False), True, console),
        _Lines(Progress(3, False), True),
    ):
        for name in NAMES:
            display.line(f"{name}: failed")
        display.close()
    said = re.sub(r"\x1b\[(\?25[lh]|2K|1A|0?m|1m)", "", drawn.getvalue() + capsys.readouterr().err)
    assert "[bold red]markup[/]" in said
    assert not CONTROL.search(said.encode()), said
