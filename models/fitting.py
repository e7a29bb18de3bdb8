"""Fits the click network: decay on plateau, early stopping on the validation log loss, TensorBoard logs, seeded.

An image costs once, not once per impression: a step embeds anew only some of its creatives, which carry the gradient;
the others come from a table of the embeddings they last had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from adclick.models.adam import Adam
from adclick.models.effects import Effects, estimate_effects, refit_effects
from adclick.models.features import InputLayout
from adclick.models.image_effects import learn_image_effects
from adclick.models.metrics.counts import check_finite, count, estimate, log_losses
from adclick.models.network import CATEGORIES, CREATIVES, MULTIPLES, NUMBERS, TEXTS, ClickNetwork
from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.models.text_effects import estimate_text_effects
from adclick.models.training_data import Columns, Hiding, TrainingBatch, TrainingCreatives, batches
from adclick.schema.errors import DataRefused, ModelRefused

Floats32 = npt.NDArray[np.float32]

_EVALUATION_BATCH = 8_192
_EMBED_BATCH = 512
_CHECKED_ROWS = 65_536
#: Fewer creatives than this in a step give too rough a gradient.
_LEAST_FRESH = 64
_DECAY = 0.4
#: With fewer creatives a value than this, on average, a field names the creative.
_CREATIVES_OF_ONE = 1.5
#: A log loss that falls by less does not fall.
_LEAST_PROGRESS = 1e-5


@dataclass(frozen=True)
class Fit:
    """A fitted network and how it came about.

    Attributes:
        network: With the weights of the best epoch, or those from before the first where they were better.
        history: By metric, its value after each epoch.
        best_log_loss: That of these weights on the validation impressions.
        is_warm: Whether it started from the weights of an earlier model.
        cold_because: Why it did not although it was to; None if it did, or was not to.
    """

    network: ClickNetwork
    history: dict[str, list[float]]
    best_log_loss: float
    is_warm: bool = False
    cold_because: str | None = None

    @property
    def epochs(self) -> int:
        return len(self.history["val_log_loss"])


def fit(
    train: Columns,
    validation: Columns,
    store: TrainingCreatives | None,
    layout: InputLayout,
    network_settings: NetworkSettings,
    training: TrainingSettings,
    image_size: int,
    log_folder: Path | str | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    warm_start: Callable[[ClickNetwork], str | None] | None = None,
) -> Fit:
    """Trains a new network on `train` and keeps the weights that did best on `validation`.

    Args:
        train: What is trained on.
        validation: What early stopping watches.
        store: The creatives; None without images.
        layout: The network's inputs.
        network_settings: Sizes of the network.
        training: How it is fitted.
        image_size: Edge of the creatives in pixels.
        log_folder: Where TensorBoard logs go; nowhere if None.
        on_epoch: Is told each epoch's number and metrics.
        warm_start: Gives a new network the weights to start from; returns why it did not, or None.

    Raises:
        DataRefused: `train` or `validation` has no rows, or `train` has no click or nothing but clicks.
        ModelRefused: A quantity, a loss, a weight, an embedding or a prediction is not finite.
    """
    if not len(train) or not len(validation):
        raise DataRefused(
            f"there are {len(train)} training and {len(validation)} validation impressions: both are needed",
            "Deliver more rows, or change split.eval_share and split.validation_share in the config.",
        )
    clicks = int(np.sum(train.clicked))
    if not 0 < clicks < len(train):
        raise DataRefused(
            f"of {len(train):,} training impressions {clicks:,} are clicked: both clicks and non-clicks are needed",
            "Deliver more rows, clicked and unclicked ones alike; is the label the right column?",
        )
    for name, columns in (("training", train), ("validation", validation)):
        _check_quantities(columns, layout, name)
    keras.utils.set_random_seed(training.seed)
    newest = train.last(training.effect_rows)
    if not 0 < np.mean(newest.clicked) < 1:
        newest = train
    effects = estimate_effects(
        newest.categories,
        newest.clicked,
        [field.size for field in layout.singles],
        largest_combination=network_settings.largest_combination,
        evidence=network_settings.combination_evidence,
        unknown={index: field.unknown for index, field in enumerate(layout.singles) if field.unknown is not None},
        ordered=_ordered(layout),
    )
    network = ClickNetwork(layout, network_settings, training, image_size, len(train), effects)
    cold_because = None if warm_start is None else warm_start(network)
    image_ids = fields_of_one_creative(train, layout) if store is not None else []
    hiding = Hiding.of(layout, training.unknown_rate, dict.fromkeys(image_ids, training.creative_id_rate))
    predictor = Predictor(network, store)
    is_warm = warm_start is not None and cold_because is None
    knows_images = False
    if store is not None and not is_warm:
        positions = [index for index, field in enumerate(layout.singles) if field.name in image_ids]
        knows_images = learn_image_effects(network, newest, store, effects, positions, training.seed)
    if knows_images:
        _refit_effects(network, effects, newest, predictor)
    if _learn_texts(network, newest, predictor):
        _refit_effects(network, effects, newest, predictor)
    with _naming("before the first epoch"):
        _check_weights(network)
    steps = _Steps(network, store, training, hiding, predictor)
    epoch_seeds = np.random.SeedSequence(training.seed).generate_state(training.max_epochs)
    history: dict[str, list[float]] = {}
    best, patience = np.inf, training.patience
    weights = [variable.numpy() for variable in network.variables]
    start_weights = weights if is_warm else network.weights_of_effects()
    _assign(network, start_weights)
    start = predictor.predict(validation)
    _assign(network, weights)
    start_loss = float(log_losses(np.asarray(validation.clicked, np.float64), start).mean())
    if is_warm:
        best = start_loss
    writer = (
        tf.summary.create_file_writer(str(log_folder)) if log_folder is not None else tf.summary.create_noop_writer()
    )
    for epoch, seed in enumerate(epoch_seeds.tolist()):
        metrics = {"learning_rate": float(steps.optimizer.learning_rate), "log_loss": steps.epoch(train, seed, epoch)}
        with _naming(f"after epoch {epoch + 1}"):
            _check_weights(network)
            metrics |= {f"val_{name}": value for name, value in predictor.measure(validation).items()}
        for name, value in metrics.items():
            history.setdefault(name, []).append(value)
        with writer.as_default(epoch):
            for name, value in metrics.items():
                tf.summary.scalar(name, value)
        if on_epoch is not None:
            on_epoch(epoch, metrics)
        if metrics["val_log_loss"] < best - _LEAST_PROGRESS:
            best, patience = metrics["val_log_loss"], training.patience
            weights = [variable.numpy() for variable in network.variables]
            continue
        patience -= 1
        if not patience:
            break
        steps.optimizer.learning_rate.assign(steps.optimizer.learning_rate * _DECAY)
    writer.close()
    _assign(network, weights)
    after = predictor.predict(validation)
    if _evidence(after, start, validation.clicked) > training.epoch_evidence:
        _refit_effects(network, effects, newest, predictor)
        refits = _evidence(predictor.predict(validation), after, validation.clicked) > 0
        if not refits:
            _assign(network, weights)
    else:
        # By few clicks the best of many epochs looks good by chance; the start was chosen by none of them.
        best = start_loss
        refits = not is_warm
        _assign(network, start_weights)
    if refits:
        # All is chosen: the newest impressions, those of validation, may now tell the effects too.
        known = newest.joined(validation)
        latest = known.last(training.effect_rows)
        _refit_effects(network, effects, latest if 0 < np.mean(latest.clicked) < 1 else known, predictor)
    if training.mixed_precision:
        trained = [variable.numpy() for variable in network.variables]
        exact = training.model_copy(update={"mixed_precision": False})
        network = ClickNetwork(layout, network_settings, exact, image_size, len(train), effects)
        _assign(network, trained)
    return Fit(network, history, best, is_warm, cold_because)


def _evidence(prediction: Floats32, other: Floats32, clicked: Floats32) -> float:
    """How many standard errors of the difference a prediction's log loss lies below the other's; -inf if it is none."""
    target = np.asarray(clicked, np.float64)
    gain = log_losses(target, other) - log_losses(target, prediction)
    error = gain.std() / np.sqrt(len(gain))
    if not np.isfinite(error):
        return -np.inf
    return float(gain.mean() / error) if error else 0.0


@contextmanager
def _naming(when: str) -> Iterator[None]:
    """Says when a model turned out to be none."""
    try:
        yield
    except ModelRefused as refusal:
        raise ModelRefused(f"training failed: {when}: {refusal.message}", refusal.remedy) from None


def _check_weights(network: ClickNetwork) -> None:
    for variable in network.variables:
        check_finite(variable.numpy(), f"weights of `{variable.path}`")


def _check_quantities(columns: Columns, layout: InputLayout, split: str) -> None:
    for start in range(0, len(columns), _CHECKED_ROWS):
        block = columns.numbers[start : start + _CHECKED_ROWS]
        if not np.isfinite(block).all():
            index = int(np.flatnonzero(~np.isfinite(block).all(axis=0))[0])
            check_finite(block[:, index], f"values of the quantity `{layout.numbers[index]}` in {split} impressions")


def _assign(network: ClickNetwork, weights: list[npt.NDArray[np.generic]]) -> None:
    for variable, value in zip(network.variables, weights, strict=True):
        variable.assign(value)


def _refit_effects(network: ClickNetwork, effects: Effects, columns: Columns, predictor: Predictor) -> None:
    """Estimates the effects anew beside what the rest of the network learned, such as an image's share of its ad's."""
    network.set_effects(np.zeros(effects.size))
    offset = predictor.logits(columns).astype(np.float64)
    check_finite(offset, "logits of training impressions")
    refitted = refit_effects(effects, columns.categories, columns.clicked, offset, _ordered(network.layout))
    network.set_effects(refitted.values, refitted.intercept)


def _learn_texts(network: ClickNetwork, columns: Columns, predictor: Predictor) -> bool:
    """Estimates the effects of words beside all else that moves the clicks; says whether there are any."""
    texts = columns.texts
    if texts is None:
        return False
    for number, variable in enumerate(network.text_effects):
        variable.assign(np.zeros(variable.shape, np.float32))
        offset = predictor.logits(columns).astype(np.float64)
        check_finite(offset, "logits of training impressions")
        found = estimate_text_effects(texts.store.matrix(number), texts.positions[:, number], columns.clicked, offset)
        variable.assign(found.weights.astype(np.float32))
    return any(np.any(variable.numpy()) for variable in network.text_effects)


def _with_text_effects(inputs: dict[str, npt.NDArray[np.generic]], table: Floats32 | None) -> dict[str, Any]:
    """A batch's inputs with the effects of its texts in the place of the texts."""
    if table is None:
        return inputs
    fields = np.arange(table.shape[1])
    return {**inputs, TEXTS: table[inputs[TEXTS], fields]}


def text_table(network: ClickNetwork, columns: Columns) -> Floats32 | None:
    """The effects of all texts that the impressions' store holds, float32 [texts, fields]; None without texts."""
    if columns.texts is None:
        return None
    return columns.texts.store.effects([variable.numpy() for variable in network.text_effects])


def _ordered(layout: InputLayout) -> dict[int, int]:
    return {index: field.ordered for index, field in enumerate(layout.singles) if field.ordered}


def fields_of_one_creative(columns: Columns, layout: InputLayout) -> list[str]:
    """The vocabulary fields whose values nearly all come with one creative each, and so could stand for its image."""
    found = []
    for index, field in enumerate(layout.singles):
        values = columns.categories[:, index].astype(np.int64)
        shown = (columns.creative >= 0) & (values != field.unknown)
        if field.unknown is None or not shown.any():
            continue
        pairs = np.unique(values[shown] * (int(columns.creative.max()) + 1) + columns.creative[shown])
        creatives = len(np.unique(columns.creative[shown]))
        distinct = len(np.unique(values[shown]))
        if len(pairs) < _CREATIVES_OF_ONE * distinct and distinct > creatives / _CREATIVES_OF_ONE:
            found.append(field.name)
    return found


class _Steps:
    """Takes optimiser steps; holds the embeddings that creatives last had."""

    def __init__(
        self,
        network: ClickNetwork,
        store: TrainingCreatives | None,
        training: TrainingSettings,
        hiding: Hiding,
        predictor: Predictor,
    ) -> None:
        self._network = network
        self._store = store
        self._training = training
        self._hiding = hiding
        self._variables = [variable.value for variable in network.trainable_variables]
        self.optimizer = Adam(self._variables, training.learning_rate)
        self._embeddings = None if store is None else tf.Variable(predictor.embeddings())
        self._step = tf.function(self._take, input_signature=_batch_specs(network), autograph=False)

    def epoch(self, train: Columns, seed: int, number: int) -> float:
        """Passes once over the data; gives the mean log loss on the way.

        Raises:
            ModelRefused: The loss of a step is not finite.
        """
        losses = []
        creatives = 0 if self._store is None else len(self._store)
        fresh = max(_LEAST_FRESH, -(-creatives * self._training.batch_size // len(train))) if creatives else 0
        made = batches(train, self._store, self._training.batch_size, seed=seed, hiding=self._hiding, fresh=fresh)
        texts = text_table(self._network, train)
        for batch in made:
            inputs = _with_text_effects(batch.inputs, texts)
            losses.append(
                self._step(inputs, batch.creative, batch.fresh, batch.fresh_slot, batch.images, batch.clicked)
            )
        found = np.array([loss.numpy() for loss in losses])
        wrong = np.flatnonzero(~np.isfinite(found))
        if len(wrong):
            with _naming(f"epoch {number + 1}, step {wrong[0] + 1}: the loss is {found[wrong[0]]}"):
                _check_weights(self._network)
                check_finite(found, "losses")
        return float(found.mean())

    def _take(
        self,
        inputs: dict[str, tf.Tensor],
        creative: tf.Tensor,
        fresh: tf.Tensor,
        fresh_slot: tf.Tensor,
        images: tf.Tensor,
        clicked: tf.Tensor,
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            creatives = None
            if self._embeddings is not None:
                embedded = self._network.embed_images(images, training=True)
                unknown = self._network.unknown_embedding()
                old = tf.gather(self._embeddings, tf.maximum(creative - 1, 0))
                new = tf.gather(tf.concat([unknown, embedded], axis=0), fresh_slot)
                is_new = tf.logical_or(fresh_slot > 0, tf.equal(creative, 0))
                creatives = tf.where(is_new[:, None], new, old)
                told = tf.stop_gradient(embedded[: tf.size(fresh)])
                self._embeddings.scatter_nd_update(fresh[:, None] - 1, told)
            logit = self._network.score(
                inputs[CATEGORIES],
                inputs.get(MULTIPLES),
                inputs[NUMBERS],
                creatives,
                training=True,
                texts=inputs.get(TEXTS),
            )
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(clicked, logit))
            total = loss + self._network.penalty()
        self.optimizer.apply(tape.gradient(total, self._variables))
        return loss


def _input_specs(layout: InputLayout) -> dict[str, tf.TensorSpec]:
    """What the network takes of any number of impressions, but for their creatives."""
    specs = {
        CATEGORIES: tf.TensorSpec([None, len(layout.singles)], tf.int32),
        NUMBERS: tf.TensorSpec([None, len(layout.numbers)], tf.float32),
    }
    if layout.multiples:
        specs[MULTIPLES] = tf.TensorSpec([None, sum(field.width for field in layout.multiples)], tf.int32)
    if layout.texts:
        specs[TEXTS] = tf.TensorSpec([None, len(layout.texts)], tf.float32)
    return specs


def _image_spec(network: ClickNetwork) -> tf.TensorSpec:
    size = None if network.image_tower is None else network.image_tower.input_shape[1]
    return tf.TensorSpec([None, size, size, 3], tf.uint8)


def _batch_specs(network: ClickNetwork) -> list[Any]:
    """What a training step takes, of any number of impressions and images, so that it is traced once."""
    number = tf.TensorSpec([None], tf.int32)
    clicked = tf.TensorSpec([None], tf.float32)
    return [_input_specs(network.layout), number, number, number, _image_spec(network), clicked]


class Predictor:
    """Predicts by a network as it is at the time; its graphs are traced once.

    Args:
        network: The network.
        store: The creatives; None without images.
    """

    def __init__(self, network: ClickNetwork, store: TrainingCreatives | None) -> None:
        self._network = network
        self._store = store
        specs = _input_specs(network.layout)
        if store is not None:
            specs[CREATIVES] = tf.TensorSpec([None, network.creative_width], tf.float32)
        self._embed: Any = tf.function(network.embed_images, input_signature=[_image_spec(network)], autograph=False)
        self._score: Any = tf.function(network.call, input_signature=[specs], autograph=False)

    def embed_creatives(self) -> Iterator[tuple[npt.NDArray[np.int64], Floats32]]:
        """Positions in the store, some at a time, with their embeddings float32 [some, creative_width]."""
        store = self._store
        if store is None:
            return
        for start in range(0, len(store), _EMBED_BATCH):
            positions = np.arange(start, min(start + _EMBED_BATCH, len(store)))
            yield positions, self._embed(tf.constant(store.images(positions))).numpy()

    def embeddings(self) -> Floats32:
        """The embeddings of every creative in the order of the store, float32 [number of creatives, creative_width]."""
        parts = [embedded for _, embedded in self.embed_creatives()]
        for part in parts:
            check_finite(part, "components of creatives' embeddings")
        return np.concatenate(parts) if parts else np.zeros((1, self._network.creative_width), np.float32)

    def logits(self, columns: Columns) -> Floats32:
        """Click logits float32 [rows], before any correction for sampled negatives."""
        table = None
        if self._store is not None:
            unknown = np.asarray(self._network.unknown_embedding())
            table = np.concatenate([unknown, self.embeddings()])
        texts = text_table(self._network, columns)
        parts = [self._logits(batch, table, texts) for batch in batches(columns, self._store, _EVALUATION_BATCH)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def predict(self, columns: Columns) -> Floats32:
        """Click probabilities float32 [rows], before any correction for sampled negatives."""
        return np.asarray(tf.sigmoid(self.logits(columns)))

    def measure(self, columns: Columns) -> dict[str, float]:
        """Log loss and AUC."""
        prediction = self.predict(columns).astype(np.float64)
        ones = np.ones(len(prediction))
        counts = count(prediction, np.asarray(columns.clicked) == 1, ones, np.zeros(len(prediction), np.int64))
        found = estimate(counts).value
        return {"log_loss": found["log_loss"], "auc": found["auc"]}

    def _logits(self, batch: TrainingBatch, table: Floats32 | None, texts: Floats32 | None) -> Floats32:
        inputs = {name: tf.constant(values) for name, values in _with_text_effects(batch.inputs, texts).items()}
        if table is not None:
            inputs[CREATIVES] = tf.constant(table[batch.creative])
        return np.asarray(self._score(inputs))[:, 0]


def predict(network: ClickNetwork, columns: Columns, store: TrainingCreatives | None) -> Floats32:
    """Click probabilities float32 [rows], before any correction for sampled negatives."""
    return Predictor(network, store).predict(columns)
