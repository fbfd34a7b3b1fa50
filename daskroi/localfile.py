"""What a file on this machine is, before it is opened: there, a file, how large, how old."""

from __future__ import annotations

import os
import stat

from daskroi.errors import DaskroiError, DaskroiNotFoundError

__all__ = ["check_link", "look"]


def look(path: str) -> tuple[str, int, str, bytes]:
    """Absolute path, size, version and first bytes of a local file."""
    url = os.path.abspath(os.path.expanduser(path))
    try:
        status = os.stat(url)
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise DaskroiError(f"{url}: is {what}. Give the path of one file.")
        with open(url, "rb") as file:
            start = file.read(512)
    except FileNotFoundError as error:
        check_link(url)
        raise DaskroiNotFoundError(f"{url}: no such file. Check the path.") from error
    except OSError as error:
        raise DaskroiError(
            f"{url}: cannot be read ({error.strerror}). Check the path and its permissions."
        ) from error
    return url, status.st_size, str(status.st_mtime_ns), start


def check_link(path: str) -> None:
    """Raise, of a file that is not there, if a link to it is: then the content is to be fetched.

    Examples
    --------
    >>> check_link("gone.nii")
    """
    if os.path.islink(path):
        raise DaskroiNotFoundError(
            f"{path}: is a link to {os.readlink(path)!r}, which is not there. In a DataLad or "
            "git-annex dataset, fetch the content with 'datalad get'."
        )
