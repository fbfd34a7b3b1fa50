"""Lists of images: volumes that make one series together, or runs that make one each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.columns import keep_or_drop, name_lost, zero_lost
from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.grid import Grid
from daskroi.placement import lost_regions_unsaid

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    from daskroi.atlas import Atlas
    from daskroi.placement import Mask

__all__ = ["ImageList", "series_of"]

# what is done to every image; the rest is cleaning, which needs all of a series
SPATIAL = ("strategy", "smoothing_fwhm", "resampling_target")


@dataclass(frozen=True, eq=False)
class ImageList:
    """What a masker was given: one image, volumes of one series, or runs.

    Parameters
    ----------
    images : tuple of DataArray
        As `open_image` returns them.
    names : tuple of str
        Path of each; "image 3" for one in memory, counted from 0.
    kind : {"image", "volumes", "runs"}
    """

    images: tuple[xr.DataArray, ...]
    names: tuple[str, ...]
    kind: str

    @classmethod
    def open(cls, imgs: Any) -> ImageList:
        """Open one image, a list of images, or all files that match a pattern.

        Parameters
        ----------
        imgs : path, nibabel image or DataArray; list or tuple of these; or path with wildcards
            In a list, either all have one volume (3D, or 4D with one frame) or all are 4D. A path
            with ``*``, ``?`` or ``[]`` that is no file itself is the sorted list of what matches.

        Raises
        ------
        DaskroiError
            An empty list; volumes and runs in one list; as `open_image`.
        DaskroiNotFoundError
            Nothing matches.

        Examples
        --------
        >>> import daskroi as dr
        >>> run = dr.make_phantom((9, 11, 9), 4, n_regions=4).image
        >>> images = ImageList.open([run.isel(time=2), run.isel(time=0)])
        >>> images.kind, images.names
        ('volumes', ('image 0', 'image 1'))
        """
        from daskroi.openimage import open_image

        imgs = _matching(imgs)
        several = isinstance(imgs, list | tuple)
        if several and not len(imgs):
            raise DaskroiError(
                f"imgs is an empty {type(imgs).__name__}: there is nothing to extract. "
                "Give at least one image."
            )
        images = tuple(open_image(i) for i in (imgs if several else [imgs]))
        names = tuple(str(im.attrs.get("source", f"image {i}")) for i, im in enumerate(images))
        return cls(images, names, _kind(images, names) if several else "image")

    @property
    def groups(self) -> list[tuple[Grid, list[int]]]:
        """Every grid there is, in order, and the positions of the images on it."""
        from daskroi.image import grid_of

        found: list[tuple[Grid, list[int]]] = []
        for i, image in enumerate(self.images):
            grid = grid_of(image)
            same = next((members for g, members in found if g.same_as(grid)), None)
            if same is None:
                found.append((grid, [i]))
            else:
                same.append(i)
        return found

    @property
    def title(self) -> str:
        """All of it in a few words, for reports and attributes; "" for one image in memory."""
        first = str(self.images[0].attrs.get("source", ""))
        if self.kind == "image":
            return first
        return f"{len(self.images)} {self.kind}, the first: {self.names[0]}"


def _matching(imgs: Any) -> Any:
    if not isinstance(imgs, str | os.PathLike):
        return imgs
    pattern = os.fspath(imgs)
    if "://" in pattern or not any(c in pattern for c in "*?[") or os.path.exists(pattern):
        return imgs
    if not (found := sorted(glob(os.path.expanduser(pattern)))):
        raise DaskroiNotFoundError(
            f"{pattern}: no file matches this pattern. Check folder and wildcards."
        )
    return found


def _kind(images: Sequence[xr.DataArray], names: Sequence[str]) -> str:
    frames = [image.sizes.get("time", 1) for image in images]
    # as in nilearn, a 4D image of one frame is a volume where all have one
    if max(frames) == 1:
        return "volumes"
    flat = next((i for i, image in enumerate(images) if "time" not in image.dims), None)
    if flat is None:
        return "runs"
    long = int(np.argmax(frames))
    raise DaskroiError(
        f"imgs holds volumes and runs: {names[flat]} has 1 volume, {names[long]} has "
        f"{frames[long]}. Give volumes, which make one series, or runs, which make one each."
    )


def series_of(
    images: ImageList,
    atlas: Atlas,
    mask: Mask | None,
    options: Mapping[str, Any],
    *,
    confounds: Any = None,
    sample_mask: Any = None,
    keep: bool = True,
) -> list[tuple[xr.DataArray, NDArray[np.intp]]]:
    """Region series of every run, each image on its own grid; one region axis for all.

    Parameters
    ----------
    images : ImageList
    atlas : Atlas
    mask : Mask, optional
    options : dict
        Keywords of `daskroi.extract`.
    confounds, sample_mask
        As in `daskroi.extract`; for runs, lists with one entry per run.
    keep : bool
        Keep regions that no image has, as columns of 0, or drop them.

    Returns
    -------
    list of (DataArray, int array)
        A series, lazy, dims (time, region) or (region,) for one 3D image, and the frames it has,
        for every run; one pair otherwise. Regions that only some images have are 0 where they are
        missing; in volumes, before cleaning. Series of volumes have the coordinate ``image`` along
        time; their ``n_voxels`` and ``coverage`` are those of the worst image.

    Raises
    ------
    DaskroiError
        As `daskroi.extract`; not one entry per run; high-variance confounds of volumes on
        different grids.

    Warns
    -----
    DaskroiWarning
        Regions that all or some images lack, by name.
    """
    from daskroi.extract import extract

    n = len(images.images)
    one_each = images.kind == "runs"
    nuisance = _each("confounds", confounds, n) if one_each else [confounds]
    masks = _each("sample_mask", sample_mask, n) if one_each else [sample_mask]
    runs = options.get("runs")
    if images.kind == "volumes":
        series, gone = _one_series(images, atlas, mask, options, confounds, sample_mask, keep)
        frames = _frames(n, confounds, sample_mask, runs)
        names = np.array(images.names, dtype=object)[frames]
        series = series.assign_coords(image=("time", names)).assign_attrs(source=images.title)
        return [(keep_or_drop(series, gone, keep), frames)]
    found: list[Any] = []
    with lost_regions_unsaid():
        for image, own, censored in zip(images.images, nuisance, masks, strict=True):
            found.append(
                extract(image, atlas, mask_img=mask, confounds=own, sample_mask=censored, **options)
            )
    gone = name_lost(found, images.names, keep)
    pairs = []
    for series, image, own, censored in zip(found, images.images, nuisance, masks, strict=True):
        frames = _frames(image.sizes.get("time", 1), own, censored, runs)
        pairs.append((keep_or_drop(zero_lost(series), gone, keep), frames))
    return pairs


def _frames(n_time: int, confounds: Any, sample_mask: Any, runs: Any) -> NDArray[np.intp]:
    """Frame of each row of the series."""
    from daskroi.censor import kept_frames
    from daskroi.nuisance import kept_mask

    return kept_frames(n_time, kept_mask(confounds, sample_mask, n_time, runs), runs)


def _each(name: str, given: Any, n: int) -> list[Any]:
    """One entry for each of n runs."""
    if given is None:
        return [None] * n
    if not isinstance(given, list | tuple):
        raise DaskroiError(
            f"{name} is one {type(given).__name__} for a list of {n} runs. "
            "Give a list with one entry per run, None for none."
        )
    if len(given) != n:
        raise DaskroiError(
            f"{name} has {len(given)} entries for {n} runs. Give one per run, None for none."
        )
    return list(given)


def _one_series(
    images: ImageList,
    atlas: Atlas,
    mask: Mask | None,
    options: Mapping[str, Any],
    confounds: Any,
    sample_mask: Any,
    keep: bool,
) -> tuple[xr.DataArray, NDArray[np.bool_]]:
    """Volumes as one series, cleaned as a whole, and which regions no volume has."""
    from daskroi.extract import extract

    _warn_about_templates(images, atlas)
    groups = images.groups
    with lost_regions_unsaid():
        if len(groups) == 1:
            grid, members = groups[0]
            run = _stacked(images, members, grid)
            series: Any = extract(
                run, atlas, mask_img=mask, confounds=confounds, sample_mask=sample_mask, **options
            )
            return series, name_lost([series], images.names, keep)
        if options.get("high_variance_confounds"):
            raise DaskroiError(
                "high_variance_confounds=True follows voxels through time, and the volumes are on "
                f"{len(groups)} grids: {groups[0][0].describe()}; {groups[1][0].describe()}. "
                "Bring them to one, or leave it False."
            )
        spatial = {name: options[name] for name in SPATIAL if name in options}
        parts: list[Any] = [
            extract(
                _stacked(images, members, grid), atlas, mask_img=mask, dtype="float64", **spatial
            )
            for grid, members in groups
        ]
    # of every volume, in order: its part and its row there
    place = {i: (g, k) for g, (_, members) in enumerate(groups) for k, i in enumerate(members)}
    places = [place[i] for i in range(len(place))]
    gone = name_lost([parts[g] for g, _ in places], images.names, keep)
    series = _joined([zero_lost(p, but=gone) for p in parts], places)
    return _cleaned(series, images, options, confounds, sample_mask), gone


def _stacked(images: ImageList, members: Sequence[int], grid: Grid) -> xr.DataArray:
    """Volumes on one grid as one lazy run, (time, z, y, x)."""
    import dask.array as da

    from daskroi.image import make_image

    volumes = [images.images[i] for i in members]
    arrays = [v.isel(time=0).data if "time" in v.dims else v.data for v in volumes]
    # int16 and float32 together would be float32, and the result with them
    if len({a.dtype.newbyteorder("=") for a in arrays}) > 1:
        arrays = [a.astype(np.float64) for a in arrays]
    return make_image(da.stack([_as_dask(a) for a in arrays]), grid)


def _as_dask(array: Any) -> da.Array:
    import dask.array as da

    return array if isinstance(array, da.Array) else da.from_array(array)


def _joined(parts: Sequence[xr.DataArray], places: Sequence[tuple[int, int]]) -> xr.DataArray:
    """Rows of several results in the order of ``places``, (result, row)."""
    import dask.array as da
    import xarray as xr

    rows = da.concatenate([parts[g].data[k : k + 1] for g, k in places])
    first = parts[0]
    worst = {
        "n_voxels": np.min([p.coords["n_voxels"].values for p in parts], axis=0),
        "coverage": da.stack([p.coords["coverage"].data for p in parts]).min(axis=0),
    }
    same = {name: first.coords[name] for name in ("region", "region_name", "size_mm3")}
    coords = same | {name: ("region", values) for name, values in worst.items()}
    attrs: dict[str, Any] = {}
    for part in parts:
        attrs |= part.attrs
    # "direct" for volumes that are on the atlas's grid, "fused" for the others
    attrs["spatial"] = ", ".join(dict.fromkeys(p.attrs["spatial"] for p in parts))
    return xr.DataArray(rows, coords, ("time", "region"), name=first.name, attrs=attrs)


def _cleaned(
    series: xr.DataArray,
    images: ImageList,
    options: Mapping[str, Any],
    confounds: Any,
    sample_mask: Any,
) -> xr.DataArray:
    """What `daskroi.extract` does after the regions, on a series that it did not make itself."""
    from daskroi.clean import clean
    from daskroi.image import time_coordinate
    from daskroi.nuisance import nuisance_of
    from daskroi.recipe import Recipe
    from daskroi.repetition import RepetitionTime
    from daskroi.steps import CleanSteps

    runs = options.get("runs")
    recipe = Recipe.make(**{k: v for k, v in options.items() if k != "runs"})
    given = RepetitionTime(recipe.t_r, "argument")
    series = series.assign_coords(time=time_coordinate(len(images.images), given))
    steps = recipe.steps(recipe.t_r)
    nuisance = nuisance_of(series, recipe, confounds, None, sample_mask, runs)
    found, keep = nuisance.arrays or None, nuisance.sample_mask
    if steps != CleanSteps(t_r=recipe.t_r) or found is not None or keep is not None:
        series = clean(series, steps, confounds=found, sample_mask=keep, runs=runs)
    single = all(i.dtype.newbyteorder("=") == np.float32 for i in images.images)
    dtype = recipe.dtype or ("float32" if single else "float64")
    said = {"recipe": recipe.as_json()} | nuisance.said
    return series.astype("float32" if dtype == "auto" else dtype).assign_attrs(said)


def _warn_about_templates(images: ImageList, atlas: Atlas) -> None:
    """Once for every template that the paths name; `daskroi.extract` sees no paths here."""
    from daskroi.templates import template_of, warn_if_templates_differ

    # the first path of each: later entries of a dict overwrite earlier ones
    for template, name in {template_of(n): n for n in reversed(images.names)}.items():
        warn_if_templates_differ(atlas.template, template, atlas.source or atlas.name, name)
