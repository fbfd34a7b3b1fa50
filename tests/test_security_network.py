"""Who can reach what daskroi starts: this machine alone; and with TLS, who has a certificate."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cohorts
import psutil
import pytest
from daskprocesses import listening

import daskroi as dr

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def family() -> list[int]:
    """This process and all it has started, and these."""
    here = psutil.Process()
    return [here.pid, *(child.pid for child in here.children(recursive=True))]


def ports(pids: list[int]) -> set[int]:
    return {
        found.laddr.port
        for pid in pids
        for found in psutil.Process(pid).net_connections("inet")
        if found.status == psutil.CONN_LISTEN
    }


def until_only(before: set[int]) -> None:
    """What was opened is closed, soon: Dask does so in the background."""
    deadline = time.monotonic() + 10
    while not ports([os.getpid()]) <= before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_local_cluster_is_on_loopback_dashboard_and_all() -> None:
    before = ports([os.getpid()])
    with dr.connect("local", n_workers=1, memory="1GiB") as client:
        pids = family()
        assert len(pids) >= 2
        # scheduler and dashboard here; nannies, workers, and a dashboard each
        assert len(ports([os.getpid()]) - before) >= 3
        assert listening(pids) <= LOOPBACK
        addresses = client.scheduler_info()["workers"]
        assert all(address.startswith("tcp://127.0.0.1:") for address in addresses)
        assert "127.0.0.1" in client.dashboard_link
        # no secret of the environment or of a task is on a command line
        for pid in pids[1:]:
            line = " ".join(psutil.Process(pid).cmdline())
            assert "storage" not in line
    until_only(before)


def test_workers_in_this_process_too() -> None:
    before = ports([os.getpid()])
    with dr.connect("local", n_workers=1, processes=False):
        assert listening(family()) <= LOOPBACK
    until_only(before)


def test_daskroi_bids_opens_nothing_to_the_network(tmp_path: Path) -> None:
    """Looked at while it works: whatever listens in the processes it is made of."""
    cohorts.write_cohort(tmp_path / "in", n_runs=1, n_time=20)
    atlas = tmp_path / "atlas_dseg.nii.gz"
    dr.to_nifti(cohorts.atlas().image.astype("i2"), atlas)
    args = ["bids", str(tmp_path / "in"), str(tmp_path / "out"), "participant"]
    args += ["--atlases", str(atlas), "--n-procs", "1"]
    seen: set[str] = set()
    opened = 0
    command_line = [sys.executable, "-m", "daskroi", *args]
    with subprocess.Popen(
        command_line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            own = psutil.Process(process.pid)
            while process.poll() is None:
                try:
                    pids = [own.pid, *(child.pid for child in own.children(recursive=True))]
                    seen |= listening(pids)
                    opened = max(opened, len(ports(pids)))
                except psutil.NoSuchProcess:
                    pass
                time.sleep(0.1)
            assert process.stderr is not None
            assert process.returncode == 0, process.stderr.read()
        finally:
            process.kill()
    assert opened >= 2
    assert seen <= LOOPBACK


def certificate(folder: Path) -> Any:
    """A certificate of another authority."""
    pytest.importorskip("cryptography")
    from distributed import Security

    other = Security.temporary()
    paths = {}
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        paths[name] = folder / f"{name}.pem"
        paths[name].write_text(getattr(other, name))
    return paths


def test_with_tls_only_who_has_the_certificate_gets_in(tmp_path: Path) -> None:
    """As SLURM's scheduler, which listens on a network, has it by default."""
    pytest.importorskip("cryptography")
    from distributed import Client, Security

    with dr.connect("local", n_workers=1, memory="1GiB", security=True) as client:
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        assert client.submit(abs, -1).result() == 1
        host, port = address.removeprefix("tls://").split(":")
        other = certificate(tmp_path)
        wrong = Security(
            require_encryption=True,
            tls_ca_file=str(other["tls_ca_file"]),
            tls_client_cert=str(other["tls_client_cert"]),
            tls_client_key=str(other["tls_client_key"]),
        )
        plain = {"tcp": (f"tcp://{host}:{port}", None), "other": (address, wrong)}
        for to, security in plain.values():
            with pytest.raises((OSError, TimeoutError)):
                Client(to, security=security, timeout="2s", set_as_default=False)
        # by hand: a TLS client that believes anything and has no certificate
        anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        with (
            pytest.raises(ssl.SSLError, match=r"certificate required|handshake failure|alert"),
            socket.create_connection((host, int(port)), timeout=5) as raw,
            anybody.wrap_socket(raw) as stream,
        ):
            stream.recv(1)
        assert client.submit(abs, -2).result() == 2
