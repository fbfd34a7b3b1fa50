"""Reports: the numbers of the mission's page, and a page that is safe to open."""

from __future__ import annotations

import os
import re
import warnings
import webbrowser
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.maskers import NiftiLabelsMasker as Oracle
from servers import S3

import daskroi as dr
from daskroi import NiftiLabelsMasker
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiWarning
from daskroi.report import Report

COLUMNS = ["label value", "region name", "size (in mm^3)", "relative size (in %)"]


class Page(HTMLParser):
    """Tables of a page as lists of rows of text, and all tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cell: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = ""

    def handle_data(self, data: str) -> None:
        if self.cell is not None:
            self.cell += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self.cell is not None:
            self.tables[-1][-1].append(self.cell)
            self.cell = None


def rng_of() -> np.random.Generator:
    return np.random.default_rng(0)


def test_harvard_oxford_sizes_are_those_of_the_mission(
    harvard_oxford: Path, real_data: Path
) -> None:
    expected = pd.read_csv(real_data / "atlases" / "harvard_oxford_expected_sizes.tsv", sep="\t")
    names = ["Background", *expected["region_name"]]
    masker = NiftiLabelsMasker(str(harvard_oxford), labels=names).fit()
    report = masker.generate_report()
    assert report.regions.values.tolist() == expected.values.tolist()
    assert len(report.regions) == 48
    # and as text: 0.4, not 0.40
    lines = (real_data / "atlases" / "harvard_oxford_expected_sizes.tsv").read_text().splitlines()
    assert Page(report.html).tables[0] == [COLUMNS, *(line.split("\t") for line in lines[1:])]
    assert "different non-overlapping regions" in report.html
    assert "No image provided to fit in NiftiLabelsMasker" in report.notes[0]


@pytest.mark.parametrize("grid", [images.OBLIQUE, np.diag([-3.0, 3.0, 3.3, 1.0])])
def test_sizes_on_the_image_grid_equal_nilearn(grid: np.ndarray) -> None:
    labels = images.labels(rng_of(), (14, 14, 14))
    affine = grid.copy()
    affine[:3, 3] = np.where(np.diag(affine)[:3] < 0, 26, 0)
    image = images.run(rng_of(), (8, 9, 8, 3), affine=affine)
    report = NiftiLabelsMasker(labels).fit(image).generate_report()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Oracle(labels).fit(image)
        theirs.generate_report()
    summary = theirs._report_content["summary"]
    assert (
        report.regions.values.tolist()
        == summary.assign(**{"region name": summary["region name"].astype(str)}).values.tolist()
    )
    assert report.grid == dr.grid_of(dr.open_image(image)).describe()
    assert report.grid in report.html


def test_lost_regions_stay_in_the_table_and_are_noted() -> None:
    values = np.zeros((6, 7, 5), "i2")
    values[0], values[5] = 1, 4
    labels = nib.Nifti1Image(values, images.STRAIGHT)
    image = images.run(rng_of(), (4, 7, 5, 3))
    report = NiftiLabelsMasker(labels, labels=["in", "out"]).fit(image).generate_report()
    assert report.regions.values.tolist() == [[1, "in", 280, 100.0], [4, "out", 0, 0.0]]
    assert any("1 of 2 regions" in note and "4 out" in note for note in report.notes)


def test_parameters_and_provenance(tmp_path: Path) -> None:
    labels = images.labels(rng_of())
    path = images.save(images.run(rng_of()), tmp_path / "run.nii.gz")
    masker = NiftiLabelsMasker(labels, labels=list("ABCD"), standardize="zscore_sample", t_r=2.0)
    report = masker.fit(path).generate_report(title="My regions")
    parameters = dict(Page(report.html).tables[1])
    assert list(parameters) == sorted(masker.get_params())
    assert parameters["labels"] == "['A', 'B', 'C', 'D']"
    assert parameters["standardize"] == "zscore_sample"
    assert parameters["lut"] == "None"
    assert "Nifti1Image 6 x 7 x 5, affine [[2.0, 0.0" in parameters["labels_img"]
    provenance = dict(Page(report.html).tables[2])
    assert provenance["daskroi"] == dr.__version__
    assert provenance["image"] == str(path)
    assert len(provenance["atlas hash"]) == 64
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", provenance["date"])
    assert "<h1>My regions</h1>" in report.html
    assert "<title>My regions report</title>" in report.html


def test_without_reports_or_fit_the_page_says_so() -> None:
    labels = images.labels(rng_of())
    masker = NiftiLabelsMasker(labels, reports=False).fit()
    with pytest.warns(DaskroiWarning, match="Report generation not enabled"):
        report = masker.generate_report()
    assert report.regions is None
    assert "Report generation not enabled" in report.html
    assert "Regions summary" not in report.html
    with pytest.warns(DaskroiWarning, match="not been fitted yet"):
        report = NiftiLabelsMasker(labels).generate_report()
    assert "not been fitted yet" in report.html


EVIL = "<script>alert('1')</script> & \"quoted\""


def test_names_are_text_wherever_they_appear() -> None:
    image = images.labels(rng_of())
    names = [EVIL, "Café — 4°", "'; DROP", "{{ 7 * 7 }}"]
    masker = NiftiLabelsMasker(image, labels=names, cmap=EVIL)
    report = masker.fit().generate_report(title=EVIL)
    page = Page(report.html)
    assert not {"img", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    # all scripts are ours: they have the number that the page's policy asks for
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert len({a["nonce"] for a in scripts}) == 1
    assert f"'nonce-{scripts[0]['nonce']}'" in report.html
    assert not re.search(r"<script>\s*alert", report.html)
    assert [row[1] for row in page.tables[0][1:]] == names
    assert dict(page.tables[1])["cmap"] == EVIL
    (frame,) = Page(report._repr_html_()).tags
    assert frame[0] == "iframe"
    assert frame[1]["srcdoc"] == report.html
    assert frame[1]["title"] == EVIL
    # its scripts run, and count as another site's
    assert frame[1]["sandbox"] == "allow-scripts"


def test_every_page_has_a_number_of_its_own() -> None:
    numbers = {re.search("nonce-([0-9a-f]{32})", Report("Run").html)[1] for _ in range(3)}  # type: ignore[index]
    assert len(numbers) == 3


def test_page_needs_nothing_from_elsewhere() -> None:
    report = Report(
        "Run",
        "A run.",
        ("A note.",),
        pd.DataFrame({"a": [1]}),
        "a grid",
        {"x": "y"},
        {"atlas": "z"},
        warnings=("A warning.",),
        facts={"frames": "3"},
    )
    page = Page(report.html)
    assert not [a for _, a in page.tags if {"src", "href", "onclick"} & set(a)]
    assert "@import" not in report.html
    assert "url(" not in report.html
    assert "default-src 'none'" in report.html
    metas = [a for tag, a in page.tags if tag == "meta"]
    assert {"charset": "utf-8"} in metas
    assert any("width=device-width" in (a.get("content") or "") for a in metas)
    assert "color-scheme: light dark" in report.html
    assert str(report) == report.html
    # a page can be made empty-handed
    assert "<h1>Bare</h1>" in Report("Bare").html


def test_save_is_whole_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    report = Report("Café")
    report.save_as_html(str(path))
    old = path.read_text(encoding="utf-8")
    assert old == report.html

    def fail(*args: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(DaskroiError, match="disk full"):
            Report("New").save_as_html(path)
    assert path.read_text(encoding="utf-8") == old
    assert os.listdir(tmp_path) == ["report.html"]
    Report("New").save_as_html(path)
    assert "<h1>New</h1>" in path.read_text(encoding="utf-8")
    with pytest.raises(DaskroiNotFoundError, match=r"folder does not exist\. Create"):
        Report("New").save_as_html(tmp_path / "none" / "report.html")


def test_save_to_a_url(s3: S3) -> None:
    Report("Café").save_as_html(s3.url("reports/run.html"), storage_options=s3.options)
    text = s3.filesystem.cat_file(f"{s3.bucket}/reports/run.html").decode()
    assert "<h1>Café</h1>" in text


def test_open_in_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    Report("Run").open_in_browser()
    Report("Run").open_in_browser(tmp_path / "mine.html")
    assert len(opened) == 2
    assert all(url.startswith("file://") for url in opened)
    assert opened[1].endswith("mine.html")
    for url in opened:
        assert "<h1>Run</h1>" in Path(url.removeprefix("file://")).read_text(encoding="utf-8")


def test_repr_says_what_to_do() -> None:
    assert repr(Report("A & B")) == "<Report 'A & B': save_as_html(path) or open_in_browser()>"
