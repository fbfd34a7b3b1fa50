"""`NiftiLabelsMasker`: nilearn's constructor and methods over `daskroi.extract`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from daskroi.columns import RegionColumns, as_frame, split_signals
from daskroi.errors import DaskroiError, DaskroiTypeError, brief, check_choice, warn
from daskroi.estimator import DaskroiNotFittedError, Estimator, describe
from daskroi.fitted import FittedAtlas, without_absent
from daskroi.imagelists import ImageList, series_of
from daskroi.placement import load_mask
from daskroi.recipe import Recipe
from daskroi.reporting import Reporting

if TYPE_CHECKING:
    import nibabel as nib
    import pandas as pd
    import xarray as xr


__all__ = ["DaskroiNotFittedError", "NiftiLabelsMasker"]

# what `extract` takes for cleaning and the constructor does not have
CLEAN_ARGS = ("filter", "extrapolate", "ensure_finite", "runs")


class NiftiLabelsMasker(RegionColumns, Reporting, Estimator):
    """Region time series from images and a label atlas, with nilearn's interface.

    The parameters, and with two exceptions their defaults and numbers, are those of nilearn 0.14.1.
    The exceptions: ``transform`` returns a lazy, labelled DataArray, and ``keep_masked_labels`` is
    True. Anything not in nilearn's interface (several atlases from one read, ``nan_policy``,
    ``min_coverage``) is in `daskroi.extract`.

    Parameters
    ----------
    labels_img : path, nibabel image, DataArray, Atlas or nilearn Bunch
        The atlas: one whole number per voxel.
    labels : list of str, optional
        Region names, by position over the sorted ids in the image; "Background" may be among them.
        Extra names are dropped and missing ones are "unknown", with a warning. Not with ``lut``.
    lut : path or DataFrame, optional
        Label table with ``index`` and ``name``, joined by id. Rows whose id the image does not have
        are no columns; they are named in a warning. Without ``labels`` and ``lut``, a table beside
        the image file is used (``X_dseg.tsv`` for ``X.nii.gz``), else ids are names.
    background_label : int
        Label of voxels in no region.
    mask_img : path, nibabel image or DataArray, optional
        Voxels that count, on any grid.
    smoothing_fwhm : float, 3 floats along (x, y, z), "fast", or None
        Full width at half maximum in mm of the Gaussian that images are smoothed with, before
        regions are averaged; "fast" is nilearn's 7-point kernel. 0 is none, with a warning.
    standardize : {False, None, True, "zscore_sample", "psc"}
        True is "zscore_sample".
    standardize_confounds : bool
        z-score confounds before regressing them out.
    high_variance_confounds : bool
        Regress out 5 components of the 2 % of voxels with the highest variance.
    detrend : bool
        Remove mean and linear trend, from confounds as well.
    low_pass, high_pass : float, optional
        Cutoffs in Hz.
    t_r : float, optional
        Seconds between volumes; from the JSON sidecar or the header if not given.
    dtype : {None, "auto", "float32", "float64"}
        None: float32 for a float32 image, else float64. "auto": float32.
    resampling_target : {"data", "labels", None}
        "data": atlas and mask are brought to the image's grid, by nearest neighbour, from their own
        grids every time. "labels": mask and images (cubic splines) to the atlas's; voxels outside
        the image are 0 and count. nilearn clips splines to the run's range, as do we but for mean
        and sum (to 0.4 % on a real run; see `extract`'s ``resampling_clip``). None: as they are.
    memory, memory_level
        Accepted, and not needed: series are lazy and small, nothing is cached. To keep a result,
        ``compute()`` it once or write it (``to_netcdf``, ``to_zarr``).
    verbose : int
        Above 0, a line is printed per step.
    strategy : {"mean", "sum", "median", "minimum", "maximum", "standard_deviation", "variance"}
        What is made of a region's voxels.
    keep_masked_labels : bool
        Regions that resampling, mask or field of view has left without a voxel: True keeps each as
        a column of 0, so that every run has the same columns; False drops their columns. Both name
        them in a warning. nilearn's default is False; its True keeps what the mask has emptied.
    reports : bool
        Whether `generate_report` has anything to show.
    cmap : optional
        Kept for nilearn scripts; regions have the colours of the label table, or a palette.
    clean_args : dict, optional
        ``filter``, ``extrapolate``, ``ensure_finite``, ``runs``, ``butterworth__order`` …, see
        `daskroi.clean`.

    Attributes
    ----------
    labels_img_, mask_img_ : Nifti1Image
        Atlas (int32, or int64 if labels need it) and mask (uint8, or None) on the grid of the
        fitted image; on the atlas's, if that is the target or ``fit`` had no image.
    lut_ : DataFrame
        Label table of the atlas's image, the background first.
    labels_ : list of int
        ``lut_["index"]`` of the columns, the background included if the image has it.
    n_elements_ : int
        Number of columns, as fitted.
    region_names_, region_ids_ : dict
        Name and label id of each column; ``region_ids_["background"]`` is the background label.
    region_atlas_ : Nifti1Image
        Labels in the mask, on the grid of the image last fitted or transformed (the first of a
        list), or on the atlas's if that is the target. All that ``transform`` changes: what else
        belongs to one image is on its result.
    clean_args_, memory_
        As given; an empty dict for no ``clean_args``.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> masker = dr.NiftiLabelsMasker(run.atlas, standardize="zscore_sample")
    >>> signals = masker.fit_transform(run.image)
    >>> signals.dims, signals.shape
    (('time', 'region'), (20, 4))
    >>> masker.inverse_transform(signals).shape
    (12, 14, 12, 20)
    """

    def __init__(
        self,
        labels_img: Any = None,
        labels: Any = None,
        lut: Any = None,
        background_label: int = 0,
        mask_img: Any = None,
        smoothing_fwhm: Any = None,
        standardize: Any = False,
        standardize_confounds: bool = True,
        high_variance_confounds: bool = False,
        detrend: bool = False,
        low_pass: float | None = None,
        high_pass: float | None = None,
        t_r: float | None = None,
        dtype: Any = None,
        resampling_target: str | None = "data",
        memory: Any = None,
        memory_level: int = 1,
        verbose: int = 0,
        strategy: str = "mean",
        keep_masked_labels: bool = True,
        reports: bool = True,
        cmap: Any = None,
        clean_args: Mapping[str, Any] | None = None,
    ) -> None:
        self.labels_img = labels_img
        self.labels = labels
        self.lut = lut
        self.background_label = background_label
        self.mask_img = mask_img
        self.smoothing_fwhm = smoothing_fwhm
        self.standardize = standardize
        self.standardize_confounds = standardize_confounds
        self.high_variance_confounds = high_variance_confounds
        self.detrend = detrend
        self.low_pass = low_pass
        self.high_pass = high_pass
        self.t_r = t_r
        self.dtype = dtype
        self.resampling_target = resampling_target
        self.memory = memory
        self.memory_level = memory_level
        self.verbose = verbose
        self.strategy = strategy
        self.keep_masked_labels = keep_masked_labels
        self.reports = reports
        self.cmap = cmap
        self.clean_args = clean_args

    def fit(self, imgs: Any = None, y: Any = None) -> Self:
        """Read the atlas and the mask, check all parameters, and bring both to the image's grid.

        Parameters
        ----------
        imgs : path, nibabel image or DataArray, or list of these, optional
            Only headers are read. Of a list, the first image's grid counts, and a region is lost if
            no image has it. Without one, the atlas stays on its own grid; ``transform`` takes any
            image all the same.
        y : None
            For scikit-learn.

        Returns
        -------
        self

        Raises
        ------
        DaskroiError
            A bad parameter, atlas or mask; atlas, mask and image do not overlap.

        Warns
        -----
        DaskroiWarning
            Rows of the label table that the atlas's image does not have; ``memory`` given;
            ``smoothing_fwhm`` is 0.
        """
        from daskroi.atlas import load_label_atlas

        self._check_parameters()
        # joblib's Memory(location=None) caches nothing either
        if getattr(self.memory, "location", self.memory) is not None:
            warn(
                f"memory={describe(self.memory)}: nothing is cached, for results are lazy. To keep "
                "one, compute() it once, or write it with to_netcdf or to_zarr."
            )
        self._say("fit", f"Loading regions from {describe(self.labels_img)}")
        if self.labels_img is None:
            raise DaskroiError("labels_img is None. Give a label image, its path, or an Atlas.")
        atlas = without_absent(
            load_label_atlas(self.labels_img, self.lut, self.labels, self.background_label)
        )
        mask = None if self.mask_img is None else load_mask(self.mask_img)
        images = None if imgs is None else ImageList.open(imgs)
        grids = [atlas.grid] if images is None else [grid for grid, _ in images.groups]
        fitted = FittedAtlas.of(atlas, grids, mask, resampling_target=self.resampling_target)
        self._say("fit", f"Placed regions on {fitted.grid.describe()}")

        # nothing above may leave a half-fitted masker behind
        self._fitted, self._mask = fitted, mask
        self._image_name = "" if images is None else images.title or "in memory"
        self._shown = None if images is None else images.images[0]
        self._region_grid = None if images is None else fitted.grid
        self.labels_img_ = fitted.labels_image()
        self.mask_img_ = fitted.mask_image()
        self.lut_ = fitted.look_up_table()
        self.clean_args_ = dict(self.clean_args or {})
        self.memory_ = self.memory
        self._say("fit", "Finished fit")
        return self

    def transform(
        self, imgs: Any, confounds: Any = None, sample_mask: Any = None
    ) -> xr.DataArray | pd.DataFrame | list[Any]:
        """Extract region time series from one image, or from each of a list.

        Parameters
        ----------
        imgs : path, nibabel image or DataArray; list or tuple of these; or path with wildcards
            A run, or one volume. A list of volumes (3D) is one series, as in nilearn; a list of
            runs (4D) gives a list of series. Each image is on a grid of its own, unless
            ``resampling_target`` is None. Wildcards stand for the sorted list of what matches.
        confounds : array (time, confound), DataFrame, CSV or TSV path, or a list of these
            Of full length, also with ``sample_mask``. For runs, a list with an entry for each. What
            `load_confounds` returns also censors the frames that its strategy leaves out.
        sample_mask : bool array (time,) or int array, optional
            Frames to keep. For runs, a list with an entry for each.

        Returns
        -------
        DataArray, dims (time, region), or (region,) for one volume; or a list of these
            Lazy, with the coordinates and attributes of `daskroi.extract`, and one region axis for
            all images. Volumes are counted along time in the order of the list and have the
            coordinate ``image``; ``n_voxels`` and ``coverage`` are the worst image's. After
            ``set_output(transform="pandas")`` computed DataFrames: frame numbers × region names.

        Raises
        ------
        DaskroiNotFittedError
            ``fit`` was not called.
        DaskroiError
            As `daskroi.extract`; an empty list; volumes and runs in one; not one entry per run.

        Warns
        -----
        DaskroiWarning
            Regions without a voxel in image and mask, by name: columns of 0, or dropped. Those that
            only some images of a list lack are 0 there (of volumes, before cleaning).
        """
        fitted = self._get_fitted()
        images = ImageList.open(imgs)
        self._say("transform", f"Extracting region signals from {describe(imgs)}")
        options = self._options() | self.clean_args_
        fwhm = options["smoothing_fwhm"]
        if not isinstance(fwhm, str) and fwhm is not None and not np.any(fwhm):
            options["smoothing_fwhm"] = None  # fit has warned that it is 0
        found = series_of(
            images,
            fitted.atlas,
            self._mask,
            options,
            confounds=confounds,
            sample_mask=sample_mask,
            keep=self.keep_masked_labels,
        )
        on_atlas = self.resampling_target == "labels"
        self._region_grid = fitted.atlas.grid if on_atlas else images.groups[0][0]
        results = [as_frame(*pair) if self._output == "pandas" else pair[0] for pair in found]
        return results if images.kind == "runs" else results[0]

    def transform_single_imgs(
        self, imgs: Any, confounds: Any = None, sample_mask: Any = None
    ) -> xr.DataArray | pd.DataFrame | list[Any]:
        """nilearn's name of `transform` for one image."""
        return self.transform(imgs, confounds, sample_mask)

    def fit_transform(
        self, imgs: Any, y: Any = None, confounds: Any = None, sample_mask: Any = None
    ) -> xr.DataArray | pd.DataFrame | list[Any]:
        """Call `fit` on images and `transform` them."""
        return self.fit(imgs).transform(imgs, confounds=confounds, sample_mask=sample_mask)

    def inverse_transform(self, signals: Any) -> nib.Nifti1Image:
        """Paint region values into voxels: each voxel gets the value of its region.

        Parameters
        ----------
        signals : DataArray, DataFrame or array, dims (time, region) or (region,)
            A DataArray with a ``region`` coordinate is joined by label id, and regions it does not
            have are 0. All else has one column for each of ``region_ids_``, in that order; a
            DataFrame of one row counts as one volume.

        Returns
        -------
        Nifti1Image, dims (x, y, z, time), or (x, y, z) for one volume
            On the grid of ``labels_img_``; 0 outside regions and mask. Columns of regions without
            a voxel there have no place to go. NaN stays NaN. dtype of ``signals``, or ``dtype`` if
            that was set. In memory and as large as a run: select frames first if that is too much.

        Raises
        ------
        DaskroiError
            Wrong number of columns, or ids the atlas does not have.
        """
        fitted = self._get_fitted()
        self._say("inverse_transform", "Computing image from signals")
        ids, values = split_signals(signals, self._column_ids())
        if self.dtype is not None:
            values = values.astype(np.float32 if self.dtype == "auto" else self.dtype)
        elif values.dtype == bool:
            values = values.astype(np.int32)
        return fitted.paint(values, ids)

    @property
    def region_atlas_(self) -> nib.Nifti1Image:
        """Labels in the mask, on the grid of the image last fitted or transformed."""
        fitted = self._get_fitted()
        if self._region_grid is None:
            raise DaskroiNotFittedError(
                "region_atlas_ is the atlas on an image's grid, and there was no image yet. "
                "Call fit or transform with one."
            )
        if self._region_grid != fitted.grid:
            fitted = FittedAtlas.of(fitted.atlas, [self._region_grid], self._mask)
        return fitted.region_image()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    def _get_fitted(self) -> FittedAtlas:
        if not self.__sklearn_is_fitted__():
            raise DaskroiNotFittedError(
                f"This {type(self).__name__} has not been fitted yet. Call fit first."
            )
        return self._fitted

    def _say(self, method: str, message: str) -> None:
        if self.verbose > 0:
            print(f"[{type(self).__name__}.{method}] {message}", flush=True)

    def _options(self) -> dict[str, Any]:
        """Parameters that `daskroi.extract` has under the same name."""
        own = (
            "labels_img labels lut background_label mask_img memory memory_level verbose "
            "keep_masked_labels reports cmap clean_args"
        )
        return {k: v for k, v in self.get_params().items() if k not in own.split()}

    def _check_parameters(self) -> None:
        if not isinstance(self.verbose, int | np.integer):
            raise DaskroiTypeError(f"verbose={brief(self.verbose)} is not a whole number. Use 0.")
        for name in ("keep_masked_labels", "reports"):
            check_choice(name, getattr(self, name), (True, False))
        given = self.clean_args
        if given is not None and not isinstance(given, Mapping):
            raise DaskroiTypeError(f"clean_args is a {type(given).__name__}. Give a dict or None.")
        given = dict(given or {})
        for name in given:
            if name not in CLEAN_ARGS and not str(name).startswith("butterworth__"):
                raise DaskroiError(
                    f"clean_args has {name!r}, which does not belong there. Use some of: "
                    f"{', '.join(CLEAN_ARGS)}, butterworth__order …; or parameters of the masker."
                )
        given.pop("runs", None)
        Recipe.make(**self._options(), **given)
