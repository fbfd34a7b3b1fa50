"""What is done to a run, as one frozen value: the part of every key that is not the run."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Real
from typing import Any

import numpy as np

from daskroi.errors import DaskroiError, DaskroiTypeError, brief, check_choice, check_flag
from daskroi.kernels import NAN_POLICIES, REDUCERS
from daskroi.smoothing import Fwhm, checked_fwhm
from daskroi.steps import CleanSteps

__all__ = ["Recipe", "cleaned_again"]

PLANS = ("auto", "stream", "blocks")
RESAMPLING_TARGETS = ("data", "labels", None)
SPATIAL = ("auto", "fused", "voxelwise")
MAPS_METHODS = ("mean", "lstsq")
# what `extract` takes that is of one run, and so no part of a recipe
OF_A_RUN = ("mask_img", "confounds", "columns", "sample_mask", "runs", "chunks", "storage_options")


@dataclass(frozen=True)
class Recipe:
    """Everything that is done to a run, apart from the run: hashable, part of every key.

    Parameters
    ----------
    strategy, nan_policy, min_coverage, resampling_target, smoothing_fwhm, resampling_clip,
    spatial, maps_method, high_variance_confounds, dtype, plan
        As in `extract`.
    t_r : float or None
        As given by the user.
    clean : tuple of (name, value) pairs
        Options of `daskroi.steps.CleanSteps` that are not its defaults; without ``t_r``, which may
        come from the image.

    Examples
    --------
    >>> from daskroi import Recipe
    >>> Recipe.make(strategy="median", detrend=True, low_pass=None).clean
    (('detrend', True),)
    >>> Recipe.make(strategy="avg")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: strategy='avg' is not known. Use one of: 'mean', 'sum', ...
    """

    strategy: str = "mean"
    nan_policy: str = "zero"
    min_coverage: float | None = None
    resampling_target: str | None = "data"
    smoothing_fwhm: Fwhm = None
    resampling_clip: bool | None = None
    spatial: str = "auto"
    maps_method: str = "mean"
    high_variance_confounds: bool = False
    dtype: str | None = None
    plan: str = "auto"
    t_r: float | None = None
    clean: tuple[tuple[str, Any], ...] = field(default=())

    @classmethod
    def make(
        cls,
        *,
        strategy: str = "mean",
        nan_policy: str = "zero",
        min_coverage: float | None = None,
        resampling_target: str | None = "data",
        smoothing_fwhm: Any = None,
        resampling_clip: bool | None = None,
        spatial: str = "auto",
        maps_method: str = "mean",
        high_variance_confounds: bool = False,
        dtype: Any = None,
        plan: str = "auto",
        t_r: float | None = None,
        **clean: Any,
    ) -> Recipe:
        """Build from the keywords of `extract`, checking every one of them."""
        check_choice("strategy", strategy, tuple(REDUCERS))
        check_choice("nan_policy", nan_policy, NAN_POLICIES)
        check_choice("resampling_target", resampling_target, RESAMPLING_TARGETS)
        check_choice("plan", plan, PLANS)
        check_choice("resampling_clip", resampling_clip, (None, True, False))
        check_choice("spatial", spatial, SPATIAL)
        check_choice("maps_method", maps_method, MAPS_METHODS)
        number = isinstance(min_coverage, Real) and not isinstance(min_coverage, bool)
        if min_coverage is not None and not (number and 0 <= min_coverage <= 1):
            raise DaskroiError(
                f"min_coverage={brief(min_coverage)} is not a fraction. Use a number from 0 to 1, "
                "for example 0.5."
            )
        recipe = cls(
            strategy,
            nan_policy,
            None if min_coverage is None else float(min_coverage),
            resampling_target,
            checked_fwhm(smoothing_fwhm),
            resampling_clip,
            spatial,
            maps_method,
            check_flag("high_variance_confounds", high_variance_confounds),
            _checked_dtype(dtype),
            plan,
        )
        _check_names(clean)
        # says now what is wrong with the options, and spells what is meant in one way: equal
        # recipes have equal keys and sidecars
        steps = CleanSteps.make(t_r=1.0 if t_r is None else t_r, **clean)
        given = {k: v for k, v in _options(steps).items() if v != getattr(CleanSteps(), k)}
        return replace(
            recipe, t_r=None if t_r is None else steps.t_r, clean=tuple(sorted(given.items()))
        )

    def steps(self, t_r: float | None) -> CleanSteps:
        """The cleaning steps, at a repetition time in s."""
        return CleanSteps.make(t_r=t_r, **dict(self.clean))

    def as_json(self) -> str:
        """All fields and all options, as JSON text: what goes into attributes and sidecars."""
        steps = self.steps(1.0)
        said = _options(steps) | {"butterworth": dict(steps.butterworth)}
        return json.dumps(asdict(self) | {"clean": said}, default=str)


def cleaned_again(recipe: str, steps: CleanSteps) -> str:
    """A recipe as JSON text, of series that are cleaned after they were extracted.

    Examples
    --------
    >>> recipe = cleaned_again(Recipe.make(detrend=True).as_json(), CleanSteps(standardize="psc"))
    >>> [json.loads(recipe)["clean"][name] for name in ("detrend", "standardize")]
    [True, 'psc']
    """
    try:
        found = json.loads(recipe)
        before = dict(found["clean"])
    except (KeyError, TypeError, ValueError):  # attributes may be anything
        return recipe
    done = {k: v for k, v in _options(steps).items() if v != getattr(CleanSteps(), k)}
    if steps.butterworth:
        done["butterworth"] = dict(steps.butterworth)
    return json.dumps(found | {"clean": before | done})


def _check_names(given: Mapping[str, Any]) -> None:
    """Refuse keywords that neither `extract` nor cleaning has."""
    own = {f.name for f in fields(CleanSteps)}
    if unknown := [n for n in given if n not in own and not n.startswith("butterworth__")]:
        known = sorted(own | {f.name for f in fields(Recipe)} - {"clean"} | set(OF_A_RUN))
        close = difflib.get_close_matches(unknown[0], known, n=3, cutoff=0.5)
        hint = (
            f"Did you mean {' or '.join(close)}?" if close else f"Use some of: {', '.join(known)}."
        )
        raise DaskroiTypeError(f"There is no parameter {', '.join(map(repr, unknown))}. {hint}")


def _options(steps: CleanSteps) -> dict[str, Any]:
    """All options by name, but ``t_r``."""
    return {f.name: getattr(steps, f.name) for f in fields(steps) if f.name != "t_r"}


def _checked_dtype(dtype: Any) -> str | None:
    if dtype is None or (isinstance(dtype, str) and dtype == "auto"):
        return dtype
    try:
        wanted = np.dtype(dtype)
    except TypeError as error:
        raise DaskroiTypeError(
            f"dtype={brief(dtype)} is not a type. Use 'float32', 'float64', 'auto' or None."
        ) from error
    if wanted.kind != "f":
        raise DaskroiTypeError(
            f"dtype={wanted.name!r} would truncate region series, which are fractions. "
            "Use 'float32', 'float64', 'auto' or None."
        )
    return wanted.name
