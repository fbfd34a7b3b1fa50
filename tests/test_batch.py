"""Cohorts: the same results on threads, processes and shards, each run complete or not there."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from cohorts import outputs_of
from daskprocesses import local_cluster

import daskroi as dr
from daskroi.batch import extract_cohort
from daskroi.cohort import find_runs
from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.store import read_timeseries
from daskroi.targets import as_target

BASIC = {
    "strategy": ("motion", "wm_csf"),
    "motion": "basic",
    "wm_csf": "basic",
    "fd_threshold": 0.5,
}
# threads: otherwise it would be the cluster of other tests, which is the client that is current
OPTIONS: dict[str, Any] = {
    "standardize": "zscore_sample",
    "progress": False,
    "client": "threads",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs of different lengths; not to be changed."""
    folder = tmp_path_factory.mktemp("data") / "fmriprep"
    cohorts.write_cohort(folder, 5, lambda i: 10 + (3, 0, 5, 1, 2)[i])
    return folder


@pytest.fixture
def runs(dataset: Path) -> pd.DataFrame:
    return find_runs(dataset)


@pytest.fixture(scope="module")
def atlas() -> Any:
    return cohorts.atlas()


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with local_cluster() as client:
        yield client


def spoil(image: str | os.PathLike[str]) -> bytes:
    """Cut the second half off; give the whole back."""
    path = Path(image)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return whole


def test_every_run_is_what_extract_gives(tmp_path, runs, atlas):
    done = extract_cohort(runs, atlas, tmp_path, confounds=BASIC, **OPTIONS)
    assert (done.done, done.skipped, done.failed, done.exit_code) == (5, 0, 0, 0)
    from daskroi.fmriprep import load_confounds

    for row in runs.to_dict("records"):
        confounds = load_confounds(row["confounds"], **BASIC)
        expected = dr.extract(
            row["image"],
            atlas,
            mask_img=row["mask"],
            confounds=confounds.values,
            sample_mask=confounds.sample_mask,
            standardize="zscore_sample",
        ).compute()
        [found] = (tmp_path / f"sub-{row['subject']}" / "func").glob("*_timeseries.tsv")
        back = read_timeseries(found)
        np.testing.assert_array_equal(back.values, expected.values)
        np.testing.assert_array_equal(back.time, expected.time)
        sidecar = json.loads(found.with_suffix(".json").read_text())
        assert sidecar["Confounds"] == list(confounds.values.columns)
        assert sidecar["CensoredFrames"] == {"framewise_displacement": [len(confounds.values) // 2]}
        assert sidecar["Sources"][0] == f"bids:preprocessed:{_below(row['image'], runs)}"
    table = done.runs
    assert table["status"].tolist() == ["ok"] * 5
    assert table["frames"].tolist() == [13, 10, 15, 11, 12]
    assert table["frames_kept"].tolist() == [12, 9, 14, 10, 11]
    assert (table["seconds"] > 0).all()
    assert (table["peak_memory_mb"] > 50).all()
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "daskroi"
    assert description["DatasetLinks"]["preprocessed"].startswith("file:///")
    # no temporary file, and of a run that went well no log
    assert not list(tmp_path.rglob(".*"))
    assert not list(tmp_path.glob("logs/*"))


def _below(image: str, runs: pd.DataFrame) -> str:
    root = os.path.commonpath(list(runs["image"]))
    return os.path.relpath(image, root)


def test_the_same_bytes_on_processes_and_by_two_shards(tmp_path, runs, atlas, client):
    told: dict[str, Any] = {"confounds": BASIC, **OPTIONS}
    extract_cohort(runs, atlas, tmp_path / "threads", **told)
    extract_cohort(runs, atlas, tmp_path / "cluster", **told | {"client": client})
    for i in (2, 1):
        extract_cohort(runs, atlas, tmp_path / "shards", shard=(i, 2), **told)
    expected = outputs_of(tmp_path / "threads")
    assert len(expected) == 5 * 3 + 1
    assert outputs_of(tmp_path / "cluster") == expected
    assert outputs_of(tmp_path / "shards") == expected
    # the tables of both shards, together, in order
    for name in ("cluster", "shards"):
        table = pd.read_csv(tmp_path / name / "runs.tsv", sep="\t")
        assert table["run"].tolist() == [
            f"sub-0{i}/func/sub-0{i}_task-rest_space-MNI152NLin6Asym" for i in range(1, 6)
        ]
    shards = sorted(p.name for p in (tmp_path / "shards" / "logs").iterdir())
    assert shards == ["runs_shard-1of2.tsv", "runs_shard-2of2.tsv"]
    # the whole cohort at once makes them superfluous
    extract_cohort(runs, atlas, tmp_path / "shards", **told)
    assert list((tmp_path / "shards" / "logs").iterdir()) == []


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


def test_a_run_is_one_task(tmp_path, runs, atlas, client):
    # what a task computes itself must not go back to the cluster: other runs would begin meanwhile
    def names(dask_scheduler: Any) -> set[str]:
        return set(dask_scheduler.task_prefixes)

    before = client.run_on_scheduler(names)
    told = OPTIONS | {"client": client, "high_variance_confounds": True}
    assert extract_cohort(runs, atlas, tmp_path, **told).done == 5
    new = client.run_on_scheduler(names) - before
    assert {name.rpartition("-")[0] or name for name in new} <= {"daskroi-run", "daskroi"}, new


def test_workers_that_do_not_see_the_folder_send_results(
    tmp_path, runs, atlas, client, monkeypatch
):
    told: dict[str, Any] = {"confounds": BASIC, **OPTIONS}
    extract_cohort(runs, atlas, tmp_path / "here", **told)

    def blind() -> None:
        from daskroi import sink

        sink.exists = lambda path: False  # type: ignore[assignment]

    def seeing() -> None:
        from daskroi import sink, targets

        sink.exists = targets.exists  # type: ignore[attr-defined]

    client.run(blind)
    try:
        extract_cohort(runs, atlas, tmp_path / "there", **told | {"client": client})
    finally:
        client.run(seeing)
    assert outputs_of(tmp_path / "there") == outputs_of(tmp_path / "here")


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


def test_stop_on_first_crash(tmp_path, atlas, client):
    runs = cohorts.write_cohort(tmp_path / "in", 6)
    spoil(runs.loc[0, "image"])
    for where in ("threads", client):
        out = tmp_path / type(where).__name__
        told = OPTIONS | {"client": where}
        done = extract_cohort(runs, atlas, out, stop_on_first_crash=True, max_in_flight=1, **told)
        assert (done.done, done.failed) == (0, 1)
        # what was not begun is no failure, and is done the next time
        again = extract_cohort(runs, atlas, out, **told)
        assert (again.done, again.failed) == (5, 1)


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


def test_runs_are_also_paths_or_names(tmp_path, runs, atlas):
    images = [shutil.copy(p, tmp_path / f"im age {i}.nii.gz") for i, p in enumerate(runs["image"])]
    done = extract_cohort(images[:2], atlas, tmp_path / "a", mask=None, **OPTIONS)
    assert done.runs["run"].tolist() == ["im-age-0", "im-age-1"]
    # never out of the folder
    for name in ("../../evil", "a/../../b", "/", "..", "a//b"):
        with pytest.raises(DaskroiError, match="cannot name files"):
            extract_cohort({name: images[0]}, atlas, tmp_path / "d" / "b", mask=None, **OPTIONS)
    done = extract_cohort({"g 1/a\\b": images[0]}, atlas, tmp_path / "b", mask=None, **OPTIONS)
    assert done.runs["run"].tolist() == ["g-1/a-b"]
    done = extract_cohort(iter(images[:2]), atlas, tmp_path / "c", mask=None, **OPTIONS)
    assert done.runs["run"].tolist() == ["im-age-0", "im-age-1"]


def test_two_runs_never_share_a_name(tmp_path, runs, atlas):
    (tmp_path / "other").mkdir()
    same = shutil.copy(runs.loc[0, "image"], tmp_path / "other")
    with pytest.raises(DaskroiError, match="would have the same names"):
        extract_cohort([runs.loc[0, "image"], same], atlas, tmp_path / "out", **OPTIONS)
    pairs = iter([runs.loc[0, "image"], same])
    with pytest.raises(DaskroiError, match=r"would have the same names .* Select one"):
        extract_cohort(pairs, atlas, tmp_path / "out", mask=None, **OPTIONS)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"runs": []}, "runs is empty"),
        ({"runs": pd.DataFrame({"img": ["x"]})}, "no column 'image', only 'img'"),
        ({"runs": [np.zeros(3)]}, "ndarray is no path"),
        ({"shard": (0, 2)}, r"shards count from 1. Use 1/2 to 2/2 \(SLURM: --array=1-2\)"),
        ({"shard": "x"}, "shard='x' is no shard"),
        ({"shard": (1, 2), "cohort_zarr": True}, "do not go together"),
        ({"sample_mask": [1]}, "sample_mask= is of one run"),
        ({"strategy": "avg"}, "strategy='avg' is not known"),
        ({"confounds": "37P"}, "37P"),
        ({"out": "no-such-protocol://x"}, "no-such-protocol"),
    ],
)
def test_mistakes_are_said_before_anything_is_done(tmp_path, runs, atlas, told, message):
    told = {"runs": runs, "out": tmp_path / "out"} | told
    with pytest.raises(DaskroiError, match=message):
        extract_cohort(told.pop("runs"), atlas, told.pop("out"), **OPTIONS | told)
    assert not (tmp_path / "out").exists()


def test_a_plan_is_made_of_headers(tmp_path, runs, atlas):
    extract_cohort(runs[:2], atlas, tmp_path, **OPTIONS)
    plan = extract_cohort(runs, {"P": atlas}, tmp_path / "new", dry_run=True, **OPTIONS)
    assert plan.counts == {"to do": 5, "skipped": 0, "failed": 0}
    assert plan.read_bytes == sum(os.path.getsize(p) for p in runs["image"])
    assert plan.frames == 61
    assert not (tmp_path / "new").exists()
    text = extract_cohort(runs, atlas, tmp_path, dry_run=True, **OPTIONS).describe()
    assert text.startswith("Runs: 5 (3 to do, 2 skipped)\nGrid: 10 x 12 x 10 voxels")
    assert "float32 (3 runs)" in text


def test_warnings_stand_in_the_table(tmp_path, atlas):
    runs = cohorts.write_cohort(tmp_path / "in", 2)
    done = extract_cohort(runs, atlas, tmp_path / "out", t_r=3.0, **OPTIONS)
    assert done.runs["warnings"].str.contains("t_r=3 s, but the image says 2 s").all()


@pytest.mark.parametrize("said", [1.5, 1500, "two"])
def test_a_sidecar_elsewhere_is_believed_as_one_beside_the_run(tmp_path, atlas, said):
    runs = cohorts.write_cohort(tmp_path / "in", 1)
    Path(runs["sidecar"][0]).unlink()
    sidecar = tmp_path / "in" / "task-rest_bold.json"
    sidecar.write_text(json.dumps({"RepetitionTime": said}))
    done = extract_cohort(find_runs(tmp_path / "in"), atlas, tmp_path / "out", **OPTIONS)
    if said == "two":
        assert "task-rest_bold.json: no repetition time can be read" in done.runs["reason"][0]
        return
    [found] = (tmp_path / "out").glob("sub-*/func/*_timeseries.json")
    written = json.loads(found.read_text())
    known, warning = written["RepetitionTime"], done.runs["warnings"][0]
    if said == 1.5:
        assert (known, written["RepetitionTimeSource"]) == (1.5, str(sidecar))
        assert f"the header says TR 2 s and {sidecar} says 1.5 s; the sidecar's is used" in warning
    else:
        assert (known, written["RepetitionTimeSource"]) == (2.0, "header")
        assert f"{sidecar} says 1500 s, which is not a plausible TR; the header's 2 s" in warning


def subject_atlases(runs: pd.DataFrame, atlas: Any) -> str:
    """A label image per run; the second has a region less and one that is in no table."""
    import nibabel as nib

    for i, row in runs.iterrows():
        labels = np.asarray(atlas.labels).T.astype("i4").copy()
        if i == 1:
            labels[labels == 102] = 0
            labels[0, 0, 0] = 999
        folder = Path(row["image"]).parents[1] / "anat"
        folder.mkdir()
        nib.save(
            nib.Nifti1Image(labels, np.asarray(atlas.grid.affine)),
            folder / f"sub-{row['subject']}_desc-aparcaseg_dseg.nii.gz",
        )
    return "anat/sub-{subject}_desc-aparcaseg_dseg.nii.gz"


def test_an_atlas_per_subject_has_one_region_axis(tmp_path, atlas):
    runs = cohorts.write_cohort(tmp_path / "in", 3)
    pattern = subject_atlases(runs, atlas)
    table = atlas.table[["index", "name"]]
    told = OPTIONS | {"cohort_zarr": True, "standardize": None}
    own = {"aseg": (pattern, table)}
    assert extract_cohort(runs, own, tmp_path / "out", **told).failed == 0
    store = xr.open_zarr(tmp_path / "out" / "cohort.zarr").load()
    assert store.aseg_region.values.tolist() == [1, 101, 102, 201]
    assert np.isnan(store.aseg.sel(aseg_region=102).values).all(axis=1).tolist() == [0, 1, 0]
    assert store.aseg_coverage.sel(aseg_region=102).values.tolist()[1] == 0
    common = extract_cohort(runs, atlas, tmp_path / "common", **told)
    other = xr.open_zarr(tmp_path / "common" / "cohort.zarr").load()
    assert common.failed == 0
    np.testing.assert_array_equal(store.aseg[0], other.Phantom[0])
    # an atlas that changed concerns its subject alone
    [path] = (tmp_path / "in" / "sub-02").rglob("*_dseg.nii.gz")
    os.utime(path, (1, 1))
    again = extract_cohort(runs, own, tmp_path / "out", **told)
    assert (again.done, again.skipped) == (1, 2)
    # and one that is not there as well
    path.unlink()
    again = extract_cohort(runs, own, tmp_path / "out", **told)
    assert (again.skipped, again.failed) == (2, 1)
    assert "has no atlas" in again.runs["reason"].iloc[1]
    with pytest.raises(DaskroiError, match="one per subject, which needs a table"):
        extract_cohort(runs, {"aseg": pattern}, tmp_path / "out", **told)


def test_dummy_scans_need_no_table(tmp_path, runs, atlas):
    done = extract_cohort(
        list(runs["image"]), atlas, tmp_path, mask=None,
        confounds={"strategy": "none", "n_dummy": 2}, **OPTIONS,
    )  # fmt: skip
    assert (done.runs["frames"] - done.runs["frames_kept"]).tolist() == [2] * 5
    done = extract_cohort(list(runs["image"]), atlas, tmp_path, confounds=BASIC, **OPTIONS)
    assert done.failed == 5
    assert "has no table of confounds" in done.runs["reason"].iloc[0]


def test_results_go_to_an_object_store_and_are_found_there(runs, atlas, tmp_path, client, s3):
    out = s3.url("cohort")
    told = OPTIONS | {"confounds": BASIC, "storage_options": s3.options, "client": client}
    assert extract_cohort(runs, atlas, out, **told).done == 5
    assert extract_cohort(runs, atlas, out, **told).skipped == 5
    extract_cohort(runs, atlas, tmp_path, confounds=BASIC, **OPTIONS)
    folder = as_target(out, s3.options)
    found = {
        str(p).removeprefix(f"{out}/"): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "runs.tsv"
    }
    assert found == outputs_of(tmp_path)
    # nothing that was written has a secret in it
    everything = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    assert s3.options["secret"].encode() not in everything
    assert s3.options["secret"] not in repr(extract_cohort(runs, atlas, out, **told).out)


def test_runs_in_a_bucket_are_those_on_disk(tmp_path, dataset, runs, atlas, client, s3):
    s3.filesystem.put(str(dataset), f"{s3.bucket}/fmriprep", recursive=True)
    there = find_runs(s3.url("fmriprep"), storage_options=s3.options)
    assert len(there) == 5
    told = OPTIONS | {"confounds": BASIC}
    remote = told | {"client": client, "storage_options": s3.options}
    assert extract_cohort(there, atlas, tmp_path / "a", **remote).done == 5
    assert extract_cohort(runs, atlas, tmp_path / "b", **told).done == 5
    tables = [sorted((tmp_path / o).rglob("sub-*.tsv")) for o in "ab"]
    assert [p.read_bytes() for p in tables[0]] == [p.read_bytes() for p in tables[1]]
    assert extract_cohort(there, atlas, tmp_path / "a", **remote).skipped == 5
    sidecar = json.loads(next((tmp_path / "a").rglob("*_timeseries.json")).read_text())
    assert sidecar["Sources"][0].startswith("bids:preprocessed:sub-")
    assert sidecar["Inputs"]["image"][0]["Version"]
    plan = extract_cohort(there, atlas, tmp_path / "c", dry_run=True, **remote)
    assert plan.read_bytes == sum(os.path.getsize(p) for p in runs["image"])


def test_zarr_images_are_runs_as_well(tmp_path, runs, atlas):
    from daskroi.zarrwrite import to_zarr

    stores = []
    for i, image in enumerate(runs["image"][:2]):
        stores.append(str(tmp_path / f"sub-0{i + 1}_task-rest_bold.nii.zarr"))
        to_zarr(dr.open_image(image), stores[-1])
    done = extract_cohort(stores, atlas, tmp_path / "out", mask=None, **OPTIONS)
    assert done.done == 2
    assert done.runs["run"].tolist()[0] == "sub-01/func/sub-01_task-rest"
    same = extract_cohort(list(runs["image"][:2]), atlas, tmp_path / "a", mask=None, **OPTIONS)
    assert same.done == 2
    tables = [sorted((tmp_path / o).rglob("*_timeseries.tsv")) for o in ("out", "a")]
    assert [p.read_bytes() for p in tables[0]] == [p.read_bytes() for p in tables[1]]
    assert extract_cohort(stores, atlas, tmp_path / "out", mask=None, **OPTIONS).skipped == 2
    shutil.rmtree(stores[0])
    to_zarr(dr.open_image(runs.loc[2, "image"]), stores[0])
    again = extract_cohort(stores, atlas, tmp_path / "out", mask=None, **OPTIONS)
    assert (again.done, again.skipped) == (1, 1)


def test_a_missing_image_is_that_runs_failure(tmp_path, runs, atlas):
    images = [*runs["image"][:1], str(tmp_path / "gone.nii.gz")]
    done = extract_cohort(images, atlas, tmp_path / "out", mask=None, **OPTIONS)
    assert (done.done, done.failed) == (1, 1)
    assert "gone.nii.gz: cannot be found" in done.runs["reason"].iloc[1]
    with pytest.raises(DaskroiNotFoundError):
        extract_cohort(runs, str(tmp_path / "no_atlas.nii.gz"), tmp_path / "out", **OPTIONS)
