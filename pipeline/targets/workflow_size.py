"""How large the Argo workflow becomes that Kubeflow makes of a pipeline spec; Argo refuses one of over a megabyte.

Argo's controller measures the whole workflow as JSON, its status included, in which what the nodes took and gave stands
compressed (`workflow/packer` of Argo Workflows 4.0). Kubeflow's compiler (`argocompiler` of Kubeflow Pipelines 2.17)
writes each component, executor and the DAG once as parameters of the workflow, and of each task two more tasks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

_TEMPLATES = 14_000
_PARAMETER = 110
_DRIVER, _EXECUTOR, _RETRY, _DEPENDENCY = 440, 330, 145, 14
#: What a task's nodes add to the compressed status: estimated, somewhat more than for 60 months of the sample data.
NODES, _REUSED_NODES = 1_450, 300


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
