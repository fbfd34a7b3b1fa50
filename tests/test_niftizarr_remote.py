"""NIfTI-Zarr read from a web server, with its faults, and from a bucket."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from niftizarrs import picture, whole
from servers import S3, Server

import daskroi as dr
from daskroi.errors import DaskroiNotFoundError
from daskroi.niftizarr import ZarrImage
from daskroi.zarrwrite import to_zarr


def test_read_from_a_web_server(tmp_path: Path, web: Server) -> None:
    image = picture()
    for zarr_format in (2, 3):
        to_zarr(image, tmp_path / f"{zarr_format}.nii.zarr", chunks=3, zarr_format=zarr_format)
        file = ZarrImage.open(f"{web.url}/{zarr_format}.nii.zarr")
        web.forget()
        part = file.read_box((slice(0, 3), slice(0, 6), slice(0, 7), slice(0, 5)))
        np.testing.assert_array_equal(part, image.values[:3])
        # the metadata of the array, whether the group has changed, and one chunk
        assert len(web.requests) <= 8
        np.testing.assert_array_equal(whole(file), image.values)
    with pytest.raises(DaskroiNotFoundError):
        ZarrImage.open(f"{web.url}/none.nii.zarr")


def test_faults_of_a_server_are_tried_again(tmp_path: Path, web: Server) -> None:
    image = picture()
    to_zarr(image, tmp_path / "x.nii.zarr", chunks=3)
    file = ZarrImage.open(f"{web.url}/x.nii.zarr")
    whole(file)
    web.faults += ["busy", "drop", "reset", "short"]
    np.testing.assert_array_equal(whole(file), image.values)
    assert not web.faults


def test_s3_lazily_and_without_showing_credentials(s3: S3) -> None:
    image = picture()
    url = s3.url("a/x.nii.zarr")
    to_zarr(image, url, chunks=3, storage_options=s3.options)
    found = dr.open_image(url, storage_options=s3.options)
    np.testing.assert_array_equal(found.values, image.values)
    assert found.attrs["source"] == url
    file = ZarrImage.open(url, s3.options)
    assert "daskroi-test" not in repr(file)
    with pytest.raises(DaskroiNotFoundError, match="no such Zarr store"):
        ZarrImage.open(s3.url("a/y.nii.zarr"), s3.options)
