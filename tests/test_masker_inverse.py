"""The masker's way back, from signals to images, against nilearn's."""

from __future__ import annotations

import images
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from maskergrids import rng_of, voxels
from maskers import atlas_with_lost_regions, oracle, ours, without_warnings

import daskroi as dr
from daskroi.errors import DaskroiError


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "?"])
@pytest.mark.parametrize("ndim", [1, 2])
def test_inverse_transform_equals_nilearn(masked: bool, dtype: str, ndim: int) -> None:
    labels, mask = atlas_with_lost_regions()
    if masked:  # takes parts of regions only: nilearn shifts columns when it takes all of one
        mask = nib.Nifti1Image((rng_of().random((6, 7, 5)) < 0.6).astype("u1"), images.STRAIGHT)
    params = {"mask_img": mask if masked else None}
    masker, _ = ours(labels, **params)
    theirs, _ = oracle(labels, **params)
    signals = (rng_of().standard_normal((3, 4)) * 5).astype(dtype)
    signals = signals if ndim == 2 else signals[0]
    found = masker.inverse_transform(signals)
    expected = without_warnings(theirs.inverse_transform, signals)
    assert found.shape == expected.shape == (6, 7, 5, 3)[: ndim + 2]
    assert found.get_data_dtype() == expected.get_data_dtype()
    np.testing.assert_array_equal(voxels(found), voxels(expected))
    np.testing.assert_array_equal(found.affine, expected.affine)


def test_inverse_transform_joins_by_id_where_regions_are_lost() -> None:
    labels, mask = atlas_with_lost_regions()
    image = images.run(rng_of())
    masker, signals = ours(labels, image, mask_img=mask, keep_masked_labels=True)
    found = voxels(masker.inverse_transform(signals))
    ids = voxels(masker.region_atlas_)
    for region in (1, 5, 9):
        expected = signals.sel(region=region).values
        assert (found[ids == region] == expected).all()
    assert (found[ids == 0] == 0).all()
    np.testing.assert_array_equal(found, voxels(masker.inverse_transform(signals.values)))
    np.testing.assert_array_equal(found, voxels(masker.inverse_transform(signals[:, ::-1])))
    # extract's result has NaN for the lost region, which has no voxel to show it
    raw = without_warnings(lambda: dr.extract(image, labels, mask_img=mask))
    np.testing.assert_array_equal(found, voxels(masker.inverse_transform(raw)))
    part = voxels(masker.inverse_transform(signals.sel(region=[9])))
    assert (part[ids == 1] == 0).all()
    assert (part[ids == 9] == signals.sel(region=9).values).all()


def test_inverse_transform_refuses_other_regions() -> None:
    masker, _ = ours(images.labels(rng_of()))
    with pytest.raises(DaskroiError, match=r"shape \(3, 5\), but the masker has 4 regions"):
        masker.inverse_transform(np.ones((3, 5)))
    with pytest.raises(DaskroiError, match=r"\(1, 3, 4\)"):
        masker.inverse_transform(np.ones((1, 3, 4)))
    with pytest.raises(DaskroiError, match="give numbers"):
        masker.inverse_transform([["a"] * 4])
    other = xr.DataArray([[1.0, 2]], dims=("time", "region"), coords={"region": [1, 33]})
    with pytest.raises(DaskroiError, match=r"regions \[33\], which"):
        masker.inverse_transform(other)
