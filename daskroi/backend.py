"""xarray's engine "nifti": a shim over our readers, loaded with all engines to guess one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

if TYPE_CHECKING:
    from daskroi.imagefile import ImageFile

__all__ = ["NiftiBackend"]


class NiftiBackend(BackendEntrypoint):
    """Open images in xarray: ``xr.open_dataset("bold.nii.gz", engine="nifti", chunks={})``.

    The dataset has one variable, ``image``, with the values, coordinates and attributes that
    `open_image` gives. Without ``chunks`` it reads what is indexed, when it is; with ``chunks={}``
    it is a Dask array in the chunks that are read best. ``storage_options`` are for URLs.

    Examples
    --------
    >>> import daskroi as dr, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = dr.write_phantom(folder, dr.make_phantom((8, 9, 7), 10, n_regions=4))
    ...     xr.open_dataset(paths["image"], engine=NiftiBackend).image[3, ::-1].values.shape
    (8, 9, 7)
    """

    description = "NIfTI images (.nii, .nii.gz, .nii.zarr), as daskroi reads them"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "storage_options")

    def open_dataset(
        self, filename_or_obj: Any, *, drop_variables: Any = None, storage_options: Any = None
    ) -> xr.Dataset:
        from daskroi.image import make_image
        from daskroi.lazyimage import default_chunks
        from daskroi.openimage import as_file

        file: Any = as_file(os.fspath(filename_or_obj), storage_options)
        voxels, attrs = _Voxels(file), {"source": file.url}
        values = indexing.LazilyIndexedArray(voxels)
        t_r, source = file.repetition.seconds, file.repetition.source
        image = make_image(values, file.grid, t_r=t_r, t_r_source=source, attrs=attrs)
        best = {} if file.n_time is None else default_chunks(file)
        chunks = {str(d): min(best.get(d, n), n) for d, n in image.sizes.items()}
        image.encoding = {**attrs, "preferred_chunks": chunks}
        drop = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
        dataset = image.to_dataset(name="image").drop_vars(drop, errors="ignore")
        dataset.set_close(voxels.close)
        dataset.encoding = attrs.copy()  # xarray would put the URL with its credentials
        return dataset

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        from daskroi.urls import shown

        return shown(str(filename_or_obj)).rstrip("/").endswith((".nii", ".nii.gz", ".nii.zarr"))


class _Voxels(BackendArray):
    def __init__(self, file: ImageFile) -> None:
        # the file is what `layer_file` looks for: what is untouched can be streamed
        self.file, self.shape, self.dtype = file, file.shape, file.value_dtype

    def close(self) -> None:
        """Nothing: files are open only while they are read. xarray wants something to call."""

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        if not isinstance(key, indexing.VectorizedIndexer):
            return self._read(key.tuple)
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        picked = [np.arange(n)[k] for n, k in zip(self.shape, key, strict=True)]
        shape = [n for p in picked for n in p.shape]
        if 0 in shape:
            return np.empty(shape, self.dtype)
        picked = [np.zeros(1, int)] * (4 - len(picked)) + [np.atleast_1d(p) for p in picked]
        frames, again = np.unique(picked[0], return_inverse=True)
        z, y, x = (slice(int(p.min()), int(p.max()) + 1) for p in picked[1:])
        parts = []
        # frames with others in between are read each for itself
        for run in np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1):
            part = self.file.read_box((slice(int(run[0]), int(run[-1]) + 1), z, y, x))
            for axis, p in enumerate(picked[1:], 1):
                part = part if (np.diff(p) == 1).all() else part.take(p - p.min(), axis)
            if self.file.scaled:
                part = part * np.float64(self.file.slope) + np.float64(self.file.inter)
            parts.append(np.asarray(part, self.dtype))
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return (values if (np.diff(picked[0]) == 1).all() else values[again]).reshape(shape)
