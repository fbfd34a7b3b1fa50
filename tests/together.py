"""Scripts in processes that begin together, and what they have in common."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import daskroi as dr

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = str(Path(dr.__file__).parents[1])


def processes(codes: list[str], *args: Any) -> list[tuple[int, str, str]]:
    """Scripts in processes that begin together: each waits for a line, when it has imported all."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join((HERE, ROOT))}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=env,
        )
        for code in codes
    ]  # fmt: skip
    try:
        for process in running:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line == "ready\n", process.communicate()
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        found = []
        for process in running:
            out, err = process.communicate(timeout=120)
            found.append((process.returncode, out, err))
        return found
    finally:
        for process in running:
            process.kill()
            process.wait(20)


READY = """
import sys
import daskroi as dr, daskroi.batch, daskroi.store, daskroi.zarrwrite, daskroi.cli, cohorts
import numpy as np
print("ready", flush=True)
sys.stdin.readline()
"""
