"""URLs and storage options: what they say, and what of them may be shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

__all__ = ["StorageOptions", "is_url", "of_protocol", "protocol_of", "secrets_of", "shown"]

# options that may stand in a message, for they say what went wrong
HARMLESS = {
    "endpoint_url",
    "region_name",
    "addressing_style",
    "signature_version",
    "anon",
    "project",
}


class StorageOptions(Mapping[str, Any]):
    """Options for a filesystem (credentials, endpoint, ``anon``): hashable, and never shown.

    Parameters
    ----------
    options : mapping, optional
        As fsspec calls them ``storage_options``.

    Examples
    --------
    >>> StorageOptions({"key": "me", "secret": "hidden"})
    StorageOptions(key=…, secret=…)
    """

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self._options = dict(options or {})

    def __getitem__(self, key: str) -> Any:
        return self._options[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    def __hash__(self) -> int:
        return hash(frozenset(self._options))  # values may be dicts

    def __repr__(self) -> str:
        return f"StorageOptions({', '.join(f'{name}=…' for name in self._options)})"

    def __dask_tokenize__(self) -> tuple[str, str]:
        from dask.base import tokenize

        return "daskroi.StorageOptions", tokenize(self._options)

    def secrets(self) -> Iterator[str]:
        """Texts in the values that must not get into a message."""

        def texts(value: Any) -> Iterator[str]:
            if isinstance(value, Mapping):
                for name, inner in value.items():
                    if name not in HARMLESS:
                        yield from texts(inner)
            elif isinstance(value, str) and len(value) > 3:
                yield value

        return texts(self._options)


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is for fsspec (``s3://…``, ``memory://…``, ``simplecache::https://…``).

    Examples
    --------
    >>> is_url("s3://bucket/bold.nii.gz"), is_url("/data/bold.nii.gz")
    (True, False)
    """
    return "://" in os.fspath(path)


def shown(url: str) -> str:
    """A URL as messages, attributes and sidecars have it: no user, no password, no query.

    Examples
    --------
    >>> shown("https://me:secret@example.org/bold.nii.gz?X-Amz-Signature=abc")
    'https://example.org/bold.nii.gz'
    """
    if not is_url(url):
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def protocol_of(url: str) -> str:
    return url.partition("://")[0].rpartition("::")[2].lower()


def of_protocol(options: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """The options themselves, or those of one protocol in a dict of protocols."""
    from fsspec import available_protocols

    known = set(available_protocols())
    if options and all(k in known and isinstance(v, Mapping) for k, v in options.items()):
        return dict(options.get(protocol, {}))
    return dict(options)


def secrets_of(url: str, options: Mapping[str, Any]) -> list[str]:
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    own = [t for t in (parts.query, user, user.partition(":")[2]) if t]
    return own + list(StorageOptions(options).secrets())
