"""`adclick edge devices`: how devices fare, by their reports."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from adclick.pipeline.console import one_line, result_console
from adclick.schema.errors import ConfigError
from adclick.serving.gateway.device_state import DeviceState, number_of
from adclick.serving.gateway.devices import read_device_file, read_device_folder

_TIMEOUT_SECONDS = 30.0


def run_devices(
    reports: Path | None, *, gateway: str | None, api_key: str | None, silent_minutes: float, as_json: bool
) -> None:
    """Prints the devices.

    Args:
        reports: A gateway's file of reports, or a folder of reports that was collected.
        gateway: Or the gateway's address.
        api_key: The API key, where the gateway asks for one.
        silent_minutes: A device that is silent for longer is marked.
        as_json: Whether to print JSON.

    Raises:
        ConfigError: Not one source is named, or it cannot be read.
    """
    if (reports is None) == (gateway is None):
        raise ConfigError("no reports are named", "Give --reports FILE, --reports FOLDER, or --gateway URL.")
    broken = 0
    if gateway is not None:
        states = _ask(gateway, api_key)
    elif reports is not None and reports.is_dir():
        states, broken = read_device_folder(reports)
    else:
        assert reports is not None
        states = _of_file(reports)
    rows = [_row(name, state, silent_minutes) for name, state in sorted(states.items())]
    if broken:
        print(f"warning: {broken} files of {reports} are no reports", file=sys.stderr)
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    _print(rows)


def _of_file(file: Path) -> Mapping[str, DeviceState]:
    try:
        return read_device_file(file)
    except (OSError, sqlite3.Error, ValueError, TypeError) as error:
        raise ConfigError(f"{file}: no reports of devices: {error}", "Name the gateway's edge.reports_file.") from None


def _ask(gateway: str, api_key: str | None) -> Mapping[str, DeviceState]:
    import httpx

    address = f"{gateway.rstrip('/')}/v1/edge/devices"
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        answer = httpx.get(address, headers=headers, timeout=_TIMEOUT_SECONDS)
        if answer.status_code != httpx.codes.OK:
            raise ConfigError(f"{address}: status {answer.status_code}: {answer.text[:300]}", "Give --api-key.")
        return {name: DeviceState.from_json(state) for name, state in answer.json()["devices"].items()}
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{address}: {error!r}", "Is that the gateway's address, and does it answer?") from None


def _row(name: str, state: DeviceState, silent_minutes: float) -> dict[str, Any]:
    heartbeat = state.heartbeat
    share = state.unknown_share
    seen = datetime.fromtimestamp(state.last_seen, UTC).isoformat(timespec="seconds")
    return {
        "device": name,
        "last_seen": seen,
        "silent": time.time() - state.last_seen > 60 * silent_minutes,
        "bundle_version": heartbeat.get("bundle_version"),
        "on_trial": heartbeat.get("on_trial"),
        "runtime": heartbeat.get("runtime"),
        "frames_a_second": number_of(heartbeat, "frames_a_second"),
        "unknown_share": round(share, 6) if share is not None else None,
        "mean_similarity": round(state.similarity_sum / state.recognised, 4) if state.recognised else None,
        "temperature_celsius": number_of(heartbeat, "temperature_celsius"),
        "alerts": sum(state.alerts.values()),
        "alert_open": bool(state.open_alert),
        "last_alert": state.last_alert or None,
        "dropped_alerts": state.dropped_alerts,
        "bundles_refused": state.bundles_refused,
        "bundles_rolled_back": state.bundles_rolled_back,
        "plays": state.plays,
        "play_seconds": round(state.play_seconds, 3),
    }


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("device", no_wrap=True)
    table.add_column("last seen", no_wrap=True)
    for title in ("bundle", "frames/s", "unknown", "alerts"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        share, speed = row["unknown_share"], row["frames_a_second"]
        table.add_row(
            one_line(row["device"]),
            row["last_seen"] + (" silent" if row["silent"] else ""),
            one_line(f"{row['bundle_version'] or ''}{' on trial' if row['on_trial'] else ''}"),
            "" if speed is None else f"{speed:.1f}",
            "" if share is None else f"{share:.1%}",
            f"{row['alerts']}{', one open' if row['alert_open'] else ''}",
        )
    result_console(sys.stdout).print(table)
    silent = sum(row["silent"] for row in rows)
    print(f"{len(rows)} devices, {silent} silent, {sum(row['alert_open'] for row in rows)} with an open alert")
