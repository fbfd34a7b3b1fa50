"""Tables of text: what pandas reads without a word, and wrongly, is refused at every door."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import daskroi as dr
from daskroi.cliatlases import _read_seeds
from daskroi.confounds import read_confounds
from daskroi.errors import DaskroiError
from daskroi.report import read_confound_table

DOORS: dict[str, Callable[[Path], Any]] = {
    "columns": lambda path: read_confounds(path, 2, ["x", "y", "z"])[0],
    "strategy": lambda path: dr.load_confounds(path, columns=["x", "y", "z"], demean=False).values,
    "report": lambda path: read_confound_table(path)[["x", "y", "z"]],
    "seeds": lambda path: _read_seeds(str(path), None)[["x", "y", "z"]],
}
XYZ = np.array([[1.5, 2.0, 3.0], [4.0, 5.0, 6.0]])


@pytest.fixture(params=DOORS)
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, str | bytes], Any]:
    """What a door makes of a file with a name and a content."""

    def read(name: str, content: str | bytes) -> Any:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return DOORS[request.param](path)

    return read


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        # pandas: the first three fields are an index, and x is 0
        ("t.csv", "x,y,z\n1,5,2,0,3,0\n4,0,5,0,6,0\n", r"\(line 2 has 6 fields, the header 3\)"),
        ("t.csv", "x,y,z\n1,5,2,0\n2,5,0,6\n", r"\(line 2 has 4 fields, the header 3\)"),
        ("t.tsv", "x\ty\tz\n9\t1.5\t2\t3\n8\t4\t5\t6\n", r"\(line 2 has 4 fields, the header 3\)"),
        ("t.tsv", "x\ty\tz\n1\t1.5\t2\t3\n3\t4\t5\t6\n", r"\(line 3 has 4 fields, the header 3\)"),
        # pandas: what is not there is NaN, and what is there is 4
        ("t.tsv", "x\ty\tz\tname\n1.5\t2\t3\ta\n4\t5\t6", r"\(line 3 has 3 fields, the header 4\)"),
        ("t.tsv", "x\ty\tz\n1.5\t2\t3\n4", r"not a table of .*\(line 3 has 1 fields.*Use one sep"),
        (
            "t.tsv",
            "x\ty\tz\n1.5\t2\t3\n4\t5\t\0\0\0\0",
            r"not a table of \w+ \(line 3 holds bytes",
        ),
        ("t.tsv", 'x\ty\tz\n1.5\t2\t"3\n4\t5\t6\n', r"\(line 3 cannot be read"),
        ("t.tsv", "x\ty\tz\n".encode("utf-16"), r"not a table of \w+ \(.utf-8"),
        ("t.tsv", "x\ty\tz\ty\n1.5\t2\t3\t0\n", r"there are several columns 'y'\. Keep one"),
        ("t.csv", ",,\n\n", r"t\.csv: the \w+ file is empty\. Write it again"),
    ],
)
def test_what_does_not_fit_the_header(
    read: Callable[..., Any], name: str, content: str | bytes, says: str
) -> None:
    with pytest.raises(DaskroiError, match=says):
        read(name, content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "x,y,z\n1.5,2,3\n4,5,6\n"),
        ("t.csv", "\n\nx;y;z\r\n1.5;2;3\r\n\r\n4;5;6"),
        ("t.txt", " x  y  z \n  1.5  2  3 \n  4  5  6 \n"),
        ("t.tsv", "x\ty\tz\r1.5\t2\t3\r4\t5\t6\r"),
        ("t.tsv", '\ufeff"x"\t y\tz \n1.5\t2\t3\n4\t5\t6\n'),
        # as a loop of fprintf writes them; pandas takes the first column for an index
        ("t.tsv", "x\ty\tz\n1.5\t2\t3\t\n4\t5\t6\t\n"),
        ("t.tsv", "x\ty\tz\t\t\n1.5\t2\t3\t\n4\t5\t6\n"),
        # row numbers that the header leaves out: R's, and pandas' between blanks
        ("t.tsv", '"x"\t"y"\t"z"\n"1"\t1.5\t2\t3\n"2"\t4\t5\t6\n'),
        ("t.txt", " x y z\n0 1.5 2 3\n1 4 5 6\n"),
    ],
)
def test_what_programs_write(read: Callable[..., Any], name: str, content: str) -> None:
    np.testing.assert_array_equal(np.asarray(read(name, content), float), XYZ)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("  1.5  2  3 \n  4  5  6 \n", XYZ),
        ("1.5\t2\tn/a\n4\t5\t6\n", [[1.5, 2, np.nan], [4, 5, 6]]),
        ("1.5,2,\n4,5,6\n", [[1.5, 2, np.nan], [4, 5, 6]]),
        ("True,2,3\nFalse,5,6\n", [[1, 2, 3], [0, 5, 6]]),
    ],
)
def test_a_first_row_that_is_no_header(
    tmp_path: Path, content: str, expected: list[list[float]]
) -> None:
    path = tmp_path / "t.txt"
    path.write_text(content)
    values, names = read_confounds(path, 2, keep=np.array([False, True]))
    np.testing.assert_array_equal(values, expected)
    assert names == ("confound_0", "confound_1", "confound_2")
    shown = read_confound_table(path)
    assert list(shown) == ["confound 0", "confound 1", "confound 2"]
    with pytest.raises(DaskroiError, match="has no header, so no strategy"):
        dr.load_confounds(path)
    with pytest.raises(DaskroiError, match=r"t\.txt: the table of seeds has no header\. Name"):
        _read_seeds(str(path), None)
