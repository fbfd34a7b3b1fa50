"""What a report makes of what it is given: tables, facts, doubts, colours, no report at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import daskroi as dr
from daskroi.errors import DaskroiError, DaskroiTypeError, DaskroiWarning
from daskroi.maskerreport import report_of
from daskroi.report import colors_of, report


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
    # of the others, the series say nothing: that is not to say that they have no voxel
    left = sorted(set(ids) - set(some["region"].values.tolist()))
    assert len(made.warnings) == 1
    assert made.warnings[0].startswith(f"{len(left)} of {len(ids)} regions are not in the series: ")
    assert made.facts["lowest coverage"] == "1.00"
    for row in made.region_rows():
        assert (row[4:] == ["n/a"] * 4) == (row[0] in left)
        n = "n/a" if row[0] in left else int(some.n_voxels.sel(region=row[0]))
        assert str(row[4]) == str(n)  # of a whole number, no decimals are shown
    with pytest.raises(DaskroiError, match="regions 77, which Phantom does not have"):
        report(some.assign_coords(region=[77, 1, 2]), phantom.atlas)


def test_uncleaned_series_are_joined_by_id_too(phantom: Any) -> None:
    raw = dr.extract(phantom.image, phantom.atlas).compute()
    clean = dr.clean(raw, standardize="zscore_sample").compute()
    for ts in (clean, clean.isel(region=[2, 0])):
        for given in (raw, raw[:, ::-1]):
            made = report(ts, raw=given)
            assert made.details is not None
            expected = raw.mean("time").sel(region=ts.region)
            np.testing.assert_allclose(made.details["mean"], expected, rtol=1e-3)
    made = report(clean, raw=raw[:, 1:])
    assert made.details is not None
    assert made.details["mean"].isna().tolist() == [True] + [False] * (raw.shape[1] - 1)


def test_regions_that_are_no_ids_are_refused(phantom: Any) -> None:
    ts = dr.extract(phantom.image, phantom.atlas).compute()
    masker = dr.NiftiLabelsMasker(phantom.atlas).fit(phantom.image)
    ids = phantom.atlas.ids
    for region, says in (
        (ts.region_name.values, "regions '.* in the coordinate region_name"),
        (np.r_[ids[:1], ids[:-1]], f"more than once: {ids[0]}"),
        (ids + 0.5, "whole numbers"),
    ):
        odd = ts.assign_coords(region=region)
        for atlas in (None, phantom.atlas):
            with pytest.raises(DaskroiTypeError, match=says):
                report(odd, atlas)
        with pytest.raises(DaskroiTypeError, match=says):
            masker.generate_report(signals=odd)
    with pytest.raises(DaskroiTypeError, match="complex128, not real numbers"):
        report(ts.astype(complex))


def test_maps_of_either_sign_have_the_shares_of_their_atlas() -> None:
    rng = np.random.default_rng(0)
    image = nib.Nifti1Image(rng.normal(100, 10, (6, 7, 8, 9)).astype("f4"), np.eye(4))
    atlas = dr.load_atlas(nib.Nifti1Image(rng.normal(-0.1, 1, (6, 7, 8, 3)), np.eye(4)))
    ts = dr.extract(image, atlas, strategy="sum").compute()
    made = report(ts, atlas, image)
    assert made.regions is not None
    assert made.regions.iloc[:, 3].tolist() == atlas.table["relative_size_percent"].tolist()
    assert not made.warnings
    made = report(ts)
    assert made.regions is not None
    assert made.regions.iloc[:, 3].isna().all()


def test_a_region_with_a_hole_in_one_frame_is_not_without_voxels(phantom: Any) -> None:
    """Coverage is that of the worst frame."""
    image = phantom.image.load().copy()
    labels, region = phantom.atlas.labels, phantom.atlas.ids[-1]
    image.values[3, labels == region] = np.nan
    made = report(dr.extract(image, phantom.atlas).compute(), phantom.atlas)
    [found] = made.warnings
    assert found.endswith(f" is covered less than 50%: {region} {phantom.atlas.names[-1]}.")


def test_one_volume_has_no_repetition_time_to_miss(phantom: Any) -> None:
    volume = phantom.image.isel(time=0, drop=True)
    assert report(dr.extract(volume, phantom.atlas).compute(), phantom.atlas, volume).warnings == ()


def test_spheres_without_an_image_have_no_slices() -> None:
    notes = report(atlas=dr.load_atlas([(0, 0, 0)], radius=5)).notes
    assert len(notes) == 1
    assert notes[0].startswith("There are no slices")


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
    for odd in (["n/a", "7"], [0.5, 1.0], [np.nan, 3]):
        assert colors_of(atlas(R=odd, G=[2, 0], B=[3, 16])) == own


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
    # some of them: the others keep what the masker knows of them
    page = made(shown=shown, signals=signals.compute()[:, 1:])
    assert page.details["n_voxels"].tolist() == signals.n_voxels.values.tolist()
    assert page.details["coverage"].tolist() == [1.0] * len(phantom.atlas.ids)
    assert page.details["mean"].isna().sum() == 1
    with pytest.raises(DaskroiError, match="nothing to report"):
        made(signals=signals.values[:0])
    with pytest.raises(DaskroiError, match="regions 77, which Phantom does not have"):
        made(signals=signals.compute()[:, :1].assign_coords(region=[77]))
    # the file is gone: the report is not
    paths["image"].unlink()
    page = made(shown=shown)
    assert page.slices.image is None
    assert any("cannot be shown" in note for note in page.notes)


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
