"""The creatives' images: what a person would notice in an ad, drawn so that it survives shrinking to 64 × 64 pixels."""

from __future__ import annotations

import colorsys
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

#: Slot sizes as (width, height) in pixels.
SLOTS = ((300, 250), (336, 280), (970, 250), (728, 90), (160, 600), (320, 100))
_SLOT_SHARES = (0.34, 0.12, 0.10, 0.16, 0.12, 0.16)
_SHAPES = (1, 24)

#: What contrast, warmth, clutter and button are worth against each other, and how far an ad category departs from it.
_SHARED_WEIGHTS = np.array([0.24, 0.22, -0.22, 0.26])
_OWN_DEVIATION = 0.10
#: Standard deviation in logits of the effect of an image.
_EFFECT_DEVIATION = 0.52


@dataclass(frozen=True)
class Looks:
    """What the images show; one entry per creative, shape (creatives,).

    Attributes:
        contrast: Difference of brightness between background and text, within [0.15, 0.85].
        hue: Dominant colour as a share of the colour circle, within [0, 1).
        shapes: Number of shapes scattered over the background: clutter.
        button: Whether there is a call-to-action button.
        slot: Index into `SLOTS`.
        png: Whether the file is a PNG rather than a JPEG.
    """

    contrast: NDArray[np.float64]
    hue: NDArray[np.float64]
    shapes: NDArray[np.int64]
    button: NDArray[np.bool_]
    slot: NDArray[np.int64]
    png: NDArray[np.bool_]

    def standardised(self) -> NDArray[np.float64]:
        """Contrast, warmth of the hue, clutter and button, each of mean 0 and deviation 1, shape (creatives, 4)."""
        low, high = _SHAPES
        return np.stack(
            [
                (self.contrast - 0.5) / (0.7 / np.sqrt(12)),
                np.sqrt(2) * np.cos(2 * np.pi * (self.hue - 0.05)),
                (self.shapes - (low + high) / 2) / np.sqrt(((high - low + 1) ** 2 - 1) / 12),
                np.where(self.button, 1.0, -1.0),
            ],
            axis=1,
        )


def draw_looks(creatives: int, random: np.random.Generator) -> Looks:
    """Draws what each creative shows."""
    low, high = _SHAPES
    return Looks(
        contrast=random.uniform(0.15, 0.85, creatives),
        hue=random.uniform(0, 1, creatives),
        shapes=random.integers(low, high + 1, creatives, dtype=np.int64),
        button=random.random(creatives) < 0.5,
        slot=random.choice(len(SLOTS), creatives, p=_SLOT_SHARES),
        png=random.random(creatives) < 0.15,
    )


def image_effects(
    looks: Looks, category: NDArray[np.int64], categories: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """The effect in logits of each creative's image, shape (creatives,): its looks, weighted by its ad category."""
    weights = _SHARED_WEIGHTS + random.normal(0, _OWN_DEVIATION, (categories, len(_SHARED_WEIGHTS)))
    weights *= _EFFECT_DEVIATION / np.linalg.norm(weights, axis=1, keepdims=True)
    return np.asarray((looks.standardised() * weights[category]).sum(axis=1))


def _colour(hue: float, brightness: float, saturation: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(hue % 1, brightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def render(looks: Looks, creative: int, random: np.random.Generator) -> Image.Image:
    """Draws one creative as RGB: a gradient of its hue, scattered shapes, bars of text and perhaps a button.

    Besides its looks, places and sizes are drawn from `random` and mean nothing.
    """
    width, height = SLOTS[int(looks.slot[creative])]
    if (width, height) == (300, 250) and random.random() < 0.5:
        width, height = 600, 500
    hue, contrast = float(looks.hue[creative]), float(looks.contrast[creative])
    dark = 0.5 - contrast / 2
    text = _colour(hue, 0.5 + contrast / 2, 0.25)
    ends = np.array([_colour(hue, dark + 0.05, 0.8), _colour(hue, max(dark - 0.05, 0), 0.8)], dtype=np.float64)
    rows = np.linspace(0, 1, height)[:, None]
    gradient = (ends[0] * (1 - rows) + ends[1] * rows).astype(np.uint8)
    image = Image.fromarray(np.repeat(gradient[:, None, :], width, axis=1))
    canvas = ImageDraw.Draw(image)
    for _ in range(int(looks.shapes[creative])):
        across, down = random.uniform(0, width), random.uniform(0, height)
        half_width, half_height = width * random.uniform(0.02, 0.05), height * random.uniform(0.02, 0.05)
        box = (across - half_width, down - half_height, across + half_width, down + half_height)
        colour = _colour(hue + random.uniform(-0.05, 0.05), 0.5 + random.uniform(-0.25, 0.35) * contrast, 0.6)
        if random.random() < 0.5:
            canvas.ellipse(box, fill=colour)
        else:
            canvas.rectangle(box, fill=colour)
    for line in range(3):
        top = height * (0.12 + 0.17 * line)
        left = width * 0.08
        while left < width * (0.9 - 0.12 * line):
            word = width * random.uniform(0.06, 0.18)
            canvas.rectangle((left, top, min(left + word, width * 0.92), top + height * 0.09), fill=text)
            left += word + width * 0.03
    if looks.button[creative]:
        left = width * random.uniform(0.25, 0.4)
        box = (left, height * 0.68, left + width * 0.36, height * 0.9)
        canvas.rectangle(box, fill=(255, 255, 255))
        inner = (box[0] + width * 0.03, height * 0.72, box[2] - width * 0.03, height * 0.86)
        canvas.rectangle(inner, fill=(225, 30, 40))
    return image


def encode(image: Image.Image, image_format: str) -> bytes:
    """The bytes of an image file of the given Pillow format."""
    buffer = io.BytesIO()
    if image_format == "JPEG":
        image.save(buffer, "JPEG", quality=85)
    elif image_format == "PNG":
        image.save(buffer, "PNG", compress_level=3)
    else:
        image.save(buffer, image_format)
    return buffer.getvalue()


def _rows_of_zeros(count: int, length: int) -> Iterator[bytes]:
    compressor = zlib.compressobj(1)
    row = bytes(1 + length)
    for _ in range(count):
        yield compressor.compress(row)
    yield compressor.flush()


def huge_png(side: int = 20_000) -> bytes:
    """A valid black-and-white PNG of `side` × `side` pixels in a small file: unpacked as RGB it takes 3·side² bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    pixels = b"".join(_rows_of_zeros(side, (side + 7) // 8))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
