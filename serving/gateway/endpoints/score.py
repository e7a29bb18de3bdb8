"""`POST /v1/score`: the ads of one context, ranked by click probability."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import orjson
from msgspec import UNSET, Meta, Struct, UnsetType

from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint, ModelAnswer, RequestId
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.gateway import Gateway
from adclick.serving.gateway.scoring import Scored
from adclick.serving.gateway.settings import GatewaySettings

CreativeStatus = Annotated[
    Literal["ok", "none", "unknown_key", "not_fetched", "timed_out", "too_large", "not_an_image"],
    Meta(
        description="Where asked for: whether the ad was scored with its image, or why with the unknown one.",
        extra_json_schema={"type": "string"},
    ),
]


class ScoredAd(Struct):
    index: Annotated[int, Meta(description="Which of the request's ads, from 0.")]
    rank: Annotated[int, Meta(description="1 for the ad that is most likely to be clicked.")]
    click_probability: Annotated[float, Meta(ge=0, le=1, description="Calibrated.")]
    creative_status: CreativeStatus | UnsetType = UNSET


RankedAds = Annotated[list[ScoredAd], Meta(description="Ranked.")]


class Scores(Struct):
    request_id: RequestId
    model: ModelAnswer
    ads: RankedAds


async def answer(gateway: Gateway, exchange: Exchange) -> Scores:
    snapshot = exchange.snapshot
    form = (await snapshot.first_model(exchange.route)).form
    context = form.read(exchange.body)
    (scored,) = await gateway.score(exchange, form, [context])
    model = model_answer(scored, snapshot.settings)
    return Scores(exchange.request_id, model, ranked_ads(scored, with_status=context.creative_status))


def model_answer(scored: Scored, settings: GatewaySettings) -> ModelAnswer:
    """Which version gave scores."""
    return ModelAnswer(settings.backend.model_name, scored.model.version, scored.target.name)


def ranked_ads(scored: Scored, *, with_status: bool) -> list[ScoredAd]:
    """The scored ads of a context, those first that are most likely to be clicked."""
    # As the shortest decimal numbers that are the same in float32; Python's own of a float32 has nine digits more.
    probabilities = orjson.loads(orjson.dumps(scored.probabilities, option=orjson.OPT_SERIALIZE_NUMPY))
    order = np.argsort(-scored.probabilities, kind="stable").tolist()
    statuses = scored.statuses if with_status else [UNSET] * len(order)
    return [ScoredAd(index, rank, probabilities[index], statuses[index]) for rank, index in enumerate(order, 1)]


ENDPOINT = ApiEndpoint(
    "POST",
    "/v1/score",
    name="score",
    summary="Score the ads of one context",
    answer=answer,
    answers_with=Scores,
    request_type=lambda form: form.score_type,
    has_example=True,
    takes_route=True,
)
