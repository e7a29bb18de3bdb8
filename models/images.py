"""Encoded images to pixels: the same operations for ingestion, gateway and serving graph, so that they cannot differ.

The rule: an image is squeezed to a square by averaging areas, whatever its aspect; what is transparent shows white,
as on a page; of an animation the first frame counts; what EXIF says is turned is turned upright. A JPEG is scaled
while it is decoded, by half, a quarter or an eighth, as far as each side stays twice that of the square: its small
detail would be averaged away. What TensorFlow cannot decode (WebP, AVIF, TIFF, transparent GIF) Pillow does, and the
gateway, which passes files on, converts it without loss.
"""

from __future__ import annotations

import functools
import io
import threading
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
import tensorflow as tf
from PIL import Image

from adclick.models.orientation import UPRIGHT, orientation, turn_upright

_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: To be raised with every change after which a file may give other pixels.
_DECODING_VERSION = 1
#: From this orientation on, width and height are exchanged.
_FIRST_EXCHANGED = 5
#: Where the end of a JPEG is looked for: some writers put something behind it.
_TRAILING_BYTES = 1_024
_SHOWN_BYTES = 32
_OPENING = threading.Lock()
_JPEG = b"\xff\xd8"
#: By what libjpeg divides width and height, at next to no cost, while it decodes.
_RATIOS = (1, 2, 4, 8)
#: A scaled JPEG keeps so many pixels, in each direction, for one of the result.
_LEAST_OVERSAMPLING = 2


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
        return self.is_jpeg or self.format == "PNG" or (self.format == "GIF" and not self.transparent)

    @property
    def is_jpeg(self) -> bool:
        """Whether it is a JPEG; a picture of several views (MPO) is one of the first."""
        return self.format in ("JPEG", "MPO")


@dataclass(frozen=True)
class DecodedImage:
    """An image as the model sees it.

    Attributes:
        pixels: uint8 RGB, upright, size × size × 3 bytes row by row.
        width: Pixels of the original, upright.
        height: Pixels of the original, upright.
    """

    pixels: bytes
    width: int
    height: int


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
    if encoded.startswith(_JPEG):
        return "JPEG", None
    if encoded[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF", None
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
        pixels = _converted(image, header, encoded)
        pixels.save(converted, "PNG", compress_level=1, exif=_exif(image))
        return converted.getvalue()


def _converted(image: Image.Image, header: ImageHeader, encoded: bytes) -> Image.Image:
    """Decodes what TensorFlow cannot."""
    try:
        return image.convert("RGBA" if header.transparent else "RGB")
    except Exception:
        raise CorruptImage(why_corrupt(encoded)) from None


def _exif(image: Image.Image) -> bytes:
    return bytes(image.info.get("exif", b""))


def check_whole(decodable: bytes) -> None:
    """Decodes an image, as far as the serving graph will, to see that all of it is there.

    Check with `inspect_image` first: this decodes whatever size the image has.

    Raises:
        CorruptImage: It is cut off or damaged.
    """
    try:
        if decodable.startswith(_JPEG):
            _decode_jpeg(tf.constant(decodable), _RATIOS[-1])
        else:
            _decode_other(tf.constant(decodable))
    except tf.errors.InvalidArgumentError:
        raise CorruptImage(why_corrupt(decodable)) from None


def decoding_rule(size: int) -> str:
    """What pixels depend on beside the file: another text wherever `decode_bytes` might give others."""
    return f"{_DECODING_VERSION}, {size} pixels, tensorflow {tf.__version__}, pillow {PIL.__version__}"


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

    def jpeg() -> tf.Tensor:
        height, width = tf.unstack(tf.io.extract_jpeg_shape(encoded)[:2])
        branches = [functools.partial(_jpeg_square, encoded, height, width, ratio, size) for ratio in _RATIOS]
        shorter = tf.minimum(height, width)
        return tf.switch_case(tf.reduce_sum(tf.cast(shorter >= _least_sides(size), tf.int32)), branches)

    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, len(_JPEG)), _JPEG)
    square = tf.cond(is_jpeg, jpeg, lambda: _other_square(encoded, size))
    # To squeeze and to turn give the same in either order, and the square is smaller.
    return tf.ensure_shape(turn_upright(square, orientation(encoded)), [size, size, 3])


def decode_bytes(encoded: bytes, header: ImageHeader, size: int) -> DecodedImage:
    """Decodes an image at once: the pixels that `decode_and_resize` gives of `to_decodable`, sooner.

    The same operations; what the graph looks up in the file, the header tells. Safe to call from several threads.

    Args:
        encoded: An image file.
        header: What `inspect_image` says of it.
        size: Edge of the result in pixels.

    Raises:
        CorruptImage: The bytes are not a whole image.
    """
    if not header.decodable:
        with _open(encoded) as image:
            converted = _converted(image, header, encoded)
            exif = _exif(image)
        if exif:
            decodable = to_decodable(encoded)
            return decode_bytes(decodable, _header(_open(decodable)), size)
        return _decoded(_square(_opaque(tf.constant(np.asarray(converted))), size), UPRIGHT, *converted.size)
    try:
        if header.is_jpeg:
            ratio = scaling_ratio(header.width, header.height, size)
            sides = _constant_sides(_scaled_side(header.height, ratio), _scaled_side(header.width, ratio))
            square = _traced_jpeg_square(ratio, size)(tf.constant(encoded), sides)
        else:
            square = _other_square(tf.constant(encoded), size)
    except tf.errors.InvalidArgumentError:
        raise CorruptImage(why_corrupt(encoded)) from None
    return _decoded(square, read_orientation(encoded), header.width, header.height)


def _decoded(square: tf.Tensor, turned: int, width: int, height: int) -> DecodedImage:
    if turned != UPRIGHT:
        square = turn_upright(square, tf.constant(turned))
    if turned >= _FIRST_EXCHANGED:
        width, height = height, width
    return DecodedImage(square.numpy().tobytes(), width, height)


def scaling_ratio(width: int, height: int, size: int) -> int:
    """By what a JPEG's width and height are divided while it is decoded."""
    return _RATIOS[sum(min(width, height) >= side for side in _least_sides(size))]


def decoded_pixels(header: ImageHeader, size: int) -> int:
    """How many pixels `decode_bytes` holds of an image before it is a square of an edge of `size`."""
    ratio = scaling_ratio(header.width, header.height, size) if header.is_jpeg else 1
    return header.width * header.height // ratio**2


def _least_sides(size: int) -> list[int]:
    """The shorter side from which on a JPEG is scaled, by each ratio above 1."""
    return [size * _LEAST_OVERSAMPLING * ratio for ratio in _RATIOS[1:]]


def _decode_jpeg(encoded: tf.Tensor | bytes, ratio: int) -> tf.Tensor:
    # TensorFlow's default is the fast DCT, which brightens what is not scaled by 0.7 of 255 and is hardly faster.
    return tf.raw_ops.DecodeJpeg(contents=encoded, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _jpeg_square(encoded: tf.Tensor, height: tf.Tensor, width: tf.Tensor, ratio: int, size: int) -> tf.Tensor:
    return _scaled_square(ratio, size, encoded, [_scaled_side(height, ratio), _scaled_side(width, ratio)])


def _scaled_side(pixels: Any, ratio: int) -> Any:
    """How many of a side's pixels count once it is scaled; int32, as the argument."""
    # A last row or column that stands for less than half of its pixels would shift all others.
    return (pixels + ratio // 2) // ratio


def _scaled_square(ratio: int, size: int, encoded: tf.Tensor, sides: Any) -> tf.Tensor:
    pixels = _decode_jpeg(encoded, ratio)
    return _square(pixels if ratio == 1 else pixels[: sides[0], : sides[1]], size)


@functools.lru_cache(maxsize=1_024)
def _constant_sides(height: int, width: int) -> tf.Tensor:
    return tf.constant([height, width])


@functools.lru_cache(maxsize=64)
def _traced_jpeg_square(ratio: int, size: int) -> Any:
    """`_scaled_square` as one call, which lets other threads work for as long as it takes."""
    signature = tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int32)
    traced = tf.function(functools.partial(_scaled_square, ratio, size), autograph=False)
    return traced.get_concrete_function(*signature)


def _decode_other(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(encoded, channels=0, dtype=tf.uint8, expand_animations=False)


def _other_square(encoded: tf.Tensor, size: int) -> tf.Tensor:
    square = _square(_opaque(_decode_other(encoded)), size)
    return tf.cond(tf.shape(square)[2] == 1, lambda: tf.repeat(square, 3, axis=2), lambda: square)


def _square(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """Averages areas; uint8 [h, w, c] to uint8 [size, size, c]."""
    averages = tf.raw_ops.ResizeArea(images=tf.expand_dims(pixels, 0), size=[size, size])
    return tf.squeeze(tf.cast(tf.round(averages), tf.uint8), 0)


def _opaque(pixels: tf.Tensor) -> tf.Tensor:
    """Puts white behind what has opacity as its last channel; uint8 [h, w, 1 to 4] to uint8 [h, w, 1 or 3]."""
    channels = tf.shape(pixels)[2]
    return tf.cond(tf.logical_or(channels == 2, channels == 4), lambda: _over_white(pixels), lambda: pixels)


def _over_white(pixels: tf.Tensor) -> tf.Tensor:
    """Drops the last channel, opacity, with white behind; uint8 [h, w, c] to uint8 [h, w, c - 1]."""
    # In whole numbers, which every machine rounds alike; 255² + 127 is below 2¹⁶.
    color = tf.cast(pixels[:, :, :-1], tf.uint16)
    opacity = tf.cast(pixels[:, :, -1:], tf.uint16)
    most, half = tf.constant(255, tf.uint16), tf.constant(127, tf.uint16)
    return tf.cast((color * opacity + most * (most - opacity) + half) // most, tf.uint8)


def read_orientation(decodable: bytes) -> int:
    """The EXIF orientation, 1 to 8, by which `decode_and_resize` turns an image."""
    # Most say nothing, which a search tells sooner than the graph.
    if (b"Exif\0\0" if decodable.startswith(_JPEG) else b"eXIf") not in decodable:
        return UPRIGHT
    return int(_traced_orientation()(tf.constant(decodable)))


@functools.lru_cache(maxsize=1)
def _traced_orientation() -> Any:
    return tf.function(orientation, autograph=False).get_concrete_function(tf.TensorSpec([], tf.string))


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
