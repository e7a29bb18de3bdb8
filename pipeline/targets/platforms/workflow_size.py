"""How large the Argo workflow becomes that Kubeflow makes of a pipeline spec; Argo refuses one of over a megabyte.

Argo's controller measures the whole workflow as JSON, its status included, in which what the nodes took and gave stands
compressed (`workflow/packer` of Argo Workflows 4.0). Kubeflow's compiler (`argocompiler` of Kubeflow Pipelines 2.17)
writes each component, executor and the DAG once as parameters of the workflow, and of each task two more tasks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from adclick.pipeline.config.settings import Config
from adclick.pipeline.runs.record import read_records
from adclick.pipeline.targets.compiled_job import CompiledJob
from adclick.pipeline.targets.window import Window
from adclick.schema.errors import ConfigError

#: What of the config decides how a month is read.
_DECIDES_MONTHS = ("features", "csv", "ingestion", "split")
_TEMPLATES = 14_000
_PARAMETER = 110
_DRIVER, _EXECUTOR, _RETRY, _DEPENDENCY = 440, 330, 145, 14
#: What a task's nodes add to the compressed status: estimated, somewhat more than for 60 months of the sample data.
NODES, _REUSED_NODES = 1_450, 300


def check_workflow(compiled: CompiledJob, config: Config, window: Window) -> None:
    """Refuses a window of which Kubeflow makes a workflow that Argo refuses, while it runs.

    Raises:
        ConfigError: It is too long; how much of it fits is said.
    """
    spec = compiled.job["pipelineSpec"]
    limit = config.platform.kubeflow.max_workflow_bytes
    needed = workflow_bytes(spec, compiled.platform_spec)
    if needed > limit and config.platform.caching:
        known = _months_made(config)
        months = {drop.name for drop in window.drops if (drop.name, drop.uri, drop.fingerprint) in known}
        reused = {name for name in spec["root"]["dag"]["tasks"] if name.partition("-")[2] in months}
        needed = workflow_bytes(spec, compiled.platform_spec, reused)
    if needed > limit:
        count = len(window.drops)
        raise ConfigError(
            f"a window of {count} months is too long for Kubeflow: its Argo workflow would take some {needed:,} bytes, "
            f"and {limit:,} are allowed",
            f"Some {count * limit // needed} months fit. Months that an earlier run has read take less room: run a "
            "shorter window first, then this one. Or raise MAX_WORKFLOW_SIZE of the cluster's workflow-controller, up "
            "to the 1.5 million bytes that etcd takes, and platform.kubeflow.max_workflow_bytes with it.",
        )


def _months_made(config: Config) -> set[tuple[str, str, str]]:
    """Name, address and fingerprint of the months whose steps a platform reuses: earlier runs have read them alike."""
    own = config.model_dump(mode="json", include=set(_DECIDES_MONTHS))
    return {
        (month.name, month.uri, month.fingerprint)
        for record in read_records(config.output)
        if record.platform is not None and record.finished is not None
        if all(record.config.get(key) == own[key] for key in _DECIDES_MONTHS)
        for month in record.window
    }


def workflow_bytes(spec: Mapping[str, Any], platform_spec: Mapping[str, Any], reused: Collection[str] = ()) -> int:
    """Estimates the size of a workflow that has run to its end.

    Args:
        spec: The pipeline spec.
        platform_spec: What goes beside it.
        reused: The tasks whose earlier outputs will be taken; their nodes hold no pod.
    """
    executors = [each["container"] for each in spec["deploymentSpec"]["executors"].values()]
    configs = platform_spec.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    documents = [*spec["components"].values(), *executors, *configs.values(), spec["root"]]
    total = _TEMPLATES + sum(_escaped(document) + _PARAMETER for document in documents)
    for name, task in spec["root"]["dag"]["tasks"].items():
        total += _DRIVER + 3 * len(name) + _escaped(task) + (_PARAMETER if configs else 0)
        total += _EXECUTOR + 5 * len(name) + (_RETRY if "retryPolicy" in task else 0)
        total += sum(len(upstream) + _DEPENDENCY for upstream in task.get("dependentTasks", []))
        total += _REUSED_NODES if name in reused else NODES
    return total


def _escaped(document: Any) -> int:
    """The length of a document as JSON within JSON."""
    return len(json.dumps(json.dumps(document, separators=(",", ":")), ensure_ascii=False))
