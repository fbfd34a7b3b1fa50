"""`convert`: NIfTI to NIfTI-Zarr and back, voxels and header as they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

from daskroi.errors import DaskroiError, DaskroiTypeError
from daskroi.urls import StorageOptions, checked_path, is_url, located, shown

__all__ = ["convert"]

NIFTI = (".nii", ".nii.gz")


def convert(
    image: Any,
    target: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    **zarr_options: Any,
) -> bool:
    """Convert an image; what the target is called decides into what.

    Parameters
    ----------
    image : path, URL, nibabel image or DataArray
        See `daskroi.open_image`.
    target : path or URL
        ``….nii.zarr``, ``….nii`` or ``….nii.gz``.
    storage_options : mapping, optional
        For URLs at both ends.
    overwrite : bool
        Replace what is there.
    **zarr_options
        ``chunks``, ``shards``, ``compressor`` and ``zarr_format``; see `daskroi.to_zarr`.

    Returns
    -------
    bool
        Whether anything was written. False: the Zarr store holds this image already.

    Raises
    ------
    DaskroiError
        The target is there, or cannot be written, or has another ending.

    Notes
    -----
    Header, extensions and voxels stay as they are, byte by byte: there and back again is the file
    one began with, inflated. Only what follows the voxels is left out. Some 32 MiB of the image are
    in memory at a time.

    Examples
    --------
    >>> from daskroi import convert
    >>> import daskroi as dr, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = dr.write_phantom(folder, dr.make_phantom((8, 9, 7), n_time=10, n_regions=4))
    ...     convert(paths["image"], f"{folder}/x.nii.zarr")
    ...     convert(f"{folder}/x.nii.zarr", f"{folder}/back.nii.gz")
    True
    True
    """
    name = shown(checked_path("target", target)).rstrip("/")
    if name.endswith(".zarr"):
        from daskroi.zarrwrite import to_zarr

        known = [n for n, p in signature(to_zarr).parameters.items() if p.kind is p.KEYWORD_ONLY]
        if unknown := [option for option in zarr_options if option not in known]:
            raise DaskroiTypeError(
                f"{unknown[0]}= is no option of convert. Use some of: {', '.join(known)}."
            )
        return to_zarr(
            image, target, storage_options=storage_options, overwrite=overwrite, **zarr_options
        )
    if not name.endswith(NIFTI):
        raise DaskroiError(
            f"{name}: its ending says neither NIfTI nor Zarr. Use .nii.zarr, .nii.gz or .nii."
        )
    if zarr_options:
        raise DaskroiError(
            f"{', '.join(zarr_options)}: of Zarr, but {name} is NIfTI. Leave them out."
        )
    _write_nifti(image, target, storage_options, overwrite)
    return True


def _write_nifti(
    image: Any,
    target: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None,
    overwrite: bool,
) -> None:
    from daskroi.niftiwrite import write_nifti
    from daskroi.zarrwrite import check_apart, source_of

    location = located(target)
    _check_free(location, storage_options, overwrite)
    source = source_of(image, storage_options)
    check_apart(source, location)
    with _alone_at(location):
        _check_free(location, storage_options, overwrite)  # another may have ended just now
        with closing(source.slabs(0)) as slabs:
            write_nifti(location, source.head, (slab for _, slab in slabs), storage_options)


def _check_free(location: str, storage_options: Mapping[str, Any] | None, overwrite: bool) -> None:
    from daskroi.remote import exists

    if not overwrite and exists(location, StorageOptions(storage_options)):
        raise DaskroiError(
            f"{shown(location)}: is there already. Pass overwrite=True (--overwrite) to replace "
            "it, or give another path."
        )


@contextmanager
def _alone_at(location: str) -> Iterator[None]:
    """Be the only one on this machine who converts into a file; object stores know no locks."""
    from daskroi.locks import BusyError, alone_in

    folder, name = os.path.split(location)
    if is_url(location) or not os.path.isdir(folder):  # which is said by who writes
        yield
        return
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]  # a name may be as long as can be
    with ExitStack() as stack:
        try:
            stack.enter_context(alone_in(Path(folder), 0, f".daskroi-{digest}.lock"))
        except BusyError:
            raise DaskroiError(
                f"{location}: another process is converting into it. Wait for it, or give another "
                "path."
            ) from None
        yield
