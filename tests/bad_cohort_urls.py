"""Bad URLs and bad servers, and what is said of them."""

from __future__ import annotations

import json
from typing import Any

import badworld
from badworld import Bad

import daskroi as dr

OPTIONS: dict[str, Any] = {}


def flags(options: dict[str, Any]) -> str:
    """Storage options for a command line."""
    told = {k: v for k, v in options.items() if not isinstance(v, dict)}
    told |= {f"{k}.{n}": v for k, d in options.items() if isinstance(d, dict) for n, v in d.items()}
    return " ".join(f"--storage-option {k}={json.dumps(v)}" for k, v in told.items())


def url(name: str, says: str, address: str, **options: Any) -> Bad:
    """An image at a URL that gives none."""

    def extract(world: Any) -> Any:
        told = OPTIONS | options
        return dr.extract(
            address.format(**world.paths), world.atlas, storage_options=told
        ).compute()

    return Bad(f"url {name}", says, extract, f"extract '{address}' --atlas {{atlas}} -o {{out}}")


def listed(name: str, says: str, address: str) -> Bad:
    """A dataset at a URL that has none."""
    return Bad(
        f"dataset {name}",
        says,
        lambda w: dr.find_runs(address.format(**w.paths), storage_options=OPTIONS or None),
        f"bids '{address}' {{out}} participant --atlases P={{atlas}}",
    )


NO_SERVER = "http://127.0.0.1:1"
TABLE = (
    url("404", r"/404/x.nii.gz: no such file. Check the URL\.", "{web}/404/x.nii.gz"),
    url("410", r"/410/x.nii.gz: no such file. Check the URL\.", "{web}/410/x.nii.gz"),
    url("403", r"/403/x.nii.gz: the server forbids reading it. Check", "{web}/403/x.nii.gz"),
    url("401", r"/401/x.nii.gz: the server forbids reading it. Check", "{web}/401/x.nii.gz"),
    url("500", r"/500/x.nii.gz: the server answers with status 500. Try", "{web}/500/x.nii.gz"),
    url("that leads to itself", r"/loop/x.nii.gz: .* Try again, or check", "{web}/loop/x.nii.gz"),
    url("that is cut short", r"/cut/x.nii: cannot be read .* Try", "{web}/cut/x.nii"),
    url("without ranges", r"/whole/x.nii.gz: .* whole file. Download it", "{web}/whole/x.nii.gz"),
    url(
        "of a page",
        r"/page/x.nii.gz: is named .gz but holds a web page.* download",
        "{web}/page/x.nii.gz",
    ),
    url("of a page for an image", r"/page/x.nii: not a NIfTI image .* Give", "{web}/page/x.nii"),
    url("of a page for a store", r"/page/x.nii.zarr: .*(Copy|Give)", "{web}/page/x.nii.zarr"),
    url(
        "of TLS where there is none",
        r"/page/x.nii.gz: cannot be read .* Try",
        "{tls}/page/x.nii.gz",
    ),
    url("of nobody", r"127.0.0.1:1/x.nii.gz: cannot be read .* Try", f"{NO_SERVER}/x.nii.gz"),
    url("of no protocol", r"htp://x/y.nii: protocol htp:// is not known. Use", "htp://x/y.nii"),
    url("of a chain to nobody", r"x.nii.*: .* (Try|Check)", f"zip://x.nii::{NO_SERVER}/x.zip"),
    url("in memory that is empty", r"memory://x.nii.gz: no such file. Check", "memory://x.nii.gz"),
    listed(
        "in memory that is empty",
        r"memory://x: no such folder, or it is empty. Check",
        "memory://x",
    ),
    listed("at 404", r"/404/x: no such folder, or it is empty. Check", "{web}/404/x"),
    listed("at 403", r"/403/x: the server forbids reading it. Check", "{web}/403/x"),
    listed(
        "with a password",
        r"^http://127.0.0.1:1/x: has a password .* storage_options",
        "http://me:secret@127.0.0.1:1/x",
    ),
    Bad(
        "url for an atlas",
        r"/404/a.nii.gz: no such file. Check",
        lambda w: w.cohort(atlases=f"{badworld.WEB['web']}/404/a.nii.gz"),
        "bids {data} {out} participant --atlases {web}/404/a.nii.gz",
    ),
    Bad(
        "url for results on a web server",
        r"/403/o/dataset_description.json: the server forbids",
        lambda w: w.cohort(out=f"{badworld.WEB['web']}/403/o"),
        "bids {data} {web}/403/o participant --atlases P={atlas}",
    ),
    Bad(
        "options that are none",
        r"storage_options is a str. Give a dict",
        lambda w: dr.find_runs("memory://x", storage_options="anon"),
    ),
)


def in_bucket(name: str, says: str, told: str, api: Any) -> Bad:
    """Something in a bucket, or in none."""
    return Bad(f"bucket {name}", says, api, f"{told} {{options}}")


BUCKETS = (
    in_bucket(
        "without the key",
        r"s3://bucket-.*/x.nii.gz: no such file. Check",
        "extract s3://{bucket}/x.nii.gz --atlas {atlas} -o {out}",
        lambda w: dr.extract(
            f"s3://{badworld.WEB['bucket']}/x.nii.gz", w.atlas, storage_options=OPTIONS
        ),
    ),
    in_bucket(
        "missing",
        r"s3://no-bucket/x.nii.gz: no such file. Check",
        "extract s3://no-bucket/x.nii.gz --atlas {atlas} -o {out}",
        lambda w: dr.extract("s3://no-bucket/x.nii.gz", w.atlas, storage_options=OPTIONS),
    ),
    in_bucket(
        "missing, as dataset",
        r"s3://no-bucket/x: no such folder, or it is empty. Check",
        "bids s3://no-bucket/x {out} participant --atlases P={atlas}",
        lambda w: dr.find_runs("s3://no-bucket/x", storage_options=OPTIONS),
    ),
    in_bucket(
        "missing, for results",
        r"s3://no-bucket/o.*: .*(no such bucket|cannot be written).*",
        "bids {data} s3://no-bucket/o participant --atlases P={atlas}",
        lambda w: w.cohort(out="s3://no-bucket/o", storage_options=OPTIONS),
    ),
    in_bucket(
        "missing, for an image",
        r"s3://no-bucket/o.nii: cannot be written .*no such bucket.* give another path",
        "convert {image} s3://no-bucket/o.nii",
        lambda w: dr.convert(w.image, "s3://no-bucket/o.nii", storage_options=OPTIONS),
    ),
)
