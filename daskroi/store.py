"""One run's results on disk: the tables and the sidecar of a BIDS derivative, all or nothing.

For every atlas three files, named as XCP-D names them::

    <entities>_atlas-<Name>_stat-<strategy>_timeseries.tsv     a row per frame, a column per region
    <entities>_atlas-<Name>_stat-<strategy>_timeseries.json    what was done, to what, by what
    <entities>_atlas-<Name>_stat-coverage_bold.tsv             Node, coverage
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.entities import atlas_label, checked_name
from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.outputs import BROKEN, write_together
from daskroi.paths import run_prefix
from daskroi.sidecar import changed, check_no_input, identity_of, read_sidecar, sidecar_of, to_json
from daskroi.targets import as_target, exists, listed, read_text, size_of
from daskroi.tsv import cells, column_names, table_text

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.targets import Target

__all__ = [
    "Written",
    "differences",
    "output_paths",
    "results_of",
    "run_prefix",
    "write_run",
]

# BIDS labels are alphanumeric; what is not here is written as it is called
STATS = {"minimum": "min", "maximum": "max", "standard_deviation": "std", "variance": "var"}
# bytes of a local table whose checksum is compared: 0.2 ms for 355 kB, 0.9 ms from the disk
MOST_CHECKED = 2 << 20


@dataclass(frozen=True)
class Written:
    """Paths of one run's results for one atlas.

    Parameters
    ----------
    timeseries, coverage, sidecar : pathlib.Path, or upath.UPath where results go to a URL
        In the order in which they come into place.
    """

    timeseries: Target
    coverage: Target
    sidecar: Target

    @property
    def all(self) -> tuple[Target, Target, Target]:
        """All three."""
        return self.timeseries, self.coverage, self.sidecar


def output_paths(
    result: xr.DataArray,
    out: Any,
    prefix: str,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> Written:
    """Where `write_run` puts a result; ``result`` may be lazy.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> ts = dr.extract(run.image, run.atlas, strategy="maximum")
    >>> output_paths(ts, "out", "sub-01_task-rest").timeseries.name
    'sub-01_task-rest_atlas-Phantom_stat-max_timeseries.tsv'
    """
    strategy = str(result.attrs.get("strategy", "mean"))
    atlas = str(result.attrs.get("atlas", ""))
    return named_paths(as_target(out, storage_options), prefix, atlas, strategy)


def named_paths(folder: Target, prefix: str, atlas: str, strategy: str) -> Written:
    """Where results go, by what is known before the image is opened.

    Examples
    --------
    >>> from pathlib import Path
    >>> named_paths(Path("out"), "sub-01", "Harvard-Oxford", "mean").coverage.name
    'sub-01_atlas-HarvardOxford_stat-coverage_bold.tsv'
    """
    label = atlas_label(atlas) or "unnamed"
    base = f"{checked_name('prefix', prefix)}_atlas-{label}_stat-"
    # of a file that somebody else wrote, it may be anything
    name = f"{base}{checked_name('strategy', STATS.get(strategy, strategy))}_timeseries"
    return Written(
        folder / f"{name}.tsv", folder / f"{base}coverage_bold.tsv", folder / f"{name}.json"
    )


def results_of(out: Target, run: str) -> dict[tuple[str, str], Written]:
    """Results of a run that are complete, by atlas and ``stat-``; none where there is no folder.

    ``run`` is a folder below ``out``, and what names begin with.

    Examples
    --------
    >>> from pathlib import Path
    >>> results_of(Path("nowhere"), "sub-01/func/sub-01_task-rest")
    {}
    """
    *parents, prefix = run.split("/")
    if not {"", ".", ".."}.isdisjoint(parents):
        return {}  # runs.tsv may have come with the folder, and lead out of it
    folder = out.joinpath(*parents)
    pattern = rf"{re.escape(prefix)}_atlas-([A-Za-z0-9]+)_stat-([A-Za-z0-9_]+)_timeseries\.json"
    try:
        names = listed(folder) or []
    except (OSError, ValueError) as error:  # the latter of a NUL in a table
        if isinstance(error, DaskroiError):
            raise  # of a server that does not answer nothing is known
        return {}
    return {
        (match[1], match[2]): named_paths(folder, prefix, match[1], match[2])
        for name in names
        if (match := re.fullmatch(pattern, name))
    }


def differences(
    result: xr.DataArray,
    out: Any,
    prefix: str,
    *,
    inputs: Mapping[str, Any] | None = None,
    n_frames: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> list[str] | None:
    """What a result already there was made of otherwise than this one would be.

    Parameters
    ----------
    result : DataArray
        May be lazy: no voxel is needed to know.
    out, prefix, inputs, n_frames, storage_options
        As in `write_run`.

    Returns
    -------
    list of str, or None
        Empty: up to date. None: not there, or not complete.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> differences(dr.extract(run.image, run.atlas), "nowhere", "sub-01") is None
    True
    """
    paths = output_paths(result, out, prefix, storage_options=storage_options)
    if not exists(paths.sidecar):
        return None
    return stale(paths, identity_of(result, inputs, n_frames, storage_options))


def stale(paths: Written, identity: Mapping[str, Any], *, part: bool = False) -> list[str] | None:
    """As `differences`, by the identity that results would have.

    Parameters
    ----------
    paths : Written
    identity : mapping
        Of `daskroi.sidecar.identity_of`.
    part : bool
        The identity is what was known before the image was opened; the rest follows from it.

    Examples
    --------
    >>> from pathlib import Path
    >>> stale(named_paths(Path("nowhere"), "sub-01", "AAL", "mean"), {}) is None
    True
    """
    try:
        there = read_sidecar(paths.sidecar)
        coverage = read_text(paths.coverage)
        found = changed(there, identity, part=part)
        # the other strategies share this file, and their mask may have been another
        if coverage != _coverage_table(there["Regions"]):
            found.append("coverage")
        complete = _as_written(paths.timeseries, there)
    except (DaskroiError, OSError, ValueError, KeyError, TypeError):
        return None  # cut short, or not begun
    return found if complete else None


def _as_written(table: Target, sidecar: Mapping[str, Any]) -> bool:
    """Whether a table is there, neither damaged nor edited. Sidecars of older code say less."""
    size, check = sidecar.get("TimeseriesSize"), sidecar.get("TimeseriesCRC32")
    if size is None:
        return exists(table)
    if size_of(table) != size:
        return False
    if check is None or size > MOST_CHECKED or not isinstance(table, Path):
        return True
    return zlib.crc32(table.read_bytes()) == check


def write_run(
    result: xr.DataArray,
    out: Any,
    prefix: str,
    *,
    inputs: Mapping[str, Any] | None = None,
    n_frames: int | None = None,
    sources: Sequence[str] | None = None,
    more: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Written:
    """Write one run's region time series, coverage and sidecar.

    Parameters
    ----------
    result : DataArray, dims (time, region) or (region,)
        What `daskroi.extract` returned, computed.
    out : path or URL
        Folder, made when missing; or any prefix fsspec can write to (``s3://bucket/out``). Files of
        the same names are replaced.
    prefix : str
        What names begin with; see `run_prefix`.
    inputs : mapping of str to path, list of paths, or None
        Files the result depends on, by what they are ("image", "atlas", "mask", "confounds"):
        path, size and time of modification (of URLs: ETag or the like) of each go into the
        sidecar.
    n_frames : int, optional
        Frames of the run before censoring. Without it, frames censored at the end do not show.
    sources : sequence of str, optional
        BIDS URIs for ``Sources``; the paths of ``inputs`` if not given.
    more : mapping, optional
        More entries for the sidecar.
    storage_options : mapping, optional
        For the URLs among ``out`` and ``inputs``. They go into no file, nor does a URL's query.

    Returns
    -------
    Written

    Raises
    ------
    DaskroiTypeError
        The result is still lazy.
    DaskroiError
        The folder cannot be written to. Nothing partial is left then. Or one of ``inputs`` cannot
        be found.

    Notes
    -----
    Numbers have as many digits as bring the same float32 or float64 back. The sidecar has
    ``RepetitionTime`` where rows are evenly spaced (and ``StartTime`` where they start late), else
    ``VolumeTiming``, the time of every row in s; ``KeptFrames`` wherever frames were censored.
    The sidecar comes into place last: where it is, the tables are complete and belong to it. On
    object stores every file is a single put.

    Examples
    --------
    >>> import daskroi as dr, tempfile
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> with tempfile.TemporaryDirectory() as out:
    ...     paths = write_run(dr.extract(run.image, run.atlas).compute(), out, "sub-01_task-rest")
    ...     dr.read_timeseries(paths.timeseries).shape
    (20, 4)
    """
    if result.chunks is not None or result.coords["coverage"].chunks is not None:
        raise DaskroiTypeError("The result is lazy and has no numbers yet. Call compute() first.")
    sidecar = sidecar_of(result, inputs, n_frames, sources, storage_options) | dict(more or {})
    paths = output_paths(result, out, prefix, storage_options=storage_options)
    check_no_input(paths.all, inputs or {})
    write_together(contents(result, paths, sidecar))
    return paths


def contents(result: xr.DataArray, paths: Written, sidecar: Mapping[str, Any]) -> dict[Target, str]:
    """Text of the three files, in the order in which they come into place.

    Parameters
    ----------
    result : DataArray, dims (time, region) or (region,)
        Computed.
    paths : Written
    sidecar : mapping
        Of `daskroi.sidecar.sidecar_of`.
    """
    rows = map(cells, np.atleast_2d(np.asarray(result.values)))
    table = table_text(names_of(sidecar["Regions"]), rows)
    written = table.encode(errors=BROKEN)
    said = {
        **sidecar,
        "TimeseriesSize": len(written),
        "TimeseriesCRC32": zlib.crc32(written),
    }
    return {
        paths.timeseries: table,
        paths.coverage: _coverage_table(sidecar["Regions"]),
        paths.sidecar: to_json(said) + "\n",
    }


def names_of(regions: Mapping[str, Any]) -> list[str]:
    """Header of a table, of the ``Regions`` of its sidecar.

    Examples
    --------
    >>> names_of({"index": [3, 7], "name": ["V1", "V1"]})
    ['V1_3', 'V1_7']
    """
    return column_names(regions["index"], regions["name"])


def _coverage_table(regions: Mapping[str, Any]) -> str:
    values = np.array(regions["coverage"], dtype=np.float64)
    rows = zip(names_of(regions), cells(values), strict=True)
    return table_text(("Node", "coverage"), rows)
