"""Names in buckets, archives and caches, and what other processes do there meanwhile."""

from __future__ import annotations

import json
import shutil
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from servers import S3, Server

import daskroi as dr
from daskroi.cohortreport import report_of_result
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError
from daskroi.relmat import write_relmat
from daskroi.runstable import RunsTable, merge_shards, read_runs
from daskroi.store import results_of, write_run
from daskroi.targets import as_target, exists, read_text, size_of
from daskroi.urls import located, same_file, shown
from daskroi.work import Job

pytestmark = pytest.mark.timeout(120)
QUIET: dict[str, Any] = {"client": "threads", "progress": False, "mask": None}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    return dr.write_phantom(tmp_path / "in", run)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://b/run #1_bold.nii", "s3://b/run #1_bold.nii"),
        ("zip://a#b.nii::s3://b/x#1.zip?versionId=1", "zip://a#b.nii::s3://b/x#1.zip"),
        ("https://h/x.nii#part", "https://h/x.nii"),
        ("https://h/a@b?c=d@e", "https://h/a@b"),
        ("https://h:80?c=d@e", "https://h:80"),
        ("https://me:pa#ss@h/x.nii", "https://h/x.nii"),
        ("https://me:pa?ss@h/x.nii?sig=1", "https://h/x.nii"),
        ("ftp://me:pa/s#s@h/x.nii", "ftp://h/x.nii"),
        ("HTTPS://me:Pw@Host/X?sig=1", "https://Host/X"),
    ],
)
def test_what_is_a_name_and_what_a_secret(url: str, expected: str) -> None:
    assert shown(url) == expected


def test_protocols_may_be_in_capitals(files: dict[str, Path], s3: S3) -> None:
    s3.filesystem.put(str(files["image"]), s3.url("Bold.nii.gz"))
    url = s3.url("Bold.nii.gz").replace("s3", "S3", 1)
    expected = dr.open_image(files["image"])
    np.testing.assert_array_equal(dr.open_image(url, storage_options=s3.options), expected)
    told = {"s3": s3.options}
    assert len(dr.find_runs([url], storage_options=told)) == 1
    np.testing.assert_array_equal(dr.open_image(f"FILE://{files['image']}"), expected)
    assert located("S3://B/X") == "s3://B/X"


def test_runs_and_results_below_a_folder_with_a_hash(files: dict[str, Path], s3: S3) -> None:
    top = s3.url("batch #1 at 100 % é")
    s3.filesystem.put(str(files["image"].parents[2]), f"{top}/in", recursive=True)
    told = {"storage_options": s3.options}
    runs = dr.find_runs(f"{top}/in", **told)
    atlas = f"{top}/in/{files['atlas'].name}"
    for status in ("done", "skipped"):
        found = dr.extract_cohort(runs, {"P": atlas}, f"{top}/out", **told, **QUIET)
        assert getattr(found, status) == 1
    [image] = runs["image"]
    assert found.runs["image"].tolist() == [image]
    [series] = results_of(as_target(f"{top}/out", s3.options), found.runs["run"][0]).values()
    inputs = json.loads(read_text(series.sidecar))["Inputs"]
    assert inputs["image"][0]["Path"] == image
    assert dr.read_timeseries(series.timeseries).attrs["source"] == image
    assert "nothing is shown" not in report_of_result(series.timeseries, **told).html
    # what differs behind the # only is not the image itself
    assert not same_file(f"{top}/in/x#1", f"{top}/in/x#2")
    copy = f"{top}/in/copy.nii.zarr"
    assert dr.to_zarr(image, copy, **told)
    expected = dr.open_image(files["image"])
    assert xr.open_dataset(copy, chunks={}, **told).image.shape == expected.shape
    np.testing.assert_array_equal(dr.open_image(copy, **told), expected)


def test_folders_with_a_hash_are_looked_into(files: dict[str, Path], s3: S3) -> None:
    s3.filesystem.put(str(files["image"].parents[2]), s3.url("all/batch #1"), recursive=True)
    assert len(dr.find_runs(s3.url("all"), storage_options=s3.options)) == 1


def test_file_urls_are_the_files(tmp_path: Path, files: dict[str, Path]) -> None:
    shutil.move(tmp_path / "in", tmp_path / "i n")
    image = next((tmp_path / "i n").rglob("*bold.nii.gz"))
    atlas = next((tmp_path / "i n").glob("*dseg.nii.gz"))
    first = dr.extract_cohort([image.as_uri()], atlas.as_uri(), tmp_path / "out", **QUIET)
    assert first.done == 1
    assert dr.extract_cohort([image], atlas, tmp_path / "out", **QUIET).skipped == 1
    one = dr.extract(image, atlas).compute()
    paths = write_run(one, tmp_path / "one", "x", inputs={"image": image.as_uri()})
    assert json.loads(paths.sidecar.read_text())["Inputs"]["image"][0]["Path"] == str(image)
    plain = tmp_path / "my run.nii.gz"
    shutil.copy(image, plain)
    assert dr.extract_cohort([plain.as_uri()], atlas, tmp_path / "p", **QUIET).runs["run"][0] == (
        "my-run"
    )


def _archived(tmp_path: Path, s3: S3) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in filter(Path.is_file, (tmp_path / "all").rglob("*")):
            name = path.relative_to(tmp_path / "all").as_posix()
            archive.write(path, name)
            s3.filesystem.pipe_file(s3.url(name), path.read_bytes())
    s3.filesystem.put(str(tmp_path / "all.zip"), s3.url("all.zip"))


@pytest.mark.filterwarnings("ignore:.*the header says TR 2 s")
@pytest.mark.parametrize("kind", ["zip", "zip of a web server", "simplecache"])
def test_all_that_lies_behind_a_chain(
    tmp_path: Path, files: dict[str, Path], s3: S3, web: Server, kind: str
) -> None:
    everything = tmp_path / "all"
    everything.mkdir()
    image, atlas = everything / "x_bold.nii.gz", everything / "p_space-T1w_dseg.nii.gz"
    for path, source in ((image, files["image"]), (atlas, files["atlas"])):
        shutil.copy(source, path)
    shutil.copy(files["labels"], everything / "p_space-T1w_dseg.tsv")
    (everything / "x_bold.json").write_text('{"RepetitionTime": 1.5}')
    here = dr.extract(image, atlas).compute()
    dr.to_zarr(image, everything / "x.nii.zarr")
    series = write_run(here, everything, "x")
    matrix = write_relmat(dr.connectome(here, shrinkage=None).compute(), everything, "x")
    _archived(tmp_path, s3)
    links: dict[str, Callable[[str], str]] = {
        "zip": lambda name: f"zip://{name}::{s3.url('all.zip')}",
        "zip of a web server": lambda name: f"zip://{name}::{web.url}/all.zip?s=hunter2hunter2",
        "simplecache": lambda name: f"simplecache::{s3.url(name)}",
    }
    link = links[kind]
    told = {"storage_options": {"s3": s3.options}}
    run = dr.open_image(link(image.name), **told)
    there = dr.extract(run, link(atlas.name), **told).compute()
    assert run.name == "x_bold"
    assert run.time.attrs["t_r"] == 1.5, "of the JSON beside it"
    xr.testing.assert_equal(there, here)
    assert there.attrs["atlas"] == here.attrs["atlas"]
    assert list(there.region_name.values) == list(here.region_name.values)
    np.testing.assert_array_equal(dr.open_image(link("x.nii.zarr"), **told), run)
    back = dr.read_timeseries(link(series.timeseries.name), **told)
    np.testing.assert_array_equal(back, here)
    found = dr.read_relmat(link(matrix.matrix.name), **told)
    assert found.attrs["kind"] == "correlation", "its sidecar is there"
    assert "hunter2" not in repr((run, run.attrs, there.attrs))


def test_a_signed_link_behind_a_cache_names_its_file(
    tmp_path: Path, files: dict[str, Path], web: Server
) -> None:
    folder = files["image"].parent.relative_to(tmp_path).as_posix()
    url = f"simplecache::{web.url}/{folder}/{files['image'].name}?signature=hunter2hunter2"
    runs = dr.find_runs(url)
    assert runs["mask"][0].endswith(files["mask"].name)
    assert runs["sidecar"][0].endswith(files["sidecar"].name)
    done = dr.extract_cohort(runs, files["atlas"], tmp_path / "out", **QUIET)
    assert done.done == 1


def test_messages_about_results_show_no_query(tmp_path: Path, web: Server) -> None:
    url = f"{web.url}/x_timeseries.tsv?signature=hunter2hunter2"
    for read in (dr.read_timeseries, dr.read_relmat, report_of_result, dr.cohort_index):
        with pytest.raises(DaskroiError) as caught:
            read(url)
        assert "hunter2" not in str(caught.value)
    (tmp_path / "x_timeseries.json").write_text("[]")
    (tmp_path / "x_timeseries.tsv").write_text("")
    with pytest.raises(DaskroiError, match=r"x_timeseries\.(tsv|json): ") as caught:
        dr.read_timeseries(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "simplecache::http://me:hunter2@127.0.0.1:1/ds/x.nii",
        "zip://ds/x.nii::http://me:hunter2@127.0.0.1:1/all.zip",
        "http://me:hunter2#2@127.0.0.1:1/ds/x.nii",
    ],
)
def test_passwords_get_into_no_table(tmp_path: Path, url: str) -> None:
    for given in (url, [url], url.replace("/x.nii", "")):
        with pytest.raises(DaskroiError, match="has a password in it") as caught:
            dr.find_runs(given)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(DaskroiError, match="holds a user name or password"):
        dr.read_timeseries(url)
    with pytest.raises(DaskroiError) as caught:
        dr.to_zarr(dr.make_phantom((8, 9, 7), 10, n_regions=4).image, f"{url}.zarr")
    trace = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in trace.replace(url, ""), "nor what others say of it"


def test_paths_that_are_no_paths(files: dict[str, Path], s3: S3, web: Server) -> None:
    from upath import UPath

    with pytest.raises(DaskroiTypeError, match="url is a S3Path"):
        dr.to_zarr(files["image"], UPath(s3.url("x.nii.zarr"), **s3.options))
    with pytest.raises(DaskroiError, match="is no URL of a folder"):
        dr.read_timeseries(f"simplecache::{web.url}/x_timeseries.tsv")


def test_what_another_process_has_written_is_seen(files: dict[str, Path], s3: S3) -> None:
    # a listing once made stays in fsspec's memory, until something is written there by itself
    other = type(s3.filesystem)(skip_instance_cache=True, use_listings_cache=False, **s3.options)
    out = as_target(s3.url("out"), s3.options)
    one = dr.extract(files["image"], files["atlas"]).compute()
    write_run(one, out / "sub-01", "sub-01_x")
    [(key, paths)] = results_of(out, "sub-01/sub-01_x").items()
    folder = paths.sidecar.parent.path
    out.fs.ls(folder)
    text = other.cat_file(paths.sidecar.path)
    another = f"{folder}/sub-01_x_atlas-Other_stat-mean_timeseries.json"
    other.pipe_file(another, text)
    assert set(results_of(out, "sub-01/sub-01_x")) == {key, ("Other", "mean")}
    size = size_of(paths.timeseries)
    other.pipe_file(paths.timeseries.path, b"longer" * 1000)
    assert size != size_of(paths.timeseries) == 6000
    other.rm_file(paths.timeseries.path)
    assert size_of(paths.timeseries) is None
    assert not exists(paths.timeseries)


def test_shards_that_end_meanwhile_are_put_together(s3: S3) -> None:
    other = type(s3.filesystem)(skip_instance_cache=True, use_listings_cache=False, **s3.options)
    out = as_target(s3.url("out"), s3.options)
    table = RunsTable(out, (1, 2))
    table.add(Job(0, "sub-01_x", "x.nii"), "ok")
    table.publish(whole=True)
    merge_shards(out)
    text = other.cat_file((out / "logs/runs_shard-1of2.tsv").path).decode()
    second = text.replace("sub-01_x", "sub-02_x").encode()
    other.pipe_file((out / "logs/runs_shard-2of2.tsv").path, second)
    merge_shards(out)
    assert read_runs(out)["run"].tolist() == ["sub-01_x", "sub-02_x"]
    table.close()


def test_results_are_not_called_absent_where_the_server_is(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    # botocore and s3fs try again for 17 s together
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    away = {
        **s3.options,
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:1"},
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    with pytest.raises(DaskroiError, match="cannot be read"):
        results_of(as_target(s3.url("out"), away), "sub-01/x")
    with pytest.raises(DaskroiError, match=r"runs\.tsv: cannot be read"):
        dr.cohort_index(s3.url("out"), storage_options=away)


def test_writing_that_is_forbidden_is_called_so(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def forbid(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    page = dr.Report("A run")
    with pytest.raises(DaskroiError, match="there is no such bucket"):
        page.save_as_html("s3://no-such-bucket/x.html", storage_options=s3.options)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", forbid)
    with pytest.raises(DaskroiError, match="the server forbids writing it"):
        page.save_as_html("memory://x.html")


def test_errors_of_workers_are_ours(s3: S3) -> None:
    from distributed.protocol import pickle  # with tblib, as workers send errors

    for kind in (DaskroiNotFoundError, dr.DaskroiError, DaskroiTypeError):
        assert type(pickle.loads(pickle.dumps(kind("x: gone. Look.")))) is kind
    with pytest.raises(DaskroiNotFoundError) as caught:
        dr.open_image(s3.url("gone.nii"), storage_options=s3.options)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (DaskroiNotFoundError, str(caught.value))
