"""Geometry and TR on a DataArray, through what users do to it; geometry against nibabel."""

from __future__ import annotations

import pickle
from typing import Any

import dask.array as da
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from images import OBLIQUE, STRAIGHT

from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.grid import Grid
from daskroi.image import as_dims, grid_of, make_image, repetition_of, time_coordinate
from daskroi.repetition import RepetitionTime

SHAPE = (5, 6, 7)
GRID = Grid.make(SHAPE, OBLIQUE)


def image(n_time: int = 8, t_r: float | None = 0.72, grid: Grid = GRID) -> xr.DataArray:
    values = np.arange(n_time * grid.size, dtype="f4").reshape(n_time, *grid.shape)
    return make_image(values, grid, t_r=t_r, attrs={"source": "x"})


def world(found: xr.DataArray) -> dict[float, tuple[float, ...]]:
    """Where each voxel is, by its value, which is unique: the truth that geometry must keep."""
    grid = grid_of(found)
    frame = found.isel(time=0).transpose("z", "y", "x").values
    zyx = np.indices(grid.shape).reshape(3, -1)
    mm = grid.matrix[:3, :3] @ zyx[::-1] + grid.matrix[:3, 3:]
    return {float(v): tuple(p) for v, p in zip(frame.ravel(), mm.T.round(9).tolist(), strict=True)}


# geometry


@settings(max_examples=60)
@given(
    # explicit and in range: nibabel 5.4 misplaces [::-1] and slices that start outside
    st.tuples(*[st.tuples(st.integers(0, 1), st.integers(4, 6), st.integers(1, 2))] * 3),
    st.tuples(*[st.booleans()] * 3),
)
def test_slices_and_flips_are_nibabels(cuts: Any, flips: Any) -> None:
    cut, reference = image(), nib.Nifti1Image(image().values.T, OBLIQUE)
    for dim, (start, stop, step), flip in zip("zyx", cuts, flips, strict=True):
        piece = slice(start, stop, step)
        if flip:
            piece = slice(min(stop, cut.sizes[dim]) - 1, start - 1 if start else None, -step)
        cut = cut.isel({dim: piece})
        reference = reference.slicer[tuple(piece if d == dim else slice(None) for d in "xyz")]
    np.testing.assert_array_equal(cut.values.T, np.asarray(reference.dataobj))
    np.testing.assert_allclose(grid_of(cut).matrix, reference.affine, atol=1e-12)
    assert grid_of(cut).shape == reference.shape[2::-1]


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.transpose("x", "time", "z", "y"),
        lambda a: a.isel(x=slice(1, 5, 2)),
        lambda a: a.isel(z=[3]),
        lambda a: a.isel(y=[5, 3, 1]),
        lambda a: a.isel(time=slice(2, None, 3)),
        lambda a: a.sel(x=slice(2, 5)),
        lambda a: a.sortby("x", ascending=False),
        lambda a: xr.concat([a.isel(x=slice(0, 3)), a.isel(x=slice(3, 7))], "x"),
        lambda a: xr.concat([a, a], "time"),
        lambda a: a.chunk({"time": 3, "x": 2}),
        lambda a: a.astype("f8").copy(),
        lambda a: pickle.loads(pickle.dumps(a)),
        lambda a: a.isel(x=slice(None, None, -1)).isel(x=slice(None, None, 2)),
    ],
)
def test_voxels_keep_their_place(change: Any) -> None:
    everywhere = world(image())
    found = world(change(image()))
    start = min(found) // GRID.size * GRID.size  # the first frame that is left
    assert found
    assert {v - start: p for v, p in found.items()}.items() <= everywhere.items()


@pytest.mark.parametrize(
    "change",
    [
        lambda a: 2 * a + 1,
        lambda a: a - a.mean("time"),
        lambda a: np.log1p(a),
        lambda a: a.where(a > 3),
        lambda a: a.rolling(time=3, center=True).mean(),
        lambda a: a.mean("time").expand_dims(time=[0.0]),
        lambda a: -a.isel(time=slice(1, None)) / a.std(),
    ],
)
def test_arithmetic_keeps_the_grid(change: Any) -> None:
    assert grid_of(change(image())) == GRID


def test_a_single_voxel_keeps_its_size() -> None:
    grid = grid_of(image().isel(x=slice(2, 3, 3), y=[4]))
    assert grid == GRID.sub((0, 4, 2), (1, 1, 1), (5, 1, 1))


def test_coarsened_voxels_lie_in_the_middle() -> None:
    grid = grid_of(image().isel(z=slice(0, 4)).coarsen(z=2, x=7).mean())
    assert grid.shape == (2, 6, 1)
    middle = OBLIQUE @ [3, 0, 0.5, 1]
    np.testing.assert_allclose(grid.matrix[:3, 3], middle[:3])


def test_survives_netcdf(tmp_path: Any) -> None:
    path = tmp_path / "image.nc"
    image().isel(x=slice(None, None, -2)).to_netcdf(path)
    with xr.open_dataarray(path) as back:
        assert grid_of(back) == grid_of(image().isel(x=slice(None, None, -2)))
        assert repetition_of(back).seconds == 0.72


OTHER = Grid.make(SHAPE, STRAIGHT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.isel(x=2), r"x missing\)\. Select with a slice"),
        (lambda a: a.rename(z="slice"), r"z missing"),
        (lambda a: a.isel(x=[0, 1, 3]), "'x' are not evenly spaced.* Select with a slice"),
        (lambda a: a.isel(y=[1, 1]), "'y' are not evenly spaced"),
        (lambda a: a.isel(z=[]), "no voxel left along 'z'. Check the selection"),
        (lambda a: a.drop_vars("y"), "lost its 'y' voxel coordinate.*make_image"),
        (lambda a: a.drop_vars("affine"), "no 'affine' coordinate.*make_image"),
        (lambda a: a + image(grid=OTHER), "no 'affine' coordinate.*different grids"),
        (
            lambda a: a.chunk(time=2).map_blocks(lambda b: b + 1, template=a.chunk(time=2)),
            r"coordinate is lazy, as xarray.map_blocks .*assign_coords\(affine=image.affine\)",
        ),
        (lambda a: a.assign_coords(affine="oops"), "does not hold one affine.*make_image"),
        (lambda a: a.assign_coords(affine=3.0), "does not hold one affine"),
        (lambda a: a.assign_coords(affine="[[1, 2], [3, 4]]"), r"shape \(2, 2\), not \(4, 4\)"),
        (
            lambda a: xr.concat(
                [a, image(grid=OTHER)], "time", coords="different", compat="equals"
            ),
            "does not hold one affine: images on different grids were joined",
        ),
    ],
)
def test_lost_geometry(change: Any, message: str) -> None:
    with pytest.raises(DaskroiError, match=message):
        grid_of(change(image()))


# making one


def test_make_image() -> None:
    found = make_image(da.zeros((8, *SHAPE), chunks=2), GRID, t_r=2.0, name="bold", attrs={"a": 1})
    assert isinstance(found.data, da.Array)
    assert found.dims == ("time", "z", "y", "x")
    assert (found.name, found.attrs) == ("bold", {"a": 1})
    np.testing.assert_array_equal(found.time, np.arange(8) * 2.0)
    assert found.time.attrs["units"] == "s"
    assert make_image(da.zeros((8, *SHAPE)), GRID).name is None
    volume = make_image(np.zeros(SHAPE), GRID)
    assert volume.dims == ("z", "y", "x")
    assert "time" not in volume.coords


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((6, 7), r"3 or 4 dimensions, \(time, z, y, x\); this array has 2"),
        ((2, 3, *SHAPE), "this array has 5"),
        ((8, *SHAPE[::-1]), r"shape \(z, y, x\) = \(7, 6, 5\) but its grid \(5, 6, 7\)"),
    ],
)
def test_make_image_refuses(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DaskroiError, match=message):
        make_image(np.zeros(shape), GRID)


def test_as_dims() -> None:
    a = image()
    assert as_dims(a.transpose("y", "x", "time", "z")).identical(a)
    assert as_dims(a.isel(time=0).transpose("x", "y", "z")).dims == ("z", "y", "x")
    with pytest.raises(DaskroiError, match=r"has dims .*Select along 'echo' first"):
        as_dims(a.expand_dims(echo=2))
    with pytest.raises(DaskroiTypeError, match=r"dtype complex64.*magnitude"):
        as_dims(a.astype("c8"))


# time


@pytest.mark.parametrize("t_r", [0.72, 2.0, 0.8, 1.49, 2.53, 0.1, 3.000001])
def test_t_r_comes_back_exactly(t_r: float) -> None:
    assert repetition_of(image(1200, t_r, Grid.make((1, 1, 1), np.eye(4)))) == RepetitionTime(
        t_r, "argument"
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: a.isel(time=slice(None, None, 2)), 1.44),
        (lambda a: a.isel(time=slice(3, None)), 0.72),
        (lambda a: a.isel(time=[4]), 0.72),
        (lambda a: a.isel(time=4), 0.72),
        (lambda a: a * 2 - a.mean("time"), 0.72),
        (lambda a: a.isel(time=[0, 1, 3]), None),
        (lambda a: a.isel(time=slice(None, None, -1)), None),
        (lambda a: xr.concat([a, a], "time"), None),
        (lambda a: a.assign_coords(time=a.time.values), None),
        (lambda a: a.drop_vars("time"), None),
        (lambda a: a.isel(time=0, drop=True), None),
        (lambda a: a.assign_coords(time=a.time * np.nan), None),
        (lambda a: a.assign_coords(time=("time", a.time.values * 2, {"units": "s"})), 1.44),
    ],
)
def test_t_r_after_changes(change: Any, expected: float | None) -> None:
    found = repetition_of(change(image()))
    assert found.seconds == (None if expected is None else pytest.approx(expected, rel=1e-12))
    assert bool(found.source) == (expected is not None)


def test_unknown_t_r_counts_frames() -> None:
    a = image(t_r=None)
    assert a.time.attrs == {"units": "frame"}
    np.testing.assert_array_equal(a.time, np.arange(8))
    assert repetition_of(a) == RepetitionTime()


def test_time_coordinate_says_where_from() -> None:
    _, times, attrs = time_coordinate(3, RepetitionTime(1.5, "header"))
    assert times.tolist() == [0, 1.5, 3]
    assert attrs == {"units": "s", "t_r": 1.5, "t_r_source": "header"}
