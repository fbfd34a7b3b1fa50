"""Ctrl-C while the command line reads or writes: one line, exit code 130, nothing partial."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

from clirun import environment, invoke


def test_ctrl_c_while_writing_exits_with_130(files, tmp_path, monkeypatch):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    done = invoke("extract", files.plain, "--atlas", files.atlas, "-o", tmp_path / "out")
    monkeypatch.undo()
    assert done.exit_code == 130
    assert done.stderr == "Interrupted: nothing partial was left.\n"
    assert not (tmp_path / "out").exists()


ENDLESS = """
import sys, time
from daskroi import imagefile
from daskroi.cli import main
from daskroi.nifti import NiftiFile

def endless(self, slab_frames=None, slabs=NiftiFile.slabs):
    [(start, slab)] = [(i, s.copy()) for i, s in slabs(self, slab_frames)]
    if self.n_time is None:  # the atlas
        yield start, slab
        return
    watchers = tuple(imagefile._watchers)
    print("reading", flush=True)
    for _ in range(1200):
        time.sleep(0.05)
        yield start, slab
        for watcher in watchers:
            watcher(1)

NiftiFile.slabs = endless
main(sys.argv[1:], prog_name="daskroi")
"""


def test_ctrl_c_while_reading_ends_the_reading_too(files, tmp_path):
    # a stream runs in a thread, which Python waits for when it exits: it must stop by itself
    args = ("extract", files.image, "--atlas", files.atlas, "-o", tmp_path / "out")
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, *map(str, args)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "reading\n"
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=50)
        finally:
            process.kill()
    assert process.returncode == 130
    assert stderr == "Interrupted: nothing partial was left.\n"
    assert time.monotonic() - begun < 40  # 60 s if it were read to its end
    assert not (tmp_path / "out").exists()
