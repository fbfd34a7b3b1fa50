"""Building reads no voxel, the graph stays small, and keys hold whatever changes the result."""

from __future__ import annotations

import dataclasses
import gzip
import os
import pickle
from pathlib import Path
from typing import Any

import dask
import images
import numpy as np
import pytest

import daskroi as dr
from daskroi.bytesource import ByteSource
from daskroi.kernels import REDUCERS
from daskroi.regions import RegionIndex
from daskroi.nifti import NiftiFile
from daskroi.recipe import Recipe
from daskroi.steps import CleanSteps


@pytest.fixture
def no_compute():
    """A scheduler that raises: nothing may be computed while a graph is built."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("computed while building")

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    run = images.run(rng, (8, 8, 8, 60))
    return {
        "nii": images.save(run, tmp_path / "run.nii"),
        "gz": images.save(run, tmp_path / "run.nii.gz"),
        "atlas": dr.load_atlas(images.labels(rng, (8, 8, 8))),
        "mask": images.save(images.labels(rng, (8, 8, 8)), tmp_path / "mask.nii"),
    }


@pytest.mark.parametrize("source", ["nii", "gz"])
@pytest.mark.parametrize("strategy", REDUCERS)
def test_building_computes_nothing(files: dict[str, Any], source: str, strategy: str, no_compute):
    for image in (files[source], dr.open_image(files[source], chunks=(5, 4, 8, 3)) * 2):
        ts = dr.extract(
            image,
            {"a": files["atlas"], "b": files["atlas"]},
            strategy=strategy,
            min_coverage=0.5,
            high_variance_confounds=True,
            confounds=np.random.default_rng(0).random((60, 2)),
            sample_mask=np.arange(3, 60),
            detrend=True,
            low_pass=0.1,
            high_pass=0.01,
            standardize="zscore_sample",
        )
        assert ts["a"].sizes == {"time": 57, "region": 4}
        assert str(ts["a"])


def test_an_8_tb_file_opens_at_once(tmp_path: Path, no_compute) -> None:
    rng = np.random.default_rng(0)
    path = images.save(images.run(rng, (8, 8, 8, 2)), tmp_path / "huge.nii")
    with path.open("r+b") as file:  # 1,000 x 1,000 x 1,000 x 2,000 float32
        file.seek(40)
        file.write(np.array([4, 1000, 1000, 1000, 2000, 1, 1, 1], "<i2").tobytes())
    os.truncate(path, 352 + 8 * 10**12)  # sparse: no disk is used
    image = dr.open_image(path, chunks={"time": 1})
    assert image.nbytes == 8 * 10**12
    labels = images.labels(rng, (8, 8, 8))
    ts = dr.extract(image.isel(x=slice(0, 8), y=slice(0, 8), z=slice(0, 8)), labels)
    assert ts.shape == (2000, 4)


def test_opening_reads_the_header_only(files: dict[str, Any]) -> None:
    raw = gzip.decompress(files["gz"].read_bytes())
    voxels = files["gz"].with_name("broken.nii.gz")
    # the stream breaks right after the header: whoever reads on meets an error
    voxels.write_bytes(gzip.compress(raw[:2048]) + b"\0" * 4000)
    assert dr.open_image(voxels).shape == (60, 8, 8, 8)


def graph_size(ts: Any) -> int:
    return len(dict(ts.__dask_graph__()))


def test_graph_size_depends_on_blocks_not_on_regions(files: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    few = images.labels(rng, (8, 8, 8), (1, 2))
    many = images.labels(rng, (8, 8, 8), tuple(range(1, 200)))
    for image, blocks in (
        (files["gz"], 1),
        (dr.open_image(files["nii"], chunks=1), 60),
        (dr.open_image(files["nii"], chunks=(15, 4, 4, 8)), 16),
    ):
        sizes = [graph_size(dr.extract(image, a, detrend=True)) for a in (few, many)]
        assert sizes[0] == sizes[1]
        assert sizes[0] <= 12 * blocks + 20


def test_the_graph_carries_no_voxels(files: dict[str, Any]) -> None:
    """Pickled, it is the region index (4 bytes a voxel) and little else, whatever the run."""
    graph = dict(dr.extract(files["nii"], files["atlas"], chunks=2).__dask_graph__())
    voxels = 8 * 8 * 8 * 60 * 4
    assert len(pickle.dumps(graph)) < voxels


def test_names_are_deterministic(files: dict[str, Any]) -> None:
    for image in (files["nii"], files["gz"]):
        first, second = (dr.extract(image, files["atlas"], detrend=True) for _ in range(2))
        assert first.data.name == second.data.name


def test_every_option_is_in_the_key(files: dict[str, Any]) -> None:
    """Two extractions that differ in one option must never share a result."""
    confounds = np.random.default_rng(0).random((60, 2))
    options = [
        {},
        {"strategy": "median"},
        {"strategy": "variance"},
        {"nan_policy": "omit"},
        {"nan_policy": "propagate"},
        {"min_coverage": 0.5},
        {"min_coverage": 0.6},
        {"mask_img": files["mask"]},
        {"detrend": True},
        {"standardize": "psc"},
        {"standardize": "zscore_sample"},
        {"high_pass": 0.02},
        {"high_pass": 0.02, "t_r": 2.5},
        {"low_pass": 0.1},
        {"low_pass": 0.1, "butterworth__order": 2},
        {"filter": "cosine", "high_pass": 0.02},
        {"confounds": confounds},
        {"confounds": confounds + 1e-9},
        {"confounds": confounds, "standardize_confounds": False},
        {"high_variance_confounds": True},
        {"sample_mask": np.arange(2, 60)},
        {"sample_mask": np.arange(58)},
        {"dtype": "float64"},
    ]
    names = []
    for o in options:
        with (
            pytest.warns()
            if o.get("t_r") or not o.get("standardize_confounds", True)
            else (dask.config.set({}))
        ):
            names.append(dr.extract(files["nii"], files["atlas"], **o).data.name)
    assert len(set(names)) == len(names), [
        o for o, n in zip(options, names, strict=True) if names.count(n) > 1
    ]


@pytest.mark.parametrize(
    "value",
    [
        Recipe(),
        CleanSteps(high_pass=0.01, t_r=2.0),
        NiftiFile(
            ByteSource("/x.nii", 1, 1, False),
            dr.Grid.make((2, 2, 2), np.eye(4)),
            3,
            "<f4",
            352,
        ),
        ByteSource("/x.nii", 1, 1, False),
        dr.Grid.make((2, 2, 2), np.eye(4)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_changing_any_field_changes_the_token(value: Any) -> None:
    other: dict[type, list[Any]] = {
        bool: [True, False],
        int: [7],
        float: [0.5],
        str: ["zscore_sample", "cosine", "/y.nii", "median", "omit"],
        tuple: [(("order", 3),), ((5.0,) * 4,) * 4, (3, 3, 3)],
        type(None): [0.25, "psc", 4],
        ByteSource: [ByteSource("/z.nii", 1, 1, False)],
        dr.Grid: [dr.Grid.make((3, 2, 2), np.eye(4))],
    }
    token = dask.base.tokenize(value)
    assert token == dask.base.tokenize(pickle.loads(pickle.dumps(value)))
    for field in dataclasses.fields(value):
        now = getattr(value, field.name)
        changed = 0
        for new in other[type(now)]:
            try:
                changed_value = dataclasses.replace(value, **{field.name: new})
            except ValueError:
                continue  # not valid for this field
            if new != now:
                assert dask.base.tokenize(changed_value) != token, field.name
                changed += 1
        assert changed, f"nothing was tried for {field.name}"


def test_region_index_token_is_its_content() -> None:
    labels = np.array([[[0, 1, 2, 2]]])
    ids = np.array([1, 2])
    a, b = RegionIndex.of_labels(labels, ids), RegionIndex.of_labels(labels.copy(), ids)
    assert dask.base.tokenize(a) == dask.base.tokenize(b)
    c = RegionIndex.of_labels(labels[..., ::-1], ids)
    assert dask.base.tokenize(a) != dask.base.tokenize(c)
