"""Spheres: the same voxels as nilearn's, whatever the grid, the mask and the seeds."""

from __future__ import annotations

import pickle
import time
import warnings
from typing import Any

import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from dask.tokenize import tokenize
from hypothesis import example, given
from hypothesis import strategies as st

import daskroi as dr
from daskroi.atlas import load_atlas
from daskroi.errors import DaskroiError, DaskroiTypeError, DaskroiWarning
from daskroi.grid import Grid
from daskroi.spheres import SphereAtlas

SEEDS = [(0.0, 0.0, 0.0), (4.0, 4.0, 4.0), (9.0, 2.0, 4.0)]


def load(*args: Any, **options: Any) -> SphereAtlas:
    atlas = load_atlas(*args, **options)
    assert isinstance(atlas, SphereAtlas)
    return atlas


def rows(atlas: SphereAtlas, grid: Grid, mask: Any = None) -> list[list[int]]:
    """Voxels of each sphere, as flat positions."""
    index = atlas.regions_on(grid, mask)
    assert index.weights is None
    return [v.tolist() for v in np.split(index.voxels, index.bounds[1:-1])]


def nilearn_rows(
    seeds: Any, radius: float | None, grid: Grid, mask: np.ndarray | None = None
) -> list[list[int]]:
    """One seed at a time: nilearn refuses all when one sphere is empty."""
    from nilearn.maskers.nifti_spheres_masker import apply_mask_and_get_affinity

    image = nib.Nifti1Image(np.zeros((*grid.shape[::-1], 1)), grid.matrix)
    inside = np.ones(grid.shape, bool) if mask is None else mask
    mask_image = None if mask is None else nib.Nifti1Image(mask.T.astype("u1"), grid.matrix)
    xyz = np.argwhere(inside.T)
    flat = np.ravel_multi_index(tuple(xyz.T[::-1]), grid.shape)
    out = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in seeds:
            try:
                _, found = apply_mask_and_get_affinity([seed], image, radius, True, mask_image)
            except ValueError as error:
                if "are empty" not in str(error):
                    raise
                out.append([])
            else:
                out.append(sorted(flat[found.rows[0]].tolist()))
    return out


# eighths are exact: ties at the radius fall on both sides of it alike
eighths = st.integers(-40, 80).map(lambda n: n / 8)
AFFINES = {
    "1 mm": np.diag([1.0, 1, 1, 1]),
    "flipped": np.array([[-2.0, 0, 0, 8], [0, 2, 0, -3], [0, 0, 3, -4], [0, 0, 0, 1]]),
    "half": np.array([[0.5, 0, 0, -2], [0, 0.5, 0, -1.75], [0, 0, 0.5, -2], [0, 0, 0, 1]]),
    "permuted": np.array([[0, 0, 2.5, -5], [-2.0, 0, 0, 7], [0, 1.5, 0, -3], [0, 0, 0, 1]]),
    "oblique": images.OBLIQUE,
}


@example("1 mm", None, [(1.625, 2.0, 3.0)], None)  # two voxels without a radius
@example("1 mm", 2.0, [(1.0, 1.0, 1.0), (-9.0, 0, 0)], None)  # ties at the radius; empty
@given(
    st.sampled_from(sorted(AFFINES)),
    st.sampled_from([None, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 40.0]),
    st.lists(st.tuples(eighths, eighths, eighths), min_size=1, max_size=4),
    st.one_of(st.none(), st.integers(0, 2**32)),
)
def test_voxels_are_nilearns(
    affine: str, radius: float | None, seeds: Any, mask_seed: int | None
) -> None:
    grid = Grid.make((6, 7, 5), AFFINES[affine])
    mask = None
    if mask_seed is not None:
        mask = np.random.default_rng(mask_seed).random(grid.shape) > 0.4
        mask[2, 3, 4] = True
    found = rows(load(seeds, radius=radius), grid, mask)
    assert found == nilearn_rows(seeds, radius, grid, mask)


def test_means_are_nilearns_masker() -> None:
    from nilearn.maskers import NiftiSpheresMasker

    run = images.run(np.random.default_rng(0), (9, 8, 7, 12), dtype="f8", affine=images.OBLIQUE)
    seeds = [(-2.0, 1.0, 0.5), (3.0, 2.0, 1.0), (4.0, 2.0, 1.0)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masker = NiftiSpheresMasker(
            seeds, radius=4, allow_overlap=True, standardize=None, reports=False
        )
        expected = masker.fit_transform(run)
    index = load(seeds, radius=4).regions_on(Grid.make((7, 8, 9), images.OBLIQUE))
    frames = run.get_fdata().T.reshape(12, -1)
    found = np.stack([index.sums(f[index.voxels]) / index.totals for f in frames])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_thousand_spheres_on_a_fine_grid_take_seconds() -> None:
    affine = np.diag([1.0, 1, 1, 1])
    affine[:3, 3] = -90, -126, -72
    grid = Grid.make((182, 218, 182), affine)
    seeds = np.random.default_rng(0).uniform(-70, 70, (1000, 3))
    start = time.process_time()
    index = load(seeds, radius=6).regions_on(grid)
    assert time.process_time() - start < 10  # the processor's: others may be at work
    # 4/3 pi 6^3 = 905
    assert 895 < index.counts[(np.abs(seeds) < 60).all(axis=1)].mean() < 915


def test_overlap_can_be_refused_and_names_the_seeds() -> None:
    grid = Grid.make((9, 9, 9), np.eye(4))
    seeds = [(1, 1, 1), (7, 7, 7), (2, 1, 1)]
    apart = load(seeds, radius=0.5, allow_overlap=False)
    assert apart.regions_on(grid).counts.tolist() == [1, 1, 1]
    close = load(seeds, radius=1, labels=["a", "b", "c"], allow_overlap=False)
    with pytest.raises(DaskroiError, match=r"spheres: spheres share voxels: 1 a and 3 c\. Use"):
        close.regions_on(grid)
    assert load(seeds, radius=1).regions_on(grid).n_regions == 3
    many = load([(4, 4, 4)] * 9, allow_overlap=False)
    with pytest.raises(DaskroiError, match=r"1 1 and 2 2, .* and 3 more"):
        many.regions_on(grid)


def test_in_view() -> None:
    grid = Grid.make((20, 20, 20), np.eye(4))
    seeds = [(10, 10, 10), (-0.5, 10, 10), (19.5, -0.5, 10), (-20, 0, 0), (0, 10, 10)]
    fraction = load(seeds, radius=4).in_view(grid)
    assert fraction[0] == 1
    np.testing.assert_allclose(fraction[1:4], [0.5, 0.25, 0], atol=0.03)
    assert 0.55 < fraction[4] < 0.7
    np.testing.assert_array_equal(load(seeds).in_view(grid), [1, 1, 1, 0, 1])
    oblique = Grid.make((9, 9, 9), images.OBLIQUE)
    centre = images.OBLIQUE @ [4, 4, 4, 1]
    assert load([centre[:3]], radius=8).in_view(oblique).tolist() == [1]


# names


def test_table() -> None:
    atlas = load(SEEDS, radius=3, labels=["a", "b", "c"])
    assert list(atlas.table) == [
        *("index", "name", "size_mm3", "relative_size_percent", "x", "y", "z", "radius")
    ]
    assert (atlas.ids.tolist(), atlas.names) == ([1, 2, 3], ["a", "b", "c"])
    np.testing.assert_array_equal(atlas.table[["x", "y", "z"]], SEEDS)
    assert atlas.table["size_mm3"].tolist() == [113.097] * 3
    assert atlas.table["relative_size_percent"].tolist() == [33.33] * 3
    assert repr(atlas) == "<SphereAtlas 'spheres': 3 spheres of radius 3 mm>"
    assert "<b>SphereAtlas spheres</b>" in atlas._repr_html_()
    voxels = load(SEEDS, name="mine")
    assert repr(voxels) == "<SphereAtlas 'mine': 3 spheres of one voxel each>"
    assert voxels.table[["size_mm3", "radius"]].isna().all(axis=None)
    assert (voxels.names, voxels.grid, voxels.source) == (["1", "2", "3"], None, None)


def test_forms_of_seeds() -> None:
    first = load(SEEDS, radius=3)
    frame = pd.DataFrame(SEEDS, columns=["X", "y", "z"])
    for form in (np.array(SEEDS), np.array(SEEDS, int), tuple(SEEDS), frame, {"rois": frame}):
        assert load(form, radius=3) == first
    assert load({"rois": frame.to_records(index=False)}, radius=3) == first
    assert load({"rois": frame, "labels": ["a", "b", "c"]}).names == ["a", "b", "c"]
    assert load({"rois": frame, "labels": ["a", "b", "c"]}, labels=list("pqr")).names[0] == "p"
    assert load({"rois": frame, "template": "MNI152NLin6Asym"}).template == "MNI152NLin6Asym"


def test_columns_beside_the_coordinates() -> None:
    frame = pd.DataFrame(SEEDS, columns=["x", "y", "z"])
    more = frame.assign(Label=["a", "b", "c"], network=["N", "M", "N"], radius=99)
    atlas = load(more, radius=2)
    assert atlas.names == ["a", "b", "c"]
    assert atlas.table["network"].tolist() == ["N", "M", "N"]
    assert atlas.table["radius"].tolist() == [2, 2, 2]
    with pytest.warns(DaskroiWarning, match="column 'radius' .99. is not used.*radius=99"):
        assert load(more).radius is None
    assert load(more, radius=2, labels=["p", "q", "r"]).names == ["p", "q", "r"]
    assert load(more, radius=2, labels=["p", "q", "r"]).table["network"].tolist() == ["N", "M", "N"]
    numbered = load(frame.assign(index=[4, 2, 9]))
    assert (numbered.ids.tolist(), numbered.names) == ([4, 2, 9], ["4", "2", "9"])
    assert load(frame.assign(index=[4, 2, 9], name=["a", "b", "c"])).ids.tolist() == [4, 2, 9]
    lut = pd.DataFrame({"index": [7, 5, 6], "name": ["s", "t", "u"]})
    assert load(more, lut=lut, radius=2).ids.tolist() == [7, 5, 6]
    assert load(more, lut=lut, radius=2).names == ["s", "t", "u"]


def test_nilearns_coordinates() -> None:
    from nilearn.datasets import fetch_coords_dosenbach_2010, fetch_coords_power_2011

    power = load(fetch_coords_power_2011(), radius=5)
    assert (len(power.names), power.seeds[0].tolist()) == (264, [-25, -98, -12])
    assert power.table["roi"].tolist() == list(range(1, 265))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fetched = fetch_coords_dosenbach_2010()
    dosenbach = load(fetched, radius=5)
    assert dosenbach.names == fetched["labels"]
    np.testing.assert_array_equal(dosenbach.seeds, fetched["rois"])


# the value


def test_equality_hash_token_and_pickle() -> None:
    atlas = load(SEEDS, radius=3)
    back = pickle.loads(pickle.dumps(atlas))
    assert back == atlas
    assert back.table.equals(atlas.table)
    assert (hash(back), tokenize(back)) == (hash(atlas), tokenize(atlas))
    others = [
        load(SEEDS, radius=4),
        load(SEEDS),
        load(SEEDS, radius=3, allow_overlap=False),
        load(SEEDS, radius=3, labels=["a", "b", "c"]),
        load(SEEDS[::-1], radius=3),
        load(pd.DataFrame(SEEDS, columns=["x", "y", "z"]).assign(index=[1, 2, 4]), radius=3),
    ]
    assert len({a.hash for a in [atlas, *others]}) == 7
    assert len({tokenize(a) for a in [atlas, *others]}) == 7
    assert atlas != "atlas"
    with pytest.raises(ValueError, match="read-only"):
        atlas.seeds[0] = 3


def test_atlas_is_taken_as_it_is() -> None:
    atlas = load(SEEDS, radius=3, labels=["a", "b", "c"], allow_overlap=False)
    assert load(atlas) is atlas
    assert isinstance(atlas, dr.SphereAtlas)
    other = load(atlas, name="other")
    assert (other.name, other) == ("other", atlas)
    wider = load(atlas, radius=5)
    assert (wider.radius, wider.names, wider.allow_overlap) == (5, ["a", "b", "c"], False)
    assert wider.table["radius"].tolist() == [5, 5, 5]
    assert load(atlas, labels=["p", "q", "r"]).names == ["p", "q", "r"]


def test_the_input_is_neither_changed_nor_locked() -> None:
    seeds = np.array(SEEDS)
    atlas = load(seeds)
    seeds[:] = 7
    np.testing.assert_array_equal(atlas.seeds, SEEDS)


# bad input


@pytest.mark.parametrize(
    ("seeds", "match"),
    [
        ([], "seeds: there are none"),
        ([1, 2, 3], r"seeds: .* at position 0, 1, 2; the first is 1\. Correct"),
        ([(0, 0, 0), (1, 2), (0, 0, np.nan)], r"at position 1, 2; the first is \(1, 2\)"),
        ([(0, 0, 0), ("a", 0, 0)], r"at position 1; the first is \('a', 0, 0\)"),
        (np.zeros((4, 5, 6)), r"array of shape \(4, 5, 6\), not \(seed, 3\).*make_image"),
        (np.zeros(3), r"array of shape \(3,\), not \(seed, 3\)"),
        (np.zeros((3, 2)), "not three finite numbers"),
        (np.full((1, 3), np.inf), "not three finite numbers"),
        (pd.DataFrame({"x": [1], "Y": [2]}), r"columns x, y and z in mm; z missing, found: 'x'"),
        (pd.DataFrame({"x": [1], "y": [2], "z": ["n/a"]}), "at position 0"),
    ],
)
def test_bad_seeds(seeds: Any, match: str) -> None:
    with pytest.raises(DaskroiError, match=match) as caught:
        load(seeds)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("radius", [0, -1, np.nan, np.inf])
def test_radius_must_be_positive(radius: float) -> None:
    with pytest.raises(DaskroiError, match=r"radius=.* is not a positive number of mm"):
        load(SEEDS, radius=radius)


def test_bad_parameters() -> None:
    for radius in ("8", True, [8, 8, 8]):
        with pytest.raises(DaskroiTypeError, match=r"radius=.* is not a number"):
            load(SEEDS, radius=radius)
    with pytest.raises(DaskroiError, match=r"labels: 2 names for the 3 seeds\. They go by"):
        load(SEEDS, labels=["a", "b"])
    with pytest.raises(DaskroiError, match="background_label=2 is for label images"):
        load(SEEDS, background_label=2)
