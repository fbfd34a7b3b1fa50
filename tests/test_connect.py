"""connect() to what runs already: by address, file, client or cluster, and encrypted."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import daskprocesses as processes
import pytest
from distributed import Client, LocalCluster, Security

from daskroi.cluster import connect, connected
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError

pytestmark = pytest.mark.timeout(120)
CERTIFICATES = Path(__file__).parents[1] / "deploy/kubernetes/tls/certificates.sh"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A scheduler with one worker; its address and scheduler file."""
    with (
        processes.scheduler(tmp_path_factory.mktemp("plain")) as (address, file),
        processes.worker(address),
    ):
        yield address, file


def test_address_and_scheduler_file(plain: tuple[str, Path]) -> None:
    address, file = plain
    for to in (address, address.removeprefix("tcp://"), file, str(file)):
        with connect(to) as client:
            assert client.scheduler.address == address
            assert client.submit(processes.mean, 10).result(timeout=60) == processes.mean(10)
    # somebody else's: still there
    with connect(address) as client:
        assert len(client.nthreads()) == 1


def test_scheduler_file_is_waited_for(plain: tuple[str, Path], tmp_path: Path) -> None:
    address, file = plain
    late = tmp_path / "late.json"
    whole = file.read_text()

    def write() -> None:
        time.sleep(0.3)
        late.write_text(whole[: len(whole) // 2])
        time.sleep(0.3)
        late.write_text(whole)

    writer = threading.Thread(target=write)
    writer.start()
    with connect(late, timeout=20) as client:
        assert client.scheduler.address == address
    writer.join()


def test_scheduler_file_that_never_comes(tmp_path: Path) -> None:
    with pytest.raises(DaskroiNotFoundError, match=r"no.json: No such file.*dask scheduler --sch"):
        connect(tmp_path / "no.json", timeout=0.3)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(DaskroiError, match=r"other.json: not a scheduler's file"):
        connect(tmp_path / "other.json", timeout=0.3)


def test_nobody_there(tmp_path: Path) -> None:
    left = tmp_path / "scheduler.json"
    left.write_text(json.dumps({"address": "tcp://127.0.0.1:9"}))
    for to in ("tcp://127.0.0.1:9", left):
        with pytest.raises(DaskroiError, match=r"no connection to the scheduler .*left over"):
            connect(to, timeout=1)


def test_a_client_passes_through(plain: tuple[str, Path]) -> None:
    with Client(plain[0], set_as_default=False) as mine:
        assert connect(mine) is mine
        with connected(mine) as same:
            assert same is mine
        assert mine.status == "running"
        with pytest.raises(DaskroiError, match="a Client is there already: memory=, n_workers="):
            connect(mine, n_workers=3, memory="1GiB")


def test_the_current_client_or_a_local_one(plain: tuple[str, Path]) -> None:
    with Client(plain[0]) as mine:
        assert connect(None) is mine
        with connected() as same:
            assert same is mine
        assert mine.status == "running"
    with connected(None, n_workers=1, processes=False) as own:
        assert own.cluster is not None
    assert own.status == "closed"
    assert own.cluster.status.name == "closed"


def test_a_task_does_not_close_the_client_of_its_worker(plain: tuple[str, Path]) -> None:
    def task() -> str:
        with connected() as inside:
            pass
        return inside.status

    with Client(plain[0]) as mine:
        assert mine.submit(task, pure=False).result(30) == "running"


def test_a_cluster_object() -> None:
    options = {"n_workers": 1, "processes": False, "dashboard_address": None}
    with LocalCluster(**options) as cluster:
        with connect(cluster) as client:
            assert client.cluster is cluster
        assert cluster.status.name == "running"


def test_what_is_there_cannot_be_sized(plain: tuple[str, Path]) -> None:
    with pytest.raises(DaskroiError, match=r"tcp://.* is there already: n_workers=, queue= cannot"):
        connect(plain[0], n_workers=2, queue="normal")


@pytest.mark.parametrize("to", ["slrum", "pbs", "localhost"])
def test_names_nobody_knows(to: str) -> None:
    with pytest.raises(DaskroiError, match=rf"to='{to}' is not known. Use 'local', 'slurm'"):
        connect(to)


def test_things_nobody_connects_to() -> None:
    with pytest.raises(DaskroiTypeError, match="to=int is nothing to connect to"):
        connect(8786)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As deploy/ tells people to make them."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run(["sh", str(CERTIFICATES), str(folder)], check=True, timeout=60)
    return folder


def files_of(folder: Path) -> dict[str, Any]:
    return {
        "tls_ca_file": folder / "ca.crt",
        "tls_cert": folder / "tls.crt",
        "tls_key": folder / "tls.key",
    }


@pytest.fixture(scope="module")
def encrypted(
    certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """The same, with TLS."""
    tls = ["--tls-ca-file", str(certificates / "ca.crt")]
    tls += ["--tls-cert", str(certificates / "tls.crt")]
    tls += ["--tls-key", str(certificates / "tls.key")]
    folder = tmp_path_factory.mktemp("encrypted")
    with (
        processes.scheduler(folder, "--protocol", "tls", *tls) as (address, file),
        processes.worker(address, *tls),
    ):
        yield address, file


def test_tls(encrypted: tuple[str, Path], certificates: Path) -> None:
    address, file = encrypted
    assert address.startswith("tls://127.0.0.1")
    for to in (address, file):
        with connect(to, **files_of(certificates)) as client:
            assert client.submit(processes.mean, 10).result(timeout=60) == processes.mean(10)
    made = Security(
        require_encryption=True,
        tls_ca_file=str(certificates / "ca.crt"),
        tls_client_cert=str(certificates / "tls.crt"),
        tls_client_key=str(certificates / "tls.key"),
    )
    with connect(address, security=made) as client:
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3


def test_tls_from_dasks_configuration(encrypted: tuple[str, Path], certificates: Path) -> None:
    tls = {"ca-file": "ca.crt", "client.cert": "tls.crt", "client.key": "tls.key"}
    config = {f"distributed.comm.tls.{key}": str(certificates / tls[key]) for key in tls}
    with dask.config.set(config), connect(encrypted[0]) as client:
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3


def test_strangers_are_refused(encrypted: tuple[str, Path], tmp_path: Path) -> None:
    subprocess.run(["sh", str(CERTIFICATES), str(tmp_path)], check=True, timeout=60)
    with pytest.raises(DaskroiError, match=r"tls://.*: no connection to the scheduler"):
        connect(encrypted[0], timeout=2, **files_of(tmp_path))
    with pytest.raises(DaskroiError, match=r"tls://.*tls needs certificates. Give tls_ca_file="):
        connect(encrypted[0])


def test_certificates_for_a_scheduler_without_tls(
    plain: tuple[str, Path], certificates: Path
) -> None:
    with pytest.raises(DaskroiError, match=r"certificates were given, but the scheduler speaks tc"):
        connect(plain[0], **files_of(certificates))


def test_certificate_files(certificates: Path, tmp_path: Path) -> None:
    files = files_of(certificates)
    with pytest.raises(DaskroiError, match=r"tls_key= is missing. Give all of tls_ca_file="):
        connect("tls://127.0.0.1:9", **files | {"tls_key": None})
    with pytest.raises(DaskroiNotFoundError, match=r"tls_cert=.*no.pem: cannot be read"):
        connect("tls://127.0.0.1:9", **files | {"tls_cert": tmp_path / "no.pem"})
    with pytest.raises(DaskroiError, match=r"not a certificate and its key"):
        connect("tls://127.0.0.1:9", **files | {"tls_key": certificates / "ca.key"})
    with pytest.raises(DaskroiError, match=r"security= and tls_ca_file=.*Give one"):
        connect("tls://127.0.0.1:9", security=True, **files)
    with pytest.raises(DaskroiTypeError, match=r"security=str is not distributed.Security"):
        connect("local", security="yes")
