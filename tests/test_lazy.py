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
import nibabel as nib
import numpy as np
import pytest

import daskroi as dr
from daskroi.bytesource import ByteSource
from daskroi.kernels import REDUCERS
from daskroi.nifti import NiftiFile
from daskroi.recipe import Recipe
from daskroi.regions import RegionIndex
from daskroi.repetition import RepetitionTime
from daskroi.steps import CleanSteps
from daskroi.urls import StorageOptions


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    run = images.run(rng, (8, 8, 8, 60))
    return {
        "nii": images.save(run, tmp_path / "run.nii"),
        "gz": images.save(run, tmp_path / "run.nii.gz"),
        "atlas": dr.load_atlas(images.labels(rng, (8, 8, 8))),
        "mask": images.save(images.labels(rng, (8, 8, 8)), tmp_path / "mask.nii"),
        "coarse": dr.load_atlas(images.labels(rng, (5, 5, 5), affine=COARSE)),
        "maps": dr.load_atlas(soft(rng)),
        "spheres": dr.load_atlas([(6, 6, 6), (8, 8, 8)], radius=4),
    }


COARSE = np.diag([2.5, 2.5, 2.5, 1.0])
# ways an image gets to the regions: which atlas, options, and whether fused
SPATIAL: list[tuple[str, dict[str, Any], bool]] = [
    ("atlas", {"smoothing_fwhm": 4}, True),
    ("atlas", {"smoothing_fwhm": "fast"}, True),
    ("atlas", {"smoothing_fwhm": (4, 4, 5), "spatial": "voxelwise"}, False),
    ("atlas", {"smoothing_fwhm": 4, "strategy": "median"}, False),
    ("coarse", {}, False),
    ("coarse", {"resampling_target": "labels"}, True),
    ("coarse", {"resampling_target": "labels", "smoothing_fwhm": 4}, True),
    ("coarse", {"resampling_target": "labels", "resampling_clip": True}, False),
    ("coarse", {"resampling_target": "labels", "smoothing_fwhm": 4, "strategy": "median"}, False),
    ("coarse", {"resampling_target": "labels", "nan_policy": "propagate"}, False),
    ("maps", {}, False),
    ("maps", {"smoothing_fwhm": 4}, True),
    ("maps", {"maps_method": "lstsq"}, False),
    ("maps", {"maps_method": "lstsq", "smoothing_fwhm": 4}, True),
    ("spheres", {}, False),
    ("spheres", {"smoothing_fwhm": 4, "resampling_target": "labels"}, True),
    ("spheres", {"strategy": "median"}, False),
]


def soft(rng: np.random.Generator) -> nib.Nifti1Image:
    return nib.Nifti1Image(rng.random((8, 8, 8, 3)).astype("f4"), images.STRAIGHT)


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


@pytest.mark.parametrize("source", ["nii", "gz"])
def test_building_in_any_way_reads_no_voxel(
    files: dict[str, Any], source: str, monkeypatch: pytest.MonkeyPatch, no_compute
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("read or fused while building")

    for place in ("daskroi.nifti.NiftiFile.slabs", "daskroi.nifti.NiftiFile.read"):
        monkeypatch.setattr(place, refuse)
    monkeypatch.setattr("daskroi.weights._fuse", refuse)
    for image in (files[source], dr.open_image(files[source], chunks=(5, 4, 8, 3)) * 2):
        for atlas, options, fused in SPATIAL:
            ts = dr.extract(image, {"a": files[atlas]}, detrend=True, **options)["a"]
            assert ts.sizes["time"] == 60
            assert (ts.attrs["spatial"] == "fused") is fused
            assert str(ts)


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


def names_in(ts: Any) -> list[str]:
    """Keys of the graph, without chunk numbers and hashes."""
    keys = (k if isinstance(k, str) else k[0] for k in dict(ts.__dask_graph__()))
    return [key.rsplit("-", 1)[0] for key in keys]


@pytest.mark.parametrize(
    ("target", "options"),
    [(target, options) for target, options, _ in SPATIAL if target in ("atlas", "coarse")],
    ids=str,
)
def test_graph_size_of_every_way(
    files: dict[str, Any], target: str, options: dict[str, Any]
) -> None:
    rng = np.random.default_rng(1)
    shape, affine = ((8, 8, 8), images.STRAIGHT) if target == "atlas" else ((5, 5, 5), COARSE)
    few = images.labels(rng, shape, (1, 2), affine)
    many = images.labels(rng, shape, tuple(range(1, 20)), affine)
    for image, blocks in (
        (files["gz"], 1),
        (dr.open_image(files["nii"], chunks=1), 60),
        (dr.open_image(files["nii"], chunks=(15, 4, 4, 8)), 16),
    ):
        sizes = [
            graph_size(dr.extract(image, atlases, detrend=True, **options))
            for atlases in (few, many)
        ]
        assert sizes[0] == sizes[1]
        assert sizes[0] <= 14 * blocks + 20


@pytest.mark.parametrize("source", ["nii", "gz"])
@pytest.mark.parametrize(("atlas", "options", "fused"), SPATIAL, ids=str)
def test_weights_are_made_by_one_task(
    files: dict[str, Any], source: str, atlas: str, options: dict[str, Any], fused: bool
) -> None:
    """The operator and the fused weights are one key each, whatever the number of atlases."""
    atlases = {"a": files[atlas], "b": files[atlas]}
    both = dr.extract(files[source], atlases, chunks=7, **options)
    graph = {k: v for ts in both.values() for k, v in dict(ts.__dask_graph__()).items()}
    keys = [str(k) for k in graph]
    assert sum(k.startswith("operator-") for k in keys) == 1
    assert sum(k.startswith("_fused-") for k in keys) == fused


def test_fused_weights_are_not_in_the_graph(tmp_path: Path) -> None:
    """They are far larger than the regions they are of, and are made where they are used."""
    rng = np.random.default_rng(0)
    run = images.save(images.run(rng, (16, 16, 16, 30)), tmp_path / "run.nii")
    atlas = dr.load_atlas(images.labels(rng, (16, 16, 16), tuple(range(1, 40))))
    kw: dict[str, Any] = {"smoothing_fwhm": 8, "chunks": 1}
    fused, plain = (
        dr.extract(run, atlas, **options).__dask_graph__() for options in (kw, {"chunks": 1})
    )
    sizes = [len(pickle.dumps(dict(graph))) for graph in (fused, plain)]
    [operator] = [v for k, v in dict(fused).items() if str(k).startswith("operator-")]
    operator = getattr(operator, "value", operator)
    weights = operator.fused().weights.all_weights.nbytes
    assert weights > 500_000
    assert sizes[0] - sizes[1] < 5_000
    # nor does an operator that was used carry what it kept
    assert len(pickle.dumps(operator)) < weights / 10


def test_the_graph_carries_no_voxels(files: dict[str, Any]) -> None:
    """Pickled, it is the region index (4 bytes a voxel) and little else, whatever the run."""
    voxels = 8 * 8 * 8 * 60 * 4
    for atlas, options, _ in [("atlas", {}, False), *SPATIAL]:
        ts = dr.extract(files["nii"], files[atlas], chunks=2, **options)
        assert len(pickle.dumps(dict(ts.__dask_graph__()))) < voxels, (atlas, options)


def test_names_are_deterministic(files: dict[str, Any]) -> None:
    for image in (files["nii"], files["gz"]):
        for atlas, options, _ in [("atlas", {}, False), *SPATIAL]:
            first, second = (
                dr.extract(image, files[atlas], detrend=True, **options) for _ in range(2)
            )
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


def test_every_spatial_option_is_in_the_key(files: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    maps = soft(rng)
    other = nib.Nifti1Image(np.asarray(maps.dataobj).copy(), maps.affine)
    other.dataobj[4, 4, 4, 1] += 1e-6
    seeds = [(6.0, 6, 6), (8, 8, 8)]
    inside = np.ones((8, 8, 8), "u1")
    inside[0] = 0
    mask = nib.Nifti1Image(inside, images.STRAIGHT)
    labels = {"resampling_target": "labels"}
    cases: list[tuple[Any, dict[str, Any]]] = [
        (files["coarse"], {}),
        (files["coarse"], labels),
        (files["coarse"], {"smoothing_fwhm": 4}),
        (files["coarse"], {"smoothing_fwhm": 5}),
        (files["coarse"], {"smoothing_fwhm": "fast"}),
        (files["coarse"], {"smoothing_fwhm": (4, 4, 5)}),
        (files["coarse"], {"smoothing_fwhm": (4, 5, 4)}),
        (files["coarse"], {"smoothing_fwhm": 4, "spatial": "voxelwise"}),
        (files["coarse"], {"smoothing_fwhm": 4, "nan_policy": "omit"}),
        (files["coarse"], {"smoothing_fwhm": 4, **labels}),
        (files["coarse"], {"smoothing_fwhm": 5, **labels}),
        (files["coarse"], {"smoothing_fwhm": "fast", **labels}),
        (files["coarse"], {"smoothing_fwhm": 4, "mask_img": mask, **labels}),
        (files["coarse"], {"resampling_clip": True, **labels}),
        (files["coarse"], {"spatial": "voxelwise", "resampling_clip": False, **labels}),
        (files["coarse"], {"strategy": "median", **labels}),
        (files["coarse"], {"strategy": "median", "resampling_clip": False, **labels}),
        (files["coarse"], {"strategy": "sum", **labels}),
        (maps, {}),
        (other, {}),
        (maps, {"maps_method": "lstsq"}),
        (other, {"maps_method": "lstsq"}),
        (maps, {"smoothing_fwhm": 4}),
        (other, {"smoothing_fwhm": 4}),
        (maps, {"smoothing_fwhm": 4, "maps_method": "lstsq"}),
        (dr.load_atlas(seeds), {}),
        (dr.load_atlas(seeds, radius=3), {}),
        (dr.load_atlas(seeds, radius=5), {}),
        (dr.load_atlas(seeds[::-1], radius=5), {}),
        (dr.load_atlas(seeds, radius=5), {"smoothing_fwhm": 4}),
    ]
    for image in (files["nii"], files["gz"]):
        for plan in ("stream", "blocks"):
            names = [dr.extract(image, a, plan=plan, **o).data.name for a, o in cases]
            assert len(set(names)) == len(names), [
                o for (_, o), n in zip(cases, names, strict=True) if names.count(n) > 1
            ]
            again = [dr.extract(image, a, plan=plan, **o).data.name for a, o in cases]
            assert again == names


@pytest.mark.parametrize(
    "value",
    [
        Recipe(),
        CleanSteps(high_pass=0.01, t_r=2.0),
        NiftiFile(
            source=ByteSource("/x.nii", 1, "1", False),
            grid=dr.Grid.make((2, 2, 2), np.eye(4)),
            n_time=3,
            dtype="<f4",
            offset=352,
        ),
        ByteSource("/x.nii", 1, "1", False),
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
        ByteSource: [ByteSource("/z.nii", 1, "1", False)],
        StorageOptions: [StorageOptions({"anon": True})],
        dr.Grid: [dr.Grid.make((3, 2, 2), np.eye(4))],
        RepetitionTime: [RepetitionTime(2.0, "header"), RepetitionTime(None, "header", 2000.0)],
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
