"""One way to write a file and one to lock: whole or not at all, and nowhere else in the package."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import daskroi
from daskroi.locks import LOCK, BusyError, alone_in
from daskroi.partfiles import ORPHAN_SECONDS, part_folder, part_of, placed, placed_together, sweep

# what files are made, renamed, forced to the disk and locked by, and who may use it
ONLY = {
    "os.replace": {"partfiles"},
    "os.fsync": {"partfiles"},
    "os.fdatasync": set(),
    "os.link": set(),
    # a whole store, which is a folder, takes the place of another
    "os.rename": {"zarrtarget"},
    "os.renames": set(),
    "shutil.move": set(),
    "tempfile.NamedTemporaryFile": set(),
    "tempfile.mkstemp": set(),
    "fcntl": {"locks"},
    "msvcrt": set(),
    "filelock": set(),
}
# modes by which a file is opened to be written, and who may: into a folder of its own that nobody
# else looks into, keys that must be private from the start, and the kernel's switches
WRITING = {"partfiles", "datasetdownload", "slurm", "memory"}
PACKAGE = Path(daskroi.__file__).parent


def uses(module: Path) -> Iterator[str]:
    """Names of `ONLY` that a module uses, and "writes" where it opens a file for writing."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{a.name}" for a in node.names)
            yield node.module or ""
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in ("write_text", "write_bytes"):
            yield "writes"
        # Path.replace; that of a text has two arguments
        if name == "replace" and len(node.args) == 1 and not node.keywords:
            yield "os.replace"
        modes = [a.value for a in node.args[:2] if isinstance(a, ast.Constant)]
        local = isinstance(node.func, ast.Name) or name == "FileIO"
        local |= name == "open" and bool(node.args[:1]) and node.args[0] in modes_of(node)
        if name in ("open", "FileIO") and local and any(is_writing(mode) for mode in modes):
            yield "writes"


def modes_of(node: ast.Call) -> list[ast.expr]:
    """The first argument, if it is a mode: of Path.open, not of a filesystem's."""
    return [a for a in node.args[:1] if isinstance(a, ast.Constant) and is_writing(a.value)]


def is_writing(mode: object) -> bool:
    return isinstance(mode, str) and len(mode) < 4 and any(c in mode for c in "wxa+")


def test_there_is_no_second_way() -> None:
    for path in PACKAGE.glob("*.py"):
        found = set(uses(path))
        assert path.stem in WRITING or "writes" not in found, path.stem
        assert {n for n in found & set(ONLY) if path.stem not in ONLY[n]} == set(), path.stem


def test_the_second_way_would_be_seen(tmp_path: Path) -> None:
    lines = {
        "import os; os.replace(a, b)": "os.replace",
        "from os import fsync": "os.fsync",
        "a.replace(b)": "os.replace",
        "def f():\n    import filelock": "filelock",
        "a.write_text('x')": "writes",
        "open(a, 'wb')": "writes",
        "a.open('x')": "writes",
    }
    for line, expected in lines.items():
        (tmp_path / "x.py").write_text(line)
        assert expected in set(uses(tmp_path / "x.py")), line
    (tmp_path / "x.py").write_text("'a'.replace('b', 'c'); open(a); fs.open(a, 'wb'); a.open('rb')")
    assert not {*ONLY, "writes"} & set(uses(tmp_path / "x.py"))


def test_what_was_a_link_is_a_file_and_what_it_led_to_stays(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("thesis")
    (tmp_path / "x").symlink_to(precious)
    with placed(tmp_path / "x", 0o600) as file:
        file.write(b"result")
    assert precious.read_text() == "thesis"
    assert not (tmp_path / "x").is_symlink()
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_nothing_is_left_of_what_fails(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "x").write_text("before")

    def half() -> None:
        with placed(tmp_path / "x") as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        half()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"x": "before"}


def test_what_cannot_be_forced_to_the_disk_is_not_in_place(tmp_path: Path, monkeypatch) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    number = 5
    with pytest.raises(OSError, match="Input/output"), placed(tmp_path / "x") as file:
        file.write(b"x")
    assert not list(tmp_path.iterdir())
    number = 22  # what file systems that know no such thing answer
    with placed(tmp_path / "x") as file:
        file.write(b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_of_files_that_belong_together_the_last_goes_first(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("table", "sidecar")]
    for path in paths:
        path.write_text("before")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), placed_together([paths[0], tmp_path / "folder"]):
        pass
    assert [p.read_text() for p in paths] == ["before"] * 2
    with placed_together(paths) as files:
        for file in files:
            file.write(b"after")
    assert [p.read_text() for p in paths] == ["after"] * 2


def test_sweeping(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(timeout=60)  # so that nobody has this number
    mine = part_of(tmp_path / "x")
    killed = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{child.pid}-"))
    again = mine.with_name(mine.name.replace(f"-{os.getpid()}-", "-1-"))
    old = time.time() - 2 * ORPHAN_SECONDS
    # a session lasts for days, and init is younger than a file of last century
    for path, when in ((mine, old), (killed, None), (again, 1.0)):
        path.write_text("half")
        os.utime(path, None if when is None else (when, when))
    os.utime(mine)
    folder = tmp_path / killed.name.replace("x", "download")
    (folder / "deep").mkdir(parents=True)
    # would otherwise end the sweep
    (tmp_path / ".y.other-1-0123abcd.part").symlink_to("nowhere")
    assert sweep(tmp_path, "y") == 0
    assert sweep(tmp_path) == 3
    assert {p.name for p in tmp_path.iterdir()} == {mine.name, ".y.other-1-0123abcd.part"}
    assert sweep(tmp_path, alone=True) == 2
    assert not list(tmp_path.iterdir())


def test_a_folder_of_parts_goes_whatever_happens(tmp_path: Path) -> None:
    def half() -> None:
        with part_folder(tmp_path / "download") as part:
            (part / "deep").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "one.lock"])
def test_one_at_a_time(tmp_path: Path, name: str) -> None:
    inside: list[int] = []
    gone = threading.Event()

    def enter(number: int) -> None:
        for _ in range(50):
            with alone_in(tmp_path, 60, name):
                inside.append(number)
                if len(inside) > 1:
                    gone.set()
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(4)))
    assert not gone.is_set()
    assert not list(tmp_path.iterdir())


def test_locks_of_two_things_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with (
        alone_in(tmp_path, 0),
        alone_in(tmp_path, 0, "one.lock"),
        alone_in(tmp_path, 0, "two.lock"),
        pytest.raises(BusyError),
        alone_in(tmp_path, 0, "one.lock"),
    ):
        pass
    assert not list(tmp_path.iterdir())


HOLDER = """
import sys, time
from pathlib import Path
from daskroi.locks import alone_in
with alone_in(Path(sys.argv[1]), 0, sys.argv[2]):
    print("here", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("name", ["", "one.lock"])
def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, name: str) -> None:
    code = [sys.executable, "-c", HOLDER, str(tmp_path), name]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "here\n"
            with pytest.raises(BusyError), alone_in(tmp_path, 0.1, name):
                pass
        finally:
            holder.kill()
    with alone_in(tmp_path, 10, name):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_renamed_while_it_was_locked(tmp_path: Path, monkeypatch) -> None:
    """As on NFS, where folders have no locks: the lock of its successor stays."""
    import fcntl

    real = fcntl.flock

    def flock(handle: int, how: int) -> None:
        if os.path.isdir(handle):
            raise OSError(9, "Bad file descriptor")
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    part, final = tmp_path / "x.part", tmp_path / "x"
    part.mkdir()
    with alone_in(part, 0):
        part.rename(final)
        with pytest.raises(BusyError, match="moved"), alone_in(part, 0):
            pass
        part.mkdir()
        second = alone_in(part, 0)
        second.__enter__()
    assert [p.name for p in part.iterdir()] == [LOCK]
    with pytest.raises(BusyError), alone_in(part, 0):
        pass
    second.__exit__(None, None, None)
    assert not list(part.iterdir())
    shutil.rmtree(final)
