"""connect() to SLURM and Kubernetes: what they need, where there are none, and a stand-in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fakekubernetes
import pytest

from daskroi.cluster import connect
from daskroi.errors import DaskroiError, DaskroiTypeError

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("name", ["local", "slurm", "kubernetes"])
def test_options_nobody_knows(name: str) -> None:
    with pytest.raises(DaskroiTypeError, match=rf"{name}: quue= is not an option of \w+Cluster"):
        connect(name, quue="x")


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
