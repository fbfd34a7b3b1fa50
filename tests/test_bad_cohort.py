"""Everything around one run, broken: said in one line, in Python and on the command line alike.

The inputs and what is expected of them stand in tables: ``bad_cohort_inputs.py``,
``bad_cohort_results.py``, ``bad_cohort_stores.py`` and ``bad_cohort_urls.py``.
"""

from __future__ import annotations

import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import bad_cohort_inputs
import bad_cohort_results
import bad_cohort_stores
import bad_cohort_urls
import badserver
import badworld
import pytest
from badworld import Bad, World
from click.testing import CliRunner

import daskroi as dr
from daskroi import remote
from daskroi.cli import main
from daskroi.errors import DaskroiError
from daskroi.runstable import read_runs
from daskroi.targets import as_target

ALL = (
    *bad_cohort_inputs.TABLE,
    *bad_cohort_results.TABLE,
    *bad_cohort_stores.TABLE,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world before it is broken."""
    return badworld.make_world(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def world(whole: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy that may be broken; caches and temporary files go into it, and so are seen."""
    mine = badworld.copied(whole, tmp_path / "w")
    monkeypatch.chdir(mine.root)
    monkeypatch.setattr(tempfile, "tempdir", str(mine.root / "tmp"))
    monkeypatch.setenv("DASKROI_CACHE", str(mine.root / "tmp"))
    monkeypatch.setattr("daskroi.clibids._client", lambda **_: nullcontext("threads"))
    # what may pass is tried again, without the waiting
    monkeypatch.setattr(remote, "LONGEST_WAIT", 0.01)
    return mine


@pytest.fixture(scope="module")
def misbehaving() -> Iterator[str]:
    """Address of a web server that does wrong what it is asked to."""
    with badserver.serving() as url:
        yield url


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Files of at most so many bytes; 0 for any."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def check_untouched(world: World, before: dict[str, str], leaves: str) -> None:
    """Nothing is there that was not, but for what may be left; nothing is gone or changed."""
    after = world.tree()
    assert {name: after.get(name) for name in before} == before
    new = [name for name in after if name not in before and not re.fullmatch(leaves, name)]
    assert not new


def said_in_python(bad: Bad, world: World) -> str:
    assert bad.api is not None
    with limited(bad.limit), pytest.raises(DaskroiError) as caught:
        bad.api(world)
    return str(caught.value)


def said_on_the_command_line(bad: Bad, world: World) -> str:
    told = shlex.split(bad.cli.format(**world.paths))
    with limited(bad.limit):
        done = CliRunner().invoke(main, told)
    assert done.exit_code == bad.code, done.output
    assert "Traceback" not in done.output
    [line] = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "unexpected" not in line
    return line.removeprefix("Error: ")


def check(bad: Bad, world: World) -> None:
    if bad.spoil is not None:
        bad.spoil(world)
    before, said = world.tree(), []
    for way in (bad.api and said_in_python, bad.cli and said_on_the_command_line):
        if way:
            message = way(bad, world)
            assert len(message.splitlines()) == 1
            assert re.search(bad.says, message), message
            check_untouched(world, before, bad.leaves)
            said.append(" ".join(message.split()))
            for name in set(world.tree()) - set(before):  # what may be left, for the other way
                path = world.root / name
                if path.exists():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if bad.code == 1:
        assert len(set(said)) == 1


@pytest.mark.parametrize("bad", ALL, ids=lambda bad: bad.name)
def test_bad_input(bad: Bad, world: World):
    check(bad, world)


@pytest.mark.parametrize("bad", bad_cohort_urls.TABLE, ids=lambda bad: bad.name)
def test_bad_url(bad: Bad, world: World, misbehaving: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(badworld.WEB, "web", misbehaving)
    monkeypatch.setitem(badworld.WEB, "tls", misbehaving.replace("http", "https"))
    check(bad, world)


@pytest.mark.parametrize("bad", bad_cohort_urls.BUCKETS, ids=lambda bad: bad.name)
def test_bad_bucket(bad: Bad, world: World, s3: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(badworld.WEB, "bucket", s3.bucket)
    monkeypatch.setitem(badworld.WEB, "options", bad_cohort_urls.flags(s3.options))
    monkeypatch.setattr(bad_cohort_urls, "OPTIONS", s3.options)
    check(bad, world)


@pytest.mark.filterwarnings("ignore::daskroi.errors.DaskroiWarning")
@pytest.mark.parametrize("bad", bad_cohort_inputs.ONE_RUN, ids=lambda bad: bad.name)
def test_a_bad_run_does_not_stop_the_others(bad: Bad, world: World):
    assert bad.spoil is not None
    bad.spoil(world)
    before = world.tree()
    confounds = {"columns": ["trans_?"]} if "confounds" in bad.name else None
    done = world.cohort(confounds=confounds)
    check_untouched(world, before, r"out(/.*)?")
    assert (done.done, done.failed, done.exit_code) == (1, 1, 1)
    table = read_runs(as_target(world.out)).set_index("status")
    assert re.search(bad.says, table.loc["failed", "reason"])
    assert "sub-02" in table.loc["ok", "run"]
    assert not [p for p in world.out.rglob("*") if "sub-01" in p.name and p.suffix != ".txt"
                and p.is_file()]  # fmt: skip
    shutil.rmtree(world.out)
    told = ["bids", str(world.data), str(world.out), "participant", "--atlases", f"P={world.atlas}"]
    run = CliRunner().invoke(main, [*told, *(["-p", "trans_?"] if confounds else [])])
    assert run.exit_code == 1
    assert re.search(rf"sub-01\S*: failed: .*{bad.says}", run.stderr)
    assert "2 runs: 1 done, 1 failed" in run.stdout
    check_untouched(world, before, r"out(/.*)?")


@pytest.mark.filterwarnings("ignore::daskroi.errors.DaskroiWarning")
def test_odd_names_and_links_take_no_run_with_them(world: World):
    func = world.image.parent
    for name in ("sub-01_task-a\nb", "sub-01_task-ré st", "sub-01_sub-01_task-rest", ".sub-01"):
        (func / f"{name}_desc-preproc_bold.nii.gz").write_bytes(world.image.read_bytes())
    (func / world.image.name.removesuffix(".gz")).symlink_to("gone")
    for name in ("participants.tsv", ".bidsignore", "dataset_description.json"):
        (world.data / name).write_bytes(b"\xff\xfe[{")
    (world.data / "sub-04").symlink_to("gone")
    (world.data / "sub-05").symlink_to("sub-05")
    (world.data / "sub-06").write_bytes(b"a file")
    (world.data / "sub-02" / "up").symlink_to("..")
    before = world.tree()
    runs = dr.find_runs(world.data)
    said = dr.describe_runs(runs)
    assert "4 files: is no BIDS name" in said
    assert "1 file: is a copy of" in said
    assert "\nb_desc" not in said
    done = world.cohort(runs)
    assert (done.done, done.failed) == (2, 0)
    check_untouched(world, before, r"out(/.*)?")


def test_levels_of_logging_go_by_name():
    with dr.connect("local", n_workers=1, processes=False, silence_logs="error") as client:
        assert client.submit(abs, -1).result(30) == 1


def test_another_version_of_ome_zarr_is_said(world: World):
    badworld.edited("x.nii.zarr/zarr.json", lambda d: d["attributes"]["ome"].update(version="9.9"))(
        world
    )
    said = r"x.nii.zarr: OME-Zarr version '9.9' is not known, .* Compare"
    with pytest.warns(dr.DaskroiWarning, match=said):
        dr.open_image(world.store)


def python(world: World, *told: str, locked: bool = False) -> subprocess.CompletedProcess[str]:
    """The real command; ``locked`` where permissions count, which for root they do not."""
    command = [sys.executable, "-m", "daskroi", *told]
    if locked and os.geteuid() == 0:
        less = "--bounding-set=-dac_override,-dac_read_search"
        command = ["setpriv", less, "--inh-caps=-dac_override,-dac_read_search", *command]
    env = os.environ | {"PYTHONPATH": str(Path(dr.__file__).parents[1])}
    return subprocess.run(
        command, env=env, cwd=world.root, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_folder_that_is_read_only(world: World):
    world.out.mkdir()
    world.out.chmod(0o555)
    before = world.tree()
    told = ["bids", "data", "out", "participant", "--atlases", "P=P_dseg.nii.gz", "--n-procs", "1"]
    done = python(world, *told, locked=True)
    assert done.returncode == 1
    assert f"Error: {world.out}: no permission to write there. Give another folder." in done.stderr
    assert "Traceback" not in done.stderr
    check_untouched(world, before, "")


def test_with_v_there_is_a_traceback(world: World):
    before = world.tree()
    told = ["bids", "gone", "out", "participant", "--atlases", "P_dseg.nii.gz"]
    done = python(world, *told)
    line = f"Error: {world.root}/gone: no such folder. Check the path.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)
    done = python(world, *told, "-v")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith(line)
    check_untouched(world, before, "")


def test_there_are_many():
    tables = (*ALL, *bad_cohort_urls.TABLE, *bad_cohort_urls.BUCKETS, *bad_cohort_inputs.ONE_RUN)
    assert len(tables) >= 120
    assert len({bad.name for bad in tables}) == len(tables)
