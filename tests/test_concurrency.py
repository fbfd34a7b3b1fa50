"""Two at once, and 64: into the same results, the same store, the same cohort."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cohorts
import images
import numpy as np
import pandas as pd
import pytest

import daskroi as dr
from daskroi.batch import extract_cohort
from daskroi.errors import DaskroiError, warn
from daskroi.store import read_timeseries

pytestmark = pytest.mark.timeout(300)

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = str(Path(dr.__file__).parents[1])


def processes(codes: list[str], *args: Any) -> list[tuple[int, str, str]]:
    """Scripts in processes that begin together: each waits for a line, when it has imported all."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join((HERE, ROOT))}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=env,
        )
        for code in codes
    ]  # fmt: skip
    try:
        for process in running:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line == "ready\n", process.communicate()
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        found = []
        for process in running:
            out, err = process.communicate(timeout=120)
            found.append((process.returncode, out, err))
        return found
    finally:
        for process in running:
            process.kill()
            process.wait(20)


READY = """
import sys
import daskroi as dr, daskroi.batch, daskroi.store, daskroi.zarrwrite, daskroi.cli, cohorts
import numpy as np
print("ready", flush=True)
sys.stdin.readline()
"""

WRITER = (
    READY
    + """
run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
strategy = {strategy!r}
ts = dr.extract(run.image, run.atlas, standardize={standardize!r}).compute()
for i in range(60):
    dr.store.write_run(ts, sys.argv[1], "sub-01")
"""
)


def whole(table: Path) -> bool | None:
    """Whether numbers are those of the recipe that the sidecar has; None: being written."""
    sidecar = table.with_suffix(".json")
    try:
        before = sidecar.read_text()
        series = read_timeseries(table)
        if sidecar.read_text() != before:
            return None
    except (DaskroiError, OSError, ValueError):
        return None
    scored = json.loads(before)["Recipe"]["clean"].get("standardize") == "zscore_sample"
    return scored == bool(np.allclose(series.std("time", ddof=1), 1))


def test_a_table_never_stands_beside_the_sidecar_of_another_writer(tmp_path):
    codes = [WRITER.format(strategy="mean", standardize=s) for s in (None, "zscore_sample")]
    seen: list[bool | None] = []
    stop = threading.Event()
    table = tmp_path / "sub-01_atlas-Phantom_stat-mean_timeseries.tsv"

    def read() -> None:
        while not stop.is_set():
            seen.append(whole(table))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for code, _, err in processes(codes, tmp_path):
            assert code == 0, err
    finally:
        stop.set()
        reader.join(20)
    assert False not in seen[-50:]
    assert whole(table)
    assert len(os.listdir(tmp_path)) == 3


EXTRACT = (
    READY
    + """
told = ["extract", sys.argv[1], "--atlas", sys.argv[2], "-o", sys.argv[3]]
dr.cli.main(told + {more!r})
"""
)


@pytest.mark.parametrize("more", [[], ["--standardize", "zscore_sample"]])
def test_two_commands_into_the_same_results(tmp_path, more):
    paths = dr.write_phantom(tmp_path, dr.make_phantom((12, 14, 12), n_time=20, n_regions=4))
    out = tmp_path / "out"
    codes = [EXTRACT.format(more=more), EXTRACT.format(more=[])]
    for code, _, err in processes(codes, paths["image"], paths["atlas"], out):
        assert code == 0, err
        assert "Traceback" not in err
    [table] = out.glob("*_timeseries.tsv")
    assert whole(table)
    assert len(os.listdir(out)) == 3


COHORT = (
    READY
    + """
from daskroi.errors import DaskroiError
runs = cohorts.find_runs(sys.argv[1])
try:
    done = daskroi.batch.extract_cohort(runs, cohorts.atlas(), sys.argv[2], client="threads",
                                        progress=False, **{told!r})
    print(done.done + done.skipped, done.failed)
except DaskroiError as error:
    print(error)
"""
).replace("daskroi.batch.extract", "dr.batch.extract")


@pytest.mark.parametrize(
    ("store", "other"), [(False, {}), (True, {"standardize": "zscore_sample"})]
)
def test_two_cohorts_into_the_same_folder(tmp_path, store, other):
    cohorts.write_cohort(tmp_path / "in", 8)
    told: dict[str, Any] = {"cohort_zarr": store, "standardize": None}
    codes = [COHORT.format(told=told | one) for one in ({}, other)]
    said = []
    for code, out, err in processes(codes, tmp_path / "in", tmp_path / "out"):
        assert code == 0, err
        said.append(out)
    refused = [s for s in said if "cohort.zarr: another process is writing it" in s]
    assert len(refused) <= int(store)
    assert [s for s in said if s not in refused] == ["8 0\n"] * (2 - len(refused))
    tables = sorted((tmp_path / "out").rglob("*_timeseries.tsv"))
    assert len(tables) == 8
    assert all(whole(t) for t in tables)
    assert not list((tmp_path / "out").rglob(".*.part"))
    assert len(pd.read_csv(tmp_path / "out" / "runs.tsv", sep="\t")) == 8
    # and is what one alone makes of it
    for out in ("out", "alone"):
        extract_cohort(
            cohorts.find_runs(tmp_path / "in"), cohorts.atlas(), tmp_path / out,
            client="threads", progress=False, **told,
        )  # fmt: skip
    assert cohorts.outputs_of(tmp_path / "out") == cohorts.outputs_of(tmp_path / "alone")


CONVERT = (
    READY
    + """
from daskroi.errors import DaskroiError
try:
    print(dr.to_zarr(sys.argv[1], sys.argv[2], chunks={chunks}))
except DaskroiError as error:
    print(error)
"""
)


@pytest.mark.parametrize("chunks", [(1, 1), (1, 2)])
def test_two_conversions_into_one_store(tmp_path, chunks):
    run = images.run(np.random.default_rng(0), (20, 20, 20, 60))
    path = images.save(run, tmp_path / "x.nii.gz")
    codes = [CONVERT.format(chunks=c) for c in chunks]
    ended = processes(codes, path, tmp_path / "x.nii.zarr")
    said = [out.strip() for _, out, _ in ended]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "True" in said
    for one in said:
        refused = "another process is converting into it" in one or "is there already" in one
        assert one in ("True", "False") or refused, one
    assert said.count("True") == 1
    np.testing.assert_array_equal(dr.open_image(tmp_path / "x.nii.zarr"), dr.open_image(path))
    assert sorted(os.listdir(tmp_path)) == ["x.nii.gz", "x.nii.zarr"]
    assert not list((tmp_path / "x.nii.zarr").rglob(".daskroi*"))


SLOWLY = (
    READY
    + """
import time
from daskroi.errors import DaskroiError
image = dr.open_image(sys.argv[1], chunks=5)
slow = image.data.map_blocks(lambda b: time.sleep(0.1) or b, dtype=image.dtype, meta=np.empty(0))
try:
    print(dr.convert(image.copy(data=slow), sys.argv[2]))
except DaskroiError as error:
    print(error)
"""
)


def test_two_conversions_into_one_nifti_file(tmp_path):
    path = images.save(images.run(np.random.default_rng(0), (9, 9, 9, 60)), tmp_path / "x.nii")
    ended = processes([SLOWLY] * 2, path, tmp_path / "y.nii.gz")
    assert [(code, err) for code, _, err in ended] == [(0, "")] * 2
    one, other = sorted(out.strip() for _, out, _ in ended)
    assert other == "True"
    assert one.endswith("y.nii.gz: another process is converting into it. Wait for it, or give "
                        "another path.")  # fmt: skip
    np.testing.assert_array_equal(dr.open_image(tmp_path / "y.nii.gz"), dr.open_image(path))
    assert sorted(os.listdir(tmp_path)) == ["x.nii", "y.nii.gz"]
    with pytest.raises(DaskroiError, match="is there already"):
        dr.convert(path, tmp_path / "y.nii.gz")


def test_what_a_killed_conversion_leaves_goes_with_the_next(tmp_path):
    path = images.save(images.run(np.random.default_rng(0), (9, 9, 9, 60)), tmp_path / "x.nii")
    out = tmp_path / "out"
    out.mkdir()
    env = os.environ | {"PYTHONPATH": os.pathsep.join((HERE, ROOT))}
    command = [sys.executable, "-c", SLOWLY, str(path), str(out / "y.nii.gz")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env) as on:
        try:
            assert on.stdin is not None
            on.stdin.write(b"go\n")
            on.stdin.flush()
            deadline = time.monotonic() + 60
            while not list(out.glob(".*.part")) and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            on.kill()
    left = os.listdir(out)
    assert [name for name in left if name.endswith(".part")]
    assert "y.nii.gz" not in left
    assert dr.convert(path, out / "y.nii.gz")
    assert os.listdir(out) == ["y.nii.gz"]
    np.testing.assert_array_equal(dr.open_image(out / "y.nii.gz"), dr.open_image(path))


INDEX = (
    READY
    + """
import hashlib
for i in range(int(sys.argv[3])):
    path = f"{{sys.argv[1]}}/{{i}}.nii.gz"
    {how}
    values = np.concatenate([image.isel(time=t).values for t in range(29, -1, -7)])
    print(hashlib.sha256(values.tobytes()).hexdigest())
"""
)


def test_reading_by_an_index_while_another_process_builds_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "cache"))
    run = images.run(np.random.default_rng(0), (24, 24, 24, 30))
    for i in range(6):
        images.save(run, tmp_path / f"{i}.nii.gz")
    ways = [
        "dr.build_index(path); image = dr.open_image(path, index=True, chunks=1)",
        "image = dr.open_image(path, index=True, chunks=1)",
        "image = dr.open_image(path, index='auto', chunks=1)",
    ]
    ended = processes([INDEX.format(how=how) for how in ways], tmp_path, "", 6)
    assert [(code, err) for code, _, err in ended] == [(0, "")] * 3
    plain = dr.open_image(images.save(run, tmp_path / "plain.nii"))
    values = np.concatenate([plain.isel(time=t).values for t in range(29, -1, -7)])
    expected = hashlib.sha256(values.tobytes()).hexdigest()
    assert [out.split() for _, out, _ in ended] == [[expected] * 6] * 3
    kept = [p for p in (tmp_path / "cache" / "gzip").iterdir() if p.is_file()]
    assert sorted(p.suffix for p in kept) == [".gzi"] * 6


def test_one_who_comes_late_does_not_replace_what_is_there(tmp_path, monkeypatch):
    # between looking at the target and having its lock, another process ends
    from daskroi import zarrtarget
    from daskroi.zarrwrite import to_zarr

    rng = np.random.default_rng(0)
    first, second = (images.save(images.run(rng), tmp_path / f"{n}.nii") for n in "ab")
    target, real = tmp_path / "x.nii.zarr", zarrtarget.alone_in

    def late(*args: Any) -> Any:
        monkeypatch.setattr(zarrtarget, "alone_in", real)
        to_zarr(first, target)
        os.makedirs(f"{target}.part", exist_ok=True)
        return real(*args)

    monkeypatch.setattr(zarrtarget, "alone_in", late)
    with pytest.raises(DaskroiError, match="is there already, of another image"):
        to_zarr(second, target)
    np.testing.assert_array_equal(dr.open_image(target), dr.open_image(first))
    assert not Path(f"{target}.part").exists()


def test_sixty_four_extractions_at_once_are_the_serial_ones(tmp_path, monkeypatch):
    import psutil

    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    atlas = dr.load_atlas(images.save(images.labels(rng, (16, 16, 16)), tmp_path / "a.nii"))
    jobs: list[Callable[[], Any]] = []
    for i in range(4):
        run = images.run(rng, (16, 16, 16, 40))
        packed = images.save(run, tmp_path / f"{i}.nii.gz")
        plain = images.save(run, tmp_path / f"{i}.nii")
        store = tmp_path / f"{i}.nii.zarr"
        dr.to_zarr(packed, store, chunks=5)
        indexed = dr.open_image(packed, index=True, chunks=7)
        smooth = {"smoothing_fwhm": 4 + i, "standardize": "zscore_sample"}
        for what, options in (
            (packed, {}), (plain, {"chunks": 9}), (store, {"detrend": True}), (indexed, {}),
            (plain, smooth), (packed, smooth), (store, {"strategy": "median"}),
            (indexed, {"high_variance_confounds": True}),
        ):  # fmt: skip
            jobs.append(lambda w=what, o=options: dr.extract(w, atlas, **o).compute())
    serial = [job().values for job in jobs]
    process = psutil.Process()
    files, memory = process.num_fds(), process.memory_info().rss
    with ThreadPoolExecutor(64) as pool:
        found = list(pool.map(lambda job: job().values, jobs * 2))
    assert len(found) == 64
    for one, expected in zip(found, serial * 2, strict=True):
        np.testing.assert_array_equal(one, expected)
    # a few streams are kept open where they stand
    assert process.num_fds() <= files + 6
    assert process.memory_info().rss < memory + (600 << 20)


def test_warnings_stay_with_their_thread_and_filters_as_they_were():
    from daskroi.reporttext import template_doubts
    from daskroi.unsaid import ignored, kept_warnings

    filters, show = list(warnings.filters), warnings.showwarning  # type: ignore[attr-defined]
    start = threading.Barrier(16)

    def doubts(i: int) -> bool:
        start.wait(20)
        for n in range(200):
            told = template_doubts("MNI152NLin6Asym", "T1w", f"atlas {i}.{n}", "image")
            if len(told) != 1 or f"atlas {i}.{n} " not in told[0]:
                return False
            with kept_warnings() as said, ignored(FutureWarning, "soon"):
                warn(f"{i}")
                warnings.warn("soon", FutureWarning, stacklevel=1)
            if said != [f"{i}"]:
                return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(doubts, range(16)))
    assert list(warnings.filters) == filters  # type: ignore[attr-defined]
    assert warnings.showwarning is show
    with pytest.warns(UserWarning, match="said here"):
        warn("said here")


def test_folders_that_have_no_locks(tmp_path, monkeypatch):
    import fcntl
    import stat

    from daskroi.locks import BusyError, alone_in

    real = fcntl.flock

    def nfs(handle: int, how: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(9, "Bad file descriptor")
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", nfs)
    with alone_in(tmp_path, 0), pytest.raises(BusyError), alone_in(tmp_path, 0.1):
        pass
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(95, "no")))
    with alone_in(tmp_path, 0), alone_in(tmp_path, 0):
        pass
