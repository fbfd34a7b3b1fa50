"""The grid value, against nibabel's geometry and nilearn's nearest-neighbour resampling."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from dask.tokenize import tokenize
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from images import OBLIQUE, STRAIGHT

from daskroi.errors import DaskroiError
from daskroi.grid import Grid, resample_nearest

# flips, a permutation, unequal and oblique voxels
AFFINES = {
    "straight": STRAIGHT,
    "oblique": OBLIQUE,
    "flipped": np.array([[-2.0, 0, 0, 8], [0, 2, 0, -6], [0, 0, 3, -4], [0, 0, 0, 1]]),
    "permuted": np.array([[0, 0, 2.5, -5], [-2.0, 0, 0, 7], [0, 1.5, 0, -3], [0, 0, 0, 1]]),
}
affines = st.sampled_from(sorted(AFFINES))


def nilearn_nearest(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """`values` and result are (z, y, x)."""
    from nilearn.image import resample_img

    image = nib.Nifti1Image(values.T, source.matrix, dtype=values.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = resample_img(
            image,
            target_affine=target.matrix,
            target_shape=target.shape[::-1],
            interpolation="nearest",
            force_resample=True,
            copy_header=True,
        )
        return np.asarray(out.dataobj).T


@st.composite
def grid_pairs(draw: st.DrawFn) -> tuple[Grid, Grid]:
    """Two grids that may overlap; shifts by half voxels are likely, so that ties are."""
    shapes = st.tuples(*[st.integers(2, 7)] * 3)
    source = Grid.make(draw(shapes), AFFINES[draw(affines)])
    other = AFFINES[draw(affines)].copy()
    if draw(st.booleans()):
        other = source.matrix  # same axes: the separable path
    zoom = draw(st.sampled_from([0.5, 1.0, 1.5, 2.0]))
    other[:3, :3] *= zoom
    shift = draw(st.tuples(*[st.sampled_from([-1.5, -1, -0.5, 0, 0.25, 0.5, 1, 1.7])] * 3))
    other[:3, 3] = source.matrix[:3, 3] + source.matrix[:3, :3] @ shift
    return source, Grid.make(draw(shapes), other)


@settings(max_examples=100)
@given(grid_pairs(), st.sampled_from(["i4", "i2", "u1", "f4", "f8", "u2"]), st.integers(0, 2**32))
def test_resample_nearest_is_nilearns_bit_for_bit(
    grids: tuple[Grid, Grid], dtype: str, seed: int
) -> None:
    from nilearn.image.resampling import BoundingBoxError

    source, target = grids
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        values = rng.integers(-50, 50, source.shape).astype(kind)
    else:
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        # few values, the extreme ones and negative ids among them
        values = rng.choice(np.array([low, low + 1, 0, 1, 7, high - 1, high]), source.shape)
        values = values.astype(kind)
    try:
        expected = nilearn_nearest(values, source, target)
    except BoundingBoxError:
        assume(False)
    found = resample_nearest(values, source, target)
    assert found.dtype == kind
    assert found.shape == target.shape
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


def test_same_affine_other_shape_keeps_the_edge() -> None:
    # inv(affine) @ affine has entries such as -1e-17: scipy would call the first voxel outside
    affine = OBLIQUE * 1.1
    affine[3, 3] = 1
    source, target = Grid.make((4, 5, 6), affine), Grid.make((5, 6, 7), affine)
    values = np.arange(1, 121, dtype="i4").reshape(source.shape)
    found = resample_nearest(values, source, target)
    np.testing.assert_array_equal(found[:4, :5, :6], values)
    assert not found[4:].any()
    assert not found[:, 5:].any()
    assert not found[:, :, 6:].any()


def test_resample_nearest_fill_and_byte_order() -> None:
    source, target = Grid.make((2, 2, 2), np.eye(4)), Grid.make((3, 2, 2), np.eye(4))
    values = np.arange(8, dtype=">i2").reshape(2, 2, 2)
    found = resample_nearest(values, source, target, fill=-1)
    np.testing.assert_array_equal(found[:2], values)
    assert (found[2] == -1).all()
    assert found.dtype.isnative
    assert resample_nearest(values, source, source) is values


# the value


@settings(max_examples=60)
@given(
    affines,
    # explicit and in range: nibabel 5.4 misplaces [::-1] and slices that start outside
    st.tuples(*[st.tuples(st.integers(0, 3), st.integers(4, 6), st.integers(1, 4))] * 3),
    st.tuples(*[st.booleans()] * 3),
)
@example("oblique", ((0, 5, 1), (2, 5, 2), (0, 6, 3)), (True, False, True))
def test_sub_is_nibabels_slicer(name: str, cuts: Any, flips: Any) -> None:
    shape = (5, 6, 7)
    slices = tuple(
        slice(min(b, n) - 1, a - 1 if a else None, -c) if flip else slice(a, b, c)
        for (a, b, c), flip, n in zip(cuts, flips, shape, strict=True)
    )
    left = tuple(range(n)[s] for n, s in zip(shape, slices, strict=True))
    grid = Grid.make(shape, AFFINES[name])
    found = grid.sub([r[0] for r in left], [r.step for r in left], [len(r) for r in left])
    image = nib.Nifti1Image(np.zeros(shape[::-1], "u1"), AFFINES[name])
    expected = image.slicer[slices[::-1]]
    assert found.shape == expected.shape[::-1]
    np.testing.assert_allclose(found.matrix, expected.affine, atol=1e-12)


@pytest.mark.parametrize("name", AFFINES)
def test_sizes_are_nibabels(name: str) -> None:
    from nibabel.affines import voxel_sizes

    grid = Grid.make((4, 5, 6), AFFINES[name])
    np.testing.assert_allclose(grid.voxel_sizes, voxel_sizes(AFFINES[name]), rtol=1e-14)
    assert grid.voxel_volume == pytest.approx(abs(np.linalg.det(AFFINES[name])), rel=1e-12)
    assert grid.size == 120


@pytest.mark.parametrize("size", [1.0, 2.0, 3.0, 2.5, 0.75])
def test_volume_of_straight_voxels_is_exact(size: float) -> None:
    assert Grid.make((1, 1, 1), np.diag([-size, size, size, 1])).voxel_volume == size**3


@pytest.mark.parametrize("name", AFFINES)
def test_keeps_the_affine(name: str) -> None:
    grid = Grid.make((4, 5, 6), AFFINES[name])
    np.testing.assert_array_equal(grid.matrix, AFFINES[name])


def test_is_a_value() -> None:
    grid = Grid.make((4, 5, 6), OBLIQUE)
    same = Grid.make(np.array([4, 5, 6]), OBLIQUE.tolist())
    assert grid == same
    assert hash(grid) == hash(same)
    assert tokenize(grid) == tokenize(same) == tokenize(pickle.loads(pickle.dumps(grid)))
    other = Grid.make((4, 5, 6), OBLIQUE + np.eye(4, k=3) * 1e-9)
    assert other != grid
    assert tokenize(other) != tokenize(grid)
    assert other.same_as(grid)
    grid.matrix[:] = 0  # a copy: the value cannot be changed
    assert grid == same


@pytest.mark.parametrize(("shift", "same"), [(0, True), (1e-9, True), (1e-3, False), (1, False)])
def test_same_as_is_nilearns_rule(shift: float, same: bool) -> None:
    from nilearn.image.image import check_same_fov

    moved = OBLIQUE + np.eye(4, k=3) * shift
    images = [nib.Nifti1Image(np.zeros((6, 5, 4), "u1"), a) for a in (OBLIQUE, moved)]
    assert check_same_fov(*images) == same
    assert Grid.make((4, 5, 6), OBLIQUE).same_as(Grid.make((4, 5, 6), moved)) == same
    assert not Grid.make((4, 5, 6), OBLIQUE).same_as(Grid.make((4, 6, 5), moved))


def test_describe() -> None:
    assert Grid.make((4, 5, 6), AFFINES["flipped"]).describe() == (
        "6 x 5 x 4 voxels of 2 x 2 x 3 mm, origin (8, -6, -4) mm"
    )


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.eye(3), r"bold\.nii: the affine has shape \(3, 3\), not \(4, 4\)\. Give"),
        (np.diag([2.0, np.nan, 2, 1]), r"bold\.nii: the affine has non-finite .* Repair sform"),
        (np.diag([2.0, np.inf, 2, 1]), "non-finite"),
        (np.diag([2.0, 0, 2, 1]), r"bold\.nii: the affine is singular \(voxel sizes \[2.0, 0.0"),
        (np.zeros((4, 4)), "singular"),
        (np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
        (OBLIQUE.T, r"translations in its last row, \[-9.0, -11.0, -8.0, 1.0\]\. Transpose"),
    ],
)
def test_bad_affines(affine: np.ndarray, message: str) -> None:
    with pytest.raises(DaskroiError, match=message):
        Grid.make((4, 5, 6), affine, "bold.nii")


def test_tiny_voxels_are_fine() -> None:
    # singular is relative: 10 nm voxels have a determinant of 1e-15
    grid = Grid.make((4, 5, 6), np.diag([1e-5, 1e-5, 1e-5, 1]))
    assert grid.voxel_volume == pytest.approx(1e-15)
