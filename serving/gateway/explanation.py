"""What `POST /v1/explain` answers, made of the outputs of a model's signature `explain`."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

HEAT_MAP = "heat_map"
#: The outputs of `explain` that are there for every model, in the order that `explanation_of` takes them.
EXPLANATION = ("columns", "contributions", "logit", "baseline_logit")

#: A value of the image input up to this long is a creative's key.
_LONGEST_KEY = 64
#: The longer edge of an overlay in pixels.
_OVERLAY_PIXELS = 512
_MORE, _LESS = (214, 39, 40), (31, 119, 180)


def explanation_of(columns: Array, contributions: Array, logit: Any, baseline_logit: Any) -> dict[str, Any]:
    """The answer for one ad: its logit, the baseline's, and what each field adds, the largest first."""
    order = np.argsort(-np.abs(contributions), kind="stable").tolist()
    return {
        "click_probability": _probability(float(logit)),
        "logit": float(logit),
        "baseline": {"click_probability": _probability(float(baseline_logit)), "logit": float(baseline_logit)},
        "contributions": [
            {"field": columns[index].decode(), "contribution": float(contributions[index])} for index in order
        ],
    }


def _probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def is_shown(image: bytes) -> bool:
    """Whether a value of the image input is an image rather than a creative's key."""
    return len(image) > _LONGEST_KEY


def heat_map_of(image: bytes, heat: Array) -> dict[str, Any]:
    """What the answer says of an image's pixels.

    Args:
        image: The image's file, one that Pillow reads.
        heat: What each pixel of the image, squeezed to a square, adds to the logit, float32 [size, size].

    Returns:
        Their sum, and a PNG in base64 of the image with them above: red where it helps, blue where it harms.
    """
    return {
        "logit_against_grey": float(heat.sum()),
        "heat_map": {"b64": base64.b64encode(_overlay(image, heat)).decode()},
    }


def _overlay(encoded: bytes, heat: Array) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as opened:
        picture = opened.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    scale = _OVERLAY_PIXELS / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    # In grey, so that colour tells of contributions alone.
    below = Image.alpha_composite(white, picture).convert("L").resize(size).convert("RGB")
    largest = float(np.abs(heat).max()) or 1.0
    strength = Image.fromarray((np.abs(heat) / largest * 255).astype(np.uint8)).resize(size)
    is_more = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size)) > 0
    colours = np.where(is_more[:, :, None], np.array(_MORE, np.uint8), np.array(_LESS, np.uint8))
    overlay = Image.composite(Image.fromarray(colours), below, strength)
    png = io.BytesIO()
    overlay.save(png, "PNG")
    return png.getvalue()
