"""`POST /console/api/compare`: up to 20 ads over a sample of last month's impressions."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType

from adclick.serving.gateway.audience import MOST_ADS
from adclick.serving.gateway.comparison import CONFIDENCE, RESAMPLES, Rate
from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint, ModelAnswer, RequestId
from adclick.serving.gateway.endpoints.score import CreativeStatus
from adclick.serving.gateway.errors import invalid
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.gateway import Gateway


class ComparedAd(Struct):
    index: Annotated[int, Meta(description="Which of the request's ads, from 0.")]
    rank: Annotated[int, Meta(description="1 for the highest expected click rate; the same for the same.")]
    click_rate: Rate
    difference_to_best: Annotated[Rate, Meta(description="Its click rate less that of rank 1.")]
    best_share: Annotated[float | None, Meta(description="In which share of the resamples it is the best.")]
    creative_status: CreativeStatus | UnsetType = UNSET


class PartOfAudience(Struct):
    value: Annotated[str, Meta(description="Empty where the value is missing.")]
    rows: int
    click_rates: Annotated[list[Rate], Meta(description="By the request's index of the ad.")]


class Breakdown(Struct):
    column: str
    parts: Annotated[list[PartOfAudience], Meta(description="The most frequent value first.")]


class Audience(Struct):
    span: Annotated[int | None, Meta(description="The month, such as 202610.")]
    rows: int
    replaced_values: Annotated[int, Meta(description="Its values that were no Unicode text.")]
    left_out_rows: Annotated[int, Meta(description="Drawn rows that were too large to be kept.")]


class Intervals(Struct):
    """Of a percentile bootstrap over the audience's rows, which draws the same rows for all ads.

    They hold what the sample of impressions leaves open, not what the model does not know.
    """

    confidence: Annotated[float, Meta(description="The share of the resamples that an interval holds.")]
    resamples: int


class ComparedAds(Struct):
    request_id: RequestId
    model: ModelAnswer
    audience: Audience
    intervals: Intervals
    as_shown: Annotated[Rate | None, Meta(description="The expected rate with the creatives that were shown then.")]
    ads: Annotated[list[ComparedAd], Meta(description="Ranked.")]
    breakdowns: list[Breakdown]


async def answer(gateway: Gateway, exchange: Exchange) -> ComparedAds:
    snapshot = exchange.snapshot
    request = (await snapshot.first_model(exchange.route)).form.read(exchange.body)
    if len(request.ads) > MOST_ADS:
        raise invalid(f"at most {MOST_ADS} ads are compared at a time, not {len(request.ads)}", "ads")
    target = snapshot.first_target(exchange.route)
    compared = await gateway.audience.compare(snapshot, target, request)
    exchange.versions.add(compared.model.version)
    exchange.routes.add(target.name)
    comparison, held_out = compared.comparison, compared.judged.held_out
    values = np.array([rate.value for rate in comparison.rates])
    order = np.argsort(-values, kind="stable").tolist()
    return ComparedAds(
        exchange.request_id,
        ModelAnswer(snapshot.settings.backend.model_name, compared.model.version, target.name),
        Audience(held_out.span, len(held_out.audience), held_out.replaced_values, held_out.left_out_rows),
        Intervals(CONFIDENCE, RESAMPLES),
        comparison.as_shown,
        [
            ComparedAd(
                index,
                1 + int(np.count_nonzero(values > values[index])),
                comparison.rates[index],
                comparison.differences[index],
                comparison.best_shares[index],
                compared.statuses[index] or UNSET,
            )
            for index in order
        ],
        [
            Breakdown(column, [PartOfAudience(part.value, part.rows, part.rates) for part in parts])
            for column, parts in comparison.slices.items()
        ],
    )


ENDPOINT = ApiEndpoint(
    "POST",
    "/console/api/compare",
    name="console_compare",
    summary="Compare ads over a sample of last month's impressions",
    answer=answer,
    answers_with=ComparedAds,
    request_type=lambda form: form.score_type,
    takes_route=True,
)
