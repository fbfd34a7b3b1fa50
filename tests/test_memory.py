"""Runs wait for memory, one goes in any case, and what was needed at most is known."""

from __future__ import annotations

import mmap
import sys
import threading
import time

import pytest

from daskroi.memory import Gate, available_memory, gate, peak_memory, reset_peak


def test_runs_share_what_there_is():
    shared, inside, most = Gate(100), [], []

    def run(size: int) -> None:
        with shared.reserve(size):
            inside.append(size)
            most.append(sum(inside))
            time.sleep(0.02)
            inside.remove(size)

    threads = [threading.Thread(target=run, args=(size,)) for size in (60, 50, 40, 40, 300, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 6
    assert all(total <= 100 or total == 300 for total in most)


def test_a_run_that_fails_gives_its_memory_back():
    shared = Gate(100)
    with pytest.raises(ValueError, match="x"), shared.reserve(100):
        raise ValueError("x")
    with shared.reserve(100):
        pass


def test_the_gate_is_one_for_a_process():
    assert gate(1 << 30) is gate(1 << 30)
    assert gate().limit is None
    assert available_memory() > 0


def test_a_workers_limit_is_that_of_its_gate():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            memory_limit="2 GB",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        limit = client.submit(lambda: gate(5).limit).result()
    assert limit == int(2e9 * 0.75) - (200 << 20)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak starts with the process")
def test_the_peak_is_of_what_came_since():
    fill(160_000_000)
    reset_peak()
    before = peak_memory()
    fill(80_000_000)
    assert 70e6 < peak_memory() - before < 150e6


def fill(n_bytes: int) -> None:
    """Have so much for a moment, of the system: an allocator may have as much that is free."""
    with mmap.mmap(-1, n_bytes) as memory:
        for start in range(0, n_bytes, 1 << 20):
            memory[start : start + (1 << 20)] = bytes(min(1 << 20, n_bytes - start))
