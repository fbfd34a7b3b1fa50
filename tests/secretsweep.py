"""All that may say something about a URL with secrets in it; run by test_security_secrets.py.

Prints all it can: messages, whole chains of errors, reprs, graphs. Whoever runs it looks for the
secrets in what it printed and in what it wrote.
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pandas as pd
import psutil
from click.testing import CliRunner

import daskroi as dr
from daskroi.cli import main

SECRET = "CaNaRyZ9q"  # shorter than a token, longer than a word


def urls_of(base: str, name: str) -> list[str]:
    """A file on a web server, by every kind of URL that has a secret in it."""
    host = base.removeprefix("http://")
    return [
        f"http://me:{SECRET}@{host}/{name}",
        f"{base}/{name}?X-Amz-Signature={SECRET}&X-Amz-Credential=a%2F{SECRET}",
        f"simplecache::http://me:{SECRET}@{host}/{name}",
        f"blockcache::{base}/{name}?sig={SECRET}",
    ]


def options_of() -> dict[str, dict[str, Any]]:
    """Options of a web file system that hold a secret."""
    return {
        "header": {"headers": {"Authorization": f"Bearer {SECRET}"}},
        "cookie": {"headers": {"Cookie": f"a=b; session={SECRET}"}},
        "auth": {"client_kwargs": {"auth": aiohttp.BasicAuth("me", SECRET)}},
        "refused": {"client_kwargs": {"no_such_option": SECRET}},
    }


def chain_of(error: BaseException) -> Iterator[str]:
    """All that an error carries, also what a traceback would not show."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield f"{type(one).__name__} {one} {one!r} {one.args!r} {getattr(one, '__notes__', '')}"
        waiting += [e for e in (one.__cause__, one.__context__) if e is not None]
    yield "".join(traceback.format_exception(error))


def tell(what: str, work: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Do it and show what came of it."""
    print("==", what, flush=True)
    try:
        found = work(*args, **options)
    except Exception as error:
        print(*chain_of(error), sep="\n", flush=True)
        return
    for one in (repr, str, lambda x: getattr(x, "_repr_html_", str)()):
        print(one(found), flush=True)
    print(getattr(found, "attrs", ""), getattr(found, "encoding", ""), flush=True)
    if hasattr(found, "__dask_graph__") and found.__dask_graph__():
        graph = found.__dask_graph__()
        print(list(graph), getattr(graph, "_repr_html_", str)(), dict(graph), flush=True)


def computed(*args: Any, **options: Any) -> Any:
    return dr.extract(*args, **options).compute()


def reported(*args: Any, **options: Any) -> list[Any]:
    return list(dr.cohort_reports(*args, **options))


def typed(*args: str) -> str:
    """What a command says."""
    return CliRunner().invoke(main, args).output


def sweep(base: str, good: str, atlas: str, out: Path) -> None:
    """All of it, against one web server."""
    fine = f"{base}/{good}"
    for i, url in enumerate(urls_of(base, good)):
        tell("open", dr.open_image, url)
        tell("extract", dr.extract, url, atlas)
        tell("write", written, url, atlas, out / f"{i}")
    for name in ("absent.nii.gz", "text.nii.gz", "half.nii.gz"):
        for url in urls_of(base, name)[:2]:
            tell(name, computed, url, atlas)
            tell(name, dr.extract, fine, url)
            tell(name, dr.extract, fine, atlas, mask_img=url)
            tell(name, dr.extract, fine, atlas, confounds=url)
            tell(name, typed, "extract", url, "--atlas", atlas, "-o", str(out / "cli"), "-v")
    for kind, options in options_of().items():
        for name in (good, "absent.nii.gz", "half.nii.gz"):
            tell(kind, computed, f"{base}/{name}", atlas, storage_options=options)
    url = f"gone://me:{SECRET}@x/y.nii"
    tell("protocol", dr.find_runs, url)
    tell("protocol", dr.extract_cohort, [fine], atlas, url, progress=False)


def written(url: str, atlas: str, out: Path) -> Any:
    """Everything that is written of a result."""
    from daskroi.store import write_run

    out.mkdir(parents=True)
    ts = computed(url, atlas)
    dr.report(ts, atlas, url).save_as_html(out / "report.html")
    ts.to_netcdf(out / "ts.nc")
    dr.to_zarr(url, out / "copy.nii.zarr")
    write_run(ts, out, "sub-01", inputs={"image": url, "atlas": atlas})
    return ts


def cohort(base: str, good: str, atlas: str, out: Path, client: Any) -> None:
    """Runs of which one is good and the others are not, on a cluster."""
    for kind, options in (("url", {}), ("header", options_of()["header"])):
        names = [good, "absent.nii.gz", "half.nii.gz"]
        urls = [url for name in names for url in urls_of(base, name)[:2]]
        runs = pd.DataFrame({"image": urls, "name": [f"sub-{i}/x" for i in range(len(urls))]})
        runs["subject"] = "01"
        where = {"storage_options": options, "client": client, "mask": None}
        tell(kind, dr.extract_cohort, runs, atlas, out / kind, cohort_zarr=True, **where)
        tell("reports", reported, out / kind, storage_options=options)
        tell("again", dr.extract_cohort, runs, atlas, out / kind, **where)
    family = psutil.Process().children(recursive=True)
    tell("command lines", lambda: [process.cmdline() for process in family])
    tell("logs", lambda: (client.get_worker_logs(), client.get_scheduler_logs()))
    tell("lost", lambda: client.submit(computed, urls_of(base, "half.nii.gz")[0], atlas).result())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    warnings.simplefilter("always")
    base, good, atlas, out = sys.argv[1:]
    sweep(base, good, atlas, Path(out) / "single")
    with dr.connect("local", n_workers=1, memory="1GiB") as client:
        cohort(base, good, atlas, Path(out) / "cohort", client)
    print("the end", flush=True)
