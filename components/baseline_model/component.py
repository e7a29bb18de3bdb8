"""The BaselineModel component."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from adclick.components.artifacts import Creatives
from adclick.components.example_files import creative_files
from adclick.models.extension import extend_creatives
from adclick.storage import filesystem


class BaselineModelSpec(ComponentSpec):
    """Inputs, outputs and parameters of BaselineModel."""

    PARAMETERS = {"pushed_version": ExecutionParameter(type=str)}
    INPUTS = {"creatives": ChannelParameter(type=Creatives)}
    OUTPUTS = {"model": ChannelParameter(type=standard_artifacts.Model)}


class BaselineModelExecutor(base_executor.BaseExecutor):
    """Copies the pushed version and adds the embeddings of the creatives it does not know."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        model = artifact_utils.get_single_instance(output_dict["model"])
        folder = path_utils.serving_model_dir(model.uri)
        filesystem.copy_folder(exec_properties["pushed_version"], folder)
        added = extend_creatives(folder, creative_files(input_dict["creatives"]))
        model.set_string_custom_property("pushed_version", exec_properties["pushed_version"])
        model.set_int_custom_property("creatives_added", added)


class BaselineModel(base_component.BaseComponent):
    """The last blessed model, as it would serve the newest month.

    It is judged on creatives that came after its training; the gateway would send it their images, so they are embedded
    by its own tower here. Judged without them it would lose unfairly, and every candidate would be blessed.
    """

    SPEC_CLASS = BaselineModelSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(BaselineModelExecutor)

    def __init__(self, *, creatives: types.BaseChannel, pushed_version: str) -> None:
        """Declares the component.

        Args:
            creatives: The creatives of the newest month.
            pushed_version: The folder of the last blessed model's pushed version.
        """
        super().__init__(
            spec=BaselineModelSpec(
                creatives=creatives,
                pushed_version=pushed_version,
                model=types.Channel(type=standard_artifacts.Model),
            )
        )
