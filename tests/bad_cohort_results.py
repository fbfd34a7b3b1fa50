"""Bad places for results, broken earlier results, and what is said of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from badworld import SERIES, Bad, World, cut, edited, folder, gone, put

import daskroi as dr

RUN = "bids {data} {out} participant --atlases P={atlas}"
SOME = r"out/(logs|sub-02).*|out/(runs.tsv|dataset_description.json)"


def linked(to: str) -> Callable[[World], Any]:
    """Has a link in place of the output folder."""
    return lambda w: os.symlink(to, w.out)


def zarr_of_somebody(name: str) -> Callable[[World], Any]:
    """Has somebody's Zarr there."""

    def spoil(world: World) -> None:
        data = xr.Dataset({"precious": ("x", [1, 2, 3])})
        data.to_zarr(world.root / name, zarr_format=3, consolidated=False)

    return spoil


def place(name: str, says: str, out: str, spoil: Any = None, **more: Any) -> Bad:
    """A place for results that is none."""
    return Bad(
        f"out {name}",
        says,
        lambda w: w.cohort(out=out.format(**w.paths)),
        f"bids {{data}} '{out}' participant --atlases P={{atlas}}",
        spoil,
        **more,
    )


PLACES = (
    place("a file", r"out: is a file, .* Give a folder\.", "{out}", put("out")),
    place("below a file", r"dseg.tsv: is a file, .* Give a folder\.", "{table}/out"),
    place("empty", r"A path is empty. Give a path or URL", ""),
    place("the dataset", r"data: is the dataset .* Give another folder", "{data}"),
    place("the dataset by a link", r"out: is the dataset .* Give", "{out}", linked("data")),
    place("a link to nothing", r"out: is a link to nothing, .* Remove it", "{out}", linked("gone")),
    place("a link to itself", r"out: is a link to nothing, .* Remove it", "{out}", linked("out")),
    place("of a long name", r"x: File name too long. Give another", "{here}/" + "x" * 300),
    place("in /proc", r"/proc/x: results cannot be written there .* give another", "/proc/x"),
    place("a device", r"/dev/null: is a file, .* Give a folder\.", "/dev/null"),
    place("of no protocol", r"foo://x: protocol foo:// is not known. Use s3", "foo://x"),
    place("with a password", r"s3://b/x: the URL holds .* storage_options\.", "s3://me:secret@b/x"),
    place(
        "with a description of bytes",
        r"dataset_description.json: is no text .* Remove it",
        "{out}",
        put("out/dataset_description.json", b"\xff\xfe"),
    ),
    place(
        "with a folder as description",
        r"dataset_description.json: cannot be read \(Is a directory\)\. Check",
        "{out}",
        folder("out/dataset_description.json"),
    ),
    place(
        "with a folder as table",
        r"out/runs.tsv: results cannot be written there .* move away",
        "{out}",
        folder("out/runs.tsv"),
        leaves=r"out/sub-.*|out/dataset_description.json",
    ),
    place(
        "full",
        r"out: results cannot be written there \(File too large\)\. .*make room",
        "{out}",
        limit=50,
        leaves="out",
    ),
    *(
        Bad(
            f"out with a cohort.zarr that is {what}",
            r"out/cohort.zarr: .*, so it is not replaced. Move it away",
            lambda w: w.cohort(cohort_zarr=True),
            f"{RUN} --output-format zarr",
            spoil,
            leaves=r"out/(dataset_description.json|logs)",
        )
        for what, spoil in (
            ("a file", put("out/cohort.zarr")),
            ("somebody's", zarr_of_somebody("out/cohort.zarr")),
            ("somebody's folder", put("out/cohort.zarr/thesis.txt")),
        )
    ),
)


def table(name: str, says: str, spoil: Any) -> tuple[Bad, Bad, Bad]:
    """A table of runs that is broken, for all that read it; ``logs`` is where they lock."""
    return (
        Bad(
            f"group of {name}",
            says,
            lambda w: dr.build_cohort_zarr(w.made),
            "bids {data} {made} group",
            spoil,
            leaves=r"made/logs",
        ),
        Bad(
            f"reports of {name}",
            says,
            lambda w: list(dr.cohort_reports(w.made)),
            "report {made}",
            spoil,
        ),
        Bad(f"index of {name}", says, lambda w: dr.cohort_index(w.made), spoil=spoil),
    )


def result(name: str, says: str, spoil: Any) -> tuple[Bad, Bad]:
    """A result that is broken."""
    return (
        Bad(
            f"group with {name}",
            says,
            lambda w: dr.build_cohort_zarr(w.made),
            "bids {data} {made} group",
            spoil,
            leaves=r"made/logs",
        ),
        Bad(
            f"report of {name}",
            says,
            lambda w: list(dr.cohort_reports(w.made)),
            "report {made}",
            spoil,
        ),
    )


def sidecar(**entries: Any) -> Callable[[World], Any]:
    """Has other entries in the sidecar of the series."""
    return edited("series_json", lambda d: d.update(entries))


NO_TABLE = r"made/?(runs.tsv)?: .*(Extract the runs|[Ww]rite it again|Give the output folder|again)"
NO_RESULT = rf"{SERIES}.(tsv|json): .*(again|Check the path|Repair)"

RESULTS = (
    *table("no table", NO_TABLE, gone("runs")),
    *table("an empty table", NO_TABLE, put("runs", "")),
    *table("a binary table", NO_TABLE, put("runs", b"\xff\xfe\0")),
    *table("a page as table", NO_TABLE, put("runs", "<html>\n<p>no\n")),
    *table("a folder as table", NO_TABLE, folder("runs")),
    *result("a sidecar of no JSON", NO_RESULT, put("series_json", "{")),
    *result("a sidecar of nothing", NO_RESULT, put("series_json", "{}")),
    *result("a sidecar of brackets", NO_RESULT, put("series_json", "[" * 100_000)),
    *result("regions that are a number", NO_RESULT, sidecar(Regions=5)),
    *result("a type that is none", NO_RESULT, sidecar(DataType="flaot")),
    *result("times that are words", NO_RESULT, sidecar(RepetitionTime="two")),
    *result("a binary series", NO_RESULT, put("series", b"\xff\xfe\0")),
    *result("an empty series", NO_RESULT, put("series", "")),
    *result("a series of words", NO_RESULT, put("series", "a\tb\tc\td\nw\tx\ty\tz\n")),
    *result("a series cut short", NO_RESULT, cut("series", 200)),
    Bad(
        "group of a file",
        r"dseg.tsv: has no runs.tsv. Extract",
        lambda w: dr.build_cohort_zarr(w.table),
        "bids {data} {table} group",
    ),
    Bad(
        "group beside somebody's Zarr",
        r"made/cohort.zarr: .*, so it is not replaced. Move it away",
        lambda w: dr.build_cohort_zarr(w.made),
        "bids {data} {made} group",
        zarr_of_somebody("made/cohort.zarr"),
        leaves=r"made/logs",
    ),
    Bad(
        "report of an atlas mistyped",
        r"made: has no results of an atlas 'Q'. There is: P\.",
        lambda w: list(dr.cohort_reports(w.made, atlases={"Q": w.atlas})),
        "report {made} --atlas Q={atlas}",
    ),
    Bad(
        "report of an atlas missing",
        r"gone.nii.gz: no such file. Check",
        lambda w: list(dr.cohort_reports(w.made, atlases={"P": "gone.nii.gz"})),
        "report {made} --atlas P=gone.nii.gz",
    ),
    Bad("report of nothing", r"^gone: no such file or folder. Give", None, "report gone"),
    Bad("report of an image alone", r"Missing option '--atlas'", None, "report {image}", code=2),
    Bad("report of a table", r"P_dseg.json: no such file. Check", None, "report {table}"),
    Bad("report of no cohort", r"data/runs.tsv: no such file.* Give", None, "report {data}"),
    Bad(
        "report of two atlases",
        r"--atlas once",
        None,
        "report {image} --atlas {atlas} --atlas {atlas}",
        code=2,
    ),
    Bad("report into a folder", r"made: .*Is a directory.*", None, "report {series} -o {made}"),
    Bad("report below a file", r"dseg.tsv/x.html: .*", None, "report {series} -o {table}/x.html"),
    Bad("report to no protocol", r"foo://x: protocol foo", None, "report {series} -o foo://x"),
)


def read_series(name: str, says: str, spoil: Any) -> Bad:
    """A series on disk that is broken."""
    return Bad(f"series {name}", says, lambda w: dr.read_timeseries(w.series), spoil=spoil)


NO_SERIES = r"timeseries.tsv: does not go with its sidecar \(.*\). Extract this run again\."


def timing(**more: Any) -> Callable[[World], Any]:
    """Has other times in its sidecar."""
    return edited("series_json", lambda said: said.update(more))


READ = (
    read_series("missing", r"timeseries.tsv: no such file. Check", gone("series")),
    read_series("of no sidecar", r"timeseries.json: no such file. Check", gone("series_json")),
    read_series("a folder", r"timeseries.tsv: cannot be read \(Is a directory\)", folder("series")),
    read_series("binary", NO_SERIES, put("series", b"\xff\xfe\0")),
    read_series("of words", NO_SERIES, put("series", "a\tb\tc\td\nw\tx\ty\tz\n")),
    read_series("cut short", NO_SERIES, cut("series", 200)),
    read_series("whose TR is text", NO_SERIES, timing(RepetitionTime="two")),
    read_series("whose TR is a list", NO_SERIES, timing(RepetitionTime=[2.0, 2.0])),
    read_series("that starts at a word", NO_SERIES, timing(StartTime="soon")),
    read_series("of too few times", NO_SERIES, timing(VolumeTiming=[0.0, 2.0])),
    read_series("of too many frames", NO_SERIES, timing(KeptFrames=list(range(1000)))),
    read_series("of words for frames", NO_SERIES, timing(KeptFrames="all of them")),
    Bad("series a number", r"A int is no path. Give a path", lambda w: dr.read_timeseries(5)),
)


def series() -> xr.DataArray:
    """Of 3 regions."""
    values = np.random.default_rng(0).normal(size=(30, 3))
    return xr.DataArray(values, {"region": [1, 2, 3]}, ("time", "region"))


def matrix() -> xr.DataArray:
    """How these go together."""
    return dr.connectome(series())


def read(name: str, says: str, spoil: Any) -> Bad:
    """A matrix on disk that is broken."""
    return Bad(f"matrix {name}", says, lambda w: dr.read_relmat(w.relmat), spoil=spoil)


NO_MATRIX = r"relmat.(tsv|json): .*(again|Repair)"

MATRICES = (
    read("missing", r"relmat.tsv: no such file. Check", gone("relmat")),
    read("a folder", r"relmat.tsv: cannot be read \(Is a directory\). Check", folder("relmat")),
    read("empty", NO_MATRIX, put("relmat", "")),
    read("binary", NO_MATRIX, put("relmat", b"\xff\xfe\0")),
    read("a page", NO_MATRIX, put("relmat", "<html>\n<p>no")),
    read("of words", NO_MATRIX, put("relmat", "Node\ta\tb\na\tx\ty\nb\t1\t2\n")),
    read("not square", NO_MATRIX, put("relmat", "Node\ta\tb\na\t1\t2\n")),
    read("with regions a number", NO_MATRIX, edited("relmat_json", lambda d: d.update(Regions=5))),
    read("of no type", NO_MATRIX, edited("relmat_json", lambda d: d.update(DataType="flaot"))),
    Bad("matrix a number", r"A int is no path. Give a path", lambda w: dr.read_relmat(5)),
    Bad("matrix not to a file", r"dseg.tsv: .*", lambda w: dr.write_relmat(matrix(), w.table, "x")),
    Bad(
        "matrix to nowhere", r"A path is empty. Give", lambda w: dr.write_relmat(matrix(), "", "x")
    ),
    Bad(
        "matrix above its folder",
        r"prefix='../x' cannot begin a file name. Use",
        lambda w: dr.write_relmat(matrix(), w.out, "../x"),
    ),
    Bad(
        "matrix lazy",
        r"is lazy .* Call compute",
        lambda w: dr.write_relmat(matrix().chunk(), w.out, "x"),
    ),
    Bad(
        "matrix no matrix",
        r"ndarray is no connectome. Give",
        lambda w: dr.write_relmat(np.eye(3), w.out, "x"),
    ),
    Bad("mean of a list", r"not a list. Give", lambda w: dr.mean_connectome([])),
    Bad(
        "mean of one run",
        r"no dim 'run' .* one run already",
        lambda w: dr.mean_connectome(matrix()),
    ),
    Bad(
        "tangent of one run", r"single run. Give several", lambda w: dr.TangentSpace.fit([series()])
    ),
    Bad(
        "plot of no matrix",
        r"ndarray has no labels to plot. Give",
        lambda w: dr.plot.matrix(np.eye(3)),
    ),
    Bad(
        "plot to a mistyped map",
        r"cmap='x' is not known .* See",
        lambda w: dr.plot.matrix(matrix(), cmap="x"),
    ),
    Bad(
        "plot to NaN",
        r"vmax=nan is no end of a scale. Give",
        lambda w: dr.plot.matrix(matrix(), vmax=np.nan),
    ),
    Bad(
        "plot of networks",
        r"networks is a int. Give",
        lambda w: dr.plot.matrix(matrix(), networks=5),
    ),
    Bad(
        "recipe mistyped",
        r"strategy='37P' is not known. Use",
        lambda w: dr.ConfoundRecipe.make("37P"),
    ),
    Bad(
        "recipe of no columns",
        r"columns is an empty list. Leave",
        lambda w: dr.ConfoundRecipe.make(columns=[]),
    ),
    Bad("atlas of no name", r"atlas_name='x' is not known. Use", lambda w: HARVARD_OXFORD("x")),
    Bad("data of no subject", r"n_subjects=0 is no .* Give one", lambda w: CHILDREN(0)),
    Bad("data in a number", r"data_dir is a int. Give", lambda w: CHILDREN(1, data_dir=5)),
    Bad(
        "phantom to a bucket",
        r"s3://b/x: a phantom goes to a folder on this machine. Give",
        lambda w: dr.write_phantom("s3://b/x", PHANTOM),
        "demo --out s3://b/x",
    ),
    Bad(
        "phantom to a file",
        r"dseg.tsv: is a file, .* Give a folder",
        lambda w: dr.write_phantom(w.table, PHANTOM),
        "demo --out {table}",
    ),
    Bad("phantom no phantom", r"phantom is a int. Give", lambda w: dr.write_phantom(w.out, 5)),
    Bad(
        "phantom of version 3",
        r"version=3 is not known. Use",
        lambda w: dr.write_phantom(w.out, PHANTOM, version=3),
    ),
)

HARVARD_OXFORD, CHILDREN = dr.datasets.harvard_oxford, dr.datasets.development_fmri
PHANTOM = dr.make_phantom((9, 11, 9), 5, n_regions=5)
TABLE = (*PLACES, *RESULTS, *READ, *MATRICES)
