"""The masker's regions: names by position or by a table, any background, wide ids."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from maskergrids import rng_of, voxels
from maskers import oracle, ours

import daskroi as dr
from daskroi import NiftiLabelsMasker
from daskroi.errors import DaskroiWarning


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
