"""The `.roi` accessor on DataArrays: what this library does with an image, from the image.

Importing this module registers it, which the package does when it meets xarray. It imports nothing
else, so that it can be imported from anywhere.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    from daskroi.grid import Grid

__all__ = ["RoiAccessor"]


class RoiAccessor:
    """What daskroi does with an image: ``image.roi.extract(atlas)``, and so on.

    Images are DataArrays with geometry: from `open_image`, from xarray's engine "nifti"
    (``dataset.image.roi``: a Dataset may hold several, so it has no accessor of its own) or from
    `make_image`. Everything is lazy but `to_nifti` and `to_zarr`.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> run.image.roi.extract(run.atlas, standardize="zscore_sample").sizes["region"]
    4
    >>> run.image.isel(x=slice(None, None, 2)).roi.grid.shape
    (12, 14, 6)
    """

    def __init__(self, image: xr.DataArray) -> None:
        self._image = image

    def __repr__(self) -> str:
        return f"<daskroi accessor of image {self._image.name!r}, {dict(self._image.sizes)}>"

    @property
    def grid(self) -> Grid:
        """Shape and affine of the image, as it is after any slicing; see `grid_of`."""
        from daskroi.image import grid_of

        return grid_of(self._image)

    @property
    def t_r(self) -> float | None:
        """Seconds between volumes; None when not known, or not the same everywhere."""
        from daskroi.image import repetition_of

        return repetition_of(self._image).seconds

    def extract(self, atlas: Any, **options: Any) -> xr.DataArray | dict[str, xr.DataArray]:
        """Region time series; parameters and result of `daskroi.extract`."""
        from daskroi.extract import extract

        return extract(self._image, atlas, **options)

    def resample(self, target: Any, interpolation: str = "continuous", **options: Any) -> Any:
        """The image on another grid; parameters of `daskroi.resample`."""
        from daskroi.spatial import resample

        return resample(self._image, target, interpolation, **options)

    def smooth(self, fwhm: Any) -> xr.DataArray:
        """The image, smoothed by ``fwhm`` mm; see `daskroi.smooth`."""
        from daskroi.spatial import smooth

        return smooth(self._image, fwhm)

    def to_nifti(
        self,
        path: str | os.PathLike[str],
        *,
        dtype: Any = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        """Write to ``.nii`` or ``.nii.gz``, slab by slab; see `daskroi.to_nifti`."""
        from daskroi.tonifti import to_nifti

        to_nifti(self._image, path, dtype=dtype, storage_options=storage_options)

    def to_zarr(self, path: str | os.PathLike[str], **options: Any) -> Any:
        """Write as NIfTI-Zarr, ``.nii.zarr``; parameters of `daskroi.to_zarr`."""
        from daskroi.zarrwrite import to_zarr

        return to_zarr(self._image, path, **options)


# once: xarray warns about a second time, as when this module is reloaded
if getattr(getattr(xr.DataArray, "roi", None), "__module__", None) != __name__:
    xr.register_dataarray_accessor("roi")(RoiAccessor)
