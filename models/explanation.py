"""What a model goes by: how much worse it predicts when the values of a feature are shuffled among impressions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from adclick.models.description import read_description
from adclick.models.loading import load_model
from adclick.models.metrics.counts import log_losses
from adclick.models.requests import parse_examples
from adclick.models.training_data import record_datasets
from adclick.schema.signatures import CLICK_PROBABILITY, SERVING_DEFAULT

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
#: Gives the click probabilities [rows] of columns, each with a row per impression.
Predict = Callable[[Mapping[str, Array]], npt.NDArray[np.floating[Any]]]

_BATCH_ROWS = 8_192


@dataclass(frozen=True)
class Importance:
    """What a model loses when it no longer knows a feature.

    Attributes:
        name: The feature.
        increase_in_log_loss: By how much the mean log loss, in nats, rises when the feature's values are shuffled;
            about 0 or below for a feature that the model does not use.
        deviation: The standard deviation of that rise over the repeats.
    """

    name: str
    increase_in_log_loss: float
    deviation: float


def permutation_importance(
    predict: Predict,
    columns: Mapping[str, Array],
    labels: Array,
    features: Sequence[str],
    repeats: int = 5,
    seed: int = 0,
    weights: Floats | None = None,
) -> list[Importance]:
    """Shuffles one feature at a time and measures how much worse the predictions get.

    Breiman 2001, "Random forests", section 10. Features that say the same share their importance: each looks small as
    long as the other is left.

    Args:
        predict: The model.
        columns: Held-out impressions by column, [rows] or [rows, …].
        labels: Whether each was clicked, 0 or 1, [rows].
        features: The columns to shuffle, each alone.
        repeats: How many times each is shuffled.
        seed: The same seed gives the same answer.
        weights: How many impressions each row stands for [rows]; one each if None.

    Returns:
        The most important feature first.

    Raises:
        ValueError: There is no row, a feature is no column, or there are fewer than two repeats.
    """
    rows = len(labels)
    if not rows:
        raise ValueError("there are no impressions to measure importance on")
    if repeats < 2:
        raise ValueError(f"{repeats} repeats say nothing of their deviation: ask for 2 at least")
    unknown = [name for name in features if name not in columns]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not among the columns {', '.join(columns)}")
    target = np.asarray(labels, np.float64)

    def loss(changed: Mapping[str, Array]) -> float:
        return float(np.average(log_losses(target, predict(changed)), weights=weights))

    intact = loss(columns)
    random = np.random.default_rng(seed)
    found = []
    for name in features:
        losses = [loss({**columns, name: columns[name][_shuffled(rows, weights, random)]}) for _ in range(repeats)]
        rises = np.array(losses) - intact
        found.append(Importance(name, float(rises.mean()), float(rises.std(ddof=1))))
    return sorted(found, key=lambda importance: -importance.increase_in_log_loss)


def _shuffled(rows: int, weights: Floats | None, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Which row each gets its value from: every row gives in proportion to its weight."""
    if weights is None:
        return random.permutation(rows)
    upto = np.cumsum(weights)
    givers = np.searchsorted(upto, (np.arange(rows) + random.random()) * (upto[-1] / rows), side="right")
    return random.permutation(np.minimum(givers, rows - 1))


def model_importance(
    model_folder: str, example_files: Iterable[str], *, rows: int = 10_000, repeats: int = 5, seed: int = 0
) -> list[Importance]:
    """The permutation importance of every column that an exported model takes, the image among them.

    Args:
        model_folder: A SavedModel of ours; of a Model artifact, what `path_utils.serving_model_path` gives. Creatives
            that it does not hold count as unknown.
        example_files: TFRecord files of held-out examples, gzipped where the name ends in `.gz`.
        rows: At most so many impressions are used, drawn at random from all; bounds memory and time.
        repeats: How many times each column is shuffled.
        seed: Draws and shuffles.

    Raises:
        ConfigError: The model is not one of ours.
        ValueError: There is no example.
    """
    description = read_description(model_folder)
    features = description.features
    records = tf.constant(_drawn(example_files, rows, np.random.default_rng(seed)), tf.string)
    columns = {name: values.numpy() for name, values in parse_examples(records, features).items()}
    spec = {features.label_name: tf.io.FixedLenFeature([], tf.int64, 0)}
    clicked = tf.io.parse_example(records, spec)[features.label_name].numpy()

    # What a sampled log left out counts, as in the Evaluator.
    weights = np.where(clicked == 1, 1.0, 1 / description.negative_sampling_rate)
    predict = column_predictor(model_folder)
    return permutation_importance(predict, columns, clicked, list(columns), repeats, seed, weights)


def column_predictor(model_folder: str) -> Predict:
    """The click probabilities float32 [rows] that an exported model gives of the inputs of `serving_default`.

    It keeps the columns that it was last given: one that is the same array again is not handed to TensorFlow anew.

    Raises:
        ConfigError: The model is not one of ours.
    """
    names = read_description(model_folder).features.tensor_names
    signature = load_model(model_folder).signatures[SERVING_DEFAULT]
    last: dict[str, tuple[Array, tf.Tensor]] = {}

    def tensor(name: str, values: Array) -> tf.Tensor:
        if name not in last or last[name][0] is not values:
            last[name] = values, tf.constant(values)
        return last[name][1]

    def predict(columns: Mapping[str, Array]) -> npt.NDArray[np.float32]:
        tensors = {names[name]: tensor(name, values) for name, values in columns.items()}
        rows = len(next(iter(columns.values())))
        parts = [
            signature(**{name: values[start : start + _BATCH_ROWS] for name, values in tensors.items()})
            for start in range(0, rows, _BATCH_ROWS)
        ]
        return np.concatenate([part[CLICK_PROBABILITY].numpy() for part in parts])

    return predict


def _drawn(files: Iterable[str], count: int, random: np.random.Generator) -> list[bytes]:
    """At most `count` records, each as likely as any other."""
    kept = np.zeros(0, object)
    lots = np.zeros(0)
    for records in record_datasets(list(files)):
        for batch in records.batch(_BATCH_ROWS).as_numpy_iterator():
            kept, lots = np.concatenate([kept, batch]), np.concatenate([lots, random.random(len(batch))])
            if len(kept) > count:
                chosen = np.argpartition(lots, count)[:count]
                kept, lots = kept[chosen], lots[chosen]
    return list(kept)
