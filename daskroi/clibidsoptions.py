"""The options of ``daskroi bids``, by the names BIDS-Apps have for them, and lists of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from daskroi.clioptions import CLEANING, REGIONS, RUNNING, option, options_of, shared
from daskroi.terminal import storage_option, verbose_option

__all__ = ["EPILOG", "PATH_LISTS", "WORD_LISTS", "bids_options"]

RUNS, OUTPUT = "Which runs", "Results"

EPILOG = """\b
Examples:
  daskroi bids derivatives/fmriprep out participant --atlases Schaefer400
  daskroi bids derivatives/fmriprep out participant --task-id rest \\
      --atlases HarvardOxford AAL=AAL_dseg.nii.gz -p 36P --fd-thresh 0.3 \\
      --high-pass 0.01 --low-pass 0.08 --standardize zscore_sample
  daskroi bids s3://openneuro-derivatives/fmriprep/ds000228-fmriprep out participant \\
      --storage-option anon=true --atlases Schaefer100 --dry-run
  daskroi bids derivatives/fmriprep out participant --shard 3/20 --atlases Schaefer400
  daskroi bids derivatives/fmriprep out group

\b
Written to OUT, a BIDS derivative (missing values are n/a):
  sub-01/func/<run>_atlas-<Name>_stat-<stat>_timeseries.tsv   a row per frame, a column per region
  sub-01/func/<run>_atlas-<Name>_stat-<stat>_timeseries.json  what was done, to what, by what
  sub-01/func/<run>_atlas-<Name>_stat-coverage_bold.tsv       fraction of each region in the image
  sub-01/func/<run>_atlas-<Name>_stat-<measure>_relmat.tsv    with --connectome
  runs.tsv                                                    what became of every run
  logs/                                                       tracebacks of runs that failed
  cohort.zarr                                                 all runs, with --output-format zarr

Exit code: 0 if all runs are done, 1 if any failed (the others are complete), 2 for a mistake in the
command. Give the command again to go on: what is up to date is skipped.
"""

# options that take several values in a row
WORD_LISTS = (
    "--participant-label",
    "--session-id",
    "--task-id",
    "--run-id",
    "--space",
    "--res",
    "--nuisance-regressors",
    "-p",
)
PATH_LISTS = ("--atlases", "--labels-table", "--seeds")


class Comma(click.ParamType):
    """Some of several words, with commas between them."""

    name = "FORMAT"

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """A tuple of words."""
        if not isinstance(value, str):
            return tuple(value)
        found = tuple(word.strip() for word in value.split(",") if word.strip())
        for word in found:
            if word not in self.words:
                self.fail(f"{word!r} is not one of {', '.join(self.words)}.", param, ctx)
        return found


def _dummy(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    if value is None or value == "auto":
        return value
    if not value.isdigit():
        raise click.BadParameter("give a number of frames, or auto.", ctx, param)
    return int(value)


def _labels(*names: str, help: str) -> Callable[..., Any]:
    return option(*names, metavar="LABEL...", multiple=True, group=RUNS, help=help)


bids_options = options_of(
    click.argument("bids_dir", metavar="BIDS_DIR"),
    click.argument("out", metavar="OUT"),
    click.argument("level", type=click.Choice(("participant", "group"))),
    _labels("--participant-label", help="Subjects, with or without sub-. Default: all."),
    _labels("--session-id", help="Sessions."),
    _labels("--task-id", help="Tasks."),
    _labels("--run-id", help="Runs."),
    _labels("--space", help="Spaces; every one is a run of its own."),
    _labels("--res", help="Resolutions."),
    option(
        "--bids-filter-file",
        metavar="JSON",
        group=RUNS,
        help="Filters as fMRIPrep takes them; those of bold count.",
    ),
    option(
        "--atlases",
        metavar="[NAME=]ATLAS...",
        multiple=True,
        group=REGIONS,
        help="Label images or maps, by path or URL; or HarvardOxford, Schaefer100 to Schaefer1000 "
        "(Schaefer400x17 for 17 networks), found or downloaded. All in one read of a run. With "
        "{subject} or another entity in it, a path is a pattern: one per subject, with "
        "--labels-table.",
    ),
    option(
        "--labels-table",
        "tables",
        metavar="[NAME=]PATH...",
        multiple=True,
        group=REGIONS,
        help="Names of regions, with the NAME of an atlas, or one per atlas in the same order; by "
        "default the table that lies beside the atlas.",
    ),
    shared("background_label"),
    shared("seeds", metavar="[NAME=]TSV..."),
    shared("radius"),
    option(
        "--mask",
        metavar="auto|none|PATH",
        default="auto",
        group=REGIONS,
        help="Voxels that count: each run's own brain mask, all, or those of one image.",
    ),
    shared("min_coverage", default=0.5),
    shared("strategy"),
    shared("nan_policy"),
    shared("resampling_target"),
    shared("resampling_clip"),
    shared("smoothing_fwhm"),
    shared("spatial"),
    shared("maps_method"),
    option(
        "-p",
        "--nuisance-regressors",
        "regressors",
        metavar="NAME...",
        multiple=True,
        group=CLEANING,
        help="What is regressed out. A strategy: 24P, 27P, 36P, acompcor, acompcor_gsr, gsr_only, "
        "none, simple, scrubbing, compcor; components: motion wm_csf global_signal high_pass "
        "compcor scrub; or columns of fMRIPrep's table, wildcards in quotes: 'trans_?' csf. "
        "[default: none]",
    ),
    option(
        "--fd-thresh",
        metavar="MM",
        type=click.FloatRange(min=0),
        group=CLEANING,
        help="Leave frames out whose framewise displacement is above; 0 leaves none out.",
    ),
    option(
        "--dummy-scans",
        metavar="auto|N",
        callback=_dummy,
        group=CLEANING,
        help="Frames to drop at the start; auto: those fMRIPrep flagged. [default: auto with -p, "
        "else 0]",
    ),
    shared("high_variance_confounds"),
    shared("standardize_confounds"),
    shared(
        "detrend",
        default=None,
        help="Remove mean and linear trend. [default: as XCP-D has it for its strategies, else no]",
    ),
    shared("filter"),
    shared("high_pass"),
    shared("low_pass"),
    shared("extrapolate"),
    shared(
        "t_r",
        help="Repetition time of all runs. By default from their JSON, else their headers.",
    ),
    shared("standardize"),
    option(
        "--output-format",
        type=Comma(("tsv", "zarr", "parquet")),
        default="tsv",
        metavar="tsv,zarr,parquet",
        group=OUTPUT,
        help="zarr: all runs in cohort.zarr as well. parquet: series as .parquet too. Tables are "
        "written in any case.",
    ),
    shared("connectome", group=OUTPUT),
    shared(
        "overwrite",
        group=OUTPUT,
        help="Extract again what is up to date. By default it is skipped.",
    ),
    option(
        "--retry-failed",
        is_flag=True,
        group=OUTPUT,
        help="Try runs again that have failed before with the same input and options.",
    ),
    option(
        "--dry-run",
        is_flag=True,
        group=RUNNING,
        help="Only say what would be done: runs, grids, bytes to read, memory.",
    ),
    option(
        "--scheduler",
        metavar="local|ADDRESS|slurm|kubernetes",
        default="local",
        group=RUNNING,
        help="Where runs are extracted: processes on this machine, a Dask scheduler "
        "(tcp://host:8786), or a cluster that starts workers.",
    ),
    option(
        "--scheduler-file",
        metavar="PATH",
        group=RUNNING,
        help="File that dask scheduler --scheduler-file has written.",
    ),
    option(
        "--n-procs",
        "--nprocs",
        metavar="N",
        type=click.IntRange(min=1),
        group=RUNNING,
        help="Processes on this machine, or at most so many workers. [default: one per core; of "
        "slurm and kubernetes 10]",
    ),
    option(
        "--mem",
        metavar="SIZE",
        group=RUNNING,
        help="Memory on this machine for all processes together, or of each worker: 8GB, or a "
        "number of MB.",
    ),
    option(
        "-w",
        "--work-dir",
        metavar="DIR",
        group=RUNNING,
        help="Scratch folder of the workers. Nothing that is left there is needed.",
    ),
    option(
        "--shard",
        metavar="I/N",
        group=RUNNING,
        help="Only every N-th run, from the I-th: for job arrays. Shards may run at once; "
        "'group' afterwards builds cohort.zarr.",
    ),
    option(
        "--stop-on-first-crash",
        is_flag=True,
        group=RUNNING,
        help="Stop when a run fails. By default the others go on.",
    ),
    shared("plan"),
    storage_option(group=RUNNING),
    verbose_option,
)
