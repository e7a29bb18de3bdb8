"""`GET /console/api/traffic` and `/console/api/traffic/live`: requests, times, errors and images over time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.gateway import Gateway
from adclick.serving.gateway.traffic import Figures, Point


class Series(Struct):
    """A value for each point in time."""

    requests: list[int]
    refused: Annotated[list[int], Meta(description="Answered by 4xx.")]
    errors: Annotated[list[int], Meta(description="Answered by 5xx.")]
    ads: list[int]
    images: list[int]
    unknown_images: Annotated[list[int], Meta(description="Scored as the unknown creative.")]
    p50: Annotated[list[float | None], Meta(description="The median time to answer in seconds, within 5 %.")]
    p99: list[float | None]


class TrafficAnswer(Struct):
    now: float
    since: Annotated[float, Meta(description="When this gateway began to count, in seconds since 1970.")]
    time: Annotated[list[float], Meta(description="When each point began, in seconds since 1970.")]
    seconds: Annotated[list[float], Meta(description="How long each was.")]
    total: Series
    versions: Annotated[dict[str, Series], Meta(description="By version, the newest first.")]


_NOTHING = Figures(0, 0, 0, 0, 0, 0, None, None)


def _series(figures: Sequence[Figures]) -> Series:
    return Series(
        [each.requests for each in figures],
        [each.refused for each in figures],
        [each.errors for each in figures],
        [each.ads for each in figures],
        [each.images for each in figures],
        [each.unknown_images for each in figures],
        [each.p50 for each in figures],
        [each.p99 for each in figures],
    )


def _answer(gateway: Gateway, points: Sequence[Point]) -> TrafficAnswer:
    versions = sorted({version for point in points for version in point.versions}, reverse=True)
    return TrafficAnswer(
        now=time.time(),
        since=gateway.traffic.since,
        time=[point.begin for point in points],
        seconds=[point.seconds for point in points],
        total=_series([point.total for point in points]),
        versions={
            str(version): _series([point.versions.get(version, _NOTHING) for point in points]) for version in versions
        },
    )


async def answer_day(gateway: Gateway, exchange: Exchange) -> TrafficAnswer:
    return _answer(gateway, tuple(gateway.traffic.day))


async def answer_live(gateway: Gateway, exchange: Exchange) -> TrafficAnswer:
    return _answer(gateway, tuple(gateway.traffic.live))


DAY = ApiEndpoint(
    "GET",
    "/console/api/traffic",
    name="console_traffic",
    summary="The last 24 hours by minute",
    answer=answer_day,
    answers_with=TrafficAnswer,
)
LIVE = ApiEndpoint(
    "GET",
    "/console/api/traffic/live",
    name="console_traffic_live",
    summary="The last five minutes by second",
    answer=answer_live,
    answers_with=TrafficAnswer,
)
