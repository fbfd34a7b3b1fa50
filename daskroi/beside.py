"""What is written beside a run's series and follows from them: connectomes, Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.outputs import Target
    from daskroi.store import Written

__all__ = ["Beside", "beside_of", "contents_beside", "ensure_beside"]


class Beside(Protocol):
    """One kind of such files."""

    def files_of(self, series: Written) -> tuple[Target, ...]:
        """Where they go."""

    def is_current(self, series: Written) -> bool:
        """Whether those of these series are there; the series must be."""

    def contents(
        self, result: xr.DataArray, series: Written, sidecar: str
    ) -> Mapping[Target, str | bytes]:
        """What is in them, by path."""

    def ensure(self, series: Written) -> bool:
        """Make them of series that are in place, where they are not current."""


def beside_of(connectome: str | None, parquet: bool) -> tuple[Beside, ...]:
    """Kinds of files that were asked for.

    Raises
    ------
    DaskroiError
        There is no such connectome; pyarrow is not installed.

    Examples
    --------
    >>> beside_of("correlation", parquet=False)
    (ConnectomeFiles(choice='correlation'),)
    """
    found: list[Beside] = []
    if connectome is not None:
        from daskroi.connectomefiles import ConnectomeFiles

        found.append(ConnectomeFiles(connectome))
    if parquet:
        from daskroi.parquetfiles import ParquetFiles

        found.append(ParquetFiles())
    return tuple(found)


def contents_beside(
    kinds: Iterable[Beside], result: xr.DataArray, series: Written, sidecar: str
) -> dict[Target, str | bytes]:
    """Files of all kinds, of series that are computed and not yet in place."""
    found: dict[Target, str | bytes] = {}
    for kind in kinds:
        found |= kind.contents(result, series, sidecar)
    return found


def ensure_beside(kinds: Sequence[Beside], series: Iterable[Written]) -> None:
    """Have the files of all kinds, of series that are in place; no image is opened.

    Raises
    ------
    DaskroiError
        There is no such connectome of these series; files cannot be written.
    """
    for one in series:
        for kind in kinds:
            kind.ensure(one)
