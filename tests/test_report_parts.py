"""What a report is made of: numbers as they are, slices in their place, and little read for it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import daskroi as dr
from daskroi.errors import DaskroiError, DaskroiTypeError, DaskroiWarning
from daskroi.grid import Grid
from daskroi.imagefile import watch_slabs
from daskroi.maskerreport import report_of
from daskroi.regions import RegionIndex
from daskroi.report import colors_of, report
from daskroi.reportdata import (
    confounding_of,
    correlations,
    packed_correlations,
    region_moments,
    series_of,
)
from daskroi.reportframes import FrameAxis, Quantised, frame_axis
from daskroi.reportimage import positions_on, read_picture
from daskroi.reportregions import region_warnings
from daskroi.reportviews import Slices, index_volume, quantised_volume

ROWS = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.floats(-1e6, 1e6) | st.just(np.nan) | st.just(np.inf),
)


@pytest.fixture(scope="module")
def phantom() -> Any:
    return dr.make_phantom((12, 14, 12), n_time=30, n_regions=6)


def frames(n: int) -> FrameAxis:
    return FrameAxis(np.arange(n) * 2.0, np.arange(n), "s", 2.0)


# ---- numbers ----


@given(ROWS)
def test_quantised_rows_come_back_to_half_a_step(rows: np.ndarray) -> None:
    packed = Quantised.of(rows)
    back = packed.values()
    finite = np.isfinite(rows)
    np.testing.assert_array_equal(np.isfinite(back), finite)
    error = np.abs(np.where(finite, back - np.where(finite, rows, 0), 0))
    assert (error <= packed.step[:, None] / 2 + 1e-9 * np.abs(packed.low[:, None])).all()


@given(ROWS)
def test_correlations_are_numpys_and_nan_poisons_no_others(values: np.ndarray) -> None:
    found = correlations(values)
    good = np.isfinite(values).all(axis=0)
    with np.errstate(all="ignore"):
        flat = values.std(axis=0) <= 1e-9 * np.abs(values).max(axis=0, initial=0)
    bad = ~good | flat
    assert np.isnan(found[bad & ~good]).all()
    if len(values) > 2 and (~bad).sum() > 1:
        with np.errstate(all="ignore"):
            expected = np.corrcoef(values[:, ~bad].T)
        np.testing.assert_allclose(found[np.ix_(~bad, ~bad)], expected, atol=1e-6)
    codes = packed_correlations(found)
    lower = found[np.tril_indices(len(found), -1)]
    np.testing.assert_array_equal(codes == -32768, np.isnan(lower))
    np.testing.assert_allclose(codes[codes != -32768] / 1e4, lower[~np.isnan(lower)], atol=5.1e-5)


@cache
def run_of(t_r: float) -> Any:
    return dr.make_phantom((8, 9, 8), n_time=20, n_regions=3, t_r=t_r)


@settings(max_examples=30)
@given(st.sets(st.integers(0, 19), min_size=1), st.sampled_from([0.5, 0.8, 2.2]))
def test_frames_are_found_by_their_times(kept: set[int], t_r: float) -> None:
    run = run_of(t_r)
    ts = dr.extract(run.image, run.atlas, sample_mask=sorted(kept))
    axis = frame_axis(ts, 20)
    assert axis.kept.tolist() == sorted(kept)
    assert len(axis.times) == 20
    np.testing.assert_allclose(axis.times, np.arange(20) * t_r)
    spread = axis.spread(np.arange(len(kept))[None].astype(float))
    assert np.flatnonzero(np.isfinite(spread[0])).tolist() == sorted(kept)


def test_frames_without_a_repetition_time_are_counted() -> None:
    ts = xr.DataArray(
        np.zeros((3, 1)), {"time": ("time", [0, 2, 5], {"units": "frame"})}, ("time", "region")
    )
    axis = frame_axis(ts, 7)
    assert axis.unit == "frame"
    assert axis.censored.tolist() == [1, 3, 4, 6]
    uneven = ts.assign_coords(time=("time", [0.0, 1.3, 7.0], {"units": "s"}))
    assert frame_axis(uneven).times.tolist() == [0.0, 1.3, 7.0]
    assert len(frame_axis(uneven).censored) == 0
    assert frame_axis(ts.drop_vars("time")).kept.tolist() == [0, 1, 2]
    with pytest.raises(DaskroiError, match=r"has frame 5 .* n_frames=4.*before censoring"):
        frame_axis(ts, 4)


def test_moments_of_regions(phantom: Any) -> None:
    ts = dr.extract(phantom.image, phantom.atlas).compute()
    mean, tsnr = region_moments(ts)
    np.testing.assert_allclose(mean, ts.mean("time"), rtol=1e-6)
    np.testing.assert_allclose(tsnr, ts.mean("time") / ts.std("time", ddof=1), rtol=1e-5)
    constant = xr.DataArray(np.full((4, 2), [7.1, np.nan]), dims=("time", "region"))
    mean, tsnr = region_moments(constant)
    assert mean[0] == 7.1
    assert np.isnan([mean[1], *tsnr]).all()


def test_confounds_that_people_look_at_come_first() -> None:
    rng = np.random.default_rng(0)
    names = [f"other_{i:02}" for i in range(40)] + ["rot_z", "framewise_displacement", "csf"]
    table = pd.DataFrame(rng.normal(size=(5, len(names))), columns=names)
    table.loc[0, "framewise_displacement"] = np.nan
    table["text"] = "no number"
    found = confounding_of(table, frames(5), used=["other_31"])
    assert found.names[:4] == ["framewise_displacement", "csf", "rot_z", "other_31"]
    assert len(found.names) == 24
    assert found.hidden == len(names) - 24
    assert found.displacement is not None
    np.testing.assert_array_equal(found.displacement, table["framewise_displacement"])
    np.testing.assert_allclose(found.rows.values()[1], table["csf"], atol=1e-4)
    # of kept frames only: spread over all
    axis = FrameAxis(np.arange(7.0), np.array([0, 1, 2, 4, 6]), "frame", None)
    assert np.flatnonzero(confounding_of(table, axis).rows.codes[1] == 0).tolist() == [3, 5]
    with pytest.raises(DaskroiError, match="confounds has 5 rows and the run 9 frames"):
        confounding_of(table, frames(9))


def test_what_is_wrong_with_regions_is_said() -> None:
    ids, names = np.arange(1, 7), list("abcdef")
    coverage = np.array([1.0, 0.0, 0.3, np.nan, 1.0, 1.0])
    series = np.tile(np.arange(4.0)[:, None], (1, 6))
    series[:, 1] = np.nan
    series[:, 4] = np.nan
    series[2, 5] = np.nan
    series[:, 0] = 3
    assert region_warnings(ids, names, coverage, series) == [
        "2 of 6 regions have no voxel in the image and mask: 2 b, 4 d.",
        "1 of 6 regions is covered less than 50%: 3 c.",
        "1 of 6 regions has no series though covered: 5 e.",
        "1 of 6 regions has frames without a value: 6 f.",
        "1 of 6 regions is constant: 1 a.",
    ]
    assert (
        region_warnings(ids, names, np.ones(6), np.random.default_rng(0).normal(size=(4, 6))) == []
    )


# ---- slices ----


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


# ---- the picture ----


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


# ---- the whole ----


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


def test_table_facts_and_parameters(phantom: Any) -> None:
    raw = dr.extract(phantom.image, phantom.atlas)
    kept = np.arange(30) > 2
    ts = dr.extract(
        phantom.image,
        phantom.atlas,
        confounds=phantom.confounds,
        columns=["trans_?"],
        sample_mask=kept,
        standardize="zscore_sample",
    )
    made = report(ts.compute(), phantom.atlas, phantom.image, confounds=phantom.confounds)
    table = phantom.atlas.table
    assert made.regions is not None
    assert made.details is not None
    assert made.regions["label value"].tolist() == table["index"].tolist()
    assert made.regions["size (in mm^3)"].tolist() == [round(s) for s in table["size_mm3"]]
    assert made.regions["relative size (in %)"].tolist() == table["relative_size_percent"].tolist()
    assert made.details["n_voxels"].tolist() == ts["n_voxels"].values.tolist()
    # z-scores do not tell the mean
    assert list(made.details) == ["n_voxels", "coverage"]
    assert any("Mean and tSNR are not known" in note for note in made.notes)
    assert made.facts["frames"] == "27 of 30"
    assert made.facts["repetition time"] == "2 s"
    assert "mean FD" in made.facts
    assert made.parameters["standardize"] == "zscore_sample"
    assert made.parameters["confounds"] == "trans_x, trans_y, trans_z"
    assert made.provenance["atlas hash"] == phantom.atlas.hash
    assert made.series is not None
    assert made.series.unit == "z-score"

    made = report(ts.compute(), phantom.atlas, raw=raw.compute())
    assert made.details is not None
    np.testing.assert_allclose(made.details["mean"], raw.mean("time"), rtol=1e-3)
    np.testing.assert_allclose(
        made.details["tSNR"], raw.mean("time") / raw.std("time", ddof=1), rtol=1e-3
    )
    assert "No image was given: the slices show the atlas alone." in made.notes


def test_regions_are_joined_by_id(phantom: Any) -> None:
    """Series of some regions, in any order: every row still has its own numbers."""
    ts = dr.extract(phantom.image, phantom.atlas).compute()
    some = ts.isel(region=[4, 0, 2])
    made = report(some, phantom.atlas)
    assert made.series is not None
    rows = made.series.rows.values()
    ids = phantom.atlas.ids.tolist()
    for i, region in enumerate(ids):
        if region in some["region"].values:
            expected = ts.sel(region=region).values
            np.testing.assert_allclose(rows[i], expected, atol=np.ptp(expected) / 6e4)
        else:
            assert np.isnan(rows[i]).all()
    with pytest.raises(DaskroiError, match="regions 77, which Phantom does not have"):
        report(some.assign_coords(region=[77, 1, 2]), phantom.atlas)


def test_without_an_atlas_or_coordinates() -> None:
    values = np.random.default_rng(0).normal(size=(9, 3))
    made = report(xr.DataArray(values, dims=("time", "region")))
    assert made.regions is not None
    assert made.regions["region name"].tolist() == ["0", "1", "2"]
    assert any("repetition time is not known" in text for text in made.warnings)
    assert "n/a" in made.html
    one = report(xr.DataArray(values[0], dims=("region",)))
    assert one.series is not None
    assert one.series.matrix is None
    for bad in (
        values,
        xr.DataArray(values),
        xr.DataArray(values[None], dims=("run", "time", "region")),
    ):
        with pytest.raises(DaskroiTypeError, match=r"eries (are|have)"):
            report(bad)  # type: ignore[arg-type]
    with pytest.raises(DaskroiError, match="Give ts or atlas"):
        report()


def test_doubts_about_template_and_repetition_time(phantom: Any, tmp_path: Path) -> None:
    ts = dr.extract(phantom.image, phantom.atlas, t_r=2.0).compute()
    path = tmp_path / "sub-1_space-MNI152NLin2009cAsym_bold.nii.gz"
    image = nib.Nifti1Image(np.asarray(phantom.image).T, phantom.atlas.grid.matrix)
    image.header.set_zooms((*image.header.get_zooms()[:3], 0.72))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    atlas = replace(phantom.atlas, template="MNI152NLin6Asym")
    made = report(ts, atlas, path)
    assert any("repetition time of 2 s, the image says 0.72 s" in t for t in made.warnings)
    assert any("in MNI152NLin2009cAsym but" in text for text in made.warnings)
    assert made.title == f"{path.name}, Phantom"
    few = ts.isel(time=[0, 20, 29])
    assert any("More than half" in text for text in report(few, phantom.atlas).warnings)


def test_colours_of_the_label_table_and_nothing_else_in_styles() -> None:
    def atlas(**columns: Any) -> Any:
        lut = pd.DataFrame({"index": [1, 2], "name": ["a", "b"], **columns})
        return dr.load_atlas([(0, 0, 0), (9, 0, 0)], lut=lut)

    assert colors_of(atlas(color=["#FF0000", "00ff0080"])) == ["#ff0000", "#00ff00"]
    assert colors_of(atlas(R=[1, 255], G=[2, 0], B=[3, 16])) == ["#010203", "#ff0010"]
    own = colors_of(atlas())
    assert colors_of(atlas(color=["#ff0000", "red;} body {display: none"])) == own
    assert colors_of(atlas(R=[1, 256], G=[2, 0], B=[3, 16])) == own


@pytest.mark.parametrize("kind", ["frame", "array", "confounds", "file"])
def test_confounds_of_every_kind(kind: str, phantom: Any, tmp_path: Path) -> None:
    ts = dr.extract(phantom.image, phantom.atlas).compute()
    table = phantom.confounds
    path = tmp_path / "x_desc-confounds_timeseries.tsv"
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    given = {
        "frame": table,
        "array": table.to_numpy(),
        "file": path,
        "confounds": dr.load_confounds(path, columns="csf", n_dummy=0),
    }[kind]
    made = report(ts, confounds=given)
    assert made.confounding is not None
    names = made.confounding.names
    assert {"array": "confound 0", "confounds": "csf"}.get(kind, "framewise_displacement") in names
    assert (made.confounding.displacement is not None) == (kind in ("frame", "file"))


def test_masker_report_with_image_and_signals(phantom: Any, tmp_path: Path) -> None:
    paths = dr.write_phantom(tmp_path, phantom)
    masker = dr.NiftiLabelsMasker(phantom.atlas).fit(paths["image"])
    signals = masker.transform(paths["image"])
    shown = dr.open_image(paths["image"])

    def made(**more: Any) -> Any:
        return report_of(
            "NiftiLabelsMasker", masker.get_params(), masker._fitted, "run", None, **more
        )

    page = made(shown=shown)
    assert page.slices.image is not None
    assert list(page.details) == ["n_voxels", "coverage"]
    assert page.series is None
    page = made(shown=shown, signals=signals.compute(), confounds=phantom.confounds)
    np.testing.assert_allclose(page.details["mean"], signals.mean("time"), rtol=1e-3)
    assert page.confounding.displacement is not None
    # what nilearn's users have: arrays, and DataFrames of set_output
    for other in (signals.values, signals.to_pandas().set_axis(signals.region_name.values, axis=1)):
        np.testing.assert_array_equal(made(signals=other).series.rows.codes, page.series.rows.codes)
    with pytest.raises(DaskroiTypeError, match="compute"):
        made(signals=signals)
    # the file is gone: the report is not
    paths["image"].unlink()
    page = made(shown=shown)
    assert page.slices.image is None
    assert any("cannot be shown" in note for note in page.notes)


def test_series_say_their_unit(phantom: Any) -> None:
    units = {
        None: "Signal (units of the image)",
        "psc": "Signal change (%)",
        "zscore_sample": "z-score",
    }
    for standardize, unit in units.items():
        ts = dr.extract(phantom.image, phantom.atlas, standardize=standardize).compute()
        assert series_of(ts).unit == unit
    ts = dr.extract(phantom.image, phantom.atlas).compute()
    ts.attrs["recipe"] = "[not json"
    assert series_of(ts).unit == units[None]
    ts.attrs["recipe"] = json.dumps([1])
    assert series_of(ts).unit == units[None]


@pytest.mark.parametrize("axis", ["time", "region"])
def test_series_of_nothing_are_no_report(phantom: Any, axis: str) -> None:
    ts = dr.extract(phantom.image, phantom.atlas).compute().isel({axis: slice(0, 0)})
    for atlas in (None, phantom.atlas):
        with pytest.raises(DaskroiError, match="nothing to report"):
            report(ts, atlas)


def test_a_cutoff_without_a_filter_leaves_the_mean(phantom: Any) -> None:
    with pytest.warns(DaskroiWarning, match="are ignored"):
        ts = dr.extract(phantom.image, phantom.atlas, filter=False, high_pass=0.01)
    assert "mean" in report(ts.compute(), phantom.atlas).details


def test_the_template_of_maps_is_said(phantom: Any) -> None:
    grid = dr.grid_of(phantom.image)
    maps = np.random.default_rng(0).random((*grid.shape[::-1], 2))
    atlas = dr.load_atlas(nib.Nifti1Image(maps, grid.matrix), labels=["a", "b"])
    atlas = replace(atlas, template="MNI152NLin6Asym")
    assert report(None, atlas).provenance["template of the atlas"] == "MNI152NLin6Asym"
