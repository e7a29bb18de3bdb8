"""Other creatives made of given ones by one change, so that the recogniser learns to see what differs.

Creatives of one campaign differ in a headline, a colour or a picture. A batch drawn from a drop has few such pairs;
each creative's edited twin is one.
"""

from __future__ import annotations

import tensorflow as tf

from adclick.models.recognition.settings import LEAST_DIFFERENCE


def _band(rows: tf.Tensor, batch: tf.Tensor, least: float, most: float) -> tf.Tensor:
    """1 within a band of each image, float32 [batch, side, 1, 1] or [batch, 1, side, 1], whichever way `rows` lie."""
    centre = tf.random.uniform([batch, 1, 1, 1], 0.1, 0.9)
    return tf.cast(tf.abs(rows - centre) < tf.random.uniform([batch, 1, 1, 1], least, most) / 2, tf.float32)


def _moved_band(images: tf.Tensor) -> tf.Tensor:
    """A band is shifted along itself: other words in a line, a button elsewhere."""
    side = images.shape[1]
    band = _band(tf.linspace(0.0, 1.0, side)[None, :, None, None], tf.shape(images)[0], 0.1, 0.4)
    shift = tf.random.uniform([], side // 10, side // 2, tf.int32)
    return images + band * (tf.roll(images, shift, 2) - images)


def _patch(images: tf.Tensor) -> tf.Tensor:
    """A rectangle shows another creative, from another place of it: a picture is replaced."""
    side = images.shape[1]
    batch = tf.shape(images)[0]
    places = tf.linspace(0.0, 1.0, side)
    area = _band(places[None, :, None, None], batch, 0.15, 0.6) * _band(places[None, None, :, None], batch, 0.15, 0.6)
    shift = tf.random.uniform([2], side // 5, side - side // 5, tf.int32)
    other = tf.roll(tf.roll(images, 1, 0), shift, [1, 2])
    return images + area * (other - images)


def _other_colours(images: tf.Tensor) -> tf.Tensor:
    """The same picture in another colour."""
    return tf.image.adjust_hue(images / 255.0, tf.random.uniform([], 0.15, 0.85) * 2 - 1) * 255.0


def _mirrored(images: tf.Tensor) -> tf.Tensor:
    """Left and right exchanged."""
    return tf.reverse(images, [2])


EDITS = (_moved_band, _patch, _other_colours, _mirrored)


def edited(images: tf.Tensor) -> tf.Tensor:
    """Each creative with one change, chosen at random.

    Args:
        images: float32 [batch, S, S, 3], RGB, 0 to 255.

    Returns:
        The same shape. A change may be of no effect (a mirrored picture that is symmetric): `are_different` tells.
    """
    choice = tf.one_hot(tf.random.uniform([tf.shape(images)[0]], 0, len(EDITS), tf.int32), len(EDITS))
    return tf.add_n([choice[:, number, None, None, None] * edit(images) for number, edit in enumerate(EDITS)])


_COMPARED_SIDE = 16


def are_different(images: tf.Tensor) -> tf.Tensor:
    """Which pairs of pictures are two creatives, bool [batch, batch].

    None are a creative that is drawn twice, one that was saved twice, and one whose edit changed nothing, such as a
    symmetric picture mirrored.

    Args:
        images: float32 [batch, S, S, 3], S a multiple of 16.
    """
    step = images.shape[1] // _COMPARED_SIDE
    small = tf.nn.avg_pool2d(images, step, step, "VALID")
    small = tf.reshape(small, [tf.shape(images)[0], _COMPARED_SIDE * _COMPARED_SIDE * 3])
    return tf.reduce_mean(tf.abs(small[:, None] - small[None]), -1) >= LEAST_DIFFERENCE
