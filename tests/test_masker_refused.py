"""What the masker refuses: bad parameters, grids that may not differ, no overlap."""

from __future__ import annotations

from typing import Any

import images
import nibabel as nib
import numpy as np
import pytest
from maskergrids import COARSE, rng_of
from maskers import ours

from daskroi import NiftiLabelsMasker
from daskroi.errors import DaskroiError, DaskroiTypeError


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"strategy": "avg"}, "strategy='avg'.*'mean'"),
        ({"resampling_target": "image"}, "resampling_target='image'.*'labels'"),
        ({"smoothing_fwhm": -4.0}, "smoothing_fwhm=-4.0 is not a width"),
        ({"smoothing_fwhm": "slow"}, "smoothing_fwhm='slow' is not a width"),
        ({"standardize": "zscore"}, "standardize='zscore'"),
        ({"low_pass": 0.01, "high_pass": 0.1, "t_r": 2.0}, "high_pass=0.1 Hz is not below"),
        ({"t_r": 2000, "low_pass": 0.1}, "looks like milliseconds"),
        ({"dtype": "int32"}, "dtype='int32' would truncate"),
        ({"labels": "ABCD"}, "labels must be a list of str"),
        ({"labels": ["A", 2]}, "labels must be a list of str"),
        ({"labels": ["A"], "lut": "lut.tsv"}, "lut and labels are both given"),
        ({"keep_masked_labels": "yes"}, "keep_masked_labels='yes'.*True, False"),
        ({"clean_args": {"detrend": True}}, "clean_args has 'detrend'.*filter"),
        ({"clean_args": {"nan_policy": "omit"}}, "clean_args has 'nan_policy'"),
        ({"clean_args": {"butterworth__ordr": 3}}, "no option 'ordr'"),
        ({"clean_args": ["filter"]}, "clean_args is a list"),
        ({"labels_img": None}, "labels_img is None"),
        ({"background_label": "0"}, "background_label='0' is not a whole number"),
    ],
)
def test_init_stores_and_fit_checks(params: dict[str, Any], match: str) -> None:
    masker = NiftiLabelsMasker(**({"labels_img": images.labels(rng_of())} | params))
    with pytest.raises(DaskroiError, match=match):
        masker.fit()
    assert not masker.__sklearn_is_fitted__()


def test_types_are_type_errors() -> None:
    with pytest.raises(DaskroiTypeError):
        NiftiLabelsMasker(images.labels(rng_of()), labels=[1, 2, 3, 4]).fit()


def test_bad_values_are_refused_by_transform_after_set_params() -> None:
    masker, _ = ours(images.labels(rng_of()))
    masker.set_params(smoothing_fwhm=(6, 6))
    with pytest.raises(DaskroiError, match=r"smoothing_fwhm=\(6, 6\) is not a width"):
        masker.transform(images.run(rng_of()))


def test_grids_that_may_not_differ() -> None:
    labels, image = images.labels(rng_of()), images.run(rng_of(), affine=COARSE)
    both = r"not on the image's grid.*voxels of 2 x 2 x 2 mm.*; image: .* of 3 x 3 x 3 mm"
    with pytest.raises(DaskroiError, match=both):
        NiftiLabelsMasker(labels, resampling_target=None).fit(image)
    mask = nib.Nifti1Image(np.ones((6, 7, 5), "u1"), COARSE)
    with pytest.raises(DaskroiError, match="the mask is not on"):
        NiftiLabelsMasker(labels, mask_img=mask, resampling_target=None).fit()
    # at transform time too
    masker = NiftiLabelsMasker(labels, resampling_target=None).fit()
    with pytest.raises(DaskroiError, match=both):
        masker.transform(image)
    assert masker.transform(images.run(rng_of())).shape == (9, 4)


def test_no_overlap() -> None:
    labels = images.labels(rng_of())
    far = images.STRAIGHT.copy()
    far[:3, 3] = 500
    with pytest.raises(DaskroiError, match="do not overlap"):
        NiftiLabelsMasker(labels).fit(images.run(rng_of(), affine=far))
    empty = nib.Nifti1Image(np.zeros((6, 7, 5), "u1"), images.STRAIGHT)
    with pytest.raises(DaskroiError, match="the mask is empty"):
        NiftiLabelsMasker(labels, mask_img=empty).fit()
