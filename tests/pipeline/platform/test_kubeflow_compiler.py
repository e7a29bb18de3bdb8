"""Kubeflow's own compiler, which turns a pipeline spec into an Argo workflow; where a build of it is at hand."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.platform.compiler import as_yaml
from pipeline.platform.submission import compile_run
from tests.pipeline.platform.projects import sample_config, window_of

COMPILER = os.environ.get("KUBEFLOW_COMPILER")


@pytest.mark.skipif(
    COMPILER is None,
    reason="KUBEFLOW_COMPILER names no build of github.com/kubeflow/pipelines/backend/src/v2/cmd/compiler",
)
def test_kubeflows_compiler_makes_a_workflow_of_every_step(tmp_path: Path) -> None:
    assert COMPILER is not None
    job = compile_run(sample_config(), "kubeflow", window_of("2026-09", "2026-10"))
    file = tmp_path / "pipeline.yaml"
    file.write_text(as_yaml(job))

    compiled = subprocess.run([COMPILER, "--spec", str(file)], capture_output=True, text=True, check=False)

    assert compiled.returncode == 0, compiled.stderr
    workflow = yaml.safe_load(compiled.stdout)
    assert workflow["kind"] == "Workflow"
    assert all(step in compiled.stdout for step in job["pipelineSpec"]["root"]["dag"]["tasks"])
