"""Tables of fMRIPrep that lack or break something: errors that help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fmripreptables import table_of, write

from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError
from daskroi.fmriprep import load_confounds


@pytest.mark.parametrize(
    ("strategy", "dropped", "message"),
    [
        ("36P", ["csf_derivative1", "rot_x"], r"strategy '36P' needs 'rot_x', 'csf_derivative1', "),
        ("simple", ["trans_x"], r"needs 'trans_x', .*close names: 'trans_"),
        ("scrubbing", ["std_dvars"], r"'scrubbing' needs 'std_dvars'"),
        ("scrubbing", ["framewise_displacement"], r"needs 'framewise_displacement'"),
        (("global_signal",), ["global_signal"], r"\('global_signal',\) needs 'global_signal'"),
    ],
)
def test_missing_columns_are_named(
    tmp_path: Path, strategy: Any, dropped: list[str], message: str
) -> None:
    path = write(tmp_path, table_of()[0].drop(columns=dropped))
    with pytest.raises(DaskroiError, match=message) as caught:
        load_confounds(path, strategy)
    assert str(path) in str(caught.value)


def test_a_column_that_nobody_has(tmp_path: Path) -> None:
    path = write(tmp_path, table_of()[0])
    with pytest.raises(DaskroiError, match=r"needed are 'tran_x', not there .* 'trans_x'"):
        load_confounds(path, columns=["tran_x"])
    with pytest.raises(DaskroiError, match=r"needs .*'trans_x'.* and 16 more"):
        load_confounds(write(tmp_path, table_of()[0][["csf"]]), "24P")


def test_compcor_needs_its_json_file(tmp_path: Path) -> None:
    path = write(tmp_path, table_of()[0])
    with pytest.raises(DaskroiNotFoundError, match=r"\.tsv: the \.json file beside it .*Copy it"):
        load_confounds(path, "compcor")
    path.with_suffix(".json").write_text("[1, 2]")
    with pytest.raises(DaskroiError, match=r"\.json: not a JSON file about confounds"):
        load_confounds(path, "compcor")
    path.with_suffix(".json").write_text("{")
    with pytest.raises(DaskroiError, match=r"\.json: not a JSON file about confounds"):
        load_confounds(path, "compcor")


def test_components_that_only_the_json_file_has(tmp_path: Path) -> None:
    table, about = table_of()
    path = write(tmp_path, table.drop(columns="a_comp_cor_06"), about)
    # nilearn: KeyError
    with pytest.raises(DaskroiError, match=r"'compcor' needs 'a_comp_cor_06'"):
        load_confounds(path, "compcor")
    assert "a_comp_cor_05" in load_confounds(path, "compcor", n_compcor=6).columns
    about["a_comp_cor_06"]["Retained"] = False
    write(tmp_path, table.drop(columns="a_comp_cor_06"), about)
    assert "a_comp_cor_05" in load_confounds(path, "compcor").columns


def test_half_of_what_is_asked_for_is_an_error(tmp_path: Path) -> None:
    table, about = table_of()
    temporal = [name for name in table if name.startswith("t_")]
    path = write(tmp_path, table.drop(columns=temporal), about)
    # nilearn takes the names from the JSON file and ends in a KeyError
    with pytest.raises(DaskroiError, match=r"needs 't_comp_cor_\*'"):
        load_confounds(path, "compcor", compcor="temporal_anat_combined")


def test_n_a_below_the_first_row(tmp_path: Path) -> None:
    table, _ = table_of(spikes=0)
    table.loc[[0, 1], "csf"] = np.nan
    table.loc[7, "white_matter"] = np.inf
    path = write(tmp_path, table)
    message = r"n/a or infinite in 3 kept frames, first 0: 'csf', 'white_matter'"
    with pytest.raises(DaskroiError, match=message):
        load_confounds(path, "wm_csf")
    # in a censored frame it is nobody's business
    table.loc[[0, 1, 7], "framewise_displacement"] = 9
    found = load_confounds(write(tmp_path, table), "wm_csf", fd_threshold=0.5)
    assert np.isfinite(found.values[found.sample_mask]).all(axis=None)
    assert abs(found.values[found.sample_mask].mean()).max() < 1e-9


def test_one_frame_has_no_second_row(tmp_path: Path) -> None:
    path = write(tmp_path, table_of()[0].head(1))
    with pytest.raises(DaskroiError, match=r"n/a or infinite in 1 kept frames"):
        load_confounds(path, ("motion",))
    assert load_confounds(path, ("motion",), motion="basic").values.shape == (1, 6)


def test_tables_of_old_versions(tmp_path: Path) -> None:
    old = pd.DataFrame({"CSF": [1.0, 2], "WhiteMatter": [1.0, 3], "FramewiseDisplacement": [0, 0]})
    path = write(tmp_path, old)
    with pytest.raises(DaskroiError, match=r"fMRIPrep 1.0 or 1.1.*WhiteMatter.*columns="):
        load_confounds(path)
    assert load_confounds(path, columns=["CSF"]).columns == ["CSF"]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("1.0\t2.0\n3.0\t4.0\n", DaskroiError, "has no header"),
        ("csf\twhite_matter\n", DaskroiError, "a header and no rows"),
        ("csf\twhite_matter\n1\tx\n", DaskroiTypeError, "column 'white_matter' holds values that"),
        ("csf\n1\t2\t3\n1\n1\t2\t3\t4\n", DaskroiError, "not a table of confounds"),
        (b"\xff\xfe\x00c", DaskroiError, "not a table of confounds"),
        ("", DaskroiError, "is empty"),
    ],
)
def test_files_that_are_no_tables(
    tmp_path: Path, content: Any, error: type[Exception], message: str
) -> None:
    path = tmp_path / "x_desc-confounds_timeseries.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=message):
        load_confounds(path, "wm_csf")


def test_the_image_instead_of_its_table(tmp_path: Path) -> None:
    with pytest.raises(DaskroiError, match=r"bold\.nii\.gz: is an image.*confounds_timeseries"):
        load_confounds(tmp_path / "sub-1_desc-preproc_bold.nii.gz")
    with pytest.raises(DaskroiTypeError, match=r"path is a list\. Pass .* one table"):
        load_confounds(["a.tsv", "b.tsv"])  # type: ignore[arg-type]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DaskroiNotFoundError, match=r"x\.tsv: no such file"):
        load_confounds(tmp_path / "x.tsv")
