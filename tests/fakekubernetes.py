"""Stands in for a Kubernetes API server with the Dask operator, which no test machine has.

It keeps objects as an API server does, refuses what `crds` finds wrong, and makes of a DaskCluster
what the operator makes of it; the pods' commands run here, as processes on loopback.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import crds

Key = tuple[str, str, str]
PATHS = re.compile(
    r"^/(?:api/v1|apis/kubernetes.dask.org/v1)/namespaces/(\w+)/(\w+)(?:/([\w.-]+))?$"
)
KINDS = {
    "pods": "Pod",
    "services": "Service",
    "daskclusters": "DaskCluster",
    "daskworkergroups": "DaskWorkerGroup",
    "daskautoscalers": "DaskAutoscaler",
}
CORE, DASK = "v1", "kubernetes.dask.org/v1"
# what a client asks first: which kinds there are
RESOURCES = [
    {"name": name, "singularName": kind.lower(), "kind": kind, "namespaced": True, "verbs": []}
    for name, kind in KINDS.items()
]
DISCOVERY: dict[str, Any] = {
    "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
    "/api": {"versions": [CORE]},
    f"/api/{CORE}": {"resources": RESOURCES[:2]},
    "/apis": {"groups": [{"name": DASK[:-3], "versions": [{"groupVersion": DASK}]}]},
    f"/apis/{DASK}": {"resources": RESOURCES[2:]},
}
LISTENING = ("--dashboard-address", "--host", "--port")


class Cluster:
    """Objects by namespace, kind and name, and the processes of the pods."""

    def __init__(self) -> None:
        self.objects: dict[Key, crds.Doc] = {}
        self.processes: dict[str, subprocess.Popen] = {}
        self.lock = threading.RLock()
        self.address = ""

    def create(self, space: str, kind: str, doc: crds.Doc) -> list[str]:
        """What is wrong with it, or nothing, and then it is there."""
        wrong = crds.errors(doc)
        if not wrong:
            self.put(space, kind, doc)
            if kind == "daskclusters":
                self.start(space, doc)
        return wrong

    def put(self, space: str, kind: str, doc: crds.Doc) -> None:
        doc["metadata"] |= {"namespace": space, "uid": os.urandom(8).hex(), "generation": 1}
        self.objects[space, kind, doc["metadata"]["name"]] = doc

    def start(self, space: str, doc: crds.Doc) -> None:
        """As the operator: scheduler, service, workers."""
        name, spec = doc["metadata"]["name"], doc["spec"]
        ports = {port: free_port() for port in (8786, 8787)}
        self.address = f"tcp://127.0.0.1:{ports[8786]}"
        labels = {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
        at = ("--port", str(ports[8786]), "--dashboard-address", f"127.0.0.1:{ports[8787]}")
        self.run(space, f"{name}-scheduler", spec["scheduler"]["spec"], labels, at)
        service = json.loads(json.dumps(spec["scheduler"]["service"]))
        for port in service["ports"]:
            port["port"] = ports[port["port"]]
        ingress = {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}
        made = {"metadata": {"name": f"{name}-scheduler", "labels": labels}, "spec": service}
        self.put(space, "services", made | {"status": ingress})
        group = {"metadata": {"name": f"{name}-default"}, "spec": {"cluster": name}}
        group["spec"]["worker"] = spec["worker"]
        self.put(space, "daskworkergroups", group)
        doc["status"] = {"phase": "Running"}
        self.scale(space, group)

    def scale(self, space: str, group: crds.Doc) -> None:
        """As many workers as it wants; fewer are never asked for here."""
        name, worker = group["spec"]["cluster"], group["spec"]["worker"]
        labels = {"dask.org/cluster-name": name, "dask.org/component": "worker"}
        for i in range(worker["replicas"]):
            pod = f"{name}-default-worker-{i}"
            if pod not in self.processes:
                self.run(space, pod, worker["spec"], labels, ("--dashboard-address", "127.0.0.1:0"))

    def run(
        self, space: str, name: str, pod: crds.Doc, labels: dict[str, str], at: tuple[str, ...]
    ) -> None:
        [container] = pod["containers"]
        env = {one["name"]: one["value"] for one in container.get("env") or [] if "value" in one}
        env |= {"DASK_WORKER_NAME": name, "DASK_SCHEDULER_ADDRESS": self.address}
        words = container["command"] + container["args"]
        words = [re.sub(r"\$\((\w+)\)", lambda found: env[found[1]], word) for word in words]
        # where to listen is ours to say, there are no pods with addresses of their own
        kept = [
            word
            for before, word in zip(["", *words], words, strict=False)
            if not {before, word} & set(LISTENING)
        ]
        command = [sys.executable, "-m", *kept, "--host", "127.0.0.1", *at]
        self.processes[name] = subprocess.Popen(
            command, env=os.environ | env, stderr=subprocess.DEVNULL
        )
        ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
        status = {"phase": "Running", "conditions": ready}
        made = {"metadata": {"name": name, "labels": labels}, "spec": pod, "status": status}
        self.put(space, "pods", made)

    def delete(self, key: Key) -> None:
        doc = self.objects.pop(key)
        if key[1] == "daskclusters":
            self.stop()
            self.objects = {k: v for k, v in self.objects.items() if v is doc}

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


class Api(BaseHTTPRequestHandler):
    """The few paths that dask-kubernetes asks for."""

    cluster: Cluster

    def reply(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")

    def target(self) -> tuple[str, str, str | None]:
        found = PATHS.match(urlsplit(self.path).path)
        return (found[1], found[2], found[3]) if found else ("", "", None)

    def do_GET(self) -> None:
        known = DISCOVERY.get(urlsplit(self.path).path.rstrip("/"))
        if known:
            return self.reply(known)
        space, kind, name = self.target()
        with self.cluster.lock:
            if name:
                doc = self.cluster.objects.get((space, kind, name))
                return self.reply(doc or {"message": "not found"}, 200 if doc else 404)
            asked = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
            labels = dict(part.split("=") for part in asked.get("labelSelector", "=").split(","))
            fields = dict(part.split("=") for part in asked.get("fieldSelector", "=").split(","))
            items = [
                doc
                for (a, b, c), doc in self.cluster.objects.items()
                if (a, b) == (space, kind)
                and fields.get("metadata.name", c) == c
                and {k: v for k, v in labels.items() if k}.items()
                <= doc["metadata"].get("labels", {}).items()
            ]
            return self.reply({"kind": f"{KINDS[kind]}List", "items": items})

    def do_POST(self) -> None:
        space, kind, _ = self.target()
        doc = self.body()
        with self.cluster.lock:
            wrong = self.cluster.create(space, kind, doc)
        self.reply({"message": "; ".join(wrong)} if wrong else doc, 422 if wrong else 201)

    def do_PATCH(self) -> None:
        space, kind, name = self.target()
        with self.cluster.lock:
            doc = self.cluster.objects.get((space, kind, str(name).removesuffix("/scale")))
            if doc is None:
                return self.reply({"message": "not found"}, 404)
            merge(doc, self.body())
            if kind == "daskworkergroups":
                self.cluster.scale(space, doc)
            return self.reply(doc)

    def do_DELETE(self) -> None:
        space, kind, name = self.target()
        with self.cluster.lock:
            key = (space, kind, str(name))
            if key not in self.cluster.objects:
                return self.reply({"message": "not found"}, 404)
            self.cluster.delete(key)
            return self.reply({"status": "Success"})

    def log_message(self, *args: Any) -> None:
        """Not to the test's output."""


def merge(doc: crds.Doc, change: crds.Doc) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(doc.get(key), dict):
            merge(doc[key], value)
        else:
            doc[key] = value


@contextmanager
def kubernetes(folder: Path) -> Iterator[tuple[Cluster, Path]]:
    """The server, and a configuration for its clients."""
    cluster = Cluster()
    handler = type("Handler", (Api,), {"cluster": cluster})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        config = folder / "kubeconfig"
        write_config(config, f"http://127.0.0.1:{server.server_port}")
        try:
            yield cluster, config
        finally:
            server.shutdown()
            thread.join()
            cluster.stop()


def write_config(file: Path, server: str) -> None:
    """A kubeconfig for a server that asks for no credentials."""
    doc = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x", "namespace": "lab"}}],
        "clusters": [{"name": "x", "cluster": {"server": server}}],
        "users": [{"name": "x", "user": {"token": "none"}}],
    }
    file.write_text(json.dumps(doc))
