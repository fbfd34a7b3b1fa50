"""The options of ``daskroi extract``, in the order and under the headings of its ``--help``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from daskroi.terminal import Option, storage_option, verbose_option

__all__ = ["EPILOG", "extract_options"]

# repeated from modules that import NumPy; a test compares them
STRATEGIES = ("mean", "sum", "median", "minimum", "maximum", "standard_deviation", "variance")
NAN_POLICIES = ("zero", "omit", "propagate")
PLANS = ("auto", "stream", "blocks")
STANDARDIZE = ("none", "zscore_sample", "psc")
FILTERS = ("butterworth", "cosine", "none")
RESAMPLING_TARGETS = ("data", "labels", "none")
SPATIAL = ("auto", "fused", "voxelwise")
MAPS_METHODS = ("mean", "lstsq")
CONNECTOMES = ("none", "correlation", "covariance", "partial-correlation", "precision")

IO, REGIONS, CLEANING, RUNNING = "Input and output", "Regions", "Cleaning", "Running"

EPILOG = """\b
Examples:
  daskroi extract bold.nii.gz --atlas atlas_dseg.nii.gz -o out
  daskroi extract bold.nii.gz --atlas Schaefer=a.nii.gz --atlas AAL=b.nii.gz -o out
  daskroi extract bold.nii.gz --atlas difumo_probseg.nii.gz --maps-method lstsq \\
      --smoothing 6 -o out
  daskroi extract bold.nii.gz --seeds DMN=seeds.tsv --radius 8 -o out
  daskroi extract bold.nii.gz --atlas atlas.nii.gz --labels-table atlas.tsv \\
      --mask brain_mask.nii.gz --confounds confounds_timeseries.tsv \\
      --columns 'trans_?' 'rot_?' csf white_matter --detrend \\
      --high-pass 0.01 --low-pass 0.1 --standardize zscore_sample -o out

\b
Written to OUT, for each atlas (missing values are n/a):
  <run>_atlas-<Name>_stat-<strategy>_timeseries.tsv   a row per frame, a column per region
  <run>_atlas-<Name>_stat-<strategy>_timeseries.json  what was done, to what, by what
  <run>_atlas-<Name>_stat-coverage_bold.tsv           fraction of each region in the image
  <run>_atlas-<Name>_stat-<measure>_relmat.tsv        with --connectome: regions by regions
"""


class Width(click.ParamType):
    """Full width at half maximum in mm: one number, three as ``6,6,4``, or ``fast``."""

    name = "FWHM"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | list[float] | str:
        """Numbers of a text; what they mean is checked by `daskroi.smoothing.checked_fwhm`."""
        if value == "fast" or not isinstance(value, str):
            return value
        try:
            numbers = [float(part) for part in value.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3):
            self.fail(
                f"{value!r} is not a width. Give mm as one number, three along x,y,z as 6,6,4, or "
                "fast.",
                param,
                ctx,
            )
        return numbers if len(numbers) == 3 else numbers[0]


def _option(*names: str, **settings: Any) -> Callable[..., Any]:
    return click.option(*names, cls=Option, **settings)


def connectome_option(group: str) -> Callable[..., Any]:
    """``--connectome``."""
    return _option(
        "--connectome",
        type=click.Choice(CONNECTOMES),
        default="none",
        group=group,
        help="Also write how series go together, a matrix per atlas. The last two are shrunk by "
        "Ledoit and Wolf's method.",
    )


OPTIONS: tuple[Callable[..., Any], ...] = (
    click.argument("image"),
    _option(
        "--atlas",
        "atlases",
        metavar="[NAME=]PATH",
        multiple=True,
        group=IO,
        help="Label image, or 4D image of maps (probseg); repeat for several, which are extracted "
        "in one read of IMAGE. NAME is for the names of the results; the atlas- entity or the file "
        "name if not given.",
    ),
    _option(
        "--labels-table",
        "tables",
        metavar="PATH",
        multiple=True,
        group=IO,
        help="Names of the regions: BIDS dseg.tsv, CSV, FSL XML or FreeSurfer LUT, joined by id; "
        "of maps, in their order. One per --atlas, in the same order. By default the table that "
        "lies beside the atlas.",
    ),
    _option(
        "--background-label",
        metavar="ID",
        type=int,
        default=0,
        group=IO,
        help="Label of voxels in no region.",
    ),
    _option(
        "--seeds",
        metavar="[NAME=]TSV",
        multiple=True,
        group=IO,
        help="Table of seeds: columns x, y and z in mm, and if you like index and name; TSV or "
        "CSV. Like --atlas, and may go with it.",
    ),
    _option(
        "--radius",
        metavar="MM",
        type=float,
        group=IO,
        help="Radius of the spheres around --seeds, in mm; a single voxel each if not given.",
    ),
    _option(
        "--mask",
        metavar="PATH",
        group=IO,
        help="Image of voxels that count (not 0), on any grid.",
    ),
    _option(
        "-o",
        "--output",
        "out",
        metavar="OUT",
        required=True,
        group=IO,
        help="Folder for the results; made when missing.",
    ),
    connectome_option(IO),
    _option(
        "--overwrite",
        is_flag=True,
        group=IO,
        help="Extract again what is up to date. By default a result is skipped when it was made of "
        "the same files in the same way, and replaced otherwise.",
    ),
    _option(
        "--strategy",
        type=click.Choice(STRATEGIES),
        default="mean",
        group=REGIONS,
        help="What is made of a region's voxels in every frame.",
    ),
    _option(
        "--nan-policy",
        type=click.Choice(NAN_POLICIES),
        default="zero",
        group=REGIONS,
        help="What a NaN or infinite voxel is: a 0 that counts, not there, or NaN for its region.",
    ),
    _option(
        "--min-coverage",
        metavar="FRACTION",
        type=float,
        group=REGIONS,
        help="Regions covered less than this (0 to 1) become n/a.",
    ),
    _option(
        "--resampling-target",
        type=click.Choice(RESAMPLING_TARGETS),
        default="data",
        group=REGIONS,
        help="data: bring atlas and mask to the image's grid. labels: bring image and mask to the "
        "atlas's, by cubic splines. none: they must be on one grid.",
    ),
    _option(
        "--resampling-clip/--no-resampling-clip",
        default=None,
        group=REGIONS,
        help="With labels: clip resampled values to the range of the run, as nilearn does. Reads "
        "IMAGE twice. By default where resampling is voxelwise.",
    ),
    _option(
        "--smoothing",
        "--smoothing-fwhm",
        "smoothing_fwhm",
        type=Width(),
        metavar="FWHM",
        group=REGIONS,
        help="Smooth by a Gaussian this wide at half maximum, in mm; 6,6,4 along x,y,z; fast is "
        "nilearn's 3-point kernel.",
    ),
    _option(
        "--spatial",
        type=click.Choice(SPATIAL),
        default="auto",
        group=REGIONS,
        help="How to smooth and resample. fused: as weights of the regions, for mean and sum. "
        "voxelwise: every frame. The numbers agree to 1e-9. auto: fused where it can be.",
    ),
    _option(
        "--maps-method",
        type=click.Choice(MAPS_METHODS),
        default="mean",
        group=REGIONS,
        help="Of maps: weighted means, or least squares on all maps at once, as nilearn has it.",
    ),
    _option(
        "--confounds",
        metavar="TSV",
        multiple=True,
        group=CLEANING,
        help="Table to regress out, a row per frame of the run, censored ones included.",
    ),
    _option(
        "--columns",
        metavar="NAME...",
        multiple=True,
        group=CLEANING,
        help="Columns of the table, wildcards in quotes: 'trans_?' 'rot_?' csf. Default: all.",
    ),
    _option(
        "--high-variance-confounds",
        is_flag=True,
        group=CLEANING,
        help="Also regress out 5 components of the 2 % of voxels that vary most; reads IMAGE twice "
        "more.",
    ),
    _option(
        "--no-standardize-confounds",
        is_flag=True,
        group=CLEANING,
        help="Do not z-score confounds first.",
    ),
    _option(
        "--sample-mask",
        metavar="FILE",
        group=CLEANING,
        help="Frames to keep: a text or .npy file of their numbers from 0, or of a 0 or 1 per "
        "frame.",
    ),
    _option(
        "--dummy-scans",
        metavar="N",
        type=click.IntRange(min=0),
        default=0,
        group=CLEANING,
        help="Frames to drop at the start.",
    ),
    _option("--detrend", is_flag=True, group=CLEANING, help="Remove mean and linear trend."),
    _option(
        "--filter",
        "filter_",
        type=click.Choice(FILTERS),
        default="butterworth",
        group=CLEANING,
        help="What applies the cutoffs; without a cutoff, butterworth does nothing.",
    ),
    _option("--high-pass", metavar="HZ", type=float, group=CLEANING, help="Cutoff in Hz."),
    _option("--low-pass", metavar="HZ", type=float, group=CLEANING, help="Cutoff in Hz."),
    _option(
        "--extrapolate",
        is_flag=True,
        group=CLEANING,
        help="With butterworth: fill censored frames at both ends too, instead of dropping them "
        "first.",
    ),
    _option(
        "--t-r",
        metavar="SECONDS",
        type=float,
        group=CLEANING,
        help="Repetition time. By default from the JSON beside IMAGE, else from its header.",
    ),
    _option(
        "--standardize",
        type=click.Choice(STANDARDIZE),
        default="none",
        group=CLEANING,
        help="z-scores, percent signal change, or the image's own units.",
    ),
    _option(
        "--plan",
        type=click.Choice(PLANS),
        default="auto",
        group=RUNNING,
        help="stream: front to back. blocks: chunks in parallel, for files that can be read "
        "anywhere. The numbers are the same.",
    ),
    storage_option(group=RUNNING),
    verbose_option,
)


def extract_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function the argument and all options of ``daskroi extract``.

    Examples
    --------
    >>> @click.command()
    ... @extract_options
    ... def extract(**options): ...
    >>> [parameter.name for parameter in extract.params][:4]
    ['image', 'atlases', 'tables', 'background_label']
    """
    # decorators apply from the bottom up
    for option in reversed(OPTIONS):
        function = option(function)
    return function
