"""Conversions into a bucket: interrupted and taken up again, overwriting, taken over."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conversions import inflated, run_file
from servers import S3

import daskroi.zarrwrite
from daskroi.convert import convert
from daskroi.errors import DaskroiError
from daskroi.niftizarr import ZarrImage
from daskroi.zarrwrite import to_zarr


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """After so many writes, Ctrl-C; 0 for never."""
    real = daskroi.zarrwrite._write

    def after(count: int) -> None:
        left = [count]

        def write(*args: Any) -> None:
            if left == [0]:
                raise KeyboardInterrupt
            real(*args)
            left[0] -= 1

        monkeypatch.setattr(daskroi.zarrwrite, "_write", write if count else real)
        monkeypatch.setattr(daskroi.zarrwrite, "WRITE_BYTES", 1)

    return after


def objects(s3: S3, prefix: str) -> dict[str, bytes]:
    fs = s3.filesystem
    fs.invalidate_cache()
    root = f"{s3.bucket}/{prefix}/"
    return {p.removeprefix(root): fs.cat_file(p) for p in fs.find(root)}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_s3_interrupted_and_taken_up_again(
    tmp_path: Path,
    s3: S3,
    interrupted: Callable[[int], None],
    zarr_format: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = run_file(tmp_path / "x.nii.gz", (8, 7, 6, 12))
    how: dict[str, Any] = {
        "chunks": 1,
        "zarr_format": zarr_format,
        "storage_options": s3.options,
    }
    url = s3.url("a/x.nii.zarr")
    interrupted(4)
    with pytest.raises(KeyboardInterrupt):
        to_zarr(path, url, **how)
    assert len(objects(s3, "a/x.nii.zarr")) >= 5
    with pytest.raises(DaskroiError, match=r"s3://.*/a/x.nii.zarr: the conversion into it has not"):
        ZarrImage.open(url, s3.options)
    with pytest.raises(DaskroiError, match="a conversion of another image, or with other options"):
        to_zarr(path, url, **(how | {"chunks": 2}))
    with pytest.raises(DaskroiError, match="another process is converting into it"):
        to_zarr(path, url, overwrite=True, **(how | {"chunks": 2}))
    interrupted(100)
    writes: list[int] = []
    real = daskroi.zarrwrite._write
    monkeypatch.setattr(daskroi.zarrwrite, "_write", lambda *a: (writes.append(1), real(*a)))
    assert to_zarr(path, url, **how)
    assert len(writes) == 8  # four were there
    interrupted(0)
    assert not to_zarr(path, url, **how)
    to_zarr(path, s3.url("b/x.nii.zarr"), **how)
    assert objects(s3, "a/x.nii.zarr") == objects(s3, "b/x.nii.zarr")
    convert(url, s3.url("back.nii.gz"), storage_options=s3.options)
    assert gzip.decompress(s3.filesystem.cat_file(s3.url("back.nii.gz"))) == inflated(path)
    with pytest.raises(DaskroiError, match="is there already"):
        convert(url, s3.url("back.nii.gz"), storage_options=s3.options)


def test_s3_overwriting(tmp_path: Path, s3: S3, interrupted: Callable[[int], None]) -> None:
    path = run_file(tmp_path / "x.nii.gz", (8, 7, 6, 12))
    other = run_file(tmp_path / "y.nii.gz", (8, 7, 6, 5), seed=1)
    url = s3.url("x.nii.zarr")
    to_zarr(path, url, storage_options=s3.options, chunks=1)
    with pytest.raises(DaskroiError, match="is there already, of another image"):
        to_zarr(other, url, storage_options=s3.options)
    # a writer that gave no sign of life for long is given up
    interrupted(2)
    with pytest.raises(KeyboardInterrupt):
        to_zarr(path, url, storage_options=s3.options, chunks=2, overwrite=True)
    interrupted(0)
    with pytest.raises(DaskroiError, match="has not ended"):
        ZarrImage.open(url, s3.options)
    note = f"{url}/.daskroi-conversion.json"
    old = json.loads(s3.filesystem.cat_file(note)) | {"alive": 0}
    s3.filesystem.pipe_file(note, json.dumps(old).encode())
    assert to_zarr(other, url, storage_options=s3.options, overwrite=True)
    convert(url, tmp_path / "back.nii", storage_options=s3.options)
    assert inflated(tmp_path / "back.nii") == inflated(other)
    s3.filesystem.pipe_file(s3.url("folder/thesis.tex"), b"words")
    with pytest.raises(DaskroiError, match="holds something else than a Zarr group"):
        to_zarr(path, s3.url("folder"), storage_options=s3.options, overwrite=True)


def test_s3_taken_over_in_the_last_minute(
    tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, url = run_file(tmp_path / "x.nii.gz", (8, 7, 6, 12)), s3.url("x.nii.zarr")
    real, note = daskroi.zarrwrite._write, f"{url}/.daskroi-conversion.json"

    def write(*args: Any) -> None:
        real(*args)
        s3.filesystem.pipe_file(note, json.dumps({"plan": "another", "alive": 0}).encode())

    monkeypatch.setattr(daskroi.zarrwrite, "_write", write)
    with pytest.raises(DaskroiError, match=r"another process has taken over the conversion"):
        to_zarr(path, url, storage_options=s3.options)
    assert not {"zarr.json", ".zattrs", ".zgroup"} & set(objects(s3, "x.nii.zarr"))
