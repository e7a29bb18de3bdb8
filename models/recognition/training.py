"""Training of the embedder: captures of one creative together, those of others apart.

The loss is the normalised temperature-scaled cross entropy of contrastive learning (Chen et al. 2020, SimCLR, NT-Xent)
between two captures of each creative, the others of the batch and of a memory of earlier batches' embeddings being the
wrong answers (He et al. 2020, MoCo, without its second network: the memory is short).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from adclick.models.recognition.camera import captured
from adclick.models.recognition.edits import are_different, edited
from adclick.models.recognition.settings import RecognitionSettings
from adclick.schema.errors import ConfigError, ModelRefused

_REPORT_STEPS = 50
_COLOUR_SIDE = 16


def build_embedder(settings: RecognitionSettings) -> keras.Model:
    """The network, from pixels float32 [batch, S, S, 3] (0 to 255) to an embedding float32 [batch, D] of unit length.

    Four convolutions, each to half the side, and a dense layer over all places and over a template of 16 x 16 colours,
    which knows creatives again before anything is learned. Each image is brought to mean
    0 and deviation 1 first, which takes most of the light away and leaves the colours.
    """
    layers = keras.layers
    inputs = layers.Input((settings.size, settings.size, 3), name="pixels")
    standardised = _Standardise(name="standardise")(inputs)
    x = standardised
    for multiple in (1, 2, 3, 4):
        x = layers.Conv2D(multiple * settings.width, 3, 2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))
    # Where something is says as much as what it is: no pooling over places.
    shapes = layers.Flatten()(layers.Conv2D(2 * settings.width, 1)(x))
    colours = layers.Flatten()(layers.AveragePooling2D(settings.size // _COLOUR_SIDE)(standardised))
    x = layers.Dense(settings.dimension)(layers.Concatenate()([shapes, colours]))
    outputs = _UnitLength(name="embedding")(x)
    return keras.Model(inputs, outputs)


@keras.saving.register_keras_serializable(package="adclick")
class _Standardise(keras.layers.Layer):  # type: ignore[misc]
    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        mean = tf.reduce_mean(pixels, [1, 2, 3], keepdims=True)
        variance = tf.reduce_mean(tf.square(pixels - mean), [1, 2, 3], keepdims=True)
        return (pixels - mean) * tf.math.rsqrt(variance + 16.0)


@keras.saving.register_keras_serializable(package="adclick")
class _UnitLength(keras.layers.Layer):  # type: ignore[misc]
    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x * tf.math.rsqrt(tf.reduce_sum(tf.square(x), -1, keepdims=True) + 1e-12)


def _load_embedder(settings: RecognitionSettings) -> keras.Model:
    path = str(settings.embedder)
    try:
        network = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"recognition.embedder: {path}: cannot be read: {str(error).splitlines()[0]}", "Name a file of Keras 3."
        ) from None
    shapes = (network.input_shape, network.output_shape)
    wanted = ((None, settings.size, settings.size, 3), (None, settings.dimension))
    if shapes != wanted:
        raise ConfigError(
            f"recognition.embedder: {path}: from {shapes[0]} to {shapes[1]}, wanted {wanted[0]} to {wanted[1]}",
            "Correct recognition.size and recognition.dimension, or the file.",
        )
    outputs = _UnitLength(name="unit_length")(network.outputs[0])
    return keras.Model(network.inputs, outputs)


def captures(pixels: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
    """A capture of each creative by the training camera, uint8 [creatives, S, S, 3]."""
    tf.random.set_seed(seed)
    taken: npt.NDArray[np.uint8] = captured(tf.constant(pixels, tf.float32)).numpy().astype(np.uint8)
    return taken


def train_embedder(
    images: npt.NDArray[np.uint8],
    settings: RecognitionSettings,
    tell: Callable[[str], None] = lambda _: None,
) -> keras.Model:
    """Trains on creatives.

    Args:
        images: uint8 [creatives, S, S, 3], RGB; at least two.
        settings: The network and its training.
        tell: Is told how it goes.

    Raises:
        ModelRefused: The loss is not finite.
        ConfigError: The embedder to begin with cannot be read, or has another form.
    """
    random.seed(settings.seed)
    np.random.seed(settings.seed)
    tf.random.set_seed(settings.seed)
    keras.utils.set_random_seed(settings.seed)
    network = build_embedder(settings) if settings.embedder is None else _load_embedder(settings)
    batch = min(settings.batch_size, len(images))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, settings.steps, warmup_target=settings.learning_rate, warmup_steps=max(1, settings.steps // 20)
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4)
    optimizer.build(network.trainable_variables)
    pixels = tf.constant(images)

    @tf.function
    def step(chosen: tf.Tensor) -> tf.Tensor:
        clean = tf.cast(tf.gather(pixels, chosen), tf.float32)
        twins = edited(clean)
        shown = tf.concat([clean, twins], 0)
        # The catalogue holds creatives as they are: half of the answers are such.
        is_clean = tf.random.uniform([tf.shape(shown)[0], 1, 1, 1]) < 0.5
        both = tf.concat([captured(shown), tf.where(is_clean, shown, captured(shown))], 0)
        with tf.GradientTape() as tape:
            first, second = tf.split(network(both, training=True), 2)
            is_other = are_different(shown)
            loss = _contrast(first, second, is_other, settings.temperature) + _contrast(
                second, first, is_other, settings.temperature
            )
        gradients = tape.gradient(loss, network.trainable_variables)
        gradients, _ = tf.clip_by_global_norm(gradients, 5.0)
        optimizer.apply(gradients, network.trainable_variables)
        return loss

    order = np.random.default_rng(settings.seed)
    waiting: list[int] = []
    recent: list[float] = []
    for number in range(1, settings.steps + 1):
        while len(waiting) < batch:
            waiting += order.permutation(len(images)).tolist()
        chosen, waiting = waiting[:batch], waiting[batch:]
        recent.append(float(step(tf.constant(chosen, tf.int32))))
        if not math.isfinite(recent[-1]):
            raise ModelRefused(f"the recogniser's loss is not finite at step {number}")
        if number % _REPORT_STEPS == 0 or number == settings.steps:
            tell(f"step {number} of {settings.steps}: loss {np.mean(recent[-_REPORT_STEPS:]):.3f}")
    return network


def _contrast(queries: tf.Tensor, answers: tf.Tensor, is_other: tf.Tensor, temperature: float) -> tf.Tensor:
    logits = tf.matmul(queries, answers, transpose_b=True) / temperature
    count = tf.shape(queries)[0]
    logits = tf.where(tf.logical_or(is_other, tf.eye(count, dtype=tf.bool)), logits, -1e9)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.range(count), logits=logits))
