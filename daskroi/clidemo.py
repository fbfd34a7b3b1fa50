"""``daskroi demo``: a run whose truth is known, extracted on a local Dask cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from daskroi.errors import DaskroiError
from daskroi.terminal import Command, Option, verbose_option

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from daskroi.phantom import Phantom

__all__ = ["demo"]

# voxels (z, y, x) over the field of view of the MNI152 template: 4 mm, and 2 mm
SIZES = {"small": (45, 54, 45), "2mm": (91, 109, 91)}
N_TIME, N_REGIONS = 120, 20


@click.command(cls=Command, short_help="Extract a run whose truth is known, and compare.")
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for the run and its results; a new one below the temporary folder if not given.",
    cls=Option,
    group="Options",
)
@click.option(
    "--size",
    type=click.Choice(tuple(SIZES)),
    default="small",
    cls=Option,
    group="Options",
    help="Grid of the run: 4 mm (52 MB), or 2 mm (433 MB).",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, 64),
    default=2,
    cls=Option,
    group="Options",
    help="Processes of the cluster, one thread each.",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    cls=Option,
    group="Options",
    help="Another seed is another subject.",
)
@click.option(
    "--dashboard",
    is_flag=True,
    cls=Option,
    group="Options",
    help="Serve Dask's dashboard while it runs.",
)
@verbose_option
def demo(out: str | None, size: str, workers: int, seed: int, dashboard: bool) -> None:
    """Make a run with known region signals, extract them on a local Dask cluster, and compare.

    Drift, head motion, breathing and noise are added to the signals; detrending and confound
    regression have to take them out again. Exits with 1 when they do not.
    """
    import tempfile

    import daskroi as dr
    from daskroi import store
    from daskroi.phantomfiles import local_folder

    made = tempfile.mkdtemp(prefix="daskroi-demo-") if out is None else out
    folder = local_folder(made)
    phantom = dr.make_phantom(SIZES[size], N_TIME, n_regions=N_REGIONS, seed=seed)
    begun = time.perf_counter()
    # not gzipped: any part can be read alone, so all workers have something to do
    paths = dr.write_phantom(folder, phantom, gz=False)
    megabytes = paths["image"].stat().st_size / 1e6
    _line("Run", f"{' x '.join(map(str, SIZES[size]))} voxels, {N_TIME} frames, {megabytes:.0f} MB")
    _line("Made in", f"{time.perf_counter() - begun:.1f} s")

    atlas = dr.load_atlas(paths["atlas"], lut=paths["labels"])
    columns = list(phantom.regressors)
    raw = dr.extract(paths["image"], atlas)
    cleaned = dr.extract(
        paths["image"], atlas, detrend=True, confounds=paths["confounds"], columns=columns
    )
    with _cluster(workers, dashboard) as client:
        begun = time.perf_counter()
        raw, cleaned = (f.result() for f in client.compute([raw, cleaned]))
        seconds = time.perf_counter() - begun
    _line("Extracted in", f"{seconds:.1f} s on {workers} worker process{'es' * (workers > 1)}")

    # written before they are judged: whoever sees a difference wants to look at it
    prefix = store.run_prefix(paths["image"])
    inputs = {k: paths[k] for k in ("image", "atlas", "labels", "confounds")}
    written = store.write_run(
        cleaned, folder / "timeseries", prefix, inputs=inputs, n_frames=N_TIME
    )
    _compare(phantom, raw, cleaned)
    click.echo("\nFiles")
    for path in (*paths.values(), *written.all):
        click.echo(f"  {path}")


def _line(what: str, text: str) -> None:
    click.echo(f"{what:<14}{text}")


@contextmanager
def _cluster(workers: int, dashboard: bool) -> Iterator[Any]:
    """A Dask cluster of processes on this machine, which leaves nothing behind."""
    import logging
    import tempfile

    from daskroi.cluster import connected

    with (
        tempfile.TemporaryDirectory(prefix="daskroi-workers-") as scratch,
        connected(
            "local",
            n_workers=workers,
            threads_per_worker=1,
            memory="2GiB",
            local_directory=scratch,
            # of a cluster that comes and goes within seconds, only errors are of interest
            silence_logs=logging.ERROR,
        ) as client,
    ):
        if dashboard:
            _line("Dashboard", client.dashboard_link)
        yield client


def _compare(phantom: Phantom, raw: xr.DataArray, cleaned: xr.DataArray) -> None:
    """Print a table of regions, and raise when anything is further off than rounding explains."""
    import numpy as np

    means = _against(raw, phantom.expected())
    before, after = _against(raw, phantom.signals), _against(cleaned, phantom.signals)
    click.echo(f"\n{'':<20}{'correlation with the truth':^28}{'largest error':>15}")
    click.echo(f"{'region':<20}{'uncleaned':>14}{'cleaned':>14}{'cleaned':>15}")
    for i, name in enumerate(cleaned.coords["region_name"].values):
        click.echo(
            f"{name:<20}{before['r'].iloc[i]:>14.4f}{after['r'].iloc[i]:>14.6f}"
            f"{after['error'].iloc[i]:>15.1e}"
        )
    spread = float(np.std(phantom.signals.to_numpy()))
    # cleaning is in double, but its input has float32's rounding; regression passes that on
    bounds = phantom.tolerance, 4 * phantom.tolerance + 1e-4 * spread
    click.echo()
    whats = "Region means, as they are", "Region signals, cleaned"
    for what, found, bound in zip(whats, (means, after), bounds, strict=True):
        click.echo(
            f"{what}: largest error {found['error'].max():.1e} (allowed {bound:.1e}), "
            f"lowest correlation {found['r'].min():.6f}"
        )
    if not (means["error"].max() <= bounds[0] and after["error"].max() <= bounds[1]):
        raise DaskroiError(
            "daskroi demo: the result is not the truth; the errors above are larger than rounding "
            "explains. Please report this with the versions in the .json file."
        )
    click.echo("Matches the truth.")


def _against(result: xr.DataArray, truth: pd.DataFrame) -> pd.DataFrame:
    """Largest absolute error and correlation of each region, by id."""
    import numpy as np
    import pandas as pd

    # by id, not by position: a swapped column must show
    found = result.sel(region=truth.columns).transpose("time", "region").values.astype(np.float64)
    wanted = truth.to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        r = [np.corrcoef(found[:, i], wanted[:, i])[0, 1] for i in range(wanted.shape[1])]
    return pd.DataFrame({"error": np.abs(found - wanted).max(axis=0), "r": r}, truth.columns)
