"""A module imports only from floors below it, and from siblings named in `floors`."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from floors import ARROWS, FLOORS

import daskroi

PACKAGE = Path(daskroi.__file__).parent
HERE = Path(__file__).parent
FLOOR = {module: floor for floor, modules in FLOORS.items() for module in modules}
MODULES = sorted(p.stem for p in PACKAGE.glob("*.py") if p.stem != "__init__")
TESTS = {f"tests/{p.relative_to(HERE).as_posix()}": p for p in sorted(HERE.rglob("*.py"))}


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


@pytest.mark.parametrize("module", [*MODULES, *TESTS])
def test_modules_stay_small(module: str) -> None:
    path = TESTS.get(module, PACKAGE / f"{module}.py")
    n_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert n_lines <= 400


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
