"""Results on disk: numbers that come back exactly, times that are not lost, all or nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import daskroi as dr
from daskroi import outputs, partfiles, sidecar, store, targets
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError

T_R = 2.0


def result(
    values: Any = None,
    frames: Any = None,
    *,
    names: Any = None,
    t_r: float | None = T_R,
    coverage: Any = None,
    **attrs: str,
) -> xr.DataArray:
    """What `extract` gives, by hand."""
    values = np.arange(12.0).reshape(4, 3) if values is None else np.asarray(values)
    n_time, n_region = values.shape
    frames = np.arange(n_time) if frames is None else np.asarray(frames)
    time: Any = ("time", frames, {"units": "frame"})
    if t_r is not None:
        time = ("time", frames * t_r, {"units": "s", "t_r": t_r, "t_r_source": "header"})
    names = names or [f"region {i}" for i in range(n_region)]
    coverage = np.linspace(0.5, 1, n_region) if coverage is None else np.asarray(coverage)
    coords = {
        "time": time,
        "region": np.arange(n_region) * 10 + 10,
        "region_name": ("region", np.array(names, dtype=object)),
        "n_voxels": ("region", np.arange(n_region) + 5),
        "coverage": ("region", coverage),
        "size_mm3": ("region", np.arange(n_region) * 8.0),
    }
    recipe = json.dumps({"strategy": attrs.get("strategy", "mean"), "clean": {}})
    attrs = {
        "strategy": "mean",
        "recipe": recipe,
        "atlas": "My-Atlas_1",
        "atlas_hash": "abc",
    } | attrs
    return xr.DataArray(values, coords, ("time", "region"), name="timeseries", attrs=attrs)


@pytest.mark.parametrize(
    ("image", "prefix"),
    [
        ("s3://bucket/sub-01_task-rest_desc-preproc_bold.nii.zarr", "sub-01_task-rest"),
        ("o.nii.zarr/", "o"),
        (
            "sub-01_ses-2_task-rest_acq-x_run-1_space-MNI_desc-preproc_bold.nii.gz",
            "sub-01_ses-2_task-rest_acq-x_run-1_space-MNI",
        ),
        ("/a/b/sub-01_task-rest_space-T1w_res-2_den-10k_bold.nii", "sub-01_task-rest_space-T1w"),
        ("s3://bucket/sub-01_task-rest_bold.nii.gz", "sub-01_task-rest"),
        ("mybold.nii.gz", "mybold"),
        ("my.bold.v2.nii", "my.bold.v2"),
        ("my_bold.nii", "my_bold"),
        ("run 1 (final).nii", "run-1-final"),
        ("desc-preproc_bold.nii", "desc-preproc_bold"),
        ("pair.img", "pair"),
        ("Häufig_bold.nii", "Häufig_bold"),
    ],
)
def test_prefix_is_the_entities_or_the_stem(image, prefix):
    assert store.run_prefix(image) == prefix


@pytest.mark.parametrize(
    ("strategy", "stat"),
    [
        ("mean", "mean"),
        ("median", "median"),
        ("sum", "sum"),
        ("minimum", "min"),
        ("maximum", "max"),
        ("standard_deviation", "std"),
        ("variance", "var"),
    ],
)
def test_names_are_those_of_the_field(tmp_path, strategy, stat):
    paths = store.write_run(result(strategy=strategy), tmp_path / "out", "sub-01_task-rest")
    assert [p.name for p in paths.all] == [
        f"sub-01_task-rest_atlas-MyAtlas1_stat-{stat}_timeseries.tsv",
        "sub-01_task-rest_atlas-MyAtlas1_stat-coverage_bold.tsv",
        f"sub-01_task-rest_atlas-MyAtlas1_stat-{stat}_timeseries.json",
    ]
    # nothing else, and nothing hidden
    assert sorted(os.listdir(tmp_path / "out")) == sorted(p.name for p in paths.all)
    # readable by whom the umask lets, unlike what tempfile makes
    assert paths.timeseries.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@given(st.data(), st.sampled_from([np.float32, np.float64]))
def test_numbers_come_back_exactly(tmp_path_factory, data, dtype):
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    values = data.draw(arrays(dtype, shape))
    folder = tmp_path_factory.mktemp("out")
    written = store.write_run(result(values), folder, "x")
    back = store.read_timeseries(written.timeseries)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back.values, values)
    assert "nan" not in written.timeseries.read_text().lower()


def test_table_has_names_rows_and_missing_values(tmp_path):
    values = np.array([[1.5, np.nan, -0.1], [2.5, np.nan, 1e-300]])
    written = store.write_run(result(values, names=["A b", "lost", "c"]), tmp_path, "x")
    assert written.timeseries.read_bytes() == b"A b\tlost\tc\n1.5\tn/a\t-0.1\n2.5\tn/a\t1e-300\n"
    assert written.coverage.read_bytes() == b"Node\tcoverage\nA b\t0.5\nlost\t0.75\nc\t1.0\n"


def test_columns_are_unambiguous(tmp_path):
    names = ["a", "a", "a_20", "", "unknown", "unknown", "with\ttab\nand line", '"quoted"', "80"]
    written = store.write_run(result(np.zeros((2, 9)), names=names), tmp_path, "x")
    table = pd.read_csv(written.timeseries, sep="\t")
    assert list(table.columns) == [
        "a_10",
        "a_20_20",
        "a_20_30",
        "40",
        "50",
        "60",
        "with tab and line",
        '"quoted"',
        "80",
    ]
    assert table.shape == (2, 9)
    # both tables call a region the same, and the sidecar has its real name
    assert list(pd.read_csv(written.coverage, sep="\t", dtype=str)["Node"]) == list(table.columns)
    assert sidecar.read_sidecar(written.sidecar)["Regions"]["name"] == names


@pytest.mark.parametrize(
    ("frames", "t_r", "expected"),
    [
        (range(6), 2.0, {"RepetitionTime": 2.0}),
        (range(2, 6), 2.0, {"RepetitionTime": 2.0, "StartTime": 4.0, "KeptFrames": [2, 3, 4, 5]}),
        (range(4), 2.0, {"RepetitionTime": 2.0, "KeptFrames": [0, 1, 2, 3]}),
        ([0, 1, 4], 0.72, {"VolumeTiming": [0.0, 0.72, 4 * 0.72], "KeptFrames": [0, 1, 4]}),
        (range(6), None, {}),
        ([1, 5], None, {"KeptFrames": [1, 5]}),
    ],
    ids=["all", "first dropped", "last dropped", "gap", "no TR", "no TR, gap"],
)
def test_time_is_not_lost(tmp_path, frames, t_r, expected):
    given_ = result(np.zeros((len(frames), 2)), frames, t_r=t_r)
    written = store.write_run(given_, tmp_path, "x", n_frames=6)
    found = sidecar.read_sidecar(written.sidecar)
    keys = ("RepetitionTime", "StartTime", "VolumeTiming", "KeptFrames")
    assert {k: found[k] for k in keys if k in found} == expected
    assert found["NumberOfFrames"] == 6
    back = store.read_timeseries(written.timeseries)
    np.testing.assert_allclose(back.time, given_.time, rtol=1e-12)
    assert back.time.attrs["units"] == given_.time.attrs["units"]


def test_sidecar_says_what_was_done_to_what_by_what(tmp_path):
    image, mask = tmp_path / "bold.nii", tmp_path / "mask.nii"
    image.write_bytes(b"12345")
    mask.write_bytes(b"1")
    confounds = json.dumps(["csf", "trans_x"])
    given_ = result(coverage=[0.25, np.nan, 1.0], confounds=confounds)
    outputs.write(targets.as_target("memory://test-store/atlas.nii"), b"abc")
    atlas = "memory://test-store/atlas.nii"
    inputs = {"image": image, "mask": mask, "confounds": None, "atlas": atlas}
    written = store.write_run(given_, tmp_path / "out", "x", inputs=inputs)
    text = written.sidecar.read_text()
    found = json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert found["Recipe"] == {"strategy": "mean", "clean": {}}
    assert found["Confounds"] == ["csf", "trans_x"]
    assert found["Atlas"] == {"Name": "My-Atlas_1", "SHA256": "abc"}
    assert found["Regions"] == {
        "index": [10, 20, 30],
        "name": ["region 0", "region 1", "region 2"],
        "n_voxels": [5, 6, 7],
        "size_mm3": [0.0, 8.0, 16.0],
        "coverage": [0.25, None, 1.0],
    }
    assert found["Sources"] == [str(image), str(mask), "memory://test-store/atlas.nii"]
    [file] = found["Inputs"]["image"]
    assert (file["Path"], file["Size"]) == (str(image), 5)
    modified = pd.Timestamp(file["ModificationTime"]).timestamp()
    assert modified == pytest.approx(image.stat().st_mtime, abs=1e-5)
    assert "confounds" not in found["Inputs"]
    assert found["GeneratedBy"] == [{"Name": "daskroi", "Version": dr.__version__}]
    versions = found["SoftwareVersions"]
    assert set(versions) == {"daskroi", "numpy", "scipy", "dask", "xarray", "nibabel"}
    assert versions["numpy"] == np.__version__
    # 400 regions should not be 2,000 lines
    assert len(text.splitlines()) < 70
    back = store.read_timeseries(written.timeseries)
    for name in ("region", "region_name", "n_voxels", "coverage", "size_mm3"):
        np.testing.assert_array_equal(back[name], given_[name])


def test_bids_uris_can_be_given(tmp_path):
    written = store.write_run(result(), tmp_path, "x", sources=["bids:raw:sub-01/x.nii"])
    assert sidecar.read_sidecar(written.sidecar)["Sources"] == ["bids:raw:sub-01/x.nii"]


def test_a_single_volume_is_one_row(tmp_path):
    volume = result(np.array([[1.0, 2.0]])).isel(time=0, drop=True)
    written = store.write_run(volume, tmp_path, "x")
    assert written.timeseries.read_text() == "region 0\tregion 1\n1.0\t2.0\n"
    assert "RepetitionTime" not in sidecar.read_sidecar(written.sidecar)
    assert store.read_timeseries(written.timeseries).shape == (1, 2)


def spatial_cases() -> dict[str, tuple[Any, dict[str, Any], dict[str, Any]]]:
    """Atlas, options, and what the sidecar says of them."""
    rng = np.random.default_rng(0)
    soft = nib.Nifti1Image(rng.random((6, 7, 5, 3)), images.STRAIGHT)
    coarse = images.labels(rng, (4, 4, 3), affine=np.diag([3.0, 3, 3, 1]))
    seeds = [(4, 6, 4), (8, 8, 4)]
    fused = {"Method": "fused", "RelativeErrorBound": 1e-9}
    return {
        "maps": (soft, {}, {"Method": "direct"}),
        "least squares": (soft, {"maps_method": "lstsq"}, {"Method": "direct"}),
        "smoothed maps": (soft, {"smoothing_fwhm": 4}, fused | {"SmoothingFWHM": 4.0}),
        "spheres": (dr.load_atlas(seeds, radius=3), {}, {"Method": "direct"}),
        "seeds": (dr.load_atlas(seeds), {"smoothing_fwhm": (4, 4, 5)},
                  fused | {"SmoothingFWHM": [4.0, 4.0, 5.0]}),
        "labels' grid": (coarse, {"resampling_target": "labels"},
                         fused | {"ImageResampling": "cubic spline, not clipped"}),
        "clipped": (coarse, {"resampling_target": "labels", "strategy": "median"},
                    {"Method": "voxelwise", "ImageResampling": "cubic spline, clipped"}),
    }  # fmt: skip


@pytest.mark.parametrize("case", spatial_cases())
def test_results_of_any_atlas_come_back(tmp_path, case):
    atlas, options, said = spatial_cases()[case]
    run = images.run(np.random.default_rng(1), (6, 7, 5, 9))
    lazy = dr.extract(run, atlas, **options)
    assert store.differences(lazy, tmp_path, "x") is None
    computed = lazy.compute()
    written = store.write_run(computed, tmp_path, "x")
    assert store.differences(lazy, tmp_path, "x") == []
    back = store.read_timeseries(written.timeseries)
    np.testing.assert_array_equal(back.values, computed.values)
    for name in ("time", "region", "region_name", "n_voxels", "coverage", "size_mm3"):
        np.testing.assert_array_equal(back[name], computed[name])
    assert sidecar.read_sidecar(written.sidecar)["Spatial"] == said
    table = pd.read_csv(written.coverage, sep="\t", dtype={"Node": str})
    assert table["Node"].tolist() == computed.region_name.values.tolist()
    np.testing.assert_array_equal(table["coverage"], computed.coverage)


def test_seeds_without_a_radius_have_no_size(tmp_path):
    run = images.run(np.random.default_rng(1), (6, 7, 5, 9))
    ts = dr.extract(run, dr.load_atlas([(4, 6, 4), (8, 8, 4)])).compute()
    written = store.write_run(ts, tmp_path, "x")
    assert sidecar.read_sidecar(written.sidecar)["Regions"]["size_mm3"] == [None, None]
    assert np.isnan(store.read_timeseries(written.timeseries).size_mm3).all()


def test_lazy_results_are_refused(tmp_path):
    with pytest.raises(DaskroiTypeError, match=r"lazy .*compute\(\)"):
        store.write_run(result().chunk(), tmp_path / "out", "x")
    run = dr.make_phantom((12, 14, 12), n_time=5, n_regions=4)
    half = dr.extract(run.image, run.atlas)
    half = half.copy(data=half.values)
    with pytest.raises(DaskroiTypeError, match="lazy"):
        store.write_run(half, tmp_path / "out", "x")
    assert not (tmp_path / "out").exists()


class Stop(Exception):
    pass


def fail_at(nth: int, function: Any, error: BaseException) -> Any:
    """The function, but its nth call raises after doing half of its work."""
    calls = 0

    def broken(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            if isinstance(args[0], partfiles.PartFile):
                function(args[0], b"half of")
            raise error
        return function(*args, **kwargs)

    return broken


ERRORS = [OSError(28, "No space left on device"), Stop(), KeyboardInterrupt()]


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("error", ERRORS, ids=["full disk", "error", "ctrl-c"])
@pytest.mark.parametrize("where", ["write", "replace"])
def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch, nth, error, where):
    out = tmp_path / "a" / "out"
    owner = partfiles.PartFile if where == "write" else os
    broken = fail_at(nth, getattr(owner, where), error)
    monkeypatch.setattr(owner, where, broken)
    expected: Any = DaskroiError if isinstance(error, OSError) else type(error)
    match = r"out: results cannot be written there \(No space" if expected is DaskroiError else None
    with pytest.raises(expected, match=match):
        store.write_run(result(), out, "x")
    monkeypatch.undo()
    assert not out.exists()


def test_a_failed_write_keeps_older_results_and_other_files(tmp_path, monkeypatch):
    written = store.write_run(result(), tmp_path, "x")
    (tmp_path / "mine.txt").write_text("keep")
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    broken = fail_at(3, partfiles.PartFile.write, OSError(28, "full"))
    monkeypatch.setattr(partfiles.PartFile, "write", broken)
    with pytest.raises(DaskroiError, match="full"):
        store.write_run(result() + 1, tmp_path, "x")
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert written.sidecar in before


def test_tables_never_stand_beside_an_older_sidecar(tmp_path, monkeypatch):
    # or a run that was cut short would look up to date afterwards
    written = store.write_run(result(), tmp_path, "x")
    seen = []

    def replace(source: Any, target: Any) -> None:
        seen.append((Path(target).name, written.sidecar.exists()))
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    store.write_run(result(), tmp_path, "x")
    assert seen == [(p.name, False) for p in written.all]


def test_a_file_in_the_way_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for out in (file, file / "out" / "deeper"):
        with pytest.raises(DaskroiError, match=r"file: is a file, so .* Give a folder\."):
            targets.check_folder(out)
        with pytest.raises(DaskroiError, match="cannot be written there"):
            store.write_run(result(), out, "x")
    targets.check_folder(tmp_path / "not" / "there" / "yet")
    assert os.listdir(tmp_path) == ["file"]


def test_what_changed_is_named(tmp_path):
    image = tmp_path / "bold.nii"
    image.write_bytes(b"12345")
    inputs = {"image": image}

    def differences(given_: xr.DataArray, **kwargs: Any) -> Any:
        return store.differences(given_, tmp_path, "x", **({"inputs": inputs} | kwargs))

    assert differences(result()) is None
    written = store.write_run(result(), tmp_path, "x", inputs=inputs)
    assert differences(result()) == []
    # no number is needed to know
    assert differences(result().chunk()) == []
    assert differences(result(recipe='{"strategy": "mean", "t_r": 1}')) == ["recipe"]
    assert differences(result(atlas_hash="other")) == ["atlas"]
    assert differences(result(confounds='["csf"]')) == ["confounds"]
    assert differences(result(frames=[0, 2, 3, 4])) == ["repetition time", "frames"]
    assert differences(result(frames=[0, 1, 2, 3]), n_frames=9) == ["frames"]
    assert differences(result(t_r=1.0)) == ["repetition time"]
    assert differences(result(), inputs={}) == ["input files"]
    image.write_bytes(b"123456")
    assert differences(result()) == ["input files"]
    image.write_bytes(b"12345")
    os.utime(image, (1, 1))
    assert differences(result()) == ["input files"]

    written = store.write_run(result(), tmp_path, "x", inputs=inputs)
    # another strategy, with another mask, shares the coverage table
    store.write_run(result(strategy="median", coverage=[0, 0, 1]), tmp_path, "x", inputs=inputs)
    assert differences(result()) == ["coverage"]
    written.sidecar.write_text("{")
    assert differences(result()) is None
    store.write_run(result(), tmp_path, "x", inputs=inputs)
    written.timeseries.unlink()
    assert differences(result()) is None


def test_only_a_version_with_other_numbers_is_a_difference(tmp_path, monkeypatch):
    store.write_run(result(), tmp_path, "x")
    monkeypatch.setattr(dr, "__version__", "99")
    assert store.differences(result(), tmp_path, "x") == []
    monkeypatch.setattr(sidecar, "NUMERICS", 99)
    assert store.differences(result(), tmp_path, "x") == ["version of the numbers"]


def test_damaged_results_are_not_read(tmp_path):
    written = store.write_run(result(), tmp_path, "x")
    written.timeseries.write_text("a\tb\n1\t2\n")
    with pytest.raises(DaskroiError, match="does not have the 3 columns"):
        store.read_timeseries(written.timeseries)
    written.timeseries.unlink()
    with pytest.raises(DaskroiNotFoundError, match=r"timeseries\.tsv: no such file"):
        store.read_timeseries(written.timeseries)
    for text in ("{", "[]"):
        written.sidecar.write_text(text)
        with pytest.raises(DaskroiError, match=r"timeseries.json: (cannot be read|is not)"):
            sidecar.read_sidecar(written.sidecar)


def test_a_table_that_was_cut_is_no_shorter_run(tmp_path):
    # between two rows: nothing but their number tells
    for mask in (None, [True, False, True, True]):
        whole = result() if mask is None else result()[np.array(mask)]
        written = store.write_run(whole, tmp_path, "x", n_frames=4)
        lines = written.timeseries.read_text().splitlines(keepends=True)
        written.timeseries.write_text("".join(lines[:-1]))
        n = len(whole)
        with pytest.raises(DaskroiError, match=rf"{n - 1} rows for {n} frames\)\. Extract this"):
            store.read_timeseries(written.timeseries)


@pytest.mark.parametrize(
    "change",
    [
        {"Regions": None},
        {"Regions": [1, 2, 3]},
        {"Regions": {"index": [1, 2, 3]}},
        {"DataType": "flurb"},
        {"DataType": None},
        {"KeptFrames": [0, 1]},
        {"KeptFrames": 4},
        {"VolumeTiming": [0.0]},
        {"RepetitionTime": "2 s"},
    ],
)
def test_sidecars_of_something_else(tmp_path, change):
    written = store.write_run(result(), tmp_path, "x")
    said = {**json.loads(written.sidecar.read_text()), **change}
    written.sidecar.write_text(json.dumps({k: v for k, v in said.items() if v is not None}))
    with pytest.raises(DaskroiError, match=r"x_atlas\S*tsv: does not go with its sidecar"):
        store.read_timeseries(written.timeseries)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"a\tb\tc\nx\t1\t2\n", b"x" * 200_000])
def test_tables_of_something_else(tmp_path, data):
    written = store.write_run(result(), tmp_path, "x")
    written.timeseries.write_bytes(data)
    with pytest.raises(DaskroiError, match=r"x_atlas\S*tsv: does not go with its sidecar"):
        store.read_timeseries(written.timeseries)


def test_missing_inputs_are_named(tmp_path):
    with pytest.raises(DaskroiNotFoundError, match=r"gone\.nii: cannot be found"):
        store.write_run(result(), tmp_path / "out", "x", inputs={"image": tmp_path / "gone.nii"})
    assert not (tmp_path / "out").exists()


def test_a_table_that_was_cut_or_grew_is_made_again(tmp_path: Path) -> None:
    """Its sidecar is intact; that it exists is not enough."""
    run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    result = dr.extract(run.image, run.atlas).compute()
    table = store.write_run(result, tmp_path, "sub-01").timeseries
    whole = table.read_bytes()
    assert store.differences(result, tmp_path, "sub-01") == []
    for damaged in (b"", whole[:-1], whole + b"\n"):
        table.write_bytes(damaged)
        assert store.differences(result, tmp_path, "sub-01") is None
    store.write_run(result, tmp_path, "sub-01")
    assert store.differences(result, tmp_path, "sub-01") == []
