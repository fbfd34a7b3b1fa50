"""``daskroi convert``: NIfTI to NIfTI-Zarr and back."""

from __future__ import annotations

import re
from typing import Any

import click

from daskroi.clicompute import shown_compute
from daskroi.interrupt import exit_code
from daskroi.terminal import Command, Option, say, storage_option, verbose_option

__all__ = ["convert"]

ZARR, RUNNING = "Zarr", "Running"

EPILOG = """\b
Examples:
  daskroi convert bold.nii.gz bold.nii.zarr
  daskroi convert bold.nii.zarr bold.nii.gz
  daskroi convert bold.nii.gz s3://bucket/bold.nii.zarr --chunks time=1 --shards auto \\
      --storage-option profile=lab
"""


class Sizes(click.ParamType):
    """Voxels along axes: ``auto``, frames as one number, or ``time=10,z=20``."""

    name = "SIZES"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str | dict[str, int]:
        """Numbers of a text; whether they fit the image is checked with the image."""
        if value == "auto" or not isinstance(value, str):
            return value
        if re.fullmatch(r"-?\d+", value):
            return int(value)
        parts = [re.fullmatch(r"\s*(time|z|y|x)=(-?\d+)\s*", part) for part in value.split(",")]
        if not all(parts):
            self.fail(
                f"{value!r} are no sizes. Give auto, a number of frames, or sizes along axes as "
                "time=10,z=20.",
                param,
                ctx,
            )
        return {part[1]: int(part[2]) for part in parts if part}


@click.command(
    cls=Command, epilog=EPILOG, short_help="Convert a run from NIfTI to NIfTI-Zarr, or back."
)
@click.argument("image")
@click.argument("target")
@click.option(
    "--chunks",
    type=Sizes(),
    cls=Option,
    group=ZARR,
    help="Voxels per chunk: frames, or sizes along axes as time=10,z=20; -1 and what is left out "
    "are whole. By default whole volumes of about 16 MiB.",
)
@click.option(
    "--shards",
    type=Sizes(),
    cls=Option,
    group=ZARR,
    help="Chunks that are one file together, given as --chunks are; auto: 64 MiB of them where "
    "chunks are small. By default none.",
)
@click.option(
    "--zarr-format",
    type=click.Choice(("3", "2")),
    cls=Option,
    group=ZARR,
    help="3 is Zarr v3 with OME-Zarr 0.5, 2 is Zarr v2 with OME-Zarr 0.4. By default 3.",
)
@click.option(
    "--compressor",
    type=click.Choice(("lz4", "zstd")),
    cls=Option,
    group=ZARR,
    help="zstd comes out a seventh smaller and is slower to read. By default lz4.",
)
@click.option(
    "--overwrite", is_flag=True, cls=Option, group=RUNNING, help="Replace TARGET if it is there."
)
@storage_option(group=RUNNING)
@verbose_option
def convert(
    image: str,
    target: str,
    chunks: Any,
    shards: Any,
    zarr_format: str | None,
    compressor: str | None,
    overwrite: bool,
    storage_options: dict[str, Any] | None,
) -> None:
    """Convert the run IMAGE into TARGET: .nii.zarr, .nii.gz or .nii.

    Voxels, header and extensions stay as they are; there and back again is the same image. A
    conversion to Zarr that was interrupted goes on when it is run again.
    """
    import os

    from dask.delayed import delayed

    from daskroi.convert import convert as converted
    from daskroi.openimage import as_file
    from daskroi.urls import shown

    given = {
        "chunks": chunks,
        "shards": shards,
        "zarr_format": None if zarr_format is None else int(zarr_format),
        "compressor": compressor,
    }
    file = as_file(image, storage_options)
    frames = 0 if file is None else file.frames
    # a task, for the bar to count what it streams and for Ctrl-C to end it between two slabs
    task: Any = delayed(converted, pure=False)(
        image,
        target,
        storage_options=storage_options,
        overwrite=overwrite,
        **{name: value for name, value in given.items() if value is not None},
    )
    try:
        [written] = shown_compute([task], f"Converting {os.path.basename(shown(image))}", frames)
    except KeyboardInterrupt as error:
        if shown(target).rstrip("/").endswith(".zarr"):
            say("Interrupted", "run it again, and it goes on where it was.", "yellow")
            raise click.exceptions.Exit(exit_code(error)) from None
        raise
    if written:
        click.echo(shown(target))
    else:
        say("Note", f"{shown(target)}: up to date, skipped.")
