"""Secrets of URLs and options are in nothing that is printed or written, wherever one looks."""

from __future__ import annotations

import base64
import gzip
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nibabel as nib
import numpy as np
import pytest
import secretsweep
from secretsweep import SECRET
from servers import http_server

import daskroi as dr
from daskroi.cliextract import _read_sample_mask
from daskroi.urls import StorageOptions, scrubbed, secrets_of, shown

HERE = Path(__file__).parent


def forms(secret: str = SECRET) -> list[bytes]:
    """What a secret looks like as text, in other words, and in HTTP's header."""
    told = [secret, secret[::-1], quote(secret, safe=""), repr(secret)[1:-1]]
    encoded = [base64.b64encode(f"me:{secret}".encode()), secret.encode("utf-16-le")]
    return [*(text.encode() for text in told), *encoded]


def inflated(data: bytes) -> Iterator[bytes]:
    yield data
    for unpack in (gzip.decompress, zlib.decompress):
        try:
            yield unpack(data)
        except (OSError, EOFError, zlib.error):
            continue


def leaks(folder: Path) -> list[str]:
    """Files, by content or by name, that hold the secret."""
    found = []
    for path in folder.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        texts = [os.fsencode(path.relative_to(folder)), *inflated(data)]
        if any(form in text for text in texts for form in forms()):
            found.append(str(path))
    return found


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where everything was written, and all that was said."""
    folder = tmp_path_factory.mktemp("sweep")
    web, out, cache, temporary = (folder / n for n in ("web", "out", "cache", "tmp"))
    for made in (web, temporary):
        made.mkdir()
    phantom = dr.make_phantom((12, 14, 12), n_time=8, n_regions=4)
    paths = dr.write_phantom(folder / "in", phantom)
    run = web / "sub-01" / "func" / "sub-01_task-rest_bold.nii.gz"
    run.parent.mkdir(parents=True)
    shutil.copy(paths["image"], run)
    whole = run.read_bytes()
    (web / "half.nii.gz").write_bytes(whole[: len(whole) // 2])
    (web / "text.nii.gz").write_text("<html>")
    environment = os.environ | {
        "DASKROI_CACHE": str(cache),
        "TMPDIR": str(temporary),
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": SECRET,
        "PYTHONWARNINGS": "always",
    }
    with http_server(web) as server:
        command = [sys.executable, str(HERE / "secretsweep.py"), server.url]
        command += [str(run.relative_to(web)), str(paths["atlas"]), str(out)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stdout.endswith("the end\n")
    return folder, done.stdout + done.stderr


def test_nothing_that_was_said_has_a_secret_in_it(swept: tuple[Path, str]) -> None:
    _, said = swept
    # much was: messages of every kind, chains of errors, graphs, logs of workers
    for expected in (
        "no such file",
        "ends early",
        "is named .gz but",
        "Traceback",
        "<xarray",
        "spawn_main",
    ):
        assert expected in said
    for form in forms():
        at = said.encode().find(form)
        assert at < 0, said.encode()[max(0, at - 2000) : at + 100].decode()


def test_nothing_that_was_written_has_a_secret_in_it(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    names = {path.name for path in (folder / "out").rglob("*")}
    for expected in ("runs.tsv", "report.html", "cohort.zarr", "dataset_description.json"):
        assert expected in names
    assert any(name.endswith("_log.txt") for name in names)
    assert leaks(folder) == []


def test_the_sweep_would_find_one(tmp_path: Path) -> None:
    for i, form in enumerate(forms()):
        (tmp_path / f"{i}.gz").write_bytes(gzip.compress(b"x" + form))
    (tmp_path / f"called-{SECRET}").touch()
    assert len(leaks(tmp_path)) == len(forms()) + 1


@pytest.mark.parametrize(
    "url",
    [
        "https://me:SECRET@host/x.nii?a=SECRET#SECRET",
        "simplecache::https://me:SECRET@host/x.nii?a=SECRET",
        "zip://inside.nii::https://me:SECRET@host/x.zip?a=SECRET",
        "zip://inside.nii::simplecache::s3://me:SECRET@bucket/x.zip",
        "reference://::https://me:SECRET@host/x.json?a=SECRET",
        "https://me:SECRET/SECRET@host/x.nii",
        "https://me:%53ECRET@host/x.nii?a=SECRET%2FSECRET",
        "http://me:SECRET@[::1]:80/x.nii?a=SECRET",
        "http://[::1/x?a=SECRET",
        "HTTPS://SECRET@host/x?SECRET",
        "https:///x?SECRET",
        "gone://me:SECRET@host?SECRET",
        "simplecache:SECRET@e:zip://x.nii::https://me:SECRET@host/x.zip?a=SECRET",
    ],
)
def test_urls_are_shown_bare(url: str) -> None:
    url = url.replace("SECRET", SECRET)
    bare = shown(url)
    assert SECRET not in bare
    assert bare.count("://") == url.count("://")
    assert SECRET not in scrubbed(f"cannot open {url}: {url}", url, {})


@pytest.mark.parametrize("volumes", [(), (2,)])
def test_a_signed_table_of_names_that_does_not_fit(tmp_path: Path, volumes: tuple[int]) -> None:
    (tmp_path / "t.tsv").write_text("index\tname\n100\ta\n")
    image = nib.Nifti1Image(np.ones((2, 2, 2, *volumes), "f4"), np.eye(4))
    with (
        http_server(tmp_path) as server,
        pytest.raises(dr.DaskroiError, match=r"t\.tsv: ") as caught,
    ):
        dr.load_atlas(image, lut=f"{server.url}/t.tsv?token={SECRET}")
    assert SECRET not in str(caught.value)


def test_a_signed_sample_mask(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([2, 3]))
    (tmp_path / "m.txt").write_text("all of them")
    with http_server(tmp_path) as server:
        assert _read_sample_mask(f"{server.url}/m.npy?token={SECRET}", None).tolist() == [2, 3]
        with pytest.raises(dr.DaskroiError, match=r"m\.txt: not a sample mask") as caught:
            _read_sample_mask(f"{server.url}/m.txt?token={SECRET}", None)
    assert SECRET not in str(caught.value)


def test_what_of_options_may_be_shown() -> None:
    options = {
        "key": SECRET,
        "client_kwargs": {
            "endpoint_url": f"https://me:{SECRET}@host",
            "headers": [("Authorization", f"Bearer {SECRET}")],
            "region_name": "eu-west-1",
        },
        "token": SECRET.encode(),
        "anon": False,
    }
    found = secrets_of("https://host/x", options)
    assert SECRET in found
    assert f"Bearer {SECRET}" in found
    assert "eu-west-1" not in found
    text = f"{SECRET}; Bearer {SECRET}; https://me:{SECRET}@host eu-west-1"
    assert SECRET not in scrubbed(text, "https://host/x", options)
    assert scrubbed("eu-west-1 is not known", "https://host/x", options).startswith("eu-west-1")
    assert SECRET not in repr(StorageOptions(options))


def test_reprs_of_what_travels_to_workers() -> None:
    """Dask logs the arguments of a task that is lost."""
    from daskroi.bytesource import ByteSource
    from daskroi.targets import as_target
    from daskroi.work import Job, Work

    [url, *_] = secretsweep.urls_of("http://host", "x.nii.gz")
    options = {"secret": SECRET, "password": SECRET, "headers": {"Authorization": SECRET}}
    out = as_target("memory://out", {"skip_instance_cache": True})
    things: list[Any] = [
        Job(0, "sub-01", url, mask=url, confounds=url, sidecar=url),
        Work(out, {}, mask=url, storage_options=options),
        ByteSource(url, 1, "1", True, StorageOptions(options)),
    ]
    for thing in things:
        assert SECRET not in f"{thing!r} {thing} {[thing]} {thing.__class__.__name__}"
