"""Datasets that cannot be had: what is said then, and which addresses were tried."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from smalldatasets import SCHAEFER, write_schaefer

import daskroi as dr
from daskroi import datasets

pytestmark = pytest.mark.usefixtures("bare_machine")


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


def test_without_pooch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(dr.DaskroiError, match=r"pip install 'daskroi\[datasets\]'"):
        datasets.schaefer(100)
    assert not (tmp_path / "cache").exists()
    # what lies here needs none
    write_schaefer(tmp_path / "schaefer_2018")
    assert len(datasets.schaefer(100, data_dir=tmp_path).table) == 100
