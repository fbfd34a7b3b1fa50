"""The masker on lists of runs and on wildcards: one series each, read late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import images
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from maskergrids import FLIPPED, quiet, rng_of, voxels
from nilearn.maskers import NiftiLabelsMasker as Oracle

import daskroi as dr
from daskroi import NiftiLabelsMasker
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiWarning


def test_runs_give_a_list(tmp_path: Path) -> None:
    labels = images.labels(rng_of())
    runs = [images.run(rng_of(i), (6, 7, 5, n), "f8") for i, n in enumerate((12, 15))]
    confounds = [rng_of(i).standard_normal((n, 1)) for i, n in enumerate((12, 15))]
    keep = [None, np.arange(2, 7)]
    params = {"standardize": "zscore_sample", "detrend": True}
    masker = NiftiLabelsMasker(labels, **params).fit(runs)
    found = masker.transform(runs, confounds=confounds, sample_mask=keep)
    assert isinstance(found, list)
    oracle = quiet(Oracle(labels, **params).fit, runs[0])
    for k, run in enumerate(runs):
        expected = quiet(oracle.transform, run, confounds=confounds[k], sample_mask=keep[k])
        np.testing.assert_allclose(found[k], expected, rtol=1e-6, atol=1e-8)
    some = masker.transform(runs, confounds=[None, confounds[1]])
    xr.testing.assert_equal(some[0], masker.transform(runs[0]))
    frames = masker.set_output(transform="pandas").transform(runs, sample_mask=keep)
    assert [f.shape for f in frames] == [(12, 4), (5, 4)]
    assert frames[1].index.tolist() == [2, 3, 4, 5, 6]
    one = masker.transform(
        [nib.Nifti1Image(voxels(runs[0])[..., i], images.STRAIGHT) for i in (1, 0)]
    )
    assert one.shape == (2, 4)
    assert len(masker.fit_transform(runs[:1])) == 1
    assert "2 runs, the first: image 0" in str(masker.fit(runs).generate_report())


def test_lists_that_make_no_sense(tmp_path: Path) -> None:
    labels = images.labels(rng_of())
    masker = NiftiLabelsMasker(labels).fit()
    run, volume = images.run(rng_of()), images.run(rng_of(), (6, 7, 5))
    with pytest.raises(DaskroiError, match="imgs is an empty list"):
        masker.transform([])
    with pytest.raises(DaskroiError, match="imgs is an empty tuple"):
        masker.fit(())
    path = images.save(volume, tmp_path / "volume.nii")
    with pytest.raises(DaskroiError, match=r"volume\.nii has 1 volume, image 0 has 9"):
        masker.transform([run, path])
    with pytest.raises(DaskroiError, match="sample_mask has 3 entries for 2 runs"):
        masker.transform([run, run], sample_mask=[None, None, None])
    with pytest.raises(DaskroiError, match="confounds is one ndarray for a list of 2 runs"):
        masker.transform([run, run], confounds=np.ones((9, 1)))
    with pytest.raises(DaskroiError, match="not list"):
        masker.transform([[volume], [volume]])
    missing = tmp_path / "gone.nii"
    with pytest.raises(DaskroiNotFoundError, match=r"gone\.nii"):
        masker.transform([path, missing])
    with pytest.raises(DaskroiError, match="t_r"):
        NiftiLabelsMasker(labels, high_pass=0.01).fit_transform([volume] * 20)


def test_wildcards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = images.labels(rng_of())
    given = [images.run(rng_of(i), (6, 7, 5)) for i in range(3)]
    paths = [images.save(v, tmp_path / f"sub-{i}.nii.gz") for i, v in enumerate(given)]
    images.save(images.run(rng_of()), tmp_path / "run.nii.gz")
    masker = NiftiLabelsMasker(labels)
    pattern = tmp_path / "sub-*.nii.gz"
    found = masker.fit_transform(pattern)
    np.testing.assert_allclose(found, quiet(Oracle(labels).fit_transform, str(pattern)), rtol=1e-5)
    assert found.image.values.tolist() == [str(p) for p in paths]
    xr.testing.assert_equal(found, masker.transform(paths))
    assert masker.transform(str(tmp_path / "sub-[02].nii.gz")).shape == (2, 4)
    assert [s.shape for s in masker.transform(str(tmp_path / "r?n.nii.gz"))] == [(9, 4)]
    with pytest.raises(DaskroiNotFoundError, match=r"ses-\*\.nii: no file matches this pattern"):
        masker.transform(str(tmp_path / "ses-*.nii"))
    # a file of that very name is that file
    odd = images.save(given[0], tmp_path / "sub-[1].nii.gz")
    assert masker.transform(odd).dims == ("region",)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert masker.transform("~/sub-?.nii.gz").shape == (3, 4)


def test_templates_of_volumes_are_compared_once(tmp_path: Path) -> None:
    run = dr.make_phantom((9, 11, 9), 4, n_regions=4)
    name = "tpl-MNI152NLin6Asym_atlas-x_dseg.nii.gz"
    atlas, grid = tmp_path / name, run.atlas.grid.matrix
    images.save(nib.Nifti1Image(run.atlas.labels.T.astype("i2"), grid), atlas)
    for i in range(3):
        volume = images.run(rng_of(i), (9, 11, 9), affine=grid)
        images.save(volume, tmp_path / f"sub-{i}_space-MNIPediatricAsym_cohort-2_bold.nii.gz")
    masker = NiftiLabelsMasker(atlas).fit()
    with pytest.warns(DaskroiWarning, match="sub-0.*is in MNIPediatricAsym") as caught:
        masker.transform(str(tmp_path / "sub-*"))
    assert len(caught) == 1


def test_lists_are_lazy(tmp_path: Path) -> None:
    paths = []
    for i in range(4):
        shape, affine = ((6, 7, 5), images.STRAIGHT) if i % 2 else ((7, 7, 7), FLIPPED)
        image = images.run(rng_of(i), shape, affine=affine)
        paths.append(images.save(image, tmp_path / f"{i}.nii.gz"))
        paths[-1].write_bytes(paths[-1].read_bytes()[:-40])  # whoever reads all finds it cut

    def fail(*args: Any, **kw: Any) -> None:
        raise AssertionError("computed while building")

    masker = NiftiLabelsMasker(images.labels(rng_of()), standardize="zscore_sample")
    with dask.config.set(scheduler=fail):
        both = quiet(masker.fit_transform, paths)
        alike = quiet(masker.transform, paths[::2])
    for found in (both, alike):
        with pytest.raises(DaskroiError, match=r"truncated|corrupt|bytes"):
            found.compute()
