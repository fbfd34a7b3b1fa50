"""Reports in a real browser: what a reader does with them by mouse and keyboard, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import browser as browsers
import numpy as np
import pandas as pd
import xarray as xr
from reportpages import EVIL, N_REGIONS, becomes, centre, click_at, lines, move_to, selected

import daskroi as dr
from daskroi.report import Report, report


def test_tooltips_of_series_are_text(tab: browsers.Tab, page_file: Path, made: Report) -> None:
    page = tab.open(page_file)
    page.locator("#scale").uncheck()
    page.locator("table.regions tbody tr").nth(3).click()
    assert made.series is not None
    move_to(page, "series", 60.0, made.series.rows.values()[3, 30])
    found = page.locator(".bk-tooltip-content").inner_text()
    assert EVIL in found
    assert page.evaluate("window.evil") is None


def test_clicking_a_region_selects_its_row_and_series(
    tab: browsers.Tab, page_file: Path, made: Report
) -> None:
    page = tab.open(page_file)
    assert selected(page) == [0, 1, 2]
    page.locator("table.regions tbody tr").nth(7).click()
    assert selected(page) == [7]
    # back: the cursor went into the region, so all three views cut it
    assert page.locator("#place").inner_text().endswith("Region 7")
    x, y, z = centre(made, 7)
    for other, at in ((8, None), (7, (x, y))):
        page.locator("table.regions tbody tr").nth(other).click()
        if at is not None:
            page.locator("#clear").click()
            assert selected(page) == []
            click_at(page, "axial", *at)
            assert selected(page) == [7]
    assert lines(page) == ["Region 7"]
    page.locator("#clear").click()
    click_at(page, "sagittal", y, z)
    assert selected(page) == [7]
    page.locator("#clear").click()
    click_at(page, "coronal", x, z)
    assert selected(page) == [7]
    assert page.locator("#chips button").all_inner_texts() == ["Region 7"]
    # outside all regions, the selection stays
    click_at(page, "axial", 1, 1)
    assert selected(page) == [7]
    assert page.locator("#place").inner_text().endswith("no region")


def test_carpet_matrix_table_and_chips_share_the_selection(
    tab: browsers.Tab, page_file: Path
) -> None:
    page = tab.open(page_file)
    click_at(page, "carpet", 30, 6.5)
    assert selected(page) == [6]
    click_at(page, "carpet", 30, 8.5, key="Shift")
    assert selected(page) == [6, 8]
    click_at(page, "matrix", 2.5, 9.5)
    assert selected(page) == [2, 9]
    assert "r = " in page.locator("#matrix-text").inner_text()
    page.locator("table.regions tbody tr").nth(0).click(modifiers=["Control"])
    assert selected(page) == [0, 2, 9]
    assert sorted(lines(page)) == ["Region 0", "Region 2", "Region 9"]
    page.get_by_role("button", name="Region 2: take out").click()
    assert selected(page) == [0, 9]
    page.locator("#add").check()
    page.locator("table.regions tbody tr").nth(1).click()
    assert selected(page) == [0, 1, 9]
    page.locator("table.regions tbody tr").nth(1).click()
    assert selected(page) == [0, 9]


def test_what_is_under_the_pointer_shows_everywhere(
    tab: browsers.Tab, page_file: Path, made: Report
) -> None:
    page = tab.open(page_file)
    page.locator("table.regions tbody tr").nth(7).click()  # the slices go there
    page.locator("#clear").click()
    lit = """() => {
      const roots = Object.fromEntries(Bokeh.documents[0].roots().map((r) => [r.name, r]))
      const of = (name, type) => roots[name].renderers.filter((r) => r.glyph.type === type)
      const marked = of("axial", "Image").at(-1).data_source.data.image[0]
      return [Math.max(...marked) > 0, of("series", "MultiLine")[1].data_source.data.xs.length,
        Array.from(of("carpet", "HSpan")[0].data_source.data.at)]
    }"""
    page.locator("table.regions tbody tr").nth(7).hover()
    assert becomes(page, lit, [True, 1, [7.5]])
    page.locator("h1").hover()
    assert becomes(page, lit, [False, 0, []])
    x, y, _ = centre(made, 7)
    move_to(page, "axial", x, y)
    assert becomes(page, lit, [True, 1, [7.5]])
    assert page.locator("tr.under").get_attribute("data-position") == "7"
    assert page.locator("#pointer").inner_text().endswith("Region 7")
    # only looked at: nothing is selected
    assert selected(page) == []


def test_sorting_and_searching(tab: browsers.Tab, page_file: Path, made: Report) -> None:
    page = tab.open(page_file)
    column = page.locator("table.regions tbody tr:not([hidden]) td:nth-child(3)")
    header = page.get_by_role("button", name="size (in mm^3)")
    assert made.regions is not None
    sizes = sorted(made.regions["size (in mm^3)"].tolist())
    header.click()
    assert [int(t) for t in column.all_inner_texts()] == sizes
    header.click()
    assert [int(t) for t in column.all_inner_texts()] == sizes[::-1]
    sorted_by = page.locator("th[aria-sort]")
    assert sorted_by.count() == 1
    assert sorted_by.get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="region name").click()
    names = page.locator("table.regions tbody tr td:nth-child(2)").all_inner_texts()
    plain = [n for n in names if n.startswith("Region")]
    assert plain == sorted(plain, key=lambda n: int(n.split()[1]))
    # selection goes with the row, not with its place
    page.locator("table.regions tbody tr", has_text="Region 10").click()
    assert selected(page) == [10]

    page.get_by_label("Search").fill("cafe LAIT")
    assert column.count() == 1
    assert page.get_by_role("status").filter(has_text="regions").inner_text() == "1 of 12 regions"
    page.get_by_label("Search").fill("nothing like it")
    assert column.count() == 0
    page.get_by_label("Search").fill("")
    assert column.count() == N_REGIONS


def test_keyboard(tab: browsers.Tab, page_file: Path) -> None:
    page = tab.open(page_file)
    keys = page.keyboard
    page.locator("#view-axial").focus()
    where = page.locator("#place")
    before = where.inner_text()
    keys.press("ArrowRight")
    moved = where.inner_text()
    keys.press("ArrowLeft")
    assert moved != before
    assert where.inner_text() == before
    keys.press("PageUp")
    assert where.inner_text().split(", ")[:2] == before.split(", ")[:2]
    assert where.inner_text() != before
    slider = page.locator("#slice-z")
    value = slider.input_value()
    slider.focus()
    keys.press("ArrowLeft")
    assert int(slider.input_value()) == int(value) - 1
    assert slider.get_attribute("aria-valuetext").endswith(" mm")

    # into the table: one stop, arrows from there
    page.get_by_label("Search").focus()
    for _ in range(30):
        keys.press("Tab")
        if page.evaluate("document.activeElement.matches('table.regions tbody tr')"):
            break
    keys.press("ArrowDown")
    keys.press("ArrowDown")
    keys.press("Enter")
    assert selected(page) == [2]
    keys.press("End")
    keys.press("Control+Enter")
    assert selected(page) == [2, N_REGIONS - 1]
    # in the slices, what lies under the cursor: the region just chosen
    page.locator("#clear").focus()
    keys.press("Enter")
    assert selected(page) == []
    page.locator("#view-coronal").focus()
    keys.press("Enter")
    assert selected(page) == [N_REGIONS - 1]


def random_series(ids: Any, names: list[str], n_time: int = 1200) -> xr.DataArray:
    rng = np.random.default_rng(0)
    n = len(names)
    values = rng.normal(size=(n_time, 20)) @ rng.normal(size=(20, n)) + rng.normal(size=(n_time, n))
    coords = {
        "time": ("time", np.arange(n_time) * 0.8, {"units": "s", "t_r": 0.8}),
        "region": ids,
        "region_name": ("region", np.array(names, object)),
        "coverage": ("region", np.ones(n)),
    }
    return xr.DataArray(values.astype("f4"), coords, ("time", "region"))


def blocks(n: int) -> tuple[Any, xr.DataArray]:
    """An atlas of ``n`` regions on a 2 mm grid, and a volume of noise, which does not compress."""
    rng = np.random.default_rng(0)
    grid = dr.Grid.make((91, 109, 91), np.diag([2.0, 2, 2, 1]))
    inside = np.zeros(grid.shape, bool)
    inside[10:80, 15:95, 12:80] = True
    labels = np.zeros(grid.shape, np.int32)
    labels[inside] = 1 + np.arange(inside.sum()) * n // inside.sum()
    volume = 100 + 300 * inside + rng.normal(0, 30, grid.shape)
    return dr.load_atlas(dr.make_image(labels, grid)), dr.make_image(volume, grid)


def test_a_thousand_regions_are_usable(tab: browsers.Tab, tmp_path: Path) -> None:
    atlas, volume = blocks(1000)
    path = tmp_path / "large.html"
    report(random_series(atlas.ids, atlas.names), atlas, volume).save_as_html(path)
    page = tab.open(path)
    # measured on a busy machine: 77 ms for a row, 25 for a slice, 95 for a search, 133 for sorting
    seconds = page.evaluate(
        """async () => {
          const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))
          const timed = async (work) => {
            const start = performance.now()
            work()
            await frame()
            return (performance.now() - start) / 1000
          }
          const rows = document.querySelectorAll("table.regions tbody tr")
          const z = document.getElementById("slice-z")
          const search = document.getElementById("search")
          const say = (element, value) => {
            element.value = value
            element.dispatchEvent(new Event("input", {bubbles: true}))
          }
          return {
            row: await timed(() => rows[500].click()),
            slice: await timed(() => say(z, 30)),
            search: await timed(() => say(search, "7")),
            sort: await timed(() => document.querySelector("th button").click()),
          }
        }"""
    )
    assert max(seconds.values()) < 1, seconds


def test_size_and_time_of_a_large_report() -> None:
    """400 regions, 1,200 frames, 2 mm: at most 6 MB, made in 5 s of CPU."""
    import time

    rng = np.random.default_rng(0)
    atlas, volume = blocks(400)
    ts = random_series(atlas.ids, atlas.names)
    confounds = pd.DataFrame(rng.normal(size=(1200, 40)), columns=[f"c{i}" for i in range(40)])
    begun = time.process_time()
    html = report(ts, atlas, volume, confounds=confounds).html
    assert time.process_time() - begun < 5
    assert len(html.encode()) < 6e6
