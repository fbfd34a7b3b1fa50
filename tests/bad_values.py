"""Bad values of the parameters of `extract`, at both doors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import xarray as xr
from bad_inputs import N_TIME, SHAPE, Row, named, row, table_of_confounds

import daskroi as dr


def image_of(change: Callable[[xr.DataArray], Any]) -> Callable[[Path], Any]:
    """The good run as it was opened, and changed."""
    return lambda folder: change(dr.open_image(folder / "run.nii.gz"))


def times(values: Any, **attrs: Any) -> Callable[[xr.DataArray], Any]:
    return lambda run: run.assign_coords(time=("time", values, attrs))


# click's own words
CHOICE = "Invalid value for '--{}': '{}' is not one of"


def choice(name: str, value: str, says: str) -> Row:
    option = name.replace("_", "-")
    return row(
        f"{name}='{value}' is not known.*{says}", CHOICE.format(option, value), **{name: value}
    )


PARAMETERS: dict[str, Row] = {
    "strategy": choice("strategy", "avg", "'mean', 'sum', 'median'"),
    "nan_policy": choice("nan_policy", "drop", "'zero', 'omit', 'propagate'"),
    "plan": choice("plan", "both", "'auto', 'stream', 'blocks'"),
    "target": choice("resampling_target", "maps", "'data'"),
    "standardize": choice("standardize", "z", "'zscore_sample', 'psc'"),
    "filter": choice("filter", "fft", "'butterworth', 'cosine'"),
    "spatial": choice("spatial", "both", "'auto', 'fused', 'voxelwise'"),
    "maps_method": choice("maps_method", "ls", "'mean', 'lstsq'"),
    "min_coverage": row(
        "min_coverage=50 is not a fraction.*0 to 1",
        "50.*is not in the range 0<=x<=1",
        min_coverage=50,
    ),
    "min_coverage as text": row("'half' is not a fraction", "'half' is not a", min_coverage="half"),
    "t_r in ms": row("t_r=2000 s looks like milliseconds: pass t_r=2.0", t_r=2000.0),
    "t_r of ages": row("t_r=1e.09 s is longer than any volume", t_r=1e9),
    "t_r too short": row("t_r=0.0001 s is shorter than any scan", t_r=1e-4),
    "t_r below 0": row("t_r=-2 s is shorter", t_r=-2.0),
    "t_r NaN": row("t_r=nan is not finite. Pass s", t_r=np.nan),
    "t_r as text": row(
        "t_r='2 s' is not a number. Pass s", "'2 s' is not a valid float", t_r="2 s"
    ),
    "cutoffs exchanged": row(
        "high_pass=0.1 Hz is not below low_pass=0.01 Hz.*Swap", low_pass=0.01, high_pass=0.1
    ),
    "cutoff infinite": row("low_pass=inf is not finite. Pass Hz", low_pass=np.inf),
    "cosine without cutoff": row("filter='cosine' needs high_pass. Pass", filter="cosine"),
    "width below 0": row("smoothing_fwhm=-6.* is not a width.*'fast'", smoothing_fwhm=-6.0),
    "width infinite": row("smoothing_fwhm=inf is not a width.*Give", smoothing_fwhm=np.inf),
    "width in metres": row("smoothing_fwhm=.* wider than a head.*in mm", smoothing_fwhm=1e6),
    "two widths": row(
        r"smoothing_fwhm=\(6, 6\) is not a width.*three", "'6,6' is not a", smoothing_fwhm=(6, 6)
    ),
    "width with a unit": row(
        "smoothing_fwhm='6mm' is not a width", "'6mm' is not a", smoothing_fwhm="6mm"
    ),
    "fused median": row(
        "spatial='fused': strategy='median' is not linear.*Use spatial='auto'",
        smoothing_fwhm=6.0,
        strategy="median",
        spatial="fused",
    ),
    "fused, NaN that spread": row(
        "spatial='fused': nan_policy='propagate' needs every voxel.*Use spatial='auto'",
        smoothing_fwhm=6.0,
        nan_policy="propagate",
        spatial="fused",
    ),
    "least squares of labels": row(
        r"maps_method='lstsq' is for an atlas of maps.*Leave it 'mean'", maps_method="lstsq"
    ),
    "background": row(
        "background_label=1.5 is not a whole number. Use 0", "'1.5' is not a", background_label=1.5
    ),
    # what the command line has no word for
    "misspelt": row(
        "no parameter 'smoothing'. Did you mean smoothing_fwhm", smoothing=6, cli=False
    ),
    "option of the filter": row("'ordre'.*butterworth__order", butterworth__ordre=3, cli=False),
    "order": row("butterworth__order=0 does not do. Pass", butterworth__order=0, cli=False),
    "dtype": row("dtype='int32' would truncate.*Use 'float32'", dtype="int32", cli=False),
    "no dtype": row("dtype='floaty' is not a type. Use", dtype="floaty", cli=False),
    "chunks of another dim": row(r"chunks names \['t'\].*Use time", chunks={"t": 3}, cli=False),
    "chunks": row("chunks='many' does not fit.*Use 'auto'", chunks="many", cli=False),
    "no chunks": row("chunks=0 does not fit.*a positive number.*Use", chunks=0, cli=False),
    "clip": row("resampling_clip='yes'.*True, False", resampling_clip="yes", cli=False),
    "flag as text": row("detrend='no' is not a flag. Use", detrend="no", cli=False),
    "flag of the image": row(
        "high_variance_confounds='no' is not a flag", high_variance_confounds="no", cli=False
    ),
    "runs of another length": row("runs has shape .39,.*40 frames.*Give", runs=[1] * 39, cli=False),
    "runs with NaN": row(
        "runs=.*neither numbers nor text. Give", runs=[1.0] * 39 + [np.nan], cli=False
    ),
    "frames as text": row("sample_mask='1,2' is no mask. Give", sample_mask="1,2", cli=False),
    "frames as floats": row("sample_mask holds float64. Give", sample_mask=[0.0, 1.0], cli=False),
    "columns as a number": row(
        "columns=3 is not a list of str. Give",
        columns=3,
        confounds=named("confounds.tsv"),
        cli=False,
    ),
    "storage options": row(
        "storage_options is a str. Give a dict", storage_options="anon", cli=False
    ),
    "stream of an array": row(
        "plan='stream' needs an image file.*Use plan='blocks'",
        image=image_of(lambda run: run + 1),
        plan="stream",
        cli=False,
    ),
    "image array": row(
        "An image is a path.*not ndarray.*make_image", image=np.ones((*SHAPE, 4)), cli=False
    ),
    "image number": row("An image is a path.*not int", image=7, cli=False),
    "image class": row("An image is a path.*not type", image=lambda d: nib.Nifti1Image, cli=False),
    "images": row("An image is a path.*one run at a time", image=lambda d: [d, d], cli=False),
    "image of objects": row(
        "has dtype object.*real part", image=image_of(lambda run: run.astype(object)), cli=False
    ),
    "image complex": row(
        "has dtype complex.*real part", image=image_of(lambda run: run.astype("c8")), cli=False
    ),
    "image without affine": row(
        "no 'affine' coordinate.*make_image",
        image=image_of(lambda run: run.drop_vars("affine")),
        cli=False,
    ),
    "image without place": row(
        "lost its 'x'.*Keep it", image=image_of(lambda run: run.drop_vars("x")), cli=False
    ),
    "image with other dims": row(
        "has dims .'t'.*Select along 't'",
        image=image_of(lambda run: run.rename(time="t")),
        cli=False,
    ),
    "image of a plane": row("(z missing).*slice", image=image_of(lambda run: run[0, 0]), cli=False),
    "image without frames": row(
        "no frame left.*Check", image=image_of(lambda run: run[:0]), cli=False
    ),
    "image with holes": row(
        "along 'x' are not evenly spaced.*slice",
        image=image_of(lambda run: run[..., [0, 1, 3]]),
        cli=False,
    ),
    "image places by name": row(
        "'x' coordinate holds <U1.*Keep",
        image=image_of(lambda run: run.assign_coords(x=list("abcdef"))),
        cli=False,
    ),
    "times in ms": row(
        "TR of 2000 s, which is not plausible. Pass",
        image=image_of(times(np.arange(N_TIME) * 2e3, units="s")),
        high_pass=0.01,
        cli=False,
    ),
    "no times, and a filter": row(
        "filtering needs the repetition time, and the image has none. Pass",
        image=image_of(lambda run: run.drop_vars("time") + 0),
        high_pass=0.01,
        cli=False,
    ),
    "atlas number": row("An atlas cannot be read from int. Give", atlas=7, cli=False),
    "no atlases": row("atlas is an empty dict.*Give", atlas={}, cli=False),
    "list of atlases": row(
        "A list of files or images is no atlas. Give", atlas=["a.nii"], cli=False
    ),
    "mask array": row("mask_img: .*not ndarray", mask_img=np.ones(SHAPE), cli=False),
    "confounds number": row("confounds is a int. Pass an array", confounds=3, cli=False),
    "confounds sideways": row(
        "confounds has 3 rows .*40 frames",
        confounds=lambda d: table_of_confounds(d).T.to_numpy(),
        cli=False,
    ),
}
