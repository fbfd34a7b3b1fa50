"""Images: NIfTI headers and voxels, gzip in all its forms, other formats, NIfTI-Zarr."""

from __future__ import annotations

import gzip
import shutil
import warnings
import zlib
from pathlib import Path
from random import Random
from typing import Any

import nibabel as nib
import numpy as np
from fuzz.engine import Planned, Wrong
from fuzz.mutations import joined, json_tokens, nifti_edited, of_bytes, of_text, parts_of
from images import OBLIQUE
from niftis import nifti_bytes

__all__ = ["Flipped", "flip", "gzipped", "image_targets", "values"]

SHAPE = (4, 3, 2, 5)  # (x, y, z, time)


def values(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Voxels that differ from each other."""
    return (np.arange(np.prod(shape)) % 120).reshape(shape).astype(dtype)


def runs() -> list[bytes]:
    """Small valid images: both versions, both byte orders, several types, scaled or not."""
    found = []
    for version in (1, 2):
        for endian in "<>":
            for dtype, scaled in (("i2", True), ("f4", False), ("u1", False), ("f8", False)):
                more: dict[str, Any] = {"scl_slope": 0.5, "scl_inter": 3} if scaled else {}
                form = "sform" if dtype != "u1" else "qform"
                # a qform has no shear
                affine = OBLIQUE if form == "sform" else np.diag([2.0, 2, 3, 1])
                found.append(
                    nifti_bytes(
                        values(dtype),
                        version=version,
                        endian=endian,
                        form=form,
                        affine=affine,
                        extension=32 if dtype == "f4" else 0,
                        **more,
                    )
                )
    found.append(nifti_bytes(values("i2", SHAPE[:3])))
    return found


def compare(path: Path, file: Any) -> str:
    """All voxels of an image that was accepted; as nibabel has them if it accepts it too."""
    slabs = [slab.copy() for _, slab in file.slabs(2)]
    box = (slice(file.frames - 1, file.frames), *(slice(0, n) for n in file.grid.shape))
    last = file.read_box(box)
    with np.errstate(all="ignore"):
        ours = np.concatenate(slabs).astype(np.float64) * file.slope + file.inter
        last = last.astype(np.float64) * file.slope + file.inter
    if not np.array_equal(last[0], ours[-1], equal_nan=True):
        raise Wrong("a volume read alone differs from the same volume in the stream")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            image = nib.load(path)
            if image.dataobj.offset < 348 and path.suffix in (".nii", ".gz"):
                return "accepted alone"  # nibabel takes the header for voxels where it says 0
            theirs = np.asarray(image.dataobj, np.float64)
            affine = image.affine
        except Exception:  # what nibabel cannot read is no oracle
            return "accepted alone"
    if not np.array_equal(affine, file.grid.matrix):
        raise Wrong(f"affine {file.grid.matrix.tolist()} and nibabel's {affine.tolist()}")
    theirs = theirs.T.reshape(ours.shape)
    if not np.allclose(ours, theirs, rtol=1e-6, atol=0, equal_nan=True):
        raise Wrong(f"voxels differ from nibabel's: {ours.ravel()[:5]} {theirs.ravel()[:5]}")
    return "as nibabel"


class _Reading:
    """Read an image of these bytes under a name; the sidecar, if the input has one, beside it."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / name

    def __call__(self, data: bytes) -> str:
        from daskroi.openimage import as_file

        self.path.write_bytes(data)
        file = as_file(self.path)
        assert file is not None
        return compare(self.path, file)


class _Extracting(_Reading):
    """The whole flow, both plans, of an image that may be broken."""

    def __call__(self, data: bytes) -> str:
        import dask

        import daskroi as dr

        self.path.write_bytes(data)
        atlas = nib.Nifti1Image(values("i2", SHAPE[:3]) % 5, OBLIQUE)
        with dask.config.set(scheduler="synchronous"):
            found = [
                dr.extract(self.path, atlas, plan=plan, chunks=2).compute()
                for plan in ("stream", "blocks")
            ]
        # an infinite scaling aside, both are the same sums
        if not np.allclose(*(f.values for f in found), rtol=1e-9, equal_nan=True):
            raise Wrong("the plans differ")
        return "accepted"


def gzipped(content: bytes) -> list[bytes]:
    """One member, several, stored, with a name and comment, zeros after it, an empty member."""
    whole = gzip.compress(content, 6, mtime=0)
    half = len(content) // 3
    several = gzip.compress(content[:half], 1, mtime=0) + gzip.compress(content[half:], 9, mtime=0)
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = packer.compress(content) + packer.flush()
    trailer = (zlib.crc32(content)).to_bytes(4, "little") + len(content).to_bytes(4, "little")
    # FEXTRA, FNAME, FCOMMENT
    named = b"\x1f\x8b\x08\x1c\0\0\0\0\0\xff\4\0abcdx.nii\0hello\0" + body + trailer
    stored = gzip.compress(content, 0, mtime=0)
    return [whole, several, named, stored, whole + bytes(40), several + gzip.compress(b"", mtime=0)]


class Flipped:
    """Damaged gzip data: refused, or the same voxels as before, by every way of reading."""

    def __init__(self, folder: Path, content: bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.content = folder / "run.nii.gz", content
        self.indexes: dict[int, Any] = {}

    def __call__(self, data: bytes) -> str:
        from daskroi.errors import DaskroiError
        from daskroi.inflate import indexed_streams, streams
        from daskroi.openimage import as_file

        self.path.write_bytes(data)
        words = []
        for index in (False, "stream", True):
            try:
                file: Any = as_file(self.path, index=index is True)
                if index == "stream":
                    got = np.concatenate([slab.copy() for _, slab in file.slabs(2)])
                else:
                    space = [slice(0, n) for n in file.grid.shape]
                    # the last first, as Dask has it
                    parts = [
                        file.read_box((slice(t, t + 1), *space)) for t in range(file.frames)[::-1]
                    ]
                    got = np.concatenate(parts[::-1])
            except DaskroiError as error:
                if not str(error).isprintable():
                    raise Wrong(f"message is not one printable line: {error}") from error
                words.append("refused")
                continue
            finally:
                streams.forget()
                indexed_streams.forget()
            if got.tobytes() != self.content[-got.nbytes :]:
                raise Wrong(f"index={index}: wrong voxels, and nothing said")
            words.append("same")
        return "/".join(words)


class _Zarr:
    """One document of a NIfTI-Zarr store, or a chunk, with other content."""

    def __init__(self, folder: Path, source: Path, zarr_format: int) -> None:
        import daskroi as dr

        self.place = folder / f"v{zarr_format}.nii.zarr"
        shutil.rmtree(self.place, ignore_errors=True)
        dr.to_zarr(source, self.place, zarr_format=zarr_format, chunks={"time": 2})
        files = sorted(p for p in self.place.rglob("*") if p.is_file())
        # all metadata, the header and one chunk of voxels
        chunk = next(p for p in files if p.parent.name not in ("nifti", self.place.name)
                     and not p.name.startswith((".z", "zarr")))  # fmt: skip
        self.files = [p for p in files if p.name.startswith((".z", "zarr"))] + [chunk]
        self.files += [p for p in files if "nifti" in p.parts and p not in self.files]
        self.before = {p: p.read_bytes() for p in self.files}

    @property
    def seeds(self) -> list[bytes]:
        return [joined(str(i).encode(), self.before[p]) for i, p in enumerate(self.files)]

    def __call__(self, data: bytes) -> str:
        from daskroi.openimage import as_file

        number, content = parts_of(data, 2)
        digits = (number or b"").decode("latin-1")
        which = int(digits) if digits.isdecimal() and digits.isascii() and len(digits) < 4 else 0
        path = self.files[which % len(self.files)]
        try:
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            file: Any = as_file(self.place)
            with np.errstate(all="ignore"):
                for _, _slab in file.slabs(2):
                    pass
        finally:
            path.write_bytes(self.before[path])
        return "accepted"


class _Pair:
    """Header and voxels in two files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.header = folder / "x.hdr"
        nib.save(nib.Nifti1Pair(values("i2"), np.diag([2.0, 2, 2, 1])), self.header)
        self.seed = self.header.read_bytes()

    def __call__(self, data: bytes) -> str:
        from daskroi.openimage import as_file

        self.header.write_bytes(data)
        file = as_file(self.header)
        assert file is not None
        return compare(self.header, file)


class _Sidecar:
    """The JSON file beside an image."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.image = folder / "run.nii"
        self.image.write_bytes(nifti_bytes(values("i2")))

    def __call__(self, data: bytes) -> str:
        from daskroi.openimage import as_file

        self.image.with_suffix(".json").write_bytes(data)
        file = as_file(self.image)
        assert file is not None
        found = file.repetition
        if found.seconds is not None and not 0.01 <= found.seconds <= 30:
            raise Wrong(f"t_r {found.seconds}")
        return f"t_r of {'header' if found.source == 'header' else 'sidecar'}"


def zipped(mutate: Any, level: int = 1) -> Any:
    """The change is made before packing, so that the content is what is broken."""

    def changed(rng: Random, data: bytes) -> bytes:
        try:
            content = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):  # half of one, half of another
            return data
        return gzip.compress(mutate(rng, content), level, mtime=0)

    return changed


def flip(rng: Random, data: bytes) -> bytes:
    """One or two flipped bits anywhere; now and then garbage behind, or an end that is missing."""
    if rng.random() < 0.15:
        return of_bytes(rng, data)
    if rng.random() < 0.1:
        return data + rng.choice((rng.randbytes(rng.randrange(1, 99)), data, b"\0" * 9 + b"x"))
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _flipped(folder: Path) -> Any:
    content = nifti_bytes(values("i2"))
    return gzipped(content), Flipped(folder, content), flip


def _zarr(folder: Path, zarr_format: int) -> Any:
    (folder / "source.nii").write_bytes(nifti_bytes(values("i2")))
    made = _Zarr(folder, folder / "source.nii", zarr_format)
    words = of_text(*json_tokens(), "shape", "chunks", "bytes", "<f4", "1000000000000000")
    return made.seeds, made, words


def _other(folder: Path, name: str) -> Any:
    """A format that nibabel reads for us."""
    image = nib.MGHImage(values("f4"), np.diag([2.0, 2, 2, 1]))
    nib.save(image, folder / name)
    return [(folder / name).read_bytes()], _Reading(folder, name), of_bytes


def _pair(folder: Path) -> Any:
    made = _Pair(folder)
    return [made.seed], made, nifti_edited


def image_targets() -> list[Planned]:
    """All of this file."""
    packed = gzipped(nifti_bytes(values("i2")))
    sidecars = [
        b'{"RepetitionTime": 2.0, "TaskName": "x"}',
        b'\xef\xbb\xbf{"RepetitionTime": 0.72}',
    ]
    return [
        Planned("nifti-header", 5, lambda f: (runs(), _Reading(f, "run.nii"), nifti_edited)),
        Planned("nifti-bytes", 2, lambda f: (runs(), _Reading(f, "run.nii"), of_bytes)),
        Planned("nifti-header-gz", 3, lambda f: (
            [gzip.compress(r, 1) for r in runs()], _Reading(f, "run.nii.gz"), zipped(nifti_edited)
        )),
        Planned("extract", 0.1, lambda f: (runs(), _Extracting(f, "run.nii"), nifti_edited)),
        Planned("extract-gz", 0.1, lambda f: (packed, _Extracting(f, "run.nii.gz"), flip)),
        Planned("gzip-flip", 4, _flipped),
        Planned("zarr-v2", 0.3, lambda f: _zarr(f, 2)),
        Planned("zarr-v3", 0.3, lambda f: _zarr(f, 3)),
        Planned("pair", 1, _pair),
        Planned("mgz", 0.5, lambda f: _other(f, "x.mgz")),
        Planned("mgh", 0.5, lambda f: _other(f, "x.mgh")),
        Planned("sidecar", 2, lambda f: (sidecars, _Sidecar(f), of_text(*json_tokens()))),
    ]  # fmt: skip
