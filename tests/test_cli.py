"""The command line: what it writes, what it says, what it leaves behind."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from nilearn.maskers import NiftiLabelsMasker

import daskroi as dr
from daskroi import clioptions, connectomefiles, display, kernels, recipe, store
from daskroi.cli import main
from daskroi.errors import DaskroiError
from daskroi.relmat import read_relmat
from daskroi.steps import FILTERS, STANDARDIZE

SHAPE = (6, 7, 5)
N_TIME = 60
IDS = (1, 2, 5, 9)
BOLD = "sub-01_task-rest_space-MNI152NLin6Asym_res-2_desc-preproc_bold"
PREFIX = "sub-01_task-rest_space-MNI152NLin6Asym"


def invoke(*args: Any) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


def check_ok(done: Result) -> Result:
    assert done.exit_code == 0, done.output
    return done


def check_error(done: Result, match: str, code: int = 1) -> None:
    """One line that says it, and no traceback."""
    assert done.exit_code == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.fullmatch(f"Error: .*{match}.*\n", done.stderr), done.stderr


def tables(out: Path) -> dict[str, pd.DataFrame]:
    return {p.name: pd.read_csv(p, sep="\t") for p in sorted(out.glob("*_timeseries.tsv"))}


def python(*args: Any, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, args)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **kwargs,
    )


def environment() -> dict[str, str]:
    # also where the package is not installed
    return os.environ | {"PYTHONPATH": str(Path(dr.__file__).parents[1])}


def block_labels(dtype: Any = "i2") -> nib.Nifti1Image:
    values = np.zeros(SHAPE)
    for i, label in enumerate(IDS):
        values[1:5, 1:6, i + 1] = label
    return nib.Nifti1Image(values.astype(dtype), images.STRAIGHT)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A small run and all that goes with it; tests only read these."""
    folder = tmp_path_factory.mktemp("in")
    rng = np.random.default_rng(0)
    run = images.run(rng, (*SHAPE, N_TIME), t_r=2.0)
    mask = np.ones(SHAPE, "u1")
    mask[:, :, 1], mask[:3, :, 2] = 0, 0  # region 1 is lost, region 2 half of it
    confounds = pd.DataFrame(
        rng.standard_normal((N_TIME, 4)), columns=["trans_x", "trans_y", "csf", "with_nan"]
    )
    confounds.loc[0, "with_nan"] = np.nan
    found = SimpleNamespace(
        image=images.save(run, folder / f"{BOLD}.nii.gz"),
        plain=images.save(run, folder / "mybold.nii"),
        mask=images.save(nib.Nifti1Image(mask, images.STRAIGHT), folder / "mask.nii"),
        atlas=images.save(block_labels(), folder / "atlas-Block_x.nii"),
        table=folder / "names.tsv",
        confounds=folder / "confounds.tsv",
        folder=folder,
    )
    # on another grid than the run
    there = images.labels(rng, (4, 4, 3), affine=np.diag([3.0, 3, 3, 1]))
    found.coarse = images.save(there, folder / "coarse.nii")
    maps = rng.random((*SHAPE, 3)) * (rng.random((*SHAPE, 3)) < 0.5)
    image = nib.Nifti1Image(maps.astype("f4"), images.STRAIGHT)
    found.maps = images.save(image, folder / "atlas-Soft_probseg.nii.gz")
    found.seeds = folder / "atlas-Net_seeds.tsv"
    found.seeds.write_text("x\ty\tz\tname\n4\t6\t4\tPCC\n8\t8\t4\tIPL\n")
    names = pd.DataFrame({"index": IDS, "name": ["V1", "V2", "A1", "M1"]})
    names.to_csv(found.table, sep="\t", index=False)
    confounds.to_csv(found.confounds, sep="\t", index=False, na_rep="n/a")
    return found


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
    series = store.read_timeseries(next(tmp_path.glob("*_timeseries.tsv")))
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


def sidecar_in(out: Path) -> dict[str, Any]:
    [path] = out.glob("*_timeseries.json")
    return json.loads(path.read_text())


FUSED = {"Method": "fused", "RelativeErrorBound": 1e-9}
RESAMPLED = {"ImageResampling": "cubic spline, not clipped"}
CLIPPED = {"Method": "voxelwise", "ImageResampling": "cubic spline, clipped"}


@pytest.mark.parametrize("image", ["plain", "image"])
@pytest.mark.parametrize(
    ("options", "same", "said"),
    [
        (("--smoothing", 6), {"smoothing_fwhm": 6}, FUSED | {"SmoothingFWHM": 6.0}),
        (("--smoothing-fwhm=5.5",), {"smoothing_fwhm": 5.5}, FUSED | {"SmoothingFWHM": 5.5}),
        (
            ("--smoothing_fwhm", "6,6,4"),
            {"smoothing_fwhm": (6, 6, 4)},
            FUSED | {"SmoothingFWHM": [6.0, 6.0, 4.0]},
        ),
        (("--smoothing=fast",), {"smoothing_fwhm": "fast"}, FUSED | {"SmoothingFWHM": "fast"}),
        (
            ("--smoothing", 6, "--spatial", "voxelwise"),
            {"smoothing_fwhm": 6, "spatial": "voxelwise"},
            {"Method": "voxelwise", "SmoothingFWHM": 6.0},
        ),
        (
            ("--smoothing", 6, "--strategy", "median"),
            {"smoothing_fwhm": 6, "strategy": "median"},
            {"Method": "voxelwise", "SmoothingFWHM": 6.0},
        ),
        (
            ("--resampling-target", "labels", "--spatial", "fused"),
            {"resampling_target": "labels"},
            FUSED | RESAMPLED,
        ),
        (
            ("--resampling-target", "labels", "--resampling-clip"),
            {"resampling_target": "labels", "resampling_clip": True},
            CLIPPED,
        ),
        (
            ("--resampling-target", "labels", "--spatial", "voxelwise"),
            {"resampling_target": "labels", "spatial": "voxelwise"},
            CLIPPED,
        ),
        (
            ("--resampling-target=labels", "--spatial=voxelwise", "--no-resampling-clip"),
            {"resampling_target": "labels", "spatial": "voxelwise", "resampling_clip": False},
            RESAMPLED | {"Method": "voxelwise"},
        ),
        ((), {}, {"Method": "direct"}),
    ],
    ids=lambda v: " ".join(map(str, v)) if isinstance(v, tuple) else "",
)
def test_smoothing_and_resampling(files, tmp_path, image, options, same, said):
    path = getattr(files, image)
    args = ("extract", path, "--atlas", files.coarse, *options, "-o", tmp_path)
    check_ok(invoke(*args))
    back = store.read_timeseries(next(tmp_path.glob("*_timeseries.tsv")))
    expected = dr.extract(path, files.coarse, **same).compute()
    np.testing.assert_array_equal(back.values, expected.values)
    found = sidecar_in(tmp_path)
    assert found["Spatial"] == said
    assert found["Recipe"].items() >= json.loads(json.dumps(same)).items()
    assert "up to date" in check_ok(invoke(*args)).stderr


def test_maps_and_seeds(files, tmp_path):
    atlases = ("--atlas", files.atlas, "--atlas", files.maps, "--seeds", files.seeds)
    seeds = ("--seeds", f"Points={files.seeds}")
    for radius in ((), ("--radius", 3)):
        out = tmp_path / f"out{len(radius)}"
        check_ok(invoke("extract", files.plain, *atlases, *radius, "-o", out))
        spheres = dr.load_atlas(
            [(4, 6, 4), (8, 8, 4)], labels=["PCC", "IPL"], radius=radius[1] if radius else None
        )
        wanted = {"Block": files.atlas, "Soft": files.maps, "Net": spheres}
        paths = sorted(out.glob("*_timeseries.tsv"))
        assert len(paths) == 3
        for name, atlas in wanted.items():
            [path] = out.glob(f"mybold_atlas-{name}_stat-mean_timeseries.tsv")
            back = store.read_timeseries(path)
            expected = dr.extract(files.plain, atlas).compute()
            np.testing.assert_array_equal(back.values, expected.values)
            for coord in ("region", "region_name", "n_voxels", "coverage", "size_mm3"):
                np.testing.assert_array_equal(back[coord], expected[coord])
        assert list(pd.read_csv(paths[1], sep="\t").columns) == ["PCC", "IPL"]
        found = json.loads(paths[1].with_suffix(".json").read_text())
        assert (found["Regions"]["size_mm3"] == [None, None]) is (not radius)
        assert found["Sources"] == [str(files.plain), str(files.seeds)]
    # nilearn's dicts of one atlas have a key "maps"
    check_ok(invoke("extract", files.plain, "--atlas", f"maps={files.maps}", "-o", tmp_path / "m"))
    assert list(tables(tmp_path / "m")) == ["mybold_atlas-maps_stat-mean_timeseries.tsv"]
    # seeds alone
    check_ok(invoke("extract", files.plain, *seeds, "-o", tmp_path / "alone"))
    [name] = tables(tmp_path / "alone")
    assert name == "mybold_atlas-Points_stat-mean_timeseries.tsv"


def test_least_squares_of_maps(files, tmp_path):
    args = ("extract", files.plain, "--atlas", files.maps, "-o", tmp_path)
    values = {}
    for method in clioptions.MAPS_METHODS:
        check_ok(invoke(*args, "--maps-method", method))
        stat = "lstsq" if method == "lstsq" else "mean"
        [table] = [t for name, t in tables(tmp_path).items() if f"_stat-{stat}_" in name]
        values[method] = table.to_numpy()
        expected = dr.extract(files.plain, files.maps, maps_method=method)
        np.testing.assert_allclose(values[method], expected, rtol=1e-6)
    assert not np.allclose(values["mean"], values["lstsq"])


def test_names_of_maps_and_seeds(files, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("index,name\n7,DMN\n3,Salience\n5,Visual\n")
    seeds = tmp_path / "s=1.csv"
    seeds.write_text("Index,X,Y,Z\n20,4,6,4\n10,8,8,4\n")
    args = ("--atlas", files.maps, "--labels-table", table, "--seeds", seeds)
    check_ok(invoke("extract", files.plain, *args, "-o", tmp_path / "out"))
    soft, spheres = (
        store.read_timeseries(next((tmp_path / "out").glob(f"*_atlas-{name}_*_timeseries.tsv")))
        for name in ("Soft", "s1")
    )
    assert dict(zip(soft.region.values.tolist(), soft.region_name.values, strict=True)) == {
        7: "DMN",
        3: "Salience",
        5: "Visual",
    }
    assert spheres.sizes["region"] == 2


def test_every_option_makes_a_result_stale(files, tmp_path):
    """What was made in another way is never taken for what is asked for."""
    seeds = tmp_path / "seeds.tsv"
    seeds.write_text(files.seeds.read_text())
    soft = tmp_path / "soft.nii"
    image = nib.load(files.maps)
    images.save(image, soft)
    args = ("extract", files.plain, "-o", tmp_path / "out")
    labels = ("--atlas", files.coarse, "--resampling-target", "labels")
    smooth = ("--atlas", files.atlas, "--smoothing")
    balls = ("--seeds", seeds)
    for one, other in [
        ((*smooth, 4), (*smooth, 5)),
        ((*smooth, "4,4,5"), (*smooth, "fast")),
        ((*smooth, 4), ("--atlas", files.atlas)),
        ((*smooth, 4), (*smooth, 4, "--spatial", "voxelwise")),
        (labels, labels[:2]),
        ((*labels, "--resampling-clip"), (*labels, "--no-resampling-clip")),
        (balls, (*balls, "--radius", 3)),
        ((*balls, "--radius", 3), (*balls, "--radius", 4)),
    ]:
        check_ok(invoke(*args, *one, "--overwrite"))
        assert "up to date" in check_ok(invoke(*args, *one)).stderr
        done = check_ok(invoke(*args, *other))
        assert re.search("made with other (recipe|atlas), is made again", done.stderr), other
    for path, change in [
        (soft, lambda: images.save(image.__class__(image.get_fdata() + 1, image.affine), soft)),
        (seeds, lambda: seeds.write_text(seeds.read_text().replace("8", "6"))),
    ]:
        option = ("--atlas" if path == soft else "--seeds", path)
        check_ok(invoke(*args, *option))
        stat = path.stat()
        change()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        # by content, even where size and time stay
        assert "atlas" in check_ok(invoke(*args, *option)).stderr.split("made with other")[1]


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
        back = store.read_timeseries(next(out.glob("*_timeseries.tsv")))
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


def test_results_that_are_up_to_date_are_skipped(files, tmp_path, monkeypatch):
    image = tmp_path / "run.nii"
    image.write_bytes(files.plain.read_bytes())
    args = ("extract", image, "--atlas", files.atlas, "-o", tmp_path / "out")
    check_ok(invoke(*args))
    [path] = (tmp_path / "out").glob("*_timeseries.tsv")

    def touched(*more: Any) -> tuple[bool, Result]:
        os.utime(path, (1, 1))
        done = check_ok(invoke(*args, *more))
        assert str(path) in done.stdout
        return path.stat().st_mtime != 1, done

    made, done = touched()
    assert not made
    assert re.fullmatch(r"Note: .*timeseries\.tsv: up to date, skipped\.\n", done.stderr)
    assert "skipped" in done.stdout
    made, done = touched("--overwrite")
    assert made
    assert done.stderr == ""
    made, done = touched("--detrend")
    assert made
    assert "made with other recipe, is made again" in done.stderr
    made, done = touched("--detrend", "--dummy-scans", 1)
    assert made
    assert "frames" in done.stderr
    assert touched("--detrend", "--dummy-scans", 1)[0] is False
    os.utime(image, (5, 5))
    made, done = touched("--detrend", "--dummy-scans", 1)
    assert made
    assert "made with other input files" in done.stderr


def test_a_single_volume(files, tmp_path):
    volume = images.save(nib.load(files.plain).slicer[..., 0], tmp_path / "mean.nii")
    args = ("extract", volume, "--atlas", files.atlas, "-o", tmp_path / "out")
    done = check_ok(invoke(*args))
    assert re.search(r"Block +4 +1 +1\.00", done.stdout)
    [table] = tables(tmp_path / "out").values()
    np.testing.assert_allclose(table.to_numpy()[0], dr.extract(volume, files.atlas), rtol=1e-6)
    check_error(invoke(*args, "--dummy-scans", 1), "single volume")


# Bad input. Each case: what to do to the good arguments, and what the one line must say


def _spoiled(change: Any) -> Any:
    """An image whose bytes or header were changed."""

    def make(files: SimpleNamespace, folder: Path) -> dict[str, Any]:
        return {"image": change(files, folder)}

    return make


def _cut(source: str, share: float) -> Any:
    def change(files: SimpleNamespace, folder: Path) -> Path:
        whole = getattr(files, source)
        path = folder / whole.name
        path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
        return path

    return change


def _flipped(files: SimpleNamespace, folder: Path) -> Path:
    raw = bytearray(files.image.read_bytes())
    for i in range(len(raw) // 2, len(raw) // 2 + 64):
        raw[i] ^= 0xFF
    path = folder / "flipped.nii.gz"
    path.write_bytes(raw)
    return path


def _bytes(name: str, raw: bytes) -> Any:
    def change(files: SimpleNamespace, folder: Path) -> Path:
        (folder / name).write_bytes(raw)
        return folder / name

    return change


def _affine(*row: float) -> Any:
    def change(files: SimpleNamespace, folder: Path) -> Path:
        image = nib.load(files.plain)
        raw = bytearray(files.plain.read_bytes())
        header = image.header.copy()
        header["qform_code"], header["sform_code"] = 0, 1
        header["srow_x"] = row
        raw[:348] = header.binaryblock
        (folder / "affine.nii").write_bytes(raw)
        return folder / "affine.nii"

    return change


def _array(values: Any) -> Any:
    def change(files: SimpleNamespace, folder: Path) -> Path:
        return images.save(nib.Nifti1Image(values, images.STRAIGHT), folder / "other.nii")

    return change


def _t_r(t_r: float, unit: str = "sec") -> Any:
    def change(files: SimpleNamespace, folder: Path) -> Path:
        image = nib.load(files.plain)
        image = nib.Nifti1Image(image.get_fdata(dtype="f4"), image.affine)
        image.header.set_zooms((2, 2, 2, t_r))
        image.header.set_xyzt_units("mm", unit)
        return images.save(image, folder / "t_r.nii")

    return change


def _atlas(values: Any = None, affine: Any = images.STRAIGHT) -> Any:
    def make(files: SimpleNamespace, folder: Path) -> dict[str, Any]:
        voxels = block_labels("f4").get_fdata(dtype="f4") if values is None else values
        return {"atlas": images.save(nib.Nifti1Image(voxels, affine), folder / "bad.nii")}

    return make


def _table(ids: Any) -> Any:
    def make(files: SimpleNamespace, folder: Path) -> dict[str, Any]:
        frame = pd.DataFrame({"index": ids, "name": "x"})
        frame.to_csv(folder / "bad.tsv", sep="\t", index=False)
        return {"options": ("--labels-table", folder / "bad.tsv")}

    return make


def _confounds(text: str) -> Any:
    def make(files: SimpleNamespace, folder: Path) -> dict[str, Any]:
        (folder / "c.tsv").write_text(text)
        return {"options": ("--confounds", folder / "c.tsv")}

    return make


def _seeds(text: str) -> Any:
    def make(files: SimpleNamespace, folder: Path) -> dict[str, Any]:
        (folder / "s.tsv").write_text(text)
        return {"options": ("--atlas", files.atlas, "--seeds", folder / "s.tsv")}

    return make


def _options(*options: Any, image: Any = None) -> Any:
    def make(files: SimpleNamespace, folder: Path) -> dict[str, Any]:
        found = {"options": tuple(str(o).format(folder=files.folder) for o in options)}
        return found | ({"image": image(files, folder)} if image else {})

    return make


FAR = np.diag([2.0, 2, 2, 1])
FAR[:3, 3] = 1000
RGB = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
NAN = float("nan")
CUTOFF = ("--high-pass", 0.01)

BAD = {
    "no image": (_options(image=lambda f, d: d / "no.nii"), r"no\.nii: no such file"),
    "folder": (_options(image=lambda f, d: f.folder), "is a folder"),
    "empty": (_spoiled(_bytes("x.nii", b"")), r"x\.nii: the file is empty"),
    "not an image": (_spoiled(_bytes("x.nii", b"hello" * 200)), r"x\.nii: not a NIfTI image"),
    "text as gz": (_spoiled(_bytes("x.nii.gz", b"hello")), r"x\.nii\.gz: .* no gzip data"),
    "other ending": (_spoiled(_bytes("x.txt", b"hello" * 200)), r"x\.txt: not a NIfTI image"),
    "gz of text": (_spoiled(_bytes("x.nii.gz", gzip.compress(b"hi" * 400))), "not a NIfTI image"),
    "cut": (_spoiled(_cut("plain", 0.7)), r"mybold\.nii: truncated, expected \d+ .* found \d+"),
    "cut gz": (_spoiled(_cut("image", 0.7)), r"bold\.nii\.gz: .*truncated.* again"),
    "corrupt gz": (_spoiled(_flipped), r"flipped\.nii\.gz: (corrupt|truncated|.*truncated)"),
    "singular": (_spoiled(_affine(0, 0, 0, 0)), r"affine\.nii: .*singular"),
    "nan affine": (_spoiled(_affine(NAN, 0, 0, 0)), r"affine\.nii: .*finite"),
    "complex": (_spoiled(_array(np.zeros((*SHAPE, 9), "c8"))), r"complex\d* voxels.*magnitude"),
    "rgb": (_spoiled(_array(RGB)), "RGB voxels.*channel"),
    "5D": (_spoiled(_array(np.zeros((*SHAPE, 3, 2), "f4"))), "is 5D, shape .* Split"),
    "no atlas": (_options("--atlas", "{folder}/no.nii"), r"no\.nii: no such file"),
    "fractional": (_atlas(np.full(SHAPE, 1.5, "f4")), r"bad\.nii: .*1\.5"),
    "no label": (_atlas(np.zeros(SHAPE, "u1")), r"bad\.nii: "),
    "no overlap": (_atlas(affine=FAR), r"bad\.nii: no label left .* do not overlap"),
    "foreign table": (_table([100, 200]), r"bad\.tsv: none of its ids \(100, 200\)"),
    "no table": (_options("--labels-table", "{folder}/no.tsv"), r"no\.tsv: no such file"),
    "run as atlas": (
        lambda f, _: {"atlas": f.image},
        r"_bold\.nii\.gz: looks like a run, not an atlas \(its name ends in _bold\)\. Give",
    ),
    "run without its name as atlas": (
        lambda f, _: {"atlas": f.plain},
        rf"mybold\.nii: looks like a run, not an atlas \({N_TIME} volumes, 2 s apart\)",
    ),
    "no seeds": (_options("--seeds", "{folder}/no.tsv"), r"no\.tsv: no such file"),
    "image as seeds": (_options("--seeds", "{folder}/mask.nii"), r"mask\.nii: "),
    "empty seeds": (_seeds(""), r"s\.tsv: the file is empty"),
    "no z": (_seeds("x\ty\n1\t2\n"), r"s\.tsv: seeds: the table needs .*z missing"),
    "words as seeds": (_seeds("x\ty\tz\n1\t2\tn/a\n"), r"s\.tsv: seeds: .*at position 0"),
    "seeds far away": (_seeds("x\ty\tz\n900\t0\t0\n"), "no label left on the image's grid"),
    "radius": (
        _options("--seeds", "{folder}/atlas-Net_seeds.tsv", "--radius", "-1"),
        r"seeds\.tsv: radius=-1\.0 is not a positive number of mm",
    ),
    "negative width": (_options("--smoothing", "-3"), r"smoothing_fwhm=-3\.0 is not a width"),
    "fused median": (
        _options("--smoothing", 6, "--strategy", "median", "--spatial", "fused"),
        "spatial='fused': strategy='median' is not linear",
    ),
    "fused and clipped": (
        _options(
            "--atlas",
            "{folder}/coarse.nii",
            "--resampling-target",
            "labels",
            "--resampling-clip",
            "--spatial",
            "fused",
        ),
        "spatial='fused': resampling_clip=True is not linear",
    ),
    "lstsq of labels": (_options("--maps-method", "lstsq"), "maps_method='lstsq' is for an atlas"),
    "median of maps": (
        _options("--atlas", "{folder}/atlas-Soft_probseg.nii.gz", "--strategy", "median"),
        r"probseg\.nii\.gz: strategy='median' of weighted voxels",
    ),
    "no mask": (_options("--mask", "{folder}/no.nii"), r"no\.nii: no such file"),
    "no confounds": (_options("--confounds", "{folder}/no.tsv"), r"no\.tsv: no such file"),
    "short confounds": (_confounds("a\n1\n2\n"), rf"c\.tsv has 2 rows and .* {N_TIME} frames"),
    "nan confounds": (
        _options("--confounds", "{folder}/confounds.tsv"),
        r"confounds\.tsv: column 'with_nan' has NaN .* in frame 0",
    ),
    "words": (_confounds("a\n" + "x\n" * N_TIME), r"c\.tsv: column 'a' has values .* no numbers"),
    "no column": (
        _options("--confounds", "{folder}/confounds.tsv", "--columns", "tranz_x"),
        "matches 'tranz_x'.*trans_x",
    ),
    "columns alone": (_options("--columns", "csf"), "confounds were not given"),
    "no t_r": (_options(*CUTOFF, image=_t_r(0)), r"t_r\.nii: .*Pass t_r in seconds"),
    "header in ms": (_options(*CUTOFF, image=_t_r(2000)), r"milliseconds: t_r=2\."),
    "t_r in ms": (_options(*CUTOFF, "--t-r", 2000), "t_r=2000 s looks like milliseconds"),
    "t_r tiny": (_options("--t-r", 0.001), "shorter than any scan"),
    "cutoffs swapped": (_options(*CUTOFF, "--low-pass", 0.005), "is not below low_pass"),
    "all dummies": (_options("--dummy-scans", N_TIME), f"none of the {N_TIME} frames"),
    "no sample mask": (_options("--sample-mask", "{folder}/no.txt"), r"no\.txt: no such file"),
    "odd sample mask": (_options("--sample-mask", "{folder}/names.tsv"), "not a sample mask"),
    "other grid": (
        _options("--resampling-target", "none", image=_array(np.zeros((4, 4, 4, 9), "f4"))),
        "forbids resampling",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(files, tmp_path, case):
    make, match = BAD[case]
    changes = {"image": files.plain, "atlas": files.atlas, "options": ()} | make(files, tmp_path)
    out = tmp_path / "made" / "out"
    options = changes["options"]
    atlas = () if {"--atlas", "--seeds"} & set(options) else ("--atlas", changes["atlas"])
    done = invoke("extract", changes["image"], *atlas, *options, "-o", out)
    check_error(done, match)
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--strategy", "avg"), "'avg' is not one of 'mean', 'sum', 'median'"),
        (("--standardize", "zscore"), "'zscore' is not one of 'none', 'zscore_sample', 'psc'"),
        (("--filter", "fir"), "'fir' is not one of 'butterworth', 'cosine', 'none'"),
        (("--nan-policy", "drop"), "'drop' is not one of 'zero', 'omit', 'propagate'"),
        (("--resampling-target", "mask"), "'mask' is not one of 'data', 'labels', 'none'"),
        (("--spatial", "both"), "'both' is not one of 'auto', 'fused', 'voxelwise'"),
        (("--maps-method", "sum"), "'sum' is not one of 'mean', 'lstsq'"),
        (("--smoothing", "wide"), "'wide' is not a width. Give mm .* 6,6,4, or fast"),
        (("--smoothing", "6,6"), "'6,6' is not a width"),
        (("--radius", "5"), "--radius is for --seeds"),
        (("--plan", "fast"), "'fast' is not one of 'auto', 'stream', 'blocks'"),
        (("--low-pass", "fast"), "'fast' is not a valid float"),
        (("--dummy-scans", "-1"), "-1 is not in the range"),
        (("--smooth", "6"), "No such option.*--smooth"),
    ],
)
def test_mistakes_in_the_command_line_exit_with_2(files, tmp_path, options, match):
    args = ("extract", files.plain, "--atlas", files.atlas, "-o", tmp_path / "out")
    done = invoke(*args, *options)
    assert done.exit_code == 2
    assert re.search(match, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_required_options_are_asked_for(files):
    for args, missing in [
        (("extract",), "IMAGE"),
        (("extract", files.plain, "-o", "x"), "--atlas"),
        (("extract", files.plain, "--atlas", files.atlas), "--output"),
    ]:
        done = invoke(*args)
        assert done.exit_code == 2
        assert missing in done.stderr


def test_a_file_where_the_folder_should_be(files, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "out"):
        done = invoke("extract", files.plain, "--atlas", files.atlas, "-o", out)
        check_error(done, "file: is a file, so results cannot be written below it. Give a folder")
    assert file.read_text() == "mine"


def test_columns_do_not_swallow_the_image(files, tmp_path):
    args = ("--confounds", files.confounds, "--columns", "trans_x", "csf", files.plain)
    check_ok(invoke("extract", "--atlas", files.atlas, "-o", tmp_path, *args))
    sidecar = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert sidecar["Confounds"] == ["trans_x", "csf"]
    args = ("--confounds", files.confounds, "--columns=trans_x,csf", "--", files.plain)
    done = check_ok(invoke("extract", "--atlas", files.atlas, "-o", tmp_path, *args))
    assert "up to date" in done.stderr


def test_unexpected_errors_are_one_line_unless_verbose(files, tmp_path, monkeypatch):
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("half\nline")

    monkeypatch.setattr(store, "write_run", broken)
    args = ("extract", files.plain, "--atlas", files.atlas, "-o", tmp_path / "out")
    check_error(invoke(*args), "unexpected KeyError: .*Run again with -v for the traceback")
    done = invoke(*args, "-v")
    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: unexpected KeyError")
    assert "-v" not in done.stderr.splitlines()[-1]

    def refused(*_: Any, **__: Any) -> None:
        raise DaskroiError("this\nfile: no.")

    monkeypatch.setattr(store, "write_run", refused)
    check_error(invoke(*args), r"this\\nfile: no\.")
    assert "Traceback" in invoke(*args, "-v").stderr


def test_ctrl_c_while_writing_exits_with_130(files, tmp_path, monkeypatch):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    done = invoke("extract", files.plain, "--atlas", files.atlas, "-o", tmp_path / "out")
    monkeypatch.undo()
    assert done.exit_code == 130
    assert done.stderr == "Interrupted: nothing partial was left.\n"
    assert not (tmp_path / "out").exists()


ENDLESS = """
import sys, time
from daskroi import imagefile
from daskroi.cli import main
from daskroi.nifti import NiftiFile

def endless(self, slab_frames=None, slabs=NiftiFile.slabs):
    [(start, slab)] = [(i, s.copy()) for i, s in slabs(self, slab_frames)]
    if self.n_time is None:  # the atlas
        yield start, slab
        return
    watchers = tuple(imagefile._watchers)
    print("reading", flush=True)
    for _ in range(1200):
        time.sleep(0.05)
        yield start, slab
        for watcher in watchers:
            watcher(1)

NiftiFile.slabs = endless
main(sys.argv[1:], prog_name="daskroi")
"""


def test_ctrl_c_while_reading_ends_the_reading_too(files, tmp_path):
    # a stream runs in a thread, which Python waits for when it exits: it must stop by itself
    args = ("extract", files.image, "--atlas", files.atlas, "-o", tmp_path / "out")
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, *map(str, args)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "reading\n"
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=50)
        finally:
            process.kill()
    assert process.returncode == 130
    assert stderr == "Interrupted: nothing partial was left.\n"
    assert time.monotonic() - begun < 40  # 60 s if it were read to its end
    assert not (tmp_path / "out").exists()


def test_warnings_are_one_line_each_and_said_once(files, tmp_path):
    args = ("extract", files.plain, "--atlas", files.atlas, "--atlas", f"Same={files.atlas}")
    done = check_ok(invoke(*args, "--mask", files.mask, "--t-r", 3, "-o", tmp_path))
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("Warning: ") for line in lines)
    assert "t_r=3 s, but the image says 2 s" in lines[1]
    assert ".py" not in done.stderr


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of several slabs, so that there is progress to see."""
    phantom = dr.make_phantom((45, 54, 45), 120, n_regions=5)
    return dr.write_phantom(tmp_path_factory.mktemp("long"), phantom)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("plan", ["stream", "blocks"])
def test_progress_counts_to_the_end(long_run, tmp_path, monkeypatch, plan, clip):
    monkeypatch.setattr(display, "SECONDS_BETWEEN_LINES", 0)
    args = ("extract", long_run["image"], "--plan", plan, "-o", tmp_path / "out")
    if clip:  # reads twice
        labels = np.zeros((3, 3, 3), "u1")
        labels[1] = 1
        affine = nib.load(long_run["image"]).affine.copy()
        affine[:3, 3] += 40
        small = images.save(nib.Nifti1Image(labels, affine), tmp_path / "small.nii")
        args += ("--atlas", small, "--resampling-target", "labels", "--resampling-clip")
    else:
        args += ("--atlas", long_run["atlas"])
    done = check_ok(invoke(*args))
    lines = done.stderr.splitlines()
    assert {line.partition(": ")[0] for line in lines} == {f"Reading {long_run['image'].name}"}
    percents = [int(re.search(r": (\d+) %, \d:\d\d so far", line)[1]) for line in lines]
    assert percents == sorted(percents)
    # steps along the way, not only at its end
    assert len([p for p in percents if 5 < p < 95]) >= 3
    assert percents[-1] < 100


def test_progress_is_a_bar_on_a_terminal(long_run, tmp_path):
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    args = ("extract", long_run["image"], "--atlas", long_run["atlas"], "-o", tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-m", "daskroi", *map(str, args)],
        env=environment() | {"TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=follower,
        timeout=120,
        check=True,
    )
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 1 << 16):
            shown += part
    except OSError:  # Linux's end of a terminal
        pass
    os.close(leader)
    assert b"Reading sub-01_task-rest" in shown
    assert b"100 %" in shown
    assert b"\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 5


def test_help_says_what_there_is():
    done = check_ok(invoke("extract", "--help"))
    headings = re.findall(r"^(\w[\w ]+):$", done.stdout, flags=re.MULTILINE)
    assert headings == ["Input and output", "Regions", "Cleaning", "Running", "Other"]
    for text in ("[default: mean]", "Cutoff in Hz", "--t-r SECONDS", "--columns 'trans_?'"):
        assert text in done.stdout
    assert {c.split()[0] for c in _commands(check_ok(invoke("--help")).stdout)} == {
        "bids",
        "convert",
        "demo",
        "extract",
        "report",
    }
    assert check_ok(invoke("--version")).stdout == f"daskroi {dr.__version__}\n"


def _commands(text: str) -> list[str]:
    return [line for line in text.split("Commands:\n")[1].splitlines() if line.strip()]


def test_choices_are_those_of_the_library():
    assert set(clioptions.STRATEGIES) == set(kernels.REDUCERS)
    assert clioptions.NAN_POLICIES == kernels.NAN_POLICIES
    assert set(clioptions.STANDARDIZE) == {s or "none" for s in STANDARDIZE}
    assert set(clioptions.FILTERS) == {f or "none" for f in FILTERS}
    assert recipe.SPATIAL == clioptions.SPATIAL
    assert ("none", *connectomefiles.CHOICES) == clioptions.CONNECTOMES
    assert recipe.MAPS_METHODS == clioptions.MAPS_METHODS
    targets = {t or "none" for t in recipe.RESAMPLING_TARGETS}
    assert set(clioptions.RESAMPLING_TARGETS) == targets
    done = invoke("extract", "--help")
    for plan in clioptions.PLANS:
        assert plan in done.stdout
        dr.Recipe.make(plan=plan)
    with pytest.raises(DaskroiError) as caught:
        dr.Recipe.make(plan="?")
    for plan in clioptions.PLANS:
        assert repr(plan) in str(caught.value)


@pytest.mark.parametrize("args", [["--help"], ["extract", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(args):
    code = (
        "import sys\nfrom daskroi.cli import main\n"
        f"try: main({args})\nexcept SystemExit: pass\n"
        "print('modules', *sys.modules)"
    )
    done = python("-c", code)
    modules = set(done.stdout.splitlines()[-1].split())
    assert "daskroi.cli" in modules
    heavy = {"numpy", "dask", "distributed", "xarray", "pandas", "nibabel", "scipy", "rich"}
    assert not modules & heavy


def test_the_module_is_the_command(files, tmp_path):
    args = ("-m", "daskroi", "extract", files.image, "--atlas", files.atlas, "-o", tmp_path)
    done = python("-W", "error", *args)
    assert (done.returncode, done.stderr) == (0, "")
    [table] = tables(tmp_path).values()
    expected = dr.extract(files.image, files.atlas).values
    np.testing.assert_array_equal(table.to_numpy(np.float32), expected)
    done = python("-m", "daskroi", "extract", "no.nii", "--atlas", files.atlas, "-o", tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"Error: .*no\.nii: no such file\. Check the path\.\n", done.stderr)
    assert python("-m", "daskroi", "extract").returncode == 2


@pytest.mark.timeout(240)
def test_demo_finds_the_truth(tmp_path):
    done = python("-m", "daskroi", "demo", "--out", tmp_path / "demo", "--seed", 3)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Matches the truth." in done.stdout
    rows = re.findall(r"^(\S+) +(\S+) +(\S+) +(\S+e-\d+)$", done.stdout, flags=re.MULTILINE)
    assert len(rows) == 20
    before, after, error = np.array([row[1:] for row in rows], float).T
    # uncleaned series are far off, so that cleaning is seen to do something
    assert before.min() < 0.7
    assert after.min() > 0.99999
    assert error.max() < 0.002
    # what is printed is what was written: the truth once more, from the files alone
    phantom = dr.make_phantom((45, 54, 45), 120, n_regions=20, seed=3)
    [table] = tables(tmp_path / "demo" / "timeseries").values()
    assert list(table.columns) == [row[0] for row in rows] == phantom.atlas.names
    found = np.abs(table.to_numpy(np.float32) - phantom.signals.to_numpy()).max(axis=0)
    np.testing.assert_allclose(found, error, rtol=0.06)
    paths = [Path(line.strip()) for line in done.stdout.split("Files\n")[1].splitlines()]
    assert all(path.is_file() for path in paths)
    assert len(paths) == 9


@pytest.mark.timeout(240)
@pytest.mark.parametrize("wrong", ["cleaned", "raw"])
def test_demo_notices_wrong_numbers(tmp_path, monkeypatch, wrong):
    extract = dr.extract

    def off(*args: Any, **kwargs: Any) -> Any:
        series = extract(*args, **kwargs)
        # by 0.01, a thousandth of the signals
        return series + 0.01 if ("confounds" in kwargs) == (wrong == "cleaned") else series

    monkeypatch.setattr(dr, "extract", off)
    done = invoke("demo", "--out", tmp_path, "--workers", 1)
    assert done.exit_code == 1
    assert "Matches" not in done.stdout
    assert re.fullmatch(r"Error: daskroi demo: the result is not the truth.*\n", done.stderr)


def test_demo_refuses_a_file_as_its_folder(tmp_path):
    (tmp_path / "file").write_text("")
    check_error(invoke("demo", "--out", tmp_path / "file"), "is a file")
