"""A run's series as a Parquet file beside its table: ``--output-format parquet``, with pyarrow."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.errors import DaskroiError
from daskroi.outputs import write
from daskroi.remote import retried
from daskroi.store import names_of, read_timeseries
from daskroi.targets import read_text

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.store import Written
    from daskroi.targets import Target

__all__ = ["ParquetFiles"]

# entries of the schema's metadata
IDS, SERIES = b"region_ids", b"SeriesSidecarSHA256"


@dataclass(frozen=True)
class ParquetFiles:
    """``…_timeseries.parquet`` beside ``…_timeseries.tsv``: the same columns and rows.

    What is n/a in the table is null. The schema's metadata has ``region_ids``, a JSON list.

    Raises
    ------
    DaskroiError
        pyarrow is not installed.

    Examples
    --------
    >>> from daskroi.store import named_paths
    >>> from pathlib import Path
    >>> ParquetFiles.path_of(named_paths(Path("out"), "sub-01", "AAL", "mean")).name
    'sub-01_atlas-AAL_stat-mean_timeseries.parquet'
    """

    def __post_init__(self) -> None:
        _parquet()  # said before anything is read

    @staticmethod
    def path_of(series: Written) -> Target:
        """Where the file goes: beside the series."""
        return series.timeseries.with_suffix(".parquet")

    def files_of(self, series: Written) -> tuple[Target, ...]:
        """The file."""
        return (self.path_of(series),)

    def is_current(self, series: Written) -> bool:
        """Whether the file of these series is there."""
        try:
            found = _metadata(self.path_of(series))
            return found.get(SERIES) == _hash(read_text(series.sidecar))
        except (DaskroiError, OSError, ValueError):
            return False  # not begun, cut short, or the series are just being replaced

    def contents(self, result: xr.DataArray, series: Written, sidecar: str) -> dict[Target, bytes]:
        """The file.

        Parameters
        ----------
        result : DataArray, dims (time, region) or (region,)
            The run's series, computed.
        series : Written
            Where they are, or will be.
        sidecar : str
            Text of their sidecar.
        """
        parquet = _parquet()
        import pyarrow as pa

        regions = json.loads(sidecar)["Regions"]
        values = np.atleast_2d(np.asarray(result.values))
        # from_pandas: NaN becomes null, which readers that know no NaN skip as well
        columns = [pa.array(np.ascontiguousarray(c), from_pandas=True) for c in values.T]
        said = {IDS: json.dumps(regions["index"]).encode(), SERIES: _hash(sidecar)}
        buffer = io.BytesIO()
        parquet.write_table(
            pa.table(columns, names=names_of(regions)).replace_schema_metadata(said), buffer
        )
        return {self.path_of(series): buffer.getvalue()}

    def ensure(self, series: Written) -> bool:
        """Have the file of series that are in place; whether it had to be made.

        Raises
        ------
        DaskroiError
            The series cannot be read, or the file not be written.
        """
        if self.is_current(series):
            return False
        sidecar = read_text(series.sidecar)
        [(path, data)] = self.contents(read_timeseries(series.timeseries), series, sidecar).items()
        write(path, data)
        return True


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DaskroiError(
            "Parquet files need pyarrow, which is not installed. "
            "Type: pip install 'daskroi[parquet]'."
        ) from None
    return pyarrow.parquet


def _metadata(path: Target) -> dict[bytes, bytes]:
    """Of the schema: only the end of the file is read."""
    parquet = _parquet()
    if isinstance(path, Path):
        return parquet.read_schema(path).metadata or {}

    def work() -> dict[bytes, bytes]:
        with path.fs.open(path.path, "rb") as file:
            return parquet.read_schema(file).metadata or {}

    return retried(str(path), path.storage_options, work)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).hexdigest().encode()
