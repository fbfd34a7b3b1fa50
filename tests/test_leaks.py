"""Nothing is left open, running or lying about: files, threads, processes, temporary files."""

from __future__ import annotations

import gc
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cohorts
import images
import numpy as np
import pytest
from servers import Server

import daskroi as dr
from daskroi.batch import extract_cohort
from daskroi.cohort import find_runs
from daskroi.errors import DaskroiError
from daskroi.inflate import indexed_streams, streams

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
]

SHAPE = (16, 18, 14)
FRAMES = 24
TIMES = 3


@dataclass
class Held:
    """What this process has at a moment, as counts of names."""

    files: Counter[str] = field(default_factory=Counter)
    threads: Counter[str] = field(default_factory=Counter)
    children: Counter[str] = field(default_factory=Counter)
    temporary: Counter[str] = field(default_factory=Counter)

    @classmethod
    def now(cls) -> Held:
        import psutil

        gc.collect()
        found = cls()
        for number in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # of the listing itself
                name = os.readlink(f"/proc/self/fd/{number}")
                found.files[re.sub(r"\[\d+\]", "", name)] += 1
        names = Counter(re.sub(r"\d+", "N", t.name) for t in threading.enumerate())
        # the loops of fsspec and zarr have a pool each, of at most so many
        assert names.pop("asyncio_N", 0) <= 2 * min(32, (os.cpu_count() or 1) + 4)
        found.threads = names
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                found.children[" ".join(child.cmdline())] += 1
        files = [p for p in Path(tempfile.gettempdir()).rglob("*") if p.is_file()]
        # files of no bytes, by which Dask knows what others have left
        found.temporary.update(str(p) for p in files if p.suffix != ".lock")
        # of /dev/shm, where others have theirs too
        mapped = re.findall(r"/dev/shm/\S+", Path("/proc/self/maps").read_text())
        found.temporary.update(set(mapped))
        return found

    def less(self, before: Held) -> dict[str, Any]:
        """What there is more than before, but for the few streams that are kept."""
        mine, theirs = vars(self), vars(before)
        return {k: dict(mine[k] - theirs[k]) for k in mine if mine[k] - theirs[k]}


class Things:
    """Images of every kind, an atlas, and a folder for what is made of them."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        run = images.run(rng, (*SHAPE, FRAMES))
        self.folder, self.n = folder, 0
        self.plain = images.save(run, folder / "x.nii")
        self.packed = images.save(run, folder / "x.nii.gz")
        self.indexed = images.save(run, folder / "indexed.nii.gz")
        dr.build_index(self.indexed)
        self.zarr = folder / "x.nii.zarr"
        dr.to_zarr(self.packed, self.zarr, chunks=5)
        content = self.packed.read_bytes()
        (folder / "short.nii.gz").write_bytes(content[: len(content) // 2])
        self.atlas = dr.load_atlas(images.save(images.labels(rng, SHAPE), folder / "a.nii"))
        cohorts.write_cohort(folder / "in", 4, 30)
        self.web: Server | None = None

    def new(self, name: str) -> Path:
        """A path where nothing is yet."""
        self.n += 1
        return self.folder / f"{self.n}{name}"

    def extract(self, image: Any, **told: Any) -> None:
        values = dr.extract(image, self.atlas, **told).compute()
        assert values.sizes["time"] == FRAMES

    def stopped(self, image: Any, chunks: Any = 5) -> None:
        """An extraction and a conversion that fail half-way."""
        with pytest.raises(DaskroiError):
            dr.extract(image, self.atlas, chunks=chunks).compute()
        for target in (self.new(".nii.zarr"), self.new(".nii.gz")):
            with pytest.raises(DaskroiError):
                dr.convert(image, target)

    def left_half(self, image: Any) -> None:
        """An image of which only some is ever read, and slabs of which one is taken."""
        from daskroi.openimage import as_file
        from daskroi.tonifti import image_slabs

        run = dr.open_image(image, chunks=4)
        run.isel(time=slice(0, 4)).compute()
        run.isel(time=13).compute()
        for slabs in (as_file(run).slabs(3), image_slabs(run, run.dtype, 1 << 16)):
            next(slabs)
            slabs.close()

    def index(self) -> None:
        fresh = self.new(".nii.gz")
        fresh.write_bytes(self.packed.read_bytes())
        dr.build_index(fresh)
        dr.open_image(fresh, index=True, chunks=3)[::-1].compute()

    def convert(self) -> None:
        store, back = self.new(".nii.zarr"), self.new(".nii.gz")
        assert dr.convert(self.packed, store)
        assert not dr.convert(self.packed, store)
        assert dr.convert(store, back)
        dr.to_nifti(dr.open_image(store) * 2, self.new(".nii"))

    def cohort(self, client: Any = "threads", **told: Any) -> Path:
        out = self.new("-out")
        done = extract_cohort(
            find_runs(self.folder / "in"), cohorts.atlas(), out, client=client, progress=False,
            **told,
        )  # fmt: skip
        assert done.done == 4
        return out

    def clusters(self) -> None:
        with dr.connect("local", n_workers=1, threads_per_worker=1) as client:
            self.cohort(client, cohort_zarr=True)
        dr.connect("local", n_workers=1, processes=False).close()

    def reports(self) -> None:
        ts = dr.extract(self.packed, self.atlas).compute()
        dr.report(ts, self.atlas).save_as_html(self.new(".html"))
        list(dr.cohort_reports(self.cohort()))

    def remote(self) -> None:
        assert self.web is not None
        for name in ("x.nii", "x.nii.gz", "indexed.nii.gz"):
            self.extract(f"{self.web.url}/{name}", chunks=7)
        dr.open_image(f"{self.web.url}/x.nii.gz", index=True, chunks=3)[::-1].compute()
        with pytest.raises(DaskroiError):
            self.extract(f"{self.web.url}/short.nii.gz")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Things]:
    folder = tmp_path_factory.mktemp("leaks")
    (folder / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "tmp"))
        patch.setenv("DASKROI_CACHE", str(folder / "cache"))
        patch.setattr(tempfile, "tempdir", str(folder / "tmp"))
        yield Things(folder)


WAYS: dict[str, Callable[[Things], None]] = {
    "nii": lambda t: t.extract(t.plain),
    "nii streamed": lambda t: t.extract(t.plain, plan="stream"),
    "gz": lambda t: t.extract(t.packed),
    "gz in blocks": lambda t: t.extract(t.packed, plan="blocks", chunks=5),
    "indexed": lambda t: t.extract(dr.open_image(t.indexed, index=True, chunks=5)),
    "zarr": lambda t: t.extract(t.zarr),
    "zarr streamed": lambda t: t.extract(t.zarr, plan="stream"),
    "smoothed, twice read": lambda t: t.extract(
        t.packed, smoothing_fwhm=5, strategy="median", high_variance_confounds=True
    ),
    "short gz": lambda t: t.stopped(t.folder / "short.nii.gz"),
    "left half-way": lambda t: t.left_half(t.packed),
    "index": lambda t: t.index(),
    "convert": lambda t: t.convert(),
    "threads": lambda t: [t.cohort(), t.cohort(cohort_zarr=True)],  # type: ignore[dict-item]
    "cluster": lambda t: t.clusters(),
    "reports": lambda t: t.reports(),
    "remote": lambda t: t.remote(),
}


def settled(before: Held) -> dict[str, Any]:
    """What there is more than before, when threads have had a moment to end."""
    deadline = time.monotonic() + 30  # a server that the machine has no time for yet
    while (more := Held.now().less(before)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return more


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left(here, request, way):
    if way == "remote":
        here.web = request.getfixturevalue("served")
    once = 1 if way in ("cluster", "threads", "reports") else TIMES
    for _ in range(once):  # pools of threads that Dask and fsspec keep are full
        WAYS[way](here)
    check_few_streams(here.folder)
    more: dict[str, Any] = {}
    for _ in range(3):  # a pool starts its threads as they are wanted, up to 6: a leak has no end
        before = Held.now()
        for _ in range(once):
            WAYS[way](here)
        check_few_streams(here.folder)
        more = settled(before)
        if set(more) - {"threads"} or not more:
            break
    assert more == {}


def check_few_streams(folder: Path) -> None:
    """Of gzip, a few streams are kept where they stand; nothing else of the images is open."""
    held = [name for name in Held.now().files.elements() if name.startswith(f"{folder}{os.sep}")]
    assert len(held) <= streams.limit + indexed_streams.limit, held
    streams.forget()
    indexed_streams.forget()
    assert not [name for name in Held.now().files if name.startswith(f"{folder}{os.sep}")]


@pytest.fixture
def served(here: Things) -> Iterator[Server]:
    from servers import http_server

    with http_server(here.folder) as server:
        yield server
