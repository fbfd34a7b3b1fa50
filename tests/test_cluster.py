"""On a real cluster of processes: everything pickles, and the numbers are the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import images
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from daskprocesses import local_cluster
from distributed import wait

import daskroi as dr
from daskroi import weights
from daskroi.errors import DaskroiError


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with local_cluster() as client:
        yield client


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore:Sending large graph")
def test_same_numbers_as_in_one_process(client: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    run = images.run(rng, (9, 9, 9, 40), nan=0.01)
    atlas = images.labels(rng, (9, 9, 9))
    paths = [images.save(run, tmp_path / f"run.{end}") for end in ("nii", "nii.gz")]
    options: dict[str, Any] = {
        "confounds": rng.standard_normal((40, 2)),
        "detrend": True,
        "high_pass": 0.01,
        "standardize": "zscore_sample",
        "high_variance_confounds": True,
    }
    for path in paths:
        for image in (path, dr.open_image(path, chunks=(7, 5, 9, 4)) * 1):
            ts = dr.extract(image, {"a": atlas, "b": atlas}, **options)["a"]
            there = ts.compute()
            here = ts.compute(scheduler="synchronous")
            xr.testing.assert_identical(there, here)


LABELS: dict[str, Any] = {"resampling_target": "labels"}


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore:Sending large graph")
@pytest.mark.parametrize(
    ("options", "way"),
    [
        ({"smoothing_fwhm": 5}, "fused"),
        ({"smoothing_fwhm": 5, **LABELS}, "fused"),
        ({"smoothing_fwhm": 5, "strategy": "median", **LABELS}, "voxelwise"),
        ({"resampling_clip": True, **LABELS}, "voxelwise"),
        ({"smoothing_fwhm": "fast", "nan_policy": "omit", **LABELS}, "fused"),
        ({"smoothing_fwhm": 5, "maps_method": "lstsq"}, "fused"),
    ],
    ids=str,
)
def test_smoothed_and_resampled_to_the_bit(
    client: Any, tmp_path: Path, options: dict[str, Any], way: str
) -> None:
    rng = np.random.default_rng(3)
    run = images.run(rng, (9, 9, 9, 20), nan=0.0005)
    other = np.diag([2.5, 2.5, 2.5, 1])
    atlases: dict[str, Any] = {
        "same": images.labels(rng, (9, 9, 9)),
        "coarse": images.labels(rng, (6, 6, 6), affine=other),
        "spheres": dr.load_atlas([(8.0, 8, 8), (6, 8, 10)], radius=4),
    }
    if "strategy" not in options:
        atlases["soft"] = nib.Nifti1Image(rng.random((6, 6, 6, 3)), other)
    for end in ("nii", "nii.gz"):
        path = images.save(run, tmp_path / f"run.{end}")
        for image in (path, dr.open_image(path, chunks=(3, 5, 9, 4)) * 1):
            series = dr.extract(image, atlases, chunks=3, **options)
            there = dask.compute(series)[0]
            here = dask.compute(series, scheduler="threads")[0]
            for name, ts in here.items():
                assert ts.attrs["spatial"] == way
                assert np.isfinite(ts).any()
                xr.testing.assert_identical(there[name], ts)


def forget() -> None:
    weights._cache.clear()


def made() -> int:
    """How many parts of operators this process has fused."""
    return len(weights._cache)


def received(dask_worker: Any) -> list[str]:
    """Keys that came from other workers, as often as they came."""
    return [str(key) for got in dask_worker.transfer_incoming_log for key in got["keys"]]


@pytest.mark.timeout(120)
def test_fused_weights_are_made_once_and_travel_once(client: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    path = images.save(images.run(rng, (9, 9, 9, 40)), tmp_path / "run.nii")
    atlases = {
        "same": images.labels(rng, (9, 9, 9)),
        "coarse": images.labels(rng, (6, 6, 6), affine=np.diag([2.5, 2.5, 2.5, 1])),
    }
    client.run(forget)
    both = dr.extract(path, atlases, chunks=1, smoothing_fwhm=5, **LABELS)
    keys = {str(k) for ts in both.values() for k in dict(ts.__dask_graph__())}
    [fused] = [k for k in keys if k.startswith("_fused-")]
    blocks = client.persist(list(both.values()))
    wait(blocks, timeout=60)
    # one for each atlas, on one worker
    assert sorted(client.run(made).values()) == [0, len(atlases)]
    assert len([ts.compute() for ts in blocks]) == 2
    arrivals = [came.count(fused) for came in client.run(received).values()]
    assert max(arrivals) <= 1
    assert sum(arrivals) <= 1  # the one who made it got it from no one


@pytest.mark.timeout(120)
def test_the_operator_is_one_key(client: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = images.save(images.run(rng, (9, 9, 9, 40)), tmp_path / "run.nii")
    ts = dr.extract(path, images.labels(rng, (9, 9, 9)), chunks=1)
    [shipped] = [str(k) for k in dict(ts.__dask_graph__()) if str(k).startswith("operator-")]
    assert np.isfinite(ts.compute()).all()
    arrivals = [came.count(shipped) for came in client.run(received).values()]
    assert max(arrivals) <= 1


@pytest.mark.timeout(120)
def test_errors_come_back_whole(client: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    path = images.save(images.run(rng, (9, 9, 9, 40)), tmp_path / "run.nii.gz")
    path.write_bytes(path.read_bytes()[:-5000])
    ts = dr.extract(path, images.labels(rng, (9, 9, 9)))
    with pytest.raises(DaskroiError, match=r"run.nii.gz: truncated, expected \d+ bytes"):
        ts.compute()
