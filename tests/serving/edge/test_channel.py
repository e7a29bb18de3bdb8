"""Channels: which release a device is to run."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from adclick.serving.edge.channel import (
    Release,
    belongs,
    channel_file_name,
    read_channel,
    read_unverified_channel,
    release_for,
    write_channel,
)
from adclick.serving.edge.errors import ChannelRefused, EdgeError

KEY = Ed25519PrivateKey.generate()
TRUSTED = [Ed25519PrivateKey.generate().public_key(), KEY.public_key()]
DEVICES = [f"screen-{number}" for number in range(2000)]


def release(version: int, share: float = 100.0) -> Release:
    return Release(version, f"bundles/{version}.bundle", f"{version:064x}", 1000 + version, share)


def written(*releases: Release, name: str = "stable", serial: int = 5, key: Ed25519PrivateKey = KEY) -> bytes:
    return write_channel(name, serial, releases, key)


def signed(said: Any) -> bytes:
    """A channel's file of whatever content, signed by a trusted key."""
    text = json.dumps(said)
    signature = base64.b64encode(KEY.sign(text.encode())).decode()
    return json.dumps({"format": 2, "signed": text, "signature": signature}).encode()


def refusal(content: bytes, name: str = "stable") -> str:
    with pytest.raises(ChannelRefused) as caught:
        read_channel(content, name, TRUSTED)
    return caught.value.reason


def test_a_share_is_of_the_devices_and_grows_without_leaving_any() -> None:
    first = {device for device in DEVICES if belongs(device, release(8, 10))}
    more = {device for device in DEVICES if belongs(device, release(8, 40))}
    assert 0.07 < len(first) / len(DEVICES) < 0.13 and first < more
    other = {device for device in DEVICES if belongs(device, release(9, 10))}
    assert len(first & other) < 0.3 * len(first), "the next bundle is tried by others"
    assert all(belongs(device, release(8, 100)) for device in DEVICES)
    assert not any(belongs(device, release(8, 0)) for device in DEVICES)


def test_who_is_not_of_the_newest_one_s_share_runs_the_one_before() -> None:
    releases = read_channel(written(release(7), release(8, 10)), "stable", TRUSTED).releases
    versions = [found.version for device in DEVICES if (found := release_for(releases, device)) is not None]
    assert len(versions) == len(DEVICES) and 0.07 < versions.count(8) / len(DEVICES) < 0.13
    assert release_for(read_channel(written(), "stable", TRUSTED).releases, "screen") is None


def test_what_reaches_nobody_is_left_out() -> None:
    content = written(release(6), release(7), release(8, 0), release(9, 5))
    channel = read_channel(content, "stable", TRUSTED)
    assert [each.version for each in channel.releases] == [9, 7] and channel.serial == 5
    assert read_unverified_channel(content) == channel


def test_what_no_trusted_key_has_signed_is_refused() -> None:
    whole = written(release(8))
    assert refusal(written(release(8), key=Ed25519PrivateKey.generate())) == "unsigned"
    assert refusal(whole, "beta") == "unsigned", "a file of another channel, played back"
    document = json.loads(whole)
    for change in ('"serial": 5', '"share": 100'):
        altered = {**document, "signed": document["signed"].replace(change, change[:-1] + "9")}
        assert altered != document and refusal(json.dumps(altered).encode()) == "unsigned"
    assert refusal(json.dumps({"format": 1, "releases": []}).encode()) == "unsigned"
    assert refusal(json.dumps({**document, "format": 3}).encode()) == "wrong_runtime"
    assert refusal(json.dumps({**document, "signature": "*"}).encode()) == "damaged"


@pytest.mark.parametrize(
    "change",
    [
        {"version": "8"},
        {"version": True},
        {"sha256": "0"},
        {"size": 0},
        {"size": 1 << 40},
        {"share": "all"},
        {"share": float("nan")},
        {"more": 1},
        {"address": None},
    ],
)
def test_what_is_no_release_is_refused(change: dict[str, Any]) -> None:
    said = json.loads(json.loads(written(release(8)))["signed"])
    assert read_channel(signed(said), "stable", TRUSTED).serial == 5
    said["releases"][0].update(change)
    assert refusal(signed(said)) == "damaged"


@pytest.mark.parametrize("change", [{"serial": "5"}, {"serial": -1}, {"serial": True}, {"releases": None}])
def test_what_is_no_channel_is_refused(change: dict[str, Any]) -> None:
    said = json.loads(json.loads(written(release(8)))["signed"])
    assert refusal(signed({**said, **change})) == "damaged"


@given(st.one_of(st.binary(max_size=50), st.sampled_from([b"[]", b"{}", b'{"format":2}', b"null", b"[" * 100_000])))
def test_noise_is_refused(noise: bytes) -> None:
    assert refusal(noise) == "damaged"


def test_a_channel_s_name_leads_nowhere_else() -> None:
    assert channel_file_name("beta-2") == "beta-2.json"
    for name in ("../stable", "", "Stable", "a/b"):
        with pytest.raises(EdgeError, match="no name of a channel"):
            channel_file_name(name)
