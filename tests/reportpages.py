"""A report with everything there is, and what a reader's hand does with it in a browser."""

from __future__ import annotations

from typing import Any

import numpy as np

import daskroi as dr
from daskroi.report import Report, report

EVIL = "<script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"
N_REGIONS, N_FRAMES = 12, 60
CENSORED = (0, 20, 21, 59)


def full_report() -> Report:
    """A report of a run with everything there is, and names that would do harm."""
    run = dr.make_phantom((27, 33, 27), n_time=N_FRAMES, n_regions=N_REGIONS)
    names = [f"Region {i}" for i in range(N_REGIONS)]
    names[3:6] = [EVIL, "Café au lait", "$$\\alpha$$ & \"quoted\" 'text'"]
    atlas = dr.load_atlas(run.atlas.image, labels=names)
    kept = np.setdiff1d(np.arange(N_FRAMES), CENSORED)
    ts = dr.extract(run.image, atlas, sample_mask=kept).compute()
    confounds = run.confounds.rename(columns={"csf": EVIL, "white_matter": "$$x$$"})
    return report(ts, atlas, run.image, confounds=confounds, title=EVIL, notes=[EVIL])


def selected(page: Any) -> list[int]:
    """Positions of the selected rows of the table."""
    rows = page.locator("table.regions tr[aria-selected=true]")
    return sorted(int(p) for p in rows.evaluate_all("rows => rows.map(r => r.dataset.position)"))


def lines(page: Any) -> list[str]:
    """Names of the series that are drawn."""
    return page.evaluate(
        """() => {
          const plot = Bokeh.documents[0].roots().find((root) => root.name === "series")
          const drawn = plot.renderers.find((r) => r.glyph.type === "MultiLine")
          return drawn.data_source.data.name.filter(Boolean)
        }"""
    )


def move_to(page: Any, figure: str, x: float, y: float) -> list[float]:
    """Put the pointer on a figure at data coordinates; where on the screen that is."""
    script = """([name, x, y]) => {
      const view = Bokeh.index.roots.find((v) => v.model.name === name)
      const box = view.canvas_view.el.getBoundingClientRect()
      return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y)]
    }"""
    page.locator(f"#view-{figure}, #plot-{figure}").scroll_into_view_if_needed()
    at: list[float] = page.evaluate(script, [figure, x, y])
    page.mouse.move(at[0] - 3, at[1])
    page.mouse.move(*at)
    # bokeh follows the pointer a frame later
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 30)))")
    return at


def click_at(page: Any, figure: str, x: float, y: float, key: str | None = None) -> None:
    """Click on a figure at data coordinates."""
    at = move_to(page, figure, x, y)
    if key:
        page.keyboard.down(key)
    page.mouse.click(*at)
    if key:
        page.keyboard.up(key)
    page.wait_for_timeout(30)


def becomes(page: Any, script: str, expected: Any) -> bool:
    """Whether a script comes to return this, within some seconds."""
    for _ in range(100):
        if page.evaluate(script) == expected:
            return True
        page.wait_for_timeout(50)
    return False


def centre(made: Report, position: int) -> np.ndarray:
    """Middle of a region, in mm along the voxel axes."""
    assert made.slices is not None
    return (made.slices.centres[position] + 0.5) * np.array(made.slices.grid.voxel_sizes)
