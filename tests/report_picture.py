"""Draw the README's picture of a report, from the real run and its Schaefer atlas:
``python tests/report_picture.py ../shared/data .github/report.png``."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import browser as browsers
import dask
import numpy as np
from PIL import Image

import daskroi as dr
from daskroi.report import report


def draw(data: Path, path: Path) -> None:
    """The upper part of the page, smaller."""
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
    small = shot.convert("RGB").resize(
        tuple(np.rint(np.array(shot.size) * 0.6).astype(int)), Image.Resampling.LANCZOS
    )
    small.quantize(128, kmeans=2, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
