"""``daskroi report``: of an image and an atlas, of a result, or of all runs of a cohort."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from daskroi.cliatlases import load_named, named
from daskroi.clicompute import shown_compute
from daskroi.clioptions import RUNNING, option, recipe_of, shared
from daskroi.errors import DaskroiNotFoundError
from daskroi.paths import name_of
from daskroi.terminal import Command, say, storage_option, verbose_option
from daskroi.urls import is_url, local_path, shown

if TYPE_CHECKING:
    from daskroi.report import Report

__all__ = ["report"]

IO, CLEANING = "Input and output", "Cleaning, of an image"

WHAT = {"image": "an image", "result": "a result", "cohort": "a cohort"}
# what an option is for, where it is not for all
CLEANS = ("mask", "columns", "smoothing_fwhm", "detrend", "high_pass", "low_pass", "t_r")
KINDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*CLEANS, "standardize"), ("image",)),
    **dict.fromkeys(("confounds", "title", "out"), ("image", "result")),
    "image": ("result",),
    "overwrite": ("cohort",),
}

EPILOG = """\b
Examples:
  daskroi report bold.nii.gz --atlas atlas_dseg.nii.gz -o report.html
  daskroi report bold.nii.gz --atlas atlas_dseg.nii.gz --confounds confounds.tsv \\
      --columns 'trans_?' 'rot_?' --standardize zscore_sample -o report.html
  daskroi report out/sub-01_atlas-AAL_stat-mean_timeseries.tsv
  daskroi report out --atlas AAL=aal.nii.gz
"""


@click.command(
    cls=Command,
    lists=("--columns",),
    epilog=EPILOG,
    short_help="Make an interactive report of a run, a result or a cohort.",
)
@click.argument("target")
@option(
    "--atlas",
    "atlases",
    metavar="[NAME=]PATH",
    multiple=True,
    group=IO,
    help="Label image or maps. Of a result, by default the file that its JSON names. Of a cohort "
    "NAME is that in the names of its files; repeat for several.",
)
@option(
    "--labels-table",
    metavar="PATH",
    group=IO,
    help="Names of the regions; by default the table that lies beside the atlas.",
)
@option(
    "--image", metavar="PATH", group=IO, help="Of a result: the image to show, if it has moved."
)
@option("--mask", metavar="PATH", group=IO, help="Of an image: voxels that count, on any grid.")
@option(
    "-o",
    "--output",
    "out",
    metavar="HTML",
    group=IO,
    help="File or URL of the report. By default beside the result, as …_report.html; of an image "
    "in the current folder. Reports of a cohort go beside their results, their index is "
    "TARGET/index.html.",
)
@option("--title", metavar="TEXT", group=IO, help="Title of the report.")
@option("--open", "open_", is_flag=True, group=IO, help="Open it in the browser.")
@option(
    "--confounds",
    metavar="TSV",
    group=CLEANING,
    help="Table of confounds, a row per frame: shown, and regressed out of an image.",
)
@shared("columns", group=CLEANING)
@shared("smoothing_fwhm", group=CLEANING)
@shared("detrend", group=CLEANING)
@shared("high_pass", group=CLEANING)
@shared("low_pass", group=CLEANING)
@shared("t_r", group=CLEANING)
@shared("standardize", group=CLEANING)
@option(
    "--overwrite",
    is_flag=True,
    group=RUNNING,
    help="Of a cohort: make reports again that are newer than their result.",
)
@storage_option(group=RUNNING)
@verbose_option
def report(
    target: str,
    atlases: tuple[str, ...],
    labels_table: str | None,
    image: str | None,
    mask: str | None,
    out: str | None,
    title: str | None,
    open_: bool,
    confounds: str | None,
    columns: tuple[str, ...],
    overwrite: bool,
    storage_options: dict[str, Any] | None,
    **cleaning: Any,
) -> None:
    """Make a page that shows TARGET: an image (with --atlas), a result, or a cohort's folder.

    The page is one file that opens offline: slices with regions, their series, carpet plot,
    correlations and confounds.
    """
    pairs = [named(spec) for spec in atlases]
    kind = _kind_of(target, storage_options)
    _refuse_options(kind)
    if kind == "cohort":
        _of_cohort(target, pairs, labels_table, overwrite, open_, storage_options)
        return
    if len(pairs) > 1:
        raise click.UsageError("A report is of one atlas. Give --atlas once.")
    atlas = None
    if pairs:
        atlas = load_named(*pairs[0], labels_table, storage_options=storage_options)
    if kind == "result":
        from daskroi.cohortreport import report_of_result, report_path
        from daskroi.targets import as_target

        made = report_of_result(
            target,
            atlas=atlas,
            image=image,
            confounds=confounds,
            title=title,
            storage_options=storage_options,
        )
        place: Any = out or report_path(as_target(target, storage_options))
    else:
        if atlas is None:
            raise click.UsageError("Missing option '--atlas': TARGET is an image.")
        chosen = [name for text in columns for name in text.split(",") if name] or None
        given = recipe_of(cleaning) | {"mask_img": mask, "confounds": confounds, "columns": chosen}
        made = _of_image(target, atlas, title, given, storage_options)
        place = out or f"{_stem(target)}_report.html"
    made.save_as_html(place, storage_options=storage_options if is_url(place) else None)
    click.echo(shown(str(place)))
    if open_:
        _open(place, made)


def _refuse_options(kind: str) -> None:
    """Options that are for another kind of target: unheard, they would seem to have been heard."""
    ctx = click.get_current_context()
    for parameter in ctx.command.params:
        name = parameter.name or ""
        given = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if given and kind not in KINDS.get(name, (kind,)):
            raise click.BadOptionUsage(
                name, f"{parameter.opts[0]} is not for a report of {WHAT[kind]}. Leave it out."
            )


def _kind_of(target: str, storage_options: dict[str, Any] | None) -> str:
    """What TARGET is: "image", "result" or "cohort"."""
    name = name_of(shown(target))
    if name.endswith(".tsv"):
        return "result"
    if name.endswith((".nii", ".nii.gz", ".nii.zarr", ".zarr", ".img", ".hdr", ".mgz", ".gz")):
        return "image"
    if not is_url(target):
        if not os.path.exists(target):
            raise DaskroiNotFoundError(
                f"{target}: no such file or folder. Give an image, a result or a cohort's folder."
            )
        folder = os.path.isdir(target)
        return "cohort" if folder and not os.path.exists(f"{target}/zarr.json") else "image"
    from daskroi.targets import as_target, exists

    return "cohort" if exists(as_target(target, storage_options) / "runs.tsv") else "image"


def _stem(target: str) -> str:
    from daskroi.store import run_prefix

    return run_prefix(shown(local_path(target)).rstrip("/"))


def _of_image(
    image: str,
    atlas: Any,
    title: str | None,
    options: dict[str, Any],
    storage_options: dict[str, Any] | None,
) -> Report:
    """Extract and report; with cleaning also the series before it, from the same read."""
    import daskroi as dr
    from daskroi.openimage import as_file
    from daskroi.report import report as report_of

    run = dr.open_image(image, storage_options=storage_options)
    options |= {"storage_options": storage_options}
    wanted: list[Any] = [dr.extract(run, atlas, **options)]
    before = ("mask_img", "smoothing_fwhm", "t_r", "storage_options")
    plain = {name: options[name] for name in before}
    if any(value for name, value in options.items() if name not in before):
        wanted.append(dr.extract(run, atlas, **plain))
    file = as_file(run)
    # both come of the same partials, so a stream is read once
    streamed = file.frames if file is not None and not file.seekable else 0
    ts, *raw = shown_compute(wanted, f"Reading {os.path.basename(shown(image))}", streamed)
    return report_of(
        ts,
        atlas,
        run,
        raw=raw[0] if raw else None,
        confounds=options["confounds"],
        title=title,
        storage_options=storage_options,
    )


def _of_cohort(
    folder: str,
    pairs: list[tuple[str | None, str]],
    table: str | None,
    overwrite: bool,
    open_: bool,
    storage_options: dict[str, Any] | None,
) -> None:
    from daskroi.cohortreport import cohort_reports

    atlases = {}
    for name, path in pairs:
        loaded = load_named(name, path, table, storage_options=storage_options)
        atlases[loaded.name] = loaded
    pages = cohort_reports(
        folder, atlases=atlases, overwrite=overwrite, storage_options=storage_options
    )
    index: Any = None
    for count, index in enumerate(pages):  # noqa: B007
        click.echo(shown(str(index)))
    say("Note", f"{count} reports written.")
    if open_:
        _open(index, None)


def _open(place: Any, made: Report | None) -> None:
    import webbrowser
    from pathlib import Path

    if not is_url(str(place)):
        webbrowser.open(Path(place).expanduser().resolve().as_uri())
    elif made is not None:
        made.open_in_browser()
    else:
        say("Note", "pages at URLs are not opened; look at the folder with your browser.")
