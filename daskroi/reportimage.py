"""The picture of a report: one volume of an image, of which no more is read, and its regions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.atlas import Atlas
from daskroi.grid import Grid, resample_nearest
from daskroi.image import TIME, grid_of, repetition_of
from daskroi.openimage import as_file, open_image
from daskroi.regions import RegionIndex
from daskroi.reportviews import Slices, index_volume
from daskroi.spheres import SphereAtlas

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.imagefile import ImageFile
    from daskroi.placement import AnyAtlas

__all__ = ["Picture", "positions_on", "read_picture", "slices_of"]

# a gzip stream has to be inflated up to the volume that is shown: 0.1 s for this much
PREFIX_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Picture:
    """One volume of an image, and what its header says.

    Parameters
    ----------
    volume : array, dims (z, y, x)
    grid : Grid
    caption : str
    source : str
        Path or URL, without credentials; empty for an image in memory.
    n_frames : int or None
        None for a 3D image.
    t_r : float or None
        Seconds.
    template : str or None
    """

    volume: NDArray[Any]
    grid: Grid
    caption: str
    source: str = ""
    n_frames: int | None = None
    t_r: float | None = None
    template: str | None = None


def read_picture(image: Any, storage_options: Mapping[str, Any] | None = None) -> Picture:
    """Read the volume in the middle of a run, or one near its start where that costs less.

    Parameters
    ----------
    image : path, URL, nibabel image or DataArray
    storage_options : mapping, optional
        For fsspec.

    Raises
    ------
    DaskroiError
        As `daskroi.open_image`.

    Notes
    -----
    Of ``.nii.gz`` without an index, 64 MiB are inflated at most; of everything else one volume is
    read.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=21, n_regions=4)
    >>> picture = read_picture(run.image)
    >>> picture.caption, picture.n_frames, picture.t_r
    ('Frame 10 of 0 to 20', 21, 2.0)
    """
    from daskroi.templates import template_of

    run = open_image(image, storage_options=storage_options)
    file = as_file(run)
    source = str(run.attrs.get("source", ""))
    n_frames = run.sizes.get(TIME)
    frame = _frame(file, n_frames)
    template = template_of(source) or (template_of(file.description) if file is not None else None)
    caption = "" if n_frames is None else f"Frame {frame} of 0 to {n_frames - 1}"
    t_r = repetition_of(run).seconds
    return Picture(
        _volume(run, file, frame), grid_of(run), caption, source, n_frames, t_r, template
    )


def _frame(file: ImageFile | None, n_frames: int | None) -> int:
    if n_frames is None:
        return 0
    middle = n_frames // 2
    if file is None or file.seekable:
        return middle
    return min(middle, max(PREFIX_BYTES // file.frame_bytes - 1, 0))


def _volume(run: xr.DataArray, file: ImageFile | None, frame: int) -> NDArray[Any]:
    if file is None:
        return np.asarray((run.isel({TIME: frame}) if TIME in run.dims else run).data)
    z, y, x = (slice(0, n) for n in file.grid.shape)
    stored = file.read_box((slice(frame, frame + 1), z, y, x))[0]
    values = np.asarray(stored, dtype=stored.dtype.newbyteorder("="))
    return values * file.slope + file.inter if file.scaled else values


def positions_on(atlas: AnyAtlas, grid: Grid) -> NDArray[np.uint16]:
    """Paint an atlas's regions on a grid, by nearest neighbour.

    Returns
    -------
    uint16 array, dims (z, y, x)
        Position on the region axis + 1; of maps, that of the strongest.

    Examples
    --------
    >>> import daskroi as dr
    >>> atlas = dr.make_phantom((12, 14, 12), n_time=2, n_regions=4).atlas
    >>> np.unique(positions_on(atlas, atlas.grid))
    array([0, 1, 2, 3, 4], dtype=uint16)
    """
    if isinstance(atlas, SphereAtlas):
        return index_volume(atlas.regions_on(grid))
    if isinstance(atlas, Atlas):
        own = index_volume(RegionIndex.of_labels(atlas.labels, atlas.ids))
    else:
        # painted first: resampling each of 1,000 maps would take minutes
        own = index_volume(atlas.index)
    return resample_nearest(own, atlas.grid, grid)


def slices_of(atlas: AnyAtlas, picture: Picture | None = None) -> Slices | None:
    """Slices of an atlas, on a picture if there is one; None where there is no grid for them.

    Examples
    --------
    >>> import daskroi as dr
    >>> slices_of(dr.load_atlas([(0, -52, 18)], radius=8)) is None
    True
    """
    grid = atlas.grid if picture is None else picture.grid
    if grid is None:
        return None
    positions = positions_on(atlas, grid)
    if picture is None:
        return Slices.of(positions, grid, len(atlas.ids))
    return Slices.of(positions, grid, len(atlas.ids), picture.volume, picture.caption)
