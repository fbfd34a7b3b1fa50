"""The masker as scikit-learn's estimators go: parameters, clones, pipelines, pickles."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import images
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from joblib import Memory
from maskergrids import rng_of, voxels
from maskers import atlas_with_lost_regions, ours, without_warnings
from nilearn.maskers import NiftiLabelsMasker as Oracle
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from daskroi import NiftiLabelsMasker
from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.masker import DaskroiNotFittedError


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
