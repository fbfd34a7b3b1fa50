"""Results on disk: what their sidecar says was done, to what, with an atlas of any kind."""

from __future__ import annotations

import json
from typing import Any

import images
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from results import result

import daskroi as dr
from daskroi import outputs, sidecar, store, targets


def test_sidecar_says_what_was_done_to_what_by_what(tmp_path):
    image, mask = tmp_path / "bold.nii", tmp_path / "mask.nii"
    image.write_bytes(b"12345")
    mask.write_bytes(b"1")
    confounds = json.dumps(["csf", "trans_x"])
    given_ = result(coverage=[0.25, np.nan, 1.0], confounds=confounds)
    outputs.write(targets.as_target("memory://test-store/atlas.nii"), b"abc")
    atlas = "memory://test-store/atlas.nii"
    inputs = {"image": image, "mask": mask, "confounds": None, "atlas": atlas}
    written = store.write_run(given_, tmp_path / "out", "x", inputs=inputs)
    text = written.sidecar.read_text()
    found = json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert found["Recipe"] == {"strategy": "mean", "clean": {}}
    assert found["Confounds"] == ["csf", "trans_x"]
    assert found["Atlas"] == {"Name": "My-Atlas_1", "SHA256": "abc"}
    assert found["Regions"] == {
        "index": [10, 20, 30],
        "name": ["region 0", "region 1", "region 2"],
        "n_voxels": [5, 6, 7],
        "size_mm3": [0.0, 8.0, 16.0],
        "coverage": [0.25, None, 1.0],
    }
    assert found["Sources"] == [str(image), str(mask), "memory://test-store/atlas.nii"]
    [file] = found["Inputs"]["image"]
    assert (file["Path"], file["Size"]) == (str(image), 5)
    modified = pd.Timestamp(file["ModificationTime"]).timestamp()
    assert modified == pytest.approx(image.stat().st_mtime, abs=1e-5)
    assert "confounds" not in found["Inputs"]
    assert found["GeneratedBy"] == [{"Name": "daskroi", "Version": dr.__version__}]
    versions = found["SoftwareVersions"]
    assert set(versions) == {"daskroi", "numpy", "scipy", "dask", "xarray", "nibabel"}
    assert versions["numpy"] == np.__version__
    # 400 regions should not be 2,000 lines
    assert len(text.splitlines()) < 70
    back = dr.read_timeseries(written.timeseries)
    for name in ("region", "region_name", "n_voxels", "coverage", "size_mm3"):
        np.testing.assert_array_equal(back[name], given_[name])


def test_bids_uris_can_be_given(tmp_path):
    written = store.write_run(result(), tmp_path, "x", sources=["bids:raw:sub-01/x.nii"])
    assert sidecar.read_sidecar(written.sidecar)["Sources"] == ["bids:raw:sub-01/x.nii"]


def spatial_cases() -> dict[str, tuple[Any, dict[str, Any], dict[str, Any]]]:
    """Atlas, options, and what the sidecar says of them."""
    rng = np.random.default_rng(0)
    soft = nib.Nifti1Image(rng.random((6, 7, 5, 3)), images.STRAIGHT)
    coarse = images.labels(rng, (4, 4, 3), affine=np.diag([3.0, 3, 3, 1]))
    seeds = [(4, 6, 4), (8, 8, 4)]
    fused = {"Method": "fused", "RelativeErrorBound": 1e-9}
    return {
        "maps": (soft, {}, {"Method": "direct"}),
        "least squares": (soft, {"maps_method": "lstsq"}, {"Method": "direct"}),
        "smoothed maps": (soft, {"smoothing_fwhm": 4}, fused | {"SmoothingFWHM": 4.0}),
        "spheres": (dr.load_atlas(seeds, radius=3), {}, {"Method": "direct"}),
        "seeds": (dr.load_atlas(seeds), {"smoothing_fwhm": (4, 4, 5)},
                  fused | {"SmoothingFWHM": [4.0, 4.0, 5.0]}),
        "labels' grid": (coarse, {"resampling_target": "labels"},
                         fused | {"ImageResampling": "cubic spline, not clipped"}),
        "clipped": (coarse, {"resampling_target": "labels", "strategy": "median"},
                    {"Method": "voxelwise", "ImageResampling": "cubic spline, clipped"}),
    }  # fmt: skip


@pytest.mark.parametrize("case", spatial_cases())
def test_results_of_any_atlas_come_back(tmp_path, case):
    atlas, options, said = spatial_cases()[case]
    run = images.run(np.random.default_rng(1), (6, 7, 5, 9))
    lazy = dr.extract(run, atlas, **options)
    assert store.differences(lazy, tmp_path, "x") is None
    computed = lazy.compute()
    written = store.write_run(computed, tmp_path, "x")
    assert store.differences(lazy, tmp_path, "x") == []
    back = dr.read_timeseries(written.timeseries)
    np.testing.assert_array_equal(back.values, computed.values)
    for name in ("time", "region", "region_name", "n_voxels", "coverage", "size_mm3"):
        np.testing.assert_array_equal(back[name], computed[name])
    assert sidecar.read_sidecar(written.sidecar)["Spatial"] == said
    table = pd.read_csv(written.coverage, sep="\t", dtype={"Node": str})
    assert table["Node"].tolist() == computed.region_name.values.tolist()
    np.testing.assert_array_equal(table["coverage"], computed.coverage)


def test_seeds_without_a_radius_have_no_size(tmp_path):
    run = images.run(np.random.default_rng(1), (6, 7, 5, 9))
    ts = dr.extract(run, dr.load_atlas([(4, 6, 4), (8, 8, 4)])).compute()
    written = store.write_run(ts, tmp_path, "x")
    assert sidecar.read_sidecar(written.sidecar)["Regions"]["size_mm3"] == [None, None]
    assert np.isnan(dr.read_timeseries(written.timeseries).size_mm3).all()
