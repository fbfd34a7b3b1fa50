"""``cohort.zarr``: the series of all runs of a cohort in one store, for analysis.

It is made of the tables that are in place, in the order of the runs, and of nothing else: however
often a cohort was interrupted, the bytes end up the same. What readers see is the consolidated
metadata, one file that is replaced in one step after the chunks of some runs are there; a run whose
chunks are not all there does not exist.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.errors import DaskroiError
from daskroi.jsontext import from_json
from daskroi.locks import BusyError, alone_in
from daskroi.outputs import NotWrittenError, write
from daskroi.readback import read_timeseries
from daskroi.runstable import LOGS
from daskroi.targets import listed, read_text, remove_all
from daskroi.unsaid import ignored
from daskroi.urls import StorageOptions

if TYPE_CHECKING:
    import xarray as xr
    import zarr

    from daskroi.store import Written
    from daskroi.targets import Target

__all__ = ["CohortZarr", "InOrder", "sole_writer"]

NAME = "cohort.zarr"
# runs in a chunk of what is a few numbers for each; rewritten with every commit, so not many
RUNS_PER_CHUNK = 256
# runs between commits; each rewrites the metadata and the last chunks
RUNS_PER_COMMIT = 16
PER_RUN = {"run": str, "n_frames": "i8", "t_r": "f8", "source_hash": str}
PER_ATLAS = ("time", "region", "region_name", "coverage", "n_voxels", "size_mm3")


@contextmanager
def sole_writer(out: Target) -> Iterator[None]:
    """Have the store below a folder to oneself, or raise; at a URL there are no locks."""
    with ExitStack() as stack:
        if isinstance(out, Path):
            # not the lock of ``out`` itself, by which results come into place there
            folder = out / LOGS
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(alone_in(folder, 0))
            except BusyError:
                raise DaskroiError(
                    f"{out / NAME}: another process is writing it. Wait for it, or have no store "
                    "(cohort_zarr, --output-format) made here."
                ) from None
            except OSError:
                pass  # whether one may write there is said by who does
        yield


class CohortZarr:
    """Appends runs, and keeps those at the beginning that are there already.

    Parameters
    ----------
    out : Path or UPath
        Output folder; the store is ``cohort.zarr`` in it.

    Notes
    -----
    For every atlas ``A`` a variable ``A`` with dims (run, time, A_region), float64, NaN after the
    last frame of a run; ``A_time`` (run, time) in s; ``A_coverage``, ``A_n_voxels`` and
    ``A_size_mm3`` (run, A_region); coordinates ``A_region`` (id) and ``A_region_name``. For every
    run ``run`` (its name), ``n_frames`` and ``t_r`` in s.
    """

    def __init__(self, out: Target) -> None:
        self._place = out / NAME
        self._wanted = 0  # runs that were asked for so far
        self._waiting: list[dict[str, xr.DataArray]] = []
        self._labels: list[tuple[str, str]] = []
        self._group: zarr.Group | None = None
        self._refuse_foreign()
        self._there = self._committed()

    def add(self, name: str, paths: Mapping[str, Written]) -> None:
        """Have the next run in the store.

        Parameters
        ----------
        name : str
        paths : mapping of atlas to Written
            Results in place.

        Raises
        ------
        DaskroiError
            They cannot be read, or their regions are not those of the runs before.
        NotWrittenError
            The store cannot be written to.
        """
        # the same store in whatever order atlases were named
        paths = dict(sorted(paths.items()))
        digest = hashlib.sha256()
        for one in paths.values():
            # it has the identity of all that went in, and the table follows from that
            digest.update(read_text(one.sidecar).encode())
        label = (name, digest.hexdigest())
        if self._wanted < len(self._there) and self._there[self._wanted] == label:
            self._wanted += 1
            return
        # read first: what cannot be read changes nothing
        series = {atlas: read_timeseries(one.timeseries) for atlas, one in paths.items()}
        self._cut()
        self._waiting.append(series)
        self._labels.append(label)
        self._wanted += 1
        if len(self._waiting) >= RUNS_PER_COMMIT:
            self._commit()

    def finish(self) -> None:
        """Have exactly the runs that were added; none: no store."""
        if self._wanted == 0:
            remove_all(self._place)
            return
        if self._wanted == len(self._there) and self._tidy():
            return
        self._cut()
        self._commit()

    def _tidy(self) -> bool:
        """Whether the store is no more than what readers see of it."""
        import zarr

        if self._group is not None:
            return False
        seen = zarr.open_consolidated(self._store(), zarr_format=3)
        real = zarr.open_group(self._store(), mode="r", zarr_format=3, use_consolidated=False)
        return dict(_shapes(seen)) == dict(_shapes(real))

    def _refuse_foreign(self) -> None:
        """Raise when something else has the name: it would be taken for a broken store, and go."""
        found = listed(self._place)
        if found is None:
            what = "is a file"
        else:
            ends = [re.fullmatch(rf"(\w+?)_({'|'.join(PER_ATLAS)})", name) for name in found]
            ours = {"zarr.json", *PER_RUN, *(end[1] for end in ends if end)}
            strange = [n for n, end in zip(found, ends, strict=True) if not end and n not in ours]
            if not strange:
                return
            what = f"holds {strange[0]!r}, which no cohort has"
        raise DaskroiError(
            f"{self._place}: {what}, so it is not replaced. Move it away, or give another folder."
        )

    def _committed(self) -> list[tuple[str, str]]:
        """Names and hashes of the runs that readers see."""
        import zarr

        for left in self._place.rglob("*.partial") if isinstance(self._place, Path) else ():
            left.unlink(missing_ok=True)  # what zarr was writing when it was killed
        with suppress(FileNotFoundError, KeyError, ValueError, TypeError), self._named():
            # to look only: by default Zarr would make the group
            group = zarr.open_consolidated(self._store(), mode="r", zarr_format=3)
            names, hashes = (np.asarray(_array(group, k)[:]) for k in ("run", "source_hash"))
            return [(str(n), str(h)) for n, h in zip(names, hashes, strict=True)]
        return []

    def _cut(self) -> None:
        """Take away the runs from here on, and what was begun and never seen."""
        import zarr

        if self._group is not None:
            return
        keep = self._wanted
        del self._there[keep:]
        with self._named():
            if keep == 0:
                remove_all(self._place)
                self._group = zarr.open_group(self._store(), mode="w", zarr_format=3)
                return
            self._hide(keep)
            self._group = zarr.open_group(
                self._store(), mode="r+", zarr_format=3, use_consolidated=False
            )
            for _, array in self._group.arrays():
                if "run" in _dims(array):
                    _shorten(array, keep)
            lengths = np.asarray(_array(self._group, "n_frames")[:])
            self._stretch(int(lengths.max()), exactly=True)
            self._publish()

    def _hide(self, keep: int) -> None:
        """Show readers fewer runs, before what belongs to the others goes."""
        path = self._place / "zarr.json"
        said = from_json(read_text(path))
        for array in said["consolidated_metadata"]["metadata"].values():
            if "run" in (array.get("dimension_names") or ()):
                array["shape"][0] = min(keep, array["shape"][0])
        write(path, json.dumps(said, indent=2))

    def _commit(self) -> None:
        if not self._waiting:
            return
        group = self._group
        assert group is not None
        first = len(self._there)
        with self._named():
            if "run" not in group:
                self._create(group, self._waiting[0])
            longest = max(len(s) for series in self._waiting for s in series.values())
            self._stretch(longest)
            for _, array in group.arrays():
                if "run" in _dims(array):
                    array.resize((first + len(self._waiting), *array.shape[1:]))
            one_each = [next(iter(series.values())) for series in self._waiting]
            _fill(group, "run", first, [name for name, _ in self._labels])
            _fill(group, "source_hash", first, [found for _, found in self._labels])
            _fill(group, "n_frames", first, [len(s) for s in one_each])
            _fill(group, "t_r", first, [s.time.attrs.get("t_r", math.nan) for s in one_each])
            for atlas in self._waiting[0]:
                self._write(group, atlas, first, [series[atlas] for series in self._waiting])
            self._publish()
        self._there += self._labels
        self._waiting, self._labels = [], []

    def _create(self, group: zarr.Group, series: Mapping[str, xr.DataArray]) -> None:
        for name, dtype in PER_RUN.items():
            fill: Any = "" if dtype is str else 0 if dtype == "i8" else math.nan
            _new(group, name, ("run",), (0,), (RUNS_PER_CHUNK,), dtype, fill)
        for atlas, one in series.items():
            n_time, n_region = one.shape
            region = f"{atlas}_region"
            ids = _new(group, region, (region,), (n_region,), (n_region,), "i8", 0)
            ids[:] = one.region.values
            names = _new(group, f"{region}_name", (region,), (n_region,), (n_region,), str, "")
            names[:] = one.region_name.values.astype(object)
            dims = ("run", "time", region)
            chunks = (1, max(n_time, 1), n_region)
            array = _new(group, atlas, dims, (0, n_time, n_region), chunks, "f8", math.nan)
            array.attrs["coordinates"] = f"{region}_name n_frames t_r"
            times = _new(
                group, f"{atlas}_time", dims[:2], (0, n_time), (RUNS_PER_CHUNK, n_time), "f8",
                math.nan,
            )  # fmt: skip
            times.attrs["units"] = str(one.time.attrs.get("units", ""))
            for name, dtype in (("coverage", "f8"), ("n_voxels", "i8"), ("size_mm3", "f8")):
                fill = 0 if dtype == "i8" else math.nan
                chunks_of = (RUNS_PER_CHUNK, n_region)
                _new(group, f"{atlas}_{name}", dims[::2], (0, n_region), chunks_of, dtype, fill)

    def _stretch(self, n_time: int, exactly: bool = False) -> None:
        assert self._group is not None
        for _, array in self._group.arrays():
            if _dims(array)[1:2] == ("time",):
                runs, there, *rest = array.shape
                if there < n_time or (exactly and there > n_time):
                    array.resize((runs, n_time, *rest))

    def _write(self, group: zarr.Group, atlas: str, first: int, series: list[xr.DataArray]) -> None:
        array, times = _array(group, atlas), _array(group, f"{atlas}_time")
        ids = np.asarray(_array(group, f"{atlas}_region")[:])
        when = np.full((len(series), times.shape[1]), math.nan)
        for i, one in enumerate(series):
            if not np.array_equal(one.region.values, ids):
                raise DaskroiError(
                    f"{self._place}: runs differ in the regions of atlas {atlas}, so they have no "
                    "axis in common. Extract all again with the same atlas."
                )
            array[first + i, : len(one)] = one.values
            when[i, : len(one)] = one.time.values
        times[first : first + len(series)] = when
        for name in ("coverage", "n_voxels", "size_mm3"):
            _fill(group, f"{atlas}_{name}", first, np.stack([s[name].values for s in series]))

    def _publish(self) -> None:
        """Show readers what is there: one file, replaced in one step."""
        import zarr

        with ignored(UserWarning, "Consolidated metadata is currently not part"):
            zarr.consolidate_metadata(self._store(), zarr_format=3)

    def _store(self) -> Any:
        from daskroi.zarrstore import open_store

        options = StorageOptions(getattr(self._place, "storage_options", None))
        return open_store(str(self._place), options, read_only=False)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, DaskroiError):
            raise
        except OSError as error:
            raise NotWrittenError(
                f"{self._place}: cannot be written ({error.strerror or error}). The tables are "
                "complete; make room and start again."
            ) from error


def _shapes(group: zarr.Group) -> Iterator[tuple[str, tuple[int, ...]]]:
    return ((name, array.shape) for name, array in group.arrays())


def _shorten(array: zarr.Array[Any], keep: int) -> None:
    """Have ``keep`` runs, and nothing of others in the chunk that the last one is in."""
    _, *rest = array.shape
    if array.chunks[0] > 1:
        end = math.ceil(keep / array.chunks[0]) * array.chunks[0]
        array.resize((end, *rest))
        # in place and in one step: readers see the runs before in the same chunk
        array[keep:end] = array.fill_value
    if (keep, *rest) != array.shape:
        array.resize((keep, *rest))


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    import zarr

    found = group[name]
    assert isinstance(found, zarr.Array)
    return found


def _dims(array: zarr.Array[Any]) -> tuple[str | None, ...]:
    from zarr.core.metadata import ArrayV3Metadata

    metadata = array.metadata
    return (metadata.dimension_names or ()) if isinstance(metadata, ArrayV3Metadata) else ()


def _new(
    group: zarr.Group,
    name: str,
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: Any,
    fill: Any,
) -> zarr.Array[Any]:
    return group.create_array(
        name, shape=shape, chunks=chunks, dtype=dtype, dimension_names=dims, fill_value=fill
    )


def _fill(group: zarr.Group, name: str, first: int, values: Iterable[Any]) -> None:
    array = _array(group, name)
    found = values if isinstance(values, np.ndarray) else list(values)
    if array.dtype.kind not in "if":
        found = np.array(found, dtype=object)
    array[first : first + len(found)] = found


class InOrder:
    """Hands runs on in the order of the table, whatever the order in which they are done.

    Parameters
    ----------
    store : CohortZarr

    Notes
    -----
    Of runs that wait for an earlier one only the name is kept.
    """

    def __init__(self, store: CohortZarr) -> None:
        self._store = store
        self._next = 0
        self._waiting: dict[int, tuple[str, Mapping[str, Written]] | None] = {}

    def done(self, position: int, name: str, paths: Mapping[str, Written] | None) -> None:
        """Take a run that is done; without paths, one that failed and is left out."""
        self._waiting[position] = None if paths is None else (name, paths)
        while self._next in self._waiting:
            run = self._waiting.pop(self._next)
            self._next += 1
            if run is not None:
                self._store.add(*run)

    def finish(self) -> None:
        """After the last run."""
        for position in sorted(self._waiting):  # after an interruption there may be gaps
            run = self._waiting[position]
            if run is not None:
                self._store.add(*run)
        self._waiting.clear()
        self._store.finish()
