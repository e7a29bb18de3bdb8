"""The stock DAG: CsvExampleGen, StatisticsGen, SchemaGen, ExampleValidator, Transform, Trainer, Evaluator, Pusher.

Columns, feature engineering, network, epochs, metrics, slices and thresholds are those of an adclick config; the order
and the wiring are those of TFX's taxi and penguin templates.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import tensorflow_model_analysis as tfma
from tfx import v1 as tfx

from adclick.models.settings import EvaluationSettings
from adclick.pipeline.config.settings import Config
from benchmarks.stock.model import CLICK_PROBABILITY, EVALUATION_BATCH, FEATURES, NETWORK, TRAINING
from benchmarks.stock.preprocessing import FEATURES_KEY
from benchmarks.stock.splits import PARTS, input_config, output_config

#: By adclick's name of a metric, TFMA's.
_METRICS = {
    "auc": "AUC",
    "auc_precision_recall": "AUCPrecisionRecall",
    "log_loss": "BinaryCrossentropy",
    "calibration_ratio": "Calibration",
}


def create_pipeline(
    config: Config, *, data: str, rows: int, output: str, beam_pipeline_args: Sequence[str] = ()
) -> tfx.dsl.Pipeline:
    """Builds the DAG.

    Args:
        config: What to train and to accept; it names no image.
        data: The folder of CSV files.
        rows: Their rows, from which the steps of an epoch follow.
        output: The folder for artifacts, metadata and the pushed model.
        beam_pipeline_args: Arguments for Beam's runner.
    """
    features = config.features.model_dump_json()
    example_gen = tfx.components.CsvExampleGen(
        input_base=data, input_config=input_config(), output_config=output_config()
    )
    statistics_gen = tfx.components.StatisticsGen(examples=example_gen.outputs["examples"])
    # Without a shape, missing values stay missing, which the feature engineering needs.
    schema_gen = tfx.components.SchemaGen(statistics=statistics_gen.outputs["statistics"], infer_feature_shape=False)
    example_validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema_gen.outputs["schema"]
    )
    transform = tfx.components.Transform(
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        preprocessing_fn="benchmarks.stock.preprocessing.preprocessing_fn",
        custom_config={FEATURES_KEY: features},
    )
    held_out = rows / PARTS
    trainer = tfx.components.Trainer(
        # By name, as in the taxi template: a module file would be built and installed as a package in every run.
        run_fn="benchmarks.stock.model.run_fn",
        examples=transform.outputs["transformed_examples"],
        schema=schema_gen.outputs["schema"],
        transform_graph=transform.outputs["transform_graph"],
        train_args=tfx.proto.TrainArgs(num_steps=math.ceil((rows - held_out) / config.training.batch_size)),
        eval_args=tfx.proto.EvalArgs(num_steps=math.ceil(held_out / EVALUATION_BATCH)),
        custom_config={
            FEATURES: features,
            NETWORK: config.network.model_dump_json(),
            TRAINING: config.training.model_dump_json(),
        },
    )
    evaluator = tfx.components.Evaluator(
        examples=example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        eval_config=eval_config(config.evaluation, config.features.label_name),
    )
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=push_base(output))
        ),
    )
    return tfx.dsl.Pipeline(
        pipeline_name="stock",
        pipeline_root=os.path.join(output, "pipeline_root"),
        components=[
            example_gen,
            statistics_gen,
            schema_gen,
            example_validator,
            transform,
            trainer,
            evaluator,
            pusher,
        ],
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            os.path.join(output, "metadata.sqlite")
        ),
        beam_pipeline_args=list(beam_pipeline_args),
    )


def push_base(output: str) -> str:
    """Where the blessed model goes, a folder per version."""
    return os.path.join(output, "serving_model")


def eval_config(evaluation: EvaluationSettings, label: str) -> tfma.EvalConfig:
    """TFMA's own metrics by the slices and thresholds of an adclick config, without confidence intervals."""
    # A threshold beside the metric itself would hold in every slice, not for all impressions together.
    thresholds = {
        threshold.metric: tfma.PerSliceMetricThreshold(
            slicing_specs=[tfma.SlicingSpec(feature_keys=threshold.slice)],
            threshold=tfma.MetricThreshold(
                value_threshold=tfma.GenericValueThreshold(
                    lower_bound=_bound(threshold.lower), upper_bound=_bound(threshold.upper)
                )
            ),
        )
        for threshold in evaluation.thresholds
    }
    metrics = [
        tfma.MetricConfig(class_name=class_name, per_slice_thresholds=[thresholds[name]] if name in thresholds else [])
        for name, class_name in _METRICS.items()
    ]
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(signature_name="serving_default", label_key=label, prediction_key=CLICK_PROBABILITY)
        ],
        metrics_specs=[tfma.MetricsSpec(metrics=[*metrics, tfma.MetricConfig(class_name="ExampleCount")])],
        slicing_specs=[tfma.SlicingSpec(), *(tfma.SlicingSpec(feature_keys=columns) for columns in evaluation.slices)],
    )


def _bound(value: float | None) -> dict[str, float] | None:
    return None if value is None else {"value": value}
