"""No code comes out of data: nothing in the package unpickles or evaluates what a file holds."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import daskroi as dr
from daskroi.errors import DaskroiError

PACKAGE = Path(dr.__file__).parent

# what runs whatever it is given, by the last part of the name it is called by
RUNS_DATA = {
    "eval", "exec", "compile", "__import__", "execfile",
    "Unpickler", "read_pickle", "read_hdf", "HDFStore", "read_sql",
    "system", "popen", "run_path", "run_module", "literal_eval", "import_string",
}  # fmt: skip
# by module, whatever of it is called
MODULES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml",
    "ruamel", "jsonpickle", "code", "codeop", "runpy", "xmlrpc",
}  # fmt: skip
# a run's work, made by the client and sent to its own workers over Dask, which unpickles the task
# itself all the same: compressed, for label images shrink by 20
ALLOWED = {
    "window.py:_packed: cloudpickle.dumps",
    "window.py:_unpacked: pickle.loads",
}


def found_in(path: Path) -> Iterator[str]:
    """Calls that may run data, as ``file:function: call``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    for node in ast.walk(tree):
        # no text at all is no data: see `daskroi.interrupt.interruptible`
        if not isinstance(node, ast.Call) or ast.unparse(node) == "exec('')":
            continue
        name = ast.unparse(node.func)
        name = imported.get(name, name)
        first, last = name.partition(".")[0], name.rpartition(".")[2]
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        risky = (
            first in MODULES
            # but re.compile
            or (last in RUNS_DATA and not (last == "compile" and first == "re"))
            or (
                last in ("load", "fromfile") and keywords.get("allow_pickle") not in (None, "False")
            )
            or (first in ("np", "numpy") and last == "load" and "allow_pickle" not in keywords)
            or keywords.get("shell") not in (None, "False")
            or keywords.get("object_hook", "").startswith("eval")
        )
        if risky:
            inside = [f for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
            where = max(inside, key=lambda f: f.lineno).name if inside else "module"
            yield f"{path.name}:{where}: {name}"


def test_nothing_in_the_package_runs_data() -> None:
    found = {hit for path in PACKAGE.rglob("*.py") for hit in found_in(path)}
    assert found == ALLOWED


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)",
        "exec(' ')",
        "from pickle import load as up\nup(file)",
        "import yaml\nyaml.safe_load(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
        "joblib.load(path)",
    ],
)
def test_the_search_finds_what_it_looks_for(line: str, tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(f"def f():\n    {line.replace(chr(10), chr(10) + '    ')}\n")
    assert len(list(found_in(path))) == 1


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Path]:
    """What is there as soon as anything was unpickled."""
    path = tmp_path / "unpickled"
    yield path
    assert not path.exists()


@pytest.fixture(scope="module")
def phantom() -> Any:
    return dr.make_phantom((12, 14, 12), n_time=4, n_regions=4)


def payloads(trace: Path) -> dict[str, bytes]:
    """The same, packed as files have it."""
    plain = pickle.dumps(Evil(trace))
    array = io.BytesIO()
    np.save(array, np.array([Evil(trace)], object), allow_pickle=True)
    archive = io.BytesIO()
    np.savez(archive, x=np.array([Evil(trace)], object))
    yaml = b"!!python/object/apply:os.mkdir ['%b']\n" % str(trace).encode()
    return {"pickle": plain, "npy": array.getvalue(), "npz": archive.getvalue(), "yaml": yaml}


NAMES = (
    "x.nii", "x.nii.gz", "x.img", "x.hdr", "x.mgh", "x.mgz", "x.mnc", "x.gii", "x.dscalar.nii",
    "x.BRIK", "x.par", "x.npy", "x.pkl", "x.tsv", "x.csv", "x.txt", "x.json", "x.xml", "x.nc",
    "x.h5", "x.tsv.gz", "x.tsv.zip",
)  # fmt: skip


# nibabel leaves a broken .mgh open until the error is forgotten
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["pickle", "npy", "npz", "yaml"])
def test_files_that_hold_a_pickle(kind: str, trace: Path, tmp_path: Path, phantom: Any) -> None:
    data = payloads(trace)[kind]
    image, atlas = phantom.image, phantom.atlas
    readers: dict[str, Callable[[str], Any]] = {
        "image": lambda path: dr.extract(path, atlas).compute(),
        "atlas": lambda path: dr.extract(image, path).compute(),
        "lut": lambda path: dr.load_atlas(atlas.image, lut=path),
        "mask": lambda path: dr.extract(image, atlas, mask_img=path).compute(),
        "confounds": lambda path: dr.extract(image, atlas, confounds=path),
        "load_confounds": dr.load_confounds,
        "cohort": lambda path: dr.extract_cohort([path], atlas, tmp_path / "out", progress=False),
    }
    for name in NAMES:
        path = tmp_path / name
        path.write_bytes(data)
        for reader in readers.values():
            with suppress(DaskroiError):  # nothing else
                reader(str(path))
            assert not trace.exists(), name


def test_sample_mask_of_the_command_line(trace: Path, tmp_path: Path, phantom: Any) -> None:
    from click.testing import CliRunner

    from daskroi.cli import main

    paths = dr.write_phantom(tmp_path / "in", phantom)
    for kind in ("npy", "npz", "pickle"):
        mask = tmp_path / f"mask.{kind}"
        mask.write_bytes(payloads(trace)[kind])
        args = ["extract", paths["image"], "--atlas", paths["atlas"], "-o", tmp_path / "out"]
        said = CliRunner().invoke(main, [*map(str, args), "--sample-mask", str(mask)])
        assert said.exit_code == 1, said.output
        assert "Traceback" not in said.output


STORED = [
    ("|O", [{"id": "vlen-utf8"}, {"id": "pickle", "protocol": 5}], None),
    ("|O", [{"id": "vlen-bytes"}], {"id": "pickle", "protocol": 5}),
    ("|O", [{"id": "pickle", "protocol": 5}], None),
    ("<f4", [{"id": "pickle", "protocol": 5}], None),
    ("<f4", [], {"id": "pickle", "protocol": 5}),
    ("|O", [{"id": "json2"}], None),
    ("|O", [{"id": "vlen-utf8"}], None),
]


@pytest.mark.parametrize("array", ["nifti", "0"])
def test_zarr_codecs_that_make_objects_are_not_decoded(
    array: str, trace: Path, tmp_path: Path, phantom: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with numcodecs before 0.16, which decoded a pickle wherever a store had one."""
    from numcodecs import pickles

    monkeypatch.setattr(pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    source = dr.write_phantom(tmp_path / "in", phantom)["image"]
    store = tmp_path / "x.nii.zarr"
    dr.to_zarr(source, store, zarr_format=2)
    described = store / array / ".zarray"
    chunk = next(p for p in (store / array).rglob("*") if p.is_file() and p.name[0] != ".")
    # else the test would pass with nothing in it
    assert pickles.Pickle().decode(pickle.dumps([1]))[0] == 1
    chunk.write_bytes(pickle.dumps(Evil(trace)))
    said = json.loads(described.read_text())
    for dtype, filters, compressor in STORED:
        more = {"dtype": dtype, "filters": filters or None, "compressor": compressor}
        described.write_text(json.dumps(said | more | {"fill_value": "" if dtype == "|O" else 0}))
        with pytest.raises(DaskroiError, match=r"x\.nii\.zarr: "):
            dr.extract(store, phantom.atlas).compute()
        assert not trace.exists(), more


def test_a_level_cannot_lie_outside_the_store(tmp_path: Path, phantom: Any) -> None:
    source = dr.write_phantom(tmp_path / "in", phantom)["image"]
    store, other = tmp_path / "x.nii.zarr", tmp_path / "y.nii.zarr"
    dr.to_zarr(source, store)
    shutil.copytree(store, other)
    (other / "0").rename(tmp_path / "elsewhere")
    document = other / "zarr.json"
    said = json.loads(document.read_text())
    for level in ("../x.nii.zarr/0", str(store / "0"), "..\\x.nii.zarr\\0", "a/../../x.nii.zarr/0"):
        said["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = level
        document.write_text(json.dumps(said))
        with pytest.raises(DaskroiError, match=r"y\.nii\.zarr"):
            dr.open_image(other)


def test_attributes_and_encodings_are_text(trace: Path, tmp_path: Path, phantom: Any) -> None:
    """Of series that somebody else sent: what stands in attributes is shown, not believed."""
    ts = dr.extract(phantom.image, phantom.atlas).compute()
    evil = f"__import__('os').mkdir({str(trace)!r})"
    names = (
        "recipe",
        "confounds",
        "source",
        "atlas",
        "strategy",
        "mask",
        "atlas_source",
        "spatial",
    )
    for value in (evil, json.dumps({"py/reduce": [evil]}), "{{ 7919 * 7907 }}"):
        with suppress(DaskroiError):
            html = dr.report(ts.assign_attrs(dict.fromkeys(names, value))).html
            assert "62615533" not in html[html.find("<h1") : html.find("</h1>")]


def test_archives_of_datasets(tmp_path: Path) -> None:
    """Members that are no regular files, or lie elsewhere, even through another member."""
    from daskroi.datasetdownload import _unpack

    outside = tmp_path / "outside"
    outside.mkdir()
    cases = {
        "absolute": [tarfile.TarInfo(str(outside / "x"))],
        "up": [tarfile.TarInfo("a/../../outside/x")],
        "device": [tarfile.TarInfo("dev")],
        "fifo": [tarfile.TarInfo("pipe")],
        "through a link": [tarfile.TarInfo("link"), tarfile.TarInfo("link/x")],
        "hard link": [tarfile.TarInfo("hard")],
    }
    cases["device"][0].type, cases["fifo"][0].type = tarfile.CHRTYPE, tarfile.FIFOTYPE
    cases["through a link"][0].type = tarfile.SYMTYPE
    cases["through a link"][0].linkname = str(outside)
    cases["hard link"][0].type, cases["hard link"][0].linkname = tarfile.LNKTYPE, "/etc/passwd"
    for name, members in cases.items():
        path, folder = tmp_path / "x.tgz", tmp_path / name
        with tarfile.open(path, "w:gz") as archive:
            for member in members:
                archive.addfile(member)
        folder.mkdir()
        made: set[Any] = set()
        with suppress(DaskroiError):
            made = set(_unpack(path, folder))
        found = [p for p in folder.rglob("*") if not p.is_dir()]
        assert all(p.is_file() and not p.is_symlink() for p in found), name
        assert len(found) == len(made)
        assert not list(outside.iterdir()), name
