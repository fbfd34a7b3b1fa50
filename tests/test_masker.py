"""The masker's signals and attributes against nilearn's, parameter by parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import images
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maskergrids import COARSE, rng_of, voxels
from maskers import atlas_with_lost_regions, ids_of, oracle, ours, without_warnings

from daskroi import NiftiLabelsMasker
from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.kernels import REDUCERS


@st.composite
def settings_of_a_masker(draw: Any) -> dict[str, Any]:
    cut = draw(st.sampled_from([{}, {"high_pass": 0.02}, {"low_pass": 0.1, "high_pass": 0.01}]))
    return cut | {
        "strategy": draw(st.sampled_from(tuple(REDUCERS))),
        "standardize": draw(st.sampled_from([None, False, True, "zscore_sample", "psc"])),
        "standardize_confounds": draw(st.booleans()),
        "high_variance_confounds": draw(st.booleans()),
        "detrend": draw(st.booleans()),
        "t_r": 2.0 if cut else draw(st.sampled_from([None, 2.0])),
        "keep_masked_labels": draw(st.booleans()),
        "dtype": draw(st.sampled_from([None, "float64", "float32"])),
        "resampling_target": draw(st.sampled_from(["data", None])),
    }


@given(
    params=settings_of_a_masker(),
    dtype=st.sampled_from(["f4", "f8", "i2", ">i2"]),
    masked=st.booleans(),
    elsewhere=st.booleans(),
    confounds=st.booleans(),
    censored=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=120)
def test_signals_and_attributes_equal_nilearn(
    params: dict[str, Any],
    dtype: str,
    masked: bool,
    elsewhere: bool,
    confounds: bool,
    censored: bool,
    seed: int,
) -> None:
    rng = rng_of(seed)
    image = images.run(rng, (8, 8, 7, 50), dtype, nan=0.01)
    grid = (images.OBLIQUE if seed % 2 else COARSE) if elsewhere else images.STRAIGHT
    if elsewhere:
        params |= {"resampling_target": "data"}
    labels = images.labels(rng, (8, 8, 7), affine=grid)
    if masked:
        mask = (rng.random((8, 8, 7)) < 0.7).astype("u1")
        params |= {"mask_img": nib.Nifti1Image(mask, images.STRAIGHT)}
    call = {
        "confounds": rng.standard_normal((50, 2)) + 1 if confounds else None,
        # at one end only: nilearn's filling of censored frames is wrong in between
        "sample_mask": np.arange(3, 50) if censored else None,
    }
    theirs, expected = oracle(labels, image, call=call, **params)
    masker, found = ours(labels, image, call=call, **params)

    columns = ids_of(theirs)
    assert found.dtype == expected.dtype
    lost = found.sel(region=[i for i in ids_of(masker) if i not in columns])
    # nilearn drops what resampling took; True keeps it here, as 0
    assert params["keep_masked_labels"] or lost.size == 0
    assert (lost == 0).all()
    # nilearn's high-variance confounds of integers have float32's precision
    single = np.dtype(dtype) == np.float32 or params["dtype"] == "float32"
    single |= np.dtype(dtype).kind == "i" and params["high_variance_confounds"]
    rtol = 1e-4 if single else 1e-6
    scale = np.abs(expected).max() or 1
    values = found.sel(region=columns).values
    np.testing.assert_allclose(values / scale, expected / scale, rtol=rtol, atol=rtol)

    if lost.size == 0:
        assert masker.n_elements_ == theirs.n_elements_ == found.sizes["region"]
        assert masker.labels_ == theirs.labels_
        assert masker.region_names_ == theirs.region_names_
        assert masker.region_ids_ == theirs.region_ids_
        assert list(masker.get_feature_names_out()) == list(theirs.get_feature_names_out())
    assert masker.lut_[["index", "name"]].values.tolist() == theirs.lut_.values.tolist()
    assert masker.region_atlas_.get_data_dtype() == np.int32
    for name in ("labels_img_", "mask_img_", "region_atlas_"):
        mine, other = getattr(masker, name), getattr(theirs, name)
        assert (mine is None) == (other is None)
        if mine is not None:
            np.testing.assert_array_equal(voxels(mine), voxels(other))
            np.testing.assert_allclose(mine.affine, other.affine)


def test_scaled_integers_and_cosine_filter_equal_nilearn(tmp_path: Path) -> None:
    rng = rng_of()
    image = images.run(rng, (6, 7, 5, 40), "i2")
    image.header.set_slope_inter(0.5, 3)
    path = images.save(image, tmp_path / "run.nii.gz")
    labels = images.labels(rng)
    params = {
        "clean_args": {"filter": "cosine"},
        "high_pass": 0.02,
        "t_r": 2.0,
        "standardize": "psc",
    }
    _, expected = oracle(labels, str(path), **params)
    masker, found = ours(labels, path, **params)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert masker.clean_args_ == {"filter": "cosine"}


def test_one_volume_gives_one_axis() -> None:
    rng = rng_of()
    image, labels = images.run(rng, (6, 7, 5)), images.labels(rng)
    _, expected = oracle(labels, image)
    masker, found = ours(labels, image)
    assert found.dims == ("region",)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    frame = masker.set_output(transform="pandas").transform(image)
    assert frame.shape == (1, 4)
    back = masker.inverse_transform(frame)
    assert back.shape == (6, 7, 5)


def test_lost_regions_are_columns_of_0_or_dropped_and_named() -> None:
    labels, mask = atlas_with_lost_regions()
    image = images.run(rng_of(), dtype="f4")
    names = {"labels": ["one", "two", "five", "nine"], "mask_img": mask}
    kept = NiftiLabelsMasker(labels, standardize="zscore_sample", **names).fit(image)
    with pytest.warns(DaskroiWarning, match="1 of 4 regions.*are columns of 0: 2 two") as caught:
        found = kept.transform(image)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert found.dtype == np.float32
    assert found.region.values.tolist() == [1, 2, 5, 9]
    assert (found.sel(region=2) == 0).all()
    assert found.attrs["strategy"] == "mean"
    assert found.sel(region=2).n_voxels == 0
    _, expected = oracle(
        labels, image, standardize="zscore_sample", keep_masked_labels=True, **names
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

    dropped = NiftiLabelsMasker(labels, keep_masked_labels=False, **names).fit(image)
    with pytest.warns(DaskroiWarning, match="1 of 4 regions.*no column.*: 2 two"):
        found = dropped.transform(image)
    assert found.region.values.tolist() == [1, 5, 9]
    assert list(dropped.region_names_.values()) == ["one", "five", "nine"]
    # fit on an image knows already; nilearn learns it in transform
    assert NiftiLabelsMasker(labels, keep_masked_labels=False, **names).fit().n_elements_ == 3


def test_transform_resamples_from_the_atlas_and_rewrites_no_fitted_state() -> None:
    rng = rng_of()
    labels = images.labels(rng, (12, 12, 12))
    fine, coarse = images.run(rng, (12, 12, 12, 4)), images.run(rng, (8, 8, 8, 4), affine=COARSE)
    masker, _ = ours(labels, coarse)
    before = dict(vars(masker))
    found = without_warnings(masker.transform, fine)
    after = dict(vars(masker))
    assert {k for k in after if after[k] is not before.get(k)} == {"_region_grid"}
    # not through the coarse grid, where labels have lost their edges
    np.testing.assert_allclose(found, oracle(labels, fine)[1], rtol=1e-5)
    np.testing.assert_array_equal(voxels(masker.region_atlas_), voxels(labels))
    assert masker.labels_img_.shape == (8, 8, 8)


def test_transform_is_lazy(tmp_path: Path) -> None:
    path = images.save(images.run(rng_of(), (12, 13, 14, 20)), tmp_path / "run.nii.gz")
    # the header can still be read; whatever reads all voxels finds the file cut
    path.write_bytes(path.read_bytes()[:-4000])

    def fail(*args: Any, **kw: Any) -> None:
        raise AssertionError("computed while building")

    masker = NiftiLabelsMasker(images.labels(rng_of()), standardize="zscore_sample")
    with dask.config.set(scheduler=fail):
        found = masker.fit_transform(path)
        masker.generate_report()
    assert found.shape == (20, 4)
    with pytest.raises(DaskroiError, match=r"truncated|corrupt|bytes"):
        found.compute()
