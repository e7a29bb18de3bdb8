"""`POST /v1/score:batch`: the ads of many contexts, those of each ranked by click probability."""

from __future__ import annotations

from msgspec import Struct

from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint, ModelAnswer, RequestId
from adclick.serving.gateway.endpoints.score import RankedAds, model_answer, ranked_ads
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.gateway import Gateway


class ContextScores(Struct):
    model: ModelAnswer
    ads: RankedAds


class BatchScores(Struct):
    request_id: RequestId
    responses: list[ContextScores]


async def answer(gateway: Gateway, exchange: Exchange) -> BatchScores:
    snapshot = exchange.snapshot
    form = (await snapshot.first_model(exchange.route)).form
    contexts = form.read_batch(exchange.body)
    responses = [
        ContextScores(model_answer(scored, snapshot.settings), ranked_ads(scored, with_status=context.creative_status))
        for context, scored in zip(contexts, await gateway.score(exchange, form, contexts), strict=True)
    ]
    return BatchScores(exchange.request_id, responses)


ENDPOINT = ApiEndpoint(
    "POST",
    "/v1/score:batch",
    name="score_batch",
    summary="Score the ads of many contexts",
    answer=answer,
    answers_with=BatchScores,
    request_type=lambda form: form.batch_type,
    takes_route=True,
)
