"""What a camera before a screen makes of a creative, drawn at random, a whole batch at a time in TensorFlow.

Training sees these captures. What judges a recogniser besides must be another camera, or it judges what was learned by
heart.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

Distortion = Callable[[tf.Tensor], tf.Tensor]


def _uniform(shape: list[tf.Tensor | int], low: float, high: float) -> tf.Tensor:
    return tf.random.uniform(shape, low, high)


def _some(images: tf.Tensor, share: float) -> tf.Tensor:
    """1 for so large a share of the images, 0 for the others, float32 [batch, 1, 1, 1]."""
    return tf.cast(_uniform([tf.shape(images)[0], 1, 1, 1], 0.0, 1.0) < share, tf.float32)


def _grid(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows' and columns' places from 0 to 1, float32 [1, height, 1, 1] and [1, 1, width, 1]."""
    height, width = images.shape[1], images.shape[2]
    return tf.linspace(0.0, 1.0, height)[None, :, None, None], tf.linspace(0.0, 1.0, width)[None, None, :, None]


def _looked_up(images: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
    """Each pixel taken from where its homography says, float32 [batch, 8]; black from beside the picture."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=tf.shape(images)[1:3],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )


def perspective(images: tf.Tensor) -> tf.Tensor:
    """The screen seen from aside, turned, too near or too far; what is beside it has one colour."""
    batch, side = tf.shape(images)[0], float(images.shape[1])
    corners = tf.constant([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    angle = tf.random.normal([batch], stddev=0.05)
    zoom = _uniform([batch], 0.86, 1.16)
    turned = tf.stack(
        [
            tf.stack([tf.cos(angle), -tf.sin(angle)], -1),
            tf.stack([tf.sin(angle), tf.cos(angle)], -1),
        ],
        1,
    )
    shifted = tf.einsum("bij,kj->bki", turned, corners - 0.5) * zoom[:, None, None] + 0.5
    moved = shifted + tf.random.normal([batch, 1, 2], stddev=0.03) + tf.random.normal([batch, 4, 2], stddev=0.03)
    x, y = corners[None, :, 0] * side, corners[None, :, 1] * side
    u, v = moved[:, :, 0] * side, moved[:, :, 1] * side
    x, y = tf.broadcast_to(x, tf.shape(u)), tf.broadcast_to(y, tf.shape(v))
    zero, one = tf.zeros_like(x), tf.ones_like(x)
    # Each place of the capture is looked up in the creative: eight unknowns by four pairs of corners.
    rows = tf.concat(
        [
            tf.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1),
            tf.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1),
        ],
        1,
    )
    transforms = tf.linalg.solve(rows, tf.concat([u, v], 1)[:, :, None])[:, :, 0]

    inside = _looked_up(tf.ones_like(images[..., :1]), transforms)
    return _looked_up(images, transforms) + (1 - inside) * _uniform([batch, 1, 1, 3], 0.0, 255.0)


def _spread(images: tf.Tensor, axis: int, distance: int) -> tf.Tensor:
    """The mean of each pixel and its neighbours so far away on both sides of an axis."""
    return (images + tf.roll(images, distance, axis) + tf.roll(images, -distance, axis)) / 3.0


def blur(images: tf.Tensor) -> tf.Tensor:
    """Out of focus, or moved while it was taken."""
    across = _spread(_spread(images, 2, 1), 2, 1)
    down = _spread(_spread(images, 1, 1), 1, 1)
    wide = _spread(_spread(across, 1, 2), 1, 1)
    weights = tf.nn.softmax(tf.random.normal([tf.shape(images)[0], 1, 1, 4], stddev=2.0))
    parts = (images, wide, across, down)
    return tf.add_n([weights[..., number : number + 1] * part for number, part in enumerate(parts)])


def light(images: tf.Tensor) -> tf.Tensor:
    """Night and day, a colour cast, another gamma, a veil of light over all."""
    batch = tf.shape(images)[0]
    gamma = tf.exp(tf.random.normal([batch, 1, 1, 1], stddev=0.25))
    cast = tf.exp(tf.random.normal([batch, 1, 1, 3], stddev=0.12))
    gain = tf.exp(_uniform([batch, 1, 1, 1], -1.1, 0.25))
    grey = tf.reduce_mean(images, -1, keepdims=True)
    colourful = _uniform([batch, 1, 1, 1], 0.5, 1.2)
    mixed = tf.clip_by_value(grey + colourful * (images - grey), 0.0, 255.0)
    veil = _some(images, 0.5) * _uniform([batch, 1, 1, 1], 0.0, 70.0)
    return 255.0 * (mixed / 255.0) ** gamma * cast * gain + veil


def glare(images: tf.Tensor) -> tf.Tensor:
    """A lamp, or a window with straight edges, mirrored in the screen; each of a colour of its own."""
    batch = tf.shape(images)[0]
    rows, columns = _grid(images)
    centre = _uniform([2, batch, 1, 1, 1], -0.1, 1.1)
    angle = _uniform([batch, 1, 1, 1], 0.0, 3.1416)
    along = tf.cos(angle) * (columns - centre[1]) + tf.sin(angle) * (rows - centre[0])
    # Aslant: what is mirrored stands at any angle to its own edges.
    across = tf.cos(angle) * (rows - centre[0]) - tf.sin(angle) * (columns - centre[1])
    across += _uniform([batch, 1, 1, 1], -0.6, 0.6) * along
    width, height = (_uniform([batch, 1, 1, 1], 0.05, 0.3) for _ in range(2))
    distance = (along / width) ** 2 + (across / height) ** 2
    lamp = tf.exp(-distance)
    softness = _uniform([batch, 1, 1, 1], 10.0, 80.0)
    window = tf.sigmoid(softness * (width - tf.abs(along))) * tf.sigmoid(softness * (height - tf.abs(across)))
    is_window = _some(images, 0.5)
    light = is_window * window + (1 - is_window) * lamp
    colour = _uniform([batch, 1, 1, 3], 0.7, 1.0)
    return images + _some(images, 0.4) * _uniform([batch, 1, 1, 1], 30.0, 200.0) * colour * light


def moire(images: tf.Tensor) -> tf.Tensor:
    """Stripes where the screen's pixels meet the camera's."""
    batch = tf.shape(images)[0]
    rows, columns = _grid(images)
    waves = _uniform([2, batch, 1, 1, 1], -60.0, 60.0)
    phase = _uniform([batch, 1, 1, 3], 0.0, 6.28)
    return images + _some(images, 0.5) * _uniform([batch, 1, 1, 1], 0.0, 22.0) * tf.sin(
        waves[0] * rows + waves[1] * columns + phase
    )


def _rectangle(images: tf.Tensor, least: float, most: float) -> tf.Tensor:
    batch = tf.shape(images)[0]
    rows, columns = _grid(images)
    centre = _uniform([2, batch, 1, 1, 1], 0.0, 1.0)
    size = _uniform([2, batch, 1, 1, 1], least, most)
    within = tf.logical_and(tf.abs(rows - centre[0]) < size[0] / 2, tf.abs(columns - centre[1]) < size[1] / 2)
    return tf.cast(within, tf.float32)


def cover(images: tf.Tensor) -> tf.Tensor:
    """Something before the screen: a head, a hand, a sticker."""
    hidden = _some(images, 0.35) * _rectangle(images, 0.1, 0.45)
    return images + hidden * (_uniform([tf.shape(images)[0], 1, 1, 3], 0.0, 255.0) - images)


def overlay(images: tf.Tensor) -> tf.Tensor:
    """A line of text that the player lays over the picture: light and dark by turns in a flat rectangle."""
    rows, columns = _grid(images)
    batch = tf.shape(images)[0]
    place, height = _uniform([batch, 1, 1, 1], 0.0, 1.0), _uniform([batch, 1, 1, 1], 0.04, 0.14)
    begin, length = _uniform([batch, 1, 1, 1], -0.2, 0.6), _uniform([batch, 1, 1, 1], 0.3, 0.8)
    within = tf.logical_and(
        tf.abs(rows - place) < height / 2, tf.logical_and(columns > begin, columns < begin + length)
    )
    letters = tf.cast(tf.sin(columns * _uniform([batch, 1, 1, 1], 80.0, 250.0)) > 0, tf.float32) * 255.0
    return images + _some(images, 0.3) * tf.cast(within, tf.float32) * (letters - images)


def letterbox(images: tf.Tensor) -> tf.Tensor:
    """A player of another aspect: the creative shrunk in one direction, bars above and below or at the sides."""
    batch = tf.shape(images)[0]
    shrunk = 1.0 / (1.0 - _some(images, 0.3)[:, 0, 0, 0] * _uniform([batch], 0.0, 0.24))
    is_high = _some(images, 0.5)[:, 0, 0, 0]
    across, down = is_high + (1 - is_high) * shrunk, 1 - is_high + is_high * shrunk
    half, none = float(images.shape[1]) / 2, tf.zeros([batch])
    transforms = tf.stack([across, none, half * (1 - across), none, down, half * (1 - down), none, none], -1)
    return _looked_up(images, transforms)


def noise(images: tf.Tensor) -> tf.Tensor:
    """The grain of a small sensor."""
    deviation = _uniform([tf.shape(images)[0], 1, 1, 1], 0.0, 12.0)
    return images + deviation * tf.random.normal(tf.shape(images))


#: In the order in which a capture meets them.
DISTORTIONS: dict[str, Distortion] = {
    "letterbox": letterbox,
    "overlay": overlay,
    "perspective": perspective,
    "cover": cover,
    "glare": glare,
    "moiré": moire,
    "blur": blur,
    "light": light,
    "noise": noise,
}


def captured(images: tf.Tensor) -> tf.Tensor:
    """Creatives as a camera may give them, all distortions at once.

    Args:
        images: float32 [batch, S, S, 3], RGB, 0 to 255.

    Returns:
        The same shape, 0 to 255; another draw at each call, from TensorFlow's global seed.
    """
    for distort in DISTORTIONS.values():
        images = distort(images)
    return tf.clip_by_value(images, 0.0, 255.0)
