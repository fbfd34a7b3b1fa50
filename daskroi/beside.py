"""What is written beside a run's series and follows from them: connectomes, Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.besidefiles import BesideFiles
    from daskroi.store import Written
    from daskroi.targets import Target

__all__ = ["beside_of", "contents_beside", "ensure_beside"]


def beside_of(connectome: str | None, parquet: bool) -> tuple[BesideFiles, ...]:
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
    found: list[BesideFiles] = []
    if connectome is not None:
        from daskroi.connectomefiles import ConnectomeFiles

        found.append(ConnectomeFiles(connectome))
    if parquet:
        from daskroi.parquetfiles import ParquetFiles

        found.append(ParquetFiles())
    return tuple(found)


def contents_beside(
    kinds: Iterable[BesideFiles], result: xr.DataArray, series: Written, sidecar: str
) -> dict[Target, str | bytes]:
    """Files of all kinds, of series that are computed and not yet in place."""
    found: dict[Target, str | bytes] = {}
    for kind in kinds:
        found |= kind.contents(result, series, sidecar)
    return found


def ensure_beside(kinds: Sequence[BesideFiles], series: Iterable[Written]) -> None:
    """Have the files of all kinds, of series that are in place; no image is opened.

    Raises
    ------
    DaskroiError
        There is no such connectome of these series; files cannot be written.
    """
    for one in series:
        for kind in kinds:
            kind.ensure(one)
