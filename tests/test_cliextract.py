"""``daskroi extract``: the series it writes are those of `extract` and of nilearn."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from clirun import N_TIME, PREFIX, block_labels, check_error, check_ok, invoke, tables
from nilearn.maskers import NiftiLabelsMasker

import daskroi as dr
from daskroi import clioptions
from daskroi.relmat import read_relmat


def test_extract_writes_what_extract_gives(files, tmp_path):
    out = tmp_path / "a" / "out"
    args = ("extract", files.image, "--atlas", files.atlas, "--labels-table", files.table)
    done = check_ok(invoke(*args, "-o", out))
    assert done.stderr == ""
    expected = dr.extract(files.image, dr.load_atlas(files.atlas, lut=files.table)).compute()
    names = [
        f"{PREFIX}_atlas-Block_stat-mean_timeseries.tsv",
        f"{PREFIX}_atlas-Block_stat-coverage_bold.tsv",
        f"{PREFIX}_atlas-Block_stat-mean_timeseries.json",
    ]
    assert sorted(os.listdir(out)) == sorted(names)
    table = pd.read_csv(out / names[0], sep="\t")
    assert list(table.columns) == ["V1", "V2", "A1", "M1"]
    np.testing.assert_array_equal(table.to_numpy(np.float32), expected.values)
    # stdout is a short table and the paths, one a line, for scripts
    header, row, *paths = done.stdout.splitlines()
    assert header.split() == ["atlas", "regions", "frames", "lowest", "coverage", "seconds"]
    assert re.fullmatch(r"Block +4 +60 +1\.00 +\d+\.\d", row)
    assert paths == [str(out / name) for name in names]
    sidecar = json.loads((out / names[2]).read_text())
    assert sidecar["RepetitionTime"] == 2.0
    assert sidecar["Sources"] == [str(files.image), str(files.atlas), str(files.table)]
    assert sidecar["Recipe"]["strategy"] == "mean"
    assert sidecar["Regions"]["n_voxels"] == [20, 20, 20, 20]


def test_the_connectome_beside_the_series(files, tmp_path, monkeypatch):
    args = ("extract", files.image, "--atlas", files.atlas, "-o", tmp_path)
    told = ("--connectome", "covariance")
    check_ok(invoke(*args))
    # of series that are up to date, without another look at the image
    monkeypatch.setattr("daskroi.cliextract.shown_compute", None)
    done = check_ok(invoke(*args, *told))
    assert "up to date, skipped" in done.stderr
    matrix = tmp_path / f"{PREFIX}_atlas-Block_stat-covariance_relmat.tsv"
    assert done.stdout.splitlines()[-2:] == [str(matrix), str(matrix.with_suffix(".json"))]
    series = dr.read_timeseries(next(tmp_path.glob("*_timeseries.tsv")))
    expected = dr.connectome(series, "covariance", shrinkage=None)
    np.testing.assert_array_equal(read_relmat(matrix), expected)
    before = matrix.read_bytes()
    # with other series it is made again
    monkeypatch.undo()
    check_ok(invoke(*args, *told, "--detrend"))
    assert matrix.read_bytes() != before
    check_ok(invoke(*args, *told))
    assert matrix.read_bytes() == before


def test_a_single_volume_has_no_connectome(files, tmp_path):
    volume = images.save(nib.load(files.plain).slicer[..., 0], tmp_path / "volume.nii")
    args = ("extract", volume, "--atlas", files.atlas, "-o", tmp_path / "out")
    done = invoke(*args, "--connectome", "correlation")
    assert done.exit_code == 1
    assert "volume.nii: --connectome correlation is of a run" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("plan", ["auto", "stream", "blocks"])
@pytest.mark.parametrize("image", ["image", "plain"])
def test_cleaned_numbers_are_nilearns(files, tmp_path, plan, image):
    path = getattr(files, image)
    args = ("extract", path, "--atlas", f"B={files.atlas}", "--plan", plan, "-o", tmp_path)
    steps = ("--detrend", "--low_pass", "0.1", "--high-pass=0.02", "--standardize", "zscore_sample")
    check_ok(invoke(*args, *steps, "--confounds", files.confounds, "--columns", "trans_?", "csf"))
    [(name, table)] = tables(tmp_path).items()
    assert name.startswith(f"{PREFIX if image == 'image' else 'mybold'}_atlas-B_stat-mean")
    masker = NiftiLabelsMasker(
        nib.load(files.atlas),
        detrend=True,
        low_pass=0.1,
        high_pass=0.02,
        t_r=2.0,
        standardize="zscore_sample",
    )
    confounds = pd.read_csv(files.confounds, sep="\t")[["trans_x", "trans_y", "csf"]]
    expected = masker.fit_transform(nib.load(path), confounds=confounds)
    np.testing.assert_allclose(table, expected, rtol=1e-4, atol=1e-4)
    sidecar = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert sidecar["Confounds"] == ["trans_x", "trans_y", "csf"]
    assert sidecar["Recipe"]["clean"]["low_pass"] == 0.1


@pytest.mark.parametrize("strategy", clioptions.STRATEGIES)
def test_strategies(files, tmp_path, strategy):
    args = ("extract", files.plain, "--atlas", files.atlas, "--strategy", strategy, "-o", tmp_path)
    check_ok(invoke(*args))
    [table] = tables(tmp_path).values()
    voxels = nib.load(files.plain).get_fdata()[1:5, 1:6, 1:5].reshape(20, 4, N_TIME)
    function = {"minimum": np.min, "maximum": np.max, "standard_deviation": np.std}.get(strategy)
    function = function or {"variance": np.var}.get(strategy) or getattr(np, strategy)
    np.testing.assert_allclose(table, function(voxels, axis=0).T, rtol=1e-5)


def test_options_reach_extract(files, tmp_path):
    def table(*options: Any) -> np.ndarray:
        args = ("extract", files.plain, "--atlas", files.atlas, *options, "--overwrite")
        check_ok(invoke(*args, "-o", tmp_path))
        [found] = tables(tmp_path).values()
        return found.to_numpy()

    def expected(**options: Any) -> np.ndarray:
        return dr.extract(files.plain, files.atlas, **options).values

    confounds = pd.read_csv(files.confounds, sep="\t")[["csf"]] + 3
    confounds.to_csv(tmp_path / "c.csv", index=False)
    cosine = {"filter": "cosine", "high_pass": 0.02}
    with_csf = ("--confounds", tmp_path / "c.csv")
    for options, same in [
        (("--filter", "cosine", "--high-pass", 0.02), cosine),
        (("--filter", "none", "--high-pass", 0.02), {}),
        (("--standardize", "psc"), {"standardize": "psc"}),
        (("--t_r", 1, "--low-pass", 0.2), {"t_r": 1, "low_pass": 0.2}),
        (("--high_variance_confounds",), {"high_variance_confounds": True}),
        (with_csf, {"confounds": confounds}),
        (
            (*with_csf, "--no-standardize-confounds"),
            {"confounds": confounds, "standardize_confounds": False},
        ),
        (("--resampling-target", "none"), {"resampling_target": None}),
    ]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)  # a t_r that is not the header's
            wanted = expected(**same)
        np.testing.assert_allclose(table(*options), wanted, rtol=1e-6, atol=1e-6)
    # and they do something
    assert not np.allclose(expected(), expected(**cosine))


def test_censored_frames_keep_their_times(files, tmp_path):
    kept = [0, 1, 4, *range(10, N_TIME - 1)]
    flags = np.isin(np.arange(N_TIME), kept)
    texts = {
        "index.txt": "\n".join(map(str, kept)),
        "flags.csv": ",".join(map(str, flags.astype(int))),
        "words.tsv": "\n".join(map(str, flags)),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    np.save(tmp_path / "index.npy", kept)
    np.save(tmp_path / "flags.npy", flags)
    expected = dr.extract(files.plain, files.atlas, sample_mask=kept, detrend=True).compute()
    for name in (*texts, "index.npy", "flags.npy"):
        out = tmp_path / f"out-{name}"
        args = ("extract", files.plain, "--atlas", files.atlas, "--detrend", "-o", out)
        done = check_ok(invoke(*args, "--sample-mask", tmp_path / name))
        assert f"{len(kept)} of {N_TIME}" in done.stdout
        back = dr.read_timeseries(next(out.glob("*_timeseries.tsv")))
        np.testing.assert_array_equal(back.values, expected.values)
        np.testing.assert_allclose(back.time, np.array(kept) * 2.0)
        sidecar = json.loads(next(out.glob("*.json")).read_text())
        assert sidecar["KeptFrames"] == kept
        assert "RepetitionTime" not in sidecar


def test_dummy_scans_are_dropped_and_may_lack_confounds(files, tmp_path):
    # with_nan has no value in frame 0, as derivatives have none
    args = ("extract", files.plain, "--atlas", files.atlas, "--dummy-scans", 3, "-o", tmp_path)
    check_ok(invoke(*args, "--confounds", files.confounds, "--columns", "with_nan"))
    sidecar = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert (sidecar["RepetitionTime"], sidecar["StartTime"]) == (2.0, 6.0)
    assert sidecar["KeptFrames"] == list(range(3, N_TIME))
    (tmp_path / "mask.txt").write_text("1 2 3 4 5 9")
    check_ok(invoke(*args, "--sample-mask", tmp_path / "mask.txt"))
    sidecar = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert sidecar["KeptFrames"] == [3, 4, 5, 9]


def test_lost_regions_are_columns_of_missing_values(files, tmp_path):
    args = ("extract", files.plain, "--atlas", files.atlas, "--labels-table", files.table)
    done = check_ok(invoke(*args, "--mask", files.mask, "--min-coverage", 0.6, "-o", tmp_path))
    assert re.fullmatch(r"Warning: .*1 of 4 regions have no voxel.*: 1 V1\.\n", done.stderr)
    assert re.search(r"Block +4 +60 +0\.00 \(V1\)", done.stdout)
    [path] = tmp_path.glob("*_timeseries.tsv")
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert rows[0] == ["V1", "V2", "A1", "M1"]
    assert {tuple(row[:2]) for row in rows[1:]} == {("n/a", "n/a")}
    assert len(rows) == N_TIME + 1
    coverage = pd.read_csv(next(tmp_path.glob("*_stat-coverage_bold.tsv")), sep="\t")
    assert list(coverage["Node"]) == rows[0]
    np.testing.assert_allclose(coverage["coverage"], [0, 0.5, 1, 1])


def test_several_atlases_from_one_read(files, tmp_path, monkeypatch):
    other = images.save(block_labels("u1"), tmp_path / "other.nii.gz")
    reads = []
    slabs = dr.nifti.NiftiFile.slabs

    def counted(self: Any, *args: Any) -> Any:
        reads.append(self.source.url)
        return slabs(self, *args)

    monkeypatch.setattr(dr.nifti.NiftiFile, "slabs", counted)
    atlases = ("--atlas", files.atlas, "--atlas", f"Second={other}")
    names = ("--labels-table", files.table, "--labels-table", files.table)
    check_ok(invoke("extract", files.image, *atlases, *names, "-o", tmp_path / "out"))
    assert reads.count(str(files.image)) == 1
    first, second = tables(tmp_path / "out").items()
    assert first[0] == f"{PREFIX}_atlas-Block_stat-mean_timeseries.tsv"
    assert second[0] == f"{PREFIX}_atlas-Second_stat-mean_timeseries.tsv"
    pd.testing.assert_frame_equal(first[1], second[1])
    # one table for two atlases could be either's
    done = invoke("extract", files.image, *atlases, *names[:2], "-o", tmp_path / "no")
    assert done.exit_code == 2
    assert "--labels-table was given 1 times and --atlas 2 times" in done.stderr
    atlases = ("--atlas", files.atlas, "--atlas", f"Block={other}")
    done = invoke("extract", files.image, *atlases, "-o", tmp_path / "no")
    check_error(done, r"other\.nii\.gz: .*atlas-Block.*--atlas NAME=PATH\.")
    assert not (tmp_path / "no").exists()


def test_a_single_volume(files, tmp_path):
    volume = images.save(nib.load(files.plain).slicer[..., 0], tmp_path / "mean.nii")
    args = ("extract", volume, "--atlas", files.atlas, "-o", tmp_path / "out")
    done = check_ok(invoke(*args))
    assert re.search(r"Block +4 +1 +1\.00", done.stdout)
    [table] = tables(tmp_path / "out").values()
    np.testing.assert_allclose(table.to_numpy()[0], dr.extract(volume, files.atlas), rtol=1e-6)
    check_error(invoke(*args, "--dummy-scans", 1), "single volume")
