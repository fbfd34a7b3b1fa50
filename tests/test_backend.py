"""xarray's engine "nifti": what `open_image` gives, read only as far as it is indexed."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import images
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from daskprocesses import local_cluster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from niftis import nifti_bytes, write
from servers import http_server

import daskroi as dr
from daskroi import backend
from daskroi.backend import NiftiBackend
from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.nifti import NiftiFile
from daskroi.openimage import as_stored_file
from daskroi.zarrwrite import to_zarr

RNG = np.random.default_rng(0)
NUMBERS = RNG.integers(-1000, 1000, (5, 6, 7, 10)).astype("i2")
DIMS = ("time", "z", "y", "x")


def random_file(draw: Any, folder: Path) -> Path:
    """A file of any kind that the engine opens."""
    dtype = draw(st.sampled_from(["u1", "i2", "u2", "i4", "i8", "f4", "f8"]))
    shape = draw(st.sampled_from([(5, 6, 7, 10), (5, 6, 7), (5, 6, 7, 1)]))
    content = nifti_bytes(
        np.resize(NUMBERS, shape).astype(dtype),
        endian=draw(st.sampled_from("<>")),
        version=draw(st.sampled_from([1, 2])),
        scl_slope=draw(st.sampled_from([1, 2.5, -0.1])),
        scl_inter=draw(st.sampled_from([0, -7.3])),
    )
    return write(folder / draw(st.sampled_from(["x.nii", "x.nii.gz"])), content)


@st.composite
def indexers(draw: Any, length: int) -> Any:
    """An integer, a slice with any step, or an array of positions in any order, with repeats."""
    position = st.integers(-length, length - 1)
    kind = draw(st.sampled_from(["integer", "slice", "array", "all"]))
    if kind == "integer":
        return draw(position)
    if kind == "array":
        return np.array(draw(st.lists(position, max_size=5)), int)
    # from inside: of slices that start outside, xarray 2026.9 takes [-8::-1] of 7 for all of them
    bound = st.none() | position
    step = st.none() | st.integers(1, 4) | st.integers(-4, -1)
    return slice(None) if kind == "all" else slice(draw(bound), draw(bound), draw(step))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_same_as_open_image(tmp_path: Path, data: Any) -> None:
    path = random_file(data.draw, tmp_path)
    chunks = data.draw(st.sampled_from([None, {}, {"z": 3}, "auto"]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The specified chunks separate the stored chunks")
        dataset = xr.open_dataset(path, engine=NiftiBackend, chunks=chunks)
    assert list(dataset.data_vars) == ["image"]
    assert isinstance(dataset.image.variable._data, da.Array) == (chunks is not None)
    expected = dr.open_image(path, name="image")
    assert dataset.image.dtype == expected.dtype
    xr.testing.assert_identical(dataset.image, expected)
    assert dr.grid_of(dataset.image) == dr.grid_of(expected)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_indexing_is_numpys(tmp_path: Path, data: Any) -> None:
    path = random_file(data.draw, tmp_path)
    image = xr.open_dataset(path, engine=NiftiBackend).image
    expected = np.asanyarray(nib.load(path).dataobj).T
    # twice: what is indexed once is still lazy
    for _ in range(data.draw(st.integers(1, 2))):
        for axis in reversed(range(image.ndim)):
            index = data.draw(indexers(image.shape[axis])) if image.shape[axis] else slice(None)
            image = image.isel({image.dims[axis]: index})
            expected = expected[(slice(None),) * axis + (index,)]
    found = image.values
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype.newbyteorder("="))
    np.testing.assert_array_equal(found, expected)


def test_pointwise_indexing(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii", nifti_bytes(NUMBERS))
    image = xr.open_dataset(path, engine=NiftiBackend).image
    at = {
        d: xr.DataArray(i, dims="point")
        for d, i in zip(DIMS, RNG.integers(0, 5, (4, 6)), strict=True)
    }
    np.testing.assert_array_equal(image.isel(at), NUMBERS.T[tuple(i.values for i in at.values())])


def test_only_what_is_indexed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.nii", nifti_bytes(NUMBERS))
    boxes = []
    read_box = NiftiFile.read_box

    def spy(self: NiftiFile, box: Any) -> np.ndarray:
        boxes.append(tuple((s.start, s.stop) for s in box))
        return read_box(self, box)

    monkeypatch.setattr(NiftiFile, "read_box", spy)
    image = xr.open_dataset(path, engine=NiftiBackend).image
    part = image.transpose("x", "y", "z", "time").isel(time=[8, 2, 3], z=slice(4, 1, -1), x=2)
    assert not boxes
    np.testing.assert_array_equal(part, NUMBERS[2][:, 4:1:-1][..., [8, 2, 3]])
    space = ((2, 5), (0, 6), (2, 3))
    assert boxes == [((2, 4), *space), ((8, 9), *space)]
    boxes.clear()
    assert image.isel(time=slice(3, 3)).values.shape == (0, 7, 6, 5)
    assert not boxes


def test_runs_combine(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    paths = [images.save(images.run(rng), tmp_path / f"{i}.nii.gz") for i in range(3)]
    runs = xr.open_mfdataset(
        paths,
        engine=NiftiBackend,
        combine="nested",
        concat_dim="run",
        combine_attrs="drop_conflicts",
    )
    assert runs.image.dims == ("run", *DIMS)
    assert "source" not in runs.image.attrs
    for i, path in enumerate(paths):
        one = dr.open_image(path)
        np.testing.assert_array_equal(runs.image[i], one)
        assert dr.grid_of(runs.image[i]) == dr.grid_of(one)
        assert dr.extract(runs.image[i], images.labels(rng)).sizes["time"] == 9
    runs.close()


def test_runs_on_different_grids_keep_their_own(tmp_path: Path) -> None:
    paths = []
    for i in range(2):
        run = images.run(RNG, affine=np.diag([2.0 + i, 2, 2, 1]))
        paths.append(images.save(run, tmp_path / f"{i}.nii"))
    runs = xr.open_mfdataset(
        paths,
        engine=NiftiBackend,
        combine="nested",
        concat_dim="run",
        coords="different",
        compat="equals",
    )
    assert [dr.grid_of(runs.image[i]).voxel_sizes[0] for i in range(2)] == [2, 3]
    with pytest.raises(DaskroiError, match="does not hold one affine"):
        dr.grid_of(runs.image)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_what_is_untouched_is_known_as_its_file(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, nifti_bytes(NUMBERS, scl_slope=-2.5))
    image = xr.open_dataset(path, engine=NiftiBackend, chunks={}).image
    assert as_stored_file(image) == NiftiFile.open(path)
    assert as_stored_file(pickle.loads(pickle.dumps(image))) is not None
    touched = [
        image * 1,
        image[:, ::-1],
        image[2:],
        image.transpose("x", "y", "z", "time"),
        image.copy(data=image.data + 1),
        image.where(image > 0),
        image.persist(),
        image.load(),
    ]
    assert [as_stored_file(other) for other in touched] == [None] * len(touched)


def test_values_of_another_file_are_not_taken_for_those_of_the_first(tmp_path: Path) -> None:
    first = write(tmp_path / "a.nii", nifti_bytes(NUMBERS))
    second = write(tmp_path / "b.nii", nifti_bytes(NUMBERS + np.int16(7)))
    image, other = (
        xr.open_dataset(path, engine=NiftiBackend, chunks={}).image for path in (first, second)
    )
    (image * 3.0).to_dataset(name="image").to_netcdf(tmp_path / "c.nc")
    atlas = images.labels(RNG, NUMBERS.shape[:3], affine=dr.grid_of(image).matrix)
    with xr.open_dataset(tmp_path / "c.nc", chunks={}) as processed:
        for values in (other, processed.image):
            # encodings outlive this, as labels do
            mixed = image.copy(data=values.data)
            expected = dr.extract(image.copy(data=values.values), atlas).values
            np.testing.assert_allclose(dr.extract(mixed, atlas), expected)
            to_zarr(mixed, tmp_path / "x.nii.zarr", overwrite=True)
            np.testing.assert_array_equal(dr.open_image(tmp_path / "x.nii.zarr"), values)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("chunks", [None, {}])
def test_extraction_reads_chunks_not_the_whole(
    tmp_path: Path, name: str, chunks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskroi.lazyimage.CHUNK_BYTES", 2 * NUMBERS[..., 0].nbytes)
    path = write(tmp_path / name, nifti_bytes(NUMBERS, scl_slope=-2.5))
    atlas = images.labels(RNG, NUMBERS.shape[:3], affine=images.OBLIQUE)
    read = []
    read_box = NiftiFile.read_box

    def spy(self: NiftiFile, box: Any) -> np.ndarray:
        read.append(box[0].stop - box[0].start)
        return read_box(self, box)

    monkeypatch.setattr(NiftiFile, "read_box", spy)
    expected = dr.extract(path, atlas, plan="blocks").compute()
    image = xr.open_dataset(path, engine=NiftiBackend, chunks=chunks).image
    found = dr.extract(image, atlas).compute()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(dr.extract(image[2:7], atlas), expected[2:7], rtol=1e-12)
    assert read
    assert max(read) <= 2


def test_encoding_and_dropping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(write(tmp_path / "x.nii", nifti_bytes(NUMBERS)))
    dataset = xr.open_dataset(path, engine=NiftiBackend)
    chunks = {"time": 10, "z": 7, "y": 6, "x": 5}
    assert dataset.image.encoding["source"] == path
    assert dataset.image.encoding["preferred_chunks"] == chunks
    assert dataset.encoding == {"source": path}
    assert not xr.open_dataset(path, engine=NiftiBackend, drop_variables="image").data_vars
    dropped = xr.open_dataset(path, engine=NiftiBackend, drop_variables=["affine", "nothing"])
    assert set(dropped.coords) == set(DIMS)
    # in memory, it is as any other
    assert isinstance(dataset.image.load().data, np.ndarray)
    dataset.close()

    long = NiftiFile.open(path).grid.size * 2 * 3
    monkeypatch.setattr("daskroi.lazyimage.CHUNK_BYTES", long)
    lazy = xr.open_dataset(path, engine=NiftiBackend, chunks={})
    assert lazy.chunks["time"] == (3, 3, 3, 1)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("x.nii", True),
        ("/a/b.c/x.nii.gz", True),
        (Path("x.nii.gz"), True),
        ("x.nii.zarr", True),
        ("x.nii.zarr/", True),
        ("s3://bucket/x.nii.gz", True),
        ("https://host/x.nii.gz?versionId=3#part", True),
        ("x.zarr", False),
        ("x.gz", False),
        ("x.nc", False),
        ("x.nii.nc", False),
        ("xnii", False),
        ("x.nii.json", False),
        ("https://host/x.nc?like=x.nii", False),
        (b"x.nii", False),
        (None, False),
        (np.zeros(3), False),
    ],
)
def test_suffixes(name: Any, ours: bool) -> None:
    assert NiftiBackend().guess_can_open(name) == ours


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_the_engine_is_installed_and_guessed(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, nifti_bytes(NUMBERS))
    assert isinstance(xr.backends.list_engines()["nifti"], NiftiBackend)
    for options in ({}, {"engine": "nifti"}):
        np.testing.assert_array_equal(xr.open_dataset(path, **options).image, NUMBERS.T)


def test_urls_and_their_credentials(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/engine/x.nii", nifti_bytes(NUMBERS))
    options: dict[str, Any] = {"engine": NiftiBackend, "storage_options": {"token": "s3cret"}}
    for chunks in (None, {}):
        dataset = xr.open_dataset("memory://engine/x.nii", chunks=chunks, **options)
        shown = repr((dataset, dataset.encoding, dataset.image.encoding, dataset.image.attrs))
        assert "s3cret" not in shown
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset)).image, NUMBERS.T)
    memory.rm("/engine", recursive=True)


def test_zarr(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii", nifti_bytes(NUMBERS, scl_slope=2.5))
    store = tmp_path / "x.nii.zarr"
    to_zarr(path, store, chunks={"time": 3, "z": 4})
    for chunks in (None, {}):
        image = xr.open_dataset(store, engine=NiftiBackend, chunks=chunks).image
        xr.testing.assert_identical(image, dr.open_image(store, name="image"))
        np.testing.assert_array_equal(image[7, ::-2], (NUMBERS.T * 2.5)[7, ::-2])
    assert all(n % 3 == 0 for n in image.chunksizes["time"][:-1])


def test_over_http_only_what_is_indexed_is_fetched(tmp_path: Path) -> None:
    values = RNG.integers(-1000, 1000, (20, 20, 20, 50)).astype("i2")
    write(tmp_path / "x.nii", nifti_bytes(values))
    with http_server(tmp_path) as server:
        image = xr.open_dataset(f"{server.url}/x.nii", engine=NiftiBackend).image
        assert server.bytes_sent < 100_000  # of 800 kB
        server.forget()
        np.testing.assert_array_equal(image[30], values.T[30])
        assert server.bytes_sent < 2 * values[..., 0].nbytes


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gone.nii", None, "gone.nii"),
        ("text.nii", b"text" * 200, "text.nii: not a NIfTI image"),
        ("short.nii", nifti_bytes(NUMBERS)[:-1], "short.nii: truncated"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: Any, reason: str) -> None:
    if content is not None:
        write(tmp_path / name, content)
    with pytest.raises(DaskroiError, match=reason):
        xr.open_dataset(tmp_path / name, engine=NiftiBackend)


def test_pickled_and_unread(tmp_path: Path) -> None:
    values = RNG.integers(-1000, 1000, (20, 20, 20, 10)).astype("i2")
    path = write(tmp_path / "x.nii.gz", nifti_bytes(values, scl_slope=2.5))
    for chunks in (None, {}):
        dataset = xr.open_dataset(path, engine=NiftiBackend, chunks=chunks)
        content = pickle.dumps(dataset)
        assert len(content) < 20_000  # and voxels are 160 kB
        xr.testing.assert_identical(pickle.loads(content), dataset)


@pytest.mark.timeout(120)
def test_on_a_cluster_of_processes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii.gz", nifti_bytes(NUMBERS, scl_slope=2.5))
    expected = xr.open_dataset(path, engine=NiftiBackend).image.load()
    with local_cluster(1, threads_per_worker=2) as client:
        image = xr.open_dataset(path, engine=NiftiBackend, chunks={}).image
        xr.testing.assert_identical(image.compute(), expected)
        unread = xr.open_dataset(path, engine=NiftiBackend).image
        there = client.submit(lambda part: float(part.sum()), unread.isel(time=3)).result()
        assert there == float(expected.isel(time=3).sum())


def modules(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_xarray_stays_cheap() -> None:
    alone = modules("import xarray")
    assert not any(name.startswith("daskroi") for name in alone)
    with_engine = modules("import xarray; import daskroi.backend")
    tops = {name.split(".")[0] for name in with_engine - alone}
    assert tops <= set(sys.stdlib_module_names) | {"daskroi", "xarray"}
    files = {name for name in with_engine - alone if name.startswith("daskroi.")}
    assert files <= {
        f"daskroi.{name}" for name in ("backend", "accessor", "errors", "grid", "image")
    }


def test_the_shim_is_one() -> None:
    assert len(Path(backend.__file__).read_text(encoding="utf-8").splitlines()) < 100


def test_warnings_point_at_the_user_not_at_xarray(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii", nifti_bytes(NUMBERS))
    (tmp_path / "x.json").write_text('{"RepetitionTime": 3.0}')
    with pytest.warns(DaskroiWarning, match="the sidecar's is used") as caught:
        xr.open_dataset(path, engine="nifti")
    assert caught[0].filename == __file__
