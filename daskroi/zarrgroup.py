"""Groups of NIfTI-Zarr: what their metadata say, and what is wrong where they say nothing."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from gzip import BadGzipFile
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from daskroi.errors import DaskroiError, DaskroiNotFoundError, brief, one_line, warn
from daskroi.header import checked_offset, parse_header
from daskroi.remote import exists, retried
from daskroi.urls import StorageOptions, is_url, scrubbed, shown

if TYPE_CHECKING:
    import zarr

__all__ = ["AXES", "Metadata", "absent", "check_decoding", "nifti_head", "tried"]

_T = TypeVar("_T")

# along which a NIfTI-Zarr array may have axes; a channel axis can only be of length 1
AXES = "tczyx"
# of which axes, levels and their place in the attributes are known
OME_VERSIONS = ("0.1", "0.2", "0.3", "0.4", "0.5")
# what Zarr and its codecs raise; of what is an OSError, only this is about the data
DAMAGE = (
    BadGzipFile,
    zlib.error,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
)
PAIR_MAGIC = {b"ni1\0": b"n+1\0", b"ni2\0": b"n+2\0"}
# codecs of numcodecs that decode to Python objects; the first runs what it decodes
OBJECT_CODECS = frozenset(
    {"pickle", "json", "json2", "msgpack", "msgpack2", "vlen-utf8", "vlen-bytes", "vlen-array"}
)
MAGIC_AT = {348: 344, 540: 4}


@dataclass(frozen=True)
class Metadata:
    """What a NIfTI-Zarr group says of itself.

    Parameters
    ----------
    document : str
        File of its metadata: ``zarr.json`` in Zarr v3.
    version : str
        What identifies the content: times and size of that file, and a hash of all metadata.
    attrs : dict
        Attributes of the group.
    level : str
        Path of the array of the highest resolution.
    axes : str
        One letter per axis of that array, for example ``"tzyx"``.
    shape, chunks, dtype
        Of that array.
    blosc : bool
        Whether each of its files is one chunk packed by Blosc.
    nifti : bytes
        Content of the array ``nifti``.
    """

    document: str
    version: str
    attrs: dict[str, Any]
    level: str
    axes: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    blosc: bool
    nifti: bytes

    @classmethod
    def read(cls, location: str, options: StorageOptions) -> Metadata | None:
        """None where there is no Zarr group."""
        import zarr

        from daskroi.zarrstore import below, open_store, stamp

        store = open_store(location, options)
        group = _group(store)
        if group is None:
            return None
        attrs: dict[str, Any] = dict(group.attrs)
        scales = attrs.get("ome", attrs).get("multiscales")
        level = str(scales[0]["datasets"][0]["path"]) if scales else "0"
        # zarr takes "/0" for "0", a file system for the root of the disk
        level = level.strip("/")
        arrays: dict[str, zarr.Array[Any]] = {}
        for name, remedy in (
            ("nifti", "Convert the NIfTI file with 'daskroi convert', which keeps its header."),
            (level, "Convert the image again."),
        ):
            found = group.get(name)
            if not isinstance(found, zarr.Array):
                what = "is an OME-Zarr" if scales else "is a Zarr group"
                raise DaskroiError(f"{shown(location)}: {what} without array {name!r}. {remedy}")
            check_decoding(found, shown(location))
            arrays[name] = found
        array = arrays[level]
        nifti = np.asarray(arrays["nifti"][:]).tobytes()
        described = json.dumps([attrs, array.metadata.to_dict()], default=str, sort_keys=True)
        digest = hashlib.sha256(described.encode() + nifti).hexdigest()
        if group.metadata.zarr_format == 3:
            document = "zarr.json"
        else:
            document = ".zattrs" if attrs else ".zgroup"
        version = f"{stamp(below(location, document), options)} {digest}"
        packers = [type(codec).__name__ for codec in array.compressors]
        return cls(
            document=document,
            version=version,
            attrs=attrs,
            level=level,
            axes=_axes(scales, array.shape, shown(location)),
            shape=array.shape,
            chunks=array.chunks,
            dtype=array.dtype,
            # zarr's class, and numcodecs' in Zarr v2
            blosc=array.shards is None and packers in (["BloscCodec"], ["Blosc"]),
            nifti=nifti,
        )

    def check_version(self, name: str) -> None:
        """Warn of an OME-Zarr whose axes and levels may mean something else."""
        ome = self.attrs.get("ome", self.attrs)
        scales = ome.get("multiscales") or [{}]
        version = ome.get("version", scales[0].get("version", "0.5"))
        if version not in OME_VERSIONS:
            warn(
                f"{name}: OME-Zarr version {brief(version)} is not known, and is read as 0.5. "
                "Compare with the image it was made of, or convert that again."
            )

    @property
    def whole(self) -> bool:
        """Whether it is ours, and so has all chunks."""
        from daskroi.zarrstore import NOTE

        return NOTE in self.attrs


def check_decoding(array: zarr.Array[Any], name: str) -> None:
    """Raise before a byte is decoded where decoding would make Python objects, or run a pickle.

    Packages refuse that themselves only lately: numcodecs unpickled whatever a store held, behind
    a dtype of variable length or as compressor, until 0.16.
    """
    found = sorted(set(_codecs(array.metadata.to_dict())) & OBJECT_CODECS)
    if found or array.dtype.kind not in "biufc":
        what = f"codec {found[0]!r}" if found else f"{array.dtype} values"
        raise DaskroiError(
            f"{name}: an array in it has {what}; an image has numbers, and anything else may run "
            "code. Convert the image again."
        )


def _codecs(described: Any) -> Iterator[str]:
    """Names of all codecs in metadata: filters and compressor of Zarr v2, nested codecs of v3."""
    if isinstance(described, Mapping):
        for key in ("id", "name"):
            if isinstance(described.get(key), str):
                yield described[key].removeprefix("numcodecs.").lower()
        for key, inner in described.items():
            if key not in ("attributes", "dimension_names"):
                yield from _codecs(inner)
    elif isinstance(described, list | tuple):
        for inner in described:
            yield from _codecs(inner)


def _group(store: Any) -> zarr.Group | None:
    """The group in any Zarr format, v3 first: that is one request."""
    import zarr

    forbidden = None
    for zarr_format in (3, 2):
        try:
            return zarr.open_group(
                store,
                mode="r",
                zarr_format=zarr_format,
                use_consolidated=False,
            )
        except FileNotFoundError:
            continue
        except PermissionError as error:  # so S3 answers about what is not there, to strangers
            forbidden = error
    if forbidden is not None:
        raise forbidden
    return None


def _axes(scales: Any, shape: tuple[int, ...], name: str) -> str:
    if scales:
        found = "".join(str(axis["name"]).lower() for axis in scales[0]["axes"])
    else:
        found = {3: "zyx", 4: "tzyx", 5: "tczyx"}.get(len(shape), "")
    fits = len(found) == len(shape) == len(set(found)) and set("zyx") <= set(found)
    if not fits or not set(found) <= set(AXES):
        raise DaskroiError(
            f"{name}: the array of shape {shape} has axes {found or 'unknown'!r}; an image has t, "
            "z, y and x. Convert the image again."
        )
    return found


def nifti_head(stored: bytes, name: str) -> bytes:
    """Everything before the voxels of a single NIfTI file, made of the array ``nifti``.

    The array has the header, and after it the extensions if there are any; zeros that only fill up
    are left out. Headers of a .hdr/.img pair become those of a single file.
    """
    for size, at in MAGIC_AT.items():
        if size in (int.from_bytes(stored[:4], "little"), int.from_bytes(stored[:4], "big")):
            single = PAIR_MAGIC.get(stored[at : at + 4])
            if single:
                stored = stored[:at] + single + stored[at + 4 :]
                stored = _with_offset(stored, name, 0)
    offset = checked_offset(name, parse_header(stored, name))
    if len(stored) > offset:  # extensions of an image that never was a file
        offset = -(-len(stored) // 16) * 16
        stored = _with_offset(stored, name, offset)
    return stored.ljust(offset, b"\0")


def _with_offset(stored: bytes, name: str, offset: int) -> bytes:
    header = parse_header(stored, name)
    header["vox_offset"] = offset
    return header.binaryblock + stored[len(header.binaryblock) :]


def tried(location: str, options: StorageOptions, work: Callable[[], _T]) -> _T:
    """Result of ``work``, retried; what Zarr and its codecs raise of broken data is said so."""

    def checked() -> _T:
        try:
            return work()
        except DaskroiError:
            raise
        except DAMAGE as error:
            # Blosc raises RuntimeError, and so does a session that was closed
            deep = isinstance(error, RecursionError)  # of brackets in a document
            if isinstance(error, RuntimeError) and not deep and "compress" not in str(error):
                raise
            reason = one_line(error)
            reason = scrubbed(reason, location, options)
            raise DaskroiError(
                f"{shown(location)}: damaged Zarr data ({type(error).__name__}: {reason}). "
                "Copy the store or convert the image again."
            ) from error

    return retried(location, options, checked)


def absent(location: str, options: StorageOptions) -> DaskroiError:
    """Why there is no Zarr group: nothing, something else, or a conversion that did not end."""
    from daskroi.zarrstore import CONVERSION, PART, below

    name = shown(location)
    begun = [below(location, CONVERSION)]
    if not is_url(location):
        begun += [location + PART]
    if any(exists(place, options) for place in begun):
        return DaskroiError(
            f"{name}: the conversion into it has not ended. If it was interrupted, run it again: "
            "it goes on where it was."
        )
    if not exists(location, options):
        return DaskroiNotFoundError(f"{name}: no such Zarr store. Check the path.")
    return DaskroiError(
        f"{name}: is not a Zarr group (no zarr.json or .zgroup in it). "
        "Give the folder of a NIfTI-Zarr image; an incomplete copy has to be copied again."
    )
