"""Scores: contexts go to the versions that their users are routed to, and come back with probabilities."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from adclick.schema.signatures import CLICK_PROBABILITY, SCORE, SERVING_DEFAULT
from adclick.serving.errors import Code, ServingError
from adclick.serving.gateway.backends import Backend
from adclick.serving.gateway.embedding import ImageEmbedder
from adclick.serving.gateway.errors import GatewayError, no_probability, refusal_of
from adclick.serving.gateway.fields import RequestForm
from adclick.serving.gateway.metrics import GatewayMetrics
from adclick.serving.gateway.routing import Target
from adclick.serving.gateway.served import ServedModel
from adclick.serving.gateway.snapshot import Snapshot

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Scored:
    """The scores of one context.

    Attributes:
        target: The route that it took.
        model: The version that answered.
        probabilities: The click probability of each ad, float32 [ads].
        statuses: What came of each image; empty texts where the version takes none.
        columns: The version's inputs but the image, a row for each ad.
        keys: The key of each image; empty where the version takes none.
    """

    target: Target
    model: ServedModel
    probabilities: Array
    statuses: list[str]
    columns: Mapping[str, Array]
    keys: list[bytes]


async def ask_served(snapshot: Snapshot, target: Target, ask: Callable[[ServedModel], Awaitable[_Answer]]) -> _Answer:
    """Asks the version that a target stands for; where it has just given way to another, that one.

    Raises:
        GatewayError: The version cannot be asked, or `ask` refuses.
    """
    model = await snapshot.models.get(target)
    try:
        return await ask(model)
    except ServingError as error:
        if error.code is not Code.NOT_FOUND:
            raise refusal_of(error) from error
    model = await snapshot.models.refresh(target)
    try:
        return await ask(model)
    except ServingError as error:
        raise refusal_of(error) from error


class GatewayScorer:
    """Asks versions for scores.

    Args:
        backend: Where the models run.
        embedder: Has images embedded.
        metrics: Where answers are counted that hold no probability.
    """

    def __init__(self, backend: Backend, embedder: ImageEmbedder, metrics: GatewayMetrics) -> None:
        self._backend = backend
        self._embedder = embedder
        self._metrics = metrics

    async def score(
        self, snapshot: Snapshot, form: RequestForm, contexts: Sequence[Any], deadline: float
    ) -> list[Scored]:
        """Routes each context, and scores all that go the same way together.

        Args:
            snapshot: Who goes where, and what is known of the versions.
            form: The form by which the contexts were read.
            contexts: The contexts with their ads.
            deadline: When the answer comes too late, by `time.monotonic()`.

        Raises:
            GatewayError: A field is wrong, or a version cannot be asked.
        """
        router = snapshot.router
        indices_by_target: dict[Target, list[int]] = defaultdict(list)
        for index, context in enumerate(contexts):
            indices_by_target[router.route(form.value(context, router.by))].append(index)
        scored: dict[int, Scored] = {}
        for target, indices in indices_by_target.items():
            group = [contexts[index] for index in indices]
            scored |= dict(zip(indices, await self.score_by(snapshot, target, group, deadline), strict=True))
        return [scored[index] for index in range(len(contexts))]

    async def score_by(
        self, snapshot: Snapshot, target: Target, contexts: Sequence[Any], deadline: float
    ) -> list[Scored]:
        """Scores contexts by one version; arguments and errors as for `score`."""
        return await ask_served(snapshot, target, lambda model: self._run(snapshot, target, model, contexts, deadline))

    async def _run(
        self, snapshot: Snapshot, target: Target, model: ServedModel, contexts: Sequence[Any], deadline: float
    ) -> list[Scored]:
        columns = model.form.columns(contexts)
        count = sum(len(context.ads) for context in contexts)
        statuses, keys = [""] * count, [b""] * count
        embeddings = None
        if model.image is not None:
            images = [image for context in contexts for image in model.form.images(context)]
            embedded = await self._embedder.embed(snapshot.creatives, model, images, deadline)
            statuses = embedded.statuses
            keys = [image.key for image in embedded.resolved]
            embeddings = embedded.embeddings
        probabilities = await self.probabilities(model, columns, embeddings, count, deadline)
        scored = []
        start = 0
        for context in contexts:
            rows = slice(start, start + len(context.ads))
            part = {name: column[rows] for name, column in columns.items()}
            scored.append(Scored(target, model, probabilities[rows], statuses[rows], part, keys[rows]))
            start = rows.stop
        return scored

    async def probabilities(
        self, model: ServedModel, columns: Mapping[str, Array], embeddings: Array | None, count: int, deadline: float
    ) -> Array:
        """Click probabilities of ads whose images are embedded.

        Args:
            model: The version that is asked.
            columns: Its inputs but the image, a row for each ad.
            embeddings: The images' embeddings, float32 [ads, width]; None for a version that takes none.
            count: How many ads there are.
            deadline: When the answer comes too late, by `time.monotonic()`.

        Returns:
            float32 [ads].

        Raises:
            ServingError: The version is gone, or cannot be asked.
            GatewayError: It gave something that is no probability.
        """
        if embeddings is None:
            found = await self._backend.run(model.version, SERVING_DEFAULT, columns, CLICK_PROBABILITY, deadline)
        else:
            assert model.embedding is not None
            inputs = {**columns, model.embedding: embeddings}
            found = await self._backend.run(model.version, SCORE, inputs, CLICK_PROBABILITY, deadline)
        self._check_probabilities(found, count, model.version)
        return found.reshape(count)

    def _check_probabilities(self, probabilities: Array, count: int, version: int) -> None:
        """Refuses what a model gave in place of probabilities: no answer, log or comparison may hold it."""
        if probabilities.shape not in ((count,), (count, 1)):
            raise self.refuse(version, f"an array of {list(probabilities.shape)} for {count} ads")
        # Not by what is outside: NaN compares as neither.
        is_probability = (probabilities >= 0) & (probabilities <= 1)
        if not is_probability.all():
            row = int(np.flatnonzero(~is_probability.reshape(count))[0])
            raise self.refuse(version, f"{probabilities.reshape(count)[row]} for ad {row} of {count}")

    def refuse(self, version: int, what: str) -> GatewayError:
        """The refusal of what a version gave in place of a probability, which is counted and logged."""
        self._metrics.no_probability.labels(str(version)).inc()
        logger.error("version %d gave %s", version, what)
        return no_probability(version, what)
