"""Options told by protocol reach every reader and writer, and the servers behind chains of URLs."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import S3, Server

import daskroi as dr
from daskroi.errors import DaskroiError
from daskroi.urls import options_for, protocol_of

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    return dr.write_phantom(tmp_path / "in", run)


@pytest.fixture
def told(s3: S3) -> dict[str, Any]:
    return {"s3": s3.options, "https": {}}


def test_a_cohort_and_all_that_is_made_of_it(
    tmp_path: Path, files: dict[str, Path], s3: S3, told: dict[str, Any]
) -> None:
    system = s3.filesystem
    system.put(str(tmp_path / "in"), s3.url("in")[5:], recursive=True)
    atlas = s3.url(f"in/{files['atlas'].name}")
    options: dict[str, Any] = {"client": "threads", "progress": False, "connectome": "correlation"}
    runs = dr.find_runs(s3.url("in"), storage_options=told)
    dr.extract_cohort(runs, {"P": atlas}, s3.url("out"), storage_options=told, **options)
    here = dr.find_runs(tmp_path / "in")
    dr.extract_cohort(here, {"P": files["atlas"]}, tmp_path / "out", **options)

    dr.build_cohort_zarr(s3.url("out"), storage_options=told)
    pages = dr.cohort_reports(s3.url("out"), storage_options=told)
    assert [page.name.rpartition("_")[2] for page in pages] == ["report.html", "index.html"]
    dr.cohort_index(s3.url("out"), storage_options=told)
    [path] = (tmp_path / "out").rglob("*_atlas-P_stat-mean_timeseries.tsv")
    there = s3.url(f"out/{path.relative_to(tmp_path / 'out').as_posix()}")
    expected = dr.read_timeseries(path)
    np.testing.assert_array_equal(dr.read_timeseries(there, storage_options=told), expected)
    matrix = dr.read_relmat(re.sub("stat-mean.*", "stat-pearsoncorrelation_relmat.tsv", there),
                            storage_options=told)  # fmt: skip
    dr.write_relmat(matrix, s3.url("matrix"), "x", storage_options=told)
    made = {str(name).partition("/")[2] for name in system.find(s3.url("out")[5:])}
    assert any(name.endswith("cohort.zarr/zarr.json") for name in made)
    assert any(name.endswith("index.html") for name in made)
    assert system.find(s3.url("matrix")[5:])


def test_copies(tmp_path: Path, files: dict[str, Path], s3: S3, told: dict[str, Any]) -> None:
    expected = dr.open_image(files["image"]).values
    dr.to_zarr(files["image"], s3.url("x.nii.zarr"), storage_options=told)
    dr.convert(s3.url("x.nii.zarr"), s3.url("y.nii.gz"), storage_options=told)
    dr.to_nifti(dr.open_image(s3.url("y.nii.gz"), storage_options=told), s3.url("z.nii"),
                storage_options=told)  # fmt: skip
    for name in ("x.nii.zarr", "y.nii.gz", "z.nii"):
        found = dr.open_image(s3.url(name), storage_options=told)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("server", ["s3", "http"])
def test_an_archive_on_a_server(
    tmp_path: Path, files: dict[str, Path], s3: S3, web: Server, server: str
) -> None:
    with zipfile.ZipFile(tmp_path / "runs.zip", "w") as archive:
        archive.write(files["image"], "bold.nii.gz")
    if server == "s3":
        url, told = s3.url("runs.zip"), {"s3": s3.options, "https": {}}
        s3.filesystem.put(str(tmp_path / "runs.zip"), url[5:])
    else:
        url, told = f"{web.url}/runs.zip", {"http": {"headers": {"X-Mine": "1"}}}
    found = dr.open_image(f"zip://bold.nii.gz::{url}", storage_options=told)
    np.testing.assert_array_equal(found, dr.open_image(files["image"]))
    if server == "http":
        assert all(asked.headers["X-Mine"] == "1" for asked in web.requests)


def test_what_a_server_behind_a_chain_wants_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    said = r"x\.zip: no credentials .* pass storage_options=\{'s3': \{'anon': True\}\}\.$"
    with pytest.raises(DaskroiError, match=said):
        dr.open_image("zip://bold.nii.gz::s3://bucket/x.zip")


@pytest.mark.parametrize(
    ("url", "protocol", "expected"),
    [
        ("s3://b/x.nii", "s3", {"anon": True}),
        ("https://h/x.nii", "https", {}),
        ("gs://b/x.nii", "gs", {}),
        ("zip://x.nii::s3://b/x.zip", "s3", {"s3": {"anon": True}}),
        ("simplecache::s3://b/x.nii", "s3", {"s3": {"anon": True}}),
        ("zip://x.nii::simplecache::https://h/x.zip", "https", {"https": {}}),
        ("zip://x.nii::/data/x.zip", "zip", {}),
        ("http://[::1]:80/x.nii", "http", {}),
    ],
)
def test_options_of_a_dict_of_protocols(url: str, protocol: str, expected: dict[str, Any]) -> None:
    assert protocol_of(url) == protocol
    assert options_for(url, {"s3": {"anon": True}, "https": {}}) == expected
    # options as such are for the only or the first link, as fsspec has it
    assert options_for(url, {"anon": True}) == {"anon": True}
