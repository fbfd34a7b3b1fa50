"""connect(): to this machine, to schedulers that run, and what it says when it cannot work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import daskprocesses as processes
import fakekubernetes
import psutil
import pytest
from distributed import Client, LocalCluster, Security
from hypothesis import given
from hypothesis import strategies as st

import daskroi as dr
from daskroi.cluster import connect, connected
from daskroi.environment import compare, environment
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiTypeError, DaskroiWarning

pytestmark = pytest.mark.timeout(120)
LOOPBACK = {"127.0.0.1", "::1"}
CERTIFICATES = Path(__file__).parents[1] / "deploy/kubernetes/tls/certificates.sh"


def children() -> list[int]:
    return [
        child.pid
        for child in psutil.Process().children(recursive=True)
        if "resource_tracker" not in " ".join(child.cmdline())
    ]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A scheduler with one worker; its address and scheduler file."""
    with (
        processes.scheduler(tmp_path_factory.mktemp("plain")) as (address, file),
        processes.worker(address),
    ):
        yield address, file


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler without workers."""
    with processes.scheduler(tmp_path_factory.mktemp("bare")) as (address, _):
        yield address


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


# --- this machine


def test_local_is_processes_on_loopback_and_leaves_none() -> None:
    before = set(children())
    with connect("local", n_workers=2, threads_per_worker=1, memory="1GiB") as client:
        workers = client.scheduler_info()["workers"]
        assert len(workers) == 2
        assert {w["nthreads"] for w in workers.values()} == {1}
        assert {w["memory_limit"] for w in workers.values()} == {2**30}
        started = set(children()) - before
        assert len(started) >= 2
        assert processes.listening([os.getpid(), *started]) <= LOOPBACK
        assert Client.current() is client
        assert client.submit(processes.mean, 20).result(timeout=60) == processes.mean(20)
        cluster = client.cluster
    assert cluster.status.name == "closed"
    assert set(children()) <= before


def test_local_with_certificates_of_its_own() -> None:
    with connect("local", n_workers=1, security=True) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1")
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3


def test_local_uses_what_dask_finds_right() -> None:
    with connect(processes=False) as client:
        [worker] = client.scheduler_info()["workers"].values()
        assert worker["nthreads"] == dask.system.CPU_COUNT


def test_close_ends_the_cluster_once() -> None:
    client = connect("local", n_workers=1, processes=False)
    client.close()
    client.close()
    assert client.cluster.status.name == "closed"


def test_an_error_inside_with_still_ends_the_cluster() -> None:
    with pytest.raises(KeyError), connect("local", n_workers=1, processes=False) as client:
        raise KeyError
    assert client.cluster.status.name == "closed"


def commands_below(pid: int) -> list[str]:
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found.append(" ".join(child.cmdline()))
    return found


INTERRUPTED = """
import sys, time
import daskroi as dr
if __name__ == "__main__":
    try:
        with dr.connect("local", n_workers=1) as client:
            time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_ctrl_c_while_workers_start_is_heard_by_who_started_them(tmp_path: Path) -> None:
    # a terminal sends it to all: workers that are importing answered with pages of tracebacks
    (tmp_path / "script.py").write_text(INTERRUPTED)
    command = [sys.executable, str(tmp_path / "script.py")]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not any("spawn_main" in command for command in commands_below(process.pid)):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, said) == (130, "")


@pytest.mark.parametrize("name", ["local", "slurm", "kubernetes"])
def test_options_nobody_knows(name: str) -> None:
    with pytest.raises(DaskroiTypeError, match=rf"{name}: quue= is not an option of \w+Cluster"):
        connect(name, quue="x")


# --- what runs already


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


def test_no_worker(bare: str) -> None:
    with pytest.raises(DaskroiError, match=r"tcp://.*: no worker came within \d+ s.*dask worker"):
        connect(bare, timeout=0.5)


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


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"n_workers": -1}, "n_workers=-1 is not a number"),
        ({"n_workers": "2"}, "n_workers='2' is not a number"),
        ({"threads_per_worker": 0}, "threads_per_worker=0 is not a number"),
        ({"memory": "lots"}, "memory='lots' is no size"),
    ],
)
def test_impossible_sizes_are_not_waited_for(told, message):
    with pytest.raises(DaskroiError, match=message):
        connect("local", timeout=1, **told)


@pytest.mark.parametrize("to", ["slrum", "pbs", "localhost"])
def test_names_nobody_knows(to: str) -> None:
    with pytest.raises(DaskroiError, match=rf"to='{to}' is not known. Use 'local', 'slurm'"):
        connect(to)


def test_things_nobody_connects_to() -> None:
    with pytest.raises(DaskroiTypeError, match="to=int is nothing to connect to"):
        connect(8786)


# --- TLS


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


# --- the same software on both sides

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


# --- engines that are not here


@pytest.mark.parametrize(("name", "module"), [("slurm", "jobqueue"), ("kubernetes", "kubernetes")])
def test_missing_extras(monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    loaded = [m for m in sys.modules if m.startswith(f"dask_{module}")]
    for gone in [f"dask_{module}", f"dask_{module}.operator", *loaded]:
        monkeypatch.setitem(sys.modules, gone, None)
    with pytest.raises(
        DaskroiError, match=rf"is not installed. Type: pip install 'daskroi\[{name}"
    ):
        connect(name)


def test_slurm_wants_the_size_of_a_job() -> None:
    with pytest.raises(DaskroiError, match=r"slurm: how large is a job\? Give threads_per_worker="):
        connect("slurm")


def test_slurm_where_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DaskroiError, match=r"there is no scontrol here. Run this on a .*login node"
    ):
        connect("slurm", threads_per_worker=1, memory="1GiB")
    assert not list(tmp_path.iterdir())


def test_kubernetes_wants_an_image_and_no_tls() -> None:
    with pytest.raises(DaskroiError, match=r"kubernetes: which image\? Give image="):
        connect("kubernetes")
    with pytest.raises(DaskroiError, match=r"tcp only. Start deploy/kubernetes/tls"):
        connect("kubernetes", image="daskroi", security=True)


@pytest.mark.parametrize("server", [None, "http://127.0.0.1:9"], ids=["nowhere", "silent"])
def test_kubernetes_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str | None
) -> None:
    config = tmp_path / "config"
    if server is not None:
        fakekubernetes.write_config(config, server)
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DaskroiError, match=r"kubernetes: no cluster \(.*Is kubectl set up here"):
        connect("kubernetes", image="daskroi:0.1.0")


@pytest.mark.parametrize("adaptive", [True, False])
def test_kubernetes_by_the_operators_kinds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, adaptive: bool
) -> None:
    """Against a stand-in that refuses what the real definitions refuse, and runs the commands."""
    size: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "memory": "1GiB"}
    pod = {"image": "registry.example.org/daskroi:0.1.0", "env": {"DASKROI_CACHE": "/tmp/x"}}
    # on a real one it is reached by port-forwarding, if not from inside
    pod["scheduler_service_type"] = "LoadBalancer"
    with fakekubernetes.kubernetes(tmp_path) as (fake, config):
        monkeypatch.setenv("KUBECONFIG", str(config))
        with connect("kubernetes", adaptive=adaptive, **size, **pod) as client:
            client.wait_for_workers(1 if adaptive else 2, timeout=60)
            assert client.submit(sum, [1, 2]).result(timeout=60) == 3
            objects = {(kind, name): doc for (_, kind, name), doc in fake.objects.items()}
            name = client.cluster.name
            cluster = objects["daskclusters", name]
            for part in ("scheduler", "worker"):
                [box] = cluster["spec"][part]["spec"]["containers"]
                assert box["command"] == ["dask", part]
                assert box["image"] == pod["image"]
                assert box["resources"]["limits"] == {"cpu": "1", "memory": str(2**30)}
            if adaptive:
                bounds = objects["daskautoscalers", name]["spec"]
                assert bounds == {"cluster": name, "minimum": 1, "maximum": 2}
            else:
                assert (
                    objects["daskworkergroups", f"{name}-default"]["spec"]["worker"]["replicas"]
                    == 2
                )
        assert fake.objects == {}
