"""The connectome that belongs to a run's series: what ``--connectome`` writes beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daskroi.besidefiles import SERIES, BesideFiles, hash_of
from daskroi.connectome import connectome
from daskroi.errors import check_choice
from daskroi.relmat import WrittenRelmat, relmat_contents, relmat_is_current, relmat_paths, stat_of

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.store import Written
    from daskroi.targets import Target

__all__ = ["CHOICES", "ConnectomeFiles"]

# kind and shrinkage of each. Correlation is Pearson's r, as XCP-D writes it; what is made of an
# inverse is shrunk, or there would be none with fewer frames than regions
CHOICES = {
    "correlation": ("correlation", None),
    "covariance": ("covariance", None),
    "partial-correlation": ("partial correlation", "ledoit_wolf"),
    "precision": ("precision", "ledoit_wolf"),
}


@dataclass(frozen=True)
class ConnectomeFiles(BesideFiles):
    """Which connectome is written beside every run's series, and whether it is there.

    Parameters
    ----------
    choice : str
        One of `CHOICES`.

    Examples
    --------
    >>> from daskroi.store import named_paths
    >>> from pathlib import Path
    >>> series = named_paths(Path("out"), "sub-01", "AAL", "mean")
    >>> ConnectomeFiles("correlation").paths_of(series).matrix.name
    'sub-01_atlas-AAL_stat-pearsoncorrelation_relmat.tsv'
    """

    choice: str

    def __post_init__(self) -> None:
        check_choice("connectome", self.choice, tuple(CHOICES))

    def paths_of(self, series: Written) -> WrittenRelmat:
        """Where the matrix goes: beside the series."""
        kind, shrinkage = CHOICES[self.choice]
        stat, _ = stat_of({"kind": kind, "covariance": shrinkage or "empirical"})
        prefix, _, rest = series.timeseries.name.rpartition("_atlas-")
        return relmat_paths(series.timeseries.parent, prefix, rest.partition("_")[0], stat)

    def files_of(self, series: Written) -> tuple[Target, ...]:
        """The matrix and its sidecar."""
        paths = self.paths_of(series)
        return paths.matrix, paths.sidecar

    def are_of(self, series: Written, sidecar_hash: str) -> bool:
        """Whether the matrix is there, of series with this sidecar."""
        return relmat_is_current(self.paths_of(series), {SERIES: sidecar_hash})

    def contents(self, result: xr.DataArray, series: Written, sidecar: str) -> dict[Target, str]:
        """Text of the two files."""
        kind, shrinkage = CHOICES[self.choice]
        # whether series were just computed or read back, the same bytes: by their sidecar alone
        atlas = json.loads(sidecar)["Atlas"]
        said = {"atlas": atlas.get("Name", ""), "atlas_hash": atlas.get("SHA256", "")}
        matrix = connectome(
            result.drop_attrs(deep=False).assign_attrs(said), kind, shrinkage=shrinkage
        )
        return relmat_contents(
            matrix,
            self.paths_of(series),
            sources=[series.timeseries.name],
            more={SERIES: hash_of(sidecar)},
        )
