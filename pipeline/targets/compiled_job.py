"""A compiled pipeline, and how it is written to a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass(frozen=True)
class CompiledJob:
    """A compiled pipeline.

    Attributes:
        job: A PipelineJob as JSON values: what Vertex AI takes. Its `pipelineSpec` is what Kubeflow takes.
        files: By address, the content of the files that the steps read their settings from.
        platform_spec: What Kubeflow takes beside the pipeline spec; empty where there is nothing to say.
    """

    job: dict[str, Any]
    files: Mapping[str, str]
    platform_spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return len(self.job["pipelineSpec"]["root"]["dag"]["tasks"])


def as_json(job: dict[str, Any]) -> str:
    """The file that Vertex AI takes."""
    return json.dumps(job, indent=1, sort_keys=True) + "\n"


def as_yaml(job: dict[str, Any], platform_spec: Mapping[str, Any]) -> str:
    """The file that Kubeflow takes: the pipeline spec, without a pipeline root of its own, and what goes beside it."""
    spec = {**job["pipelineSpec"], "defaultPipelineRoot": job["runtimeConfig"]["gcsOutputDirectory"]}
    documents = [spec, dict(platform_spec)] if platform_spec else [spec]
    return str(yaml.safe_dump_all(documents, sort_keys=True))


def artifact_title(artifact_type: Mapping[str, str]) -> str:
    """The name of an artifact type in a pipeline spec."""
    schema = yaml.safe_load(artifact_type["instanceSchema"]) if "instanceSchema" in artifact_type else {}
    return str(schema.get("title") or artifact_type["schemaTitle"])
