"""The DataGate component."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact as tfx_artifact
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import io_utils

from components.artifacts import Drift
from components.drift_detector.component import DRIFT_FILE
from components.drift_detector.distances import read_drift
from schema.errors import DataRefused

ANOMALIES_FILE = "SchemaDiff.pb"


class DataBlessing(tfx_artifact.Artifact):
    """Says that a month is fit to train on."""

    TYPE_NAME = "AdclickDataBlessing"


def quarantine_refusal(counts: Mapping[str, int], rows_in: int, allowed_share: float) -> str | None:
    """Says why too many rows are quarantined, or None.

    Args:
        counts: Quarantined rows by reason.
        rows_in: Rows read.
        allowed_share: The share of `rows_in` that may be quarantined.
    """
    quarantined = sum(counts.values())
    if not rows_in or quarantined <= allowed_share * rows_in:
        return None
    by_reason = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items(), key=lambda item: -item[1]))
    return (
        f"{quarantined:,} of {rows_in:,} rows ({quarantined / rows_in:.2%}) are quarantined, "
        f"more than the allowed {allowed_share:.2%}: {by_reason}"
    )


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
        "max_quarantine_share": ExecutionParameter(type=float),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies),
        "drift": ChannelParameter(type=Drift, optional=True),
    }
    OUTPUTS = {"data_blessing": ChannelParameter(type=DataBlessing)}


class DataGateExecutor(base_executor.BaseExecutor):
    """Raises `DataRefused` where a month's quarantine, anomalies or drift forbid training on it."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        month = exec_properties["month"]
        reasons: list[str] = []
        too_many = quarantine_refusal(
            json.loads(examples.get_string_custom_property("quarantined_by_reason") or "{}"),
            examples.get_int_custom_property("rows_in"),
            exec_properties["max_quarantine_share"],
        )
        if too_many:
            reasons.append(too_many)
        for split, anomalies in _read_anomalies(input_dict["anomalies"]):
            reasons += [f"anomaly in the {split} split: {line}" for line in describe_anomalies(anomalies)]
        for artifact in input_dict.get("drift", []):
            report = read_drift(io_utils.read_bytes_file(f"{artifact.uri}/{DRIFT_FILE}"))
            against = ", ".join(report.compared_with)
            reasons += [
                f"drift against {against}: {found.describe()}" for found in report.beyond if found.action == "stop"
            ]
        if reasons:
            raise DataRefused(
                "\n".join(f"{month}: {reason}" for reason in reasons),
                "Correct the drop; or, if the data is right, let the schema or the config's limits say so.",
            )
        blessing = artifact_utils.get_single_uri(output_dict["data_blessing"])
        io_utils.write_string_file(f"{blessing}/BLESSED", month)


def _read_anomalies(artifacts: Sequence[types.Artifact]) -> list[tuple[str, anomalies_pb2.Anomalies]]:
    found = []
    for artifact in artifacts:
        for split in artifact_utils.decode_split_names(artifact.split_names):
            folder = artifact_utils.get_split_uri([artifact], split)
            content = io_utils.read_bytes_file(f"{folder}/{ANOMALIES_FILE}")
            found.append((split, anomalies_pb2.Anomalies.FromString(content)))
    return found


class DataGate(base_component.BaseComponent):
    """Stops the run before training when a month has anomalies, forbidden drift or too many quarantined rows."""

    SPEC_CLASS = DataGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(DataGateExecutor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        anomalies: types.BaseChannel,
        drift: types.BaseChannel | None = None,
        month: str,
        max_quarantine_share: float,
    ) -> None:
        """Declares the component.

        Args:
            examples: A month's examples; its properties carry the counts of ingestion.
            anomalies: What ExampleValidator found in them.
            drift: What DriftDetector measured; None for a month with nothing before it.
            month: How the month is called in a refusal.
            max_quarantine_share: The share of rows that may be quarantined.
        """
        super().__init__(
            spec=DataGateSpec(
                examples=examples,
                anomalies=anomalies,
                drift=drift,
                month=month,
                max_quarantine_share=max_quarantine_share,
                data_blessing=types.Channel(type=DataBlessing),
            )
        )
