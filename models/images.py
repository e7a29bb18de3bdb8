"""Encoded images to pixels: one function for ingestion and for the serving graph, so that they cannot differ.

The rule: an image is squeezed to a square by averaging areas, whatever its aspect; what is transparent shows white,
as on a page; of an animation the first frame counts. What TensorFlow cannot decode so (WebP, TIFF, transparent GIF)
is converted, without loss, where images enter the system: by ingestion and by the gateway.
"""

from __future__ import annotations

import io
import threading
import warnings
from dataclasses import dataclass

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

_OPENING = threading.Lock()


class CorruptImage(ValueError):
    """The bytes are not a whole image in a known format."""


class OversizedImage(ValueError):
    """The image has more pixels than allowed."""


@dataclass(frozen=True)
class ImageHeader:
    """What an image says of itself, read without decoding it.

    Attributes:
        format: Pillow's name, such as JPEG or WEBP.
        mode: Pillow's pixel mode, such as RGB or CMYK.
        width: In pixels.
        height: In pixels.
        transparent: Whether parts of it may be transparent.
    """

    format: str
    mode: str
    width: int
    height: int
    transparent: bool

    @property
    def decodable(self) -> bool:
        """Whether TensorFlow decodes it; a transparent GIF it would show on black."""
        if self.format == "BMP":
            return self.mode == "RGB"
        return self.format in ("JPEG", "PNG") or (self.format == "GIF" and not self.transparent)


def _header(image: Image.Image) -> ImageHeader:
    return ImageHeader(image.format or "", image.mode, image.width, image.height, image.has_transparency_data)


def _open(encoded: bytes) -> Image.Image:
    if not encoded:
        raise CorruptImage("the file is empty")
    try:
        # The limit is ours to check; Pillow warns of large images, and the warning filters are not thread-safe.
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(encoded))
    except Image.DecompressionBombError as error:
        raise OversizedImage(str(error)) from None
    except UnidentifiedImageError:
        raise CorruptImage("not an image in a known format") from None
    except Exception as error:
        raise CorruptImage(f"not a readable image: {error}") from None


def inspect_image(encoded: bytes, max_pixels: int) -> ImageHeader:
    """Reads an image's header; takes the same time whatever the image's dimensions.

    Raises:
        CorruptImage: The bytes are not an image.
        OversizedImage: It has more than `max_pixels` pixels.
    """
    with _open(encoded) as image:
        header = _header(image)
    if header.width * header.height > max_pixels:
        raise OversizedImage(f"{header.width} × {header.height} pixels are more than {max_pixels:,}")
    if not header.width or not header.height:
        raise CorruptImage("the image has no pixels")
    return header


def to_decodable(encoded: bytes) -> bytes:
    """Gives the image in a form that `decode_and_resize` reads: as it is where it can, as PNG where not (WebP, TIFF).

    Check with `inspect_image` first: this decodes whatever size the image has.

    Raises:
        CorruptImage: The bytes are not a whole image in a known format.
    """
    with _open(encoded) as image:
        header = _header(image)
        if header.decodable:
            return encoded
        converted = io.BytesIO()
        try:
            image.convert("RGBA" if header.transparent else "RGB").save(converted, "PNG", compress_level=1)
        except Exception as error:
            raise CorruptImage(f"cannot be decoded: {error}") from None
        return converted.getvalue()


def check_whole(encoded: bytes) -> None:
    """Decodes an image to see that all of it is there.

    Check with `inspect_image` first: this decodes whatever size the image has.

    Raises:
        CorruptImage: It is cut off or damaged.
    """
    with _open(encoded) as image:
        try:
            image.load()
        except Exception as error:
            raise CorruptImage(f"cannot be decoded: {error}") from None


def decode_and_resize(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes an image in the graph.

    Args:
        encoded: Scalar string, the bytes of a JPEG, PNG, GIF or BMP file.
        size: Edge of the result in pixels.

    Returns:
        uint8 [size, size, 3].

    Raises:
        tf.errors.InvalidArgumentError: The bytes are not a whole image.
    """
    pixels = tf.io.decode_image(encoded, channels=0, dtype=tf.uint8, expand_animations=False)
    channels = tf.shape(pixels)[2]
    pixels = tf.cond(tf.logical_or(channels == 2, channels == 4), lambda: _over_white(pixels), lambda: pixels)
    resized = tf.image.resize(pixels, [size, size], tf.image.ResizeMethod.AREA)
    resized = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
    resized = tf.cond(tf.shape(resized)[2] == 1, lambda: tf.repeat(resized, 3, axis=2), lambda: resized)
    return tf.ensure_shape(resized, [size, size, 3])


def _over_white(pixels: tf.Tensor) -> tf.Tensor:
    """Drops the last channel, opacity, with white behind; uint8 [h, w, c] to uint8 [h, w, c - 1]."""
    color = tf.cast(pixels[:, :, :-1], tf.float32)
    opacity = tf.cast(pixels[:, :, -1:], tf.float32) / 255
    return tf.cast(tf.round(color * opacity + 255 * (1 - opacity)), tf.uint8)
