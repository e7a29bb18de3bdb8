"""Whether a bundle does on this device what it did where it was made, before it is trusted with the screen."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from .bundle import Probe
from .errors import BrokenFrame, BundleRefused
from .frame import open_frame, prepare
from .watch import Eye

#: Another row may be nearer than a picture's own by so much: two creatives may be alike, and processors round.
_ALIKE = 0.01


def run_self_test(eye: Eye) -> int:
    """Recognises the bundle's own pictures, from JPEG to creative; gives how many there were.

    Raises:
        BundleRefused: One is not recognised as its creative, or an embedding is not finite.
    """
    rows = {creative.id: row for row, creative in enumerate(eye.bundle.catalogue.creatives)}
    for probe in eye.bundle.probes:
        if probe.creative not in rows:
            raise BundleRefused("self_test", f"the picture of {probe.creative} belongs to no creative")
        fault = _fault(eye, probe, rows[probe.creative])
        if fault:
            raise BundleRefused("self_test", f"the picture of {probe.creative} {fault}", "Export the bundle anew.")
    # Also where a bundle has no pictures the model runs once.
    if not np.isfinite(eye.embed(Image.new("RGB", (eye.size, eye.size), (90, 130, 170)))).all():
        raise BundleRefused("self_test", "the recogniser's embedding is not finite", "Export the bundle anew.")
    return len(eye.bundle.probes)


def _fault(eye: Eye, probe: Probe, row: int) -> str:
    try:
        embedding = eye.embed(open_frame(probe.jpeg))
    except BrokenFrame as error:
        return f"cannot be decoded: {error}"
    catalogue, known = eye.bundle.catalogue, eye.bundle.known
    similarity, (nearest, greatest) = catalogue.similarity(row, embedding), catalogue.nearest(embedding)
    # Written so that NaN is a fault.
    if not similarity >= known:
        return f"has similarity {similarity:.4f} to its creative, known from {known}"
    if not greatest - similarity <= _ALIKE:
        return f"is taken for {catalogue.creatives[nearest].id}"
    return ""


def make_probe(creative: str, image: Any, size: int) -> Probe:
    """A small picture of a creative, for `Bundle.probes`.

    Args:
        creative: Its id.
        image: The `PIL.Image.Image`.
        size: The side of the recogniser's input; the picture has twice of it, so that it is scaled as a frame is.

    Raises:
        BrokenFrame: Its pixels cannot be decoded.
    """
    buffer = io.BytesIO()
    Image.fromarray(prepare(image, 2 * size)[0].astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return Probe(creative, buffer.getvalue())


def passing(eye: Eye, probes: list[Probe], most: int) -> tuple[Probe, ...]:
    """Of pictures the first that a bundle recognises, at most so many."""
    rows = {creative.id: row for row, creative in enumerate(eye.bundle.catalogue.creatives)}
    recognised = (probe for probe in probes if not _fault(eye, probe, rows[probe.creative]))
    return tuple(probe for probe, _ in zip(recognised, range(most)))
