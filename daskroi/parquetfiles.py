"""A run's series as a Parquet file beside its table: ``--output-format parquet``, with pyarrow."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.besidefiles import SERIES, BesideFiles, hash_of
from daskroi.errors import DaskroiError
from daskroi.remote import retried
from daskroi.store import names_of

if TYPE_CHECKING:
    import xarray as xr

    from daskroi.store import Written
    from daskroi.targets import Target

__all__ = ["ParquetFiles"]

# in the schema's metadata, beside the hash of the series
IDS = "region_ids"


@dataclass(frozen=True)
class ParquetFiles(BesideFiles):
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

    def are_of(self, series: Written, sidecar_hash: str) -> bool:
        """Whether the file is there, of series with this sidecar."""
        return _metadata(self.path_of(series)).get(SERIES.encode()) == sidecar_hash.encode()

    def contents(self, result: xr.DataArray, series: Written, sidecar: str) -> dict[Target, bytes]:
        """The file."""
        parquet = _parquet()
        import pyarrow as pa

        regions = json.loads(sidecar)["Regions"]
        values = np.atleast_2d(np.asarray(result.values))
        # from_pandas: NaN becomes null, which readers that know no NaN skip as well
        columns = [pa.array(np.ascontiguousarray(c), from_pandas=True) for c in values.T]
        said = {IDS: json.dumps(regions["index"]), SERIES: hash_of(sidecar)}
        buffer = io.BytesIO()
        parquet.write_table(
            pa.table(columns, names=names_of(regions)).replace_schema_metadata(said), buffer
        )
        return {self.path_of(series): buffer.getvalue()}


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
