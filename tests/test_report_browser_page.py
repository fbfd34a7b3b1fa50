"""Reports in a real browser: what they show, on a phone and in the dark, and that it is safe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import browser as browsers
import numpy as np
import pytest
from reportpages import CENSORED, EVIL, N_REGIONS, click_at, lines, selected
from servers import Server

import daskroi as dr
from daskroi.report import Report, report


def test_opens_offline_without_errors_and_text_is_text(tab: browsers.Tab, page_file: Path) -> None:
    page = tab.open(page_file)
    assert page.locator("h1").inner_text() == EVIL
    assert page.locator(".note").first.inner_text() == EVIL
    assert page.locator("table.regions tbody tr").nth(3).locator("td").nth(1).inner_text() == EVIL
    page.locator("table.regions tbody tr").nth(3).click()
    assert page.locator("#chips button").all_inner_texts() == [EVIL]
    assert lines(page) == [EVIL]
    # under the pointer: bokeh's tooltip on the line, and our own texts
    click_at(page, "series", 30, 0)
    click_at(page, "carpet", 30, 3.5)
    assert EVIL in page.locator("#carpet-text").inner_text()
    click_at(page, "confounds", 30, 2.5)
    assert page.evaluate("window.evil") is None
    for name in ("sagittal", "coronal", "axial", "series", "motion", "carpet", "matrix"):
        assert page.locator(f"#view-{name} canvas, #plot-{name} canvas").count() >= 1


def test_pictures_hold_the_numbers(tab: browsers.Tab, page_file: Path, made: Report) -> None:
    """What is drawn is what was extracted: lines with gaps, carpet, correlations, slices."""
    page = tab.open(page_file)
    assert made.series is not None
    assert made.slices is not None
    page.locator("#scale").uncheck()
    page.locator("table.regions tbody tr").nth(7).click()
    data = page.evaluate(
        """() => {
          const roots = Object.fromEntries(Bokeh.documents[0].roots().map((r) => [r.name, r]))
          const picture = (name, i = 0) => Array.from(
            roots[name].renderers.filter((r) => r.glyph.type === "Image")[i]
              .data_source.data.image[0])
          const drawn = roots.series.renderers.find((r) => r.glyph.type === "MultiLine")
          const strips = roots.series.renderers.find((r) => r.glyph.type === "VStrip")
          return {
            line: Array.from(drawn.data_source.data.ys[0], (v) => isNaN(v) ? null : v),
            gone: Array.from(strips.data_source.data.left),
            carpet: picture("carpet"), matrix: picture("matrix"),
            grey: picture("axial"), regions: picture("axial", 1), marked: picture("axial", 2),
          }
        }"""
    )
    rows = made.series.rows.values()
    line = np.array(data["line"], float)
    np.testing.assert_allclose(line, rows[7], rtol=1e-5)
    assert np.flatnonzero(np.isnan(line)).tolist() == list(CENSORED)
    np.testing.assert_allclose(data["gone"], np.array(CENSORED) * 2.0 - 1)
    carpet = np.array(data["carpet"]).reshape(rows.shape)
    z = (rows - np.nanmean(rows, 1, keepdims=True)) / np.nanstd(rows, 1, ddof=1, keepdims=True)
    expected = np.clip(np.rint(128 + z * 63.5), 1, 255)
    assert (carpet[:, list(CENSORED)] == 0).all()
    kept = made.series.frames.kept
    assert np.abs(carpet - expected)[:, kept].max() <= 1
    matrix = np.array(data["matrix"]).reshape(N_REGIONS, N_REGIONS)
    r = np.corrcoef(rows[:, kept])
    off = ~np.eye(N_REGIONS, dtype=bool)
    assert np.abs(matrix - (128 + 127 * r))[off].max() <= 1
    k = made.slices.centres[7][2]
    np.testing.assert_array_equal(data["regions"], made.slices.regions[k].ravel())
    assert made.slices.image is not None
    np.testing.assert_array_equal(data["grey"], made.slices.image[k].ravel())
    np.testing.assert_array_equal(data["marked"], (made.slices.regions[k].ravel() == 8) * 1)


CONTRAST = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
      .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor
      if (color !== "rgba(0, 0, 0, 0)" && color !== "transparent") return color
    }
    return "rgb(255, 255, 255)"
  }
  const found = []
  for (const e of document.querySelectorAll("h1, h2, p, td, th, dt, dd, button, label, output")) {
    if (!e.textContent.trim() || !e.offsetParent) continue
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))]
    found.push((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05))
  }
  return Math.min(...found)
}"""


def test_light_and_dark(tab: browsers.Tab, page_file: Path) -> None:
    page = tab.open(page_file)
    ink = """() => Bokeh.documents[0].roots().find((r) => r.name === "series")
      .left[0].major_label_text_color"""
    colors = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(CONTRAST) >= 4.5
        body = page.evaluate("getComputedStyle(document.body).backgroundColor")
        colors[scheme] = body, page.evaluate(ink)
    assert colors["light"][0] == "rgb(255, 255, 255)"
    assert colors["light"] != colors["dark"]
    assert len({text for _, text in colors.values()}) == 2


def test_phone(browser: Any, page_file: Path, tmp_path: Path) -> None:
    run = dr.make_phantom((12, 14, 12), n_time=4, n_regions=4)
    bare = tmp_path / "atlas.html"
    report(atlas=run.atlas).save_as_html(bare)
    for path in (page_file, bare):
        with browsers.tab(browser, width=360, height=700) as opened:
            page = opened.open(path)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360
            views = [page.locator(f"#view-{v}").bounding_box() for v in ("sagittal", "axial")]
            assert all(box["width"] > 300 for box in views)
            assert views[0]["y"] + views[0]["height"] <= views[1]["y"]
            opened.check()


@pytest.mark.parametrize("case", ["nothing left", "one region", "one frame", "maps", "no atlas"])
def test_odd_reports_open_too(case: str, tab: browsers.Tab, tmp_path: Path) -> None:
    run = dr.make_phantom((12, 14, 12), n_time=8, n_regions=4)
    atlas: Any = run.atlas
    ts = dr.extract(run.image, atlas).compute()
    if case == "nothing left":
        ts = ts * np.nan
        ts["coverage"] = ts["coverage"] * 0
    elif case == "one region":
        atlas = dr.load_atlas(run.atlas.image > 0)
        ts = dr.extract(run.image, atlas).compute()
    elif case == "one frame":
        ts = ts.isel(time=[3])
    elif case == "maps":
        maps = np.stack([run.atlas.labels == i for i in run.atlas.ids]) * 0.5
        atlas = dr.load_atlas(dr.make_image(maps, run.atlas.grid), labels=run.atlas.names)
        ts = dr.extract(run.image, atlas).compute()
    path = tmp_path / "odd.html"
    confounds = run.confounds if case != "one frame" else None
    made = report(ts, None if case == "no atlas" else atlas, run.image, confounds=confounds)
    made.save_as_html(path)
    page = tab.open(path)
    assert page.locator("table.regions tbody tr").count() == ts.sizes["region"]
    page.locator("table.regions tbody tr").last.click()
    assert page.locator("#chips button").count() == 1
    if case != "no atlas":
        page.locator("#view-axial").focus()
        page.keyboard.press("PageUp")
    page.locator("#clear").click()
    assert selected(page) == []


def test_everything_has_a_name(tab: browsers.Tab, page_file: Path) -> None:
    page = tab.open(page_file)
    nameless = page.evaluate(
        """() => Array.from(document.querySelectorAll(
             "input, button, output, figure, section, table:not(.pairs), [role=grid]"))
           .filter((e) => !(e.getAttribute("aria-label") || e.labels?.length
             || document.getElementById(e.getAttribute("aria-labelledby")) || e.htmlFor
             || (e.tagName === "BUTTON" && e.textContent.trim())))
           .map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert nameless == []
    assert page.evaluate("document.documentElement.lang") == "en"


def test_page_cannot_ask_the_network_nor_run_what_slips_in(
    browser: Any, page_file: Path, web: Server
) -> None:
    with browsers.tab(browser, offline=False) as opened:
        page = opened.open(page_file)
        answer = page.evaluate(
            """(url) => {
              const script = document.createElement("script")
              script.textContent = "window.evil = 1"
              document.body.append(script)
              document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='evil = 1'>")
              const image = document.createElement("img")
              image.src = `${url}/x.png`
              document.body.append(image)
              return fetch(url).then(() => "sent", () => "refused")
            }""",
            web.url,
        )
        assert answer == "refused"
        assert page.evaluate("window.evil") is None
        assert web.requests == []
        assert any("Content Security Policy" in text for text in opened.errors)


def test_shown_in_a_notebook(browser: Any, made: Report, tmp_path: Path) -> None:
    """As Jupyter has it: a sandboxed frame in somebody else's page."""
    path = tmp_path / "notebook.html"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8>{made._repr_html_()}", encoding="utf-8")
    with browsers.tab(browser) as opened:
        opened.page.goto(path.as_uri())
        frame = opened.page.frame_locator("iframe")
        frame.locator("html[data-ready=yes]").wait_for(state="attached")
        frame.locator("table.regions tbody tr").nth(5).click()
        assert frame.locator("#chips button").count() == 1
        opened.check()
