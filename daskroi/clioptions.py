"""Options that several commands have, each said once, and what they mean to `extract`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from daskroi.terminal import Option

__all__ = ["Width", "option", "options_of", "recipe_of", "shared"]

# repeated from modules that import NumPy; a test compares them
STRATEGIES = ("mean", "sum", "median", "minimum", "maximum", "standard_deviation", "variance")
NAN_POLICIES = ("zero", "omit", "propagate")
PLANS = ("auto", "stream", "blocks")
STANDARDIZE = ("none", "zscore_sample", "psc")
FILTERS = ("butterworth", "cosine", "none")
RESAMPLING_TARGETS = ("data", "labels", "none")
SPATIAL = ("auto", "fused", "voxelwise")
MAPS_METHODS = ("mean", "lstsq")
CONNECTOMES = ("none", "correlation", "covariance", "partial-correlation", "precision")

# headings of --help
REGIONS, CLEANING, RUNNING = "Regions", "Cleaning", "Running"


class Width(click.ParamType):
    """Full width at half maximum in mm: one number, three as ``6,6,4``, or ``fast``."""

    name = "FWHM"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | list[float] | str:
        """Numbers of a text; what they mean is checked by `daskroi.smoothing.checked_fwhm`."""
        if value == "fast" or not isinstance(value, str):
            return value
        try:
            numbers = [float(part) for part in value.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3):
            self.fail(
                f"{value!r} is not a width. Give mm as one number, three along x,y,z as 6,6,4, or "
                "fast.",
                param,
                ctx,
            )
        return numbers if len(numbers) == 3 else numbers[0]


# by parameter: names of the option, and its settings. Those up to "plan" are a recipe's
SHARED: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "strategy": (
        ("--strategy",),
        {
            "type": click.Choice(STRATEGIES),
            "default": "mean",
            "group": REGIONS,
            "help": "What is made of a region's voxels in every frame.",
        },
    ),
    "nan_policy": (
        ("--nan-policy",),
        {
            "type": click.Choice(NAN_POLICIES),
            "default": "zero",
            "group": REGIONS,
            "help": "What a NaN or infinite voxel is: a 0 that counts, not there, or NaN for its "
            "region.",
        },
    ),
    "min_coverage": (
        ("--min-coverage",),
        {
            "metavar": "FRACTION",
            "type": click.FloatRange(0, 1),
            "group": REGIONS,
            "help": "Regions covered less than this become n/a; 0 keeps all.",
        },
    ),
    "resampling_target": (
        ("--resampling-target",),
        {
            "type": click.Choice(RESAMPLING_TARGETS),
            "default": "data",
            "group": REGIONS,
            "help": "data: bring atlas and mask to the image's grid. labels: bring image and mask "
            "to the atlas's, by cubic splines. none: they must be on one grid.",
        },
    ),
    "resampling_clip": (
        ("--resampling-clip/--no-resampling-clip",),
        {
            "default": None,
            "group": REGIONS,
            "help": "With labels: clip resampled values to the range of the run, as nilearn does. "
            "Reads the image twice. By default with --spatial voxelwise, and for strategies other "
            "than mean and sum.",
        },
    ),
    "smoothing_fwhm": (
        ("--smoothing", "--smoothing-fwhm", "smoothing_fwhm"),
        {
            "type": Width(),
            "metavar": "FWHM",
            "group": REGIONS,
            "help": "Smooth by a Gaussian this wide at half maximum, in mm; 6,6,4 along x,y,z; "
            "fast is nilearn's 7-point kernel.",
        },
    ),
    "spatial": (
        ("--spatial",),
        {
            "type": click.Choice(SPATIAL),
            "default": "auto",
            "group": REGIONS,
            "help": "How to smooth and resample. fused: as weights of the regions, for mean and "
            "sum. voxelwise: every frame. The numbers agree to 1e-9. auto: fused where it can be.",
        },
    ),
    "maps_method": (
        ("--maps-method",),
        {
            "type": click.Choice(MAPS_METHODS),
            "default": "mean",
            "group": REGIONS,
            "help": "Of maps: weighted means, or least squares on all maps at once, as nilearn has "
            "it.",
        },
    ),
    "high_variance_confounds": (
        ("--high-variance-confounds",),
        {
            "is_flag": True,
            "group": CLEANING,
            "help": "Also regress out 5 components of the 2 % of voxels that vary most; reads the "
            "image twice more.",
        },
    ),
    "standardize_confounds": (
        ("--standardize-confounds/--no-standardize-confounds",),
        {"default": True, "group": CLEANING, "help": "z-score confounds first."},
    ),
    "detrend": (
        ("--detrend/--no-detrend",),
        {"default": False, "group": CLEANING, "help": "Remove mean and linear trend."},
    ),
    "filter": (
        ("--filter", "filter"),
        {
            "type": click.Choice(FILTERS),
            "default": "butterworth",
            "group": CLEANING,
            "help": "What applies the cutoffs; without a cutoff, butterworth does nothing.",
        },
    ),
    "high_pass": (
        ("--high-pass",),
        {"metavar": "HZ", "type": float, "group": CLEANING, "help": "Cutoff in Hz."},
    ),
    "low_pass": (
        ("--low-pass",),
        {"metavar": "HZ", "type": float, "group": CLEANING, "help": "Cutoff in Hz."},
    ),
    "extrapolate": (
        ("--extrapolate",),
        {
            "is_flag": True,
            "group": CLEANING,
            "help": "With butterworth: fill censored frames at both ends too, instead of dropping "
            "them first.",
        },
    ),
    "t_r": (
        ("--t-r",),
        {
            "metavar": "SECONDS",
            "type": float,
            "group": CLEANING,
            "help": "Repetition time. By default from the JSON beside the image, else from its "
            "header.",
        },
    ),
    "standardize": (
        ("--standardize",),
        {
            "type": click.Choice(STANDARDIZE),
            "default": "none",
            "group": CLEANING,
            "help": "z-scores, percent signal change, or the image's own units.",
        },
    ),
    "plan": (
        ("--plan",),
        {
            "type": click.Choice(PLANS),
            "default": "auto",
            "group": RUNNING,
            "help": "stream: front to back. blocks: chunks in parallel, for files that can be read "
            "anywhere. The numbers are the same.",
        },
    ),
    "columns": (
        ("--columns",),
        {
            "metavar": "NAME...",
            "multiple": True,
            "group": CLEANING,
            "help": "Columns of the table, wildcards in quotes: 'trans_?' 'rot_?' csf. Default: "
            "all.",
        },
    ),
    "background_label": (
        ("--background-label",),
        {
            "metavar": "ID",
            "type": int,
            "default": 0,
            "group": REGIONS,
            "help": "Label of voxels in no region.",
        },
    ),
    "seeds": (
        ("--seeds",),
        {
            "metavar": "[NAME=]TSV",
            "multiple": True,
            "group": REGIONS,
            "help": "Table of seeds: columns x, y and z in mm, and if you like index and name; TSV "
            "or CSV. Like an atlas, and may go with some.",
        },
    ),
    "radius": (
        ("--radius",),
        {
            "metavar": "MM",
            "type": float,
            "group": REGIONS,
            "help": "Radius of the spheres around --seeds, in mm; a single voxel each if not "
            "given.",
        },
    ),
    "connectome": (
        ("--connectome",),
        {
            "type": click.Choice(CONNECTOMES),
            "default": "none",
            "help": "Also write how series go together, a matrix per atlas. The last two are "
            "shrunk by Ledoit and Wolf's method.",
        },
    ),
    "overwrite": (
        ("--overwrite",),
        {
            "is_flag": True,
            "help": "Extract again what is up to date. By default a result is skipped when it was "
            "made of the same files in the same way, and replaced otherwise.",
        },
    ),
}

RECIPE = tuple(SHARED)[: list(SHARED).index("plan") + 1]


def option(*names: str, **settings: Any) -> Callable[..., Any]:
    """An option under the heading ``group``."""
    return click.option(*names, cls=Option, **settings)


def shared(parameter: str, **other: Any) -> Callable[..., Any]:
    """An option that other commands have too, with the settings that are other here.

    Examples
    --------
    >>> @click.command()
    ... @shared("t_r", group="Cleaning")
    ... def hello(t_r):
    ...     print(t_r)
    >>> hello(["--t-r", "0.8"], standalone_mode=False)
    0.8
    """
    names, settings = SHARED[parameter]
    return option(*names, **settings | other)


def recipe_of(options: dict[str, Any]) -> dict[str, Any]:
    """Take the keywords of `extract` that are a recipe's out of a command's options.

    ``none`` becomes None, or False of a filter; what was not given and has no default is left out.

    Examples
    --------
    >>> recipe_of({"standardize": "none", "filter": "none", "detrend": None, "t_r": 2.0})
    {'filter': False, 't_r': 2.0, 'standardize': None}
    """
    found = {name: options.pop(name) for name in RECIPE if name in options}
    for name in ("resampling_target", "standardize"):
        if found.get(name) == "none":
            found[name] = None
    if found.get("filter") == "none":
        found["filter"] = False
    if not found.get("min_coverage"):
        found.pop("min_coverage", None)
    if found.get("detrend", True) is None:
        del found["detrend"]
    return found


def options_of(*options: Callable[..., Any]) -> Callable[..., Any]:
    """One decorator that gives a command many options, in this order."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        # decorators apply from the bottom up
        for one in reversed(options):
            function = one(function)
        return function

    return add
