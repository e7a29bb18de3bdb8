"""`POST /v1/edge/reports`: what devices report of themselves and of what they saw."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from http import HTTPStatus
from typing import Annotated, Any

from msgspec import Meta, Struct

from adclick.serving.gateway.device_state import Report
from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint, RequestId
from adclick.serving.gateway.errors import GatewayError, invalid, overloaded
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.gateway import Gateway

_MOST_REPORTS = 1_000


class RefusedReport(Struct):
    key: str
    reason: str


class TakenReports(Struct):
    request_id: RequestId
    taken: Annotated[int, Meta(description="Reports that are kept now.")]
    known: Annotated[int, Meta(description="Reports whose keys had come before: nothing was counted twice.")]
    refused: Annotated[list[RefusedReport], Meta(description="Reports that will never be taken.")]


async def answer(gateway: Gateway, exchange: Exchange) -> TakenReports:
    devices = gateway.devices
    if devices is None:
        raise GatewayError(
            HTTPStatus.NOT_IMPLEMENTED, "no_device_reports", "This gateway keeps none: set edge.reports_file"
        )
    reports, refused = _read(exchange.body)
    owner = exchange.client if exchange.snapshot.device_keys is not None else None
    try:
        taken = await asyncio.to_thread(devices.take, owner, reports, time.time())
    except sqlite3.Error as error:
        raise overloaded(f"The reports cannot be written: {error}") from error
    gateway.device_metrics.count(taken.counts)
    refused += [RefusedReport(key, reason) for key, reason in taken.refused.items()]
    return TakenReports(exchange.request_id, taken.taken, taken.known, refused)


def _read(body: bytes) -> tuple[list[Report], list[RefusedReport]]:
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise GatewayError(HTTPStatus.BAD_REQUEST, "not_json", f"The body is not JSON: {error}") from error
    rows = document.get("reports") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise invalid("a list of reports is needed", "reports")
    if len(rows) > _MOST_REPORTS:
        raise invalid(f"at most {_MOST_REPORTS} reports at once, not {len(rows)}", "reports")
    reports, refused = [], []
    for number, row in enumerate(rows):
        try:
            reports.append(Report.from_fields(row))
        except ValueError as error:
            key = row.get("key") if isinstance(row, dict) else None
            if not isinstance(key, str):
                raise invalid(str(error), f"reports[{number}]") from error
            refused.append(RefusedReport(key, str(error)))
    return reports, refused


ENDPOINT = ApiEndpoint(
    "POST",
    "/v1/edge/reports",
    name="edge_reports",
    summary="Take reports of a device: heartbeats, alerts, proofs of play and what came of bundles",
    answer=answer,
    answers_with=TakenReports,
    refusals={HTTPStatus.NOT_IMPLEMENTED: "This gateway keeps no reports of devices."},
    asks_for="device",
)
