"""What a cohort may be given: runs, atlases and sidecars of any kind, mistakes said at once."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from batches import BASIC, OPTIONS

import daskroi as dr
from daskroi.batch import extract_cohort
from daskroi.cohort import find_runs
from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.runstable import read_runs


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


def test_a_sidecar_that_the_table_does_not_name_is_an_input_too(tmp_path, atlas):
    image = Path(cohorts.write_cohort(tmp_path / "in", 1)["image"][0])
    sidecar = image.with_name(image.name.replace(".nii.gz", ".json"))

    def extracted(given: Any) -> list[float]:
        told = OPTIONS | {"mask": None, "t_r": None}
        assert extract_cohort(given, atlas, tmp_path / "out", **told).done == 1
        assert extract_cohort(given, atlas, tmp_path / "out", **told).skipped == 1
        [table] = (tmp_path / "out").rglob("*_timeseries.tsv")
        return list(dr.read_timeseries(table).time.values[:2])

    assert extracted([image]) == [0, 2]
    sidecar.write_text(json.dumps({"RepetitionTime": 2.5}))
    assert extracted([image]) == [0, 2.5]
    sidecar.unlink()
    assert extracted(pd.DataFrame({"image": [str(image)]})) == [0, 2]


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
    said = read_runs(tmp_path / "out")["warnings"].dropna()
    assert said.index.tolist() == [1]
    assert "999. They are left out" in said[1]
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
