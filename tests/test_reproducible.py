"""The same input is the same result, to the bit: in another process, in whatever surroundings.

What differs on purpose: seconds and memory in ``runs.tsv`` and in a cohort's ``index.html``, and in
pages the date and the number that allows their scripts, unless SOURCE_DATE_EPOCH is set.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import everything
import images
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_info, threadpool_limits

import daskroi as dr
from daskroi.clidemo import N_REGIONS, N_TIME, SIZES
from daskroi.onethread import one_thread
from daskroi.store import run_prefix, write_run

# the first has the time that runs took, the second shows it
TIMED = ("file bids/runs.tsv", "file bids/index.html")


def run(folder: Path, out: Path, env: dict[str, str], cwd: Path | None = None) -> dict[str, str]:
    """Digests of everything, made by a process of its own."""
    command = [sys.executable, everything.__file__, folder, out]
    surroundings = os.environ | {"SOURCE_DATE_EPOCH": "1700000000"} | env
    done = subprocess.run(
        list(map(str, command)), env=surroundings, cwd=cwd, timeout=240, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    everything.make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def usual(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As this machine is, with two threads of BLAS at least."""
    out = tmp_path_factory.mktemp("usual") / "out"
    return run(inputs, out, {"OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "0"})


@pytest.mark.timeout(300)
def test_everything_again_in_odd_surroundings(
    inputs: Path, usual: dict[str, str], tmp_path: Path
) -> None:
    """Another hash seed, BLAS, time zone, locale, folder, Dask and NumPy; see `everything`."""
    locale = _german(tmp_path)
    env = {
        "DASKROI_ODD": "1",
        "PYTHONHASHSEED": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TZ": "Asia/Tokyo",
        "PYTHONWARNDEFAULTENCODING": "1",
        **locale,
    }
    relative = Path(os.path.relpath(inputs, tmp_path)), Path("out")
    found = run(*relative, env, tmp_path)
    assert len(found) > 140
    assert found.keys() == usual.keys()
    different = {k for k in found if found[k] != usual[k]}
    # chunks of what is in memory, and the order of atlases, are part of a graph, not of a number
    keys = {"key memory", "key median of memory", *(f"key {n} of three" for n in "abc")}
    assert different - set(TIMED) == keys


def _german(folder: Path) -> dict[str, str]:
    """A locale with decimal commas and an encoding that is not UTF-8, where it can be made."""
    if shutil.which("localedef") and Path("/usr/share/i18n/locales/de_DE").exists():
        there = folder / "locale"
        there.mkdir()
        subprocess.run(
            ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", there / "de_DE"], check=True
        )
        return {"LOCPATH": str(there), "LC_ALL": "de_DE"}
    return {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.timeout(120)
def test_the_demo_is_what_it_is_here(tmp_path: Path) -> None:
    """On two workers of a cluster and in this process: the run, its confounds, its series."""
    there, here = tmp_path / "there", tmp_path / "here"
    command = [sys.executable, "-m", "daskroi", "demo", "--out", str(there)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    phantom = dr.make_phantom(SIZES["small"], N_TIME, n_regions=N_REGIONS)
    paths = dr.write_phantom(here, phantom, gz=False)
    atlas = dr.load_atlas(paths["atlas"], lut=paths["labels"])
    columns = list(phantom.regressors)
    cleaned = dr.extract(
        paths["image"], atlas, detrend=True, confounds=paths["confounds"], columns=columns
    ).compute()
    write_run(cleaned, here / "timeseries", run_prefix(paths["image"]))
    found = [
        # a sidecar names the inputs and when they were made
        {
            p.relative_to(out): p.read_bytes()
            for p in out.rglob("*.*")
            if "series.json" not in p.name
        }
        for out in (there, here)
    ]
    assert len(found[0]) == 8
    assert found[0] == found[1]


# in one process


@pytest.fixture(scope="module")
def doubles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run in float64, whose sums round; and its atlas."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("doubles")
    path = images.save(images.run(rng, (9, 8, 10, 23), "f8"), folder / "run.nii")
    images.save(images.run(np.random.default_rng(0), (9, 8, 10, 23), "f8"), folder / "run.nii.gz")
    return path, dr.load_atlas(images.labels(rng, (9, 8, 10)))


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "smooth": {"smoothing_fwhm": 5},
    "median": {"strategy": "median"},
    "variance": {"strategy": "variance"},
    "cleaned": {"detrend": True, "standardize": "zscore_sample", "high_variance_confounds": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_threads_plans_and_chunks_of_time(doubles: tuple[Path, Any], way: str) -> None:
    path, atlas = doubles
    options = WAYS[way]
    expected = dr.extract(path, atlas, **options).compute(scheduler="synchronous").values
    found = []
    for threads in (1, 2, 8):
        with dask.config.set(scheduler="threads", num_workers=threads):
            found += [
                dr.extract(path, atlas, plan=plan, chunks=chunks, **options).values
                for plan, chunks in (("stream", "auto"), ("blocks", 1), ("blocks", 5))
            ]
    found.append(dr.extract(path.with_suffix(".nii.gz"), atlas, **options).values)
    for one in found:
        np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize("way", WAYS)
def test_memory_layout_byte_order_and_chunk_size(doubles: tuple[Path, Any], way: str) -> None:
    path, atlas = doubles
    options = WAYS[way]
    image = dr.open_image(path).compute()
    expected = dr.extract(image, atlas, **options).values
    values = image.values
    forms = (
        np.asfortranarray(values),
        values.astype(">f8"),
        np.ascontiguousarray(values[:, ::-1, :, ::-1])[:, ::-1, :, ::-1],
    )
    for form in forms:
        found = dr.extract(image.copy(data=form), atlas, **options).compute()
        assert found.dtype.isnative
        np.testing.assert_array_equal(found, expected)
    # whatever chunks Dask is told to make of arrays: never in space
    for size in ("1kiB", "6kiB", "1GiB"):
        with dask.config.set({"array.chunk-size": size}):
            np.testing.assert_array_equal(dr.extract(image, atlas, **options), expected)


def test_masks_atlases_and_confounds_of_the_other_byte_order(doubles: tuple[Path, Any]) -> None:
    path, atlas = doubles
    image = dr.open_image(path)
    confounds = np.random.default_rng(1).standard_normal((23, 3))
    mask = (atlas.image != 1).astype("i2")
    mask.values.flat[::3] = 1  # of region 1, a third
    expected = dr.extract(path, atlas, mask_img=mask, confounds=confounds).compute()
    other = dr.load_atlas(atlas.image.astype(">i4"), lut=atlas.table)
    for form in (confounds.astype(">f8"), np.asfortranarray(confounds)):
        found = dr.extract(image, other, mask_img=mask.astype(">i2"), confounds=form).compute()
        np.testing.assert_array_equal(found, expected)
        assert found.region.dtype.isnative
    assert other.hash == atlas.hash


def test_company_and_order_of_atlases(doubles: tuple[Path, Any]) -> None:
    """Labels beside maps and spheres are what they are alone, whichever comes first."""
    path, atlas = doubles
    maps = atlas.image.astype("f8").expand_dims(map=2).values * [[[[0.1]]], [[[0.03]]]]
    soft = dr.load_atlas(nib.Nifti1Image(maps.T, np.array(atlas.grid.affine)))
    several = {"a": atlas, "b": soft, "c": dr.load_atlas([(4, 6, 8), (10, 8, 6)], radius=6)}
    alone = {name: dr.extract(path, one).compute() for name, one in several.items()}
    for order in (("a", "b", "c"), ("c", "b", "a"), ("b", "a"), ("a", "c")):
        together = dr.extract(path, {name: several[name] for name in order})
        for name in order:
            np.testing.assert_array_equal(together[name], alone[name])


@pytest.mark.parametrize("kind", ["correlation", "partial correlation", "tangent"])
def test_matrices_by_any_number_of_threads(kind: str) -> None:
    """BLAS on two threads gives other last bits, and with tasks beside it others every time."""
    rng = np.random.default_rng(0)
    runs = [
        xr.DataArray(rng.standard_normal((150, 50)), dims=("time", "region")).chunk()
        for _ in range(6)
    ]
    with threadpool_limits(1, user_api="blas"):
        expected = dr.connectome(runs, kind=kind).compute(scheduler="synchronous").values
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:  # as when workers' pools come and go
            many = list(
                pool.map(lambda _: dr.connectome(runs, kind=kind).compute(num_workers=3), range(4))
            )
        for one in many:
            np.testing.assert_array_equal(one, expected)


def test_one_thread_is_put_back() -> None:
    def threads() -> list[int]:
        return [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]

    with one_thread():  # loads what there is
        pass
    before = threads()

    def inside(i: int) -> list[int]:
        with one_thread(), one_thread():
            return threads()

    with ThreadPoolExecutor(6) as pool:
        assert all(set(found) == {1} for found in pool.map(inside, range(300)))
    with pytest.raises(ZeroDivisionError), one_thread():
        _ = 1 / 0
    assert threads() == before


def test_denormal_and_huge_voxels_where_numpy_raises() -> None:
    """Voxels near the ends of float32, with everything that NumPy can complain of an error."""
    rng = np.random.default_rng(0)
    image = dr.make_phantom((9, 11, 9), 10, n_regions=5)
    for size in (1e-42, 1e-38, 1e30, 3e38):
        values = (rng.random(image.image.shape) * size).astype("f4")
        with np.errstate(all="raise"), dask.config.set(scheduler="synchronous"):
            found = dr.extract(
                image.image.copy(data=values), image.atlas, dtype="float64"
            ).compute()
        for region in image.atlas.ids:
            truth = values[:, image.atlas.labels == region].astype("f8").mean(axis=1)
            np.testing.assert_allclose(found.sel(region=region), truth, rtol=1e-14)
