"""Runs a compiled pipeline's steps in order, each by the command of its container, with local addresses.

It does what Kubeflow does around a step: resolve its inputs, reuse what it gave for the same inputs before where the
task allows, give the executor input in the place of `{{$}}`, run the command in a process of its own, and read the
executor output. The executor input is as the driver of Kubeflow Pipelines 2.17.0 writes it where runs publish their
logs, which is its default (`executor_inputs/` has what it wrote): with an output `executor-logs` that no step declares,
and without the schemas of inputs whose types are not Kubeflow's own. It has no containers: the command runs by the
interpreter that is named, in a process forked from one that has imported the entry point already (see `step_host`), or,
with `fork=False`, in a fresh one.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

_EXECUTOR_INPUT = "{{$}}"
_LOGS = "executor-logs"
_Artifacts = dict[str, pipeline_spec_pb2.RuntimeArtifact]


class StepFailed(AssertionError):
    """A step's command ended with another status than 0.

    Attributes:
        step: The step.
        code: Its exit status.
        log: What it wrote.
        walk: The walk until then.
    """

    def __init__(self, step: str, code: int, log: str) -> None:
        super().__init__(f"{step} failed with {code}:\n{log[-8000:]}")
        self.step = step
        self.code = code
        self.log = log
        self.walk = Walk()


@dataclass
class Walk:
    """A finished walk.

    Attributes:
        artifacts: By step, its output artifacts as the executor output left them.
        executed: The steps that ran, in order.
        copied: By step that ran, the files below its inputs' addresses, which the launcher copies into the pod.
        reused: The steps whose earlier outputs were taken.
    """

    artifacts: dict[str, _Artifacts] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    copied: dict[str, list[Path]] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)

    def metadata(self, step: str, key: str) -> dict[str, Any]:
        return json_format.MessageToDict(self.artifacts[step][key].metadata)


def parse_spec(
    document: dict[str, Any],
) -> tuple[pipeline_spec_pb2.PipelineSpec, pipeline_spec_pb2.PipelineDeploymentConfig]:
    """Parses a pipeline spec, unknown fields refused."""
    spec = json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    json_format.ParseDict(json_format.MessageToDict(spec.deployment_spec), deployment)
    return spec, deployment


class Walker:
    """Walks over pipeline specs; what earlier walks made is reused."""

    def __init__(
        self, root: Path, *, python: Path = Path(sys.executable), fork: bool = True, address: str | None = None
    ) -> None:
        """Declares the walker.

        Args:
            root: Where artifacts go, a folder per walk; of artifacts in a bucket, what the platform keeps in a pod.
            python: The interpreter that runs the steps.
            fork: Whether steps run in processes forked from one that has imported the entry point.
            address: Where artifacts go in a bucket.
        """
        self._root = root
        self._address = str(root) if address is None else address
        self._python = python
        self._fork = fork
        self._walks = 0
        self._made: dict[str, _Artifacts] = {}

    def walk(self, document: dict[str, Any], parameters: dict[str, Any] | None = None) -> Walk:
        """Runs every step of a pipeline spec.

        Args:
            document: The pipeline spec.
            parameters: Runtime parameters, where they differ from their defaults.

        Raises:
            StepFailed: A step failed; those after it did not run.
        """
        spec, deployment = parse_spec(document)
        values = {
            name: json_format.MessageToDict(declared.default_value)
            for name, declared in spec.root.input_definitions.parameters.items()
        } | (parameters or {})
        self._walks += 1
        tasks = spec.root.dag.tasks
        order = TopologicalSorter({name: sorted(task.dependent_tasks) for name, task in sorted(tasks.items())})
        done = Walk()
        with _step_host(self._python) if self._fork else _no_host() as host:
            for name in order.static_order():
                task = tasks[name]
                component = spec.components[task.component_ref.name]
                container = deployment.executors[component.executor_label].container
                folder = self._root / str(self._walks) / name
                address = f"{self._address}/{self._walks}/{name}"
                given = _executor_input(task, component, values, done, folder, address)
                key = _cache_key(component, container, given)
                if task.caching_options.enable_cache and key in self._made:
                    done.artifacts[name] = self._made[key]
                    done.reused.append(name)
                    continue
                folder.mkdir(parents=True)
                addresses = [each.uri for list_ in given.inputs.artifacts.values() for each in list_.artifacts]
                done.copied[name] = [file for uri in addresses for file in Path(uri).rglob("*") if file.is_file()]
                try:
                    _run(name, container, given, folder / "log.txt", host, self._python)
                except StepFailed as failed:
                    failed.walk = done
                    raise
                done.artifacts[name] = self._made[key] = _outputs(given)
                done.executed.append(name)
        return done


def _executor_input(
    task: pipeline_spec_pb2.PipelineTaskSpec,
    component: pipeline_spec_pb2.ComponentSpec,
    values: dict[str, Any],
    done: Walk,
    folder: Path,
    address: str,
) -> pipeline_spec_pb2.ExecutorInput:
    given = pipeline_spec_pb2.ExecutorInput()
    for key, parameter in task.inputs.parameters.items():
        assert key in component.input_definitions.parameters
        if parameter.component_input_parameter:
            json_format.ParseDict(values[parameter.component_input_parameter], given.inputs.parameter_values[key])
        else:
            given.inputs.parameter_values[key].CopyFrom(parameter.runtime_value.constant)
    for key, source in task.inputs.artifacts.items():
        assert key in component.input_definitions.artifacts
        produced = source.task_output_artifact
        assert produced.producer_task in task.dependent_tasks
        artifact = given.inputs.artifacts[key].artifacts.add()
        artifact.CopyFrom(done.artifacts[produced.producer_task][produced.output_artifact_key])
        artifact.name = str(1 + sorted(task.inputs.artifacts).index(key))
        artifact.type.instance_schema = ""
        artifact.metadata["display_name"] = produced.output_artifact_key
        artifact.metadata["store_session_info"] = "{}"
    for key, declared in component.output_definitions.artifacts.items():
        given.outputs.artifacts[key].artifacts.add(name=key, type=declared.artifact_type, uri=f"{address}/{key}")
    given.outputs.artifacts[_LOGS].artifacts.add(
        name="executor-logs",
        type=pipeline_spec_pb2.ArtifactTypeSchema(schema_title="system.Artifact"),
        uri=f"{address}/{_LOGS}",
    )
    given.outputs.output_file = str(folder / "output_metadata.json")
    return given


def _cache_key(
    component: pipeline_spec_pb2.ComponentSpec,
    container: pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec,
    given: pipeline_spec_pb2.ExecutorInput,
) -> str:
    interface = {**json_format.MessageToDict(component), "executorLabel": ""}
    parts = [interface, json_format.MessageToDict(container), json_format.MessageToDict(given.inputs)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _run(
    step: str,
    container: pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec,
    given: pipeline_spec_pb2.ExecutorInput,
    log: Path,
    host: _StepHost | None,
    python: Path,
) -> None:
    text = json_format.MessageToJson(given)
    command = [part.replace(_EXECUTOR_INPUT, text) for part in (*container.command, *container.args)]
    assert command[:2] == ["python", "-m"]
    environment = {variable.name: variable.value for variable in container.env}
    if host is None:
        with log.open("wb") as stream:
            # Not from the checkout, whose packages would come before the installed ones.
            code = subprocess.run(
                [str(python), *command[1:]],
                cwd=log.parent,
                env=_installed_only() | environment,
                stdout=stream,
                stderr=stream,
                check=False,
            ).returncode
    else:
        code = host.run(command[2:], environment, log)
    if code != 0:
        raise StepFailed(step, code, log.read_text(errors="replace") if log.exists() else "")


def _outputs(given: pipeline_spec_pb2.ExecutorInput) -> _Artifacts:
    output = json_format.Parse(Path(given.outputs.output_file).read_text(), pipeline_spec_pb2.ExecutorOutput())
    artifacts: _Artifacts = {}
    for key, declared in given.outputs.artifacts.items():
        if key == _LOGS:
            continue
        artifacts[key] = pipeline_spec_pb2.RuntimeArtifact()
        artifacts[key].CopyFrom(declared.artifacts[0])
        if key in output.artifacts:
            (made,) = output.artifacts[key].artifacts
            artifacts[key].uri = made.uri
            artifacts[key].metadata.CopyFrom(made.metadata)
    return artifacts


class _StepHost:
    """The process that steps are forked from; it is there from the first step on."""

    def __init__(self, python: Path) -> None:
        self._python = python
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: list[str], environment: dict[str, str], log: Path) -> int:
        """Runs a step; gives its exit status."""
        if self._process is None:
            self._process = subprocess.Popen(
                [str(self._python), str(Path(__file__).with_name("step_host.py"))],
                env=_installed_only(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"arguments": arguments, "environment": environment, "log": str(log)}) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline() or "-1")

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)


@contextmanager
def _step_host(python: Path) -> Iterator[_StepHost]:
    host = _StepHost(python)
    try:
        yield host
    finally:
        host.end()


def _installed_only() -> dict[str, str]:
    """The environment without what would put other packages before the installed ones.

    What Python compiles it keeps: the image's Dockerfile compiles all, which an environment that was just made is
    without.
    """
    left_out = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if name not in left_out}


@contextmanager
def _no_host() -> Iterator[None]:
    yield None
