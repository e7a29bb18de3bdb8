"""Compiles the pipeline to what Vertex AI Pipelines and Kubeflow Pipelines run: pipeline spec, schema version 2.1.

TFX's compiler does the work. It knows no union of channels, and no properties of artifact types but its own: both are
put into a form here that it takes. What it gives is then made smaller, as Argo refuses a workflow of over a megabyte:
steps of one kind share one component and one executor, and their settings, such as the feature table, stand in a file
that is named by its content.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.orchestration.data_types import PipelineInfo, RuntimeParameter
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.pipeline import Pipeline
from tfx.types.artifact import Artifact, PropertyType
from tfx.types.channel import UnionChannel

from adclick.components.month_inputs import can_take_months, month_key
from adclick.pipeline.config.platform import DEFAULT_STEP, PlatformSettings, StepSettings
from adclick.pipeline.targets.compiled_job import CompiledJob, artifact_title
from adclick.pipeline.targets.platforms.platform import Platform
from adclick.pipeline.targets.step import Found, Interface
from adclick.schema.errors import ConfigError

#: Every step's environment. Keras 3 everywhere: TensorFlow Transform would choose Keras 2 when it is imported first.
STEP_ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "0"}

#: How often a step is tried again that failed; one that refused says at once what it said before.
RETRIES = 2
_RETRY_PAUSE = "30s"
#: Those that only judge what others have read, and the one that submits, which might submit twice.
_TRIED_ONCE = {"ExampleValidator", "DataGate", "ModelGate", "MonthlySubmission"}
#: Longer parameters are settings.
_LONG_PARAMETER = 200
_STEP_MODULE = "adclick.pipeline.targets.step"

#: What Argo allows as a task's name.
_STEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_PROPERTY_TYPES = {PropertyType.INT: "integer", PropertyType.FLOAT: "number", PropertyType.STRING: "string"}


def platform_name(name: str) -> str:
    """A pipeline name as both platforms allow it: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "adclick"


def compile_job(
    pipeline: Pipeline, settings: PlatformSettings, platform: Platform, *, parameters_folder: str
) -> CompiledJob:
    """Compiles a pipeline.

    Args:
        pipeline: The pipeline; it is changed, so compile it once.
        settings: The image, and what each step asks for and is given.
        platform: The platform; between them accelerators are named differently, and contents lie elsewhere.
        parameters_folder: Where the files of settings are to be.

    Raises:
        ConfigError: No image is configured; steps are given what the platform cannot give, or there is none of them;
            or a drop has a name that no step may have.
    """
    if not settings.image:
        raise ConfigError(
            "platform.image is not set", "Name the container image that holds adclick; see deploy/ for building it."
        )
    info = pipeline.pipeline_info
    pipeline.pipeline_info = PipelineInfo(platform_name(info.pipeline_name), info.pipeline_root)
    _check_names(pipeline)
    found = _find_months(pipeline)
    _split_unions(pipeline)
    kinds = _step_settings(pipeline, settings, platform)
    for node in pipeline.components:
        step = kinds[step_kind(node.id)]
        if isinstance(node, BaseComponent) and (step.cpu or step.memory_gb or step.gpus):
            node.with_platform_config(_resource_spec(step, step_kind(node.id), platform))
    parameters = _runtime_parameters(pipeline)
    config = KubeflowV2DagRunnerConfig(default_image=settings.image, use_pipeline_spec_2_1=True)
    with _schemas_with_properties():
        job = KubeflowV2DagRunner(config).run(
            pipeline, parameter_values={name: value.default for name, value in parameters.items()}, write_out=False
        )
    spec = job["pipelineSpec"]
    files: dict[str, str] = {}
    for name, task in spec["root"]["dag"]["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        settings_file = _settings_to_file(task, component, parameters_folder, files)
        interface = _interface(component, found.get(name, {}))
        _run_by_our_entry_point(container, interface, platform, kinds[step_kind(name)].environment, settings_file)
        if name in found:
            _forget_months(task)
    platform.adapt(spec)
    _share_components(spec)
    for name, task in spec["root"]["dag"]["tasks"].items():
        if step_kind(name) not in _TRIED_ONCE:
            task["retryPolicy"] = {"maxRetryCount": RETRIES, "backoffDuration": _RETRY_PAUSE, "backoffFactor": 2.0}
    for name, declared in spec["root"].get("inputDefinitions", {}).get("parameters", {}).items():
        declared["defaultValue"] = parameters[name].default
    of_executors = {
        spec["components"][task["componentRef"]["name"]]["executorLabel"]: kinds[step_kind(name)]
        for name, task in spec["root"]["dag"]["tasks"].items()
    }
    return CompiledJob(job, files, platform.beside(of_executors))


def _interface(component: Mapping[str, Any], found: Mapping[str, Found]) -> Interface:
    def titles(side: str) -> dict[str, str]:
        declared = component.get(side, {}).get("artifacts", {})
        return {key: artifact_title(value["artifactType"]) for key, value in declared.items()}

    parameters = component.get("inputDefinitions", {}).get("parameters", {})
    integers = tuple(name for name, declared in parameters.items() if declared["parameterType"] == "NUMBER_INTEGER")
    return Interface(titles("inputDefinitions"), titles("outputDefinitions"), integers, found)


def _run_by_our_entry_point(
    container: dict[str, Any],
    interface: Interface,
    platform: Platform,
    environment: Mapping[str, str],
    settings_file: str | None,
) -> None:
    """Replaces TFX's command by that of `pipeline.targets.step`."""
    given = dict(zip(container["args"][0:6:2], container["args"][1:6:2], strict=True))
    container["command"] = ["python", "-m", _STEP_MODULE]
    container["args"] = [
        *("--executor", given["--executor_class_path"]),
        *("--interface", interface.to_json()),
        *("--input", given["--json_serialized_invocation_args"]),
        *(["--settings", settings_file] if settings_file else []),
        *(["--contents-apart"] if platform.contents_apart else []),
        *container["args"][6:],
    ]
    variables = {**environment, **STEP_ENVIRONMENT}
    container["env"] = [{"name": name, "value": value} for name, value in sorted(variables.items())]


def _share_components(spec: dict[str, Any]) -> None:
    """Lets the steps that differ in their parameters alone, such as those of each month, share what defines them."""
    executors, components = spec["deploymentSpec"]["executors"], spec["components"]
    names: dict[str, str] = {}
    shared_components: dict[str, Any] = {}
    shared_executors: dict[str, Any] = {}
    for task_name, task in sorted(spec["root"]["dag"]["tasks"].items()):
        component = components[task["componentRef"]["name"]]
        executor = executors[component["executorLabel"]]
        content = json.dumps([{**component, "executorLabel": ""}, executor], sort_keys=True)
        if content not in names:
            kind = step_kind(task_name)
            alike = sum(name.partition("-")[0] == kind for name in names.values())
            names[content] = f"{kind}-{alike + 1}" if alike else kind
            label = f"{names[content]}_executor"
            shared_components[names[content]] = {**component, "executorLabel": label}
            shared_executors[label] = executor
        task["componentRef"]["name"] = names[content]
    spec["components"], spec["deploymentSpec"]["executors"] = shared_components, shared_executors


def _settings_to_file(
    task: dict[str, Any], component: dict[str, Any], folder: str, files: dict[str, str]
) -> str | None:
    """Takes the settings, which are JSON or long, out of a task's parameters; gives the file where they stand instead.

    The workflow that Argo must hold repeats a task's parameters; all steps of a kind share their executor's arguments.
    """
    parameters = task.get("inputs", {}).get("parameters", {})
    constants = {name: given.get("runtimeValue", {}).get("constant") for name, given in parameters.items()}
    settings = {
        name: value
        for name, value in sorted(constants.items())
        if isinstance(value, str) and (value.startswith(("{", "[")) or len(value) > _LONG_PARAMETER)
    }
    if not settings:
        return None
    for declared in (task["inputs"], component["inputDefinitions"]):
        left = {name: value for name, value in declared.pop("parameters").items() if name not in settings}
        if left:
            declared["parameters"] = left
    content = json.dumps(settings, sort_keys=True)
    address = posixpath.join(folder, f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.json")
    files[address] = content
    return address


def step_kind(node_id: str) -> str:
    """A node's name without its month: AdExampleGen-2026-10 is an AdExampleGen."""
    return node_id.partition("-")[0]


def _check_names(pipeline: Pipeline) -> None:
    for node in pipeline.components:
        if not _STEP_NAME.fullmatch(node.id):
            raise ConfigError(
                f"{node.id}: a step's name may hold letters, digits and hyphens only on a platform",
                "Name the drop's folder or file so, or give each month a folder YYYY-MM.",
            )


#: By step, its inputs of many months that it finds by what one step of the newest month has read.
_FOUND: Mapping[str, Mapping[str, Found]] = {
    "Transform": {
        "earlier_analysis": Found("drift", "earlier_statistics", "analysis", "adclick.FeatureAnalysis"),
    },
    "ClickTrainer": {
        "earlier_examples": Found("copies", "earlier_examples", "examples", "tfx.Examples"),
        "creatives": Found("copies", "earlier_examples", "creatives", "adclick.Creatives", also="examples"),
    },
}
#: By such an input, the step and the output.
_FINDERS = {"drift": ("DriftDetector", "drift"), "copies": ("CopyDetector", "copies")}


def _find_months(pipeline: Pipeline) -> dict[str, Mapping[str, Found]]:
    """Takes their inputs of many months from the steps that can find them; gives where each does.

    They would take room in the workflow for every month once more.
    """
    nodes = {node.id: node for node in pipeline.components}
    if "DriftDetector" not in nodes:  # a window of one month
        return {}
    steps = {name: found for name, found in _FOUND.items() if name in nodes}
    for name, inputs in steps.items():
        for key, found in inputs.items():
            del nodes[name].spec.inputs[key]
            step, output = _FINDERS[found.by]
            nodes[name].spec.inputs[found.by] = nodes[step].outputs[output]
    return steps


def _forget_months(task: dict[str, Any]) -> None:
    """Lets a task no longer wait for months that it is not handed; it waits for what has read them."""
    producers = {given["taskOutputArtifact"]["producerTask"] for given in task["inputs"]["artifacts"].values()}
    task["dependentTasks"] = [
        name
        for name in task["dependentTasks"]
        if name in producers or step_kind(name) not in ("AdExampleGen", "StatisticsGen")
    ]
    task["dependentTasks"] = sorted({*task["dependentTasks"], *producers})


def _split_unions(pipeline: Pipeline) -> None:
    for node in pipeline.components:
        for key, channel in list(node.inputs.items()):
            if not isinstance(channel, UnionChannel):
                continue
            executor = node.executor_spec.executor_class
            if not can_take_months(executor):
                raise TypeError(
                    f"{node.id}: {executor.__name__}.Do takes several months; decorate it with takes_months"
                )
            del node.spec.inputs[key]
            for number, part in enumerate(channel.channels):
                node.spec.inputs[month_key(key, number)] = part


def _step_settings(pipeline: Pipeline, settings: PlatformSettings, platform: Platform) -> dict[str, StepSettings]:
    """By kind of step, what holds for it; raises `ConfigError`."""
    known = {step_kind(node.id) for node in pipeline.components}
    unknown = sorted(set(settings.steps) - known - {DEFAULT_STEP})
    if unknown:
        raise ConfigError(
            f"platform.steps.{unknown[0]}: there is no such step",
            f"The steps are {', '.join(sorted(known))}; {DEFAULT_STEP} holds for all of them.",
        )
    check_steps(settings, platform)
    return {kind: settings.of_step(kind) for kind in known}


def check_steps(settings: PlatformSettings, platform: Platform) -> None:
    """Refuses what the platform cannot give a step.

    Raises:
        ConfigError: There is such a thing; it is named.
    """
    for kind, step in settings.steps.items():
        reserved = sorted({*step.environment, *(name for each in step.secrets for name in each.environment)})
        for name in reserved:
            if name in STEP_ENVIRONMENT:
                raise ConfigError(f"platform.steps.{kind}: {name} is set by adclick", "Leave the variable out.")
        platform.check_step(kind, step)
        try:
            settings.of_step(kind)
        except ValueError as error:
            problem = str(error).partition("Value error, ")[2].partition(" [")[0] or str(error)
            raise ConfigError(
                f"platform.steps.{kind}: {problem}, here and in {DEFAULT_STEP}", "Give it in one of them."
            ) from None


def _resource_spec(
    wanted: StepSettings, step: str, platform: Platform
) -> pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec:
    spec = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec(
        cpu_limit=wanted.cpu or 0, memory_limit=wanted.memory_gb or 0
    )
    if wanted.gpus:
        spec.accelerator.type = platform.gpu_type(step, wanted)
        spec.accelerator.count = wanted.gpus
    return spec


def _runtime_parameters(pipeline: Pipeline) -> dict[str, RuntimeParameter]:
    return {
        value.name: value
        for node in pipeline.components
        for value in node.exec_properties.values()
        if isinstance(value, RuntimeParameter)
    }


@contextmanager
def _schemas_with_properties() -> Iterator[None]:
    """Lets TFX's compiler give our artifact types a schema that has their properties.

    Its own schema of a type that is not TFX's has none, and it refuses types with properties. The title is the name by
    which the container's entry point imports the type; Vertex AI allows it one dot, see `adclick`.
    """
    given = compiler_utils.get_artifact_schema

    def schema(artifact_type: type[Artifact]) -> str | bytes:
        if not artifact_type.__module__.startswith("adclick."):
            return given(artifact_type)
        properties = {
            name: {"type": _PROPERTY_TYPES[value.type]} for name, value in (artifact_type.PROPERTIES or {}).items()
        }
        title = f"adclick.{artifact_type.__name__}"
        return str(yaml.safe_dump({"title": title, "type": "object", "properties": properties}, sort_keys=False))

    compiler_utils.get_artifact_schema = schema
    try:
        yield
    finally:
        compiler_utils.get_artifact_schema = given
