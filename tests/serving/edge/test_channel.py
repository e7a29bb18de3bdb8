"""Channels: which release a device is to run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adclick.serving.edge.channel import Release, belongs, channel_file_name, read_channel, release_for, write_channel
from adclick.serving.edge.errors import EdgeError

DEVICES = [f"screen-{number}" for number in range(2000)]


def release(version: int, share: float = 100.0) -> Release:
    return Release(version, f"bundles/{version}.bundle", f"{version:064x}", 1000 + version, share)


def test_a_share_is_of_the_devices_and_grows_without_leaving_any() -> None:
    first = {device for device in DEVICES if belongs(device, release(8, 10))}
    more = {device for device in DEVICES if belongs(device, release(8, 40))}
    assert 0.07 < len(first) / len(DEVICES) < 0.13 and first < more
    other = {device for device in DEVICES if belongs(device, release(9, 10))}
    assert len(first & other) < 0.3 * len(first), "the next bundle is tried by others"
    assert all(belongs(device, release(8, 100)) for device in DEVICES)
    assert not any(belongs(device, release(8, 0)) for device in DEVICES)


def test_who_is_not_of_the_newest_one_s_share_runs_the_one_before() -> None:
    releases = read_channel(write_channel([release(7), release(8, 10)]))
    versions = [found.version for device in DEVICES if (found := release_for(releases, device)) is not None]
    assert len(versions) == len(DEVICES) and 0.07 < versions.count(8) / len(DEVICES) < 0.13
    assert release_for(read_channel(write_channel([])), "screen") is None


def test_what_reaches_nobody_is_left_out() -> None:
    written = write_channel([release(6), release(7), release(8, 0), release(9, 5)])
    assert [each.version for each in read_channel(written)] == [9, 7]


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
    document = json.loads(write_channel([release(8)]))
    document["releases"][0].update(change)
    with pytest.raises(EdgeError, match="the channel's file is none"):
        read_channel(json.dumps(document).encode())


@given(st.one_of(st.binary(max_size=50), st.sampled_from([b"[]", b"{}", b'{"format":1}', b'{"format":2}', b"null"])))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(EdgeError, match="the channel's file is none"):
        read_channel(noise)


def test_a_channel_s_name_leads_nowhere_else() -> None:
    assert channel_file_name("beta-2") == "beta-2.json"
    for name in ("../stable", "", "Stable", "a/b"):
        with pytest.raises(EdgeError, match="no name of a channel"):
            channel_file_name(name)
