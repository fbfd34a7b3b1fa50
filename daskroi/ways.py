"""Which way an image gets to the regions: as it is, fused into weights, or voxel by voxel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daskroi.atlas import Atlas, load_atlas
from daskroi.errors import DaskroiError
from daskroi.grid import Grid
from daskroi.kernels import REDUCERS
from daskroi.maps import MapsAtlas
from daskroi.operators import Operator, Part, Voxelwise
from daskroi.placement import Placement
from daskroi.recipe import Recipe
from daskroi.smoothing import Smoothing
from daskroi.spheres import SphereAtlas
from daskroi.urls import StorageOptions
from daskroi.weights import TAIL

if TYPE_CHECKING:
    from daskroi.placement import AnyAtlas

__all__ = [
    "check_soft",
    "clips",
    "named_atlases",
    "part_of",
    "solves",
    "spatial_attrs",
    "way_of",
]

# of what nilearn's fetchers return for one atlas; a dict with other keys is one of several atlases
BUNCH = {"maps", "rois", "labels", "lut", "description", "template", "atlas_type", "networks"}


def named_atlases(
    given: Any, storage_options: Mapping[str, Any] | None = None
) -> tuple[dict[str, AnyAtlas], bool]:
    """Load one atlas, or a dict of several; and which of both it was.

    Raises
    ------
    DaskroiError
        An empty dict, or as `load_atlas`.
    """
    options = dict(StorageOptions(storage_options)) or None
    if not isinstance(given, Mapping) or _is_bunch(given):
        return {"": load_atlas(given, storage_options=options)}, False
    if not given:
        raise DaskroiError("atlas is an empty dict: nothing to extract. Give at least one atlas.")
    return {name: load_atlas(one, storage_options=options) for name, one in given.items()}, True


def _is_bunch(given: Mapping[str, Any]) -> bool:
    if not {"maps", "rois"} & set(given):
        return False
    # "maps" may be the name of somebody's atlas
    loaded = any(isinstance(v, Atlas | MapsAtlas | SphereAtlas) for v in given.values())
    return "description" in given or (set(given) <= BUNCH and not loaded)


def solves(atlas: AnyAtlas, recipe: Recipe) -> bool:
    """Whether its values are least squares on all of its maps."""
    return recipe.maps_method == "lstsq" and isinstance(atlas, MapsAtlas)


def check_soft(atlases: Iterable[AnyAtlas], recipe: Recipe) -> None:
    """Refuse what cannot be made of maps.

    Raises
    ------
    DaskroiError
        Least squares without maps, or where voxels are left out; a strategy other than mean and sum
        for maps; a weighted mean with weights below 0.
    """
    soft = [a for a in atlases if isinstance(a, MapsAtlas)]
    if recipe.maps_method == "lstsq":
        if not soft:
            raise DaskroiError(
                "maps_method='lstsq' is for an atlas of maps (a 4D image), and none was given. "
                "Leave it 'mean'."
            )
        if recipe.strategy != "mean":
            raise DaskroiError(
                f"maps_method='lstsq' is instead of a strategy, and strategy={recipe.strategy!r} "
                "was given. Leave it 'mean', or use maps_method='mean'."
            )
        if recipe.nan_policy == "omit":
            raise DaskroiError(
                "maps_method='lstsq' solves for all voxels at once and cannot leave some out of "
                "some frames. Use nan_policy='zero' or 'propagate', or maps_method='mean'."
            )
    for atlas in soft:
        name = atlas.source or atlas.name
        if not REDUCERS[recipe.strategy].linear:
            raise DaskroiError(
                f"{name}: strategy={recipe.strategy!r} of weighted voxels is not defined. "
                "Use 'mean' or 'sum' for an atlas of maps."
            )
        weights = atlas.index.weights
        negative = weights is not None and bool((weights < 0).any())
        if negative and recipe.strategy == "mean" and recipe.maps_method == "mean":
            raise DaskroiError(
                f"{name}: maps have values below 0, so there is no weighted mean. "
                "Use maps_method='lstsq' (nilearn's NiftiMapsMasker) or strategy='sum'."
            )


def part_of(placement: Placement, grid: Grid, recipe: Recipe) -> Part:
    """Regions of one atlas, with the resampling and smoothing that a recipe asks for.

    Parameters
    ----------
    placement : Placement
    grid : Grid
        Of the image.
    recipe : Recipe
    """
    resampling = placement.resampling
    home = grid if resampling is None else resampling.target
    return Part(
        placement.index, resampling, Smoothing.of(recipe.smoothing_fwhm, home), placement.hidden
    )


def way_of(parts: Sequence[Part], recipe: Recipe, floating: bool) -> str:
    """Choose "direct", "fused" or "voxelwise".

    Fused where that gives the same numbers: mean and sum are linear in the voxels, and so are
    resampling and smoothing, but for nilearn's clipping and for a NaN that shall spread.

    Parameters
    ----------
    parts : sequence of Part
    recipe : Recipe
    floating : bool
        Whether the image is stored as floats, so that there may be NaN.

    Raises
    ------
    DaskroiError
        ``spatial="fused"`` was asked for and cannot be.
    """
    if all(p.idle for p in parts):
        return "direct"
    resampled = any(p.resampling is not None for p in parts)
    obstacle = ""
    if not REDUCERS[recipe.strategy].linear:
        obstacle = f"strategy={recipe.strategy!r} is not linear"
    elif recipe.resampling_clip and resampled:
        obstacle = "resampling_clip=True is not linear"
    elif recipe.nan_policy == "propagate" and floating:
        obstacle = "nan_policy='propagate' needs every voxel on its own"
    if recipe.spatial == "fused" and obstacle:
        raise DaskroiError(
            f"spatial='fused': {obstacle}, so resampling and smoothing cannot be folded into "
            "weights. Use spatial='auto'."
        )
    return "voxelwise" if obstacle or recipe.spatial == "voxelwise" else "fused"


def clips(parts: Sequence[Part], recipe: Recipe, way: str) -> bool:
    """Whether resampled values are clipped to the run's extremes, as nilearn does."""
    if way != "voxelwise" or all(p.resampling is None for p in parts):
        return False
    if recipe.resampling_clip is not None:
        return recipe.resampling_clip
    # of means and sums, what could not be fused has the numbers it would have if it could: a policy
    # for NaN must not change what has none, nor the type that an image is stored in
    return recipe.spatial == "voxelwise" or not REDUCERS[recipe.strategy].linear


def spatial_attrs(placement: Placement, way: str, operator: Operator) -> dict[str, str | float]:
    """What was done to the image before regions were averaged, as attributes of the result."""
    said: dict[str, str | float] = {"spatial": way}
    if way == "fused":
        said["spatial_bound"] = TAIL
    if placement.resampling is not None:
        clipped = isinstance(operator, Voxelwise) and operator.clip
        said["image_resampled"] = f"cubic spline, {'clipped' if clipped else 'not clipped'}"
    return said
