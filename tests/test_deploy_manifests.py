"""deploy/kubernetes: manifests an API server would take, pods that may do nothing."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import crds
import pytest
from manifests import CLUSTERS, DEPLOY, MANIFESTS, container, every_pod, load, named

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("file", MANIFESTS, ids=named)
def test_manifests_are_valid(file: Path) -> None:
    found = list(crds.documents(file))
    assert found
    for doc in found:
        assert crds.errors(doc) == []
        assert doc["kind"] == "Namespace" or doc["metadata"]["namespace"] == "daskroi"


def put(*path: Any) -> Callable[[crds.Doc], None]:
    """A change: the last of ``path`` is put where the others lead to."""

    def change(doc: crds.Doc) -> None:
        *steps, last, value = path
        for step in steps:
            doc = doc[step]
        doc[last] = value

    return change


POD = ("spec", "worker", "spec")
BOX = (*POD, "containers", 0)
JOB = ("spec", "template", "spec")


@pytest.mark.parametrize(
    ("file", "change", "match"),
    [
        # what the schemas see
        ("daskcluster.yaml", put("spec", "workers", 3), "Additional properties.*'workers'"),
        ("daskcluster.yaml", put(*BOX, "comand", ["dask"]), "'comand'"),
        ("daskcluster.yaml", put(*POD, "securityContext", "runAsNonRoot", "yes"), "'yes' is not"),
        ("autoscaler.yaml", put("spec", "maximum", "20"), "'20' is not of type 'integer'"),
        ("job.yaml", put(*JOB, "containers", 0, "imagePullPolicy", 1), "1 is not"),
        ("job.yaml", put("apiVersion", "batch/v1beta1"), "no batch/v1beta1 Job"),
        ("networkpolicy.yaml", put("spec", "podSelectr", {}), "'podSelectr'"),
        # what they do not: names
        ("daskcluster.yaml", put("metadata", "name", "Bad_Name"), "'Bad_Name' is not a name"),
        ("job.yaml", put("metadata", "name", "x" * 64), "'x+' is not a name"),
        ("namespace.yaml", put("metadata", "name", "a.b"), "'a.b' is not a name"),
        ("daskcluster.yaml", put(*BOX, "name", "Worker"), "'Worker' is not a name"),
        ("daskcluster.yaml", put(*BOX, "ports", 0, "name", "a-name-that-is-long"), "of a port"),
        ("daskcluster.yaml", put(*POD, "volumes", 0, "name", "t_mp"), "'t_mp' is not a name"),
        # restart policies
        ("daskcluster.yaml", put(*POD, "restartPolicy", "Never"), "'Never' does not go with Dask"),
        ("job.yaml", put(*JOB, "restartPolicy", "Always"), "'Always' does not go with Job"),
        ("job.yaml", put(*JOB, "restartPolicy", "never"), "'never'"),
        # requests above limits
        ("daskcluster.yaml", put(*BOX, "resources", "requests", "memory", "9Gi"), "9Gi exceeds"),
        ("daskcluster.yaml", put(*BOX, "resources", "requests", "cpu", "2001m"), "2001m exceeds"),
        # mounts of nothing
        ("daskcluster.yaml", put(*POD, "volumes", []), "no volume 'tmp' to mount"),
        ("job.yaml", put(*JOB, "containers", 0, "volumeMounts", 0, "name", "tpm"), "'tpm' to mo"),
    ],
)
def test_planted_mistakes_are_caught(
    file: str, change: Callable[[crds.Doc], None], match: str
) -> None:
    doc = load(file)
    change(doc)
    assert re.search(match, "\n".join(crds.errors(doc)))


@pytest.mark.parametrize("file", CLUSTERS, ids=named)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_the_operator_makes_of_it_is_valid(file: Path) -> None:
    """The Deployments and the Service that Dask's operator itself builds from the cluster."""
    controller = pytest.importorskip("dask_kubernetes.operator.controller.controller")
    from dask_kubernetes.operator.validation import validate_cluster_name

    [doc] = crds.documents(file)
    name, spec, labels = doc["metadata"]["name"], doc["spec"], doc["metadata"]["labels"]
    validate_cluster_name(name)
    group = controller.build_default_worker_group_spec(name, spec["worker"], {}, labels)
    worker = controller.build_worker_deployment_spec(
        f"{name}-default", "daskroi", name, "0123456789", spec["worker"]["spec"], {}, labels
    )
    scheduler = controller.build_scheduler_deployment_spec(
        name, spec["scheduler"]["spec"], {}, labels
    )
    service = controller.build_scheduler_service_spec(
        name, spec["scheduler"]["service"], {}, labels
    )
    for made in (group, worker, scheduler, service):
        # Kubernetes keeps the template's labels and annotations, not its name
        assert crds.errors(made) == []
    selector = service["spec"]["selector"].items()
    assert selector <= scheduler["spec"]["template"]["metadata"]["labels"].items()
    assert not selector <= worker["spec"]["template"]["metadata"]["labels"].items()
    ports = {port["name"] for port in container(doc, "scheduler")["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports


def test_pods_may_do_nothing() -> None:
    """As the namespace's Pod Security level "restricted" demands, and a little more."""
    for where, pod in every_pod():
        context = pod["securityContext"]
        assert context["runAsNonRoot"], where
        assert context["runAsUser"] > 0, where
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert pod["automountServiceAccountToken"] is False, where
        assert all({"emptyDir", "secret"} & set(volume) for volume in pod["volumes"]), where
        for box in pod["containers"]:
            assert box["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            limits = box["resources"]["limits"]
            assert set(limits) == {"cpu", "memory", "ephemeral-storage"}, where
            assert limits == box["resources"]["requests"], where


def test_policies_let_through_what_must_get_through() -> None:
    """Selectors and ports, against the labels and ports of the pods."""
    policies = {
        doc["metadata"]["name"]: doc["spec"]
        for doc in crds.documents(DEPLOY / "kubernetes/networkpolicy.yaml")
    }
    client = load("job.yaml")["spec"]["template"]["metadata"]["labels"].items()
    cluster = load("daskcluster.yaml")
    labels = cluster["metadata"]["labels"] | {"dask.org/cluster-name": cluster["metadata"]["name"]}
    scheduler = (labels | {"dask.org/component": "scheduler"}).items()
    worker = (labels | {"dask.org/component": "worker"}).items()

    def selects(selector: crds.Doc, pod: Any) -> bool:
        return selector["matchLabels"].items() <= pod

    inside = policies["daskroi-cluster"]
    for one, other in itertools.product((scheduler, worker), repeat=2):
        assert selects(inside["podSelector"], one)
        assert selects(inside["ingress"][0]["from"][0]["podSelector"], other)
        assert selects(inside["egress"][0]["to"][0]["podSelector"], other)
    assert not selects(inside["podSelector"], client)
    into = policies["daskroi-scheduler"]
    assert selects(into["podSelector"], scheduler)
    assert not selects(into["podSelector"], worker)
    assert selects(into["ingress"][0]["from"][0]["podSelector"], client)
    out = policies["daskroi-client"]
    assert selects(out["podSelector"], client)
    assert selects(out["egress"][0]["to"][0]["podSelector"], scheduler)
    ports = {port["containerPort"] for port in container(cluster, "scheduler")["ports"]}
    assert {port["port"] for rule in into["ingress"] for port in rule["ports"]} == ports
    assert policies["daskroi-nothing-else"]["podSelector"] == {}


def test_both_clusters_are_the_same_but_for_tls() -> None:
    plain, secure = copy.deepcopy([load("daskcluster.yaml"), load("tls/daskcluster.yaml")])
    for part in ("scheduler", "worker"):
        box = container(secure, part)
        box["args"] = [a for a in box["args"] if a not in ("--protocol", "tls")]
        box["env"] = [e for e in box["env"] if "TLS" not in e["name"] and "ENCR" not in e["name"]]
        box["env"] = [e for e in box["env"] if e["name"] != "DASK_SCHEDULER_ADDRESS"]
        box["volumeMounts"].pop()
        secure["spec"][part]["spec"]["volumes"].pop()
    assert secure == plain
