"""Compiles the pipeline to what Vertex AI Pipelines and Kubeflow Pipelines run: pipeline spec, schema version 2.1.

TFX's compiler does the work. It knows no union of channels, and no properties of artifact types but its own: both are
put into a form here that it takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.data_types import PipelineInfo, RuntimeParameter
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.pipeline import Pipeline
from tfx.types.artifact import Artifact, PropertyType
from tfx.types.channel import UnionChannel

from components.month_inputs import can_take_months, month_key
from pipeline.platform.settings import PlatformSettings, StepResources, Target
from schema.errors import ConfigError

#: Every step's environment. Keras 3 everywhere: TensorFlow Transform would choose Keras 2 when it is imported first.
STEP_ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "0"}

#: In `platform.steps`, what holds for the steps not named.
DEFAULT_STEP = "default"

#: What Argo allows as a task's name.
_STEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_KUBERNETES_GPU = "nvidia.com/gpu"
_PROPERTY_TYPES = {PropertyType.INT: "integer", PropertyType.FLOAT: "number", PropertyType.STRING: "string"}


def platform_name(name: str) -> str:
    """A pipeline name as both platforms allow it: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "adclick"


def compile_job(pipeline: Pipeline, settings: PlatformSettings, target: Target) -> dict[str, Any]:
    """Compiles a pipeline.

    Args:
        pipeline: The pipeline; it is changed, so compile it once.
        settings: The image, and the resources of each step.
        target: The platform. Only accelerators are named differently between them.

    Returns:
        A PipelineJob as JSON values: what Vertex AI takes. Its `pipelineSpec` is what Kubeflow takes.

    Raises:
        ConfigError: No image is configured, resources are set wrongly or for a step that there is none of, or a drop
            has a name that no step may have.
    """
    if not settings.image:
        raise ConfigError(
            "platform.image is not set", "Name the container image that holds adclick; see deploy/ for building it."
        )
    info = pipeline.pipeline_info
    pipeline.pipeline_info = PipelineInfo(platform_name(info.pipeline_name), info.pipeline_root)
    _check_names(pipeline)
    _split_unions(pipeline)
    _set_resources(pipeline, settings, target)
    parameters = _runtime_parameters(pipeline)
    config = KubeflowV2DagRunnerConfig(default_image=settings.image, use_pipeline_spec_2_1=True)
    with _schemas_with_properties():
        job = KubeflowV2DagRunner(config).run(
            pipeline, parameter_values={name: value.default for name, value in parameters.items()}, write_out=False
        )
    spec = job["pipelineSpec"]
    for executor in spec["deploymentSpec"]["executors"].values():
        executor["container"]["env"] = [{"name": name, "value": value} for name, value in STEP_ENVIRONMENT.items()]
    for name, declared in spec["root"].get("inputDefinitions", {}).get("parameters", {}).items():
        declared["defaultValue"] = parameters[name].default
    return job


def as_json(job: dict[str, Any]) -> str:
    """The file that Vertex AI takes."""
    return json.dumps(job, indent=1, sort_keys=True) + "\n"


def as_yaml(job: dict[str, Any]) -> str:
    """The file that Kubeflow takes: the pipeline spec alone, which carries no pipeline root of its own."""
    spec = {**job["pipelineSpec"], "defaultPipelineRoot": job["runtimeConfig"]["gcsOutputDirectory"]}
    return str(yaml.safe_dump(spec, sort_keys=True))


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


def _set_resources(pipeline: Pipeline, settings: PlatformSettings, target: Target) -> None:
    nodes: list[BaseNode] = pipeline.components
    known = {step_kind(node.id) for node in nodes}
    unknown = sorted(set(settings.steps) - known - {DEFAULT_STEP})
    if unknown:
        raise ConfigError(
            f"platform.steps.{unknown[0]}: there is no such step",
            f"The steps are {', '.join(sorted(known))}; {DEFAULT_STEP} holds for all others.",
        )
    for node in nodes:
        wanted = settings.steps.get(step_kind(node.id), settings.steps.get(DEFAULT_STEP))
        if wanted is not None and isinstance(node, BaseComponent):
            node.with_platform_config(_resource_spec(wanted, step_kind(node.id), target))


def _resource_spec(
    wanted: StepResources, step: str, target: Target
) -> pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec:
    spec = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec(
        cpu_limit=wanted.cpu or 0, memory_limit=wanted.memory_gb or 0
    )
    if wanted.gpus:
        if target == "vertex" and not wanted.gpu_type:
            raise ConfigError(
                f"platform.steps.{step}: gpus without gpu_type",
                "Vertex AI must know which: set gpu_type, such as NVIDIA_TESLA_T4.",
            )
        if target == "kubeflow" and wanted.gpu_type and "/" not in wanted.gpu_type:
            raise ConfigError(
                f"platform.steps.{step}: gpu_type {wanted.gpu_type} is no resource of Kubernetes",
                f"Kubeflow asks for a GPU as {_KUBERNETES_GPU}, which is the default.",
            )
        spec.accelerator.type = wanted.gpu_type or _KUBERNETES_GPU
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
    which the container's entry point imports the type; Vertex AI allows it one dot, see `components`.
    """
    given = compiler_utils.get_artifact_schema

    def schema(artifact_type: type[Artifact]) -> str | bytes:
        if not artifact_type.__module__.startswith("components."):
            return given(artifact_type)
        properties = {
            name: {"type": _PROPERTY_TYPES[value.type]} for name, value in (artifact_type.PROPERTIES or {}).items()
        }
        title = f"components.{artifact_type.__name__}"
        return str(yaml.safe_dump({"title": title, "type": "object", "properties": properties}, sort_keys=False))

    compiler_utils.get_artifact_schema = schema
    try:
        yield
    finally:
        compiler_utils.get_artifact_schema = given
