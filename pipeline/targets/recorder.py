"""RunRecorder: writes the record of a run on a platform, the same that a local run leaves.

By it `adclick status`, `report` and `monitor` know the run and the version that it pushed.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from adclick.components.artifacts import Copies, Creatives, Drift, Quarantine
from adclick.components.code_version import code_version
from adclick.components.month_inputs import join_months
from adclick.pipeline.config.settings import Config
from adclick.pipeline.drops import Drop, gaps
from adclick.pipeline.runs.outcome import fill_record, find_held
from adclick.pipeline.runs.record import MonthRecord, RunRecord, find_record, write_record
from adclick.pipeline.runs.record_store import RUN_ID
from adclick.pipeline.targets.step import inputs_of
from adclick.pipeline.targets.window import Window
from adclick.storage import filesystem
from adclick.storage.model_versions import ModelVersions

#: By input, the step whose output it is, the output's name, and its type.
_INPUTS = {
    "drift": ("DriftDetector", "drift", Drift),
    "copies": ("CopyDetector", "copies", Copies),
    "transform_graph": ("Transform", "transform_graph", standard_artifacts.TransformGraph),
    "model": ("ClickTrainer", "model", standard_artifacts.Model),
    "baseline_model": ("BaselineModel", "model", standard_artifacts.Model),
    "evaluation": ("Evaluator", "evaluation", standard_artifacts.ModelEvaluation),
    "infra_blessing": ("ServingValidator", "blessing", standard_artifacts.InfraBlessing),
    "pushed_model": ("ModelPusher", "pushed_model", standard_artifacts.PushedModel),
}


class RunRecorderSpec(ComponentSpec):  # type: ignore[misc]
    """Inputs and the parameter of RunRecorder; it has no outputs."""

    PARAMETERS = {"record": ExecutionParameter(type=str)}
    INPUTS = {name: ChannelParameter(type=kind, optional=True) for name, (_, _, kind) in _INPUTS.items()}
    OUTPUTS: dict[str, ChannelParameter] = {}


class RunRecorderExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Writes the record of a run that came as far as its push, be it pushed, held or refused."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        record = RunRecord.model_validate_json(exec_properties["record"])
        config = Config.model_validate(record.config)
        submitted = find_record(config.output, record.run_id)
        record.platform = submitted.platform if submitted else ""
        record.code_version = code_version()
        drops = [Drop(month.name, 0, month.uri, month.fingerprint, month.version) for month in record.window]
        outputs = {f"{step}.{key}": input_dict.get(name, []) for name, (step, key, _) in _INPUTS.items()}
        outputs["ClickTrainer.model_run"] = [_beside(outputs["ClickTrainer.model"][0], standard_artifacts.ModelRun)]
        outputs |= _outputs_of_months(drops, outputs["Transform.transform_graph"][0], outputs["ClickTrainer.model"][0])
        record.state = "model_refused"
        fill_record(record, {name: artifacts for name, artifacts in outputs.items() if artifacts}, drops)
        if record.pushed_version is not None:
            find_held(record, ModelVersions(config.push_base))
        record.finished = datetime.now(UTC)
        record.run_id = _free_id(config.output, record)
        write_record(config.output, record)
        logging.getLogger("adclick").info(
            "run %s: %s%s",
            record.run_id,
            record.state,
            "" if record.pushed_version is None else f", version {record.pushed_version}",
        )


def _outputs_of_months(
    drops: Sequence[Drop], transform_graph: types.Artifact, model: types.Artifact
) -> dict[str, list[types.Artifact]]:
    """What ingestion and statistics made of each month, found by what Transform and ClickTrainer had read."""
    described = _inputs_of(transform_graph)
    trained = _inputs_of(model)
    analyses = [*described.get("earlier_analysis", []), *described["analysis"]]
    examples = [*trained.get("earlier_examples", []), *trained["examples"]]
    outputs = {}
    for drop, analysis, ingested in zip(drops, analyses, examples, strict=True):
        outputs[f"StatisticsGen-{drop.name}.analysis"] = [analysis]
        outputs[f"StatisticsGen-{drop.name}.statistics"] = [_beside(analysis, standard_artifacts.ExampleStatistics)]
        outputs[f"AdExampleGen-{drop.name}.examples"] = [ingested]
        outputs[f"AdExampleGen-{drop.name}.quarantine"] = [_beside(ingested, Quarantine)]
        outputs[f"AdExampleGen-{drop.name}.creatives"] = [_beside(ingested, Creatives)]
    return outputs


def _inputs_of(artifact: types.Artifact) -> dict[str, list[types.Artifact]]:
    """What the step had read that made an artifact."""
    parsed = json_format.ParseDict({"artifacts": inputs_of(artifact.uri)}, pipeline_spec_pb2.ExecutorInput.Inputs())
    return join_months(kubeflow_v2_entrypoint_utils.parse_raw_artifact_dict(parsed.artifacts, {}))


#: How each output is called that is found beside another of its step.
_NAMES = {
    standard_artifacts.ExampleStatistics: "statistics",
    standard_artifacts.ModelRun: "model_run",
    Quarantine: "quarantine",
    Creatives: "creatives",
}


def _beside(artifact: types.Artifact, kind: type[types.Artifact]) -> types.Artifact:
    """Another output of the step that made an artifact: all of a step's lie in one folder, by their names."""
    other = kind()
    other.uri = filesystem.join(posixpath.dirname(artifact.uri), _NAMES[kind])
    return other


def _free_id(output: str, record: RunRecord) -> str:
    """The run's id, or another where a run of that id, whose artifacts are gone, pushed another version."""
    candidates = [record.run_id, *(f"{record.run_id}-{number}" for number in range(2, 100))]
    return next(
        run_id
        for run_id in candidates
        if (earlier := find_record(output, run_id)) is None or earlier.pushed_version in (None, record.pushed_version)
    )


class RunRecorder(base_component.BaseComponent):  # type: ignore[misc]
    """Writes a run's record to the bucket."""

    SPEC_CLASS = RunRecorderSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RunRecorderExecutor)

    def __init__(self, *, record: str, inputs: Mapping[str, types.BaseChannel]) -> None:
        """Declares the component.

        Args:
            record: What is known of the run at its submission, a RunRecord as JSON.
            inputs: What came of the run's steps.
        """
        super().__init__(spec=RunRecorderSpec(record=record, **inputs))


def submitted_record(config: Config, window: Window) -> RunRecord:
    """What is known of a run at its submission; nothing of it depends on where it is submitted from."""
    without_platform = config.model_dump(mode="json", exclude={"platform"})
    return RunRecord(
        run_id=window.run_id,
        input_key=window.key,
        config={**without_platform, "schema_file": window.schema_file},
        baseline=window.baseline,
        started=datetime.strptime(window.run_id.partition("-")[0], RUN_ID).replace(tzinfo=UTC),
        window=[
            MonthRecord(
                name=drop.name, uri=drop.uri, fingerprint=drop.fingerprint, version=drop.version, gate_key=window.key
            )
            for drop in window.drops
        ],
        missing_months=gaps(window.drops),
        unread=window.passed_over.unread,
        litter=window.passed_over.litter,
    )


def make_recorder(record: RunRecord, nodes: Mapping[str, BaseComponent]) -> RunRecorder:
    """Makes the RunRecorder of a pipeline.

    Args:
        record: What is known of the run.
        nodes: The pipeline's other nodes by id.
    """
    inputs = {name: nodes[step].outputs[key] for name, (step, key, _) in _INPUTS.items() if step in nodes}
    return RunRecorder(record=record.model_dump_json(), inputs=inputs)
