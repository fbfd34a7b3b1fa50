"""The main job on URLs: the same numbers from disk, S3 and HTTP, and no byte more than needed."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from daskprocesses import local_cluster
from servers import BUSY, DROP, S3, Server

import daskroi as dr
from daskroi import store
from daskroi.cli import main

N_TIME = 60
OPTIONS: dict[str, Any] = {"detrend": True, "standardize": "zscore_sample", "high_pass": 0.01}
COLUMNS = ["trans_?", "rot_?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 1.5 MB raw, as .nii and .nii.gz, with atlas, table, mask and confounds."""
    folder = tmp_path_factory.mktemp("run")
    written = dr.write_phantom(folder / "bids", dr.make_phantom((18, 20, 18), N_TIME, n_regions=6))
    for path in written.values():
        path.rename(folder / path.name)
    plain = folder / written["image"].name.removesuffix(".gz")
    plain.write_bytes(gzip.decompress((folder / written["image"].name).read_bytes()))
    shutil.rmtree(folder / "bids")
    return folder


@pytest.fixture
def names(folder: Path) -> dict[str, str]:
    """File names by what they are."""
    found = {
        "gz": next(folder.glob("*bold.nii.gz")),
        "nii": next(folder.glob("*bold.nii")),
        "atlas": next(folder.glob("*dseg.nii.gz")),
        "confounds": next(folder.glob("*confounds*.tsv")),
        "mask": next(folder.glob("*mask.nii.gz")),
    }
    return {key: path.name for key, path in found.items()}


@pytest.fixture
def bucket(folder: Path, s3: S3) -> S3:
    """A bucket with the same files."""
    for path in folder.iterdir():
        s3.filesystem.pipe_file(s3.url(f"data/{path.name}"), path.read_bytes())
    return s3


@pytest.fixture
def site(folder: Path, tmp_path: Path, web: Server) -> Server:
    """A web server of the same files."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return web


def extracted(base: str, names: dict[str, str], image: str, **options: Any) -> xr.DataArray:
    result = dr.extract(
        f"{base}/{names[image]}",
        f"{base}/{names['atlas']}",
        mask_img=f"{base}/{names['mask']}",
        confounds=f"{base}/{names['confounds']}",
        columns=COLUMNS,
        **OPTIONS,
        **options,
    )
    assert isinstance(result, xr.DataArray)
    return result


@pytest.mark.parametrize("image", ["nii", "gz"])
def test_same_numbers_everywhere(
    folder: Path, names: dict[str, str], bucket: S3, site: Server, image: str
) -> None:
    local = extracted(str(folder), names, image).compute()
    far = extracted(bucket.url("data"), names, image, storage_options=bucket.options)
    near = extracted(site.url, names, image)
    for lazy in (far, near):
        found = lazy.compute()
        np.testing.assert_array_equal(found.values, local.values)
        xr.testing.assert_equal(found, local)
        assert list(found.region_name.values) == list(local.region_name.values)
        assert found.time.attrs["t_r"] == local.time.attrs["t_r"]
    assert far.attrs["source"] == bucket.url(f"data/{names[image]}")


@pytest.mark.parametrize("image", ["nii", "gz"])
def test_building_reads_heads_only(names: dict[str, str], site: Server, image: str) -> None:
    from daskroi.bytesource import _first_bytes

    _first_bytes.cache_clear()
    url = f"{site.url}/{names[image]}"
    with dask.config.set(scheduler=_no_scheduler):
        run = dr.open_image(url)
        assert run.shape == (N_TIME, 18, 20, 18)
    sent = site.bytes_sent
    assert sent <= (1 << 16) + 1000, "the first 64 KiB and the sidecar"


def test_images_that_are_smoothed_or_resampled_lie_anywhere(
    folder: Path, names: dict[str, str], bucket: S3
) -> None:
    here, there = str(folder), bucket.url("data")
    options = {"storage_options": bucket.options}
    grid = dr.grid_of(dr.open_image(folder / names["nii"]))
    coarse = dr.Grid.make((9, 10, 9), grid.matrix @ np.diag([2, 2, 2, 1]))
    for work in (
        lambda base, **o: dr.smooth(f"{base}/{names['nii']}", 6, **o),
        lambda base, **o: dr.resample(f"{base}/{names['nii']}", coarse, "linear", **o),
        lambda base, **o: dr.resample(
            dr.make_image(np.ones(coarse.shape), coarse), f"{base}/{names['gz']}", "linear", **o
        ),
        lambda base, **o: dr.high_variance_confounds(
            f"{base}/{names['nii']}", mask_img=f"{base}/{names['mask']}", **o
        ),
    ):
        xr.testing.assert_equal(work(there, **options).compute(), work(here).compute())


def _no_scheduler(*_: Any, **__: Any) -> None:
    raise AssertionError("something was computed")


def test_one_volume_of_a_remote_run_costs_one_volume(names: dict[str, str], site: Server) -> None:
    image = dr.open_image(f"{site.url}/{names['nii']}", chunks=1)
    site.forget()
    volume = image.isel(time=41).compute()
    frame = 18 * 20 * 18 * 4
    assert site.bytes_sent == frame
    assert float(volume.time) == 41 * 2.0
    site.forget()
    dr.extract(image, f"{site.url}/{names['atlas']}").isel(time=slice(10, 12)).compute()
    image_bytes = sum(r.sent for r in site.requests if names["nii"] in r.path)
    assert image_bytes <= N_TIME * frame


def test_a_run_streams_through_a_bad_connection(
    folder: Path, names: dict[str, str], site: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskroi.remote.FIRST_WAIT", 0.002)
    local = extracted(str(folder), names, "gz").compute()
    lazy = extracted(site.url, names, "gz")
    site.faults[:] = [DROP, BUSY, DROP]
    np.testing.assert_array_equal(lazy.compute().values, local.values)
    assert not site.faults


def test_a_gzipped_run_is_fetched_once(names: dict[str, str], site: Server, folder: Path) -> None:
    atlas = dr.load_atlas(folder / names["atlas"])
    lazy = dr.extract(f"{site.url}/{names['gz']}", {"a": atlas, "b": atlas})
    site.forget()
    dask.compute(lazy)
    assert site.bytes_sent == (folder / names["gz"]).stat().st_size


@pytest.mark.timeout(120)
def test_workers_read_with_the_options_they_are_sent(
    folder: Path, names: dict[str, str], bucket: S3
) -> None:
    local = extracted(str(folder), names, "nii").compute()
    with local_cluster():
        for image in ("nii", "gz"):
            found = extracted(
                bucket.url("data"), names, image, storage_options=bucket.options, chunks=7
            ).compute()
            np.testing.assert_array_equal(found.values, local.values)


def test_nothing_secret_in_attributes_reprs_and_sidecars(
    names: dict[str, str], bucket: S3, site: Server, tmp_path: Path
) -> None:
    url = bucket.url(f"data/{names['gz']}")
    image = dr.open_image(url, storage_options=bucket.options)
    result = extracted(bucket.url("data"), names, "gz", storage_options=bucket.options).compute()
    store.write_run(
        result,
        tmp_path / "out",
        "sub-01",
        inputs={"image": url},
        storage_options=bucket.options,
    )
    signed = dr.open_image(f"{site.url}/{names['nii']}?X-Amz-Signature=hunter2")
    texts = [repr(image), image._repr_html_(), repr(image.attrs), repr(result.attrs), repr(signed)]
    texts += [
        repr(signed.attrs),
        str(signed.name),
        repr(dr.load_atlas(bucket.url(f"data/{names['atlas']}"), storage_options=bucket.options)),
    ]
    texts += [path.read_text("utf-8") for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for text in texts:
        for secret in ("daskroi-test-key", "daskroi-test-secret", "hunter2"):
            assert secret not in text
    assert signed.attrs["source"] == f"{site.url}/{names['nii']}"


def test_command_line(folder: Path, names: dict[str, str], bucket: S3, tmp_path: Path) -> None:
    def arguments(base: str, out: str) -> list[str]:
        return [
            "extract", f"{base}/{names['gz']}", "--atlas", f"{base}/{names['atlas']}",
            "--mask", f"{base}/{names['mask']}", "--confounds", f"{base}/{names['confounds']}",
            "--columns", *COLUMNS, "--detrend", "-o", out,
        ]  # fmt: skip

    options = [
        "--storage-option", "key=daskroi-test-key",
        "--storage-option", "secret=daskroi-test-secret",
        "--storage-option", f"client_kwargs.endpoint_url={bucket.endpoint}",
    ]  # fmt: skip
    here = CliRunner().invoke(main, arguments(str(folder), str(tmp_path / "out")))
    assert here.exit_code == 0, here.stderr
    command = [*arguments(bucket.url("data"), bucket.url("out")), *options]
    there = CliRunner().invoke(main, command)
    assert there.exit_code == 0, there.stderr
    assert "daskroi-test" not in there.output
    local = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    remote = {
        path.rsplit("/", 1)[-1]: bucket.filesystem.cat_file(path)
        for path in bucket.filesystem.ls(f"{bucket.bucket}/out")
    }
    assert local.keys() == remote.keys()
    for name, content in local.items():
        if name.endswith(".tsv"):
            assert remote[name] == content
        else:
            assert b"daskroi-test" not in remote[name]
            inputs = json.loads(remote[name])["Inputs"]
            assert inputs["image"][0]["Path"] == bucket.url(f"data/{names['gz']}")
    again = CliRunner().invoke(main, command)
    assert re.search("Note: .*up to date, skipped", again.stderr), again.stderr


def test_storage_options_by_protocol(
    folder: Path, names: dict[str, str], bucket: S3, site: Server
) -> None:
    found = dr.extract(
        bucket.url(f"data/{names['nii']}"),
        f"{site.url}/{names['atlas']}",
        storage_options={"s3": bucket.options, "http": {}},
    )
    expected = dr.extract(folder / names["nii"], folder / names["atlas"])
    np.testing.assert_array_equal(found.values, expected.values)  # type: ignore[union-attr]


@pytest.mark.parametrize("bad", ["anon", "=5", "a.b=1 a=2"])
def test_storage_options_that_are_none(folder: Path, names: dict[str, str], bad: str) -> None:
    words = [w for text in bad.split() for w in ("--storage-option", text)]
    done = CliRunner().invoke(
        main,
        ["extract", str(folder / names["gz"]), "--atlas", str(folder / names["atlas"]), *words],
    )
    assert done.exit_code == 2
