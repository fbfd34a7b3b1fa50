"""Conversions to where something is already: an image, something else, another writer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conversions import run_file, tree

from daskroi.convert import convert
from daskroi.errors import DaskroiError
from daskroi.niftizarr import ZarrImage
from daskroi.zarrtarget import claimed
from daskroi.zarrwrite import to_zarr


def test_what_is_there_is_kept_unless_it_may_go(tmp_path: Path) -> None:
    path, target = run_file(tmp_path / "x.nii.gz"), tmp_path / "x.nii.zarr"
    other = run_file(tmp_path / "y.nii.gz", seed=1)
    target.mkdir()  # an empty folder is nothing
    assert to_zarr(path, target)
    assert not to_zarr(path, target)
    assert to_zarr(path, target, overwrite=True)
    before = tree(target)
    for image, options in ((other, {}), (path, {"chunks": 3}), (path, {"zarr_format": 2})):
        with pytest.raises(DaskroiError, match=r"x.nii.zarr: is there already, of another image"):
            to_zarr(image, target, **options)
    assert tree(target) == before
    opened = ZarrImage.open(target)
    assert to_zarr(other, target, overwrite=True)
    with pytest.raises(DaskroiError, match="changed after it was opened"):
        opened.read_box((slice(0, 1), slice(0, 1), slice(0, 1), slice(0, 1)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.nii.gz", "x.nii.zarr", "y.nii.gz"]
    precious = tmp_path / "precious.zarr"
    precious.mkdir()
    (precious / "thesis.tex").write_text("words")
    with pytest.raises(DaskroiError, match="holds something else than a Zarr group"):
        to_zarr(path, precious, overwrite=True)
    assert (precious / "thesis.tex").read_text() == "words"
    with pytest.raises(DaskroiError, match="is there already"):
        convert(target, other)
    convert(target, other, overwrite=True)


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    from daskroi.urls import StorageOptions

    path, target = run_file(tmp_path / "x.nii.gz"), tmp_path / "x.nii.zarr"
    with claimed(os.fspath(target), StorageOptions(), {"plan": 1}, False):
        for overwrite in (False, True):
            with pytest.raises(DaskroiError, match=r"another process is converting into it. Wait"):
                to_zarr(path, target, overwrite=overwrite)
    assert to_zarr(path, target, overwrite=True)
