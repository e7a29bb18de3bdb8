"""What a frame shows, by the embedding's nearest creative, and when that is an alert."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from .catalogue import ApprovedCreative, Catalogue

APPROVED, EXPIRED, EARLY, FORBIDDEN, UNKNOWN = "approved", "expired", "early", "forbidden", "unknown"
#: The worst first: of kinds that a streak holds equally often, the worst is told.
_BY_GRAVITY = (FORBIDDEN, UNKNOWN, EXPIRED, EARLY)


@dataclass(frozen=True)
class Decision:
    """What a frame shows.

    Attributes:
        kind: `approved`, `expired` or `early` (outside its booking), `forbidden`, or `unknown`.
        creative: The creative that was recognised; None if unknown.
        similarity: Cosine to the nearest creative, recognised or not; -1 where there is none.
    """

    kind: str
    creative: ApprovedCreative | None
    similarity: float

    @property
    def is_threat(self) -> bool:
        """Whether it must not be on the screen."""
        return self.kind != APPROVED


def decide(
    catalogue: Catalogue, threshold: float, embedding: np.ndarray[Any, np.dtype[np.float32]], now: float
) -> Decision:
    """Decides about a frame.

    Args:
        catalogue: The creatives.
        threshold: The least cosine similarity at which the nearest creative is recognised.
        embedding: float32 [D].
        now: Seconds since 1970, for the bookings' validity.
    """
    row, similarity = catalogue.nearest(embedding)
    # Written so that NaN, which a broken model may give, recognises nothing.
    if row < 0 or not similarity >= threshold:
        return Decision(UNKNOWN, None, similarity if math.isfinite(similarity) else -1.0)
    creative = catalogue.creatives[row]
    if creative.forbidden:
        return Decision(FORBIDDEN, creative, similarity)
    if creative.valid_from is not None and now < creative.valid_from:
        return Decision(EARLY, creative, similarity)
    if creative.valid_until is not None and now >= creative.valid_until:
        return Decision(EXPIRED, creative, similarity)
    return Decision(APPROVED, creative, similarity)


class Hysteresis:
    """Opens an alert after a streak of threats, closes it after a streak of approved frames.

    One frame is no alert: players fade, cameras blur.

    Args:
        frames: How many frames in a row.
        hold_seconds: And for how long at least, by a clock that does not jump.
        is_open: Whether an alert is open already, from before a restart.
    """

    def __init__(self, frames: int, hold_seconds: float = 0.0, *, is_open: bool = False) -> None:
        self._frames = frames
        self._hold_seconds = hold_seconds
        self.is_open = is_open
        self._streak = 0
        self._since = 0.0
        self._kinds: Counter[str] = Counter()
        self._example: dict[str, Decision] = {}

    def take(self, decision: Decision, monotonic: float) -> Decision | None:
        """Takes a frame's decision.

        Args:
            decision: The decision.
            monotonic: `time.monotonic()` of the frame.

        Returns:
            If an alert opens: the decision of the streak's commonest kind. If one closes: this approved decision.
        """
        turns = decision.is_threat != self.is_open
        if not turns:
            self._streak = 0
            self._kinds.clear()
            self._example.clear()
            return None
        if self._streak == 0:
            self._since = monotonic
        self._streak += 1
        self._kinds[decision.kind] += 1
        self._example[decision.kind] = decision
        if self._streak < self._frames or monotonic - self._since < self._hold_seconds:
            return None
        self.is_open = decision.is_threat
        told = decision
        if decision.is_threat:
            told = self._example[max(_BY_GRAVITY, key=lambda kind: self._kinds[kind])]
        self._streak = 0
        self._kinds.clear()
        self._example.clear()
        return told
