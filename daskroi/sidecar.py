"""The JSON beside region time series: what was done, to what, when the rows are, by what."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

import daskroi
from daskroi.errors import DaskroiError, DaskroiNotFoundError
from daskroi.jsontext import from_json
from daskroi.localfile import check_link
from daskroi.paths import child_of, name_of
from daskroi.remote import identify
from daskroi.rowtimes import timing_of
from daskroi.targets import as_target, read_text
from daskroi.urls import StorageOptions, is_url, local_path, same_file, shown

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "NUMERICS",
    "Told",
    "attributes_in",
    "changed",
    "check_no_input",
    "fingerprints",
    "identity_of",
    "input_in",
    "read_sidecar",
    "sidecar_of",
    "to_json",
    "told",
]

# raised by one whenever the numbers of a result change by more than rounding: results that older
# code made are then made again. A new release that changes none leaves them as they are
NUMERICS = 2

# of version 3 and 2
ZARR_DOCUMENTS = ("zarr.json", ".zattrs")

# attributes of a result, and what BIDS-like JSON calls them
SPATIAL = {
    "spatial": "Method",
    "spatial_bound": "RelativeErrorBound",
    "image_resampled": "ImageResampling",
}

# what must be the same for a result to be up to date, and what users call it
IDENTITY = {
    "Inputs": "input files",
    "Atlas": "atlas",
    "Recipe": "recipe",
    "Confounds": "confounds",
    "RepetitionTime": "repetition time",
    "StartTime": "frames",
    "VolumeTiming": "frames",
    "KeptFrames": "frames",
    "Denoising": "confounds",
    "NumericsVersion": "version of the numbers",
}


def identity_of(
    result: xr.DataArray,
    inputs: Mapping[str, Any] | None = None,
    n_frames: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The part of the sidecar that is known before a voxel is read, and settles all numbers.

    Parameters
    ----------
    result : DataArray, dims (time, region) or (region,)
        May be lazy.
    inputs : mapping of str to path, list of paths, or None
        Files the result depends on, by what they are.
    n_frames : int, optional
        Frames of the run before censoring.
    storage_options : mapping, optional
        For the URLs among ``inputs``.

    Raises
    ------
    DaskroiNotFoundError
        One of ``inputs`` is not there.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> identity = identity_of(dr.extract(run.image, run.atlas, sample_mask=[4, 5, 6]))
    >>> identity["RepetitionTime"], identity["StartTime"], identity["KeptFrames"]
    (2.0, 8.0, [4, 5, 6])
    """
    attrs = result.attrs
    return {
        **timing_of(result, n_frames),
        "Atlas": {"Name": attrs.get("atlas", ""), "SHA256": attrs.get("atlas_hash", "")},
        "Recipe": json.loads(attrs.get("recipe", "{}")),
        "Confounds": json.loads(attrs.get("confounds", "[]")),
        "Inputs": fingerprints(inputs or {}, storage_options),
        "NumericsVersion": NUMERICS,
    }


def attributes_in(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    """What `daskroi.extract` says in attributes, as far as a sidecar has it.

    Examples
    --------
    >>> attributes_in({"Recipe": {"strategy": "mean"}, "Spatial": {"Method": "direct"}})["spatial"]
    'direct'
    """
    recipe, atlas = sidecar["Recipe"], sidecar.get("Atlas", {})
    said = {
        "strategy": recipe.get("strategy", ""),
        "recipe": json.dumps(recipe),
        "source": input_in(sidecar, "image"),
        "atlas": atlas.get("Name", ""),
        "atlas_hash": atlas.get("SHA256", ""),
        "atlas_source": input_in(sidecar, "atlas"),
        "mask": input_in(sidecar, "mask"),
        "daskroi_version": sidecar.get("SoftwareVersions", {}).get("daskroi", ""),
        "confounds": json.dumps(sidecar.get("Confounds", [])),
    }
    spatial = sidecar.get("Spatial", {})
    return said | {ours: spatial[key] for ours, key in SPATIAL.items() if key in spatial}


def input_in(sidecar: Mapping[str, Any], role: str) -> str:
    """Path of an input file that a sidecar names, else nothing; of several, the first."""
    files = sidecar.get("Inputs", {}).get(role) or [{}]
    return str(files[0].get("Path", ""))


def fingerprints(
    inputs: Mapping[str, Any], storage_options: Mapping[str, Any] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Path, size and version of input files, by what they are; no file is opened.

    Raises
    ------
    DaskroiNotFoundError
        One is not there.

    Examples
    --------
    >>> fingerprints({"image": "gone.nii"})
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiNotFoundError: ...gone.nii: cannot be found (No such file or directory)...
    """
    given = {role: _listed(paths) for role, paths in inputs.items() if paths is not None}
    options = StorageOptions(storage_options)
    return {role: [_fingerprint(p, options) for p in paths] for role, paths in given.items()}


def check_no_input(written: Iterable[Any], inputs: Mapping[str, Any]) -> None:
    """Refuse to write a result onto a file that it is made of.

    Examples
    --------
    >>> check_no_input(["out/a_timeseries.tsv"], {"confounds": ["out/../out/a_timeseries.tsv"]})
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiError: out/a_timeseries.tsv: is an input, and a result would replace ...
    """
    given = [path for paths in inputs.values() if paths is not None for path in _listed(paths)]
    for path in map(str, written):
        if any(same_file(path, str(one)) for one in given):
            raise DaskroiError(
                f"{shown(path)}: is an input, and a result would replace it. Give another folder "
                "for the results (--output)."
            )


def sidecar_of(
    result: xr.DataArray,
    inputs: Mapping[str, Any] | None = None,
    n_frames: int | None = None,
    sources: Sequence[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole sidecar of a computed result; see `daskroi.store.write_run`.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> sidecar_of(dr.extract(run.image, run.atlas).compute())["Regions"]["coverage"]
    [1.0, 1.0, 1.0, 1.0]
    """
    identity = identity_of(result, inputs, n_frames, storage_options)
    coords = result.coords
    files = [file["Path"] for files in identity["Inputs"].values() for file in files]
    return {
        **identity,
        "Spatial": _spatial(result.attrs, identity["Recipe"]),
        "Sources": files if sources is None else list(sources),
        "DataType": result.dtype.name,
        "Regions": {
            "index": [int(i) for i in coords["region"].values],
            "name": [str(n) for n in coords["region_name"].values],
            "n_voxels": [int(n) for n in coords["n_voxels"].values],
            "size_mm3": [_number(s) for s in coords["size_mm3"].values],
            "coverage": [_number(c) for c in coords["coverage"].values],
        },
        "GeneratedBy": [{"Name": "daskroi", "Version": daskroi.__version__}],
        "SoftwareVersions": {"daskroi": daskroi.__version__}
        | _versions(("numpy", "scipy", "dask", "xarray", "nibabel")),
    }


def _spatial(attrs: Mapping[Any, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What was done to the image before regions were averaged: a consequence of the identity."""
    found = {key: attrs.get(ours) for ours, key in SPATIAL.items()}
    found["SmoothingFWHM"] = recipe.get("smoothing_fwhm")
    return {key: value for key, value in found.items() if value is not None}


def changed(
    there: Mapping[str, Any], identity: Mapping[str, Any], *, part: bool = False
) -> list[str]:
    """In what a sidecar differs from the identity a result would have; empty if in nothing.

    With ``part``, only what the identity has is compared.

    Examples
    --------
    >>> changed({"Recipe": {"strategy": "mean"}}, {"Recipe": {"strategy": "median"}})
    ['recipe']
    """
    # by way of JSON: tuples become lists there
    here = json.loads(to_json(dict(identity)))
    keys = [k for k in IDENTITY if k in here or not part]
    return list(dict.fromkeys(IDENTITY[k] for k in keys if there.get(k) != here.get(k)))


def read_sidecar(path: Any) -> dict[str, Any]:
    """Read a JSON sidecar, of a path or URL.

    Raises
    ------
    DaskroiNotFoundError
        No such file.
    DaskroiError
        Not a JSON object.

    Examples
    --------
    >>> read_sidecar("nowhere.json")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiNotFoundError: nowhere.json: no such file. Check the path.
    """
    path = as_target(path)
    name = shown(str(path))
    try:
        found = from_json(read_text(path))
    except FileNotFoundError:
        raise DaskroiNotFoundError(f"{name}: no such file. Check the path.") from None
    except DaskroiError:
        raise
    except (OSError, ValueError) as error:
        raise DaskroiError(f"{name}: cannot be read as JSON ({error}). Make it again.") from error
    if not isinstance(found, dict):
        raise DaskroiError(f"{name}: is not a sidecar, which is a JSON object.")
    return found


@dataclass(frozen=True)
class Told:
    """What users are told of a result first.

    Parameters
    ----------
    frames, kept : int
        Of the run (1 of a single volume); those not censored.
    lost : int
        Regions without a voxel.
    lowest : float
        Lowest coverage of a region.
    where : str
        Name of that region.
    """

    frames: int
    kept: int
    lost: int
    lowest: float
    where: str


def told(sidecar: Mapping[str, Any]) -> Told:
    """What a sidecar tells of its result; of one that somebody edited, any error may come.

    Examples
    --------
    >>> told({"NumberOfFrames": 9, "KeptFrames": [0, 2],
    ...       "Regions": {"name": ["V1", "V2"], "coverage": [0.75, None]}})
    Told(frames=9, kept=2, lost=1, lowest=0.0, where='V2')
    """
    frames = sidecar.get("NumberOfFrames", 1)
    kept = len(sidecar["KeptFrames"]) if "KeptFrames" in sidecar else frames
    regions = sidecar["Regions"]
    coverage = [c or 0.0 for c in regions["coverage"]]  # NaN was written as null
    named = zip(coverage, map(str, regions["name"]), strict=True)
    lowest, where = min(named, default=(1.0, ""))
    return Told(frames, kept, coverage.count(0.0), lowest, where)


def to_json(value: Any, indent: str = "\n") -> str:
    """JSON, an entry per line, but lists of plain values on one: 400 regions stay readable.

    Examples
    --------
    >>> print(to_json({"KeptFrames": [0, 1, 3]}))
    {
      "KeptFrames": [0, 1, 3]
    }
    """
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        entries = (f"{json.dumps(str(k))}: {to_json(v, deeper)}" for k, v in value.items())
        return "{" + deeper + ("," + deeper).join(entries) + indent + "}"
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return "[" + deeper + ("," + deeper).join(to_json(v, deeper) for v in value) + indent + "]"
    # NaN is no JSON, and most readers refuse it
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [given]


def _fingerprint(path: Any, options: StorageOptions) -> dict[str, Any]:
    """Which file, and which state of it."""
    text = local_path(str(path))
    # a Zarr store is a folder; what is written last in it is its metadata
    for document in ZARR_DOCUMENTS if name_of(text).endswith(".zarr") else ():
        with suppress(DaskroiNotFoundError):
            return _fingerprint(child_of(text, document), options) | {"Path": shown(text)}
    if is_url(text):
        size, version = identify(text, options)
        return {"Path": shown(text), "Size": size, "Version": version}
    text = os.path.abspath(os.path.expanduser(text))
    try:
        stat = os.stat(text)
    except (OSError, ValueError) as error:  # the latter of a NUL in it
        if isinstance(error, FileNotFoundError):
            check_link(text)
        raise DaskroiNotFoundError(
            f"{text}: cannot be found ({getattr(error, 'strerror', error)}). Check the path."
        ) from error
    modified = datetime.fromtimestamp(stat.st_mtime, UTC).isoformat()
    return {"Path": text, "Size": stat.st_size, "ModificationTime": modified}


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        # a package that was put on the path by hand has no metadata, and need not have
        with suppress(metadata.PackageNotFoundError):
            found[package] = _version(package)
    return found


@lru_cache
def _version(package: str) -> str:
    return metadata.version(package)  # 5 ms each: it parses a mail header


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
