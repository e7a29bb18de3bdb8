"""The RecogniserTrainer component."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any

import numpy as np
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from adclick.components.artifacts import Pictures
from adclick.components.recognition.pictures import read_training
from adclick.models.recognition.conversion import FORMS, convert
from adclick.models.recognition.settings import RecognitionSettings
from adclick.models.recognition.training import captures, train_embedder
from adclick.storage import filesystem

#: The float network, which a later training may begin with.
EMBEDDER_FILE = "embedder.keras"
_CALIBRATION = 200


def form_file(form: str) -> str:
    """The name of a form's LiteRT file within a model artifact."""
    return f"{form}.tflite"


class RecogniserTrainerSpec(ComponentSpec):  # type: ignore[misc]
    """Inputs, outputs and parameters of RecogniserTrainer."""

    PARAMETERS = {"recognition": ExecutionParameter(type=str)}
    INPUTS = {"pictures": ChannelParameter(type=Pictures)}
    OUTPUTS = {"model": ChannelParameter(type=standard_artifacts.Model)}


class RecogniserTrainerExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Trains the embedder and converts it to each form of LiteRT."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        settings = RecognitionSettings.model_validate_json(exec_properties["recognition"])
        pixels = read_training(artifact_utils.get_single_instance(input_dict["pictures"]))
        folder = artifact_utils.get_single_uri(output_dict["model"])
        filesystem.make_folder(folder)
        network = train_embedder(pixels, settings, logging.getLogger("adclick").info)
        with tempfile.TemporaryDirectory(prefix="adclick-embedder-") as local:
            network.save(os.path.join(local, EMBEDDER_FILE))
            filesystem.copy_file(os.path.join(local, EMBEDDER_FILE), filesystem.join(folder, EMBEDDER_FILE))
        # Clean creatives go through the same network, for the catalogue.
        examples = np.concatenate([captures(pixels[:_CALIBRATION], settings.seed), pixels[:_CALIBRATION]])
        for form in FORMS:
            with filesystem.open_write_atomic(filesystem.join(folder, form_file(form))) as stream:
                stream.write(convert(network, form, examples.astype(np.float32)))


class RecogniserTrainer(base_component.BaseComponent):  # type: ignore[misc]
    """Trains the embedder by which devices know creatives again."""

    SPEC_CLASS = RecogniserTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RecogniserTrainerExecutor)

    def __init__(self, *, pictures: types.BaseChannel, recognition: str) -> None:
        """Declares the component.

        Args:
            pictures: PictureGen's.
            recognition: The recognition settings as JSON.
        """
        super().__init__(
            spec=RecogniserTrainerSpec(
                pictures=pictures, recognition=recognition, model=types.Channel(type=standard_artifacts.Model)
            )
        )
