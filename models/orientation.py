"""Which way up an image is: the EXIF orientation of encoded bytes, found and applied by TensorFlow's own operations.

The served graph takes a file's bytes, and TensorFlow's decoders leave the orientation aside. So it is read in the
graph, by one rule wherever images are decoded: of a JPEG from the first APP1 segment that holds EXIF, among the
application segments that begin the file; of a PNG from an `eXIf` chunk before the pixels; there from tag 0x0112 of the
first directory, one SHORT of 1 to 8 (CIPA DC-008, PNG third edition). Whatever is not so, cut off, or behind the first
64 segments, counts as upright.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

UPRIGHT = 1
#: From this orientation on, rows and columns are exchanged.
_FIRST_EXCHANGED = 5
_MIRRORED = (2, 3, 6, 7)
_UPSIDE_DOWN = (3, 4, 7, 8)

_MOST_SEGMENTS = 64
#: The first directory and what it says of orientation stand in so much of an EXIF block.
_READ_BYTES = 65_536
_LEAST_BYTES = 8 + 2 + 12
_ENTRY_BYTES = 12
_TAG, _SHORT = 0x0112, 3

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_APP0, _APP1, _APP15, _COMMENT = 0xE0, 0xE1, 0xEF, 0xFE
_EXIF = b"Exif\x00\x00"


def orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of an encoded image.

    Args:
        encoded: Scalar string, a file's bytes.

    Returns:
        Scalar int32, 1 to 8; 1 where the image does not say, or not so that it can be read.
    """
    block = tf.cond(
        tf.equal(tf.strings.substr(encoded, 0, len(_JPEG)), _JPEG),
        lambda: _jpeg_block(encoded),
        lambda: tf.cond(
            tf.equal(tf.strings.substr(encoded, 0, len(_PNG)), _PNG),
            lambda: _png_block(encoded),
            lambda: tf.constant(b""),
        ),
    )
    return tf.cond(
        tf.strings.length(block) >= _LEAST_BYTES, lambda: _orientation_tag(block), lambda: tf.constant(UPRIGHT)
    )


def turn_upright(pixels: tf.Tensor, turned: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors an image by its orientation.

    Args:
        pixels: [size, size, channels], as it is stored.
        turned: Scalar int32, its orientation.

    Returns:
        [size, size, channels], as it is to be seen.
    """

    def turn() -> tf.Tensor:
        image = tf.cond(turned >= _FIRST_EXCHANGED, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
        image = tf.cond(_is_in(turned, _MIRRORED), lambda: tf.reverse(image, [1]), lambda: image)
        return tf.cond(_is_in(turned, _UPSIDE_DOWN), lambda: tf.reverse(image, [0]), lambda: image)

    return tf.cond(turned > UPRIGHT, turn, lambda: pixels)


def _is_in(value: tf.Tensor, values: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(tf.equal(value, tf.constant(values)))


def _bytes_at(encoded: tf.Tensor, position: tf.Tensor, length: int) -> tf.Tensor:
    """int32 [length], zeros behind the end."""
    found = tf.strings.substr(encoded, position, length)
    return tf.cast(tf.io.decode_raw(found, tf.uint8, fixed_length=length), tf.int32)


def _is_bytes(values: tf.Tensor, expected: bytes) -> tf.Tensor:
    return tf.reduce_all(tf.equal(values, tf.constant(list(expected))))


def _block(encoded: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(encoded, tf.minimum(start, tf.strings.length(encoded)), tf.minimum(length, _READ_BYTES))


def _jpeg_block(encoded: tf.Tensor) -> tf.Tensor:
    """The TIFF structure of a JPEG's EXIF; empty if there is none."""
    end = tf.strings.length(encoded)

    def step(position: tf.Tensor, _: tf.Tensor, __: tf.Tensor) -> list[tf.Tensor]:
        head = _bytes_at(encoded, position, 10)
        marker, length = head[1], head[2] * 256 + head[3]
        is_fill = tf.equal(marker, 0xFF)
        is_last = (head[0] != 0xFF) | (marker < _APP0) | ((marker > _APP15) & (marker < _COMMENT))
        is_exif = tf.reduce_all(tf.equal(tf.gather(head, [0, 1, 4, 5, 6, 7, 8, 9]), [0xFF, _APP1, *_EXIF]))
        following = tf.where(is_fill, position + 1, position + 2 + length)
        return [
            tf.where(is_last | is_exif, end, following),
            tf.where(is_exif, position + 10, 0),
            tf.where(is_exif, tf.maximum(length - 8, 0), 0),
        ]

    return _found_block(encoded, step, len(_JPEG), end)


def _png_block(encoded: tf.Tensor) -> tf.Tensor:
    """The TIFF structure of a PNG's EXIF; empty if there is none before the pixels."""
    end = tf.strings.length(encoded)

    def step(position: tf.Tensor, _: tf.Tensor, __: tf.Tensor) -> list[tf.Tensor]:
        head = _bytes_at(encoded, position, 8)
        # Of a length beyond 2^24 the chunk ends behind any that is read here.
        length = tf.where(head[0] > 0, end, head[1] * 65_536 + head[2] * 256 + head[3])
        is_last = tf.logical_or(_is_bytes(head[4:], b"IDAT"), _is_bytes(head[4:], b"IEND"))
        is_exif = _is_bytes(head[4:], b"eXIf")
        return [
            tf.where(tf.logical_or(is_last, is_exif), end, position + 12 + length),
            tf.where(is_exif, position + 8, 0),
            tf.where(is_exif, length, 0),
        ]

    return _found_block(encoded, step, len(_PNG), end)


def _found_block(encoded: tf.Tensor, step: Callable[..., list[tf.Tensor]], first: int, end: tf.Tensor) -> tf.Tensor:
    """Goes from segment to segment by `step`, whose state is position, start and length of what is looked for."""
    nothing = tf.constant(0)
    _, start, length = tf.while_loop(
        lambda position, start, length: tf.logical_and(tf.equal(start, 0), position < end - 4),
        step,
        [tf.constant(first), nothing, nothing],
        maximum_iterations=_MOST_SEGMENTS,
        parallel_iterations=1,
    )
    return _block(encoded, start, length)


def _orientation_tag(block: tf.Tensor) -> tf.Tensor:
    """The orientation that a TIFF structure of at least `_LEAST_BYTES` states in its first directory."""
    values = tf.cast(tf.io.decode_raw(block, tf.uint8), tf.int32)
    is_little = _is_bytes(values[:4], b"II*\x00")
    is_tiff = tf.logical_or(is_little, _is_bytes(values[:4], b"MM\x00*"))
    size = tf.size(values)
    # Byte by byte of a number, whichever end comes first.
    two, four = (tf.where(is_little, [1, 256], [256, 1]), tf.where(is_little, [0, 1, 2, 3], [3, 2, 1, 0]))
    offset_bytes = tf.gather(values[4:8], four)
    offset = tf.where(offset_bytes[2] + offset_bytes[3] > 0, size, offset_bytes[0] + offset_bytes[1] * 256)
    first = tf.minimum(offset, size)
    count = tf.reduce_sum(tf.pad(values[first : first + 2], [[0, 2]])[:2] * two)
    entries = values[first + 2 : first + 2 + count * _ENTRY_BYTES]
    whole = tf.size(entries) // _ENTRY_BYTES
    entries = tf.reshape(entries[: whole * _ENTRY_BYTES], [-1, _ENTRY_BYTES])
    tags = tf.reduce_sum(entries[:, 0:2] * two, axis=1)
    types = tf.reduce_sum(entries[:, 2:4] * two, axis=1)
    counts = tf.reduce_sum(tf.gather(entries[:, 4:8], four, axis=1) * [1, 256, 65_536, 1 << 24], axis=1)
    stated = tf.reduce_sum(entries[:, 8:10] * two, axis=1)
    is_stated = (tags == _TAG) & (types == _SHORT) & (counts == 1) & is_tiff
    found = tf.boolean_mask(stated, is_stated)
    value = tf.concat([found, [UPRIGHT]], axis=0)[0]
    return tf.where((value >= 1) & (value <= 8), value, UPRIGHT)
