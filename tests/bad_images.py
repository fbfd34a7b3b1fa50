"""Bad files: images, their sidecars, atlases and masks."""

from __future__ import annotations

import gzip
from typing import Any

import images
import numpy as np
from bad_inputs import SHAPE, Row, beside, edited, named, put, raw, row, saved, text

RNG = np.random.default_rng(0)
FAR = images.STRAIGHT + np.array([[0, 0, 0, 500.0]] + [[0] * 4] * 3)
RGB = np.ones(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
LABELS = np.asarray(images.labels(RNG).dataobj)
SOFT = RNG.random((*SHAPE, 3))
HUGE = put(40, [4, 30000, 30000, 30000, 30000], "<i2")


def flip(content: bytearray) -> None:
    for i in range(len(content) // 2, len(content) // 2 + 40):
        content[i] ^= 0xFF


def zipped_and_huge(folder: Any) -> Any:
    path = folder / "bad.nii.gz"
    path.write_bytes(gzip.compress(edited(HUGE)(folder).read_bytes()))
    return path


IMAGES: dict[str, Row] = {
    "missing": row(r"absent.nii.gz: no such file\. Check", image=named("absent.nii.gz")),
    "no path": row(r"A path is empty\. Give", image=""),
    "line break in the name": row(r"/a\\nb.nii: no such file\. Check", image=named("a\nb.nii")),
    "no text": row(r"/a\\udcff.nii: no such file", image=named("a\udcff.nii"), cli=False),
    "null in the name": row(r"'a\\x00.nii': no path has a NUL .*Check", image="a\0.nii"),
    "folder": row("is a folder. Give the path", image=lambda d: d),
    "below a file": row(r"x.nii: cannot be read \(Not a dir", image=named("run.nii.gz/x.nii")),
    "text": row(r"x.nii: not a NIfTI image .*Give a .nii", image=text("x.nii", "hello " * 200)),
    "picture": row(r"x.png: not a NIfTI image", image=raw("x.png", b"\x89PNG\r\n" + b"\0" * 600)),
    "empty": row("x.nii: the file is empty. Copy", image=raw("x.nii", b"")),
    "not gzip": row(
        "x.nii.gz: is named .gz but holds no gzip data. Rename", image=raw("x.nii.gz", b"\0" * 999)
    ),
    "web page": row(
        "x.nii.gz: .*a web page, perhaps to log in. Rename", image=text("x.nii.gz", "<html>no")
    ),
    "pointer of git-annex": row(
        "x.nii.gz: is only a pointer.*Fetch it with 'datalad get",
        image=text("x.nii.gz", "/annex/objects/MD5E-s1--d41d8.nii.gz\n"),
    ),
    "truncated nii": row(
        r"bad.nii: truncated, expected 33952 bytes and found 33852. Copy",
        image=edited(lambda content: content[:-100]),
    ),
    "truncated gz": row(
        r"bad.nii.gz: truncated, expected 33952 bytes after inflating and found \d+. Copy",
        image=edited(lambda content: content[:-3000], "bad.nii.gz"),
    ),
    "truncated trailer": row(
        "bad.nii.gz: the gzip stream ends early.*Copy",
        image=edited(lambda content: content[:-3], "bad.nii.gz"),
    ),
    "corrupt gz": row(
        r"bad.nii.gz: (corrupt gzip data|truncated).*Copy", image=edited(flip, "bad.nii.gz")
    ),
    "bad checksum": row(
        "bad.nii.gz: corrupt gzip data .*Copy", image=edited(put(-8, [1234], "<u4"), "bad.nii.gz")
    ),
    "singular affine": row(
        "bad.nii: the affine is singular .*Repair", image=edited(put(280, [0] * 12, "<f4"))
    ),
    "affine with NaN": row(
        "bad.nii: the affine has non-finite entries.*Repair",
        image=edited(put(280, [np.nan], "<f4")),
    ),
    "complex": row(
        "x.nii: holds complex.* voxels .*Save the magnitude",
        image=saved(np.ones((*SHAPE, 4), "c8")),
    ),
    "RGB": row("x.nii: holds RGB voxels .*Save", image=saved(RGB)),
    "5D": row(
        r"x.nii: is 5D, shape \(6, 7, 5, 4, 3\).*Split", image=saved(np.ones((*SHAPE, 4, 3), "f4"))
    ),
    "no voxels": row(
        "bad.nii: the header's dimensions .*damaged.*copy",
        image=edited(put(40, [4, 6, 0, 5, 40], "<i2")),
    ),
    "unknown data type": row(
        "bad.nii: unknown NIfTI data type 9999.*Copy", image=edited(put(70, [9999], "<i2"))
    ),
    "10^15 voxels": row("bad.nii: truncated, expected .*Copy", image=edited(HUGE)),
    "10^15 voxels, gz": row(
        "bad.nii.gz: the header promises .* than .* gzipped bytes can hold.*Copy",
        image=zipped_and_huge,
    ),
    "infinite intercept": row(
        r"bad.nii: scl_slope=2\.0, scl_inter=inf.*Repair",
        image=edited(put(112, [2, np.inf], "<f4")),
    ),
    "Zarr without a group": row(
        r"x.nii.zarr: is not a Zarr group.*Give the folder", image=text("x.nii.zarr", "{}")
    ),
    "atlas and image exchanged": row(
        r"run.nii.gz: looks like a run, not an atlas \(40 volumes, 2 s apart\).*lut or labels",
        image=named("atlas.nii"),
        atlas=named("run.nii.gz"),
    ),
    "no TR, and a filter": row(
        r"bad.nii: filtering needs .*neither header nor JSON.*Pass t_r in s",
        image=edited(put(92, [0], "<f4")),
        high_pass=0.01,
    ),
    "TR below 0, and a filter": row(
        r"bad.nii: filtering needs .*Pass t_r in s",
        image=edited(put(92, [-2], "<f4")),
        high_pass=0.01,
    ),
    "TR in ms said to be s": row(
        r"bad.nii: filtering needs .*says 2000 s, which is not .*milliseconds: t_r=2\. Pass t_r",
        image=edited(put(92, [2000], "<f4")),
        high_pass=0.01,
    ),
}

SIDECARS: dict[str, Row] = {
    "no JSON": row(r"b.json: no repetition time .*Repair", image=beside("b.json", "hello")),
    "empty": row(r"b.json: the file is empty. Copy", image=beside("b.json", "")),
    "UTF-16": row(
        r"b.json: no repetition .*decode.*Repair", image=beside("b.json", "{}", "utf-16")
    ),
    "TR with a unit": row(
        r"b.json: no repetition .*'2 s'.*Repair",
        image=beside("b.json", '{"RepetitionTime": "2 s"}'),
    ),
    "TR true": row(
        r"b.json: no repetition .*is True, not a number.*Repair",
        image=beside("b.json", '{"RepetitionTime": true}'),
    ),
    "TR a list": row(
        r"b.json: no repetition .*is \[2\], not a number.*Repair",
        image=beside("b.json", '{"RepetitionTime": [2]}'),
    ),
    "nested without end": row(
        r"b.json: no repetition .*too deeply.*Repair", image=beside("b.json", "[" * 100_000)
    ),
}

ATLASES: dict[str, Row] = {
    "missing": row(r"absent.nii: no such file\. Check", atlas=named("absent.nii")),
    "fractions": row(
        r"x.nii: labels must be whole numbers, .*1\.5.*nearest neighbour",
        atlas=saved(np.where(LABELS == 1, 1.5, LABELS).astype("f4")),
    ),
    "no label": row("x.nii: contains no label.*Check the file", atlas=saved(np.zeros(SHAPE, "i2"))),
    "all NaN": row(
        "x.nii: contains no label.*Check the file", atlas=saved(np.full(SHAPE, np.nan, "f4"))
    ),
    "labels of 10^20": row(
        r"x.nii: labels .*do not fit 64-bit.*Renumber", atlas=saved(np.full(SHAPE, 1e20))
    ),
    "RGB": row("x.nii: holds RGB voxels .*Save", atlas=saved(RGB)),
    "5D": row("x.nii: is 5D.*Split", atlas=saved(np.ones((*SHAPE, 2, 2), "f4"))),
    "probability map": row(
        "x_probseg.nii: labels must be whole numbers.*a probability map is not",
        atlas=saved(SOFT[..., 0], "x_probseg.nii"),
    ),
    "no overlap": row(
        "x.nii: no label left on the image's grid.*Different template or space",
        atlas=saved(LABELS, affine=FAR),
    ),
    "other grid, no resampling": row(
        "x.nii: the atlas is not on the image's grid.*resampling_target='data'",
        atlas=saved(np.ones((3, 3, 3), "i2")),
        resampling_target=None,
    ),
    "no overlap on the labels' grid": row(
        "x.nii: no label left on the image's grid, the two do not overlap.*Different template",
        atlas=saved(np.ones((3, 3, 3), "i2"), affine=FAR),
        resampling_target="labels",
    ),
    "fused and clipped": row(
        "spatial='fused': resampling_clip=True is not linear.*Use spatial='auto'",
        atlas=saved(np.ones((3, 3, 3), "i2")),
        resampling_target="labels",
        resampling_clip=True,
        spatial="fused",
    ),
    "maps of nothing": row(
        r"x.nii: all 3 maps are 0 everywhere\. Check", atlas=saved(np.zeros((*SHAPE, 3), "f4"))
    ),
    "maps elsewhere": row(
        "x.nii: no label left on the image's grid", atlas=saved(SOFT, affine=FAR)
    ),
    "median of maps": row(
        "x.nii: strategy='median' of weighted voxels is not defined.*'mean' or 'sum'",
        atlas=saved(SOFT),
        strategy="median",
    ),
    "minimum of maps, least squares": row(
        "maps_method='lstsq' is instead of a strategy, and strategy='minimum' was given",
        atlas=saved(SOFT),
        strategy="minimum",
        maps_method="lstsq",
    ),
    "mean of maps below 0": row(
        "x.nii: maps have values below 0, so there is no weighted mean.*maps_method='lstsq'",
        atlas=saved(SOFT - 0.5),
    ),
    "least squares, omit": row(
        "maps_method='lstsq' .*cannot leave some out.*nan_policy='zero'",
        atlas=saved(SOFT),
        maps_method="lstsq",
        nan_policy="omit",
    ),
    "run by its name": row(
        r"_bold.nii.gz: looks like a run, not an atlas \(its name ends in _bold\).*lut or labels",
        atlas=saved(SOFT, "sub-01_task-rest_bold.nii.gz"),
    ),
    "background of maps": row(
        r"background_label=3 is for label images.*Leave it out",
        atlas=saved(SOFT),
        background_label=3,
    ),
    "radius of an image": row(r"radius=5.* is for (--)?seeds", r"--radius is for", radius=5.0),
}


MASKS: dict[str, Row] = {
    "missing": row("absent.nii: no such file. Check", mask_img=named("absent.nii")),
    "no path": row(r"mask_img: A path is empty\. Give", mask_img=""),
    "zeros": row("x.nii: the mask is empty.*Give another", mask_img=saved(np.zeros(SHAPE, "u1"))),
    "NaN": row("x.nii: the mask is empty", mask_img=saved(np.full(SHAPE, np.nan, "f4"))),
    "4D, nowhere in all": row(
        "x.nii: the mask is empty",
        mask_img=saved(np.stack([LABELS == 1, LABELS == 2], -1).astype("u1")),
    ),
    "run": row(
        r"run.nii.gz: looks like a run, not a mask \(40 volumes, 2 s apart\)\. Give the mask",
        mask_img=named("run.nii.gz"),
    ),
    "RGB": row("x.nii: holds RGB voxels", mask_img=saved(RGB)),
    "elsewhere": row(
        "x.nii: no voxel of the mask lies in the image.*Give the mask of this run",
        mask_img=saved(np.ones(SHAPE, "u1"), affine=FAR),
    ),
    "other grid, no resampling": row(
        "x.nii: the mask is not on the image's grid.*resampling_target='data'",
        mask_img=saved(np.ones((3, 3, 3), "u1")),
        resampling_target=None,
    ),
    "without labels": row(
        "x.nii: no label of .*atlas.nii left inside the mask. Give a mask",
        mask_img=saved((np.arange(210).reshape(SHAPE) > 9).astype("u1")),
        atlas=saved((np.arange(210).reshape(SHAPE) == 0).astype("i2"), "an_atlas.nii"),
    ),
}
