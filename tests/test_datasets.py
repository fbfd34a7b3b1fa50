"""Datasets by name, against nilearn's own fetchers and a server with files of the real layout."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from images import run

import daskroi as dr
from daskroi import datasetdownload, datasets
from daskroi.datasetfiles import folders_of

BOLD = "{}_task-pixar_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
CONFOUNDS = "{}_task-pixar_desc-confounds_regressors.tsv"
REDUCED = "{}_task-pixar_desc-reducedConfounds_regressors.tsv"
COLUMNS = [
    *("csf", "white_matter", "global_signal", "framewise_displacement", "std_dvars"),
    *(f"a_comp_cor_{i:02}" for i in range(8)),
    *("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"),
]
ADULT = "sub-pixar123"
SCHAEFER = "Schaefer2018_{}Parcels_{}Networks_order"
NETWORKS = ("Vis", "SomMot", "DorsAttn", "SalVentAttn", "Limbic", "Cont", "Default")
# 8 mm voxels over the whole of MNI space
WIDE = np.array([[8.0, 0, 0, -90], [0, 8, 0, -126], [0, 0, 8, -72], [0, 0, 0, 1]])


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without data and without a network; pooch does not wait between tries."""
    names = ("NILEARN_SHARED_DATA", "NILEARN_DATA", "FSLDIR", "TEMPLATEFLOW_HOME")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "cache"))
    # port 9 (discard) is closed
    monkeypatch.setenv("DASKROI_DATASETS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda seconds: None))


def gzipped(image: nib.Nifti1Image) -> bytes:
    return gzip.compress(image.to_bytes(), 1, mtime=0)


def confounds(n_time: int, seed: int = 0, first: float = 0.0) -> str:
    """As fMRIPrep writes them; the published runs have a number where it has n/a in the first row.

    Or nilearn's examples, which regress them out, would fail.
    """
    values = np.random.default_rng(seed).standard_normal((n_time, len(COLUMNS)))
    frame = pd.DataFrame(values, columns=COLUMNS)
    frame.loc[0, ["framewise_displacement", "std_dvars"]] = first, np.nan
    return frame.to_csv(sep="\t", index=False, na_rep="n/a")


def participants() -> str:
    """155 rows as in the real table: 122 children, 33 adults, more columns than needed."""
    rows = ["participant_id\tAge\tAgeGroup\tChild_Adult\tGender\tHandedness\tFB_Composite"]
    for i in range(1, 156):
        group = "5yo\tchild" if i < 123 else "Adult\tadult"
        rows.append(f"sub-pixar{i:03}\t{i % 30 + 4}.5\t{group}\tF\tR\tn/a")
    return "\n".join(rows) + "\n"


def write_development(folder: Path, subjects: list[str]) -> Path:
    """What nilearn's folder of development_fmri holds after a download."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "participants.tsv").write_text(participants())
    bold = gzipped(run(np.random.default_rng(0), (23, 28, 24, 12), "i2", WIDE))
    for subject in subjects:
        (folder / BOLD.format(subject)).write_bytes(bold)
        (folder / CONFOUNDS.format(subject)).write_text(confounds(12))
    return folder


FSL_NAMES = ("Frontal Pole", "Frontal Operculum Cortex", "Left Lateral Ventrical", "Occipital Pole")


def xml(names: tuple[str, ...] | list[str]) -> str:
    labels = "\n".join(
        f'<label index="{i}" x="48" y="94" z="35">{name}</label>' for i, name in enumerate(names)
    )
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<atlas version="1.0">\n<header>\n'
        "<name>Harvard-Oxford Cortical Structural Atlas</name>\n<type>Probabalistic</type>\n"
        f"</header>\n<data>\n{labels}\n</data>\n</atlas>\n"
    )


def write_fsl(fsl: Path) -> Path:
    """Small atlases in the layout of FSL: three label images, one of maps, the tables."""
    atlases = fsl / "data" / "atlases"
    (atlases / "HarvardOxford").mkdir(parents=True)
    rng = np.random.default_rng(1)
    labels = nib.Nifti1Image(rng.integers(0, 5, (23, 28, 24)).astype("u1"), WIDE)
    maps = nib.Nifti1Image(rng.integers(0, 60, (5, 6, 5, 4)).astype("u1"), WIDE)
    for name in ("cort-maxprob-thr25-2mm", "cortl-maxprob-thr0-1mm", "sub-maxprob-thr50-2mm"):
        (atlases / f"HarvardOxford/HarvardOxford-{name}.nii.gz").write_bytes(gzipped(labels))
    (atlases / "HarvardOxford/HarvardOxford-cort-prob-2mm.nii.gz").write_bytes(gzipped(maps))
    for table in ("Cortical", "Cortical-Lateralized", "Subcortical"):
        (atlases / f"HarvardOxford-{table}.xml").write_text(xml(FSL_NAMES))
    return fsl


def schaefer_table(n: int, networks: int) -> str:
    """CBIG's table; the networks of 17 are made of parts, as the real ones are."""
    rows = []
    for i in range(n):
        side, k = ("LH", i) if i < n // 2 else ("RH", i - n // 2)
        network = NETWORKS[k * 7 // (n // 2)] + ("" if networks == 7 else "A_IPS")
        rows.append(f"{i + 1}\t{networks}Networks_{side}_{network}_{k + 1}\t120\t18\t{k % 256}\t0")
    return "\n".join(rows) + "\n"


def write_schaefer(folder: Path, n: int = 100, networks: int = 7, size: int = 2) -> Path:
    """Table and image; the last region has no voxel."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = SCHAEFER.format(n, networks)
    (folder / f"{stem}.txt").write_text(schaefer_table(n, networks))
    values = (np.arange(23 * 28 * 24) % n).reshape(23, 28, 24).astype("i2")
    image = gzipped(nib.Nifti1Image(values, WIDE))
    (folder / f"{stem}_FSLMNI152_{size}mm.nii.gz").write_bytes(image)
    return folder


class Server:
    """HTTP server over a folder that counts requests and misbehaves for paths that end so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: Counter[str] = Counter()
        self.faults: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {}
        self.gone = threading.Event()
        self.stalled = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = outer.folder / self.path.lstrip("/").split("?")[0]
                outer.requests[path.name] += 1
                self.close_connection = True
                if not path.is_file():
                    self.send_error(404)
                    return
                fault = outer.faults.get(path.name)
                (fault or whole)(self, path.read_bytes())

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.gone.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def stall(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Half of it, then silence."""
        answer(handler, body[: len(body) // 2], len(body))
        self.stalled.set()
        self.gone.wait(60)


def answer(handler: BaseHTTPRequestHandler, body: bytes, length: int, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def whole(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    answer(handler, body, len(body))


def truncated(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    answer(handler, body[: len(body) // 2], len(body))


def truncated_in_silence(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """As by a proxy that lost the end and says nothing of it."""
    answer(handler, body[: len(body) // 2], len(body) // 2)


def unavailable(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    answer(handler, b"", 0, 503)


def login(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    whole(handler, b"\n<!DOCTYPE html><title>Log in</title>")


def once(fault: Callable[[BaseHTTPRequestHandler, bytes], None]) -> Any:
    left = [fault]
    return lambda handler, body: (left.pop() if left else whole)(handler, body)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A mirror with all datasets, named by DASKROI_DATASETS_URL."""
    folder = tmp_path / "mirror"
    write_development(folder / "development_fmri", [ADULT, "sub-pixar001"])
    write_schaefer(folder / "schaefer_2018")
    write_schaefer(folder / "schaefer_2018", 400, 7, 1)
    with tarfile.open(folder / "HarvardOxford.tgz", "w:gz") as tar:
        tar.add(write_fsl(tmp_path / "packed") / "data", "data")
    (folder / "fsl").mkdir()
    (folder / "HarvardOxford.tgz").rename(folder / "fsl" / "HarvardOxford.tgz")
    server = Server(folder)
    monkeypatch.setenv("DASKROI_DATASETS_URL", server.url)
    yield server
    server.close()


# -- found where they lie -------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True], ids=["0.14.1", "0.14.0"])
@pytest.mark.parametrize("where", ["data_dir", "NILEARN_SHARED_DATA", "NILEARN_DATA", "home"])
def test_development_fmri_in_nilearns_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, nested: bool
) -> None:
    root = tmp_path / ("home/nilearn_data" if where == "home" else "data")
    folder = root / "development_fmri"
    folder = write_development(folder / "development_fmri" if nested else folder, [ADULT])
    if where.startswith("NILEARN"):
        monkeypatch.setenv(where, os.pathsep.join([str(tmp_path / "nothing"), str(root)]))
    data = datasets.development_fmri(1, data_dir=root if where == "data_dir" else None)
    assert data.func == [str(folder / BOLD.format(ADULT))]
    if where != "data_dir":  # nothing is written into a folder that is not ours
        assert len(list(folder.iterdir())) == 3


def test_data_dir_may_be_the_datasets_own_folder_but_no_bids_dataset(tmp_path: Path) -> None:
    folder = write_development(tmp_path / "development_fmri", [ADULT])
    assert datasets.development_fmri(data_dir=folder).func == [str(folder / BOLD.format(ADULT))]
    bids = write_development(tmp_path / "bids", [ADULT])
    assert bids not in folders_of("development_fmri", bids)


@pytest.fixture(scope="module")
def everyone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 155 subjects, in nilearn's folder; tiny files."""
    root = tmp_path_factory.mktemp("nilearn")
    folder = write_development(root / "development_fmri", [])
    for i in range(1, 156):
        (folder / BOLD.format(f"sub-pixar{i:03}")).write_bytes(gzip.compress(b"x"))
        (folder / CONFOUNDS.format(f"sub-pixar{i:03}")).write_text(confounds(3, i))
    return root


@pytest.mark.filterwarnings("ignore:Wrong value for n_subjects")
@pytest.mark.filterwarnings("ignore::daskroi.DaskroiWarning")
@pytest.mark.parametrize("age_group", ["both", "adult", "child"])
@pytest.mark.parametrize("n_subjects", [1, 2, 3, 10, 31, 78, 154, 200, None])
def test_same_subjects_in_the_same_order_as_nilearn(
    everyone: Path, n_subjects: int | None, age_group: str
) -> None:
    from nilearn.datasets import fetch_development_fmri

    theirs = fetch_development_fmri(
        n_subjects, False, data_dir=everyone, verbose=0, age_group=age_group
    )
    ours = datasets.development_fmri(n_subjects, False, everyone, 0, age_group)
    assert ours.func == theirs.func
    assert ours.confounds == theirs.confounds
    assert ours.t_r == theirs.t_r
    pd.testing.assert_frame_equal(ours.phenotypic, theirs.phenotypic)


def test_more_subjects_than_there_are_is_said(everyone: Path) -> None:
    with pytest.warns(dr.DaskroiWarning, match=r"n_subjects=34 .*\(adult\): all 33 are taken"):
        data = datasets.development_fmri(34, False, data_dir=everyone, age_group="adult")
    assert len(data.func) == 33


def test_reduced_confounds_are_nilearns_to_the_byte(tmp_path: Path) -> None:
    from nilearn.datasets import fetch_development_fmri

    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    nested = mine / "development_fmri" / "development_fmri"
    for folder in (nested, theirs / "development_fmri"):
        table = write_development(folder, [ADULT]) / CONFOUNDS.format(ADULT)
        table.write_text(confounds(12, first=np.nan))
    expected = fetch_development_fmri(1, data_dir=theirs, verbose=0).confounds[0]
    (reduced,) = datasets.development_fmri(data_dir=mine).confounds
    assert Path(reduced).read_bytes() == Path(expected).read_bytes()
    assert Path(reduced).is_relative_to(mine / "development_fmri")
    # the second time the file stays as it is: its time is in the keys of results
    before = os.stat(reduced)
    (again,) = datasets.development_fmri(data_dir=mine).confounds
    assert (again, os.stat(again).st_mtime_ns) == (reduced, before.st_mtime_ns)
    # what nilearn wrote is used as it is
    assert datasets.development_fmri(data_dir=theirs).confounds == [expected]
    (full,) = datasets.development_fmri(reduce_confounds=False, data_dir=mine).confounds
    assert Path(full).name == CONFOUNDS.format(ADULT)


REDUCING = """
import os, sys, time
def stop(*args):
    print("here", flush=True)
    time.sleep(60)
os.replace = stop
from daskroi import datasets
datasets.development_fmri(data_dir=sys.argv[1])
"""


def test_reducing_that_is_killed_and_two_threads_that_reduce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "development_fmri"
    nested = write_development(folder / "development_fmri", [ADULT])
    (nested / CONFOUNDS.format(ADULT)).write_text(confounds(12))
    code = [sys.executable, "-c", REDUCING, str(tmp_path)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "here\n"
        finally:
            writer.kill()
    assert len(parts_left(tmp_path)) == 1
    assert not (folder / REDUCED.format(ADULT)).exists()
    both, replace = threading.Barrier(2, timeout=60), os.replace

    def together(*args: Any) -> None:
        both.wait()
        replace(*args)

    monkeypatch.setattr(os, "replace", together)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: datasets.development_fmri(data_dir=tmp_path), range(2)))
    reduced = folder / REDUCED.format(ADULT)
    assert {path for data in made for path in data.confounds} == {str(reduced)}
    assert set(folder.iterdir()) == {nested, reduced}


def test_dataset_is_like_a_bunch_and_prints_well(everyone: Path) -> None:
    data = datasets.development_fmri(10, False, data_dir=everyone)
    assert repr(data) == (
        "<Dataset development_fmri: 10 runs (2 adult, 8 child), t_r 2 s, in "
        f"{everyone / 'development_fmri'}>"
    )
    assert list(data) == ["func", "confounds", "phenotypic", "t_r", "description"]
    assert data["func"] is data.func
    assert data.t_r == 2
    assert "Richardson" in data.description
    with pytest.raises(KeyError):
        _ = data["keys"]


@pytest.mark.parametrize("n_subjects", [0, -1, 1.5, True, "1"])
def test_bad_number_of_subjects(everyone: Path, n_subjects: Any) -> None:
    with pytest.raises(dr.DaskroiError, match=r"n_subjects=.* is no positive whole number"):
        datasets.development_fmri(n_subjects, data_dir=everyone)


def test_bad_choices() -> None:
    with pytest.raises(dr.DaskroiError, match="age_group='adults' is not known"):
        datasets.development_fmri(age_group="adults")
    with pytest.raises(dr.DaskroiError, match="atlas_name='cort-maxprob-thr30-2mm' is not known"):
        datasets.harvard_oxford("cort-maxprob-thr30-2mm")
    with pytest.raises(dr.DaskroiError, match="n_rois=150 is not known"):
        datasets.schaefer(150)
    with pytest.raises(dr.DaskroiError, match="yeo_networks=8 is not known"):
        datasets.schaefer(yeo_networks=8)
    with pytest.raises(dr.DaskroiError, match="resolution_mm=3 is not known"):
        datasets.schaefer(resolution_mm=3)


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    folder = write_development(tmp_path / "development_fmri", [ADULT])
    (folder / CONFOUNDS.format(ADULT)).write_text("csf\twhite_matter\n1\t2\n")
    with pytest.raises(dr.DaskroiError, match=r"desc-confounds_regressors.tsv: lacks columns"):
        datasets.development_fmri(data_dir=tmp_path)
    (folder / "participants.tsv").write_text("participant_id\nsub-01\n")
    with pytest.raises(dr.DaskroiError, match=r"participants.tsv: is not the table of particip"):
        datasets.development_fmri(data_dir=tmp_path)
    (folder / "participants.tsv").write_text(participants().replace(ADULT, "sub-elsewhere"))
    with pytest.raises(dr.DaskroiError, match="names 'sub-elsewhere', of which no run"):
        datasets.development_fmri(data_dir=tmp_path)


def test_real_harvard_oxford_in_fsl(
    real_data: Path, harvard_oxford: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsl = write_fsl(tmp_path / "fsl")
    shutil.copyfile(harvard_oxford, fsl / "data/atlases/HarvardOxford" / harvard_oxford.name)
    expected = pd.read_table(real_data / "atlases" / "harvard_oxford_expected_sizes.tsv")
    # FSL's spelling
    names = [n.replace("Opercular", "Operculum") for n in expected["region_name"]]
    (fsl / "data/atlases/HarvardOxford-Cortical.xml").write_text(xml(names))
    monkeypatch.setenv("FSLDIR", str(fsl))
    atlas = datasets.harvard_oxford("cort-maxprob-thr25-2mm")
    assert isinstance(atlas, dr.Atlas)
    assert atlas.names == expected["region_name"].tolist()
    np.testing.assert_array_equal(atlas.ids, expected["label_value"])
    np.testing.assert_array_equal(atlas.table["size_mm3"], expected["size_mm3"])
    np.testing.assert_array_equal(
        atlas.table["relative_size_percent"], expected["relative_size_percent"]
    )
    assert (atlas.name, atlas.template) == ("HarvardOxfordCortMaxprobThr25", "MNI152NLin6Asym")


def test_harvard_oxford_is_nilearns(tmp_path: Path) -> None:
    from nilearn.datasets import fetch_atlas_harvard_oxford

    write_fsl(tmp_path / "fsl")
    for name in ("cort-maxprob-thr25-2mm", "cortl-maxprob-thr0-1mm", "sub-maxprob-thr50-2mm"):
        theirs = fetch_atlas_harvard_oxford(name, data_dir=tmp_path, verbose=0)
        # a data folder, or an FSL installation
        for folder in (tmp_path, tmp_path / "fsl"):
            ours = datasets.harvard_oxford(name, folder, name="HO")
            assert ["Background", *ours.names] == theirs.labels
            assert ours.name == "HO"
    assert ours.names[1:3] == ["Frontal Opercular Cortex", "Left Lateral Ventricle"]
    theirs = fetch_atlas_harvard_oxford("cort-prob-2mm", data_dir=tmp_path, verbose=0)
    maps = datasets.harvard_oxford("cort-prob-2mm", tmp_path)
    assert isinstance(maps, dr.MapsAtlas)
    assert ["Background", *maps.names] == theirs.labels
    assert (maps.name, maps.template) == ("HarvardOxfordCortProb", theirs.template)


def write_templateflow(folder: Path) -> Path:
    """The two atlases as TemplateFlow has them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2)
    labels = gzipped(nib.Nifti1Image(rng.integers(0, 5, (5, 6, 5)).astype("u1"), WIDE))
    stem = "tpl-MNI152NLin6Asym"
    ho, schaefer = "atlas-HOSPA", "atlas-Schaefer2018"
    (folder / f"{stem}_res-02_{ho}_desc-th25_dseg.nii.gz").write_bytes(labels)
    table = "index\tname\n" + "".join(f"{i + 1}\t{n}\n" for i, n in enumerate(FSL_NAMES))
    (folder / f"{stem}_{ho}_dseg.tsv").write_text(table)
    desc = "desc-100Parcels17Networks"
    (folder / f"{stem}_res-01_{schaefer}_{desc}_dseg.nii.gz").write_bytes(labels)
    rows = [line.split("\t") for line in schaefer_table(100, 17).splitlines()]
    table = "index\tname\tcolor\n" + "".join(f"{r[0]}\t{r[1]}\t#781280\n" for r in rows)
    (folder / f"{stem}_{schaefer}_{desc}_dseg.tsv").write_text(table)
    return folder


@pytest.mark.parametrize("named", [True, False], ids=["TEMPLATEFLOW_HOME", "default"])
def test_templateflows_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    home = tmp_path / ("tf" if named else "home/.cache/templateflow")
    if named:
        monkeypatch.setenv("TEMPLATEFLOW_HOME", str(home))
    folder = write_templateflow(home / "tpl-MNI152NLin6Asym")
    atlas = datasets.harvard_oxford("sub-maxprob-thr25-2mm")
    assert atlas.names[1:3] == ["Frontal Opercular Cortex", "Left Lateral Ventricle"]
    assert str(atlas.source).startswith(str(folder))
    atlas = datasets.schaefer(100, 17, 1)
    assert (atlas.name, atlas.template) == ("Schaefer100Networks17", "MNI152NLin6Asym")
    # the image has four of them; the axis is the table's
    assert len(atlas.table) == 100
    assert set(atlas.table["network"]) == {f"{n}A" for n in NETWORKS}


def test_placeholders_and_pointers_are_not_data(tmp_path: Path) -> None:
    folder = write_templateflow(tmp_path / "home/.cache/templateflow/tpl-MNI152NLin6Asym")
    image = folder / "tpl-MNI152NLin6Asym_res-02_atlas-HOSPA_desc-th25_dseg.nii.gz"
    table = folder / "tpl-MNI152NLin6Asym_atlas-HOSPA_dseg.tsv"
    image.write_bytes(b"")
    table.unlink()
    table.symlink_to(".git/annex/objects/x/y")
    fsl = write_fsl(tmp_path / "home/nilearn_data/fsl") / "data/atlases"
    (fsl / "HarvardOxford/HarvardOxford-sub-maxprob-thr25-2mm.nii.gz").write_bytes(b"not gzip")
    (fsl / "HarvardOxford-Subcortical.xml").write_text("/annex/objects/MD5E-s3--abc.xml\n")
    with pytest.raises(dr.DaskroiError) as caught:
        datasets.harvard_oxford("sub-maxprob-thr25-2mm", verbose=0)
    message = str(caught.value)
    assert f"{image} (empty: a placeholder of TemplateFlow's" in message
    assert f"{table} (a broken link: datalad get)" in message
    assert "thr25-2mm.nii.gz (not gzip)" in message
    assert "HarvardOxford-Subcortical.xml (only a pointer: datalad get)" in message


@pytest.mark.parametrize("networks", [7, 17])
def test_schaefer_is_nilearns_and_keeps_regions_without_voxels(
    tmp_path: Path, networks: int
) -> None:
    from nilearn.datasets import fetch_atlas_schaefer_2018

    write_schaefer(tmp_path / "schaefer_2018", 200, networks)
    ours = datasets.schaefer(200, networks, 2, tmp_path)
    with pytest.warns(UserWarning, match="missing from the atlas image"):
        theirs = fetch_atlas_schaefer_2018(200, networks, 2, data_dir=tmp_path, verbose=0)
    assert ["Background", *ours.names] == theirs.labels
    assert ours.table["n_voxels"].tolist()[-1] == 0
    assert ours.table["n_voxels"].min() == 0 < ours.table["n_voxels"][0]
    assert ours.table["hemisphere"].tolist() == ["LH"] * 100 + ["RH"] * 100
    assert ours.table["color"][0] == "#781200"
    assert ours.template == theirs.template
    assert ours.name == ("Schaefer200" if networks == 7 else "Schaefer200Networks17")


# -- what nilearn's fetchers return ---------------------------------------------------------------


@pytest.fixture
def nilearns(tmp_path: Path) -> SimpleNamespace:
    """What nilearn's fetchers give of a run and three atlases."""
    import nilearn.datasets as theirs

    write_development(tmp_path / "development_fmri", [ADULT])
    write_fsl(tmp_path / "fsl")
    write_schaefer(tmp_path / "schaefer_2018")
    with pytest.warns(UserWarning, match="missing from the atlas image"):
        schaefer = theirs.fetch_atlas_schaefer_2018(100, resolution_mm=2, data_dir=tmp_path)
    return SimpleNamespace(
        folder=tmp_path,
        runs=theirs.fetch_development_fmri(1, data_dir=tmp_path, verbose=0),
        harvard_oxford=theirs.fetch_atlas_harvard_oxford(
            "cort-maxprob-thr25-2mm", data_dir=tmp_path, verbose=0
        ),
        maps=theirs.fetch_atlas_harvard_oxford("cort-prob-2mm", data_dir=tmp_path, verbose=0),
        schaefer=schaefer,
    )


@pytest.mark.filterwarnings("ignore::daskroi.DaskroiWarning")
def test_bunches_of_nilearn_give_the_same_as_our_atlases(nilearns: SimpleNamespace) -> None:
    func, confounds = nilearns.runs.func[0], nilearns.runs.confounds[0]
    ours = {
        "harvard_oxford": datasets.harvard_oxford("cort-maxprob-thr25-2mm", nilearns.folder),
        "schaefer": datasets.schaefer(100, 7, 2, nilearns.folder),
    }
    for name, atlas in ours.items():
        bunch = getattr(nilearns, name)
        loaded = dr.load_atlas(bunch)
        assert (loaded.names, loaded.template) == (atlas.names, "MNI152NLin6Asym")
        a = dr.extract(func, bunch, confounds=confounds, t_r=nilearns.runs.t_r).compute()
        b = dr.extract(func, atlas, confounds=confounds, t_r=2.0).compute()
        # nilearn turns the image round, so sums run in another order
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        assert a["region_name"].values.tolist() == atlas.names
    maps = datasets.harvard_oxford("cort-prob-2mm", nilearns.folder)
    assert dr.load_atlas(nilearns.maps).names == maps.names


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_masker_with_bunches_of_nilearn(nilearns: SimpleNamespace) -> None:
    from nilearn.maskers import NiftiLabelsMasker

    func, confounds = nilearns.runs.func[0], nilearns.runs.confounds[0]
    bunch = nilearns.harvard_oxford
    ours = datasets.harvard_oxford(data_dir=nilearns.folder)
    masker = NiftiLabelsMasker(bunch.maps, lut=bunch.lut, standardize=None)
    expected = masker.fit_transform(func, confounds=confounds)
    for masker in (
        dr.NiftiLabelsMasker(bunch.maps, lut=bunch.lut, standardize=None),
        dr.NiftiLabelsMasker(bunch.maps, labels=bunch.labels, standardize=None),
        dr.NiftiLabelsMasker(bunch, standardize=None),
        dr.NiftiLabelsMasker(ours, standardize=None),
    ):
        signals = masker.fit(func).transform(func, confounds=confounds)
        np.testing.assert_allclose(signals, expected, rtol=1e-6)


# -- downloaded -----------------------------------------------------------------------------------


def parts_left(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.part"))


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


def test_broken_archive_of_the_first_mirror(server: Server, monkeypatch: Any) -> None:
    bad = server.folder / "bad" / "fsl" / "HarvardOxford.tgz"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(gzip.compress(b"no tar at all" * 1000))
    monkeypatch.setenv("DASKROI_DATASETS_URL", f"{server.url}/bad {server.url}")
    assert len(datasets.harvard_oxford(verbose=0).table) == 4


def archive_of(path: Path, *members: tuple[str, bytes], link: str = "") -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)


@pytest.mark.parametrize("name", ["../evil.txt", "data/../../evil.txt", "/tmp/evil.txt"])
def test_archive_that_leads_out_of_its_folder(server: Server, tmp_path: Path, name: str) -> None:
    archive_of(server.folder / "fsl" / "HarvardOxford.tgz", ("data/a", b"a"), (name, b"evil"))
    with pytest.raises(dr.DaskroiError, match="holds a path that leads out of its folder"):
        datasets.harvard_oxford(verbose=0)
    assert not list(tmp_path.rglob("evil.txt"))
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_links_in_archives_are_not_made(server: Server, tmp_path: Path) -> None:
    wanted = "data/atlases/HarvardOxford/HarvardOxford-cort-maxprob-thr25-2mm.nii.gz"
    archive_of(server.folder / "fsl" / "HarvardOxford.tgz", ("data/a", b"a"), link=wanted)
    with pytest.raises(dr.DaskroiError, match=f"HarvardOxford.tgz: holds no {wanted}"):
        datasets.harvard_oxford(verbose=0)
    assert not [p for p in tmp_path.rglob("*") if p.is_symlink()]


def test_checksum_of_the_first_download_binds_later_ones(server: Server, tmp_path: Path) -> None:
    (path,) = datasets.development_fmri(verbose=0).func
    Path(path).unlink()
    name = Path(path).name
    other = gzip.compress(b"another run")
    sent = (server.folder / "development_fmri" / name).read_bytes()
    (server.folder / "development_fmri" / name).write_bytes(other)
    with pytest.raises(dr.DaskroiError) as caught:
        datasets.development_fmri(verbose=0)
    message = str(caught.value)
    assert f"SHA-256 is {hashlib.sha256(other).hexdigest()[:12]}…" in message
    assert f"not {hashlib.sha256(sent).hexdigest()[:12]}…" in message
    assert ".checksums" in message
    assert not Path(path).exists()


def test_known_checksum_binds_the_first_download(server: Server) -> None:
    # the one atlas whose checksums are public; ours is not it
    with pytest.raises(
        dr.DaskroiError, match=r"order_FSLMNI152_1mm.nii.gz: its SHA-256 is \w+…, not abb80328"
    ):
        datasets.schaefer(400, resolution_mm=1, verbose=0)


def test_file_cut_short_later_is_downloaded_again(server: Server) -> None:
    (path,) = datasets.development_fmri(verbose=0).func
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:-10])
    assert datasets.development_fmri(verbose=0).func == [path]
    assert Path(path).read_bytes() == content
    assert server.requests[Path(path).name] == 2


CALL = "from daskroi import datasets; print(datasets.development_fmri(verbose=0).func[0])"


def test_killed_download_is_no_file(server: Server, tmp_path: Path) -> None:
    name = BOLD.format(ADULT)
    server.faults[name] = server.stall
    process = subprocess.Popen([sys.executable, "-c", CALL])
    assert server.stalled.wait(60)
    folder = tmp_path / "cache" / "datasets" / "development_fmri"
    deadline = time.monotonic() + 20
    while not any(p.is_file() and p.stat().st_size for p in folder.glob(".*.part/*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
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
    paths = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    (path,) = paths
    assert Path(path).read_bytes() == (server.folder / "development_fmri" / name).read_bytes()
    assert not parts_left(tmp_path)


# -- not to be had --------------------------------------------------------------------------------


def test_offline_says_all_there_is_to_say(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("NILEARN_DATA", str(tmp_path / "shared"))
    monkeypatch.setenv("FSLDIR", str(tmp_path / "fsl"))
    with pytest.raises(FileNotFoundError) as caught:
        datasets.harvard_oxford("sub-maxprob-thr25-2mm", verbose=0)
    assert isinstance(caught.value, dr.DaskroiError)
    message = str(caught.value)
    assert "\n" not in message
    for folder in (
        *("shared/fsl", "home/nilearn_data/fsl", "fsl", "cache/datasets/fsl"),
        "home/.cache/templateflow/tpl-MNI152NLin6Asym",
    ):
        assert str(tmp_path / folder) in message
    assert "http://127.0.0.1:9/fsl/HarvardOxford.tgz: no connection" in message
    assert "fetch_atlas_harvard_oxford('sub-maxprob-thr25-2mm')" in message
    assert "DASKROI_DATASETS_URL" in message
    with pytest.raises(dr.DaskroiError, match=r"run nilearn.datasets.fetch_development_fmri and"):
        datasets.development_fmri(verbose=0)
    with pytest.raises(dr.DaskroiError, match=r"fetch_atlas_schaefer_2018\(400, 7, 2\) and copy"):
        datasets.schaefer(verbose=0)


def test_official_urls_are_nilearns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for without being called: every connection is refused before it is made."""
    import requests

    asked: list[str] = []

    def get(url: str, **options: Any) -> None:
        asked.append(url)
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "get", get)
    monkeypatch.delenv("DASKROI_DATASETS_URL")
    for call in (
        datasets.development_fmri,
        datasets.harvard_oxford,
        datasets.schaefer,
    ):
        with pytest.raises(dr.DaskroiError, match="cannot be downloaded"):
            call(verbose=0)
    import inspect

    import nilearn.datasets.atlas
    import nilearn.datasets.func

    source = inspect.getsource(nilearn.datasets.atlas) + inspect.getsource(nilearn.datasets.func)
    assert "https://osf.io/yr3av/download" in source
    tried = list(dict.fromkeys(asked))
    assert tried[0] == "https://osf.io/yr3av/download"
    assert tried[1] in source
    assert tried[1].endswith("/HarvardOxford.tgz")
    cbig = [u for u in tried if "CBIG" in u]
    assert [u.rsplit("/", 1)[1] for u in cbig] == [
        f"{SCHAEFER.format(400, 7)}_FSLMNI152_2mm.nii.gz"
    ]
    assert all(piece in source for piece in cbig[0].rsplit("/", 1)[0].split("/")[-4:])
    stem = "https://templateflow.s3.amazonaws.com/tpl-MNI152NLin6Asym/tpl-MNI152NLin6Asym_res-02_"
    assert [u.removeprefix(stem) for u in tried if "templateflow" in u] == [
        "atlas-HOCPA_desc-th25_dseg.nii.gz",
        "atlas-Schaefer2018_desc-400Parcels7Networks_dseg.nii.gz",
    ]


def test_keys_at_osf_are_nilearns() -> None:
    import nilearn.datasets

    name = "development_fmri.csv"
    theirs = pd.read_csv(Path(nilearn.datasets.__file__).parent / "data" / name)
    ours = pd.read_csv(Path(dr.__file__).parent / name)
    np.testing.assert_array_equal(ours, theirs)


def test_credentials_of_a_mirror_are_not_shown(monkeypatch: Any, capfd: Any) -> None:
    monkeypatch.setenv("DASKROI_DATASETS_URL", "http://me:secret@127.0.0.1:9")
    with pytest.raises(dr.DaskroiError) as caught:
        datasets.schaefer()
    assert "http://127.0.0.1:9/schaefer_2018/" in str(caught.value)
    err = capfd.readouterr().err
    assert "Downloading Schaefer2018_400Parcels_7Networks_order_FSLMNI152_2mm.nii.gz" in err
    error: BaseException | None = caught.value
    shown = err
    while error is not None:
        shown += str(error)
        error = error.__cause__ or error.__context__
    assert "secret" not in shown


def test_progress_bar_in_a_terminal(server: Server, monkeypatch: Any, capfd: Any) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    datasets.schaefer(100)
    err = capfd.readouterr().err
    assert f"{SCHAEFER.format(100, 7)}_FSLMNI152_2mm.nii.gz" in err
    assert "━" in err


def test_without_pooch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(dr.DaskroiError, match=r"pip install 'daskroi\[datasets\]'"):
        datasets.schaefer(100)
    assert not (tmp_path / "cache").exists()
    # what lies here needs none
    write_schaefer(tmp_path / "schaefer_2018")
    assert len(datasets.schaefer(100, data_dir=tmp_path).table) == 100


def test_folder_that_cannot_be_written(server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "file"))
    with pytest.raises(dr.DaskroiError, match=r"cannot be stored here \(Not a directory\). Free"):
        datasets.schaefer(100, verbose=0)


def test_many_runs_are_no_image(everyone: Path) -> None:
    from nilearn.datasets import fetch_development_fmri

    bunch = fetch_development_fmri(2, data_dir=everyone, verbose=0)
    atlas = dr.make_phantom((12, 14, 12), n_time=3, n_regions=4).atlas
    for data in (bunch, datasets.development_fmri(2, data_dir=everyone)):
        for runs in (data, data.func):
            with pytest.raises(dr.DaskroiError, match=type(runs).__name__):
                dr.extract(runs, atlas)
        # a masker takes a list of runs, as nilearn's do, but no Bunch
        with pytest.raises(dr.DaskroiError, match=type(data).__name__):
            dr.NiftiLabelsMasker(atlas).fit(data)
