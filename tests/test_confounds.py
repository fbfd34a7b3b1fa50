"""Reading confounds: every kind of source, every way it can be wrong."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.signal import sanitize_confounds

from daskroi.confounds import read_confounds
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError

TABLE = pd.DataFrame(
    {
        "csf": [5.0, 6.0, 7.0],
        "trans_x": [0.1, 0.2, 0.3],
        "trans_y": [1.0, 2.0, 3.0],
        "trans_x_derivative1": [np.nan, 0.1, 0.1],
    }
)


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 3), min_size=2, max_size=20),
    separator=st.sampled_from(["\t", ",", ";", " "]),
    header=st.booleans(),
    n_column=st.integers(1, 3),
    zipped=st.booleans(),
)
def test_files_equal_nilearn(tmp_path_factory, values, separator, header, n_column, zipped):
    table = pd.DataFrame(np.array(values)[:, :n_column], columns=["a", "b", "c"][:n_column])
    suffix = ".tsv" if separator == "\t" else ".csv"
    path = tmp_path_factory.mktemp("c") / f"confounds{suffix}"
    table.to_csv(path, sep=separator, header=header, index=False)
    expected = table.to_numpy() if n_column == 1 else sanitize_confounds(len(table), str(path))
    if zipped:
        path = path.with_suffix(suffix + ".gz")
        text = table.to_csv(None, sep=separator, header=header, index=False)
        path.write_bytes(gzip.compress(text.encode()))
    actual, names = read_confounds(path, len(table))
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    assert actual.dtype == np.float64
    assert (
        names == tuple("abc" if header else ["confound_0", "confound_1", "confound_2"])[:n_column]
    )


@pytest.mark.parametrize(
    "confounds",
    [
        np.arange(3),
        np.arange(3, dtype=np.float32)[:, None],
        pd.Series([0, 1, 2], name="x"),
        pd.DataFrame({"x": [0, 1, 2]}),
        [np.arange(3)],
    ],
)
def test_one_confound_in_many_forms(confounds):
    values, names = read_confounds(confounds, 3)
    np.testing.assert_array_equal(values, [[0.0], [1.0], [2.0]])
    assert values.dtype == np.float64
    assert names in {("confound_0",), ("x",)}


def test_a_list_is_put_side_by_side(tmp_path):
    path = tmp_path / "confounds.tsv"
    TABLE[["csf"]].to_csv(path, sep="\t", index=False)
    values, names = read_confounds([TABLE[["trans_x"]], str(path), np.ones((3, 2))], 3)
    assert names == ("trans_x", "csf", "confound_2", "confound_3")
    np.testing.assert_array_equal(values[:, 1], TABLE["csf"])


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("csf", ("csf",)),
        (["trans_?"], ("trans_x", "trans_y")),
        (["trans_y", "csf", "trans_?"], ("trans_y", "csf", "trans_x")),
        (["[ct]*f"], ("csf",)),
    ],
)
def test_columns_by_name_and_wildcard(columns, expected):
    values, names = read_confounds(TABLE, 3, columns)
    assert names == expected
    np.testing.assert_array_equal(values, TABLE[list(expected)])


def test_columns_select_from_several_tables_and_leave_arrays():
    sources = [TABLE[["csf"]], np.ones(3), TABLE[["trans_x", "trans_y"]]]
    assert read_confounds(sources, 3, ["*_x"])[1] == ("confound_0", "trans_x")


def test_nan_in_a_censored_frame_is_accepted():
    keep = np.array([False, True, True])
    values, _ = read_confounds(TABLE, 3, keep=keep)
    assert np.isnan(values[0, 3])
    with pytest.raises(DaskroiError, match="trans_x_derivative1"):
        read_confounds(TABLE, 3, keep=np.array([True, False, True]))


def test_na_and_a_byte_order_mark_in_a_file(tmp_path):
    path = tmp_path / "confounds.tsv"
    path.write_text("csf\tdvars\n1\tn/a\n2\t0.5\n", encoding="utf-8-sig")
    assert read_confounds(path, 2, "csf")[1] == ("csf",)
    message = (
        r"confounds\.tsv: column 'dvars' has NaN or infinite values in frame 0\. Leave them out "
        r"\(columns=\.\.\.\), fill the first row with 0 .*, or drop the frames with sample_mask"
    )
    with pytest.raises(DaskroiError, match=message):
        read_confounds(path, 2)


def test_nan_elsewhere_and_in_many_columns_is_summed_up():
    values = np.ones((5, 12))
    values[2] = np.nan
    with pytest.raises(DaskroiError, match=r"'confound_9' and 2 more have NaN .* in 1 frames"):
        read_confounds(values, 5)


@pytest.mark.parametrize(
    ("confounds", "columns", "error", "match"),
    [
        (np.zeros((4, 2)), None, DaskroiError, "confounds has 4 rows and the run has 3 frames"),
        ([np.zeros(3), np.zeros(2)], None, DaskroiError, r"confounds\[1\] has 2 rows"),
        (np.zeros((3, 1, 1)), None, DaskroiError, r"confounds has shape \(3, 1, 1\)"),
        ([], None, DaskroiError, "an empty list"),
        ([0.1, 0.2, 0.3], None, DaskroiTypeError, r"confounds\[0\] is a float"),
        ({"a": 1}, None, DaskroiTypeError, "confounds is a dict"),
        (np.array(["a", "b", "c"]), None, DaskroiTypeError, "not numbers"),
        (TABLE.assign(who="me"), None, DaskroiTypeError, "column 'who' has values that are no num"),
        (TABLE, "trans_z", DaskroiError, "no column of 4 matches 'trans_z'.*trans_"),
        (TABLE, ["csf", "??"], DaskroiError, r"matches '\?\?'\. Use, for example: csf, trans_x"),
        (TABLE, [], DaskroiError, "columns is an empty list"),
        (np.zeros(3), "csf", DaskroiError, "needs confounds with names"),
    ],
)
def test_bad_confounds_are_refused(confounds, columns, error, match):
    with pytest.raises(error, match=match):
        read_confounds(confounds, 3, columns)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the confounds file is empty"),
        (b"csf\tdvars\n", "a header and no rows"),
        (b"a\tb\n1\t2\n1\t2\t3\t4\n", "not a table of confounds .*as many values in each row"),
        (b"\x1f\x8b\x00\xff\xfe", "the gzip stream ends early"),
        (b"a\tb\n1\tx\n1\t2\n1\t2\n", "column 'b' has values that are no numbers"),
        (b"a\tb\n1\t2\n", "bad.tsv has 1 rows and the run has 3 frames"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, match):
    path = tmp_path / "bad.tsv"
    path.write_bytes(content)
    with pytest.raises(DaskroiError, match=match):
        read_confounds(path, 3)


def test_missing_files_and_directories(tmp_path):
    with pytest.raises(DaskroiNotFoundError, match=r"nowhere\.tsv: no such file"):
        read_confounds(tmp_path / "nowhere.tsv", 3)
    with pytest.raises(DaskroiError, match="is a folder"):
        read_confounds(tmp_path, 3)
    truncated = tmp_path / "confounds.tsv.gz"
    truncated.write_bytes(gzip.compress(b"a\tb\n1\t2\n")[:-9])
    with pytest.raises(DaskroiError, match="the file is truncated"):
        read_confounds(truncated, 3)
