"""The RecogniserPusher component."""

from __future__ import annotations

import logging
import time
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from adclick.components.recognition.evaluator import is_blessed, read_facts
from adclick.components.recognition.trainer import form_file
from adclick.storage import filesystem
from adclick.storage.recogniser_versions import FACTS_FILE, RECOGNISER_FILE, recogniser_versions


class RecogniserPusherSpec(ComponentSpec):  # type: ignore[misc]
    """Inputs, outputs and parameters of RecogniserPusher."""

    PARAMETERS = {"folder": ExecutionParameter(type=str)}
    INPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
    }
    OUTPUTS = {"pushed_model": ChannelParameter(type=standard_artifacts.PushedModel)}


class RecogniserPusherExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Pushes a blessed recogniser; of a refused one nothing is pushed."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        filesystem.make_folder(pushed.uri)
        if not is_blessed(artifact_utils.get_single_instance(input_dict["blessing"])):
            pushed.set_int_custom_property("pushed", 0)
            return
        evaluation = artifact_utils.get_single_uri(input_dict["evaluation"])
        folder = exec_properties["folder"]
        number = max([int(time.time()), *(version + 1 for version in recogniser_versions(folder))])
        destination = filesystem.join(folder, str(number))
        filesystem.make_folder(destination)
        chosen = form_file(read_facts(evaluation).form)
        model = artifact_utils.get_single_uri(input_dict["model"])
        # The recogniser last: a version without it is not whole.
        filesystem.copy_file(filesystem.join(evaluation, FACTS_FILE), filesystem.join(destination, FACTS_FILE))
        filesystem.copy_file(filesystem.join(model, chosen), filesystem.join(destination, RECOGNISER_FILE))
        pushed.set_int_custom_property("pushed", 1)
        pushed.set_string_custom_property("pushed_destination", destination)
        pushed.set_string_custom_property("pushed_version", str(number))
        logging.getLogger("adclick").info("recogniser: version %s is pushed to %s", number, destination)


class RecogniserPusher(base_component.BaseComponent):  # type: ignore[misc]
    """Puts a blessed recogniser where `adclick edge export` takes it from."""

    SPEC_CLASS = RecogniserPusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RecogniserPusherExecutor)

    def __init__(
        self, *, model: types.BaseChannel, evaluation: types.BaseChannel, blessing: types.BaseChannel, folder: str
    ) -> None:
        """Declares the component.

        Args:
            model: RecogniserTrainer's.
            evaluation: RecogniserEvaluator's.
            blessing: RecogniserEvaluator's.
            folder: Where versions go.
        """
        super().__init__(
            spec=RecogniserPusherSpec(
                model=model,
                evaluation=evaluation,
                blessing=blessing,
                folder=folder,
                pushed_model=types.Channel(type=standard_artifacts.PushedModel),
            )
        )
