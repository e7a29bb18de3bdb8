"""The CI/CD files for users: their schemas, their scripts, and the commands in them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy.conftest import DEPLOY, ROOT, assert_passes
from tests.deploy.test_kubernetes import assert_understood

CI = DEPLOY / "ci"
WORKFLOW = CI / "github-actions.yml"
BUILDS = sorted(CI.glob("cloudbuild-*.yaml"))


def scripts() -> Iterator[str]:
    for job in yaml.safe_load(WORKFLOW.read_text())["jobs"].values():
        yield from (step["run"] for step in job["steps"] if "run" in step)
    for file in BUILDS:
        # `$$` is Cloud Build's way to write a dollar sign.
        yield from (step["args"][-1].replace("$$", "$") for step in yaml.safe_load(file.read_text())["steps"])


def test_schemas() -> None:
    assert_passes("check-jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW)
    assert_passes("check-jsonschema", "--builtin-schema", "vendor.cloudbuild", *BUILDS)


@pytest.mark.parametrize("script", scripts())
def test_scripts(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for line in script.splitlines():
        if (start := line.find(".venv/bin/adclick ")) >= 0:
            assert_understood(shlex.split(line[start:])[1:])
        for target in re.findall(r"\bmake (?:--directory \S+ )?([a-z]+)", line):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
        for file in re.findall(r"deploy/\S+\.(?:Dockerfile|py)", line):
            assert (ROOT / file).exists(), file


def test_both_compile_every_target_and_submit_on_a_tag() -> None:
    texts = [WORKFLOW.read_text(), "".join(file.read_text() for file in BUILDS)]
    for text in texts:
        for command in ("make test", "--target vertex", "--target kubeflow", "docker build", "adclick submit"):
            assert command in text, command
    release = yaml.safe_load(WORKFLOW.read_text())["jobs"]["release"]
    assert release["if"] == "github.ref_type == 'tag'" and set(release["needs"]) == {"check", "compile"}


def test_the_workflow_pins_actions_and_has_few_rights() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in used)
    # What a pull request names could otherwise be run: expressions go through the environment.
    assert not [script for script in scripts() if "${{" in script]
    assert "secrets." not in WORKFLOW.read_text()


def test_the_image_is_written_into_the_config(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("# Mine.\ndata: {root: drops}\n")
    subprocess.run([sys.executable, CI / "set_image.py", config, "r/pipeline@sha256:0"], cwd=ROOT, check=True)
    assert config.read_text().startswith("# Mine.\n")
    assert yaml.safe_load(config.read_text())["platform"] == {"image": "r/pipeline@sha256:0"}
