"""Reports of results on disk, of cohorts with their index, and the command that makes them."""

from __future__ import annotations

import json
import os
import re
import webbrowser
from pathlib import Path
from typing import Any

import browser as browsers
import cohorts
import numpy as np
import pytest
from click.testing import CliRunner, Result
from servers import S3

import daskroi as dr
from daskroi import cohortreport, store
from daskroi.batch import extract_cohort
from daskroi.clireport import report as command
from daskroi.cohortreport import cohort_index, cohort_reports, report_of_result
from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.imagefile import watch_slabs
from daskroi.terminal import Group


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of a cohort of four runs, one of which has failed, with its reports."""
    folder = tmp_path_factory.mktemp("cohort")
    runs = cohorts.write_cohort(folder / "in")
    image = Path(runs["image"].iloc[2])
    image.write_bytes(image.read_bytes()[:600])
    extract_cohort(
        runs,
        {"Phantom": cohorts.atlas(), "Seeds": dr.load_atlas([(0, 0, 0)], radius=20)},
        folder / "out",
        confounds={"columns": ["csf"], "fd_threshold": 0.5, "n_dummy": 0},
        standardize="zscore_sample",
        progress=False,
    )
    return folder / "out"


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A result as ``daskroi extract`` writes it, all of its inputs in files."""
    phantom = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    paths = dr.write_phantom(tmp_path / "in", phantom)
    ts = dr.extract(paths["image"], dr.load_atlas(paths["atlas"]), sample_mask=np.arange(3, 18))
    written = store.write_run(
        ts.compute(),
        tmp_path / "out",
        "sub-01_task-rest",
        inputs={
            "image": paths["image"],
            "atlas": paths["atlas"],
            "labels_table": paths["labels"],
            "confounds": paths["confounds"],
        },
        n_frames=20,
    )
    return Path(written.timeseries)


def run(*arguments: Any) -> Result:
    """The command as it stands among the others."""
    main = Group("daskroi")
    main.add_command(command)
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


# ---- a result ----


def test_of_a_result_all_comes_from_its_files(result: Path) -> None:
    made = report_of_result(result)
    assert made.notes == ()
    assert made.slices is not None
    assert made.slices.image is not None
    assert made.confounding is not None
    assert made.confounding.displacement is not None
    assert made.facts["frames"] == "15 of 20"
    assert made.title == result.name.removesuffix("_timeseries.tsv")
    assert made.details is not None
    ts = dr.read_timeseries(result)
    np.testing.assert_allclose(made.details["mean"], ts.mean("time"), rtol=1e-3)
    assert made.provenance["image"].endswith(".nii.gz")
    assert made.provenance["extracted by"] == f"daskroi {dr.__version__}"
    assert made.parameters["strategy"] == "mean"


def test_inputs_that_are_gone_are_notes(result: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "in").rglob("*"):
        if path.is_file():
            path.unlink()
    made = report_of_result(result)
    gone = [note for note in made.notes if "nothing is shown" in note]
    assert len(gone) == 3
    assert made.series is not None
    with pytest.raises(DaskroiNotFoundError, match="no such file"):
        report_of_result(result, image=tmp_path / "none.nii")
    with pytest.raises(DaskroiError, match="is no result"):
        report_of_result(tmp_path / "x.json")


# ---- a cohort ----


def test_every_run_has_a_report_and_all_are_listed(cohort: Path) -> None:
    with watch_slabs(lambda frames: pytest.fail("a run was read again")):
        pages = list(cohort_reports(cohort, atlases={"Phantom": cohorts.atlas()}))
    names = [str(page.relative_to(cohort)) for page in pages]
    assert len(names) == 3 * 2 + 1
    assert names[-1] == "index.html"
    base = "sub-01/func/sub-01_task-rest_space-MNI152NLin6Asym_atlas-"
    assert names[:2] == [f"{base}{a}_stat-mean_report.html" for a in ("Phantom", "Seeds")]
    index = pages[-1].read_text(encoding="utf-8")
    rows = re.findall(r"<tr><td>(.*?)</tr>", index, re.DOTALL)
    assert len(rows) == 4
    assert [("failed" in row, row.count("<a href")) for row in rows] == [
        (False, 2),
        (False, 2),
        (True, 0),
        (False, 2),
    ]
    for link in re.findall(r'href="(.*?)"', index):
        assert (cohort / link).is_file()
    # what was censored, and the regions that the mask has cut
    assert re.search(r'<td class="number">12</td><td class="number">11</td>', rows[0])
    text = (cohort / names[0]).read_text(encoding="utf-8")
    assert 'id="view-axial"' in text
    assert "11 of 12" in text

    # again: only what is older than its result
    assert [p.name for p in cohort_reports(cohort)] == ["index.html"]
    os.utime(pages[0], (0, 0))
    assert [p.name for p in cohort_reports(cohort)] == [pages[0].name, "index.html"]
    assert len(list(cohort_reports(cohort, overwrite=True))) == 7


def test_index_of_nothing_and_of_names_that_do_harm(tmp_path: Path) -> None:
    with pytest.raises(DaskroiNotFoundError, match=r"runs\.tsv: no such file.*output folder"):
        cohort_index(tmp_path)
    with pytest.raises(DaskroiNotFoundError, match=r"runs\.tsv"):
        list(cohort_reports(tmp_path))
    evil = "<script>alert(1)</script>"
    row = ["../x y/javascript:1", "failed", evil, *["n/a"] * 6, evil, "x.nii", "."]
    from daskroi.runstable import COLUMNS

    (tmp_path / "runs.tsv").write_text("\t".join(COLUMNS) + "\n" + "\t".join(row) + "\n")
    text = cohort_index(tmp_path).read_text(encoding="utf-8")
    assert evil not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<a href" not in text
    # edited by hand: what is no number is not known
    for odd in ("inf", "-1e400", "a while"):
        row[3:9] = [odd] * 6
        (tmp_path / "runs.tsv").write_text("\t".join(COLUMNS) + "\n" + "\t".join(row) + "\n")
        again = cohort_index(tmp_path).read_text(encoding="utf-8")
        assert again.count(">n/a<") == text.count(">n/a<") > 4


def test_of_very_many_runs_the_failed_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from daskroi.runstable import COLUMNS

    lines = [
        "\t".join([f"run-{i}", "failed" if i == 7 else "ok", *["n/a"] * (len(COLUMNS) - 2)])
        for i in range(9)
    ]
    (tmp_path / "runs.tsv").write_text("\n".join(["\t".join(COLUMNS), *lines]) + "\n")
    monkeypatch.setattr(cohortreport, "MOST_ROWS", 3)
    text = cohort_index(tmp_path).read_text(encoding="utf-8")
    assert re.findall(r"<tr><td>(run-\d)", text)[0] == "run-7"
    assert "6 more runs are in runs.tsv" in text


def test_cohort_in_a_bucket(s3: S3, tmp_path: Path) -> None:
    runs = cohorts.write_cohort(tmp_path / "in", n_runs=1)
    out = s3.url("out")
    atlas = cohorts.atlas()
    extract_cohort(runs, atlas, out, storage_options=s3.options, progress=False)
    pages = list(cohort_reports(out, atlases={"Phantom": atlas}, storage_options=s3.options))
    assert len(pages) == 2
    text = s3.filesystem.cat_file(f"{s3.bucket}/out/index.html").decode()
    (link,) = re.findall(r'href="\./(.*?)"', text)
    assert s3.filesystem.isfile(f"{s3.bucket}/out/{link}")
    for page in s3.filesystem.find(f"{s3.bucket}/out"):
        assert b"daskroi-test-secret" not in s3.filesystem.cat_file(page)


def test_index_in_a_browser(cohort: Path, browser: Any) -> None:
    list(cohort_reports(cohort, atlases={"Phantom": cohorts.atlas()}))
    with browsers.tab(browser, width=1000) as opened:
        page = opened.page
        page.goto((cohort / "index.html").as_uri())
        runs = page.locator("tbody tr:not([hidden]) td:first-child")
        assert runs.count() == 4
        page.get_by_role("button", name="status").click()
        assert "sub-03" in runs.first.inner_text()
        page.get_by_label("Search").fill("sub-02")
        assert runs.count() == 1
        page.get_by_role("link", name="Phantom").click()
        page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
        assert page.locator("table.regions tbody tr").count() == cohorts.N_REGIONS
        opened.check()
    with browsers.tab(browser, width=360) as opened:
        opened.page.goto((cohort / "index.html").as_uri())
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
        opened.check()


# ---- the command ----


def test_command_on_a_result(result: Path, tmp_path: Path) -> None:
    done = run(result)
    assert done.exit_code == 0, done.output
    page = result.with_name(result.name.replace("_timeseries.tsv", "_report.html"))
    assert done.stdout.strip() == str(page)
    assert "Frame 10 of 0 to 19" in page.read_text(encoding="utf-8")
    done = run(result, "-o", tmp_path / "mine.html", "--title", "Café", "--atlas", "x=none.nii")
    assert done.exit_code == 1
    assert "no such file" in done.stderr
    done = run(result, "-o", tmp_path / "mine.html", "--title", "Café")
    assert "<h1>Café</h1>" in (tmp_path / "mine.html").read_text(encoding="utf-8")


def test_command_on_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is read once, though mean and tSNR are of the series before cleaning."""
    phantom = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    paths = dr.write_phantom(tmp_path, phantom)
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.chdir(tmp_path)
    frames: list[int] = []
    with watch_slabs(frames.append):
        done = run(
            *(paths["image"], "--atlas", f"Mine={paths['atlas']}", "--confounds"),
            *(paths["confounds"], "--columns", "trans_?", "--standardize", "zscore_sample"),
            *("--detrend", "--open"),
        )
    assert done.exit_code == 0, done.output
    # the atlas is a frame too
    assert sorted(frames) == [1, 20]
    page = tmp_path / f"{store.run_prefix(paths['image'])}_report.html"
    assert opened == [page.as_uri()]
    text = page.read_text(encoding="utf-8")
    assert "median tSNR" in text
    assert '<th scope="row">standardize</th><td>zscore_sample</td>' in text
    assert "Framewise displacement" in text
    assert "Mine" in text

    done = run(paths["image"])
    assert done.exit_code == 2
    assert "Missing option '--atlas'" in done.stderr
    done = run(paths["image"], "--atlas", "a=x.nii", "--atlas", "b=y.nii")
    assert done.exit_code == 2


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("x_timeseries.tsv", ("--detrend",), "--detrend is not for a report of a result"),
        ("x_timeseries.tsv", ("--mask", "m.nii"), "--mask is not for a report of a result"),
        ("x.nii", ("--overwrite",), "--overwrite is not for a report of an image"),
        ("x.nii", ("--image", "y.nii"), "--image is not for a report of an image"),
        ("", ("--title", "T"), "--title is not for a report of a cohort"),
        ("", ("-o", "r.html"), "-o is not for a report of a cohort"),
    ],
)
def test_options_for_another_target_are_not_unheard(tmp_path, name, arguments, said) -> None:
    done = run(tmp_path / name, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_command_on_a_cohort(cohort: Path, tmp_path: Path) -> None:
    done = run(cohort, "--overwrite")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == str(cohort / "index.html")
    assert "6 reports written" in done.stderr
    done = run(tmp_path)
    assert done.exit_code == 1
    assert "not the output of a cohort" in done.stderr


def test_sidecars_of_others_are_refused_by_name(result: Path) -> None:
    sidecar = result.with_suffix(".json")
    content = json.loads(sidecar.read_text())
    del content["Inputs"], content["Atlas"]
    sidecar.write_text(json.dumps(content))
    made = report_of_result(result)
    assert made.slices is None
    assert made.series is not None
