"""The command ``daskroi``: ``extract`` for one run, ``bids`` for many, ``demo`` to see it work.

Only click is imported here; NumPy, Dask and the rest are when a command runs.
"""

from __future__ import annotations

import click

from daskroi import __version__
from daskroi.clibids import bids
from daskroi.cliconvert import convert
from daskroi.clidemo import demo
from daskroi.cliextract import extract
from daskroi.clireport import report
from daskroi.terminal import Group

__all__ = ["main"]


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="daskroi", message="%(prog)s %(version)s")
def main() -> None:
    """Region time series from fMRI images, out of core, on Dask."""


for command in (bids, convert, demo, extract, report):
    main.add_command(command)
