"""EXIF orientation: found and applied alike wherever an image is decoded, and never a reason to refuse one."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adclick.components.ad_example_gen.creatives import read_creative
from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.models.images import decode_and_resize, open_upright, read_orientation, to_decodable
from adclick.models.orientation import orientation

SIZE = 32
#: How a camera that was held so stores the picture.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def picture() -> Image.Image:
    """Smooth, wider than high, and unlike itself however it is turned."""
    x, y = np.meshgrid(np.linspace(0, 1, 96), np.linspace(0, 1, 48))
    return Image.fromarray(np.uint8(np.stack([255 * x, 255 * y, 255 * x * y], axis=-1)))


def encode(turned: int, form: str, exif: Any = b"") -> bytes:
    image = picture()
    transposed = STORED[turned]
    stream = io.BytesIO()
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(form, {})
    if form == "JPEG" and exif:
        exif = b"Exif\x00\x00" + exif
    (image if transposed is None else image.transpose(transposed)).save(stream, form, exif=exif, **options)
    return stream.getvalue()


def tiff(turned: int, order: str = ">", before: int = 0, kind: int = 3, count: int = 1) -> bytes:
    """A TIFF structure whose first directory states an orientation, behind as many other entries."""
    others = b"".join(struct.pack(order + "HHI4s", 0x010E + number, 2, 4, b"abc\x00") for number in range(before))
    entry = struct.pack(order + "HHIHH", 0x0112, kind, count, turned, 0)
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return head + struct.pack(order + "H", before + 1) + others + entry + bytes(4)


def with_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with application segments before all that it has."""
    return jpeg[:2] + b"".join(bytes([0xFF, m]) + struct.pack(">H", len(b) + 2) + b for m, b in segments) + jpeg[2:]


@functools.cache
def _decoder() -> Callable[[tf.Tensor], tf.Tensor]:
    """As the served graph decodes a batch."""
    spec = tf.TensorSpec([SIZE, SIZE, 3], tf.uint8)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def decode(batch: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(lambda one: decode_and_resize(one, SIZE), batch, fn_output_signature=spec)

    return decode


def pixels(*encoded: bytes) -> npt.NDArray[np.int64]:
    return np.asarray(_decoder()(tf.constant(list(encoded)))).astype(np.int64)


def test_eight_orientations_look_alike_however_the_image_is_encoded() -> None:
    for form, tolerance in (("JPEG", 2), ("PNG", 1), ("WEBP", 1), ("TIFF", 1)):
        files = []
        for turned in STORED:
            exif = Image.Exif()
            exif[0x0112] = turned
            files.append(to_decodable(encode(turned, form, exif if form == "TIFF" else tiff(turned))))
        shown = pixels(*files)
        upright = np.asarray(picture().resize((SIZE, SIZE), Image.Resampling.BOX)).astype(np.int64)
        assert np.abs(shown - upright).mean(axis=(1, 2, 3)).max() < tolerance, form
        assert {open_upright(file).size for file in files} == {(96, 48)}


@given(
    turned=st.sampled_from(sorted(STORED)),
    order=st.sampled_from("<>"),
    before=st.integers(0, 30),
    segments=st.lists(
        st.tuples(st.sampled_from([0xE0, 0xE1, 0xE2, 0xED, 0xFE]), st.binary(max_size=300)).filter(
            lambda segment: not segment[1].startswith(b"Exif\x00\x00")
        ),
        max_size=6,
    ),
    fill=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_orientation_is_found_in_either_byte_order_and_behind_other_segments(
    turned: int, order: str, before: int, segments: list[tuple[int, bytes]], fill: int
) -> None:
    jpeg = encode(turned, "JPEG")
    block = tiff(turned, order, before)
    encoded = with_segments(jpeg, *segments, (0xE1, b"Exif\x00\x00" + block))
    encoded = encoded[:2] + b"\xff" * fill + encoded[2:]
    assert read_orientation(encoded) == turned
    assert read_orientation(encode(turned, "PNG", block)) == turned
    upright = pixels(encode(1, "JPEG"))
    assert np.abs(pixels(encoded) - upright).mean() < 1


@given(
    block=st.one_of(
        st.binary(max_size=80),
        st.builds(lambda block, kept: block[:kept], st.builds(tiff, st.just(6)), st.integers(0, 21)),
        st.builds(tiff, st.sampled_from([0, 9, 65_535])),
        st.builds(tiff, st.just(6), kind=st.sampled_from([1, 2, 4])),
        st.builds(tiff, st.just(6), count=st.sampled_from([0, 2, 1 << 31])),
        st.builds(
            lambda at: b"II*\x00" + struct.pack("<I", at) + bytes(40), st.sampled_from([0, 44, 2**16, 2**32 - 1])
        ),
    ),
)
@settings(max_examples=100, deadline=None)
def test_what_states_no_orientation_leaves_the_image_as_it_is(block: bytes) -> None:
    plain = encode(1, "JPEG")
    encoded = with_segments(plain, (0xE1, b"Exif\x00\x00" + block))
    assert read_orientation(encoded) == 1
    assert (pixels(encoded) == pixels(plain)).all()


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe1\x00\x20Exif\x00\x00", b"\x89PNG\r\n\x1a\n"]),
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_have_an_orientation(tail: bytes, head: bytes) -> None:
    assert 1 <= int(orientation(tf.constant(head + tail))) <= 8


def test_a_file_of_endless_segments_ends() -> None:
    assert read_orientation(with_segments(encode(1, "JPEG"), *[(0xE2, b"")] * 5_000, (0xE1, b"Exif"))) == 1


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_ingestion_stores_what_the_served_graph_sees(form: str, tmp_path: Path) -> None:
    file = tmp_path / "turned"
    file.write_bytes(encode(6, form, tiff(6)))
    creative = read_creative(str(file), IngestionSettings(image_size=SIZE))
    assert (creative.status, creative.width, creative.height) == ("ok", 96, 48)
    assert creative.image == pixels(to_decodable(file.read_bytes())).astype(np.uint8).tobytes()
