"""An atlas and a mask on one grid, as what nilearn's users know: nibabel images and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, warn
from daskroi.grid import Grid, resample_nearest
from daskroi.placement import Mask, Placement, list_regions, lost_regions_unsaid, place

if TYPE_CHECKING:
    import nibabel as nib
    import pandas as pd

    from daskroi.atlas import Atlas

__all__ = [
    "FittedAtlas",
    "nifti_image",
    "without_absent",
]


def without_absent(atlas: Atlas) -> Atlas:
    """The atlas without table rows whose id its image does not have; a warning names them.

    `daskroi.extract` keeps them, for its region axis is the table's. A masker's columns are the
    labels of the image, as in nilearn.
    """
    there = atlas.table["n_voxels"] > 0
    if there.all():
        return atlas
    gone = atlas.table[~there]
    warn(
        f"{atlas.source or atlas.name}: {len(gone)} regions of the label table are not in the "
        f"image and have no column: {list_regions(gone['index'], gone['name'])}."
    )
    return replace(atlas, table=atlas.table[there].reset_index(drop=True))


def nifti_image(values: NDArray[Any], grid: Grid) -> nib.Nifti1Image:
    """Voxels with dims (z, y, x) or (time, z, y, x) as a nibabel image; shares memory."""
    import nibabel as nib

    # a dtype said aloud: nibabel refuses 64-bit integers otherwise
    return nib.Nifti1Image(values.T, grid.matrix, dtype=values.dtype)


@dataclass(frozen=True, eq=False)
class FittedAtlas:
    """An atlas and a mask, brought to one grid.

    Parameters
    ----------
    atlas : Atlas
        On its own grid.
    grid : Grid
        The grid they were brought to.
    labels : int array, dims (z, y, x)
        The atlas's labels on ``grid``, unmasked.
    mask : bool array, dims (z, y, x), or None
        On ``grid``.
    placement : Placement
        Voxels of each region on ``grid`` and in the mask, whether an image sees them or not.
    lost : bool array, (region,)
        Regions of which no image has a voxel in the mask.

    Examples
    --------
    >>> import daskroi as dr
    >>> atlas = dr.make_phantom((9, 11, 9), 2, n_regions=4).atlas
    >>> fitted = FittedAtlas.of(atlas, [atlas.grid])
    >>> list(fitted.region_table().columns)
    ['label value', 'region name', 'size (in mm^3)', 'relative size (in %)']
    """

    atlas: Atlas
    grid: Grid
    labels: NDArray[Any]
    mask: NDArray[np.bool_] | None
    placement: Placement
    lost: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        atlas: Atlas,
        grids: Sequence[Grid],
        mask: Mask | None = None,
        *,
        resampling_target: str | None = "data",
    ) -> FittedAtlas:
        """Bring an atlas and a mask to the grid of the first image, or to the atlas's.

        Parameters
        ----------
        atlas : Atlas
        grids : sequence of Grid
            Of all images, each once; the atlas's own where there is no image.
        mask : Mask, optional
        resampling_target : {"data", "labels", None}
            The first image's grid, the atlas's, or one that all must have already.

        Raises
        ------
        DaskroiError
            Grids differ and ``resampling_target`` is None, or an image has no region.
        """
        home = atlas.grid if resampling_target == "labels" else grids[0]
        with lost_regions_unsaid():
            placements = [place(atlas, grid, mask, target=resampling_target) for grid in grids]
            at_home = placements[0]
            if at_home.resampling is not None:
                at_home = place(atlas, home, mask)
        labels = resample_nearest(atlas.labels, atlas.grid, home, fill=atlas.background_label)
        lost = np.logical_and.reduce([p.lost for p in placements])
        return cls(atlas, home, labels, None if mask is None else mask.on(home), at_home, lost)

    def labels_image(self) -> nib.Nifti1Image:
        """Labels on the grid, int32 (int64 where they need it)."""
        return nifti_image(self.labels, self.grid)

    def mask_image(self) -> nib.Nifti1Image | None:
        """Mask on the grid, uint8; None without a mask."""
        return None if self.mask is None else nifti_image(self.mask.view(np.uint8), self.grid)

    def region_image(self) -> nib.Nifti1Image:
        """Labels on the grid and in the mask; background elsewhere. int32 or int64."""
        if self.mask is None:
            return self.labels_image()
        background = self.labels.dtype.type(self.atlas.background_label)
        return nifti_image(np.where(self.mask, self.labels, background), self.grid)

    def look_up_table(self) -> pd.DataFrame:
        """Label table as nilearn has it: ``index``, ``name``, then what else the atlas's had.

        The background comes first, named "Background", if the atlas's image has any.
        """
        import pandas as pd

        table = self.atlas.table.drop(
            columns=["n_voxels", "size_mm3", "relative_size_percent"], errors="ignore"
        )
        background = self.atlas.background_label
        if not (self.atlas.labels == background).any():
            return table
        first = pd.DataFrame({"index": [background], "name": ["Background"]})
        return pd.concat([first, table], ignore_index=True)

    def region_table(self) -> pd.DataFrame:
        """Sizes on the grid, unmasked; columns and rounding are those of nilearn's report."""
        import pandas as pd

        counts = [int(n) for n in self.placement.on_grid]
        volume, total = self.grid.voxel_volume, sum(counts)
        return pd.DataFrame(
            {
                "label value": self.atlas.ids,
                "region name": self.atlas.names,
                "size (in mm^3)": [round(n * volume) for n in counts],
                "relative size (in %)": [round(n / total * 100, 2) for n in counts],
            }
        )

    def paint(self, values: NDArray[Any], ids: NDArray[np.int64]) -> nib.Nifti1Image:
        """Give every voxel of a region, inside the mask, the region's value; 0 elsewhere.

        Parameters
        ----------
        values : array, dims (time, region) or (region,)
        ids : int array, (region,)
            Label ids of the columns, in any order. Regions of the atlas that are not here are 0.

        Returns
        -------
        Nifti1Image, dims (x, y, z, time) or (x, y, z)
            Same dtype as ``values``.

        Raises
        ------
        DaskroiError
            Ids the atlas does not have.
        """
        known = self.atlas.ids
        if unknown := sorted(set(ids.tolist()) - set(known.tolist())):
            raise DaskroiError(
                f"signals has regions {unknown}, which {self.atlas.name} does not have. "
                "Select the regions of this atlas."
            )
        columns = np.zeros((*values.shape[:-1], len(known)), values.dtype)
        columns[..., np.searchsorted(known, ids)] = values
        index = self.placement.index
        region = np.repeat(np.arange(index.n_regions), index.counts)
        out = np.zeros((*values.shape[:-1], self.grid.size), values.dtype)
        out[..., index.voxels] = columns[..., region]
        return nifti_image(out.reshape(*values.shape[:-1], *self.grid.shape), self.grid)
