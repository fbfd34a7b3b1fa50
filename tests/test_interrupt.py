"""Ctrl-C, SIGTERM and SIGKILL at any moment of the commands: one line, an exit code, no half file.

Moments are drawn over the time that an undisturbed run takes, with a seed each. A few are tried
here; ``DASKROI_MOMENTS=10 pytest tests/test_interrupt.py`` tries more.

A moment before daskroi's first line runs (some 20 to 60 ms, in which Python itself starts) is moved
there: until then a signal ends Python in Python's own way, with a traceback for Ctrl-C.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cohorts
import nibabel as nib
import numpy as np
import pytest

import daskroi as dr

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]

MOMENTS = int(os.environ.get("DASKROI_MOMENTS", "3"))
SECONDS_TO_END = 20.0
SIDE, FRAMES = 40, 150
BIDS = ("--n-procs", "2", "--mem", "2000", "--output-format", "tsv,zarr")


@dataclass
class Ended:
    """How a process ended."""

    code: int
    said: str
    seconds: float  # after the signal
    left: list[str]  # processes of its session


def _heard(process: subprocess.Popen[str]) -> None:
    """Wait until it is daskroi that gets SIGTERM: Python alone does not care."""
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:  # it has just ended, or is no Linux
            time.sleep(0 if Path("/proc").exists() else 0.5)
            return
        masks = re.findall(r"Sig(?:Cgt|Ign):\s*(\w+)", status)  # at its very end it ignores them
        if any(int(mask, 16) >> (signal.SIGTERM - 1) & 1 for mask in masks):
            return
        time.sleep(0.001)


class Commands:
    """The commands, as processes of their own sessions with a temporary folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.temporary = folder, folder / "tmp"
        self.temporary.mkdir()
        rng = np.random.default_rng(0)
        affine = np.diag([2.0, 2, 2, 1])
        values = rng.integers(0, 4000, (SIDE, SIDE, SIDE, FRAMES), dtype=np.int16)
        image = nib.Nifti1Image(values, affine)
        image.header["pixdim"][4] = 2.0
        nib.save(image, folder / "run_bold.nii.gz")
        labels = rng.integers(0, 20, (SIDE,) * 3).astype("i2")
        nib.save(nib.Nifti1Image(labels, affine), folder / "atlas.nii.gz")
        cohorts.write_cohort(folder / "in", 6, 40)
        atlas = cohorts.atlas()
        image = nib.Nifti1Image(np.asarray(atlas.labels).T.astype("i4"), atlas.grid.affine)
        nib.save(image, folder / "P.nii.gz")

    def of(self, name: str, out: Path) -> list[str]:
        """Words of a command."""
        words = {
            "extract": ["extract", "run_bold.nii.gz", "--atlas", "A=atlas.nii.gz", "-o", str(out)],
            "convert": ["convert", "run_bold.nii.gz", f"{out}/x.nii.zarr", "--chunks", "2"],
            "bids": ["bids", "in", str(out), "participant", "--atlases", "P=P.nii.gz", *BIDS],
        }[name]
        return [sys.executable, "-m", "daskroi", *words]

    @contextmanager
    def running(self, name: str, out: Path) -> Iterator[subprocess.Popen[str]]:
        """The command in a session of its own."""
        out.mkdir(exist_ok=True)
        env = os.environ | {
            "PYTHONPATH": str(Path(dr.__file__).parents[1]),
            "TMPDIR": str(self.temporary),
            "DASKROI_CACHE": str(self.folder / "cache"),
        }
        with open(self.folder / "said", "w+", encoding="utf-8") as said:
            process = subprocess.Popen(
                self.of(name, out), cwd=self.folder, env=env, stdout=subprocess.DEVNULL,
                stderr=said, text=True, start_new_session=True,
            )  # fmt: skip
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)

    def run(self, name: str, out: Path, after: float | None = None, *how: Any) -> Ended:
        """Run to the end, or until ``after`` seconds, when signals come.

        Signals are numbers; a negative one goes to all processes of the session, as a terminal
        sends it.
        """
        with self.running(name, out) as process:
            if after is not None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(after)
                _heard(process)
            begun = time.monotonic()
            for number in how:
                with suppress(ProcessLookupError):
                    send = os.killpg if number < 0 else os.kill
                    if process.poll() is None:
                        send(process.pid, abs(number))
                    time.sleep(0.05)
            code = process.wait(120 if after is None else SECONDS_TO_END)
            spent = time.monotonic() - begun
            left = self._left(process.pid)
        return Ended(code, (self.folder / "said").read_text(), spent, left)

    def _left(self, session: int) -> list[str]:
        import psutil

        deadline = time.monotonic() + 10
        while True:
            found = []
            for process in psutil.process_iter(["pid", "cmdline"]):
                with suppress(OSError, psutil.Error):
                    if os.getsid(process.pid) == session and process.pid != session:
                        found.append(" ".join(process.info["cmdline"] or ["?"]))
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.1)

    def litter(self, out: Path) -> list[str]:
        """Temporary files, and hidden ones."""
        found = [p for p in out.rglob("*") if p.is_file() and ".nii.zarr.part" not in str(p)]
        bad = [p for p in found if p.name.startswith(".") or p.suffix in (".part", ".partial")]
        temporary = [p for p in self.temporary.rglob("*") if p.is_file()]
        # files of no bytes, by which Dask finds out what others have left, and removes it
        locks = {p for p in temporary if p.suffix in (".lock", ".dirlock") and not p.stat().st_size}
        return [str(p) for p in (*bad, *temporary) if p not in locks]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    return Commands(tmp_path_factory.mktemp("interrupt"))


@pytest.fixture(scope="module")
def undisturbed(commands: Commands) -> dict[str, tuple[float, dict[str, bytes]]]:
    """Seconds and files of every command."""
    found = {}
    for name in ("extract", "convert", "bids"):
        out = commands.folder / f"undisturbed-{name}"
        begun = time.monotonic()
        ended = commands.run(name, out)
        assert ended.code == 0, ended.said
        assert ended.left == []
        found[name] = (time.monotonic() - begun, cohorts.outputs_of(out))
        assert commands.litter(out) == []
    return found


# what is said on the way; Runs is the progress of a cohort, as far as it came
SAID_BEFORE = re.compile(r"(Found|Dashboard|Note|Runs|(Searching|Reading|Converting) \S+): ")
SIGNALS = {
    "extract": [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)],
    "convert": [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)],
    # a terminal's Ctrl-C comes to the workers too
    "bids": [(-signal.SIGINT,), (signal.SIGTERM,), (-signal.SIGINT, -signal.SIGINT)],
}


@pytest.mark.parametrize("name", SIGNALS)
def test_interrupted_at_any_moment_and_taken_up_again(commands, undisturbed, tmp_path, name):
    seconds, expected = undisturbed[name]
    rng = np.random.default_rng([ord(c) for c in name])
    ends, resting = [], tmp_path / "out"
    # one in every part of the time, in random order
    for i, part in enumerate(rng.permutation(MOMENTS)):
        after = float(seconds * (part + rng.random()) / MOMENTS)
        how = SIGNALS[name][i % 3]
        ended = commands.run(name, resting, after, *how)
        told = f"{name}, {how} after {after:.3f} s of {seconds:.1f}: {ended}"
        ends.append(ended.code)
        code = 128 + abs(how[0])
        assert ended.code in (0, code), told  # 0: it was done before
        lines = [line for line in ended.said.splitlines() if not SAID_BEFORE.match(line)]
        if ended.code:
            assert len(lines) == 1, told
            assert lines[0].startswith("Interrupted: "), told
        else:
            assert "Traceback" not in ended.said, told
            assert "Interrupted" not in ended.said, told
            assert cohorts.outputs_of(resting) == expected, told
        assert ended.left == [], told
        assert ended.seconds < 15, told
        assert commands.litter(resting) == [], told
        if name == "extract":  # whole or not there
            assert cohorts.outputs_of(resting) in ({}, expected), told
    assert any(ends), f"all had ended before: {ends}"
    assert commands.run(name, resting).code == 0
    assert cohorts.outputs_of(resting) == expected
    assert [p.name for p in resting.iterdir() if p.name.endswith(".part")] == []


def test_a_signal_in_a_callback_is_not_lost():
    # Python drops what is raised there; found in Dask's own callback of garbage collection
    import gc

    from daskroi.interrupt import Terminated, interruptible

    numbers = [signal.SIGTERM]

    def callback(*_: Any) -> None:
        if numbers:
            signal.raise_signal(numbers.pop())

    hook = sys.unraisablehook
    gc.callbacks.append(callback)
    try:
        with pytest.raises(Terminated), interruptible():  # noqa: PT012
            gc.collect()
            assert not numbers
            time.sleep(10)
    finally:
        gc.callbacks.remove(callback)
    assert sys.unraisablehook is hook


@pytest.mark.parametrize("name", ["extract", "convert", "bids"])
def test_killed_outright(commands, undisturbed, tmp_path, name):
    seconds, expected = undisturbed[name]
    out = tmp_path / "out"
    ended = commands.run(name, out, 0.8 * seconds, signal.SIGKILL)
    assert ended.code in (0, -signal.SIGKILL)
    assert ended.left == []  # workers do not outlive who has started them
    assert commands.run(name, out).code == 0
    assert cohorts.outputs_of(out) == expected
    for path in commands.temporary.rglob("*"):  # what Dask removes when it starts the next time
        assert "dask" in str(path)


SCRIPT = """
import os, signal, sys, threading, time
import cohorts
import daskroi as dr
from daskroi.batch import extract_cohort
from daskroi.cohort import find_runs

if __name__ == "__main__":
    folder = sys.argv[1]
    runs = find_runs(folder + "/in")
    told = dict(progress=False)
    # imports what cohorts import: Python cannot import again what was interrupted in the middle
    atlas = cohorts.atlas()
    extract_cohort(runs[:1], atlas, sys.argv[2] + "first", client="threads", **told)
    with dr.connect("local", n_workers=1, threads_per_worker=1) as client:
        for where, out in ((client, "c"), ("threads", "t")):
            timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            try:
                extract_cohort(runs, atlas, sys.argv[2] + out, client=where, **told)
                while True:
                    time.sleep(0.01)
            except KeyboardInterrupt:
                print("interrupted", client.status)
            done = extract_cohort(runs, atlas, sys.argv[2] + out, client=where, **told)
            print(done.done + done.skipped, done.failed)
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        ts = dr.extract(folder + "/run_bold.nii.gz", folder + "/atlas.nii.gz")
        timer.start()
        try:
            while True:
                ts.compute()
        except KeyboardInterrupt:
            print("interrupted", ts.compute().shape)
"""


def test_a_script_goes_on_with_its_client(commands, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    here = os.path.dirname(os.path.abspath(__file__))
    env = os.environ | {"PYTHONPATH": os.pathsep.join((here, str(Path(dr.__file__).parents[1])))}
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", commands.folder, f"{tmp_path}/out-"],
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = ["interrupted running", "6 0"] * 2 + [f"interrupted ({FRAMES}, 19)"]
    assert done.stdout.splitlines() == expected, done.stderr
    assert cohorts.outputs_of(tmp_path / "out-c") == cohorts.outputs_of(tmp_path / "out-t")


JOBQUEUE = """
import signal, sys, threading
import daskroi as dr

def asked():
    try:
        dr.connect("slurm", threads_per_worker=1, memory="1GB", shared_temp_directory=sys.argv[1])
    except dr.DaskroiError as error:
        print(error)

if __name__ == "__main__":
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=asked)
    thread.start()
    thread.join()
    asked()
    print(signal.getsignal(signal.SIGINT) is before, "dask_jobqueue.runner" in sys.modules)
"""


def test_jobqueue_does_not_take_ctrl_c(tmp_path):
    if importlib.util.find_spec("dask_jobqueue") is None:  # imported, it would do it to us
        pytest.skip("needs dask-jobqueue")
    (tmp_path / "script.py").write_text(JOBQUEUE)
    done = subprocess.run(
        [sys.executable, "script.py", str(tmp_path)], cwd=tmp_path, capture_output=True, text=True,
        timeout=120, check=True, env=os.environ | {"PATH": str(tmp_path)},
    )  # fmt: skip
    in_thread, in_main, handlers = done.stdout.splitlines()
    assert in_thread.startswith("slurm: connect was called in a thread")
    assert "there is no scontrol here" in in_main
    assert handlers == "True True"


IN_TEXT = """
import signal, sys
from daskroi.interrupt import interruptible

try:
    with interruptible():
        exec("signal.raise_signal(signal.SIGINT)")
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_in_code_that_came_as_text(tmp_path):
    # dataclasses are made so: found by an interruption in the middle of an import
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__main__.py").write_text(IN_TEXT)
    path = os.pathsep.join((str(tmp_path), str(Path(dr.__file__).parents[1])))
    done = subprocess.run(
        [sys.executable, "-m", "program"], env=os.environ | {"PYTHONPATH": path}, timeout=60,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "")
