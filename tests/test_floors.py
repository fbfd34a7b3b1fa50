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
    -1: {"errors"},
    # numbers: NumPy and SciPy only
    0: {
        "grid",
        "regions",
        "leastsquares",
        "smoothing",
        "resampling",
        "blockresampling",
        "weights",
        "operators",
        "kernels",
        "steps",
        "censor",
        "filters",
        "signals",
        "compcor",
        "recipe",
        "strategies",
        "confoundrecipe",
    },
    # doors: bytes <-> arrays
    1: {
        "urls",
        "remote",
        "backend",
        "niftiheader",
        "tonifti",
        "niftiwrite",
        "niftizarr",
        "zarrlayout",
        "zarrstore",
        "zarrtarget",
        "zarrwrite",
        "convert",
        "outputs",
        "rangereader",
        "inflate",
        "gzipindex",
        "gzippoints",
        "gzipreader",
        "gzipscan",
        "gzipsearch",
        "bytesource",
        "header",
        "imagefile",
        "nifti",
        "image",
        "lazyimage",
        "openimage",
        "labeltable",
        "labelimage",
        "regiontable",
        "maps",
        "seeds",
        "spheres",
        "templates",
        "atlas",
        "confounds",
        "datasetdownload",
        "datasetfiles",
        "datasetruns",
        "datasets",
        "confoundtable",
        "fmriprep",
        "entities",
        "paths",
        "selection",
        "listing",
    },
    # operators: lazy in, lazy out
    2: {
        "placement",
        "ways",
        "timing",
        "limits",
        "reduce",
        "clean",
        "highvariance",
        "spatial",
        "nuisance",
    },
    # one run
    3: {"extract", "report"},
    # many runs
    4: {"store", "sidecar", "pairing", "search", "places", "cohort"},
    # faces: nothing imports them
    5: {
        "masker",
        "estimator",
        "fitted",
        "columns",
        "imagelists",
        "maskerreport",
        "anatomy",
        "simulate",
        "phantom",
        "cli",
        "clidemo",
        "clioptions",
        "terminal",
        "__main__",
        "accessor",
        "cliconvert",
    },
}
# who may import whom on the same floor
ARROWS = {
    "filters": {"steps"},
    "signals": {"censor", "filters", "steps"},
    "compcor": {"filters"},
    "leastsquares": {"regions"},
    "kernels": {"regions"},
    "smoothing": {"grid"},
    "resampling": {"grid"},
    "blockresampling": {"grid", "resampling"},
    "weights": {"grid", "regions", "resampling", "smoothing"},
    "operators": {"kernels", "regions", "resampling", "smoothing", "weights"},
    "recipe": {"kernels", "smoothing", "steps"},
    "backend": {"image", "lazyimage", "openimage"},
    "niftiheader": {"header", "image", "niftizarr", "templates"},
    "tonifti": {"image", "niftiheader", "niftiwrite"},
    "remote": {"urls"},
    "rangereader": {"remote", "urls"},
    "bytesource": {"gzipindex", "inflate", "rangereader", "remote", "urls"},
    "gzipindex": {"gzippoints", "gzipreader", "gzipsearch"},
    "gzipreader": {"gzippoints", "gzipsearch"},
    "gzipsearch": {"gzippoints"},
    "nifti": {"bytesource", "header", "imagefile", "inflate", "urls"},
    "lazyimage": {"image", "imagefile"},
    "openimage": {
        "bytesource",
        "header",
        "image",
        "imagefile",
        "lazyimage",
        "nifti",
        "niftizarr",
        "urls",
    },
    "confounds": {"bytesource", "urls"},
    "labeltable": {"bytesource", "urls"},
    "labelimage": {"header", "image", "nifti", "openimage", "templates"},
    "regiontable": {"labelimage", "labeltable", "remote", "urls"},
    "datasetdownload": {"remote"},
    "datasetfiles": {"bytesource", "datasetdownload", "gzipindex", "urls"},
    "datasetruns": {"datasetfiles"},
    "datasets": {"atlas", "datasetfiles", "datasetruns", "labeltable"},
    "maps": {"labelimage", "labeltable", "regiontable"},
    "seeds": {"labeltable"},
    "spheres": {"regiontable", "seeds"},
    "atlas": {
        "labelimage",
        "labeltable",
        "maps",
        "regiontable",
        "seeds",
        "spheres",
        "templates",
        "image",
    },
    "ways": {"placement"},
    "confoundrecipe": {"strategies"},
    "confoundtable": {"bytesource", "remote", "urls"},
    "fmriprep": {"confoundtable"},
    "paths": {"entities"},
    "selection": {"entities", "remote", "urls"},
    "listing": {"paths", "remote", "urls"},
    "search": {"pairing"},
    "places": {"pairing"},
    "cohort": {"search"},
    "nuisance": {"highvariance"},
    "reduce": {"limits"},
    "highvariance": {"placement", "reduce"},
    "spatial": {"limits", "reduce"},
    "maskerreport": {"estimator", "fitted"},
    "imagelists": {"columns"},
    "masker": {"estimator", "fitted", "columns", "imagelists", "maskerreport"},
    "store": {"sidecar"},
    "simulate": {"anatomy"},
    "phantom": {"anatomy", "simulate"},
    "clidemo": {"phantom", "terminal"},
    "clioptions": {"terminal"},
    "cli": {"clidemo", "clioptions", "phantom", "terminal"},
    "__main__": {"cli"},
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
    assert tops <= set(sys.stdlib_module_names) | {"numpy", "scipy", "daskroi", "__future__"}


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
    heavy = {"numpy", "scipy", "dask", "distributed", "xarray", "pandas", "nibabel", "click"}
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
