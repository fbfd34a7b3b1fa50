"""Cleaning of labelled series: lazy, keyed by all that changes the bytes, true to the kernels."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import fields, replace

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn import signal as oracle

import daskroi as dr
from daskroi import signals
from daskroi.clean import clean, t_r_from_time
from daskroi.errors import DaskroiError, DaskroiTypeError, DaskroiWarning
from daskroi.signals import CleanSteps

N_TIME, N_REGION = 60, 5


def refuse(*args, **kwargs):
    raise AssertionError("computed while building")


@pytest.fixture
def lazily():
    with dask.config.set(scheduler=refuse):
        yield


def make(chunks=(7, 2), dtype=np.float64, t_r=2.0, lazy=True):
    rng = np.random.default_rng(0)
    values = (100 + rng.normal(size=(N_TIME, N_REGION))).astype(dtype)
    return xr.DataArray(
        da.from_array(values, chunks=chunks) if lazy else values,
        dims=("time", "region"),
        coords={
            "time": ("time", np.arange(N_TIME) * t_r, {"units": "s"}),
            "frame": ("time", np.arange(N_TIME)),
            "region": [1, 2, 5, 7, 9],
            "region_name": ("region", list("abcde")),
            "coverage": ("region", da.ones(N_REGION)),
        },
        attrs={"atlas": "five"},
        name="bold",
    )


STEPS = CleanSteps(detrend=True, standardize="zscore_sample", high_pass=0.01, low_pass=0.1, t_r=2.0)
CONFOUNDS = np.random.default_rng(1).normal(size=(N_TIME, 3))


@pytest.mark.parametrize("lazy", [True, False])
def test_equals_nilearn(lazy):
    series = make(lazy=lazy)
    mask = np.setdiff1d(np.arange(N_TIME), [0, 1, 20])
    actual = clean(series, STEPS, confounds=CONFOUNDS, sample_mask=mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = oracle.clean(
            series.values,
            detrend=True,
            standardize="zscore_sample",
            confounds=CONFOUNDS,
            high_pass=0.01,
            low_pass=0.1,
            t_r=2.0,
            sample_mask=mask.copy(),
        )
    np.testing.assert_allclose(actual.values, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(actual.time, series.time[mask])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, N_TIME - 1), max_size=5),
    st.lists(st.integers(1, N_REGION - 1), max_size=3),
    st.sampled_from([np.float32, np.float64, np.int16]),
    st.booleans(),
    st.booleans(),
)
def test_chunks_change_nothing(rows, columns, dtype, with_runs, lazy_confounds):
    series = make(dtype=dtype, lazy=False)
    cut = [
        tuple(np.diff([0, *sorted(set(c)), n])) for c, n in ((rows, N_TIME), (columns, N_REGION))
    ]
    runs = np.repeat([1, 2], N_TIME // 2) if with_runs else None
    mask = np.arange(N_TIME) % 7 > 0
    steps = CleanSteps(detrend=True, standardize="psc", filter="cosine", high_pass=0.02, t_r=2.0)
    confounds = da.from_array(CONFOUNDS, chunks=(9, 2)) if lazy_confounds else CONFOUNDS
    lazy = series.copy(data=da.from_array(series.values, chunks=tuple(cut)))
    actual = clean(lazy, steps, confounds=confounds, sample_mask=mask, runs=runs)
    expected = signals.clean(series.values, steps, CONFOUNDS, mask, runs)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual.values, expected)


def test_nothing_is_computed_while_building(lazily):
    series = make()
    confounds = da.from_array(CONFOUNDS, chunks=20)
    out = clean(series, STEPS, confounds=[confounds, CONFOUNDS[:, 0]], sample_mask=[*range(5, 60)])
    assert out.shape == (55, N_REGION)
    assert isinstance(out.data, da.Array)
    assert out.data.npartitions == 1
    assert isinstance(out.coords["coverage"].data, da.Array)


def test_labels_survive():
    series = make()
    mask = np.arange(N_TIME) % 4 > 0
    out = clean(series.transpose("region", "time"), STEPS, sample_mask=mask)
    assert out.dims == ("time", "region")
    assert out.name == "bold"
    assert out.attrs == series.attrs
    assert out.time.attrs == {"units": "s"}
    for name in ("time", "frame", "region", "region_name", "coverage"):
        xr.testing.assert_identical(out[name], series[name].isel(time=mask) if
                                    "time" in series[name].dims else series[name])  # fmt: skip
    assert series.shape == (N_TIME, N_REGION)


def test_one_task_for_the_cleaning():
    series = make(chunks=(N_TIME, N_REGION))
    before = len(dict(series.data.__dask_graph__()))
    out = clean(series, STEPS, confounds=CONFOUNDS)
    # the task, and the confounds as one more array
    assert len(dict(out.data.__dask_graph__())) <= before + 4


CHANGES = {
    "detrend": False,
    "standardize": "psc",
    "standardize_confounds": False,
    "filter": "cosine",
    "low_pass": 0.2,
    "high_pass": 0.02,
    "t_r": 1.0,
    "extrapolate": True,
    "ensure_finite": True,
    "butterworth": (("order", 3),),
}


def test_every_field_has_a_change():
    assert set(CHANGES) == {field.name for field in fields(CleanSteps)}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.filterwarnings("ignore::daskroi.errors.DaskroiWarning")
def test_every_field_is_in_the_key(name):
    def key(steps, **kwargs):
        return clean(make(), steps, **kwargs).data.name

    assert key(STEPS) == key(replace(STEPS))
    assert key(replace(STEPS, **{name: CHANGES[name]})) != key(STEPS)


def test_confounds_masks_and_runs_are_in_the_key():
    runs = np.repeat([1, 2], 30)
    mask = np.arange(N_TIME) > 3
    steps = CleanSteps(detrend=True)
    variants = [
        {},
        {"confounds": CONFOUNDS},
        {"confounds": CONFOUNDS + 1},
        {"sample_mask": mask},
        {"sample_mask": np.arange(N_TIME) > 4},
        {"runs": runs},
        {"runs": runs, "confounds": CONFOUNDS},
    ]
    names = [clean(make(), steps, **kwargs).data.name for kwargs in variants]
    assert len(set(names)) == len(names)
    assert names == [clean(make(), steps, **kwargs).data.name for kwargs in variants]
    indices = clean(make(), steps, sample_mask=np.flatnonzero(mask))
    assert indices.data.name == names[3]  # one spelling inside


def test_it_pickles():
    steps = replace(STEPS, low_pass=None)
    out = clean(make(), steps, confounds=CONFOUNDS, runs=np.repeat([1, 2], 30))
    again = pickle.loads(pickle.dumps(out))
    assert again.data.name == out.data.name
    np.testing.assert_array_equal(again, out)


def test_options_steps_and_mappings_are_the_same():
    options = {"detrend": True, "low_pass": 0.1, "t_r": 2.0, "butterworth__order": 3}
    names = {
        clean(make(), **options).data.name,
        clean(make(), options).data.name,
        clean(make(), CleanSteps.make(**options)).data.name,
        clean(make(), {"detrend": True, "low_pass": 0.1}, butterworth__order=3).data.name,
    }
    assert len(names) == 1


def test_t_r_comes_from_time():
    by_time = clean(make(t_r=0.72), low_pass=0.1)
    assert by_time.data.name == clean(make(t_r=0.72), low_pass=0.1, t_r=0.72).data.name
    runs = np.repeat([1, 2], N_TIME // 2)
    series = make().assign_coords(time=("time", np.tile(np.arange(30) * 2.0, 2), {"units": "s"}))
    assert t_r_from_time(series, runs) == 2.0
    # a TR that has no end, as `extract` read it off the image
    run = dr.make_phantom((10, 12, 10), n_time=60, n_regions=4, t_r=1 / 3)
    assert t_r_from_time(dr.extract(run.image, run.atlas)) == 1 / 3
    # no cutoff, no need
    clean(make().drop_vars("time"), detrend=True, filter=False)


@pytest.mark.parametrize(
    ("time", "match"),
    [
        (None, "no time coordinate. Pass t_r in s"),
        (("time", np.arange(60.0)), "time has units None, not 's'"),
        (("time", np.arange(60.0), {"units": "ms"}), "time has units 'ms'"),
        (("time", np.arange(60.0) ** 2, {"units": "s"}), "between frames is 1 to 117 s"),
    ],
)
def test_t_r_is_asked_for_when_time_does_not_tell(time, match):
    series = make().drop_vars("time")
    if time is not None:
        series = series.assign_coords(time=time)
    with pytest.raises(DaskroiError, match=match):
        clean(series, high_pass=0.01)


def test_a_single_frame():
    series = make().isel(time=[0])
    with pytest.warns(DaskroiWarning, match="a single frame"):
        out = clean(series, detrend=True, standardize="zscore_sample")
    np.testing.assert_array_equal(out, series)
    with pytest.raises(DaskroiError, match="a single frame does not tell"):
        clean(series, low_pass=0.1)


def test_confounds_of_all_kinds(tmp_path):
    path = tmp_path / "confounds.tsv"
    table = pd.DataFrame(CONFOUNDS, columns=["csf", "trans_x", "trans_y"])
    table.to_csv(path, sep="\t", index=False)
    expected = clean(make(), confounds=CONFOUNDS[:, 1:], detrend=True)
    lazy = da.from_array(CONFOUNDS[:, 1:2], chunks=10)
    for confounds, columns in [
        (path, "trans_?"),
        (table, ["trans_x", "trans_y"]),
        (lazy, None),
        ([lazy, CONFOUNDS[:, 2]], None),
        (xr.DataArray(CONFOUNDS[:, 1:], dims=("time", "confound")), None),
    ]:
        out = clean(make(), confounds=confounds, columns=columns, detrend=True)
        if confounds is lazy:
            assert not np.allclose(out, expected)
        else:
            np.testing.assert_allclose(out, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"confounds": np.zeros((9, 2))}, DaskroiError, "has 9 rows and the run has 60 frames"),
        ({"confounds": da.zeros((9, 2))}, DaskroiError, r"lazy confounds have shape \(9, 2\)"),
        ({"confounds": np.full(60, np.nan)}, DaskroiError, "'confound_0' has NaN"),
        ({"sample_mask": [60]}, DaskroiError, "names frame 60"),
        ({"runs": [1, 2]}, DaskroiError, r"runs has shape \(2,\)"),
        ({"standardize": "z"}, DaskroiError, "standardize='z' is not known"),
        ({"low_pass": 0.1, "butterworth__order": 30}, DaskroiError, "the butterworth filter needs"),
        ({"steps": 5}, DaskroiTypeError, "steps is a int"),
        ({"steps": STEPS, "detrend": True}, DaskroiTypeError, "steps and detrend were both given"),
    ],
)
def test_mistakes_are_told_while_building(kwargs, error, match, lazily):
    with pytest.raises(error, match=match):
        clean(make(), **kwargs)


def test_dims_and_types_are_checked():
    with pytest.raises(DaskroiError, match=r"series has dims \('time', 'label'\)"):
        clean(make().rename(region="label"), STEPS)
    with pytest.raises(DaskroiTypeError, match="complex128, not real numbers"):
        clean(make().astype(complex), STEPS)


def test_nan_in_lazy_confounds_is_told_when_computed():
    out = clean(make(), confounds=da.full((N_TIME, 2), np.nan))
    with pytest.raises(DaskroiError, match=r"columns \[0, 1\] are not finite"):
        out.compute()


def test_attributes_of_an_extraction_say_what_was_done_since():
    run = dr.make_phantom((12, 14, 12), n_time=40, n_regions=4)
    options = {"standardize": "psc", "low_pass": 0.1, "butterworth__order": 2}
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=["a", "b"])
    at_once = dr.extract(run.image, run.atlas, detrend=True, confounds=table, **options)
    for first, then in (({}, {"detrend": True}), ({"detrend": True}, {})):
        ts = dr.extract(run.image, run.atlas, **first)
        later = clean(ts, confounds=table, **then, **options)
        assert later.attrs == at_once.attrs
        assert clean(later).attrs == later.attrs
        assert ts.attrs["confounds"] == "[]"
    for strange in ("", "[1]", 5, None):
        said = {"atlas": "five", "recipe": strange, "confounds": strange}
        assert clean(make().assign_attrs(said), detrend=True).attrs == said
