"""The ClickTransform component."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from adclick.components.artifacts import FeatureAnalysis
from adclick.components.example_files import read_schema
from adclick.components.month_inputs import takes_months
from adclick.components.splits import SPLITS, TRAIN
from adclick.models.analysis import merge, read_analysis
from adclick.models.transform_graph import write_transform_graph
from adclick.schema.feature_table import parse_feature_table


class ClickTransformSpec(ComponentSpec):  # type: ignore[misc]
    """Inputs, outputs and parameters of ClickTransform."""

    PARAMETERS = {"features": ExecutionParameter(type=str)}
    INPUTS = {
        "analysis": ChannelParameter(type=FeatureAnalysis),
        "earlier_analysis": ChannelParameter(type=FeatureAnalysis, optional=True),
        "schema": ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {"transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph)}


class ClickTransformExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Adds up the analyses of what is trained on, and traces the graph."""

    @takes_months
    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        newest = artifact_utils.get_single_instance(input_dict["analysis"])
        folders = [artifact_utils.get_split_uri([newest], TRAIN)]
        for artifact in input_dict.get("earlier_analysis", []):
            folders += [artifact_utils.get_split_uri([artifact], split) for split in SPLITS]
        features = parse_feature_table(exec_properties["features"])
        analysis = merge([read_analysis(folder) for folder in folders])
        schema = read_schema(input_dict["schema"])
        output = artifact_utils.get_single_uri(output_dict["transform_graph"])
        write_transform_graph(analysis, schema, features, output)


class ClickTransform(base_component.BaseComponent):  # type: ignore[misc]
    """The Transform graph of a window of months.

    What TFX's Transform gives, without its passes over the data: those were made month by month by ClickStatisticsGen.

    Outputs:
        transform_graph: `standard_artifacts.TransformGraph`, as `tft.TFTransformOutput` reads it.
    """

    SPEC_CLASS = ClickTransformSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ClickTransformExecutor)

    def __init__(
        self,
        *,
        analysis: types.BaseChannel,
        earlier_analysis: types.BaseChannel | None,
        schema: types.BaseChannel,
        features: str,
    ) -> None:
        """Declares the component.

        Args:
            analysis: Of the newest month, whose train split is trained on.
            earlier_analysis: Of the other months of the window, which are trained on whole; None if there are none.
            schema: The curated schema.
            features: The feature table's JSON.
        """
        super().__init__(
            spec=ClickTransformSpec(
                analysis=analysis,
                earlier_analysis=earlier_analysis,
                schema=schema,
                features=features,
                transform_graph=types.Channel(type=standard_artifacts.TransformGraph),
            )
        )
