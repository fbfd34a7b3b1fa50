"""Atlases of a cohort: one image for all, or one per subject with a table that all share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.atlas import Atlas, load_atlas
from daskroi.entities import ENTITIES, atlas_label
from daskroi.errors import DaskroiError, DaskroiTypeError, warn
from daskroi.labeltable import read_label_table
from daskroi.paths import fill_pattern
from daskroi.places import atlas_for
from daskroi.unsaid import kept_warnings
from daskroi.ways import named_atlases

if TYPE_CHECKING:
    import pandas as pd

    from daskroi.placement import AnyAtlas

__all__ = ["SubjectAtlas", "cohort_atlases"]


@dataclass(frozen=True, eq=False)
class SubjectAtlas:
    """A label image per run, found by its entities, and the table they share.

    The region axis is the table's, for every run: labels it does not have are left out, regions an
    image does not have are NaN.

    Parameters
    ----------
    pattern : str
        See `daskroi.places.atlas_for`.
    table : DataFrame
        ``index`` and ``name``.
    """

    pattern: str
    table: pd.DataFrame

    @property
    def ids(self) -> NDArray[np.int64]:
        """Values of the region axis."""
        return np.sort(self.table["index"].to_numpy(dtype=np.int64))

    @cached_property
    def table_hash(self) -> str:
        """SHA-256 (hex) of ids and names."""
        rows = sorted(zip(self.table["index"].tolist(), self.table["name"].tolist(), strict=True))
        return hashlib.sha256(repr(rows).encode()).hexdigest()

    def path_of(self, row: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> str:
        """Where the image of a run lies.

        Raises
        ------
        DaskroiNotFoundError
            Nowhere the pattern says.
        """
        return atlas_for(row, self.pattern, storage_options=options)

    def load(
        self, name: str, row: Mapping[str, Any], options: Mapping[str, Any] | None = None
    ) -> Atlas:
        """The atlas of one run."""
        path = self.path_of(row, options)
        with kept_warnings() as said:
            found = load_atlas(path, self.table, name=name, storage_options=dict(options or {}))
        for text in said:
            # such labels are not in the axis that all runs share
            warn(text.replace("They are named 'unknown'", "They are left out"))
        if not isinstance(found, Atlas):
            raise DaskroiTypeError(f"{path}: an atlas per subject must be a label image (dseg).")
        return found


def cohort_atlases(
    given: Any, options: Mapping[str, Any] | None = None
) -> dict[str, AnyAtlas | SubjectAtlas]:
    """Load what is one for all, and read the tables of what is one per subject.

    Parameters
    ----------
    given : anything `load_atlas` takes, dict of name → these, or list of these
        A path with ``{subject}`` or the like in it is a pattern: then as pair (pattern, table).
    options : mapping, optional
        For fsspec.

    Returns
    -------
    dict of name to atlas
        Names as in file names: letters and digits.

    Raises
    ------
    DaskroiError
        Two of one name, a pattern without table, or as `load_atlas`.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> cohort_atlases({"my atlas": run.atlas})
    {'myatlas': <Atlas 'myatlas': 4 regions, ...>}
    """
    if isinstance(given, str | os.PathLike | tuple) and _is_pattern(given):
        return {"atlas": _loaded("atlas", given, options)}
    if isinstance(given, list) and not given:
        raise DaskroiError("atlases is an empty list: nothing to extract. Give at least one atlas.")
    if isinstance(given, list) and not _is_seed(given[0]):
        named = [_loaded(None, one, options) for one in given]
        pairs = [(getattr(one, "name", "atlas"), one) for one in named]
    elif isinstance(given, Mapping) and any(_is_pair(v) for v in given.values()):
        pairs = [(name, _loaded(name, one, options)) for name, one in given.items()]
    else:
        found, several = named_atlases(given, options)
        pairs = [(key if several else one.name, one) for key, one in found.items()]
    atlases: dict[str, Any] = {}
    for name, one in pairs:
        label = atlas_label(name)
        if not label:
            raise DaskroiError(
                f"An atlas is called {name!r}, which cannot name files. Use letters and digits."
            )
        if label.lower() in ("run", "time"):
            raise DaskroiError(
                f"An atlas is called {name!r}, as an axis of cohort.zarr is. Use another name."
            )
        # also where case does not count
        if label.lower() in {other.lower() for other in atlases}:
            raise DaskroiError(
                f"Two atlases are called {label!r}, so their results would have the same names. "
                "Give a dict of name → atlas, with other names."
            )
        # what names files is also what sidecars say
        atlases[label] = one if isinstance(one, SubjectAtlas) else replace(one, name=label)
    return atlases


def _is_seed(given: Any) -> bool:
    """Whether it is a place, or a part of one, so that the list is one atlas of spheres."""
    if isinstance(given, list | tuple | np.ndarray):
        return all(isinstance(n, Number) for n in given)
    return isinstance(given, Number)


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple) or (isinstance(given, str) and _is_pattern(given))


def _is_pattern(given: Any) -> bool:
    path = given[0] if isinstance(given, tuple) and given else given
    return isinstance(path, str | os.PathLike) and "{" in os.fspath(path)


def _loaded(name: str | None, given: Any, options: Mapping[str, Any] | None) -> Any:
    if not isinstance(given, tuple):
        if _is_pattern(given):
            raise DaskroiError(
                f"atlas {os.fspath(given)!r} is one per subject, which needs a table that all "
                "share, or regions would differ. Give (pattern, table)."
            )
        return load_atlas(given, name=name, storage_options=dict(options or {}))
    image, table = given
    if not _is_pattern(image):
        return load_atlas(image, table, name=name, storage_options=dict(options or {}))
    rows = read_label_table(table, storage_options=dict(options or {}))
    # a plain table: of a FreeSurfer one, regions without voxels would be left out
    rows = rows.loc[rows["index"] != 0, ["index", "name"]].reset_index(drop=True)
    # what is wrong with it is so for all runs
    fill_pattern(os.fspath(image), dict.fromkeys(ENTITIES, "x"), root="")
    return SubjectAtlas(os.fspath(image), rows)
