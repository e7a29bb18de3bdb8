"""What Kubeflow gives a step's pod beside the pipeline spec: the platform spec, the second document of a compiled file.

Its form is `KubernetesExecutorConfig` of Kubeflow's `kubernetes_platform`, as JSON. Where that has two fields for a
thing, the older is written, which old and new servers read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adclick.pipeline.config.platform import StepSettings


def platform_spec(executors: Mapping[str, StepSettings]) -> dict[str, Any]:
    """A `PlatformSpec`; empty where no pod gets anything.

    Args:
        executors: By executor of the pipeline spec, what its steps are given.
    """
    configs = {label: config for label, step in sorted(executors.items()) if (config := _executor_config(step))}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": configs}}}} if configs else {}


def _executor_config(step: StepSettings) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "secretAsEnv": [
            {
                "secretName": secret.name,
                "keyToEnv": [{"secretKey": key, "envVar": name} for name, key in secret.environment.items()],
            }
            for secret in step.secrets
            if secret.environment
        ],
        "secretAsVolume": [
            {"secretName": secret.name, "mountPath": secret.mount} for secret in step.secrets if secret.mount
        ],
        "pvcMount": [{"constant": volume.claim, "mountPath": volume.mount} for volume in step.volumes if volume.claim],
        "configMapAsVolume": [
            {"configMapName": volume.config_map, "mountPath": volume.mount}
            for volume in step.volumes
            if volume.config_map
        ],
        "podMetadata": {"labels": step.labels} if step.labels else {},
        "nodeSelector": {"labels": step.node_selector} if step.node_selector else {},
        "tolerations": [
            {name: value for name, value in toleration.model_dump().items() if value} for toleration in step.tolerations
        ],
    }
    return {name: part for name, part in parts.items() if part}
