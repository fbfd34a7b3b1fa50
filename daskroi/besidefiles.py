"""Files beside a run's series that follow from these: made with them, or of them later."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from daskroi.errors import DaskroiError
from daskroi.outputs import write_together
from daskroi.readback import read_timeseries
from daskroi.targets import read_text

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.store import Written
    from daskroi.targets import Target

__all__ = ["SERIES", "BesideFiles", "hash_of"]

# what such a file says of the series it was made of: the hash of their sidecar
SERIES = "SeriesSidecarSHA256"


def hash_of(sidecar: str) -> str:
    """Hash of a sidecar's text."""
    return hashlib.sha256(sidecar.encode()).hexdigest()


class BesideFiles(ABC):
    """One kind of such files."""

    @abstractmethod
    def files_of(self, series: Written) -> tuple[Target, ...]:
        """Where they go."""

    @abstractmethod
    def contents(
        self, result: xr.DataArray, series: Written, sidecar: str
    ) -> Mapping[Target, str | bytes]:
        """What is in them, by path.

        Parameters
        ----------
        result : DataArray, dims (time, region) or (region,)
            The run's series, computed.
        series : Written
            Where they are, or will be.
        sidecar : str
            Text of their sidecar.
        """

    @abstractmethod
    def are_of(self, series: Written, sidecar_hash: str) -> bool:
        """Whether they are there, and were made of series with this sidecar.

        An error that says that they cannot be read is as good as False.
        """

    def is_current(self, series: Written) -> bool:
        """Whether those of these series are there; the series must be."""
        try:
            return self.are_of(series, hash_of(read_text(series.sidecar)))
        except (DaskroiError, OSError, ValueError):
            return False  # not begun, cut short, or the series are just being replaced

    def ensure(self, series: Written) -> bool:
        """Have them of series that are in place; whether they had to be made.

        The image is not read again: the series are, where they are.

        Raises
        ------
        DaskroiError
            Of these series there is nothing of the kind, and they stay; they cannot be read; files
            cannot be written.
        """
        if self.is_current(series):
            return False
        sidecar = read_text(series.sidecar)
        write_together(self.contents(read_timeseries(series.timeseries), series, sidecar))
        return True
