"""What a NIfTI-Zarr store is made of: chunks, codecs and the metadata of OME-Zarr."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.errors import DaskroiError, check_choice
from daskroi.header import parse_header
from daskroi.image import DIMS

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store

__all__ = ["Layout", "multiscales"]

CHUNK_BYTES = 16 << 20
# Blosc takes 2 GiB at most; and a chunk is in memory three times while it is read
LARGEST_CHUNK = 512 << 20
# chunks smaller than this are many files: "auto" puts them into shards
SMALL_CHUNK = 2 << 20
SHARD_BYTES = 64 << 20
# both in Blosc, with the bytes of a voxel shuffled. Measured on a 300-volume run of float32 (CPU of
# one thread, chunks of 16 volumes): lz4 packs at 1.5 GB/s to 0.229 and unpacks at 3.0 GB/s, zstd
# 0.26, 0.196 and 1.2; the .nii.gz is 0.213, and inflates at 0.87
COMPRESSORS = {"lz4": ("lz4", 5), "zstd": ("zstd", 3)}
ZARR_FORMATS = (2, 3)
OME_VERSIONS = {2: "0.4", 3: "0.5"}
# NIfTI's units by the names of UDUNITS, which OME-Zarr uses
SPACE_UNITS = {1: "meter", 2: "millimeter", 3: "micrometer"}
TIME_UNITS = {8: "second", 16: "millisecond", 24: "microsecond"}


@dataclass(frozen=True)
class Layout:
    """How an array is cut and packed.

    Parameters
    ----------
    shape, chunks : tuple of int
        Along (time, z, y, x), or (z, y, x).
    shards : tuple of int, or None
        Chunks that are one file together.
    dtype : str
        With byte order.
    compressor : {"lz4", "zstd"}
    zarr_format : {2, 3}
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    dtype: str
    compressor: str
    zarr_format: int

    @classmethod
    def make(
        cls,
        shape: tuple[int, ...],
        dtype: str,
        *,
        chunks: Any = "auto",
        shards: Any = None,
        compressor: str = "lz4",
        zarr_format: int = 3,
    ) -> Layout:
        """Check what was asked for, and choose what was not.

        Examples
        --------
        >>> Layout.make((300, 91, 109, 91), "<f4").chunks
        (4, 91, 109, 91)
        >>> Layout.make((300, 91, 109, 91), "<i2", chunks={"time": 1, "z": 8}, shards="auto").shards
        (35, 96, 109, 91)
        """
        check_choice("compressor", compressor, tuple(COMPRESSORS))
        check_choice("zarr_format", zarr_format, ZARR_FORMATS)
        itemsize = np.dtype(dtype).itemsize
        sizes = _auto(shape, itemsize) if _is_auto(chunks) else _sizes(chunks, shape, "chunks")
        if math.prod(sizes) * itemsize > LARGEST_CHUNK:
            raise DaskroiError(
                f"chunks={chunks!r} makes chunks of {math.prod(sizes) * itemsize >> 20} MiB. "
                f"Choose chunks of {LARGEST_CHUNK >> 20} MiB at most; 'auto' makes "
                f"{CHUNK_BYTES >> 20} MiB."
            )
        grouped = None
        if shards is not None:
            if zarr_format == 2:
                raise DaskroiError("shards are for zarr_format=3. Leave them out, or use 3.")
            grouped = _shards(shards, shape, sizes, itemsize)
        return cls(shape, sizes, grouped, np.dtype(dtype).str, compressor, zarr_format)

    @property
    def stored(self) -> tuple[int, ...]:
        """Sizes of what is one file: shards, else chunks."""
        return self.shards or self.chunks

    def keys(self, box: tuple[slice, ...]) -> list[str]:
        """Keys of the files that a box touches, relative to the array."""
        spans = [
            range(s.start // n, -(-s.stop // n)) for s, n in zip(box, self.stored, strict=True)
        ]
        prefix = "c/" if self.zarr_format == 3 else ""
        grids = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, len(spans))
        return [prefix + "/".join(map(str, index)) for index in grids.tolist()]

    def create(self, store: Store) -> zarr.Array[Any]:
        """Make the array of voxels at the root of ``store``."""
        axes = "tzyx"[-len(self.shape) :]
        return self._create(store, self.shape, self.chunks, self.shards, self.dtype, list(axes))

    def create_header(self, store: Store, length: int) -> zarr.Array[Any]:
        """Make the array of header bytes at the root of ``store``: one chunk, not compressed."""
        return self._create(store, (length,), (length,), None, "|u1", ["byte"], packed=False)

    def _create(
        self,
        store: Store,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        shards: tuple[int, ...] | None,
        dtype: str,
        names: list[str],
        packed: bool = True,
    ) -> zarr.Array[Any]:
        import zarr
        from zarr.codecs import BloscCodec, BytesCodec

        own: dict[str, Any]
        kind, level = COMPRESSORS[self.compressor]
        itemsize = np.dtype(dtype).itemsize
        if self.zarr_format == 3:
            codec: Any = BloscCodec(
                cname=kind,  # type: ignore[arg-type]
                clevel=level,
                shuffle="shuffle" if itemsize > 1 else "noshuffle",
                typesize=itemsize,
            )
            endian = "big" if np.dtype(dtype).byteorder == ">" else "little"
            own = {
                "dimension_names": names,
                "serializer": BytesCodec(endian=endian),
                "fill_value": 0,
            }
        else:
            from numcodecs import Blosc

            codec = Blosc(kind, level, Blosc.SHUFFLE if itemsize > 1 else Blosc.NOSHUFFLE)
            own = {
                # nested keys, as OME-Zarr has them; and what xarray calls dimension names
                "chunk_key_encoding": {"name": "v2", "separator": "/"},
                "attributes": {"_ARRAY_DIMENSIONS": names},
                # xarray would take a 0 for missing
                "fill_value": None,
            }
        return zarr.create_array(
            store,
            shape=shape,
            chunks=chunks,
            shards=shards,
            dtype=dtype,
            compressors=codec if packed else None,
            filters=None,
            zarr_format=self.zarr_format,  # type: ignore[arg-type]
            overwrite=True,
            # a chunk of zeros that is not written looks like one that was lost; and -0.0 equals 0
            config={"write_empty_chunks": True},
            **own,
        )


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _auto(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Whole volumes of about 16 MiB; of a volume that is larger than twice that, whole slices."""
    frame = math.prod(shape[-3:]) * itemsize
    planes = shape[-3]
    if frame > 2 * CHUNK_BYTES:
        planes = max(1, CHUNK_BYTES * shape[-3] // frame)
    frames = (max(1, min(shape[0], CHUNK_BYTES // frame)),) if len(shape) == 4 else ()
    return (*frames, planes, *shape[-2:])


def _sizes(wanted: Any, shape: tuple[int, ...], parameter: str) -> tuple[int, ...]:
    """Sizes along every axis: a number of frames, a tuple, or a dict by dims."""
    dims = DIMS[-len(shape) :]
    wishes = wanted
    if isinstance(wanted, int | np.integer):
        wishes = {dims[0]: wanted} if len(shape) == 4 else {}
    if isinstance(wishes, dict):
        unknown = set(wishes) - set(dims)
        if unknown:
            raise DaskroiError(
                f"{parameter} names {sorted(map(str, unknown))}, which are not dims of the image. "
                f"Use {', '.join(dims)}."
            )
        wishes = tuple(wishes.get(d, -1) for d in dims)
    good = isinstance(wishes, tuple | list) and len(wishes) == len(shape)
    if not good or not all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) and (n == -1 or n > 0)
        for n in wishes
    ):
        raise DaskroiError(
            f"{parameter}={wanted!r} does not fit an image of shape {shape}. Use 'auto', a number "
            "of frames, or a dict such as {'time': 10, 'z': 20}; -1 is all."
        )
    return tuple(
        n if wish == -1 else min(int(wish), n) for wish, n in zip(wishes, shape, strict=True)
    )


def _shards(
    wanted: Any, shape: tuple[int, ...], chunks: tuple[int, ...], itemsize: int
) -> tuple[int, ...] | None:
    """Whole numbers of chunks; "auto": none where chunks are large enough, else about 64 MiB."""
    counts = [-(-n // c) for n, c in zip(shape, chunks, strict=True)]
    if _is_auto(wanted):
        chunk = math.prod(chunks) * itemsize
        if chunk >= SMALL_CHUNK:
            return None
        room = max(1, SHARD_BYTES // chunk)
        taken = []
        for count in reversed(counts):  # space first, then time
            taken.append(min(count, room))
            room = max(1, room // taken[-1])
        return tuple(c * t for c, t in zip(chunks, reversed(taken), strict=True))
    sizes = _sizes(wanted, shape, "shards")
    for size, chunk, count in zip(sizes, chunks, counts, strict=True):
        if size % chunk and size < chunk * count - chunk:
            raise DaskroiError(
                f"shards={wanted!r} do not hold whole chunks of {chunks}. Use multiples of these."
            )
    return tuple(-(-size // chunk) * chunk for size, chunk in zip(sizes, chunks, strict=True))


def multiscales(head: bytes, name: str, ndim: int, zarr_format: int) -> dict[str, Any]:
    """Attributes of the group: OME-Zarr's ``multiscales`` for the one level there is.

    Parameters
    ----------
    head : bytes
        The NIfTI header; units and voxel sizes are as in it. OME-Zarr knows no affine.
    name : str
        Of the image.
    ndim : {3, 4}
    zarr_format : {2, 3}

    Returns
    -------
    dict
    """
    header = parse_header(head, name)
    units = int(header["xyzt_units"])
    space, time = SPACE_UNITS.get(units & 0x07), TIME_UNITS.get(units & 0x38)
    sizes = [_size(n) for n in header["pixdim"][1:5]]
    axes: list[dict[str, str]] = [
        {"name": axis, "type": "space"} | ({"unit": space} if space else {}) for axis in "zyx"
    ]
    scale = sizes[2::-1]
    if ndim == 4:
        axes.insert(0, {"name": "t", "type": "time"} | ({"unit": time} if time else {}))
        # here and not once for all levels, as the NIfTI-Zarr draft also has it: ngff-zarr 0.50
        # cannot read that, and the header is authoritative anyway
        scale.insert(0, sizes[3])
    image: dict[str, Any] = {
        "name": name,
        "axes": axes,
        "datasets": [
            {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        ],
    }
    version = OME_VERSIONS[zarr_format]
    if zarr_format == 3:
        return {"ome": {"version": version, "multiscales": [image]}}
    return {"multiscales": [{"version": version} | image]}


def _size(value: Any) -> float:
    # pixdim is float32: 0.72 would come out as 0.7200000286
    size = abs(float(f"{float(value):.7g}"))
    return size if 0 < size < math.inf else 1.0
