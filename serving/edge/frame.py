"""From a picture to the recogniser's input: one function for training, catalogue and device, on Pillow and numpy."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .errors import BrokenFrame

#: A screen of 8K has 33 million pixels; more is an attack on memory.
MAXIMUM_PIXELS = 40_000_000
MAXIMUM_BYTES = 64 << 20
#: How much larger than the input the picture stays in the coarse steps; the fine one filters what is left.
_GAP = 2.0


def open_frame(content: bytes) -> Image.Image:
    """Reads the header of an encoded picture; its pixels are decoded by `prepare`.

    Raises:
        BrokenFrame: It is no picture of a form that Pillow knows, or has too many bytes or pixels.
    """
    if len(content) > MAXIMUM_BYTES:
        raise BrokenFrame(f"{len(content)} bytes, more than {MAXIMUM_BYTES}")
    try:
        with warnings.catch_warnings():
            # The limit of pixels is our own, below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
    except Exception as error:  # Pillow's readers raise whatever a hostile file makes them
        raise BrokenFrame(f"{type(error).__name__}: {error}"[:200]) from None
    if image.width * image.height > MAXIMUM_PIXELS:
        raise BrokenFrame(f"{image.width}x{image.height} pixels, more than {MAXIMUM_PIXELS}")
    return image


def prepare(image: Image.Image, size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Makes the recogniser's input of a picture.

    A JPEG that is not decoded yet is scaled by libjpeg while it is decoded, any other by whole pixels (`reduce`), in
    both cases to no less than twice the input; then by Pillow's bilinear filter, whose support grows with the scale, so
    that nothing aliases. The aspect is not kept: a screen and its creative have the same. Turned as EXIF says;
    transparent pixels are white.

    Args:
        image: Any picture that Pillow opens.
        size: The recogniser's side S.

    Returns:
        float32 [1, S, S, 3], RGB, 0 to 255.

    Raises:
        BrokenFrame: The pixels cannot be decoded.
    """
    try:
        image.draft("RGB", (int(size * _GAP), int(size * _GAP)))
        image = upright(image).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=_GAP)
    except Exception as error:  # Pillow's decoders raise whatever a hostile file makes them
        raise BrokenFrame(f"{type(error).__name__}: {error}"[:200]) from None
    return np.asarray(image, np.float32)[None]


def upright(image: Image.Image) -> Image.Image:
    """The whole picture as RGB, turned as EXIF says, white where it is transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def thumbnail(image: Image.Image, side: int = 160) -> bytes:
    """A small JPEG of a picture, for an alert; its longer side has `side` pixels."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=70)
    return buffer.getvalue()
