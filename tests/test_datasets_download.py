"""Datasets downloaded: once and whole, whatever happens on the way."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasetmirror import Server, answer, login, once, truncated, truncated_in_silence, unavailable
from smalldatasets import ADULT, BOLD, SCHAEFER, parts_left, write_templateflow

import daskroi as dr
from daskroi import datasetdownload, datasets

pytestmark = pytest.mark.usefixtures("bare_machine")


def test_downloads_once_and_whole(server: Server, tmp_path: Path) -> None:
    data = datasets.development_fmri(2, verbose=0)
    folder = tmp_path / "cache" / "datasets" / "development_fmri"
    assert data.func == [str(folder / BOLD.format(s)) for s in (ADULT, "sub-pixar001")]
    for path in data.func:
        sent = (server.folder / "development_fmri" / Path(path).name).read_bytes()
        assert Path(path).read_bytes() == sent
        record = folder / ".checksums" / f"{Path(path).name}.sha256"
        assert record.read_text().split() == [hashlib.sha256(sent).hexdigest(), str(len(sent))]
        # a folder may be shared, and temporary files are their owner's alone
        assert Path(path).stat().st_mode == record.stat().st_mode
    harvard = datasets.harvard_oxford("cort-maxprob-thr25-2mm", verbose=0)
    maps = datasets.harvard_oxford("cort-prob-2mm", verbose=0)
    schaefer = datasets.schaefer(100, verbose=0)
    assert (len(harvard.table), len(maps.table), len(schaefer.table)) == (4, 4, 100)
    assert set(server.requests.values()) == {1}, "the archive has all, and each file comes once"
    assert str(harvard.source).startswith(str(tmp_path / "cache/datasets/fsl/data/atlases"))
    again = datasets.development_fmri(2, verbose=0)
    assert again.func == data.func
    assert datasets.harvard_oxford("cortl-maxprob-thr0-1mm", verbose=0).names == harvard.names
    assert set(server.requests.values()) == {1}
    assert not parts_left(tmp_path)


def test_data_dir_gets_the_downloads_and_nilearn_finds_them(server: Server, tmp_path: Path) -> None:
    from nilearn.datasets import fetch_atlas_harvard_oxford, fetch_development_fmri

    data = datasets.development_fmri(data_dir=tmp_path / "data", verbose=0)
    atlas = datasets.harvard_oxford(data_dir=tmp_path / "data", verbose=0)
    theirs = fetch_development_fmri(1, data_dir=tmp_path / "data", verbose=0)
    assert (data.func, data.confounds) == (theirs.func, theirs.confounds)
    bunch = fetch_atlas_harvard_oxford("cort-maxprob-thr25-2mm", tmp_path / "data", verbose=0)
    assert bunch.labels[1:] == atlas.names
    assert not (tmp_path / "cache").exists()


FAULTS = {
    "truncated": (truncated, "the connection broke off"),
    "truncated in silence": (truncated_in_silence, "damaged on the way"),
    "503": (unavailable, "503"),
    "login": (login, "a web page came instead"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_that_pass_are_outlived(server: Server, fault: str) -> None:
    name = BOLD.format(ADULT)
    server.faults[name] = once(FAULTS[fault][0])
    (path,) = datasets.development_fmri(verbose=0).func
    assert Path(path).read_bytes() == (server.folder / "development_fmri" / name).read_bytes()
    assert server.requests[name] == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_that_stay_leave_nothing_behind(server: Server, tmp_path: Path, fault: str) -> None:
    behaviour, reason = FAULTS[fault]
    name = BOLD.format(ADULT)
    server.faults[name] = behaviour
    with pytest.raises(dr.DaskroiError) as caught:
        datasets.development_fmri(verbose=0)
    assert f"{server.url}/development_fmri/{name}: {reason}" in str(caught.value)
    assert server.requests[name] == 3
    assert not list((tmp_path / "cache").rglob(name))
    assert not parts_left(tmp_path)
    # and when the server is well again, all is
    del server.faults[name]
    assert len(datasets.development_fmri(verbose=0).func) == 1


def test_mirrors_are_tried_in_order(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    # down; without the file; well
    urls = f"http://127.0.0.1:9 {server.url}/elsewhere {server.url}"
    monkeypatch.setenv("DASKROI_DATASETS_URL", urls)
    assert len(datasets.schaefer(100, verbose=0).table) == 100
    # once for the 404, which asking again does not change, and once for the file
    assert server.requests[f"{SCHAEFER.format(100, 7)}.txt"] == 2


def test_templateflow_in_place_of_fsl_is_said(server: Server) -> None:
    write_templateflow(server.folder / "tpl-MNI152NLin6Asym")
    (server.folder / "fsl" / "HarvardOxford.tgz").unlink()
    with pytest.warns(dr.DaskroiWarning, match=r"HOSPA_desc-th25_dseg.nii.gz is taken.*404 Not Fo"):
        atlas = datasets.harvard_oxford("sub-maxprob-thr25-2mm", verbose=0)
    assert atlas.names[1:3] == ["Frontal Opercular Cortex", "Left Lateral Ventricle"]
    # found from now on, and not said again
    assert datasets.harvard_oxford("sub-maxprob-thr25-2mm", verbose=0).names == atlas.names


@pytest.mark.parametrize("verbose", [0, 1])
def test_a_log_says_how_far_a_download_is(
    server: Server, monkeypatch: Any, capsys: Any, verbose: int
) -> None:
    monkeypatch.setattr("daskroi.display.SECONDS_BETWEEN_LINES", 0)
    # two blocks of pooch's, the first of which is a line
    packed = gzip.compress(np.random.default_rng(0).bytes(100_000))
    (server.folder / "noise.gz").write_bytes(packed)
    monkeypatch.setenv("DASKROI_DATASETS_URL", server.url)
    url = f"{server.url}/noise.gz"
    folder = server.folder.parent / "to"
    path = datasetdownload.download("noise.gz", [url], folder, verbose=verbose)
    assert path.read_bytes() == packed
    said = re.sub(r"[\d.]+ [kM]B/s", "rate", capsys.readouterr().err)
    assert said == verbose * (
        f"Downloading noise.gz from {url}\n"
        "noise.gz: 65 %, 66 kB, rate, 0:00 so far, 0:00 to go\n"
        "noise.gz: 100 %, 100 kB, rate, 0:00 so far\n"
    )


CALL = "from daskroi import datasets; print(datasets.development_fmri(verbose=0).func[0])"


def test_killed_download_is_no_file(server: Server, tmp_path: Path) -> None:
    name = BOLD.format(ADULT)
    server.faults[name] = server.stall
    process = subprocess.Popen([sys.executable, "-c", CALL])
    folder = tmp_path / "cache" / "datasets" / "development_fmri"
    try:
        assert server.stalled.wait(60)
        deadline = time.monotonic() + 20
        while not any(p.is_file() and p.stat().st_size for p in folder.glob(".*.part/*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait(20)
    assert len(parts_left(tmp_path)) == 1
    # of another machine, where it may still be running: left alone while something comes
    elsewhere = folder / ".download.otherhost-1-0123abcd.part"
    elsewhere.mkdir()
    (elsewhere / "half").write_bytes(b"half")
    old = time.time() - 2 * 3600
    os.utime(elsewhere, (old, old))
    assert not (folder / name).exists()
    del server.faults[name]
    (path,) = datasets.development_fmri(verbose=0).func
    assert Path(path).read_bytes() == (server.folder / "development_fmri" / name).read_bytes()
    assert parts_left(tmp_path) == [elsewhere]
    os.utime(elsewhere / "half", (old, old))
    datasets.development_fmri(2, verbose=0)
    assert not parts_left(tmp_path)


def test_two_processes_at_once(server: Server, tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def together(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        half = len(body) // 2
        answer(handler, body[:half], len(body))
        both.wait(60)  # each has half when the other has
        handler.wfile.write(body[half:])

    name = BOLD.format(ADULT)
    server.faults[name] = together
    processes = [
        subprocess.Popen([sys.executable, "-c", CALL], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        paths = {process.communicate(timeout=120)[0].strip() for process in processes}
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    (path,) = paths
    assert Path(path).read_bytes() == (server.folder / "development_fmri" / name).read_bytes()
    assert not parts_left(tmp_path)


def test_progress_bar_in_a_terminal(server: Server, monkeypatch: Any, capfd: Any) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    datasets.schaefer(100)
    err = capfd.readouterr().err
    assert f"{SCHAEFER.format(100, 7)}_FSLMNI152_2mm.nii.gz" in err
    assert "━" in err


def test_folder_that_cannot_be_written(server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "file"))
    with pytest.raises(dr.DaskroiError, match=r"cannot be stored here \(Not a directory\). Free"):
        datasets.schaefer(100, verbose=0)
