"""Draw the README's pictures of reports, from the real run and its Schaefer atlas.

The page with regions selected; beside each other an atlas alone, in the dark, and a run on a phone.
``python tests/report_picture.py ../shared/data .github/report.png .github/states.png``.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import browser as browsers
import dask
import numpy as np
from PIL import Image

import daskroi as dr
from daskroi.report import report


def draw(data: Path, path: Path, states: Path) -> None:
    """The upper part of the pages, smaller."""
    image = next(data.rglob("*_desc-preproc_bold.nii.gz"))
    table = next(data.rglob("*_desc-confounds_timeseries.tsv"))
    atlas = dr.load_atlas(next(data.rglob("Schaefer400*.nii.gz")), name="Schaefer400")
    confounds = dr.load_confounds(table, "24P", fd_threshold=0.3)
    raw, ts = dask.compute(
        dr.extract(image, atlas),
        dr.extract(
            image,
            atlas,
            **confounds.arguments,
            detrend=True,
            low_pass=0.15,
            standardize="zscore_sample",
        ),
    )
    made = report(ts, atlas, image, raw=raw, confounds=table, title="sub-01, task oneback")
    with tempfile.TemporaryDirectory() as folder, browsers.chromium() as browser:
        page_file = Path(folder) / "report.html"
        made.save_as_html(page_file)
        with browsers.tab(browser, width=1280, height=1960) as opened:
            page = opened.open(page_file)
            keys = {"modifiers": ["Control"]}
            page.locator("#clear").click()
            for name in ("7Networks_LH_Default_pCunPCC_3", "7Networks_RH_Default_pCunPCC_2"):
                page.get_by_label("Search").fill(name)
                page.locator("table.regions tr:not([hidden])", has_text=name).first.click(**keys)
            page.get_by_label("Search").fill("pCunPCC")
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            shot = Image.open(io.BytesIO(page.screenshot()))
            opened.check()
        atlas_file = Path(folder) / "atlas.html"
        dr.NiftiLabelsMasker(atlas).fit().generate_report().save_as_html(atlas_file)
        dark = _shot(browser, atlas_file, 1000, scheme="dark")
        phone = _shot(browser, page_file, 390)
    both = Image.new("RGB", (dark.width + 24 + phone.width, dark.height), "#888888")
    both.paste(dark, (0, 0))
    both.paste(phone, (dark.width + 24, 0))
    _save(both, states)
    _save(shot, path)


def _shot(browser: Any, file: Path, width: int, scheme: str = "light") -> Image.Image:
    with browsers.tab(browser, width=width, height=1400) as opened:
        opened.page.emulate_media(color_scheme=scheme)
        page = opened.open(file)
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def _save(shot: Image.Image, path: Path) -> None:
    small = shot.convert("RGB").resize(
        tuple(np.rint(np.array(shot.size) * 0.6).astype(int)), Image.Resampling.LANCZOS
    )
    small.quantize(128, kmeans=2, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    draw(*map(Path, sys.argv[1:]))
