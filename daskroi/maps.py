"""Probabilistic atlases: a map of weights per region, stored by its non-zero voxels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, some
from daskroi.grid import Grid, centres_inside
from daskroi.labelimage import MapsImage, sparse_maps
from daskroi.regions import RegionIndex
from daskroi.regiontable import RegionAxis, rows_in_order, with_sizes
from daskroi.resampling import Resampling

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MapsAtlas"]


@dataclass(frozen=True, eq=False, repr=False)
class MapsAtlas(RegionAxis):
    """A 4D probabilistic atlas with its region table. Made by `load_atlas`.

    Regions are the volumes of the image, in its order; they may overlap, and weights may be
    negative (maps of an ICA).

    Parameters
    ----------
    name : str
        Short name, for column headers and file names.
    grid : Grid
        Place of the voxels.
    index : RegionIndex
        Non-zero voxels of every map, their values as weights, float64. Values that are not finite
        count as 0. 16 bytes for each non-zero voxel.
    table : DataFrame
        The region axis: one row per map, in the order of the volumes. Columns ``index`` (of the
        label table, else 1, 2, …), ``name``, ``n_voxels`` (where the map is not 0), ``size_mm3``
        (sum of the weights times the volume of a voxel, mm³: what the region amounts to, not the
        extent of its map; negative weights take away), ``relative_size_percent`` (share of the sum
        of all weights' magnitudes, 2 decimals), then what else the label table had.
    source : str or None
        Path or URL of the image.
    template : str or None
        Template the atlas says it is in (see `template_of`).

    Notes
    -----
    Two atlases are equal when their ``hash`` is: same maps, grid, ids and names.

    Examples
    --------
    >>> import numpy as np
    >>> from daskroi import Grid, MapsAtlas
    >>> from daskroi.labelimage import MapsImage
    >>> from daskroi.regions import RegionIndex
    >>> grid = Grid.make((1, 1, 3), np.diag([2.0, 2, 2, 1]))
    >>> index = RegionIndex.of_rows([[0, 1], [1, 2]], grid.shape, [[1.0, 0.5], [0.5, 1.0]])
    >>> atlas = MapsAtlas.make(MapsImage(index, grid, "soft", "soft.nii"), labels=["a", "b"])
    >>> atlas
    <MapsAtlas 'soft': 2 maps, 3 x 1 x 1 voxels of 2 x 2 x 2 mm, origin (0, 0, 0) mm>
    >>> atlas.table
       index name  n_voxels  size_mm3  relative_size_percent
    0      1    a         2      12.0                   50.0
    1      2    b         2      12.0                   50.0
    """

    name: str
    grid: Grid
    index: RegionIndex
    table: pd.DataFrame
    source: str | None = None
    template: str | None = None

    def __post_init__(self) -> None:
        # the hash is kept, so the maps must not change after it
        for array in (self.index.voxels, self.index.bounds, self.index.all_weights):
            array.setflags(write=False)

    @classmethod
    def make(
        cls,
        image: MapsImage,
        lut: Any = None,
        labels: list[str] | None = None,
        *,
        name: str | None = None,
        allow_overlap: bool = True,
        storage_options: dict[str, Any] | None = None,
    ) -> MapsAtlas:
        """Join maps with their names, see `load_atlas`.

        Raises
        ------
        DaskroiError
            No map has a voxel; not as many names as maps; maps overlap and may not.
        """
        index, grid = image.index, image.grid
        if not len(index.voxels):
            raise DaskroiError(
                f"{image.culprit}: all {index.n_regions} maps are 0 everywhere. Check the file."
            )
        culprit = f"maps of {image.culprit}"
        rows = rows_in_order(index.n_regions, lut, labels or [], culprit, storage_options)
        if not allow_overlap and len(index.used) < len(index.voxels):
            shared = np.bincount(index.voxels)[index.voxels] > 1
            maps = rows["name"].to_numpy()[np.unique(index.regions[shared])]
            raise DaskroiError(
                f"{image.culprit}: maps overlap: {some(map(repr, maps.tolist()))}. "
                "Use allow_overlap=True."
            )
        magnitudes = index.sums(np.abs(index.all_weights))
        table = with_sizes(
            rows,
            {
                "n_voxels": index.counts.astype(np.int64),
                # 6 decimals: the determinant of an affine carries rounding
                "size_mm3": [round(float(t) * grid.voxel_volume, 6) for t in index.totals],
                "relative_size_percent": [
                    round(float(m) / float(magnitudes.sum()) * 100, 2) for m in magnitudes
                ],
            },
        )
        return cls(name or image.name, grid, index, table, image.source, image.template)

    def changed(
        self,
        lut: Any = None,
        labels: list[str] | None = None,
        *,
        name: str | None = None,
        allow_overlap: bool = True,
        storage_options: dict[str, Any] | None = None,
    ) -> MapsAtlas:
        """The same maps with other names; itself when nothing changes."""
        if lut is None and not labels:
            if allow_overlap and name in (None, self.name):
                return self
            lut = self.table
        image = MapsImage(self.index, self.grid, self.name, self.name, self.source, self.template)
        return MapsAtlas.make(
            image,
            lut,
            labels,
            name=name,
            allow_overlap=allow_overlap,
            storage_options=storage_options,
        )

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of maps, grid, region ids and names."""
        digest = hashlib.sha256(repr((self.grid, self.names, self.index.token)).encode())
        digest.update(self.ids.astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def summary(self) -> str:
        """One line for people: maps, grid, template."""
        said = (self._counted("map"), self.grid.describe(), self.template)
        return ", ".join(filter(None, said))

    def regions_on(self, grid: Grid) -> RegionIndex:
        """The maps on another grid, by linear interpolation.

        Parameters
        ----------
        grid : Grid
            Of the image.

        Returns
        -------
        RegionIndex
            Weights float64; outside the atlas they are 0. The atlas's own where `Grid.same_as`.

        Notes
        -----
        What nilearn's ``NiftiMapsMasker`` does with ``resampling_target="data"``:
        ``resample_img(maps, …, interpolation="linear")`` with values clipped to the range of all
        maps and 0. nilearn computes maps stored as float32 or integers in float32, this always in
        float64. A volume is resampled after another, so memory stays at a few volumes.

        Examples
        --------
        >>> fine, coarse = (Grid.make((1, 1, n), np.diag([4 / n, 1, 1, 1])) for n in (4, 2))
        >>> index = RegionIndex.of_rows([[0, 2]], fine.shape, [[1.0, 0.5]])
        >>> atlas = MapsAtlas.make(MapsImage(index, fine, "soft", "soft.nii"))
        >>> atlas.regions_on(coarse).all_weights
        array([1. , 0.5])
        """
        if self.grid.same_as(grid):
            return self.index
        weights = self.index.all_weights
        low, high = min(weights.min(), 0.0), max(weights.max(), 0.0)
        linear = Resampling(self.grid, grid, 1)
        nothing = np.zeros(grid.shape)

        def volumes() -> Any:
            volume = np.zeros(self.grid.shape)
            flat = volume.reshape(-1)
            for start, stop in zip(self.index.bounds[:-1], self.index.bounds[1:], strict=True):
                if start == stop:
                    yield nothing
                    continue
                flat[self.index.voxels[start:stop]] = weights[start:stop]
                yield linear.apply(volume).clip(low, high)
                flat[self.index.voxels[start:stop]] = 0

        return sparse_maps(volumes(), grid.shape)

    def in_view(self, grid: Grid) -> NDArray[np.float64]:
        """Fraction of every map that lies in the field of view of a grid.

        Parameters
        ----------
        grid : Grid
            Of the image.

        Returns
        -------
        float64 array, (region,)
            Share of the weights' magnitudes whose voxel's centre lies in a voxel of ``grid``; 0
            for a map without voxels.

        Examples
        --------
        >>> whole, half = (Grid.make((1, 1, n), np.eye(4)) for n in (4, 2))
        >>> index = RegionIndex.of_rows([[0, 3], [0]], whole.shape, [[1.0, 3.0], [1.0]])
        >>> MapsAtlas.make(MapsImage(index, whole, "soft", "soft.nii")).in_view(half)
        array([0.25, 1.  ])
        """
        if self.grid.same_as(grid):
            return (self.index.counts > 0).astype(np.float64)
        magnitudes = np.abs(self.index.all_weights)
        inside = centres_inside(self.index.voxels, self.grid, grid)
        whole = self.index.sums(magnitudes)
        return self.index.sums(magnitudes * inside) / np.where(whole > 0, whole, 1)
