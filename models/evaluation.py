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
from tensorflow_model_analysis.proto import config_pb2, validation_result_pb2

from adclick.models.gates import UNDECIDED, Bounds
from adclick.models.metrics import METRICS, of_models
from adclick.models.metrics.impressions import CLICK_RATE, EXAMPLE_COUNT
from adclick.models.metrics.log_loss import entropy
from adclick.models.settings import EvaluationSettings, ThresholdSettings
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import FeatureTable
from adclick.schema.signatures import CLICK_PROBABILITY, SERVING_EXAMPLES
from adclick.storage.literal_path import literal_path

CANDIDATE = "candidate"
BASELINE = "baseline"
#: The candidate's metrics less the baseline's; the interval is of the difference on the same impressions.
CHANGE = "change"

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
    knowing_the_rate = entropy(click_rate)
    return log_loss / knowing_the_rate if knowing_the_rate else float("nan")


def _threshold(settings: ThresholdSettings, has_baseline: bool) -> config_pb2.MetricThreshold:
    metrics = of_models()
    if settings.metric not in metrics:
        raise ConfigError(
            f"evaluation.thresholds: unknown metric {settings.metric!r}", f"Use one of {', '.join(metrics)}."
        )
    threshold = config_pb2.MetricThreshold()
    if settings.lower is not None:
        threshold.value_threshold.lower_bound.value = settings.lower
    if settings.upper is not None:
        threshold.value_threshold.upper_bound.value = settings.upper
    if settings.max_drop is not None and has_baseline:
        higher_is_better = metrics[settings.metric].higher_is_better
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
        metric.name: config_pb2.MetricConfig(
            class_name=metric.tfma.class_name,
            module=metric.tfma.module,
            config=json.dumps({"name": metric.name, **metric.tfma.config}),
        )
        for metric in METRICS
    }
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
    slices += [config_pb2.SlicingSpec(feature_keys=[features.known_name(name)]) for name in evaluation.new_value_slices]
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
class MetricValue:
    """A metric's value, with its 95 % confidence interval where one was computed."""

    value: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class SliceMetrics:
    """The metrics of one slice.

    Attributes:
        slice: The slice's columns and values, such as `ad_position=1`; `overall` for all impressions.
        model: `candidate`, `baseline`, or `change`, the difference of both.
        metrics: By name.
    """

    slice: str
    model: str
    metrics: Mapping[str, MetricValue]


def slice_name(key: Sequence[tuple[str, Any]]) -> str:
    """How a slice is called in reports."""
    if not key:
        return "overall"

    def text(value: Any) -> str:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    return ", ".join(f"{column}={text(value)}" for column, value in key)


def read_metrics(evaluation_uri: str) -> list[SliceMetrics]:
    """Reads the Evaluator's metrics, the overall slice first."""
    found: dict[tuple[str, str], dict[str, MetricValue]] = {}
    for record in tfma.load_metrics(literal_path(evaluation_uri)):
        key = slice_name([(single.column, _slice_value(single)) for single in record.slice_key.single_slice_keys])
        for item in record.metric_keys_and_values:
            if item.key.name.startswith("_"):
                continue
            metric = _metric(item)
            if metric is not None:
                model = CHANGE if item.key.is_diff else item.key.model_name or CANDIDATE
                found.setdefault((key, model), {})[item.key.name] = metric
    order = (CANDIDATE, BASELINE, CHANGE)
    ordered = sorted(found, key=lambda pair: (pair[0] != "overall", pair[0], order.index(pair[1])))
    return [
        SliceMetrics(name, model, _meaningful(found[name, model], found[name, CANDIDATE])) for name, model in ordered
    ]


def _meaningful(metrics: Mapping[str, MetricValue], candidate: Mapping[str, MetricValue]) -> dict[str, MetricValue]:
    """Leaves out what too few clicks cannot say: an AUC without a click or a non-click, an interval of a few clicks."""
    count, rate = candidate[EXAMPLE_COUNT.name].value, candidate[CLICK_RATE.name].value
    rarer = count * min(rate, 1 - rate)
    kept = dict(metrics)
    if rarer < _CLICKS_FOR_INTERVAL:
        kept = {name: MetricValue(metric.value) for name, metric in kept.items()}
    if rarer < 0.5:
        kept |= {metric.name: MetricValue(float("nan")) for metric in METRICS if metric.needs_both_classes}
    return kept


def _slice_value(single: Any) -> Any:
    return getattr(single, single.WhichOneof("kind"))


def _metric(item: Any) -> MetricValue | None:
    kind = item.value.WhichOneof("type")
    if kind == "double_value":
        metric = MetricValue(item.value.double_value.value)
    elif kind == "bounded_value":
        metric = MetricValue(item.value.bounded_value.value.value)
    else:
        return None
    if item.HasField("confidence_interval"):
        interval = item.confidence_interval
        return MetricValue(
            metric.value, interval.lower_bound.double_value.value, interval.upper_bound.double_value.value
        )
    return metric


def bounds_of(threshold: config_pb2.MetricThreshold) -> Bounds:
    """What a metric, or its change against the last blessed model, may be."""
    if threshold.HasField("value_threshold"):
        limits = threshold.value_threshold
        return Bounds(
            limits.lower_bound.value if limits.HasField("lower_bound") else -math.inf,
            limits.upper_bound.value if limits.HasField("upper_bound") else math.inf,
        )
    if threshold.HasField("change_threshold"):
        change = threshold.change_threshold
        if change.direction == config_pb2.MetricDirection.HIGHER_IS_BETTER:
            return Bounds(lower=change.absolute.value)
        return Bounds(upper=change.absolute.value)
    return Bounds()


def gates_of(columns: Sequence[str], eval_config: config_pb2.EvalConfig) -> int:
    """How many bounds a candidate must keep in a slice by these columns: of values, and of changes."""
    thresholds = [
        per_slice.threshold
        for spec in eval_config.metrics_specs
        for metric in spec.metrics
        for per_slice in metric.per_slice_thresholds
        for slicing in per_slice.slicing_specs
        if sorted(slicing.feature_keys) == sorted(columns)
    ]
    return sum(one.HasField(kind) for one in thresholds for kind in ("value_threshold", "change_threshold"))


def read_refusals(evaluation_uri: str) -> list[str]:
    """Says which metric, in which slice, kept the candidate from being blessed; empty if it was blessed."""
    result = tfma.load_validation_result(literal_path(evaluation_uri))
    if result.validation_ok:
        return []
    reasons = _failures(result)
    for missing in result.missing_slices:
        reasons.append(f"no held-out impressions in the slice {list(missing.feature_keys)} that a threshold asks for")
    return reasons or ["the Evaluator gave no reason; see its artifacts"]


def read_undecided(evaluation_uri: str) -> list[str]:
    """Says which metrics of a blessed candidate are beyond a threshold as far as chance may have led them."""
    result = tfma.load_validation_result(literal_path(evaluation_uri))
    return _failures(result) if result.validation_ok else []


def _failures(result: validation_result_pb2.ValidationResult) -> list[str]:
    """Each metric beyond a threshold; those that are decided come first."""
    decided, undecided = list[str](), list[str]()
    for validation in result.metric_validations_per_slice:
        where = slice_name([(key.column, _slice_value(key)) for key in validation.slice_key.single_slice_keys])
        for failure in validation.failures:
            value = failure.metric_value.double_value.value
            limits = bounds_of(failure.metric_threshold)
            if failure.metric_threshold.HasField("change_threshold"):
                allowed = failure.metric_threshold.change_threshold.absolute.value
                bounds = [f"a change against the last blessed model within {allowed:g}"]
            else:
                bounds = [f"at least {limits.lower:g}"] if math.isfinite(limits.lower) else []
                bounds += [f"at most {limits.upper:g}"] if math.isfinite(limits.upper) else []
            what = "the change of " if failure.metric_key.is_diff else ""
            said = failure.message.strip()
            (undecided if said.startswith(UNDECIDED) else decided).append(
                f"{what}{failure.metric_key.name} in slice {where} is {value:.5g}; required: {' and '.join(bounds)}"
                + (f" ({said})" if said and (not bounds or said.startswith(UNDECIDED)) else "")
            )
    return decided + undecided
