"""Files at URLs: found, identified and read in ranges, with retries; by fsspec, for any protocol.

Everything a server can do wrong ends here: what passes by itself (a reset connection, a 503, a body
that stops early, a timeout) is tried again from the byte it stopped at; what does not becomes a
`DaskroiError` that names the URL. Credentials are in no message: URLs are shown without user and
query, options by their names only.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiPermissionError, one_line
from daskroi.urls import (
    StorageOptions,
    is_url,
    lowered,
    options_for,
    protocol_of,
    protocols_of,
    scrubbed,
    secrets_of,
    shown,
)

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from tenacity import Retrying

__all__ = [
    "VERSIONS",
    "check_ranges",
    "exists",
    "fetch",
    "filesystem",
    "identify",
    "info_of",
    "retried",
]

_T = TypeVar("_T")

# each try waits longer, to 8 s, with jitter: half a minute in all. s3fs and gcsfs have retries of
# their own, five with back-off, and each of ours would multiply with them
ATTEMPTS = 6
OWN_RETRIES = ("s3", "s3a", "gs", "gcs")
FIRST_WAIT, LONGEST_WAIT = 0.2, 8.0
# aiohttp's default, 5 min for a whole request, is too short for a big slab and too long for silence
CONNECT_SECONDS, SILENCE_SECONDS = 30, 60
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
PASSING = {408, 425, 429}  # and all from 500


def filesystem(
    url: str, options: Mapping[str, Any] | None = None
) -> tuple[AbstractFileSystem, str]:
    """The fsspec filesystem of a URL, and the path in it.

    Parameters
    ----------
    url : str
    options : mapping, optional
        fsspec's ``storage_options``; where URLs of several protocols are used together, a dict of
        them by protocol: ``{"s3": {"anon": True}, "https": {…}}``.

    Raises
    ------
    DaskroiError
        The protocol is unknown, its package is not installed, or it refuses the options.

    Examples
    --------
    >>> filesystem("memory://data/bold.nii")[1]
    '/data/bold.nii'
    """
    import fsspec

    protocol, links = protocol_of(url), protocols_of(url)
    given = options_for(url, options or {})
    try:
        for link in set(links) & {"http", "https"}:
            _add_defaults(given if len(links) == 1 else given.setdefault(link, {}))
        found, path = fsspec.url_to_fs(lowered(url), **given)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        remedy = f"pip install 'daskroi[{extra}]'" if extra else str(error)
        raise DaskroiError(
            f"{shown(url)}: reading {protocol}:// needs a package that is not installed. {remedy}"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:  # the last of options of odd types
        unknown = "not known" in str(error).lower()
        reason = f"protocol {shown(f'{protocol}://')} is not known" if unknown else one_line(error)
    # of a chain, such as zip://…::https://…, the inner file is opened, and each raises its own
    except Exception as error:
        raise _named(url, given, error, False) from _safe_cause(error, url, given)
    else:
        return found, path
    raise _failure(
        url,
        given,
        reason,
        "Use s3://, gs://, https:// or another protocol of fsspec, and its storage_options",
    )


def _add_defaults(options: dict[str, Any]) -> None:
    """What a web server is asked for, unless the user says otherwise."""
    import aiohttp

    # ranges are of the file, not of what a server makes of it on the way
    options["headers"] = {"Accept-Encoding": "identity"} | dict(options.get("headers", {}))
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
    )
    options["client_kwargs"] = {"timeout": timeout} | dict(options.get("client_kwargs", {}))


def info_of(url: str, options: StorageOptions) -> dict[str, Any]:
    """What a filesystem says of a file: size, type, and some of `VERSIONS`. Never from a cache.

    Raises
    ------
    DaskroiNotFoundError
        It is not there.
    DaskroiError
        It may not be read, or the server does not answer.
    """
    found, path = filesystem(url, options)

    def ask() -> dict[str, Any]:
        found.invalidate_cache(found._parent(path))
        return found.info(path)

    return retried(url, options, ask)


def exists(location: str, options: Mapping[str, Any] | None = None, *, file: bool = False) -> bool:
    """Whether a file or folder is there by now; a link to nothing is none. Never from a cache.

    Parameters
    ----------
    location : str
        Path or URL.
    options : mapping, optional
        For a URL.
    file : bool
        Whether a folder does not count.

    Examples
    --------
    >>> exists("memory://nowhere/x.tsv")
    False
    """
    if not is_url(location):
        return os.path.isfile(location) if file else os.path.exists(location)
    found, path = filesystem(location, options)

    def ask() -> bool:
        found.invalidate_cache()
        return bool(found.isfile(path) if file else found.exists(path))

    return retried(location, options or {}, ask)


def identify(url: str, options: StorageOptions) -> tuple[int, str]:
    """Size in bytes of a remote file, and its version: ETag, generation or modification time.

    Asks the server, never a cache.

    Raises
    ------
    DaskroiNotFoundError
        It is not there.
    DaskroiError
        It is a folder, may not be read, or the server does not answer.
    """
    info = info_of(url, options)
    if info.get("type") == "directory":
        raise DaskroiError(f"{shown(url)}: is a folder. Give the URL of one file.")
    if info.get("size") is None:
        raise DaskroiError(
            f"{shown(url)}: the server does not say how long the file is. Download it first."
        )
    version = next((info[k] for k in VERSIONS if info.get(k)), "")
    return int(info["size"]), str(version)


# what filesystems call what changes with the content, the surest first
VERSIONS = (
    "ETag", "etag", "generation", "LastModified", "Last-Modified", "last_modified", "mtime",
    "updated", "modify", "modified", "created",
)  # fmt: skip


def fetch(url: str, options: StorageOptions, start: int, stop: int) -> bytes:
    """Bytes ``start:stop`` of a remote file, all of them.

    Raises
    ------
    DaskroiError
        As `identify`; also when the file ends before, or the server knows no ranges.
    """
    found, path = filesystem(url, options)
    pieces: list[bytes] = []
    have = 0

    def rest() -> None:
        nonlocal have
        while have < stop - start:
            piece = found.cat_file(path, start=start + have, end=stop)
            if len(piece) > stop - start - have:
                raise DaskroiError(
                    f"{shown(url)}: the server sent {len(piece)} bytes where "
                    f"{stop - start - have} were asked for: it knows no ranges. Download the file."
                )
            if not piece:
                raise ConnectionError(f"no bytes came after {start + have}")
            pieces.append(piece)
            have += len(piece)

    retried(url, options, rest)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def check_ranges(url: str, options: StorageOptions, size: int) -> None:
    """Refuse a web server that answers a range with the whole file, before it sends it."""
    if protocols_of(url) not in (["http"], ["https"]) or size < 2:
        return
    found, path = filesystem(url, options)

    def probe() -> None:
        with found.open(path, "rb", size=size, cache_type="none") as file:
            file.seek(size - 1)  # a ValueError, unless what comes is the range
            file.read(1)

    try:
        retried(url, options, probe)
    except ValueError as error:
        if isinstance(error, DaskroiError) and not isinstance(error.__cause__, ValueError):
            raise
        raise DaskroiError(
            f"{shown(url)}: the server answers requests for a part with the whole file. "
            "Download it first."
        ) from None


def retried(
    url: str, options: Mapping[str, Any], work: Callable[[], _T], *, writing: bool = False
) -> _T:
    """Result of ``work``, tried again while what goes wrong may pass; errors name the URL."""
    try:
        return _retrying(url)(work)
    except DaskroiError:
        raise
    except Exception as error:  # each filesystem raises its own
        named, cause = _named(url, options, error, writing), _safe_cause(error, url, options)
    # not in the handler: the error would stay as __context__, with what must not be seen
    raise named from cause


def _retrying(url: str) -> Retrying:
    import tenacity

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(2 if protocol_of(url) in OWN_RETRIES else ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
        retry=tenacity.retry_if_exception(_passes),
        reraise=True,
    )


def _passes(error: BaseException) -> bool:
    """Whether trying again may help."""
    if isinstance(error, DaskroiError):
        return False
    status = _status(error)
    if status is not None:
        return status in PASSING or status >= 500
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # fsspec says "not found" of a server that did not answer
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return False
    if isinstance(error, OSError | TimeoutError):
        return error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM)
    # aiohttp's ClientError and botocore's HTTPClientError share no base but Exception
    return type(error).__module__.partition(".")[0] in ("aiohttp", "aiobotocore", "botocore") and (
        "Credential" not in type(error).__name__
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """HTTP status behind an error, if there is one."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, Mapping):  # botocore
            one_status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            # aiohttp's answers, gcsfs's; aiohttp has a "code" of its own for broken bodies
            name = "code" if type(one).__module__.startswith("gcsfs") else "status"
            one_status = getattr(one, name, None)
        if isinstance(one_status, int) and 400 <= one_status < 600:
            return one_status
    return None


def _named(url: str, options: Mapping[str, Any], error: Exception, writing: bool) -> DaskroiError:
    protocol, status = protocol_of(url), _status(error)
    kinds = {type(one).__name__ for one in _chain(error)}
    if any("Credential" in kind or "RefreshError" in kind for kind in kinds):
        return DaskroiError(
            f"{shown(url)}: no credentials were found. Set them up, or, for a public bucket, pass "
            f"storage_options={_told(url, _ANONYMOUS.get(protocol, {}))}."
        )
    if status in (401, 403) or isinstance(error, PermissionError):
        remedy = "Check your permissions."
        if protocol in _ANONYMOUS:
            public = _told(url, _ANONYMOUS[protocol])
            payer = _told(url, {"requester_pays": True})
            remedy = (
                f"Check name and credentials; for a public bucket pass storage_options={public}, "
                f"for a requester-pays one {payer}."
            )
        what = "writing" if writing else "reading"
        return DaskroiPermissionError(f"{shown(url)}: the server forbids {what} it. {remedy}")
    # fsspec says "not found" of a server whose certificate is none as well
    unsafe = any("SSL" in kind or "Certificate" in kind for kind in kinds)
    not_there = isinstance(error, FileNotFoundError) and not _passes(error) and not unsafe
    if status in (404, 410) or (status is None and not_there):
        if writing:
            why = "there is no such bucket. Make it, or check the URL"
            if protocol not in _ANONYMOUS:
                why = "the server takes no files there. Give another place"
            return DaskroiNotFoundError(f"{shown(url)}: cannot be written, {why}.")
        return DaskroiNotFoundError(f"{shown(url)}: no such file. Check the URL.")
    if status is not None:
        reason = f"the server answers with status {status}"
    else:
        deepest = list(_chain(error))[-1] if isinstance(error, FileNotFoundError) else error
        verb = "written" if writing else "read"
        reason = f"cannot be {verb} ({one_line(deepest) or type(deepest).__name__})"
    return _failure(url, options, reason, "Try again, or check the URL and the connection")


_ANONYMOUS: dict[str, dict[str, Any]] = {
    "s3": {"anon": True},
    "s3a": {"anon": True},
    "gs": {"token": "anon"},
    "gcs": {"token": "anon"},
}


def _told(url: str, own: dict[str, Any]) -> dict[str, Any]:
    """How options of the server are written."""
    return own if len(protocols_of(url)) == 1 else {protocol_of(url): own}


def _failure(url: str, options: Mapping[str, Any], reason: str, remedy: str) -> DaskroiError:
    """An error whose reason came from elsewhere: a secret in it is cut out."""
    return DaskroiError(f"{shown(url)}: {scrubbed(reason, url, options)}. {remedy}.")


def _safe_cause(error: Exception, url: str, options: Mapping[str, Any]) -> BaseException | None:
    """The error itself for the traceback, unless a secret stands in it, or in what it carries."""
    texts = [*traceback.format_exception(error), *(repr(one) for one in _whole_chain(error))]
    text = "".join(texts)
    return None if any(secret in text for secret in secrets_of(url, options)) else error


def _whole_chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and all before it, also those a traceback would not show."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [e for e in (one.__cause__, one.__context__) if e is not None]
