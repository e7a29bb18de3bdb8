"""The DataGate component."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact as tfx_artifact
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import io_utils

from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.components.artifacts import Copies, Drift
from adclick.components.copy_detector.component import read_copies
from adclick.components.data_gate.limits import IngestionCounts, refusals
from adclick.components.drift_detector.component import DRIFT_FILE
from adclick.components.drift_detector.distances import read_drift
from adclick.schema.errors import DataRefused

ANOMALIES_FILE = "SchemaDiff.pb"


class DataBlessing(tfx_artifact.Artifact):
    """Says that a month is fit to train on."""

    TYPE_NAME = "AdclickDataBlessing"


def describe_anomalies(anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """Anomalies of one split, a line each."""
    lines = [
        f"{name}: {info.description or info.short_description}" for name, info in sorted(anomalies.anomaly_info.items())
    ]
    if anomalies.HasField("dataset_anomaly_info"):
        lines.append(f"data set: {anomalies.dataset_anomaly_info.description}")
    return lines


class DataGateSpec(ComponentSpec):
    """Inputs, outputs and parameters of DataGate."""

    PARAMETERS = {
        "month": ExecutionParameter(type=str),
        "limits": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies),
        "drift": ChannelParameter(type=Drift, optional=True),
        "copies": ChannelParameter(type=Copies, optional=True),
    }
    OUTPUTS = {"data_blessing": ChannelParameter(type=DataBlessing)}


class DataGateExecutor(base_executor.BaseExecutor):
    """Raises `DataRefused` where a month's ingestion, anomalies or drift forbid training on it."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        month = exec_properties["month"]
        limits = IngestionSettings.model_validate_json(exec_properties["limits"])
        reasons = refusals(read_ingestion_counts(examples), limits)
        for split, anomalies in _read_anomalies(input_dict["anomalies"]):
            reasons += [f"anomaly in the {split} split: {line}" for line in describe_anomalies(anomalies)]
        for artifact in input_dict.get("drift", []):
            report = read_drift(io_utils.read_bytes_file(f"{artifact.uri}/{DRIFT_FILE}"))
            against = ", ".join(report.compared_with)
            reasons += [
                f"drift against {against}: {found.describe()}" for found in report.beyond if found.action == "stop"
            ]
        for artifact in input_dict.get("copies", []):
            reasons += read_copies(artifact.uri).refusals(limits.max_copied_share)
        if reasons:
            raise DataRefused(
                "\n".join(f"{month}: {reason}" for reason in reasons),
                "Correct the drop; or, if the data is right, let the schema or the config's limits say so.",
            )
        blessing = artifact_utils.get_single_uri(output_dict["data_blessing"])
        io_utils.write_string_file(f"{blessing}/BLESSED", month)


def read_ingestion_counts(examples: types.Artifact) -> IngestionCounts:
    """What a month's examples say of their ingestion."""

    def counts(name: str) -> Any:
        return json.loads(examples.get_string_custom_property(name) or "{}")

    return IngestionCounts(
        **{
            name: examples.get_int_custom_property(name)
            for name in ("rows_in", "rows_duplicate", "rows_conflicting", "rows_clicked_later", "rows_of_clicks")
        },
        conflicts_by_column=counts("conflicts_by_column"),
        rows_dated_in=counts("rows_dated_in"),
        copied_files=counts("copied_files"),
        quarantined_by_reason=counts("quarantined_by_reason"),
        infinite_by_column=counts("infinite_by_column"),
        impressions_by_image_status=counts("impressions_by_image_status"),
        unusable_images_by_cause=counts("unusable_images_by_cause"),
        examples=counts("examples_of_trouble"),
    )


def _read_anomalies(artifacts: Sequence[types.Artifact]) -> list[tuple[str, anomalies_pb2.Anomalies]]:
    found = []
    for artifact in artifacts:
        for split in artifact_utils.decode_split_names(artifact.split_names):
            folder = artifact_utils.get_split_uri([artifact], split)
            content = io_utils.read_bytes_file(f"{folder}/{ANOMALIES_FILE}")
            found.append((split, anomalies_pb2.Anomalies.FromString(content)))
    return found


class DataGate(base_component.BaseComponent):
    """Stops the run before training when a month has anomalies, forbidden drift, or too much of what limits bound."""

    SPEC_CLASS = DataGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(DataGateExecutor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        anomalies: types.BaseChannel,
        drift: types.BaseChannel | None = None,
        copies: types.BaseChannel | None = None,
        month: str,
        limits: str,
    ) -> None:
        """Declares the component.

        Args:
            examples: A month's examples; its properties carry the counts of ingestion.
            anomalies: What ExampleValidator found in them.
            drift: What DriftDetector measured; None for a month with nothing before it.
            copies: What CopyDetector found; None for a month that is not the newest.
            month: How the month is called in a refusal.
            limits: The `GATE_LIMITS` of `IngestionSettings`, as JSON.
        """
        super().__init__(
            spec=DataGateSpec(
                examples=examples,
                anomalies=anomalies,
                drift=drift,
                copies=copies,
                month=month,
                limits=limits,
                data_blessing=types.Channel(type=DataBlessing),
            )
        )
