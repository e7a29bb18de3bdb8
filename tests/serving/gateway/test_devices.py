"""Reports of devices: each counts once, whoever sends it twice, and no device speaks for another."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from adclick.pipeline.edge.publish import run_publish
from adclick.pipeline.edge.template import template_recogniser
from adclick.serving.edge.bundle import write_bundle
from adclick.serving.edge.catalogue import ApprovedCreative, Catalogue, quantise
from adclick.serving.edge.frame import prepare
from adclick.serving.edge.keys import create_keys, read_private_key
from adclick.serving.edge.recogniser import Recogniser
from adclick.serving.gateway.device_metrics import DeviceMetrics
from adclick.serving.gateway.device_state import DeviceState, Report
from adclick.serving.gateway.devices import DeviceReports, read_device_file, read_device_folder
from adclick.serving.gateway.security import create_api_key
from adclick.serving.gateway.server import running_gateway
from adclick.serving.gateway.settings import GatewaySettings
from tests.serving.edge.conftest import ROOT
from tests.serving.edge.pictures import encoded, picture


def heartbeat(sequence: int, boot: str = "b", device: str = "a", **fields: Any) -> dict[str, Any]:
    counts = {"frames": {"approved": 10 * sequence, "unknown": sequence}, "recognised": 10 * sequence}
    key = f"{boot}-{sequence}"
    beat = {"type": "heartbeat", "device": device, "key": key, "boot": boot, "sequence": sequence, **counts}
    return {**beat, "similarity_sum": 9.5 * sequence, "bundle_version": 7, **fields}


def alert(number: int, state: str = "open", device: str = "a", **fields: Any) -> dict[str, Any]:
    key = f"{number}-{1 if state == 'open' else 2}"
    return {
        "type": "alert",
        "device": device,
        "key": key,
        "id": str(number),
        "state": state,
        "kind": "unknown",
        **fields,
    }


def play(number: int, seconds: float = 2.5, device: str = "a") -> dict[str, Any]:
    return {"type": "play", "device": device, "key": f"play-{number}", "creative": f"c{number}", "seconds": seconds}


def event(name: str, key: str, **fields: Any) -> dict[str, Any]:
    return {"type": "event", "device": "a", "key": key, "event": name, **fields}


def take(reports: DeviceReports, *rows: dict[str, Any], owner: str | None = None, now: float = 100.0) -> Any:
    return reports.take(owner, [Report.from_fields(row) for row in rows], now)


@pytest.fixture
def gateway() -> Iterator[Callable[..., Any]]:
    """Starts gateways, whose model server is away: reports of devices need none."""
    with ExitStack() as stack:

        def start(*, is_open: bool = True, **sections: Any) -> Any:
            backend = {"kind": "rest", "address": "http://127.0.0.1:9"}
            settings = GatewaySettings.model_validate({"backend": backend, **sections})
            running = stack.enter_context(running_gateway(settings, is_open=is_open))
            return running, stack.enter_context(httpx.Client(base_url=running.url, trust_env=False, timeout=150))

        yield start


@pytest.fixture
def reports(tmp_path: Path) -> DeviceReports:
    return DeviceReports(tmp_path / "reports.db", total_bytes=1_000_000, most_devices=3)


LIFE = [
    heartbeat(1),
    alert(1),
    play(1),
    heartbeat(2),
    event("bundle_refused", "e1", reason="unsigned"),
    event("bundle_refused", "e2", reason="a reason of its own"),
    event("channel_refused", "e4", reason="too_old"),
    event("bundle_rolled_back", "e3"),
    alert(1, "closed"),
    alert(2, kind="forbidden"),
    heartbeat(1, boot="c"),
    play(2),
]


def assert_counted_once(state: DeviceState) -> None:
    assert state.frames == {"approved": 30.0, "unknown": 3.0} and state.recognised == 30
    assert state.similarity_sum == pytest.approx(28.5) and state.unknown_share == pytest.approx(3 / 33)
    assert (state.alerts, state.open_alert) == ({"unknown": 1, "forbidden": 1}, "2")
    assert (state.plays, state.play_seconds) == (2, 5.0)
    assert (state.bundles_refused, state.bundles_rolled_back) == ({"unsigned": 1, "other": 1, "too_old": 1}, 1)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_however_often_reports_come_again_they_count_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("reports") / "reports.db"
    reports = DeviceReports(file, 1_000_000, 3)
    for place in range(len(LIFE)):
        again = data.draw(st.lists(st.sampled_from(LIFE[: place + 1]), max_size=3))
        for rows in data.draw(
            st.sampled_from([[[*again, LIFE[place]]], [[LIFE[place]], again], [[LIFE[place], *again]]])
        ):
            take(reports, *rows)
        if data.draw(st.booleans()):
            reports.close()
            reports = DeviceReports(file, 1_000_000, 3)
    assert_counted_once(reports.states()["a"])
    reports.close()
    assert_counted_once(read_device_file(file)["a"])


def test_no_device_speaks_for_another_and_their_number_is_bounded(reports: DeviceReports) -> None:
    taken = take(reports, heartbeat(1), heartbeat(1, device="b"), owner="a")
    assert (taken.taken, taken.refused) == (1, {"b-1": "the key is that of a, not of b"})
    taken = take(reports, *(heartbeat(1, device=name) for name in "bcd"))
    assert taken.taken == 2 and "most_devices" in taken.refused["b-1"] and set(reports.states()) == {"a", "b", "c"}


def test_where_there_is_no_room_proofs_of_play_go_first_and_counts_stay(tmp_path: Path) -> None:
    file = tmp_path / "reports.db"
    reports = DeviceReports(file, total_bytes=2_000, most_devices=3)
    take(reports, alert(1), event("bundle_rolled_back", "e"))
    for number in range(100):
        take(reports, play(number))
    database = sqlite3.connect(file)
    types = dict(database.execute("SELECT type, COUNT(*) FROM reports GROUP BY type"))
    kept = [key for (key,) in database.execute("SELECT key FROM reports WHERE type = 'play' ORDER BY number")]
    assert types["alert"] == types["event"] == 1 and kept[-1] == "play-99" and len(kept) == 100 - reports.dropped
    assert reports.dropped > 50 and reports.states()["a"].plays == 100
    reports.close()
    assert DeviceReports(file, 2_000, 3).dropped == reports.dropped


@given(
    st.fixed_dictionaries(
        {"type": st.just("heartbeat"), "device": st.just("a"), "key": st.text(min_size=1, max_size=5)},
        optional={
            name: st.one_of(st.none(), st.floats(), st.text(max_size=5), st.booleans(), st.integers())
            for name in ("boot", "sequence", "frames", "recognised", "similarity_sum", "dropped", "waiting")
        },
    )
)
def test_what_a_device_says_makes_no_metric_wrong_or_unbounded(row: dict[str, Any]) -> None:
    state = DeviceState()
    state.take_heartbeat(Report.from_fields(row))
    state.take_heartbeat(Report.from_fields(heartbeat(1, frames={f"kind {n}": 1 for n in range(100)})))
    assert set(state.frames) <= {"other"} and state.frames.get("other", 0) <= 100
    registry = CollectorRegistry()
    DeviceMetrics(registry, lambda: {"a": state})
    text = generate_latest(registry).decode()
    assert "nan" not in text.lower().replace("name", "") and DeviceState.from_json(
        json.loads(json.dumps(state.to_json()))
    )


def test_a_folder_of_reports_counts_likewise(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    rows = [row for row in LIFE if row["type"] != "heartbeat"]
    for row in [*rows, heartbeat(3)]:
        name = "heartbeat" if row["type"] == "heartbeat" else row["key"]
        (tmp_path / "a" / f"{name}.json").write_text(json.dumps(row))
    (tmp_path / "a" / "noise.json").write_text("{")
    states, broken = read_device_folder(tmp_path)
    assert broken == 1
    assert_counted_once(states["a"])


def test_over_http_by_the_device_s_key_alone(gateway: Callable[..., Any], tmp_path: Path) -> None:
    user, user_line = create_api_key("backend")
    device, device_line = create_api_key("a")
    (tmp_path / "keys").write_text(user_line + "\n")
    (tmp_path / "devices").write_text(device_line + "\n")
    sections = {
        "security": {"api_keys_file": str(tmp_path / "keys")},
        "edge": {"reports_file": str(tmp_path / "r/reports.db"), "device_keys_file": str(tmp_path / "devices")},
    }
    _, client = gateway(is_open=False, **sections)

    def post(key: str, body: Any) -> Any:
        return client.post("/v1/edge/reports", json=body, headers={"authorization": f"Bearer {key}"})

    body = {"reports": [heartbeat(1, temperature_celsius=41.5), alert(1), play(1), {"key": "x", "type": "none"}]}
    first, second = (post(device, body).json() for _ in range(2))
    assert (first["taken"], first["known"], second["taken"], second["known"]) == (3, 0, 0, 3)
    assert [each["key"] for each in first["refused"]] == ["x"]
    assert post(user, body).status_code == 401 == client.post("/v1/edge/reports", json=body).status_code
    ask = {"authorization": f"Bearer {device}"}
    assert client.get("/v1/fields", headers=ask).status_code == 401 == client.get("/v1/edge/devices").status_code
    for wrong in ({}, [], {"reports": [1]}, {"reports": [{}] * 1001}):
        assert post(device, wrong).status_code == 422
    assert client.post("/v1/edge/reports", content=b"{", headers=ask).status_code == 400
    known = client.get("/v1/edge/devices", headers={"authorization": f"Bearer {user}"}).json()["devices"]
    assert known["a"]["alerts"] == {"unknown": 1}
    text = client.get("/metrics").text
    for line in (
        'adclick_edge_frames_total{device="a",kind="approved"} 10.0',
        'adclick_edge_temperature_celsius{device="a"} 41.5',
        'adclick_edge_alert_open{device="a"} 1.0',
        'adclick_edge_reports_total{outcome="known",type="alert"} 1.0',
        "adclick_edge_play_seconds_total 2.5",
    ):
        assert line in text, line
    assert "c1" not in [part for part in text.split('"') if part == "c1"], "no series for a creative"


def test_a_gateway_that_keeps_no_reports_says_so(gateway: Callable[..., Any]) -> None:
    _, client = gateway()
    assert client.post("/v1/edge/reports", json={"reports": []}).status_code == 501
    assert client.get("/v1/edge/devices").status_code == 501


def test_a_device_reports_what_it_sees_through_a_gateway_that_was_away(
    gateway: Callable[..., Any], tmp_path: Path
) -> None:
    create_keys(tmp_path / "private.pem", tmp_path / "public.pem")
    model = template_recogniser(48)
    recogniser = Recogniser(model)
    embedding = recogniser.embed(prepare(picture(0), recogniser.size))
    with open(tmp_path / "x.bundle", "wb") as file:
        write_bundle(
            file,
            read_private_key(tmp_path / "private.pem"),
            model=model,
            catalogue=Catalogue((ApprovedCreative("c", "C"),), *quantise(embedding[None])),
            thresholds={"known": 0.9},
            version=7,
            created=1,
        )
    (tmp_path / "origin").mkdir()
    origin = str(tmp_path / "origin")
    run_publish(tmp_path / "x.bundle", to=origin, channel="stable", share=100, key=tmp_path / "private.pem")
    screen = tmp_path / "screen"
    screen.mkdir()
    for number, seed in enumerate((0, 0, 99, 99, 99)):
        (screen / f"{number}.jpg").write_bytes(encoded(picture(seed)))
    key, line = create_api_key("screen-1")
    (tmp_path / "devices").write_text(line + "\n")
    (tmp_path / "key").write_text(key + "\n")
    edge = {"reports_file": str(tmp_path / "reports.db"), "device_keys_file": str(tmp_path / "devices")}
    running, client = gateway(edge=edge)

    def watch(url: str) -> None:
        command = [
            *(sys.executable, "-m", "adclick.serving.edge.command", "watch"),
            *("--public-key", str(tmp_path / "public.pem")),
            *("--from", str(tmp_path / "origin"), "--source", str(screen), "--once", "--frames", "2"),
            *("--state", str(tmp_path / "state"), "--device", "screen-1", "--reports-folder", str(tmp_path / "left")),
            *("--gateway", url, "--gateway-key-file", str(tmp_path / "key")),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr.decode()

    watch("http://127.0.0.1:9")
    assert client.get("/v1/edge/devices").json()["devices"] == {}
    watch(running.url)
    state = DeviceState.from_json(client.get("/v1/edge/devices").json()["devices"]["screen-1"])
    # Of the first watch came its alert and what came of the bundle.
    assert state.alerts == {"unknown": 2} and state.open_alert
    # The first watch's last heartbeat came, too, unless it had given way to the second's first.
    assert state.frames in ({"approved": 2.0, "unknown": 3.0}, {"approved": 4.0, "unknown": 6.0})
    assert 0.95 < state.similarity_sum / state.frames["approved"] <= 1.0005
    assert state.heartbeat["bundle_version"] == 7 and state.heartbeat["channel"] == "stable"
    assert state.heartbeat["memory_bytes"] > 10_000_000
    database = sqlite3.connect(tmp_path / "reports.db")
    events = [
        json.loads(body)["event"] for (body,) in database.execute("SELECT body FROM reports WHERE type = 'event'")
    ]
    assert events == ["bundle_installed"]
    collected, broken = read_device_folder(tmp_path / "left")
    assert broken == 0 and collected["screen-1"].alerts == {"unknown": 2}
