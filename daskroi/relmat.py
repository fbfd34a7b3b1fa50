"""Connectomes on disk: a matrix with region names, and what it is, named as XCP-D names them.

::

    <entities>_atlas-<Name>_stat-pearsoncorrelation_relmat.tsv     Node, then a column per region
    <entities>_atlas-<Name>_stat-pearsoncorrelation_relmat.json    what was measured, of what
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import daskroi
from daskroi.entities import atlas_label, checked_name
from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.outputs import write_together
from daskroi.sidecar import read_sidecar, to_json
from daskroi.targets import as_target, exists, read_text
from daskroi.tsv import cells, column_names, float_type, numbers, rows_of, table_text, that_fits
from daskroi.urls import shown

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.targets import Target

__all__ = [
    "WrittenRelmat",
    "read_relmat",
    "relmat_contents",
    "relmat_is_current",
    "relmat_paths",
    "stat_of",
    "write_relmat",
]

# stat- label and BIDS's RelationshipMeasure by kind, shrunk or not, Fisher's z or not. XCP-D has
# the first one; what is not Pearson's r must not be called so
STATS = {
    ("correlation", False, False): ("pearsoncorrelation", "Pearson correlation"),
    ("correlation", True, False): ("shrunkcorrelation", "Pearson correlation of shrunk covariance"),
    ("correlation", False, True): ("fisherz", "Fisher's z of Pearson correlation"),
    ("correlation", True, True): ("shrunkfisherz", "Fisher's z of shrunk correlation"),
    ("partial correlation", False): ("partialcorrelation", "partial correlation"),
    ("partial correlation", True): ("partialfisherz", "Fisher's z of partial correlation"),
    "covariance": ("covariance", "covariance"),
    "precision": ("precision", "precision (inverse covariance)"),
    "tangent": ("tangent", "deviation from the group's mean covariance in tangent space"),
}
# coordinates of regions: what the sidecar calls them, and their dtype
REGIONS = {
    "region_name": ("name", object),
    "n_voxels": ("n_voxels", np.int64),
    "size_mm3": ("size_mm3", np.float64),
    "coverage": ("coverage", np.float64),
}
# attributes of a matrix, and what the sidecar calls them
SAID = {
    "kind": "ConnectivityKind",
    "covariance": "CovarianceEstimator",
    "connectome_standardize": "Standardize",
    "transform": "Transform",
    "n_frames": "NumberOfVolumes",
    "average": "Average",
}


@dataclass(frozen=True)
class WrittenRelmat:
    """Paths of one matrix.

    Parameters
    ----------
    matrix, sidecar : pathlib.Path or upath.UPath
        In the order in which they come into place.
    """

    matrix: Target
    sidecar: Target


def stat_of(attrs: Mapping[Any, Any]) -> tuple[str, str]:
    """The ``stat-`` label of a connectome, and its ``RelationshipMeasure``.

    ``pearsoncorrelation`` is Pearson's r only: what Ledoit and Wolf have shrunk, which is the
    default of `daskroi.connectome`, is a ``shrunkcorrelation``.

    Parameters
    ----------
    attrs : mapping
        Of what `daskroi.connectome` returned.

    Examples
    --------
    >>> stat_of({"kind": "correlation", "covariance": "empirical"})
    ('pearsoncorrelation', 'Pearson correlation')
    >>> stat_of({"kind": "partial correlation", "covariance": "ledoit_wolf"})[0]
    'partialcorrelation'
    """
    kind = attrs.get("kind")
    z = attrs.get("transform", "none") != "none"
    shrunk = attrs.get("covariance", "empirical") != "empirical"
    keys: tuple[Any, ...] = ((kind, shrunk, z), (kind, z), kind)
    for key in keys if isinstance(kind, str) else ():
        if key in STATS:
            return STATS[key]
    raise DaskroiError(
        f"A matrix of kind={kind!r} has no name as a file. Give what daskroi.connectome returned."
    )


def relmat_paths(
    out: Any,
    prefix: str,
    atlas: str,
    stat: str = "pearsoncorrelation",
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> WrittenRelmat:
    """Where a matrix goes, by what is known before it is there.

    Parameters
    ----------
    out : path or URL
        Folder.
    prefix : str
        See `daskroi.store.run_prefix`.
    atlas : str
    stat : str
        See `stat_of`.
    storage_options : mapping, optional
        For fsspec, where ``out`` is a URL.

    Examples
    --------
    >>> relmat_paths("out", "sub-01_task-rest", "Harvard-Oxford").matrix.name
    'sub-01_task-rest_atlas-HarvardOxford_stat-pearsoncorrelation_relmat.tsv'
    """
    folder = as_target(out, storage_options)
    label = atlas_label(atlas) or "unnamed"
    name = f"{checked_name('prefix', prefix)}_atlas-{label}_stat-{stat}_relmat"
    return WrittenRelmat(folder / f"{name}.tsv", folder / f"{name}.json")


def relmat_contents(
    matrix: xr.DataArray,
    paths: WrittenRelmat,
    *,
    sources: Sequence[str] = (),
    node_files: Sequence[str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[Target, str]:
    """Text of the two files, in the order in which they come into place; see `write_relmat`."""
    if matrix.chunks is not None or any(c.chunks is not None for c in matrix.coords.values()):
        raise DaskroiTypeError("The matrix is lazy and has no numbers yet. Call compute() first.")
    if matrix.dims != ("region", "other_region"):
        raise DaskroiError(
            f"A relmat file is of one matrix (region, other_region); this one has {matrix.dims}. "
            "Write run by run: matrix.isel(run=0)."
        )
    coords = matrix.coords
    ids = [int(i) for i in coords["region"].values]
    regions = {"index": ids} | {
        key: _plain(coords[name].values) for name, (key, _) in REGIONS.items() if name in coords
    }
    names = column_names(ids, regions.get("name", [str(i) for i in ids]))
    _, measure = stat_of(matrix.attrs)
    if node_files is None:
        node_files = [str(matrix.attrs["atlas_source"])] if matrix.attrs.get("atlas_source") else []
    sidecar = {
        "RelationshipMeasure": measure,
        "Weighted": True,
        "Directed": False,
        "ValidDiagonal": False,
        "StorageFormat": "Full",
        "NodeFiles": list(node_files),
        "Sources": list(sources),
        **{key: matrix.attrs[name] for name, key in SAID.items() if name in matrix.attrs},
        "Atlas": {
            "Name": matrix.attrs.get("atlas", ""),
            "SHA256": matrix.attrs.get("atlas_hash", ""),
        },
        "DataType": matrix.dtype.name,
        "Regions": regions,
        "GeneratedBy": [{"Name": "daskroi", "Version": daskroi.__version__}],
        **(more or {}),
    }
    rows = ([name, *cells(row)] for name, row in zip(names, matrix.values, strict=True))
    return {
        paths.matrix: table_text(("Node", *names), rows),
        paths.sidecar: to_json(sidecar) + "\n",
    }


def write_relmat(
    matrix: xr.DataArray,
    out: Any,
    prefix: str,
    *,
    sources: Sequence[str] = (),
    node_files: Sequence[str] | None = None,
    more: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> WrittenRelmat:
    """Write one connectome as ``…_relmat.tsv`` and ``.json``: both, or none.

    Parameters
    ----------
    matrix : DataArray, dims (region, other_region)
        What `daskroi.connectome` returned of one run, computed; or a group's mean.
    out : path or URL
        Folder, made when missing. Files of the same names are replaced.
    prefix : str
        What names begin with; see `daskroi.store.run_prefix`.
    sources : sequence of str
        BIDS URIs of the series, for ``Sources``.
    node_files : sequence of str, optional
        Of the atlas, for ``NodeFiles``; the atlas's path if not given and known.
    more : mapping, optional
        More entries for the sidecar.
    storage_options : mapping, optional
        For a URL.

    Returns
    -------
    WrittenRelmat

    Raises
    ------
    DaskroiError
        Several runs, or the folder cannot be written to.
    DaskroiTypeError
        The matrix is still lazy.

    Notes
    -----
    The first column, ``Node``, and the header have the region names, as the series' table has them;
    lost regions are ``n/a``. ``ValidDiagonal`` is false: what stands on the diagonal is no relation
    between regions.

    Examples
    --------
    >>> from daskroi import read_relmat, write_relmat
    >>> import daskroi as dr, tempfile
    >>> from daskroi.connectome import connectome
    >>> run = dr.make_phantom((12, 14, 12), n_time=60, n_regions=4)
    >>> matrix = connectome(dr.extract(run.image, run.atlas), shrinkage=None).compute()
    >>> with tempfile.TemporaryDirectory() as out:
    ...     paths = write_relmat(matrix, out, "sub-01_task-rest")
    ...     bool((read_relmat(paths.matrix) == matrix).all()), paths.matrix.name
    (True, 'sub-01_task-rest_atlas-Phantom_stat-pearsoncorrelation_relmat.tsv')
    """
    if not hasattr(matrix, "attrs"):
        raise DaskroiTypeError(
            f"A {type(matrix).__name__} is no connectome. Give what daskroi.connectome returned."
        )
    stat, _ = stat_of(matrix.attrs)
    atlas = str(matrix.attrs.get("atlas", ""))
    paths = relmat_paths(out, prefix, atlas, stat, storage_options=storage_options)
    texts = relmat_contents(matrix, paths, sources=sources, node_files=node_files, more=more)
    write_together(texts)
    return paths


def relmat_is_current(paths: WrittenRelmat, expected: Mapping[str, Any]) -> bool:
    """Whether both files are there, and the sidecar has what is expected.

    Parameters
    ----------
    paths : WrittenRelmat
    expected : mapping
        Entries of the sidecar, such as a ``SeriesSHA256`` that was given as ``more``.

    Examples
    --------
    >>> relmat_is_current(relmat_paths("nowhere", "sub-01", "AAL"), {})
    False
    """
    try:
        there = read_sidecar(paths.sidecar)
        return exists(paths.matrix) and all(there.get(k) == v for k, v in expected.items())
    except (DaskroiError, OSError, ValueError):
        return False  # not begun, or cut short


def read_relmat(path: Any, *, storage_options: Mapping[str, Any] | None = None) -> xr.DataArray:
    """Read a connectome back; also one of XCP-D, whose sidecar knows no region ids.

    Parameters
    ----------
    path : path or URL
        ``…_relmat.tsv``; its JSON beside it, if there is one.
    storage_options : mapping, optional
        For a URL.

    Returns
    -------
    DataArray, dims (region, other_region)
        As it was written, with ``kind`` and the like as attributes. Without ids in the sidecar,
        regions are numbered from 1.

    Raises
    ------
    DaskroiNotFoundError
        No such file.
    DaskroiError
        It is no square table with the same names in both directions.

    Examples
    --------
    >>> from daskroi import read_relmat
    >>> read_relmat("nowhere_relmat.tsv")
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiNotFoundError: nowhere_relmat.tsv: no such file. Check the path.
    """
    path = as_target(path, storage_options)
    # a sidecar that is not there is one thing, a damaged one another
    beside = path.with_suffix(".json")
    doubt = "is no connectome, or its sidecar not that of one"
    with that_fits(shown(str(path)), doubt, "Write it again."):
        rows = rows_of(read_text(path))
        return _matrix(rows, read_sidecar(beside) if exists(beside) else {})


def _matrix(rows: list[list[str]], sidecar: Mapping[str, Any]) -> xr.DataArray:
    """The matrix of a table; what does not fit raises a `ValueError` or the like."""
    import xarray as xr

    if not rows:
        raise ValueError("it is empty")
    (_, *names), *rows = rows
    regions = sidecar.get("Regions") or {"index": list(range(1, len(names) + 1)), "name": names}
    if [row[:1] for row in rows] != [[n] for n in names] or len(regions["index"]) != len(names):
        raise ValueError(
            f"not a square table with the same {len(names)} names in its header and in its first "
            "column"
        )
    stored = float_type(sidecar.get("DataType", "float64"))
    values = np.array([numbers(row[1:]) for row in rows], stored)
    coords: dict[str, Any] = {d: np.array(regions["index"]) for d in ("region", "other_region")}
    for name, (key, dtype) in REGIONS.items():
        if key in regions:
            coords[name] = ("region", np.array(regions[key], dtype))
    coords["other_region_name"] = ("other_region", np.array(regions.get("name", names), object))
    attrs = {name: sidecar[key] for name, key in SAID.items() if key in sidecar}
    if "Atlas" in sidecar:
        attrs |= {"atlas": sidecar["Atlas"]["Name"], "atlas_hash": sidecar["Atlas"]["SHA256"]}
    shape = (len(names),) * 2
    return xr.DataArray(
        values.reshape(shape), coords, ("region", "other_region"), name="connectome", attrs=attrs
    )


def _plain(values: np.ndarray) -> list[Any]:
    # NaN is no JSON
    return [None if v != v else v for v in values.tolist()]
