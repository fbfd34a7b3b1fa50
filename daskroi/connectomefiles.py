"""The connectome that belongs to a run's series: what ``--connectome`` writes beside them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daskroi.connectome import connectome
from daskroi.errors import DaskroiError, check_choice
from daskroi.outputs import write_together
from daskroi.relmat import WrittenRelmat, relmat_contents, relmat_is_current, relmat_paths, stat_of
from daskroi.store import read_timeseries
from daskroi.targets import read_text

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
# in the sidecar: of which series the matrix is
SERIES = "SeriesSidecarSHA256"


@dataclass(frozen=True)
class ConnectomeFiles:
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

    def is_current(self, series: Written) -> bool:
        """Whether the matrix of these series is there."""
        try:
            sidecar = read_text(series.sidecar)
        except (DaskroiError, OSError):
            return False  # another process is just replacing the series
        return relmat_is_current(self.paths_of(series), {SERIES: _hash(sidecar)})

    def contents(self, result: xr.DataArray, series: Written, sidecar: str) -> dict[Target, str]:
        """Text of the two files.

        Parameters
        ----------
        result : DataArray, dims (time, region)
            The run's series, computed.
        series : Written
            Where they are, or will be.
        sidecar : str
            Text of their sidecar.
        """
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
            more={SERIES: _hash(sidecar)},
        )

    def ensure(self, series: Written) -> bool:
        """Have the matrix of series that are in place; whether it had to be made.

        The image is not read again: the series are, where they are.

        Raises
        ------
        DaskroiError
            There is no such connectome: see `daskroi.connectome`. The series stay.
        """
        if self.is_current(series):
            return False
        sidecar = read_text(series.sidecar)
        result = read_timeseries(series.timeseries)
        write_together(self.contents(result, series, sidecar))
        return True


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
