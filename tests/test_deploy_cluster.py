"""deploy/kubernetes: the commands in the manifests, run as they are."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import crds
import pytest
from manifests import CLUSTERS, container, named

from daskroi.cluster import connect

pytestmark = pytest.mark.timeout(120)


class Ports(dict[str, str]):
    """A free port here for each one in a manifest."""

    def __missing__(self, port: str) -> str:
        with socket.create_server(("127.0.0.1", 0)) as held:
            self[port] = str(held.getsockname()[1])
        return self[port]


@contextmanager
def running(box: crds.Doc, ports: Ports, files: Path, more: dict[str, str]) -> Iterator[int]:
    """A container's command with its environment; only ``files`` can be written, for /tmp."""

    def here(text: str, known: dict[str, str]) -> str:
        text = re.sub(r"\$\((\w+)\)", lambda found: known[found[1]], text)
        text = re.sub(r"\b878\d\b", lambda found: ports[found[0]], text)
        return re.sub(r"^/(tmp|tls)\b", rf"{files}/\1", text)

    env = dict(more)
    for one in box["env"]:
        if "value" in one:
            env[one["name"]] = here(one["value"], env)
        else:
            assert one["valueFrom"]["resourceFieldRef"]["resource"] == "limits.memory"
            env[one["name"]] = str(2**30)
    if "DASK_SCHEDULER_ADDRESS" in env:
        env["DASK_SCHEDULER_ADDRESS"] = re.sub(
            "daskroi-scheduler[^:]*", "127.0.0.1", env["DASK_SCHEDULER_ADDRESS"]
        )
    args = [here(arg, env) for arg in box["command"] + box["args"]]
    assert args[0] == "dask"
    command = [sys.executable, "-m", *args, "--host", "127.0.0.1"]
    # on loopback; in a pod it is its own address
    at = command.index("--dashboard-address") + 1
    command[at] = "127.0.0.1" + command[at]
    if os.geteuid() == 0 and shutil.which("unshare"):
        script = (
            f"mount --bind {files} {files} && mount --bind / / && "
            f"mount -o remount,ro,bind / && exec {shlex.join(command)}"
        )
        command = ["unshare", "--mount", "sh", "-c", script]
    log = files / f"{box['name']}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=os.environ | env, cwd=files, stdout=output, stderr=output
        )
        try:
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def fetched(url: str) -> str:
    deadline = time.monotonic() + 40
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return str(reply.read().decode())
        except OSError:
            assert time.monotonic() < deadline, url
            time.sleep(0.1)


@pytest.mark.parametrize("file", CLUSTERS, ids=named)
def test_the_cluster_starts_as_written(file: Path, tmp_path: Path) -> None:
    """What its containers run answers its probes, the operator and a client."""
    [doc] = crds.documents(file)
    scheme = "tls" if file.parent.name == "tls" else "tcp"
    files: dict[str, Any] = {}
    for name in ("tmp", "tls"):
        (tmp_path / name).mkdir()
    if scheme == "tls":
        if shutil.which("openssl") is None:
            pytest.skip("needs openssl")
        subprocess.run([file.parent / "certificates.sh", tmp_path / "tls"], check=True, timeout=60)
        names = {"tls_ca_file": "ca.crt", "tls_cert": "tls.crt", "tls_key": "tls.key"}
        files = {option: tmp_path / "tls" / name for option, name in names.items()}
    ports = Ports()
    address = f"{scheme}://127.0.0.1:{ports['8786']}"
    scheduler, worker = container(doc, "scheduler"), container(doc, "worker")
    # as the operator adds them, unless they are there
    given = {"DASK_WORKER_NAME": "daskroi-default-worker-1"}
    given |= {"DASK_SCHEDULER_ADDRESS": address}
    with running(scheduler, ports, tmp_path, {}), running(worker, ports, tmp_path, given):
        with connect(address, timeout=60, **files) as client:
            [found] = client.scheduler_info()["workers"].values()
            assert found["name"] == "daskroi-default-worker-1"
            assert found["memory_limit"] == 2**30
            assert found["nthreads"] == 2
            assert client.submit(sum, [1, 2]).result(timeout=60) == 3
        for box in (scheduler, worker):
            probe = box["livenessProbe"]["httpGet"]
            [port] = [p for p in box["ports"] if p["name"] == probe["port"]]
            url = f"http://127.0.0.1:{ports[str(port['containerPort'])]}"
            assert fetched(url + probe["path"]) == "ok"
        wanted = fetched(f"http://127.0.0.1:{ports['8787']}/api/v1/adaptive_target")
        assert '"workers"' in wanted
