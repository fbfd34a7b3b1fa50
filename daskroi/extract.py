"""Region time series of one run: the whole flow in one function.

bytes → slabs → region operator → (time, region) → clean → labelled DataArray. Everything is lazy:
header, atlas, mask and confounds are read here, voxels only in ``compute``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.errors import DaskroiError
from daskroi.image import TIME, grid_of
from daskroi.leastsquares import least_squares
from daskroi.nuisance import Nuisance, nuisance_of
from daskroi.operators import operator_of
from daskroi.placement import Placement, coverage, load_mask, place
from daskroi.recipe import Recipe
from daskroi.timing import run_times
from daskroi.ways import (
    check_soft,
    clips,
    named_atlases,
    part_of,
    solves,
    spatial_attrs,
    way_of,
)

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    from daskroi.imagefile import ImageFile
    from daskroi.operators import Operator
    from daskroi.placement import AnyAtlas

__all__ = ["extract"]

# a negative slope turns the order of stored values round
MIRRORED = {"minimum": "maximum", "maximum": "minimum"}


def extract(
    image: Any,
    atlas: Any,
    *,
    mask_img: Any = None,
    strategy: str = "mean",
    confounds: Any = None,
    columns: Any = None,
    sample_mask: Any = None,
    runs: Any = None,
    standardize: str | bool | None = None,
    standardize_confounds: bool = True,
    high_variance_confounds: bool = False,
    detrend: bool = False,
    low_pass: float | None = None,
    high_pass: float | None = None,
    t_r: float | None = None,
    filter: str | bool = "butterworth",
    smoothing_fwhm: Any = None,
    resampling_target: str | None = "data",
    dtype: Any = None,
    nan_policy: str = "zero",
    min_coverage: float | None = None,
    spatial: str = "auto",
    resampling_clip: bool | None = None,
    maps_method: str = "mean",
    plan: str = "auto",
    chunks: Any = "auto",
    storage_options: Mapping[str, Any] | None = None,
    **clean_args: Any,
) -> xr.DataArray | dict[str, xr.DataArray]:
    """Extract region time series from one run.

    Parameters
    ----------
    image : path, URL, nibabel image or DataArray
        The run, (time, z, y, x), or one volume; see `open_image`.
    atlas : Atlas, or anything `load_atlas` takes, or dict of name → these
        Labels, maps (weighted voxels) or spheres. A dict gives a dict of results from one read of
        the image.
    mask_img : path, URL, nibabel image or DataArray, optional
        Voxels that count, on any grid (brought to the image's by nearest neighbour).
    strategy : {"mean", "sum", "median", "minimum", "maximum", "standard_deviation", "variance"}
        What is made of a region's voxels in every frame, accumulated in double. Mean, sum, minimum
        and maximum cost nothing next to reading; median sorts.
    confounds : array (time, confound), DataFrame, CSV or TSV path or URL, or a list of these
        Regressed out. Full length of the run, also when frames are censored. What
        `load_confounds` returns also censors the frames that its strategy leaves out.
    columns : list of str, optional
        Which columns of named confounds, wildcards allowed (``"trans_*"``). All if not given.
    sample_mask : bool array (time,) or int array, optional
        Frames to keep; the result has only these, with their times.
    runs : int array (time,), optional
        Run of every frame, if several were concatenated; each is cleaned alone. ``sample_mask`` is
        then a list, one per run.
    standardize : {None, "zscore_sample", "psc"}
        z-scores with ddof 1, percent signal change, or the image's own units.
    standardize_confounds : bool
        z-score confounds first. Without it and without ``detrend``, the mean is regressed out too
        wherever confounds have one.
    high_variance_confounds : bool
        Add 5 components of the 2 % of voxels with the highest variance; reads the image twice more.
    detrend : bool
        Remove mean and linear trend, from confounds as well.
    low_pass, high_pass : float, optional
        Cutoffs in Hz.
    t_r : float, optional
        Seconds between volumes. From the JSON sidecar or the header if not given; a value that
        disagrees with these wins, with a warning.
    filter : {"butterworth", "cosine", False}
    smoothing_fwhm : float, 3 floats along (x, y, z), "fast", or None
        Full width at half maximum in mm of a Gaussian; "fast" is nilearn's 7-point kernel.
    resampling_target : {"data", "labels", None}
        "data" brings atlas and mask to the image's grid, by nearest neighbour (maps: linear).
        "labels" brings image and mask to the atlas's, by cubic splines; where the image ends, a
        region's voxels are 0 and count, as in nilearn. None: they must be there already.
    dtype : {None, "auto", "float32", "float64"}
        None: float32 for a float32 image, else float64. "auto": float32.
    nan_policy : {"zero", "omit", "propagate"}
        What a NaN or infinite voxel is: a 0 that counts (as in nilearn), not there (smoothing then
        averages over what is there), or NaN for its region in that frame. Resampling fills holes
        from around them and puts them back, as in nilearn.
    min_coverage : float, optional
        Regions covered less than this fraction become NaN; None, as for ``daskroi extract``: all
        stay. ``daskroi bids`` has 0.5.
    spatial : {"auto", "fused", "voxelwise"}
        How images are resampled and smoothed. "fused" folds it into one sparse product per frame,
        for "mean" and "sum": the numbers are those of "voxelwise", every frame resampled and
        smoothed but not clipped, to 1e-9 of the image's largest value. "auto" is fused where it
        can be; attribute ``spatial`` says which was taken ("direct": nothing to do). A frame with a
        hole in or near the regions cannot be resampled by weights and goes voxel by voxel all the
        same.
    resampling_clip : bool, optional
        Clip resampled values to [min(0, min), max(0, max)] of the run, as nilearn does. That reads
        the image twice and cannot be fused. None: clip where "voxelwise" was asked for, or the
        strategy is neither "mean" nor "sum".
    maps_method : {"mean", "lstsq"}
        Of an atlas of maps: weighted means, or least squares on all maps together, which is
        nilearn's ``NiftiMapsMasker``.
    plan : {"auto", "stream", "blocks"}
        "stream" is one task per run, for files that only read front to back (``.nii.gz``);
        "blocks" one per chunk, for everything else. Both give the same numbers.
    chunks : "auto", int, tuple or dict
        Of a path or nibabel image, in the blocks plan; see `open_image`.
    storage_options : mapping, optional
        For fsspec, wherever image, atlas, mask or confounds are URLs.
    **clean_args
        ``extrapolate``, ``ensure_finite``, ``butterworth__order`` …; see `daskroi.clean`.

    Returns
    -------
    DataArray, dims (time, region), or (region,) for a 3D image; or a dict of these
        Lazy. ``region`` is the label id, ascending: every row of the atlas's table, whatever the
        image covers; a lost region is NaN and named in a warning. ``time`` in s. Along region:
        ``region_name``, ``n_voxels`` (on the grid that is used, in the mask), ``coverage``
        (fraction of the region's volume, of maps their weight whatever its sign, that is in the
        image, in the mask and, in its worst frame, finite) and ``size_mm3``. Attributes say what
        was done.

    Raises
    ------
    DaskroiError
        Bad input of any kind; the message names the culprit and the remedy. What only the voxels
        can tell (truncated or corrupt data) is raised by ``compute``.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> ts = dr.extract(run.image, run.atlas, detrend=True, standardize="zscore_sample")
    >>> ts.dims, ts.sizes["time"], float(ts.std("time", ddof=1).mean().round(6))
    (('time', 'region'), 20, 1.0)
    """
    from daskroi.openimage import as_file, open_run

    recipe = Recipe.make(
        strategy=strategy,
        nan_policy=nan_policy,
        min_coverage=min_coverage,
        resampling_target=resampling_target,
        smoothing_fwhm=smoothing_fwhm,
        resampling_clip=resampling_clip,
        spatial=spatial,
        maps_method=maps_method,
        high_variance_confounds=high_variance_confounds,
        dtype=dtype,
        plan=plan,
        t_r=t_r,
        standardize=standardize,
        standardize_confounds=standardize_confounds,
        detrend=detrend,
        low_pass=low_pass,
        high_pass=high_pass,
        filter=filter,
        **clean_args,
    )
    atlases, several = named_atlases(atlas, storage_options)
    run = open_run(image, chunks, storage_options)
    file = as_file(run)
    grid = grid_of(run)
    mask = None if mask_img is None else load_mask(mask_img, storage_options)
    _warn_about_templates(atlases, run, file)
    check_soft(atlases.values(), recipe)
    omit = recipe.nan_policy == "omit"
    placements = {
        k: place(a, grid, mask, target=recipe.resampling_target, in_view_only=omit)
        for k, a in atlases.items()
    }
    parts = [part_of(p, grid, recipe) for p in placements.values()]
    floating = np.dtype(run.dtype if file is None else file.dtype).kind == "f"
    way = way_of(parts, recipe, floating)
    operator = operator_of(parts, way, clips(parts, recipe, way))

    seconds, times = run_times(recipe, run, file)
    partials, scale = _partials(run, file, operator, way, recipe)
    nuisance = nuisance_of(run, recipe, confounds, columns, sample_mask, runs, storage_options)

    results = {}
    first = 0
    for key, one in atlases.items():
        part = partials[:, :, first : first + len(one.ids)]
        first += len(one.ids)
        series = _labelled(part, one, placements[key], recipe, scale)
        series = series.assign_coords({TIME: times})
        series = _cleaned(series, recipe, seconds, nuisance, runs, run)
        said = _provenance(one, mask, recipe, run, file) | nuisance.said
        results[key] = series.assign_attrs(said | spatial_attrs(placements[key], way, operator))
    return results if several else results[""]


def _partials(
    run: xr.DataArray, file: ImageFile | None, operator: Operator, way: str, recipe: Recipe
) -> tuple[da.Array, tuple[float, float]]:
    """Partials of all atlases at once, and the scaling their results still need."""
    from daskroi import reduce
    from daskroi.lazyimage import lazy_image

    fused, policy = way == "fused", recipe.nan_policy
    plan = recipe.plan
    if plan == "auto":
        plan = "stream" if file is not None and not file.seekable else "blocks"
    if plan == "stream" and file is None:
        raise DaskroiError(
            "plan='stream' needs an image file as it lies on disk; this DataArray was computed "
            "with, or is in memory. Use plan='blocks'."
        )
    if file is None:
        array = reduce.dask_array(run.data if TIME in run.dims else run.data[None])
        part = reduce.block_partials(array, operator, recipe.strategy, policy, fused=fused)
        return part, (1.0, 0.0)
    scale = (file.slope, file.inter)
    # used as they are, integers are reduced as stored and the result is scaled
    after = scale if way == "direct" and np.dtype(file.dtype).kind != "f" else (1.0, 0.0)
    strategy = recipe.strategy
    if after[0] < 0:
        strategy = MIRRORED.get(strategy, strategy)
    if plan == "stream":
        return reduce.stream_partials(file, operator, strategy, policy, fused=fused), after
    stored = lazy_image(file, run.data.chunks, stored=True).data
    stored = stored if stored.ndim == 4 else stored[None]
    return reduce.block_partials(stored, operator, strategy, policy, scale, fused), after


def _labelled(
    partials: da.Array,
    atlas: AnyAtlas,
    placement: Placement,
    recipe: Recipe,
    scale: tuple[float, float],
) -> xr.DataArray:
    """Results of one atlas with names, sizes and coverage; float64, before cleaning."""
    import dask.array as da
    import xarray as xr

    from daskroi import reduce

    if solves(atlas, recipe):
        inverse = least_squares(placement.index, atlas.source or atlas.name)
        values = reduce.solve(partials, inverse, scale)
    else:
        values = reduce.finalize(partials, recipe.strategy, scale, recipe.nan_policy)
    finite = partials[:, -1].min(axis=0)
    covered, again = (
        da.map_blocks(
            coverage,
            finite,
            on_grid=placement.on_grid,
            in_view=placement.in_view,
            dtype=np.float64,
            meta=np.empty(0),
            token=use,
        )
        # twice: Dask 2026.8 fuses away a coordinate that the data need too, and then misses it
        for use in ("coverage", "enough-coverage")
    )
    if recipe.min_coverage is not None:
        values = da.where(again >= recipe.min_coverage, values, np.nan)
    coords = {
        "region": atlas.ids,
        "region_name": ("region", np.array(atlas.names, dtype=object)),
        "n_voxels": ("region", placement.index.counts.astype(np.int64)),
        "coverage": ("region", covered),
        "size_mm3": ("region", atlas.table["size_mm3"].to_numpy(np.float64)),
    }
    return xr.DataArray(values, coords, (TIME, "region"), name="timeseries")


def _cleaned(
    series: xr.DataArray,
    recipe: Recipe,
    t_r: float | None,
    nuisance: Nuisance,
    runs: Any,
    run: xr.DataArray,
) -> xr.DataArray:
    """Clean, cast, and drop the time axis of a single volume."""
    from daskroi.clean import clean
    from daskroi.steps import CleanSteps

    steps = recipe.steps(t_r)
    confounds, sample_mask = nuisance.arrays or None, nuisance.sample_mask
    idle = steps == CleanSteps(t_r=t_r) and confounds is None and sample_mask is None
    if not idle:  # with nothing to clean, chunks of time stay apart
        series = clean(series, steps, confounds=confounds, sample_mask=sample_mask, runs=runs)
    dtype = recipe.dtype or ("float32" if run.dtype.newbyteorder("=") == np.float32 else "float64")
    series = series.astype("float32" if dtype == "auto" else dtype)
    return series if TIME in run.dims else series.isel({TIME: 0}, drop=True)


def _provenance(
    atlas: AnyAtlas,
    mask: Any,
    recipe: Recipe,
    run: xr.DataArray,
    file: ImageFile | None,
) -> dict[str, Any]:
    """Attributes that say what was done; text and numbers only, for NetCDF takes nothing else."""
    import daskroi

    return {
        "strategy": "lstsq" if solves(atlas, recipe) else recipe.strategy,
        "recipe": recipe.as_json(),
        "source": file.url if file is not None else str(run.attrs.get("source", "")),
        "atlas": atlas.name,
        "atlas_hash": atlas.hash,
        "atlas_source": atlas.source or "",
        "mask": "" if mask is None else mask.source,
        "daskroi_version": daskroi.__version__,
    }


def _warn_about_templates(
    atlases: dict[str, AnyAtlas], run: xr.DataArray, file: ImageFile | None
) -> None:
    from daskroi.templates import template_of, warn_if_templates_differ

    url = str(run.attrs.get("source", ""))
    here = template_of(url) or (template_of(file.description) if file is not None else None)
    for atlas in atlases.values():
        warn_if_templates_differ(atlas.template, here, atlas.source or atlas.name, url)
