"""``daskroi bids``: a dataset of preprocessed runs, in one command, on one machine or many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from daskroi import __version__
from daskroi.cliatlases import atlases_of
from daskroi.clibidsoptions import EPILOG, PATH_LISTS, WORD_LISTS, bids_options
from daskroi.clioptions import recipe_of
from daskroi.terminal import Command, say

__all__ = ["bids"]

# keywords of `find_runs`
SELECTING = ("participant_label", "session_id", "task_id", "run_id", "space", "res")


@click.command(
    cls=Command,
    lists=WORD_LISTS,
    path_lists=PATH_LISTS,
    epilog=EPILOG,
    short_help="Extract a whole dataset: a BIDS-App.",
)
@click.version_option(__version__, prog_name="daskroi", message="%(prog)s %(version)s")
@bids_options
def bids(
    bids_dir: str,
    out: str,
    level: str,
    atlases: tuple[str, ...],
    tables: tuple[str, ...],
    background_label: int,
    seeds: tuple[str, ...],
    radius: float | None,
    mask: str,
    regressors: tuple[str, ...],
    fd_thresh: float | None,
    dummy_scans: int | str | None,
    output_format: tuple[str, ...],
    connectome: str,
    bids_filter_file: str | None,
    dry_run: bool,
    storage_options: dict[str, Any] | None,
    **options: Any,
) -> None:
    """Extract region time series from all preprocessed runs in BIDS_DIR into OUT.

    BIDS_DIR holds fMRIPrep's derivatives; it and OUT may be URLs. LEVEL is participant, or group:
    that puts the tables of shards together and builds cohort.zarr.
    """
    if level == "group":
        _group(out, storage_options)
        return
    from daskroi.batch import extract_cohort
    from daskroi.cohort import describe_runs, find_runs
    from daskroi.summary import Summary
    from daskroi.targets import check_folder

    chosen = {name: options.pop(name) or None for name in SELECTING}
    running = {
        name: options.pop(name)
        for name in ("scheduler", "scheduler_file", "n_procs", "mem", "work_dir")
    }
    loaded = atlases_of(
        atlases,
        tables,
        option="--atlases",
        background_label=background_label,
        seeds=seeds,
        radius=radius,
        storage_options=storage_options,
        per_subject=True,
    )
    runs = find_runs(
        bids_dir,
        bids_filter=bids_filter_file,
        storage_options=storage_options,
        progress=True,
        **chosen,
    )
    say("Found", describe_runs(runs).splitlines()[0])
    given = {name: atlas for name, (atlas, _) in loaded.items()}
    told: dict[str, Any] = {
        "confounds": _confounds(regressors, fd_thresh, dummy_scans),
        "mask": None if mask == "none" else mask,
        "storage_options": storage_options,
        "cohort_zarr": "zarr" in output_format,
        "parquet": "parquet" in output_format,
        "connectome": None if connectome == "none" else connectome,
        **recipe_of(options),
        **options,
    }
    if dry_run:
        click.echo(extract_cohort(runs, given, out, dry_run=True, **told).describe())
        return
    check_folder(out, storage_options)  # before processes are started
    with _client(**running) as client:
        done = extract_cohort(runs, given, out, client=client, **told)
    assert isinstance(done, Summary)
    click.echo(done.describe())
    if done.exit_code:
        raise click.exceptions.Exit(done.exit_code)


def _group(out: str, storage_options: dict[str, Any] | None) -> None:
    from daskroi.group import build_cohort_zarr

    done = build_cohort_zarr(out, storage_options=storage_options)
    click.echo(done.describe())
    if done.exit_code:
        raise click.exceptions.Exit(done.exit_code)


def _confounds(
    regressors: tuple[str, ...], fd_thresh: float | None, dummy_scans: int | str | None
) -> dict[str, Any] | None:
    """Keywords of `load_confounds`; None if no table is needed."""
    from daskroi.strategies import COMPONENTS, STRATEGIES

    if not regressors and fd_thresh is None and not dummy_scans:
        return None
    found: dict[str, Any] = {"fd_threshold": fd_thresh or None}
    components = {component.name for component in COMPONENTS} | {"scrub"}
    if not regressors:
        found["strategy"] = "none"
    elif len(regressors) == 1 and regressors[0] in STRATEGIES:
        # "compcor" is a strategy and a component: as in nilearn's load_confounds_strategy
        found["strategy"] = regressors[0]
    elif all(name in components for name in regressors):
        found["strategy"] = tuple(regressors)
    else:
        found["columns"] = list(regressors)
    if fd_thresh == 0:
        found["fd_threshold"] = float("inf")  # off, also where the strategy has one
    if dummy_scans is not None:
        found["n_dummy"] = dummy_scans
    elif not regressors:
        found["n_dummy"] = 0
    return found


@contextmanager
def _client(
    scheduler: str,
    scheduler_file: str | None,
    n_procs: int | None,
    mem: str | None,
    work_dir: str | None,
) -> Iterator[Any]:
    """A client of what was asked for; what is started here ends here."""
    from daskroi.cluster import connected
    from daskroi.window import cores

    memory = _bytes(mem)
    asked: dict[str, Any] = {}
    if scheduler_file and scheduler != "local":
        raise click.BadOptionUsage(
            "--scheduler-file", "--scheduler and --scheduler-file were given. Give one."
        )
    to = scheduler_file or scheduler
    options = {"--n-procs": n_procs, "--mem": mem, "--work-dir": work_dir}
    unheard = {"local": (), "slurm": (), "kubernetes": ("--work-dir",)}.get(to, tuple(options))
    for name in unheard:
        if options[name] is not None:
            raise click.BadOptionUsage(name, f"{name} cannot change {to}. Leave it out.")
    if to == "local":
        processes = n_procs or cores()
        asked = {"n_workers": processes, "threads_per_worker": 1}
        if memory is not None:
            asked["memory"] = memory // processes
        if work_dir is not None:
            asked["local_directory"] = work_dir
    elif to in ("slurm", "kubernetes"):
        asked = {"n_workers": n_procs, "memory": memory}
        if work_dir is not None:
            asked["local_directory"] = work_dir
    with connected(to, **asked) as client:
        link = client.dashboard_link
        if link:
            say("Dashboard", link)
        try:
            yield client
        finally:
            if to == "local":  # a worker that is ended in the middle of a task logs that
                with suppress(Exception):
                    client.run(_hushed, wait=False)
                _hush()


async def _hushed() -> None:  # Dask does not wait for what is asynchronous
    _hush()


def _hush() -> None:
    import logging

    for name in ("distributed", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
        logging.getLogger(name).propagate = False
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("distributed."):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _bytes(mem: str | None) -> int | None:
    """A size; a bare number is MB, as in fMRIPrep."""
    if mem is None:
        return None
    from dask.utils import parse_bytes

    try:
        return parse_bytes(f"{mem}MB" if mem.replace(".", "", 1).isdigit() else mem)
    except ValueError:
        raise click.BadOptionUsage(
            "--mem", f"--mem {mem!r} is no size. Give 8GB, or a number of MB."
        ) from None
