"""Results on disk: their names, numbers that come back exactly, times that are not lost."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from results import result

import daskroi as dr
from daskroi import sidecar, store


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
    back = dr.read_timeseries(written.timeseries)
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
    back = dr.read_timeseries(written.timeseries)
    np.testing.assert_allclose(back.time, given_.time, rtol=1e-12)
    assert back.time.attrs["units"] == given_.time.attrs["units"]


def test_a_single_volume_is_one_row(tmp_path):
    volume = result(np.array([[1.0, 2.0]])).isel(time=0, drop=True)
    written = store.write_run(volume, tmp_path, "x")
    assert written.timeseries.read_text() == "region 0\tregion 1\n1.0\t2.0\n"
    assert "RepetitionTime" not in sidecar.read_sidecar(written.sidecar)
    assert dr.read_timeseries(written.timeseries).shape == (1, 2)
