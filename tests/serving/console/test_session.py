"""Signing in to the console by API key, over a real socket."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from starlette.datastructures import Headers

from adclick.serving.gateway.security import create_api_key
from adclick.serving.gateway.sessions import COOKIE, Sessions
from adclick.serving.gateway.settings import GatewaySettings

Start = Callable[..., httpx.Client]


@pytest.fixture
def key_and_client(console: Start, tmp_path: Path) -> tuple[str, httpx.Client]:
    key, line = create_api_key("ann.of-ads")
    keys = tmp_path / "keys"
    keys.write_text(line + "\n")
    return key, console(is_open=False, security={"api_keys_file": str(keys)})


def sign_in(client: httpx.Client, key: str) -> Any:
    return client.post("/console/api/session", json={}, headers={"authorization": f"Bearer {key}"})


def test_a_session_asks_in_place_of_the_key(key_and_client: tuple[str, httpx.Client]) -> None:
    key, client = key_and_client
    assert client.get("/v1/fields").status_code == 401
    answer = sign_in(client, key)
    cookie = answer.headers["set-cookie"]
    assert answer.json()["owner"] == "ann.of-ads" and answer.json()["ends"] > time.time() + 60
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and key not in cookie
    assert client.get("/v1/fields").status_code == 200
    assert client.get("/console/api/session").json() == answer.json()
    body = {"ads": [{"ad": "ad1"}]}
    assert client.post("/v1/score", json=body).json()["error"]["code"] == "no_token"
    for token in ("", "x", answer.json()["token"][:-1]):
        assert client.post("/v1/score", json=body, headers={"x-csrf-token": token}).status_code == 403
    headers = {"x-csrf-token": answer.json()["token"]}
    assert client.post("/v1/score", json=body, headers=headers).status_code == 200
    renewed = client.post("/console/api/session", json={}, headers=headers)
    assert "set-cookie" not in renewed.headers, "a session makes no longer one"
    client.post("/console/api/session/end", json={}, headers=headers)
    assert client.get("/v1/fields").status_code == 401


@pytest.mark.parametrize(
    ("proxies", "protocol", "is_secure"),
    [
        (["127.0.0.0/8"], "https", True),
        (["10.0.0.0/8", "127.0.0.1"], "https", True),
        (["127.0.0.1"], "http", False),
        (["127.0.0.1"], None, False),
        (["10.0.0.0/8"], "https", False),
        ([], "https", False),
    ],
)
def test_the_cookie_is_secure_where_a_trusted_proxy_ends_tls(
    console: Start, tmp_path: Path, proxies: list[str], protocol: str | None, is_secure: bool
) -> None:
    key, line = create_api_key("ann")
    (tmp_path / "keys").write_text(line + "\n")
    security = {"api_keys_file": str(tmp_path / "keys"), "trusted_proxies": proxies}
    client = console(is_open=False, security=security)
    if protocol is not None:
        client.headers["x-forwarded-proto"] = protocol
    answer = sign_in(client, key)
    assert answer.status_code == 200
    assert ("; Secure" in answer.headers["set-cookie"]) == is_secure


def test_only_a_trusted_proxy_says_whose_request_it_is(console: Start) -> None:
    forwarded = {"x-forwarded-for": "203.0.113.9"}
    for proxies, owner in ((["127.0.0.1"], "203.0.113.9"), (["10.0.0.0/8"], "127.0.0.1")):
        client = console(security={"trusted_proxies": proxies})
        assert client.get("/console/api/session", headers=forwarded).json()["owner"] == owner


def test_a_proxy_that_is_no_address_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"proxy\.example"):
        GatewaySettings.model_validate({"security": {"trusted_proxies": ["proxy.example"]}})


def test_a_wrong_key_signs_nobody_in(key_and_client: tuple[str, httpx.Client]) -> None:
    key, client = key_and_client
    answer = sign_in(client, key[:-1])
    assert answer.status_code == 401 and "set-cookie" not in answer.headers


def test_a_forged_or_foreign_cookie_is_none(key_and_client: tuple[str, httpx.Client]) -> None:
    key, client = key_and_client
    sign_in(client, key)
    cookie = client.cookies[COOKIE]
    owner, ends, signature = cookie.split("~")
    forged = (
        f"{owner}~{int(ends) + 1}~{signature}",
        f"bob~{ends}~{signature}",
        f"{owner}~{ends}~{signature[:-1]}",
        f"{owner}~{ends}",
        "~~",
        "",
        f"{owner}~-1~{signature}",
        f"{owner}~{'9' * 5000}~{signature}",
    )
    client.cookies.clear()
    for one in forged:
        assert client.get("/v1/fields", headers={"cookie": f"{COOKIE}={one}"}).status_code == 401, one
    assert client.get("/v1/fields", headers={"cookie": f"{COOKIE}={cookie}"}).status_code == 200


def test_a_session_ends_with_its_time_and_with_its_key() -> None:
    digest, other = "a" * 64, "b" * 64
    lasting, ended = Sessions(b"s" * 32, 60).begin("ann", digest), Sessions(b"s" * 32, 0).begin("ann", digest)
    sessions = Sessions(b"s" * 32, 60)

    def read(cookie: str, keys: dict[str, str]) -> bool:
        return sessions.of(Headers({"cookie": f"{COOKIE}={cookie}"}), keys) is not None

    assert read(lasting.cookie, {"ann": digest})
    assert not read(ended.cookie, {"ann": digest})
    assert not read(lasting.cookie, {"ann": other}), "the key was replaced"
    assert not read(lasting.cookie, {}), "the key was taken away"
    assert Sessions(b"t" * 32, 60).of(Headers({"cookie": f"{COOKIE}={lasting.cookie}"}), {"ann": digest}) is None


def test_where_no_keys_are_asked_for_nobody_signs_in(console: Start) -> None:
    client = console()
    assert client.get("/console/api/session").json() == {"owner": "127.0.0.1", "token": "", "ends": None}


def test_a_console_that_is_off_is_not_there(console: Start) -> None:
    client = console(console={"enabled": False})
    for path in ("/", "/console/app.js", "/console/api/session", "/console/api/models"):
        assert client.get(path).status_code == 404, path
    assert client.get("/v1/fields").status_code == 200


def test_the_page_allows_nothing_but_its_own(console: Start) -> None:
    client = console()
    for path in ("/", "/console/app.js", "/console/app.css", "/console/icon.svg"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200 and "default-src 'none'" in policy and "unsafe" not in policy
        again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        plain = client.get(path, headers={"accept-encoding": "identity"})
        assert plain.content == answer.content and "content-encoding" not in plain.headers


def test_the_form_knows_last_months_values(console: Start) -> None:
    form = console().get("/console/api/form").json()
    fields = {field["name"]: field for field in form["fields"]}
    assert fields["image"]["kind"] == "image" and fields["shown_at"]["kind"] == "time"
    values = fields["ad"]["known_values"]
    shown = [row.get("ad") for row in form["examples"]]
    assert values[0] in shown and set(filter(None, shown)) <= set(values)
    assert fields["topics"]["is_list"] and set(fields["topics"]["known_values"]) <= {f"t{n}" for n in range(6)}
    assert form["audience_rows"] == 200 and form["reason"] == "" and form["examples"]
