"""The outputs of a model's signature `explain`, and what is made of them."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from adclick.schema.signatures import (
    BASELINE_LOGIT,
    COLUMNS,
    CONTRIBUTIONS,
    LOGIT,
    LONGEST_KEY,
    WORD_CONTRIBUTIONS,
    WORDS,
)

Array = np.ndarray[Any, Any]

#: Of each text in turn, the words that add or take the most, as many of each; and what each of them adds.
WORD_OUTPUTS = (WORDS, WORD_CONTRIBUTIONS)
#: The outputs of `explain` that are there for every model, the columns first, then numbers.
EXPLANATION = (COLUMNS, CONTRIBUTIONS, LOGIT, BASELINE_LOGIT)

#: The longer edge of an overlay in pixels.
_OVERLAY_PIXELS = 512
_MORE, _LESS = (214, 39, 40), (31, 119, 180)


def probability_of(logit: float) -> float:
    """The probability whose log-odds these are."""
    # By the smaller of the two forms: exp(1000) is no number.
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def is_shown(image: bytes) -> bool:
    """Whether a value of the image input is an image rather than a creative's key."""
    return len(image) > LONGEST_KEY


def overlay(encoded: bytes, heat: Array) -> bytes:
    """An image with what its pixels contribute above it: red where they help, blue where they harm.

    Args:
        encoded: The image's file, one that Pillow reads.
        heat: What each pixel of the image, squeezed to a square, adds to the logit, float32 [size, size].

    Returns:
        A PNG.
    """
    from PIL import Image

    from adclick.models.images import open_upright

    picture = open_upright(encoded).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    scale = _OVERLAY_PIXELS / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    # In grey, so that colour tells of contributions alone.
    below = Image.alpha_composite(white, picture).convert("L").resize(size).convert("RGB")
    largest = float(np.abs(heat).max()) or 1.0
    strength = Image.fromarray((np.abs(heat) / largest * 255).astype(np.uint8)).resize(size)
    is_more = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size)) > 0
    colours = np.where(is_more[:, :, None], np.array(_MORE, np.uint8), np.array(_LESS, np.uint8))
    composite = Image.composite(Image.fromarray(colours), below, strength)
    png = io.BytesIO()
    composite.save(png, "PNG")
    return png.getvalue()
