"""The ServingValidator component."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import tensorflow as tf
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import io_utils, path_utils

from adclick.components.artifacts import Creatives
from adclick.components.example_files import creative_files, evaluation_files
from adclick.components.serving_validator.agreement import disagreements
from adclick.components.serving_validator.warmup import write_warmup_requests
from adclick.models.creatives import read_creatives
from adclick.models.extension import pixels_as_png
from adclick.schema.feature_table import FeatureTable, parse_feature_table

#: Where an `InfraBlessing` keeps the warm-up requests that the candidate has answered.
WARMUP_REQUESTS = "tf_serving_warmup_requests"

_CREATIVES = 16
_WARMUP_EXAMPLES = 32


class ServingValidatorSpec(ComponentSpec):
    """Inputs, outputs and parameters of ServingValidator."""

    PARAMETERS = {
        "features": ExecutionParameter(type=str),
        "requests": ExecutionParameter(type=int),
    }
    INPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "creatives": ChannelParameter(type=Creatives),
    }
    OUTPUTS = {"blessing": ChannelParameter(type=standard_artifacts.InfraBlessing)}


class ServingValidatorExecutor(base_executor.BaseExecutor):
    """Serves the candidate from a push directory of its own and blesses it if its answers are the evaluated ones.

    The candidate gets warm-up requests, which it must answer; the blessing carries them to the push.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        model = artifact_utils.get_single_instance(input_dict["model"])
        examples = _first_records(evaluation_files(input_dict["examples"]), exec_properties["requests"])
        features = parse_feature_table(exec_properties["features"])
        with tempfile.TemporaryDirectory(prefix="adclick-serving-validator-") as folder:
            candidate = path_utils.serving_model_path(model.uri)
            io_utils.copy_dir(candidate, f"{folder}/1")
            creatives = _known_creatives(input_dict["creatives"], features)
            requests = write_warmup_requests(f"{folder}/1", examples[:_WARMUP_EXAMPLES], creatives, features)
            reasons = disagreements(Path(folder), candidate, examples, creatives, features)
            blessing = artifact_utils.get_single_instance(output_dict["blessing"])
            io_utils.copy_file(requests, f"{blessing.uri}/{WARMUP_REQUESTS}")
        blessing.set_int_custom_property("blessed", int(not reasons))
        blessing.set_string_custom_property("reasons", "\n".join(f"ServingValidator: {reason}" for reason in reasons))
        name = "INFRA_NOT_BLESSED" if reasons else "INFRA_BLESSED"
        io_utils.write_string_file(f"{blessing.uri}/{name}", "\n".join(reasons))


def _first_records(files: list[str], count: int) -> list[bytes]:
    records: list[bytes] = []
    for file in files:
        dataset = tf.data.TFRecordDataset(file, "GZIP" if file.endswith(".gz") else "")
        records += [record.numpy() for record in dataset.take(count - len(records))]
        if len(records) == count:
            break
    return records


def _known_creatives(artifacts: list[types.Artifact], features: FeatureTable) -> dict[str, bytes]:
    if features.image_name is None:
        return {}
    decoded = (creative for creative in read_creatives(creative_files(artifacts)) if creative.image is not None)
    return {creative.key: pixels_as_png(creative.image or b"") for creative in islice(decoded, _CREATIVES)}


class ServingValidator(base_component.BaseComponent):
    """TFX's infra validation without containers.

    Loads the candidate as TensorFlow Serving's C++ loader does, sends real requests through each signature over HTTP,
    checks that the served probabilities equal the evaluated ones, and emits an `InfraBlessing`.
    """

    SPEC_CLASS = ServingValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ServingValidatorExecutor)

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        creatives: types.BaseChannel,
        features: str,
        requests: int,
    ) -> None:
        """Declares the component.

        Args:
            model: The candidate.
            examples: The newest month; requests are made of its eval split.
            creatives: The creatives of the newest month.
            features: The feature table's JSON.
            requests: How many impressions to send.
        """
        super().__init__(
            spec=ServingValidatorSpec(
                model=model,
                examples=examples,
                creatives=creatives,
                features=features,
                requests=requests,
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            )
        )
