"""Checks Kubernetes manifests as strictly as an API server would, without one.

Built-in kinds by the schemas that kubernetes-validate ships, Dask's by the definitions (CRDs) that
dask-kubernetes ships, pods inside them once more as pods; then four mistakes no schema sees.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Doc = dict[str, Any]

# the oldest that deploy/ is for, and a newer one
KUBERNETES = ("1.31", "1.35")
LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
SUBDOMAIN = re.compile(
    r"^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
)
PORT = re.compile(r"^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$")
# as names of hosts: what Kubernetes makes of the other kinds may be longer
LABELLED = ("Namespace", "Service", "DaskCluster", "Job")


def documents(*files: Path) -> Iterator[Doc]:
    import yaml

    # the definitions are 2 MB, which takes the loader in Python 5 s
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for file in files:
        yield from filter(None, yaml.load_all(file.read_text(), loader))


def errors(doc: Doc) -> list[str]:
    """All that is wrong with one manifest, one line each."""
    doc = without_nulls(copy.deepcopy(doc))
    return [*schema_errors(doc), *mistakes(doc)]


def schema_errors(doc: Doc) -> list[str]:
    """What the schema of its kind says."""
    import jsonschema

    custom = custom_schemas().get((doc.get("apiVersion"), doc.get("kind")))
    if custom is None:
        return built_in_errors(doc)
    found = [told(error) for error in jsonschema.Draft202012Validator(custom).iter_errors(doc)]
    for where, pod in pods(doc):
        as_pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
        found += [f"{where}: {error}" for error in built_in_errors(as_pod)]
    return found


def mistakes(doc: Doc) -> list[str]:
    """Names, restart policies, requests and mounts that the API server refuses."""
    found = []
    kind, name = doc["kind"], str(doc["metadata"].get("name"))
    if not (LABEL if kind in LABELLED else SUBDOMAIN).match(name):
        found.append(f"metadata/name: {name!r} is not a name")
    for where, pod in pods(doc):
        policies = {"Job": ("Never", "OnFailure"), "Pod": ("Always", "Never", "OnFailure")}
        policy = pod.get("restartPolicy", "Always")
        # Dask's operator makes Deployments of them
        if policy not in policies.get(kind, ("Always",)):
            found.append(f"{where}/restartPolicy: {policy!r} does not go with {kind}")
        volumes = [volume["name"] for volume in pod.get("volumes", [])]
        containers = pod.get("initContainers", []) + pod["containers"]
        names = volumes + [container["name"] for container in containers]
        found += [f"{where}: {name!r} is not a name" for name in names if not LABEL.match(name)]
        for container in containers:
            found += container_mistakes(f"{where}/{container['name']}", container, volumes)
    return found


def container_mistakes(where: str, container: Doc, volumes: list[str]) -> Iterator[str]:
    from kubernetes.utils import parse_quantity

    for port in container.get("ports", []):
        if not PORT.match(port.get("name", "x")):
            yield f"{where}: {port['name']!r} is not a name of a port"
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in volumes:
            yield f"{where}: no volume {mount['name']!r} to mount"
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    for what, request in (resources.get("requests") or {}).items():
        if what in limits and parse_quantity(request) > parse_quantity(limits[what]):
            yield f"{where}: request of {what} {request} exceeds its limit {limits[what]}"


def pods(doc: Any, where: str = "") -> Iterator[tuple[str, Doc]]:
    """Every pod's spec inside a document."""
    if isinstance(doc, dict):
        if isinstance(doc.get("containers"), list):
            yield where, doc
        for key, value in doc.items():
            yield from pods(value, f"{where}/{key}" if where else key)
    elif isinstance(doc, list):
        for i, value in enumerate(doc):
            yield from pods(value, f"{where}/{i}")


def without_nulls(doc: Any) -> Any:
    """The API server drops a null."""
    if isinstance(doc, dict):
        return {key: without_nulls(value) for key, value in doc.items() if value is not None}
    return [without_nulls(value) for value in doc] if isinstance(doc, list) else doc


def told(error: Any) -> str:
    return f"{'/'.join(map(str, error.absolute_path))}: {error.message[:160]}"


def built_in_errors(doc: Doc) -> list[str]:
    """All errors; kubernetes_validate.validate() itself raises one of them."""
    return list(dict.fromkeys(e for version in KUBERNETES for e in errors_in(doc, version)))


def errors_in(doc: Doc, version: str) -> Iterator[str]:
    import jsonschema
    from referencing import Registry, Resource

    api = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", doc["apiVersion"])
    try:
        schema, definitions = shipped(f"{doc['kind'].lower()}-{api}", version)
    except FileNotFoundError:
        yield f"Kubernetes {version} has no {doc['apiVersion']} {doc['kind']}"
        return
    known = Resource.from_contents(definitions) @ (Resource.from_contents(schema) @ Registry())
    checker = jsonschema.Draft202012Validator(schema, registry=known)
    yield from (told(error) for error in checker.iter_errors(doc))


@functools.cache
def shipped(name: str, version: str) -> tuple[Doc, Doc]:
    from kubernetes_validate import utils

    folder = f"kubernetes-json-schema/v{version}.0-local-strict"
    schema, definitions = (
        utils.schema_contents(f"{folder}/{file}.json", version) for file in (name, "_definitions")
    )
    return schema, definitions


@functools.cache
def custom_schemas() -> dict[tuple[str, str], Doc]:
    """Of Dask's kinds, by apiVersion and kind."""
    import dask_kubernetes

    folder = "operator/deployment/helm/dask-kubernetes-operator/crds"
    found = {}
    for crd in documents(*(Path(dask_kubernetes.__file__).parent / folder).glob("*.yaml")):
        for version in crd["spec"]["versions"]:
            schema = as_json_schema(version["schema"]["openAPIV3Schema"])
            known = schema.setdefault("properties", {})
            for key in ("apiVersion", "kind"):
                known.setdefault(key, {"type": "string"})
            known["metadata"] = {"type": "object"}
            known.setdefault("status", {})
            kind = crd["spec"]["names"]["kind"]
            found[f"{crd['spec']['group']}/{version['name']}", kind] = schema
    assert found
    return found


def as_json_schema(schema: Any, strict: bool = True) -> Any:
    """Kubernetes' structural schema as JSON Schema; unknown fields are errors, not dropped."""
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    if made.pop("x-kubernetes-int-or-string", False):
        made["type"] = ["integer", "string"]
    anything = made.pop("x-kubernetes-preserve-unknown-fields", False)
    anything |= made.pop("x-kubernetes-embedded-resource", False)
    if made.pop("nullable", False) and "type" in made:
        kinds = made["type"]
        made["type"] = [*([kinds] if isinstance(kinds, str) else kinds), "null"]
    if "properties" in made:
        made["properties"] = {
            name: as_json_schema(value, strict) for name, value in made["properties"].items()
        }
    for key in ("items", "additionalProperties", "not"):
        if isinstance(made.get(key), dict):
            made[key] = as_json_schema(made[key], strict)
    for key in ("allOf", "anyOf", "oneOf"):
        if key in made:
            made[key] = [as_json_schema(value, False) for value in made[key]]
    if strict and not anything and made.get("properties"):
        made.setdefault("additionalProperties", False)
    return {key: value for key, value in made.items() if not key.startswith("x-kubernetes-")}
