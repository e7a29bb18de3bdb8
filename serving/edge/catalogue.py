"""The booked and the forbidden creatives, and which of them an embedding is nearest to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: So many rows are compared at once: what a search holds in memory besides the catalogue is bounded.
_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Creative:
    """A row of the catalogue.

    Attributes:
        id: The creative's key.
        name: What people call it.
        valid_from: Seconds since 1970 from which it is booked; None for always.
        valid_until: Seconds since 1970 at which its booking ends; None for never.
        forbidden: Whether it must never be shown.
    """

    id: str
    name: str
    valid_from: float | None = None
    valid_until: float | None = None
    forbidden: bool = False


class Catalogue:
    """Creatives with their embeddings, int8 with a scale by row.

    Args:
        creatives: N rows.
        embeddings: int8 [N, D].
        scales: float32 [N]; a row times its scale has unit length.
    """

    def __init__(
        self,
        creatives: tuple[Creative, ...],
        embeddings: np.ndarray[Any, np.dtype[np.int8]],
        scales: np.ndarray[Any, np.dtype[np.float32]],
    ) -> None:
        self.creatives = creatives
        self.embeddings = embeddings
        self.scales = scales
        # A small catalogue is kept as it is multiplied, which spares a conversion at each frame.
        self._small = embeddings.astype(np.float32) * scales[:, None] if len(creatives) <= _ROWS_AT_ONCE else None

    def nearest(self, embedding: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[int, float]:
        """The row of greatest cosine similarity, and the similarity; (-1, -1.0) for an empty catalogue.

        Args:
            embedding: float32 [D] of unit length.
        """
        best, similarity = -1, -1.0
        for begin in range(0, len(self.creatives), _ROWS_AT_ONCE):
            if self._small is not None:
                found = self._small @ embedding
            else:
                rows = slice(begin, begin + _ROWS_AT_ONCE)
                found = (self.embeddings[rows].astype(np.float32) @ embedding) * self.scales[rows]
            row = int(np.argmax(found))
            if best < 0 or float(found[row]) > similarity:
                best, similarity = begin + row, float(found[row])
        return best, similarity

    def similarity(self, row: int, embedding: np.ndarray[Any, np.dtype[np.float32]]) -> float:
        """Cosine similarity of a row and an embedding, float32 [D] of unit length."""
        return float((self.embeddings[row].astype(np.float32) @ embedding) * self.scales[row])


def quantise(
    embeddings: np.ndarray[Any, np.dtype[np.float32]],
) -> tuple[np.ndarray[Any, np.dtype[np.int8]], np.ndarray[Any, np.dtype[np.float32]]]:
    """Embeddings as int8, each row to its own greatest value, and the scales that give the rows unit length.

    Args:
        embeddings: float32 [N, D], finite, no row of zeros.

    Returns:
        int8 [N, D] and float32 [N].
    """
    greatest = np.abs(embeddings).max(axis=1, keepdims=True)
    rows = np.rint(embeddings / greatest * 127).astype(np.int8)
    lengths = np.sqrt((rows.astype(np.float32) ** 2).sum(axis=1))
    return rows, (1 / lengths).astype(np.float32)
