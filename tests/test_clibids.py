"""``daskroi bids``: a BIDS-App whose results are those of `extract_cohort`."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import cohorts
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from cohorts import outputs_of

import daskroi as dr
from daskroi import clioptions
from daskroi.batch import extract_cohort
from daskroi.clibids import bids
from daskroi.cliextract import extract
from daskroi.errors import DaskroiError
from daskroi.terminal import Group

FLAGS = """
--participant-label --session-id --task-id --run-id --space --res --bids-filter-file --atlases
--mask --min-coverage --nuisance-regressors -p --fd-thresh --dummy-scans --low-pass --high-pass
--smoothing --t-r --standardize --n-procs --mem -w --work-dir -v --version --dry-run
--stop-on-first-crash --overwrite --shard --scheduler --scheduler-file --storage-option
--output-format --nan-policy --retry-failed --connectome
"""
MANY = """
--participant_label 01 sub-03 --atlases P=P_dseg.nii.gz -p trans_? csf --fd-thresh 0.5
--dummy-scans 1 --standardize zscore_sample --detrend --min-coverage 0 --output-format tsv,zarr
--connectome correlation
"""
# what the flags of cleaning and running come to
ALL = """
--low-pass 0.1 --high_pass 0.01 --smoothing 5 --t-r 2 --nan-policy omit --strategy median
--nprocs 2 --mem 2000 -w scratch --scheduler local --space MNI152NLin6Asym --task-id task-rest
--run-id 1 --session-id ses-1 --res 2 --stop-on-first-crash --overwrite --shard 1/2 --verbose
--mask none --bids-filter-file filters.json --storage-option anon=true
--output-format tsv,parquet --min-coverage 0.25 --retry-failed --fd-thresh 0.4 --dummy-scans auto
"""


@click.group(cls=Group)
def main() -> None:
    """The command, alone."""


main.add_command(bids)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and an atlas; not to be changed."""
    folder = tmp_path_factory.mktemp("cli")
    cohorts.write_cohort(folder / "in", 4)
    atlas = cohorts.atlas()
    image = nib.Nifti1Image(np.asarray(atlas.labels).T.astype("i4"), np.asarray(atlas.grid.affine))
    nib.save(image, folder / "P_dseg.nii.gz")
    atlas.table[["index", "name"]].to_csv(folder / "P_dseg.tsv", sep="\t", index=False)
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command in the folder of the dataset, on threads instead of processes."""
    from contextlib import nullcontext

    monkeypatch.chdir(folder)
    monkeypatch.setattr("daskroi.clibids._client", lambda **_: nullcontext("threads"))

    def invoke(out: Path, *args: str, level: str = "participant") -> Any:
        told = ["bids", "in", str(out), level, *args]
        return CliRunner().invoke(main, told, catch_exceptions=False)

    return invoke


def test_results_are_those_of_the_function(tmp_path, folder, run):
    done = run(tmp_path / "cli", *MANY.split())
    assert done.exit_code == 0, done.output
    assert "2 runs: 2 done" in done.stdout
    assert "Found: 2 runs of 2 subjects" in done.stderr
    runs = cohorts.find_runs(folder / "in", participant_label=["01", "03"])
    extract_cohort(
        runs,
        {"P": str(folder / "P_dseg.nii.gz")},
        tmp_path / "api",
        confounds={"columns": ["trans_?", "csf"], "fd_threshold": 0.5, "n_dummy": 1},
        standardize="zscore_sample",
        detrend=True,
        cohort_zarr=True,
        connectome="correlation",
        client="threads",
        progress=False,
    )
    expected = outputs_of(tmp_path / "api")
    assert sum(name.endswith("_relmat.tsv") for name in expected) == 2
    assert outputs_of(tmp_path / "cli") == expected
    assert len(expected) > 10
    again = run(tmp_path / "cli", "--atlases", "P=P_dseg.nii.gz", "--participant-label", "01")
    assert "made again, with other input files, recipe, confounds" in again.stdout


@pytest.mark.timeout(120)
def test_on_processes_of_its_own(tmp_path, folder, monkeypatch):
    monkeypatch.chdir(folder)
    told = ["bids", "in", str(tmp_path), "participant", "--atlases", "P_dseg.nii.gz"]
    told += ["--n-procs", "1", "--mem", "900"]
    done = CliRunner().invoke(main, told, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "1 worker, 1 threads" in done.stderr
    assert len(list(tmp_path.rglob("*_timeseries.tsv"))) == 4


def test_shards_and_group_give_one_cohort(tmp_path, run):
    told = ["--atlases", "P_dseg.nii.gz"]
    for shard in ("2/2", "1/2"):
        done = run(tmp_path / "shards", *told, "--shard", shard)
        assert done.exit_code == 0, done.output
        assert "2 runs: 2 done" in done.stdout
    done = run(tmp_path / "shards", level="group")
    assert done.exit_code == 0
    assert "cohort.zarr: 4 runs" in done.stdout
    run(tmp_path / "one", *told, "--output-format", "zarr")
    assert outputs_of(tmp_path / "shards") == outputs_of(tmp_path / "one")
    store = xr.open_zarr(tmp_path / "one" / "cohort.zarr")
    assert store["Pdseg" if "Pdseg" in store else "P"].shape == (4, 12, 4)
    assert "has no runs.tsv" in run(tmp_path / "nothing", level="group").stderr


def test_a_failed_run_is_exit_code_1(tmp_path, folder, run):
    cohorts.write_cohort(tmp_path / "in", 2)
    image = next((tmp_path / "in" / "sub-02").rglob("*bold.nii.gz"))
    image.write_bytes(image.read_bytes()[:2000])
    told = ["bids", str(tmp_path / "in"), str(tmp_path / "out"), "participant"]
    told += ["--atlases", str(folder / "P_dseg.nii.gz")]
    done = CliRunner().invoke(main, told)
    assert done.exit_code == 1
    assert "2 runs: 1 done, 1 failed" in done.stdout
    assert f"Tracebacks: {tmp_path / 'out' / 'logs'}" in done.stdout
    assert re.search(r"sub-02\S*: failed: .*truncated", done.stderr)
    assert "retry" not in done.stdout
    done = CliRunner().invoke(main, [*told, "--retry-failed"])
    assert done.exit_code == 1
    assert "2 runs: 1 skipped, 1 failed" in done.stdout
    # group says so as well
    done = run(tmp_path / "out", level="group")
    assert done.exit_code == 1
    assert "1 runs failed and are not in it" in done.stdout


def test_a_plan_without_a_cluster(tmp_path, run, monkeypatch):
    monkeypatch.setattr("daskroi.clibids._client", None)
    done = run(tmp_path / "out", "--dry-run", "--atlases", "P_dseg.nii.gz")
    assert done.exit_code == 0, done.output
    assert "Runs: 4 (4 to do)" in done.stdout
    assert "Memory: at most" in done.stdout
    assert not (tmp_path / "out").exists()


def test_an_atlas_per_subject(tmp_path, folder):
    cohorts.write_cohort(tmp_path / "in", 2)
    for i in (1, 2):
        anat = tmp_path / "in" / f"sub-0{i}" / "anat"
        anat.mkdir()
        (anat / f"sub-0{i}_dseg.nii.gz").write_bytes((folder / "P_dseg.nii.gz").read_bytes())
    told = ["bids", str(tmp_path / "in"), str(tmp_path / "out"), "participant", "--n-procs", "1"]
    told += ["--atlases", "own=anat/sub-{subject}_dseg.nii.gz"]
    done = CliRunner().invoke(main, told)
    assert (done.exit_code, "needs a name and a table" in done.stderr) == (2, True)
    done = CliRunner().invoke(main, [*told, "--labels-table", f"own={folder / 'P_dseg.tsv'}"])
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "out").rglob("*_atlas-own_stat-mean_timeseries.tsv"))) == 2


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "Missing option '--atlases'"),
        (["--atlases", "gone.nii.gz"], 1, "gone.nii.gz: no such file"),
        (["--atlases", "P_dseg.nii.gz", "P_dseg.nii.gz"], 1, "same names"),
        (["--atlases", "P_dseg.nii.gz", "--labels-table", "X=P_dseg.tsv"], 2, "no atlas 'X'"),
        (["--atlases", "P_dseg.nii.gz", "--dummy-scans", "x"], 2, "number of frames, or auto"),
        (["--atlases", "P_dseg.nii.gz", "--output-format", "csv"], 2, "'csv' is not one of"),
        (["--atlases", "P_dseg.nii.gz", "--shard", "0/2"], 1, "shards count from 1"),
        (["--atlases", "P_dseg.nii.gz", "--participant-label", "99"], 1, "99"),
        (["--atlases", "P_dseg.nii.gz", "-p", "37P"], 0, "37P"),
        (["--atlases", "P_dseg.nii.gz", "--low-pass", "x"], 2, "not a valid float"),
    ],
)
def test_mistakes_are_said(tmp_path, run, args, code, message):
    done = run(tmp_path / "out", *args)
    assert message in done.output
    assert (done.exit_code == code) or code == 0
    assert done.exit_code != 0


@pytest.mark.parametrize(
    ("mem", "size"), [(None, None), ("900", 900_000_000), ("8GB", 8_000_000_000), ("1GiB", 1 << 30)]
)
def test_memory_without_unit_is_in_megabytes(mem, size):
    from daskroi.clibids import _bytes

    assert _bytes(mem) == size


@pytest.mark.parametrize(
    ("regressors", "fd", "dummy", "expected"),
    [
        ((), None, None, None),
        ((), None, 0, None),
        ((), None, 3, {"strategy": "none", "fd_threshold": None, "n_dummy": 3}),
        ((), 0.5, None, {"strategy": "none", "fd_threshold": 0.5, "n_dummy": 0}),
        (("36P",), None, None, {"strategy": "36P", "fd_threshold": None}),
        (("scrubbing",), 0, None, {"strategy": "scrubbing", "fd_threshold": float("inf")}),
        (("motion", "scrub"), None, "auto",
         {"strategy": ("motion", "scrub"), "fd_threshold": None, "n_dummy": "auto"}),
        (("trans_?", "csf"), None, None, {"columns": ["trans_?", "csf"], "fd_threshold": None}),
    ],
)  # fmt: skip
def test_regressors_are_strategies_components_or_columns(regressors, fd, dummy, expected):
    from daskroi.clibids import _confounds
    from daskroi.confoundrecipe import ConfoundRecipe

    assert _confounds(regressors, fd, dummy) == expected
    if expected is not None:
        ConfoundRecipe.make(**expected)


def test_help_names_every_flag_and_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from daskroi.clibids import bids\n"
        "try: bids(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('numpy', 'dask', 'xarray', 'pandas', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.rstrip().endswith("[]")
    for flag in FLAGS.split():
        assert re.search(rf"(?<![\w-]){flag}\b", done.stdout), flag


def test_every_flag_arrives(tmp_path, folder, run, monkeypatch):
    seen: dict[str, Any] = {}

    def find(where: str, **told: Any) -> Any:
        seen.update(told, where=where)
        return cohorts.find_runs(folder / "in")

    def extract(*_: Any, **told: Any) -> None:
        seen.update(told)
        raise DaskroiError("enough")

    def client(**told: Any) -> Any:
        from contextlib import nullcontext

        seen.update(told)
        return nullcontext("a client")

    monkeypatch.setattr("daskroi.cohort.find_runs", find)
    monkeypatch.setattr("daskroi.batch.extract_cohort", extract)
    monkeypatch.setattr("daskroi.clibids._client", client)
    done = run(tmp_path, "--atlases", "P_dseg.nii.gz", *ALL.split())
    assert "enough" in done.output
    expected = {
        "low_pass": 0.1,
        "high_pass": 0.01,
        "smoothing_fwhm": 5.0,
        "t_r": 2.0,
        "nan_policy": "omit",
        "strategy": "median",
        "n_procs": 2,
        "mem": "2000",
        "work_dir": "scratch",
        "scheduler": "local",
        "scheduler_file": None,
        "space": ("MNI152NLin6Asym",),
        "task_id": ("task-rest",),
        "run_id": ("1",),
        "session_id": ("ses-1",),
        "res": ("2",),
        "bids_filter": "filters.json",
        "stop_on_first_crash": True,
        "overwrite": True,
        "retry_failed": True,
        "shard": "1/2",
        "mask": None,
        "storage_options": {"anon": True},
        "cohort_zarr": False,
        "parquet": True,
        "connectome": None,
        "min_coverage": 0.25,
        "confounds": {"strategy": "none", "fd_threshold": 0.4, "n_dummy": "auto"},
        "client": "a client",
    }
    assert {name: seen[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (("--scheduler", "tcp://127.0.0.1:1", "--n-procs", "2"), "--n-procs cannot change tcp://"),
        (("--scheduler-file", "s.json", "--mem", "2GB"), "--mem cannot change s.json"),
        (("--scheduler", "kubernetes", "-w", "scratch"), "--work-dir cannot change kubernetes"),
        (("--scheduler", "slurm", "--scheduler-file", "s.json"), "--scheduler-file were given"),
    ],
)
def test_options_of_another_scheduler_are_not_unheard(tmp_path, folder, told, said):
    args = ["bids", str(folder / "in"), str(tmp_path), "participant", "--atlases"]
    done = CliRunner().invoke(main, [*args, str(folder / "P_dseg.nii.gz"), *told])
    assert done.exit_code == 2
    assert said in done.stderr


def test_parquet_without_pyarrow_is_said_at_once(tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    done = run(tmp_path / "out", "--atlases", "P_dseg.nii.gz", "--output-format", "parquet")
    assert done.exit_code == 1
    assert "pip install 'daskroi[parquet]'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_recipe_is_said_in_the_same_words_for_one_run_and_for_many():
    one, many = ({p.name: p for p in command.params} for command in (extract, bids))
    for name in clioptions.RECIPE:
        assert one[name].opts == many[name].opts
        assert one[name].type.to_info_dict() == many[name].type.to_info_dict()
    said = inspect.signature(dr.extract).parameters
    of_runs = {"image", "atlas", "mask_img", "confounds", "columns", "sample_mask", "runs"}
    no_options = {"dtype", "chunks", "storage_options", "clean_args"}
    assert set(clioptions.RECIPE) == set(said) - of_runs - no_options | {"extrapolate"}


def test_options_of_extract_reach_every_run(tmp_path, folder, run):
    seeds = tmp_path / "atlas-S_seeds.tsv"
    seeds.write_text("x\ty\tz\n0\t0\t0\n")
    told = (
        "--filter cosine --high-pass 0.05 --no-standardize-confounds --detrend -p csf --plan blocks"
    )
    told += f" --spatial voxelwise --smoothing 9,9,6 --background-label 1 --seeds {seeds}"
    done = run(
        tmp_path / "out",
        *told.split(),
        "--radius",
        "8",
        "--atlases",
        "P_dseg.nii.gz",
        "--labels-table",
        "P_dseg.tsv",
        "--participant-label",
        "02",
        "--min-coverage",
        "0",
    )
    assert done.exit_code == 0, done.output
    image = next((folder / "in" / "sub-02").rglob("*bold.nii.gz"))
    confounds = next((folder / "in" / "sub-02").rglob("*timeseries.tsv"))
    mask = next((folder / "in" / "sub-02").rglob("*mask.nii.gz"), None)
    with pytest.warns(dr.DaskroiWarning, match="no row for these labels"):
        labels = dr.load_atlas(folder / "P_dseg.nii.gz", folder / "P_dseg.tsv", background_label=1)
    expected = dr.extract(
        image,
        {
            "P": labels,
            "S": dr.load_atlas(pd.read_csv(seeds, sep="\t"), radius=8),
        },
        mask_img=mask,
        confounds=confounds,
        columns=["csf"],
        filter="cosine",
        high_pass=0.05,
        standardize_confounds=False,
        detrend=True,
        spatial="voxelwise",
        smoothing_fwhm=(9, 9, 6),
    )
    for name, series in expected.items():
        [path] = (tmp_path / "out").rglob(f"*atlas-{name}*_timeseries.tsv")
        np.testing.assert_allclose(pd.read_csv(path, sep="\t"), series, rtol=1e-6, atol=1e-6)


def test_tables_are_what_bids_tools_read(tmp_path, run):
    run(tmp_path, "--atlases", "P=P_dseg.nii.gz", "--participant-label", "02")
    table = pd.read_csv(next(tmp_path.rglob("*_timeseries.tsv")), sep="\t")
    assert table.shape == (12, 4)
    assert json.loads((tmp_path / "dataset_description.json").read_text())["BIDSVersion"]
