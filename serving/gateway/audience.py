"""Scores ads over the audience that a served version keeps, by the gateway's own scorer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np

from adclick.serving.gateway.comparison import AdComparison, breakdowns, compare
from adclick.serving.gateway.embedding import ImageEmbedder
from adclick.serving.gateway.errors import GatewayError, overloaded
from adclick.serving.gateway.fields import Field
from adclick.serving.gateway.held_out import HeldOutRows, Judged, Nothing
from adclick.serving.gateway.routing import Target
from adclick.serving.gateway.scoring import GatewayScorer, ask_served
from adclick.serving.gateway.served import ServedModel
from adclick.serving.gateway.snapshot import Snapshot

Array = np.ndarray[Any, Any]

#: The most ads of a comparison.
MOST_ADS = 20
#: Rows that are scored by one call: few enough that other requests do not wait long for theirs.
_BATCH_ROWS = 500
#: After how long a comparison is given up.
_SECONDS = 120.0


@dataclass(frozen=True)
class Compared:
    """Ads over the audience of a version.

    Attributes:
        model: The version.
        judged: What it keeps.
        comparison: The ads; where the version takes images, beside what the audience was shown then.
        statuses: What came of each ad's image; empty texts where the version takes none.
    """

    model: ServedModel
    judged: Judged
    comparison: AdComparison
    statuses: list[str]


class AudienceScorer:
    """Compares ads, one comparison at a time.

    Nothing of it is logged, shadowed or counted as traffic: nobody was shown these ads.

    Args:
        scorer: Asks versions for scores.
        embedder: Has images embedded.
        held_out: What versions keep.
    """

    def __init__(self, scorer: GatewayScorer, embedder: ImageEmbedder, held_out: HeldOutRows) -> None:
        self._scorer = scorer
        self._embedder = embedder
        self._held_out = held_out
        self._turn = asyncio.Lock()

    async def compare(self, snapshot: Snapshot, target: Target, request: Any) -> Compared:
        """Compares the ads of a request over the audience of the version that a target stands for.

        What the request's context gives counts for every row; what an ad gives itself counts for that ad.

        Raises:
            GatewayError: The version keeps no audience, a field is wrong, or the version cannot be asked.
        """
        deadline = time.monotonic() + _SECONDS
        try:
            async with asyncio.timeout(_SECONDS), self._turn:
                return await ask_served(
                    snapshot, target, lambda model: self._compare(snapshot, model, request, deadline)
                )
        except TimeoutError:
            raise overloaded(f"The comparison did not end within {_SECONDS:g} s; others may be under way") from None

    async def _compare(self, snapshot: Snapshot, model: ServedModel, request: Any, deadline: float) -> Compared:
        judged = await self._held_out.of(model)
        if isinstance(judged, Nothing) or not judged.contexts:
            reason = judged.reason if isinstance(judged, Nothing) else "no row was held out"
            raise GatewayError(HTTPStatus.NOT_IMPLEMENTED, "no_audience", f"There is no audience: {reason}")
        form, rows, ads = judged.model.form, judged.held_out.audience, request.ads
        statuses, embeddings = [""] * len(ads), None
        if model.image is not None:
            images = [*form.images(request), *(row.get(model.image, "") for row in rows)]
            embedded = await self._embedder.embed(snapshot.creatives, model, images, deadline, is_traffic=False)
            statuses, embeddings = embedded.statuses[: len(ads)], embedded.embeddings
        context = request.context
        shared = await asyncio.to_thread(form.columns, form.over(context, None, judged.contexts))
        scored = []
        for index, ad in enumerate(ads):
            columns = shared
            if form.given(ad):
                columns = await asyncio.to_thread(form.columns, form.over(context, ad, judged.contexts))
            of_ad = None if embeddings is None else np.repeat(embeddings[[index]], len(rows), axis=0)
            scored.append(await self._score(judged, columns, of_ad, deadline))
        if embeddings is not None:
            scored.append(await self._score(judged, shared, embeddings[len(ads) :], deadline))
        # What the request gives itself parts no rows.
        given = form.given(context).union(*map(form.given, ads))
        shown = breakdowns(
            rows, [field.name for field in form.fields if _is_breakdown(field) and field.name not in given]
        )
        comparison = await asyncio.to_thread(compare, np.stack(scored, axis=1), len(ads), shown)
        return Compared(model, judged, comparison, statuses)

    async def _score(
        self, judged: Judged, columns: Mapping[str, Array], embeddings: Array | None, deadline: float
    ) -> Array:
        parts = []
        for start in range(0, len(judged.contexts), _BATCH_ROWS):
            rows = slice(start, start + _BATCH_ROWS)
            part = {name: column[rows] for name, column in columns.items()}
            count = len(judged.contexts[rows])
            of_part = None if embeddings is None else embeddings[rows]
            parts.append(await self._scorer.probabilities(judged.model, part, of_part, count, deadline))
        return np.concatenate(parts)


def _is_breakdown(field: Field) -> bool:
    return field.dtype == "string" and not (field.is_list or field.is_image or field.is_identifier)
