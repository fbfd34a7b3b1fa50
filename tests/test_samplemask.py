"""Spellings of sample masks, of one run and of several, and masks that are refused."""

from __future__ import annotations

import numpy as np
import pytest

from daskroi.errors import DaskroiError, DaskroiIndexError, DaskroiTypeError
from daskroi.signals import AllFramesCensoredError, kept_frames, sample_mask_to_bool


@pytest.mark.parametrize(
    "mask", [[0, 2], np.array([0, 2], np.uint8), [True, False, True], [np.array([0, 2])]]
)
def test_spellings_of_a_mask(mask):
    np.testing.assert_array_equal(sample_mask_to_bool(mask, 3), [True, False, True])
    np.testing.assert_array_equal(kept_frames(3, mask), [0, 2])


@pytest.mark.parametrize("mask", [None, [0, 1, 2], [True] * 3])
def test_a_mask_that_censors_nothing_is_none(mask):
    assert sample_mask_to_bool(mask, 3) is None


@pytest.mark.parametrize(
    ("mask", "error", "match"),
    [
        ([0, 1, 2, 3], DaskroiIndexError, "has 4 entries and the run has 3 frames"),
        ([True] * 4, DaskroiIndexError, "has 4 entries and the run has 3 frames"),
        ([True, False], DaskroiError, "has 2 booleans and the run has 3 frames"),
        ([-1, 2], DaskroiError, "negative index -1"),
        ([1, 3], DaskroiIndexError, "names frame 3 and the run has 3 frames, 0 to 2"),
        ([1, 0, 1], DaskroiError, "neither sorted nor free of repeats"),
        ([0.0, 2.0], DaskroiTypeError, "holds float64. Give booleans"),
        (np.ones((3, 2), bool), DaskroiError, r"has shape \(3, 2\)"),
        ([], AllFramesCensoredError, "censors all 3 frames: nothing is left"),
        ([False] * 3, AllFramesCensoredError, "censors all 3 frames: nothing is left"),
        ([[0], [1]], DaskroiError, r"holds 2 mask\(s\) for 1 run"),
    ],
)
def test_bad_masks_are_refused(mask, error, match):
    with pytest.raises(error, match=match):
        sample_mask_to_bool(mask, 3)


@pytest.mark.parametrize(
    "masks", [[[0], [1, 2]], ([True, False], None), np.array([True, False, True, True, True])]
)
def test_masks_of_runs(masks):
    if isinstance(masks, list):
        masks = [[0], [0, 1, 2]]
    keep = sample_mask_to_bool(masks, 5, runs=[0, 0, 1, 1, 1])
    np.testing.assert_array_equal(keep, [True, False, True, True, True])


@pytest.mark.parametrize(
    ("masks", "runs", "error", "match"),
    [
        ([[0]], [0, 0, 1, 1], DaskroiError, r"holds 1 mask\(s\) for 2 run"),
        ([0, 1], [0, 0, 1, 1], DaskroiError, r"holds 1 mask\(s\) for 2 run"),
        ([[0], []], [0, 0, 1, 1], AllFramesCensoredError, "of run 2 censors all 2 frames"),
        ([[0], [2]], [0, 0, 1, 1], DaskroiIndexError, "of run 2 names frame 2"),
        ([[0], [1]], [0, 0, 1], DaskroiError, r"runs has shape \(3,\) and the series has 4"),
    ],
)
def test_bad_masks_of_runs_are_refused(masks, runs, error, match):
    with pytest.raises(error, match=match):
        sample_mask_to_bool(masks, 4, runs)
