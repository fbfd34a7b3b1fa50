"""Results on disk: what changed since they were made is named, damaged ones are not read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from results import result

import daskroi as dr
from daskroi import sidecar, store
from daskroi.errors import DaskroiError, DaskroiNotFoundError


def test_what_changed_is_named(tmp_path):
    image = tmp_path / "bold.nii"
    image.write_bytes(b"12345")
    inputs = {"image": image}

    def differences(given_: xr.DataArray, **kwargs: Any) -> Any:
        return store.differences(given_, tmp_path, "x", **({"inputs": inputs} | kwargs))

    assert differences(result()) is None
    written = store.write_run(result(), tmp_path, "x", inputs=inputs)
    assert differences(result()) == []
    # no number is needed to know
    assert differences(result().chunk()) == []
    assert differences(result(recipe='{"strategy": "mean", "t_r": 1}')) == ["recipe"]
    assert differences(result(atlas_hash="other")) == ["atlas"]
    assert differences(result(confounds='["csf"]')) == ["confounds"]
    assert differences(result(frames=[0, 2, 3, 4])) == ["repetition time", "frames"]
    assert differences(result(frames=[0, 1, 2, 3]), n_frames=9) == ["frames"]
    assert differences(result(t_r=1.0)) == ["repetition time"]
    assert differences(result(), inputs={}) == ["input files"]
    image.write_bytes(b"123456")
    assert differences(result()) == ["input files"]
    image.write_bytes(b"12345")
    os.utime(image, (1, 1))
    assert differences(result()) == ["input files"]

    written = store.write_run(result(), tmp_path, "x", inputs=inputs)
    # another strategy, with another mask, shares the coverage table
    store.write_run(result(strategy="median", coverage=[0, 0, 1]), tmp_path, "x", inputs=inputs)
    assert differences(result()) == ["coverage"]
    written.sidecar.write_text("{")
    assert differences(result()) is None
    store.write_run(result(), tmp_path, "x", inputs=inputs)
    written.timeseries.unlink()
    assert differences(result()) is None


def test_only_a_version_with_other_numbers_is_a_difference(tmp_path, monkeypatch):
    store.write_run(result(), tmp_path, "x")
    monkeypatch.setattr(dr, "__version__", "99")
    assert store.differences(result(), tmp_path, "x") == []
    monkeypatch.setattr(sidecar, "NUMERICS", 99)
    assert store.differences(result(), tmp_path, "x") == ["version of the numbers"]


def test_a_table_that_was_cut_or_grew_is_made_again(tmp_path: Path) -> None:
    """Its sidecar is intact; that it exists is not enough."""
    run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    result = dr.extract(run.image, run.atlas).compute()
    table = store.write_run(result, tmp_path, "sub-01").timeseries
    whole = table.read_bytes()
    assert store.differences(result, tmp_path, "sub-01") == []
    for damaged in (b"", whole[:-1], whole + b"\n"):
        table.write_bytes(damaged)
        assert store.differences(result, tmp_path, "sub-01") is None
    store.write_run(result, tmp_path, "sub-01")
    assert store.differences(result, tmp_path, "sub-01") == []


def test_damaged_results_are_not_read(tmp_path):
    written = store.write_run(result(), tmp_path, "x")
    written.timeseries.write_text("a\tb\n1\t2\n")
    with pytest.raises(DaskroiError, match="does not have the 3 columns"):
        dr.read_timeseries(written.timeseries)
    written.timeseries.unlink()
    with pytest.raises(DaskroiNotFoundError, match=r"timeseries\.tsv: no such file"):
        dr.read_timeseries(written.timeseries)
    for text in ("{", "[]"):
        written.sidecar.write_text(text)
        with pytest.raises(DaskroiError, match=r"timeseries.json: (cannot be read|is not)"):
            sidecar.read_sidecar(written.sidecar)


def test_a_table_that_was_cut_is_no_shorter_run(tmp_path):
    # between two rows: nothing but their number tells
    for mask in (None, [True, False, True, True]):
        whole = result() if mask is None else result()[np.array(mask)]
        written = store.write_run(whole, tmp_path, "x", n_frames=4)
        lines = written.timeseries.read_text().splitlines(keepends=True)
        written.timeseries.write_text("".join(lines[:-1]))
        n = len(whole)
        with pytest.raises(DaskroiError, match=rf"{n - 1} rows for {n} frames\)\. Extract this"):
            dr.read_timeseries(written.timeseries)


@pytest.mark.parametrize(
    "change",
    [
        {"Regions": None},
        {"Regions": [1, 2, 3]},
        {"Regions": {"index": [1, 2, 3]}},
        {"DataType": "flurb"},
        {"DataType": None},
        {"KeptFrames": [0, 1]},
        {"KeptFrames": 4},
        {"VolumeTiming": [0.0]},
        {"RepetitionTime": "2 s"},
    ],
)
def test_sidecars_of_something_else(tmp_path, change):
    written = store.write_run(result(), tmp_path, "x")
    said = {**json.loads(written.sidecar.read_text()), **change}
    written.sidecar.write_text(json.dumps({k: v for k, v in said.items() if v is not None}))
    with pytest.raises(DaskroiError, match=r"x_atlas\S*tsv: does not go with its sidecar"):
        dr.read_timeseries(written.timeseries)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"a\tb\tc\nx\t1\t2\n", b"x" * 200_000])
def test_tables_of_something_else(tmp_path, data):
    written = store.write_run(result(), tmp_path, "x")
    written.timeseries.write_bytes(data)
    with pytest.raises(DaskroiError, match=r"x_atlas\S*tsv: does not go with its sidecar"):
        dr.read_timeseries(written.timeseries)
