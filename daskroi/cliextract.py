"""``daskroi extract``: one run, in this process."""

from __future__ import annotations

import io
import os
import time
from typing import TYPE_CHECKING, Any

import click

from daskroi.cliatlases import atlases_of
from daskroi.clicompute import shown_compute
from daskroi.cliextractoptions import EPILOG, extract_options
from daskroi.clioptions import recipe_of
from daskroi.errors import DaskroiError
from daskroi.terminal import Command, say
from daskroi.urls import local_path, shown

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

__all__ = ["extract"]


@click.command(
    cls=Command,
    lists=("--columns",),
    epilog=EPILOG,
    short_help="Extract region time series from a run.",
)
@extract_options
def extract(
    image: str,
    atlases: tuple[str, ...],
    tables: tuple[str, ...],
    background_label: int,
    seeds: tuple[str, ...],
    radius: float | None,
    mask: str | None,
    out: str,
    overwrite: bool,
    confounds: tuple[str, ...],
    columns: tuple[str, ...],
    sample_mask: str | None,
    dummy_scans: int,
    storage_options: dict[str, Any] | None,
    connectome: str,
    **options: Any,
) -> None:
    """Extract region time series from the run IMAGE (.nii, .nii.gz or .nii.zarr) into OUT.

    Both may be URLs, and so may atlases, tables, mask and confounds.
    """
    import daskroi as dr
    from daskroi import store
    from daskroi.beside import beside_of, ensure_beside
    from daskroi.targets import check_folder

    started = time.perf_counter()
    check_folder(out, storage_options)
    loaded = atlases_of(
        atlases,
        tables,
        option="--atlas",
        background_label=background_label,
        seeds=seeds,
        radius=radius,
        storage_options=storage_options,
    )
    recipe = recipe_of(options)
    run = dr.open_image(image, storage_options=storage_options)
    n_frames = run.sizes.get("time")
    if connectome != "none" and n_frames is None:
        raise DaskroiError(
            f"{shown(image)}: --connectome {connectome} is of a run, and this is a single volume. "
            "Leave it out."
        )
    beside = beside_of(None if connectome == "none" else connectome, parquet=False)
    found: Any = dr.extract(
        run,
        # a dict for one result per name; with a key "maps" it would be taken for nilearn's
        {f"atlas-{name}": atlas for name, (atlas, _) in loaded.items()},
        mask_img=mask,
        confounds=list(confounds) or None,
        columns=[name for text in columns for name in text.split(",") if name] or None,
        sample_mask=_kept(sample_mask, dummy_scans, n_frames, storage_options),
        storage_options=storage_options,
        **recipe,
    )
    lazy: dict[str, Any] = {key.removeprefix("atlas-"): result for key, result in found.items()}
    prefix = store.run_prefix(shown(local_path(image)))
    common = {"image": image, "mask": mask, "confounds": list(confounds) or None}
    told: dict[str, dict[str, Any]] = {
        name: {
            "inputs": common | loaded[name][1],
            "n_frames": n_frames,
            "storage_options": storage_options,
        }
        for name in lazy
    }
    stale = _stale(lazy, out, prefix, told, overwrite)
    title = f"Reading {os.path.basename(shown(image))}"
    clipped = any(r.attrs.get("image_resampled", "").endswith(", clipped") for r in lazy.values())
    streamed = _streamed_frames(run, recipe["plan"], clipped, recipe["high_variance_confounds"])
    computed = shown_compute([lazy[name] for name in stale], title, streamed) if stale else []
    for name, result in zip(stale, computed, strict=True):
        store.write_run(result, out, prefix, **told[name])
    written = {
        name: store.output_paths(lazy[name], out, prefix, storage_options=storage_options)
        for name in lazy
    }
    ensure_beside(beside, written.values())
    _report(written, stale, started)
    for kind in beside:
        for series in written.values():
            for path in kind.files_of(series):
                click.echo(str(path))


def _kept(
    path: str | None,
    dummy_scans: int,
    n_frames: int | None,
    storage_options: dict[str, Any] | None,
) -> np.ndarray | None:
    """Frames to keep, as booleans; None for all."""
    if path is None and not dummy_scans:
        return None
    import numpy as np

    from daskroi.censor import sample_mask_to_bool

    if n_frames is None:
        raise DaskroiError(
            "--sample-mask and --dummy-scans are for runs; the image is a single volume. "
            "Leave them out."
        )
    if dummy_scans >= n_frames:
        raise DaskroiError(
            f"--dummy-scans {dummy_scans} leaves none of the {n_frames} frames. Give fewer."
        )
    keep = np.arange(n_frames) >= dummy_scans
    if path is not None:
        mask = sample_mask_to_bool(_read_sample_mask(path, storage_options), n_frames)
        keep &= True if mask is None else mask
        if not keep.any():
            raise DaskroiError(f"{shown(path)}: together with --dummy-scans, no frame is left.")
    return keep


def _read_sample_mask(path: str, storage_options: dict[str, Any] | None) -> np.ndarray:
    import numpy as np

    from daskroi.bytesource import ByteSource

    raw, path = ByteSource.of(path, storage_options).read(), shown(path)
    try:
        if path.endswith(".npy"):
            values = np.load(io.BytesIO(raw), allow_pickle=False).ravel()
        else:
            words = raw.decode("utf-8-sig").replace(",", " ").split()
            words = [{"true": "1", "false": "0"}.get(w.lower(), w) for w in words]
            values = np.array([float(w) for w in words])
    except (OSError, ValueError) as error:
        raise DaskroiError(
            f"{path}: not a sample mask ({error}). Give numbers of the frames to keep, or a 0 or "
            "1 per frame."
        ) from error
    if values.dtype != bool and not (np.isfinite(values) & (values == np.rint(values))).all():
        raise DaskroiError(
            f"{path}: not a sample mask, it holds fractions. Give numbers of the frames to keep, "
            "or a 0 or 1 per frame."
        )
    # no frame is kept twice, so three zeros and ones are not frame numbers
    flags = values.size > 2 and np.isin(values, (0, 1)).all()
    return values.astype(bool if flags or values.dtype == bool else np.int64)


def _stale(
    lazy: dict[str, xr.DataArray],
    out: str,
    prefix: str,
    told: dict[str, dict[str, Any]],
    overwrite: bool,
) -> list[str]:
    """Atlases whose results have to be made, and a word about those that were there."""
    from daskroi import store
    from daskroi.sidecar import check_no_input

    stale = []
    for name, result in lazy.items():
        paths = store.output_paths(
            result, out, prefix, storage_options=told[name]["storage_options"]
        )
        check_no_input(paths.all, told[name]["inputs"])
        changed = store.differences(result, out, prefix, **told[name])
        path = paths.timeseries
        if changed == [] and not overwrite:
            say("Note", f"{path}: up to date, skipped.")
            continue
        stale.append(name)
        if changed:
            say("Note", f"{path}: made with other {', '.join(changed)}, is made again.")
    return stale


def _streamed_frames(run: xr.DataArray, plan: str, clipped: bool, high_variance: bool) -> int:
    """How many frames will be streamed off the file, over all passes."""
    from daskroi.openimage import as_file

    file = as_file(run)
    if file is None:
        return 0
    stream = plan == "stream" or (plan == "auto" and not file.seekable)
    # clipping needs the extremes of the whole run first
    return file.frames * (stream * (1 + clipped) + 2 * high_variance)


def _report(written: dict[str, Any], made: list[str], started: float) -> None:
    """A short table, and the paths, on stdout."""
    from daskroi.sidecar import read_sidecar, told

    seconds = f"{time.perf_counter() - started:.1f}"
    rows = [("atlas", "regions", "frames", "lowest coverage", "seconds")]
    for name, paths in written.items():
        sidecar = read_sidecar(paths.sidecar)
        of = told(sidecar)
        rows.append(
            (
                name,
                str(len(sidecar["Regions"]["index"])),
                str(of.kept) if of.kept == of.frames else f"{of.kept} of {of.frames}",
                f"{of.lowest:.2f}" + (f" ({of.where})" if of.lowest < 0.995 else ""),
                seconds if name in made else "skipped",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())
    for paths in written.values():
        for path in paths.all:
            click.echo(str(path))
