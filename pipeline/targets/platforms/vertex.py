"""Vertex AI Pipelines."""

from __future__ import annotations

from adclick.pipeline.config.platform import PlatformSettings, StepSettings
from adclick.pipeline.config.settings import Config
from adclick.pipeline.targets.compiled_job import CompiledJob, as_json
from adclick.pipeline.targets.platforms.platform import Platform
from adclick.pipeline.targets.schedule import Schedule
from adclick.schema.errors import ConfigError
from adclick.storage.bucket import is_s3_address

#: Of a step's settings, those that say something of a pod.
_OF_PODS = ("secrets", "volumes", "labels", "node_selector", "tolerations")


class Vertex(Platform):
    """Copies no inputs, and shows contents where the artifacts are."""

    name = "vertex"
    file_endings = (".json",)
    contents_apart = False

    def check_addresses(self, config: Config) -> None:
        if is_s3_address(config.artifacts):
            raise ConfigError(
                f"pipeline_root: {config.artifacts}: Vertex AI keeps artifacts in gs:// only",
                "Give a bucket of Google's.",
            )

    def check_step(self, kind: str, step: StepSettings) -> None:
        refused = [name for name in _OF_PODS if getattr(step, name)]
        if refused:
            raise ConfigError(
                f"platform.steps.{kind}: Vertex AI gives its steps no {', '.join(refused)}",
                "It takes environment, cpu, memory_gb, gpus and gpu_type of a step. Credentials come from "
                "platform.vertex.service_account, secrets from Secret Manager, labels of the whole job from "
                "platform.vertex.labels.",
            )

    def gpu_type(self, kind: str, step: StepSettings) -> str:
        if not step.gpu_type:
            raise ConfigError(
                f"platform.steps.{kind}: gpus without gpu_type",
                "Vertex AI must know which: set gpu_type, such as NVIDIA_TESLA_T4.",
            )
        return step.gpu_type

    def file_text(self, compiled: CompiledJob) -> str:
        return as_json(compiled.job)

    def submit(self, compiled: CompiledJob, settings: PlatformSettings, display_name: str) -> str:
        from adclick.pipeline.targets.platforms import vertex_api

        return vertex_api.submit(compiled.job, settings.vertex, display_name)

    def create_schedule(self, compiled: CompiledJob, settings: PlatformSettings, schedule: Schedule) -> str:
        from adclick.pipeline.targets.platforms import vertex_api

        return vertex_api.create_schedule(compiled.job, settings.vertex, schedule)
