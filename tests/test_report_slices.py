"""The slices of a report: every voxel in its place, and little of the image read for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import images
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import daskroi as dr
from daskroi.errors import DaskroiTypeError
from daskroi.grid import Grid
from daskroi.imagefile import watch_slabs
from daskroi.regions import RegionIndex
from daskroi.report import report
from daskroi.reportimage import positions_on, read_picture
from daskroi.reportviews import Slices, index_volume, quantised_volume


@settings(max_examples=40)
@given(
    order=st.permutations([0, 1, 2]),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    tilt=st.floats(-0.2, 0.2),
)
def test_slices_keep_every_voxel_at_its_place(
    order: list[int], signs: tuple[int, ...], tilt: float
) -> None:
    """However the file's axes run, a voxel stays at its mm, and axes run right, front and up."""
    rng = np.random.default_rng(0)
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * np.array(signs) * (2.0, 3.0, 4.0)
    affine[0, :3] += tilt * np.roll(affine[:3, :3].sum(axis=0), 1)
    grid = Grid.make((4, 5, 6), affine)
    values = rng.integers(0, 4, grid.shape)
    slices = Slices.of(values, grid, 3, values.astype(float))
    assert all(np.diag(slices.grid.matrix)[:3] > 0)
    ijk = np.argwhere(values == 2)[:, ::-1]
    ours = np.argwhere(slices.regions == 2)[:, ::-1]
    places = [
        {tuple(np.round(g.matrix @ (*v, 1), 6)[:3] + 0.0) for v in found}
        for g, found in ((grid, ijk), (slices.grid, ours))
    ]
    assert places[0] == places[1]
    assert slices.image is not None
    np.testing.assert_array_equal(slices.image > 0, slices.regions > 0)
    for r, (x, y, z) in enumerate(slices.centres):
        assert slices.regions[z, y, x] == r + 1


def test_fine_grids_are_thinned_and_regions_without_a_voxel_have_no_centre() -> None:
    grid = Grid.make((180, 200, 180), np.diag([1.0, 1, 1, 1]))
    values = np.zeros(grid.shape, np.uint16)
    values[40:90, 40:90, 40:90] = 1
    slices = Slices.of(values, grid, 2, values)
    assert slices.regions.size <= 1_200_000
    assert slices.thinned == 2
    assert slices.grid.voxel_sizes == (2.0, 2.0, 2.0)
    centre = slices.grid.matrix @ (*slices.centres[0], 1)
    np.testing.assert_allclose(centre[:3], 64.5, atol=1.5)
    assert slices.centres[1].tolist() == [-1, -1, -1]
    assert sum(slices.widths) == pytest.approx(200 + 180 + 180)


def test_volumes_in_greys() -> None:
    rng = np.random.default_rng(0)
    volume = rng.normal(1000, 100, (6, 7, 8))
    volume[0] = 0
    volume[1, 0, 0], volume[1, 0, 1], volume[2, 0, 0] = np.nan, np.inf, 1e9
    grey = quantised_volume(volume)
    assert (grey[0] == 0).all()
    assert grey[1, 0, 0] == grey[1, 0, 1] == 0
    assert grey[2, 0, 0] == 255
    assert 150 < np.median(grey[3:]) < 250
    assert (quantised_volume(np.zeros((2, 2, 2))) == 0).all()
    assert (quantised_volume(np.full((2, 2, 2), 5)) == 255).all()
    assert quantised_volume(np.array([[[-1.0, 0, 1]]])).ravel().tolist() == [0, 128, 255]


def test_soft_atlases_are_painted_by_their_strongest_map(phantom: Any) -> None:
    grid = Grid.make((1, 1, 4), np.eye(4))
    index = RegionIndex.of_rows(
        [[0, 1, 3], [1, 2, 3]], grid.shape, [[1.0, 0.4, 0.01], [0.6, 0.5, 0.05]]
    )
    assert index_volume(index).ravel().tolist() == [1, 2, 2, 0]
    spheres = dr.load_atlas([(0, 0, 0), (20, 0, 0)], radius=12)
    painted = positions_on(spheres, phantom.atlas.grid)
    assert set(np.unique(painted)) == {0, 1, 2}
    # on the image's grid, seeds have slices; without one there are none
    ts = dr.extract(phantom.image, spheres).compute()
    assert report(ts, spheres, phantom.image).slices is not None
    bare = report(ts, spheres)
    assert bare.slices is None
    assert any("There are no slices" in note for note in bare.notes)


def test_of_a_file_little_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    run = images.run(rng, (20, 20, 20, 40))
    expected = np.asarray(run.dataobj).T
    plain = images.save(run, tmp_path / "run.nii")
    gz = images.save(run, tmp_path / "run.nii.gz")
    picture = read_picture(plain)
    np.testing.assert_array_equal(picture.volume, expected[20])
    assert picture.caption == "Frame 20 of 0 to 39"
    assert (picture.n_frames, picture.t_r, picture.source) == (40, 2.0, str(plain))

    from daskroi.nifti import NiftiFile

    read: list[tuple[int, int]] = []
    of_file = NiftiFile.read

    def counted(self: NiftiFile, start: int, stop: int) -> np.ndarray:
        read.append((start, stop))
        return of_file(self, start, stop)

    monkeypatch.setattr(NiftiFile, "read", counted)
    monkeypatch.setattr("daskroi.reportimage.PREFIX_BYTES", 5 * 20**3 * 4)
    # a gzip stream: no further than the limit, however long the run
    np.testing.assert_array_equal(read_picture(gz).volume, expected[4])
    assert read == [(4, 5)]


def test_pictures_are_in_physical_values_and_of_any_kind(phantom: Any) -> None:
    values = np.arange(2 * 3 * 4, dtype="i2").reshape(2, 3, 4)
    image = nib.Nifti1Image(values, images.STRAIGHT)
    assert read_picture(image).n_frames is None
    np.testing.assert_array_equal(read_picture(image).volume, values.T)
    lazy = phantom.image.isel(x=slice(None, None, -1))
    assert read_picture(lazy).volume.shape == (12, 14, 12)
    assert read_picture(lazy).source == ""


def test_scaled_files_are_shown_in_physical_values(tmp_path: Path) -> None:
    run = images.run(np.random.default_rng(0), (4, 5, 6, 3), dtype="i2")
    run.header.set_slope_inter(2.5, 10)
    path = images.save(run, tmp_path / "run.nii.gz")
    np.testing.assert_allclose(read_picture(path).volume, nib.load(path).get_fdata()[..., 1].T)


def test_report_reads_one_volume_and_nothing_is_computed_again(
    phantom: Any, tmp_path: Path
) -> None:
    paths = dr.write_phantom(tmp_path, phantom)
    ts = dr.extract(paths["image"], phantom.atlas).compute()
    seen: list[int] = []
    with watch_slabs(seen.append):
        made = report(ts, phantom.atlas, paths["image"])
        assert made.html
    assert seen == []
    assert made.slices is not None
    assert made.slices.caption == "Frame 15 of 0 to 29"
    lazy = dr.extract(paths["image"], phantom.atlas)
    with pytest.raises(DaskroiTypeError, match=r"lazy and have no numbers yet. Call compute\(\)"):
        report(lazy, phantom.atlas)
