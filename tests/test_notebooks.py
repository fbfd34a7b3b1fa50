"""The notebooks run, top to bottom, and what is kept in them is what they show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import notebookdata
import numpy as np
import pytest
from images import run
from notebookdata import NOTEBOOKS, code_of, pictures_of, read, text_of, varies

pytest.importorskip("nbclient")

NAMES = [path.name for path in NOTEBOOKS]
NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?")


@pytest.fixture(params=NOTEBOOKS, ids=NAMES)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_all_are_there() -> None:
    assert [name[:3] for name in NAMES] == ["01_", "02_", "03_", "04_"]


@pytest.mark.timeout(120)
def test_it_shows_what_is_kept(path: Path, tmp_path: Path) -> None:
    kept = read(path)
    fresh = notebookdata.execute(read(path), tmp_path)
    for number, (ours, theirs) in enumerate(zip(code_of(kept), code_of(fresh), strict=True), 1):
        assert not [o.text for o in theirs.outputs if o.get("name") == "stderr"], theirs.source
        assert pictures_of(ours) == pictures_of(theirs), f"cell {number}: {ours.source}"
        if not varies(ours):
            _assert_same(text_of(ours), text_of(theirs), f"cell {number} of {path.name}")
        assert bool(ours.outputs) == bool(theirs.outputs)
    assert not [p for p in tmp_path.iterdir() if p.name != "home"], "files are left behind"


def _assert_same(ours: str, theirs: str, where: str) -> None:
    """Words are equal; numbers to a hundredth, for another BLAS may round otherwise."""
    again = "python tests/notebookdata.py"
    assert NUMBER.sub("#", ours) == NUMBER.sub("#", theirs), f"{where} is stale: {again}"
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (ours, theirs)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.01, abs=0.011), f"{where}: {again}"


def test_outputs_are_of_this_code(path: Path) -> None:
    notebook = read(path)
    assert notebook.metadata["daskroi"]["code_sha256"] == notebookdata.digest(notebook), (
        f"{path.name} was changed and not executed: python tests/notebookdata.py {path.name}"
    )
    counts = [cell.execution_count for cell in code_of(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_read_well(path: Path) -> None:
    assert path.stat().st_size < 300_000
    notebook = read(path)
    outputs = [o for cell in code_of(notebook) for o in cell.outputs]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    # pictures are base64, in which anything may occur
    shown = " ".join(
        str({k: v for k, v in o.get("data", {"": o.get("text")}).items() if k != "image/png"})
        for o in outputs
    )
    assert not re.search(r"(?<![\w:/<])/\w[\w.-]*/\w", shown), "an absolute path"
    assert not re.search(r"Warning:|Traceback \(|\d+%\||━", shown)
    assert "<iframe" not in shown


def test_they_are_short_and_begin_with_a_title(path: Path) -> None:
    notebook = read(path)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    lines = sum(len(cell.source.splitlines()) for cell in code_of(notebook))
    assert lines < 180
    for cell in code_of(notebook):
        compile(re.sub(r";\s*$", "", cell.source), path.name, "exec")
        assert max(map(len, cell.source.splitlines())) <= 100


def test_links_lead_somewhere(path: Path) -> None:
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#:]+)\)", cell.source):
                assert (path.parent / target).exists(), target


@pytest.mark.timeout(60)
def test_a_cell_that_fails_fails(tmp_path: Path) -> None:
    from nbclient.exceptions import CellExecutionError

    cells: list[Any] = [nbformat.v4.new_code_cell(code) for code in ("a = 1", "a / 0")]
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        notebookdata.execute(nbformat.v4.new_notebook(cells=cells), tmp_path)


def test_stale_outputs_are_noticed() -> None:
    _assert_same("r 0.991 of 12 runs", "r 0.994 of 12 runs", "")
    for other in ("r 0.90 of 12 runs", "r 0.991 of 12 cells", "r 0.991 of 13 runs"):
        with pytest.raises(AssertionError):
            _assert_same("r 0.991 of 12 runs", other, "")


@pytest.mark.timeout(120)
def test_the_first_runs_on_data_that_nilearn_has(tmp_path: Path) -> None:
    import smalldatasets

    root = tmp_path / "home" / "nilearn_data"
    folder = smalldatasets.write_development(root / "development_fmri", [])
    values = np.random.default_rng(0), (23, 28, 24, 40), "i2"
    bold = folder / smalldatasets.BOLD.format(smalldatasets.ADULT)
    bold.write_bytes(smalldatasets.gzipped(run(*values, smalldatasets.WIDE)))
    confounds = folder / smalldatasets.CONFOUNDS.format(smalldatasets.ADULT)
    confounds.write_text(smalldatasets.confounds(40))
    smalldatasets.write_fsl(root / "fsl")
    fresh = notebookdata.execute(read(NOTEBOOKS[0]), tmp_path)
    shown = " ".join(map(text_of, code_of(fresh)))
    assert f"{smalldatasets.ADULT}_task-pixar" in shown
    assert "Left Lateral Ventricle" in shown
    assert "agree to 1e-4 standard deviations: True" in shown
