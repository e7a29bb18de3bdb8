"""`GET /console/api/runs`: the pipeline's runs, and what runs now; `/console/api/runs/RUN/report`: a run's report."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Annotated

from msgspec import Meta, Struct
from starlette.responses import Response

from adclick.schema.errors import AdclickError
from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint
from adclick.serving.gateway.errors import GatewayError
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.gateway import Gateway
from adclick.serving.gateway.pipeline_runs import RunView

_MOST_RUNS = 200
#: A report is a page of its own, without scripts, whose styles stand in it; shown in a frame of the console.
_REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
NOT_AT_HAND = (
    "The pipeline's runs are not at hand here: `adclick serve` shows those of the output folder that its push "
    "directory lies in."
)


class Runs(Struct):
    now: float
    reason: Annotated[str, Meta(description="Why no runs are at hand; empty if they are.")]
    runs: Annotated[list[RunView], Meta(description="The newest first.")]
    count: Annotated[int, Meta(description="How many there are in all.")]
    faults: Annotated[list[str], Meta(description="Which of the newest could not be read, and why.")]


async def answer(gateway: Gateway, exchange: Exchange) -> Runs:
    if gateway.runs is None:
        return Runs(time.time(), NOT_AT_HAND, [], 0, [])
    try:
        found = await asyncio.to_thread(gateway.runs.newest, _MOST_RUNS)
    except (AdclickError, OSError) as error:
        return Runs(time.time(), f"The runs cannot be read: {error}", [], 0, [])
    return Runs(time.time(), "", found.runs, found.count, found.faults)


async def answer_report(gateway: Gateway, exchange: Exchange) -> Response:
    run_id = exchange.arguments["run_id"]
    page = None
    if gateway.runs is not None:
        try:
            page = await asyncio.to_thread(gateway.runs.report, run_id)
        except (AdclickError, OSError) as error:
            raise GatewayError(HTTPStatus.NOT_FOUND, "no_report", f"The report cannot be read: {error}") from error
    if page is None:
        raise GatewayError(HTTPStatus.NOT_FOUND, "no_report", f"There is no report of a run {run_id}")
    headers = {
        "content-security-policy": _REPORT_POLICY,
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
    }
    return Response(page, headers=headers, media_type="text/html")


RUNS = ApiEndpoint(
    "GET",
    "/console/api/runs",
    name="console_runs",
    summary="The pipeline's runs",
    answer=answer,
    answers_with=Runs,
)
REPORT = ApiEndpoint(
    "GET",
    "/console/api/runs/{run_id}/report",
    name="console_report",
    summary="A run's report",
    answer=answer_report,
    answers_with=None,
)
