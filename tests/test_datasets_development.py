"""development_fmri by name: found where it lies, subjects and confounds as nilearn has them."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from smalldatasets import (
    ADULT,
    BOLD,
    CONFOUNDS,
    REDUCED,
    confounds,
    participants,
    parts_left,
    write_development,
)

import daskroi as dr
from daskroi import datasets
from daskroi.datasetfiles import folders_of

pytestmark = pytest.mark.usefixtures("bare_machine")


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
