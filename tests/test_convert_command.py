"""The command ``daskroi convert``: what it says, what it refuses, and into a bucket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr
from click.testing import CliRunner
from conversions import inflated, run_file
from servers import S3

from daskroi.cliconvert import convert as command
from daskroi.terminal import Group


@pytest.fixture
def cli() -> Callable[..., Any]:
    main = Group("daskroi", commands={"convert": command})
    return lambda *words: CliRunner().invoke(main, ["convert", *map(str, words)])


def test_command(tmp_path: Path, cli: Callable[..., Any]) -> None:
    path, target = run_file(tmp_path / "x.nii.gz"), tmp_path / "x.nii.zarr"
    done = cli(path, target, "--chunks", "time=4,z=5", "--shards", "8", "--compressor", "zstd")
    assert (done.exit_code, done.stdout) == (0, f"{target}\n"), done.output
    array = zarr.open_array(target / "0", mode="r")
    assert (array.chunks, array.shards) == ((4, 5, 14, 16), (8, 15, 14, 16))
    again = cli(path, target, "--chunks", "time=4,z=5", "--shards", "8", "--compressor", "zstd")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "up to date, skipped" in again.stderr
    refused = cli(path, target, "--zarr-format", "2")
    assert refused.exit_code == 1
    assert "Pass overwrite=True (--overwrite)" in refused.stderr
    assert cli(path, target, "--zarr_format", "2", "--overwrite").exit_code == 0
    assert (target / ".zgroup").exists()
    back = cli(target, tmp_path / "y.nii.gz")
    assert back.exit_code == 0, back.output
    assert inflated(tmp_path / "y.nii.gz") == inflated(path)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["x.nii", "y.nii.zarr", "--chunks", "some"], 2, "'some' are no sizes. Give auto, a num"),
        (["none.nii", "y.nii.zarr"], 1, "none.nii: no such file"),
        (["x.nii", "y.txt"], 1, "y.txt: its ending says neither NIfTI nor Zarr"),
        (["x.nii", "y.nii", "--chunks", "3"], 1, "chunks: of Zarr, but y.nii is NIfTI"),
    ],
)
def test_command_refuses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Callable[..., Any],
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    run_file(tmp_path / "x.nii")
    done = cli(*words)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in " ".join(done.stderr.split())
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii"]


def test_command_to_s3(tmp_path: Path, s3: S3, cli: Callable[..., Any]) -> None:
    path = run_file(tmp_path / "x.nii.gz", (8, 7, 6, 5))
    options = [
        "--storage-option",
        f"key={s3.options['key']}",
        "--storage-option",
        f"secret={s3.options['secret']}",
        "--storage-option",
        f"client_kwargs.endpoint_url={s3.endpoint}",
    ]
    done = cli(path, s3.url("x.nii.zarr"), *options)
    assert (done.exit_code, done.stdout) == (0, f"{s3.url('x.nii.zarr')}\n"), done.output
    assert cli(s3.url("x.nii.zarr"), tmp_path / "y.nii", *options).exit_code == 0
    assert inflated(tmp_path / "y.nii") == inflated(path)
