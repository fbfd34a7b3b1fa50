"""Bad datasets, selections and options of a cohort, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from badworld import NAME, Bad, World, cut, folder, gone, put

import daskroi as dr

RUN = "bids {data} {out} participant --atlases P={atlas}"
FILTER = f"{RUN} --bids-filter-file f.json"
ATLAS = "bids {data} {out} participant --atlases"


def filtered(name: str, content: str | bytes, says: str) -> Bad:
    """A filter file that is wrong."""
    return Bad(
        f"filter {name}",
        says,
        lambda w: dr.find_runs(w.data, bids_filter="f.json"),
        FILTER,
        put("f.json", content),
    )


def option(name: str, says: str, **options: Any) -> Bad:
    """An option of `extract_cohort` that no flag can say."""
    return Bad(f"cohort {name}", says, lambda w: w.cohort(**options))


DATASETS = (
    Bad(
        "dataset missing",
        r"w/gone: no such folder. Check the path\.",
        lambda w: dr.find_runs("gone"),
        "bids gone {out} participant --atlases {atlas}",
    ),
    Bad(
        "dataset is a file",
        r"P_dseg.tsv: is not a folder. Give the dataset's folder\.",
        lambda w: dr.find_runs(w.table),
        "bids {table} {out} participant --atlases {atlas}",
    ),
    Bad(
        "dataset empty",
        r"w/e: has no preprocessed BOLD images .* Give the folder with preprocessed data",
        lambda w: dr.find_runs("e"),
        "bids e {out} participant --atlases {atlas}",
        folder("e"),
    ),
    Bad(
        "dataset raw, with derivatives",
        r"raw: holds 1 raw BOLD images .* Give the folder .*derivatives there is: fmriprep",
        lambda w: dr.find_runs("raw"),
        "bids raw {out} participant --atlases {atlas}",
        lambda w: [
            put("raw/sub-1/func/sub-1_task-x_bold.nii.gz")(w),
            folder("raw/derivatives/fmriprep")(w),
        ],
    ),
    Bad(
        "dataset path empty, as of a variable that is not set",
        r"A path is empty. Give a path or URL",
        lambda w: dr.find_runs(""),
        "bids '' {out} participant --atlases {atlas}",
    ),
    Bad("dataset with NUL", r"'a\\x00b': no path has a NUL", lambda w: dr.find_runs("a\0b")),
    Bad("dataset a number", r"find_runs takes a folder, .* not int\.", lambda w: dr.find_runs(5)),
    Bad("dataset no images", r"list of images is empty. Give", lambda w: dr.find_runs([])),
    Bad("dataset None", r"paths of images; one is a NoneType", lambda w: dr.find_runs([None])),
    Bad(
        "participant missing",
        r"data: no run has participant_label=99. There is: 01, 02\.",
        lambda w: dr.find_runs(w.data, participant_label="99"),
        f"{RUN} --participant-label 99",
    ),
    Bad(
        "task missing",
        r"data: no run has task_id=nback. There is: rest\.",
        lambda w: dr.find_runs(w.data, task_id="nback"),
        f"{RUN} --task-id nback",
    ),
    Bad("entity mistyped", r"taks: .*mean task\?", lambda w: dr.find_runs(w.data, taks="rest")),
    Bad("label of no text", r"task=1.5: a label is", lambda w: dr.find_runs(w.data, task=1.5)),
)

FILTERS = (
    filtered("no JSON", "{task: rest}", r"f.json: is no JSON .* Repair the filter file\."),
    filtered("empty", "", r"f.json: the file is empty\. Copy or download it again"),
    filtered("binary", b"\xff\xfe\0", r"f.json: is no JSON .* Repair"),
    filtered("nested", "[" * 100_000, r"f.json: is no JSON \(nested too deeply\)\. Repair"),
    filtered("a list", '["bold"]', r"f.json: a filter names .* Write it as \{"),
    filtered("without entities", '{"bold": "rest"}', r"f.json: a filter names .* Write it as"),
    filtered("with a flag", '{"bold": {"task": true}}', r"task=True: a label is text"),
    filtered("no pattern", '{"bold": {"task": "(", "regex_search": true}}', r"no pattern .*Repair"),
    filtered("entity mistyped", '{"bold": {"taks": "x"}}', r"taks: is no BIDS entity.* task\?"),
    filtered("nothing meets", '{"bold": {"task": null}}', r"no run meets task=absent. Leave out"),
    Bad(
        "filter missing",
        r"f.json: no such file. Check the path\.",
        lambda w: dr.find_runs(w.data, bids_filter="f.json"),
        FILTER,
    ),
    Bad(
        "filter is a folder",
        r"f.json: is a folder\. Give the path of one file\.",
        lambda w: dr.find_runs(w.data, bids_filter="f.json"),
        FILTER,
        folder("f.json"),
    ),
)

ATLASES = (
    Bad(
        "atlas missing",
        r"gone.nii.gz: no such file. Check the path\.",
        lambda w: w.cohort(atlases="gone.nii.gz"),
        f"{ATLAS} gone.nii.gz",
    ),
    Bad("atlas none", r"Missing option '--atlases'", None, "bids {data} {out} participant", code=2),
    Bad("atlas of no size", r"n_rois=450 is not known. Use one of", None, f"{ATLAS} Schaefer450"),
    Bad(
        "atlas twice",
        r"P_dseg.nii.gz: its results would have the same names .* Give names",
        None,
        f"{ATLAS} {{atlas}} {{atlas}}",
    ),
    Bad(
        "atlas names alike",
        r"Two atlases are called 'ab', .* with other names",
        lambda w: w.cohort(atlases={"AB": w.atlas, "a-b": w.atlas}),
    ),
    Bad(
        "atlas name of signs",
        r"called '--', .*letters",
        lambda w: w.cohort(atlases={"--": w.atlas}),
    ),
    Bad(
        "atlas name of an axis",
        r"called 'Time', as an axis of cohort.zarr is\. Use another",
        lambda w: w.cohort(atlases={"Time": w.atlas}),
    ),
    Bad("atlas empty list", r"atlases is an empty list.* Give", lambda w: w.cohort(atlases=[])),
    Bad(
        "atlas table for nobody",
        r"There is no atlas 'X'. Give it as --atlases X=PATH",
        None,
        f"{RUN} --labels-table X={{table}}",
        code=2,
    ),
    *(
        Bad(
            f"atlas pattern with {what}",
            says,
            lambda w, pattern=pattern: w.cohort(atlases={"own": (pattern, w.table)}),
            f"{ATLAS} 'own={pattern.replace('{', '{{').replace('}', '}}')}' "
            "--labels-table own={table}",
        )
        for what, pattern, says in (
            ("an unknown entity", "a/{subjct}_x.nii.gz", r"\{subjct\} is not an entity. Use"),
            ("a brace open", "a/{subject}{x.nii.gz", r"its braces do not match. Close"),
            ("a bracket open", "a/{subject}[x.nii.gz", r"its square brackets do not match. Close"),
        )
    ),
)

OPTIONS = (
    Bad(
        "shard 0",
        r"shard='0/2': shards count from 1. Use 1/2 to 2/2",
        lambda w: w.cohort(shard="0/2"),
        f"{RUN} --shard 0/2",
    ),
    Bad(
        "shard of words",
        r"shard='x' is no shard. Use i/n",
        lambda w: w.cohort(shard="x"),
        f"{RUN} --shard x",
    ),
    Bad(
        "shard and Zarr",
        r"cohort_zarr=True and shard= do not go together.* Build it when",
        lambda w: w.cohort(shard="1/2", cohort_zarr=True),
        f"{RUN} --shard 1/2 --output-format zarr",
    ),
    Bad(
        "mask missing",
        r"gone.nii.gz: no such file. Check the path\.",
        lambda w: w.cohort(mask="gone.nii.gz"),
        f"{RUN} --mask gone.nii.gz",
    ),
    Bad(
        "mask a table",
        r"P_dseg.tsv: not a NIfTI image .* Give a .nii",
        lambda w: w.cohort(mask=w.table),
        f"{RUN} --mask {{table}}",
    ),
    Bad(
        "coverage NaN",
        r"min_coverage=nan is not a fraction. Use a number from 0 to 1",
        lambda w: w.cohort(min_coverage=float("nan")),
        f"{RUN} --min-coverage nan",
    ),
    Bad(
        "threshold NaN",
        r"fd_threshold=nan is not a threshold. Pass a number",
        lambda w: w.cohort(confounds={"strategy": "none", "fd_threshold": float("nan")}),
        f"{RUN} --fd-thresh nan",
    ),
    Bad("flag mistyped", r"No such option:? '?--low-pas", None, f"{RUN} --low-pas 1", code=2),
    Bad("level mistyped", r"'grup' is not one of", None, "bids {data} {out} grup", code=2),
    Bad("format unknown", r"'csv' is not one of tsv", None, f"{RUN} --output-format csv", code=2),
    Bad("dummies below 0", r"give a number of frames", None, f"{RUN} --dummy-scans -3", code=2),
    Bad("no processes", r"0 is not in the range", None, f"{RUN} --n-procs 0", code=2),
    Bad("storage option", r"'x' is not KEY=VALUE. Give", None, f"{RUN} --storage-option x", code=2),
    option("client a number", r"client=5 is no client. Give distributed.Client", client=5),
    option("client mistyped", r"client='thread' is no client. Give", client="thread"),
    option("keyword mistyped", r"no parameter 'lowpass'. Did you mean low_pass", lowpass=1),
    option("keyword of one run", r"sample_mask= is of one run.* Use confounds=", sample_mask=[1]),
    option("strategy of denoising", r"strategy='37P' is not known. Use", confounds="37P"),
    option(
        "denoising keyword", r"confounds has 'fd', .* Use some of: strategy", confounds={"fd": 1}
    ),
    option("mask a number", r"mask is a int. A cohort's mask is the path", mask=5),
    option("no room", r"max_in_flight=-1 is not a number of runs. Give 1", max_in_flight=-1),
    option("memory of words", r"memory='lots' is no size. Give bytes", memory="lots"),
    option("memory below 0", r"memory=-1 is not above 0. Give", memory=-1),
    option("matrix unknown", r"connectome='corr' is not known. Use one of", connectome="corr"),
    option("no runs", r"runs is empty: .* Give at least one run", runs=[]),
    option("runs used up", r"runs is empty: .* Give at least one run", runs=iter([])),
    option("runs a number", r"runs=int is no table of runs. Give what find_runs", runs=5),
    option("name of a run", r"name '\.\.' cannot name files. Use letters", runs={"../x": "a.nii"}),
    Bad(
        "cohort without images",
        r"runs has no column 'image', only .* Give the table of find_runs",
        lambda w: w.cohort(runs=dr.find_runs(w.data).drop(columns="image")),
    ),
)


def connecting(name: str, says: str, **options: Any) -> Bad:
    """A cluster that cannot be."""
    told = {"to": "local", "n_workers": 1, "processes": False} | options
    # Dask looks through its scratch folder, which it makes
    return Bad(f"cluster {name}", says, lambda w: dr.connect(**told), leaves=r"tmp/dask-scratch.*")


CLUSTERS = (
    Bad(
        "cluster mistyped",
        r"to='lokal' is not known. Use 'local', 'slurm'",
        lambda w: dr.connect("lokal"),
    ),
    Bad(
        "cluster address mistyped",
        r"tpc://x:1: is no address of a scheduler .* Give one such as",
        lambda w: dr.connect("tpc://x:1", timeout=1),
    ),
    Bad(
        "cluster without port",
        r"tcp://x: is no address of a scheduler .* Give one such as",
        lambda w: dr.connect("tcp://x", timeout=1),
    ),
    Bad(
        "cluster that does not run",
        r"127.0.0.1:1: no connection to the scheduler .* Does it run",
        lambda w: dr.connect("tcp://127.0.0.1:1", timeout=1),
    ),
    Bad(
        "cluster file missing",
        r"s.json: No such file.* Start a scheduler that writes it",
        lambda w: dr.connect("s.json", timeout=0),
    ),
    Bad(
        "cluster file nested",
        r"s.json: not a scheduler's file, after 0 s. Start",
        lambda w: dr.connect("s.json", timeout=0),
        spoil=put("s.json", "[" * 100_000),
    ),
    connecting("of no workers", r"n_workers=0 is not a number. Give 1", n_workers=0),
    connecting("of a word's workers", r"n_workers='two' is not a number. Give", n_workers="two"),
    connecting("memory", r"memory='lots' is no size. Give bytes", memory="lots"),
    connecting("time", r"timeout=nan is no time to wait. Give seconds", timeout=float("nan")),
    connecting("logs", r"silence_logs='eror' is no level of logging. Use", silence_logs="eror"),
    connecting("option", r"n_thread= is not an option of LocalCluster", n_thread=2),
    connecting(
        "scratch", r"local: no cluster .*P_dseg.*local_directory=", local_directory="P_dseg.tsv"
    ),
    connecting(
        "certificates", r"tls_ca_file=a.pem: cannot be read. Give a PEM", tls_ca_file="a.pem"
    ),
)

TABLE = (*DATASETS, *FILTERS, *ATLASES, *OPTIONS, *CLUSTERS)


def link(name: str, to: str) -> Callable[[World], Any]:
    """Has a symbolic link there."""

    def spoil(world: World) -> None:
        path = getattr(world, name)
        path.unlink()
        path.symlink_to(to)

    return spoil


def nested(world: World) -> None:
    """A folder that holds itself, by a link."""
    (world.data / "sub-01" / "loop").symlink_to(world.data)
    cut("image", 900)(world)


# one of two runs is bad, and the other is extracted
ONE_RUN = (
    Bad(
        "run truncated",
        r"desc-preproc_bold.nii.gz: truncated, expected .* Copy",
        spoil=cut("image", 20_000),
    ),
    Bad("run empty", r"bold.nii.gz: the file is empty. Copy", spoil=cut("image", 0)),
    Bad(
        "run text",
        r"bold.nii.gz: is named .gz but holds no gzip",
        spoil=put("image", "hello " * 99),
    ),
    Bad("run a broken link", r"is a link to 'gone', .* 'datalad get'", spoil=link("image", "gone")),
    Bad(
        "run a link to itself",
        r"cannot be found .*links.* Check",
        spoil=link("image", f"{NAME}_desc-preproc_bold.nii.gz"),
    ),
    Bad("run below a folder that holds itself", r"bold.nii.gz: .*truncated.* Copy", spoil=nested),
    Bad("run without its mask's voxels", r"mask.nii.gz: .*truncated.* Copy", spoil=cut("mask", 60)),
    Bad(
        "run without confounds",
        r"bold.nii.gz: has no table of confounds .* Use",
        spoil=gone("confounds"),
    ),
    Bad(
        "run with binary confounds",
        r"timeseries.tsv: not a table of confounds .* Give",
        spoil=put("confounds", b"\xff\0" * 9),
    ),
    Bad("run with short confounds", r"timeseries.tsv: .*", spoil=cut("confounds", 600)),
    Bad(
        "run with a sidecar of no JSON",
        r"bold.json: .*JSON|bold.json: .*Repair or remove",
        spoil=put("sidecar", "{"),
    ),
)
