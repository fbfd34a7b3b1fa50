"""Zarr stores for paths and URLs, and how what is left of a broken-off conversion is told.

Imports Zarr (0.5 s): import it inside functions.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from zarr.storage import FsspecStore, LocalStore, WrapperStore

from daskroi.errors import DaskroiError
from daskroi.paths import child_of
from daskroi.remote import VERSIONS, filesystem, info_of
from daskroi.urls import StorageOptions, is_url, options_for

if TYPE_CHECKING:
    from zarr.abc.buffer import Buffer, BufferPrototype
    from zarr.abc.store import ByteRequest, Store

__all__ = [
    "CONVERSION",
    "NOTE",
    "PART",
    "CheckedStore",
    "below",
    "open_store",
    "stamp",
]

# a conversion on disk goes into a folder of this ending, renamed when it is complete
PART = ".part"
# what is being converted, in the folder while it is; object stores know no renaming
CONVERSION = ".daskroi-conversion.json"
# our own attribute of the group: what it was converted from, and how
NOTE = "daskroi"


def below(location: str, name: str) -> str:
    """Path or URL of something in a folder.

    Examples
    --------
    >>> below("s3://bucket/x.nii.zarr/", "zarr.json")
    's3://bucket/x.nii.zarr/zarr.json'
    """
    return child_of(location, name) if is_url(location) else os.path.join(location, name)


def open_store(location: str, options: StorageOptions, *, read_only: bool = True) -> Store:
    """A store at a path or URL; nothing is read.

    Parameters
    ----------
    location : str
    options : StorageOptions
        For a URL.
    read_only : bool
    """
    if not is_url(location):
        return LocalStore(location, read_only=read_only)
    own = options_for(location, options)
    found, path = filesystem(location, own | {"asynchronous": True})
    # simplecache:: and the like call themselves what the filesystem behind them is
    if not (found.async_impl and found.asynchronous):
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

        found = AsyncFileSystemWrapper(found, asynchronous=True)
    return FsspecStore(found, path=path.rstrip("/"), read_only=read_only)


class CheckedStore(WrapperStore[Any]):
    """Reads chunks of an array that are there, and as long as they say.

    Zarr reads a missing chunk as zeros, and Blosc unpacks half a chunk as if what follows it in
    memory were the other half: a broken copy would pass for an image.

    Parameters
    ----------
    store : Store
    name : str
        For messages.
    whole : bool
        Whether all chunks were written.
    blosc : bool
        Whether every file is one chunk packed by Blosc.
    remote : bool
        Whether a chunk that is cut may be whole when it is read again.
    """

    def __init__(
        self,
        store: Store,
        name: str = "",
        whole: bool = True,
        blosc: bool = True,
        remote: bool = False,
    ) -> None:
        super().__init__(store)
        self._own = name, whole, blosc, remote

    def _with_store(self, store: Store) -> CheckedStore:
        return CheckedStore(store, *self._own)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Bytes of a key, as any store."""
        found = await self._store.get(key, prototype, byte_range)
        if key.endswith((".json", ".zarray", ".zattrs", ".zgroup")):
            return found
        name, whole, blosc, remote = self._own
        if found is None:
            if whole:
                raise DaskroiError(
                    f"{name}: chunk {key} is not there. Copy the store or convert the image again."
                )
            return None
        if blosc and byte_range is None:
            # Blosc's header has 16 bytes, the last four say how long the chunk is
            size = int.from_bytes(found[12:16].to_bytes(), "little") if len(found) >= 16 else 16
            if len(found) != size:
                what = f"chunk {key} has {len(found)} bytes instead of {size}"
                if remote:
                    raise ConnectionError(what)
                raise DaskroiError(
                    f"{name}: damaged Zarr data ({what}). "
                    "Copy the store or convert the image again."
                )
        return found


def stamp(location: str, options: StorageOptions) -> str:
    """What of a small file changes when it is written anew: times, size, ETag.

    Raises
    ------
    FileNotFoundError
        It is not there.
    """
    if not is_url(location):
        status = os.stat(location)
        return f"{status.st_size} {status.st_mtime_ns}"
    info = info_of(location, options)
    said = (*VERSIONS, "size")
    return " ".join(f"{name}={info[name]}" for name in said if info.get(name) is not None)
