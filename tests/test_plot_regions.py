"""Plot of regions on slices: where they are in mm, left is left, backgrounds and scales."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba
from plots import make

import daskroi as dr
from daskroi import plot
from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.grid import Grid
from daskroi.image import make_image

pytestmark = pytest.mark.usefixtures("no_figures_left")

# x runs right to left; z and y are mixed by 20 degrees
ANGLE = np.deg2rad(20)
OBLIQUE = np.array(
    [
        [-2, 0, 0, 20],
        [0, 2 * np.cos(ANGLE), -3 * np.sin(ANGLE), -15],
        [0, 2 * np.sin(ANGLE), 3 * np.cos(ANGLE), -20],
        [0, 0, 0, 1],
    ]
)
STRAIGHT = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -15], [0, 0, 3, -20], [0, 0, 0, 1]])


def an_atlas(affine: np.ndarray) -> Any:
    """Three boxes; 10 is at the left, 20 at the right, 30 high up."""
    values = np.zeros((14, 16, 20), "i2")  # z, y, x
    values[3:7, 5:11, 12:18] = 10  # a high x index is a negative x
    values[3:7, 5:11, 2:8] = 20
    values[9:12, 6:9, 9:12] = 30
    grid = Grid.make(values.shape, affine)
    return dr.load_atlas(make_image(values, grid), labels=["left", "right", "top"])


def at_pixels(ax: Any, image: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of an image, and where their centres are along and up."""
    left, right, bottom, top = image.get_extent()
    array = image.get_array()
    assert image.origin == "lower"
    rows, columns = array.shape[:2]
    along = left + (np.arange(columns) + 0.5) * (right - left) / columns
    up = bottom + (np.arange(rows) + 0.5) * (top - bottom) / rows
    return array, along, up


@pytest.mark.parametrize("affine", [STRAIGHT, OBLIQUE])
def test_regions_are_where_they_are_in_mm(affine):
    atlas = an_atlas(affine)
    at = affine[:3, :3] @ [15, 8, 5] + affine[:3, 3]  # in region 10
    values = {10: 1.0, 20: 3.0}
    axes = plot.regions(atlas, values, at=at, cmap="viridis", vmin=0, vmax=4)
    colours = {i: mpl.colormaps["viridis"](v / 4) for i, v in values.items()}
    colours[30] = to_rgba("#9e9e9e")
    inverse = np.linalg.inv(affine)
    for ax, (cut, along, up) in zip(axes, [(0, 1, 2), (1, 0, 2), (2, 0, 1)], strict=True):
        (image,) = ax.images
        array, us, vs = at_pixels(ax, image)
        seen = set()
        for i in range(0, len(vs), 3):
            for j in range(0, len(us), 3):
                point = np.array(at, float)
                point[along], point[up] = us[j], vs[i]
                voxel = np.floor(inverse[:3, :3] @ point + inverse[:3, 3] + 0.5).astype(int)[::-1]
                inside = (voxel >= 0).all() and (voxel < atlas.labels.shape).all()
                label = int(atlas.labels[tuple(voxel)]) if inside else 0
                if label:
                    np.testing.assert_allclose(array[i, j], colours[label])
                    seen.add(label)
                else:
                    assert array[i, j, 3] == 0
        assert 10 in seen
        assert (20 in seen) == (cut != 0)
        assert ax.get_title() == f"{'xyz'[cut]} = {at[cut]:g} mm"
        assert (ax.get_xlabel(), ax.get_ylabel()) == (f"{'xyz'[along]} (mm)", f"{'xyz'[up]} (mm)")
        assert ax.get_aspect() == 1
        cross = [line.get_xdata()[0] for line in ax.lines if np.ptp(line.get_xdata()) == 0]
        assert cross == [at[along]]
    # the status line names what is there
    assert axes[1].format_coord(at[0], at[2]).endswith("mm  left")


def test_left_is_left_and_says_so():
    axes = plot.regions(an_atlas(STRAIGHT), [1.0, 2.0, 3.0], at=(0, 0, -5), vmin=0)
    for ax in axes[1:]:
        array, along, _ = at_pixels(ax, ax.images[0])
        one = np.isclose(array, mpl.colormaps["viridis"](1 / 3)).all(axis=-1).any(axis=0)
        assert (along[one] < 0).all()
        sides = {t.get_text(): t.get_position()[0] for t in ax.texts}
        assert sides["L"] < 0.5 < sides["R"]
        assert ax.get_xlim()[0] < ax.get_xlim()[1]
    sides = {t.get_text(): t.get_position()[0] for t in axes[0].texts}
    assert sides["P"] < 0.5 < sides["A"]


def test_background_on_another_grid():
    atlas = an_atlas(STRAIGHT)
    grid = Grid.make((12, 14, 11), np.array([[4.0, 0, 0, -20], [0, 4, 0, -25], [0, 0, 4, -22],
                                             [0, 0, 0, 1]]))  # fmt: skip
    x = grid.matrix[0, 0] * np.arange(11) + grid.matrix[0, 3]
    volume = np.broadcast_to(x + 100, grid.shape).astype("f4")
    run = make_image(np.stack([volume, volume + 2]), grid, t_r=2.0)
    axes = plot.regions(atlas, background=run, at=(0, 0, -5), alpha=0.5)
    below, above = axes[2].images
    array, along, _ = at_pixels(axes[2], below)
    nearest = x[np.abs(along[:, None] - x).argmin(axis=1)]
    np.testing.assert_allclose(array[20], nearest + 101, atol=4.01)  # the mean over time
    assert below.get_cmap().name == "gray"
    assert axes[2].get_xlim() == (-22, 22)  # of the background
    assert set(np.unique(above.get_array()[..., 3])) == {0.0, 0.5}
    lazy = make_image(run.chunk(time=1).data, grid, t_r=2.0)
    again = plot.regions(atlas, background=lazy, at=(0, 0, -5))
    np.testing.assert_allclose(again[2].images[0].get_array(), array)


def test_scales_of_values():
    atlas = an_atlas(STRAIGHT)
    signed = plot.regions(atlas, [-1.0, 4.0, np.nan])
    bar = signed[0].figure.axes[-1]
    assert bar.get_ylim() == (-4, 4)
    values = xr.DataArray([1.0, 2.0], {"region": [20, 10]}, "region", name="coverage")
    found = plot.regions(atlas, values)
    assert found[0].figure.axes[-1].get_ylabel() == "coverage"
    assert found[0].figure.axes[-1].get_ylim() == (1, 2)
    one = len(plot.regions(atlas, values, colorbar=False)[0].figure.axes)
    assert len(found[0].figure.axes) == one + 1
    assert np.isfinite(plot.regions(atlas, [np.nan] * 3)[0].figure.axes[-1].get_ylim()).all()


def test_neighbouring_regions_have_different_colours():
    axes = plot.regions(an_atlas(STRAIGHT), at=(0, 0, -5))
    array = axes[2].images[0].get_array()
    assert len(np.unique(array[array[..., 3] > 0], axis=0)) == 2
    assert len(axes[0].figure.axes) == 1


def test_regions_in_given_axes_and_mistakes():
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    atlas = an_atlas(STRAIGHT)
    axes = plot.regions(atlas, ax=right)
    figure.canvas.draw()
    assert all(ax.get_window_extent().x0 > left.get_window_extent().x1 for ax in axes)
    with pytest.raises(DaskroiError, match=r"values has shape \(2,\), and atlas atlas 3 regions"):
        plot.regions(atlas, [1.0, 2.0])
    with pytest.raises(DaskroiError, match="values is of none of the 3 regions"):
        plot.regions(atlas, {1: 2.0})
    for at in ((1, 2), "abc", [1, 2, np.nan]):
        with pytest.raises(DaskroiError, match=r"at=.* is not a point"):
            plot.regions(atlas, at=at)
    with pytest.raises(DaskroiError, match=r"values has dims \('time', 'region'\)"):
        plot.regions(atlas, make())
    with pytest.raises(DaskroiTypeError, match="A SphereAtlas has no label image"):
        plot.regions(dr.load_atlas([(0, 0, 0)], radius=5))


@pytest.mark.parametrize("values", [object(), ["a", "b", "c"]])
def test_values_that_are_no_numbers_are_refused(values: Any) -> None:
    with pytest.raises(DaskroiTypeError, match=r"values is a .*, not numbers.*goes to background="):
        plot.regions(an_atlas(STRAIGHT), values)
