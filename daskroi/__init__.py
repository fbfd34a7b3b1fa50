"""Region time series from fMRI images, out of core, on Dask.

>>> import daskroi as dr
>>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
>>> dr.extract(run.image, run.atlas).dims
('time', 'region')
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Names load their module when first used: `import daskroi` and `daskroi --help` stay instant
# (dask.array and xarray take 0.7 s).
_HOMES = {
    "Atlas": "atlas",
    "ConfoundRecipe": "confoundrecipe",
    "Confounds": "fmriprep",
    "DaskroiError": "errors",
    "DaskroiWarning": "errors",
    "Grid": "grid",
    "MapsAtlas": "maps",
    "NiftiLabelsMasker": "masker",
    "Recipe": "recipe",
    "Report": "reportpage",
    "SphereAtlas": "spheres",
    "TangentSpace": "tangent",
    "build_cohort_zarr": "group",
    "cohort_index": "cohortreport",
    "cohort_reports": "cohortreport",
    "build_index": "openimage",
    "clean": "clean",
    "connect": "cluster",
    "connectome": "connectome",
    "convert": "convert",
    "describe_runs": "cohort",
    "extract": "extract",
    "extract_cohort": "batch",
    "find_runs": "cohort",
    "grid_of": "image",
    "high_variance_confounds": "highvariance",
    "load_atlas": "atlas",
    "load_confounds": "fmriprep",
    "make_image": "image",
    "make_phantom": "phantom",
    "mean_connectome": "connectome",
    "open_image": "openimage",
    "read_relmat": "relmat",
    "read_timeseries": "readback",
    "report": "report",
    "resample": "spatial",
    "smooth": "spatial",
    "sym_matrix_to_vec": "connectome",
    "to_nifti": "tonifti",
    "to_zarr": "zarrwrite",
    "vec_to_sym_matrix": "connectome",
    "write_phantom": "phantomfiles",
    "write_relmat": "relmat",
}

_MODULES = ("datasets", "plot")
# what is no function of images, and wants no xarray
_LIGHT = {
    "ConfoundRecipe",
    "DaskroiError",
    "DaskroiWarning",
    "Grid",
    "Recipe",
    "connect",
    "describe_runs",
    "find_runs",
}

__all__ = [
    "Atlas",
    "ConfoundRecipe",
    "Confounds",
    "DaskroiError",
    "DaskroiWarning",
    "Grid",
    "MapsAtlas",
    "NiftiLabelsMasker",
    "Recipe",
    "Report",
    "SphereAtlas",
    "TangentSpace",
    "__version__",
    "build_cohort_zarr",
    "build_index",
    "clean",
    "cohort_index",
    "cohort_reports",
    "connect",
    "connectome",
    "convert",
    "datasets",
    "describe_runs",
    "extract",
    "extract_cohort",
    "find_runs",
    "grid_of",
    "high_variance_confounds",
    "load_atlas",
    "load_confounds",
    "make_image",
    "make_phantom",
    "mean_connectome",
    "open_image",
    "plot",
    "read_relmat",
    "read_timeseries",
    "report",
    "resample",
    "smooth",
    "sym_matrix_to_vec",
    "to_nifti",
    "to_zarr",
    "vec_to_sym_matrix",
    "write_phantom",
    "write_relmat",
]

if TYPE_CHECKING:
    from daskroi import datasets, plot
    from daskroi.atlas import Atlas, load_atlas
    from daskroi.batch import extract_cohort
    from daskroi.clean import clean
    from daskroi.cluster import connect
    from daskroi.cohort import describe_runs, find_runs
    from daskroi.cohortreport import cohort_index, cohort_reports
    from daskroi.confoundrecipe import ConfoundRecipe
    from daskroi.connectome import (
        connectome,
        mean_connectome,
        sym_matrix_to_vec,
        vec_to_sym_matrix,
    )
    from daskroi.convert import convert
    from daskroi.errors import DaskroiError, DaskroiWarning
    from daskroi.extract import extract
    from daskroi.fmriprep import Confounds, load_confounds
    from daskroi.grid import Grid
    from daskroi.group import build_cohort_zarr
    from daskroi.highvariance import high_variance_confounds
    from daskroi.image import grid_of, make_image
    from daskroi.maps import MapsAtlas
    from daskroi.masker import NiftiLabelsMasker
    from daskroi.openimage import build_index, open_image
    from daskroi.phantom import make_phantom
    from daskroi.phantomfiles import write_phantom
    from daskroi.readback import read_timeseries
    from daskroi.recipe import Recipe
    from daskroi.relmat import read_relmat, write_relmat
    from daskroi.report import report
    from daskroi.reportpage import Report
    from daskroi.spatial import resample, smooth
    from daskroi.spheres import SphereAtlas
    from daskroi.tangent import TangentSpace
    from daskroi.tonifti import to_nifti
    from daskroi.zarrwrite import to_zarr


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"daskroi.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'daskroi' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"daskroi.{_HOMES[name]}"), name)
    globals()[name] = value
    if name not in _LIGHT:
        importlib.import_module("daskroi.accessor")  # registers `.roi`
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Keeps `daskroi.extract` the function, although the import system would bind the module.

    `from daskroi.extract import Recipe` goes by sys.modules and does not notice.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _HOMES):
            super().__setattr__(name, value)
        if name == "backend":  # xarray looks for an engine, and was imported after us
            importlib.import_module("daskroi.accessor")

    def __reduce__(self) -> tuple[Any, ...]:
        # cloudpickle knows modules by their exact type: a function of a notebook that uses
        # `daskroi` goes to workers with it
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package
if "xarray" in sys.modules:
    importlib.import_module("daskroi.accessor")
