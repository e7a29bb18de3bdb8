"""What the Evaluator measures, in the terms of click prediction, and what a candidate must reach."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import tensorflow_model_analysis as tfma
from google.protobuf import wrappers_pb2
from tensorflow_model_analysis.metrics import metric_types, metric_util
from tensorflow_model_analysis.proto import config_pb2

from models.export import CLICK_PROBABILITY, SERVING_EXAMPLES
from models.features import known_name
from models.settings import EvaluationSettings, ThresholdSettings
from schema.errors import ConfigError
from schema.feature_table import FeatureTable

CANDIDATE = "candidate"
BASELINE = "baseline"
DIFFERENCE = "difference"

#: By metric, whether more is better; None where neither is.
METRICS: Mapping[str, bool | None] = {
    "auc": True,
    "auc_precision_recall": True,
    "log_loss": False,
    "normalised_entropy": False,
    "calibration_ratio": None,
}
COUNT = "example_count"
MEAN_LABEL = "click_rate"
_SMALLEST = 1e-7
#: The jackknife leaves out a twentieth of the impressions at a time; of fewer clicks, too many times none.
_CLICKS_FOR_INTERVAL = 20


class LogLoss(tfma.metrics.Metric):
    """Mean negative log likelihood of the clicks, in nats.

    TFMA's own `BinaryCrossEntropy` averages over a batch before it sums, and so depends on how examples are batched.
    """

    def __init__(self, name: str = "log_loss") -> None:
        super().__init__(metric_util.merge_per_key_computations(_log_loss), name=name)


class NormalisedEntropy(tfma.metrics.Metric):
    """Log loss divided by the entropy of the slice's own click rate: below 1 is better than knowing that rate.

    He et al. 2014, "Practical lessons from predicting clicks on ads at Facebook", section 3.
    """

    def __init__(self, name: str = "normalised_entropy") -> None:
        super().__init__(metric_util.merge_per_key_computations(_normalised_entropy), name=name)


metric_types.register_metric(LogLoss)
metric_types.register_metric(NormalisedEntropy)


class _LogLossSums(beam.CombineFn):
    """Sums the loss, the clicks and the weights of examples."""

    def __init__(
        self,
        key: Any,
        eval_config: config_pb2.EvalConfig | None,
        model_name: str,
        output_name: str,
        example_weighted: bool,
    ) -> None:
        super().__init__()
        self._example_weighted = example_weighted
        self._key = key
        self._eval_config = eval_config
        self._model_name = model_name
        self._output_name = output_name

    def create_accumulator(self) -> tuple[float, float, float]:
        return 0.0, 0.0, 0.0

    def add_input(self, sums: tuple[float, float, float], element: Any) -> tuple[float, float, float]:
        loss, clicks, weights = sums
        for label, prediction, weight in metric_util.to_label_prediction_example_weight(
            element,
            eval_config=self._eval_config,
            model_name=self._model_name,
            output_name=self._output_name,
            example_weighted=self._example_weighted,
            flatten=True,
        ):
            clicked = float(label.item())
            probability = min(max(float(prediction.item()), _SMALLEST), 1 - _SMALLEST)
            each = float(weight.item())
            loss -= each * (clicked * math.log(probability) + (1 - clicked) * math.log1p(-probability))
            clicks += each * clicked
            weights += each
        return loss, clicks, weights

    def merge_accumulators(self, accumulators: Iterable[tuple[float, float, float]]) -> tuple[float, float, float]:
        loss, clicks, weights = zip(*accumulators, strict=True)
        return math.fsum(loss), math.fsum(clicks), math.fsum(weights)

    def extract_output(self, sums: tuple[float, float, float]) -> dict[Any, tuple[float, float, float]]:
        return {self._key: sums}


def _sums(
    eval_config: config_pb2.EvalConfig | None, model_name: str, output_name: str, sub_key: Any, example_weighted: bool
) -> Any:
    key = metric_types.MetricKey(
        name="_log_loss_sums",
        model_name=model_name,
        output_name=output_name,
        sub_key=sub_key,
        example_weighted=example_weighted,
    )
    return metric_types.MetricComputation(
        keys=[key],
        preprocessors=None,
        combiner=_LogLossSums(key, eval_config, model_name, output_name, example_weighted),
    )


def _derived(name: str, sums: Any, compute: Callable[[float, float], float]) -> list[Any]:
    """Metrics of the mean loss and the click rate."""
    (sums_key,) = sums.keys
    key = sums_key._replace(name=name)

    def result(metrics: Mapping[Any, Any]) -> dict[Any, float]:
        loss, clicks, weights = metrics[sums_key]
        return {key: compute(loss / weights, clicks / weights) if weights else float("nan")}

    return [sums, metric_types.DerivedMetricComputation(keys=[key], result=result)]


def _log_loss(
    name: str = "log_loss",
    eval_config: config_pb2.EvalConfig | None = None,
    model_name: str = "",
    output_name: str = "",
    sub_key: Any = None,
    example_weighted: bool = False,
) -> list[Any]:
    sums = _sums(eval_config, model_name, output_name, sub_key, example_weighted)
    return _derived(name, sums, lambda loss, click_rate: loss)


def _normalised_entropy(
    name: str = "normalised_entropy",
    eval_config: config_pb2.EvalConfig | None = None,
    model_name: str = "",
    output_name: str = "",
    sub_key: Any = None,
    example_weighted: bool = False,
) -> list[Any]:
    sums = _sums(eval_config, model_name, output_name, sub_key, example_weighted)
    return _derived(name, sums, normalised_entropy)


def normalised_entropy(log_loss: float, click_rate: float) -> float:
    """Log loss over the entropy of the click rate, both in nats; NaN where every label is the same."""
    if not 0 < click_rate < 1:
        return float("nan")
    return log_loss / -(click_rate * math.log(click_rate) + (1 - click_rate) * math.log(1 - click_rate))


def _threshold(settings: ThresholdSettings, has_baseline: bool) -> config_pb2.MetricThreshold:
    if settings.metric not in METRICS:
        raise ConfigError(
            f"evaluation.thresholds: unknown metric {settings.metric!r}", f"Use one of {', '.join(METRICS)}."
        )
    threshold = config_pb2.MetricThreshold()
    if settings.lower is not None:
        threshold.value_threshold.lower_bound.value = settings.lower
    if settings.upper is not None:
        threshold.value_threshold.upper_bound.value = settings.upper
    if settings.max_drop is not None and has_baseline:
        higher_is_better = METRICS[settings.metric]
        if higher_is_better is None:
            raise ConfigError(
                f"evaluation.thresholds: {settings.metric} has no better direction", "Remove its max_drop."
            )
        threshold.change_threshold.direction = (
            config_pb2.MetricDirection.HIGHER_IS_BETTER
            if higher_is_better
            else config_pb2.MetricDirection.LOWER_IS_BETTER
        )
        threshold.change_threshold.absolute.value = -settings.max_drop if higher_is_better else settings.max_drop
    return threshold


def build_eval_config(
    features: FeatureTable, evaluation: EvaluationSettings, has_baseline: bool
) -> config_pb2.EvalConfig:
    """Builds TFMA's config: metrics, slices, thresholds, intervals.

    Raises:
        ConfigError: A threshold names an unknown metric, or asks for a drop in a metric without a better direction.
    """
    classes = {
        "auc": config_pb2.MetricConfig(class_name="AUC"),
        "auc_precision_recall": config_pb2.MetricConfig(class_name="AUCPrecisionRecall"),
        "log_loss": config_pb2.MetricConfig(class_name="LogLoss", module=__name__),
        "normalised_entropy": config_pb2.MetricConfig(class_name="NormalisedEntropy", module=__name__),
        "calibration_ratio": config_pb2.MetricConfig(class_name="Calibration"),
        MEAN_LABEL: config_pb2.MetricConfig(class_name="MeanLabel"),
        COUNT: config_pb2.MetricConfig(class_name="ExampleCount"),
    }
    for name, metric in classes.items():
        metric.config = json.dumps({"name": name})
    for settings in evaluation.thresholds:
        threshold = _threshold(settings, has_baseline)
        metric = classes[settings.metric]
        # A threshold outside of `per_slice_thresholds` would hold for every slice, not for all impressions together.
        metric.per_slice_thresholds.append(
            config_pb2.PerSliceMetricThreshold(
                slicing_specs=[config_pb2.SlicingSpec(feature_keys=settings.slice)], threshold=threshold
            )
        )
    slices = [config_pb2.SlicingSpec()]
    slices += [config_pb2.SlicingSpec(feature_keys=columns) for columns in evaluation.slices]
    slices += [config_pb2.SlicingSpec(feature_keys=[known_name(name)]) for name in evaluation.new_value_slices]
    model = {
        "signature_name": SERVING_EXAMPLES,
        "label_key": features.label_name,
        "prediction_key": CLICK_PROBABILITY,
    }
    models = [config_pb2.ModelSpec(name=CANDIDATE if has_baseline else "", **model)]
    if has_baseline:
        models.append(config_pb2.ModelSpec(name=BASELINE, is_baseline=True, **model))
    options = config_pb2.Options()
    if evaluation.confidence_intervals:
        options.compute_confidence_intervals.CopyFrom(wrappers_pb2.BoolValue(value=True))
        options.confidence_intervals.method = config_pb2.ConfidenceIntervalOptions.JACKKNIFE
    return config_pb2.EvalConfig(
        model_specs=models,
        metrics_specs=[config_pb2.MetricsSpec(metrics=list(classes.values()))],
        slicing_specs=slices,
        options=options,
    )


@dataclass(frozen=True)
class Metric:
    """A metric's value, with its 95 % confidence interval where one was computed."""

    value: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class SliceMetrics:
    """The metrics of one slice.

    Attributes:
        slice: The slice's columns and values, such as `ad_position=1`; `overall` for all impressions.
        model: `candidate`, `baseline`, or `difference` for the candidate less the baseline.
        metrics: By name.
    """

    slice: str
    model: str
    metrics: Mapping[str, Metric]


def slice_name(key: Sequence[tuple[str, Any]]) -> str:
    """How a slice is called in reports."""
    if not key:
        return "overall"

    def text(value: Any) -> str:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    return ", ".join(f"{column}={text(value)}" for column, value in key)


def read_metrics(evaluation_uri: str) -> list[SliceMetrics]:
    """Reads the Evaluator's metrics, the overall slice first."""
    return [found for found in _read(evaluation_uri) if found.model != DIFFERENCE]


def read_differences(evaluation_uri: str) -> list[SliceMetrics]:
    """Reads the candidate's differences to the baseline, the overall slice first; none without a baseline."""
    return [found for found in _read(evaluation_uri) if found.model == DIFFERENCE]


def _read(evaluation_uri: str) -> list[SliceMetrics]:
    found: dict[tuple[str, str], dict[str, Metric]] = {}
    for record in tfma.load_metrics(evaluation_uri):
        key = slice_name([(single.column, _slice_value(single)) for single in record.slice_key.single_slice_keys])
        for item in record.metric_keys_and_values:
            if item.key.name.startswith("_"):
                continue
            metric = _metric(item)
            if metric is not None:
                model = DIFFERENCE if item.key.is_diff else item.key.model_name or CANDIDATE
                found.setdefault((key, model), {})[item.key.name] = metric
    order = {CANDIDATE: 0, BASELINE: 1, DIFFERENCE: 2}
    ordered = sorted(found, key=lambda pair: (pair[0] != "overall", pair[0], order[pair[1]]))
    return [
        SliceMetrics(name, model, _meaningful(found[name, model], found[name, CANDIDATE])) for name, model in ordered
    ]


def _meaningful(metrics: Mapping[str, Metric], candidate: Mapping[str, Metric]) -> dict[str, Metric]:
    """Leaves out what too few clicks cannot say: an AUC without a click or a non-click, an interval of a few clicks."""
    count, rate = candidate[COUNT].value, candidate[MEAN_LABEL].value
    rarer = count * min(rate, 1 - rate)
    kept = dict(metrics)
    if rarer < _CLICKS_FOR_INTERVAL:
        kept = {name: Metric(metric.value) for name, metric in kept.items()}
    if rarer < 0.5:
        kept |= {name: Metric(float("nan")) for name in ("auc", "auc_precision_recall") if name in kept}
    return kept


def _slice_value(single: Any) -> Any:
    return getattr(single, single.WhichOneof("kind"))


def _metric(item: Any) -> Metric | None:
    kind = item.value.WhichOneof("type")
    if kind == "double_value":
        metric = Metric(item.value.double_value.value)
    elif kind == "bounded_value":
        metric = Metric(item.value.bounded_value.value.value)
    else:
        return None
    if item.HasField("confidence_interval"):
        interval = item.confidence_interval
        return Metric(metric.value, interval.lower_bound.double_value.value, interval.upper_bound.double_value.value)
    return metric


def read_refusals(evaluation_uri: str) -> list[str]:
    """Says which metric, in which slice, kept the candidate from being blessed; empty if it was blessed."""
    result = tfma.load_validation_result(evaluation_uri)
    if result.validation_ok:
        return []
    reasons = []
    for validation in result.metric_validations_per_slice:
        where = slice_name([(key.column, _slice_value(key)) for key in validation.slice_key.single_slice_keys])
        for failure in validation.failures:
            threshold = failure.metric_threshold
            value = failure.metric_value.double_value.value
            bounds = []
            if threshold.HasField("value_threshold"):
                limits = threshold.value_threshold
                if limits.HasField("lower_bound"):
                    bounds.append(f"at least {limits.lower_bound.value:g}")
                if limits.HasField("upper_bound"):
                    bounds.append(f"at most {limits.upper_bound.value:g}")
            if threshold.HasField("change_threshold"):
                bounds.append(
                    f"a change against the last blessed model within {threshold.change_threshold.absolute.value:g}"
                )
            what = "the change of " if failure.metric_key.is_diff else ""
            reasons.append(
                f"{what}{failure.metric_key.name} in slice {where} is {value:.5g}; required: {' and '.join(bounds)}"
                + (f" ({failure.message})" if failure.message and not bounds else "")
            )
    for missing in result.missing_slices:
        reasons.append(f"no held-out impressions in the slice {list(missing.feature_keys)} that a threshold asks for")
    return reasons or ["the Evaluator gave no reason; see its artifacts"]
