"""Any value in any parameter: it is taken, or refused in one line that is ours; never a traceback.

Nobody has thought of these pairs one by one. Before this test, 900 of 5,500 ended in an error of
NumPy, pandas or Python that names no parameter.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bad_inputs import N_TIME, write_good
from test_bad_input import check_line, state_of

import daskroi as dr
from daskroi import store
from daskroi.errors import DaskroiError

VALUES: dict[str, Any] = {
    "None": None,
    "text": "abc",
    "nothing": "",
    "lines": "a\nb",
    "NUL": "a\0b",
    "a book": "x" * 500,
    "bytes": b"x",
    "path": Path("no\nsuch"),
    "True": True,
    "NaN": np.nan,
    "inf": np.inf,
    "below 0": -1,
    "0": 0,
    "fraction": 1.5,
    "10^30": 10**30,
    "complex": 1j,
    "NumPy's": np.float32(2),
    "0-d": np.array(2.0),
    "array": np.arange(3),
    "list": [1, 2],
    "empty list": [],
    "dict": {"a": 1},
    "set": {1},
    "Series": pd.Series([1, 2]),
    "DataFrame": pd.DataFrame({"a": [1]}),
    "class": int,
    "exception": KeyError("x"),
    "function": len,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good(tmp_path_factory.mktemp("types") / "in")


def masker_of(**options: Any) -> Any:
    image = options.pop("image")
    return dr.NiftiLabelsMasker(**options).fit(image).transform(image)


def inverse_of(atlas: Any, signals: Any) -> Any:
    return dr.NiftiLabelsMasker(atlas).fit().inverse_transform(signals)


MASKER = tuple(inspect.signature(dr.NiftiLabelsMasker).parameters)
CLEANING = ("detrend", "standardize", "standardize_confounds", "filter", "low_pass", "high_pass")
MORE = ("t_r", "extrapolate", "ensure_finite", "butterworth", "butterworth__order")
# functions, the parameters that have no default, and those that go by another function
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[str, ...], tuple[str, ...]]] = {
    "extract": (dr.extract, ("image", "atlas"), (*CLEANING, *MORE)),
    "open_image": (dr.open_image, ("image",), ()),
    "load_atlas": (dr.load_atlas, ("atlas",), ()),
    "load_seeds": (lambda **o: dr.load_atlas([(1, 2, 3)], **o), (), ("lut", "labels", "radius")),
    "load_confounds": (dr.load_confounds, ("table",), ()),
    "clean": (dr.clean, ("series",), (*CLEANING, *MORE)),
    "smooth": (dr.smooth, ("image", "fwhm"), ()),
    "resample": (dr.resample, ("image", "target"), ()),
    "high_variance_confounds": (dr.high_variance_confounds, ("image",), ()),
    "connectome": (dr.connectome, ("series",), ()),
    "report": (dr.report, ("series", "atlas"), ()),
    "make_image": (dr.make_image, ("values", "grid"), ()),
    "make_phantom": (dr.make_phantom, (), ()),
    "masker": (masker_of, ("image", "labels_img"), MASKER),
    "inverse_transform": (inverse_of, ("atlas", "signals"), ()),
    "read_timeseries": (dr.read_timeseries, ("result",), ()),
    "to_nifti": (dr.to_nifti, ("opened", "path"), ()),
    "grid": (dr.Grid.make, ("shape", "affine"), ()),
    "grid_of": (dr.grid_of, ("opened",), ()),
    "mean_connectome": (dr.mean_connectome, ("series",), ()),
    "sym_matrix_to_vec": (dr.sym_matrix_to_vec, ("series",), ()),
    "vec_to_sym_matrix": (dr.vec_to_sym_matrix, ("series",), ()),
}


def pairs() -> list[tuple[str, str]]:
    found = []
    for name, (function, _, more) in FUNCTIONS.items():
        own = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.kind is not p.VAR_KEYWORD
        ]
        found += [(name, parameter) for parameter in dict.fromkeys([*own, *more])]
    return found


def good_values(folder: Path) -> dict[str, Any]:
    opened = dr.open_image(folder / "run.nii.gz")
    series = dr.extract(folder / "run.nii.gz", folder / "atlas.nii").compute()
    return {
        "image": folder / "run.nii.gz",
        "atlas": folder / "atlas.nii",
        "labels_img": folder / "atlas.nii",
        "table": folder / "confounds.tsv",
        "opened": opened,
        "series": series,
        "fwhm": 4,
        "target": dr.Grid.make((4, 4, 4), np.diag([3.0, 3, 3, 1])),
        "values": opened.data,
        "grid": dr.grid_of(opened),
        "signals": series,
        "path": folder.parent / "written.nii",
        "result": store.write_run(series, folder.parent / "results", "sub-01").timeseries,
        "shape": (3, 3, 3),
        "affine": np.eye(4),
    }


@pytest.fixture(scope="module")
def good(folder: Path) -> dict[str, Any]:
    return good_values(folder)


@pytest.mark.parametrize(("name", "parameter"), pairs())
def test_any_value(
    name: str,
    parameter: str,
    folder: Path,
    good: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    function, needed, _ = FUNCTIONS[name]
    signature = list(inspect.signature(function).parameters)
    # in order: our names for good values are not always the parameters'
    order = needed if name == "masker" else signature
    given = {own: good[key] for own, key in zip(order, needed, strict=False)}
    if name == "make_phantom":
        given = {"shape": (9, 10, 9), "n_time": 6, "n_regions": 3}
    before = state_of(folder)
    taken = []
    for value in VALUES.values():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = function(**given | {parameter: value})
                if name in ("extract", "clean", "connectome"):
                    result.compute()
        except DaskroiError as error:
            check_line(str(error), ".")
        else:
            taken.append(value)
    assert len(taken) < len(VALUES) or parameter in ANYTHING
    assert state_of(folder) == before


# nilearn's, which have no effect here; and what is only shown
ANYTHING = ("memory", "memory_level", "cmap", "t_r_source", "culprit")


def test_frames_of_the_table_are_those_of_the_run(good: dict[str, Any]) -> None:
    """Or else all of the above would be refused for another reason."""
    assert good["opened"].sizes["time"] == len(pd.read_csv(good["table"], sep="\t")) == N_TIME
