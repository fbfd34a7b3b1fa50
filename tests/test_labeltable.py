"""Label tables in every format people have, and what is wrong with broken ones."""

from __future__ import annotations

import gzip
import os

import fsspec
import numpy as np
import pandas as pd
import pytest

from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError
from daskroi.labeltable import read_label_table

XML = """<?xml version="1.0" encoding="ISO-8859-1"?>
<atlas version="1.0">
  <header><name>{name}</name><type>{type}</type></header>
  <data>
<label index="0" x="48" y="94" z="35">Frontal Pole</label>
<label index="1" x="25" y="70" z="32">Frontal Operculum
 Cortex</label>
<label index="2" x="25" y="70" z="32">Left Lateral Ventrical é</label>
  </data>
</atlas>
"""
LUT = """# Freesurfer
#No. Label Name:                R   G   B   A

0   Unknown                     0   0   0   0
10  Left-Thalamus               0   118 14  0
 2035  ctx rh insula            255 192 32  0
-3  below one                   1 2 3
"""


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows(frame: pd.DataFrame) -> list[tuple[int, str]]:
    return list(zip(frame["index"].tolist(), frame["name"].tolist(), strict=True))


@pytest.mark.parametrize("separator", ["\t", ",", ";", " "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_delimited(write, separator: str, encoding: str, ending: str) -> None:
    lines = [
        ["name", "index", "color"],
        ['"Gyrus, pars\ttriangularis; x"', "7", '"#00ff00"'],
        ['"Aire motrice supplémentaire"', "-2", "000000"],
        ["NA", "1.0", ""],
        ['"n/a"', "3", ""],
        [],
    ]
    text = ending.join(separator.join(line) for line in lines)
    table = read_label_table(write("any.txt", text.encode(encoding)))
    assert rows(table) == [
        (7, "Gyrus, pars\ttriangularis; x"),
        (-2, "Aire motrice supplémentaire"),
        (1, "NA"),
        (3, "unknown"),
    ]
    assert table["index"].dtype == np.int64
    assert table["color"].tolist() == ["#00ff00", "000000", "", ""]
    assert table.attrs["format"] == "delimited"


def test_header_case_trailing_tabs_and_gzip(write) -> None:
    path = write("t.tsv.gz", gzip.compress(b" Index \tNAME\t\n1\tV1\t\n2\tV2\n"))
    assert rows(read_label_table(path)) == [(1, "V1"), (2, "V2")]
    assert list(read_label_table(path)) == ["index", "name"]


def test_fsl_xml_counts_from_zero(write) -> None:
    raw = XML.format(name="Some atlas", type="Probabalistic").encode("latin-1")
    table = read_label_table(write("a.xml", raw))
    assert rows(table) == [
        (1, "Frontal Pole"),
        (2, "Frontal Operculum Cortex"),
        (3, "Left Lateral Ventrical é"),
    ]
    assert table.attrs["format"] == "fsl"


def test_fsl_label_atlas_has_the_values_themselves(write) -> None:
    raw = XML.format(name="Talairach Daemon Labels", type="Label").encode("latin-1")
    assert read_label_table(write("a.xml", raw))["index"].tolist() == [0, 1, 2]


def test_harvard_oxford_xml_has_nilearns_spelling(write) -> None:
    name = "Harvard-Oxford Cortical Structural Atlas"
    raw = XML.format(name=name, type="Probabalistic").encode("latin-1")
    assert read_label_table(write("a.xml", raw))["name"].tolist() == [
        "Frontal Pole",
        "Frontal Opercular Cortex",
        "Left Lateral Ventricle é",
    ]


def test_freesurfer_lut(write) -> None:
    table = read_label_table(write("FreeSurferColorLUT.txt", LUT))
    assert rows(table) == [
        (0, "Unknown"),
        (10, "Left-Thalamus"),
        (2035, "ctx rh insula"),
        (-3, "below one"),
    ]
    assert table["color"].tolist() == ["#000000", "#00760e", "#ffc020", "#010203"]
    assert table.attrs["format"] == "freesurfer"


def test_dataframe_is_copied_and_keeps_other_columns() -> None:
    frame = pd.DataFrame({"network": ["a", "b"], "name": [b"V1", None], "index": [2.0, 1.0]})
    table = read_label_table(frame)
    assert rows(table) == [(2, "V1"), (1, "unknown")]
    assert table["network"].tolist() == ["a", "b"]
    table.loc[0, "name"] = "changed"
    assert frame["name"].tolist() == [b"V1", None]
    assert rows(read_label_table(pd.DataFrame({"name": ["x"]}, pd.Index([5], name="index")))) == [
        (5, "x")
    ]


def test_url() -> None:
    with fsspec.open("memory://tables/t.tsv", "w") as file:
        file.write("index\tname\n4\tV4\n")
    assert rows(read_label_table("memory://tables/t.tsv")) == [(4, "V4")]
    with pytest.raises(DaskroiNotFoundError, match=r"memory://tables/no\.tsv: no such file"):
        read_label_table("memory://tables/no.tsv")
    with pytest.raises(DaskroiError, match=r"^nosuch://x/t\.tsv: protocol nosuch:// is not known"):
        read_label_table("nosuch://x/t.tsv")
    with fsspec.open("memory://tables/bad.tsv", "w") as file:
        file.write("a\tb\n4\tV4\n")
    with pytest.raises(DaskroiError, match=r"^memory://tables/bad\.tsv: .* found: 'a', 'b'"):
        read_label_table("memory://tables/bad.tsv")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("value\tregion\n1\tV1\n", r"'index' and 'name' missing, found: 'value', 'region'"),
        ("index,label\n1,V1\n", r"'name' missing, found: 'index', 'label'"),
        ("1\tV1\n2\tV2\n", r"'index' and 'name' missing, found: '1', 'V1'"),
        ("index\tname\tname\n1\ta\tb\n", r"more than one column 'name'"),
        ("index\tname\n", r"no rows"),
        (" \n \n", r"empty"),
        ("index\tname\n1\tV1\n1.5\tV2\nx\tV3\n", r"whole numbers.*not so: '1\.5', 'x'\."),
        ("index\tname\n\tV1\n", r"not so: ''"),
        ("index\tname\n1\ta\n2\tb\n1\tc\n2.0\td\n", r"several rows: 1, 2\. Keep one"),
        ("index,name\n1,Gyrus, pars x\n", r"line 2 has 3 fields, the header 2.*Quote names"),
        ('index\tname\n1\t"open\n', r"line \d cannot be read .*quotes"),
        ("<atlas><data></data></atlas>", r"no <label index"),
        ("<atlas><label index='0'>x</atlas>", r"broken XML"),
        ("<atlas><label>x</label></atlas>", r"not so: None"),
        ("0 Unknown 0 0 0 0\n1 broken 1 2\n", r"line 2 is not 'id name R G B A': '1 broken 1 2'"),
    ],
)
def test_broken_tables_say_what_and_where(write, content: str, match: str) -> None:
    path = write("table.tsv", content)
    with pytest.raises(DaskroiError, match=match) as caught:
        read_label_table(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_xml_entities_are_refused(write) -> None:
    bomb = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<atlas><data><label index="0">&x;</label></data></atlas>"""
    with pytest.raises(DaskroiError, match=r"a\.xml: the XML declares a DTD"):
        read_label_table(write("a.xml", bomb))


def test_what_is_no_table(tmp_path) -> None:
    with pytest.raises(DaskroiNotFoundError, match=r"no\.tsv: no such file"):
        read_label_table(tmp_path / "no.tsv")
    with pytest.raises(DaskroiError, match=r"folder"):
        read_label_table(tmp_path)
    with pytest.raises(DaskroiTypeError, match=r"lut has type dict"):
        read_label_table({"index": [1]})  # type: ignore[arg-type]
    with pytest.raises(DaskroiError, match=r"not so: True, nan"):
        read_label_table(pd.DataFrame({"index": [True, np.nan], "name": ["a", "b"]}, dtype=object))
    os.symlink(tmp_path / ".git/annex/objects/x", tmp_path / "annexed.tsv")
    with pytest.raises(DaskroiNotFoundError, match=r"annexed\.tsv.*datalad get"):
        read_label_table(tmp_path / "annexed.tsv")


def test_the_real_tables(real_data) -> None:
    counts = {f.name: len(read_label_table(f)) for f in real_data.glob("atlases/*_dseg.tsv")}
    assert sorted(counts.values()) == [21, 48, 116, 400]
