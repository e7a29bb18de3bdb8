"""Kubeflow's own compiler, which turns a pipeline spec into an Argo workflow; where its sources are at hand.

`KUBEFLOW_SOURCE` names a checkout of github.com/kubeflow/pipelines, in which `kubeflow_compiler/main.go` is built, or
`KUBEFLOW_COMPILER` what was built of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from adclick.pipeline.targets.compiled_job import CompiledJob, as_yaml
from adclick.pipeline.targets.platforms.workflow_size import NODES, workflow_bytes
from adclick.pipeline.targets.submission import compile_monthly, compile_run
from tests.pipeline.targets.projects import sample_config, window_of

SOURCE, BUILT = os.environ.get("KUBEFLOW_SOURCE"), os.environ.get("KUBEFLOW_COMPILER")

pytestmark = pytest.mark.skipif(
    not SOURCE and not BUILT,
    reason="neither KUBEFLOW_SOURCE names a checkout of github.com/kubeflow/pipelines nor KUBEFLOW_COMPILER a build",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    if BUILT:
        return BUILT
    go = shutil.which("go")
    if go is None:
        pytest.skip("there is no Go compiler")
    file = tmp_path_factory.mktemp("compiler") / "compiler"
    main = Path(__file__).with_name("kubeflow_compiler") / "main.go"
    subprocess.run(
        [go, "build", "-o", str(file), str(main)],
        cwd=SOURCE,
        env={**os.environ, "GOFLAGS": "-buildvcs=false -mod=mod -p=1"},
        check=True,
        timeout=3_000,
    )
    return str(file)


def workflow(program: str, compiled: CompiledJob) -> dict[str, Any]:
    text = as_yaml(compiled.job, compiled.platform_spec)
    done = subprocess.run([program], input=text, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["kind"] == "Workflow"
    return found


def tasks(found: dict[str, Any]) -> set[str]:
    (root,) = (template for template in found["spec"]["templates"] if template["name"] == "root")
    return {task["name"] for task in root["dag"]["tasks"]}


@pytest.mark.timeout(3_600)
def test_kubeflows_compiler_makes_a_workflow_of_every_step(program: str, tmp_path: Path) -> None:
    steps = {"default": {"labels": {"team": "ads"}, "secrets": [{"name": "google", "mount": "/etc/google"}]}}
    config = sample_config({"steps": steps}, output=str(tmp_path))
    compiled = compile_run(config, "kubeflow", window_of("2026-09", "2026-10"))

    found = workflow(program, compiled)
    assert tasks(found) >= set(compiled.job["pipelineSpec"]["root"]["dag"]["tasks"])
    given = [
        each["value"] for each in found["spec"]["arguments"]["parameters"] if each["name"].startswith("kubernetes-")
    ]
    assert len(given) == len(compiled.job["pipelineSpec"]["components"])
    assert all(json.loads(value)["podMetadata"] == {"labels": {"team": "ads"}} for value in given)


def test_kubeflows_compiler_takes_the_monthly_pipeline(program: str, tmp_path: Path) -> None:
    schema = tmp_path / "schema.pbtxt"
    schema.write_text('feature { name: "clicked" }')
    config = sample_config(schema_file=str(schema), output=str(tmp_path))
    assert "MonthlySubmission" in tasks(workflow(program, compile_monthly(config, "kubeflow")))


@pytest.mark.parametrize("count", [3, 24, 60])
def test_the_workflows_size_is_the_estimated_one(program: str, tmp_path: Path, count: int) -> None:
    config = sample_config({"kubeflow": {"max_workflow_bytes": 10_000_000}}, output=str(tmp_path))
    months = [f"{2022 + number // 12}-{number % 12 + 1:02}" for number in range(count)]
    compiled = compile_run(config, "kubeflow", window_of(*months))

    size = len(json.dumps(workflow(program, compiled), separators=(",", ":")))
    estimated = workflow_bytes(compiled.job["pipelineSpec"], compiled.platform_spec) - NODES * compiled.steps
    assert size <= estimated <= 1.06 * size
