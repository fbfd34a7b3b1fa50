"""`extract_cohort`: many runs, few at a time, each of them complete or not there.

runs → jobs → what each of them needs → a window of tasks → results written by the workers →
``runs.tsv``. Nothing here grows with the number of runs but files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from inspect import signature
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import daskroi
from daskroi import runstable
from daskroi.beside import beside_of
from daskroi.cohortatlas import cohort_atlases
from daskroi.currentclient import current_client
from daskroi.display import check_progress
from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.jobs import jobs_of, parse_shard
from daskroi.listing import local_or_url
from daskroi.memory import available_memory
from daskroi.outputs import write
from daskroi.partfiles import session_file
from daskroi.paths import dataset_root
from daskroi.planning import Plan, plan_of
from daskroi.progress import Progress
from daskroi.recipe import Recipe
from daskroi.runstable import RunsTable
from daskroi.session import Session
from daskroi.summary import Summary
from daskroi.targets import as_target, check_folder, read_text, remove
from daskroi.urls import is_url, shown
from daskroi.window import ClusterWindow, ThreadWindow, Window
from daskroi.work import LINK, Job, Work

if TYPE_CHECKING:
    from daskroi.targets import Target

__all__ = ["extract_cohort"]

BIDS_VERSION = "1.10.0"
OF_ONE_RUN = ("confounds", "sample_mask", "runs", "columns", "mask_img")


def extract_cohort(
    runs: Any,
    atlases: Any,
    out: Any,
    *,
    confounds: Any = None,
    mask: Any = "auto",
    client: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    stop_on_first_crash: bool = False,
    shard: Any = None,
    cohort_zarr: bool = False,
    connectome: str | None = None,
    parquet: bool = False,
    max_in_flight: int | None = None,
    memory: str | int | None = None,
    progress: bool | Callable[[int], Any] = True,
    dry_run: bool = False,
    **recipe: Any,
) -> Summary | Plan:
    """Extract region time series from many runs, on a Dask cluster or on this machine.

    Parameters
    ----------
    runs : DataFrame, or dict of name → path, or iterable of paths
        From `find_runs`, or images by path or URL. An iterator is read as runs are done, so it may
        be long.
    atlases : what `extract` takes as ``atlas``, a list of these, or dict of name → these
        Names stand in file names. A pair of a path pattern and a table is an atlas per subject:
        ``("anat/sub-{subject}_desc-aparcaseg_dseg.nii.gz", "aparcaseg.tsv")``; the regions are
        the table's for all of them. See `daskroi.places.atlas_for`.
    out : path or URL
        Folder for results; made when missing.
    confounds : str, tuple, dict or ConfoundRecipe, optional
        Strategy by name ("36P", "scrubbing" …), or keywords of `load_confounds`:
        ``{"strategy": "36P", "fd_threshold": 0.3}``. Needs fMRIPrep's tables. Strategies that XCP-D
        detrends are detrended unless ``detrend`` says otherwise.
    mask : "auto", path, URL or None
        "auto" is each run's own, where there is one.
    client : distributed.Client, "threads", or None
        Where runs are extracted. None: the client that is current, else threads of this process.
    storage_options : mapping, optional
        For fsspec, for all URLs. Goes to the workers, and into no file.
    overwrite : bool
        Extract again what is up to date.
    retry_failed : bool
        Try runs again that have failed before with the same input and recipe. Runs that failed
        because a worker died or results could not be written are tried again in any case.
    stop_on_first_crash : bool
        Stop at the first failure; otherwise the others go on.
    shard : (i, n) or "i/n", optional
        Of the runs only every n-th, from the i-th (from 1). Shards may run at the same time, on
        machines that know nothing of each other.
    cohort_zarr : bool
        Have all runs in ``cohort.zarr`` as well; see Notes.
    connectome : {None, "correlation", "covariance", "partial-correlation", "precision"}
        Write such a matrix beside every run's series as well, ``…_relmat.tsv``; the last two with
        Ledoit-Wolf shrinkage. Of series that are up to date it is made without reading the image.
    parquet : bool
        Write the series as ``…_timeseries.parquet`` as well. Needs pyarrow.
    max_in_flight : int, optional
        Runs submitted and not done; 2 for every thread of the workers if not given.
    memory : str or int, optional
        Without a cluster: what runs may need together ("4 GB"); 3/4 of what is free if not given.
    progress : bool or callable
        Show how far it is: in a terminal or notebook a bar, in a log a line every 10 s. A function
        is called with the number of runs seen instead, again and again.
    dry_run : bool
        Do nothing, and return a `daskroi.planning.Plan`.
    **recipe
        ``strategy``, ``standardize``, ``low_pass``, ``smoothing_fwhm`` …: see `extract`. The
        command ``daskroi bids`` has ``min_coverage=0.5`` unless told otherwise, as XCP-D has.

    Returns
    -------
    Summary, or Plan of a ``dry_run``
        Counts and, as ``runs``, the table ``runs.tsv``.

    Raises
    ------
    DaskroiError
        Bad input that concerns all runs; two runs whose results would have one name; results
        cannot be written; the scheduler is gone. What was done until then is kept and found again.
        What is wrong with a run is no error: it is in the table.

    Notes
    -----
    A run's results come into place together, the sidecar last, and a rerun skips them as long as
    images, masks, confounds, atlas, recipe and the version of the numbers are the same. Workers
    write them, or, where they do not see the output folder, send them here. Of a run that fails,
    the reason is in ``runs.tsv`` and the traceback in ``logs/``.

    Workers hold runs back while their memory would not suffice, by an estimate from the header.

    ``cohort.zarr`` is made of the tables, in the order of the runs, while they come; not with
    ``shard``: then by `build_cohort_zarr` afterwards. A run exists in it when it is complete.

    Examples
    --------
    >>> from daskroi import extract_cohort
    >>> import daskroi as dr, tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> phantom = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> image = dr.write_phantom(folder / "in", phantom)["image"]
    >>> done = extract_cohort([image], phantom.atlas, folder / "out", mask=None, progress=False)
    >>> done
    <Summary: 1 run: 1 done>
    >>> extract_cohort([image], phantom.atlas, folder / "out", mask=None, progress=False).skipped
    1
    """
    part = parse_shard(shard)
    _check(out, mask, client, max_in_flight, memory)
    check_progress(progress)
    if cohort_zarr and part is not None:
        raise DaskroiError(
            "cohort_zarr=True and shard= do not go together: two shards would write one store. "
            "Build it when all are done: build_cohort_zarr, or daskroi bids ... group."
        )
    target = as_target(out, storage_options)
    if isinstance(target, Path):
        target = target.absolute()  # workers may stand in another folder
    jobs, total = jobs_of(runs)
    first = next(jobs, None)
    if first is None:
        raise DaskroiError("runs is empty: nothing to extract. Give at least one run.")
    jobs = chain([first], jobs)
    if part is not None:
        number, count = part
        jobs = (job for job in jobs if job.position % count == number - 1)
        total = None if total is None else len(range(number - 1, total, count))
    with ExitStack() as stack:
        work = _work(target, atlases, confounds, mask, storage_options, recipe, first)
        work = replace(work, beside=beside_of(connectome, parquet))
        table = RunsTable(target, part)
        stack.callback(table.close)
        session = Session(work, table, overwrite, retry_failed)
        if dry_run:
            return plan_of(session.looked(jobs), work)
        check_folder(target)
        _check_apart(target, work.root)
        runstable.sweep_tables(target)
        _describe_dataset(target, work.root)
        window = _window(client, work, max_in_flight, memory, stack)
        session.display = stack.enter_context(closing(Progress(total, progress)))
        if cohort_zarr:
            from daskroi.cohortzarr import CohortZarr, InOrder, sole_writer

            stack.enter_context(sole_writer(target))
            session.zarr = InOrder(CohortZarr(target))
        session.run(jobs, window, stop_on_first_crash)
    return session.summary()


def _check(out: Any, mask: Any, client: Any, max_in_flight: Any, memory: Any) -> None:
    """What would be noticed late, or never."""
    if out is None:
        raise DaskroiTypeError("out is None. Give a folder for results, by path or URL.")
    if not isinstance(mask, str | os.PathLike | None):
        raise DaskroiTypeError(
            f"mask is a {type(mask).__name__}. A cohort's mask is the path or URL of one image, "
            "'auto' or None."
        )
    if not (client is None or client == "threads" or hasattr(client, "submit")):
        raise DaskroiTypeError(
            f"client={client!r} is no client. Give distributed.Client, as daskroi.connect returns "
            "it, 'threads' or None."
        )
    if max_in_flight is not None and not (isinstance(max_in_flight, int) and max_in_flight > 0):
        # with room for none, it would wait for ever
        raise DaskroiError(
            f"max_in_flight={max_in_flight!r} is not a number of runs. Give 1 or more, or None."
        )
    if memory is not None and not _bytes(memory) > 0:
        raise DaskroiError(f"memory={memory!r} is not above 0. Give what runs may need together.")


def _check_apart(out: Target, root: str) -> None:
    """Raise when results would lie among the images, which are somebody's data."""
    same = str(out).rstrip("/") == root
    if root and isinstance(out, Path) and not is_url(root):
        same = out.resolve() == Path(root).resolve()
    if same:
        raise DaskroiError(
            f"{shown(str(out))}: is the dataset that the runs are from. Give another folder for "
            "results, for example one below its derivatives."
        )


def _bytes(memory: str | int) -> int:
    from dask.utils import parse_bytes

    try:
        return int(parse_bytes(memory))
    except (TypeError, ValueError, AttributeError):
        raise DaskroiError(
            f"memory={memory!r} is no size. Give bytes, or a text such as '4 GB'."
        ) from None


def _work(
    out: Target,
    atlases: Any,
    confounds: Any,
    mask: Any,
    storage_options: Mapping[str, Any] | None,
    recipe: dict[str, Any],
    first: Job,
) -> Work:
    from daskroi.confoundrecipe import ConfoundRecipe
    from daskroi.placement import load_mask

    denoising = None
    if confounds is not None:
        if isinstance(confounds, ConfoundRecipe):
            denoising = confounds
        elif isinstance(confounds, Mapping):
            known = signature(ConfoundRecipe.make).parameters
            if unknown := [name for name in confounds if name not in known]:
                raise DaskroiTypeError(
                    f"confounds has {unknown[0]!r}, which is no keyword of load_confounds. Use "
                    f"some of: {', '.join(known)}."
                )
            denoising = ConfoundRecipe.make(**confounds)
        else:
            denoising = ConfoundRecipe.make(confounds)
        if denoising.detrend:
            recipe = {"detrend": True} | recipe
    for name in OF_ONE_RUN:
        if name in recipe:
            raise DaskroiError(
                f"{name}= is of one run, and here are many. Use confounds= and mask= of "
                "extract_cohort."
            )
    said = json.loads(Recipe.make(**_all_options(recipe)).as_json())
    if mask not in (None, "auto"):
        load_mask(mask, dict(storage_options or {}))  # one for all: better now than in every run
    return Work(
        out,
        cohort_atlases(atlases, storage_options),
        recipe,
        said,
        denoising,
        mask if mask in (None, "auto") else local_or_url(mask),
        dict(storage_options or {}),
        root=shown(dataset_root(first.image)) if dict(first.entities).get("subject") else "",
    )


def _all_options(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the recipe with the defaults of `extract`: spelled out or not, it is the same."""
    from daskroi.extract import extract

    others = {*OF_ONE_RUN, "chunks", "storage_options"}
    defaults = {
        p.name: p.default
        for p in signature(extract).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in others
    }
    return defaults | {k: v for k, v in recipe.items() if k not in others}


def _window(
    client: Any, work: Work, most: int | None, memory: str | int | None, stack: ExitStack
) -> Window:
    """Where runs are extracted; leaving ``stack`` gives up what is not done."""
    client = current_client(of_task=False) if client is None else client
    if client is None or client == "threads":
        given = available_memory() if memory is None else _bytes(memory)
        window: Window = ThreadWindow(replace(work, memory=given), most=most)
    else:
        token = ""
        if isinstance(work.out, Path):
            # by this, workers find out whether they see the folder
            path = session_file(work.out / runstable.LOGS)
            write(path, "")
            stack.callback(remove, path)
            token = f"{runstable.LOGS}/{path.name}"
        window = ClusterWindow(client, replace(work, token=token), most)
    stack.callback(window.close)
    return window


def _describe_dataset(out: Target, root: str) -> None:
    """``dataset_description.json``, unless another program's stands there."""
    path = out / "dataset_description.json"
    link = root if is_url(root) else Path(root).as_uri() if root else ""
    said = {
        "Name": "Region time series",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "daskroi", "Version": daskroi.__version__}],
        **({"DatasetLinks": {LINK: link}} if link else {}),
    }
    text = json.dumps(said, indent=2) + "\n"
    try:
        there = read_text(path)
    except FileNotFoundError:
        there = ""
    except UnicodeDecodeError as error:
        raise DaskroiError(f"{path}: is no text ({error}). Remove it.") from error
    if there != text and ("daskroi" in there or not there):
        write(path, text)
