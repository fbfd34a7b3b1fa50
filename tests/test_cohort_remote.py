"""Finding runs elsewhere: web servers, buckets, archives, memory."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from bids_tree import make_tree, run_names
from foundruns import END, FILES, names, quietly, touch

from daskroi.cohort import find_runs
from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.places import atlas_for


@pytest.fixture(scope="module")
def flat_tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("remote") / "fp"
    make_tree(root, ("01", "02", "03"), spaces=["T1w", "MNI_res-2"], image=".nii.zarr")
    touch(root / "sub-02" / "func", f"sub-02_task-rest_space-own_{END}")
    touch(root, "task-rest_bold.json")
    return root


def relative(runs: pd.DataFrame, root: str) -> list[list[str | None]]:
    return [[p and p.removeprefix(root) for p in row] for row in runs[FILES].values.tolist()]


@contextmanager
def web_server(folder: Path):
    """Pages that list folders, as Apache's and nginx's do, and what was asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(f"{self.command} {self.path}")

        def list_directory(self, path):
            if "closed" in self.path:
                return self.send_error(404)
            return super().list_directory(path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_web_servers(flat_tree):
    with web_server(flat_tree.parent) as (url, asked):
        remote = quietly(f"{url}/fp/")
        assert relative(remote, url) == relative(quietly(flat_tree), str(flat_tree.parent))
        assert not any("zarr" in line or "figures" in line or "anat" in line for line in asked)
        asked.clear()
        quietly(f"{url}/fp", participant_label="02")
        assert [line.rstrip("/") for line in asked if "sub-" in line] == [
            "GET /fp/sub-02", "GET /fp/sub-02/func",
        ]  # fmt: skip
        with pytest.raises(DaskroiNotFoundError, match=r"127.0.0.1:\d+/none: no such"):
            find_runs(f"{url}/none")


def test_web_servers_that_list_nothing(tmp_path):
    """Most do not: then names are tried, for the images one gives."""
    folder = touch(tmp_path / "closed", *run_names("sub-01_task-rest", ["T1w"], old=True))
    with web_server(tmp_path) as (url, _):
        image = f"{url}/closed/sub-01_task-rest_space-T1w_{END}"
        run = find_runs([image]).iloc[0]
        local = find_runs([f"{folder}/sub-01_task-rest_space-T1w_{END}"]).iloc[0]
        assert [p.removeprefix(url) for p in run[FILES]] == [
            p.removeprefix(str(tmp_path)) for p in local[FILES]
        ]
        assert run["problem"] is None
        signed = f"{image}?Signature=abc"
        run = find_runs(signed).iloc[0]
        assert run["image"] == signed
        assert run["mask"].endswith("_desc-brain_mask.nii.gz")
        pattern = "func/sub-{subject}_dseg.nii.gz"
        with pytest.raises(DaskroiNotFoundError, match="has no atlas http://127"):
            atlas_for(run, pattern)
        pattern = "{root}/sub-01_task-rest_space-T1w_desc-aparcaseg_dseg.nii.gz"
        assert atlas_for(run, pattern).endswith(
            "/closed/sub-01_task-rest_space-T1w_desc-aparcaseg_dseg.nii.gz"
        )


def test_passwords_do_not_get_into_tables():
    for url in ("https://me:secret@h.org/d", ["https://me:secret@h.org/d/x.nii"]):
        with pytest.raises(DaskroiError, match="has a password in it") as error:
            find_runs(url)
        assert "secret" not in str(error.value)


def test_memory():
    import fsspec

    fs = fsspec.filesystem("memory")
    stem = "/sub-01/func/sub-01_task-rest"
    fs.pipe({f"{stem}_{END}": b"", f"{stem}_desc-brain_mask.nii": b""})
    try:
        (row,) = quietly("memory://", subject="01")[FILES].values.tolist()
        assert row[:2] == [
            f"memory://sub-01/func/sub-01_task-rest_{end}" for end in (END, "desc-brain_mask.nii")
        ]
    finally:
        fs.rm("/sub-01", recursive=True)


def test_archives(flat_tree, tmp_path):
    import shutil

    shutil.make_archive(str(tmp_path / "all"), "zip", flat_tree.parent)
    url = f"zip://fp::file://{tmp_path}/all.zip"
    runs = quietly(url)
    expected = relative(quietly(flat_tree), str(flat_tree))
    stripped = [
        [p and p.removeprefix("zip://fp").removesuffix(url.removeprefix("zip://fp")) for p in row]
        for row in runs[FILES].values.tolist()
    ]
    assert stripped == expected
    again = quietly(runs["image"].tolist())
    assert again[["image", "mask", "confounds", "problem"]].equals(
        runs[["image", "mask", "confounds", "problem"]]
    )


@pytest.fixture(scope="module")
def s3_tree(flat_tree):
    """The tree in a bucket, and what was asked of the server."""
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    from werkzeug import serving

    asked: list[str] = []

    class Handler(serving.WSGIRequestHandler):
        def log(self, *args):
            asked.append(getattr(self, "requestline", ""))

    server = serving.make_server(
        "127.0.0.1", 0, moto.DomainDispatcherApplication(moto.create_backend_app), threaded=True,
        request_handler=Handler,
    )  # fmt: skip
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    options = {
        "key": "k", "secret": "s", "endpoint_url": f"http://127.0.0.1:{server.server_port}",
    }  # fmt: skip
    fs = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    fs.mkdir("bucket")
    fs.put(str(flat_tree), "bucket/deep/fp", recursive=True)
    yield "s3://bucket/deep/fp", options, asked
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_buckets(s3_tree, flat_tree):
    url, options, asked = s3_tree
    asked.clear()
    runs = quietly(url, storage_options=options)
    assert relative(runs, url) == relative(quietly(flat_tree), str(flat_tree))
    listings = [line for line in asked if "list-type" in line]
    assert len(listings) == 7  # the dataset, three subjects, three func
    asked.clear()
    quietly(url, participant_label="02", storage_options=options)
    assert sum("list-type" in line for line in asked) == 3
    with pytest.raises(DaskroiNotFoundError, match="none: no such"):
        find_runs("s3://bucket/none", storage_options=options)
    run = runs[runs["space"] == "T1w"].iloc[0]
    pattern = "anat/sub-{subject}_desc-aparcaseg_dseg.nii.gz"
    assert atlas_for(run, pattern, storage_options=options) == (
        f"{url}/sub-01/anat/sub-01_desc-aparcaseg_dseg.nii.gz"
    )


def test_long_listings_come_in_pages(s3_tree, monkeypatch):
    """A store answers with 1,000 names at a time; this one with 8."""
    import s3fs

    _, options, asked = s3_tree
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "8")
    fs = s3fs.S3FileSystem(**options)
    images = [f"sub-{i}_task-rest_{END}" for i in range(20)]
    fs.pipe({f"bucket/many/{name}": b"" for name in images})
    asked.clear()
    assert names(quietly("s3://bucket/many", storage_options=options)) == images
    assert sum("list-type" in line for line in asked) == 3
    # a run that came since is found: listings are not remembered
    fs.pipe(f"bucket/many/sub-20_task-rest_{END}", b"")
    assert len(quietly("s3://bucket/many", storage_options=options)) == 21
