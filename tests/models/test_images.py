"""Images: what is decoded, to which pixels, and what is refused."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from PIL import Image

from adclick.models.images import CorruptImage, OversizedImage, decode_and_resize, inspect_image, to_decodable

SIZE = 16
PIXELS = 1_000_000


def picture(width: int = 48, height: int = 32) -> Image.Image:
    """Smooth in both directions, so that lossy formats stay close."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def pixels(encoded: bytes) -> npt.NDArray[np.int64]:
    decoded = decode_and_resize(tf.constant(to_decodable(encoded)), SIZE)
    assert decoded.shape == (SIZE, SIZE, 3) and decoded.dtype == tf.uint8
    return np.asarray(decoded).astype(np.int64)


@pytest.mark.parametrize(
    ("form", "mode", "tolerance"),
    [
        ("PNG", "RGB", 1),
        ("PNG", "RGBA", 1),
        ("BMP", "RGB", 1),
        ("TIFF", "RGB", 1),
        ("JPEG", "RGB", 6),
        ("JPEG", "CMYK", 6),
        ("WEBP", "RGB", 8),
        ("GIF", "P", 12),
        ("PNG", "P", 12),
        ("BMP", "P", 12),
    ],
)
def test_every_format_shows_the_same_picture(form: str, mode: str, tolerance: int) -> None:
    shown = pixels(encode(picture().convert(mode), form))
    expected = np.asarray(picture().resize((SIZE, SIZE), Image.Resampling.BOX)).astype(np.int64)
    assert np.abs(shown - expected).mean() < tolerance


@pytest.mark.parametrize(("form", "mode"), [("PNG", "L"), ("JPEG", "L"), ("PNG", "LA"), ("PNG", "1"), ("PNG", "I;16")])
def test_grey_images_have_three_equal_channels(form: str, mode: str) -> None:
    grey = picture().convert("L")
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    shown = pixels(encode(image, form))
    assert (shown == shown[:, :, :1]).all()
    assert shown.std() > 10


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("TIFF", {})])
def test_what_is_transparent_shows_white(form: str, options: dict[str, Any]) -> None:
    assert (pixels(encode(Image.new("RGBA", (20, 20), (200, 0, 0, 0)), form, **options)) == 255).all()


def test_half_transparent_colors_are_mixed_with_white() -> None:
    shown = pixels(encode(Image.new("RGBA", (20, 20), (0, 0, 0, 128)), "PNG"))
    assert (np.abs(shown - 127) <= 1).all()


def test_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    shown = pixels(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert shown[0, 0].tolist() == [255, 0, 0]


def test_an_image_of_the_right_size_is_unchanged() -> None:
    image = picture(SIZE, SIZE)
    assert (pixels(encode(image, "PNG")) == np.asarray(image)).all()


def test_the_same_in_a_graph_over_a_batch() -> None:
    encoded = [
        encode(picture(), "PNG"),
        encode(picture().convert("L"), "JPEG"),
        encode(picture().convert("RGBA"), "PNG"),
    ]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def decode(batch: tf.Tensor) -> tf.Tensor:
        spec = tf.TensorSpec([SIZE, SIZE, 3], tf.uint8)
        return tf.map_fn(lambda one: decode_and_resize(one, SIZE), batch, fn_output_signature=spec)

    expected = np.stack([pixels(one) for one in encoded])
    assert (np.asarray(decode(tf.constant(encoded))) == expected).all()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_image_is_refused(form: str, kept: float) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = encode(noise, form)
    with pytest.raises((CorruptImage, tf.errors.InvalidArgumentError)):
        pixels(whole[: int(len(whole) * kept)])


@pytest.mark.parametrize("encoded", [b"", b"<html></html>", b"\xff\xd8\xff", b"GIF89a"])
def test_what_is_no_image_is_refused(encoded: bytes) -> None:
    with pytest.raises(CorruptImage):
        inspect_image(encoded, PIXELS)


def test_header_is_read() -> None:
    header = inspect_image(encode(picture(), "PNG"), PIXELS)
    assert (header.format, header.mode, header.width, header.height) == ("PNG", "RGB", 48, 32)


@pytest.mark.parametrize("edge", [1_001, 12_000, 20_000])
def test_too_many_pixels_are_refused_without_decoding(edge: int) -> None:
    encoded = encode(Image.new("1", (edge, edge)), "PNG")
    start = time.process_time()
    with pytest.raises(OversizedImage):
        inspect_image(encoded, PIXELS)
    # Decoding 400 million pixels takes seconds; the bound is far above what a header takes.
    assert time.process_time() - start < 1
