"""Times of rows come back from a sidecar to the bit, with the repetition time of the run."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import result

import daskroi as dr
from daskroi import store
from daskroi.rowtimes import timing_in, timing_of

FRAMES = st.sets(st.integers(0, 3000), min_size=1, max_size=40).map(sorted)
# as people write them
SECONDS = st.integers(100, 9999).map(lambda ms: ms / 1000)


def back(one, n_frames):
    timing = json.loads(json.dumps(timing_of(one, n_frames)))
    return timing_in(timing, one.sizes["time"])


@given(FRAMES, SECONDS)
def test_frames_that_are_left_of_a_run(frames, t_r):
    one = result(np.zeros((len(frames), 1)), frames, t_r=t_r)
    dim, times, attrs = back(one, 3001)
    assert dim == "time"
    np.testing.assert_array_equal(times, one.time)
    assert attrs == one.time.attrs


@given(FRAMES, st.floats(0.01, 30))
def test_any_repetition_time(frames, t_r):
    one = result(np.zeros((len(frames), 1)), frames, t_r=t_r)
    _, times, attrs = back(one, 3001)
    np.testing.assert_array_equal(times, one.time)
    # two numbers that give the same times cannot be told apart
    np.testing.assert_allclose(attrs["t_r"], t_r, rtol=3e-16)


@given(FRAMES)
def test_without_a_repetition_time(frames):
    one = result(np.zeros((len(frames), 1)), frames, t_r=None)
    _, times, attrs = back(one, 3001)
    np.testing.assert_array_equal(times, frames)
    assert attrs == {"units": "frame"}


@pytest.mark.parametrize("start", [0.3, -4.0, 1e6])
def test_a_part_of_an_image_that_begins_between_frames(start):
    one = result(np.zeros((5, 1)))
    one = one.assign_coords(time=one.time + start)
    one.time.attrs = {"units": "s", "t_r": 2.0, "t_r_source": "argument"}
    _, times, attrs = back(one, 5)
    np.testing.assert_allclose(times, one.time, rtol=1e-15)
    assert attrs == one.time.attrs


def test_times_of_which_no_repetition_time_is_known():
    one = result(np.zeros((3, 1)), [0.0, 1.7, 2.9], t_r=None)
    one.time.attrs["units"] = "s"
    assert timing_of(one, 3) == {"NumberOfFrames": 3, "VolumeTiming": [0.0, 1.7, 2.9]}
    _, times, attrs = back(one, 3)
    assert list(times) == [0.0, 1.7, 2.9]
    assert attrs == {"units": "s"}


@pytest.mark.parametrize("how", [{}, {"smoothing_fwhm": 6}, {"resampling_target": "labels"}])
def test_a_censored_run_comes_back_with_its_labels(tmp_path, how):
    made = dr.make_phantom((12, 14, 12), n_time=60, n_regions=3, t_r=0.72)
    files = dr.write_phantom(tmp_path / "in", made)
    kept = [i for i in range(60) if i not in (0, 7, 8, 41)]
    told = {"mask_img": files["mask"], "confounds": files["confounds"], "columns": ["trans_x"]}
    ts = dr.extract(files["image"], files["atlas"], sample_mask=kept, **told, **how).compute()
    inputs = {"image": files["image"], "mask": files["mask"], "atlas": files["atlas"]}
    written = store.write_run(ts, tmp_path, "sub-01_task-rest", n_frames=60, inputs=inputs)
    read = dr.read_timeseries(written.timeseries)
    assert read.identical(ts)
    assert read.time.attrs == ts.time.attrs


def test_what_was_made_in_memory_comes_back(tmp_path):
    run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=3)
    ts = dr.extract(run.image, run.atlas).compute()
    assert dr.read_timeseries(store.write_run(ts, tmp_path, "x").timeseries).identical(ts)
