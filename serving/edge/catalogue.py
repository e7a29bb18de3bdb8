"""The booked and the forbidden creatives, and which of them an embedding is nearest to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: So many rows are compared at once: what a search holds in memory besides the catalogue is bounded.
ROWS_AT_ONCE = 16_384
#: Of a large catalogue's clusters; the nearest row is in one of these in all but one of a thousand searches.
_CLUSTERS_LOOKED_INTO = 96


@dataclass(frozen=True)
class ApprovedCreative:
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


@dataclass(frozen=True)
class Clusters:
    """Which rows lie near to each other.

    Attributes:
        centroids: float32 [K, D] of unit length.
        starts: int32 [K + 1], ascending from 0 to N: rows `starts[k]` to `starts[k + 1]` are nearest to centroid k.
    """

    centroids: np.ndarray[Any, np.dtype[np.float32]]
    starts: np.ndarray[Any, np.dtype[np.int32]]


class Catalogue:
    """Creatives with their embeddings, int8 with a scale by row.

    Args:
        creatives: N rows.
        embeddings: int8 [N, D].
        scales: float32 [N]; a row times its scale has unit length.
        clusters: Of a large catalogue, by which not every row is looked at; all are where it is None.

    Raises:
        ValueError: The clusters do not cover the rows.
    """

    def __init__(
        self,
        creatives: tuple[ApprovedCreative, ...],
        embeddings: np.ndarray[Any, np.dtype[np.int8]],
        scales: np.ndarray[Any, np.dtype[np.float32]],
        clusters: Clusters | None = None,
    ) -> None:
        if clusters is not None and not _cover(clusters, embeddings.shape):
            raise ValueError("the clusters do not cover the catalogue")
        self.creatives = creatives
        self.clusters = clusters
        self.embeddings = embeddings
        self.scales = scales
        # A small catalogue is kept as it is multiplied, which spares a conversion at each frame.
        self._small = embeddings.astype(np.float32) * scales[:, None] if len(creatives) <= ROWS_AT_ONCE else None

    def nearest(self, embedding: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[int, float]:
        """The row of greatest cosine similarity, and the similarity; (-1, -1.0) for an empty catalogue.

        Args:
            embedding: float32 [D] of unit length.
        """
        best, similarity = -1, -1.0
        if self.clusters is not None and self._small is None:
            return self._nearest_in_clusters(self.clusters, embedding)
        for begin in range(0, len(self.creatives), ROWS_AT_ONCE):
            if self._small is not None:
                similarities = self._small @ embedding
            else:
                rows = slice(begin, begin + ROWS_AT_ONCE)
                similarities = (self.embeddings[rows].astype(np.float32) @ embedding) * self.scales[rows]
            row = int(np.argmax(similarities))
            if best < 0 or float(similarities[row]) > similarity:
                best, similarity = begin + row, float(similarities[row])
        return best, similarity

    def _nearest_in_clusters(
        self, clusters: Clusters, embedding: np.ndarray[Any, np.dtype[np.float32]]
    ) -> tuple[int, float]:
        near = clusters.centroids @ embedding
        count = min(_CLUSTERS_LOOKED_INTO, len(near))
        parts = [
            np.arange(clusters.starts[cluster], clusters.starts[cluster + 1])
            for cluster in np.argpartition(-near, count - 1)[:count]
        ]
        rows = np.concatenate(parts)
        if not len(rows):
            return -1, -1.0
        similarities = (self.embeddings[rows].astype(np.float32) @ embedding) * self.scales[rows]
        best = int(np.argmax(similarities))
        return int(rows[best]), float(similarities[best])

    def similarity(self, row: int, embedding: np.ndarray[Any, np.dtype[np.float32]]) -> float:
        """Cosine similarity of a row and an embedding, float32 [D] of unit length."""
        return float((self.embeddings[row].astype(np.float32) @ embedding) * self.scales[row])


def _cover(clusters: Clusters, shape: tuple[int, ...]) -> bool:
    starts, centroids = clusters.starts, clusters.centroids
    return bool(
        len(starts) == len(centroids) + 1
        and len(centroids) > 0
        and centroids.shape[1] == shape[1]
        and np.isfinite(centroids).all()
        and starts[0] == 0
        and starts[-1] == shape[0]
        and (np.diff(starts) >= 0).all()
    )

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
