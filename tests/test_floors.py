"""A module imports only from floors below it, and from siblings named here."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import daskroi

PACKAGE = Path(daskroi.__file__).parent

FLOORS = {
    # the process: errors, warnings, threads, memory
    -1: {"errors", "memory", "onethread", "unsaid"},
    # numbers: NumPy and SciPy only
    0: {
        "blockresampling",
        "censor",
        "compcor",
        "confoundrecipe",
        "connectivity",
        "filters",
        "grid",
        "jsontext",
        "kernels",
        "leastsquares",
        "operators",
        "recipe",
        "regions",
        "repetition",
        "resampling",
        "signals",
        "smoothing",
        "spd",
        "steps",
        "strategies",
        "tsv",
        "weights",
    },
    # doors: bytes <-> arrays
    1: {
        "atlas",
        "backend",
        "bar",
        "bytesource",
        "confounds",
        "confoundtable",
        "convert",
        "datasetdownload",
        "datasetfiles",
        "datasetruns",
        "datasets",
        "display",
        "entities",
        "fmriprep",
        "gzipindex",
        "gzippoints",
        "gzipreader",
        "gzipscan",
        "gzipsearch",
        "header",
        "image",
        "imagefile",
        "inflate",
        "interrupt",
        "labelimage",
        "labeltable",
        "lazyimage",
        "listing",
        "localfile",
        "locks",
        "maps",
        "nested",
        "nifti",
        "niftiheader",
        "niftiwrite",
        "niftizarr",
        "openimage",
        "outputs",
        "partfiles",
        "paths",
        "rangereader",
        "regiontable",
        "remote",
        "seeds",
        "selection",
        "spheres",
        "targets",
        "templates",
        "texttable",
        "tonifti",
        "urls",
        "zarrgroup",
        "zarrlayout",
        "zarrstore",
        "zarrtarget",
        "zarrwrite",
    },
    # operators: lazy in, lazy out
    2: {
        "clean",
        "highvariance",
        "limits",
        "nuisance",
        "placement",
        "reduce",
        "spatial",
        "timing",
        "ways",
    },
    # one run
    3: {
        "connectome",
        "extract",
        "report",
        "reportdata",
        "reportframes",
        "reportimage",
        "reportpage",
        "reportparts",
        "reportplots",
        "reportregions",
        "reportseries",
        "reportslices",
        "reporttext",
        "reportviews",
        "runmatrices",
        "tangent",
    },
    # many runs
    4: {
        "batch",
        "beside",
        "besidefiles",
        "cluster",
        "cohort",
        "cohortatlas",
        "cohortreport",
        "cohortzarr",
        "connectomefiles",
        "currentclient",
        "engines",
        "environment",
        "group",
        "jobs",
        "outcome",
        "ownclient",
        "pairing",
        "parquetfiles",
        "places",
        "planning",
        "progress",
        "relmat",
        "runconfounds",
        "runjob",
        "runstable",
        "search",
        "session",
        "sidecar",
        "sink",
        "slurm",
        "store",
        "summary",
        "upkeep",
        "window",
        "work",
    },
    # faces: nothing imports them
    5: {
        "__main__",
        "accessor",
        "anatomy",
        "cli",
        "cliatlases",
        "clibids",
        "clibidsoptions",
        "clicompute",
        "cliconvert",
        "clidemo",
        "cliextract",
        "cliextractoptions",
        "clioptions",
        "clireport",
        "columns",
        "estimator",
        "fitted",
        "imagelists",
        "masker",
        "maskerreport",
        "phantom",
        "phantomfiles",
        "plot",
        "plotmatrix",
        "plotparts",
        "plotregions",
        "plotseries",
        "reporting",
        "simulate",
        "terminal",
    },
}
# who may import whom on the same floor
ARROWS: dict[str, set[str]] = {
    "errors": {"unsaid"},
    "blockresampling": {"grid", "resampling"},
    "compcor": {"filters"},
    "confoundrecipe": {"strategies"},
    "connectivity": {"spd"},
    "filters": {"steps"},
    "kernels": {"regions"},
    "leastsquares": {"regions"},
    "operators": {"kernels", "regions", "resampling", "smoothing", "weights"},
    "recipe": {"kernels", "smoothing", "steps"},
    "resampling": {"grid"},
    "signals": {"censor", "filters", "steps"},
    "smoothing": {"grid"},
    "steps": {"repetition"},
    "weights": {"grid", "regions", "resampling", "smoothing"},
    "atlas": {
        "image",
        "labelimage",
        "maps",
        "regiontable",
        "seeds",
        "spheres",
        "templates",
    },
    "backend": {"image", "lazyimage", "openimage"},
    "bytesource": {"gzipindex", "inflate", "localfile", "rangereader", "remote", "urls"},
    "confounds": {"bytesource", "texttable", "urls"},
    "confoundtable": {"bytesource", "texttable", "urls"},
    "convert": {"locks", "niftiwrite", "remote", "urls", "zarrwrite"},
    "bar": {"display"},
    "datasetdownload": {"bar", "partfiles", "urls"},
    "datasetfiles": {"bytesource", "datasetdownload", "gzipindex", "urls"},
    "datasetruns": {"datasetdownload", "datasetfiles", "partfiles", "texttable"},
    "datasets": {"atlas", "datasetfiles", "datasetruns", "labeltable"},
    "fmriprep": {"confoundtable"},
    "gzipindex": {"gzippoints", "gzipreader", "gzipsearch", "locks", "partfiles"},
    "gzipsearch": {"gzippoints"},
    "labelimage": {"entities", "image", "nifti", "openimage", "paths", "templates"},
    "labeltable": {"bytesource", "texttable", "urls"},
    "lazyimage": {"image", "imagefile"},
    "listing": {"paths", "remote", "urls"},
    "maps": {"labelimage", "regiontable"},
    "nifti": {"bytesource", "header", "imagefile", "inflate", "urls"},
    "niftiheader": {"header", "image", "niftizarr", "templates"},
    "niftiwrite": {"header", "partfiles", "remote", "urls"},
    "niftizarr": {"header", "imagefile", "nifti", "urls", "zarrgroup", "zarrstore"},
    "openimage": {
        "bytesource",
        "header",
        "image",
        "imagefile",
        "lazyimage",
        "nested",
        "nifti",
        "niftizarr",
        "paths",
        "urls",
    },
    "outputs": {"locks", "partfiles", "remote", "targets"},
    "partfiles": {"urls"},
    "paths": {"entities"},
    "rangereader": {"remote", "urls"},
    "regiontable": {"labeltable", "paths", "remote", "urls"},
    "remote": {"urls"},
    "selection": {"bytesource", "entities"},
    "spheres": {"regiontable", "seeds"},
    "targets": {"remote", "urls"},
    "tonifti": {"image", "lazyimage", "niftiheader", "niftiwrite", "urls"},
    "zarrgroup": {"header", "remote", "urls", "zarrstore"},
    "zarrlayout": {"header", "image"},
    "zarrstore": {"remote", "urls"},
    "zarrtarget": {"locks", "partfiles", "remote", "urls", "zarrstore"},
    "zarrwrite": {
        "header",
        "imagefile",
        "niftiheader",
        "niftizarr",
        "openimage",
        "remote",
        "tonifti",
        "urls",
        "zarrlayout",
        "zarrstore",
        "zarrtarget",
    },
    "highvariance": {"placement", "reduce"},
    "nuisance": {"highvariance"},
    "reduce": {"limits"},
    "spatial": {"limits", "reduce"},
    "ways": {"placement"},
    "connectome": {"runmatrices", "tangent"},
    "report": {
        "reportdata",
        "reportframes",
        "reportimage",
        "reportpage",
        "reportplots",
        "reportregions",
        "reporttext",
    },
    "reportdata": {"reportframes"},
    "reportimage": {"reportviews"},
    "reportpage": {"reportplots"},
    "reportplots": {"reportparts", "reportseries", "reportslices"},
    "reportseries": {"reportparts"},
    "reportslices": {"reportparts"},
    "reporttext": {"reportdata"},
    "tangent": {"runmatrices"},
    "batch": {
        "beside",
        "cohortatlas",
        "cohortzarr",
        "currentclient",
        "jobs",
        "planning",
        "progress",
        "runstable",
        "session",
        "summary",
        "window",
        "work",
    },
    "beside": {"connectomefiles", "parquetfiles"},
    "besidefiles": {"store"},
    "cluster": {"currentclient", "engines", "environment", "ownclient", "slurm"},
    "cohort": {"search"},
    "cohortatlas": {"places"},
    "cohortreport": {"runstable", "sidecar", "store"},
    "cohortzarr": {"runstable", "store"},
    "connectomefiles": {"besidefiles", "relmat"},
    "group": {"cohortzarr", "runstable", "store"},
    "jobs": {"places", "work"},
    "parquetfiles": {"besidefiles", "store"},
    "planning": {"outcome", "sidecar", "upkeep"},
    "relmat": {"sidecar"},
    "runjob": {
        "beside",
        "cohortatlas",
        "outcome",
        "planning",
        "runconfounds",
        "sidecar",
        "sink",
        "store",
    },
    "search": {"pairing"},
    "session": {"outcome", "progress", "runjob", "runstable", "sink", "summary", "upkeep"},
    "slurm": {"engines"},
    "store": {"sidecar"},
    "summary": {"runstable"},
    "upkeep": {"runstable", "store"},
    "window": {"outcome", "runjob"},
    "work": {"cohortatlas", "sidecar", "store"},
    "__main__": {"cli"},
    "cli": {"clibids", "cliconvert", "clidemo", "cliextract", "clireport", "terminal"},
    "clibids": {"cliatlases", "clibidsoptions", "clioptions", "terminal"},
    "clibidsoptions": {"clioptions", "terminal"},
    "cliconvert": {"clicompute", "terminal"},
    "clidemo": {"phantomfiles", "terminal"},
    "cliextract": {"cliatlases", "clicompute", "cliextractoptions", "clioptions", "terminal"},
    "cliextractoptions": {"clioptions", "terminal"},
    "clioptions": {"terminal"},
    "clireport": {"cliatlases", "clicompute", "clioptions", "terminal"},
    "imagelists": {"columns"},
    "masker": {"columns", "estimator", "fitted", "imagelists", "reporting"},
    "maskerreport": {"columns", "estimator", "fitted"},
    "phantom": {"anatomy", "simulate"},
    "phantomfiles": {"phantom", "simulate"},
    "plot": {"plotmatrix", "plotregions", "plotseries"},
    "plotmatrix": {"plotparts"},
    "plotregions": {"plotparts"},
    "plotseries": {"plotparts"},
    "reporting": {"maskerreport"},
    "simulate": {"anatomy"},
}
FLOOR = {module: floor for floor, modules in FLOORS.items() for module in modules}
MODULES = sorted(p.stem for p in PACKAGE.glob("*.py") if p.stem != "__init__")


def imports(module: str) -> set[str]:
    """Dotted names of everything a module imports at run time, in functions as well."""
    found: set[str] = set()
    stack: list[ast.AST] = [ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
            if node.module == "daskroi":
                found |= {f"daskroi.{a.name}" for a in node.names}
        stack += ast.iter_child_nodes(node)
    return found


def test_every_module_has_a_floor() -> None:
    assert set(MODULES) <= set(FLOOR), "give the new module a floor"


@pytest.mark.parametrize("module", MODULES)
def test_floors_only_look_down(module: str) -> None:
    own = {n.split(".")[1] for n in imports(module) if n.startswith("daskroi.")} & set(MODULES)
    allowed = {m for m, floor in FLOOR.items() if floor < FLOOR[module]}
    assert own <= allowed | ARROWS.get(module, set())


@pytest.mark.parametrize("module", sorted(FLOORS[0] | FLOORS[-1]))
def test_numbers_know_nothing_but_numpy_and_scipy(module: str) -> None:
    tops = {name.split(".")[0] for name in imports(module)}
    # what a worker's memory and threads are, only these know
    process = {"distributed", "psutil", "threadpoolctl"} if FLOOR[module] == -1 else set()
    allowed = {"numpy", "scipy", "daskroi", "__future__"} | process
    assert tops <= set(sys.stdlib_module_names) | allowed


@pytest.mark.parametrize("module", MODULES)
def test_modules_stay_small(module: str) -> None:
    assert len((PACKAGE / f"{module}.py").read_text(encoding="utf-8").splitlines()) <= 400


def test_nilearn_and_sklearn_are_never_needed() -> None:
    for module in MODULES:
        used = {n.split(".")[0] for n in imports(module)} & {"nilearn", "sklearn"}
        assert used <= ({"sklearn"} if module in ("masker", "estimator") else set())


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, daskroi; print(*[m for m in sys.modules if '.' not in m])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    heavy = {
        "numpy",
        "scipy",
        "dask",
        "distributed",
        "xarray",
        "pandas",
        "nibabel",
        "click",
        "bokeh",
    }
    assert not heavy & set(done.stdout.split())


def test_public_names_exist() -> None:
    for name in daskroi.__all__:
        assert getattr(daskroi, name) is not None
    assert set(dir(daskroi)) == set(daskroi.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = daskroi.nothing


def test_functions_win_over_modules_of_the_same_name() -> None:
    # whatever was imported first
    code = (
        "import daskroi.extract, daskroi.clean, daskroi as dr;"
        "assert callable(dr.extract) and callable(dr.clean);"
        "from daskroi import extract; assert callable(extract)"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
