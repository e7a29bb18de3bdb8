"""Executor inputs as Kubeflow's driver wrote them in a run of the sample project, which `.ci/cluster` repeats.

Addresses are shortened, and properties that our components added are left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tfx.dsl.components.base import base_executor

from adclick.pipeline.targets import step
from adclick.pipeline.targets.step import content_address

RECORDS = sorted((Path(__file__).parent / "executor_inputs").glob("*.json"))
RECORDED = [
    pytest.param(record, name, id=f"{record.stem}-{name}")
    for record in RECORDS
    for name in sorted(json.loads(record.read_text()))
]


class NotingExecutor(base_executor.BaseExecutor):
    """Notes what it was given."""

    given: ClassVar[dict[str, Any]] = {}

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        type(self).given = {"inputs": input_dict, "outputs": output_dict, "parameters": exec_properties}


@pytest.mark.parametrize(("record", "name"), RECORDED)
def test_a_step_takes_what_kubeflow_wrote(tmp_path: Path, record: Path, name: str) -> None:
    text = record.read_text().replace("@BUCKET@", f"{tmp_path}/bucket").replace("@LOCAL@", f"{tmp_path}/pod")
    recorded = json.loads(text)[name]
    given, interface = recorded["input"], recorded["interface"]
    parameters = given["inputs"].get("parameterValues", {})
    output_file = Path(given["outputs"]["outputFile"])
    output_file.parent.mkdir(parents=True)

    step.run(
        [
            *("--executor", f"{NotingExecutor.__module__}.{NotingExecutor.__name__}"),
            *("--interface", json.dumps(interface), "--input", json.dumps(given), "--contents-apart"),
        ]
    )

    taken = NotingExecutor.given
    for side in ("inputs", "outputs"):
        assert {key: type(artifacts[0]).__name__ for key, artifacts in taken[side].items()} == {
            key: title.rpartition(".")[2] for key, title in interface[side].items()
        }
        for key, (artifact,) in taken[side].items():
            (recorded_artifact,) = given[side]["artifacts"][key]["artifacts"]
            assert artifact.uri == content_address(recorded_artifact["uri"])
            if "span" in recorded_artifact.get("metadata", {}):
                assert artifact.span == recorded_artifact["metadata"]["span"]
    assert taken["parameters"] == parameters
    assert all(type(taken["parameters"][key]) is int for key in interface["integers"])
    written = json.loads(output_file.read_text())
    assert {key: each["artifacts"][0]["uri"] for key, each in written.get("artifacts", {}).items()} == {
        key: given["outputs"]["artifacts"][key]["artifacts"][0]["uri"] for key in interface["outputs"]
    }
