"""Pictures for screens to show."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def picture(seed: int, width: int = 320, height: int = 180) -> Image.Image:
    """A picture of large random blocks, unlike that of any other seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def encoded(image: Image.Image, form: str = "JPEG") -> bytes:
    """The picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, form, quality=90)
    return buffer.getvalue()
