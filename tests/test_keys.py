"""Keys: what changes a number changes the key, and what does not leaves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from itertools import combinations
from pathlib import Path
from typing import Any

import images
import nibabel as nib
import numpy as np
import pytest
from dask.tokenize import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st

import daskroi as dr
from daskroi.grid import Grid
from daskroi.recipe import Recipe
from daskroi.regions import RegionIndex
from daskroi.resampling import Resampling
from daskroi.smoothing import Smoothing
from daskroi.steps import CleanSteps

# for every option, values that all give different numbers
MEANINGS: dict[str, tuple[Any, ...]] = {
    "strategy": ("mean", "sum", "median", "minimum", "maximum", "variance", "standard_deviation"),
    "nan_policy": ("zero", "omit", "propagate"),
    "min_coverage": (None, 0.0, 0.5, 0.5000000001),
    "resampling_target": ("data", "labels", None),
    "smoothing_fwhm": (None, 4.0, 4.000000001, (4.0, 4.0, 5.0), (5.0, 4.0, 4.0), "fast"),
    "resampling_clip": (None, True, False),
    "spatial": ("auto", "fused", "voxelwise"),
    "maps_method": ("mean", "lstsq"),
    "high_variance_confounds": (False, True),
    "dtype": (None, "float32", "float64", "auto"),
    "plan": ("auto", "stream", "blocks"),
    "t_r": (None, 2.0, 2.0000000001),
    "standardize": (None, "zscore_sample", "psc"),
    "standardize_confounds": (True, False),
    "detrend": (False, True),
    "low_pass": (None, 0.1, 0.1000000001),
    "high_pass": (None, 0.01, 0.02),
    "filter": ("butterworth", False),
    "extrapolate": (False, True),
    "ensure_finite": (False, True),
    "butterworth__order": (5, 3),
    "butterworth__padtype": ("odd", "even"),
}
# other words for the first of these
SPELLINGS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"smoothing_fwhm": 4.0}, {"smoothing_fwhm": 4}),
    ({"smoothing_fwhm": 4.0}, {"smoothing_fwhm": [4, 4, 4]}),
    ({"smoothing_fwhm": 4.0}, {"smoothing_fwhm": np.float32(4)}),
    ({"smoothing_fwhm": (4.0, 4.0, 5.0)}, {"smoothing_fwhm": np.array([4, 4, 5])}),
    ({"smoothing_fwhm": (4.0, 0.0, 5.0)}, {"smoothing_fwhm": (4, None, 5)}),
    ({"min_coverage": 0.5}, {"min_coverage": np.float64(0.5)}),
    ({"t_r": 2.0}, {"t_r": 2}),
    ({"detrend": True}, {"detrend": np.True_}),
    ({"standardize": "zscore_sample"}, {"standardize": True}),
    ({"standardize": None}, {"standardize": False}),
    ({"dtype": "float32"}, {"dtype": np.float32}),
    ({"dtype": "float32"}, {"dtype": np.dtype(">f4")}),
    ({}, {"butterworth__order": 5, "butterworth__padtype": "odd"}),
    ({}, {"low_pass": None, "filter": "butterworth", "detrend": False}),
)


def keys(recipe: Recipe) -> tuple[str, str]:
    """What Dask and the sidecar know a recipe by."""
    return tokenize(recipe), recipe.as_json()


@pytest.mark.parametrize("option", MEANINGS)
def test_every_value_is_a_key_of_its_own(option: str) -> None:
    given_ = [Recipe.make(**{option: value}) for value in MEANINGS[option]]
    for one, other in combinations(given_, 2):
        assert one != other
        assert all(a != b for a, b in zip(keys(one), keys(other), strict=True))


@given(
    options=st.fixed_dictionaries(
        {}, optional={k: st.sampled_from(v) for k, v in MEANINGS.items()}
    ),
    other=st.sampled_from(sorted(MEANINGS)),
    data=st.data(),
)
@settings(max_examples=100)
def test_any_change_is_another_key(options: dict[str, Any], other: str, data: Any) -> None:
    changed = options | {other: data.draw(st.sampled_from(MEANINGS[other]))}
    one, two = (Recipe.make(**o) for o in (options | {"t_r": 2.0}, changed | {"t_r": 2.0}))
    default = {k: v[0] for k, v in MEANINGS.items()} | {"t_r": 2.0}
    same = {**default, **options, "t_r": 2.0} == {**default, **changed, "t_r": 2.0}
    assert (one == two) is same
    assert (tokenize(one) == tokenize(two)) is same
    assert (one.as_json() == two.as_json()) is same


def test_all_options_are_tried() -> None:
    """A new option must come into the key, and here."""
    named = {f.name for f in fields(Recipe)} | {f.name for f in fields(CleanSteps)}
    tried = {name.split("__")[0] for name in MEANINGS}
    assert named - tried == {"clean"}


@pytest.mark.parametrize(("one", "other"), SPELLINGS, ids=str)
def test_one_meaning_is_one_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert keys(Recipe.make(**one)) == keys(Recipe.make(**other))


def test_order_of_options_is_none() -> None:
    options = {"detrend": True, "low_pass": 0.1, "t_r": 2.0, "standardize": "psc"}
    backwards = dict(reversed(options.items()))
    assert keys(Recipe.make(**options)) == keys(Recipe.make(**backwards))


# what Dask calls the results


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("keys")
    return {
        "run": images.save(images.run(rng, (7, 8, 6, 40)), folder / "run.nii"),
        "atlas": images.save(images.labels(rng, (7, 8, 6)), folder / "atlas.nii.gz"),
    }


CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "strategy": {"strategy": "variance"},
    "policy": {"nan_policy": "omit"},
    "coverage": {"min_coverage": 0.5},
    "wide": {"smoothing_fwhm": 4},
    "wider": {"smoothing_fwhm": 4.0000001},
    "type": {"dtype": "float64"},
    "detrended": {"detrend": True},
    "confounds": {"confounds": np.arange(40.0)[:, None] ** 2},
    "other confounds": {"confounds": np.arange(40.0)[:, None] ** 3},
    "censored": {"sample_mask": np.arange(40) != 3},
    "otherwise censored": {"sample_mask": np.arange(40) != 4},
    "filtered": {"high_pass": 0.01, "low_pass": 0.1},
    "less filtered": {"high_pass": 0.01, "low_pass": 0.12},
    "masked": {"mask_img": nib.Nifti1Image(np.ones((7, 8, 6), "u1"), images.STRAIGHT)},
    "variance": {"high_variance_confounds": True},
}


def names(run: Path, atlas: Path) -> dict[str, str]:
    return {name: dr.extract(run, atlas, **o).data.name for name, o in CHANGES.items()}


def test_another_process_has_the_same_keys_and_every_change_others(files: dict[str, Path]) -> None:
    here = names(files["run"], files["atlas"])
    code = "import sys, json, test_keys; print(json.dumps(test_keys.names(*sys.argv[1:])))"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, files.values())],
        cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60, check=True,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert json.loads(done.stdout) == here
    # a mask of ones takes nothing away: the same numbers, the same key
    assert here.pop("masked") == here["plain"]
    assert len(set(here.values())) == len(here)


def test_another_state_of_a_file_is_another_key(files: dict[str, Path]) -> None:
    before = dr.extract(files["run"], files["atlas"]).data.name
    status = files["run"].stat()
    os.utime(files["run"], ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    try:
        assert dr.extract(files["run"], files["atlas"]).data.name != before
    finally:
        os.utime(files["run"], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert dr.extract(files["run"], files["atlas"]).data.name == before


# what NumPy prints of an array is cut short, and so must be in no key


def test_tokens_see_the_last_bit_whatever_numpy_prints() -> None:
    def grid(shift: float) -> Grid:
        affine = np.diag([2.0, 2, 2, 1])
        affine[0, 3] = 1 + shift
        return Grid.make((4, 5, 6), affine)

    def tokens(shift: float) -> list[str]:
        one = grid(shift)
        weights = np.ones(1000) + shift
        index = RegionIndex(np.arange(1000), np.array([0, 1000]), (10, 10, 10), weights)
        return [
            tokenize(one),
            repr(Resampling(one, grid(0.5), 3)),
            repr(Smoothing.of(4 + shift, one)),
            index.token,
        ]

    with np.printoptions(precision=1, threshold=2, suppress=True):
        for one, other in zip(tokens(0.0), tokens(2.0**-50), strict=True):
            assert one != other
    assert tokens(0.0) == tokens(0.0)
