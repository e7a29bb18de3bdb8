"""The executor behind TFX's Evaluator: the same inputs, outputs and file formats, computed a batch at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tensorflow_model_analysis.api.types import ValueWithTDistribution
from tensorflow_model_analysis.evaluators import metrics_validator
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.utils import config_util
from tensorflow_model_analysis.writers import metrics_plots_and_validations_writer as tfma_writer
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, json_utils, path_utils, proto_utils

from components.click_evaluator.scoring import Counts, MergeCounts, ScoreFile, ScoringPlan, SliceKey
from components.example_files import split_files
from models.click_metrics import FOLDS, Estimates, estimate, jackknife
from models.evaluation import COUNT
from schema.errors import DataRefused


class ClickEvaluatorExecutor(BaseBeamExecutor):
    """Scores the held-out examples with every model and writes metrics, intervals and the blessing.

    The thresholds are checked by TFMA's own validator, and everything is written in TFMA's formats, so that
    `tfma.load_metrics`, `tfma.load_eval_result` and whatever else reads an evaluation reads this one.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates; for inputs, outputs and properties see TFX's Evaluator.

        Raises:
            DataRefused: There is no held-out example.
        """
        baseline = input_dict.get(standard_component_specs.BASELINE_MODEL_KEY, [])
        config = config_pb2.EvalConfig()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.EVAL_CONFIG_KEY], config)
        config = config_util.update_eval_config_with_defaults(config, has_baseline=bool(baseline), rubber_stamp=True)
        config_util.verify_eval_config(config)
        models = {
            spec.name: _serving_model(baseline if spec.is_baseline else input_dict[standard_component_specs.MODEL_KEY])
            for spec in config.model_specs
        }
        splits = json_utils.loads(exec_properties.get(standard_component_specs.EXAMPLE_SPLITS_KEY, "null")) or ["eval"]
        examples = input_dict[standard_component_specs.EXAMPLES_KEY]
        files = [file for split in splits for file in split_files(examples, split)]
        if not files:
            raise DataRefused(f"there is no example to evaluate on in {', '.join(splits)}", "Deliver more rows.")
        output = artifact_utils.get_single_uri(output_dict[standard_component_specs.EVALUATION_KEY])
        plan = ScoringPlan(
            models=models,
            candidate=next(spec.name for spec in config.model_specs if not spec.is_baseline),
            slices=tuple(tuple(sorted(spec.feature_keys)) for spec in config.slicing_specs),
        )
        tf.io.gfile.makedirs(output)
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(files)
                | "Reshuffle" >> beam.Reshuffle()
                | "Score" >> beam.ParDo(ScoreFile(plan))
                | "Merge" >> beam.CombineGlobally(MergeCounts())
                | "Write" >> beam.Map(write_evaluation, config=config.SerializeToString(), models=models, output=output)
            )
        _bless(input_dict, output_dict, exec_properties, tfma.load_validation_result(output).validation_ok)


def _serving_model(artifacts: list[types.Artifact]) -> str:
    artifact = artifact_utils.get_single_instance(artifacts)
    return path_utils.serving_model_path(artifact.uri, path_utils.is_old_model_artifact(artifact))


def write_evaluation(counts: Counts, config: bytes, models: Mapping[str, str], output: str) -> None:
    """Writes metrics, the check of the thresholds and the config in TFMA's formats.

    Args:
        counts: What the metrics are computed from.
        config: The serialized `EvalConfig`.
        models: By model name, the folder of its SavedModel.
        output: An existing folder.
    """
    eval_config = config_pb2.EvalConfig.FromString(config)
    slices = [(key, _metrics(key, counts, eval_config)) for key in sorted({key for key, _ in counts}, key=repr)]
    with tf.io.TFRecordWriter(os.path.join(output, "metrics-00000-of-00001.tfrecord")) as writer:
        for found in slices:
            writer.write(tfma_writer.convert_slice_metrics_to_proto(found, None).SerializeToString())
    for empty in (tfma.PLOTS_KEY, tfma.ATTRIBUTIONS_KEY):
        tf.io.TFRecordWriter(os.path.join(output, f"{empty}-00000-of-00001.tfrecord")).close()
    combine = tfma_writer.CombineValidations(eval_config)
    result = combine.create_accumulator()
    for found in slices:
        result = combine.add_input(result, metrics_validator.validate_metrics(found, eval_config))
    with tf.io.TFRecordWriter(os.path.join(output, "validations.tfrecord")) as writer:
        writer.write(combine.extract_output(result).SerializeToString())
    run = config_pb2.EvalRun(
        eval_config=eval_config, version=tfma.version.VERSION, model_locations=models, file_format="tfrecords"
    )
    with tf.io.gfile.GFile(os.path.join(output, "eval_config.json"), "w") as stream:
        stream.write(json_format.MessageToJson(run))


def _metrics(key: SliceKey, counts: Counts, config: config_pb2.EvalConfig) -> dict[Any, Any]:
    """TFMA's metric keys and values of one slice: each model's, and the candidate's difference to the baseline."""
    baseline = next((spec.name for spec in config.model_specs if spec.is_baseline), None)
    intervals = config.options.compute_confidence_intervals.value
    found: dict[Any, Any] = {}
    estimates = {spec.name: estimate(counts[key, spec.name]) for spec in config.model_specs}
    for model, estimated in estimates.items():
        found |= _as_tfma(estimated, model, intervals, is_diff=False)
        if baseline is not None and model != baseline:
            found |= _as_tfma(estimated.minus(estimates[baseline]), model, intervals, is_diff=True)
    return found


def _as_tfma(estimates: Estimates, model: str, intervals: bool, is_diff: bool) -> dict[Any, Any]:
    found = {}
    for name, value in estimates.value.items():
        key = metric_types.MetricKey(name=name, model_name=model, is_diff=is_diff)
        if not intervals or name == COUNT:
            found[key] = value
            continue
        mean, error = jackknife(value, estimates.without[name])
        found[key] = ValueWithTDistribution(
            sample_mean=mean,
            sample_standard_deviation=error,
            sample_degrees_of_freedom=FOLDS - 1,
            unsampled_value=value,
        )
    return found


def _bless(
    input_dict: dict[str, list[types.Artifact]],
    output_dict: dict[str, list[types.Artifact]],
    exec_properties: dict[str, Any],
    is_blessed: bool,
) -> None:
    """Fills the blessing as TFX's own executor does."""
    blessing = artifact_utils.get_single_instance(output_dict[standard_component_specs.BLESSING_KEY])
    model = artifact_utils.get_single_instance(input_dict[standard_component_specs.MODEL_KEY])
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    for baseline in input_dict.get(standard_component_specs.BASELINE_MODEL_KEY, []):
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline.uri)
        blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baseline.id)
    if "current_component_id" in exec_properties:
        blessing.set_string_custom_property("component_id", exec_properties["current_component_id"])
    file, value = (
        (constants.BLESSED_FILE_NAME, constants.BLESSED_VALUE)
        if is_blessed
        else (constants.NOT_BLESSED_FILE_NAME, constants.NOT_BLESSED_VALUE)
    )
    io_utils.write_string_file(os.path.join(blessing.uri, file), "")
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
