"""nilearn's masker as the oracle, and random cases that both libraries can open."""

from __future__ import annotations

import warnings
from typing import Any

import images
import nibabel as nib
import numpy as np
import xarray as xr
from hypothesis import strategies as st
from nilearn.maskers import NiftiLabelsMasker

import daskroi as dr
from daskroi.errors import DaskroiWarning
from daskroi.kernels import REDUCERS

STRATEGIES = tuple(REDUCERS)
AFFINES = (images.STRAIGHT, images.OBLIQUE, np.diag([-3.0, 3.0, 2.0, 1.0]))


def nilearn(labels: Any, image: Any, confounds: Any = None, sample_mask: Any = None, **kw: Any):
    """Columns by region id, NaN where nilearn drops a region."""
    kw.setdefault("standardize", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masker = NiftiLabelsMasker(labels, **kw)
        if not isinstance(image, str):  # nilearn writes zeros over NaN in the caller's array
            image = nib.Nifti1Image(np.array(image.dataobj), image.affine, image.header)
        values = masker.fit_transform(image, confounds=confounds, sample_mask=sample_mask)
    ids = [v for k, v in masker.region_ids_.items() if k != "background"]
    return np.atleast_2d(values), ids


def check_equal(ours: xr.DataArray, theirs: np.ndarray, ids: list[int], rtol: float) -> None:
    assert set(ids) <= set(ours.region.values)
    lost = ~np.isin(ours.region.values, ids)
    assert np.isnan(ours.values[..., lost]).all()
    assert (ours.n_voxels.values[lost] == 0).all()
    scale = np.abs(theirs).max() or 1
    found = np.atleast_2d(ours.sel(region=ids).values)
    np.testing.assert_allclose(found / scale, theirs / scale, rtol=rtol, atol=rtol)


def quiet(*args: Any, **kw: Any) -> Any:
    """`extract`, silent about lost regions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DaskroiWarning)
        return dr.extract(*args, **kw)


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    """An image, an atlas on the same or another grid, a mask, and how voxels are stored."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = draw(st.tuples(*[st.integers(4, 8)] * 3))
    dtype = draw(st.sampled_from(["f4", "f8", "i2", "u1", "i4", ">f4", ">i2"]))
    affine = draw(st.sampled_from(AFFINES))
    nan = draw(st.sampled_from([0.0, 0.05]))
    n_time = draw(st.sampled_from([1, 2, 9]))
    image = images.run(rng, (*shape, n_time), dtype, affine, nan=nan)
    ids = draw(st.sampled_from([(1, 2, 3), (2, 5, 7, 300), (-4, 1, 40000)]))
    other = draw(st.booleans())
    grid = (
        (draw(st.tuples(*[st.integers(5, 9)] * 3)), draw(st.sampled_from(AFFINES)))
        if other
        else (shape, affine)
    )
    atlas = images.labels(rng, *(grid[0], ids, grid[1]), dtype="i4")
    mask = None
    if draw(st.booleans()):
        there = draw(st.sampled_from([(shape, affine), grid]))
        mask = nib.Nifti1Image((rng.random(there[0]) < 0.8).astype("u1"), there[1])
    return {"image": image, "atlas": atlas, "mask": mask, "rng": rng}
