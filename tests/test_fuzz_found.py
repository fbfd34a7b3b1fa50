"""What fuzzing has found, each once: it stays refused, or read as nibabel reads it."""

from __future__ import annotations

import gc
import gzip
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from niftis import nifti_bytes
from results import result

import daskroi as dr
from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.labeltable import read_label_table
from daskroi.listing import local_or_url
from daskroi.openimage import as_file
from daskroi.paths import natural_key
from daskroi.readback import read_timeseries
from daskroi.store import write_run
from daskroi.urls import secrets_of, shown

VALUES = np.arange(120).reshape(4, 3, 2, 5).astype("i2")
STRAIGHT = np.diag([2.0, 2, 3, 1])


def said(work: Callable[[], Any]) -> str:
    """The message, which is one line of bounded length, and came soon."""
    began = time.process_time()
    with pytest.raises(DaskroiError) as caught:
        work()
    assert time.process_time() - began < 3
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 5000
    return message


def affines(path: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    path.write_bytes(content)
    file = as_file(path)
    assert file is not None
    return file.grid.matrix, nib.load(path).affine


@pytest.mark.parametrize(
    "fields",
    [
        # codes that NIfTI does not know were taken for an affine, nibabel takes the next one
        {"qform_code": 256, "form": "qform"},
        {"sform_code": 99, "form": "sform"},
        {"form": None, "pixdim": [1, 2, -2, 3, 2, 1, 1, 1]},  # was mirrored
        {"form": "qform", "pixdim": [0, 2, 2, 3, 2, 1, 1, 1]},  # was refused; 0 is 1, says NIfTI
    ],
    ids=str,
)
@pytest.mark.parametrize("version", [1, 2])
def test_affines_are_nibabels(tmp_path: Path, fields: dict[str, Any], version: int) -> None:
    content = nifti_bytes(VALUES, affine=STRAIGHT, version=version, **fields)
    ours, theirs = affines(tmp_path / "run.nii", content)
    np.testing.assert_array_equal(ours, theirs)


def test_an_absurd_affine_is_refused_without_warnings_of_numpy(tmp_path: Path) -> None:
    path = tmp_path / "run.nii"
    path.write_bytes(nifti_bytes(VALUES, version=2, srow_y=[0, 1e300, 0, 0]))
    assert "singular" in said(lambda: as_file(path))
    path.write_bytes(nifti_bytes(VALUES, form="qform", affine=STRAIGHT, quatern_b=np.inf))
    assert "affine" in said(lambda: as_file(path))


def test_pairs_and_mgh_with_negative_or_huge_sizes(tmp_path: Path) -> None:
    pair, mgh = tmp_path / "x.hdr", tmp_path / "x.mgh"
    nib.save(nib.Nifti1Pair(VALUES, STRAIGHT), pair)
    good = pair.read_bytes()
    for at, content in ((42, b"\xff\xff"), (108, b"\0\0\x80\xcd")):  # dim, vox_offset
        pair.write_bytes(good[:at] + content + good[at + len(content) :])
        said(lambda: [*as_file(pair).slabs()])  # type: ignore[union-attr]
    nib.save(nib.MGHImage(VALUES.astype("f4"), STRAIGHT), mgh)
    raw = bytearray(mgh.read_bytes())
    raw[4:20] = (2**31 - 1).to_bytes(4, "big") * 4  # the product overflowed NumPy's int32
    mgh.write_bytes(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # nibabel leaves the file open
        said(lambda: [*as_file(mgh).slabs()])  # type: ignore[union-attr]
        gc.collect()


@pytest.mark.parametrize(
    "text",
    [
        '{"RepetitionTime": ' + "[" * 100_000,  # RecursionError
        '{"a":' * 3000 + "1" + "}" * 3000,
        '{"RepetitionTime": ' + "9" * 400 + "}",  # OverflowError
        '{"RepetitionTime": ' + "9" * 5000 + "}",
        '{"RepetitionTime": "2 s\\ud800\\u0000"}',
        '{"RepetitionTime": 2.0}\0',
        "\ufeff",
    ],
    ids=lambda text: text[:24],
)
def test_odd_json(tmp_path: Path, text: str) -> None:
    image = tmp_path / "run.nii"
    image.write_bytes(nifti_bytes(VALUES))
    image.with_suffix(".json").write_text(text)
    assert "run.json" in said(lambda: as_file(image))


def test_json_that_python_takes_gives_no_odd_time(tmp_path: Path) -> None:
    image = tmp_path / "run.nii"
    image.write_bytes(nifti_bytes(VALUES))
    for word, expected in (("NaN", 2.0), ("Infinity", 2.0), ("-1", 2.0), ('1, "x": 1e999', 1.0)):
        image.with_suffix(".json").write_text(f'{{"RepetitionTime": {word}}}')
        with pytest.warns(DaskroiWarning):
            assert as_file(image).repetition.seconds == expected  # type: ignore[union-attr]
    # of a key that is there twice the last value counts, as everywhere
    image.with_suffix(".json").write_text('{"RepetitionTime": 7, "RepetitionTime": 2}')
    assert as_file(image).repetition.seconds == 2  # type: ignore[union-attr]


TABLES = {
    # a regular expression was at it for minutes
    "blanks": b"1 a 1 1 1\n2 b" + b" " * 200_000 + b"x\n",
    "colour": b"1 a 1 1 1\n2 b " + b"1" * 5001 + b" 1 1\n",
    "header": b"index\tname\t" + b"x" * 140_000 + b"\n1\ta\tb\n",  # csv's own error
    "long cells": b"index\tname\n" + b"\n".join(b"a" * 3000 for _ in range(9)),
    "nested": b"<atlas>" + b"<label index='1'>" * 20_000 + b"</label>" * 20_000 + b"</atlas>",
    "deep": b"<a>" * 100_000 + b"</a>" * 100_000,
    "encoding": b'<?xml version="1.0" encoding="rot13"?><atlas/>',
    "quotes": b' ""\n"" \n',
    "NUL": b"index\tname\n1\ta\0\n\0\t\0",
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_of_labels(tmp_path: Path, case: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(TABLES[case])
    assert "labels.txt" in said(lambda: read_label_table(path))


def test_a_column_that_is_named_like_ours(tmp_path: Path) -> None:
    path = tmp_path / "labels.tsv"
    path.write_bytes(b"name\t\0index\na\t5\nb\t6\n")
    assert read_label_table(path, by_position=True)["index"].tolist() == [1, 2]


def test_participants_without_any(tmp_path: Path) -> None:
    table = tmp_path / "development_fmri" / "participants.tsv"
    table.parent.mkdir()
    names = "participant_id\tAge\tAgeGroup\tChild_Adult\tGender\tHandedness\n"
    table.write_text(f"{names}sub-pixar123\t27\tAdult\tad\tF\tR\n")
    message = said(lambda: dr.datasets.development_fmri(data_dir=tmp_path, verbose=0))
    assert "names no adult or child" in message


def test_urls_and_names() -> None:
    assert "is no URL" in said(lambda: local_or_url("https://[me/x"))
    assert secrets_of("https://me\udcff:hunter2@x/y", {})
    for url in (
        "https://a:hunter2@x/y\nhttps://b:hunter2@x/y",
        "zip://x::https::////u:hunter2@x/y",
    ):
        assert "hunter2" not in shown(url)
    assert "hunter2" not in said(lambda: as_file("https:/me:hunter2@x/memory://y/x.nii"))
    names = ["sub-" + "1" * 5000, "sub-10", "sub-2"]
    assert sorted(names, key=natural_key) == names[::-1]


def test_damage_is_found_whatever_follows_the_image(tmp_path: Path) -> None:
    """The checksum is at the end of the member, and was not reached behind 64 KiB."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 99, (12, 12, 12, 4)).astype("i2")
    packed = bytearray(gzip.compress(nifti_bytes(values) + bytes(1 << 20), 0))
    packed[3000] ^= 1
    path = tmp_path / "run.nii.gz"
    path.write_bytes(packed)
    ways: list[Callable[[], Any]] = [
        lambda: [*as_file(path).slabs()],  # type: ignore[union-attr]
        lambda: dr.open_image(path, chunks=1).compute(scheduler="synchronous"),
        lambda: dr.open_image(path, chunks=1, index=True).compute(scheduler="synchronous"),
    ]
    for way in ways:
        assert "gzip" in said(way)


def test_a_damaged_url_shows_no_password() -> None:
    with pytest.raises(DaskroiError, match="NUL character") as caught:
        dr.open_image("s3:hunter2secret@bucket//x\0.nii")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [None, 5, "hunter2", ["hunter2"]], ids=str)
def test_options_of_a_protocol_that_are_no_dict(value: Any) -> None:
    """fsspec's AttributeError came through."""
    chain = "simplecache::zip://x.nii::memory://x.zip"
    for url, link in (("memory://x.nii", "memory"), (chain, "simplecache"), (chain, "memory")):
        options = {link: value}
        message = said(lambda u=url, o=options: dr.open_image(u, storage_options=o))  # type: ignore[misc]
        assert f"storage_options['{link}'] is a {type(value).__name__}" in message
        assert "hunter2" not in message


@pytest.mark.parametrize("dtype", ["bool", "object", "int8", "S5", None, "no type"])
def test_results_are_read_as_numbers(tmp_path: Path, dtype: Any) -> None:
    series = result()
    matrix = dr.connectome(series, shrinkage=None).compute()
    doors = (
        (write_run(series, tmp_path, "sub-01"), read_timeseries, "timeseries"),
        (dr.write_relmat(matrix, tmp_path, "sub-01"), dr.read_relmat, "matrix"),
    )
    for paths, read, name in doors:
        text = paths.sidecar.read_text()
        assert '"DataType": "float' in text
        document = json.loads(text) | {"DataType": dtype}
        paths.sidecar.write_bytes(json.dumps(document).encode())
        path = getattr(paths, name)
        assert str(path) in said(lambda read=read, path=path: read(path))
