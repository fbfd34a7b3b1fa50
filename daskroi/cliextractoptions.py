"""The options of ``daskroi extract``, in the order and under the headings of its ``--help``."""

from __future__ import annotations

import click

from daskroi.clioptions import CLEANING, REGIONS, RUNNING, option, options_of, shared
from daskroi.terminal import storage_option, verbose_option

__all__ = ["EPILOG", "extract_options"]

IO = "Input and output"

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


extract_options = options_of(
    click.argument("image"),
    option(
        "--atlas",
        "atlases",
        metavar="[NAME=]ATLAS",
        multiple=True,
        group=IO,
        help="Label image, or 4D image of maps (probseg), by path or URL; or HarvardOxford, "
        "Schaefer100 to Schaefer1000 (Schaefer400x17 for 17 networks), found or downloaded. Repeat "
        "for several, which are extracted in one read of IMAGE. NAME is for the names of the "
        "results; the atlas- entity or the file name if not given.",
    ),
    option(
        "--labels-table",
        "tables",
        metavar="[NAME=]PATH",
        multiple=True,
        group=IO,
        help="Names of the regions: BIDS dseg.tsv, CSV, FSL XML or FreeSurfer LUT, joined by id; "
        "of maps, in their order. With the NAME of an atlas, or one per --atlas in the same order. "
        "By default the table that lies beside the atlas.",
    ),
    shared("background_label", group=IO),
    shared("seeds", group=IO),
    shared("radius", group=IO),
    option(
        "--mask",
        metavar="PATH",
        group=IO,
        help="Image of voxels that count (not 0), on any grid.",
    ),
    option(
        "-o",
        "--output",
        "out",
        metavar="OUT",
        required=True,
        group=IO,
        help="Folder for the results; made when missing.",
    ),
    shared("connectome", group=IO),
    shared("overwrite", group=IO),
    shared("strategy", group=REGIONS),
    shared("nan_policy"),
    shared("min_coverage"),
    shared("resampling_target"),
    shared("resampling_clip"),
    shared("smoothing_fwhm"),
    shared("spatial"),
    shared("maps_method"),
    option(
        "--confounds",
        metavar="TSV",
        multiple=True,
        group=CLEANING,
        help="Table to regress out, a row per frame of the run, censored ones included.",
    ),
    shared("columns"),
    shared("high_variance_confounds"),
    shared("standardize_confounds"),
    option(
        "--sample-mask",
        metavar="FILE",
        group=CLEANING,
        help="Frames to keep: a text or .npy file of their numbers from 0, or of a 0 or 1 per "
        "frame.",
    ),
    option(
        "--dummy-scans",
        metavar="N",
        type=click.IntRange(min=0),
        default=0,
        group=CLEANING,
        help="Frames to drop at the start.",
    ),
    shared("detrend"),
    shared("filter"),
    shared("high_pass"),
    shared("low_pass"),
    shared("extrapolate"),
    shared("t_r"),
    shared("standardize"),
    shared("plan"),
    storage_option(group=RUNNING),
    verbose_option,
)
