"""What a step that refused left behind is what is said of the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tfx.dsl.components.base import base_executor

from adclick.pipeline.runs.platform_refusals import with_refusal
from adclick.pipeline.runs.record import RunRecord
from adclick.pipeline.targets import step
from adclick.pipeline.targets.recorder import submitted_record
from adclick.pipeline.targets.step import Interface
from adclick.schema.errors import DataRefused
from tests.pipeline.targets.projects import sample_config, window_of

RUN = "5d3f0e9a-run"


class RefusingGate(base_executor.BaseExecutor):
    """A gate, which has no outputs, that refuses."""

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        raise DataRefused("2026-10: 3 anomalies\n  clicked: out of range", "Correct the drop.")


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    config = sample_config(output=str(tmp_path))
    return submitted_record(config, window_of("2026-10")).model_copy(update={"platform": f"projects/p/jobs/{RUN}"})


def refuse(folder: Path, outputs: dict[str, Any], output_file: str) -> None:
    executor_input = {"inputs": {}, "outputs": {"artifacts": outputs, "outputFile": output_file}}
    arguments = ["--executor", f"{__name__}.RefusingGate", "--interface", Interface({}, {}).to_json()]
    with pytest.raises(DataRefused):
        step.run([*arguments, "--input", json.dumps(executor_input), "--contents-apart"])


def test_a_run_that_goes_on_is_running(record: RunRecord) -> None:
    assert with_refusal(record) == record


def test_a_gates_refusal_is_the_runs_where_the_platform_gives_the_gate_a_folder(
    record: RunRecord, tmp_path: Path
) -> None:
    logs = tmp_path / "pipeline_root" / "adclick" / RUN / "DataGate-2026-10" / "17" / "executor-logs"
    log_artifact = {"type": {"schemaTitle": "system.Artifact"}, "uri": str(logs), "metadata": {}}
    refuse(tmp_path, {"executor-logs": {"artifacts": [log_artifact]}}, "/tmp/kfp/outputs/output.json")

    found = with_refusal(record)
    assert (found.state, found.reasons) == ("data_refused", ["2026-10: 3 anomalies", "  clicked: out of range"])
    # Another run's is not.
    other = record.model_copy(update={"platform": "other"})
    assert with_refusal(other).state == "running"


def test_what_ended_otherwise_stays(record: RunRecord, tmp_path: Path) -> None:
    pushed = record.model_copy(update={"state": "pushed"})
    local = record.model_copy(update={"platform": None})
    assert with_refusal(pushed).state == "pushed"
    assert with_refusal(local).state == "running"
