"""connect() wants workers, with the same software as here, and says what differs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import daskprocesses as processes
import pytest
from hypothesis import given
from hypothesis import strategies as st

import daskroi as dr
from daskroi.cluster import connect
from daskroi.environment import compare, environment
from daskroi.errors import DaskroiError, DaskroiWarning

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler without workers."""
    with processes.scheduler(tmp_path_factory.mktemp("bare")) as (address, _):
        yield address


def test_no_worker(bare: str) -> None:
    with pytest.raises(DaskroiError, match=r"tcp://.*: no worker came within \d+ s.*dask worker"):
        connect(bare, timeout=0.5)


VERSIONS = st.from_regex(r"[0-9]\.[0-9]{1,2}\.[0-9]", fullmatch=True)


@given(st.fixed_dictionaries({"daskroi": VERSIONS, "python": VERSIONS, "numpy": VERSIONS}))
def test_compare(there: dict[str, str]) -> None:
    here = {"daskroi": "1.0.0", "python": "3.12.1", "numpy": "2.1.0", "scipy": "1.15.0"}
    fatal, doubtful = compare(here, there | {"scipy": "1.15.0"})
    assert any(said.startswith("daskroi") for said in fatal) == (there["daskroi"] != "1.0.0")
    assert any(said.startswith("python") for said in fatal) == (
        not there["python"].startswith("3.12.")
    )
    assert any(said.startswith("numpy") for said in fatal) == (not there["numpy"].startswith("2."))
    assert not any(said.startswith(("daskroi", "python", "scipy")) for said in doubtful)
    same = compare(here, here)
    assert same == ([], [])
    assert compare(here, here | {"scipy": "1.14.0"})[1] == ["scipy 1.15.0 here, 1.14.0 there"]
    assert compare(here, here | {"scipy": "missing"})[0] == ["scipy 1.15.0 here, missing there"]


def altered(folder: Path, code: str) -> dict[str, str]:
    """Environment of a process that runs this before anything else."""
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(folder)}


OTHER_VERSION = """
import importlib.metadata as m
real = m.version
m.version = lambda name: {other!r}.get(name) or real(name)
"""


NO_DASKROI = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "daskroi":
            raise ModuleNotFoundError("No module named 'daskroi'", name="daskroi")
sys.meta_path.insert(0, Finder())
"""


OTHER_DASKROI = """
import daskroi
daskroi.__version__ = "9.9"
"""


def test_other_versions_on_a_worker_are_said(bare: str, tmp_path: Path) -> None:
    other = altered(tmp_path, OTHER_VERSION.format(other={"scipy": "1.2.3"}))
    with (
        processes.worker(bare, env=other),
        pytest.warns(
            DaskroiWarning, match=r"versions differ: scipy .* here, 1.2.3 there \(workers"
        ),
        connect(bare) as client,
    ):
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3


@pytest.mark.parametrize(
    ("code", "match"),
    [
        (NO_DASKROI, r"daskroi cannot be imported by the worker tcp://.*Install daskroi"),
        (OTHER_DASKROI, r"cannot work: daskroi 0\.\S+ here, 9.9 there .*container image"),
        (
            OTHER_VERSION.format(other={"numpy": "1.26.4"}),
            r"cannot work: numpy 2\S* here, 1.26.4 there",
        ),
    ],
    ids=["no daskroi", "another daskroi", "NumPy 1"],
)
def test_what_cannot_work(bare: str, tmp_path: Path, code: str, match: str) -> None:
    with (
        processes.worker(bare, env=altered(tmp_path, code)),
        pytest.raises(DaskroiError, match=match),
    ):
        connect(bare)


def test_environment_names_this_process() -> None:
    here = environment()
    assert here["daskroi"] == dr.__version__
    assert here["executable"] == sys.executable
    assert here["zarr"][0].isdigit()
