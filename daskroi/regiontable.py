"""The region axis of an atlas: a table whose rows have names and ids, and how they get them."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import (
    DaskroiError,
    DaskroiNotFoundError,
    DaskroiPermissionError,
    DaskroiTypeError,
    brief,
    some,
    warn,
)
from daskroi.labeltable import read_label_table
from daskroi.paths import links_of, stem_of
from daskroi.remote import identify
from daskroi.urls import StorageOptions, is_url, local_path, shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RegionAxis",
    "check_name",
    "checked_labels",
    "join_by_id",
    "name_by_position",
    "rows_in_order",
    "table_beside",
    "with_sizes",
]

_BACKGROUND = ("Background", "background")
_COMPUTED = ("n_voxels", "size_mm3", "relative_size_percent")


class RegionAxis(ABC):
    """What atlases of every kind share: a region table, and equality by the hash of the content.

    Subclasses are frozen dataclasses with ``name``, ``table`` and ``hash``.

    Examples
    --------
    >>> import daskroi as dr
    >>> axis = dr.load_atlas([(0, -52, 18), (46, -68, 32)], radius=8, labels=["PCC", "AG"])
    >>> axis.ids, axis.names
    (array([1, 2]), ['PCC', 'AG'])
    """

    name: str
    table: pd.DataFrame

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the regions, unique: the values of the region axis, in its order."""
        return self.table["index"].to_numpy(dtype=np.int64)

    @property
    def names(self) -> list[str]:
        """Region names in the order of ``ids``."""
        return [str(n) for n in self.table["name"]]

    @property
    @abstractmethod
    def hash(self) -> str:
        """SHA-256 (hex) of all that decides what is extracted, ids and names included."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """One line for people: regions, place, template."""

    def _counted(self, what: str) -> str:
        """How many regions there are, and how many of them have no voxel."""
        n, empty = len(self.table), int((self.table["n_voxels"] == 0).sum())
        return f"{n} {what}{'s' * (n != 1)}" + f" ({empty} without voxels)" * (empty > 0)

    def __eq__(self, other: object) -> bool:
        same = type(self) is type(other)
        return self.hash == other.hash if same else NotImplemented  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self.hash)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return f"daskroi.{type(self).__name__}", self.hash

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {self.summary}>"

    def _repr_html_(self) -> str:
        rows = self.table.to_html(index=False, max_rows=20)
        return f"<b>{type(self).__name__} {escape(self.name)}</b>: {escape(self.summary)}{rows}"


def checked_labels(labels: Any) -> list[str]:
    """Names as a list of str; nothing is an empty one.

    Examples
    --------
    >>> checked_labels([b"V1", "V2"])
    ['V1', 'V2']
    """
    if labels is None:
        return []
    scalar = getattr(labels, "ndim", 1) == 0  # which NumPy declares iterable
    if scalar or isinstance(labels, str | bytes | Mapping) or not isinstance(labels, Iterable):
        raise DaskroiTypeError(
            f"labels must be a list of str, one name per region, not {type(labels).__name__}."
        )
    # older nilearn fetchers give bytes
    if isinstance(labels, set | frozenset):
        raise DaskroiTypeError("labels is a set, which has no order. Give a list of str.")
    names = [n.decode(errors="replace") if isinstance(n, bytes) else n for n in labels]
    if bad := [n for n in names if not isinstance(n, str)]:
        raise DaskroiTypeError(
            f"labels must be a list of str; these are not: {some(map(repr, bad))}."
        )
    return [str(n) for n in names]


def check_name(name: Any) -> None:
    """Refuse what is no name of an atlas: it goes into file names, attributes and messages."""
    if name is not None and not isinstance(name, str):
        raise DaskroiTypeError(f"name={brief(name)} is not a str. Give a name, or None.")


def table_beside(
    url: str, kind: str = "dseg", storage_options: dict[str, Any] | None = None
) -> str | None:
    """Path of the label table that belongs to an image by its name, if it is there.

    ``kind`` is the BIDS suffix of such images, "dseg" or "probseg".

    Examples
    --------
    >>> table_beside("nowhere/atlas_dseg.nii.gz")
    """
    url = local_path(url).rstrip("/")
    before, own, after = links_of(url)
    stem = stem_of(own)
    stems = [stem, re.sub(r"_res-[A-Za-z0-9]+(?=_)", "", stem)]  # BIDS: one table for all res
    endings = [".tsv"] if stem.endswith(f"_{kind}") else [f"_{kind}.tsv", ".tsv"]
    candidates = list(dict.fromkeys(before + s + e + after for s in stems for e in endings))
    if not is_url(url):
        # lexists: a git-annex link without its content must fail by name, not be passed over
        return next((c for c in candidates if os.path.lexists(os.path.expanduser(c))), None)
    if not own.endswith((".nii", ".nii.gz", ".nii.zarr")):
        return None  # a signed URL is of one file
    options = StorageOptions(storage_options)
    for candidate in candidates:
        # S3 forbids asking for what is not there, where one may not list
        with suppress(DaskroiNotFoundError, DaskroiPermissionError):
            identify(candidate, options)
            return candidate
    return None


def name_by_position(
    sizes: dict[int, int], labels: list[str], background: int, culprit: str
) -> pd.DataFrame:
    """Rows of a label image: names by position over the sorted ids, or the ids themselves.

    Examples
    --------
    >>> name_by_position({7: 20, 3: 10}, ["Background", "V1", "V2"], 0, "atlas.nii")
       index name
    0      3   V1
    1      7   V2
    """
    import pandas as pd

    ids = sorted(sizes)
    if not labels:
        return pd.DataFrame({"index": ids, "name": [str(i) for i in ids]})
    names = list(labels)
    entry = next((i for i, n in enumerate(names) if n in _BACKGROUND), None)
    if entry is not None:
        del names[entry]
        place = sum(i < background for i in ids)
        if entry != place:
            warn(
                f"labels: 'Background' is at position {entry}, but the background ({background}) "
                f"comes at {place} among the label values of {culprit}. It was taken out and the "
                "other names go to the regions in ascending id; check that they fit, or give lut."
            )
    if len(names) > len(ids):
        warn(
            f"labels: {len(names)} names for the {len(ids)} regions of {culprit}; these were "
            f"dropped: {some(map(repr, names[len(ids) :]))}. Names go by position; give lut to "
            "join by id."
        )
    elif len(names) < len(ids):
        warn(
            f"labels: {len(names)} names for the {len(ids)} regions of {culprit}; these are "
            f"'unknown': {some(ids[len(names) :])}. Names go by position; give lut to join by id."
        )
    names = (names + ["unknown"] * len(ids))[: len(ids)]
    return pd.DataFrame({"index": ids, "name": names})


def join_by_id(
    lut: Any,
    sizes: dict[int, int],
    background: int,
    culprit: str,
    storage_options: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """Rows of a label image and its table together, in ascending id; names by id.

    Examples
    --------
    >>> import pandas as pd
    >>> lut = pd.DataFrame({"index": [7, 3], "name": ["V2", "V1"]})
    >>> join_by_id(lut, {3: 10, 7: 20}, 0, "atlas.nii")["name"].tolist()
    ['V1', 'V2']
    """
    origin, table = _origin(lut), read_label_table(lut, storage_options=storage_options)
    dictionary = table.attrs["format"] == "freesurfer"
    table = table[table["index"] != background]
    known = {int(i) for i in table["index"]}
    if not known & set(sizes):
        raise DaskroiError(
            f"{origin}: none of its ids ({some(sorted(known))}) is in {culprit} "
            f"({some(sorted(sizes))}). Give the table that belongs to this image."
        )
    if unknown := sorted(set(sizes) - known):
        warn(
            f"{origin}: has no row for these labels of {culprit}: {some(unknown, 20)}. They are "
            "named 'unknown'; complete the table, or check that it belongs to this image."
        )
    ids = sorted(sizes if dictionary else known | set(sizes))
    joined = table.set_index("index").reindex(ids)
    joined["name"] = joined["name"].fillna("unknown")
    return joined.rename_axis("index").reset_index()


def _origin(lut: Any) -> str:
    """What messages call a label table; not the credentials of its URL."""
    return shown(os.fspath(lut)) if isinstance(lut, str | os.PathLike) else "lut"


def rows_in_order(
    n: int,
    lut: Any,
    labels: list[str],
    culprit: str,
    storage_options: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """Rows of an atlas whose n regions have an order of their own: volumes, or seeds.

    Parameters
    ----------
    n : int
        Number of regions.
    lut : path, DataFrame or None
        Label table, row for row the regions; see `read_label_table`.
    labels : list of str
        Names instead. Without either, the ids are the names. A "Background" before all n others is
        left out, in ``lut`` as well.
    culprit : str
        What error messages call the regions.
    storage_options : dict, optional
        For fsspec, when ``lut`` is a URL.

    Returns
    -------
    DataFrame
        ``index`` (from ``lut``, else 1, 2, …), ``name``, and the other columns of ``lut``.

    Raises
    ------
    DaskroiError
        Not as many names as regions.

    Examples
    --------
    >>> rows_in_order(2, None, ["Background", "DMN", "Salience"], "msdl.nii")
       index      name
    0      1       DMN
    1      2  Salience
    """
    import pandas as pd

    if lut is not None:
        origin = _origin(lut)
        rows = read_label_table(lut, by_position=True, storage_options=storage_options)
    else:
        origin = "labels"
        count = len(labels) or n
        names = labels or [str(i) for i in range(1, n + 1)]
        first = 0 if count == n + 1 else 1
        rows = pd.DataFrame({"index": range(first, first + count), "name": names})
    if len(rows) == n + 1 and rows["name"].iloc[0] in _BACKGROUND:
        rows = rows.iloc[1:].reset_index(drop=True)
    if len(rows) != n:
        raise DaskroiError(
            f"{origin}: {len(rows)} names for the {n} {culprit}. They go by position: give one "
            "for each, in the same order."
        )
    return rows


def with_sizes(rows: pd.DataFrame, sizes: dict[str, Any]) -> pd.DataFrame:
    """Region table: index, name, what was computed, then what else the rows had.

    Parameters
    ----------
    rows : DataFrame
        ``index``, ``name`` and others; those called like a computed one give way.
    sizes : dict of column name → values, (region,)

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"color": ["red"], "index": [3], "name": ["V1"], "n_voxels": [0]})
    >>> with_sizes(rows, {"n_voxels": [10], "size_mm3": [80.0]})
       index name  n_voxels  size_mm3 color
    0      3   V1        10      80.0   red
    """
    table = rows[["index", "name"]].reset_index(drop=True)
    table["index"] = table["index"].astype(np.int64)
    for column, values in sizes.items():
        table[column] = values
    for column in rows.columns:
        if column not in table.columns and column not in _COMPUTED:
            table[column] = rows[column].to_numpy()
    table.attrs = {}
    return table
