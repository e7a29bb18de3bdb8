"""Kubeflow Pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adclick.pipeline.config.platform import PlatformSettings, StepSettings
from adclick.pipeline.config.settings import Config
from adclick.pipeline.targets.compiled_job import CompiledJob, artifact_title, as_yaml
from adclick.pipeline.targets.platforms.kubeflow_pods import platform_spec
from adclick.pipeline.targets.platforms.platform import Platform
from adclick.pipeline.targets.schedule import Schedule
from adclick.schema.errors import ConfigError

if TYPE_CHECKING:
    from adclick.pipeline.targets.window import Window

_GPU = "nvidia.com/gpu"


class Kubeflow(Platform):
    """Its launcher copies into each pod what it sees of the step's inputs."""

    name = "kubeflow"
    file_endings = (".yaml", ".yml")
    contents_apart = True

    def check_schedule(self, schedule: Schedule) -> None:
        if schedule.time_zone:
            raise ConfigError(
                "--time-zone: Kubeflow has one time zone for all schedules",
                "It is its API server's CRON_SCHEDULE_TIMEZONE, UTC by default; leave the option out.",
            )
        super().check_schedule(schedule)

    def gpu_type(self, kind: str, step: StepSettings) -> str:
        if step.gpu_type and "/" not in step.gpu_type:
            raise ConfigError(
                f"platform.steps.{kind}: gpu_type {step.gpu_type} is no resource of Kubernetes",
                f"Kubeflow asks for a GPU as {_GPU}, which is the default.",
            )
        return step.gpu_type or _GPU

    def adapt(self, spec: dict[str, Any]) -> None:
        # Kubeflow goes by the types of outputs: those of inputs keep their names alone.
        for component in spec["components"].values():
            for declared in component.get("inputDefinitions", {}).get("artifacts", {}).values():
                declared["artifactType"] = {"instanceSchema": f"title: {artifact_title(declared['artifactType'])}"}

    def beside(self, executors: Mapping[str, StepSettings]) -> dict[str, Any]:
        return platform_spec(executors)

    def check_run(self, compiled: CompiledJob, config: Config, window: Window) -> None:
        from adclick.pipeline.targets.platforms.workflow_size import check_workflow

        check_workflow(compiled, config, window)

    def inside(self, settings: PlatformSettings) -> PlatformSettings:
        kubeflow = settings.kubeflow.model_copy(update={"host": settings.kubeflow.cluster_host})
        return settings.model_copy(update={"kubeflow": kubeflow})

    def file_text(self, compiled: CompiledJob) -> str:
        return as_yaml(compiled.job, compiled.platform_spec)

    def submit(self, compiled: CompiledJob, settings: PlatformSettings, display_name: str) -> str:
        from adclick.pipeline.targets.platforms import kubeflow_api

        return kubeflow_api.submit(compiled.job, settings.kubeflow, display_name, compiled.platform_spec)

    def create_schedule(self, compiled: CompiledJob, settings: PlatformSettings, schedule: Schedule) -> str:
        from adclick.pipeline.targets.platforms import kubeflow_api

        return kubeflow_api.create_schedule(compiled.job, settings.kubeflow, schedule, compiled.platform_spec)
