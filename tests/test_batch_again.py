"""A cohort begun again: what is done is skipped, what changed or failed is told apart."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pandas as pd
import pytest
from batches import BASIC, OPTIONS, spoil
from cohorts import outputs_of

import daskroi as dr
from daskroi.batch import extract_cohort

SPELLINGS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    (
        {},
        {"high_pass": None, "low_pass": None, "standardize": None, "detrend": False, "t_r": None}
        | {"ensure_finite": False, "extrapolate": False, "min_coverage": None, "strategy": "mean"},
    ),
    (
        {"high_pass": 0.0, "t_r": 2, "standardize": True, "butterworth__order": np.int64(1)},
        {"high_pass": 0, "t_r": 2.0, "standardize": "zscore_sample", "butterworth__order": 1}
        | {"filter": "butterworth", "smoothing_fwhm": None, "min_coverage": None},
    ),
    ({"smoothing_fwhm": 4, "min_coverage": 0}, {"smoothing_fwhm": 4.0, "min_coverage": 0.0}),
    ({"dtype": "float32"}, {"dtype": np.float32}),
)


@pytest.mark.parametrize("which", range(len(SPELLINGS)))
def test_the_same_recipe_in_other_words_is_the_same(tmp_path, runs, atlas, which):
    from daskroi.recipe import Recipe

    one, other = SPELLINGS[which]
    assert Recipe.make(**one) == Recipe.make(**other)
    assert Recipe.make(**one).as_json() == Recipe.make(**other).as_json()
    told = {"progress": False, "client": "threads"}
    extract_cohort(runs[:1], atlas, tmp_path / "one", **told | one)
    extract_cohort(runs[:1], atlas, tmp_path / "other", **told | other)
    assert outputs_of(tmp_path / "one") == outputs_of(tmp_path / "other")
    assert extract_cohort(runs[:1], atlas, tmp_path / "one", **told | other).skipped == 1


def test_what_is_done_is_skipped_without_opening_it(tmp_path, runs, atlas, monkeypatch):
    extract_cohort(runs, atlas, tmp_path, **OPTIONS)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*_timeseries.*")}

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr("daskroi.openimage.open_image", refuse)
    again = extract_cohort(runs, atlas, tmp_path, **OPTIONS)
    assert (again.done, again.skipped) == (0, 5)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*_timeseries.*")} == before
    assert again.runs["status"].tolist() == ["skipped"] * 5


def change_mask(runs: pd.DataFrame) -> dict[str, Any]:
    path = Path(runs.loc[1, "mask"])
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    os.utime(path, (1, 1))
    return {}


CHANGES: dict[str, tuple[Any, int, str]] = {
    "recipe": (lambda _: {"standardize": "psc"}, 3, "recipe"),
    "confounds": (lambda _: {"confounds": BASIC | {"fd_threshold": 0.3}}, 3, "confounds"),
    "atlas": (lambda _: {"background_label": 1}, 3, "atlas"),
    "mask": (change_mask, 1, "input files"),
    "numbers": (lambda _: {"numerics": 99}, 3, "version of the numbers"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changed_is_made_again_and_said(tmp_path, atlas, monkeypatch, capsys, what):
    runs = cohorts.write_cohort(tmp_path / "in", 3)
    told: dict[str, Any] = {"confounds": BASIC, **OPTIONS}
    extract_cohort(runs, atlas, tmp_path / "out", **told)
    change, count, said = CHANGES[what]
    told |= change(runs) | {"progress": True}
    if told.pop("numerics", None):
        monkeypatch.setattr("daskroi.sidecar.NUMERICS", 99)
        monkeypatch.setattr("daskroi.work.NUMERICS", 99)
    one = atlas
    if background := told.pop("background_label", None):
        one = dr.load_atlas(atlas.image, name=atlas.name, background_label=background)
    again = extract_cohort(runs, one, tmp_path / "out", **told)
    assert (again.done, again.skipped) == (count, 3 - count)
    assert again.changed == {f"made again, with other {said}": count}
    assert f"made again, with other {said}" in capsys.readouterr().err
    reasons = again.runs["reason"].dropna().tolist()
    assert reasons == [f"made again, with other {said}"] * count
    # and is up to date then
    told["progress"] = False
    assert extract_cohort(runs, one, tmp_path / "out", **told).skipped == 3


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, atlas, capsys):
    runs = cohorts.write_cohort(tmp_path / "in", 4)
    whole = spoil(runs.loc[1, "image"])
    os.remove(runs.loc[2, "mask"])
    told = OPTIONS | {"progress": True}
    done = extract_cohort(runs, atlas, tmp_path / "out", **told)
    assert (done.done, done.failed, done.exit_code) == (2, 2, 1)
    table = done.runs.set_index("run")
    assert table["status"].tolist() == ["ok", "failed", "failed", "ok"]
    assert re.search(r"sub-02\S*: .*truncated", table["reason"].iloc[1])
    assert re.search(r"sub-03\S*mask\.nii\.gz: cannot be found", table["reason"].iloc[2])
    assert "sub-02" in capsys.readouterr().err
    [log] = (tmp_path / "out" / "logs").glob("sub-02*_log.txt")
    assert "Traceback" in log.read_text()
    assert f"Reason: {table['reason'].iloc[1]}\n" in log.read_text()
    assert not list((tmp_path / "out" / "sub-02").rglob("*.*"))

    # it would fail again, so it is not tried again ...
    seen: list[str] = []
    again = extract_cohort(runs, atlas, tmp_path / "out", **OPTIONS)
    assert (again.done, again.skipped, again.failed) == (0, 2, 2)
    assert again.runs["seconds"].isna().sum() == 3, seen
    # ... unless that is asked for
    again = extract_cohort(runs, atlas, tmp_path / "out", retry_failed=True, **OPTIONS)
    assert again.runs["seconds"].notna().sum() == 2
    # or its input changes
    Path(runs.loc[1, "image"]).write_bytes(whole)
    again = extract_cohort(runs, atlas, tmp_path / "out", **OPTIONS)
    assert (again.done, again.skipped, again.failed) == (1, 2, 1)
    assert not log.exists()


def test_an_interrupted_cohort_goes_on_where_it_was(tmp_path, runs, atlas):
    def interrupted() -> Iterator[str]:
        yield from runs["image"][:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_cohort(interrupted(), atlas, tmp_path, max_in_flight=1, mask=None, **OPTIONS)
    there = len(list(tmp_path.rglob("*_timeseries.json")))
    done = extract_cohort(list(runs["image"]), atlas, tmp_path, mask=None, **OPTIONS)
    assert done.skipped == there >= 1
    assert done.done == 5 - there
