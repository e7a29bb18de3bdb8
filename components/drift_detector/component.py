"""The DriftDetector component."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx import types
from tfx.components.statistics_gen.executor import DEFAULT_FILE_NAME
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import io_utils

from adclick.components.artifacts import Drift
from adclick.components.drift_detector.distances import DriftReport, measure_drift
from adclick.components.example_files import read_schema
from adclick.components.month_inputs import takes_months
from adclick.schema.feature_table import FeatureTable, parse_feature_table

DRIFT_FILE = "drift.json"


class DriftDetectorSpec(ComponentSpec):  # type: ignore[misc]
    """Inputs, outputs and parameters of DriftDetector."""

    PARAMETERS = {
        "features": ExecutionParameter(type=str),
        "month": ExecutionParameter(type=str),
        "compared_with": ExecutionParameter(type=str),
    }
    INPUTS = {
        "statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "earlier_statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "schema": ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {"drift": ChannelParameter(type=Drift)}


class DriftDetectorExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Adds up the splits of each side and measures every feature between them."""

    @takes_months
    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        newest = artifact_utils.get_single_instance(input_dict["statistics"])
        drift = artifact_utils.get_single_instance(output_dict["drift"])
        drift.span = newest.span
        features = parse_feature_table(exec_properties["features"])
        report = DriftReport(
            month=exec_properties["month"],
            compared_with=tuple(json.loads(exec_properties["compared_with"])),
            features=tuple(
                measure_drift(
                    _read_statistics([newest]),
                    _read_statistics(input_dict["earlier_statistics"]),
                    read_schema(input_dict["schema"]),
                    compared_columns(features),
                )
            ),
        )
        io_utils.write_string_file(os.path.join(drift.uri, DRIFT_FILE), report.model_dump_json(indent=1))


def compared_columns(features: FeatureTable) -> set[str]:
    """The columns whose distributions mean something from month to month: not what each month brings anew.

    Names of impressions, files, times and texts are such.
    """
    kept = {name for name, column in features.used.items() if column.recurs}
    return kept | ({features.image_status_name} if features.image_name is not None else set())


def _read_statistics(artifacts: Sequence[types.Artifact]) -> list[statistics_pb2.DatasetFeatureStatistics]:
    found: list[statistics_pb2.DatasetFeatureStatistics] = []
    for artifact in artifacts:
        for split in artifact_utils.decode_split_names(artifact.split_names):
            path = os.path.join(artifact_utils.get_split_uri([artifact], split), DEFAULT_FILE_NAME)
            content = io_utils.read_bytes_file(path)
            found += statistics_pb2.DatasetFeatureStatisticsList.FromString(content).datasets
    return found


class DriftDetector(base_component.BaseComponent):  # type: ignore[misc]
    """Compares a month's statistics with those of the window's months before it, by the schema's drift comparators.

    TFX's ExampleValidator looks at one month alone. What lies beyond a threshold is reported; DataGate stops the run
    where the schema says so.
    """

    SPEC_CLASS = DriftDetectorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(DriftDetectorExecutor)

    def __init__(
        self,
        *,
        statistics: types.BaseChannel,
        earlier_statistics: types.BaseChannel,
        schema: types.BaseChannel,
        features: str,
        month: str,
        compared_with: Sequence[str],
    ) -> None:
        """Declares the component.

        Args:
            statistics: Of the newest month.
            earlier_statistics: Of the other months of the window.
            schema: The curated schema.
            features: The feature table's JSON.
            month: How the newest month is called.
            compared_with: How the others are called.
        """
        super().__init__(
            spec=DriftDetectorSpec(
                statistics=statistics,
                earlier_statistics=earlier_statistics,
                schema=schema,
                features=features,
                month=month,
                compared_with=json.dumps(list(compared_with)),
                drift=types.Channel(type=Drift),
            )
        )
