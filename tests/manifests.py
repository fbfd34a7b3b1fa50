"""deploy/: its files, and the Kubernetes objects in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import crds

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
CLUSTERS = [p for p in MANIFESTS if p.name == "daskcluster.yaml"]
READMES = sorted(DEPLOY.rglob("README.md"))


def named(path: Path) -> str:
    return str(path.relative_to(DEPLOY))


def every_pod() -> Iterator[tuple[str, crds.Doc]]:
    for file in MANIFESTS:
        for doc in crds.documents(file):
            yield from ((f"{named(file)} {where}", pod) for where, pod in crds.pods(doc))


def load(name: str) -> crds.Doc:
    return next(iter(crds.documents(DEPLOY / "kubernetes" / name)))


def container(doc: crds.Doc, part: str = "worker") -> crds.Doc:
    pod = doc["spec"]["template"] if doc["kind"] == "Job" else doc["spec"][part]
    return pod["spec"]["containers"][0]
