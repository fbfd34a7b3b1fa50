"""The masker against nilearn's, parameter by parameter, and as scikit-learn's estimators go."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import images
import matplotlib as mpl
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import Memory
from nilearn.maskers import NiftiLabelsMasker as Oracle
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

import daskroi as dr
from daskroi import NiftiLabelsMasker
from daskroi.errors import DaskroiError, DaskroiTypeError, DaskroiWarning
from daskroi.kernels import REDUCERS
from daskroi.masker import DaskroiNotFittedError

COARSE = np.diag([3.0, 3.0, 3.0, 1.0])


def oracle(maps: Any, image: Any = None, *, call: Any = None, **params: Any) -> tuple[Any, Any]:
    """nilearn's fitted masker and its signals, without its warnings."""
    params = {"standardize": None, "keep_masked_labels": False} | params
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masker = Oracle(maps, **params)
        if image is None:
            return masker.fit(), None
        if not isinstance(image, str):
            # nilearn writes zeros over the NaN of an image in memory
            image = nib.Nifti1Image(voxels(image).copy(), image.affine, image.header)
        return masker, masker.fit_transform(image, **(call or {}))


def ours(maps: Any, image: Any = None, *, call: Any = None, **params: Any) -> tuple[Any, Any]:
    """Our fitted masker and its computed signals, silent about lost regions."""
    params = {"standardize": None, "keep_masked_labels": False} | params
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", ".*(have no voxel|Set one of them|no percentage can be)", DaskroiWarning
        )
        masker = NiftiLabelsMasker(maps, **params)
        if image is None:
            return masker.fit(), None
        return masker, masker.fit_transform(image, **(call or {})).compute()


def without_warnings(function: Any, *args: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args)


def ids_of(masker: Any) -> list[int]:
    return [int(v) for k, v in masker.region_ids_.items() if k != "background"]


def voxels(image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(image.dataobj)


def rng_of(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def atlas_with_lost_regions() -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Labels 1, 2, 5 and 9; the mask takes all of 2."""
    values = np.zeros((6, 7, 5), "i2")
    values[0], values[1], values[2], values[4] = 1, 2, 5, 9
    mask = np.ones(values.shape, "u1")
    mask[1] = 0
    mask[4, :3] = 0
    return nib.Nifti1Image(values, images.STRAIGHT), nib.Nifti1Image(mask, images.STRAIGHT)


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


@pytest.mark.parametrize(
    "names",
    [
        ["A", "B", "C", "D"],
        ["Background", "A", "B", "C", "D"],
        ["background", "A", "B", "C", "D"],
    ],
)
def test_labels_go_by_position_as_in_nilearn(names: list[str]) -> None:
    labels = images.labels(rng_of())
    given = list(names)
    masker, _ = ours(labels, labels=names)
    assert names == given
    theirs, _ = oracle(labels, labels=list(names))
    assert masker.region_names_ == theirs.region_names_ == dict(enumerate("ABCD"))
    assert masker.lut_[["index", "name"]].values.tolist() == theirs.lut_.values.tolist()


@pytest.mark.parametrize(
    ("names", "expected"),
    [("AB", ["A", "B", "unknown", "unknown"]), ("ABCDEF", ["A", "B", "C", "D"])],
)
def test_too_few_and_too_many_labels_are_said(names: str, expected: list[str]) -> None:
    labels = images.labels(rng_of())
    masker = NiftiLabelsMasker(labels, labels=list(names))
    with pytest.warns(DaskroiWarning, match=f"{len(names)} names for the 4 regions"):
        masker.fit()
    theirs, _ = oracle(labels, labels=list(names))
    assert list(masker.region_names_.values()) == list(theirs.region_names_.values()) == expected


@pytest.mark.parametrize("order", [(0, 1, 2, 5, 9), (9, 2, 0, 5, 1), (5, 1, 9, 2)])
@pytest.mark.parametrize("form", ["frame", "tsv"])
def test_table_is_joined_by_id_whatever_its_order(
    order: tuple[int, ...], form: str, tmp_path: Path
) -> None:
    labels, image = images.labels(rng_of()), images.run(rng_of())
    table = pd.DataFrame({"index": order, "name": [f"region {i}" for i in order]})
    given: Any = table
    if form == "tsv":
        given = tmp_path / "lut.tsv"
        table.to_csv(given, sep="\t", index=False)
    theirs, expected = oracle(labels, image, lut=given)
    masker, found = ours(labels, image, lut=given)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert masker.region_names_ == theirs.region_names_
    assert masker.region_names_[2] == "region 5"
    assert masker.lut_["name"].iloc[0] == "Background"
    assert masker.lut_["index"].tolist() == theirs.lut_["index"].tolist()


def test_rows_the_image_does_not_have_are_named_and_are_no_columns() -> None:
    labels, image = images.labels(rng_of()), images.run(rng_of())
    table = pd.DataFrame({"index": [1, 2, 5, 9, 77], "name": ["a", "b", "c", "d", "ghost"]})
    with pytest.warns(DaskroiWarning, match="1 regions of the label table.*77 ghost"):
        masker = NiftiLabelsMasker(labels, lut=table).fit(image)
    theirs, _ = oracle(labels, image, lut=table)
    assert masker.region_names_ == theirs.region_names_
    assert masker.transform(image).sizes["region"] == 4


@pytest.mark.parametrize("background", [0, 2, 9, 77])
def test_any_label_can_be_the_background(background: int) -> None:
    labels, image = images.labels(rng_of()), images.run(rng_of())
    theirs, expected = oracle(labels, image, background_label=background)
    masker, found = ours(labels, image, background_label=background)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert masker.labels_ == theirs.labels_
    assert masker.region_ids_ == theirs.region_ids_
    np.testing.assert_array_equal(voxels(masker.region_atlas_), voxels(theirs.region_atlas_))


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


# what scikit-learn asks for


def test_parameters_are_those_of_nilearn() -> None:
    mine, theirs = (inspect.signature(c).parameters for c in (NiftiLabelsMasker, Oracle))
    assert list(mine) == list(theirs)
    different = {n for n in mine if mine[n].default != theirs[n].default}
    assert different == {"keep_masked_labels"}
    assert NiftiLabelsMasker().get_params() == {
        k: v.default for k, v in sorted(mine.items(), key=lambda item: item[0])
    }


def test_clone_and_set_params() -> None:
    labels = images.labels(rng_of())
    masker = NiftiLabelsMasker(labels, labels=list("ABCD"), detrend=True, clean_args={})
    masker.set_output(transform="pandas").fit()
    copy = clone(masker)
    assert not hasattr(copy, "labels_img_")
    assert copy.get_params(deep=False).keys() == masker.get_params().keys()
    assert copy.labels == masker.labels
    assert copy.detrend
    assert isinstance(copy.fit_transform(images.run(rng_of())), pd.DataFrame)
    assert copy.set_params(strategy="median", t_r=2.0) is copy
    assert (copy.strategy, copy.t_r) == ("median", 2.0)
    with pytest.raises(DaskroiError, match=r"no parameter 'strategi'.*strategy"):
        copy.set_params(strategi="mean", t_r=3.0)
    assert copy.t_r == 2.0
    with pytest.raises(TypeError):
        NiftiLabelsMasker(labels, strategi="mean")


def test_pipeline() -> None:
    rng = rng_of()
    image, labels = images.run(rng, (6, 7, 5, 20)), images.labels(rng)
    pipeline = Pipeline(
        [
            ("roi", NiftiLabelsMasker(labels, labels=list("ABCD"))),
            ("scale", StandardScaler()),
            ("pca", PCA(2)),
        ]
    )
    assert clone(pipeline).fit_transform(image).shape == (20, 2)
    pipeline.set_params(roi__detrend=True, roi__strategy="median").fit(image)
    expected = without_warnings(
        make_pipeline(
            Oracle(labels, standardize=None, detrend=True, strategy="median"),
            StandardScaler(),
            PCA(2),
        ).fit_transform,
        image,
    )
    np.testing.assert_allclose(np.abs(pipeline.transform(image)), np.abs(expected), atol=1e-4)
    assert list(pipeline[:-1].get_feature_names_out()) == list("ABCD")
    assert "strategy='median'" in repr(pipeline)
    frame = pipeline[:-1].set_output(transform="pandas").fit_transform(image)
    assert list(frame.columns) == list("ABCD")
    assert pipeline.__sklearn_tags__() is not None


def test_set_output() -> None:
    rng = rng_of()
    image, labels = images.run(rng), images.labels(rng)
    masker = NiftiLabelsMasker(labels, labels=list("ABCD")).set_output(transform="pandas")
    frame = masker.fit_transform(image, sample_mask=[2, 3, 5])
    assert list(frame.columns) == list("ABCD")
    assert frame.index.tolist() == [2, 3, 5]
    assert frame.index.name == "frame"
    assert masker.set_output(transform=None) is masker
    assert isinstance(masker.transform(image), pd.DataFrame)
    series = masker.set_output(transform="default").transform(image, sample_mask=[2, 3, 5])
    assert isinstance(series, xr.DataArray)
    assert series.chunks is not None
    np.testing.assert_array_equal(series, frame)
    with pytest.raises(DaskroiError, match=r"transform='polars'.*'default', 'pandas'"):
        masker.set_output(transform="polars")


def test_repr_is_short_and_names_what_was_set() -> None:
    labels = images.labels(rng_of())
    text = repr(NiftiLabelsMasker(labels, labels=[f"region {i}" for i in range(100)], t_r=2.0))
    assert (
        text == "NiftiLabelsMasker(labels_img=<Nifti1Image 6 x 7 x 5>, labels=[100 items], t_r=2.0)"
    )
    assert repr(NiftiLabelsMasker()) == "NiftiLabelsMasker()"
    assert "background_label=False" in repr(NiftiLabelsMasker(background_label=False))


def test_pickle_of_a_fitted_masker(tmp_path: Path) -> None:
    labels, mask = atlas_with_lost_regions()
    image = images.run(rng_of())
    masker, expected = ours(labels, image, mask_img=mask)
    again = pickle.loads(pickle.dumps(masker))
    xr.testing.assert_identical(without_warnings(again.transform, image).compute(), expected)
    assert again.region_ids_ == masker.region_ids_
    np.testing.assert_array_equal(voxels(again.region_atlas_), voxels(masker.region_atlas_))
    assert again.generate_report().regions.equals(masker.generate_report().regions)


def test_unfitted() -> None:
    masker = NiftiLabelsMasker(images.labels(rng_of()))
    image = images.run(rng_of())
    for call in (
        lambda: masker.transform(image),
        lambda: masker.inverse_transform(np.ones((2, 4))),
        lambda: masker.n_elements_,
        lambda: masker.region_names_,
        lambda: masker.region_atlas_,
    ):
        with pytest.raises(DaskroiNotFittedError, match=r"not been fitted yet\. Call fit"):
            call()
    # what sklearn's own NotFittedError is
    assert issubclass(DaskroiNotFittedError, ValueError)
    assert issubclass(DaskroiNotFittedError, AttributeError)
    assert not hasattr(masker, "labels_")
    with pytest.raises(NotFittedError):
        check_is_fitted(masker)
    check_is_fitted(masker.fit())
    with pytest.raises(DaskroiNotFittedError, match="there was no image yet"):
        _ = masker.region_atlas_
    masker.transform(image)
    assert masker.region_atlas_.shape == image.shape[:3]


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


def test_memory_is_accepted_and_does_nothing(tmp_path: Path) -> None:
    labels = images.labels(rng_of())
    for memory in (str(tmp_path / "cache"), Memory(tmp_path / "cache", verbose=0)):
        masker = NiftiLabelsMasker(labels, memory=memory, memory_level=2)
        with pytest.warns(DaskroiWarning, match="nothing is cached.*compute"):
            masker.fit()
        assert masker.memory_ is memory
    NiftiLabelsMasker(labels, memory=Memory(location=None)).fit()


def test_verbose_prints_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    labels, image = images.labels(rng_of()), images.run(rng_of())
    NiftiLabelsMasker(labels).fit_transform(image)
    assert capsys.readouterr().out == ""
    NiftiLabelsMasker(labels, verbose=1).fit_transform(image)
    out = capsys.readouterr().out
    assert "[NiftiLabelsMasker.fit] Loading regions from <Nifti1Image 6 x 7 x 5>" in out
    assert "[NiftiLabelsMasker.transform] Extracting region signals" in out


def test_wide_ids_are_not_narrowed() -> None:
    values = np.zeros((6, 7, 5), np.int64)
    values[0], values[1] = 3, 2**40
    labels = nib.Nifti1Image(values, images.STRAIGHT, dtype=np.int64)
    masker, found = ours(labels, images.run(rng_of()))
    assert masker.region_atlas_.get_data_dtype() == np.int64
    assert found.region.values.tolist() == [3, 2**40]
    pickle.loads(pickle.dumps(masker))


def test_takes_an_atlas_a_bunch_and_a_dataarray() -> None:
    run = dr.make_phantom((12, 14, 12), 20, n_regions=4)
    masker = NiftiLabelsMasker(run.atlas)
    found = masker.fit_transform(run.image, confounds=run.confounds[list(run.regressors)])
    assert list(masker.region_names_.values()) == run.atlas.names
    assert found.time.attrs["units"] == "s"
    bunch = SimpleNamespace(maps=run.atlas.image, labels=["Background", *run.atlas.names])
    other = NiftiLabelsMasker(bunch).fit(run.image)
    assert other.region_ids_ == masker.region_ids_
    assert other.region_names_ == masker.region_names_


def test_neither_nilearn_nor_sklearn_is_imported() -> None:
    code = (
        "import sys, daskroi as dr\n"
        "run = dr.make_phantom((9, 11, 9), 20, n_regions=4)\n"
        "masker = dr.NiftiLabelsMasker(run.atlas, memory_level=0, standardize='psc')\n"
        "masker.inverse_transform(masker.fit_transform(run.image))\n"
        "str(masker.generate_report()), repr(masker), masker.set_params(t_r=2.0).get_params()\n"
        "print(*{'nilearn', 'sklearn', 'joblib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def mission(atlas: Any, func_filename: Any) -> tuple[Any, Any, Any]:
    """nilearn's example for this class, line by line."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from daskroi import NiftiLabelsMasker

    masker = NiftiLabelsMasker(
        atlas.maps,
        labels=atlas.labels,
        standardize="zscore_sample",
    )
    masker.fit()
    report = masker.generate_report()
    assert "No image provided to fit in NiftiLabelsMasker" in report._repr_html_()
    masker.fit(func_filename)
    report = masker.generate_report()
    assert "No image provided" not in report._repr_html_()
    signals = masker.transform(func_filename)

    fig = plt.figure(figsize=(15, 5))
    ax = fig.add_subplot(111)
    for label_idx in range(3):
        ax.plot(
            signals[:, label_idx], linewidth=2, label=atlas.labels[label_idx + 1]
        )  # 0 is background
    ax.legend(loc=2)
    ax.set_title("Signals for first 3 regions")
    plt.close(fig)
    return signals, ax, report


def test_example_on_generated_data(tmp_path: Path) -> None:
    rng = rng_of()
    func = images.save(images.run(rng, (12, 12, 12, 15), affine=COARSE), tmp_path / "run.nii.gz")
    maps = images.labels(rng, (18, 18, 18))
    atlas = SimpleNamespace(maps=maps, labels=["Background", *"ABCD"])
    signals, ax, _ = mission(atlas, str(func))
    assert signals.shape == (15, 4)
    _, expected = oracle(maps, str(func), labels=atlas.labels, standardize="zscore_sample")
    np.testing.assert_allclose(signals, expected, rtol=1e-4, atol=1e-4)
    for k, line in enumerate(ax.lines):
        np.testing.assert_allclose(line.get_ydata(), expected[:, k], rtol=1e-4, atol=1e-4)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["A", "B", "C"]


def test_example_on_the_real_run(real_run: Path, harvard_oxford: Path, real_data: Path) -> None:
    table = pd.read_csv(real_data / "atlases" / f"{harvard_oxford.name[:-7]}_dseg.tsv", sep="\t")
    atlas = SimpleNamespace(maps=str(harvard_oxford), labels=["Background", *table["name"]])
    signals, _, report = mission(atlas, str(real_run))
    assert signals.shape == (156, 48)
    theirs, expected = oracle(
        atlas.maps, str(real_run), labels=atlas.labels, standardize="zscore_sample"
    )
    np.testing.assert_allclose(signals, expected, rtol=1e-6, atol=1e-6)
    without_warnings(theirs.generate_report)
    summary = theirs._report_content["summary"]
    assert report.regions.values.tolist() == summary.values.tolist()
    assert list(report.regions.columns) == list(summary.columns)
