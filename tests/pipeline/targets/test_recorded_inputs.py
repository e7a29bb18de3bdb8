"""Executor inputs as Kubeflow's driver wrote them in a run of the sample project, which `.ci/cluster` repeats.

It writes such a record (`tests/cluster/README.md`): addresses shortened, properties that our components add left out,
and what steps find their inputs by. In the run of `kubeflow-2.17.0.json` our artifact types had other names, and steps
were handed the window's months one by one; the names, and nothing else, were changed since.
"""

from __future__ import annotations

import json
import posixpath
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tfx.dsl.components.base import base_executor

from adclick.pipeline.runs.step_files import INPUTS
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
    for address, content in recorded.get("files", {}).items():
        Path(address).parent.mkdir(parents=True)
        Path(address).write_text(json.dumps(content))

    step.run(
        [
            *("--executor", f"{NotingExecutor.__module__}.{NotingExecutor.__name__}"),
            *("--interface", json.dumps(interface), "--input", json.dumps(given), "--contents-apart"),
        ]
    )

    taken = NotingExecutor.given
    expected = _expected_inputs(recorded)
    assert {key: type(artifact).__name__ for key, (artifact,) in taken["inputs"].items()} == {
        key: title.rpartition(".")[2] for key, (title, _) in expected.items()
    }
    for key, (_, artifact) in expected.items():
        assert taken["inputs"][key][0].uri == artifact["uri"]
        if "span" in artifact.get("metadata", {}):
            assert taken["inputs"][key][0].span == artifact["metadata"]["span"]
    assert {key: type(artifact).__name__ for key, (artifact,) in taken["outputs"].items()} == {
        key: title.rpartition(".")[2] for key, title in interface["outputs"].items()
    }
    for key, (artifact,) in taken["outputs"].items():
        assert artifact.uri == content_address(given["outputs"]["artifacts"][key]["artifacts"][0]["uri"])
    assert taken["parameters"] == parameters
    assert all(type(taken["parameters"][key]) is int for key in interface["integers"])
    written = json.loads(output_file.read_text())
    assert {key: each["artifacts"][0]["uri"] for key, each in written.get("artifacts", {}).items()} == {
        key: given["outputs"]["artifacts"][key]["artifacts"][0]["uri"] for key in interface["outputs"]
    }


def _expected_inputs(recorded: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """By input that the executor is to be given, the title of its type, and the artifact with its content's address."""
    interface, artifacts = recorded["interface"], recorded["input"]["inputs"].get("artifacts", {})
    inputs = {}
    for key, title in interface["inputs"].items():
        (artifact,) = artifacts[key]["artifacts"]
        inputs[key] = (title, {**artifact, "uri": content_address(artifact["uri"])})
    finders = {found["by"] for found in interface.get("found", {}).values()}
    for key, found in interface.get("found", {}).items():
        file = f"{posixpath.dirname(inputs[found['by']][1]['uri'])}/{INPUTS}"
        read = recorded["files"][file]
        months = [read[name]["artifacts"][0] for name in sorted(read) if name.partition("__")[0] == found["read_as"]]
        months += [inputs[found["also"]][1]] if found["also"] else []
        assert months
        for number, month in enumerate(months):
            beside = {**month, "uri": f"{posixpath.dirname(month['uri'])}/{found['output']}"}
            inputs[f"{key}__{number}"] = (found["title"], beside)
    return {key: expected for key, expected in inputs.items() if key not in finders}
