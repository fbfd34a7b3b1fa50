"""``daskroi extract`` with smoothing, resampling, atlases of maps, and seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clirun import check_ok, invoke, tables

import daskroi as dr
from daskroi import clioptions


def sidecar_in(out: Path) -> dict[str, Any]:
    [path] = out.glob("*_timeseries.json")
    return json.loads(path.read_text())


FUSED = {"Method": "fused", "RelativeErrorBound": 1e-9}
RESAMPLED = {"ImageResampling": "cubic spline, not clipped"}
CLIPPED = {"Method": "voxelwise", "ImageResampling": "cubic spline, clipped"}


@pytest.mark.parametrize("image", ["plain", "image"])
@pytest.mark.parametrize(
    ("options", "same", "said"),
    [
        (("--smoothing", 6), {"smoothing_fwhm": 6}, FUSED | {"SmoothingFWHM": 6.0}),
        (("--smoothing-fwhm=5.5",), {"smoothing_fwhm": 5.5}, FUSED | {"SmoothingFWHM": 5.5}),
        (
            ("--smoothing_fwhm", "6,6,4"),
            {"smoothing_fwhm": (6, 6, 4)},
            FUSED | {"SmoothingFWHM": [6.0, 6.0, 4.0]},
        ),
        (("--smoothing=fast",), {"smoothing_fwhm": "fast"}, FUSED | {"SmoothingFWHM": "fast"}),
        (
            ("--smoothing", 6, "--spatial", "voxelwise"),
            {"smoothing_fwhm": 6, "spatial": "voxelwise"},
            {"Method": "voxelwise", "SmoothingFWHM": 6.0},
        ),
        (
            ("--smoothing", 6, "--strategy", "median"),
            {"smoothing_fwhm": 6, "strategy": "median"},
            {"Method": "voxelwise", "SmoothingFWHM": 6.0},
        ),
        (
            ("--resampling-target", "labels", "--spatial", "fused"),
            {"resampling_target": "labels"},
            FUSED | RESAMPLED,
        ),
        (
            ("--resampling-target", "labels", "--resampling-clip"),
            {"resampling_target": "labels", "resampling_clip": True},
            CLIPPED,
        ),
        (
            ("--resampling-target", "labels", "--spatial", "voxelwise"),
            {"resampling_target": "labels", "spatial": "voxelwise"},
            CLIPPED,
        ),
        (
            ("--resampling-target=labels", "--spatial=voxelwise", "--no-resampling-clip"),
            {"resampling_target": "labels", "spatial": "voxelwise", "resampling_clip": False},
            RESAMPLED | {"Method": "voxelwise"},
        ),
        ((), {}, {"Method": "direct"}),
    ],
    ids=lambda v: " ".join(map(str, v)) if isinstance(v, tuple) else "",
)
def test_smoothing_and_resampling(files, tmp_path, image, options, same, said):
    path = getattr(files, image)
    args = ("extract", path, "--atlas", files.coarse, *options, "-o", tmp_path)
    check_ok(invoke(*args))
    back = dr.read_timeseries(next(tmp_path.glob("*_timeseries.tsv")))
    expected = dr.extract(path, files.coarse, **same).compute()
    np.testing.assert_array_equal(back.values, expected.values)
    found = sidecar_in(tmp_path)
    assert found["Spatial"] == said
    assert found["Recipe"].items() >= json.loads(json.dumps(same)).items()
    assert "up to date" in check_ok(invoke(*args)).stderr


def test_maps_and_seeds(files, tmp_path):
    atlases = ("--atlas", files.atlas, "--atlas", files.maps, "--seeds", files.seeds)
    seeds = ("--seeds", f"Points={files.seeds}")
    for radius in ((), ("--radius", 3)):
        out = tmp_path / f"out{len(radius)}"
        check_ok(invoke("extract", files.plain, *atlases, *radius, "-o", out))
        spheres = dr.load_atlas(
            [(4, 6, 4), (8, 8, 4)], labels=["PCC", "IPL"], radius=radius[1] if radius else None
        )
        wanted = {"Block": files.atlas, "Soft": files.maps, "Net": spheres}
        paths = sorted(out.glob("*_timeseries.tsv"))
        assert len(paths) == 3
        for name, atlas in wanted.items():
            [path] = out.glob(f"mybold_atlas-{name}_stat-mean_timeseries.tsv")
            back = dr.read_timeseries(path)
            expected = dr.extract(files.plain, atlas).compute()
            np.testing.assert_array_equal(back.values, expected.values)
            for coord in ("region", "region_name", "n_voxels", "coverage", "size_mm3"):
                np.testing.assert_array_equal(back[coord], expected[coord])
        assert list(pd.read_csv(paths[1], sep="\t").columns) == ["PCC", "IPL"]
        found = json.loads(paths[1].with_suffix(".json").read_text())
        assert (found["Regions"]["size_mm3"] == [None, None]) is (not radius)
        assert found["Sources"] == [str(files.plain), str(files.seeds)]
    # nilearn's dicts of one atlas have a key "maps"
    check_ok(invoke("extract", files.plain, "--atlas", f"maps={files.maps}", "-o", tmp_path / "m"))
    assert list(tables(tmp_path / "m")) == ["mybold_atlas-maps_stat-mean_timeseries.tsv"]
    # seeds alone
    check_ok(invoke("extract", files.plain, *seeds, "-o", tmp_path / "alone"))
    [name] = tables(tmp_path / "alone")
    assert name == "mybold_atlas-Points_stat-mean_timeseries.tsv"


def test_least_squares_of_maps(files, tmp_path):
    args = ("extract", files.plain, "--atlas", files.maps, "-o", tmp_path)
    values = {}
    for method in clioptions.MAPS_METHODS:
        check_ok(invoke(*args, "--maps-method", method))
        stat = "lstsq" if method == "lstsq" else "mean"
        [table] = [t for name, t in tables(tmp_path).items() if f"_stat-{stat}_" in name]
        values[method] = table.to_numpy()
        expected = dr.extract(files.plain, files.maps, maps_method=method)
        np.testing.assert_allclose(values[method], expected, rtol=1e-6)
    assert not np.allclose(values["mean"], values["lstsq"])


def test_names_of_maps_and_seeds(files, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("index,name\n7,DMN\n3,Salience\n5,Visual\n")
    seeds = tmp_path / "s=1.csv"
    seeds.write_text("Index,X,Y,Z\n20,4,6,4\n10,8,8,4\n")
    args = ("--atlas", files.maps, "--labels-table", table, "--seeds", seeds)
    check_ok(invoke("extract", files.plain, *args, "-o", tmp_path / "out"))
    soft, spheres = (
        dr.read_timeseries(next((tmp_path / "out").glob(f"*_atlas-{name}_*_timeseries.tsv")))
        for name in ("Soft", "s1")
    )
    assert dict(zip(soft.region.values.tolist(), soft.region_name.values, strict=True)) == {
        7: "DMN",
        3: "Salience",
        5: "Visual",
    }
    assert spheres.sizes["region"] == 2
