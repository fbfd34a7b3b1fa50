"""URLs and storage options: what they say, and what of them may be shown."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from daskroi.errors import DaskroiError, DaskroiTypeError

__all__ = [
    "StorageOptions",
    "is_url",
    "local_path",
    "located",
    "lowered",
    "options_for",
    "protocol_of",
    "protocols_of",
    "scrubbed",
    "secrets_of",
    "shown",
    "user_in",
]

# between the links of a chain; not in http://[::1]/
_LINK = re.compile(r"::(?=[A-Za-z0-9+.-]+(?:://|::))")

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
        if options is not None and not isinstance(options, Mapping):
            # what it is, not what is in it: that may be a password
            raise DaskroiTypeError(
                f"storage_options is a {type(options).__name__}. Give a dict for fsspec, such as "
                "{'anon': True}, or None."
            )
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

        def texts(value: Any, harmless: bool = False) -> Iterator[str]:
            if isinstance(value, Mapping):
                for name, inner in value.items():
                    yield from texts(inner, name in HARMLESS)
            elif isinstance(value, list | tuple | set | frozenset):
                for inner in value:
                    yield from texts(inner, harmless)
                header = getattr(value, "encode", None)
                if header is not None:  # aiohttp.BasicAuth, as it stands in a request
                    yield from texts(header())
            elif isinstance(value, bytes):
                yield from texts(value.decode("latin-1"), harmless)
            elif isinstance(value, str) and len(value) > 3:
                yield from _in_urls(value)
                if not harmless:
                    yield value
                    # "Bearer …", "session=…": others quote the part alone
                    yield from _long_words(value)

        return texts(self._options)


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is for fsspec (``s3://…``, ``memory://…``, ``simplecache::https://…``).

    Examples
    --------
    >>> is_url("s3://bucket/bold.nii.gz"), is_url("/data/bold.nii.gz")
    (True, False)
    """
    return "://" in os.fspath(path)


def checked_path(name: str, path: Any) -> str:
    """A path or URL as text.

    Examples
    --------
    >>> checked_path("path", None)
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiTypeError: path is a NoneType. Give a path or URL.
    """
    if not isinstance(path, str | os.PathLike):
        raise DaskroiTypeError(f"{name} is a {type(path).__name__}. Give a path or URL.")
    return os.fspath(path)


def same_file(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths or URLs are of one file; links are followed.

    Examples
    --------
    >>> same_file("a/../bold.nii", "bold.nii"), same_file("s3://b/x.nii", "x.nii")
    (True, False)
    """
    one, two = local_path(path), local_path(other)
    if is_url(one) or is_url(two):
        return shown(one) == shown(two)
    with suppress(OSError):
        return os.path.samefile(os.path.expanduser(one), os.path.expanduser(two))
    return os.path.abspath(one) == os.path.abspath(two)


def local_path(path: str | os.PathLike[str]) -> str:
    """The path that a ``file://`` URL stands for; paths and other URLs as they are.

    Examples
    --------
    >>> local_path("file:///data/my%20run.nii"), local_path("data/100%.nii")
    ('/data/my run.nii', 'data/100%.nii')
    """
    text = os.fspath(path)
    if not text:
        # it would be the current folder, and comes of a shell's variable that is not set
        raise DaskroiError("A path is empty. Give a path or URL; the current folder is '.'.")
    if "\0" in text:
        # damaged as it is, what stands before an @ may be a password
        bare = re.sub(r"[^/]*@", "", shown(text))
        raise DaskroiError(f"{bare!r}: no path has a NUL character in it. Check where it is from.")
    text = lowered(text)
    if not text.startswith("file://"):
        return text
    from urllib.request import url2pathname

    return url2pathname(text.removeprefix("file://"))


def lowered(url: str) -> str:
    """A URL with its protocols in the letters that fsspec knows; what is no URL as it is.

    Examples
    --------
    >>> lowered("ZIP://Bold.nii::HTTPS://Example.org/X.zip")
    'zip://Bold.nii::https://Example.org/X.zip'
    """
    heads = [link.partition("://") for link in _LINK.split(url)] if is_url(url) else [(url, "", "")]
    return "::".join(f"{head.lower() if said else head}{said}{rest}" for head, said, rest in heads)


def located(path: str | os.PathLike[str]) -> str:
    """Absolute path, or URL.

    Examples
    --------
    >>> located("file:///data/x.nii.zarr"), located("s3://bucket/x.nii.zarr")
    ('/data/x.nii.zarr', 's3://bucket/x.nii.zarr')
    """
    text = local_path(path)
    return text if is_url(text) else os.path.abspath(os.path.expanduser(text))


def shown(url: str) -> str:
    """A URL as messages, attributes and sidecars have it: no user, no password, no query.

    Examples
    --------
    >>> shown("https://me:secret@example.org/bold.nii.gz?X-Amz-Signature=abc")
    'https://example.org/bold.nii.gz'
    >>> shown("s3://bucket/run #1_bold.nii.gz")
    's3://bucket/run #1_bold.nii.gz'
    """
    if not is_url(url):
        return url
    # each link of a chain, simplecache::https://…, may have credentials of its own
    said = "::".join(_bare(link) if "://" in link else link for link in _LINK.split(url))
    # several pasted as one, a line each, or slashes too many: what looks like a password is one
    return re.sub(r"/[^/@]*:[^/@]*@", "/", said)


def _bare(url: str) -> str:
    scheme, authority, path, _ = _parts(url)
    # before an @ there is a password, also where a URL is so damaged that it looks like a protocol
    return f"{scheme.lower().rpartition('@')[2]}://{authority.rpartition('@')[2]}{path}"


def _parts(url: str) -> tuple[str, str, str, str]:
    """Scheme, authority, path, and query with fragment; of what is no URL too, unlike urllib."""
    scheme, _, rest = url.partition("://")
    # me:pass/word@host: the slash should have been written %2F, and is part of the password
    odd = re.match(r"[^/?#@]*:(?![0-9]*[/?#])[^/?#@]*[/?#].*@", rest, re.DOTALL)
    user = odd[0] if odd else ""
    # elsewhere than in the web, # is a letter of a name
    marks = "?#" if scheme.lower() in ("http", "https") else "?"
    pieces = re.fullmatch(f"([^{marks}]*)([{marks}]?)(.*)", rest[len(user) :], re.DOTALL)
    place, mark, query = pieces.groups()  # type: ignore[union-attr]
    authority, slash, path = place.partition("/")
    return scheme, user + authority, slash + path, mark + query


def user_in(url: str) -> str:
    """User and password in a URL, or in a link of a chain; nothing where there is none.

    Examples
    --------
    >>> user_in("zip://bold.nii::https://me:secret@example.org/all.zip"), user_in("s3://b/x@y.nii")
    ('me:secret', '')
    """
    links = (link for link in _LINK.split(url) if "://" in link)
    return next(filter(None, (_parts(link)[1].rpartition("@")[0] for link in links)), "")


def _in_urls(text: str) -> Iterator[str]:
    """What a URL, or each link of a chain, has of credentials: as written, decoded, encoded."""
    for link in _LINK.split(text):
        if "://" not in link:
            continue
        _, authority, _, query = _parts(link)
        user = authority.rpartition("@")[0]
        password = user.partition(":")[2]
        # who takes it for the end of an address quotes a part of it
        parts = [part for part in re.split("[/?#]", password) if len(part) > 3]
        found = [query[1:], user, password, *parts]
        if ":" in user:
            # as a web server is told: the header Authorization
            found.append(base64.b64encode(unquote(user).encode(errors="surrogatepass")).decode())
        yield from (one for text in found for one in {text, unquote(text)} if one)
        yield from _long_words(query[1:])


def _long_words(text: str) -> Iterator[str]:
    # shorter ones are "v4", "true" and the like, which stand in many a message
    for word in re.split(r"[\s&;,=]+", text):
        if len(word) > 7 and word != text:
            yield word
            yield unquote(word)


def protocols_of(url: str) -> list[str]:
    """Of a URL, or of all links of a chain, the outermost first; of a path, none.

    Examples
    --------
    >>> protocols_of("zip://bold.nii::simplecache::s3://bucket/x.zip"), protocols_of("bold")
    (['zip', 'simplecache', 's3'], [])
    """
    if not is_url(url):
        return []
    heads = [link.partition("://") for link in _LINK.split(url)]
    return [head.lower() for head, said, _ in heads if said or head.isalnum()]


def protocol_of(url: str) -> str:
    """Where the bytes of a URL lie: of a chain, the last link; nothing of a path.

    Examples
    --------
    >>> protocol_of("https://example.org/bold.nii"), protocol_of("zip://bold.nii::s3://b/x.zip")
    ('https', 's3')
    """
    return ("", *protocols_of(url))[-1]


def options_for(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What fsspec wants for a URL: of a dict of protocols the own, of a chain those of its links.

    Examples
    --------
    >>> told = {"s3": {"anon": True}, "https": {}}
    >>> options_for("s3://b/bold.nii", told), options_for("zip://bold.nii::s3://b/x.zip", told)
    ({'anon': True}, {'s3': {'anon': True}})
    """
    from fsspec import available_protocols

    if not isinstance(options, Mapping):
        raise DaskroiTypeError(
            f"storage_options is a {type(options).__name__}. Give a dict, such as {{'anon': True}}."
        )
    links = protocols_of(url)
    for link in links:
        if not isinstance(options.get(link, {}), Mapping):  # fsspec takes it for a dict
            raise DaskroiTypeError(
                f"storage_options[{link!r}] is a {type(options[link]).__name__}. Give a dict of "
                f"the options of {link}://."
            )
    known = set(available_protocols())
    if not (options and all(k in known and isinstance(v, Mapping) for k, v in options.items())):
        return dict(options)
    if len(links) == 1:
        return dict(options.get(links[0], {}))
    return {link: dict(options[link]) for link in links if link in options}


def secrets_of(url: str, options: Mapping[str, Any]) -> list[str]:
    """Texts that must not get into a message about a URL, the longest first."""
    found = {*_in_urls(url), *StorageOptions(options).secrets()}
    return sorted(found, key=len, reverse=True)


def scrubbed(text: str, url: str, options: Mapping[str, Any]) -> str:
    """A text of others with all secrets cut out.

    Examples
    --------
    >>> scrubbed("403 for x?sig=abc", "https://example.org/x?sig=abc", {})
    '403 for x?…'
    """
    for secret in secrets_of(url, options):
        text = text.replace(secret, "…")
    return text
