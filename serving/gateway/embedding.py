"""The images of ads as a served version takes them: fetched or decoded, embedded, and with what came of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adclick.schema.signatures import CREATIVE_EMBEDDING, EMBED_CREATIVE
from adclick.serving.gateway.backends import Backend
from adclick.serving.gateway.creatives import OK, UNKNOWN_KEY, CreativeStore, Resolved
from adclick.serving.gateway.metrics import GatewayMetrics
from adclick.serving.gateway.served import ServedModel
from adclick.serving.gateway.traffic import Traffic

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class EmbeddedImages:
    """Images, a row for each ad.

    Attributes:
        resolved: The images.
        embeddings: Their embeddings, float32 [ads, width].
        statuses: What came of each.
    """

    resolved: list[Resolved]
    embeddings: Array
    statuses: list[str]


class ImageEmbedder:
    """Has images embedded by the version that scores them.

    Args:
        backend: Where the models run.
        metrics: Where images are counted.
        traffic: Where they are tallied for people.
    """

    def __init__(self, backend: Backend, metrics: GatewayMetrics, traffic: Traffic) -> None:
        self._backend = backend
        self._metrics = metrics
        self._traffic = traffic

    async def embed(
        self,
        creatives: CreativeStore,
        model: ServedModel,
        images: Sequence[Any],
        deadline: float,
        *,
        is_traffic: bool = True,
    ) -> EmbeddedImages:
        """The embeddings of a request's images.

        Args:
            creatives: Which images are taken, and those that are known.
            model: A version that takes images.
            images: For each ad UNSET, None, a key, an address, or `Base64`.
            deadline: When the answer comes too late, by `time.monotonic()`.
            is_traffic: Whether the images are of ads that may be shown, which are counted.

        Raises:
            GatewayError: An image is not allowed, or is none.
            ServingError: The version cannot be asked.
        """
        name, unknown = model.image, model.unknown
        assert name is not None and unknown is not None

        async def run(values: Sequence[bytes]) -> Array:
            inputs = np.empty(len(values), object)
            inputs[:] = values
            return await self._backend.run(model.version, EMBED_CREATIVE, {name: inputs}, CREATIVE_EMBEDDING, deadline)

        resolved = await creatives.resolve(images)
        embeddings = await creatives.embed(model.version, resolved, run)
        # A key that the model does not know gets the unknown creative's embedding, by which it is told.
        is_unknown = (embeddings == unknown).all(axis=1).tolist()
        statuses = [
            UNKNOWN_KEY if image.status == OK and nothing else image.status
            for image, nothing in zip(resolved, is_unknown, strict=True)
        ]
        if is_traffic:
            self._metrics.count_creatives(statuses)
            self._traffic.note_images(model.version, statuses)
        return EmbeddedImages(resolved, embeddings, statuses)
