"""Probabilistic atlases: maps and names, on their grid and on others, against nilearn."""

from __future__ import annotations

import gzip
import pickle
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import fsspec
import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from dask.tokenize import tokenize
from hypothesis import assume, given
from hypothesis import strategies as st
from test_grid import grid_pairs

import daskroi as dr
from daskroi.atlas import load_atlas
from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.grid import Grid
from daskroi.image import make_image
from daskroi.leastsquares import least_squares
from daskroi.maps import MapsAtlas
from daskroi.regions import RegionIndex

SHAPE = (6, 7, 5)
TURNED = images.OBLIQUE.copy()
TURNED[:3, 3] = -0.3, 0.5, 0.2


def maps_of(seed: int = 0, n: int = 4, shape: Any = SHAPE, sparsity: float = 0.6) -> np.ndarray:
    """Maps (x, y, z, map), some of them negative."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((*shape, n)) * (rng.random((*shape, n)) > sparsity)


def nifti(values: Any, affine: Any = images.STRAIGHT) -> nib.Nifti1Image:
    values = np.array(values)
    return nib.Nifti1Image(values, affine, dtype=values.dtype)


def dense(index: RegionIndex) -> np.ndarray:
    """(region, z, y, x)"""
    out = np.zeros((index.n_regions, int(np.prod(index.shape))))
    out[index.regions, index.voxels] = index.all_weights
    return out.reshape(-1, *index.shape)


def load(*args: Any, **options: Any) -> MapsAtlas:
    atlas = load_atlas(*args, **options)
    assert isinstance(atlas, MapsAtlas)
    return atlas


# reading


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "f4", ">f4", "f8"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_files_of_any_dtype(tmp_path: Path, dtype: str, ending: str) -> None:
    values = np.abs(maps_of() * 50).astype(dtype)
    path = images.save(nifti(values), tmp_path / f"a{ending}")
    atlas = load(path)
    assert atlas == load(nib.load(path)) == load(nifti(values)) == load(dr.open_image(path))
    np.testing.assert_array_equal(dense(atlas.index), values.T)
    assert (atlas.name, atlas.source) == ("a", str(path))
    assert atlas.grid == Grid.make(SHAPE[::-1], images.STRAIGHT)
    assert (atlas.index.all_weights != 0).all()


def test_scaled_integers_are_scaled(tmp_path: Path) -> None:
    image = nifti(np.abs(maps_of() * 50).astype("i2"))
    image.header.set_slope_inter(0.25, 0)
    path = images.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(dense(load(path).index), nib.load(path).get_fdata().T)
    assert nib.load(path).dataobj.slope == 0.25


def test_arrays_chunk_by_chunk() -> None:
    values = maps_of(n=5).T
    grid = Grid.make(SHAPE[::-1], images.OBLIQUE)
    for chunks in ((2, -1, -1, -1), (1, 2, 3, 4), (5, -1, -1, -1)):
        image = make_image(da.from_array(values, chunks=chunks), grid, name="mine")
        atlas = load(image.transpose("x", "time", "z", "y"))
        assert atlas == load(make_image(values, grid))
        assert atlas.name == "mine"
    np.testing.assert_array_equal(dense(atlas.index), values)


def test_what_is_not_finite_counts_as_zero() -> None:
    values = maps_of()
    values[0, 0, 0, 0], values[1, 0, 0, 1], values[2, 0, 0, 2] = np.nan, np.inf, -np.inf
    clean = np.where(np.isfinite(values), values, 0)
    assert load(nifti(values)) == load(nifti(clean))


def test_one_volume_is_a_label_image() -> None:
    assert isinstance(load_atlas(nifti(np.ones((3, 3, 3, 1), "u1"))), dr.Atlas)
    assert isinstance(load_atlas(nifti(np.ones((3, 3, 3, 2), "u1"))), dr.MapsAtlas)


# names


def test_table() -> None:
    values = np.zeros((3, 3, 3, 3))
    values[0, 0, 0] = [1.0, 0.5, 0]
    values[1, 0, 0] = [0, 0.25, 0]
    values[2, 0, 0] = [0, -0.25, 0]
    lut = pd.DataFrame({"index": [7, 3, 5], "name": ["a", "b", "c"], "colour": [1, 2, 3]})
    atlas = load(nifti(values), lut=lut)
    assert list(atlas.table) == [
        *("index", "name", "n_voxels", "size_mm3", "relative_size_percent", "colour")
    ]
    assert atlas.ids.tolist() == [7, 3, 5]  # the order of the volumes, not of the ids
    assert atlas.names == ["a", "b", "c"]
    assert atlas.table["n_voxels"].tolist() == [1, 3, 0]
    assert atlas.table["size_mm3"].tolist() == [8.0, 4.0, 0.0]
    assert atlas.table["relative_size_percent"].tolist() == [50.0, 50.0, 0.0]
    assert atlas.table["colour"].tolist() == [1, 2, 3]
    assert "3 maps (1 without voxels), 3 x 3 x 3 voxels" in repr(atlas)
    assert load(nifti(values), lut=atlas.table) == atlas
    assert "<b>MapsAtlas atlas</b>" in atlas._repr_html_()


def test_names_by_position() -> None:
    image = nifti(maps_of(n=2))
    assert load(image).names == ["1", "2"]
    assert load(image).ids.tolist() == [1, 2]
    for labels in (["a", "b"], ["Background", "a", "b"], ("background", b"a", "b")):
        atlas = load(image, labels=labels)
        assert (atlas.names, atlas.ids.tolist()) == (["a", "b"], [1, 2])
    lut = pd.DataFrame({"index": [0, 4, 6], "name": ["Background", "a", "b"]})
    assert load(image, lut=lut).ids.tolist() == [4, 6]
    assert load(image, labels=pd.DataFrame({"name": ["a", "b"]})).ids.tolist() == [1, 2]
    difumo = pd.DataFrame({"component": [1, 2], "difumo_names": ["a", "b"], "gm": [0.5, 0.6]})
    atlas = load({"maps": image, "labels": difumo, "template": "MNI152NLin6Asym"})
    assert (atlas.names, atlas.template) == (["a", "b"], "MNI152NLin6Asym")
    assert atlas.table["gm"].tolist() == [0.5, 0.6]
    old = difumo.to_records(index=False)
    assert load({"maps": image, "labels": old}).names == ["a", "b"]
    assert load({"maps": image, "labels": ["a", "b"], "region_coords": []}).names == ["a", "b"]
    for wrong in ({"labels": ["a", "b", "c"]}, {"labels": ["a"]}, {"lut": lut.iloc[:1]}):
        with pytest.raises(DaskroiError, match=r"(labels|lut): [13] names for the 2 maps of "):
            load(image, **wrong)
    twice = pd.DataFrame({"index": [4, 4], "name": ["a", "b"]})
    with pytest.raises(DaskroiError, match="same label in several rows"):
        load(image, lut=twice)


@pytest.mark.parametrize(
    ("image", "table", "found"),
    [
        ("X_probseg.nii.gz", "X_probseg.tsv", True),
        ("X.nii", "X_probseg.tsv", True),
        ("X.nii", "X.tsv", True),
        ("tpl-A_res-01_atlas-B_probseg.nii", "tpl-A_atlas-B_probseg.tsv", True),
        ("X.nii", "X_dseg.tsv", False),
    ],
)
def test_table_beside_the_image(tmp_path: Path, image: str, table: str, found: bool) -> None:
    images.save(nifti(maps_of(n=2)), tmp_path / image)
    (tmp_path / table).write_text("index\tname\n5\tV5\n1\tV1\n")
    assert load(tmp_path / image).names == (["V5", "V1"] if found else ["1", "2"])
    assert load(tmp_path / image, labels=["p", "q"]).names == ["p", "q"]


def test_url_with_its_table() -> None:
    filesystem = fsspec.filesystem("memory")
    content = gzip.compress(nifti(maps_of(n=2)).to_bytes())
    filesystem.pipe("/maps/atlas-B_probseg.nii.gz", content)
    filesystem.pipe("/maps/atlas-B_probseg.tsv", b"name,x\nV3,1\nV4,2\n")
    atlas = load("memory://maps/atlas-B_probseg.nii.gz")
    assert (atlas.names, atlas.name) == (["V3", "V4"], "B")
    assert atlas.source == "memory://maps/atlas-B_probseg.nii.gz"


# on other grids


def nilearn_linear(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    from nilearn.image import resample_img
    from nilearn.image.resampling import BoundingBoxError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # forced: its shortcut for whole-voxel shifts misplaces what is cut off in front
            out = resample_img(
                nib.Nifti1Image(values.T.astype("f8"), source.matrix),
                target_affine=target.matrix,
                target_shape=target.shape[::-1],
                interpolation="linear",
                force_resample=True,
                copy_header=True,
            )
        except BoundingBoxError:
            assume(False)
    return np.asarray(out.dataobj).T


@given(grid_pairs(), st.sampled_from(["f4", "f8", "i2", "u1"]), st.integers(0, 2**32))
def test_on_another_grid_is_nilearns(grids: tuple[Grid, Grid], dtype: str, seed: int) -> None:
    source, target = grids
    values = np.abs(maps_of(seed, 3, source.shape) * 50).astype(dtype).T
    values = np.ascontiguousarray(values.reshape(3, *source.shape))
    values[1] = 0  # a map without voxels keeps its row
    assume(values.any() and not source.same_as(target))
    if seed % 2 and dtype[0] == "f":
        values[0] *= -1
    atlas = load(make_image(values, source))
    index = atlas.regions_on(target)
    assert (index.n_regions, index.shape) == (3, target.shape)
    expected = nilearn_linear(values, source, target)
    np.testing.assert_allclose(dense(index), expected, atol=1e-11)
    assert (index.all_weights != 0).all()
    assert (np.diff(index.voxels)[np.diff(index.regions) == 0] > 0).all()


def test_on_its_own_grid_nothing_happens() -> None:
    atlas = load(nifti(maps_of(), images.OBLIQUE))
    moved = images.OBLIQUE + np.eye(4, k=3) * 1e-10
    assert atlas.regions_on(Grid.make(SHAPE[::-1], moved)) is atlas.index


@pytest.mark.parametrize("affine", [images.STRAIGHT, TURNED, np.diag([3.0, 3, 3, 1])])
def test_least_squares_are_nilearns_masker(affine: np.ndarray) -> None:
    from nilearn.maskers import NiftiMapsMasker

    values = maps_of(n=6)
    values[2, 3, 1, 2] = np.nan
    run = images.run(np.random.default_rng(1), dtype="f8", affine=affine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masker = NiftiMapsMasker(nifti(values), standardize=None, reports=False)
        expected = masker.fit_transform(run)
    index = load(nifti(values)).regions_on(Grid.make(SHAPE[::-1], affine))
    frames = run.get_fdata().T.reshape(run.shape[3], -1)
    found = least_squares(index) @ (index.matrix @ frames[:, index.used].T)
    np.testing.assert_allclose(found.T, expected, rtol=1e-8)


def test_in_view() -> None:
    values = np.zeros((4, 3, 3, 3))
    values[0, 0, 0, 0], values[3, 0, 0, 0] = 1, -3
    values[1, :, :, 1] = 0.5
    atlas = load(nifti(values))
    half = Grid.make((3, 3, 2), images.STRAIGHT)
    np.testing.assert_allclose(atlas.in_view(half), [0.25, 1, 0])
    np.testing.assert_array_equal(atlas.in_view(atlas.grid), [1, 1, 0])
    # edge voxels of 1 mm whose centres lie inside the 2 mm voxels of the image
    fine = Grid.make((8, 8, 8), np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * -1)
    np.testing.assert_array_equal(atlas.in_view(fine), [1, 1, 0])


# the value


def test_equality_hash_token_and_pickle() -> None:
    values = maps_of(n=2)
    atlas = load(nifti(values), labels=["a", "b"])
    back = pickle.loads(pickle.dumps(atlas))
    assert back == atlas
    assert back.table.equals(atlas.table)
    assert (hash(back), tokenize(back)) == (hash(atlas), tokenize(atlas))
    others = [
        load(nifti(values), labels=["a", "c"]),
        load(nifti(values * 2), labels=["a", "b"]),
        load(nifti(values[..., ::-1]), labels=["a", "b"]),
        load(nifti(values, images.OBLIQUE), labels=["a", "b"]),
        load(nifti(values), lut=pd.DataFrame({"index": [1, 3], "name": ["a", "b"]})),
    ]
    assert len({a.hash for a in [atlas, *others]}) == 6
    assert len({tokenize(a) for a in [atlas, *others]}) == 6
    assert atlas != "atlas"
    with pytest.raises(ValueError, match="read-only"):
        atlas.index.voxels[0] = 3


def test_atlas_is_taken_as_it_is() -> None:
    atlas = load(nifti(maps_of(n=2)), labels=["a", "b"])
    assert load(atlas) is atlas
    other = load(atlas, name="other")
    assert (other.name, other) == ("other", atlas)
    assert load(atlas, labels=["c", "d"]).names == ["c", "d"]


def test_the_input_is_neither_changed_nor_locked() -> None:
    values = maps_of()
    load(nib.Nifti1Image(values, images.STRAIGHT))
    load(make_image(values.T, Grid.make(SHAPE[::-1], images.STRAIGHT)))
    values[:] = 0


# bad input


def test_overlap_can_be_refused() -> None:
    values = np.zeros((2, 2, 2, 3))
    values[0, 0, 0, 0] = values[1, 1, 1, 1] = values[1, 1, 1, 2] = 1
    with pytest.raises(DaskroiError, match=r"maps overlap: 'b', 'c'\. Use allow_overlap=True"):
        load(nifti(values), labels=["a", "b", "c"], allow_overlap=False)
    with pytest.raises(DaskroiError, match="maps overlap"):
        load(load(nifti(values)), allow_overlap=False)
    assert len(load(nifti(values[..., :2]), allow_overlap=False).names) == 2


def test_bad_input(tmp_path: Path) -> None:
    image = nifti(maps_of(n=2))
    with pytest.raises(DaskroiError, match=r"radius=5 is for seeds, not for an image\. Leave"):
        load(image, radius=5)
    with pytest.raises(DaskroiError, match=r"radius=5 is for seeds"):
        load(load(image), radius=5)
    for given_image in (image, load(image)):
        with pytest.raises(DaskroiError, match=r"background_label=3 is for label images"):
            load(given_image, background_label=3)
    with pytest.raises(DaskroiError, match="all 2 maps are 0 everywhere"):
        load(nifti(np.zeros((3, 3, 3, 2))))
    with pytest.raises(DaskroiError, match="holds complex64 voxels"):
        load(nifti(np.ones((3, 3, 3, 2), "c8")))
    with pytest.raises(DaskroiTypeError, match="labels must be a list of str"):
        load(image, labels="ab")
    path = images.save(image, tmp_path / "a.nii")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DaskroiError, match=r"a\.nii: truncated"):
        load(path)
