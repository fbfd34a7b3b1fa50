"""Downloads by pooch: checked before they take their name, from the first URL that gives the file.

What guards a file: the length the server announces (urllib3), the checksum inside gzip, a SHA-256
where one is known, and the SHA-256 of the first download, kept beside it, where none is. nilearn
knows none for these datasets.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from daskroi.bar import BYTES, Bar
from daskroi.errors import DaskroiError
from daskroi.partfiles import part_folder, placed, settle
from daskroi.urls import shown

__all__ = ["DownloadError", "checksum_record", "download", "storing"]

# twice again for what may pass by itself, after 1 and 2 s: pooch's own back-off
RETRIES = 2
CONNECT_SECONDS, SILENCE_SECONDS = 10, 30
PASSING = (408, 425, 429)  # and all from 500
CHECKSUMS = ".checksums"
# Harvard-Oxford unpacks to 30 MB or so
UNPACKED_LIMIT = 2 * 1024**3


NO_CONNECTION = "no connection"


class DownloadError(Exception):
    """No URL gave the file. ``tried`` holds pairs of URL and reason."""

    def __init__(self, tried: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{shown(url)}: {why}" for url, why in tried))
        self.tried = tuple(tried)


class _RefusedError(Exception):
    """An answer that asking again will not change."""


def download(
    path: str,
    urls: Sequence[str],
    folder: Path,
    archive: str = "",
    sha256: str = "",
    verbose: int = 1,
) -> Path:
    """Download a file into a folder, whole or not at all.

    Parameters
    ----------
    path : str
        Of the file below ``folder``, with slashes.
    urls : sequence of str
        Tried in order; of http(s) or whatever pooch reads.
    folder : Path
        Made if it is not there.
    archive : str
        Name of the tar archive that the URLs give: all its files are put below ``folder``.
    sha256 : str
        Of what the URLs give. Without it, that of the first download, if there was one.
    verbose : int
        0 is silent; else a line per file, and how far it is.

    Returns
    -------
    Path
        ``folder / path``.

    Raises
    ------
    DownloadError
        No URL gave it.
    DaskroiError
        pooch is missing, the folder cannot be written, the archive is not safe or lacks the file.
    """
    try:
        import pooch  # noqa: F401  before anything is written
    except ImportError as error:
        raise DaskroiError(
            f"{path}: is not on this machine, and downloading needs pooch. "
            "Type: pip install 'daskroi[datasets]'"
        ) from error
    # in the folder itself: only within one file system is a rename atomic
    with storing(path, folder), part_folder(folder / "download") as part:
        named = archive or path
        known = sha256 or (checksum_record(folder / named) or ("", 0))[0]
        whole, members = _from_first(named, path, urls, part, known, verbose)
        if archive:
            _record(whole, folder / archive)
        # the file asked for comes last: where it is, all that it needs is
        for member in sorted(members, key=lambda m: m == PurePosixPath(path)):
            _settle(members[member], folder / member)
    return folder / path


@contextmanager
def storing(path: str, folder: Path) -> Iterator[None]:
    """Have a folder in which a file is stored, and name both when that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DaskroiError(
            f"{folder}: {path} cannot be stored here ({error.strerror or error}). Free space or "
            "give another folder as data_dir, or as DASKROI_CACHE."
        ) from error


def checksum_record(path: Path) -> tuple[str, int] | None:
    """SHA-256 (hex) and size of a file when it was downloaded, if we did that."""
    with suppress(OSError, ValueError):
        digest, size = _record_path(path).read_text(encoding="ascii").split()
        return digest, int(size)
    return None


def _from_first(
    named: str, path: str, urls: Sequence[str], part: Path, known: str, verbose: int
) -> tuple[Path, dict[PurePosixPath, Path]]:
    """What the first good URL gives, and the files in it by their place in the folder."""
    tried: list[tuple[str, str]] = []
    for url in urls:
        try:
            whole = _retrieve(PurePosixPath(named).name, url, part, known, verbose)
            if named == path:
                return whole, {PurePosixPath(path): whole}
            members = _unpack(whole, part / "unpacked")
            if PurePosixPath(path) in members:
                return whole, members
            raise DownloadError([(url, f"holds no {path}")])
        except DownloadError as error:
            tried += error.tried
        except tarfile.TarError as error:
            tried.append((url, f"a damaged archive: {error}"))
        # what one server sent must not pass for what the next one has
        shutil.rmtree(part / "unpacked", ignore_errors=True)
        (part / PurePosixPath(named).name).unlink(missing_ok=True)
    raise DownloadError(tried)


def _retrieve(name: str, url: str, part: Path, known: str, verbose: int) -> Path:
    import pooch
    import requests

    def downloader(url: str, output: Any, keeper: Any) -> None:
        with closing(Bar(name, BYTES, bool(verbose))) as bar:
            fetch = pooch.HTTPDownloader(
                progressbar=bar,
                chunk_size=1 << 16,
                timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
                # some servers call a .gz compressed for the way, and requests would inflate it
                headers={"Accept-Encoding": "identity", "User-Agent": "daskroi"},
            )
            try:
                fetch(url, output, keeper)
            except requests.HTTPError as error:
                status = error.response.status_code if error.response is not None else 500
                if status < 500 and status not in PASSING:
                    raise _RefusedError(_reason(error)) from error
                raise
            except requests.ConnectionError as error:
                # a machine without a network should say so at once
                if _reason(error) == NO_CONNECTION:
                    raise _RefusedError(NO_CONNECTION) from error
                raise
        _check_whole(Path(output), name)

    if verbose:
        print(f"Downloading {name} from {shown(url)}", file=sys.stderr, flush=True)
    # pooch tells the user to copy hashes around
    pooch.get_logger().setLevel("WARNING")
    keeper = pooch.create(
        path=part,
        base_url="",
        registry={name: known or None},
        urls={name: url},
        retry_if_failed=RETRIES,
    )
    try:
        return Path(keeper.fetch(name, downloader=downloader))
    except (_RefusedError, requests.RequestException, ValueError) as error:
        why = _reason(error)
    raise DownloadError([(url, why)])


def _check_whole(path: Path, name: str) -> None:
    """Raise ValueError, which pooch tries again on, for what cannot be the file."""
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        raise ValueError("an empty answer")
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise ValueError("a web page came instead: a login, a licence to accept, or a proxy")
    if name.endswith((".gz", ".tgz")):
        if head[:2] != b"\x1f\x8b":
            raise ValueError("not gzip")
        try:
            with gzip.open(path) as inflated:
                # gzip's own length and CRC come at the end
                while inflated.read(1 << 20):
                    pass
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"damaged on the way: {error}") from error
        if name.endswith(".tgz") and not tarfile.is_tarfile(path):
            raise ValueError("no tar archive")


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.SSLError):
        return "its TLS certificate cannot be verified"
    if isinstance(error, requests.ConnectTimeout):
        return NO_CONNECTION
    if isinstance(error, requests.Timeout):
        return f"no answer in {SILENCE_SECONDS} s"
    # the texts of requests hold the whole URL, and with it what may be secret
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        broken = "IncompleteRead" in str(error) or "aborted" in str(error)
        return "the connection broke off" if broken else NO_CONNECTION
    if isinstance(error, requests.RequestException):
        return f"not a request one can make ({type(error).__name__})"
    return _without_advice(str(error))


def _without_advice(text: str) -> str:
    """Of pooch's four lines about a hash what matters here."""
    if "does not match the known hash" not in text:
        return text
    expected, got = (
        part.split()[0].rstrip(").,") for part in text.split("expected")[1].split("got")
    )
    return (
        f"its SHA-256 is {got[:12]}…, not {expected[:12]}… as it was (what was downloaded first is "
        f"recorded in {CHECKSUMS})"
    )


def _unpack(archive: Path, folder: Path) -> dict[PurePosixPath, Path]:
    """Regular files of a tar archive, written by ourselves; names that lead out are refused."""
    unpacked: dict[PurePosixPath, Path] = {}
    left = UNPACKED_LIMIT
    with tarfile.open(archive) as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts or "\\" in member.name:
                raise DaskroiError(
                    f"{archive.name}: holds a path that leads out of its folder "
                    f"({member.name!r}): not the archive it should be. Nothing was unpacked."
                )
            left -= member.size
            if left < 0:
                raise DaskroiError(
                    f"{archive.name}: unpacks to more than {UNPACKED_LIMIT >> 30} GiB: not the "
                    "archive it should be. Nothing was unpacked."
                )
            # links are left out, and macOS's "._" twins
            if not member.isreg() or name.name.startswith("._"):
                continue
            content = tar.extractfile(member)
            assert content is not None, "which it is for regular files"
            local = folder / name
            local.parent.mkdir(parents=True, exist_ok=True)
            with local.open("wb") as out:
                shutil.copyfileobj(content, out, 1 << 20)
            unpacked[name] = local
    return unpacked


def _settle(whole: Path, target: Path) -> None:
    """Give a whole file its name, in one step; its checksum is recorded before."""
    record = _record(whole, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # temporary files are their owner's alone; a data folder may be shared
    whole.chmod(record.stat().st_mode & 0o777)
    settle(whole, target)


def _record(whole: Path, target: Path) -> Path:
    digest = hashlib.sha256()
    with whole.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    record = _record_path(target)
    record.parent.mkdir(parents=True, exist_ok=True)
    with placed(record) as file:
        file.write(f"{digest.hexdigest()} {whole.stat().st_size}\n".encode())
    return record


def _record_path(path: Path) -> Path:
    return path.parent / CHECKSUMS / f"{path.name}.sha256"
