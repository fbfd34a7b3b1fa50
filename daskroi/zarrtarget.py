"""Where a conversion to Zarr goes: claimed by one writer, taken up again, complete or not there.

On disk, into a folder beside the target that is renamed at the end; a lock that ends with its
process keeps others out. Object stores know neither: there a note in the target says what is being
converted, and the group's metadata, without which nothing opens, are written last.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskroi.errors import DaskroiError
from daskroi.jsontext import from_json
from daskroi.locks import LOCK, BusyError, alone_in
from daskroi.partfiles import placed, sweep, synced
from daskroi.remote import filesystem, retried
from daskroi.urls import StorageOptions, is_url, shown
from daskroi.zarrstore import CONVERSION, NOTE, PART, below, open_store

if TYPE_CHECKING:
    from zarr.abc.store import Store

__all__ = ["Target", "claimed"]

OLD = ".daskroi-old"  # what is replaced, in the folder that replaces it
# what makes a folder a group
GROUPS = ("zarr.json", ".zgroup")
OURS = (*GROUPS, ".zattrs", "0", "nifti", CONVERSION, OLD)
# a writer on an object store gives a sign of life this often, and is given up after that long
SECONDS_BETWEEN_SIGNS, SECONDS_TO_GIVE_UP = 60.0, 600.0


class Target(ABC):
    """A claimed place for chunks; what is written there stays until the conversion is finished.

    Parameters
    ----------
    place : str
        Path or URL of the folder that chunks go into.
    name : str
        Of the target in messages.
    options : StorageOptions
    """

    # whether files of the right name are sure to have the right content
    atomic: bool

    def __init__(self, place: str, name: str, options: StorageOptions) -> None:
        self.place, self.name, self.options = place, name, options

    def store(self, array: str) -> Store:
        """Store for one array, at its root: made below a group, Zarr would make the group too."""
        return open_store(below(self.place, array), self.options, read_only=False)

    @abstractmethod
    def files(self) -> set[str]:
        """Files that are there, relative to the place."""

    @abstractmethod
    def check(self, *, now: bool = False) -> None:
        """Raise when the place is somebody else's by now; looked at once a minute, or ``now``."""

    @abstractmethod
    def put(self, key: str, content: Mapping[str, Any]) -> None:
        """Write a JSON document in one step."""

    @abstractmethod
    def complete(self) -> None:
        """What comes after the last document."""

    def finish(self, attributes: dict[str, Any], zarr_format: int) -> None:
        """Write the group's metadata; from then on, it opens."""
        self.check(now=True)
        if zarr_format == 3:
            document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            self.put("zarr.json", document)
        else:
            self.put(".zattrs", attributes)
            self.put(".zgroup", {"zarr_format": 2})
        self.complete()


@contextmanager
def claimed(
    location: str, options: StorageOptions, plan: dict[str, Any], overwrite: bool
) -> Iterator[Target | None]:
    """The place for a conversion, as it was left if it is the same one; None if it is done.

    Parameters
    ----------
    location : str
        Absolute path or URL of the Zarr store.
    options : StorageOptions
    plan : dict
        What is converted, and how; JSON.
    overwrite : bool
        Whether something else may be replaced, and the same be made anew.

    Raises
    ------
    DaskroiError
        Something else is there, or another process is writing there.
    """
    claim = _claim_remote if is_url(location) else _claim_local
    with claim(location, options, plan, overwrite) as target:
        yield target


def _taken(name: str) -> DaskroiError:
    return DaskroiError(
        f"{name}: is there already, of another image or made with other options. "
        "Pass overwrite=True (--overwrite) to replace it, or give another path."
    )


def _begun(name: str, where: str) -> DaskroiError:
    return DaskroiError(
        f"{name}: a conversion of another image, or with other options, was begun in {where}. "
        "Finish it, or pass overwrite=True (--overwrite) to drop it."
    )


def _foreign(name: str) -> DaskroiError:
    what = "holds something else than a Zarr group, which is not overwritten"
    return DaskroiError(f"{name}: {what}. Give another path.")


def _busy(name: str) -> DaskroiError:
    what = "another process is converting into it"
    return DaskroiError(f"{name}: {what}. Wait for it, or give another path.")


class _Local(Target):
    atomic = False  # a power cut leaves files of the right name and the wrong content

    def __init__(self, path: str, options: StorageOptions) -> None:
        super().__init__(path + PART, path, options)
        self._final = path

    def files(self) -> set[str]:
        found = set()
        for folder, _, files in os.walk(self.place):
            relative = os.path.relpath(folder, self.place).replace(os.sep, "/")
            found |= {f"{relative}/{file}".removeprefix("./") for file in files}
        return found

    def check(self, *, now: bool = False) -> None:
        return  # nobody else has the lock

    def put(self, key: str, content: Mapping[str, Any]) -> None:
        with placed(Path(self.place, key)) as file:
            file.write(json.dumps(content, indent=2).encode())

    def complete(self) -> None:
        # the name must not come to the disk before the content, should the power go
        synced(*(os.path.join(self.place, key) for key in self.files()))
        os.unlink(os.path.join(self.place, CONVERSION))
        old = os.path.join(self.place, OLD)
        shutil.rmtree(old, ignore_errors=True)
        if not _nothing(self._final):
            os.rename(self._final, old)
        os.rename(self.place, self._final)
        shutil.rmtree(os.path.join(self._final, OLD), ignore_errors=True)
        # where folders have no locks; last, for who comes meanwhile must not have the lock of a
        # folder that is about to go
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._final, LOCK))


@contextmanager
def _claim_local(
    path: str, options: StorageOptions, plan: dict[str, Any], overwrite: bool
) -> Iterator[Target | None]:
    target = _Local(path, options)
    if _is_done(path, plan, overwrite):
        yield None
        return
    try:
        os.makedirs(target.place, exist_ok=True)
        with alone_in(Path(target.place), 0):
            sweep(target.place, alone=True)
            if not (overwrite or _nothing(path)):  # another process has ended just now
                if not set(os.listdir(target.place)) - {LOCK}:
                    shutil.rmtree(target.place, ignore_errors=True)
                _is_done(path, plan, overwrite)
                yield None
                return
            before = _local_plan(target.place)
            if before != plan:
                if before is not None and not overwrite:
                    raise _begun(path, target.place)
                _empty(target.place)
                target.put(CONVERSION, plan)
            yield target
    except BusyError:
        raise _busy(path) from None
    except OSError as error:
        if isinstance(error, DaskroiError):
            raise
        raise DaskroiError(
            f"{path}: cannot be written ({error.strerror or error}). What was converted is in "
            f"{target.place}: make room, or check permissions, and run it again."
        ) from error


def _nothing(path: str) -> bool:
    return not os.path.lexists(path) or (os.path.isdir(path) and not os.listdir(path))


def _is_done(path: str, plan: dict[str, Any], overwrite: bool) -> bool:
    """Whether the conversion is there; what else is there raises, unless it may be replaced."""
    if _nothing(path):
        return False
    if not any(os.path.isfile(os.path.join(path, name)) for name in GROUPS):
        raise _foreign(path)
    if not overwrite and _local_note(path) != plan:
        raise _taken(path)
    return not overwrite


def _local_note(path: str) -> Any:
    for document, inner in (("zarr.json", "attributes"), (".zattrs", None)):
        place = os.path.join(path, document)
        with suppress(OSError, ValueError, AttributeError), open(place, encoding="utf-8") as file:
            content = from_json(file.read())
            return (content.get(inner, {}) if inner else content).get(NOTE)
    return None


def _local_plan(place: str) -> Any:
    """What is being converted in a folder; None if nothing is."""
    try:
        with open(os.path.join(place, CONVERSION), encoding="utf-8") as file:
            return from_json(file.read())
    except (FileNotFoundError, ValueError):
        # cut off between its last document and its renaming
        return _local_note(place)


def _empty(place: str) -> None:
    with os.scandir(place) as entries:
        found = [entry for entry in entries if entry.name != LOCK]
    if any(entry.name not in OURS for entry in found):
        raise _foreign(place)  # somebody's folder that happens to end in .part
    for entry in found:
        shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)


class _Remote(Target):
    atomic = True  # an object is there or not

    def __init__(self, url: str, options: StorageOptions, plan: dict[str, Any]) -> None:
        super().__init__(url, shown(url), options)
        self._fs, self._path = filesystem(url, options)
        self._plan, self._signed = plan, time.monotonic()

    def files(self) -> set[str]:
        root = self._path.rstrip("/") + "/"

        def find() -> list[str]:
            self._fs.invalidate_cache()
            return list(self._fs.find(self._path))

        try:
            found = retried(self.place, self.options, find)
        except FileNotFoundError:
            return set()
        return {path.removeprefix(root) for path in found}

    def get(self, key: str) -> Any:
        """A JSON document, or None."""
        try:
            text = retried(
                self.place, self.options, lambda: self._fs.cat_file(f"{self._path}/{key}")
            )
            return from_json(text)
        except (FileNotFoundError, ValueError) as error:
            if isinstance(error, DaskroiError) and not isinstance(error, FileNotFoundError):
                raise
            return None

    def put(self, key: str, content: Mapping[str, Any]) -> None:
        body = json.dumps(content, indent=2).encode()
        retried(
            self.place,
            self.options,
            lambda: self._fs.pipe_file(f"{self._path}/{key}", body),
            writing=True,
        )

    def delete(self, keys: set[str]) -> None:
        """Remove some files."""
        if keys:
            paths = [f"{self._path}/{key}" for key in sorted(keys)]
            retried(self.place, self.options, lambda: self._fs.rm(paths), writing=True)

    def sign(self, *, first: bool = False) -> None:
        """Say that this conversion goes on; ``first`` only if nobody does."""
        note = {"plan": self._plan, "alive": time.time()}
        if first:
            body = json.dumps(note, indent=2).encode()

            def create() -> bool:
                try:
                    self._fs.pipe_file(f"{self._path}/{CONVERSION}", body, mode="create")
                except FileExistsError:
                    return False
                except TypeError:  # a filesystem that cannot say "only if new"
                    self._fs.pipe_file(f"{self._path}/{CONVERSION}", body)
                return True

            if not retried(self.place, self.options, create, writing=True):
                raise _busy(self.name)
        else:
            self.put(CONVERSION, note)
        self._signed = time.monotonic()

    def check(self, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._signed < SECONDS_BETWEEN_SIGNS:
            return
        there = self.get(CONVERSION)
        if there is None or there.get("plan") != self._plan:
            raise DaskroiError(
                f"{self.name}: another process has taken over the conversion. Look at its result."
            )
        self.sign()

    def complete(self) -> None:
        self.delete({CONVERSION})


@contextmanager
def _claim_remote(
    url: str, options: StorageOptions, plan: dict[str, Any], overwrite: bool
) -> Iterator[Target | None]:
    target = _Remote(url, options, plan)
    running = target.get(CONVERSION)
    if running is None:
        keys = target.files()
        if keys and not keys & set(GROUPS):
            raise _foreign(target.name)
        if keys and not overwrite:
            if _remote_note(target) != plan:
                raise _taken(target.name)
            yield None
            return
        target.sign(first=True)
        _clear(target, keys)
    elif running.get("plan") == plan:
        target.sign()
    else:
        if not overwrite:
            raise _begun(target.name, target.name)
        if time.time() - float(running.get("alive", 0)) < SECONDS_TO_GIVE_UP:
            raise _busy(target.name)
        target.sign()
        _clear(target, target.files())
    yield target


def _remote_note(target: _Remote) -> Any:
    content = target.get("zarr.json")
    attributes = target.get(".zattrs") if content is None else content.get("attributes", {})
    return (attributes or {}).get(NOTE)


def _clear(target: _Remote, keys: set[str]) -> None:
    # first what makes it a group: half a store must not open
    target.delete(keys & set(GROUPS))
    target.delete(keys - set(GROUPS) - {CONVERSION})
