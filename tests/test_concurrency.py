"""Many that read at once: 64 extractions, warnings of many threads, an index that others build."""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import images
import numpy as np
import pytest
from together import READY, processes

import daskroi as dr
from daskroi.errors import warn

pytestmark = pytest.mark.timeout(300)

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
