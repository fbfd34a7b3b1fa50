"""The numbers that `sidecar.NUMERICS` stands for."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest

import daskroi as dr
from daskroi import sidecar

# If these change by more than rounding, results that people have must be made again: raise
# sidecar.NUMERICS, then this, and put in the new numbers (two frames of two regions, and the
# standard deviation of all)
OF_NUMERICS = 2
NUMBERS: list[tuple[dict[str, Any], list[float]]] = [
    ({}, [1003.99824, 993.1534667, 996.57302, 1006.763633, 14.94157779]),
    (
        {"resampling_target": "labels"},
        [999.3331763, 995.2934036, 995.9159987, 1001.50138, 14.07589438],
    ),
    ({"smoothing_fwhm": 5}, [1000.79826, 994.6356868, 999.2373215, 1002.968051, 11.03272297]),
    (
        {"detrend": True, "standardize": "zscore_sample", "high_pass": 0.02, "low_pass": 0.1},
        [-0.1418851491, -0.06839648106, -0.5959492271, -0.5366155929, 0.9874208829],
    ),
    (
        {"strategy": "median", "high_variance_confounds": True},
        [1012.343221, 1014.861915, 1001.636139, 1014.175139, 18.29687696],
    ),
]


@pytest.mark.parametrize(("options", "numbers"), NUMBERS)
def test_numbers_are_those_of_their_version(options, numbers):
    assert sidecar.NUMERICS == OF_NUMERICS
    values = (np.random.default_rng(0).normal(size=(7, 6, 5, 40)) * 100 + 1000).round(3)
    run = nib.Nifti1Image(values, np.diag([3.0, 3, 3, 1]))
    run.header.set_xyzt_units("mm", "sec")
    run.header["pixdim"][4] = 2
    labels = np.zeros((9, 8, 7), "i2")
    labels[1:4] = 1
    labels[4:7, 2:6] = 2
    atlas = nib.Nifti1Image(labels, np.diag([2.0, 2, 2, 1]))
    found = dr.extract(run, atlas, **options).compute().values
    np.testing.assert_allclose([*found[:2].ravel(), found.std()], numbers, rtol=1e-7)
