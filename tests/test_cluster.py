"""On a real cluster of processes: everything pickles, and the numbers are the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import images
import numpy as np
import pytest
import xarray as xr

import daskroi as dr
from daskroi.errors import DaskroiError


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            memory_limit="1GiB",
            dashboard_address=None,
            host="127.0.0.1",
        ) as cluster,
        Client(cluster) as client,
    ):
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


@pytest.mark.timeout(120)
def test_the_region_index_reaches_each_worker_once(client: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = images.save(images.run(rng, (9, 9, 9, 40)), tmp_path / "run.nii")
    ts = dr.extract(path, images.labels(rng, (9, 9, 9)), chunks=1)
    shipped = {k for k in dict(ts.__dask_graph__()) if str(k).startswith("regions-")}
    assert len(shipped) == 1
    assert np.isfinite(ts.compute()).all()


@pytest.mark.timeout(120)
def test_errors_come_back_whole(client: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    path = images.save(images.run(rng, (9, 9, 9, 40)), tmp_path / "run.nii.gz")
    path.write_bytes(path.read_bytes()[:-5000])
    ts = dr.extract(path, images.labels(rng, (9, 9, 9)))
    with pytest.raises(DaskroiError, match=r"run.nii.gz: truncated, expected \d+ bytes"):
        ts.compute()
