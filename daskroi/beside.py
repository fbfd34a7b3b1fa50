"""What is written beside a run's series and follows from them: connectomes, Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from daskroi.sidecar import read_sidecar

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.store import Written
    from daskroi.targets import Target

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


def ensure_beside(kinds: Sequence[Beside], series: Iterable[Written]) -> tuple[int, int, int]:
    """Have the files of all kinds, of series that are in place; no image is opened.

    Returns
    -------
    (int, int, int)
        Frames of the run, those not censored, and regions without a voxel, of all atlases.

    Raises
    ------
    DaskroiError
        There is no such connectome of these series; files cannot be written.
    """
    frames, kept, lost = 1, 1, 0
    for one in series:
        for kind in kinds:
            kind.ensure(one)
        said = read_sidecar(one.sidecar)
        frames = said.get("NumberOfFrames", 1)
        kept = len(said.get("KeptFrames", range(frames)))
        lost += sum(not covered for covered in said["Regions"]["coverage"])
    return frames, kept, lost
