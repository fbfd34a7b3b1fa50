"""Bad values in all else that takes one run: what scripts call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from bad_inputs import SHAPE

import daskroi as dr


def series(folder: Path) -> xr.DataArray:
    return dr.extract(folder / "run.nii.gz", folder / "atlas.nii").compute()


def masker(folder: Path, **options: Any) -> dr.NiftiLabelsMasker:
    return dr.NiftiLabelsMasker(folder / "atlas.nii", **options)


def run_of(folder: Path) -> xr.DataArray:
    return dr.open_image(folder / "run.nii.gz")


LABELS = ["a", "b", "c", "d"]
# function of the folder of good inputs, and what it says
CALLS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "open_image index": (lambda d: dr.open_image(d / "run.nii.gz", index=3), "index=3.*'auto'"),
    "open_image name": (
        lambda d: dr.open_image(d / "run.nii.gz", name=3),
        "name=3 is not a str. Give",
    ),
    "build_index": (lambda d: dr.build_index(None), "image is a NoneType. Give a path"),
    "load_atlas labels": (
        lambda d: dr.load_atlas(d / "atlas.nii", labels="V1"),
        "labels must be a list of str.*not str",
    ),
    "load_atlas set": (
        lambda d: dr.load_atlas(d / "atlas.nii", labels=set(LABELS)),
        "labels is a set.*Give a list",
    ),
    "load_atlas lut and labels": (
        lambda d: dr.load_atlas(d / "atlas.nii", d / "names.txt", LABELS),
        "both given. Give one",
    ),
    "load_atlas name": (
        lambda d: dr.load_atlas(d / "atlas.nii", name=3),
        "name=3 is not a str. Give",
    ),
    "load_atlas radius": (
        lambda d: dr.load_atlas([(0, 0, 0)], radius=-2),
        "radius=-2 .*positive.*Leave",
    ),
    "load_atlas radius of light years": (
        lambda d: dr.load_atlas([(0, 0, 0)], radius=1e300),
        "radius=1e.300 .*at most 1000. Leave",
    ),
    "load_atlas overlap": (
        lambda d: dr.load_atlas([(0, 0, 0)], allow_overlap="no"),
        "allow_overlap='no' is not a flag",
    ),
    "load_atlas table": (
        lambda d: dr.load_atlas(d / "atlas.nii", pd.DataFrame({"index": [100], "name": ["a"]})),
        r"lut: none of its ids \(100\).*Give",
    ),
    "load_confounds path": (lambda d: dr.load_confounds(None), "path is a NoneType. Pass"),
    "load_confounds image": (
        lambda d: dr.load_confounds(d / "run.nii.gz"),
        "is an image. Give the table",
    ),
    "load_confounds strategy": (
        lambda d: dr.load_confounds(d / "confounds.tsv", "simpel"),
        "strategy='simpel' is not.*'simple'",
    ),
    "load_confounds motion": (
        lambda d: dr.load_confounds(d / "confounds.tsv", ["motion"], motion="all"),
        "motion='all'.*'full'",
    ),
    "load_confounds what is not there": (
        lambda d: dr.load_confounds(d / "confounds.tsv", ["motion"]),
        "needs .*'trans_z'.*not there.*close",
    ),
    "load_confounds threshold": (
        lambda d: dr.load_confounds(d / "confounds.tsv", fd_threshold="low"),
        "fd_threshold='low' is not",
    ),
    "load_confounds demean": (
        lambda d: dr.load_confounds(d / "confounds.tsv", columns="csf", demean="no"),
        "demean='no'.*flag",
    ),
    "load_confounds column": (
        lambda d: dr.load_confounds(d / "confounds.tsv", columns="csff"),
        "'csff', not there.*'csf'",
    ),
    "clean number": (lambda d: dr.clean(3), "series is a int. Give a DataArray"),
    "clean dims": (lambda d: dr.clean(series(d).rename(time="t")), "has dims .'t', .*Rename"),
    "clean misspelt": (lambda d: dr.clean(series(d), detrand=True), "no option 'detrand'.*detrend"),
    "clean without times": (
        lambda d: dr.clean(series(d).drop_vars("time"), high_pass=0.01),
        "t_r is missing.*Pass t_r",
    ),
    "clean frames": (lambda d: dr.clean(series(d), sample_mask=[99]), "names frame 99 .*Count"),
    "smooth": (lambda d: dr.smooth(d / "run.nii.gz", "6mm"), "fwhm='6mm' is not a width. Give"),
    "resample target": (lambda d: dr.resample(d / "run.nii.gz", 3), "An image is a path.*not int"),
    "resample how": (
        lambda d: dr.resample(d / "run.nii.gz", run_of(d), "cubic"),
        "interpolation='cubic'.*'continuous'",
    ),
    "high variance of one volume": (
        lambda d: dr.high_variance_confounds(d / "mask.nii"),
        "need a run.*Leave them out",
    ),
    "high variance of none": (
        lambda d: dr.high_variance_confounds(d / "run.nii.gz", n_confounds=0),
        "n_confounds=0 .*Pass 1",
    ),
    "make_image list": (
        lambda d: dr.make_image([1], dr.grid_of(run_of(d))),
        "a list, not an array. Give",
    ),
    "make_image affine": (
        lambda d: dr.make_image(np.ones((2, 2, 2)), np.eye(4)),
        "a ndarray, not a Grid. Give",
    ),
    "make_image sideways": (
        lambda d: dr.make_image(np.ones(SHAPE), dr.grid_of(run_of(d))),
        "has shape .*Transpose",
    ),
    "make_image t_r": (
        lambda d: dr.make_image(run_of(d).data, dr.grid_of(run_of(d)), t_r=0),
        "t_r=0 is not a positive",
    ),
    "grid_of a path": (
        lambda d: dr.grid_of(d / "run.nii.gz"),
        "A grid is of a DataArray.*open_image",
    ),
    "Grid flat": (
        lambda d: dr.Grid.make((2, 2, 0), np.eye(4)),
        r"shape=\(2, 2, 0\) is no grid. Give",
    ),
    "Grid of words": (
        lambda d: dr.Grid.make((2, 2, 2), "RAS"),
        "affine is 'RAS', not a matrix.*Give",
    ),
    "to_nifti a path": (
        lambda d: dr.to_nifti(d / "run.nii.gz", d / "y.nii"),
        "not a DataArray. Open",
    ),
    "to_nifti nowhere": (lambda d: dr.to_nifti(run_of(d), None), "path is a NoneType. Give a path"),
    "to_nifti onto its source": (
        lambda d: dr.to_nifti(run_of(d) * 2, d / "run.nii.gz"),
        "run.nii.gz: .*never overwritten. Give",
    ),
    "to_nifti too narrow": (
        lambda d: dr.to_nifti(run_of(d) * 1000, d / "y.nii", dtype="i1"),
        "int8",
    ),
    "to_nifti onto a folder": (lambda d: dr.to_nifti(run_of(d), d), "is a folder. Give"),
    "connectome kind": (
        lambda d: dr.connectome(series(d), "corelation"),
        "kind='corelation'.*'correlation'",
    ),
    "connectome of a path": (lambda d: dr.connectome(str(d)), "str"),
    "connectome of a frame": (lambda d: dr.connectome(series(d)[:1]).compute(), "1 frame"),
    "connectome shrinkage": (
        lambda d: dr.connectome(series(d), shrinkage=2),
        "shrinkage=2 is not between",
    ),
    "connectome flag": (
        lambda d: dr.connectome(series(d), vectorize="no"),
        "vectorize='no' is not a flag",
    ),
    "tangent of one": (
        lambda d: dr.connectome(series(d), "tangent"),
        "tangent.*one|single|several",
    ),
    "mean of a path": (lambda d: dr.mean_connectome("x"), "not a str. Give what"),
    "report of nothing": (lambda d: dr.report(), "Give ts or atlas"),
    "report of frames": (
        lambda d: dr.report(series(d), n_frames="all"),
        "n_frames='all' is not.*Give",
    ),
    "report of another atlas": (
        lambda d: dr.report(series(d), dr.load_atlas([(1, 2, 3)])),
        "regions .*not have. Give the atlas",
    ),
    "phantom shape": (lambda d: dr.make_phantom(7), "shape=7 is no grid. Give three"),
    "phantom frames": (
        lambda d: dr.make_phantom((9, 9, 9), "3"),
        "n_time='3' is not a whole number",
    ),
    "phantom regions": (lambda d: dr.make_phantom((9, 9, 9), 3, n_regions=10**4), "region"),
    "masker atlas": (
        lambda d: dr.NiftiLabelsMasker(d / "absent.nii").fit(),
        "absent.nii: no such file",
    ),
    "masker strategy": (lambda d: masker(d, strategy="avg").fit(), "strategy='avg'.*'mean'"),
    "masker verbose": (lambda d: masker(d, verbose="loud").fit(), "verbose='loud' is not a whole"),
    "masker clean_args": (
        lambda d: masker(d, clean_args={"detrend": True}).fit(),
        "clean_args has 'detrend'.*belong",
    ),
    "masker parameter": (
        lambda d: masker(d).set_params(smoothing=3),
        "no parameter 'smoothing'.*fwhm",
    ),
    "masker output": (lambda d: masker(d).set_output(transform="polars"), "'polars'.*'pandas'"),
    "masker not fitted": (
        lambda d: masker(d).transform(d / "run.nii.gz"),
        "not been fitted.*Call fit",
    ),
    "masker image": (lambda d: masker(d).fit().transform(7), "An image is a path.*not int"),
    "masker confounds": (
        lambda d: masker(d).fit().transform(d / "run.nii.gz", confounds=np.ones((3, 1))),
        "3 rows.*40 frames",
    ),
    "masker inverse": (
        lambda d: masker(d).fit().inverse_transform(np.ones((2, 7))),
        r"\(2, 7\).*4 regions. Give",
    ),
    "masker inverse, a region twice": (
        lambda d: masker(d).fit().inverse_transform(series(d)[:, [0, 0, 1, 2]]),
        "more than once. Select",
    ),
}
