"""What images do to clicks, learned before all else from one number per creative: cheap, and not lost in the noise.

A single impression says nearly nothing of an image, and a network that learns everything at once finds its effect late,
if before early stopping at all. What the other effects leave unexplained of a creative's clicks is one number that says
it, so the image tower first learns these: a pass costs an image per creative, however many impressions there are.

Source: the residuals are a generalised linear model's working response, weighed by what is known of each: its sampling
variance and the variance between creatives (Breslow & Clayton 1993, "Approximate inference in generalized linear mixed
models").
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from adclick.models.adam import Adam
from adclick.models.effects import Effects
from adclick.models.metrics.counts import check_finite
from adclick.models.network import ClickNetwork
from adclick.models.training_data import Columns, TrainingCreatives

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]

#: With fewer creatives than this there is nothing to generalise from.
_LEAST_CREATIVES = 50
_HELD_OUT_SHARE = 0.2
#: How many standard errors creatives that were kept back must be better explained, to count.
_EVIDENCE = 2.0
_BATCH = 64
_LEARNING_RATE = 0.002
_PATIENCE = 6
_MOST_PASSES = 40
#: Passes are fewer where they would embed more images than this in all.
_MOST_IMAGES = 200_000


def learn_image_effects(
    network: ClickNetwork,
    columns: Columns,
    store: TrainingCreatives,
    effects: Effects,
    image_fields: list[int],
    seed: int,
) -> bool:
    """Trains the network's image tower, and what its logit takes from the image, on the residuals of creatives.

    Args:
        network: A network with an image tower; keeps its weights where images are not found to say anything.
        columns: Impressions.
        store: Their creatives.
        effects: The additive model of `columns`.
        image_fields: Positions of the fields that name a creative, whose effects hold what the image does.
        seed: Parts the creatives and shuffles them.

    Returns:
        Whether the images explain residuals of creatives that were kept back.

    Raises:
        ModelRefused: What the tower gives is not finite.
    """
    tower = network.image_tower
    if tower is None:
        return False
    residual, weight = creative_residuals(columns, effects, image_fields, len(store))
    known = np.flatnonzero(weight > 0)
    if len(known) < _LEAST_CREATIVES:
        return False
    order = np.random.default_rng(seed).permutation(known)
    kept_back, taught = np.split(order, [round(len(order) * _HELD_OUT_SHARE)])
    weight /= weight[known].mean()
    learner = _Learner(tower, store, residual, weight, seed)
    before = tower.get_weights()
    explained = learner.learn(taught, kept_back, max(1, min(_MOST_PASSES, _MOST_IMAGES // len(known))))
    mean = np.average(residual[taught], weights=weight[taught])
    gain = weight[kept_back] * ((residual[kept_back] - mean) ** 2 - (residual[kept_back] - explained) ** 2)
    if not gain.mean() >= _EVIDENCE * gain.std() / np.sqrt(len(gain)):
        tower.set_weights(before)
        return False
    network.set_image_effect(*learner.head)
    return True


def creative_residuals(
    columns: Columns, effects: Effects, image_fields: list[int], creatives: int
) -> tuple[Floats, Floats]:
    """What the effects other than the creative's own leave unexplained of each creative's clicks.

    Returns:
        The residual of each creative in logits, float64 [creatives], and how much each says: the inverse of its
        variance, 0 for a creative without impressions.
    """
    own = [table for table in effects.tables if set(table.fields) & set(image_fields)]
    others = Effects(effects.intercept, tuple(table for table in effects.tables if table not in own))
    shown = columns.creative >= 0
    creative = columns.creative[shown]
    probability = 1 / (1 + np.exp(-others.logits(columns.categories[shown])))
    score = np.bincount(creative, columns.clicked[shown] - probability, creatives)
    information = np.bincount(creative, probability * (1 - probability), creatives)
    known = information > 0
    residual = np.divide(score, information, out=np.zeros(creatives), where=known)
    sampling = np.divide(1.0, information, out=np.zeros(creatives), where=known)
    # By moments: what the residuals vary beyond their sampling.
    excess = float((score[known] ** 2 / information[known] - 1).sum())
    # Of a window without a single usable image nothing is known.
    between = max(0.0, excess / float(information[known].sum())) if known.any() else 0.0
    weight = np.divide(1.0, sampling + between, out=np.zeros(creatives), where=known)
    return residual, weight


class _Learner:
    """Fits a tower and a linear head on it to the residuals of creatives."""

    def __init__(
        self, tower: keras.Model, store: TrainingCreatives, residual: Floats, weight: Floats, seed: int
    ) -> None:
        self._tower = tower
        self._store = store
        self._residual = residual
        self._weight = weight
        self._random = np.random.default_rng(seed)
        width = tower.output_shape[-1]
        self._kernel = tf.Variable(self._random.normal(0, 0.01, (width, 1)), dtype=tf.float32)
        self._bias = tf.Variable(0.0)
        self._variables = [*(variable.value for variable in tower.trainable_variables), self._kernel, self._bias]
        self._optimizer = Adam(self._variables, _LEARNING_RATE)
        images = tf.TensorSpec([None, *tower.input_shape[1:]], tf.uint8)
        number = tf.TensorSpec([None], tf.float32)
        self._step = tf.function(self._take, input_signature=[images, number, number], autograph=False)
        self._explain = tf.function(self._call, input_signature=[images], autograph=False)

    @property
    def head(self) -> tuple[npt.NDArray[np.float32], float]:
        """The weights of the embedding, float32 [embedding_dimension], and what any image adds."""
        return self._kernel.numpy()[:, 0], float(self._bias.numpy())

    def learn(self, taught: Positions, kept_back: Positions, passes: int) -> Floats:
        """Keeps the weights that explain the creatives kept back best; gives what they explain of these."""
        best, patience = np.inf, _PATIENCE
        weights: list[npt.NDArray[np.generic]] = []
        explained = np.zeros(len(kept_back))
        for number in range(1, passes + 1):
            for chosen in self._batches(self._random.permutation(taught)):
                self._step(
                    tf.constant(self._store.images(chosen)),
                    tf.constant(self._residual[chosen], tf.float32),
                    tf.constant(self._weight[chosen], tf.float32),
                )
            parts = [self._explain(tf.constant(self._store.images(c))).numpy() for c in self._batches(kept_back)]
            found = np.concatenate(parts).astype(np.float64)
            check_finite(found, f"image effects after pass {number} over the creatives")
            loss = float((self._weight[kept_back] * (self._residual[kept_back] - found) ** 2).mean())
            if loss < best:
                best, patience, explained = loss, _PATIENCE, found
                weights = [*self._tower.get_weights(), self._kernel.numpy(), self._bias.numpy()]
                continue
            patience -= 1
            if not patience:
                break
        *tower, kernel, bias = weights
        self._tower.set_weights(tower)
        self._kernel.assign(kernel)
        self._bias.assign(bias)
        return explained

    def _batches(self, positions: Positions) -> Iterator[Positions]:
        for start in range(0, len(positions), _BATCH):
            yield positions[start : start + _BATCH]

    def _call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return (tf.matmul(self._tower(images, training=training), self._kernel) + self._bias)[:, 0]

    def _take(self, images: tf.Tensor, residual: tf.Tensor, weight: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(weight * tf.square(residual - self._call(images, training=True)))
        self._optimizer.apply(tape.gradient(loss, self._variables))
