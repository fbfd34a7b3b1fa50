"""The tables of confound strategies, and what may be asked of them."""

from __future__ import annotations

import dataclasses
import math
import pickle
from fnmatch import fnmatchcase
from typing import Any

import pytest

from daskroi.confoundrecipe import ConfoundRecipe
from daskroi.errors import DaskroiError, DaskroiTypeError, DaskroiWarning
from daskroi.strategies import COMPONENTS, DEFAULTS, STRATEGIES, Columns, strategy_row

MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
TISSUES = ["csf", "white_matter"]
FULL = ["", "_derivative1", "_power2", "_derivative1_power2"]
SEPARATED = ["c_comp_cor_*", "w_comp_cor_*"]


def times(names: list[str], suffixes: list[str]) -> list[str]:
    return [name + suffix for name in names for suffix in suffixes]


# as in XCP-D's files data/nuisance/*.yml, its numbered components as wildcards
XCP = {
    "24P": times(MOTION, FULL),
    "27P": [*times(MOTION, FULL), *TISSUES, "global_signal"],
    "36P": times([*MOTION, *TISSUES, "global_signal"], FULL),
    "acompcor": [*times(MOTION, FULL[:2]), *SEPARATED, "*cosine*"],
    "acompcor_gsr": [*times(MOTION, FULL[:2]), *SEPARATED, "*cosine*", "global_signal"],
    "gsr_only": ["global_signal"],
    "none": [],
}


@pytest.mark.parametrize("name", XCP)
def test_xcp_strategies_are_the_columns_of_its_files(name: str) -> None:
    recipe = ConfoundRecipe.make(name)
    assert sorted(group.pattern for group in recipe.groups) == sorted(XCP[name])
    assert recipe.n_compcor == (5 if "acompcor" in name else "all")
    assert recipe.first_row == "zero"
    assert recipe.detrend is (name != "none")
    assert (recipe.fd_threshold, recipe.std_dvars_threshold, recipe.scrub) == (None, None, 0)


def test_every_row_can_be_made_and_is_a_key() -> None:
    recipes = set()
    for name in STRATEGIES:
        if name == "ica_aroma":
            with pytest.warns(DaskroiWarning, match="desc-smoothAROMAnonaggr_bold"):
                recipe = ConfoundRecipe.make(name)
        else:
            recipe = ConfoundRecipe.make(name)
        recipes.add(recipe)
        assert recipe.strategy == name
        assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert len(recipes) == len(STRATEGIES)


def test_rows_are_of_known_components_and_choices() -> None:
    names = {row.name for row in COMPONENTS}
    assert len({(row.name, row.choice) for row in COMPONENTS}) == len(COMPONENTS)
    for name, row in STRATEGIES.items():
        assert name == row.name
        assert set(row.components) <= names
        assert {option for option, _ in row.options} <= set(DEFAULTS)


def test_only_numbered_components_have_a_rank() -> None:
    for row in COMPONENTS:
        for columns in row.columns:
            assert columns.ranked is (row.name == "compcor")
            assert columns.mask == "" or not fnmatchcase("a_comp_cor_00", columns.pattern)


OTHERS: dict[str, Any] = {
    "strategy": "24P",
    "groups": (Columns("csf"),),
    "patterns": ("csf",),
    "options": (("motion", "basic"),),
    "n_compcor": 3,
    "scrub": 4,
    "fd_threshold": 0.3,
    "std_dvars_threshold": 1.2,
    "n_dummy": 4,
    "first_row": "zero",
    "detrend": True,
    "demean": False,
    "in_order": True,
}


def test_every_field_is_in_the_key() -> None:
    from dask.base import tokenize

    recipe = ConfoundRecipe.make("simple")
    assert {field.name for field in dataclasses.fields(recipe)} == set(OTHERS)
    tokens = {tokenize(dataclasses.replace(recipe, **{k: v})) for k, v in OTHERS.items()}
    assert len(tokens | {tokenize(recipe)}) == len(OTHERS) + 1
    assert tokenize(recipe) == tokenize(ConfoundRecipe.make("simple"))


def test_scrubbing_is_on_with_its_component_or_a_threshold() -> None:
    def three(*args: Any, **kw: Any) -> tuple[Any, Any, int]:
        recipe = ConfoundRecipe.make(*args, **kw)
        return recipe.fd_threshold, recipe.std_dvars_threshold, recipe.scrub

    assert three("scrubbing") == three(["motion", "scrub"]) == (0.5, 1.5, 5)
    assert three("scrubbing", fd_threshold=0.2) == (0.2, 1.5, 5)
    assert three("scrubbing", std_dvars_threshold=math.inf, scrub=0) == (0.5, None, 0)
    assert three("36P", fd_threshold=0.3) == (0.3, None, 0)
    assert three("36P", std_dvars_threshold=2, scrub=7) == (None, 2.0, 7)
    assert three("36P", fd_threshold=math.inf) == (None, None, 0)


def test_defaults_are_nilearns() -> None:
    recipe = ConfoundRecipe.make()
    assert recipe.strategy == ("motion", "high_pass", "wm_csf")
    assert dict(recipe.options) == {"motion": "full", "wm_csf": "basic"}
    assert recipe.demean
    assert recipe.n_dummy == "auto"


def test_one_component_needs_no_tuple() -> None:
    assert ConfoundRecipe.make("motion") == ConfoundRecipe.make(("motion",))
    assert strategy_row(["motion", "motion"]).components == ("motion",)
    assert ConfoundRecipe.make("compcor").options[-1] == ("n_compcor", "all")  # the preset


def test_global_signal_on_top_of_a_preset() -> None:
    recipe = ConfoundRecipe.make("simple", global_signal="power2")
    assert {"global_signal", "global_signal_power2"} <= {g.pattern for g in recipe.groups}


def test_columns_alone_and_on_top() -> None:
    alone = ConfoundRecipe.make(columns="csf*")
    assert alone.groups == (Columns("csf*"),)
    assert alone.in_order
    both = ConfoundRecipe.make("24P", columns=["csf", "task_?"])
    assert len(both.groups) == 26
    assert not both.in_order


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"strategy": "37P"}, r"strategy='37P' is not known. Use one of 'simple'.*'36P'.*'scrub'"),
        ({"strategy": ("motion", "36P")}, r"'36P' stands alone: strategy='36P'"),
        ({"strategy": ("motion", "gsr")}, r"strategy=\('motion', 'gsr'\) is not known"),
        ({"strategy": "tedana"}, r"'tedana' reads files of tedana.*columns="),
        ({"strategy": "aroma_gsr"}, r"'aroma_gsr' reads files of fMRIPost-AROMA.*ica_aroma"),
        ({"strategy": ("compcor",)}, r"CompCor.*Add 'high_pass'"),
        ({"strategy": "simple", "motion": "half"}, r"motion='half' is not known.*'basic'"),
        ({"strategy": "compcor", "compcor": "anat"}, r"compcor='anat' is not known"),
        ({"strategy": "36P", "motion": "basic"}, r"motion='basic' cannot change strategy '36P'"),
        ({"strategy": "simple", "n_compcor": 5}, r"n_compcor=5 has nothing to act on.*'compcor'"),
        ({"strategy": ["motion"], "global_signal": "full"}, r"global_signal='full' has nothing"),
        ({"strategy": "compcor", "n_compcor": 0}, r"n_compcor=0 is not a number of 1 or more"),
        ({"strategy": "compcor", "n_compcor": "most"}, r"n_compcor='most' is not a number"),
        ({"fd_threshold": 0}, r"fd_threshold=0 is not a threshold.*None"),
        ({"fd_threshold": float("nan")}, r"fd_threshold=nan is not"),
        ({"std_dvars_threshold": "1.5"}, r"std_dvars_threshold='1.5' is not"),
        ({"fd_threshold": True}, r"fd_threshold=True is not"),
        ({"scrub": 5}, r"scrub=5 has nothing to act on"),
        ({"scrub": -1, "fd_threshold": 0.5}, r"scrub=-1 is not a number of 0 or more"),
        ({"scrub": 1.5, "fd_threshold": 0.5}, r"scrub=1.5 is not a number"),
        ({"n_dummy": -1}, r"n_dummy=-1 is not a number.*'auto'"),
        ({"n_dummy": "all"}, r"n_dummy='all' is not"),
        ({"columns": []}, r"columns is an empty list"),
    ],
)
def test_mistakes_are_named_before_any_file_is_read(args: dict[str, Any], message: str) -> None:
    with pytest.raises(DaskroiError, match=message):
        ConfoundRecipe.make(**args)


@pytest.mark.parametrize("strategy", [3, {"motion": "full"}, ["motion", 4]])
def test_what_is_no_strategy(strategy: Any) -> None:
    with pytest.raises(DaskroiTypeError, match=r"Pass one of 'simple'.*or a tuple of 'motion'"):
        ConfoundRecipe.make(strategy)
