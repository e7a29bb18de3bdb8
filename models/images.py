"""Encoded images to pixels: one function for ingestion and for the serving graph, so that they cannot differ.

The rule: an image is squeezed to a square by averaging areas, whatever its aspect; what is transparent shows white,
as on a page; of an animation the first frame counts; what EXIF says is turned is turned upright. What TensorFlow cannot
decode so (WebP, TIFF, transparent GIF) is converted, without loss, where images enter the system: by ingestion and by
the gateway.
"""

from __future__ import annotations

import functools
import io
import threading
import warnings
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from PIL import Image

from models.orientation import UPRIGHT, orientation, turn_upright

_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: From this orientation on, width and height are exchanged.
_FIRST_EXCHANGED = 5
#: Where the end of a JPEG is looked for: some writers put something behind it.
_TRAILING_BYTES = 1_024
_SHOWN_BYTES = 32
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
        # A picture of several views (MPO) is a JPEG of the first.
        return self.format in ("JPEG", "MPO", "PNG") or (self.format == "GIF" and not self.transparent)


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
    except Exception:
        raise CorruptImage(why_corrupt(encoded)) from None


def why_corrupt(encoded: bytes) -> str:
    """Says in words why bytes that cannot be decoded are not a whole image."""
    size = len(encoded)
    if not size:
        return "the file is empty"
    kind, stated = _stated_size(encoded)
    if stated is not None and stated > size:
        return f"a {kind} cut off after {size:,} of {stated:,} bytes"
    is_cut_off = (kind == "JPEG" and b"\xff\xd9" not in encoded[-_TRAILING_BYTES:]) or (
        kind == "GIF" and not encoded.rstrip(b"\x00").endswith(b";")
    )
    if is_cut_off:
        return f"a {kind} cut off after {size:,} bytes, before its end"
    if kind:
        return f"a damaged {kind} of {size:,} bytes"
    try:
        beginning = " ".join(encoded[:_SHOWN_BYTES].decode("ascii").split())
    except UnicodeDecodeError:
        return f"{size:,} bytes that are no image in a known format"
    return f"a text, no image: it begins {beginning!r}" if beginning.isprintable() else "no image in a known format"


def _stated_size(encoded: bytes) -> tuple[str, int | None]:
    """The format by its first bytes, empty if unknown, and the size, at least, of the file by its own account."""
    if encoded.startswith(b"\xff\xd8"):
        return "JPEG", None
    if encoded.startswith((b"GIF87a", b"GIF89a")):
        return "GIF", None
    if encoded.startswith((b"II*\x00", b"MM\x00*")):
        return "TIFF", None
    if encoded.startswith(b"BM"):
        return "BMP", int.from_bytes(encoded[2:6], "little")
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return "WebP", int.from_bytes(encoded[4:8], "little") + 8
    if encoded.startswith(b"\x89PNG"):
        return "PNG", _png_size(encoded)
    return "", None


def _png_size(encoded: bytes) -> int:
    """Where the last chunk that begins within the bytes ends, and behind it the chunk that ends every PNG."""
    position, kind = 8, b""
    while kind != b"IEND" and position + 8 <= len(encoded):
        kind = encoded[position + 4 : position + 8]
        position += 12 + int.from_bytes(encoded[position : position + 4], "big")
    return position if kind == b"IEND" else position + 12


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

    What EXIF says goes with it; a TIFF is upright already.

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
            pixels = image.convert("RGBA" if header.transparent else "RGB")
            pixels.save(converted, "PNG", compress_level=1, exif=image.info.get("exif", b""))
        except Exception:
            raise CorruptImage(why_corrupt(encoded)) from None
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
        except Exception:
            raise CorruptImage(why_corrupt(encoded)) from None


def decode_and_resize(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes an image in the graph.

    Args:
        encoded: Scalar string, the bytes of a JPEG, PNG, GIF or BMP file.
        size: Edge of the result in pixels.

    Returns:
        uint8 [size, size, 3], upright.

    Raises:
        tf.errors.InvalidArgumentError: The bytes are not a whole image.
    """
    turned = orientation(encoded)
    pixels = tf.io.decode_image(encoded, channels=0, dtype=tf.uint8, expand_animations=False)
    channels = tf.shape(pixels)[2]
    pixels = tf.cond(tf.logical_or(channels == 2, channels == 4), lambda: _over_white(pixels), lambda: pixels)
    resized = tf.image.resize(pixels, [size, size], tf.image.ResizeMethod.AREA)
    resized = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
    resized = tf.cond(tf.shape(resized)[2] == 1, lambda: tf.repeat(resized, 3, axis=2), lambda: resized)
    # To squeeze and to turn give the same in either order, and the square is smaller.
    return tf.ensure_shape(turn_upright(resized, turned), [size, size, 3])


def read_orientation(decodable: bytes) -> int:
    """The EXIF orientation, 1 to 8, by which `decode_and_resize` turns an image."""
    if b"Exif" not in decodable and b"eXIf" not in decodable:
        return UPRIGHT
    return int(_traced_orientation()(tf.constant(decodable)))


@functools.lru_cache(maxsize=1)
def _traced_orientation() -> Any:
    return tf.function(orientation, autograph=False).get_concrete_function(tf.TensorSpec([], tf.string))


def upright_size(decodable: bytes) -> tuple[int, int]:
    """Width and height in pixels of an image as it is seen."""
    with _open(decodable) as image:
        width, height = image.size
    return (width, height) if read_orientation(decodable) < _FIRST_EXCHANGED else (height, width)


def open_upright(decodable: bytes) -> Image.Image:
    """The image for people to see, the way up that the model sees it.

    Raises:
        CorruptImage: The bytes are not a whole image.
    """
    image = _open(decodable)
    try:
        image.load()
    except Exception:
        raise CorruptImage(why_corrupt(decodable)) from None
    transposed = _TRANSPOSED.get(read_orientation(decodable))
    return image if transposed is None else image.transpose(transposed)


def _over_white(pixels: tf.Tensor) -> tf.Tensor:
    """Drops the last channel, opacity, with white behind; uint8 [h, w, c] to uint8 [h, w, c - 1]."""
    color = tf.cast(pixels[:, :, :-1], tf.float32)
    opacity = tf.cast(pixels[:, :, -1:], tf.float32) / 255
    return tf.cast(tf.round(color * opacity + 255 * (1 - opacity)), tf.uint8)
