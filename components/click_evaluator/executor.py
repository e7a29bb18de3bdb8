"""The executor behind TFX's Evaluator: the same inputs, outputs and file formats, computed a batch at a time."""

from __future__ import annotations

import json
import logging
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
from tensorflow_model_analysis.proto import config_pb2, validation_result_pb2
from tensorflow_model_analysis.utils import config_util
from tensorflow_model_analysis.writers import metrics_plots_and_validations_writer as tfma_writer
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, json_utils, path_utils, proto_utils

from adclick.components.click_evaluator.audience import audience_rows
from adclick.components.click_evaluator.scoring import (
    Counts,
    MergeScored,
    ScoredExamples,
    ScoreFile,
    ScoringPlan,
    SliceKey,
)
from adclick.components.example_files import split_files
from adclick.components.splits import EVALUATION
from adclick.models.description import THRESHOLDS_FILE, read_description
from adclick.models.evaluation import CANDIDATE, bounds_of, gates_of, read_metrics
from adclick.models.gates import UNDECIDED, Measurement, Verdict, describe_undecided, judge
from adclick.models.held_out import HELD_OUT_FILE, QUANTILE_SHARES, Estimate, HeldOut
from adclick.models.metrics.counts import FOLDS, Estimates, estimate, jackknife, quantiles, thresholds
from adclick.models.metrics.impressions import CLICK_RATE, EXAMPLE_COUNT
from adclick.models.settings import EvaluationSettings
from adclick.schema.errors import DataRefused
from adclick.storage.literal_path import literal_path

FALSE_POSITIVE_RATES = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


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
        splits = json_utils.loads(exec_properties.get(standard_component_specs.EXAMPLE_SPLITS_KEY, "null")) or [
            EVALUATION
        ]
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
        undecided = exec_properties.get(UNDECIDED) or EvaluationSettings().undecided
        tf.io.gfile.makedirs(output)
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(files)
                | "Reshuffle" >> beam.Reshuffle()
                | "Score" >> beam.ParDo(ScoreFile(plan))
                | "Merge" >> beam.CombineGlobally(MergeScored())
                | "Write"
                >> beam.Map(
                    write_evaluation,
                    config=config.SerializeToString(),
                    models=models,
                    output=output,
                    blesses_undecided=undecided == "bless",
                    span=artifact_utils.get_single_instance(examples).span or None,
                )
            )
        result = tfma.load_validation_result(literal_path(output))
        _bless(input_dict, output_dict, exec_properties, result.validation_ok)
        blessing = artifact_utils.get_single_uri(output_dict[standard_component_specs.BLESSING_KEY])
        for name in (THRESHOLDS_FILE, HELD_OUT_FILE):
            io_utils.copy_file(os.path.join(output, name), os.path.join(blessing, name), overwrite=True)


def _serving_model(artifacts: list[types.Artifact]) -> str:
    artifact = artifact_utils.get_single_instance(artifacts)
    return path_utils.serving_model_path(artifact.uri, path_utils.is_old_model_artifact(artifact))


def write_evaluation(
    scored: ScoredExamples,
    config: bytes,
    models: Mapping[str, str],
    output: str,
    *,
    blesses_undecided: bool,
    span: int | None,
) -> None:
    """Writes metrics, the check of the thresholds and the config in TFMA's formats, and what a pushed version keeps.

    Args:
        scored: What came of the examples.
        config: The serialized `EvalConfig`.
        models: By model name, the folder of its SavedModel.
        output: An existing folder.
        blesses_undecided: Whether a threshold that too few clicks decide keeps a model from nothing.
        span: The month of the examples, as a number.
    """
    counts = scored.counts
    eval_config = config_pb2.EvalConfig.FromString(config)
    slices = [(key, _metrics(key, counts, eval_config)) for key in sorted({key for key, _ in counts}, key=repr)]
    with tf.io.TFRecordWriter(os.path.join(output, "metrics-00000-of-00001.tfrecord")) as writer:
        for found in slices:
            writer.write(tfma_writer.convert_slice_metrics_to_proto(found, None).SerializeToString())
    for empty in (tfma.PLOTS_KEY, tfma.ATTRIBUTIONS_KEY):
        tf.io.TFRecordWriter(os.path.join(output, f"{empty}-00000-of-00001.tfrecord")).close()
    combine = tfma_writer.CombineValidations(eval_config)
    result = combine.create_accumulator()
    gates = sum(gates_of([column for column, _ in key], eval_config) for key, _ in slices)
    for found in slices:
        validation = metrics_validator.validate_metrics(found, eval_config)
        _tell_chance(validation, found, gates, blesses_undecided)
        result = combine.add_input(result, validation)
    judged = combine.extract_output(result)
    # Where changes alone are bounded, a first model has nothing to keep; TFMA blesses none without a threshold.
    judged.validation_ok |= not gates
    with tf.io.TFRecordWriter(os.path.join(output, "validations.tfrecord")) as writer:
        writer.write(judged.SerializeToString())
    _write_thresholds(counts, eval_config, output)
    run = config_pb2.EvalRun(
        eval_config=eval_config, version=tfma.version.VERSION, model_locations=models, file_format="tfrecords"
    )
    with tf.io.gfile.GFile(os.path.join(output, "eval_config.json"), "w") as stream:
        stream.write(json_format.MessageToJson(run))
    _write_held_out(scored, eval_config, models, output, span)


def _write_thresholds(counts: Counts, config: config_pb2.EvalConfig, output: str) -> None:
    """Writes the candidate's thresholds by false-positive rate, which a pushed version carries."""
    candidate = next(spec.name for spec in config.model_specs if not spec.is_baseline)
    overall = counts.get(((), candidate))
    found = {} if overall is None else thresholds(overall, FALSE_POSITIVE_RATES)
    with tf.io.gfile.GFile(os.path.join(output, THRESHOLDS_FILE), "w") as stream:
        stream.write(json.dumps({f"{rate:g}": threshold for rate, threshold in found.items()}, indent=1))


def _write_held_out(
    scored: ScoredExamples, config: config_pb2.EvalConfig, models: Mapping[str, str], output: str, span: int | None
) -> None:
    """Writes what the candidate keeps of the held-out rows once it is pushed; its metrics are those just written."""
    candidate = next(spec.name for spec in config.model_specs if not spec.is_baseline)
    overall = scored.counts.get(((), candidate))
    features = read_description(models[candidate]).features
    rows, replaced, left_out = audience_rows((example for _, example in scored.audience), features)
    if replaced or left_out:
        logging.getLogger("adclick").warning(
            "the audience of %d impressions: %d values are no Unicode text, %d rows were too much",
            len(rows),
            replaced,
            left_out,
        )
    held_out = HeldOut(
        span=span,
        metrics={
            name: Estimate.defined(metric.value, metric.lower, metric.upper)
            for found in read_metrics(output)
            if (found.slice, found.model) == ("overall", CANDIDATE)
            for name, metric in found.metrics.items()
        },
        quantiles=() if overall is None else quantiles(overall, QUANTILE_SHARES),
        audience=rows,
        replaced_values=replaced,
        left_out_rows=left_out,
    )
    with tf.io.gfile.GFile(os.path.join(output, HELD_OUT_FILE), "wb") as stream:
        stream.write(held_out.to_bytes())


def _tell_chance(
    validation: validation_result_pb2.ValidationResult,
    slice_metrics: tuple[Any, dict[Any, Any]],
    gates: int,
    blesses: bool,
) -> None:
    """Says in the message of each failure that chance may explain that it does; such alone need not refuse."""
    key, metrics = slice_metrics
    by_name = {(metric.name, metric.model_name, metric.is_diff): value for metric, value in metrics.items()}
    failures = [failure for part in validation.metric_validations_per_slice for failure in part.failures]
    for failure in failures:
        of = failure.metric_key
        value = by_name.get((of.name, of.model_name, of.is_diff))
        if value is None:
            continue
        rate = float(by_name[CLICK_RATE.name, of.model_name, False])
        measured = Measurement(
            metric=of.name,
            value=float(value),
            is_change=of.is_diff,
            deviation=getattr(value, "sample_standard_deviation", None),
            freedom=FOLDS - 1,
            clicks=float(by_name[EXAMPLE_COUNT.name, of.model_name, False]) * min(rate, 1 - rate),
            click_rate=rate,
            gates=gates,
            is_overall=not key,
        )
        bounds = bounds_of(failure.metric_threshold)
        if judge(measured, bounds) is Verdict.UNDECIDED:
            failure.message = describe_undecided(measured, bounds)
    if blesses and failures and all(failure.message.startswith(UNDECIDED) for failure in failures):
        validation.validation_ok = True


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
        if not intervals or name == EXAMPLE_COUNT.name:
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
