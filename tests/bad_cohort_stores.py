"""Bad conversions and Zarr stores, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bad_cohort_results import zarr_of_somebody
from badworld import Bad, World, cut, edited, folder, gone, put

import daskroi as dr


def to(
    name: str, says: str, target: str, spoil: Any = None, image: str = "image", **more: Any
) -> Bad:
    """A conversion that cannot be; ``more`` are options of it."""
    leaves = more.pop("leaves", "")
    limit = more.pop("limit", 0)
    flags = " ".join(
        f"--{n.replace('_', '-')}" + ("" if v is True else f" {v}") for n, v in more.items()
    )
    return Bad(
        f"convert {name}",
        says,
        lambda w: dr.convert(getattr(w, image), target.format(**w.paths), **more),
        f"convert {{{image}}} '{target}' {flags}",
        spoil,
        leaves=leaves,
        limit=limit,
    )


CONVERSIONS = (
    to("nothing", r"bold.nii.gz: no such file. Check", "o.nii.zarr", gone("image")),
    to("to a zip", r"o.zip: its ending says neither .* Use", "o.zip"),
    to("to nothing", r"its ending says neither .* Use|A path is empty. Give", ""),
    to("to a file", r"P_dseg.nii.gz: is there already. Pass overwrite", "{atlas}"),
    to(
        "over itself", r"bold.nii.gz: is the image itself.* Give another", "{image}", overwrite=True
    ),
    to(
        "a store over itself",
        r"x.nii.zarr: is the image itself.* Give",
        "{store}",
        image="store",
        overwrite=True,
    ),
    to(
        "a store into itself", r"y.nii.zarr: .* in it, .* Give", "{store}/y.nii.zarr", image="store"
    ),
    to("a store's file into itself", r"y.nii: .* in it, .* Give", "{store}/y.nii", image="store"),
    to(
        "over somebody's Zarr",
        r"t.zarr: is there already, .* Pass overwrite",
        "t.zarr",
        zarr_of_somebody("t.zarr"),
    ),
    to(
        "over a folder",
        r"t.zarr: holds something else .* Give",
        "t.zarr",
        put("t.zarr/thesis.txt"),
        overwrite=True,
    ),
    to(
        "over a file",
        r"t.zarr: holds something else .* Give",
        "t.zarr",
        put("t.zarr"),
        overwrite=True,
    ),
    to(
        "where somebody has a .part",
        r"t.zarr.part: holds something else .* Give",
        "t.zarr",
        put("t.zarr.part/thesis.txt"),
        leaves=r"t.zarr.part/.daskroi-lock",
    ),
    to(
        "below a file", r"dseg.tsv/t.zarr: cannot be written .* check permissions", "{table}/t.zarr"
    ),
    to("a file below a file", r"dseg.tsv/t.nii: cannot be written .* permissions", "{table}/t.nii"),
    to("to a folder", r"t.nii: is a folder. Give", "t.nii", folder("t.nii"), overwrite=True),
    to("in /proc", r"/proc/x.nii: cannot be written .* Nothing was left", "/proc/x.nii"),
    to("to no protocol", r"foo://x/o.nii: protocol foo:// is not known. Use", "foo://x/o.nii"),
    to("a store to no protocol", r"foo://x/o.zarr: protocol foo:// .* Use", "foo://x/o.zarr"),
    to("chunks of nothing", r"chunks=0 does not fit .* Use 'auto'", "o.zarr", chunks=0),
    to(
        "shards of half a chunk",
        r"shards=7 do not hold whole chunks .* Use",
        "o.zarr",
        chunks=5,
        shards=7,
    ),
    to(
        "shards in Zarr v2",
        r"shards are for zarr_format=3. Leave",
        "o.zarr",
        shards="auto",
        zarr_format=2,
    ),
    to("chunks of NIfTI", r"chunks: of Zarr, but o.nii is NIfTI. Leave", "o.nii", chunks=1),
    to(
        "to a full disk",
        r"o.nii: cannot be written \(File too large\)\. .*make room",
        "o.nii",
        limit=9000,
    ),
    to(
        "a store to a full disk",
        r"o.zarr: cannot be written \(File too large\)\. .*make room",
        "o.zarr",
        limit=9000,
        leaves=r"o.zarr.part.*",
    ),
    to("half a run", r"bold.nii.gz: truncated, .* Copy", "o.nii", cut("image", 20_000)),
    to("half a run to Zarr", r"bold.nii.gz: truncated, .* Copy", "o.zarr", cut("image", 20_000)),
    Bad("convert to a number", r"target is a int. Give", lambda w: dr.convert(w.image, 5)),
    Bad(
        "convert mistyped",
        r"chunk= is no option of convert. Use",
        lambda w: dr.convert(w.image, "o.zarr", chunk=1),
    ),
    Bad(
        "index of nothing",
        r"gone.nii.gz: no such file. Check",
        lambda w: dr.build_index("gone.nii.gz"),
    ),
    Bad(
        "index of half a run",
        r"bold.nii.gz: .* truncated. Copy",
        lambda w: dr.build_index(w.image),
        spoil=cut("image", 20_000),
        leaves=r"tmp/gzip.*",
    ),
    Bad("index of a folder", r"data: is a folder. Give", lambda w: dr.build_index(w.data)),
)


def store(name: str, says: str, spoil: Any) -> Bad:
    """A Zarr store that is broken."""
    return Bad(
        f"store {name}",
        rf"x.nii.zarr: {says}",
        lambda w: dr.extract(w.store, w.atlas).compute(),
        "extract {store} --atlas {atlas} -o {out}",
        spoil,
    )


def group(edit: Callable[[Any], Any]) -> Callable[[World], Any]:
    """Has other metadata of the group."""
    return edited("x.nii.zarr/zarr.json", edit)


def array(edit: Callable[[Any], Any]) -> Callable[[World], Any]:
    """Has other metadata of the voxels."""
    return edited("x.nii.zarr/0/zarr.json", edit)


def scales(document: Any) -> Any:
    """OME-Zarr's description of the image."""
    return document["attributes"]["ome"]["multiscales"][0]


CHUNK = "x.nii.zarr/0/c/0/0/0/0"
STORES = (
    store("missing", r"no such Zarr store. Check", gone("store")),
    store("a file", r"is not a Zarr group .* Give", lambda w: [gone("store")(w), put("store")(w)]),
    store(
        "without zarr.json", r"is not a Zarr group .* copied again", gone("x.nii.zarr/zarr.json")
    ),
    store("with half a zarr.json", r"damaged Zarr data .* Copy", cut("x.nii.zarr/zarr.json", 90)),
    store(
        "with a list as zarr.json", r"damaged Zarr data .* Copy", put("x.nii.zarr/zarr.json", "[]")
    ),
    store(
        "with brackets as zarr.json",
        r"damaged Zarr data .* Copy",
        put("x.nii.zarr/zarr.json", "[" * 100_000),
    ),
    store(
        "without header", r"is an OME-Zarr without array 'nifti'. Convert", gone("x.nii.zarr/nifti")
    ),
    store("with half a header", r"not a NIfTI image .*|damaged", cut("x.nii.zarr/nifti/c/0", 9)),
    store("with a lost header", r".*(header|nifti).*", gone("x.nii.zarr/nifti/c")),
    store("without voxels", r"is an OME-Zarr without array '0'. Convert", gone("x.nii.zarr/0")),
    store("without a chunk", r"chunk c/0/0/0/0 is not there. Copy", gone(CHUNK)),
    store("with half a chunk", r"damaged .* has 100 bytes instead of \d+\). Copy", cut(CHUNK, 100)),
    store(
        "with another chunk", r"damaged .* bytes instead of \d+\). Copy", put(CHUNK, b"\7" * 999)
    ),
    store("with a folder as chunk", r"chunk c/0/0/0/0 is not there. Copy", folder(CHUNK)),
    store(
        "of no codec",
        r"damaged .*'nocodec'\). Copy",
        array(lambda d: d["codecs"][1].update(name="nocodec")),
    ),
    store(
        "of another codec",
        r"damaged Zarr data .* Copy",
        array(
            lambda d: d["codecs"].__setitem__(1, {"name": "gzip", "configuration": {"level": 5}})
        ),
    ),
    store(
        "of another shape",
        r"the array has shape .* Convert",
        array(lambda d: d["shape"].__setitem__(0, 99)),
    ),
    store(
        "of a quadrillion frames",
        r"the array has shape .* Convert",
        array(lambda d: d["shape"].__setitem__(0, 10**15)),
    ),
    store(
        "of another type",
        r"the array holds int16 .* Convert",
        array(lambda d: d.update(data_type="int16")),
    ),
    store("of no type", r"damaged .*'foo'\). Copy", array(lambda d: d.update(data_type="foo"))),
    store(
        "of large chunks",
        r"damaged Zarr data .* Copy",
        array(lambda d: d["chunk_grid"]["configuration"]["chunk_shape"].__setitem__(0, 10**12)),
    ),
    store(
        "of unknown axes",
        r".* has axes 'qqqq'; .* Convert",
        group(lambda d: scales(d).update(axes=[{"name": "q"}] * 4)),
    ),
    store(
        "that leads out",
        r"damaged Zarr data .*\.\./etc.* Copy",
        group(lambda d: scales(d)["datasets"][0].update(path="../../etc")),
    ),
    store(
        "of OME text",
        r"damaged Zarr data .* Copy",
        group(lambda d: d["attributes"].update(ome="x")),
    ),
)

TABLE = (*CONVERSIONS, *STORES)
