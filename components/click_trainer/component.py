"""The ClickTrainer component."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from adclick.components.artifacts import Creatives
from adclick.components.code_version import CODE_VERSION, code_version
from adclick.components.example_files import creative_files, training_files, validation_files
from adclick.components.month_inputs import takes_months
from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.models.trainer import train
from adclick.schema.feature_table import parse_feature_table
from adclick.storage.local_copy import local_copy


class ClickTrainerSpec(ComponentSpec):  # type: ignore[misc]
    """Inputs, outputs and parameters of ClickTrainer."""

    PARAMETERS = {
        "features": ExecutionParameter(type=str),
        "network": ExecutionParameter(type=str),
        "training": ExecutionParameter(type=str),
        "image_size": ExecutionParameter(type=int),
        "warm_start_from": ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "earlier_examples": ChannelParameter(type=standard_artifacts.Examples, optional=True),
        "creatives": ChannelParameter(type=Creatives),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_run": ChannelParameter(type=standard_artifacts.ModelRun),
    }


class ClickTrainerExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Trains on the earlier months and the newest's train split, and stops and chooses by its validation split.

    What the model is judged by, the newest month's evaluation split, is not read.
    """

    @takes_months
    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        newest = input_dict["examples"]
        earlier = input_dict.get("earlier_examples", [])
        model_run = artifact_utils.get_single_uri(output_dict["model_run"])
        model = artifact_utils.get_single_instance(output_dict["model"])
        model.set_string_custom_property(CODE_VERSION, code_version())
        warm_start_from = exec_properties.get("warm_start_from")
        result = train(
            features=parse_feature_table(exec_properties["features"]),
            network=NetworkSettings.model_validate_json(exec_properties["network"]),
            training=TrainingSettings.model_validate_json(exec_properties["training"]),
            image_size=exec_properties["image_size"],
            transform_graph=artifact_utils.get_single_uri(input_dict["transform_graph"]),
            train_files=training_files(newest, earlier),
            validation_files=validation_files(newest),
            creative_files=creative_files(input_dict["creatives"]),
            model_folder=path_utils.serving_model_dir(model.uri),
            log_folder=model_run,
            warm_start_from=local_copy(warm_start_from) if warm_start_from else None,
        )
        run = artifact_utils.get_single_instance(output_dict["model_run"])
        run.set_int_custom_property("epochs", result.epochs)
        run.set_float_custom_property("best_log_loss", result.best_log_loss)
        run.set_int_custom_property("warm_start", result.is_warm)


class ClickTrainer(base_component.BaseComponent):  # type: ignore[misc]
    """Fits the click network on a window of months and exports it.

    Outputs:
        model: `standard_artifacts.Model` with the SavedModel under `Format-Serving`; its custom property `code_version`
            says by which code.
        model_run: TensorBoard logs and `history.json`.
    """

    SPEC_CLASS = ClickTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ClickTrainerExecutor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        earlier_examples: types.BaseChannel | None,
        creatives: types.BaseChannel,
        transform_graph: types.BaseChannel,
        features: str,
        network: str,
        training: str,
        image_size: int,
        warm_start_from: str | None = None,
    ) -> None:
        """Declares the component.

        Args:
            examples: The newest month.
            earlier_examples: The other months of the window; None if there are none.
            creatives: The creatives of the whole window.
            transform_graph: Transform's output.
            features: The feature table's JSON.
            network: `NetworkSettings` as JSON.
            training: `TrainingSettings` as JSON.
            image_size: Edge of the creatives in pixels.
            warm_start_from: The pushed version whose weights to start from; None to start anew.
        """
        super().__init__(
            spec=ClickTrainerSpec(
                examples=examples,
                earlier_examples=earlier_examples,
                creatives=creatives,
                transform_graph=transform_graph,
                features=features,
                network=network,
                training=training,
                image_size=image_size,
                warm_start_from=warm_start_from,
                model=types.Channel(type=standard_artifacts.Model),
                model_run=types.Channel(type=standard_artifacts.ModelRun),
            )
        )
