"""Files of well-known datasets: found where they already lie, and said plainly where they do not.

The folders are those other software fills: nilearn's, FSL's, TemplateFlow's; then our own cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from daskroi.bytesource import STUBS
from daskroi.datasetdownload import DownloadError, checksum_record, download
from daskroi.errors import DaskroiError, DaskroiNotFoundError, warn
from daskroi.gzipindex import cache_folder
from daskroi.urls import checked_path, shown

__all__ = ["DataFile", "fetch_files", "folders_of", "own_folder"]

URL_VARIABLE = "DASKROI_DATASETS_URL"


@dataclass(frozen=True)
class DataFile:
    """One file of a dataset: where it may lie and where it comes from.

    Parameters
    ----------
    dataset : str
        Folder of the dataset below a data folder, as nilearn (or TemplateFlow) names it.
    path : str
        Below that folder, with slashes.
    urls : tuple of str
        Tried in order. What they give is the file itself, or ``archive``.
    archive : str
        Name of the ``.tgz`` that the URLs give and that holds ``path``; empty when there is none.
    sha256 : str
        Of what the URLs give, where it is known for a fact; empty otherwise.
    """

    dataset: str
    path: str
    urls: tuple[str, ...]
    archive: str = ""
    sha256: str = ""

    def sources(self, bases: Sequence[str]) -> tuple[str, ...]:
        """URLs to try: below ``bases`` if there are any, else the official ones."""
        name = self.archive or self.path
        return tuple(f"{b.rstrip('/')}/{self.dataset}/{name}" for b in bases) or self.urls


def fetch_files(
    alternatives: Sequence[tuple[DataFile, ...]],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    remedy: str,
    verbose: int = 1,
) -> tuple[Path, ...]:
    """Have the files of a dataset on disk: as they lie there, else downloaded.

    Parameters
    ----------
    alternatives : sequence of tuple of DataFile
        Sets of files that will do, the best first; files of two sets are never mixed. All are
        looked for on disk before any is downloaded.
    data_dir : str or Path, optional
        Looked in first, and where downloads go.
    remedy : str
        For the error: how else to come by the files.
    verbose : int
        0 is silent.

    Returns
    -------
    tuple of Path
        The files of one alternative, in its order.

    Raises
    ------
    DaskroiNotFoundError
        Found nowhere, and no URL gave them: all folders and URLs are named.
    DaskroiError
        pooch is missing; the folder for downloads cannot be written.

    Warns
    -----
    DaskroiWarning
        Not the best alternative was downloaded.
    """
    if data_dir is not None:
        data_dir = checked_path("data_dir", data_dir)
    for files in alternatives:
        found = [_find(file, data_dir) for file in files]
        if all(found):
            return tuple(p for p in found if p)
    bases = os.environ.get(URL_VARIABLE, "").split()
    failures: list[DownloadError] = []
    for files in alternatives:
        try:
            had = tuple(_have(file, data_dir, bases, verbose) for file in files)
        except DownloadError as error:
            failures.append(error)
            continue
        if failures:
            warn(
                f"{had[0].name} is taken, for {alternatives[0][0].path} cannot be downloaded "
                f"({failures[0]}). The same atlas, but its makers may differ in single voxels."
            )
        return had
    raise _nowhere(alternatives, failures, data_dir, remedy) from failures[0]


def folders_of(dataset: str, data_dir: str | os.PathLike[str] | None = None) -> list[Path]:
    """Folders in which a dataset may lie, in the order in which they are looked in.

    Examples
    --------
    >>> from pathlib import Path
    >>> Path("/data/fsl") in folders_of("fsl", "/data")
    True
    """
    folders: list[Path] = []
    for root in _roots(os.fspath(data_dir) if data_dir is not None else None):
        # up to 0.14.0 nilearn put development_fmri/ into development_fmri/
        folders += [root / dataset, root / dataset / dataset]
        # the dataset's own folder, or an FSL installation. No other: it may be a BIDS dataset,
        # with a participants.tsv of its own
        folders += [root] if dataset in (root.name, "fsl") else []
    for variable in ("NILEARN_SHARED_DATA", "NILEARN_DATA"):
        for root in _roots(os.environ.get(variable)):
            folders += [root / dataset, root / dataset / dataset]
    home = Path("~").expanduser() if os.path.expanduser("~") != "~" else Path()
    folders += [home / "nilearn_data" / dataset, home / "nilearn_data" / dataset / dataset]
    if dataset == "fsl":
        folders += _roots(os.environ.get("FSLDIR"))
    if dataset.startswith("tpl-"):
        templateflow = _roots(os.environ.get("TEMPLATEFLOW_HOME"))
        folders += [r / dataset for r in templateflow or [home / ".cache" / "templateflow"]]
    folders.append(cache_folder() / "datasets" / dataset)
    return list(dict.fromkeys(folders))


def own_folder(dataset: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Folder of a dataset that downloads go to: below ``data_dir``, else in our cache.

    Examples
    --------
    >>> own_folder("fsl", "/data").as_posix()
    '/data/fsl'
    """
    roots = _roots(os.fspath(data_dir) if data_dir is not None else None)
    return (roots[0] if roots else cache_folder() / "datasets") / dataset


def _roots(paths: str | None) -> list[Path]:
    return [Path(p).expanduser().absolute() for p in (paths or "").split(os.pathsep) if p]


def _find(file: DataFile, data_dir: str | os.PathLike[str] | None) -> Path | None:
    paths = [folder / file.path for folder in folders_of(file.dataset, data_dir)]
    return next((path for path in paths if not _flaw(path)), None)


def _have(
    file: DataFile, data_dir: str | os.PathLike[str] | None, bases: Sequence[str], verbose: int
) -> Path:
    # looked for again: the archive of the file before may have brought it
    if found := _find(file, data_dir):
        return found
    folder = own_folder(file.dataset, data_dir)
    urls = file.sources(bases)
    return download(file.path, urls, folder, file.archive, file.sha256, verbose)


def _flaw(path: Path) -> str:
    """Why a path will not do: "absent", or what is wrong with what lies there; empty if it will."""
    try:
        with path.open("rb") as stream:
            head = stream.read(200)
            size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError:
        # git-annex: a link into objects that were not fetched
        return "a broken link: datalad get" if path.is_symlink() else "absent"
    except NotADirectoryError:
        return "absent"
    except OSError as error:
        return error.strerror or type(error).__name__
    if not size:
        return "empty: a placeholder of TemplateFlow's, or of a download that broke off"
    for stub, command in STUBS.items():
        if stub in head:
            return f"only a pointer: {command}"
    if path.name.endswith(".gz") and not head.startswith(b"\x1f\x8b"):
        return "not gzip"
    recorded = checksum_record(path)
    if recorded and recorded[1] != size:
        return f"damaged: {size} bytes, {recorded[1]} were downloaded"
    return ""


def _flawed(
    alternatives: Sequence[tuple[DataFile, ...]], data_dir: str | os.PathLike[str] | None
) -> Iterator[str]:
    for file in (f for files in alternatives for f in files):
        for folder in folders_of(file.dataset, data_dir):
            flaw = _flaw(folder / file.path)
            if flaw not in ("", "absent"):
                yield f"{folder / file.path} ({flaw})"


def _nowhere(
    alternatives: Sequence[tuple[DataFile, ...]],
    failures: Sequence[DownloadError],
    data_dir: str | os.PathLike[str] | None,
    remedy: str,
) -> DaskroiError:
    first = next(f for f in alternatives[0] if not _find(f, data_dir))
    folders = dict.fromkeys(
        str(d) for files in alternatives for f in files for d in folders_of(f.dataset, data_dir)
    )
    tried = dict.fromkeys(f"{shown(url)}: {why}" for e in failures for url, why in e.tried)
    flawed = list(dict.fromkeys(_flawed(alternatives, data_dir)))
    return DaskroiNotFoundError(
        f"{first.path}: in no folder ({', '.join(folders)})"
        + (f", unusable in {'; '.join(flawed)}" if flawed else "")
        + f", and cannot be downloaded ({'; '.join(tried)}). {remedy} Or set {URL_VARIABLE} to a "
        f"mirror that this machine reaches, with <mirror>/{first.dataset}/"
        f"{first.archive or first.path}."
    )
